"""fit on tiny networks: what is trained, what decides it, and what is refused at once."""

import inspect

import pytest
import torch

from pyro_vd import Posterior, guides
from pyro_vd.errors import UserError
from pyro_vd.handlers import NoLocalRule
from pyro_vd.metrics import error_rate
from pyro_vd.posteriors import WeightNormal
from tests._asserts import floating, same, untimed, values
from tests._pairs import STEPS, N, examples, fresh, pair, train


def test_an_unknown_engine_is_refused():
    with pytest.raises(UserError, match="auto, eager, compiled, cudagraph"):
        fresh(engine="fast")


@pytest.mark.parametrize("scheme", list(guides.SCHEMES))
@pytest.mark.parametrize("estimator", ["local", "flipout", "weights"])
def test_every_scheme_learns(scheme, estimator):
    if estimator == "flipout" and scheme.startswith("group"):
        with pytest.raises(NoLocalRule, match="GroupScale"):
            train(*pair(scheme), epochs=1, estimator=estimator)
        return
    rate = {"p": 0.1} if "p" in inspect.signature(guides.SCHEMES[scheme].Guide).parameters else {}  # few inputs to drop
    posterior = train(*pair(scheme, **rate), epochs=12, lr=0.1, estimator=estimator, kl_schedule=lambda _: 0.01)
    losses = [row["loss"] for row in posterior.history]
    assert losses[-1] < 0.5 * losses[0]
    x, y = examples()
    assert error_rate(posterior.mean()(x), y) < 0.05


@pytest.mark.parametrize("parametrization", ["log_sigma2", "log_alpha"])
def test_everything_is_trained(parametrization):
    """Means, rates and the point parameters: kills an optimizer that misses one of the pair's two modules."""
    model, guide = pair(parametrization=parametrization)
    before = values(Posterior(model, guide))
    after = values(train(model, guide, epochs=1))
    assert before.keys() == after.keys()
    assert len(floating(before)) == 6
    for name, value in floating(before).items():
        assert not torch.equal(value, after[name]), name


def test_local_draws_no_weights_and_sampling_does(monkeypatch):
    drawn = []
    rsample = WeightNormal.rsample
    monkeypatch.setattr(WeightNormal, "rsample", lambda self, *args: (drawn.append(1), rsample(self, *args))[1])
    fresh(epochs=1)
    assert drawn == []
    fresh(epochs=1, estimator="weights")
    assert len(drawn) == 2 * (STEPS + 1)  # and once before them, by preflight


def test_seeds_decide_everything_whatever_the_generator_held():
    first = fresh(seed=3)
    model, guide = pair()
    torch.manual_seed(999)
    second = train(model, guide, seed=3)
    assert same(values(first), values(second))
    assert untimed(first.history) == untimed(second.history)
    assert not same(values(first), values(fresh(seed=4)))


def test_a_seed_changes_noise_and_order_alike():
    """Without noise only the order is left, and it follows the seed too."""
    assert not same(values(fresh(scheme="none", seed=0)), values(fresh(scheme="none", seed=1)))
    whole = {"batch_size": N}  # one batch: no order, only noise
    first, second = (fresh(seed=seed, **whole).history[0]["loss"] for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize(("parametrization", "low", "high"), [("log_sigma2", -20.0, 4.0), ("log_alpha", -20.0, 20.0)])
@pytest.mark.parametrize("beta", [0.0, 100.0])
def test_rates_stay_within_their_bounds(parametrization, low, high, beta):
    """At a rate that would leave them at once; beta 0 shrinks the noise, a large beta grows it."""
    model, guide = pair(parametrization=parametrization)
    posterior = train(model, guide, epochs=5, lr_scale={parametrization: 1000.0}, kl_schedule=lambda _: beta)
    rates = torch.cat([value.flatten() for name, value in values(posterior).items() if parametrization in name])
    assert rates.min() >= low
    assert rates.max() <= high
    assert ((rates == low) | (rates == high)).any()


def test_models_of_one_process_do_not_share_parameters():
    """Pyro's parameter store is global and keyed by name."""
    first = fresh()
    before = values(first)
    fresh(seed=9)
    assert same(before, values(first))


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_that_pytorch_does_not_take_is_refused(seed):
    with pytest.raises(UserError, match=f"fit: seed={seed} must be from"):
        fresh(seed=seed)
