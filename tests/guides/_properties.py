"""Properties of a dropout scheme that several schemes have: a guide's test file picks those of its scheme."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from torch import nn
from torch.distributions import kl_divergence

import pyro_vd
from pyro_vd import AnalyticELBO, LogUniform, Posterior, WeightNormal, guides
from pyro_vd.errors import CheckpointError
from pyro_vd.inference.engine import Objective
from pyro_vd.posteriors import InputNoise

N = 30
PRUNING_N = 200
RELEVANT = 3  # of the eight inputs of the pruning data


class Net(nn.Module):
    """A convolution, a border between feature maps and units, and a linear layer."""

    def __init__(self, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, groups=groups)
        self.fc = nn.Linear(4 * 2 * 2, 3)

    def forward(self, x):
        return self.fc(self.conv(x).tanh().flatten(1))


def made(scheme, prior=None, net=None, n=N, **options):
    module = guides.SCHEMES[scheme]
    model = pyro_vd.lift(net or Net(), prior or module.prior, pyro_vd.Categorical, n)
    return model, module.Guide(model, **options)


def made_dense(scheme, prior=None, **options):
    """A pair over the pruning data."""
    net = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 3))
    return made(scheme, prior, net, PRUNING_N, **options)


def data(n=N):
    x = torch.randn(n, 2, 4, 4)
    return x, (x.flatten(1).sum(1) > 0).long()


def pruning_data():
    x = torch.randn(PRUNING_N, 8, generator=torch.Generator().manual_seed(1))
    return x, x[:, :RELEVANT].argmax(1)


def kl(model, guide):
    return AnalyticELBO().terms(model, guide, *data(6)).kl


def one(log_alpha, prior):
    """KL of one noise variable or weight."""
    return kl_divergence(WeightNormal(torch.tensor(1.0), log_alpha=torch.tensor(log_alpha)), prior)


def largest_log_alpha(guide):
    return max(guide.q(site).log_alpha.max().item() for site in guide.sites)


def assert_refused(scheme, message, **options):
    with pytest.raises(ValueError, match=message):
        made(scheme, **options)


def assert_prior_refused(scheme, prior, message):
    model, guide = made_dense(scheme, prior)
    with pytest.raises(NotImplementedError, match=message):
        AnalyticELBO().terms(model, guide, *pruning_data())


# --- one noise variable per input unit and example (type A)


def assert_one_variable_per_input_unit(scheme):
    _, guide = made(scheme)
    assert isinstance(guide.q("conv.weight"), InputNoise)
    assert guide.q("conv.weight").noise.batch_shape == (2,)
    assert guide.q("fc.weight").noise.batch_shape == (16,)


def assert_one_variable_per_channel_before_flattening(scheme):
    _, guide = made(scheme, channels={"fc.weight": 4})
    q = guide.q("fc.weight")
    assert q.noise.batch_shape == (4,)
    draw = q.rsample() / q.theta
    torch.testing.assert_close(draw, draw[:1, ::4].repeat_interleave(4, 1).expand_as(draw))
    assert "channels={'fc.weight': 4}" in repr(guide)


def assert_grouped_convolutions_refused(scheme):
    with pytest.raises(ValueError, match=r"'conv\.weight' is not the weight of a linear or ungrouped convolution"):
        made(scheme, net=Net(groups=2))


def assert_priors_over_weights_refused(scheme):
    for prior in (dist.Normal(0.0, 1.0), dist.Laplace(0.0, 1.0)):
        with pytest.raises(NotImplementedError, match=r"KL\(InputNoise \|\| (Normal|Laplace)\)"):
            kl(*made(scheme, prior))


# Mutant: the inputs of a transposed convolution counted along its outputs.
def assert_transposed_convolutions(scheme):
    for groups in (1, 2):
        net = nn.Sequential(nn.ConvTranspose2d(2, 6, 3, groups=groups), nn.Flatten(), nn.Linear(6 * 36, 3))
        model, guide = made(scheme, net=net)
        assert guide.q("0.weight").noise.batch_shape == (2,)
        with pyro_vd.local_reparam():
            assert AnalyticELBO().terms(model, guide, *data(6)).loss.isfinite()


def assert_input_noise(scheme):
    """All of the above."""
    assert_one_variable_per_input_unit(scheme)
    assert_one_variable_per_channel_before_flattening(scheme)
    assert_grouped_convolutions_refused(scheme)
    assert_priors_over_weights_refused(scheme)
    assert_transposed_convolutions(scheme)


def assert_kl_counts_noise_variables(scheme):
    """However alpha is shared."""
    for share in ("unit", "layer"):
        model, guide = made(scheme, share=share, init=-1.0, channels={"fc.weight": 4})
        assert guide.log_alpha["fc.weight"].shape == ((4,) if share == "unit" else (1,))
        found, prior = kl(model, guide), guides.SCHEMES[scheme].prior()
        torch.testing.assert_close(found["conv.weight"].detach(), 2 * one(-1.0, prior))
        torch.testing.assert_close(found["fc.weight"].detach(), 4 * one(-1.0, prior))


# --- independent noise on every weight (type B)


# Mutants: shared alpha counted once, alpha shared along the outputs, noise shared with alpha.
def assert_kl_counts_weights(scheme, **options):
    """However alpha is shared."""
    for share, shape in (("weight", (3, 16)), ("unit", (1, 16)), ("layer", (1, 1))):
        model, guide = made(scheme, **options, share=share, init=-1.0)
        assert guide.noise_param["fc.weight"].shape == shape
        prior = guides.SCHEMES[scheme].prior()
        torch.testing.assert_close(kl(model, guide)["fc.weight"].detach(), 48 * one(-1.0, prior))
        assert guide.q("fc.weight").variance.shape == (3, 16)
        draw = guide.q("fc.weight").rsample() / guide.theta["fc.weight"]
        assert draw.unique().numel() == 48
        assert guide.keep_mask("fc.weight", 3.0).shape == (3, 16)


def twins(scheme):
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
def assert_parametrizations_are_related_by_the_jacobian(scheme, estimator):
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


# Mutant: an infinite threshold that masks what has an infinite log_alpha.
def assert_a_mean_that_starts_at_0_can_leave_it(scheme, threshold):
    net = nn.Linear(4, 2)
    nn.init.zeros_(net.bias)
    module = guides.SCHEMES[scheme]
    model = pyro_vd.lift(net, module.prior, pyro_vd.Categorical, 60, select=["weight", "bias"])
    guide = module.Guide(model)
    x = torch.randn(60, 4)
    y = torch.zeros(60, dtype=torch.long)
    pyro_vd.fit(model, guide, (x, y), epochs=2, threshold=threshold, engine="eager", progress=False)
    assert (guide.theta["bias"] != 0).all()


# --- fixed drop probabilities


# Mutants: p for alpha, alpha's square root, log(1/p - 1).
def assert_variance_of_dropout(scheme):
    for p in (0.2, 0.5):
        model, guide = made(scheme, p=p)
        for site in model.priors:
            torch.testing.assert_close(guide.q(site).variance, guide.theta[site] ** 2 * p / (1 - p))
            assert torch.equal(guide.q(site).mean, model.initial[site])
        assert {name.partition(".")[0] for name, _ in guide.named_parameters()} == {"theta"}


def assert_p_by_site_and_p_of_0(scheme):
    _, guide = made(scheme, p={"conv.weight": 0.2, "fc.weight": 0.5})
    for site, p in (("conv.weight", 0.2), ("fc.weight", 0.5)):
        torch.testing.assert_close(guide.q(site).variance, guide.theta[site] ** 2 * p / (1 - p))
    model, guide = made(scheme, p=0.0)
    assert all(guide.q(site).stddev.max() < 1e-4 * guide.theta[site].abs().max() for site in model.priors)
    assert all(value.isfinite() for value in kl(model, guide).values())


# Mutant: a KL that moves theta, which a fixed alpha under the log-uniform prior does not.
def assert_constant_kl(scheme, variables):
    """That of so many noise variables with alpha = 1; none for no KL."""
    total = AnalyticELBO().terms(*made(scheme), *data(6)).weighted_kl
    if not variables:
        assert total == 0
        return
    torch.testing.assert_close(total, variables * one(0.0, LogUniform()))
    assert not total.requires_grad


# Mutant: a site that is masked in training and not in the masks.
def assert_fixed_alpha_above_the_threshold_is_pruned(scheme):
    model, guide = made(scheme, p={"conv.weight": 0.5, "fc.weight": 0.96})
    masks = Posterior(model, guide).masks(3.0)
    assert masks["conv.weight"].all()
    assert not masks["fc.weight"].any()


# --- alpha at most 1


def assert_alpha_at_most_1(scheme, **options):
    """At the start, and after steps that would leave the set by far; the projection leaves what is inside alone."""
    net = Net()
    with torch.no_grad():
        net.fc.weight[0, :8] = torch.tensor([0.0, 1e-30, -1e-30, 1e-5, -1e-5, 1e-3, 1.0, -1.0])
    model, guide = made(scheme, net=net, **options)
    for shift in (None, 30.0, -60.0):
        if shift is not None:
            for name, parameter in guide.named_parameters():
                parameter.data.add_(0.0 if name.startswith("theta") else shift)
            guide.project()
        assert largest_log_alpha(guide) <= 1e-5
        assert all(p.isfinite().all() for p in guide.parameters())
        before = [p.clone() for p in guide.parameters()]
        guide.project()
        for p, q in zip(guide.parameters(), before, strict=True):
            torch.testing.assert_close(p, q)
    assert all(value.isfinite() for value in kl(model, guide).values())


# Mutant: a projection that only fit asks for. Two particles: it comes between two draws of one backward pass.
def assert_stock_svi_stays_inside(scheme, prior=None):
    model, guide = made(scheme, prior)
    training = SVI(model, guide, pyro.optim.Adam({"lr": 0.5}), loss=AnalyticELBO(num_particles=2))
    for _ in range(30):
        with pyro_vd.local_reparam():
            training.step(*data())
    with torch.no_grad():
        guide()
    assert largest_log_alpha(guide) <= 1e-5


# --- pruning, bounds and checkpoints


def assert_irrelevant_inputs_are_pruned(scheme, prior=None):
    """Eight inputs, of which the class depends on three."""
    model, guide = made_dense(scheme, prior)
    posterior = pyro_vd.fit(
        model, guide, pruning_data(), epochs=400, batch_size=PRUNING_N, lr=0.03, engine="eager", progress=False
    )
    masks = posterior.masks(0.0)
    assert masks["0.weight"][:, :RELEVANT].all()
    assert not masks["0.weight"][:, RELEVANT:].any()
    pruned = posterior.mean(masks)
    assert (pruned[0].weight[:, RELEVANT:] == 0).all()
    x, y = pruning_data()
    assert (pruned(x).argmax(1) == y).float().mean() > 0.95


def assert_projection(scheme, names, low, high):
    """What left its bounds comes back to them, and means stay where they are."""
    _, guide = made_dense(scheme)
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


def assert_survives_saving(scheme, tmp_path):
    model, guide = made_dense(scheme)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(torch.randn(parameter.shape))
    Posterior(model, guide).save(tmp_path / "p")
    again = Posterior(*made_dense(scheme)).load(tmp_path / "p")
    x, _ = pruning_data()
    torch.testing.assert_close(again.mean()(x), Posterior(model, guide).mean()(x))


# Mutants: options that a checkpoint does not know, so that a run goes on with others.
def assert_a_checkpoint_of_other_options_is_refused(scheme, first, second, tmp_path):
    fitting = {"epochs": 1, "batch_size": 10, "engine": "eager", "progress": False, "checkpoint": tmp_path / "run"}
    posterior = pyro_vd.fit(*made(scheme, **first), data(), **fitting)
    with pytest.raises(CheckpointError, match=r"made with other arguments.*pair was"):
        pyro_vd.fit(*made(scheme, **second), data(), **{**fitting, "epochs": 2})
    posterior.save(tmp_path / "saved")
    for path in (tmp_path / "saved", tmp_path / "run"):
        Posterior(*made(scheme, **first)).load(path)
        with pytest.raises(CheckpointError, match="of another pair"):
            Posterior(*made(scheme, **second)).load(path)
