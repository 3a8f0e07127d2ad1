"""Resuming: a run goes on from its own checkpoint bit for bit, and nothing that is not finite is saved."""

import math
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pyro_vd
from pyro_vd import NonFiniteError, Posterior, checkpoint, guides, optim
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.inference.engine import Engine
from pyro_vd.inference.schedules import HoldThenDecay, OneCycle, WarmUp
from tests._asserts import on_disk, same, untimed, values
from tests._pairs import BATCH, STEPS, N, examples, fresh, interrupt_at, network, pair, train
from tests.optim.rules import RMSprop

SCHEDULES = {"lr_schedule": HoldThenDecay(1, 4), "kl_schedule": WarmUp(0, 3)}


def run_through(run, epochs=3, scheme="sparse", data=None, **arguments):
    return fresh(data, scheme, checkpoint=run, epochs=epochs, **SCHEDULES, **arguments)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    posterior = run_through(run)
    return on_disk(run), values(posterior), untimed(posterior.history)


def check_resumed(run, uninterrupted, **arguments):
    posterior = run_through(run, **arguments)
    (tensors, meta), parameters, history = uninterrupted
    found_tensors, found_meta = on_disk(run)
    assert same(parameters, values(posterior))
    assert same(tensors, found_tensors)
    assert found_meta == meta
    assert untimed(posterior.history) == history


def test_a_checkpoint_of_more_epochs_than_asked_for_is_refused(tmp_path):
    fresh(epochs=2, checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointError, match="holds 2 epochs, more than the 1 asked for"):
        fresh(epochs=1, checkpoint=tmp_path / "run")


@pytest.mark.parametrize("k", range(1, 3 * STEPS + 1))
def test_a_run_interrupted_in_any_step_goes_on_bit_for_bit(k, tmp_path, monkeypatch, uninterrupted):
    """Parameters, Adam, generator and history. Step 4, 8 and 12 are the last of their epochs."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, k)
        with pytest.raises(KeyboardInterrupt) as caught:
            run_through(run)
    assert str(run) in str(caught.value)
    _, meta = checkpoint.load(run)
    assert meta["epoch"] * STEPS + meta["step"] == k  # the step under way was finished, and no more
    check_resumed(run, uninterrupted)


def test_a_run_with_one_cycle_goes_on_bit_for_bit(tmp_path, monkeypatch):
    """Also after an interruption in the last step of an epoch, whose row has the rate of that step."""
    cycle = {"epochs": 2, "lr_schedule": OneCycle(total=2, peak=0.75, start=0.5)}
    whole = fresh(checkpoint=tmp_path / "whole", **cycle)
    for k in range(1, 2 * STEPS + 1):
        with monkeypatch.context() as patch:
            interrupt_at(patch, k)
            with pytest.raises(KeyboardInterrupt):
                fresh(checkpoint=tmp_path / f"run{k}", **cycle)
        resumed = fresh(checkpoint=tmp_path / f"run{k}", **cycle)
        assert same(values(whole), values(resumed))
        assert untimed(whole.history) == untimed(resumed.history)


def test_resuming_under_another_cycle_is_refused(tmp_path):
    fresh(epochs=2, checkpoint=tmp_path / "run", lr_schedule=OneCycle(4, 2))
    with pytest.raises(CheckpointError, match="lr_schedule"):
        fresh(epochs=4, checkpoint=tmp_path / "run", lr_schedule=OneCycle(4, 3))


STATES = {
    "AdamW": (optim.AdamW(weight_decay=0.1), ["exp_avg", "exp_avg_sq", "step"]),
    "SGD": (optim.SGD(), []),
    "momentum": (optim.SGD(momentum=0.9, nesterov=True, weight_decay=0.1), ["momentum_buffer"]),
    "own": (RMSprop(weight_decay=0.1), ["square_avg", "step"]),
}


# Mutants: a state that is not saved, not restored, or restored into tensors of the checkpoint.
@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("name", list(STATES))
def test_a_run_of_any_optimizer_goes_on_bit_for_bit(name, clip_norm, tmp_path, monkeypatch):
    optimizer, keys = STATES[name]
    arguments = {"optimizer": optimizer, "clip_norm": clip_norm}
    whole = run_through(tmp_path / "whole", **arguments)
    for k in (3, STEPS):  # steps after each start: in the middle of an epoch, and after more than a whole one
        with monkeypatch.context() as patch:
            interrupt_at(patch, k)
            with pytest.raises(KeyboardInterrupt):
                run_through(tmp_path / "run", **arguments)
    uninterrupted = on_disk(tmp_path / "whole"), values(whole), untimed(whole.history)
    check_resumed(tmp_path / "run", uninterrupted, **arguments)
    prefix = f"{type(optimizer).__name__.lower()}."
    tensors, meta = on_disk(tmp_path / "run")
    found = {key.removeprefix(prefix) for key in tensors if key.startswith(prefix)}
    assert found == {f"{parameter}.{key}" for parameter in meta["trained"][0] for key in keys}
    assert meta["settings"]["optimizer"] == repr(optimizer)
    loaded = Posterior(*pair(seed=1)).load(tmp_path / "run")
    assert same(values(loaded), values(whole))


def test_the_default_optimizer_is_not_named(tmp_path):
    """A checkpoint of before there was a choice goes on with it."""
    fresh(checkpoint=tmp_path / "run", epochs=1, optimizer=optim.Adam())
    assert not on_disk(tmp_path / "run")[1]["settings"].keys() & {"optimizer", "clip_norm"}
    assert len(fresh(checkpoint=tmp_path / "run", epochs=2).history) == 2


def test_a_torch_optimizer_has_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"the state of RMSprop cannot be checked .* leave out checkpoint="):
        fresh(checkpoint=tmp_path / "run", optimizer=torch.optim.RMSprop)
    assert not list(tmp_path.iterdir())


def test_a_resumed_run_draws_the_augmentations_that_the_uninterrupted_one_draws(tmp_path):
    """Also in epochs after the resumption: a look at a batch before the first step must not advance the generator."""
    images, labels = torch.rand(N, 1, 6, 6), torch.randint(2, (N,))
    moving = AugmentedImages(images, labels, pad=1, cutout=0, flip=False)

    def train_moving(run, stop=None):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
        model = pyro_vd.lift(net, pyro_vd.LogUniform, pyro_vd.Categorical, num_data=N)

        def on_epoch(epoch, posterior):
            if epoch == stop:
                os.kill(os.getpid(), signal.SIGINT)

        guide = guides.sparse.Guide(model)
        how = {"epochs": 4, "batch_size": BATCH, "seed": 0, "engine": "eager", "progress": False}
        return pyro_vd.fit(model, guide, moving, checkpoint=run, on_epoch=on_epoch, **how)

    whole = train_moving(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_moving(tmp_path / "run", stop=1)
    assert untimed(train_moving(tmp_path / "run").history) == untimed(whole.history)


def test_sigterm_is_an_interruption_too(tmp_path, monkeypatch, uninterrupted):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6, signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            run_through(tmp_path / "run")
    check_resumed(tmp_path / "run", uninterrupted)


def test_a_run_interrupted_many_times_goes_on_bit_for_bit(tmp_path, monkeypatch, uninterrupted):
    for k in (1, 2, 3):
        with monkeypatch.context() as patch:
            interrupt_at(patch, k)
            with pytest.raises(KeyboardInterrupt):
                run_through(tmp_path / "run")
    check_resumed(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("at", [0, 1])
def test_an_interruption_in_on_epoch_saves_the_epoch(at, tmp_path, uninterrupted):
    def look(epoch, posterior):
        if epoch == at:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    with pytest.raises(KeyboardInterrupt):
        run_through(tmp_path / "run", on_epoch=look)
    _, meta = checkpoint.load(tmp_path / "run")
    assert meta["epoch"] == at + 1
    check_resumed(tmp_path / "run", uninterrupted)


def test_an_interruption_in_the_last_on_epoch_is_not_lost(tmp_path, uninterrupted):
    """Else Ctrl-C there starts the next run of an experiment instead of ending it."""

    def look(epoch, posterior):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    with pytest.raises(KeyboardInterrupt):
        run_through(tmp_path / "run", on_epoch=look)
    check_resumed(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("scheme", ["none", "hierarchical"])
def test_other_schemes_resume_bit_for_bit(scheme, tmp_path, monkeypatch):
    whole = run_through(tmp_path / "whole", scheme=scheme)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            run_through(tmp_path / "run", scheme=scheme)
    check_resumed(tmp_path / "run", (on_disk(tmp_path / "whole"), values(whole), untimed(whole.history)), scheme=scheme)


def test_a_sequential_loader_resumes_bit_for_bit(tmp_path, monkeypatch):
    """Starting a loader draws from torch's generator; doing so once more must not shift the noise."""
    loader = DataLoader(TensorDataset(*examples()), batch_size=BATCH)
    whole = run_through(tmp_path / "whole", data=loader)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            run_through(tmp_path / "run", data=loader)
    check_resumed(tmp_path / "run", (on_disk(tmp_path / "whole"), values(whole), untimed(whole.history)), data=loader)


def test_a_longer_run_extends_a_finished_one(tmp_path, uninterrupted):
    run_through(tmp_path / "run", epochs=1)
    check_resumed(tmp_path / "run", uninterrupted)


def test_a_finished_run_is_only_read(tmp_path, monkeypatch, uninterrupted):
    run = tmp_path / "run"
    run_through(run)
    interrupt_at(monkeypatch, 1)  # a single step would raise
    check_resumed(run, uninterrupted)


@pytest.mark.parametrize(
    "changed",
    [
        {"batch_size": 8},
        {"lr": 0.02},
        {"lr_scale": {"log_sigma2": 2.0}},
        {"estimator": "weights"},
        {"seed": 1},
        {"threshold": 3.0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_resuming_with_other_arguments_is_refused_by_name(changed, tmp_path):
    run_through(tmp_path / "run", epochs=1)
    before = on_disk(tmp_path / "run")
    ((name, value),) = changed.items()
    with pytest.raises(CheckpointError) as caught:
        run_through(tmp_path / "run", **changed)
    assert f"{name} was" in str(caught.value)
    assert f"is {value}" in str(caught.value)
    after = on_disk(tmp_path / "run")
    assert same(before[0], after[0])
    assert before[1] == after[1]


def test_resuming_another_network_is_refused_and_leaves_the_pair_alone(tmp_path):
    run_through(tmp_path / "run", epochs=1)
    model, guide = pair(net=lambda: network(hidden=7))
    before = values(Posterior(model, guide))
    with pytest.raises(CheckpointError, match=r"network 0 was .*out_features=6\), is .*out_features=7"):
        train(model, guide, checkpoint=tmp_path / "run", **SCHEDULES)
    assert same(before, values(Posterior(model, guide)))


def test_resuming_with_another_prior_is_refused(tmp_path):
    """Sparse and hierarchical guides have parameters of the same names and shapes, and another objective."""
    run_through(tmp_path / "run", epochs=1, scheme="sparse")
    with pytest.raises(CheckpointError):
        run_through(tmp_path / "run", scheme="hierarchical")


def test_a_damaged_checkpoint_is_refused_and_leaves_the_pair_alone(tmp_path):
    run = tmp_path / "run"
    run_through(run, epochs=1)
    file = tmp_path / "run.json"
    file.write_bytes(file.read_bytes()[:-40])
    model, guide = pair()
    before = values(Posterior(model, guide))
    with pytest.raises(CheckpointError, match=r"run\.json"):
        train(model, guide, checkpoint=run)
    assert same(before, values(Posterior(model, guide)))


def test_a_posteriors_own_checkpoint_is_no_run_to_resume(tmp_path):
    """It has neither Adam's state nor a position; KeyError would be no help."""
    posterior = fresh()
    posterior.save(tmp_path / "saved")
    with pytest.raises(CheckpointError, match="saved"):
        fresh(checkpoint=tmp_path / "saved")


def test_a_run_that_broke_goes_on_from_its_checkpoint(tmp_path, monkeypatch, uninterrupted):
    """The cause may have been mended: the checkpoint of the last whole epoch leads to the same end."""
    calls = []

    def spoiled(self, x):
        calls.append(1)
        return x * math.nan if len(calls) == STEPS + 2 else x.relu()

    with monkeypatch.context() as patch:
        patch.setattr(nn.ReLU, "forward", spoiled)
        with pytest.raises(NonFiniteError):
            run_through(tmp_path / "run")
    check_resumed(tmp_path / "run", uninterrupted)


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


def test_a_schedule_is_asked_once_an_epoch(tmp_path):
    """So one that counts its calls works with a checkpoint, and goes on where it is made anew."""

    def counting():
        values = iter([1.0, 0.5, 0.25, 0.125])
        return lambda epoch: next(values)

    whole = fresh(epochs=4, lr_schedule=counting())
    fresh(epochs=2, checkpoint=tmp_path / "run", lr_schedule=counting())
    resumed = fresh(epochs=4, checkpoint=tmp_path / "run", lr_schedule=counting())
    assert untimed(whole.history) == untimed(resumed.history)


@pytest.mark.parametrize("kind", ["a long name", "a folder that is a file", "a folder that may not be written"])
def test_a_run_that_cannot_be_written_is_refused_before_the_first_step(kind, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, 1)  # a single step would raise
    (tmp_path / "file").write_text("")
    run = {"a long name": tmp_path / (240 * "x"), "a folder that is a file": tmp_path / "file" / "run"}.get(kind)
    if run is None:
        run = tmp_path / "run"
        monkeypatch.setattr("pathlib.Path.touch", not_permitted)  # root may write anywhere
    with pytest.raises(CheckpointError, match=r"cannot be written .*choose another checkpoint") as caught:
        fresh(checkpoint=run)
    assert "\n" not in str(caught.value)


def not_permitted(*_):
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("scheduled", [False, True])
def test_a_rate_that_breaks_the_parameters_is_not_saved(scheduled, engine, tmp_path, quick_compiler, monkeypatch):
    """Loss and gradient of the last step were finite. The message says where the last finite state is."""
    monkeypatch.setattr("pyro_vd.inference.training.LARGEST_LR", math.inf)  # fit refuses such rates before they do it
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
        output = step(self, *args)
        parameter = next(iter(self.pair.members[-1].objective.parameters()))
        self.pair.members[-1].optimizer.state[parameter]["exp_avg"].fill_(math.inf)
        return output

    monkeypatch.setattr(Engine, "step", stepping)
    arguments = {"epochs": 1, "batch_size": BATCH, "engine": "eager", "progress": False, "checkpoint": tmp_path / "run"}
    with pytest.raises((NonFiniteError, KeyboardInterrupt)) as caught:  # the second would end the tests
        pyro_vd.fit_seeds(pair, examples(), seeds=seeds, **arguments)
    assert "non-finite state of model.net.0.bias" in str(caught.value)
    assert not checkpoint.exists(tmp_path / "run")


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
