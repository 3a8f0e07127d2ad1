"""Posteriors as ArviZ data: every group against what it is defined to be, thinning, files, refusals."""

import math
import random

import arviz
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vd import Bernoulli, Categorical, Gaussian, LogUniform, Posterior, guides, lift
from pyro_vd.data import LabeledImages
from pyro_vd.diagnostics import load, loo, posterior_predictive_check, psis_diagnostic, ranking, save, to_arviz
from pyro_vd.diagnostics._arviz import from_groups
from pyro_vd.diagnostics.arviz_data import _axes_of
from pyro_vd.errors import UserError
from tests.reference.z_test import z_of_mean

SHAPE = (1, 6, 6)


def network():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 4))


def posterior_of(net=None, scheme="sparse", prior=LogUniform, likelihood=Categorical, seed=0, **options):
    torch.manual_seed(seed)
    net = net or network()
    guide = getattr(guides, scheme)
    model = lift(net, prior, likelihood, num_data=1000)
    return Posterior(model, guide.Guide(model, **options))


@pytest.fixture
def data():
    return torch.randn(20, *SHAPE), torch.randint(4, (20,))


def values(found, group, name):
    return torch.from_numpy(np.array(found[group][name].values))


def test_the_groups_and_what_they_are_over(data):
    found = to_arviz(posterior_of(), data, draws=5)
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
    found = to_arviz(posterior, data, draws=3)
    for draw in range(3):
        weights = {site: values(found, "posterior", site)[0, draw] for site in posterior.model.priors}
        with torch.no_grad():
            logits = posterior.model.network(weights).eval()(data[0])
        expected = torch.distributions.Categorical(logits=logits).log_prob(data[1])
        torch.testing.assert_close(values(found, "log_likelihood", "y")[0, draw], expected)


def test_weights_are_drawn_from_the_guide(data):
    posterior = posterior_of(init=-3.0)
    drawn = values(to_arviz(posterior, data, draws=800), "posterior", "4.weight")[0].double()
    q = posterior.guide.q("4.weight")
    assert z_of_mean(drawn, q.mean.detach().double()).abs().max() < 5
    assert z_of_mean((drawn - q.mean.detach()).square(), q.variance.detach().double()).abs().max() < 5.5


def test_predictions_are_drawn_from_the_likelihood(data):
    posterior = posterior_of(init=-3.0)
    found = to_arviz(posterior, data, draws=1000)
    drawn = values(found, "posterior_predictive", "y")[0]
    log_likelihood = values(found, "log_likelihood", "y")[0].double()
    hits = (drawn == data[1]).double()
    assert z_of_mean(hits - log_likelihood.exp(), torch.zeros(20).double()).abs().max() < 5


def test_log_alpha_is_the_posteriors_and_takes_no_memory_per_draw(data):
    chains = [posterior_of(seed=seed) for seed in (0, 1)]
    found = to_arviz(chains, data, draws=50)["posterior"]["log_alpha.4.weight"].values
    for chain, posterior in zip(found, chains, strict=True):
        assert (chain == posterior.log_alpha()["4.weight"].numpy()).all()
    assert found.strides[1] == 0


def test_thinning_takes_some_of_the_same_draws_and_keeps_their_numbers(data):
    posterior = posterior_of()
    whole = to_arviz(posterior, data, draws=4)["posterior"]
    thin = to_arviz(posterior, data, draws=4, weights={"4.weight": ([3, 0], slice(None, None, 20))})["posterior"]
    assert set(thin.data_vars) == {"4.weight", "log_alpha.4.weight"}
    assert thin["4.weight"].coords["4.weight_unit"].values.tolist() == [3, 0]
    assert thin["4.weight"].coords["4.weight_input"].values.tolist() == [0, 20, 40]
    for name in thin.data_vars:
        assert (thin[name].values == whole[name].values[:, :, [3, 0]][..., ::20]).all()
    named = to_arviz(posterior, data, draws=4, weights=["0.weight"])["posterior"]
    assert (named["0.weight"].values == whole["0.weight"].values).all()


def test_restarts_are_chains(data):
    chains = [posterior_of(seed=seed) for seed in (0, 1, 2)]
    together, alone = to_arviz(chains, data, draws=6), to_arviz(chains[0], data, draws=6)
    assert together["posterior"].sizes["chain"] == 3
    for group, name in (("posterior", "4.weight"), ("log_likelihood", "y"), ("posterior_predictive", "y")):
        assert torch.equal(values(together, group, name)[:1], values(alone, group, name))
    means = values(together, "posterior", "4.weight").mean(1)
    assert (means - torch.stack([chain.guide.theta["4.weight"] for chain in chains])).abs().max() < 0.02


def test_a_proper_prior_has_groups_of_its_own(data):
    posterior = posterior_of(prior=dist.Normal(0.0, 0.2))
    found = to_arviz(posterior, data, draws=2, num_prior_samples=500)
    drawn = values(found, "prior", "4.weight")
    assert drawn.shape == (1, 500, 4, 48)
    assert abs(float(drawn.std()) - 0.2) < 0.002
    predicted = values(found, "prior_predictive", "y")
    assert predicted.shape == (1, 500, 20)
    assert set(predicted.unique().tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("scheme", ["none", "bernoulli"])
def test_schemes_without_log_alpha_have_none(scheme, data):
    prior = getattr(guides, scheme).prior
    found = to_arviz(posterior_of(scheme=scheme, prior=prior), data, draws=3)["posterior"]
    assert set(found.data_vars) == {"0.weight", "4.weight"}
    spread = float(np.ptp(found["4.weight"].values, axis=1).max())
    assert (spread > 0) == (scheme == "bernoulli")


@pytest.mark.parametrize(("likelihood", "targets"), [(Gaussian(0.5), torch.randn(9, 4)), (Bernoulli, torch.ones(9, 4))])
def test_targets_of_several_numbers_are_one_observation(likelihood, targets):
    posterior = posterior_of(nn.Linear(3, 4), likelihood=likelihood)
    x = torch.randn(9, 3)
    found = to_arviz(posterior, (x, targets), draws=3)
    assert found["log_likelihood"]["y"].dims == ("chain", "draw", "observation")
    assert found["posterior_predictive"]["y"].dims == ("chain", "draw", "observation", "target_1")
    weight = values(found, "posterior", "weight")[0, 0]
    outputs = x @ weight.T + posterior.model.net.bias.detach()
    expected = likelihood(outputs).log_prob(targets).sum(1)
    torch.testing.assert_close(values(found, "log_likelihood", "y")[0, 0], expected)


@pytest.mark.parametrize(
    ("net", "site", "names"),
    [
        (nn.ConvTranspose2d(2, 3, 3), "weight", ["input", "unit", "row", "column"]),
        (nn.Conv1d(2, 3, 3), "weight", ["unit", "input", "position"]),
        (nn.Sequential(nn.Embedding(5, 4)), "0.weight", ["item", "feature"]),
        (nn.Bilinear(2, 3, 4), "weight", ["axis_0", "axis_1", "axis_2"]),
        (nn.Linear(2, 3), "bias", ["axis_0"]),
    ],
)
def test_axes_are_named_after_what_they_count(net, site, names):
    model = lift(net, LogUniform, Categorical, num_data=5, select=[site])
    posterior = Posterior(model, guides.sparse.Guide(model))
    assert [axis.name for axis in _axes_of(posterior, None)[site]] == [f"{site}_{name}" for name in names]


def test_examples_are_data_too_and_nothing_else_is_touched(data):
    posterior = posterior_of()
    images, labels = torch.randint(256, (20, *SHAPE), dtype=torch.uint8), data[1]
    posterior.model.train()
    state = torch.get_rng_state()
    one = to_arviz(posterior, LabeledImages(images, labels), draws=2, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert posterior.model.net.training
    other = to_arviz(posterior, (images.float() / 255, labels), draws=2, seed=3)
    assert torch.equal(values(one, "log_likelihood", "y"), values(other, "log_likelihood", "y"))
    again = to_arviz(posterior, LabeledImages(images, labels), draws=2, seed=4)
    assert not torch.equal(values(one, "posterior", "4.weight"), values(again, "posterior", "4.weight"))


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto distribution:UserWarning")
def test_arviz_reads_it(data):
    found = to_arviz(posterior_of(), data, draws=100)
    assert np.isfinite(np.array(arviz.summary(found, var_names=["4.weight"])["mean"], dtype=float)).all()
    assert math.isfinite(float(getattr(arviz.loo(found), "elpd_loo", None) or arviz.loo(found).elpd))


def test_files_give_back_what_was_saved(data, tmp_path):
    found = to_arviz(posterior_of(prior=dist.Normal(0.0, 1.0)), data, draws=3, num_prior_samples=2)
    save(found, tmp_path / "new" / "data.nc")
    loaded = load(tmp_path / "new" / "data.nc")
    for group in ("posterior", "posterior_predictive", "log_likelihood", "prior", "observed_data", "constant_data"):
        for name in found[group].data_vars:
            assert loaded[group][name].dims == found[group][name].dims
            assert (loaded[group][name].values == found[group][name].values).all()
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "data.nc"]


def test_a_file_that_cannot_be_written_leaves_what_was_there(data, tmp_path, monkeypatch):
    found = to_arviz(posterior_of(), data, draws=2)
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draws": 0}, "draws=0 has to be at least 1"),
        ({"num_prior_samples": -1}, "num_prior_samples=-1 at least 0"),
        ({"weights": ["fc9.weight"]}, r"no site fc9\.weight; it has 0\.weight, 4\.weight"),
        ({"weights": {"4.weight": ([4],)}}, r"\[4\] does not index the unit axis of '4\.weight'"),
        ({"weights": {"4.weight": (slice(1), 0)}}, "0 does not index the input axis"),
        ({"weights": {"4.weight": (slice(1),) * 3}}, "3 indices for '4.weight', which has 2 axes"),
        ({"num_prior_samples": 1}, "prior of '0.weight' cannot be drawn from.*LogUniform has no samples"),
        ({"memory_gib": 1e-6}, r"thin '4\.weight' by weights="),
        ({"memory_gib": 5e-7, "weights": ["0.weight"]}, "2 draws of 27 weights and 20 targets take"),
        ({"weights": "4.weight"}, "weights='4.weight' is one name"),
        ({"weights": []}, "names no site"),
    ],
)
def test_bad_requests_are_refused(changes, message, data):
    with pytest.raises(UserError, match=message):
        to_arviz(posterior_of(), data, **{"draws": 2, **changes})


def test_bad_data_are_refused(data):
    x, y = data
    for wrong in ((x.numpy(), y.numpy()), (x, y.tolist()), (x, y[0])):
        with pytest.raises(UserError, match=r"two tensors are needed"):
            to_arviz(posterior_of(), wrong)
    for wrong in ((x, y[:3]), (x[:0], y[:0])):
        with pytest.raises(UserError, match="as many of both are needed"):
            to_arviz(posterior_of(), wrong)
    with pytest.raises(UserError, match="no posterior was given"):
        to_arviz([], data)
    with pytest.raises(UserError, match="differ in scheme, prior or sites"):
        to_arviz([posterior_of(), posterior_of(scheme="hierarchical")], data)
    summed = posterior_of(likelihood=lambda logits: dist.Normal(logits.sum(), 1.0))
    with pytest.raises(UserError, match=r"targets have shape \(20,\), the likelihood is of \(\)"):
        to_arviz(summed, data)
    column = posterior_of(nn.Linear(3, 1), likelihood=Gaussian(0.5))
    with pytest.raises(UserError, match=r"targets have shape \(9,\), the likelihood is of \(9, 1\)"):
        to_arviz(column, (torch.randn(9, 3), torch.randn(9)))  # which would broadcast to (9, 9)


@pytest.mark.parametrize("version", ["0.22.0", "2.0.0"])
def test_an_unknown_arviz_is_refused(version, data, monkeypatch):
    monkeypatch.setattr(arviz, "__version__", version)
    with pytest.raises(UserError, match=f"ArviZ {version} is not known here"):
        to_arviz(posterior_of(), data, draws=1)


def one_weight(theta, variance, prior=None, **options):
    """A Gaussian guide over the one weight of a linear network without bias."""
    net = nn.Linear(1, 1, bias=False)
    model = lift(net, prior or dist.Normal(0.0, 2.0), Gaussian(1.0), num_data=4)
    posterior = Posterior(model, guides.sparse.Guide(model, **options))
    with torch.no_grad():
        posterior.guide.theta["weight"].fill_(theta)
        posterior.guide.log_sigma2["weight"].fill_(math.log(variance))
    return posterior


# The posterior of w ~ N(0, 4), y = x w + N(0, 1) at these data: precision 0.25 + 10, mean 11.5 / 10.25.
REGRESSION = torch.tensor([[0.0], [1.0], [0.0], [3.0]]), torch.tensor([[0.5], [-0.5], [1.0], [4.0]])
MEAN, VARIANCE = 11.5 / 10.25, 1 / 10.25


def test_importance_weights_are_joint_over_guide():
    """Of the exact posterior they are all the evidence of the data: N(y; 0, 1 + 4 x x^T)."""
    x, y = REGRESSION
    evidence = torch.distributions.MultivariateNormal(torch.zeros(4), torch.eye(4) + 4 * x @ x.T).log_prob(y[:, 0])
    found = psis_diagnostic(one_weight(MEAN, VARIANCE), REGRESSION, draws=50)
    assert found.log_weights == pytest.approx(float(evidence), abs=1e-4)
    assert found.effective_sample_size == pytest.approx(50, rel=1e-3)


@pytest.mark.parametrize("narrower", [0.75, 0.5, 0.25])
def test_the_tail_of_a_narrow_guide_has_its_known_shape(narrower):
    """For N(m, s v) under N(m, v) the weights' tail has shape 1 - s."""
    found = psis_diagnostic(one_weight(MEAN, narrower * VARIANCE), REGRESSION, draws=4000)
    assert found.pareto_k == pytest.approx(1 - narrower, abs=0.15)


def test_a_wide_guide_has_no_tail_and_fewer_effective_draws():
    found = psis_diagnostic(one_weight(MEAN, 4 * VARIANCE), REGRESSION, draws=2000)
    assert found.pareto_k < 0.2
    # E[w]^2 / E[w^2] of N(m, 4v) under N(m, v) is sqrt(2 * 4 - 1) / 4.
    assert found.effective_sample_size / 2000 == pytest.approx(math.sqrt(7) / 4, abs=0.03)


@pytest.mark.parametrize(("scheme", "prior"), [("bernoulli", None), ("hierarchical", None), ("none", None)])
def test_what_has_no_density_has_no_importance_weights(scheme, prior, data):
    posterior = posterior_of(scheme=scheme, prior=prior or getattr(guides, scheme).prior)
    with pytest.raises(UserError, match=r"'0\.weight' has no density"):
        psis_diagnostic(posterior, data, draws=25)


def test_a_fit_needs_draws(data):
    with pytest.raises(UserError, match="24 draws show no tail"):
        psis_diagnostic(posterior_of(), data, draws=24)


def test_models_are_ranked_by_paired_differences():
    common = 10 * torch.randn(400)
    scores = {"worse": common - 0.1 + 0.01 * torch.randn(400), "better": common, "worst": common - 3.0}
    ranks = ranking(scores)
    assert [rank.name for rank in ranks] == ["better", "worse", "worst"]
    assert (ranks[0].behind, ranks[0].standard_error) == (0, 0)
    assert ranks[1].behind == pytest.approx(40, abs=1)
    assert ranks[1].standard_error == pytest.approx(0.01 * 400**0.5, rel=0.15)  # and not 10 * 20: it is paired
    assert ranks[2].behind == pytest.approx(1200)
    assert ranks[1].elpd == pytest.approx(float(scores["worse"].double().sum()))


@pytest.mark.parametrize(
    "scores",
    [
        {},
        {"a": torch.zeros(3), "b": torch.zeros(4)},
        {"a": torch.zeros(1)},
        {"a": torch.zeros(3, 1), "b": torch.zeros(3, 1)},
        {"a": torch.zeros(())},
    ],
)
def test_a_ranking_needs_the_same_examples(scores):
    with pytest.raises(UserError, match="of the same examples are needed"):
        ranking(scores)


def test_a_score_that_is_nan_has_no_place():
    with pytest.raises(UserError, match="a score of b is NaN"):
        ranking({"a": torch.zeros(3), "b": torch.tensor([0.0, math.nan, 0.0])})


def test_data_that_no_draw_makes_say_nothing_of_the_guide():
    x, y = REGRESSION
    with pytest.raises(UserError, match=r"is NaN, infinite or always 0"):
        psis_diagnostic(one_weight(MEAN, VARIANCE), (x, y + 1e30), draws=25)
    for wrong in ((x, y * math.nan), (x * math.nan, y)):
        with pytest.raises(UserError, match="inputs or targets is NaN"):
            psis_diagnostic(one_weight(MEAN, VARIANCE), wrong, draws=25)


@pytest.mark.parametrize("draws", [to_arviz, psis_diagnostic])
def test_what_draws_takes_a_seed_and_leaves_global_state(draws):
    """The caller's next random numbers are those that they would have been, of torch, numpy and Python."""
    posterior = one_weight(MEAN, VARIANCE)

    def drawn(seed):
        found = draws(posterior, REGRESSION, draws=30, seed=seed)
        return found.log_weights if draws is psis_diagnostic else found["posterior"]["weight"].values

    states = [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]
    first = drawn(5)
    assert [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()] == states
    torch.manual_seed(99)
    assert (drawn(5) == first).all()
    assert not (drawn(6) == first).all()


def test_checks_of_draws_draw_nothing():
    data = conjugate_draws(*REGRESSION, draws=30)
    state = torch.get_rng_state()
    loo(data)
    posterior_predictive_check(data, np.mean)
    ranking({"a": torch.zeros(3)})
    assert torch.equal(torch.get_rng_state(), state)


def conjugate_draws(x, y, draws=4000):
    """ArviZ data of the exact posterior of w ~ N(0, 4), y = x w + N(0, 1)."""
    variance = 1 / float(0.25 + x.square().sum())
    return to_arviz(one_weight(variance * float((x * y).sum()), variance), (x, y), draws=draws)


def test_leave_one_out_is_the_density_of_each_observation_given_the_others():
    x, y = torch.linspace(-1, 1, 12)[:, None], torch.randn(12, 1)
    exact = []
    for i in range(12):
        others = torch.arange(12) != i
        variance = 1 / (0.25 + x[others].square().sum())
        mean = variance * (x[others] * y[others]).sum()
        predictive = torch.distributions.Normal(x[i] * mean, (1 + x[i].square() * variance).sqrt())
        exact.append(predictive.log_prob(y[i]))
    found = loo(conjugate_draws(x, y))
    torch.testing.assert_close(found.log_scores, torch.cat(exact).double(), atol=0.02, rtol=0)
    assert found.elpd == pytest.approx(float(sum(exact)), abs=0.05)
    assert found.unreliable == 0


def test_an_observation_that_holds_the_posterior_alone_makes_leaving_it_out_unreliable():
    x, y = torch.tensor([[0.1], [0.1], [0.1], [30.0]]), torch.tensor([[0.0], [0.2], [-0.1], [60.0]])
    assert loo(conjugate_draws(x, y, draws=1000)).unreliable == 0.25


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # ArviZ 0.23 on pandas 3.1
def test_arviz_compares_models_as_ranking_does_by_left_out_scores():
    x = torch.randn(30, 1)
    y = x + torch.randn(30, 1)
    features = {"straight": x, "constant": torch.ones_like(x), "sine": x.sin()}
    found = {name: conjugate_draws(feature, y, draws=1000) for name, feature in features.items()}
    table = arviz.compare(found)
    ranks = ranking({name: loo(data).log_scores for name, data in found.items()})
    assert [rank.name for rank in ranks] == list(table.index)
    for rank in ranks:
        n = len(y)  # ArviZ divides by n, ranking by n - 1
        row = table.loc[rank.name]
        assert row["elpd_diff"] == pytest.approx(rank.behind, rel=1e-6, abs=1e-6)
        assert row["dse"] == pytest.approx(rank.standard_error * ((n - 1) / n) ** 0.5, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 0.5), (10.0, 0.0), (-10.0, 1.0)])
def test_a_predictive_check_finds_what_the_model_does_not_make(shift, expected):
    x, y = REGRESSION
    data = conjugate_draws(x, y, draws=500)
    center = float((x * MEAN).mean())
    found = posterior_predictive_check(
        data, lambda targets: center + shift if np.array_equal(targets, y[:, 0]) else targets.mean()
    )
    assert found.observed == pytest.approx(center + shift)
    assert found.replicated.shape == (500,)
    # Targets' mean over draws: N(center, 1/4 + v), so center itself is at 1/2, within 5 standard errors.
    assert found.p_value == pytest.approx(expected, abs=0.12)
    assert found.replicated.var() == pytest.approx(0.25 + VARIANCE * float(x.mean()) ** 2, rel=0.3)


@pytest.mark.parametrize("statistic", [lambda _: math.nan, lambda targets: targets])
def test_a_statistic_is_one_number(statistic):
    data = conjugate_draws(*REGRESSION, draws=3)
    with pytest.raises(UserError, match=r"the statistic gave .*one number is needed"):
        posterior_predictive_check(data, statistic)


@pytest.mark.filterwarnings("ignore")  # ArviZ's own, on pandas and matplotlib
def test_targets_in_a_column_are_plotted_as_those_in_a_vector():
    """ArviZ pairs observations with log likelihoods by shape."""
    data = conjugate_draws(*REGRESSION, draws=100)
    for group in ("posterior_predictive", "log_likelihood", "observed_data"):
        assert data[group]["y"].dims[-1:] == ("observation",)
    arviz.plot_loo_pit(data, y="y")
    assert data["observed_data"]["y"].shape == (len(REGRESSION[1]),)


def test_ties_count_half():
    data = conjugate_draws(*REGRESSION, draws=30)
    assert posterior_predictive_check(data, lambda _: 1.0).p_value == 0.5


@pytest.mark.parametrize(
    ("group", "check"),
    [("log_likelihood", loo), ("posterior_predictive", lambda found: posterior_predictive_check(found, np.mean))],
)
def test_checks_name_the_group_that_is_not_there(group, check):
    with pytest.raises(UserError, match=f"no group {group}"):
        check(from_groups({"posterior": {"w": np.zeros((1, 2, 3))}}, {}, {}))
    with pytest.raises(UserError, match=f"no group {group}"):
        check(None)
