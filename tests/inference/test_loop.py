"""The loop: history, on_epoch, interruption, and steps that are not finite."""

import math
import signal
import threading

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pyro_vd import AnalyticELBO, NonFiniteError, Posterior, checkpoint
from pyro_vd.errors import UserError
from pyro_vd.inference.engine import Engine
from pyro_vd.inference.schedules import HoldThenDecay, OneCycle, WarmUp
from pyro_vd.model.likelihoods import Categorical
from tests._asserts import same, values
from tests._pairs import BATCH, FEATURES, STEPS, N, examples, fresh, interrupt_at, network, pair, train


def test_the_history_has_its_fields():
    posterior = fresh(
        epochs=4, lr=0.02, lr_schedule=HoldThenDecay(2, 4), kl_schedule=WarmUp(1, 2), on_epoch=lambda e, _: {"e": e}
    )
    assert [set(row) for row in posterior.history] == [
        {"epoch", "loss", "log_likelihood", "kl", "beta", "lr", "seconds", "e"}
    ] * 4
    assert [row["epoch"] for row in posterior.history] == [row["e"] for row in posterior.history] == [0, 1, 2, 3]
    assert [row["beta"] for row in posterior.history] == [0.0, 0.0, 0.5, 1.0]
    assert [row["lr"] for row in posterior.history] == pytest.approx([0.02, 0.02, 0.02, 0.01])
    for row in posterior.history:
        assert row["loss"] == pytest.approx(row["beta"] * row["kl"] - row["log_likelihood"], rel=1e-5)
        assert row["log_likelihood"] < 0 < row["kl"]
        assert row["seconds"] > 0
        assert all(isinstance(value, int | float) for value in row.values())


def test_kl_is_in_nats_per_example_and_before_its_weight():
    model, guide = pair()
    expected = sum(
        torch.distributions.kl_divergence(guide.q(site).to_event(2), prior).item()
        for site, prior in model.priors.items()
    )
    (row,) = train(model, guide, epochs=1, lr=0.0, kl_schedule=lambda _: 0.25).history
    assert row["kl"] == pytest.approx(expected / N, rel=1e-5)


def test_on_epoch_does_not_change_training():
    x, _ = examples()

    def look(epoch, posterior):
        posterior.predict(x, num_samples=3)
        posterior.sample()
        posterior.mean(posterior.masks(1.0))(x).sum().backward()
        torch.manual_seed(epoch)
        torch.randn(11)
        posterior.model.eval()
        return {"looked": 1.0}

    net = lambda: nn.Sequential(network(), nn.Dropout(0.5))  # noqa: E731 (training mode matters)
    undisturbed, disturbed = train(*pair(net=net), epochs=3), train(*pair(net=net), epochs=3, on_epoch=look)
    assert same(values(undisturbed), values(disturbed))
    assert [row["loss"] for row in undisturbed.history] == [row["loss"] for row in disturbed.history]
    assert [row["looked"] for row in disturbed.history] == [1.0] * 3


def test_on_epoch_sees_evaluation_mode_and_the_rows_so_far():
    modes = []

    def look(epoch, posterior):
        modes.append((posterior.model.training, posterior.model.net.training, len(posterior.history)))
        return {}

    posterior = fresh(epochs=3, on_epoch=look)
    assert [mode[:2] for mode in modes] == [(False, False)] * 3
    assert [mode[2] for mode in modes] == [0, 1, 2]
    assert not posterior.model.training


HANDLED = (signal.SIGINT, signal.SIGTERM)


def surroundings():
    return [signal.getsignal(number) for number in HANDLED], (torch.full((1,), 1e-40) * 0.5).item() != 0


def raising(epoch, posterior):
    raise RuntimeError("from on_epoch")


def test_signal_handlers_and_denormals_are_put_back(monkeypatch):
    """Also where training ends with an error. Flushing denormals for good would change the user's arithmetic."""
    before = surroundings()
    assert before[1]
    inside = []
    fresh(on_epoch=lambda *_: inside.append(surroundings()) or {})
    assert surroundings() == before
    assert inside[0][0] != before[0]
    if torch.set_flush_denormal(True):  # where the processor can
        assert not inside[0][1]
    torch.set_flush_denormal(False)
    with pytest.raises(RuntimeError, match="from on_epoch"):
        fresh(on_epoch=raising)
    assert surroundings() == before
    interrupt_at(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fresh()
    assert surroundings() == before


def test_fit_works_outside_the_main_thread():
    """Only the main thread may set signal handlers."""
    result = []
    thread = threading.Thread(target=lambda: result.append(values(fresh())))
    thread.start()
    thread.join()
    assert same(result[0], values(fresh()))


def test_progress_shows_numbers_of_on_epoch(capfd):
    fresh(progress=True, on_epoch=lambda *_: {"accuracy": 0.1234})
    shown = capfd.readouterr().err
    assert "loss=" in shown
    assert "accuracy=0.1234" in shown
    assert "eager: " in shown
    assert fresh(progress=False).engine == "eager"
    assert capfd.readouterr().err == ""


def test_the_history_has_the_kl_of_every_epochs_end():
    """Kills a KL of the epoch's start, of one site, and one per batch."""
    seen = []
    posterior = fresh(
        epochs=3, lr=0.1, on_epoch=lambda _, posterior: seen.append(sum(posterior.kl().values()) / N) or {}
    )
    assert [row["kl"] for row in posterior.history] == pytest.approx(seen)
    assert len(set(seen)) == 3
    x, y = examples()
    terms = AnalyticELBO().terms(posterior.model, posterior.guide, x, y)
    assert posterior.kl() == pytest.approx({site: kl.item() for site, kl in terms.kl.items()})


def test_a_kl_that_is_not_finite_stops_though_its_gradient_is(monkeypatch, tmp_path):
    monkeypatch.setattr(Posterior, "kl", lambda self: {"0.weight": math.inf})
    with pytest.raises(NonFiniteError, match=r"non-finite KL at epoch 0, step 3; though its gradient was finite"):
        fresh(checkpoint=tmp_path / "run")
    assert not checkpoint.exists(tmp_path / "run")


def test_a_second_interruption_stops_at_once(tmp_path, monkeypatch):
    """And leaves the last checkpoint as it was."""
    run = tmp_path / "run"
    interrupt_at(monkeypatch, STEPS + 2, times=2)
    with pytest.raises(KeyboardInterrupt):
        fresh(epochs=3, checkpoint=run)
    _, meta = checkpoint.load(run)
    assert (meta["epoch"], meta["step"]) == (1, 0)


def test_an_interruption_without_a_run_says_that_nothing_was_saved(monkeypatch):
    interrupt_at(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt, match="not saved"):
        fresh()


class Poisoned:
    """A likelihood that spoils its k-th call, counted from 1."""

    def __init__(self, k, spoil):
        self.k, self.spoil, self.calls = k, spoil, 0

    def __call__(self, logits):
        self.calls += 1
        return self.spoil(logits) if self.calls == self.k + 1 else Categorical(logits)  # preflight calls it once


class Offset(dist.Categorical):
    """A loss that is infinite while its gradient is not."""

    def log_prob(self, value):
        return super().log_prob(value) - math.inf


SPOILS = {
    "nan": (lambda logits: dist.Categorical(logits=logits * math.nan), r"gradient of .*guide\.theta\.0\.weight"),
    "inf": (lambda logits: Offset(logits=logits), "non-finite loss"),
}


@pytest.mark.parametrize("spoil", list(SPOILS))
@pytest.mark.parametrize("k", [STEPS + 1, STEPS + 3, 2 * STEPS])
def test_a_step_that_is_not_finite_stops_with_the_last_finite_state(spoil, k, tmp_path, monkeypatch):
    """Named by what, epoch and step; parameters as after step k - 1, checkpoint as after the epoch before."""
    function, culprit = SPOILS[spoil]
    snapshots = []
    model, guide = pair(likelihood=Poisoned(k, function))
    step = Engine.step

    def stepping(self, *args):
        snapshots.append(values(Posterior(model, guide)))
        return step(self, *args)

    monkeypatch.setattr(Engine, "step", stepping)
    with pytest.raises(NonFiniteError, match=rf"{culprit}.* at epoch 1, step {k - STEPS - 1}\b") as raised:
        train(model, guide, checkpoint=tmp_path / "run", epochs=3)
    assert [row["epoch"] for row in raised.value.history] == [0]
    assert same(snapshots[-1], values(Posterior(model, guide)))
    assert len(snapshots) == k
    tensors, meta = checkpoint.load(tmp_path / "run")
    assert (meta["epoch"], meta["step"], len(meta["history"])) == (1, 0, 1)
    assert all(value.isfinite().all() for value in tensors.values())
    assert same(snapshots[STEPS], {name: tensors[name] for name in snapshots[STEPS]})


def test_an_input_that_is_not_finite_names_its_parameters_and_step():
    x, y = examples()
    x[2 * BATCH + 3, 1] = math.nan
    loader = DataLoader(TensorDataset(x, y), batch_size=BATCH)
    with pytest.raises(NonFiniteError, match=r"0\.weight.* at epoch 0, step 2\b.*inputs of that batch"):
        fresh(loader)


def test_running_statistics_survive_a_batch_that_is_not_finite():
    """The pair holds the last finite state, buffers too: BatchNorm averages its inputs before any loss is known."""
    x, y = examples()
    x[2 * BATCH + 3, 1] = math.nan
    model, guide = pair(net=lambda: nn.Sequential(nn.BatchNorm1d(FEATURES), network()))
    with pytest.raises(NonFiniteError):
        train(model, guide, DataLoader(TensorDataset(x, y), batch_size=BATCH))
    for name, value in values(Posterior(model, guide)).items():
        assert value.isfinite().all(), name


CYCLE = OneCycle(total=3, peak=1.25, start=0.25, final=0.125)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_one_cycle_sets_the_rate_of_every_step(engine, monkeypatch, quick_compiler):
    used, step = [], Engine.step

    def recording(self, *args):
        used.append((self.pair.optimizer.param_groups[0]["lr"], self._factor.item()))
        return step(self, *args)

    monkeypatch.setattr(Engine, "step", recording)
    posterior = fresh(epochs=3, lr=0.5, lr_schedule=CYCLE, engine=engine)
    expected = [CYCLE(index / STEPS) for index in range(3 * STEPS)]
    assert [rate for rate, _ in used] == pytest.approx([0.5 * factor for factor in expected])
    assert [factor for _, factor in used] == pytest.approx(expected)
    assert [row["lr"] for row in posterior.history] == pytest.approx([0.5 * factor for factor in expected[3::STEPS]])


def test_the_engines_take_the_same_steps_with_one_cycle(quick_compiler):
    histories = [
        fresh(epochs=3, scheme="none", lr_schedule=CYCLE, engine=name).history for name in ("eager", "compiled")
    ]
    for eager, compiled in zip(*histories, strict=True):
        assert eager["log_likelihood"] == pytest.approx(compiled["log_likelihood"], rel=1e-5)


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(zip(*examples(), strict=True))


def test_one_cycle_needs_the_number_of_steps():
    with pytest.raises(UserError, match="how many steps an epoch has"):
        fresh(DataLoader(Endless(), batch_size=BATCH), lr_schedule=CYCLE)
    loader = DataLoader(TensorDataset(*examples()), batch_size=BATCH)
    assert fresh(loader, epochs=1, lr=1.0, lr_schedule=CYCLE).history[0]["lr"] == CYCLE(3 / STEPS)


@pytest.mark.parametrize("name", ["loss", "epoch", "seconds", "validation_log_likelihood"])
def test_on_epoch_does_not_replace_a_number_of_the_history(name):
    with pytest.raises(UserError, match=f"on_epoch returned {name}, which the history has already"):
        fresh(on_epoch=lambda epoch, posterior: {name: 1.0})
