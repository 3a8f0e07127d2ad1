"""The training loop: epochs, schedules, history, progress, interruption, and a state that resumes where it stopped."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd import checkpoint as checkpoints
from pyro_vd.errors import NonFiniteError, UserError
from pyro_vd.inference.batches import Batches
from pyro_vd.inference.engine import EagerStep, Engine
from pyro_vd.inference.preflight import preflight
from pyro_vd.inference.progress import progress_bar
from pyro_vd.inference.resume import Resume, broken_tensors, held, identity_of, restore, save
from pyro_vd.inference.schedules import Schedule
from pyro_vd.model.targets import check_target_values, has_one_support
from pyro_vd.posterior import Posterior
from pyro_vd.process_state import pyro_unlocked

__all__ = ["Loop", "OnEpoch"]

OnEpoch = Callable[[int, Posterior], Mapping[str, float] | None]


class Loop:
    """The training loop and its resumable state: parameters, Adam, generators, position, sums of the epoch."""

    def __init__(
        self,
        engine: Engine,
        batches: Batches,
        posteriors: Sequence[Posterior],
        lr_schedule: Schedule,
        kl_schedule: Schedule,
        mask_schedule: Schedule,
        checkpoint: Path | None,
        settings: dict[str, Any],
        on_epoch: OnEpoch | None,
        automatic: bool,
        resume: Resume,
    ):
        self.engine, self.batches, self.posteriors = engine, batches, posteriors
        self.schedules = {"lr_schedule": lr_schedule, "kl_schedule": kl_schedule, "threshold": mask_schedule}
        self.scheduled: dict[str, list[float]] = {name: [] for name in self.schedules}  # what they gave, by epoch
        self.checkpoint, self.settings, self.on_epoch = checkpoint, settings, on_epoch
        self.automatic, self.resume = automatic, resume
        self.epoch, self.step = 0, 0
        self.seconds = 0.0
        self.devices = [batches.device] if batches.device.type == "cuda" else []
        self.target: Distribution | None = None  # of the first batch, once it has been looked at
        # Summed over the epoch, for every seed.
        self.log_likelihood = torch.zeros(len(posteriors), dtype=torch.float64, device=batches.device)
        self.identity = identity_of(self) if checkpoint else {}  # before training changes anything

    def train(self, epochs: int, progress: bool) -> None:
        """Trains up to ``epochs``, from the checkpoint on where there is one."""
        with held(self.checkpoint):
            if self.checkpoint is not None and checkpoints.exists(self.checkpoint):
                restore(self, self.checkpoint, epochs)
            self._train(epochs, progress)

    def _train(self, epochs: int, progress: bool) -> None:
        bar = progress_bar(epochs, self.epoch, progress)
        with _flushed_denormals(), _deferred_interrupt() as interrupted, bar:
            while self.epoch < epochs:
                self._one_epoch(interrupted)
                bar.set_description(self.engine.mode, refresh=False)
                bar.set_postfix(_shown([posterior.history[-1] for posterior in self.posteriors]), refresh=False)
                bar.update()
            if interrupted():
                self._stop()

    def _one_epoch(self, interrupted: Callable[[], bool]) -> None:
        beta, lr, threshold = self._scheduled()
        self.engine.set_lr(lr)
        self.engine.set_threshold(threshold)
        if self.step == 0:
            for posterior in self.posteriors:
                posterior.guide.mark_started(threshold)
        weight = torch.tensor(beta, device=self.batches.device)
        start, first = time.perf_counter(), self.step
        flags: list[Tensor] = []
        for picked in self.batches.epoch(self.epoch, skip=self.step):
            self._check_batch(picked)
            log_likelihood, finite = self.engine.step(picked, weight)
            flags.append(finite)
            if not finite.is_cuda:  # asking a GPU would stall it; there the flags are read once an epoch
                self._check(flags, first)
            self.log_likelihood += log_likelihood
            self.step += 1
            if interrupted():
                self._check(flags, first)
                self.seconds += time.perf_counter() - start
                self._stop()
        self._check(flags, first)
        self.seconds += time.perf_counter() - start
        self._finish_epoch(beta)

    def _scheduled(self) -> tuple[float, float, float]:
        """KL weight, factor of the learning rate and threshold of this epoch; asked for once an epoch, and kept."""
        if len(self.scheduled["kl_schedule"]) == self.epoch:  # else a resumed epoch goes on with what it had
            for name, schedule in self.schedules.items():
                self.scheduled[name].append(schedule(self.epoch))
        now = {name: values[self.epoch] for name, values in self.scheduled.items()}
        return now["kl_schedule"], now["lr_schedule"], now["threshold"]

    def _check_batch(self, picked: tuple[Tensor, ...]) -> None:
        """Once, all that can be known before a step; then the targets of every batch that were not known before."""
        known = self.batches.targets
        if self.target is None:
            x, y = self.batches.take(*picked)
            for replica, one_x, one_y in zip(self.engine.replicas, x, y, strict=True):
                self.target = preflight(
                    replica.objective, one_x, one_y, one_y if known is None else known, self.batches.last
                )
        elif known is None and has_one_support(self.target):
            _, y = picked
            check_target_values(self.target, y.flatten(0, 1))

    def _check(self, flags: list[Tensor], first: int) -> None:
        """Raises where one of the steps flagged since step ``first`` was not finite. A GPU is asked once an epoch."""
        if not flags or bool(torch.stack(flags).all() if flags[-1].is_cuda else flags[-1].all()):
            return
        broken = next(i for i, finite in enumerate(flags) if not finite.all())
        seed = next(i for i, finite in enumerate(flags[broken]) if not finite.all())
        gradients = flags[broken][seed][1:].tolist()
        names = [name for name, finite in zip(self._replica(seed).trained(), gradients, strict=True) if not finite]
        what = f"gradient of {', '.join(names)}" if names else "loss"
        raise self._not_finite(seed, what, first + broken, "the parameters were not updated")

    def _not_finite(self, seed: int, what: str, step: int, state: str) -> NonFiniteError:
        whose = f" of seed {self.batches.seeds[seed]}" if len(self.posteriors) > 1 else ""
        if broken_tensors(self._replica(seed)):
            kept = (
                f"{self.checkpoint} holds the last finite state"
                if self.epoch and self.checkpoint
                else "nothing was saved"
            )
            state = f"an earlier step left parameters that are not finite, {kept}"
        return NonFiniteError(
            f"non-finite {what}{whose} at epoch {self.epoch}, step {step}; {state}. "
            "Lower lr, start log_sigma2 lower, or look at the inputs of that batch",
            history=self.posteriors[seed].history,
        )

    def _refuse_broken_state(self) -> None:
        """A step whose loss and gradient are finite can still end in parameters that are not: its rate was too high."""
        for seed in range(len(self.posteriors)):
            broken = broken_tensors(self._replica(seed))
            if broken:
                raise self._not_finite(seed, f"state of {', '.join(broken)}", self.step - 1, "its steps were made")

    def _finish_epoch(self, beta: float) -> None:
        self._refuse_broken_state()
        with torch.random.fork_rng(devices=self.devices):  # what is looked at must not change what is trained
            rows = [self._row(seed, beta) for seed in range(len(self.posteriors))]
            with pyro_unlocked():  # on_epoch may wait for a thread that predicts
                for posterior, row in zip(self.posteriors, rows, strict=True):
                    posterior.engine = self.engine.mode
                    row.update(self._looked(posterior))
        for posterior, row in zip(self.posteriors, rows, strict=True):
            posterior.history.append(row)
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.log_likelihood.zero_()
        save(self)

    def _looked(self, posterior: Posterior) -> dict[str, float]:
        if self.on_epoch is None:
            return {}
        posterior.model.eval()
        found = _numbers(self.on_epoch(self.epoch, posterior))
        posterior.model.train()
        self.engine.check_attributes()
        return found

    def _row(self, seed: int, beta: float) -> dict[str, float]:
        num_data, steps = self.settings["num_data"], self.step
        log_likelihood = self.log_likelihood[seed].item() / (steps * num_data)
        with pyro.validation_enabled(False):
            kl = sum(self.posteriors[seed].kl().values()) / num_data
        if not math.isfinite(kl):
            raise self._not_finite(seed, "KL", self.step - 1, "though its gradient was finite")
        lr = self._replica(seed).optimizer.param_groups[0]["lr"]
        return {"epoch": self.epoch, "loss": beta * kl - log_likelihood, "log_likelihood": log_likelihood, "kl": kl,
                "beta": beta, "lr": lr, "seconds": self.seconds}  # fmt: skip

    def _replica(self, seed: int) -> EagerStep:
        return self.engine.replicas[seed]

    def _stop(self) -> None:
        self._refuse_broken_state()
        save(self)
        raise KeyboardInterrupt(
            f"stopped at epoch {self.epoch}, step {self.step}"
            + (
                f"; saved, run the same command again to go on from {self.checkpoint}"
                if self.checkpoint
                else "; not saved, no checkpoint="
            )
        )


def _numbers(row: object) -> dict[str, float]:
    """What on_epoch returned, as Python numbers for the history."""
    if row is None:
        return {}
    if not isinstance(row, Mapping):
        raise UserError(f"on_epoch returned {type(row).__name__}; it must return a dict of numbers, or nothing")
    try:
        found = {str(key): float(value) for key, value in row.items()}
    except (TypeError, ValueError, RuntimeError):
        described = {key: type(value).__name__ for key, value in row.items()}
        raise UserError(f"on_epoch returned values that are no numbers: {described}") from None
    bad = [key for key, value in found.items() if not math.isfinite(value)]
    if bad:
        raise UserError(f"on_epoch gave a number that is not finite for {', '.join(bad)}; leave it out instead")
    return found


def _shown(rows: list[dict[str, float]]) -> dict[str, str]:
    """The seeds' means of what a progress bar has room for."""
    hidden = ("epoch", "beta", "lr", "seconds", "log_likelihood")
    shown = [key for key in rows[0] if key not in hidden and all(key in row for row in rows)]
    return {key: f"{sum(row[key] for row in rows) / len(rows):.4g}" for key in shown}


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Pruned weights decay into denormal numbers, which slow a CPU's matrix products down."""
    before = bool((torch.full((), 1e-40) * 1.0 == 0).item())  # torch has no way to ask
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM are noted, so that the step under way ends; a second Ctrl-C stops at once."""
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted.is_set
        return

    def note(number, frame):
        if noted.is_set():
            raise KeyboardInterrupt
        noted.set()

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
