"""The variances of the gradient: estimators with one mean and the paper's order, and measurements of their epoch."""

import dataclasses
import math

import pytest
import torch

from pyro_vd import Training
from pyro_vd.data import DataSplits, LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.experiments import gradient_variance
from pyro_vd.experiments.common.phases import make_pair
from pyro_vd.experiments.common.spec import Data, Fit, Options
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.gradient_variance import ESTIMATORS, KEYS, KINDS, Args, make_spec, make_table
from pyro_vd.models import MLP

DRAWS = 200


def read(out):
    return Store(out, KINDS).runs(KEYS)


# Mutants: one weight draw for a chunk, a missing N/B, noise that does not reach the gradient.
def test_the_four_gradients_have_one_mean_and_the_papers_order_of_variances():
    torch.manual_seed(0)
    examples = LabeledImages(torch.randn(8, 1, 28, 28), torch.randint(3, (8,)))
    split = DataSplits("noise", "folder", examples, examples, 3, "")
    fit = Fit(scheme="variational_b", training=Training(epochs=1), options=Options(init=-1.0))
    pair = make_pair(MLP(3, hidden=()), fit, len(split.train))
    x, y = examples.batch(torch.arange(8))
    (theta,) = (pair.guide.theta["fc1.weight"],)
    means, variances = {}, {}
    for name, loss in ESTIMATORS.items():
        draws = torch.stack([torch.autograd.grad(loss(pair, x, y), theta)[0] for _ in range(DRAWS)])
        means[name], variances[name] = draws.mean(0), draws.var(0).mean()
    assert variances["no dropout noise"] < 1e-8
    local, separate, single = (variances[name] for name in list(ESTIMATORS)[:3])
    assert local < separate < single
    # One linear layer: local noise is the marginal law of separate weights, so both have the mean of the single draw.
    for name in ("separate weight samples", "single weight sample"):
        error = (means[name] - means["local reparameterization"]).square().mean()
        assert error < 4 * (variances[name] + local) / DRAWS


def test_the_command_leaves_a_record_and_a_table(tmp_path, capsys):
    args = Args(dataset="digits", hidden=5, after=(1, 2), minibatch=50, draws=3, out=tmp_path)
    gradient_variance.main(args)
    (run,) = read(tmp_path)
    assert run.spec == make_spec(Data(name="digits"), 5, (1, 2), 50, 3)
    assert run.path.name.startswith("digits-5-units-")
    assert set(run["variances"]) == {"1", "2"}
    for by_name in run["variances"].values():
        assert set(by_name) == set(ESTIMATORS)
        assert all(math.isfinite(v) and v > 0 for layers in by_name.values() for v in layers.values())
    assert (tmp_path / "table.md").read_text() == make_table([run]).markdown() + "\n"
    capsys.readouterr()
    gradient_variance.main(args)
    assert "already finished" in capsys.readouterr().out
    with pytest.raises(UserError, match="--minibatch must be at most 1438"):
        gradient_variance.main(dataclasses.replace(args, minibatch=1439))


def stop_at(monkeypatch, epochs):
    """Interrupts the measurement after so many epochs."""
    measured = gradient_variance.measure

    def stop(pair, *arguments):
        if len(pair.history) == epochs - 1:  # the row of this epoch is not there yet
            raise KeyboardInterrupt
        return measured(pair, *arguments)

    monkeypatch.setattr(gradient_variance, "measure", stop)


def test_a_measurement_is_of_its_epoch_also_after_an_interruption(tmp_path, monkeypatch):
    """Stopped after the first measurement, resumed: the same numbers as in one go."""
    args = Args(dataset="digits", hidden=5, after=(1, 3), minibatch=50, draws=3, engine="eager")
    whole, parts = (dataclasses.replace(args, out=tmp_path / name) for name in ("whole", "parts"))
    gradient_variance.main(whole)
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            gradient_variance.main(parts)
    assert not list(parts.out.glob("*.json"))
    gradient_variance.main(parts)
    (one,), (other,) = (read(run.out) for run in (whole, parts))
    assert one["variances"] == other["variances"]
    assert one["variances"]["1"] != one["variances"]["3"]


def test_a_measurement_of_other_settings_is_not_taken_over(tmp_path, monkeypatch):
    """Interrupted with 3 draws after the first measurement, then started with 4: all of it has 4."""
    args = Args(dataset="digits", hidden=5, after=(1, 2), minibatch=50, draws=3, engine="eager")
    parts, whole = (dataclasses.replace(args, out=tmp_path / name) for name in ("parts", "whole"))
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            gradient_variance.main(parts)
    for run in (parts, whole):
        gradient_variance.main(dataclasses.replace(run, draws=4))
    (one,), (other,) = (read(run.out) for run in (parts, whole))
    assert one["variances"] == other["variances"]


def test_no_resume_measures_again(tmp_path, monkeypatch):
    args = Args(dataset="digits", hidden=5, after=(1,), minibatch=50, draws=2, engine="eager", out=tmp_path)
    gradient_variance.main(args)
    calls, measured = [], gradient_variance.measure
    monkeypatch.setattr(gradient_variance, "measure", lambda *given: calls.append(1) or measured(*given))
    gradient_variance.main(dataclasses.replace(args, resume=False))
    assert len(calls) == 1
    assert len(read(tmp_path)) == 1


def test_the_table_averages_seeds(tmp_path):
    store, spec = Store(tmp_path, KINDS), make_spec(Data(name="digits"), 5, (10, 2), 50, 3)
    for seed in (0, 1):
        layers = {"top": 2.0 + seed, "bottom": 0.5}
        variances = {epochs: dict.fromkeys(ESTIMATORS, layers) for epochs in ("10", "2")}
        store.save(dataclasses.replace(spec, seed=seed), {"dataset": "digits", "variances": variances})
    table = make_table(store.seeds(spec))
    assert table.header == (
        "estimator",
        "top, 2 epochs",
        "top, 10 epochs",
        "bottom, 2 epochs",
        "bottom, 10 epochs",
        "n",
    )
    assert table.rows[0] == ("local reparameterization", *["2.5 ± 0.71"] * 2, *["0.5 ± 0"] * 2, "2")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"draws": 1}, "one gradient has no variance"),
        ({"after": (2, 1)}, "--after must increase"),
        ({"after": ()}, "at least 1"),
        ({"hidden": 0}, "at least 1"),
        ({"seeds": 0}, "at least 1"),
    ],
)
def test_bad_arguments_are_refused(wrong, message, tmp_path):
    with pytest.raises(UserError, match=message):
        gradient_variance.main(Args(dataset="digits", out=tmp_path, **wrong))
    assert not list(tmp_path.iterdir())
