"""Phases: each trains once, goes on from where it was interrupted, and is shared by specs with the same beginning."""

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import pyro_vd
from pyro_vd import NonFiniteError, Training, checkpoint, schedules
from pyro_vd.data import load
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import phases
from pyro_vd.experiments.common.phases import Job, State, run_phases, sparsity_at
from pyro_vd.experiments.common.spec import Data, Dense, FineTune, Fit, Gradual, Options
from pyro_vd.inference.lock import hold_lock
from tests.runs import DENSE, FIT, GRADUAL, LOTTERY, TUNE, make_spec
from tests.tiny import Tiny

SPECS = {
    "dense, fit, fine-tune": make_spec(DENSE, FIT, TUNE),
    "gradual": make_spec(DENSE, GRADUAL),
    "lottery": make_spec(LOTTERY),
}
EPOCHS = {"dense, fit, fine-tune": 2 + 3 + 2, "gradual": 2 + 4, "lottery": 2 * 3 + 1}


@pytest.fixture(scope="module")
def split():
    return load("digits")


@pytest.fixture(scope="module")
def whole(split, tmp_path_factory):
    """Every spec, trained in one go."""
    return {name: train(spec, split, tmp_path_factory.mktemp("whole")) for name, spec in SPECS.items()}


def train(spec, split, folder, **changes):
    torch.manual_seed(spec.seed)
    return run_phases(Job(spec, split, Tiny, folder, "eager", **changes), Tiny())


def rows_of(state):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in state.history]


def assert_same(state, other):
    assert rows_of(state) == rows_of(other)
    assert state.error_before_tuning == other.error_before_tuning
    for one, two in ((state.net, other.net), (state.posterior.guide, other.posterior.guide)):
        assert one.state_dict().keys() == two.state_dict().keys()
        assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.fixture
def count_epochs():
    """The number of epochs that are trained."""
    counts = [0]

    def count():
        counts[0] += 1

    return counts, count


@pytest.mark.parametrize("name", SPECS)
def test_the_second_time_nothing_is_trained(name, split, whole, tmp_path, count_epochs):
    counts, count = count_epochs
    for _ in range(2):
        assert_same(train(SPECS[name], split, tmp_path, on_epoch=count), whole[name])
    assert counts == [EPOCHS[name]]


@pytest.mark.parametrize(("name", "stop"), [(name, stop) for name in SPECS for stop in range(1, EPOCHS[name] + 1)])
def test_an_interrupted_phase_goes_on_to_the_same_bits(name, stop, split, whole, tmp_path, count_epochs):
    """After every epoch of every kind of phase; what was trained before is not trained again."""
    counts, count = count_epochs

    def interrupt():
        count()
        if counts == [stop]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SPECS[name], split, tmp_path, on_epoch=interrupt)
    assert_same(train(SPECS[name], split, tmp_path, on_epoch=interrupt), whole[name])
    assert counts[0] <= EPOCHS[name] + 1  # the epoch whose end was interrupted may be trained again


def test_specs_share_their_beginning(split, tmp_path, count_epochs):
    """To the numbers of a run alone."""
    counts, count = count_epochs
    train(make_spec(DENSE, FIT), split, tmp_path, on_epoch=count)
    assert counts == [5]
    tuned = train(make_spec(DENSE, FIT, TUNE), split, tmp_path, on_epoch=count)
    assert counts == [5 + 2]
    other = make_spec(DENSE, replace(FIT, scheme="hierarchical"), num_samples=5)
    shared = train(other, split, tmp_path, on_epoch=count)
    assert counts == [5 + 2 + 3]
    assert_same(shared, train(other, split, tmp_path / "alone"))
    assert_same(tuned, train(make_spec(DENSE, FIT, TUNE), split, tmp_path / "alone"))


@pytest.mark.parametrize(
    "other",
    [
        make_spec(DENSE, FIT, seed=1),
        make_spec(replace(DENSE, dropout=(0.0, 0.0)), FIT),
        make_spec(replace(DENSE, training=Training(epochs=2, lr=2e-3, batch_size=500)), FIT),
        make_spec(replace(DENSE, training=Training(epochs=1, batch_size=500)), FIT),
        make_spec(DENSE, FIT, data=Data(name="digits", shift=1)),
        make_spec(DENSE, FIT, data=Data(name="digits", validation=200)),
    ],
    ids=["seed", "dropout", "lr", "epochs", "shift", "validation"],
)
def test_another_beginning_is_not_shared(other, tmp_path):
    jobs = [Job(spec, None, Tiny, tmp_path) for spec in (make_spec(DENSE, FIT), other)]
    assert jobs[0].checkpoint(1) != jobs[1].checkpoint(1)


def test_the_initial_network_is_a_part_of_the_run(split, tmp_path):
    """A checkpoint that was made from other weights is refused."""
    spec = make_spec(DENSE)
    train(spec, split, tmp_path)
    mirrored = replace(split, train=replace(split.train, images=split.train.images.flip(-1)))
    with pytest.raises(UserError, match=r"1-phases-\w{8}-s0"):
        train(spec, mirrored, tmp_path)


def test_a_checkpoint_in_use_is_waited_for(split, whole, tmp_path, monkeypatch, capsys):
    """Another process trains the beginning; this one waits, says so once, and goes on from its end."""
    name = "dense, fit, fine-tune"
    first = Job(SPECS[name], split, Tiny, tmp_path).checkpoint(1)
    first.parent.mkdir(exist_ok=True)
    others, looks = ExitStack(), []
    others.enter_context(hold_lock(first))

    def wait(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            others.close()

    monkeypatch.setattr(phases.time, "sleep", wait)
    assert_same(train(SPECS[name], split, tmp_path), whole[name])
    assert looks == [phases.WAIT] * 3
    assert capsys.readouterr().out.count("waits: ") == 1


def test_two_processes_train_a_beginning_once(split, whole, tmp_path):
    code = f"""
import sys, time
from pathlib import Path
from tests.experiments.test_phases import *
phases.WAIT = 0.1
epochs = []
def slowly():
    epochs.append(time.sleep(0.2))
state = train(SPECS["dense, fit, fine-tune"], load("digits"), Path({str(tmp_path)!r}), on_epoch=slowly)
print(len(epochs), [row["loss"] for row in state.history])
"""
    root = Path(__file__).parents[2]
    started = [
        subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    ended = [process.communicate(timeout=300)[0].splitlines()[-1].partition(" ") for process in started]
    assert all(process.returncode == 0 for process in started)
    assert sum(int(epochs) for epochs, _, _ in ended) == EPOCHS["dense, fit, fine-tune"]
    losses = str([row["loss"] for row in whole["dense, fit, fine-tune"].history])
    assert [loss for _, _, loss in ended] == [losses, losses]


def test_every_row_of_the_history_has_its_phase(whole):
    names = {name: [row["phase"] for row in state.history] for name, state in whole.items()}
    assert names == {
        "dense, fit, fine-tune": ["dense"] * 2 + ["fit"] * 3 + ["fine_tune"] * 2,
        "gradual": ["dense"] * 2 + ["gradual"] * 4,
        "lottery": ["lottery"] * 7,
    }
    assert [row["round"] for row in whole["lottery"].history] == [0, 0, 1, 1, 2, 2, 2]
    fit = [row for row in whole["dense, fit, fine-tune"].history if row["phase"] == "fit"]
    assert all(0 <= row["error"] <= 1 and row["sparsity"] >= 0 for row in fit)


@pytest.mark.parametrize(
    ("name", "stop", "kept"),
    [
        ("dense, fit, fine-tune", 1, ["dense"]),
        ("dense, fit, fine-tune", 6, ["dense"] * 2 + ["fit"] * 3 + ["fine_tune"]),
        ("gradual", 4, ["dense"] * 2 + ["gradual"] * 2),
        ("lottery", 4, ["lottery"] * 4),
    ],
)
def test_what_diverges_keeps_how_training_went(name, stop, kept, split, tmp_path, monkeypatch, whole):
    """The error has the history of all phases up to there."""
    fit, counts = pyro_vd.fit, [0]

    def diverging(model, guide, train, training, *, on_epoch, **how):
        rows = []

        def note(epoch, posterior):
            counts[0] += 1
            rows[:] = posterior.history
            numbers = on_epoch(epoch, posterior) or {}
            if counts == [stop]:
                raise ZeroDivisionError
            return numbers

        try:
            return fit(model, guide, train, training, on_epoch=note, **how)
        except ZeroDivisionError:
            raise NonFiniteError("loss is nan", [*rows, {"epoch": len(rows)}]) from None

    monkeypatch.setattr(phases.pyro_vd, "fit", diverging)
    with pytest.raises(NonFiniteError) as error:
        train(SPECS[name], split, tmp_path)
    assert [row["phase"] for row in error.value.history] == kept
    assert [row["epoch"] for row in error.value.history] == [row["epoch"] for row in whole[name].history[: len(kept)]]
    if name == "lottery":
        assert [row["round"] for row in error.value.history] == [0, 0, 1, 1]


def test_dense_training_drops_inputs_and_leaves_no_hook(split, tmp_path):
    """At the rate of the first layer on the network's input, and at the other rate on the rest."""
    dropped, forward = [], torch.nn.functional.linear

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is forward:
                dropped.append(float((args[0] == 0).float().mean()))
            return func(*args, **(kwargs or {}))

    ones = replace(split, train=replace(split.train, images=torch.ones_like(split.train.images)))
    net = Tiny()
    with torch.no_grad():
        net.fc1.bias.fill_(100.0)  # all units are on
    phase = Dense(training=Training(epochs=1, batch_size=2000), dropout=(0.4, 0.2))
    with Watch():
        state = run_phases(Job(make_spec(phase), ones, Tiny, tmp_path, "compiled"), net)
    assert dropped[:2] == [pytest.approx(0.4, abs=0.02), pytest.approx(0.2, abs=0.02)]
    assert state.net is net
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_fine_tuning_trains_what_pruning_left(split, tmp_path):
    phase = replace(FIT, training=Training(epochs=6))
    pruned = train(make_spec(phase), split, tmp_path)
    tuned = train(make_spec(phase, FineTune(training=Training(epochs=20))), split, tmp_path)
    for site in ("fc1.weight", "fc2.weight"):
        before, after = (state.net.get_parameter(site) for state in (pruned, tuned))
        assert torch.equal(before == 0, after == 0)
        assert 0 < (before == 0).float().mean() < 1
        assert not torch.equal(before, after)
    assert tuned.history[:6] == pruned.history
    assert tuned.history[-1]["kl"] == 0  # without noise
    assert tuned.error_before_tuning == pruned.history[-1]["error"]
    assert pruned.error_before_tuning is None


@pytest.mark.parametrize("phases", [(TUNE,), (replace(FIT, threshold=None), TUNE), (GRADUAL, TUNE)])
def test_fine_tuning_needs_something_pruned(phases, split, tmp_path):
    with pytest.raises(UserError, match=r"FineTune needs a phase Fit with a threshold|a spec needs a phase"):
        train(make_spec(*phases), split, tmp_path)


def test_a_fit_without_a_threshold_is_not_pruned(split, tmp_path):
    state = train(make_spec(replace(FIT, threshold=None)), split, tmp_path)
    assert all(row.keys() >= {"error"} and "sparsity" not in row for row in state.history)
    assert not any(bool((weight == 0).any()) for weight in state.net.parameters())


def test_magnitude_pruning_is_gradual_and_not_uniform(whole):
    """It reaches the schedule's sparsity after every epoch, by one ranking over all layers."""
    wanted = [sparsity_at(epoch, 4, GRADUAL) for epoch in (1, 2, 3, 4)]
    assert 0 < wanted[0] < wanted[1] < wanted[2] == wanted[3] == 0.75
    found = [row["sparsity"] for row in whole["gradual"].history if row["phase"] == "gradual"]
    assert found == pytest.approx(wanted, abs=0.5 / 592)
    net = whole["gradual"].net
    shares = [(net.get_parameter(site) == 0).float().mean() for site in ("fc1.weight", "fc2.weight")]
    assert shares[0] != shares[1]
    assert sum(int((net.get_parameter(site) != 0).sum()) for site in ("fc1.weight", "fc2.weight")) == 592 // 4


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.5), (0.2, 0.6)])
def test_the_schedule_is_zhu_and_guptas(start, end):
    """Cubic: after half of the way 1 - 1/8 of the final sparsity; nothing before the start, all from the end on."""
    phase = Gradual(sparsity=0.9, training=Training(epochs=100), start=start, end=end)
    assert [sparsity_at(epoch, 100, phase) for epoch in (0, 100 * start)] == [0, 0]
    assert sparsity_at(50 * (start + end), 100, phase) == pytest.approx(0.9 * 7 / 8)
    assert [sparsity_at(epoch, 100, phase) for epoch in (100 * end, 100)] == [0.9, 0.9]


def test_the_lottery_rewinds_to_the_initial_weights(split, tmp_path, monkeypatch):
    """And each round prunes the same share of what is left."""
    started, kept, fit = [], [], pyro_vd.fit

    def watched(model, guide, *args, **how):
        started.append({site: theta.detach().clone() for site, theta in guide.theta.named_parameters()})
        posterior = fit(model, guide, *args, **how)
        kept.append(sum(int((weight != 0).sum()) for weight in posterior.mean().parameters() if weight.ndim > 1))
        return posterior

    monkeypatch.setattr(phases.pyro_vd, "fit", watched)
    train(SPECS["lottery"], split, tmp_path)
    assert len(started) == 3
    assert all(torch.equal(later[site], weight) for later in started for site, weight in started[0].items())
    assert kept == [592, 592 // 2, 592 // 4]


def test_the_last_ticket_has_the_extra_epochs(split, tmp_path, monkeypatch):
    trainings, fit = [], pyro_vd.fit

    def watched(model, guide, train, training, **how):
        trainings.append(training)
        return fit(model, guide, train, training, **how)

    monkeypatch.setattr(phases.pyro_vd, "fit", watched)
    train(SPECS["lottery"], split, tmp_path)
    assert trainings[:2] == [LOTTERY.training] * 2
    assert trainings[2] == Training(epochs=3, batch_size=500, lr_schedule=schedules.HoldThenDecay(2, 3))


@pytest.mark.parametrize(
    ("scheme", "options", "noise_lr", "expected"),
    [
        ("sparse", {}, 1.0, {}),
        ("sparse", {}, 0.3, {"log_sigma2": 0.3}),
        ("sparse", {"parametrization": "log_alpha"}, 0.3, {"log_alpha": 0.3}),
        ("group_normal_jeffreys", {}, 3.0, {"log_sigma2": 3.0, "z_log_sigma2": 3.0, "z_mu": 3.0}),
        ("none", {}, 0.3, {}),
    ],
)
def test_the_noise_has_a_learning_rate_of_its_own(scheme, options, noise_lr, expected, split, tmp_path, monkeypatch):
    """By the change of its parameters in one step of Adam, which is about the rate."""
    fit, moved = pyro_vd.fit, []

    def watched(model, guide, train, training, **how):
        assert training.lr_scale == expected
        start = {name: value.detach().clone() for name, value in guide.named_parameters()}
        posterior = fit(model, guide, train, training, **how)
        moved.append({name: (value - start[name]).abs().max().item() for name, value in guide.named_parameters()})
        return posterior

    monkeypatch.setattr(phases.pyro_vd, "fit", watched)
    training = Training(epochs=1, batch_size=2000)
    phase = Fit(scheme=scheme, training=training, options=Options(options), noise_lr=noise_lr)
    train(make_spec(phase), split, tmp_path)
    (change,) = moved
    for word, factor in {**expected, "theta": 1.0}.items():
        assert change[f"{word}.fc1.weight"] == pytest.approx(factor * 1e-3, rel=0.05), word


def test_the_training_is_what_the_phase_says(split, tmp_path, monkeypatch):
    """The threshold of pruning is not that of train-time masking."""
    fit, seen = pyro_vd.fit, []

    def watched(model, guide, train, training, **how):
        seen.append((training, how["seed"], how["engine"], how["resume"]))
        return fit(model, guide, train, training, **how)

    monkeypatch.setattr(phases.pyro_vd, "fit", watched)
    train(make_spec(DENSE, FIT, TUNE, seed=4), split, tmp_path)
    assert seen == [(phase.training, 4, "eager", "any") for phase in (DENSE, FIT, TUNE)]


def test_a_guide_that_refuses_its_options_is_named(split, tmp_path):
    phase = replace(FIT, options=Options(parametrization="log_beta"))
    with pytest.raises(UserError, match="sparse: "):
        train(make_spec(phase), split, tmp_path)


def test_running_averages_are_of_all_classes_where_data_are_sorted(split, monkeypatch):
    order = split.train.labels.argsort()
    images, labels = split.train.images[order], split.train.labels[order]
    monkeypatch.setattr(phases, "NUM_AVERAGED_IMAGES", 200)
    inputs = phases.averaged_inputs(replace(split, train=replace(split.train, images=images, labels=labels)))
    known = {image.numpy().tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    assert len(inputs) == 200
    assert len({known[image.numpy().tobytes()] for image in inputs}) == 10


def test_the_checkpoint_says_how_far_it_is(split, tmp_path):
    train(make_spec(DENSE, FIT), split, tmp_path)
    names = sorted(path.name for path in tmp_path.glob("*.json"))
    assert [name[:10] for name in names] == ["1-phases-" + names[0][9], "2-phases-" + names[1][9]]
    assert [checkpoint.load((tmp_path / name).with_suffix(""))[1]["epoch"] for name in names] == [2, 3]


def test_a_state_holds_what_was_there():
    first = State(nn.Identity()).then(DENSE, [{"epoch": 0}])
    second = first.then(FIT, [{"epoch": 0}], error_before_tuning=0.5)
    assert second.history == ({"phase": "dense", "epoch": 0}, {"phase": "fit", "epoch": 0})
    assert (first.error_before_tuning, second.error_before_tuning, second.net) == (None, 0.5, first.net)
    with pytest.raises(TypeError, match="int"):
        phases.run_phase(3, None, first, None)
