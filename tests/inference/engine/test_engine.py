"""The engine: what is traced is what runs eagerly, what is compiled is compiled once, nothing is disturbed."""

import copy
import math
import warnings
from functools import partial

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from pyro_vd import EmpiricalBayes, LogUniform, MonteCarloKL, fit, guides, lift
from pyro_vd.errors import UserError
from pyro_vd.inference.engine import (
    COMPILE_PAYS_AFTER,
    EagerStep,
    Engine,
    Objective,
    trace_objective,
)
from pyro_vd.inference.engine import engine as engine_module
from pyro_vd.inference.engine.update import group_parameters
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp
from pyro_vd.model.likelihoods import Categorical
from pyro_vd.models import LeNet5, LeNet300
from tests._asserts import same
from tests._pairs import normalized, state

B, FEATURES, CLASSES, N = 8, 5, 3, 100


def dense():
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, CLASSES))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, CLASSES)
    )


class Branching(nn.Module):
    """Its path depends on its data, which no trace can hold."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else self.fc(-x)


def objective_of(net=dense, prior=LogUniform, scheme="sparse", likelihood=Categorical, estimator="local", **options):
    torch.manual_seed(0)
    model = lift(net(), prior, likelihood, num_data=N)
    return Objective(model, guides.SCHEMES[scheme].Guide(model, **options), estimator).train()


def batch(size=B, shape=(FEATURES,)):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, *shape, generator=generator), torch.arange(size) % CLASSES


def engine_of(objective, engine="eager", lr=0.01, **arguments):
    return Engine(EagerStep(objective, lr), engine, **arguments)


def step(engine, x, y, weight):
    return engine.step((x, y), weight)


def beta(value=1.0):
    return torch.tensor(value)


# --- which engine


@pytest.mark.parametrize("mode", ["fast", "", "Eager", "compile"])
def test_an_unknown_engine_is_refused_with_the_known_ones(mode):
    with pytest.raises(UserError, match="auto, eager, compiled, cudagraph"):
        engine_of(objective_of(), mode)


def test_a_cuda_graph_of_a_model_that_is_not_on_a_gpu_is_refused():
    with pytest.raises(UserError, match="on cpu; move it to a CUDA device"):
        engine_of(objective_of(), "cudagraph")


@pytest.mark.parametrize(
    ("mode", "steps", "picked"),
    [
        ("auto", 0, "eager"),
        ("auto", COMPILE_PAYS_AFTER - 1, "eager"),
        ("auto", COMPILE_PAYS_AFTER, "compiled"),
        ("eager", 10**9, "eager"),
        ("compiled", 1, "compiled"),
    ],
)
def test_auto_compiles_long_runs_only(mode, steps, picked):
    assert engine_of(objective_of(), mode, steps=steps).name == picked


# --- the objective and one eager step


def test_the_objective_scales_a_batch_of_any_size():
    """n / B: the same example once or eight times is the same log likelihood."""
    objective = objective_of(scheme="none", prior=guides.none.prior)
    x, y = batch(1)
    one = objective(x, y, beta())
    eight = objective(x.expand(8, -1), y.expand(8), beta())
    assert torch.allclose(one[1], eight[1], rtol=1e-5)
    loss = nn.functional.cross_entropy(objective.model.network(dict(objective.guide.theta.named_parameters()))(x), y)
    assert torch.allclose(one[1], -N * loss)


def test_the_loss_is_weighted_kl_minus_log_likelihood():
    objective = objective_of()
    x, y = batch()
    loss, log_likelihood, kl = objective(x, y, beta(0.3))
    assert kl.shape == (2,)
    assert torch.allclose(loss, 0.3 * kl.sum() - log_likelihood)


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_a_step_is_adams(mode, quick_compiler):
    """Against torch's default Adam on the same gradients. Kills a step that forgets to divide, scale or clear."""
    objective = objective_of(scheme="none", prior=guides.none.prior)
    twin = copy.deepcopy(objective)
    engine = engine_of(objective, mode)
    adam = torch.optim.Adam(twin.parameters(), lr=0.01, fused=False)
    x, y = batch()
    for _ in range(5):
        output = step(engine, x, y, beta())
        adam.zero_grad()
        loss, log_likelihood, _ = twin(x, y, beta())
        loss.backward()
        adam.step()
        assert output.is_finite.all()
        assert torch.allclose(output.log_likelihood, log_likelihood)
        assert not output.log_likelihood.requires_grad
    for (name, one), two in zip(objective.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-6), name
        assert one.grad is None


def test_groups_follow_words_of_the_name():
    objective = objective_of()
    groups = group_parameters(objective, 0.1, {"log_sigma2": 10.0, "bias": 0.5})
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rates) == len(list(objective.parameters()))
    for name, parameter in objective.named_parameters():
        expected = 1.0 if "log_sigma2" in name else 0.05 if name.endswith("bias") else 0.1
        assert rates[id(parameter)] == pytest.approx(expected), name


def test_set_lr_is_relative_to_the_base_rate():
    """Kills a factor that multiplies up over epochs."""
    objective = objective_of()
    engine = Engine(EagerStep(objective, 0.1, {"theta": 2.0}), "eager")
    for factor in (0.5, 0.5, 0.25):
        engine.set_lr(factor)
        assert sorted(group["lr"] for group in engine.pair.optimizer.param_groups) == pytest.approx(
            [0.1 * factor, 0.2 * factor]
        )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_step_that_is_not_finite_changes_neither_parameters_nor_moments(bad):
    """Also Adam's step count: otherwise its bias correction would be another one."""
    engine = engine_of(objective_of())
    x, y = batch()
    for _ in range(2):
        assert step(engine, x, y, beta()).is_finite.all()
    before = state(engine)
    spoilt = x.clone()
    spoilt[3, 2] = bad
    assert not step(engine, spoilt, y, beta()).is_finite.all()
    assert same(before, state(engine))
    assert step(engine, x, y, beta()).is_finite.all()
    assert not same(before, state(engine))


def test_a_first_step_that_is_not_finite_changes_nothing():
    engine = engine_of(objective_of())
    before = {name: value.clone() for name, value in engine.pair.objective.state_dict().items()}
    x, y = batch()
    assert not step(engine, x * math.nan, y, beta()).is_finite.all()
    assert same(before, dict(engine.pair.objective.state_dict()))


class Offset(dist.Categorical):
    def log_prob(self, value):
        return super().log_prob(value) - math.inf


def test_an_infinite_loss_with_finite_gradients_is_not_finite():
    engine = engine_of(objective_of(likelihood=lambda logits: Offset(logits=logits)))
    before = dict(state(engine))
    assert not step(engine, *batch(), beta()).is_finite.all()
    after = state(engine)
    assert same(before, {name: after[name] for name in before})


class Root(nn.Module):
    """The gradient of ``offset`` is infinite where it starts, and nothing else is; ``idle`` is not used."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(FEATURES, CLASSES)
        self.offset = nn.Parameter(torch.zeros(CLASSES))
        self.idle = nn.Parameter(torch.zeros(2))
        self.fc.bias.requires_grad_(False)

    def forward(self, x):
        return self.fc(x) + self.offset.sqrt()


# Mutants: flags in the order of Adam's groups, one flag for all, unused or frozen parameters among them.
@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_flags_name_the_parameter_whose_gradient_is_not_finite(mode, quick_compiler):
    objective = objective_of(Root)
    engine = Engine(EagerStep(objective, 0.01, {"theta": 2.0, "offset": 3.0}), mode)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    output = step(engine, *batch(), beta())
    names = ["objective", *engine.pair.trained()]
    assert names == ["objective", "model.net.offset", "guide.theta.fc.weight", "guide.log_sigma2.fc.weight"]
    assert dict(zip(names, output.is_finite.tolist(), strict=True)) == dict.fromkeys(names, True) | {
        "model.net.offset": False
    }
    assert same(before, dict(objective.state_dict()))
    with torch.no_grad():
        objective.model.net.offset.fill_(1.0)
    assert step(engine, *batch(), beta()).is_finite.all()
    assert torch.equal(before["model.net.idle"], objective.model.net.idle)
    assert torch.equal(before["model.net.fc.bias"], objective.model.net.fc.bias)
    assert not torch.equal(before["guide.theta.fc.weight"], objective.guide.theta["fc.weight"])


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_a_step_ends_inside_the_bounds(mode, quick_compiler):
    engine = engine_of(objective_of(scheme="variational_b", init=-0.1), mode, lr=0.5)
    for _ in range(5):
        step(engine, *batch(), beta(0.0))
        for site in engine.pair.objective.guide.sites:
            rates = engine.pair.objective.guide.noise_param[site]
            assert rates.max() <= 0.0
            assert rates.min() >= -20.0


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_rates_by_word_hold_in_either_engine(mode, quick_compiler):
    """Adam's first step is its rate in every entry with a gradient."""
    objective = objective_of()
    engine = Engine(EagerStep(objective, 1e-3, {"log_sigma2": 10.0, "bias": 0.5}), mode)
    engine.set_lr(0.5)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    step(engine, *batch(), beta())
    for name, parameter in objective.named_parameters():
        expected = 5e-3 if "log_sigma2" in name else 2.5e-4 if name.endswith("bias") else 5e-4
        assert (parameter - before[name]).abs().max().item() == pytest.approx(expected, rel=1e-2), name


# --- tracing


def gradients(objective, forward, x, y, weight):
    """Loss and gradients with the noise of one fixed seed; a traced graph draws in the same order."""
    objective.zero_grad()
    torch.manual_seed(11)
    loss, log_likelihood, kl = forward(x, y, weight)
    loss.backward()
    found = {name: p.grad.clone() for name, p in objective.named_parameters()}
    objective.zero_grad()
    return loss.detach(), log_likelihood.detach(), kl.detach(), found


def check_trace(objective, x, y):
    eager = gradients(objective, objective, x, y, beta(0.7))
    traced = gradients(objective, trace_objective(objective, x, y), x, y, beta(0.7))
    for one, two in zip(eager[:3], traced[:3], strict=True):
        assert torch.allclose(one, two, rtol=1e-5)
    assert eager[3].keys() == traced[3].keys()
    for name, gradient in eager[3].items():
        assert gradient.abs().max() > 0, name
        assert torch.allclose(gradient, traced[3][name], rtol=1e-5, atol=1e-5 * gradient.abs().max().item()), name


PRIORS = {
    "molchanov": LogUniform("molchanov"),
    "exact": LogUniform("exact"),
    "empirical Bayes": EmpiricalBayes(),
    "normal": dist.Normal(0.0, 1.0),
}


@pytest.mark.parametrize("parametrization", ["log_sigma2", "log_alpha"])
@pytest.mark.parametrize("prior", list(PRIORS))
def test_traced_gradients_are_the_eager_ones(prior, parametrization):
    """For every KL: export drops a custom autograd.Function's backward without a word."""
    objective = objective_of(prior=PRIORS[prior], parametrization=parametrization, init=-3.0)
    check_trace(objective, *batch())


def test_traced_gradients_of_a_convolution_are_the_eager_ones():
    check_trace(objective_of(convolutional, init=-3.0), *batch(shape=(1, 6, 6)))


def test_traced_gradients_with_weight_draws_are_the_eager_ones():
    check_trace(objective_of(estimator="weights", init=-3.0), *batch())


def test_a_traced_graph_holds_the_objectives_own_parameters():
    """Kills a trace over copies, which would train nothing."""
    objective = objective_of()
    traced = trace_objective(objective, *batch())
    assert {id(p) for p in traced.parameters()} == {id(p) for p in objective.parameters()}


def test_the_kl_weight_is_an_input_of_the_traced_graph():
    """Kills a trace that bakes the first epoch's value in."""
    objective = objective_of()
    x, y = batch()
    traced = trace_objective(objective, x, y)
    for weight in (0.0, 0.5, 2.0):
        loss, log_likelihood, kl = traced(x, y, beta(weight))
        assert torch.allclose(loss, weight * kl.sum() - log_likelihood)


def test_a_traced_graph_draws_new_noise_at_every_call():
    objective = objective_of(init=-2.0)
    x, y = batch()
    traced = trace_objective(objective, x, y)
    assert traced(x, y, beta())[0] != traced(x, y, beta())[0]


def test_running_statistics_follow_through_the_traced_graph():
    objective, twin = objective_of(normalized), objective_of(normalized)
    x, y = batch()
    traced = trace_objective(objective, x, y)
    for forward in (traced, twin):
        for _ in range(3):
            torch.manual_seed(4)
            forward(x, y, beta())
    buffers, expected = dict(objective.named_buffers()), dict(twin.named_buffers())
    assert expected["model.net.1.num_batches_tracked"] == 3
    for name, value in expected.items():
        assert torch.allclose(buffers[name], value, atol=1e-6), name


# --- compiling; "aot_eager" goes the whole way but for generating code, which takes most of the time


def compiled_run(engine, steps=50):
    x, y = batch()
    losses = []
    for i in range(steps):
        engine.set_lr(1 - i / steps)
        losses.append(step(engine, x, y, beta(i / steps)).log_likelihood.item())
    return losses


def test_one_graph_serves_every_kl_weight_and_rate(quick_compiler):
    engine = engine_of(objective_of(), "compiled")
    losses = compiled_run(engine)
    assert len(quick_compiler) == 1
    assert engine.name == "compiled"
    assert engine.compile_seconds > 0
    assert len(set(losses)) == len(losses)
    assert all(map(math.isfinite, losses))


def test_a_batch_of_another_size_steps_eagerly_in_between(quick_compiler):
    engine = engine_of(objective_of(), "compiled")
    for size in (B, B, 3, B, 1, B):
        x, y = batch(size)
        before = state(engine)
        assert step(engine, x, y, beta()).is_finite.all()
        assert not same(before, state(engine))
    assert len(quick_compiler) == 1
    assert engine.name == "compiled"


def test_a_smaller_first_batch_is_not_what_is_compiled_for(quick_compiler):
    """A run resumed at the end of an epoch starts with one."""
    engine = engine_of(objective_of(), "compiled", batch_size=B)
    step(engine, *batch(3), beta())
    assert not quick_compiler
    step(engine, *batch(), beta())
    step(engine, *batch(), beta())
    assert len(quick_compiler) == 1


STEPPED = {
    "sparse": (dense, {}),
    "log_alpha": (dense, {"parametrization": "log_alpha"}),
    "hierarchical": (convolutional, {"scheme": "hierarchical", "prior": EmpiricalBayes}),
    "batch normalization": (normalized, {}),
    "type A": (dense, {"scheme": "variational_a"}),
    "weights": (dense, {"estimator": "weights"}),
    "flipout": (dense, {"estimator": "flipout"}),
    "sampled KL": (dense, {"prior": MonteCarloKL(dist.StudentT(5.0, 0.0, 0.1))}),
}


@pytest.mark.parametrize("name", list(STEPPED))
def test_a_compiled_step_is_the_eager_step(name, quick_compiler):
    """Parameters, moments and running statistics after a few steps with the same noise, under a mask and a rate."""
    net, options = STEPPED[name]
    first, second = engine_of(objective_of(net, **options), "compiled"), engine_of(objective_of(net, **options))
    x, y = batch(shape=(1, 6, 6)) if net is convolutional else batch()
    for engine in (first, second):
        engine.set_threshold(2.0)
        engine.set_lr(0.5)
    first.compile((x, y))
    assert first.name == "compiled"
    for engine in (first, second):
        torch.manual_seed(5)
        for i in range(4):
            step(engine, x, y, beta(0.7 * i))
    one, two = state(first), state(second)
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(value, two[name], rtol=1e-3, atol=1e-5), name


def test_compiling_disturbs_nothing(quick_compiler):
    """Generator, running statistics, parameters and gradients are as before; the trial call is undone."""
    objective = objective_of(normalized)
    engine = engine_of(objective, "compiled")
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    generator = torch.get_rng_state()
    engine.compile(batch())
    assert same(before, dict(objective.state_dict()))
    assert all((moment == 0).all() for moments in engine.pair.optimizer.state.values() for moment in moments.values())
    assert torch.equal(generator, torch.get_rng_state())
    assert all(p.grad is None for p in objective.parameters())
    assert objective.training


@pytest.mark.parametrize("net", [dense, normalized])
def test_a_compiled_step_that_is_not_finite_changes_nothing(net, quick_compiler):
    engine = engine_of(objective_of(net), "compiled")
    x, y = batch()
    step(engine, x, y, beta())
    before = state(engine)
    assert not step(engine, x * math.nan, y, beta()).is_finite.all()
    assert same(before, state(engine))


def test_auto_falls_back_with_one_warning_that_says_why():
    engine = engine_of(objective_of(Branching), "auto", steps=COMPILE_PAYS_AFTER)
    x, y = batch()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            assert step(engine, x, y, beta()).is_finite.all()
    ours = [str(warning.message) for warning in caught if "stepping eagerly" in str(warning.message)]
    assert len(ours) == 1
    assert len(ours[0].split("failed: ")[1]) > 20  # the reason
    assert "\n" not in ours[0]
    assert engine.name == "eager"


def test_a_failed_compilation_disturbs_nothing():
    objective = objective_of(lambda: nn.Sequential(nn.BatchNorm1d(FEATURES), Branching()))
    engine = engine_of(objective, "auto", steps=COMPILE_PAYS_AFTER)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    generator = torch.get_rng_state()
    with pytest.warns(UserWarning, match="stepping eagerly"):
        engine.compile(batch())
    assert same(before, dict(objective.state_dict()))
    assert torch.equal(generator, torch.get_rng_state())


def test_a_compilation_asked_for_by_name_raises():
    engine = engine_of(objective_of(Branching), "compiled")
    with pytest.raises(UserError, match=r"engine='compiled': .*GuardOnDataDependentSymNode.*use engine='eager'"):
        step(engine, *batch(), beta())


def test_generated_code_makes_the_same_step():
    """The only test that goes through inductor; with fallback_random its noise is eager's. Two networks in turn, for
    what is compiled has no guards: nothing of the first must serve the second."""
    torch._dynamo.reset()
    wide = partial(objective_of, lambda: nn.Linear(FEATURES, CLASSES), scheme="hierarchical", prior=EmpiricalBayes)
    made = [[engine_of(make(), mode) for mode in ("compiled", "eager")] for make in (objective_of, wide)]
    x, y = batch()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for first, _ in made:
            first.compile((x, y))
        for i in range(4):
            for engines in made:
                for engine in engines:
                    torch.manual_seed(i)
                    step(engine, x, y, beta(i / 4) if i else torch.tensor(2))  # an integer too
    for first, second in made:
        assert first.name == "compiled"
        for (name, one), two in zip(state(first).items(), state(second).values(), strict=True):
            assert torch.allclose(one, two, rtol=1e-3, atol=1e-4), name
    torch._dynamo.reset()


def convolution_and_batch_norm():
    return nn.Sequential(
        nn.Conv2d(1, 4, 5), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 24 * 24, CLASSES)
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [LeNet300, LeNet5, convolution_and_batch_norm])
def test_a_fit_is_one_graph_through_all_epochs_and_schedules(make, monkeypatch):
    """With code generated, and by "auto": a fallback to eager steps would show. The last batch is a smaller one."""
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(engine_module, "COMPILE_PAYS_AFTER", 1)
    x, y = torch.rand(20, 1, 28, 28), torch.arange(20) % CLASSES
    model = lift(make(), LogUniform, Categorical, num_data=20)
    with torch._dynamo.config.patch(error_on_recompile=True):
        posterior = fit(
            model, guides.sparse.Guide(model), (x, y), epochs=4, batch_size=8, engine="auto", threshold=3.0,
            lr_schedule=HoldThenDecay(1, 4), kl_schedule=WarmUp(0, 3), progress=False,
        )  # fmt: skip
    assert posterior.engine == "compiled"
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    assert all(p.isfinite().all() for p in posterior.guide.parameters())
    torch._dynamo.reset()
