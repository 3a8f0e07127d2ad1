"""Python code in a forward pass: what a compiled step would do once or never is stepped eagerly, or refused."""

import random
import time

import numpy as np
import pytest
import torch
from torch import nn

import pyro_vd
from pyro_vd import Categorical, LogUniform, guides
from pyro_vd.errors import UserError
from pyro_vd.inference.engine import engine as engine_module

N = 40


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.second = nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, x):
        return self.second(self.fc(x))


class LayerDrop(Body):
    """Skips a block half of the time, by Python's generator."""

    def forward(self, x):
        x = self.fc(x)
        skips = random.random() < 0.5  # noqa: S311 (what is tested)
        return x + 0 * self.second(x) if skips else self.second(x)


class NumpyNoise(Body):
    def forward(self, x):
        return super().forward(x) + float(np.random.rand())


class OwnGenerator(Body):
    def __init__(self):
        super().__init__()
        self.generator = np.random.default_rng(0)

    def forward(self, x):
        return super().forward(x) * float(self.generator.random() + 0.5)


class Counter(Body):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) / self.calls


class History(Body):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        return super().forward(x)


class OwnAverage(Body):
    """An average by hand: the buffer is assigned anew, not changed in place."""

    def __init__(self):
        super().__init__()
        self.register_buffer("average", torch.zeros(3))

    def forward(self, x):
        self.average = 0.9 * self.average + 0.1 * x.mean(0).detach()
        return super().forward(x - self.average)


class Clock(Body):
    """Nothing that is looked at changes, and the graph is another one all the same."""

    def forward(self, x):
        return super().forward(x) * (time.perf_counter_ns() % 1_000_003)


EFFECTS = {
    LayerDrop: "Python's random", NumpyNoise: "numpy's random", OwnGenerator: r"model\.net\.generator",
    Counter: r"model\.net\.calls", History: r"model\.net\.seen", OwnAverage: r"model\.net\.average, assigned anew",
    Clock: "something that differs from call to call",
}  # fmt: skip


def pair(net):
    model = pyro_vd.lift(net, LogUniform, Categorical, num_data=N)
    return model, guides.sparse.Guide(model)


def fit(net, **options):
    x, y = torch.randn(N, 3), torch.arange(N) % 2
    arguments = {"epochs": 2, "batch_size": N, "seed": 0, "progress": False, **options}
    return pyro_vd.fit(*pair(net), (x, y), **arguments)


@pytest.fixture
def long_run(monkeypatch):
    """engine="auto" takes any run for one that pays for compiling."""
    monkeypatch.setattr(engine_module, "COMPILE_PAYS_AFTER", 1)


@pytest.mark.parametrize("kind", EFFECTS)
def test_the_compiled_engine_refuses_effects_of_python_by_name(kind, quick_compiler):
    with pytest.raises(UserError, match=rf"{EFFECTS[kind]}.*engine='eager'"):
        fit(kind(), engine="compiled")
    assert quick_compiler == []


@pytest.mark.parametrize("kind", EFFECTS)
def test_auto_steps_them_eagerly_with_one_warning(kind, quick_compiler, long_run):
    with pytest.warns(UserWarning, match=EFFECTS[kind]) as caught:
        posterior = fit(kind())
    assert len(caught) == 1
    assert posterior.engine == "eager"
    assert quick_compiler == []


def test_looking_leaves_no_trace(long_run, quick_compiler):
    """Counters, averages and generators are as if only the steps had been made."""
    net, states = Counter(), (random.getstate(), np.random.get_state()[1].tolist())
    with pytest.warns(UserWarning, match="calls"):
        posterior = fit(net, epochs=3)
    assert posterior.model.net.calls == 3
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
    torch.manual_seed(0)
    own = OwnAverage()
    with pytest.warns(UserWarning, match="average"):
        auto = fit(own)
    torch.manual_seed(0)
    eager = fit(OwnAverage(), engine="eager")
    assert torch.equal(auto.model.net.average, eager.model.net.average)
    assert auto.model.net.average.abs().max() > 0


class Tempered(Body):
    def __init__(self):
        super().__init__()
        self.temperature, self.drop = 1.0, nn.Dropout(0.0)

    def forward(self, x):
        return self.drop(super().forward(x)) / self.temperature


def cool(epoch, posterior):
    posterior.model.net.temperature = 1.0 + epoch


def drop_more(epoch, posterior):
    posterior.model.net.drop.p = 0.1


def freeze(epoch, posterior):
    posterior.model.net.second.bias.requires_grad_(False)


CHANGES = {cool: r"model\.net\.temperature", drop_more: r"model\.net\.drop\.p", freeze: r"second\.bias\.requires_grad"}


@pytest.mark.parametrize("change", CHANGES)
def test_attributes_that_on_epoch_changes_are_followed_or_refused(change, quick_compiler, long_run):
    with pytest.raises(UserError, match=rf"{CHANGES[change]} changed in on_epoch"):
        fit(Tempered(), engine="compiled", on_epoch=change)
    with pytest.warns(UserWarning, match=CHANGES[change]) as caught:
        posterior = fit(Tempered(), on_epoch=change, epochs=3)
    assert len(caught) == 1
    assert posterior.engine == "eager"


class Harmless(Body):
    """Draws by torch, changes a buffer in place, holds plain attributes: all that a graph can repeat."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        self.scales, self.name, self.norm = [1.0, 2.0], "net", nn.BatchNorm1d(2)

    def forward(self, x):
        self.steps += 1
        return self.norm(super().forward(x)) * self.scales[1] + 0.1 * torch.rand(len(x), 1)


def test_what_a_graph_can_repeat_is_compiled(quick_compiler):
    posterior = fit(Harmless(), engine="compiled", on_epoch=lambda *_: {"a": 1.0})
    assert posterior.engine == "compiled"
    assert len(quick_compiler) == 1
    assert posterior.model.net.steps == 2
    assert posterior.model.net.norm.num_batches_tracked == 2
