"""What a checkpoint is refused by: forged content, other arguments, another network, another environment."""

import functools
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pyro_vd
from pyro_vd import Posterior, checkpoint, optim
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.inference.schedules import Constant, HoldThenDecay, WarmUp
from tests._asserts import same, untimed, values
from tests._pairs import STEPS, N, examples, fresh, interrupt_at, pair, train
from tests.forge import forge


@pytest.fixture
def run(tmp_path):
    """A checkpoint of one whole epoch and one step."""
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, STEPS + 1)
        with pytest.raises(KeyboardInterrupt):
            fresh(checkpoint=run)
    return run


def refused(run, *reasons, net=None, **arguments):
    """fit refuses the checkpoint in one line, and leaves it and the pair as they were."""
    content = {file: file.read_bytes() for file in run.parent.iterdir()}
    model, guide = pair(net=net, likelihood=arguments.pop("likelihood", pyro_vd.Categorical))
    before = values(Posterior(model, guide))
    with pytest.raises(CheckpointError) as caught:
        train(model, guide, **{"checkpoint": run, **arguments})
    message = str(caught.value)
    assert "\n" not in message
    for reason in (str(run), *reasons):
        assert reason in message, message
    assert same(before, values(Posterior(model, guide)))
    assert content == {file: file.read_bytes() for file in run.parent.iterdir()}


THETA = "guide.theta.0.weight"


MOMENT = f"adam.{THETA}.exp_avg"


TENSORS = {
    "a short moment": {MOMENT: torch.zeros(1)},
    "a long moment": {MOMENT: torch.zeros(60, 5)},
    "a moment of another dtype": {MOMENT: torch.zeros(6, 5, dtype=torch.float64)},
    "a short second moment": {f"adam.{THETA}.exp_avg_sq": torch.zeros(0)},
    "a step of two": {f"adam.{THETA}.step": torch.tensor([5.0, 5.0])},
    "a step that is whole": {f"adam.{THETA}.step": torch.tensor(5)},
    "a step of another number": {f"adam.{name}.step": torch.tensor(1e6) for name in (THETA, "model.net.0.bias")},
    "a step of none": {f"adam.{THETA}.step": torch.tensor(0.0)},
    "half a step": {f"adam.{THETA}.step": torch.tensor(1.5)},
    "a step that is not a number": {f"adam.{THETA}.step": torch.tensor(math.nan)},
    "no moment": {MOMENT: None},
    "no state of Adam": {f"adam.{THETA}.{key}": None for key in ("step", "exp_avg", "exp_avg_sq")},
    "a moment of nothing": {"adam.guide.theta.7.weight.exp_avg": torch.zeros(2)},
    "an infinite moment": {MOMENT: torch.full((6, 5), math.inf)},
    "a negative second moment": {f"adam.{THETA}.exp_avg_sq": -torch.ones(6, 5)},
    "a parameter that is not finite": {THETA: torch.full((6, 5), math.nan)},
    "a parameter of another shape": {THETA: torch.zeros(5, 6)},
    "no parameter": {THETA: None},
    "an extra parameter": {"guide.theta.1.weight": torch.zeros(2)},
    "an extra tensor": {"more": torch.zeros(2)},
    "a short generator": {"rng.cpu": torch.zeros(16, dtype=torch.uint8)},
    "a generator of ones": {"rng.cpu": torch.full((5056,), 255, dtype=torch.uint8)},
    "no generator": {"rng.cpu": None},
    "sums of two": {"log_likelihood": torch.zeros(2, dtype=torch.float64)},
    "sums in float32": {"log_likelihood": torch.zeros(1)},
    "a sum that is not finite": {"log_likelihood": torch.full((1,), math.nan, dtype=torch.float64)},
}


@pytest.mark.parametrize("name", list(TENSORS))
def test_a_forged_tensor_is_refused_before_anything_is_touched(name, run):
    """On the old code a short moment ended in a segmentation fault."""
    forge(run, tensors=TENSORS[name])
    refused(run, next(iter(TENSORS[name])) if "step" not in name and "state" not in name else "")


FORGED_STATES = {
    "no buffer": (optim.SGD(momentum=0.9), {f"sgd.{THETA}.momentum_buffer": None}),
    "an infinite buffer": (optim.SGD(momentum=0.9), {f"sgd.{THETA}.momentum_buffer": torch.full((6, 5), math.inf)}),
    "Adam's moment": (optim.SGD(momentum=0.9), {MOMENT: torch.zeros(6, 5)}),
    "a buffer without momentum": (optim.SGD(), {f"sgd.{THETA}.momentum_buffer": torch.zeros(6, 5)}),
    "a negative second moment": (optim.AdamW(), {f"adamw.{THETA}.exp_avg_sq": -torch.ones(6, 5)}),
    "another number of steps": (optim.AdamW(), {f"adamw.{THETA}.step": torch.tensor(1e6)}),
}


@pytest.mark.parametrize("name", list(FORGED_STATES))
def test_a_forged_state_of_any_optimizer_is_refused(name, tmp_path):
    optimizer, tensors = FORGED_STATES[name]
    fresh(checkpoint=tmp_path / "run", epochs=1, optimizer=optimizer)
    forge(tmp_path / "run", tensors=tensors)
    reason = "AdamW made 1000000 steps, and the run 4" if "steps" in name else next(iter(tensors))
    refused(tmp_path / "run", reason, optimizer=optimizer)


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (optim.Adam(), optim.SGD(momentum=0.9)),
        (optim.SGD(momentum=0.9), optim.Adam()),
        (optim.SGD(momentum=0.9), optim.SGD(momentum=0.8)),
        (optim.AdamW(weight_decay=0.1), optim.AdamW()),
    ],
)
def test_a_checkpoint_of_another_optimizer_is_refused_by_name(then, now, tmp_path):
    fresh(checkpoint=tmp_path / "run", epochs=1, optimizer=then)
    refused(tmp_path / "run", f"optimizer was {then}, is {now}", optimizer=now)


def test_a_checkpoint_of_another_clipping_is_refused(run):
    refused(run, "clip_norm was None, is 1.0", clip_norm=1.0)


def row(**changes):
    names = ("loss", "log_likelihood", "kl", "beta", "lr", "seconds")
    return {"epoch": 0, **dict.fromkeys(names, 0.0), **changes}


SCHEDULE_NAMES = ("lr_schedule", "kl_schedule", "threshold")


def values_of_schedule(values):
    return {"schedule": None, "values": values}


META = {
    "a step beyond the epoch": {"step": 10**6},
    "a step as many as an epoch has": {"step": STEPS},
    "another step": {"step": 2},
    "a negative step": {"step": -1},
    "a negative epoch": {"epoch": -1},
    "another epoch": {"epoch": 0},
    "an epoch in words": {"epoch": "1"},
    "an epoch that is not whole": {"epoch": 1.0},
    "an epoch that is true": {"epoch": True},
    "no epoch": {"epoch": None},
    "a short history": {"history": []},
    "a long history": {"history": [row(), row(epoch=1)]},
    "a history of another epoch": {"history": [row(epoch=1)]},
    "a row that lacks a number": {"history": [{"epoch": 0}]},
    "an empty row more": {"history": [row(), {}]},
    "a row of words": {"history": [row(loss="low")]},
    "a row of lists": {"history": [[0.0]]},
    "no list of a history": {"history": {"0": row()}},
    "seconds in words": {"seconds": "long"},
    "negative seconds": {"seconds": -1.0},
    "settings in a list": {"settings": []},
    "an engine of another name": {"environment": {"engine": "fast"}},
    "no schedules": {"schedules": {}},
    "a schedule of one epoch": {"schedules": {n: values_of_schedule([1.0]) for n in SCHEDULE_NAMES}},
    "a schedule in words": {"schedules": {"lr_schedule": "1"}},
    "values of a schedule in words": {"schedules": {n: values_of_schedule("11") for n in SCHEDULE_NAMES}},
    "other values of a schedule": {"schedules": {n: values_of_schedule([1.0, 0.5]) for n in SCHEDULE_NAMES}},
    "a schedule that is a number": {"schedules": {n: {"schedule": 1, "values": [1.0, 1.0]} for n in SCHEDULE_NAMES}},
    "more of a schedule": {"schedules": {n: {**values_of_schedule([1.0, 1.0]), "more": 1} for n in SCHEDULE_NAMES}},
    "trained parameters of two pairs": {"trained": [[], []]},
    "no trained parameters": {"trained": [[]]},
    "trained parameters that are none": {"trained": [["guide.theta.9.weight"]]},
    "trained parameters in words": {"trained": "all"},
    "a state of no loader": {"loader": {"seen": "many"}},
    "more": {"more": 1},
}


@pytest.mark.parametrize("name", list(META))
def test_forged_metadata_is_refused_before_anything_is_touched(name, run):
    forge(run, meta=META[name])
    refused(run)


def test_a_tensor_file_that_is_much_too_large_is_not_read(tmp_path):
    run = tmp_path / "run"
    fresh(epochs=1, checkpoint=run)
    file = run.parent / json.loads((run.parent / "run.json").read_text())["tensors"]
    with open(file, "ab") as stream:
        stream.truncate(1 << 40)  # a hole, which costs no disk
    with pytest.raises(CheckpointError, match="larger than"):
        fresh(checkpoint=run)
    with pytest.raises(CheckpointError, match="larger than"):
        Posterior(*pair()).load(run)


def shifted_labels():
    x, y = examples()
    return x, (y + 1) % 3


def other_inputs():
    x, y = examples()
    x[-1, -1] += 1e-6
    return x, y


def dropout_network(activation=nn.ReLU, **options):
    return nn.Sequential(nn.Linear(5, 6), activation(), nn.Dropout(**options), nn.Linear(6, 3))


class Net(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.fc = nn.Linear(5, 3)
        self.scale = scale

    def forward(self, x):
        return self.scale * F.relu(self.fc(x))


class Tanh(Net):
    def forward(self, x):
        return self.scale * torch.tanh(self.fc(x))


Tanh.__qualname__ = "Net"  # as if the class were edited


SCALE = 1.0


def softened(temperature):
    return lambda logits: pyro_vd.Categorical(logits / temperature)


def with_global(logits):
    return pyro_vd.Categorical(logits * SCALE)


class Softened:
    def __init__(self, temperature):
        self.temperature = temperature

    def __call__(self, logits):
        return pyro_vd.Categorical(logits / self.temperature)


OTHER = {
    "labels": ({}, {"data": shifted_labels}, "data was LabeledImages of 50"),
    "inputs": ({}, {"data": other_inputs}, "data was LabeledImages of 50"),
    "data that are not checked": ({}, {"data": lambda: DataLoader(TensorDataset(*examples()))}, "contents not checked"),
    "activation": (
        {"net": dropout_network},
        {"net": lambda: dropout_network(nn.Tanh)},
        "network 1 was torch.nn.modules.activation.Re",
    ),
    "dropout rate": ({"net": dropout_network}, {"net": lambda: dropout_network(p=0.1)}, "network 2 was"),
    "forward": ({"net": Net}, {"net": Tanh}, "network was tests.inference.test_resume_checks.Net"),
    "setting": ({"net": Net}, {"net": lambda: Net(2.0)}, "scale=2.0"),
    "closure": ({"likelihood": softened(1.0)}, {"likelihood": softened(2.0)}, "temperature=2.0"),
    "partial": (
        {"likelihood": functools.partial(F.softmax, dim=1)},
        {"likelihood": functools.partial(F.softmax, dim=0)},
        "likelihood was",
    ),
    "object": ({"likelihood": Softened(1.0)}, {"likelihood": Softened(2.0)}, "temperature=1.0"),
    "code": (
        {"likelihood": lambda logits: pyro_vd.Categorical(logits + 0)},
        {"likelihood": lambda logits: pyro_vd.Categorical(logits * 1)},
        "likelihood was",
    ),
    "lr schedule": ({}, {"lr_schedule": Constant(0.5)}, "lr_schedule was 1.0 at epoch 0, is 0.5"),
    "kl schedule": ({}, {"kl_schedule": WarmUp(0, 2)}, "kl_schedule was 1.0 at epoch 0, is 0.0"),
    "threshold": ({}, {"threshold": Constant(3.0)}, "threshold was inf at epoch 0, is 3.0"),
}


@pytest.mark.parametrize("name", list(OTHER))
def test_another_run_is_refused_by_what_is_different(name, tmp_path):
    first, second, reason = OTHER[name]
    if name == "partial":  # torch's softmax is no likelihood, but a partial of it says what is compared
        wrap = lambda likelihood: functools.partial(lambda f, x: pyro_vd.Categorical(f(x)), likelihood)  # noqa: E731
        first, second = ({"likelihood": wrap(part["likelihood"])} for part in (first, second))
    fresh(epochs=1, checkpoint=tmp_path / "run", **first)
    data = second.get("data", lambda: None)()
    for epochs in (1, 2):  # a finished run is not handed out either
        refused(tmp_path / "run", "made with other arguments", reason, **{**second, "data": data, "epochs": epochs})


class Helper(nn.Module):
    """forward calls another method, whose code counts as well."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 3)

    def squash(self, x):
        return torch.tanh(x)

    def forward(self, x):
        return self.squash(self.fc(x))


class OtherHelper(Helper):
    def squash(self, x):
        return torch.sigmoid(x)


OtherHelper.__qualname__ = Helper.__qualname__


def test_the_code_of_other_methods_is_compared(tmp_path):
    fresh(net=Helper, epochs=1, checkpoint=tmp_path / "run")
    refused(tmp_path / "run", "network was", net=OtherHelper)


def test_the_start_of_the_noise_is_compared(tmp_path):
    train(*pair(init=-10.0), checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"guide was .*init=-10.0.*init=-4.0"):
        train(*pair(init=-4.0), checkpoint=tmp_path / "run")


def test_a_schedule_that_follows_the_training_goes_on_if_it_is_asked_to(tmp_path):
    rate = {"now": 1.0}

    def halve(epoch, posterior):
        rate["now"] /= 2

    fresh(epochs=2, checkpoint=tmp_path / "run", lr_schedule=lambda _: rate["now"], on_epoch=halve)
    kept = checkpoint.load(tmp_path / "run")[1]["schedules"]["lr_schedule"]
    assert kept == {"schedule": None, "values": [1.0, 0.5]}
    with pytest.raises(CheckpointError, match=r"lr_schedule was 1\.0 at epoch 0, is 0\.25"):
        fresh(epochs=3, checkpoint=tmp_path / "run", lr_schedule=lambda _: rate["now"])
    longer = fresh(epochs=3, checkpoint=tmp_path / "run", lr_schedule=lambda _: rate["now"], resume="any")
    assert [row["lr"] for row in longer.history] == pytest.approx([0.01, 0.005, 0.0025])


def test_a_global_that_a_function_reads_is_compared(tmp_path, monkeypatch):
    fresh(likelihood=with_global, epochs=1, checkpoint=tmp_path / "run")
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    refused(tmp_path / "run", "SCALE=1.0", "SCALE=2.0", likelihood=with_global)


def test_a_longer_run_may_have_another_schedule_from_there_on(tmp_path):
    """Only the epochs that were trained are compared."""
    fresh(epochs=2, checkpoint=tmp_path / "run", lr_schedule=HoldThenDecay(2, 3))
    longer = fresh(epochs=4, checkpoint=tmp_path / "run", lr_schedule=HoldThenDecay(2, 10))
    assert [row["lr"] for row in longer.history] == pytest.approx([0.01, 0.01, 0.01, 0.01 * 7 / 8])
    refused(tmp_path / "run", "lr_schedule was 0.875 at epoch 3, is 0.75", epochs=5, lr_schedule=HoldThenDecay(2, 6))


def test_a_schedule_that_is_a_value_is_compared_under_any_environment(tmp_path):
    """A checkpoint has its repr. Only a plain function may have followed the training."""
    fresh(epochs=2, checkpoint=tmp_path / "run", kl_schedule=WarmUp(0, 4))
    kept = checkpoint.load(tmp_path / "run")[1]["schedules"]["kl_schedule"]
    assert kept == {"schedule": "WarmUp(wait=0, ramp=4, weight=1.0)", "values": [0.0, 0.25]}
    reason = "kl_schedule was 0.25 at epoch 1, is 0.5 (WarmUp(wait=0, ramp=4, weight=1.0) then, WarmUp(wait=0, ramp=2"
    for resume in ("exact", "any"):
        refused(tmp_path / "run", reason, kl_schedule=WarmUp(0, 2), resume=resume, epochs=3)
    assert len(fresh(epochs=3, checkpoint=tmp_path / "run", kl_schedule=lambda epoch: epoch / 4).history) == 3


def test_how_examples_are_augmented_is_compared(tmp_path):
    images, y = torch.rand(N, 1, 8, 8), examples()[1]
    net = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3))  # noqa: E731
    fresh(AugmentedImages(images, y, pad=1, cutout=0), net=net, epochs=1, checkpoint=tmp_path / "run")
    refused(tmp_path / "run", "data was AugmentedImages", data=AugmentedImages(images, y, pad=2, cutout=0), net=net)


@pytest.mark.parametrize("meta", [{"python": "2.7"}, {}])
def test_code_is_compared_under_one_python_alone(meta, tmp_path):
    """Another one compiles the same function to other instructions."""
    make = lambda k: [lambda x: pyro_vd.Categorical(x + 0), lambda x: pyro_vd.Categorical(x * 1)][k]  # noqa: E731
    fresh(likelihood=make(0), epochs=1, checkpoint=tmp_path / "run")
    forge(tmp_path / "run", meta=meta)
    if meta:
        assert len(fresh(likelihood=make(1), epochs=2, checkpoint=tmp_path / "run").history) == 2
    else:
        refused(tmp_path / "run", "likelihood was", likelihood=make(1))
        assert len(fresh(likelihood=make(1), checkpoint=tmp_path / "run", resume="any").history) == 2


@pytest.mark.parametrize(
    ("name", "value"), [("torch", "1.0"), ("threads", 77), ("engine", "compiled"), ("device", "mps")]
)
def test_another_environment_is_refused_unless_asked_for(name, value, run):
    forge(run, environment={name: value})
    refused(run, "made in another environment", f"{name} was {value}", "resume='any'")
    assert len(fresh(checkpoint=run, resume="any").history) == 2


def test_a_way_to_resume_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="resume='maybe': resume is one of exact, any"):
        fresh(resume="maybe")


def test_a_checkpoint_that_is_only_signed_again_goes_on(run, tmp_path):
    """Else the tests above show nothing."""
    forge(run)
    assert same(values(fresh(checkpoint=run)), values(fresh()))


def test_the_same_run_made_anew_goes_on(tmp_path):
    """Functions, objects and schedules made again, values of another type: no difference."""

    def arguments(n):
        return {
            "data": tuple(tensor.clone() for tensor in examples()),
            "net": lambda: dropout_network(p=0.0),
            "likelihood": softened(n(1.0)),
            "kl_schedule": lambda epoch: n(1.0 if epoch else 0.0),
            "lr_schedule": lambda epoch: n(0.5),
            "lr": n(0.01),
            "threshold": n(3.0),
            "seed": 0,
        }

    whole = fresh(epochs=2, **arguments(float))
    fresh(epochs=1, checkpoint=tmp_path / "run", **arguments(float))
    again = arguments(np.float64)
    resumed = fresh(epochs=2, checkpoint=tmp_path / "run", **{**again, "likelihood": softened(1.0)})
    assert same(values(whole), values(resumed))
    assert untimed(whole.history) == untimed(resumed.history)


def test_the_automatic_engine_stays_what_it_was(tmp_path, monkeypatch, quick_compiler):
    """A longer run would pick the compiled one, whose steps differ in the last digits."""
    fresh(checkpoint=tmp_path / "eager", epochs=1, engine="auto")
    fresh(checkpoint=tmp_path / "compiled", epochs=1, engine="compiled")
    monkeypatch.setattr("pyro_vd.inference.engine.engine.COMPILE_PAYS_AFTER", 2)
    assert fresh(checkpoint=tmp_path / "eager", epochs=2, engine="auto").engine == "eager"
    monkeypatch.setattr("pyro_vd.inference.engine.engine.COMPILE_PAYS_AFTER", 10**6)
    assert fresh(checkpoint=tmp_path / "compiled", epochs=2, engine="auto").engine == "compiled"
    refused(tmp_path / "eager", "engine was eager, is compiled", engine="compiled", epochs=3)
