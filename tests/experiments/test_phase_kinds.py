"""How each kind of phase trains: what it changes in the network, and by which training."""

from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode

import pyro_vd
from pyro_vd import Training, schedules
from pyro_vd.data import load
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import phases
from pyro_vd.experiments.common.phases import Job, run_phases, sparsity_at
from pyro_vd.experiments.common.spec import Dense, FineTune, Fit, Gradual, Options, Whiten
from tests.runs import FIT, GRADUAL, LOTTERY, TUNE, make_spec, train
from tests.tiny import Tiny


@pytest.fixture(scope="module")
def split():
    return load("digits")


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


def test_magnitude_pruning_is_gradual_and_not_uniform(split, tmp_path):
    """It reaches the schedule's sparsity after every epoch, by one ranking over all layers."""
    state = train(make_spec(GRADUAL), split, tmp_path)
    wanted = [sparsity_at(epoch, 4, GRADUAL) for epoch in (1, 2, 3, 4)]
    assert 0 < wanted[0] < wanted[1] < wanted[2] == wanted[3] == 0.75
    found = [row["sparsity"] for row in state.history]
    assert found == pytest.approx(wanted, abs=0.5 / 592)
    net = state.net
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
    train(make_spec(LOTTERY), split, tmp_path)
    assert len(started) == 3
    assert all(torch.equal(later[site], weight) for later in started for site, weight in started[0].items())
    assert kept == [592, 592 // 2, 592 // 4]


def test_the_last_ticket_has_the_extra_epochs(split, tmp_path, monkeypatch):
    trainings, fit = [], pyro_vd.fit

    def watched(model, guide, train, training, **how):
        trainings.append(training)
        return fit(model, guide, train, training, **how)

    monkeypatch.setattr(phases.pyro_vd, "fit", watched)
    train(make_spec(LOTTERY), split, tmp_path)
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


def test_smoothed_labels_are_those_of_the_phase(split, tmp_path):
    """In both kinds; the objective is another one, and errors are measured as before."""
    for kind in (Dense(training=Training(epochs=1)), replace(FIT, threshold=None)):
        plain, smoothed = (
            train(make_spec(replace(kind, smoothing=smoothing)), split, tmp_path) for smoothing in (0.0, 0.5)
        )
        assert smoothed.history[-1]["log_likelihood"] < plain.history[-1]["log_likelihood"]


def test_the_error_is_measured_as_often_as_asked_and_at_the_end(split, tmp_path):
    phase = replace(FIT, training=Training(epochs=5, batch_size=500))
    every, some = (train(make_spec(replace(phase, evaluate_every=n)), split, tmp_path) for n in (1, 2))
    assert ["error" in row for row in some.history] == [True, False, True, False, True]
    measured = [row["error"] for row in every.history][::2]
    assert [row["error"] for row in some.history if "error" in row] == measured  # training is the same


def test_rates_of_the_training_and_of_the_noise_are_joined(split, tmp_path, monkeypatch):
    given = []
    fit = pyro_vd.fit
    monkeypatch.setattr(pyro_vd, "fit", lambda *a, **k: given.append(a[3].lr_scale) or fit(*a, **k))
    training = Training(epochs=1, batch_size=500, lr_scale={"bias": 2.0})
    train(make_spec(replace(FIT, training=training, noise_lr=3.0)), split, tmp_path)
    assert dict(given[0]) == {"bias": 2.0, "log_sigma2": 3.0}


def test_whitening_fits_the_networks_first_layer(split, tmp_path):
    class Whitened(Tiny):
        def __init__(self, classes=10):
            super().__init__(classes)
            self.__dict__["whiten"] = self  # no submodule of itself

        def fit_images(self, images):
            self.seen = images

    net = Whitened()
    job = Job(make_spec(Whiten(), FIT), split, Whitened, tmp_path, "eager")
    state = phases.run_phase(Whiten(), job, phases.State(net), tmp_path / "none")
    assert state.history == ()
    assert net.seen.equal(phases.averaged_inputs(split))
    with pytest.raises(UserError, match="Tiny has no layer whiten"):
        phases.run_phase(Whiten(), job, phases.State(Tiny()), tmp_path / "none")
