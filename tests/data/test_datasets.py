"""Datasets: what loads is verified, what fails says where it looked and what to do, nothing half-written stays."""

import gzip
import hashlib
import io
import lzma
import os
import struct
import threading
import tracemalloc
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pyro_vd.data.decompress import decompress

from pyro_vd.data import DataSplits, LabeledImages, data_folder, download, load
from pyro_vd.data import datasets as data
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.errors import DataError, UserError

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


# --- digits


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_digits_sizes_and_ranges(digits):
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    assert digits.train.images.shape == (1438, 1, 8, 8)
    assert digits.test.images.shape == (359, 1, 8, 8)
    assert (digits.name, digits.classes) == ("digits", 10)
    for part in (digits.train, digits.test):
        assert part.images.dtype == torch.float32
        assert part.labels.dtype == torch.int64
        assert (part.images.min(), part.images.max()) == (0, 1)
        assert part.labels.unique().tolist() == list(range(10))


def test_digits_test_set_is_every_fifth_image(digits):
    """Kills a test set that overlaps the training set, or that leaves images out."""
    from sklearn.datasets import load_digits

    pixels = torch.tensor(load_digits().images / 16, dtype=torch.float32).unsqueeze(1)
    assert torch.equal(digits.test.images, pixels[4::5])
    rest = torch.ones(len(pixels), dtype=torch.bool)
    rest[4::5] = False
    assert torch.equal(digits.train.images, pixels[rest])


def test_digits_are_the_same_every_time_and_the_digest_covers_everything(digits):
    again = load("digits", folder="/nonexistent", download=False)
    assert again.sha256 == digits.sha256
    content = b"".join(
        tensor.numpy().tobytes() for part in (again.train, again.test) for tensor in (part.images, part.labels)
    )
    assert again.sha256 == hashlib.sha256(content).hexdigest()


# --- LabeledImages and DataSplits


def test_batches_of_bytes_are_scaled_to_the_unit_interval():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)
    examples = LabeledImages(images, torch.tensor([5, 6, 7]))
    x, y = examples.batch(torch.tensor([2, 0, 1]))
    assert x.dtype == torch.float32
    assert torch.allclose(x.flatten(), torch.tensor([1.0, 0.0, 0.2]))
    assert y.tolist() == [7, 5, 6]
    assert examples.images.dtype == torch.uint8
    assert images.flatten().tolist() == [0, 51, 255]  # the stored images are not scaled in place


def test_batches_of_floats_are_left_alone():
    images = torch.tensor([-3.0, 0.5, 300.0]).reshape(3, 1, 1, 1)
    x, _ = LabeledImages(images, torch.zeros(3, dtype=torch.int64)).batch(torch.arange(3))
    assert x.flatten().tolist() == [-3.0, 0.5, 300.0]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(4, 1, 2, 2), torch.zeros(3, dtype=torch.int64), "4 images and 3 labels"),
        (torch.zeros(3, 1, 2, 2), torch.zeros(4, dtype=torch.int64), "3 images and 4 labels"),
        (torch.zeros(3, 1, 2, 2), torch.tensor(1), "3 images and 0 labels"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.float16), torch.zeros(3, dtype=torch.int64), "images of float16"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), "images of int64.*uint8"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.bool), torch.zeros(3, dtype=torch.int64), "images of bool"),
    ],
)
@pytest.mark.parametrize("kind", [LabeledImages, AugmentedImages])
def test_examples_that_do_not_fit_are_refused_when_made(kind, images, labels, message):
    with pytest.raises(UserError, match=message):
        kind(images, labels)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int32)),
        (torch.zeros(3, 1, 2, 2), torch.zeros(3, 1, dtype=torch.int64)),
        (torch.zeros(3, 1, 2, 2), torch.zeros(3)),
    ],
)
def test_a_split_is_of_images_and_whole_labels(images, labels):
    good = LabeledImages(torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64))
    for train, test in ((LabeledImages(images, labels), good), (good, LabeledImages(images, labels))):
        with pytest.raises(UserError, match=r"mine: images .*int64 labels \(n,\) are needed"):
            DataSplits("mine", "folder", train, test, classes=2, sha256="0")


def split_of(images):
    examples = LabeledImages(images, torch.arange(len(images)))
    return DataSplits("made up", "folder", examples, examples, classes=len(images), sha256="0" * 64)


def test_resizing_keeps_bytes_bytes_and_says_so_in_the_name():
    images = torch.full((2, 3, 8, 8), 255, dtype=torch.uint8)
    resized = split_of(images).resize(28)
    assert resized.name == "made up (28x28)"
    for part in (resized.train, resized.test):
        assert part.images.shape == (2, 3, 28, 28)
        assert part.images.dtype == torch.uint8
        assert part.images.min() == 255  # kills a wrap-around and a missing rounding
        assert part.labels.tolist() == [0, 1]


def test_resizing_to_the_same_size_changes_nothing():
    split = split_of(torch.zeros(2, 1, 8, 8))
    assert split.resize(8) is split


def test_resizing_one_side_is_resizing():
    split = split_of(torch.zeros(2, 1, 4, 8))
    assert split.resize(8).train.images.shape == (2, 1, 8, 8)
    assert split.resize(4).train.images.shape == (2, 1, 4, 4)


def test_resized_digits_stay_in_range_and_are_bilinear(digits):
    resized = digits.resize(28)
    assert resized.sha256 == digits.sha256  # of the source: the name says what was done to it
    assert resized.train.images.shape == (1438, 1, 28, 28)
    assert resized.train.images.min() >= 0
    assert resized.train.images.max() <= 1
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    centre = split_of(ramp).resize(28).train.images[0, 0, 14, 2:26]
    assert torch.allclose(centre.diff(), torch.full((23,), 8 / 28), atol=1e-5)


def test_validation_is_disjoint_complete_and_fixed(digits):
    numbered = LabeledImages(torch.arange(100.0).reshape(100, 1, 1, 1), torch.arange(100))
    split = DataSplits(
        "numbers", "folder", numbered, LabeledImages(numbered.images[:3] + 1000, numbered.labels[:3]), 100, "0"
    )
    held = split.hold_out(20)
    assert (len(held.train), len(held.test)) == (80, 20)
    assert sorted([*held.train.labels.tolist(), *held.test.labels.tolist()]) == list(range(100))
    for part in (held.train, held.test):
        assert torch.equal(part.images.flatten().long(), part.labels)
    torch.manual_seed(123)  # a global seed must not move the split
    again = split.hold_out(20)
    assert torch.equal(again.test.labels, held.test.labels)
    assert not torch.equal(split.hold_out(20, seed=1).test.labels, held.test.labels)
    assert held.test.labels.tolist() != list(range(80, 100))  # shuffled: files are often sorted by class
    assert held.name == "numbers (validation 20)"


@pytest.mark.parametrize("count", [-1, 0, 1438, 2000])
def test_a_validation_set_that_does_not_fit_is_refused(digits, count):
    with pytest.raises(UserError, match=rf"{count}.*1438"):
        digits.hold_out(count)


def test_to_moves_both_parts():
    moved = split_of(torch.zeros(2, 1, 8, 8)).to("meta")
    assert {moved.train.images.device.type, moved.test.labels.device.type} == {"meta"}


# --- names and folders


@pytest.mark.parametrize(
    ("wrong", "right"), [("mnits", "mnist"), ("fashion-mnist", "fashion_mnist"), ("DIGIT", "digits")]
)
def test_an_unknown_name_gives_the_nearest(wrong, right):
    with pytest.raises(UserError) as caught:
        load(wrong)
    message = str(caught.value)
    assert repr(wrong) in message
    assert f"did you mean '{right}" in message
    assert all(name in message for name in data.DATASETS)
    assert not isinstance(caught.value, DataError)


@pytest.mark.parametrize("name", ["imagenet", "", "x" * 300, "a\0b", Path("/nowhere")])
def test_a_name_near_none_suggests_none(name):
    with pytest.raises(UserError, match="unknown dataset") as caught:
        load(name)
    assert "did you mean" not in str(caught.value)
    assert all(known in str(caught.value) for known in data.DATASETS)


def test_without_a_home_folder_it_says_what_to_set(monkeypatch):
    """A container's user may have neither HOME nor an entry in the list of users."""
    for name in ("HOME", "XDG_CACHE_HOME", "PYRO_VD_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    for folder in (None, "~/data"):
        with pytest.raises(DataError, match=r"no home folder .*PYRO_VD_DATA.*--dataset digits"):
            data_folder(folder)
    with pytest.raises(DataError, match="no home folder"):
        load("mnist", download=False)
    assert len(load("digits").train) == 1438
    assert data_folder("/here") == Path("/here")


def test_the_folder_is_the_argument_then_the_variable_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert data_folder() == tmp_path / "home" / ".cache" / "pyro_vd"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_folder() == tmp_path / "xdg" / "pyro_vd"
    monkeypatch.setenv("PYRO_VD_DATA", str(tmp_path / "variable"))
    assert data_folder() == tmp_path / "variable"
    assert data_folder(tmp_path / "argument") == tmp_path / "argument"
    assert data_folder("~/mine") == tmp_path / "home" / "mine"
    monkeypatch.setenv("PYRO_VD_DATA", "~/theirs")
    assert data_folder() == tmp_path / "home" / "theirs"
    monkeypatch.setenv("PYRO_VD_DATA", "")
    assert data_folder() == tmp_path / "xdg" / "pyro_vd"


# --- IDX sets, from small pinned files served by a fake web


def idx(shape, seed):
    pixels = torch.randint(0, 10, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + pixels.numpy().tobytes()


@pytest.fixture
def small_mnist(monkeypatch):
    """A data set of the same layout with 6 + 4 images; file name -> content."""
    shapes = ((6, 28, 28), (6,), (4, 28, 28), (4,))
    names = [name for name, _ in data.IDX_FILES]
    files = {name: idx(shape, seed) for seed, (name, shape) in enumerate(zip(names, shapes, strict=True))}
    digests = tuple(hashlib.sha256(content).hexdigest() for content in files.values())
    folder, source, _ = data.IDX_SETS["mnist"]
    monkeypatch.setattr(data, "IDX_FILES", tuple(zip(names, shapes, strict=True)))
    monkeypatch.setitem(data.IDX_SETS, "mnist", (folder, source, digests))
    return files


@pytest.fixture
def web(monkeypatch):
    """url -> bytes or exception; what is asked for is noted in ``asked``."""

    class Web(dict):
        asked: list = []

    served = Web()
    served.asked = []

    def urlopen(url, timeout=None, **_):
        assert timeout is not None, "a download without a timeout hangs for ever"
        assert timeout <= 5
        served.asked.append(url)
        answer = served.get(url, urllib.error.URLError("Name or service not known"))
        if isinstance(answer, BaseException):
            raise answer
        return io.BytesIO(answer)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(download, "_reachable", lambda *_: True)
    return served


def put(root, files):
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def no_files(root):
    return [path for path in root.rglob("*") if path.is_file()] == []


def served_everywhere(files):
    return {data.IDX_SETS["mnist"][1] + name + ".gz": gzip.compress(content) for name, content in files.items()}


def check_small(split, files):
    names = list(files)
    assert (split.name, split.classes) == ("mnist", 10)
    assert split.train.images.shape == (6, 1, 28, 28)
    assert split.test.images.shape == (4, 1, 28, 28)
    assert split.train.images.dtype == torch.uint8
    assert split.test.labels.dtype == torch.int64
    assert split.train.images.numpy().tobytes() == files[names[0]][16:]
    assert bytes(split.train.labels.tolist()) == files[names[1]][8:]
    assert split.test.images.numpy().tobytes() == files[names[2]][16:]
    assert bytes(split.test.labels.tolist()) == files[names[3]][8:]


def test_files_that_are_there_are_read_without_the_web(small_mnist, web, tmp_path):
    put(tmp_path, small_mnist)
    check_small(load("mnist", tmp_path), small_mnist)
    assert web.asked == []


def test_missing_files_with_downloads_off_say_everything(small_mnist, web, tmp_path):
    with pytest.raises(DataError) as caught:
        load("mnist", tmp_path, download=False)
    message = str(caught.value)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    for part in (str(path), data.IDX_SETS["mnist"][2][0], "PYRO_VD_DATA", "--dataset digits"):
        assert part in message
    assert "\n" not in message
    assert web.asked == []
    assert no_files(tmp_path)


def test_one_missing_file_is_the_one_named(small_mnist, web, tmp_path):
    missing = "t10k-labels-idx1-ubyte"
    put(tmp_path, {name: content for name, content in small_mnist.items() if name != missing})
    with pytest.raises(DataError, match=missing):
        load("mnist", tmp_path, download=False)


def test_a_damaged_file_is_refused_and_not_downloaded_over(small_mnist, web, tmp_path):
    """It may be the user's only copy; the message says to download it again."""
    web.update(served_everywhere(small_mnist))
    name = "train-labels-idx1-ubyte"
    damaged = small_mnist[name][:-1] + b"\xff"
    put(tmp_path, {**small_mnist, name: damaged})
    with pytest.raises(DataError, match=name):
        load("mnist", tmp_path)
    assert web.asked == []
    assert (tmp_path / "MNIST" / "raw" / name).read_bytes() == damaged


def test_a_good_download_lands_and_is_used_the_next_time(small_mnist, web, tmp_path):
    web.update(served_everywhere(small_mnist))
    check_small(load("mnist", tmp_path / "new" / "folder"), small_mnist)
    assert len(web.asked) == 4
    found = {path.name: path.read_bytes() for path in (tmp_path / "new" / "folder" / "MNIST" / "raw").iterdir()}
    assert found == small_mnist  # under the final names, no .part
    web.clear()
    check_small(load("mnist", tmp_path / "new" / "folder"), small_mnist)
    assert len(web.asked) == 4


def corrupt_gzip():
    content = bytearray(gzip.compress(bytes(5000)))
    content[12] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    "answer",
    [
        urllib.error.URLError("Name or service not known"),
        urllib.error.HTTPError("http://x", 403, "Forbidden", {}, None),
        TimeoutError("timed out"),
        ConnectionResetError(104, "Connection reset by peer"),
        gzip.compress(idx((6, 28, 28), seed=99)),  # a valid file of other content
        gzip.compress(idx((6, 28, 28), seed=0))[:-20],  # cut short
        gzip.compress(idx((6, 28, 28), seed=0))[:5],
        b"",
        b"<html>captive portal</html>",
        corrupt_gzip(),
    ],
    ids=["offline", "403", "timeout", "reset", "other", "truncated", "header", "empty", "html", "corrupt"],
)
def test_a_failing_download_leaves_nothing_behind(small_mnist, web, tmp_path, answer):
    web[data.IDX_SETS["mnist"][1] + "train-images-idx3-ubyte.gz"] = answer
    with pytest.raises(DataError) as caught:
        load("mnist", tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte") in message
    assert "--dataset digits" in message
    assert "\n" not in message
    assert no_files(tmp_path)


def test_a_connection_cut_while_reading_is_a_data_error(small_mnist, web, tmp_path, monkeypatch):
    """http.client raises IncompleteRead, which is no OSError."""
    import http.client

    class Cut(io.BytesIO):
        def read(self, *_):
            raise http.client.IncompleteRead(b"abc", 100)

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Cut())
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        load("mnist", tmp_path)
    assert no_files(tmp_path)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (gzip.compress(bytes(100_000)), "unpacks to more than 4,720 bytes"),
        (bytes(100_000), "more than the 4,824 bytes that the file can have"),
        (gzip.compress(idx((6, 28, 28), seed=0))[:-8], "truncated"),
    ],
    ids=["bomb", "longer", "without its end"],
)
def test_a_download_is_bounded_by_the_size_that_is_known(small_mnist, web, tmp_path, answer, message):
    web[data.IDX_SETS["mnist"][1] + "train-images-idx3-ubyte.gz"] = answer
    with pytest.raises(DataError, match=message):
        load("mnist", tmp_path)
    assert no_files(tmp_path)


def test_no_more_than_known_is_unpacked_or_read(monkeypatch):
    """A bomb is stopped while it unpacks, not measured afterwards."""
    content = gzip.compress(bytes(50 << 20))
    tracemalloc.start()
    with pytest.raises(OSError, match="unpacks to more than 1,000 bytes"):
        decompress(content, 1000)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    asked = []

    class Endless(io.BytesIO):
        def read(self, count=-1):
            asked.append(count)
            return bytes(count)

    monkeypatch.setattr(download, "_reachable", lambda *_: True)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Endless())
    with pytest.raises(OSError, match="more than the 1,000 bytes"):
        download.download("http://x", 1000)
    assert asked == [1001]


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_what_is_within_the_limit_is_unpacked_whole(pack):
    assert decompress(pack(b"x" * 1000), 1000) == b"x" * 1000
    assert decompress(pack(b""), 0) == b""
    for content, message in (
        (pack(b"x" * 1001), "more than 1,000"),
        (pack(b"x" * 900)[:-9], "truncated"),
        (b"", "trun"),
    ):
        with pytest.raises(OSError, match=message):
            decompress(content, 1000)


def test_two_downloads_at_once_leave_one_file(small_mnist, web, tmp_path, monkeypatch):
    """The other process finishes while this one writes."""
    web.update(served_everywhere(small_mnist))
    splits, fsync = [], os.fsync

    def meanwhile(descriptor):
        fsync(descriptor)
        if not splits:
            splits.append(None)
            with monkeypatch.context() as patch:
                patch.setattr(os, "getpid", lambda: 1)
                splits.append(load("mnist", tmp_path))

    monkeypatch.setattr(os, "fsync", meanwhile)
    check_small(load("mnist", tmp_path), small_mnist)
    check_small(splits[1], small_mnist)
    assert sorted(path.name for path in (tmp_path / "MNIST" / "raw").iterdir()) == sorted(small_mnist)


def test_a_folder_that_cannot_be_written_is_named(small_mnist, web, tmp_path):
    web.update(served_everywhere(small_mnist))
    (tmp_path / "MNIST").write_text("in the way")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte \(the download cannot be written: Not a directory"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "dangling"])
def test_an_idx_file_that_is_no_regular_file_is_refused_at_once(small_mnist, web, tmp_path, kind):
    put(tmp_path, small_mnist)
    path = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.unlink()
    irregular(path, kind)
    with pytest.raises(DataError, match=r"labels-idx1-ubyte: cannot be read \((not a regular file|No such file)"):
        load("mnist", tmp_path)
    assert web.asked == []


def irregular(path, kind):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "endless" else "/nowhere")


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"no {REAL_DATA}: the real MNIST is not on this machine")
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_real_files_match_their_pinned_digests(name, monkeypatch):
    monkeypatch.setenv("PYRO_VD_DATA", str(REAL_DATA))
    split = load(name, download=False)
    assert split.train.images.shape == (60_000, 1, 28, 28)
    assert split.test.images.shape == (10_000, 1, 28, 28)
    assert split.train.labels.shape == (60_000,)
    assert split.train.labels.unique().tolist() == split.test.labels.unique().tolist() == list(range(10))
    assert split.train.images.max() == 255
    if name == "mnist":
        assert split.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
        assert split.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
        assert split.train.images.float().mean().item() == pytest.approx(33.318, abs=1e-2)


# --- image folders


def draw(path, shade, size=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 2 * shade, 255)).save(path)


@pytest.fixture
def pictures(tmp_path):
    root = tmp_path / "shapes"
    for part, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(("circle", "square")):
            for i in range(count):
                draw(root / part / name / f"{i}.png", 50 * label + i)
    return root


def test_an_image_folder_is_a_dataset(pictures):
    split = load(str(pictures))
    assert (split.name, split.classes) == ("shapes", 2)
    assert split.train.images.shape == (6, 3, 5, 6)
    assert split.train.images.dtype == torch.uint8
    assert split.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert split.test.labels.tolist() == [0, 0, 1, 1]
    assert split.train.labels.dtype == torch.int64
    assert split.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 50, 51, 52]
    assert split.train.images[4, :, 2, 3].tolist() == [51, 102, 255]


def test_grey_images_become_colour_images(pictures):
    """So that a folder that mixes both has one shape."""
    Image.new("L", (6, 5), 77).save(pictures / "train" / "circle" / "0.png")
    assert load(str(pictures)).train.images[0, :, 0, 0].tolist() == [77, 77, 77]


def test_the_digest_of_an_image_folder_follows_its_pixels(pictures):
    before = load(str(pictures)).sha256
    assert load(str(pictures)).sha256 == before
    draw(pictures / "test" / "square" / "0.png", 99)
    assert load(str(pictures)).sha256 != before


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_missing_part_is_refused(pictures, part):
    (pictures / part).rename(pictures / "elsewhere")
    with pytest.raises(DataError, match=r"shapes.*needs train/ and test/"):
        load(str(pictures))


def test_different_classes_are_refused(pictures):
    (pictures / "test" / "circle").rename(pictures / "test" / "oval")
    with pytest.raises(DataError, match=r"shapes.*different classes"):
        load(str(pictures))


def test_an_empty_class_is_refused(pictures):
    (pictures / "train" / "zigzag").mkdir()
    with pytest.raises(DataError, match=r"train.*zigzag"):
        load(str(pictures))


def test_a_part_without_classes_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="train"):
        load(str(tmp_path))


def test_another_size_within_a_part_names_the_file(pictures):
    draw(pictures / "train" / "square" / "1.png", 9, size=(5, 6))
    with pytest.raises(DataError, match=r"square.1\.png.*\(6, 5\).*\(5, 6\)"):
        load(str(pictures))


def test_another_size_in_the_test_part_is_refused(pictures):
    for path in (pictures / "test").rglob("*.png"):
        draw(path, 1, size=(7, 7))
    with pytest.raises(DataError, match="differ in size"):
        load(str(pictures))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_corrupt_image_is_named(pictures, content):
    (pictures / "test" / "square" / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=r"test.square.1\.png: not a readable image") as caught:
        load(str(pictures))
    assert "\n" not in str(caught.value)


def test_a_truncated_image_is_named(pictures):
    path = pictures / "train" / "circle" / "2.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"train.circle.2\.png: not a readable image"):
        load(str(pictures))


def saved(pictures, image, name="0.png", **options):
    path = pictures / "train" / "circle" / name
    (pictures / "train" / "circle" / "0.png").unlink()
    image.save(path, **options)
    return path


def first(pictures):
    """The first image's first row of pixels, color by color."""
    return load(str(pictures)).train.images[0, :, 0].T.tolist()


def test_a_16_bit_image_is_scaled_to_8_bits(pictures):
    """All above 255 would be white."""
    values = np.zeros((5, 6), dtype=np.uint16)
    values[0] = [0, 257, 128, 129, 32_896, 65_535]
    saved(pictures, Image.fromarray(values))
    assert first(pictures) == [3 * [value] for value in (0, 1, 0, 1, 128, 255)]


@pytest.mark.parametrize("dtype", [">u2", "<u2"])
def test_16_bits_are_scaled_in_either_byte_order(pictures, dtype):
    saved(pictures, Image.fromarray(np.full((5, 6), 0x1234, dtype=dtype)), "0.tiff")
    assert first(pictures) == 6 * [3 * [round(0x1234 / 257)]]


@pytest.mark.parametrize(
    ("dtype", "message"), [(np.int32, r"32-bit integer pixels \(mode I\)"), (np.float32, r"floating point .*mode F")]
)
def test_pixels_of_an_unknown_range_are_refused_by_name(pictures, dtype, message):
    saved(pictures, Image.fromarray(np.full((5, 6), 1000, dtype=dtype)), "0.tiff")
    with pytest.raises(DataError, match=rf"circle.0\.tiff: {message}.*scale them to 0\.\.255"):
        load(str(pictures))


@pytest.mark.parametrize(
    ("image", "name", "expected"),
    [
        (Image.new("1", (6, 5), 1), "0.png", [255, 255, 255]),
        (Image.new("1", (6, 5), 0), "0.png", [0, 0, 0]),
        (Image.new("LA", (6, 5), (77, 255)), "0.png", [77, 77, 77]),
        (Image.new("RGBA", (6, 5), (1, 2, 3, 255)), "0.png", [1, 2, 3]),
        (Image.new("RGB", (6, 5), (10, 20, 30)).quantize(2), "0.png", [10, 20, 30]),
        (Image.new("RGB", (6, 5), (10, 20, 30)).quantize(2), "0.bmp", [10, 20, 30]),
        (Image.new("CMYK", (6, 5), (255, 0, 0, 0)), "0.tiff", [0, 255, 255]),
    ],
    ids=["white bit", "black bit", "gray, opaque", "color, opaque", "palette", "palette, BMP", "CMYK"],
)
def test_every_kind_of_8_bits_becomes_rgb(pictures, image, name, expected):
    saved(pictures, image, name)
    assert first(pictures) == 6 * [expected]


def test_transparent_pixels_are_refused_for_they_have_no_color(pictures):
    """A black drawing on a transparent background would be all black."""
    palette = Image.new("P", (6, 5), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    images = [
        (Image.new("RGBA", (6, 5), (0, 0, 0, 0)), {}),
        (Image.new("LA", (6, 5), (0, 254)), {}),
        (palette, {"transparency": 1}),
        (palette, {"transparency": bytes([255, 100])}),
        (Image.new("L", (6, 5), 3), {"transparency": 3}),
        (Image.new("RGB", (6, 5), (1, 2, 3)), {"transparency": (1, 2, 3)}),
    ]
    for image, options in images:
        saved(pictures, image, **options)
        with pytest.raises(DataError, match=r"circle.0\.png: has transparent pixels.*background first"):
            load(str(pictures))
    saved(pictures, palette, transparency=0)  # a color that no pixel has
    assert first(pictures) == 6 * [[9, 9, 9]]


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "dangling"])
def test_an_image_that_is_no_regular_file_is_refused_at_once(pictures, kind):
    path = pictures / "test" / "square" / "1.png"
    path.unlink()
    irregular(path, kind)
    if kind == "folder":  # which is no image to ImageFolder
        assert len(load(str(pictures)).test) == 3
        return
    with pytest.raises(DataError, match=r"square.1\.png: not a readable image \((not a regular file|No such file)"):
        load(str(pictures))


def test_an_image_of_more_pixels_than_pillow_allows_is_refused(pictures, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match=r"not a readable image .*decompression bomb"):
        load(str(pictures))


# --- the connection, before any download


def test_a_refused_connection_is_given_up_with_one_line(small_mnist, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked a host that is not there"))
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.05)
    with pytest.raises(DataError, match=r"no connection.*--dataset digits"):
        load("mnist", tmp_path)
    assert no_files(tmp_path)


def test_a_connection_that_hangs_is_given_up(small_mnist, tmp_path, monkeypatch):
    """Name servers that never answer are covered by no socket timeout."""
    released = threading.Event()

    def hang(*_, **__):
        released.wait(60)
        raise OSError("given up")

    monkeypatch.setattr("socket.create_connection", hang)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked a host that is not there"))
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.05)
    try:
        with pytest.raises(DataError, match="no connection"):
            load("mnist", tmp_path)
        assert not released.is_set()
    finally:
        released.set()
