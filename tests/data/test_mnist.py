"""MNIST and FashionMNIST: small files of the same layout, and the real ones if they are on this machine."""

from pathlib import Path

import pytest

from pyro_vd.data import load
from pyro_vd.errors import DataError
from tests.data._files import check_small, irregular, put

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def test_files_that_are_there_are_read_without_the_web(small_mnist, web, tmp_path):
    put(tmp_path, small_mnist)
    check_small(load("mnist", tmp_path), small_mnist)
    assert web.asked == []


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "dangling"])
def test_an_idx_file_that_is_no_regular_file_is_refused_at_once(small_mnist, web, tmp_path, kind):
    put(tmp_path, small_mnist)
    path = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.unlink()
    irregular(path, kind)
    with pytest.raises(DataError, match=r"labels-idx1-ubyte: cannot be read \((not a regular file|No such file)"):
        load("mnist", tmp_path)
    assert web.asked == []


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
