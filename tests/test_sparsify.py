"""sparsify: one call is the calls that it stands for, and refuses what they refuse before any training."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import pyro_vd
from pyro_vd import Training, compress, guides, schedules, sparsify
from pyro_vd.errors import UserError
from pyro_vd.inference.fit import fit
from tests._asserts import same
from tests._pairs import N, batch_norm, examples, network

HOW = {"epochs": 4, "lr": 0.02, "seed": 0, "engine": "eager", "progress": False}
PRUNING = [name for name, scheme in guides.SCHEMES.items() if scheme.defaults.threshold is not None]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def seen(monkeypatch):
    """The Training of every fit."""
    calls = []

    def watched(model, guide, data, training, **options):
        calls.append(training)
        return fit(model, guide, data, training, **options)

    monkeypatch.setitem(sparsify.__globals__, "fit", watched)
    return calls


@pytest.fixture
def untrained(monkeypatch):
    """Fails if anything is trained."""

    def refuse(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setitem(sparsify.__globals__, "fit", refuse)


def weights(net):
    return [parameter.detach() for parameter in net.parameters()]


@pytest.mark.parametrize("scheme", PRUNING)
def test_it_is_lift_fit_prune_and_shrink(scheme):
    """Written out. Mutants: another prior, rates of the noise or masking left out, another schedule."""
    net, module = network(), guides.SCHEMES[scheme]
    small, posterior, report = sparsify(net, examples(), scheme, **HOW)
    model = pyro_vd.lift(net, module.prior, pyro_vd.Categorical, num_data=N)
    guide = module.Guide(model)
    rates = {word: module.defaults.noise_lr for word in guide.state_dict() if not word.startswith(("theta", "started"))}
    rates = {word.split(".")[0]: rate for word, rate in rates.items() if rate != 1}
    training = Training(
        epochs=4,
        lr=0.02,
        kl_schedule=schedules.WarmUp(0, 2),
        lr_schedule=schedules.HoldThenDecay(2, 4),
        lr_scale=rates,
        threshold=3.0 if scheme in ("sparse", "hierarchical", "ard") else None,
    )
    written = fit(model, guide, examples(), training, seed=0, engine="eager", progress=False)
    assert same(dict(posterior.guide.state_dict()), dict(written.guide.state_dict()))
    assert report.threshold == module.defaults.threshold
    pruned = written.mean(written.masks())
    assert report.nonzero == pyro_vd.compression_report(pruned, model.priors).nonzero
    x, _ = examples()
    torch.testing.assert_close(small(x), pruned(x), rtol=1e-4, atol=1e-5)


def test_the_network_is_not_changed_and_may_be_in_either_mode():
    for mode in (True, False):
        net = batch_norm().train(mode)
        before = copy.deepcopy(net.state_dict())
        sparsify(net, examples(), **HOW)
        assert net.training is mode
        assert same(before, net.state_dict())


def test_what_is_given_goes_before_the_schemes_own(seen):
    sparsify(network(), examples(), "group_horseshoe", **HOW, lr_scale={"z_gamma_mu": 2.0}, threshold=1.0)
    sparsify(network(), examples(), **HOW, estimator="flipout")
    own = Training(epochs=3, kl_schedule=schedules.WarmUp(1, 1))
    sparsify(network(), examples(), training=own, seed=0, engine="eager", progress=False)
    assert dict(seen[0].lr_scale) == {"z_gamma_mu": 2.0}
    assert seen[0].threshold == 1.0
    assert seen[0].kl_schedule == schedules.WarmUp(0, 2)
    assert seen[1].threshold is None  # only local reparameterization masks
    assert seen[2] is own


@pytest.mark.parametrize("target", [compress.Sparsity(0.75), compress.Bytes(460), compress.Multiplications(20)])
def test_a_target_is_reached(target, tmp_path):
    net, posterior, report = sparsify(network(), examples(), target=target, **HOW)
    x, _ = examples()
    numbers = {
        compress.Sparsity: report.sparsity,
        compress.Bytes: compress.save(net, tmp_path / "net"),
        compress.Multiplications: compress.count_multiplications(net, x),
    }
    assert target.is_reached(numbers[type(target)])
    again = posterior.mean(posterior.masks(report.threshold))
    torch.testing.assert_close(net(x), again(x), rtol=1e-4, atol=1e-5)


def test_a_target_error_holds_what_was_trained():
    with pytest.raises(compress.TargetError, match=r"Bytes\(most=20\) is not reached .* nearest point") as refused:
        sparsify(network(), examples(), target=compress.Bytes(20), **HOW)
    assert len(refused.value.posterior.history) == 4
    assert not refused.value.nearest.net.training


def test_it_takes_what_fit_takes():
    x, y = examples()
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
    arrays = (x.numpy(), np.asarray(y))
    for data in (arrays, TensorDataset(x, y), loader):
        assert len(sparsify(network(), data, **HOW).posterior.history) == 4
    floats = (x, x[:, :1])
    head = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))
    own = {"likelihood": pyro_vd.Gaussian(0.5), "select": ["0.weight"], "prior": pyro_vd.EmpiricalBayes}
    result = sparsify(head, floats, **own, **HOW)
    assert list(result.posterior.model.priors) == ["0.weight"]
    assert type(result.posterior.model.priors["0.weight"].base_dist).__name__ == "EmpiricalBayes"


class Stream(IterableDataset):
    def __iter__(self):
        return zip(*examples(), strict=True)


def test_a_loader_of_unknown_length_needs_its_number():
    loader = DataLoader(Stream(), batch_size=16)
    with pytest.raises(UserError, match="sparsify: how many examples the data have is not known; give num_data="):
        sparsify(network(), loader, **HOW)
    assert sparsify(network(), loader, num_data=N, **HOW).posterior.model.num_data == N


def test_running_averages_are_those_of_the_pruned_network():
    net, posterior, report = sparsify(batch_norm(), examples(), "l0", **HOW)
    pruned = posterior.mean(posterior.masks(report.threshold), examples()[0])
    x, _ = examples()
    torch.testing.assert_close(net(x), pruned(x), rtol=1e-4, atol=1e-5)


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.first(x).cumsum(1))


def test_a_network_that_cannot_be_shrunk_keeps_its_sizes_and_says_so():
    with pytest.warns(UserWarning, match="sparsify: the network is pruned, but keeps its sizes: shrink: "):
        net, _, report = sparsify(Mixed(), examples(), target=compress.Sparsity(0.5), **HOW)
    assert type(net) is Mixed
    assert report.sparsity >= 0.5


def test_it_has_a_repr():
    result = sparsify(network(), examples(), **HOW)
    assert repr(result) == f"{result.net}\n{result.report!r}"
    assert result._repr_html_() == result.report._repr_html_()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheme": "sprase"}, "sparsify: there is no scheme 'sprase'; did you mean 'sparse'"),
        (
            {"scheme": "concrete"},
            "sparsify: the scheme concrete is not for pruning; choose one of sparse, hier",
        ),
        ({"scheme": guides.none}, "sparsify: the scheme none is not for pruning"),
        ({"scheme": SimpleNamespace(__name__="mine")}, "sparsify: the scheme mine is not for pruning"),
        ({"target": 0.9}, "target=0.9 is not a target; give Sparsity"),
        ({"target": compress.Sparsity}, "is not a target"),
        ({"epochs": 0}, "epochs=0 must be at least 1"),
        ({"training": Training(epochs=2)}, "sparsify: a Training and epochs, lr are given"),
        ({"data": "digits"}, "the training set is a str"),
        ({"data": (torch.randn(1, 5), torch.zeros(1).long())}, "sparsify: the training set has one example"),
        ({"num_data": 7}, "num_data=7"),
        ({"select": ["nothing"]}, "nothing"),
        (
            {"net": Mixed(), "target": compress.Multiplications(5)},
            r"Multiplications\(most=5\) needs a network that can",
        ),
        (
            {"net": Mixed(), "target": compress.Latency(5.0, torch.randn(1, 5))},
            r"Latency\(most=5.0\) needs a network that can",
        ),
        (
            {"target": compress.Latency(5.0, torch.randn(1, 6))},
            "Latency: the network does not take the inputs x: .*shape",
        ),
    ],
)
def test_bad_input_is_refused_before_the_first_step(change, message, untrained):
    given = {"net": network(), "data": examples(), **HOW, **change}
    with pytest.raises(UserError, match=message):
        sparsify(**given)


def test_an_error_in_a_target_of_your_own_comes_before_the_training(untrained):
    class Broken(compress.Sparsity):
        def measure(self, candidate):
            return candidate.report.sparsty

    with pytest.raises(AttributeError, match="sparsty"):
        sparsify(network(), examples(), target=Broken(0.5), **HOW)


def test_what_is_no_network_and_no_field_is_a_type_error(untrained):
    with pytest.raises(TypeError, match="lift: net must be an nn"):
        sparsify(nn.Linear, examples(), **HOW)
    with pytest.raises(TypeError, match="sparsify: unexpected keyword argument 'epoch'"):
        sparsify(network(), examples(), epoch=3)
    with pytest.raises(UserError, match="sparsify: give epochs=, or a Training"):
        sparsify(network(), examples())
