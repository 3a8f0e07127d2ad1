"""Downloads: bounded, and given up if there is no connection."""

import gzip
import io
import threading
import urllib.request

import pytest

from pyro_vd.data import download, load, mnist
from pyro_vd.errors import DataError
from tests.data._files import idx, no_files


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
    web[mnist.IDX_SETS["mnist"][1] + "train-images-idx3-ubyte.gz"] = answer
    with pytest.raises(DataError, match=message):
        load("mnist", tmp_path)
    assert no_files(tmp_path)


def test_no_more_than_known_is_read(monkeypatch):
    asked = []

    class Endless(io.BytesIO):
        def read(self, count=-1):
            asked.append(count)
            return bytes(count)

    monkeypatch.setattr(download, "_is_reachable", lambda *_: True)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Endless())
    with pytest.raises(OSError, match="more than the 1,000 bytes"):
        download.fetch("http://x", 1000)
    assert asked == [1001]


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
