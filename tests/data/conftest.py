"""Datasets for tests: the digits, a small MNIST, a folder of pictures, and a fake web."""

import hashlib
import io
import urllib.error
import urllib.request

import pytest

from pyro_vd.data import download, load, mnist
from tests.data._files import draw, idx


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture
def small_mnist(monkeypatch):
    """A data set of the same layout with 6 + 4 images; file name -> content."""
    shapes = ((6, 28, 28), (6,), (4, 28, 28), (4,))
    names = [name for name, _ in mnist.IDX_FILES]
    files = {name: idx(shape, seed) for seed, (name, shape) in enumerate(zip(names, shapes, strict=True))}
    digests = tuple(hashlib.sha256(content).hexdigest() for content in files.values())
    folder, source, _ = mnist.IDX_SETS["mnist"]
    monkeypatch.setattr(mnist, "IDX_FILES", tuple(zip(names, shapes, strict=True)))
    monkeypatch.setitem(mnist.IDX_SETS, "mnist", (folder, source, digests))
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
    monkeypatch.setattr(download, "_is_reachable", lambda *_: True)
    return served


@pytest.fixture
def pictures(tmp_path):
    root = tmp_path / "shapes"
    for part, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(("circle", "square")):
            for i in range(count):
                draw(root / part / name / f"{i}.png", 50 * label + i)
    return root
