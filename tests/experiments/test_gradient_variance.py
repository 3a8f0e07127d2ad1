"""The variances of the gradient: estimators with one mean and the paper's order, and a run per number of epochs."""

import dataclasses
import math

import pytest
import torch

from pyro_vd import Training
from pyro_vd.data import DataSplits, LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.experiments import gradient_variance
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.pairs import make_pair
from pyro_vd.experiments.common.spec import Data, Fit, Options
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.gradient_variance import ESTIMATORS, KEYS, Args, make_specs, make_table, measure_variances
from pyro_vd.models import MLP

DRAWS = 200


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


def test_the_command_leaves_records_and_a_table(tmp_path, capsys):
    args = Args(dataset="digits", hidden=5, after=(2, 1), draws=3, engine="eager", out=tmp_path)
    gradient_variance.main(args)
    store, specs = Store(tmp_path), make_specs(Data(name="digits"), 5, (1, 2), 3)
    runs = [store.load(spec, KEYS) for spec in specs]
    assert len(list(tmp_path.glob("*.json"))) == 2
    for run in runs:
        assert set(run["variances"]) == set(ESTIMATORS)
        assert all(math.isfinite(v) and v > 0 for layers in run["variances"].values() for v in layers.values())
    assert runs[0]["variances"] != runs[1]["variances"]
    assert [len(run["history"]) for run in runs] == [1, 2]
    assert (tmp_path / "table.md").read_text() == make_table(specs, store).markdown() + "\n"
    capsys.readouterr()
    gradient_variance.main(args)
    assert "already finished" in capsys.readouterr().out


def test_the_draws_are_part_of_the_spec_and_the_minibatches_are_those_of_all_estimators():
    data = Data(name="digits")
    assert make_specs(data, draws=3) != make_specs(data, draws=4)
    torch.manual_seed(0)
    split = load_images(data, MLP(), None)
    fit = Fit(scheme="variational_b", training=Training(epochs=1), options=Options(init=-14.0))
    pair = make_pair(MLP(hidden=(20,) * 3), fit, len(split.train))
    found = measure_variances(pair, split, draws=3, seed=0)
    assert found == measure_variances(pair, split, draws=3, seed=0)
    for layers in found.values():  # there is hardly any noise, so the variances are those of the minibatches
        assert layers == pytest.approx(found["no dropout noise"], rel=0.1)


def test_a_minibatch_needs_enough_examples(tmp_path, monkeypatch):
    monkeypatch.setattr(gradient_variance, "MINIBATCH", 1439)
    with pytest.raises(UserError, match="--dataset digits: has 1438 training examples, a minibatch has 1439"):
        gradient_variance.main(Args(dataset="digits", out=tmp_path))


def test_the_table_averages_seeds_and_counts_diverged_runs(tmp_path):
    store, specs = Store(tmp_path), make_specs(Data(name="digits"), 5, (10, 2), 3)
    for spec in specs:
        for seed in (0, 1):
            variances = {name: {"top": 2.0 + seed, "bottom": 0.5} for name in ESTIMATORS}
            record = {"dataset": "digits", "variances": variances, "diverged": False}
            store.save(dataclasses.replace(spec, seed=seed), record)
        record = {"dataset": "digits", "variances": None, "diverged": "non-finite"}
        store.save(dataclasses.replace(spec, seed=2), record)
    table = make_table(specs, store)
    epochs = [f"{layer}, {count} epochs" for layer in ("top", "bottom") for count in (2, 10)]
    assert table.header == ("estimator", *epochs, "n")
    row = ("local reparameterization", *["2.5 ± 0.71"] * 2, *["0.5 ± 0"] * 2, "2 (+1 diverged)")
    assert table.rows[0] == row


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"draws": 1}, "one gradient has no variance"),
        ({"after": ()}, "at least 1"),
        ({"after": (0, 1)}, "at least 1"),
        ({"hidden": 0}, "at least 1"),
        ({"seeds": 0}, "at least 1"),
    ],
)
def test_bad_arguments_are_refused(wrong, message, tmp_path):
    with pytest.raises(UserError, match=message):
        gradient_variance.main(Args(dataset="digits", out=tmp_path, **wrong))
    assert not list(tmp_path.iterdir())
