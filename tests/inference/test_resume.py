"""Resuming: a run goes on from its own checkpoint bit for bit, and from no other."""

import errno
import functools
import json
import math
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pyro_vd
from pyro_vd import NonFiniteError, Posterior, checkpoint
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.inference import lock
from pyro_vd.inference.engine import Engine
from pyro_vd.inference.schedules import constant, hold_then_decay, warm_up
from tests.forge import forge
from tests.inference.test_fit import BATCH, STEPS, N, examples, interrupt_at, pair, same, train, untimed, values


def fresh(data=None, likelihood=pyro_vd.Categorical, net=None, scheme="sparse", **arguments):
    return train(*pair(scheme, net, likelihood=likelihood), data, **arguments)


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


# --- forged checkpoints: altered, and signed again

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


def row(**changes):
    names = ("loss", "log_likelihood", "kl", "beta", "lr", "seconds")
    return {"epoch": 0, **dict.fromkeys(names, 0.0), **changes}


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
    "a schedule of one epoch": {"schedules": {n: [1.0] for n in ("lr_schedule", "kl_schedule", "threshold")}},
    "a schedule in words": {"schedules": {"lr_schedule": "1"}},
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


def test_a_checkpoint_that_is_only_signed_again_goes_on(run, tmp_path):
    """Else the tests above show nothing."""
    forge(run)
    assert same(values(fresh(checkpoint=run)), values(fresh()))


FORGED_POSTERIORS = {
    "a parameter that is not finite": ({THETA: torch.full((6, 5), math.inf)}, {}),
    "an extra tensor": ({"more": torch.zeros(2)}, {}),
    "a history in words": ({}, {"history": "good"}),
    "a history of words": ({}, {"history": [{"loss": "low"}]}),
    "no history": ({}, {"history": None}),
    "no pair": ({}, {"pair": None}),
}


@pytest.mark.parametrize("name", list(FORGED_POSTERIORS))
def test_a_forged_posterior_is_not_loaded(name, tmp_path):
    Posterior(*pair()).save(tmp_path / "saved")
    tensors, meta = FORGED_POSTERIORS[name]
    forge(tmp_path / "saved", tensors=tensors, meta=meta)
    posterior = Posterior(*pair(seed=1))
    before = values(posterior)
    with pytest.raises(CheckpointError, match="saved"):
        posterior.load(tmp_path / "saved")
    assert same(before, values(posterior))
    assert posterior.history == []


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


def test_tied_parameters_are_saved_under_each_of_their_names(tmp_path):
    """safetensors refuses tensors that share memory."""

    def tied():
        net = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3))
        net[1].bias = net[0].bias
        return net

    model, guide = pair(net=tied)
    posterior = train(model, guide, checkpoint=tmp_path / "run")
    other = train(*pair(net=tied), checkpoint=tmp_path / "run")
    assert torch.equal(other.model.net[1].bias, posterior.model.net[0].bias)
    assert other.model.net[1].bias is other.model.net[0].bias
    posterior.save(tmp_path / "posterior")
    loaded = Posterior(*pair(net=tied)).load(tmp_path / "posterior")
    assert torch.equal(loaded.model.net[1].bias, posterior.model.net[0].bias)


# --- what is the same run


def shifted_labels():
    x, y = examples()
    return x, (y + 1) % 3


def other_inputs():
    x, y = examples()
    x[-1, -1] += 1e-6
    return x, y


def network(activation=nn.ReLU, **options):
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
    "activation": ({"net": network}, {"net": lambda: network(nn.Tanh)}, "network 1 was torch.nn.modules.activation.Re"),
    "dropout rate": ({"net": network}, {"net": lambda: network(p=0.1)}, "network 2 was"),
    "forward": ({"net": Net}, {"net": Tanh}, "network was tests.inference.test_resume.Net"),
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
    "lr schedule": ({}, {"lr_schedule": constant(0.5)}, "lr_schedule was 1.0 at epoch 0, is 0.5"),
    "kl schedule": ({}, {"kl_schedule": warm_up(0, 2)}, "kl_schedule was 1.0 at epoch 0, is 0.0"),
    "threshold": ({}, {"threshold": constant(3.0)}, "threshold was None at epoch 0, is 3.0"),
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


def test_a_schedule_is_asked_once_an_epoch(tmp_path):
    """So one that counts its calls works with a checkpoint, and goes on where it is made anew."""

    def counting():
        values = iter([1.0, 0.5, 0.25, 0.125])
        return lambda epoch: next(values)

    whole = fresh(epochs=4, lr_schedule=counting())
    fresh(epochs=2, checkpoint=tmp_path / "run", lr_schedule=counting())
    resumed = fresh(epochs=4, checkpoint=tmp_path / "run", lr_schedule=counting())
    assert untimed(whole.history) == untimed(resumed.history)


def test_a_schedule_that_follows_the_training_goes_on_if_it_is_asked_to(tmp_path):
    rate = {"now": 1.0}

    def halve(epoch, posterior):
        rate["now"] /= 2

    fresh(epochs=2, checkpoint=tmp_path / "run", lr_schedule=lambda _: rate["now"], on_epoch=halve)
    kept = checkpoint.load(tmp_path / "run")[1]["schedules"]["lr_schedule"]
    assert kept == [1.0, 0.5]
    with pytest.raises(CheckpointError, match=r"lr_schedule was 1\.0 at epoch 0, is 0\.25"):
        fresh(epochs=3, checkpoint=tmp_path / "run", lr_schedule=lambda _: rate["now"])
    longer = fresh(epochs=3, checkpoint=tmp_path / "run", lr_schedule=lambda _: rate["now"], resume="any")
    assert [row["lr"] for row in longer.history] == pytest.approx([0.01, 0.005, 0.0025])


def test_a_global_that_a_function_reads_is_compared(tmp_path, monkeypatch):
    fresh(likelihood=with_global, epochs=1, checkpoint=tmp_path / "run")
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    refused(tmp_path / "run", "SCALE=1.0", "SCALE=2.0", likelihood=with_global)


def test_the_same_run_made_anew_goes_on(tmp_path):
    """Functions, objects and schedules made again, values of another type: no difference."""

    def arguments(n):
        return {
            "data": tuple(tensor.clone() for tensor in examples()),
            "net": lambda: network(p=0.0),
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


def test_a_longer_run_may_have_another_schedule_from_there_on(tmp_path):
    """Only the epochs that were trained are compared."""
    fresh(epochs=2, checkpoint=tmp_path / "run", lr_schedule=hold_then_decay(2, 3))
    longer = fresh(epochs=4, checkpoint=tmp_path / "run", lr_schedule=hold_then_decay(2, 10))
    assert [row["lr"] for row in longer.history] == pytest.approx([0.01, 0.01, 0.01, 0.01 * 7 / 8])
    refused(tmp_path / "run", "lr_schedule was 0.875 at epoch 3, is 0.75", epochs=5, lr_schedule=hold_then_decay(2, 6))


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


# --- the environment


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


def test_the_automatic_engine_stays_what_it_was(tmp_path, monkeypatch, quick_compiler):
    """A longer run would pick the compiled one, whose steps differ in the last digits."""
    fresh(checkpoint=tmp_path / "eager", epochs=1, engine="auto")
    fresh(checkpoint=tmp_path / "compiled", epochs=1, engine="compiled")
    monkeypatch.setattr("pyro_vd.inference.engine.engine.COMPILE_PAYS_AFTER", 2)
    assert fresh(checkpoint=tmp_path / "eager", epochs=2, engine="auto").engine == "eager"
    monkeypatch.setattr("pyro_vd.inference.engine.engine.COMPILE_PAYS_AFTER", 10**6)
    assert fresh(checkpoint=tmp_path / "compiled", epochs=2, engine="auto").engine == "compiled"
    refused(tmp_path / "eager", "engine was eager, is compiled", engine="compiled", epochs=3)


# --- one writer


def test_a_checkpoint_in_use_is_refused_naming_the_process(tmp_path):
    """By another thread of this process, and by another process; afterwards it is free."""
    found = []

    def second(*_):
        with pytest.raises(CheckpointError, match="in use by another fit of this process") as caught:
            fresh(checkpoint=tmp_path / "run")
        found.append(str(caught.value))
        return {}

    fresh(epochs=1, checkpoint=tmp_path / "run", on_epoch=second)
    assert len(found) == 1
    assert "\n" not in found[0]
    assert str(tmp_path / "run:") in found[0]
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json", ".safetensors"]
    assert len(fresh(checkpoint=tmp_path / "run").history) == 2


HOLDING = """
import sys, time
from pathlib import Path
from pyro_vd.inference.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_holds_nothing(tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(run)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(CheckpointError, match=f"in use by process {process.pid}"):
            fresh(checkpoint=run)
        process.kill()
    assert len(fresh(checkpoint=run).history) == 2


def test_the_lock_is_a_file_where_there_is_no_flock(tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_vd.inference.lock.fcntl", None)
    fresh(epochs=1, checkpoint=tmp_path / "run")
    (tmp_path / "run.lock").write_text("12345")
    with pytest.raises(CheckpointError, match=r"in use by process 12345.*delete .*run\.lock"):
        fresh(checkpoint=tmp_path / "run")
    (tmp_path / "run.lock").unlink()
    assert len(fresh(checkpoint=tmp_path / "run").history) == 2
    assert not (tmp_path / "run.lock").exists()


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    with pytest.warns(UserWarning, match=r"run\.lock: no lock can be had \(No locks available\)"):
        fresh(checkpoint=tmp_path / "run")
    assert not (tmp_path / "run.lock").exists()


def test_a_lock_is_released_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fresh(checkpoint=tmp_path / "run", on_epoch=lambda *_: 1 / 0)
    assert len(fresh(checkpoint=tmp_path / "run").history) == 2


def test_one_thread_of_many_gets_the_lock(tmp_path):
    barrier, leave, held = threading.Barrier(8), threading.Event(), []

    def take():
        barrier.wait()
        try:
            with lock.hold_lock(tmp_path / "run"):
                held.append(True)
                leave.wait()
        except CheckpointError:
            held.append(False)
            if held.count(False) == 7:
                leave.set()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(held) == 7 * [False] + [True]


def test_a_lock_file_that_its_holder_deletes_is_taken_anew(tmp_path, monkeypatch):
    """Between opening and locking: a lock on a file without a name would keep nobody out."""
    run, flock, calls = tmp_path / "run", lock.fcntl.flock, []

    def late(*args):
        calls.append(args)
        if len(calls) == 1:
            (tmp_path / "run.lock").unlink()
        flock(*args)

    monkeypatch.setattr(lock.fcntl, "flock", late)
    with lock.hold_lock(run), pytest.raises(CheckpointError, match="in use"), lock.hold_lock(run):
        raise AssertionError("two hold the lock")


@pytest.mark.parametrize("kind", ["a long name", "a folder that is a file", "a folder that may not be written"])
def test_a_run_that_cannot_be_written_is_refused_before_the_first_step(kind, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, 1)  # a single step would raise
    (tmp_path / "file").write_text("")
    run = {"a long name": tmp_path / (240 * "x"), "a folder that is a file": tmp_path / "file" / "run"}.get(kind)
    if run is None:
        run = tmp_path / "run"
        monkeypatch.setattr("pathlib.Path.touch", not_permitted)  # root may write anywhere
    with pytest.raises(CheckpointError, match=r"cannot be written .*choose another run") as caught:
        fresh(checkpoint=run)
    assert "\n" not in str(caught.value)


def not_permitted(*_):
    raise PermissionError(13, "Permission denied")


# --- numbers


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("scheduled", [False, True])
def test_a_rate_that_breaks_the_parameters_is_not_saved(scheduled, engine, tmp_path, quick_compiler, monkeypatch):
    """Loss and gradient of the last step were finite. The message says where the last finite state is."""
    monkeypatch.setattr("pyro_vd.inference.fit.LARGEST_LR", math.inf)  # fit refuses such rates before they do it
    run = tmp_path / "run"
    rate = {"lr": 1e4, "lr_schedule": lambda epoch: 1e37 if epoch else 1e-6} if scheduled else {"lr": 1e40}
    with pytest.raises(NonFiniteError) as caught:
        fresh(batch_size=N, epochs=2, checkpoint=run, engine=engine, **rate)
    message = str(caught.value)
    assert "\n" not in message
    assert "left parameters that are not finite" in message
    assert (f"{run} holds the last finite state" if scheduled else "nothing was saved") in message
    assert len(caught.value.history) == scheduled
    assert checkpoint.exists(run) == scheduled
    if scheduled:
        tensors, meta = checkpoint.load(run)
        assert meta["epoch"] == 1
        assert all(tensor.isfinite().all() for tensor in tensors.values())


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_a_moment_that_is_not_finite_is_not_saved(seeds, tmp_path, monkeypatch):
    """Nor is it where the run is stopped in the middle of an epoch."""
    interrupt_at(monkeypatch, 2)
    step = Engine.step

    def stepping(self, *args):
        outcome = step(self, *args)
        parameter = next(iter(self.replicas[-1].objective.parameters()))
        self.replicas[-1].optimizer.state[parameter]["exp_avg"].fill_(math.inf)
        return outcome

    monkeypatch.setattr(Engine, "step", stepping)
    arguments = {"epochs": 1, "batch_size": BATCH, "engine": "eager", "progress": False, "checkpoint": tmp_path / "run"}
    with pytest.raises((NonFiniteError, KeyboardInterrupt)) as caught:  # the second would end the tests
        pyro_vd.fit_seeds(pair, examples(), seeds=seeds, **arguments)
    assert "non-finite state of model.net.0.bias" in str(caught.value)
    assert not checkpoint.exists(tmp_path / "run")


def test_a_posterior_that_is_not_finite_is_not_saved(tmp_path):
    posterior = Posterior(*pair())
    with torch.no_grad():
        posterior.model.net[0].bias[1] = math.nan
    with pytest.raises(UserError, match=r"saved: model\.net\.0\.bias is not finite") as caught:
        posterior.save(tmp_path / "saved")
    assert "\n" not in str(caught.value)
    assert not checkpoint.exists(tmp_path / "saved")


@pytest.mark.parametrize("number", [np.float32, np.float64, torch.tensor, lambda x: torch.tensor([x])[0]])
def test_scalars_of_numpy_and_pytorch_are_written(number, tmp_path):
    """In the history they are Python's numbers, whether there is a checkpoint or not."""
    arguments = {"lr": number(0.01), "threshold": number(3.0), "on_epoch": lambda *_: {"accuracy": number(0.5)}}
    schedules = {name: lambda _: number(1.0) for name in ("lr_schedule", "kl_schedule")}
    posterior = fresh(checkpoint=tmp_path / "run", epochs=1, **arguments, **schedules)
    assert {type(value) for value in posterior.history[0].values()} == {int, float}
    assert fresh(checkpoint=tmp_path / "run", epochs=2, **arguments, **schedules).history[0] == posterior.history[0]


@pytest.mark.parametrize("whole", [np.int64, torch.tensor])
def test_whole_scalars_of_numpy_and_pytorch_are_written(whole, tmp_path):
    posterior = train(*pair(n=whole(N)), seed=whole(3), batch_size=whole(BATCH), checkpoint=tmp_path / "run")
    assert same(values(posterior), values(fresh(seed=3)))
    assert same(values(posterior), values(fresh(seed=3, checkpoint=tmp_path / "run")))
