"""Targets of pruning: the largest threshold that reaches one, found in posteriors whose log_alpha is known."""

import math

import pytest
import torch
from torch import nn

import pyro_vd
from pyro_vd import compress, guides
from pyro_vd.compress import Bytes, Multiplications, Sparsity, TargetError, compressed_bytes, find_candidate
from pyro_vd.compress.targets import try_shrink
from pyro_vd.errors import UserError

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
N = 6 * 20 + 20 * 3


def net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3))


def posterior(scheme="sparse", make=net):
    """Of a guide whose log_alpha is in the order of the weights' magnitudes, from about -9 to 5."""
    module = guides.SCHEMES[scheme]
    model = pyro_vd.lift(make(), module.prior, pyro_vd.Categorical, num_data=len(X))
    guide = module.Guide(model)
    with torch.no_grad():
        for parameter in guide.log_sigma2.parameters() if scheme == "sparse" else ():
            parameter.fill_(-6.0)
    return pyro_vd.Posterior(model, guide)


def ranked(pair):
    return torch.cat([values.flatten() for values in pair.log_alpha().values()]).sort().values


def test_without_a_target_it_is_the_schemes_threshold():
    pair = posterior()
    found = find_candidate(pair, X)
    assert found.report.threshold == pair.threshold == 3.0
    assert found.report.nonzero == int((ranked(pair) < 3).sum())


@pytest.mark.parametrize("share", [0.3, 0.5, 0.501, 0.7])
def test_a_sparsity_is_reached_exactly(share):
    """Mutants: a threshold below the largest one, a weight more or less, an approximate bisection."""
    pair = posterior()
    found = find_candidate(pair, X, Sparsity(share))
    assert found.report.weights == N
    assert found.report.nonzero == math.floor(N * (1 - share) + 1e-9)
    masks = pair.masks(found.report.threshold)
    assert sum(int(mask.sum()) for mask in masks.values()) == found.report.nonzero
    kept = ranked(pair)[: found.report.nonzero]
    assert kept.max() < found.report.threshold <= ranked(pair)[found.report.nonzero]


def test_a_target_that_the_scheme_reaches_anyway_changes_nothing():
    """A threshold above the scheme's would bring back weights that training has masked."""
    pair = posterior()
    found = find_candidate(pair, X, Sparsity(0.0))
    assert found.report.threshold == 3.0


def test_bytes_are_those_of_the_file(tmp_path):
    pair = posterior()
    whole = compressed_bytes(find_candidate(pair, X).net)
    found = find_candidate(pair, X, Bytes(whole - 200))
    assert compress.save(found.net, tmp_path / "net") <= whole - 200
    assert compress.save(found.net, tmp_path / "net") == compressed_bytes(found.net)
    assert found.report.threshold < 3


def test_multiplications_are_those_of_the_shrunk_network():
    pair = posterior()
    found = find_candidate(pair, X, Multiplications(N - 40))
    sizes = compress.architecture(found.net)
    assert sum(inputs * outputs for inputs, outputs in sizes.values()) <= N - 40
    more = pair.masks(found.report.threshold + 0.05)
    small, refusal = try_shrink(pair.mean(more), X)
    assert not refusal
    if sum(int(mask.sum()) for mask in more.values()) > found.report.nonzero:
        assert compress.count_multiplications(small, X) >= compress.count_multiplications(found.net, X)


def test_a_target_that_is_not_reached_names_the_nearest_point():
    pair = posterior()
    with pytest.raises(
        TargetError, match=r"Bytes\(most=10\) is not reached by any threshold; the nearest point is thr"
    ) as refused:
        find_candidate(pair, X, Bytes(10))
    error = refused.value
    assert error.posterior is pair
    assert isinstance(error, UserError)
    assert f"{error.nearest.report.threshold:.4g} with {compressed_bytes(error.nearest.net)}" in str(error)
    outputs = error.nearest.net(X)
    assert (outputs != outputs[0]).any()
    assert error.nearest.report.nonzero < N / 3


def test_an_output_that_is_the_same_for_all_inputs_reaches_nothing():
    """It would reach any target."""
    with pytest.raises(TargetError, match=r"nearest point .*; at the next one, all inputs get the same output"):
        find_candidate(posterior(), X, Sparsity(0.9999))


def test_a_posterior_without_anything_left_says_so():
    pair = posterior()
    with torch.no_grad():
        for parameter in pair.guide.log_sigma2.parameters():
            parameter.fill_(4.0)
        for parameter in pair.guide.theta.parameters():
            parameter.mul_(1e-3)
    assert find_candidate(pair, X).report.nonzero == 0
    with pytest.raises(TargetError, match="already at threshold 3 all inputs get the same output"):
        find_candidate(pair, X, Sparsity(0.5))


def test_a_scheme_without_a_choice_of_threshold_has_one_point():
    with pytest.raises(TargetError, match=r"Sparsity\(share=0.5\) is not reached .* threshold 0 with 0,"):
        find_candidate(posterior("l0"), X, Sparsity(0.5))


def test_units_go_as_a_whole():
    pair = posterior("group_normal_jeffreys")
    with torch.no_grad():
        for index, parameter in enumerate(pair.guide.z_log_sigma2.parameters()):
            parameter.copy_(torch.linspace(-8, -1, len(parameter)) - index / 10)
    found = find_candidate(pair, X, Sparsity(0.5))
    assert found.report.sparsity >= 0.5
    assert compress.architecture(found.net)["0"][0] < 6
    above = pair.masks(found.report.threshold + 1e-3)
    assert compress.compression_report(pair.mean(above), above).sparsity <= found.report.sparsity


def test_a_class_of_your_own_is_a_target():
    class Inputs:
        def measure(self, candidate):
            assert len(candidate.inputs) == len(X)
            return compress.architecture(candidate.net)["0"][1]

        def is_reached(self, measured):
            return measured <= 12

    assert compress.architecture(find_candidate(posterior(), X, Inputs()).net)["0"][1] <= 12


class Spread(nn.Module):
    """With an operation that shrink does not know, and batch normalization."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.norm(self.first(x)).cumsum(1))


def test_a_network_that_cannot_be_shrunk_is_pruned_all_the_same():
    pair = posterior(make=Spread)
    _, refusal = try_shrink(pair.mean(), X)
    assert "shrink" in refusal
    found = find_candidate(pair, X, Sparsity(0.5))
    assert type(found.net) is Spread
    assert compress.compression_report(found.net, pair.model.priors).sparsity >= 0.5
    first = found.net.first(X)
    assert torch.allclose(found.net.norm.running_mean, first.mean(0), atol=1e-5)


@pytest.mark.parametrize("make", [lambda: Sparsity(1.0), lambda: Sparsity(-0.1), lambda: Sparsity(math.nan),
                                  lambda: Sparsity("0.9"), lambda: Sparsity(None)])  # fmt: skip
def test_a_share_out_of_range_is_refused(make):
    with pytest.raises(UserError, match="must be at least 0 and below 1"):
        make()


@pytest.mark.parametrize("kind", [Bytes, Multiplications])
@pytest.mark.parametrize("most", [0, -3, math.inf, math.nan, "900", None, True])
def test_a_number_out_of_range_is_refused(kind, most):
    with pytest.raises(UserError, match=rf"{kind.__name__}\(most=.*finite number of at least 1"):
        kind(most)
