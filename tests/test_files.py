"""Files are read whole or not at all, and replaced whole or not at all."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyro_vd import files


def test_write_atomically_replaces_content(tmp_path):
    path = tmp_path / "x"
    files.write_atomically(path, b"a long first content")
    files.write_atomically(path, b"short")
    assert path.read_bytes() == b"short"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_threads_write_one_file_after_the_other(tmp_path):
    """Partial files that two threads share would be moved away, or hold parts of both."""
    contents = [bytes([number]) * 50_000 for number in range(8)]

    def write(content):
        for _ in range(5):
            files.write_atomically(tmp_path / "x", content)
            assert (tmp_path / "x").read_bytes() in contents

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(write, contents))
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_a_folder_in_the_place_of_one_file_leaves_the_others(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(IsADirectoryError, match="folder"):
        files.write_together({tmp_path / "x": b"new", tmp_path / "folder": b"new"})
    assert (tmp_path / "x").read_bytes() == b"old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "x"]


def test_a_regular_file_is_read_whole(tmp_path):
    (tmp_path / "x").write_bytes(b"123")
    assert files.read_file(tmp_path / "x", limit=3) == b"123"


def test_a_larger_file_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"1234")
    with pytest.raises(OSError, match="larger than 3 bytes"):
        files.read_file(tmp_path / "x", limit=3)


@pytest.mark.parametrize("kind", ["pipe", "link to a device", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(kind, tmp_path):
    path = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match="not a regular file"):
        files.read_file(path, limit=10)
