"""Files of ArviZ data: what was saved, or a refusal."""

import pyro.distributions as dist
import pytest

from pyro_vd.diagnostics import load, save, to_arviz
from pyro_vd.errors import UserError
from tests.diagnostics._data import posterior_of


def test_files_give_back_what_was_saved(data, tmp_path):
    found = to_arviz(posterior_of(prior=dist.Normal(0.0, 1.0)), data, num_samples=3, num_prior_samples=2)
    save(found, tmp_path / "new" / "data.nc")
    loaded = load(tmp_path / "new" / "data.nc")
    for group in ("posterior", "posterior_predictive", "log_likelihood", "prior", "observed_data", "constant_data"):
        for name in found[group].data_vars:
            assert loaded[group][name].dims == found[group][name].dims
            assert (loaded[group][name].values == found[group][name].values).all()
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "data.nc"]


def test_a_file_that_cannot_be_written_leaves_what_was_there(data, tmp_path, monkeypatch):
    found = to_arviz(posterior_of(), data, num_samples=2)
    path = tmp_path / "data.nc"
    path.write_text("mine")

    def full(self, target, **_):
        open(target, "w").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(found), "to_netcdf", full)
    with pytest.raises(OSError, match="No space"):
        save(found, path)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, b"", b"no netCDF", b"\x89HDF\r\n\x1a\nand no more"])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "data.nc"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"data\.nc: (no such file|cannot be read as netCDF)"):
        load(path)
