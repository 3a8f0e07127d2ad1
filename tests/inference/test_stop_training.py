"""StopTraining: an on_epoch ends the training, and a rerun does not go on."""

import pytest

from pyro_vd import StopTraining, fit_seeds
from tests._asserts import same, values
from tests._pairs import examples, fresh, interrupt_at, pair


def test_on_epoch_ends_the_training(tmp_path):
    calls = []

    def stop(epoch, posterior):
        calls.append(epoch)
        if epoch == 1:
            raise StopTraining({"score": 0.5})

    run = {"checkpoint": tmp_path / "run", "on_epoch": stop}
    posterior = fresh(epochs=4, **run)
    assert [row.get("score") for row in posterior.history] == [None, 0.5]
    assert len(fresh(epochs=4, **run).history) == 2  # ended
    assert len(fresh(epochs=3, **run).history) == 2  # fewer epochs do not start it again
    assert calls == [0, 1]
    assert len(fresh(epochs=5, **run).history) == 5  # more epochs are asked for
    assert same(values(fresh(epochs=2)), values(posterior))


def test_a_run_that_went_on_is_no_longer_ended(tmp_path, monkeypatch):
    """A run of 4 epochs ends after 1. One of 6 goes on, and is interrupted. One of 4 trains what is left."""

    def stop(epoch, posterior):
        raise StopTraining

    run = {"checkpoint": tmp_path / "run"}
    assert len(fresh(epochs=4, on_epoch=stop, **run).history) == 1
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            fresh(epochs=6, **run)
    assert len(fresh(epochs=4, **run).history) == 4


def test_stopping_needs_no_numbers():
    def stop(epoch, posterior):
        raise StopTraining

    assert len(fresh(epochs=4, on_epoch=stop).history) == 1


def test_one_seed_ends_the_training_of_all():
    def stop(epoch, posterior):
        if posterior.seed == 1:
            raise StopTraining({"score": 1.0})
        return {"score": 2.0}

    def make():
        return pair()

    found = fit_seeds(make, examples(), seeds=[0, 1, 2], epochs=3, engine="eager", on_epoch=stop, progress=False)
    assert [[row["score"] for row in posterior.history] for posterior in found] == [[2.0], [1.0], [2.0]]
