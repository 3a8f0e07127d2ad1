"""Posteriors as ArviZ data: every group against its definition, thinning, chains, refusals."""

import math

import arviz
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_vd
from pyro_vd import Bernoulli, Gaussian, guides, lift
from pyro_vd.data import LabeledImages
from pyro_vd.diagnostics import loo, posterior_predictive_check, psis_diagnostic, to_arviz
from pyro_vd.errors import UserError
from tests.diagnostics._data import REGRESSION, SHAPE, conjugate_draws, posterior_of
from tests.reference.z_test import z_of_mean


def values(found, group, name):
    return torch.from_numpy(np.array(found[group][name].values))


def test_the_groups_and_what_they_are_over(data):
    found = to_arviz(posterior_of(), data, num_samples=5)
    conv = ("0.weight_unit", "0.weight_input", "0.weight_row", "0.weight_column")
    posterior = found["posterior"]
    assert posterior["0.weight"].dims == posterior["log_alpha.0.weight"].dims == ("chain", "draw", *conv)
    assert posterior["4.weight"].dims == ("chain", "draw", "4.weight_unit", "4.weight_input")
    assert set(posterior.data_vars) == {"0.weight", "4.weight", "log_alpha.0.weight", "log_alpha.4.weight"}
    for group in ("posterior_predictive", "log_likelihood"):
        assert found[group]["y"].dims == ("chain", "draw", "observation")
    assert torch.equal(values(found, "observed_data", "y"), data[1])
    assert torch.equal(values(found, "constant_data", "x"), data[0])
    assert not {"prior", "prior_predictive"} & set(found.groups())


def test_a_draws_log_likelihood_is_that_of_its_weights(data):
    """For one weight draw for all observations, without dropout, in nats per observation and not n / 20 of them."""
    posterior = posterior_of(init=-3.0)
    found = to_arviz(posterior, data, num_samples=3)
    for draw in range(3):
        weights = {site: values(found, "posterior", site)[0, draw] for site in posterior.model.priors}
        with torch.no_grad():
            logits = posterior.model.network(weights).eval()(data[0])
        expected = torch.distributions.Categorical(logits=logits).log_prob(data[1])
        torch.testing.assert_close(values(found, "log_likelihood", "y")[0, draw], expected)


def test_weights_are_drawn_from_the_guide(data):
    posterior = posterior_of(init=-3.0)
    drawn = values(to_arviz(posterior, data, num_samples=800), "posterior", "4.weight")[0].double()
    q = posterior.guide.q("4.weight")
    assert z_of_mean(drawn, q.mean.detach().double()).abs().max() < 5
    assert z_of_mean((drawn - q.mean.detach()).square(), q.variance.detach().double()).abs().max() < 5.5


def test_predictions_are_drawn_from_the_likelihood(data):
    posterior = posterior_of(init=-3.0)
    found = to_arviz(posterior, data, num_samples=1000)
    drawn = values(found, "posterior_predictive", "y")[0]
    log_likelihood = values(found, "log_likelihood", "y")[0].double()
    hits = (drawn == data[1]).double()
    assert z_of_mean(hits - log_likelihood.exp(), torch.zeros(20).double()).abs().max() < 5


def test_log_alpha_is_the_posteriors_and_takes_no_memory_per_draw(data):
    chains = [posterior_of(seed=seed) for seed in (0, 1)]
    found = to_arviz(chains, data, num_samples=50)["posterior"]["log_alpha.4.weight"].values
    for chain, posterior in zip(found, chains, strict=True):
        assert (chain == posterior.log_alpha()["4.weight"].numpy()).all()
    assert found.strides[1] == 0


def test_thinning_takes_some_of_the_same_draws_and_keeps_their_numbers(data):
    posterior = posterior_of()
    whole = to_arviz(posterior, data, num_samples=4)["posterior"]
    thin = to_arviz(posterior, data, num_samples=4, weights={"4.weight": ([3, 0], slice(None, None, 20))})["posterior"]
    assert set(thin.data_vars) == {"4.weight", "log_alpha.4.weight"}
    assert thin["4.weight"].coords["4.weight_unit"].values.tolist() == [3, 0]
    assert thin["4.weight"].coords["4.weight_input"].values.tolist() == [0, 20, 40]
    for name in thin.data_vars:
        assert (thin[name].values == whole[name].values[:, :, [3, 0]][..., ::20]).all()
    named = to_arviz(posterior, data, num_samples=4, weights=["0.weight"])["posterior"]
    assert (named["0.weight"].values == whole["0.weight"].values).all()


def test_restarts_are_chains(data):
    chains = [posterior_of(seed=seed) for seed in (0, 1, 2)]
    together, alone = to_arviz(chains, data, num_samples=6), to_arviz(chains[0], data, num_samples=6)
    assert together["posterior"].sizes["chain"] == 3
    for group, name in (("posterior", "4.weight"), ("log_likelihood", "y"), ("posterior_predictive", "y")):
        assert torch.equal(values(together, group, name)[:1], values(alone, group, name))
    means = values(together, "posterior", "4.weight").mean(1)
    assert (means - torch.stack([chain.guide.theta["4.weight"] for chain in chains])).abs().max() < 0.02


def test_a_proper_prior_has_groups_of_its_own(data):
    posterior = posterior_of(prior=dist.Normal(0.0, 0.2))
    found = to_arviz(posterior, data, num_samples=2, num_prior_samples=500)
    drawn = values(found, "prior", "4.weight")
    assert drawn.shape == (1, 500, 4, 48)
    assert abs(float(drawn.std()) - 0.2) < 0.002
    predicted = values(found, "prior_predictive", "y")
    assert predicted.shape == (1, 500, 20)
    assert set(predicted.unique().tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("scheme", ["none", "bernoulli"])
def test_schemes_without_log_alpha_have_none(scheme, data):
    prior = getattr(guides, scheme).prior
    found = to_arviz(posterior_of(scheme=scheme, prior=prior), data, num_samples=3)["posterior"]
    assert set(found.data_vars) == {"0.weight", "4.weight"}
    spread = float(np.ptp(found["4.weight"].values, axis=1).max())
    assert (spread > 0) == (scheme == "bernoulli")


@pytest.mark.parametrize(("likelihood", "targets"), [(Gaussian(0.5), torch.randn(9, 4)), (Bernoulli, torch.ones(9, 4))])
def test_targets_of_several_numbers_are_one_observation(likelihood, targets):
    posterior = posterior_of(nn.Linear(3, 4), likelihood=likelihood)
    x = torch.randn(9, 3)
    found = to_arviz(posterior, (x, targets), num_samples=3)
    assert found["log_likelihood"]["y"].dims == ("chain", "draw", "observation")
    assert found["posterior_predictive"]["y"].dims == ("chain", "draw", "observation", "target_1")
    weight = values(found, "posterior", "weight")[0, 0]
    outputs = x @ weight.T + posterior.model.net.bias.detach()
    expected = likelihood(outputs).log_prob(targets).sum(1)
    torch.testing.assert_close(values(found, "log_likelihood", "y")[0, 0], expected)


def test_examples_are_data_too_and_nothing_else_is_touched(data):
    posterior = posterior_of()
    images, labels = torch.randint(256, (20, *SHAPE), dtype=torch.uint8), data[1]
    posterior.model.train()
    state = torch.get_rng_state()
    one = to_arviz(posterior, LabeledImages(images, labels), num_samples=2, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert posterior.model.net.training
    other = to_arviz(posterior, (images.float() / 255, labels), num_samples=2, seed=3)
    assert torch.equal(values(one, "log_likelihood", "y"), values(other, "log_likelihood", "y"))
    again = to_arviz(posterior, LabeledImages(images, labels), num_samples=2, seed=4)
    assert not torch.equal(values(one, "posterior", "4.weight"), values(again, "posterior", "4.weight"))


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto distribution:UserWarning")
def test_arviz_reads_it(data):
    found = to_arviz(posterior_of(), data, num_samples=100)
    assert np.isfinite(np.array(arviz.summary(found, var_names=["4.weight"])["mean"], dtype=float)).all()
    assert math.isfinite(float(getattr(arviz.loo(found), "elpd_loo", None) or arviz.loo(found).elpd))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_samples": 0}, "num_samples=0 must be at least 1"),
        ({"num_prior_samples": -1}, "num_prior_samples=-1 at least 0"),
        ({"weights": ["fc9.weight"]}, r"no site fc9\.weight; it has 0\.weight, 4\.weight"),
        ({"weights": {"4.weight": ([4],)}}, r"\[4\] does not index the unit axis of '4\.weight'"),
        ({"weights": {"4.weight": (slice(1), 0)}}, "0 does not index the input axis"),
        ({"weights": {"4.weight": (slice(1),) * 3}}, "3 indices for '4.weight', which has 2 axes"),
        ({"num_prior_samples": 1}, "prior of '0.weight' has no samples.*LogUniform has no samples"),
        ({"memory_gib": 1e-6}, r"thin '4\.weight' by weights="),
        ({"memory_gib": 5e-7, "weights": ["0.weight"]}, "2 draws of 27 weights and 20 targets take"),
        ({"weights": "4.weight"}, "weights='4.weight' is one name"),
        ({"weights": []}, "weights is empty; name at least one site"),
    ],
)
def test_bad_requests_are_refused(changes, message, data):
    with pytest.raises(UserError, match=message):
        to_arviz(posterior_of(), data, **{"num_samples": 2, **changes})


@pytest.mark.filterwarnings("ignore")  # ArviZ's own, on pandas and matplotlib
def test_targets_in_a_column_are_plotted_as_those_in_a_vector():
    """ArviZ pairs observations with log likelihoods by shape."""
    data = conjugate_draws(*REGRESSION, num_samples=100)
    for group in ("posterior_predictive", "log_likelihood", "observed_data"):
        assert data[group]["y"].dims[-1:] == ("observation",)
    arviz.plot_loo_pit(data, y="y")
    assert data["observed_data"]["y"].shape == (len(REGRESSION[1]),)


# --- several inputs and targets


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.label, self.size = nn.Linear(3, 2), nn.Linear(2, 1)

    def forward(self, left, right):
        return self.label(left), self.size(right)


def heads(scale):
    model = lift(Heads(), dist.Normal(0.0, 1.0), lambda output: {
        "label": pyro_vd.Categorical(output[0]), "size": pyro_vd.Gaussian(scale)(output[1])
    }, num_data=12)  # fmt: skip
    x = {"left": torch.randn(12, 3), "right": torch.randn(12, 2)}
    y = {"label": torch.arange(12) % 2, "size": torch.randn(12, 1)}
    return pyro_vd.Posterior(model, guides.sparse.Guide(model)), (x, y)


def test_several_targets_are_variables_of_their_own():
    posterior, (x, y) = heads(0.5)
    found = to_arviz(posterior, (x, y), num_samples=30, num_prior_samples=2)
    for group in ("posterior_predictive", "log_likelihood", "observed_data", "prior_predictive"):
        assert list(found[group].data_vars) == ["y.label", "y.size"]
    assert found["constant_data"]["x.left"].dims == ("observation", "left_feature_1")
    assert found["log_likelihood"]["y.size"].dims == ("chain", "draw", "observation")
    weights = {site: torch.from_numpy(found["posterior"][site].values[0, 7]) for site in posterior.model.priors}
    with posterior.model.bound(weights) as net:
        _, mean = net(**x)
    by_hand = dist.Normal(mean, 0.5).log_prob(y["size"])[:, 0].detach().numpy()
    np.testing.assert_allclose(found["log_likelihood"]["y.size"].values[0, 7], by_hand, rtol=1e-4)


def test_leave_one_out_adds_the_targets():
    posterior, data = heads(5.0)
    found = to_arviz(posterior, data, num_samples=100)
    whole = loo(found)
    total = sum(found["log_likelihood"][name].values for name in ("y.label", "y.size"))
    crude = -np.log(np.exp(-total[0]).mean(0))  # importance sampling without smoothing, of a wide likelihood
    np.testing.assert_allclose(whole.log_scores.numpy(), crude, atol=0.2)


def test_a_check_names_its_targets():
    posterior, data = heads(0.5)
    found = to_arviz(posterior, data, num_samples=10)
    assert posterior_predictive_check(found, np.mean, "y.label").observed == 0.5
    with pytest.raises(UserError, match=r"no targets y; give name= of y\.label, y\.size"):
        posterior_predictive_check(found, np.mean)
    assert psis_diagnostic(posterior, data, num_samples=30).log_weights.shape == (30,)
