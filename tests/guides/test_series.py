"""What sets the schemes apart: where the noise is, how alpha is shared and bounded, what the KL counts."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from torch import nn
from torch.distributions import kl_divergence

import pyro_vd
from pyro_vd import AnalyticELBO, EmpiricalBayes, LogUniform, WeightNormal, checkpoint, guides
from pyro_vd.errors import CheckpointError
from pyro_vd.inference.engine import Objective, trace_objective
from pyro_vd.posteriors import InputNoise
from pyro_vd.priors import Flat

N = 30
FIXED = ["bernoulli", "gaussian_srivastava", "gaussian_wang"]
TYPE_A = ["bernoulli", "gaussian_srivastava", "variational_a", "hierarchical_a"]
LEARNED_A = ["variational_a", "hierarchical_a"]
NEIGHBOURS = ["concrete", "group_normal_jeffreys", "group_horseshoe", "structured_log_normal", "l0"]
TYPE_B = ["sparse", "hierarchical", "variational_b"]


class Net(nn.Module):
    """A convolution, a border between feature maps and units, and a linear layer."""

    def __init__(self, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, groups=groups)
        self.fc = nn.Linear(4 * 2 * 2, 3)

    def forward(self, x):
        return self.fc(self.conv(x).tanh().flatten(1))


def made(scheme, prior=None, net=None, **options):
    module = guides.SCHEMES[scheme]
    model = pyro_vd.lift(net or Net(), prior or module.prior, pyro_vd.Categorical, N)
    return model, module.Guide(model, **options)


def data(n=N):
    x = torch.randn(n, 2, 4, 4)
    return x, (x.flatten(1).sum(1) > 0).long()


def kl(model, guide):
    return AnalyticELBO().terms(model, guide, *data(6)).kl


def one(log_alpha, prior):
    return kl_divergence(WeightNormal(torch.tensor(1.0), log_alpha=torch.tensor(log_alpha)), prior)


# --- where the noise is


@pytest.mark.parametrize("scheme", guides.SCHEMES)
def test_every_scheme_trains_eagerly_and_as_one_graph(scheme):
    """A step of the traced graph is the eager step: same loss, same gradients, for the same noise."""
    model, guide = made(scheme)
    objective, (x, y) = Objective(model, guide, threshold=3.0), data(8)
    beta = torch.tensor(1.0)
    traced = trace_objective(objective, x, y)
    results = []
    for program in (objective, traced):
        objective.zero_grad()
        pyro.set_rng_seed(4)
        loss, *_ = program(x, y, beta)
        loss.backward()
        results.append([loss.detach(), *(p.grad.clone() for p in objective.parameters())])
    for eager, graph in zip(*results, strict=True):
        torch.testing.assert_close(eager, graph)


@pytest.mark.parametrize("scheme", guides.SCHEMES)
def test_every_scheme_learns(scheme):
    """Of 200 points in two halves of the plane, a network under any scheme gets nearly all."""
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0] > 0).long()
    module = guides.SCHEMES[scheme]
    model = pyro_vd.lift(nn.Linear(8, 2), module.prior, pyro_vd.Categorical, 200)
    posterior = pyro_vd.fit(
        model, module.Guide(model), (x, y), epochs=40, lr=0.03, batch_size=50, engine="eager", progress=False
    )
    assert (posterior.mean()(x).argmax(1) == y).float().mean() > 0.95


@pytest.mark.parametrize("scheme", TYPE_A)
def test_type_a_has_one_variable_per_input_unit_and_example(scheme):
    _, guide = made(scheme)
    assert isinstance(guide.q("conv.weight"), InputNoise)
    assert guide.q("conv.weight").noise.batch_shape == (2,)
    assert guide.q("fc.weight").noise.batch_shape == (16,)


@pytest.mark.parametrize("scheme", TYPE_A)
def test_noise_before_flattening_has_one_variable_per_channel(scheme):
    _, guide = made(scheme, channels={"fc.weight": 4})
    q = guide.q("fc.weight")
    assert q.noise.batch_shape == (4,)
    draw = q.rsample() / q.theta
    torch.testing.assert_close(draw, draw[:1, ::4].repeat_interleave(4, 1).expand_as(draw))


# Mutants: p for alpha, alpha's square root, log(1/p - 1).
@pytest.mark.parametrize("scheme", FIXED)
@pytest.mark.parametrize("p", [0.2, 0.5])
def test_fixed_rates_give_the_variance_of_dropout(scheme, p):
    model, guide = made(scheme, p=p)
    for site in model.priors:
        torch.testing.assert_close(guide.q(site).variance, guide.theta[site] ** 2 * p / (1 - p))
        assert torch.equal(guide.q(site).mean, model.initial[site])
    assert {name.partition(".")[0] for name, _ in guide.named_parameters()} == {"theta"}


@pytest.mark.parametrize("scheme", FIXED)
def test_rates_by_site_and_no_rate_at_all(scheme):
    _, guide = made(scheme, p={"conv.weight": 0.2, "fc.weight": 0.5})
    for site, p in (("conv.weight", 0.2), ("fc.weight", 0.5)):
        torch.testing.assert_close(guide.q(site).variance, guide.theta[site] ** 2 * p / (1 - p))
    model, guide = made(scheme, p=0.0)
    assert all(guide.q(site).stddev.max() < 1e-4 * guide.theta[site].abs().max() for site in model.priors)
    assert all(value.isfinite() for value in kl(model, guide).values())


# Mutant: a KL that moves theta, which a fixed alpha under the log-uniform prior does not.
@pytest.mark.parametrize("scheme", FIXED)
def test_the_kl_of_a_fixed_rate_is_constant(scheme):
    model, guide = made(scheme)
    total = AnalyticELBO().terms(model, guide, *data(6)).weighted_kl
    if scheme == "bernoulli":
        assert total == 0
        return
    noise = {"gaussian_srivastava": 2 + 16, "gaussian_wang": 4 * 2 * 9 + 3 * 16}[scheme]
    torch.testing.assert_close(total, noise * one(0.0, LogUniform()))
    assert not total.requires_grad


# --- how alpha is shared, and what the KL counts


@pytest.mark.parametrize("scheme", LEARNED_A)
@pytest.mark.parametrize("share", ["unit", "layer"])
def test_type_a_counts_noise_variables_however_alpha_is_shared(scheme, share):
    model, guide = made(scheme, share=share, init=-1.0, channels={"fc.weight": 4})
    assert guide.log_alpha["fc.weight"].shape == ((4,) if share == "unit" else (1,))
    found, prior = kl(model, guide), guides.SCHEMES[scheme].prior()
    torch.testing.assert_close(found["conv.weight"].detach(), 2 * one(-1.0, prior))
    torch.testing.assert_close(found["fc.weight"].detach(), 4 * one(-1.0, prior))


# Mutants: shared alpha counted once, alpha shared along the outputs, noise shared with alpha.
@pytest.mark.parametrize("scheme", TYPE_B)
@pytest.mark.parametrize(("share", "shape"), [("weight", (3, 16)), ("unit", (1, 16)), ("layer", (1, 1))])
def test_type_b_counts_weights_however_alpha_is_shared(scheme, share, shape):
    parametrization = {} if scheme == "variational_b" else {"parametrization": "log_alpha"}
    model, guide = made(scheme, **parametrization, share=share, init=-1.0)
    assert guide.noise_param["fc.weight"].shape == shape
    prior = guides.SCHEMES[scheme].prior()
    torch.testing.assert_close(kl(model, guide)["fc.weight"].detach(), 48 * one(-1.0, prior))
    assert guide.q("fc.weight").variance.shape == (3, 16)
    draw = guide.q("fc.weight").rsample() / guide.theta["fc.weight"]
    assert draw.unique().numel() == 48
    assert guide.keep_mask("fc.weight", 3.0).shape == (3, 16)


def test_units_go_as_a_whole():
    model, guide = made("hierarchical_a")
    with torch.no_grad():
        guide.log_alpha["conv.weight"].copy_(torch.tensor([-4.0, 4.0]))
    alive = guide.keep_mask("conv.weight", 4.0)  # at the threshold it goes
    assert alive[:, 0].all()
    assert not alive[:, 1].any()
    posterior = pyro_vd.Posterior(model, guide)
    assert posterior.log_alpha()["conv.weight"].shape == (4, 2, 3, 3)
    assert (posterior.mean(posterior.masks(3.0)).conv.weight[:, 1] == 0).all()


# --- how alpha is bounded


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("variational_a", {}),
        ("variational_b", {}),
        ("variational_b", {"share": "layer"}),
    ],
)
def test_variational_dropout_keeps_alpha_at_most_1(scheme, options):
    """At the start, and after steps that would leave the set by far; the projection leaves what is inside alone."""
    net = Net()
    with torch.no_grad():
        net.fc.weight[0, :8] = torch.tensor([0.0, 1e-30, -1e-30, 1e-5, -1e-5, 1e-3, 1.0, -1.0])
    model, guide = made(scheme, net=net, **options)
    for lift in (None, 30.0, -60.0):
        if lift is not None:
            for name, parameter in guide.named_parameters():
                parameter.data.add_(0.0 if name.startswith("theta") else lift)
            guide.project()
        assert largest_log_alpha(guide) <= 1e-5
        assert all(p.isfinite().all() for p in guide.parameters())
        before = [p.clone() for p in guide.parameters()]
        guide.project()
        for p, q in zip(guide.parameters(), before, strict=True):
            torch.testing.assert_close(p, q)
    assert all(value.isfinite() for value in kl(model, guide).values())


@pytest.mark.parametrize("scheme", guides.SCHEMES)
def test_kingmas_cubic_goes_where_alpha_is_bounded_and_nowhere_else(scheme):
    options = {"p": 0.5} if scheme.startswith("gaussian") else {"init": 0.0}
    numbers = {"variational_a": 18, "variational_b": 120, "gaussian_srivastava": 18, "gaussian_wang": 120}
    if scheme in numbers:
        model, guide = made(scheme, LogUniform("kingma"), **options)
        per_variable = numbers[scheme]
        total = sum(value.item() for value in kl(model, guide).values())
        assert total == pytest.approx(per_variable * one(0.0, LogUniform("kingma")).item(), rel=1e-5)
        return
    if scheme in ("none", "bernoulli", *NEIGHBOURS):  # no alpha to be bounded: refused for their own reasons
        with pytest.raises(NotImplementedError, match="LogUniform"):
            kl(*made(scheme, LogUniform("kingma")))
        return
    with pytest.raises(ValueError, match=r"'conv\.weight': LogUniform\('kingma'\) holds for alpha <= 1"):
        made(scheme, LogUniform("kingma"))


def test_a_fit_of_variational_dropout_stays_inside():
    model, guide = made("variational_b", LogUniform("kingma"), init=-2.0)
    pyro_vd.fit(model, guide, data(), epochs=5, lr=0.5, batch_size=10, engine="eager", progress=False)
    assert largest_log_alpha(guide) <= 1e-5


# Mutant: a projection that only fit asks for. Two particles: it comes between two draws of one backward pass.
@pytest.mark.parametrize(("scheme", "prior"), [("variational_a", LogUniform("kingma")), ("variational_b", None)])
def test_stock_svi_stays_inside(scheme, prior):
    model, guide = made(scheme, prior)
    training = SVI(model, guide, pyro.optim.Adam({"lr": 0.5}), loss=AnalyticELBO(num_particles=2))
    for _ in range(30):
        with pyro_vd.local_reparam():
            training.step(*data())
    with torch.no_grad():
        guide()
    assert largest_log_alpha(guide) <= 1e-5


def largest_log_alpha(guide):
    return max(guide.q(site).log_alpha.max().item() for site in guide.sites)


# --- refused by name


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("bernoulli", {"p": 1.0}, r"p = 1.0 at 'conv.weight'.*\[0, 1\)"),
        ("gaussian_wang", {"p": -0.1}, r"p = -0.1"),
        ("gaussian_srivastava", {"p": math.nan}, "p = nan"),
        ("bernoulli", {"p": 1 - 1e-9}, r"p = 0.999999999 at 'conv.weight'.*\[0, 1\)"),
        ("gaussian_wang", {"p": 0.6, "prior": LogUniform("kingma")}, "'kingma'"),
        ("bernoulli", {"channels": {"fc.weight": 4.0}}, "4.0 does not divide"),
        ("bernoulli", {"p": {"fc.weight": 0.5}}, "p names fc.weight; the sites are conv.weight, fc.weight"),
        ("bernoulli", {"channels": {"fc.weight": 5}}, "5 does not divide its 16 inputs"),
        ("bernoulli", {"channels": {"fc.weight": 0}}, "0 does not divide"),
        ("variational_a", {"channels": {"fc2.weight": 4}}, "channels names fc2.weight; the sites are conv.weight"),
        ("variational_a", {"share": "weight"}, "share='weight' is not one of unit, layer"),
        ("hierarchical_a", {"init": 20.5}, "20.5"),
        ("variational_a", {"init": 0.5}, "0.5"),
        ("variational_b", {"init": 0.5}, "0.5"),
        ("sparse", {"share": "channel"}, "share='channel' is not one of weight, unit, layer"),
        ("sparse", {"share": "unit"}, "needs parametrization='log_alpha'"),
    ],
)
def test_bad_options_are_refused(scheme, options, message):
    with pytest.raises(ValueError, match=message):
        made(scheme, **options)


@pytest.mark.parametrize("scheme", TYPE_A)
def test_grouped_convolutions_are_refused_when_the_guide_is_made(scheme):
    with pytest.raises(ValueError, match=r"'conv\.weight' is not the weight of a linear or ungrouped convolution"):
        made(scheme, net=Net(groups=2))


@pytest.mark.parametrize("scheme", TYPE_A)
@pytest.mark.parametrize("prior", [dist.Normal(0.0, 1.0), dist.Laplace(0.0, 1.0)])
def test_priors_over_weights_do_not_fit_input_noise(scheme, prior):
    with pytest.raises(NotImplementedError, match=r"KL\(InputNoise \|\| (Normal|Laplace)\)"):
        kl(*made(scheme, prior))


def test_an_advice_is_one_that_can_be_followed():
    for scheme, prior, advice in (
        ("bernoulli", LogUniform(), "ScaledBernoulli goes with Flat"),
        ("gaussian_srivastava", Flat(), r"N\(1, alpha\) with LogUniform or EmpiricalBayes"),
        ("variational_a", dist.Normal(0.0, 1.0), "is infinite; choose a prior on the noise"),
    ):
        with pytest.raises(NotImplementedError, match=advice):
            kl(*made(scheme, prior))


# Mutant: the inputs of a transposed convolution counted along its outputs.
@pytest.mark.parametrize("scheme", TYPE_A)
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions(scheme, groups):
    net = nn.Sequential(nn.ConvTranspose2d(2, 6, 3, groups=groups), nn.Flatten(), nn.Linear(6 * 36, 3))
    model, guide = made(scheme, net=net)
    assert guide.q("0.weight").noise.batch_shape == (2,)
    with pyro_vd.local_reparam():
        assert AnalyticELBO().terms(model, guide, *data(6)).loss.isfinite()


# Mutants: options that a checkpoint does not know, so that a run goes on with others.
@pytest.mark.parametrize(
    ("scheme", "first", "second"),
    [
        ("bernoulli", {"p": 0.1}, {"p": 0.9}),
        ("gaussian_wang", {"p": 0.1}, {"p": 0.9}),
        ("variational_a", {"share": "layer"}, {"share": "layer", "channels": {"fc.weight": 4}}),
        ("variational_a", {}, {"prior": LogUniform("kingma")}),
    ],
)
def test_a_checkpoint_of_other_options_is_refused(scheme, first, second, tmp_path):
    fitting = {"epochs": 1, "batch_size": 10, "engine": "eager", "progress": False, "checkpoint": tmp_path / "run"}
    posterior = pyro_vd.fit(*made(scheme, **first), data(), **fitting)
    with pytest.raises(CheckpointError, match=r"made with other arguments.*pair was"):
        pyro_vd.fit(*made(scheme, **second), data(), **{**fitting, "epochs": 2})
    posterior.save(tmp_path / "saved")
    for path in (tmp_path / "saved", tmp_path / "run"):
        pyro_vd.Posterior(*made(scheme, **first)).load(path)
        with pytest.raises(CheckpointError, match="of another pair"):
            pyro_vd.Posterior(*made(scheme, **second)).load(path)


# Mutant: a KeyError at a checkpoint from before the pair stood beside the settings.
def test_a_checkpoint_that_names_its_pair_elsewhere_is_refused_by_name(tmp_path):
    fitting = {"epochs": 1, "batch_size": 10, "engine": "eager", "progress": False, "checkpoint": tmp_path / "run"}
    pyro_vd.fit(*made("sparse"), data(), **fitting)
    tensors, meta = checkpoint.load(tmp_path / "run")
    meta["settings"]["pair"] = meta.pop("pair").replace("molchanov", "")
    checkpoint.save(tmp_path / "run", tensors, meta)
    with pytest.raises(CheckpointError, match="its metadata has no 'pair'"):
        pyro_vd.fit(*made("sparse"), data(), **fitting)


# Mutant: a rate that is masked in training and not in the masks.
@pytest.mark.parametrize("scheme", ["gaussian_srivastava", "gaussian_wang"])
def test_a_fixed_rate_above_the_threshold_is_pruned_in_training_and_after_it(scheme):
    model, guide = made(scheme, p={"conv.weight": 0.5, "fc.weight": 0.96})
    masks = pyro_vd.Posterior(model, guide).masks(3.0)
    assert masks["conv.weight"].all()
    assert not masks["fc.weight"].any()


def test_learned_dropout_takes_either_prior_on_its_noise():
    for scheme, prior in (("variational_a", EmpiricalBayes()), ("hierarchical_a", LogUniform("exact"))):
        model, guide = made(scheme, prior, init=-1.0)
        torch.testing.assert_close(kl(model, guide)["conv.weight"].detach(), 2 * one(-1.0, prior))


# --- two parametrizations of one posterior (T22, T23)


def twins(scheme="hierarchical"):
    """The same posterior by log_sigma2 and by log_alpha, in float64."""
    torch.manual_seed(2)
    net = Net().double()
    with torch.no_grad():
        for weight in (net.conv.weight, net.fc.weight):
            weight.copy_(weight.sign() * weight.abs().clamp(min=0.01))
    pairs = [made(scheme, net=net, parametrization=name) for name in ("log_sigma2", "log_alpha")]
    for site in pairs[0][0].priors:
        log_alpha = torch.empty_like(net.get_parameter(site)).uniform_(-6.0, 2.0)
        with torch.no_grad():
            pairs[0][1].noise_param[site].copy_(log_alpha + 2 * net.get_parameter(site).abs().log())
            pairs[1][1].noise_param[site].copy_(log_alpha)
    return pairs


# Mutants: log_sigma for log_sigma2 in either, a chain rule that forgets that the variance moves with theta.
@pytest.mark.parametrize("estimator", ["local", "weights"])
@pytest.mark.parametrize("scheme", ["sparse", "hierarchical"])
def test_parametrisations_give_one_objective_and_gradients_related_by_the_jacobian(scheme, estimator):
    x, y = data(8)
    found = []
    for model, guide in twins(scheme):
        pyro.set_rng_seed(5)
        loss, *_ = Objective(model, guide, estimator)(x.double(), y, torch.tensor(0.7))
        sites = list(model.priors)
        parameters = [guide.theta[s] for s in sites] + [guide.noise_param[s] for s in sites]
        gradients = torch.autograd.grad(loss, parameters)
        found.append((loss.detach(), gradients[: len(sites)], gradients[len(sites) :], guide))
    (additive, d_theta, d_log_sigma2, guide), (multiplicative, d_theta_at_alpha, d_log_alpha, _) = found
    torch.testing.assert_close(additive, multiplicative, rtol=1e-12, atol=0)
    for i, site in enumerate(guide.sites):
        theta = guide.theta[site].detach()
        torch.testing.assert_close(d_log_sigma2[i], d_log_alpha[i], rtol=1e-9, atol=1e-10)
        by_chain_rule = d_theta_at_alpha[i] - 2 * d_log_alpha[i] / theta  # log_alpha = log_sigma2 - 2 log|theta|
        torch.testing.assert_close(d_theta[i], by_chain_rule, rtol=1e-9, atol=1e-9)


def test_masks_in_both_precisions_differ_in_ties_alone():
    (model, guide), _ = twins()
    _, single = made("hierarchical", net=Net())
    for threshold in (-4.0, -1.0, 0.5):
        for site in model.priors:
            with torch.no_grad():
                single.theta[site].copy_(guide.theta[site])
                single.noise_param[site].copy_(guide.noise_param[site])
            tie = (guide.q(site).log_alpha - threshold).abs() < 1e-5
            agree = single.keep_mask(site, threshold) == guide.keep_mask(site, threshold)
            assert (agree | tie).all()
            assert 0.1 < guide.keep_mask(site, threshold).double().mean() < 0.95


# Mutant: an infinite threshold that masks what has an infinite log_alpha.
@pytest.mark.parametrize("scheme", ["sparse", "hierarchical"])
@pytest.mark.parametrize("threshold", [None, math.inf])
def test_a_mean_that_starts_at_0_can_leave_it(scheme, threshold):
    net = nn.Linear(4, 2)
    nn.init.zeros_(net.bias)
    module = guides.SCHEMES[scheme]
    model = pyro_vd.lift(net, module.prior, pyro_vd.Categorical, 60, select=["weight", "bias"])
    guide = module.Guide(model)
    x = torch.randn(60, 4)
    y = torch.zeros(60, dtype=torch.long)
    pyro_vd.fit(model, guide, (x, y), epochs=2, threshold=threshold, engine="eager", progress=False)
    assert (guide.theta["bias"] != 0).all()
