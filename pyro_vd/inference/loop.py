"""The training loop: epochs, schedules, history, progress, interruption, and a state that resumes where it stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd import checkpoint as checkpoints
from pyro_vd.errors import NonFiniteError, UserError
from pyro_vd.inference.batches import Batches
from pyro_vd.inference.engine import EagerStep, Engine
from pyro_vd.inference.preflight import check_later_targets, preflight
from pyro_vd.inference.progress import progress_bar
from pyro_vd.inference.resume import Resume, describe_run, hold_checkpoint, restore, save
from pyro_vd.inference.schedules import is_per_step
from pyro_vd.inference.stop_training import StopTraining
from pyro_vd.inference.training import Training
from pyro_vd.inference.validation import SCORE, Validation
from pyro_vd.model.eval_mode import eval_mode
from pyro_vd.model.targets import has_one_support
from pyro_vd.posterior import Posterior
from pyro_vd.process_state import defer_interrupt, flush_denormals, fork_rng, keep_freed_memory, pyro_unlocked
from pyro_vd.pytree import Tree

__all__ = ["Loop", "OnEpoch"]

OWN_NUMBERS = ("epoch", "loss", "log_likelihood", "kl", "beta", "lr", "seconds")  # of a row of the history
OnEpoch = Callable[[int, Posterior], Mapping[str, float] | None]


class Loop:
    """The training loop and its resumable state: parameters, optimizer, generators, position, sums of the epoch.

    Args:
        engine: steps the pairs of ``posteriors``.
        batches: their training set.
        posteriors, seeds: one for every pair.
        training: what decides the numbers.
        checkpoint, resume, on_epoch: see :func:`pyro_vd.fit`.
        validation: the held-out examples; None for none.
    """

    def __init__(
        self,
        engine: Engine,
        batches: Batches,
        posteriors: Sequence[Posterior],
        seeds: Sequence[int],
        training: Training,
        checkpoint: Path | None,
        resume: Resume,
        on_epoch: OnEpoch | None,
        validation: Validation | None = None,
    ):
        self.engine, self.batches, self.training = engine, batches, training
        self.posteriors, self.seeds = list(posteriors), list(seeds)
        self.checkpoint, self.resume, self.on_epoch, self.validation = checkpoint, resume, on_epoch, validation
        self.num_data = int(posteriors[0].model.num_data)
        self.changes_lr = is_per_step(training.lr_schedule)  # at every step
        if self.changes_lr and batches.steps is None:
            raise UserError(
                f"fit: lr_schedule={training.lr_schedule} changes at every step, but the loader does not say how many "
                "steps an epoch has; give the data as tensors, or a loader with a length"
            )
        self.scheduled: dict[str, list[float]] = {name: [] for name in training.schedules}  # values so far, by epoch
        self.epoch, self.step = 0, 0
        self.seconds = 0.0
        self.stopped: int | None = None  # the number of epochs of the run that on_epoch ended
        self.targets: dict[str, Distribution] = {}  # by site, of the first batch, once preflight has seen it
        # Summed over the epoch, for every seed.
        self.log_likelihood = torch.zeros(len(self.seeds), dtype=torch.float64, device=batches.device)
        self.identity = describe_run(self) if checkpoint else {}  # before training changes anything

    def train(self, progress: bool) -> None:
        """Trains all epochs, or those after the checkpoint if it exists.

        Raises:
            KeyboardInterrupt: after the step under way, with everything saved.
            NonFiniteError: for a step, a KL or a state that is not finite.
            CheckpointError: see :func:`pyro_vd.fit`.
        """
        with hold_checkpoint(self.checkpoint):
            if self.validation is not None:
                with fork_rng(self.log_likelihood):  # a check must not change the training
                    self.validation.check(self.posteriors[0])
            # After the check, whose loader may draw from a generator that the training set's loader has too.
            if self.checkpoint is not None and checkpoints.exists(self.checkpoint):
                restore(self, self.checkpoint)
            self._train(progress)

    def items(self) -> Iterator[tuple[str, Posterior, EagerStep]]:
        """Every pair with the prefix of its names in a checkpoint, which is empty for a single pair."""
        prefixes = [""] if len(self.seeds) == 1 else [f"seed{seed}." for seed in self.seeds]
        return zip(prefixes, self.posteriors, self.engine.pair.members, strict=True)

    def _train(self, progress: bool) -> None:
        epochs = self.training.epochs
        bar = progress_bar(epochs, self.epoch, progress)
        with flush_denormals(), keep_freed_memory(), defer_interrupt() as is_interrupted, bar:
            while self.epoch < epochs and not self._is_over():
                self._train_epoch(is_interrupted)
                bar.set_description(self.engine.name, refresh=False)
                numbers = _progress_numbers([posterior.history[-1] for posterior in self.posteriors])
                bar.set_postfix(numbers, refresh=False)
                bar.update()
            if is_interrupted():
                self._stop()

    def _is_over(self) -> bool:
        """Whether on_epoch ended this run, or no pair has patience left."""
        if self.stopped is not None and self.stopped >= self.training.epochs:
            return True
        validation, histories = self.validation, [posterior.history for posterior in self.posteriors]
        return validation is not None and self.step == 0 and all(map(validation.is_over, histories))

    def _train_epoch(self, is_interrupted: Callable[[], bool]) -> None:
        self.stopped = None  # it goes on
        now = self._evaluate_schedules()
        self._set_lr(max(self.step - 1, 0))  # for the history, if a resumed epoch has no step left
        self.engine.set_threshold(now["threshold"])
        if self.step == 0:
            for pair in self.engine.pair.members:
                pair.objective.guide.mark_started(now["threshold"])
        beta = torch.tensor(now["kl_schedule"], device=self.batches.device)
        start, first = time.perf_counter(), self.step
        flags: list[Tensor] = []
        for index in self.batches.epoch(self.epoch, skip=self.step):
            self._check_batch(index)
            if self.changes_lr:
                self._set_lr(self.step)
            log_likelihood, is_finite = self.engine.step(index, beta)
            flags.append(is_finite)
            if not is_finite.is_cuda:  # asking a GPU would stall it; there the flags are read once an epoch
                self._check_flags(flags, first)
            self.log_likelihood += log_likelihood
            self.step += 1
            if is_interrupted():
                self._check_flags(flags, first)
                self.seconds += time.perf_counter() - start
                self._stop()
        self._check_flags(flags, first)
        self.seconds += time.perf_counter() - start
        self._finish_epoch(now["kl_schedule"])

    def _evaluate_schedules(self) -> dict[str, float]:
        """Name -> value of every schedule in this epoch. A schedule is called once an epoch, and its value kept."""
        if len(self.scheduled["kl_schedule"]) == self.epoch:  # else a resumed epoch goes on with what it had
            for name, values in self.scheduled.items():
                values.append(self.training.evaluate(name, self.epoch))
        return {name: values[self.epoch] for name, values in self.scheduled.items()}

    def _set_lr(self, step: int) -> None:
        """Sets the learning rate of this step of the epoch."""
        factor = self.scheduled["lr_schedule"][self.epoch]
        if self.changes_lr:
            assert self.batches.steps  # checked in the beginning
            factor = self.training.evaluate("lr_schedule", self.epoch + step / self.batches.steps)
        self.engine.set_lr(factor)

    def _check_batch(self, index: tuple[Tree, ...]) -> None:
        """Checks, once, all that can be known before a step; then the targets of later batches, if they are not all
        known."""
        targets = self.batches.targets
        if self.targets and (targets is not None or not any(map(has_one_support, self.targets.values()))):
            return
        # A resumed run must not draw what the run that it continues has not: an augmentation draws with every gather.
        resumed = not self.targets and bool(self.epoch or self.step)
        with fork_rng(self.log_likelihood) if resumed else nullcontext():
            batch = self.batches.gather(*index)
        found: dict[str, Distribution] = {}
        for pair, x, y in self.engine.pair.per_member(*batch):
            if self.targets:
                check_later_targets(self.targets, y)
            else:
                found = preflight(pair.objective, x, y, y if targets is None else targets, self.batches.last_size)
        self.targets = self.targets or found

    def _check_flags(self, flags: list[Tensor], first: int) -> None:
        """Raises NonFiniteError if one of the steps flagged since step ``first`` was not finite."""
        if not flags or bool(torch.stack(flags).all() if flags[-1].is_cuda else flags[-1].all()):
            return
        number, of_pairs = next((i, flag) for i, flag in enumerate(flags) if not flag.all())
        of_pairs = of_pairs.reshape(len(self.seeds), -1)
        pair = next(i for i, flag in enumerate(of_pairs) if not flag.all())
        trained = self.engine.pair.members[pair].trained()
        names = [name for name, is_finite in zip(trained, of_pairs[pair][1:].tolist(), strict=True) if not is_finite]
        what = f"gradient of {', '.join(names)}" if names else "loss"
        raise self._not_finite(pair, what, first + number, "the parameters were not updated")

    def _not_finite(self, pair: int, what: str, step: int, state: str) -> NonFiniteError:
        whose = f" of seed {self.seeds[pair]}" if len(self.seeds) > 1 else ""
        if self.engine.pair.members[pair].find_nonfinite():
            saved = bool(self.epoch and self.checkpoint)
            kept = f"{self.checkpoint} holds the last finite state" if saved else "nothing was saved"
            state = f"an earlier step left parameters that are not finite, {kept}"
        return NonFiniteError(
            f"non-finite {what}{whose} at epoch {self.epoch}, step {step}; {state}. "
            "Lower lr, start log_sigma2 lower, or look at the inputs of that batch",
            history=self.posteriors[pair].history,
        )

    def _check_state(self) -> None:
        """Raises NonFiniteError for parameters that are not finite: a step of too high a rate can leave such, though
        its loss and gradient are finite."""
        for number, pair in enumerate(self.engine.pair.members):
            broken = pair.find_nonfinite()
            if broken:
                raise self._not_finite(number, f"state of {', '.join(broken)}", self.step - 1, "its steps were made")

    def _finish_epoch(self, beta: float) -> None:
        self._check_state()
        with fork_rng(self.log_likelihood):  # an evaluation must not change the training
            rows = [self._make_row(number, beta) for number in range(len(self.posteriors))]
            with pyro_unlocked():  # on_epoch may wait for a thread that predicts
                for posterior, row in zip(self.posteriors, rows, strict=True):
                    posterior.engine = self.engine.name
                    row.update(self._run_callback(posterior))
        for posterior, row in zip(self.posteriors, rows, strict=True):
            posterior.history.append(row)
        if self.validation is not None:
            self.validation.keep(self.posteriors)
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.log_likelihood.zero_()
        save(self)

    def _run_callback(self, posterior: Posterior) -> dict[str, float]:
        """Calls on_epoch with the model in eval mode."""
        if self.on_epoch is None:
            return {}
        with eval_mode(posterior.model):
            try:
                found = _to_numbers(self.on_epoch(self.epoch, posterior))
            except StopTraining as stop:
                self.stopped = self.training.epochs
                found = _to_numbers(stop.numbers)
        self.engine.check_attributes()
        return found

    def _make_row(self, number: int, beta: float) -> dict[str, float]:
        """The epoch's row of the history of one pair."""
        log_likelihood = self.log_likelihood[number].item() / (self.step * self.num_data)
        with pyro.validation_enabled(False):
            kl = sum(self.posteriors[number].kl().values()) / self.num_data
        if not math.isfinite(kl):
            raise self._not_finite(number, "KL", self.step - 1, "though its gradient was finite")
        row = {
            "epoch": self.epoch,
            "loss": beta * kl - log_likelihood,
            "log_likelihood": log_likelihood,
            "kl": kl,
            "beta": beta,
            "lr": self.engine.pair.members[number].optimizer.param_groups[0]["lr"],
            "seconds": self.seconds,
        }
        if self.validation is not None:
            row[SCORE] = self.validation.score(self.posteriors[number])
            if not math.isfinite(row[SCORE]):
                raise self._not_finite(
                    number, "log-likelihood of the validation set", self.step - 1, "its steps were made"
                )
        return row

    def _stop(self) -> None:
        self._check_state()
        save(self)
        found = (
            f"saved, run the same command again to go on from {self.checkpoint}"
            if self.checkpoint
            else "not saved, no checkpoint="
        )
        raise KeyboardInterrupt(f"stopped at epoch {self.epoch}, step {self.step}; {found}")


def _to_numbers(row: object) -> dict[str, float]:
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
    taken = [key for key in found if key in (*OWN_NUMBERS, SCORE)]
    if taken:
        raise UserError(f"on_epoch returned {', '.join(taken)}, which the history has already; choose another name")
    bad = [key for key, value in found.items() if not math.isfinite(value)]
    if bad:
        raise UserError(f"on_epoch gave a number that is not finite for {', '.join(bad)}; leave it out instead")
    return found


def _progress_numbers(rows: list[dict[str, float]]) -> dict[str, str]:
    """The means over the seeds of the numbers that the progress bar shows: those of on_epoch first."""
    found = [key for key in rows[0] if key not in OWN_NUMBERS and all(key in row for row in rows)]
    shown = [*found, "loss", "kl"]
    return {key: f"{sum(row[key] for row in rows) / len(rows):.4g}" for key in shown}
