"""The data folder: where it is, files that are found there, and downloads that leave whole files or none."""

import gzip
import os
import urllib.error
from pathlib import Path

import pytest

from pyro_vd.data import data_folder, load, mnist
from pyro_vd.errors import DataError
from tests.data._files import check_small, idx, no_files, put, served_everywhere


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


def test_missing_files_with_downloads_off_say_everything(small_mnist, web, tmp_path):
    with pytest.raises(DataError) as caught:
        load("mnist", tmp_path, download=False)
    message = str(caught.value)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    for part in (str(path), mnist.IDX_SETS["mnist"][2][0], "PYRO_VD_DATA", "--dataset digits"):
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
    web[mnist.IDX_SETS["mnist"][1] + "train-images-idx3-ubyte.gz"] = answer
    with pytest.raises(DataError) as caught:
        load("mnist", tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte") in message
    assert "--dataset digits" in message
    assert "\n" not in message
    assert no_files(tmp_path)


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
