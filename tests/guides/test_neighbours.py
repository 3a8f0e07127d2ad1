"""Concrete, group, structured and L0 schemes: what they prune, how they are bounded, what they refuse."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_vd
from pyro_vd import AnalyticELBO, EmpiricalBayes, LogUniform, MonteCarloKL, Posterior, guides
from pyro_vd.priors import L0, Flat, GroupHorseshoe, GroupNormalJeffreys, TruncatedLogUniform

N = 200
RELEVANT = 3
PRUNING = {"group_normal_jeffreys": 0.0, "group_horseshoe": 0.0, "structured_log_normal": 0.0, "l0": 0.0}


def made(scheme, prior=None, net=None, **options):
    module = guides.SCHEMES[scheme]
    net = net or nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 3))
    model = pyro_vd.lift(net, prior or module.prior, pyro_vd.Categorical, N)
    return model, module.Guide(model, **options)


def data():
    x = torch.randn(N, 8, generator=torch.Generator().manual_seed(1))
    return x, x[:, :RELEVANT].argmax(1)


@pytest.mark.parametrize("scheme", PRUNING)
def test_inputs_without_a_meaning_are_pruned_and_the_others_are_not(scheme):
    """Eight inputs, of which the class depends on three."""
    model, guide = made(scheme, L0(2.0) if scheme == "l0" else None)
    posterior = pyro_vd.fit(model, guide, data(), epochs=400, batch_size=N, lr=0.03, engine="eager", progress=False)
    kept = posterior.masks(PRUNING[scheme])["0.weight"]
    assert kept[:, :RELEVANT].all()
    assert not kept[:, RELEVANT:].any()
    pruned = posterior.mean(posterior.masks(PRUNING[scheme]))
    assert (pruned[0].weight[:, RELEVANT:] == 0).all()
    x, y = data()
    assert (pruned(x).argmax(1) == y).float().mean() > 0.95


def test_concrete_dropout_learns_a_rate_that_follows_the_need_for_regularisation():
    """Clear labels push the rate of the inputs down; random ones leave less to keep. The hidden units' says nothing: it
    depends on the order of the examples which way it goes."""
    x, y = data()
    rates = []
    for labels in (y, torch.randint(3, (N,), generator=torch.Generator().manual_seed(2))):
        model, guide = made("concrete", init=0.3)
        pyro_vd.fit(model, guide, (x, labels), epochs=200, batch_size=N, lr=0.03, engine="eager", progress=False)
        rates.append(guide.noise("0.weight").p[0].item())
    assert rates[1] > 2 * rates[0]


def test_group_horseshoe_prunes_by_the_mode_of_the_scale():
    _, guide = made("group_horseshoe")
    with torch.no_grad():
        guide.z_gamma_mu["0.weight"].copy_(torch.linspace(-12, 2, 8))
    log_mode = guide.noise("0.weight").log_mode
    threshold = -log_mode[3].item()  # at the threshold it goes
    alive = guide.keep_mask("0.weight", threshold)
    assert alive.shape == (12, 8)
    assert alive[0].tolist() == [False] * 4 + [True] * 4
    assert (alive == alive[:1]).all()


def test_group_horseshoe_starts_at_scale_1_whatever_tau0():
    for tau0 in (1e-5, 1.0):
        _, guide = made("group_horseshoe", GroupHorseshoe(tau0))
        torch.testing.assert_close(guide.noise("0.weight").mu, torch.zeros(8), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("scheme", "names", "low", "high"),
    [
        ("concrete", ["logit_p"], -12, 12),
        ("l0", ["location"], -math.log(100), math.log(100)),
        ("structured_log_normal", ["mu"], -20, 0),
        ("structured_log_normal", ["log_sigma"], -20, 5),
        ("group_normal_jeffreys", ["log_sigma2", "z_log_sigma2"], -20, 4),
        ("group_horseshoe", ["log_sigma2", "z_gamma_log_sigma2", "s_inverse_log_sigma2"], -20, 4),
    ],
)
def test_projection(scheme, names, low, high):
    """What left its bounds comes back to them, and means stay where they are."""
    _, guide = made(scheme)
    theta = {site: value.clone() for site, value in guide.theta.named_parameters()}
    for name in names:
        for value, bound in ((100.0, high), (-100.0, low)):
            parameters = list(getattr(guide, name).parameters())
            with torch.no_grad():
                for parameter in parameters:
                    parameter.fill_(value)
            guide.project()
            assert all((parameter - bound).abs().max() < 1e-6 for parameter in parameters)
    assert all(torch.equal(theta[site], value) for site, value in guide.theta.named_parameters())


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("concrete", {"init": 0.0}, r"init=0.0 must be in \(0, 1\)"),
        ("concrete", {"init": 1.0}, r"init=1.0 must be in \(0, 1\)"),
        ("concrete", {"temperature": 0.0}, "temperature=0.0 above 0"),
        ("concrete", {"share": "weight"}, "share='weight' is not one of unit, layer"),
        ("l0", {"init": 0.9}, r"init=0.9 is the gates' drop probability: it must be in \(0, 0.9\)"),
        ("group_normal_jeffreys", {"channels": {"0.weight": 3}}, "does not divide its 8 inputs"),
        ("group_horseshoe", {"channels": {"3.weight": 3}}, "the sites are 0.weight, 2.weight"),
    ],
)
def test_bad_options_are_refused(scheme, options, message):
    with pytest.raises(ValueError, match=message):
        made(scheme, **options)


def test_concrete_dropout_refuses_a_prior_that_is_not_centred():
    with pytest.raises(ValueError, match=r"'0\.weight': concrete dropout needs a prior of mean 0"):
        made("concrete", dist.Normal(0.1, 1.0))


@pytest.mark.parametrize("make", [lambda: GroupHorseshoe(0.0), lambda: GroupHorseshoe(math.inf), lambda: L0(-1.0)])
def test_priors_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"GroupHorseshoe\(tau0=|L0\(cost="):
        make()


# Mutant: a KL of the scales alone where the prior is over weights.
@pytest.mark.parametrize(
    ("scheme", "prior", "message"),
    [
        ("concrete", LogUniform(), "ScaledConcrete with Normal"),
        ("concrete", Flat(), "ScaledConcrete with Normal"),
        ("l0", EmpiricalBayes(), "HardConcrete with L0"),
        ("structured_log_normal", LogUniform(), "TruncatedLogNormal with TruncatedLogUniform"),
        ("structured_log_normal", L0(), "noise TruncatedLogNormal on the inputs does not go with this L0: .*HardConcrete with L0"),
        ("bernoulli", TruncatedLogUniform(), "ScaledBernoulli goes with Flat"),
        ("variational_a", MonteCarloKL(dist.StudentT(3.0)), "infinite"),
        ("l0", dist.Normal(0.0, 1.0), "infinite"),
        ("sparse", EmpiricalBayes("unit"), None),
        ("hierarchical_a", EmpiricalBayes("layer"), None),
        ("hierarchical_a", EmpiricalBayes("unit"), "two dimensions or more"),
        ("group_normal_jeffreys", LogUniform(), "do not go with LogUniform"),
        ("group_normal_jeffreys", EmpiricalBayes(), "do not go with EmpiricalBayes"),
        ("group_normal_jeffreys", dist.Normal(0.0, 1.0), "do not go with Normal"),
        ("group_normal_jeffreys", GroupHorseshoe(), "WeightNormal scales do not go with GroupHorseshoe: .*GroupHorseshoe for log-normal scales"),
        ("group_horseshoe", GroupNormalJeffreys(), "LogNormalScale scales do not go with GroupNormalJeffreys: .*GroupNormalJeffreys for Gaussian scales"),
        ("sparse", GroupNormalJeffreys(), "no registered KL"),
        ("sparse", L0(), "no registered KL"),
        ("sparse", dist.StudentT(3.0), "no registered KL"),
    ],
)
def test_a_prior_fits_or_is_refused_by_name(scheme, prior, message):
    model, guide = made(scheme, prior)
    x, y = data()
    if message is None:
        assert AnalyticELBO().terms(model, guide, x, y).weighted_kl.isfinite()
        return
    with pytest.raises(NotImplementedError, match=message):
        AnalyticELBO().terms(model, guide, x, y)


@pytest.mark.parametrize("scheme", ["concrete", "group_normal_jeffreys", "group_horseshoe", "l0"])
def test_a_posterior_survives_saving(scheme, tmp_path):
    model, guide = made(scheme)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(torch.randn(parameter.shape))
    Posterior(model, guide).save(tmp_path / "p")
    again = Posterior(*made(scheme)).load(tmp_path / "p")
    x, _ = data()
    torch.testing.assert_close(again.mean()(x), Posterior(model, guide).mean()(x))
