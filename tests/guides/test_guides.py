"""What every scheme promises, one test for all of guides.SCHEMES."""

import copy
import gc
import inspect

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import nn

import pyro_vd
from pyro_vd import LogUniform, guides
from pyro_vd.guides._input_noise import InputNoiseGuide
from pyro_vd.inference.engine import Objective, trace_objective
from pyro_vd.model.weight_guide import WeightGuide
from tests.guides import _properties as properties

SCHEMES = list(guides.SCHEMES)
NOISY = [
    name for name, scheme in guides.SCHEMES.items() if "parametrization" in inspect.signature(scheme.Guide).parameters
]
ARGUMENTS = ["p", "parametrization", "share", "temperature", "init", "channels", "masks"]
NEIGHBORS = ["concrete", "group_normal_jeffreys", "group_horseshoe", "structured_log_normal", "l0"]
ALIASES = {"ard": "hierarchical"}
PARAMETRIZATIONS = ["log_sigma2", "log_alpha"]
BOUNDS = {"log_sigma2": (-20.0, 4.0), "log_alpha": (-20.0, 20.0)}

every_scheme = pytest.mark.parametrize("scheme", SCHEMES)
every_parametrization = pytest.mark.parametrize(
    ("scheme", "options"),
    [(name, {}) for name in SCHEMES if name not in NOISY]
    + [(name, {"parametrization": p}) for name in NOISY for p in PARAMETRIZATIONS],
)


def lifted(scheme, n=20):
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    return pyro_vd.lift(net, guides.SCHEMES[scheme].prior, pyro_vd.Categorical, n)


def made(scheme, **options):
    model = lifted(scheme)
    return model, guides.SCHEMES[scheme].Guide(model, **options)


def batch(n=20):
    x = torch.randn(n, 4)
    return x, x[:, :3].argmax(-1)


def svi(model, guide, lr=0.05):
    return SVI(model, guide, pyro.optim.Adam({"lr": lr}), loss=TraceMeanField_ELBO())


def values(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


# Mutant: a scheme added without its line in SCHEMES, or without a docstring for the generated table.
@every_scheme
def test_a_scheme_is_exported_documented_and_complete(scheme):
    module = guides.SCHEMES[scheme]
    assert getattr(guides, scheme) is module
    assert module.__name__ == f"pyro_vd.guides.{ALIASES.get(scheme, scheme)}"
    assert set(module.__all__) == {"Guide", "defaults", "prior"}
    assert issubclass(module.Guide, WeightGuide)
    assert inspect.isabstract(module.Guide) is False
    for owner in (module, module.Guide):
        assert owner.__doc__
        assert owner.__doc__.strip()
    assert module.Guide.__doc__ != WeightGuide.__doc__
    prior = module.prior() if inspect.isclass(module.prior) else module.prior
    assert isinstance(prior, torch.distributions.Distribution)


@every_parametrization
def test_the_scheme_goes_with_its_prior(scheme, options):
    """Its q and its prior have a registered KL, finite, non-negative, of one number per site."""
    model, guide = made(scheme, **options)
    terms = pyro_vd.AnalyticELBO().terms(model, guide, *batch())
    assert list(terms.kl) == list(model.priors)
    for kl in terms.kl.values():
        assert kl.shape == ()
        assert kl.isfinite()
        assert kl >= 0


# Mutants: parameters made in forward, so that an optimizer built before the first call misses them.
@every_parametrization
def test_parameters_are_eager(scheme, options):
    model, guide = made(scheme, **options)
    before = {name: id(p) for name, p in guide.named_parameters()}
    assert before
    assert not len(pyro.get_param_store())
    for site, weight in model.initial.items():
        theta = guide.get_parameter(f"theta.{site}")
        torch.testing.assert_close(guide.q(site).mean, weight)  # theta itself where the noise has mean 1
        assert theta.data_ptr() != weight.data_ptr()
        assert guide.q(site).batch_shape == weight.shape
    guide(*batch())
    guide()
    assert {name: id(p) for name, p in guide.named_parameters()} == before
    assert all(p.requires_grad for p in guide.parameters())


# Mutants: sites of other names or another order, values of another shape, q drawn twice.
@every_parametrization
def test_sites_match_the_model(scheme, options):
    model, guide = made(scheme, **options)
    trace = pyro.poutine.trace(guide).get_trace(*batch())
    drawn = {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}
    assert list(drawn) == list(model.priors)
    for name, site in drawn.items():
        assert site["value"].shape == site["fn"].event_shape == model.initial[name].shape


# Mutants: non-persistent parameters, parameters that depend on the order of creation.
@every_parametrization
def test_state_dict_goes_into_a_fresh_object_and_back(scheme, options):
    model, guide = made(scheme, **options)
    svi(model, guide).step(*batch())
    fresh_model, fresh = made(scheme, **options)
    assert fresh.state_dict().keys() == guide.state_dict().keys()
    fresh.load_state_dict(guide.state_dict())
    fresh_model.load_state_dict(model.state_dict())
    x, y = batch()
    losses = []
    for pair in ((model, guide), (fresh_model, fresh)):
        pyro.set_rng_seed(3)
        losses.append(pyro_vd.AnalyticELBO().loss(*pair, x, y))
    assert losses[0] == losses[1]
    svi(fresh_model, fresh).step(x, y)
    guide.load_state_dict(fresh.state_dict())
    assert all(torch.equal(p, q) for p, q in zip(guide.parameters(), fresh.parameters(), strict=True))


# Mutant: the store keeps the parameter that load_state_dict(assign=True) replaced, and SVI trains that.
@every_scheme
def test_svi_trains_what_the_module_holds_after_assign(scheme):
    model, guide = made(scheme)
    training, data = svi(model, guide), batch()
    training.step(*data)
    guide.load_state_dict({name: v.clone() for name, v in guide.state_dict().items()}, assign=True)
    before = values(guide)
    training.step(*data)
    assert all(not torch.equal(p, before[name]) for name, p in guide.named_parameters())


# Mutant: names in the parameter store that two objects of one class share.
@every_parametrization
def test_two_pairs_share_no_parameters(scheme, options):
    pairs = [made(scheme, **options) for _ in range(2)]
    runs, data = [svi(*pair) for pair in pairs], batch()
    runs[1].step(*data)
    before = [values(module) for module in pairs[1]]
    for _ in range(3):
        runs[0].step(*data)
    for module, then in zip(pairs[1], before, strict=True):
        assert all(torch.equal(p, then[name]) for name, p in module.named_parameters())
    for module in pairs[0]:
        assert all(p.grad is not None for p in module.parameters())


# Mutants: a copy that keeps its store name: training one moves the other.
@every_scheme
def test_a_copy_has_a_store_name_of_its_own(scheme):
    model, guide = made(scheme)
    data = batch()
    svi(model, guide).step(*data)
    twin_model, twin = copy.deepcopy((model, guide))
    assert twin._store_name != guide._store_name
    assert twin_model._store_name != model._store_name
    before = values(guide) | values(model)
    svi(twin_model, twin).step(*data)
    assert all(torch.equal(v, (values(guide) | values(model))[name]) for name, v in before.items())
    assert any(not torch.equal(p, before[name]) for name, p in twin.named_parameters())
    del twin, twin_model
    gc.collect()
    owners = {key.split("$$$")[0] for key in pyro.get_param_store().keys()}  # noqa: SIM118
    assert owners == {guide._store_name, model._store_name}


# Mutants: a store that grows with every pair of a sweep, or loses another pair's entries.
@every_scheme
def test_the_store_is_empty_when_the_pairs_are_gone(scheme):
    data = batch()
    for _ in range(3):
        model, guide = made(scheme)
        svi(model, guide).step(*data)
    gc.collect()
    assert {key.split("$$$")[0] for key in pyro.get_param_store().keys()} == {model._store_name, guide._store_name}  # noqa: SIM118
    del model, guide
    gc.collect()
    assert not len(pyro.get_param_store())


# Mutants: another default, the init ignored, the rate of one site shared with another.
@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@pytest.mark.parametrize("scheme", NOISY)
def test_the_rate_starts_where_asked(scheme, parametrization):
    model = lifted(scheme)
    default = guides.SCHEMES[scheme].Guide(model, parametrization=parametrization)
    given = guides.SCHEMES[scheme].Guide(model, parametrization=parametrization, init=-5.0)
    assert -10.0 <= next(default.noise_param.parameters()).unique().item() <= -8.0
    for site in model.priors:
        assert (getattr(given.q(site), parametrization) == -5.0).all()
    for edge in BOUNDS[parametrization]:
        guides.SCHEMES[scheme].Guide(model, parametrization=parametrization, init=edge)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parametrization": "log_sigma"}, "log_sigma.*log_sigma2.*log_alpha"),
        ({"parametrization": None}, "None"),
        ({"init": 4.1}, "4.1"),
        ({"init": -20.5}, "-20.5"),
        ({"init": float("nan")}, "nan"),
        ({"init": float("inf")}, "inf"),
        ({"parametrization": "log_alpha", "init": 21.0}, "21"),
    ],
)
@pytest.mark.parametrize("scheme", NOISY)
def test_bad_options_are_refused(scheme, options, message):
    with pytest.raises(ValueError, match=message):
        made(scheme, **options)


# Mutant: one name for both parametrizations: a checkpoint of one would load into the other, silently.
@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@pytest.mark.parametrize("scheme", NOISY)
def test_parameter_names_hold_the_parametrization(scheme, parametrization):
    model, guide = made(scheme, parametrization=parametrization)
    expected = {f"{kind}.{site}" for kind in ("theta", parametrization) for site in model.priors}
    started = {f"started.{site}" for site in guide.started}
    assert {name for name, _ in guide.named_parameters()} == set(guide.state_dict()) - started == expected
    other = made(scheme, parametrization=next(p for p in PARAMETRIZATIONS if p != parametrization))[1]
    with pytest.raises(RuntimeError, match="log_alpha"):
        other.load_state_dict(guide.state_dict())


# Mutants: a clamp in the forward pass (zero gradient outside), theta projected too, bounds swapped.
@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@pytest.mark.parametrize("scheme", NOISY)
def test_projection_puts_the_rate_back_and_nothing_else(scheme, parametrization):
    model, guide = made(scheme, parametrization=parametrization)
    low, high = BOUNDS[parametrization]
    with torch.no_grad():
        for p in guide.noise_param.parameters():
            p.copy_(torch.linspace(low - 3, high + 3, p.numel()).reshape(p.shape))
        for p in guide.theta.parameters():
            p.mul_(1e3)
    theta = values(guide.theta)
    wanted = {name: p.clamp(low, high) for name, p in values(guide.noise_param).items()}
    terms = pyro_vd.AnalyticELBO().terms(model, guide, *batch())
    terms.weighted_kl.backward()
    assert all(p.grad.isfinite().all() for p in guide.noise_param.parameters())
    guide.project()
    assert all(torch.equal(p, wanted[name]) for name, p in guide.noise_param.named_parameters())
    assert all(torch.equal(p, theta[name]) for name, p in guide.theta.named_parameters())
    assert all(p.requires_grad for p in guide.parameters())


# Mutant: fit stepping without the projection.
@pytest.mark.parametrize("scheme", NOISY)
def test_the_bounds_hold_after_a_step_of_fit(scheme):
    model, guide = made(scheme, init=4.0)
    x, y = batch()
    pyro_vd.fit(model, guide, (x, y), epochs=1, lr=10.0, batch_size=20, progress=False, engine="eager")
    for p in guide.noise_param.parameters():
        assert p.min() >= -20.0
        assert p.max() <= 4.0
    guide.project()  # and every scheme has one
    for name in SCHEMES:
        made(name)[1].project()


# Mutants: <= for <, a weight with mean 0 kept, a mask of another shape.
@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@pytest.mark.parametrize("scheme", NOISY)
def test_alive_is_log_alpha_below_the_threshold(scheme, parametrization):
    model, guide = made(scheme, parametrization=parametrization)
    site = next(iter(model.priors))
    log_alpha = torch.linspace(-6.0, 6.0, guide.theta[site].numel()).reshape(guide.theta[site].shape)
    with torch.no_grad():
        guide.noise_param[site].copy_(
            log_alpha if parametrization == "log_alpha" else log_alpha + 2 * guide.theta[site].abs().log()
        )
        if parametrization == "log_sigma2":
            guide.theta[site][0, 0] = 0.0
    expected = log_alpha < 3.0
    if parametrization == "log_sigma2":
        expected[0, 0] = False
    alive = guide.keep_mask(site, 3.0)
    assert alive.dtype == torch.bool
    assert torch.equal(alive, expected)


# Mutant: <= for <, which shows in ties alone.
@pytest.mark.parametrize("scheme", NOISY)
def test_a_weight_at_the_threshold_goes(scheme):
    model, guide = made(scheme, parametrization="log_alpha", init=3.0)
    for site in model.priors:
        assert not guide.keep_mask(site, 3.0).any()
        assert guide.keep_mask(site, 3.0 + 1e-5).all()


# Mutants: plain parameters that SVI never sees (the loss stays), the rate detached.
@every_parametrization
def test_both_parametrizations_train_under_stock_svi(scheme, options):
    model, guide = made(scheme, **options)
    before, data = values(guide) | values(model), batch()
    training = svi(model, guide)
    losses = [training.step(*data) for _ in range(60)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    after = values(guide) | values(model)
    assert all(not torch.equal(after[name], v) for name, v in before.items())
    assert all(v.isfinite().all() for v in after.values())


# Mutant: float32 noise under a float64 network.
@every_parametrization
def test_dtype_follows_the_network(scheme, options):
    net = nn.Linear(4, 3).double()
    model = pyro_vd.lift(net, guides.SCHEMES[scheme].prior, pyro_vd.Categorical, 20)
    guide = guides.SCHEMES[scheme].Guide(model, **options)
    assert all(p.dtype == torch.float64 for p in guide.parameters())
    x, y = batch()
    assert pyro_vd.AnalyticELBO().terms(model, guide, x.double(), y).loss.dtype == torch.float64


# Mutant: a guide that reads the lifted weights of the default selection only.
@every_scheme
def test_biases_and_scalars_may_be_sites(scheme):
    """Unless the scheme's noise belongs to input units, which they have none of."""
    model = pyro_vd.lift(
        nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
        dist.Normal(0.0, 1.0),
        pyro_vd.Categorical,
        20,
        lambda *_: True,
    )
    if issubclass(guides.SCHEMES[scheme].Guide, InputNoiseGuide):
        with pytest.raises(ValueError, match=r"'0\.bias' is not the weight of a linear"):
            guides.SCHEMES[scheme].Guide(model)
        return
    guide = guides.SCHEMES[scheme].Guide(model)
    out = pyro.poutine.replay(model, trace=pyro.poutine.trace(guide).get_trace())(batch()[0])
    assert out.shape == (20, 3)


@every_scheme
def test_every_scheme_trains_eagerly_and_as_one_graph(scheme):
    """A step of the traced graph is the eager step: same loss, same gradients, for the same noise."""
    model, guide = properties.made(scheme)
    objective, (x, y) = Objective(model, guide, threshold=3.0), properties.data(8)
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


@every_scheme
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


@every_scheme
def test_kingmas_cubic_goes_where_alpha_is_bounded_and_nowhere_else(scheme):
    options = {"p": 0.5} if scheme.startswith("gaussian") else {"init": 0.0}
    numbers = {"variational_a": 18, "variational_b": 120, "gaussian_srivastava": 18, "gaussian_wang": 120}
    if scheme in numbers:
        model, guide = properties.made(scheme, LogUniform("kingma"), **options)
        per_variable = numbers[scheme]
        total = sum(value.item() for value in properties.kl(model, guide).values())
        assert total == pytest.approx(per_variable * properties.one(0.0, LogUniform("kingma")).item(), rel=1e-5)
        return
    if scheme in ("none", "bernoulli", *NEIGHBORS):  # no alpha to be bounded: refused for their own reasons
        with pytest.raises(NotImplementedError, match="LogUniform"):
            properties.kl(*properties.made(scheme, LogUniform("kingma")))
        return
    with pytest.raises(ValueError, match=r"'conv\.weight': LogUniform\('kingma'\) holds for alpha <= 1"):
        properties.made(scheme, LogUniform("kingma"))


# Mutants: an argument that can be given by its place, an order of one scheme alone, an argument the repr does not know.
@every_scheme
def test_arguments_are_keyword_only_and_in_one_order(scheme):
    """That of the docstring of guides."""
    model, *options = inspect.signature(guides.SCHEMES[scheme].Guide).parameters.values()
    assert model.name == "model"
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in options)
    places = [ARGUMENTS.index(option.name) for option in options]
    assert places == sorted(places)


@every_parametrization
def test_the_repr_names_the_scheme_and_what_it_was_made_with(scheme, options):
    _, guide = made(scheme, **options)
    text = repr(guide)
    assert text.startswith(f"{ALIASES.get(scheme, scheme)}.Guide(")
    assert "\n" not in text
    assert "init" not in text
    assert all(f"{name}={value!r}" in text for name, value in options.items())
