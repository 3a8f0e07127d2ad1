"""Draws of targets, their quantiles and intervals, against closed forms and draws that are made by hand.

Predictions of outputs are in test_posterior.py.
"""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyro_vd import Categorical, Flat, Gaussian, HeteroscedasticGaussian, LogUniform, Poisson, Posterior, guides, lift
from pyro_vd.errors import UserError

SIGMA, NOISE, DRAWS = 0.5, 0.25, 800


def linear_posterior(likelihood=None, outputs=1):
    """y = w x with w ~ N(2, SIGMA**2), and normal noise."""
    net = nn.Linear(1, outputs, bias=False)
    model = lift(net, LogUniform, likelihood or Gaussian(NOISE), num_data=10)
    guide = guides.sparse.Guide(model)
    with torch.no_grad():
        guide.theta["weight"].fill_(2.0)
        guide.noise_param["weight"].fill_(2 * math.log(SIGMA))
    return Posterior(model, guide)


def certain_posterior(likelihood, outputs=1):
    """The output is 1 for x = 1, without uncertainty about the weight."""
    net = nn.Linear(1, outputs, bias=False)
    nn.init.ones_(net.weight)
    model = lift(net, Flat, likelihood, num_data=10)
    return Posterior(model, guides.none.Guide(model))


X = torch.tensor([[-1.0], [0.0], [0.5], [3.0]])


def test_targets_are_the_outputs_with_noise_draw_by_draw():
    posterior = linear_posterior()
    torch.manual_seed(1)
    found = posterior.predictive(X, num_samples=3, batch_size=2)
    torch.manual_seed(1)
    for targets in found:
        weights = posterior.weights()
        parts = [posterior.model.likelihood(posterior.outputs(weights, part)).sample() for part in X.split(2)]
        assert torch.equal(targets, torch.cat(parts))
    assert not found.requires_grad


def test_targets_have_the_moments_of_the_closed_form():
    torch.manual_seed(0)
    found = linear_posterior().predictive(X, num_samples=DRAWS)
    variance = (SIGMA * X).square() + NOISE**2
    assert found.shape == (DRAWS, 4, 1)
    assert ((found.mean(0) - 2 * X).abs() < 5 * (variance / DRAWS).sqrt()).all()
    torch.testing.assert_close(found.var(0), variance, rtol=5 * math.sqrt(2 / DRAWS), atol=0)


def test_inputs_share_the_weights_and_not_the_noise():
    torch.manual_seed(0)
    draws = linear_posterior().predictive(torch.ones(2, 1), num_samples=DRAWS)[..., 0]
    correlation = draws.T.corrcoef()[0, 1].item()
    assert correlation == pytest.approx(SIGMA**2 / (SIGMA**2 + NOISE**2), abs=0.06)


def test_quantiles_are_those_of_the_closed_form():
    torch.manual_seed(0)
    q, n = (0.05, 0.5, 0.9), DRAWS
    found = linear_posterior().quantiles(X, n, q, batch_size=3)
    target = Normal(2 * X, ((SIGMA * X).square() + NOISE**2).sqrt())
    assert found.shape == (3, 4, 1)
    for level, values in zip(q, found, strict=True):
        expected = target.icdf(torch.tensor(level))
        error = math.sqrt(level * (1 - level) / n) / target.log_prob(expected).exp()
        assert ((values - expected).abs() < 5 * error).all()


def test_one_quantile_has_no_axis_of_its_own():
    assert linear_posterior().quantiles(X, 10, 0.5, batch_size=3).shape == (4, 1)


def test_an_interval_leaves_the_same_probability_out_on_both_sides():
    posterior = linear_posterior()
    torch.manual_seed(3)
    low, high = posterior.interval(X, 500, level=0.8)
    torch.manual_seed(3)
    torch.testing.assert_close(torch.stack([low, high]), posterior.quantiles(X, 500, [0.1, 0.9]))
    assert (low < high).all()


def test_all_batches_of_quantiles_have_the_same_weights_and_their_own_noise():
    torch.manual_seed(0)
    same_input = torch.ones(6, 1)
    found = linear_posterior(Gaussian(1e-7)).quantiles(same_input, 5, 0.5, batch_size=2)
    assert torch.allclose(found, found[:1].expand_as(found), atol=1e-5)
    noisy = certain_posterior(Gaussian(1.0)).quantiles(same_input, 5, 0.5, batch_size=2)
    assert noisy.unique().numel() == 6


def test_a_seed_fixes_the_quantiles():
    found = []
    for _ in range(2):
        torch.manual_seed(4)
        found.append(linear_posterior().quantiles(X, 10, 0.5, batch_size=2))
    assert torch.equal(*found)


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that any operation returns."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        self.largest = max([self.largest, *sizes])
        return found


def test_the_memory_of_quantiles_is_that_of_one_batch():
    """Of 20 draws of 200 inputs, 4,000 numbers, no more than the 400 of one batch exist at once, times 2 for the ends
    of the interval."""
    with LargestTensor() as found:
        linear_posterior().interval(torch.randn(200, 1), 20, batch_size=20)
    assert found.largest <= 2 * 400
    with LargestTensor() as found:
        linear_posterior().predictive(torch.randn(200, 1), 20, batch_size=20)
    assert found.largest == 20 * 200


def test_every_likelihood_has_targets():
    counts = certain_posterior(Poisson).predictive(torch.ones(2000, 1), 5)
    assert counts.mean() == pytest.approx(math.e, rel=0.05)
    assert (counts == counts.round()).all()
    wide = certain_posterior(HeteroscedasticGaussian(), outputs=2).predictive(torch.ones(2000, 1), 5)
    assert wide.shape == (5, 2000, 1)
    assert wide.std() == pytest.approx(math.e, rel=0.05)
    labels = certain_posterior(Categorical, outputs=2).predictive(torch.ones(9, 1), 20)
    assert (labels.shape, labels.dtype) == ((20, 9), torch.int64)


def joint(output):
    return MultivariateNormal(output[:, 0], torch.eye(len(output)))


def test_what_predicts_nothing_is_refused():
    posterior = linear_posterior()
    for call, message in (
        (lambda: posterior.predictive(X, 0), "predictive: num_samples=0 draws for 4 inputs"),
        (lambda: posterior.predictive(X[:0], 1), "num_samples=1 draws for 0 inputs"),
        (lambda: posterior.quantiles(X, 0, 0.5), "quantiles: num_samples=0"),
        (lambda: posterior.interval(X, -1), "num_samples=-1"),
        (lambda: posterior.quantiles(X, 5, 1.0), r"quantiles: 1.0 is not a probability between 0 and 1"),
        (lambda: posterior.quantiles(X, 5, [0.5, 0.0]), r"quantiles: \[0.5, 0.0\] is not"),
        (lambda: posterior.quantiles(X, 5, math.nan), "nan is not"),
        (lambda: posterior.quantiles(X, 5, []), r"\[\] is not"),
        (lambda: posterior.interval(X, 5, level=95), "interval: 95 is not a probability"),
        (lambda: certain_posterior(Categorical, 2).quantiles(torch.ones(9, 1), 5, 0.5), "int64, as of classes"),
        (lambda: linear_posterior(joint).predictive(X, 5), "the first axis must count independent examples"),
        (
            lambda: linear_posterior(lambda output: Independent(Normal(output, 1.0), 2)).predictive(X, 5),
            r"over targets of shape \(4, 1\)",
        ),
        (lambda: linear_posterior(lambda output: Normal(output.sum(), 1.0)).predictive(X, 5), r"of shape \(\)"),
    ):
        with pytest.raises(UserError, match=message):
            call()
