"""Update: a step of the engines is torch's own, with its groups, its clipping and its scale of gradients."""

import copy
import functools
import math
import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call

from pyro_vd import fit, guides, lift, optim
from pyro_vd.errors import UserError
from pyro_vd.inference.engine import COMPILE_PAYS_AFTER, EagerStep, Engine, Objective
from pyro_vd.inference.engine.update import Update, clip_factor, group_parameters, is_weight, make_optimizer
from pyro_vd.model.likelihoods import Categorical
from tests._asserts import same
from tests._pairs import BATCH, N, examples, network, normalized, pair, state, train
from tests.optim.rules import RMSprop

SCALES = {"0": 2.0}  # of the first layer's parameters
NESTEROV = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
# The value, the torch optimizer of the same settings, and num_data over the factor of its gradient.
SAME = {
    "adam": (optim.Adam(), torch.optim.Adam, N),
    "adamw": (optim.AdamW(weight_decay=0.3), functools.partial(torch.optim.AdamW, weight_decay=0.3), N),
    "sgd": (optim.SGD(), torch.optim.SGD, 1),
    "momentum": (optim.SGD(momentum=0.9), functools.partial(torch.optim.SGD, momentum=0.9), 1),
    "nesterov": (optim.SGD(**NESTEROV), functools.partial(torch.optim.SGD, **NESTEROV), 1),
    "own": (RMSprop(weight_decay=0.1), functools.partial(torch.optim.RMSprop, weight_decay=0.1), 1),
}
FACTORY = functools.partial(torch.optim.RMSprop, alpha=0.9)


def objective_of(net=network, scheme="sparse", **options):
    torch.manual_seed(0)
    model = lift(net(), guides.SCHEMES[scheme].prior, Categorical, num_data=N)
    return Objective(model, guides.SCHEMES[scheme].Guide(model, **options)).train()


def first_batch():
    return tuple(part[:BATCH] for part in examples())


def engine_of(objective, optimizer, engine="eager", lr=0.01, clip_norm=None, lr_scale=None, **arguments):
    return Engine(EagerStep(objective, lr, lr_scale, optimizer, clip_norm), engine, **arguments)


# --- a step is torch's


def by_hand(objective, factory, lr):
    """Groups as one writes them: no decay of biases, and the first layer at twice the rate."""
    groups = {}
    for name, parameter in objective.named_parameters():
        own = {"lr": lr * (2.0 if ".0." in name else 1.0), **({} if parameter.ndim > 1 else {"weight_decay": 0.0})}
        groups.setdefault(tuple(own.items()), {**own, "params": []})["params"].append(parameter)
    return factory(list(groups.values()))


# Mutants: gradients of another scale, decay of biases, clipping per tensor, a rate without its factor.
@pytest.mark.parametrize("clip_norm", [None, 0.02])
@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("name", list(SAME))
def test_steps_are_torchs(name, mode, clip_norm, quick_compiler):
    """A network without noise, whose objective is a mean loss times N, beside torch's loop over that loss."""
    optimizer, factory, scale = SAME[name]
    objective = objective_of(scheme="none")
    twin = copy.deepcopy(objective)
    engine = engine_of(objective, optimizer, mode, 0.05, clip_norm, SCALES)
    torchs = by_hand(twin, factory, 0.05)
    base = [group["lr"] for group in torchs.param_groups]
    x, y = first_batch()
    norms = []
    for i in range(6):
        engine.set_lr(1 - i / 10)
        for group, lr in zip(torchs.param_groups, base, strict=True):
            group["lr"] = lr * (1 - i / 10)
        assert engine.step((x, y), torch.ones(())).is_finite.all()
        torchs.zero_grad()
        loss = nn.functional.cross_entropy(
            functional_call(twin.model.net, dict(twin.guide.theta.named_parameters()), x), y
        )
        (scale * loss).backward()
        largest = math.inf if clip_norm is None else clip_norm * scale
        norms.append(nn.utils.clip_grad_norm_(twin.parameters(), largest) / scale)
        torchs.step()
    assert clip_norm is None or min(norms) > clip_norm  # else nothing was clipped
    for (parameter, one), two in zip(objective.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-5), parameter


@pytest.mark.parametrize(("name", "clip_norm"), [("adamw", 0.1), ("momentum", None), ("nesterov", 0.1), ("own", None)])
def test_a_compiled_step_is_the_eager_step(name, clip_norm, quick_compiler):
    """With noise: parameters, state and running statistics after a few steps of the same seed."""
    first, second = (
        engine_of(objective_of(normalized, init=-3.0), SAME[name][0], mode, 0.01, clip_norm, {"log_sigma2": 3.0})
        for mode in ("compiled", "eager")
    )
    first.compile(first_batch())
    for engine in (first, second):
        torch.manual_seed(5)
        for i in range(4):
            engine.set_lr(1 - i / 10)
            engine.step(first_batch(), torch.tensor(0.7 * i))
    assert first.name == "compiled"
    one, two = state(first), state(second)
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert torch.allclose(value, two[key], rtol=1e-3, atol=1e-5), key


@pytest.mark.parametrize("largest", [0.1, 3.0, 1e3])
def test_the_factor_of_clipping_is_pytorchs(largest):
    parameters = [nn.Parameter(torch.zeros(size)) for size in (1, 7, 30)]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape)
    before = [parameter.grad.clone() for parameter in parameters]
    factor = clip_factor([gradient.norm() for gradient in before], largest)
    total = nn.utils.clip_grad_norm_(parameters, largest)
    assert (factor < 1) == (total > largest)
    for gradient, parameter in zip(before, parameters, strict=True):
        assert torch.allclose(gradient * factor, parameter.grad)


def test_the_norm_is_that_of_the_loss_per_example():
    """Adam gets gradients N times as large, whose norm may be as much larger."""
    largest = [Update(objective_of(), 0.1, None, value, 0.3).largest_norm for value in (optim.Adam(), optim.SGD())]
    assert largest == pytest.approx([0.3 * N, 0.3])
    assert Update(objective_of(), 0.1).largest_norm is None


# --- weight decay


def test_weight_decay_acts_on_weights_alone():
    """By the difference that it makes in one step; the noise parameters are those of every kind of scheme."""
    for scheme in ("sparse", "hierarchical", "concrete", "group_normal_jeffreys", "none"):
        objectives = [objective_of(normalized, scheme) for _ in range(2)]
        start = {name: p.detach().clone() for name, p in objectives[0].named_parameters()}
        for objective, decay in zip(objectives, (0.0, 0.5), strict=True):
            torch.manual_seed(3)
            engine_of(objective, optim.AdamW(weight_decay=decay)).step(first_batch(), torch.ones(()))
        without, decayed = (dict(objective.named_parameters()) for objective in objectives)
        weights = [name for name in start if not torch.equal(without[name], decayed[name])]
        assert weights == [name for name in start if name.startswith("guide.theta.")], scheme
        for name in weights:
            assert torch.allclose(without[name] - decayed[name], 0.01 * 0.5 * start[name], atol=1e-7), name


def test_weights_have_two_dimensions_and_are_no_noise_parameters():
    matrix, vector = torch.zeros(2, 3), torch.zeros(3)
    decayed = ["guide.theta.0.weight", "model.net.0.weight"]
    others = ["guide.log_sigma2.0.weight", "guide.log_alpha.0.weight", "model.likelihood.log_scale"]
    assert [name for name in (*decayed, *others) if is_weight(name, matrix)] == decayed
    assert not any(is_weight(name, vector) for name in (*decayed, *others))


def test_groups_are_split_for_decay_only():
    objective = objective_of()
    whole = group_parameters(objective, 0.1, {})
    assert [group.keys() for group in whole] == [{"params", "lr", "base_lr"}]
    halves = group_parameters(objective, 0.1, {}, {"weight_decay": 0.0})
    assert sorted(group.get("weight_decay", 1.0) for group in halves) == [0.0, 1.0]
    ids = [sorted(id(p) for group in groups for p in group["params"]) for groups in (whole, halves)]
    assert ids[0] == ids[1]


# --- steps that are not finite


@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("name", list(SAME))
def test_a_first_and_a_later_step_that_is_not_finite_change_nothing(name, mode, quick_compiler):
    """A buffer that is made by a step that is not taken would be what was in memory."""
    engine, clean = (engine_of(objective_of(init=-3.0), SAME[name][0], mode, clip_norm=1.0) for _ in range(2))
    x, y = first_batch()
    start = {key: value.clone() for key, value in engine.pair.objective.state_dict().items()}
    for _ in range(2):
        assert not engine.step((x * math.nan, y), torch.ones(())).is_finite.all()
        assert same(start, dict(engine.pair.objective.state_dict()))
    for each in (engine, clean):
        torch.manual_seed(3)
        for _ in range(2):
            assert each.step((x, y), torch.ones(())).is_finite.all()
    assert same(state(clean), state(engine))
    before = state(engine)
    assert not engine.step((x * math.inf, y), torch.ones(())).is_finite.all()
    assert same(before, state(engine))


@pytest.mark.parametrize("factory", [FACTORY, functools.partial(torch.optim.SGD, momentum=0.9, fused=True)])
def test_a_torch_optimizer_makes_no_step_that_is_not_finite(factory):
    engine, clean = (engine_of(objective_of(init=-3.0), factory) for _ in range(2))
    x, y = first_batch()
    output = engine.step((x * math.nan, y), torch.ones(()))
    assert len(output.is_finite) == 1 + len(engine.pair.trained())
    for each in (engine, clean):
        torch.manual_seed(3)
        for _ in range(2):
            assert each.step((x, y), torch.ones(())).is_finite.all()
    assert same(state(clean), state(engine))
    assert engine.pair.find_nonfinite() == []


# --- torch optimizers


def test_a_torch_optimizer_trains():
    model, guide = pair()
    history = train(model, guide, epochs=20, optimizer=FACTORY, engine="auto").history
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.parametrize("engine", ["compiled", "cudagraph"])
def test_a_torch_optimizer_is_not_compiled(engine):
    reason = "the optimizer RMSprop only steps eagerly" if engine == "compiled" else ""
    with pytest.raises(UserError, match=f"engine='{engine}': {reason}"):
        train(*pair(), optimizer=FACTORY, engine=engine)


def test_auto_steps_a_torch_optimizer_eagerly_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = engine_of(objective_of(), FACTORY, "auto", steps=COMPILE_PAYS_AFTER)
        engine.step(first_batch(), torch.ones(()))
    assert engine.name == "eager"
    assert engine_of(objective_of(), optim.SGD(), "auto", steps=COMPILE_PAYS_AFTER).name == "compiled"


def no_groups(groups):
    return torch.optim.SGD([parameter for group in groups for parameter in group["params"]])


def other_parameters(groups):
    return torch.optim.SGD([{**groups[0], "params": [nn.Parameter(torch.zeros(1))]}])


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (functools.partial(torch.optim.SGD, momentum=-1.0), "SGD: cannot be made of parameter groups"),
        (lambda groups: None, "<lambda> made a NoneType; it must make a torch.optim.Optimizer"),
        (no_groups, "no_groups has other parameter groups"),
        (other_parameters, "other_parameters has other parameter groups"),
        (torch.optim.LBFGS, "LBFGS: cannot be made of parameter groups"),  # it has one group
    ],
)
def test_a_factory_that_makes_no_optimizer_of_these_groups_is_refused(factory, reason):
    model, guide = pair()
    with pytest.raises(UserError, match=f"optimizer {reason}") as caught:
        fit(model, guide, examples(), epochs=1, optimizer=factory, progress=False)
    assert "\n" not in str(caught.value)


def test_an_optimizer_that_needs_a_closure_is_refused():
    parameter = nn.Parameter(torch.zeros(2))
    with pytest.raises(UserError, match="LBFGS evaluates the loss several times in a step"):
        make_optimizer(torch.optim.LBFGS, [{"params": [parameter], "lr": 0.1, "base_lr": 0.1}])
