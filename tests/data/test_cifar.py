"""CIFAR-10: read from archives without unpacking them, and only when every byte is what it should be."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, JpegImagePlugin

from pyro_vd.data import cifar, load
from pyro_vd.errors import DataError

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def tar(path, files, mode):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def batch(n, seed):
    """n records: a label and three color planes."""
    generator = np.random.default_rng(seed)
    records = generator.integers(0, 256, (n, cifar.RECORD), dtype=np.uint8)
    records[:, 0] = generator.integers(0, 10, n)
    return records


@pytest.fixture
def binary(tmp_path, monkeypatch):
    """The official layout with three records per batch."""
    monkeypatch.setattr(cifar, "BATCH", 3)
    names = [*cifar.BATCHES["train"], *cifar.BATCHES["test"]]
    records = {name: batch(3, seed) for seed, name in enumerate(names)}

    def write(**changes):
        files = {f"cifar-10-batches-bin/{name}": content.tobytes() for name, content in records.items()} | changes
        path = tar(tmp_path / cifar.ARCHIVE, {"cifar-10-batches-bin/readme.html": b"<html>"} | files, "w:gz")
        monkeypatch.setattr(cifar, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
        return path

    return write, records


def test_the_binary_archive(binary, tmp_path):
    write, records = binary
    write()
    split = load("cifar10", tmp_path, download=False)
    assert (split.name, split.origin, split.classes) == ("cifar10", "cifar10", 10)
    assert split.train.images.shape == (15, 3, 32, 32)
    assert split.test.images.shape == (3, 3, 32, 32)
    fourth = records["data_batch_2.bin"][0]  # the fourth image is the second batch's first
    assert split.train.labels[3] == fourth[0]
    assert split.train.images[3].flatten().tolist() == fourth[1:].tolist()
    assert split.train.images[3, 1, 0, 0] == fourth[1 + 1024]  # green after red
    assert split.test.labels.tolist() == records["test_batch.bin"][:, 0].tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * 10, "data_batch_3.bin has 10 bytes, expected 9219"),
        (b"", "data_batch_3.bin has 0 bytes"),
        (bytes([10]) + b"x" * (3 * cifar.RECORD - 1), "a label is 120, the classes are 0 to 9"),
        (b"x" * (4 * cifar.RECORD), "at most 9219 are expected"),
    ],
)
def test_a_batch_that_is_none_is_refused(binary, tmp_path, content, message):
    write, _ = binary
    write(**{"cifar-10-batches-bin/data_batch_3.bin": content})
    with pytest.raises(DataError, match=message):
        load("cifar10", tmp_path, download=False)


def test_a_damaged_archive_is_refused_by_its_digest(binary, tmp_path):
    write, _ = binary
    path = write()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"SHA-256 .* the file is damaged, download it again"):
        load("cifar10", tmp_path, download=False)


def test_without_any_archive_it_says_what_to_put_where(tmp_path):
    with pytest.raises(
        DataError, match=rf"no {tmp_path}/{cifar.ARCHIVE} \(downloading is off\); put the file with SHA"
    ):
        load("cifar10", tmp_path, download=False)


@pytest.fixture
def few(monkeypatch):
    """An archive of JPEG files is whole with two and one images of a class."""
    monkeypatch.setattr(cifar, "PER_CLASS", {"train": 2, "test": 1})


def jpeg(size=(32, 32), value=0):
    content = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, dtype=np.uint8)).save(content, format="JPEG")
    return content.getvalue()


def jpegs():
    return {
        f"cifar10-jpeg/{part}/{label}/{i:04d}.jpg": jpeg(value=20 * number)
        for part, count in (("train", 2), ("test", 1))
        for number, label in enumerate(CLASSES)
        for i in range(count)
    }


def test_the_jpeg_archive_is_another_dataset_and_says_so(few, tmp_path):
    tar(tmp_path / cifar.JPEG_ARCHIVE, {"cifar10-jpeg/README": b"text", "top.txt": b""} | jpegs(), "w:xz")
    split = load("cifar10", tmp_path, download=False)
    assert (split.name, split.origin) == ("cifar10 (JPEG)", "cifar10")
    assert split.train.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert split.test.labels.tolist() == list(range(10))
    assert (split.train.images[4] == 40).all()
    assert split.train.images.dtype == torch.uint8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cifar10-jpeg/train/cat/0000.jpg": jpeg((16, 32))}, "0000.jpg: 16x32 pixels, expected 32x32"),
        ({"cifar10-jpeg/train/cat/0000.jpg": b"no image"}, "0000.jpg: not a readable image"),
        ({"cifar10-jpeg/train/fish/0000.jpg": jpeg()}, "different classes"),
        (
            {f"cifar10-jpeg/{part}/fish/0000.jpg": jpeg() for part in ("train", "test")},
            "train/ has 11 classes, expected 10",
        ),
        ({"cifar10-jpeg/train/cat/0000.jpg": b"x" * (2 << 20)}, "at most 1048576 are expected"),
    ],
)
def test_a_jpeg_archive_that_is_none_is_refused(few, tmp_path, changes, message):
    tar(tmp_path / cifar.JPEG_ARCHIVE, jpegs() | changes, "w:xz")
    with pytest.raises(DataError, match=message):
        load("cifar10", tmp_path, download=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.pop("cifar10-jpeg/train/frog/0001.jpg"), "train/frog: 1 images, expected 2"),
        (lambda files: files.pop("cifar10-jpeg/test/ship/0000.jpg"), "different classes"),
        (lambda files: files.update({"cifar10-jpeg/test/ship/2.jpg": jpeg()}), "test/ship: 2 images, expected 1"),
    ],
)
def test_a_jpeg_archive_of_another_count_is_refused(few, tmp_path, change, message):
    files = jpegs()
    change(files)
    tar(tmp_path / cifar.JPEG_ARCHIVE, files, "w:xz")
    with pytest.raises(DataError, match=message):
        load("cifar10", tmp_path, download=False)


def test_the_official_counts_are_expected(tmp_path):
    tar(tmp_path / cifar.JPEG_ARCHIVE, jpegs(), "w:xz")
    with pytest.raises(DataError, match="train/airplane: 2 images, expected 5,000"):
        load("cifar10", tmp_path, download=False)


@pytest.mark.parametrize("name", [cifar.ARCHIVE, cifar.JPEG_ARCHIVE])
@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "dangling"])
def test_an_archive_that_is_no_regular_file_is_refused_at_once(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "endless" else "/nowhere")
    with pytest.raises(DataError, match=rf"{name}: cannot be read \((not a regular file|No such file)"):
        load("cifar10", tmp_path, download=False)


def test_an_archive_that_unpacks_to_more_than_cifar_is_refused(few, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "UNPACKED_LIMIT", 1 << 20)
    tar(tmp_path / cifar.JPEG_ARCHIVE, jpegs() | {"zeros": bytes(2 << 20)}, "w:xz")
    with pytest.raises(DataError, match="unpacks to more than 1,048,576 bytes"):
        load("cifar10", tmp_path, download=False)


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"plain text", lambda c: b""])
def test_an_archive_that_cannot_be_read_is_refused(tmp_path, damage):
    path = tar(tmp_path / cifar.JPEG_ARCHIVE, jpegs(), "w:xz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="not a readable archive"):
        load("cifar10", tmp_path, download=False)


def test_the_binary_archive_comes_first(binary, tmp_path):
    write, _ = binary
    write()
    tar(tmp_path / cifar.JPEG_ARCHIVE, jpegs(), "w:xz")
    assert load("cifar10", tmp_path, download=False).name == "cifar10"


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / cifar.JPEG_ARCHIVE).exists(), reason="no CIFAR-10 here")
def test_the_real_jpeg_archive():
    split = load("cifar10", REAL, download=False)
    assert (len(split.train), len(split.test)) == (50_000, 10_000)
    assert split.train.labels.bincount().tolist() == 10 * [5_000]


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / cifar.JPEG_ARCHIVE).exists(), reason="no CIFAR-10 here")
def test_the_real_jpeg_files_have_quality_75_and_colors_at_half_the_resolution():
    """As the page of resnet9 says: libjpeg's tables of that quality, 4:2:0, in every hundredth file."""
    tables = []
    for quality in (75, 74):
        Image.new("RGB", (32, 32)).save(buffer := io.BytesIO(), "JPEG", quality=quality)
        tables.append(Image.open(buffer).quantization)
    with tarfile.open(REAL / cifar.JPEG_ARCHIVE) as archive:
        chosen = [member for number, member in enumerate(archive) if member.isfile() and number % 100 == 50]
        images = [Image.open(io.BytesIO(archive.extractfile(member).read())) for member in chosen]
    assert len(images) > 500
    assert {JpegImagePlugin.get_sampling(image) for image in images} == {2}
    assert all(image.quantization == tables[0] != tables[1] for image in images)
