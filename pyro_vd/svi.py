"""fit: stochastic variational inference on a (model, guide) pair, resumable, with progress."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from pyro_vd import checkpoint
from pyro_vd.data import Examples
from pyro_vd.engine import Engine, Mode, Noise, Objective, parameter_groups
from pyro_vd.errors import CheckpointError, NonFiniteError, UserError
from pyro_vd.lift import LiftedModel
from pyro_vd.posterior import Posterior, fill, pair_of, pair_state
from pyro_vd.schedules import Schedule, constant

__all__ = ["fit"]

Data = Examples | tuple[Tensor, Tensor] | DataLoader
OnEpoch = Callable[[int, Posterior], dict[str, float]]


def fit(
    model: LiftedModel,
    guide: nn.Module,
    train: Data,
    *,
    epochs: int,
    batch_size: int = 100,
    lr: float = 1e-3,
    lr_scale: dict[str, float] | None = None,
    lr_schedule: Schedule | None = None,
    kl_schedule: Schedule | None = None,
    noise: Noise = "local",
    threshold: float | Schedule | None = None,
    engine: Mode = "auto",
    seed: int = 0,
    run: str | Path | None = None,
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
) -> Posterior:
    """Trains the pair with Adam on the analytic-KL objective.

    Args:
        model, guide: a lifted model and a guide over its sites; trained in place.
        train: Examples, an (x, y) pair of tensors, or a DataLoader over model.n examples.
        epochs, batch_size: as usual; the last batch of an epoch may be smaller. A DataLoader brings its own batches.
        lr: Adam's learning rate, times ``lr_schedule(epoch)`` (default 1).
        lr_scale: factors for parameters by a word of their name, e.g. ``{"log_sigma2": 10.0}``.
        kl_schedule: KL weight by epoch (default 1).
        noise: how it is drawn: "local" reparameterization of every output, "flipout" (one weight draw a step, signs for
            every example), or one draw of the "weights" for the batch.
        threshold: train-time masking, see ``local_reparam``; a number, a schedule of numbers (``math.inf`` while
            there is to be none), or None for none.
        engine: "auto", "eager" or "compiled", see Engine; the progress bar and ``Posterior.engine`` say what it was.
        seed: of the noise and of the order of the examples. Seeds torch's global generator.
        run: checkpoint to resume from when it exists and to write after every epoch and when interrupted
            (``folder/name`` without suffix).
        on_epoch: called as ``on_epoch(epoch, posterior)`` after every epoch; its numbers join the history and the
            progress bar.
        progress: show a progress bar.

    Returns:
        The posterior, its history one dict per epoch: log_likelihood (mean over the epoch's steps), kl (at the epoch's
        end) and loss = beta * kl - log_likelihood in nats per example, lr, beta, seconds, and what ``on_epoch`` gave.

    Raises:
        UserError: when len(train) != model.n, epochs or batch_size < 1, or a threshold goes with noise that does not
            mask.
        NonFiniteError: on a NaN or infinite loss or gradient, naming parameter, epoch and step. The pair then holds
            the last finite state, and the last checkpoint stays.
        CheckpointError: when ``run`` holds a damaged checkpoint, one made with other arguments, or one of more epochs.
        KeyboardInterrupt: after the step under way, with everything saved.
    """
    if epochs < 1 or batch_size < 1:
        raise UserError(f"fit: epochs={epochs} and batch_size={batch_size} have to be at least 1")
    batches = _Batches(train, batch_size, seed, next(guide.parameters()).device)
    if batches.examples != model.n:
        raise UserError(f"fit: the model was lifted with n={model.n}, but there are {batches.examples} examples")
    if threshold is not None and noise != "local":
        raise UserError(f"fit: threshold masks the means of local_reparam; with noise={noise!r} leave it out")
    objective = Objective(model, guide, noise)
    groups = parameter_groups(objective, lr, lr_scale or {})
    loop = _Loop(
        engine=Engine(objective, groups, engine, steps=epochs * len(batches)),
        batches=batches,
        posterior=Posterior(model, guide),
        lr_schedule=lr_schedule or constant(),
        kl_schedule=kl_schedule or constant(),
        mask_schedule=_mask_schedule(threshold),
        run=Path(run) if run else None,
        settings={
            "batch_size": batch_size,
            "lr": lr,
            "lr_scale": lr_scale or {},
            "noise": noise,
            "seed": seed,
            "n": model.n,
            "threshold": threshold if not callable(threshold) else "schedule",
        },
        on_epoch=on_epoch,
    )
    torch.manual_seed(seed)
    model.train()
    with _flushed_denormals(), _deferred_interrupt() as interrupted:
        loop.train(epochs, interrupted, progress)
    model.eval()
    return loop.posterior


class _Batches:
    """The training examples in a new order every epoch, a pure function of (seed, epoch) unless a loader decides."""

    def __init__(self, train: Data, batch_size: int, seed: int, device: torch.device):
        self.loader = train if isinstance(train, DataLoader) else None
        if not isinstance(train, DataLoader):
            self.data = (train if isinstance(train, Examples) else Examples(*train)).to(device)
        self.batch_size = batch_size
        self.seed = seed
        self.device = device

    @property
    def examples(self) -> int:
        return len(self.data) if self.loader is None else len(self.loader.dataset)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.loader) if self.loader is not None else -(-self.examples // self.batch_size)

    def epoch(self, epoch: int, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        if self.loader is not None:
            yield from ((x.to(self.device), y.to(self.device)) for x, y in self._loaded(skip))
            return
        order = torch.randperm(self.examples, generator=torch.Generator().manual_seed((self.seed << 20) + epoch))
        for index in order.to(self.device).split(self.batch_size)[skip:]:
            yield self.data.batch(index)

    def _loaded(self, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        # A loader draws from torch's generator when it starts. It did so before the stop: once more, and the noise
        # would shift. A loader that shuffles needs a generator of its own to come back to the same order.
        with torch.random.fork_rng(devices=[], enabled=skip > 0):
            batches = iter(self.loader)  # type: ignore[arg-type]
            for _ in range(skip):
                next(batches)
        return batches


class _Loop:
    """The training loop and its resumable state: parameters, Adam, generators, position, sums of the epoch."""

    def __init__(
        self,
        engine: Engine,
        batches: _Batches,
        posterior: Posterior,
        lr_schedule: Schedule,
        kl_schedule: Schedule,
        mask_schedule: Schedule,
        run: Path | None,
        settings: dict[str, Any],
        on_epoch: OnEpoch | None,
    ):
        self.engine, self.batches, self.posterior = engine, batches, posterior
        self.lr_schedule, self.kl_schedule, self.mask_schedule = lr_schedule, kl_schedule, mask_schedule
        self.run, self.settings, self.on_epoch = run, settings, on_epoch
        self.pair = pair_of(posterior.model, posterior.guide)
        self.epoch, self.step = 0, 0
        self.seconds = 0.0
        self.devices = [batches.device] if batches.device.type == "cuda" else []
        self.log_likelihood = torch.zeros((), dtype=torch.float64, device=batches.device)  # summed over the epoch

    def train(self, epochs: int, interrupted: Callable[[], bool], progress: bool) -> None:
        if self.run is not None and checkpoint.exists(self.run):
            self.resume()
            if self.epoch > epochs:
                raise CheckpointError(f"{self.run}: holds {self.epoch} epochs, more than the {epochs} asked for")
        with tqdm(total=epochs, initial=self.epoch, unit="epoch", disable=not progress, dynamic_ncols=True) as bar:
            while self.epoch < epochs:
                self.one_epoch(interrupted)
                bar.set_description(self.posterior.engine, refresh=False)
                bar.set_postfix(_shown(self.posterior.history[-1]), refresh=False)
                bar.update()
        if interrupted():
            self.stop()

    def one_epoch(self, interrupted: Callable[[], bool]) -> None:
        beta, factor = self.kl_schedule(self.epoch), self.lr_schedule(self.epoch)
        self.engine.set_lr(factor)
        self.engine.objective.mask_above(self.mask_schedule(self.epoch))
        weight = torch.tensor(beta, device=self.batches.device)
        start, first = time.perf_counter(), self.step
        flags: list[Tensor] = []
        for x, y in self.batches.epoch(self.epoch, skip=self.step):
            log_likelihood, finite = self.engine.step(x, y, weight)
            flags.append(finite)
            if not finite.is_cuda:  # asking a GPU would stall it; there the flags are read once an epoch
                self.check(flags, first)
            self.log_likelihood += log_likelihood
            self.step += 1
            if interrupted():
                self.seconds += time.perf_counter() - start
                self.stop()
        self.check(flags, first)
        self.posterior.engine = self.engine.mode
        self.seconds += time.perf_counter() - start
        self.finish_epoch(beta)

    def check(self, flags: list[Tensor], first: int) -> None:
        """Raises where one of the steps flagged since step ``first`` was not finite. A GPU is asked once an epoch."""
        if not flags or bool(torch.stack(flags).all() if flags[-1].is_cuda else flags[-1].all()):
            return
        broken = next(i for i, finite in enumerate(flags) if not finite.all())
        gradients = flags[broken][1:].tolist()
        names = [name for name, finite in zip(self.engine.trained(), gradients, strict=True) if not finite]
        what = f"gradient of {', '.join(names)}" if names else "loss"
        raise self.not_finite(what, first + broken, "the parameters were not updated")

    def not_finite(self, what: str, step: int, state: str) -> NonFiniteError:
        return NonFiniteError(
            f"non-finite {what} at epoch {self.epoch}, step {step}; {state}. "
            "Lower lr, start log_sigma2 lower, or look at the inputs of that batch",
            history=self.posterior.history,
        )

    def finish_epoch(self, beta: float) -> None:
        n, steps = self.settings["n"], len(self.batches)
        log_likelihood = self.log_likelihood.item() / (steps * n)
        with torch.random.fork_rng(devices=self.devices), pyro.validation_enabled(False):  # some KLs are sampled
            kl = sum(self.posterior.kl().values()) / n
        if not math.isfinite(kl):
            raise self.not_finite("KL", self.step - 1, "though its gradient was finite")
        row = {"epoch": self.epoch, "loss": beta * kl - log_likelihood, "log_likelihood": log_likelihood, "kl": kl,
               "beta": beta, "lr": self.engine.optimizer.param_groups[0]["lr"], "seconds": self.seconds}  # fmt: skip
        if self.on_epoch is not None:
            self.posterior.model.eval()
            with torch.random.fork_rng(devices=self.devices):  # what is looked at must not change what is trained
                row.update(_finite(self.on_epoch(self.epoch, self.posterior)))
            self.posterior.model.train()
        self.posterior.history.append(row)
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.log_likelihood.zero_()
        self.save()

    def stop(self) -> None:
        self.save()
        raise KeyboardInterrupt(
            f"stopped at epoch {self.epoch}, step {self.step}"
            + (f"; saved, run the same command again to go on from {self.run}" if self.run else "; not saved, no run=")
        )

    def save(self) -> None:
        if self.run is None:
            return
        tensors = dict(pair_state(self.posterior.model, self.posterior.guide))
        tensors.update(self._adam())
        tensors["rng.cpu"] = torch.get_rng_state()
        if self.batches.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.batches.device)
        tensors["log_likelihood"] = self.log_likelihood
        meta = {"pair": self.pair, "settings": self.settings, "epoch": self.epoch, "step": self.step,
                "seconds": self.seconds, "engine": self.engine.mode, "history": self.posterior.history}  # fmt: skip
        checkpoint.save(self.run, tensors, meta)

    def resume(self) -> None:
        tensors, meta = checkpoint.load(self.run)  # type: ignore[arg-type]
        if "settings" not in meta:
            raise CheckpointError(f"{self.run}: saved by Posterior.save, not by fit; load it with Posterior.load")
        then, now = {"pair": meta.get("pair"), **meta["settings"]}, {"pair": self.pair, **self.settings}
        different = [f"{key} was {then.get(key)}, is {value}" for key, value in now.items() if then.get(key) != value]
        if different:
            raise CheckpointError(f"{self.run}: made with other arguments ({'; '.join(different)}); choose another run")
        fill(dict(pair_state(self.posterior.model, self.posterior.guide)), tensors, str(self.run))
        self._fill_adam(tensors)
        torch.set_rng_state(tensors["rng.cpu"])
        if "rng.cuda" in tensors and self.batches.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.batches.device)
        self.log_likelihood.copy_(tensors["log_likelihood"])
        self.epoch, self.step, self.seconds = meta["epoch"], meta["step"], meta["seconds"]
        self.posterior.history = meta["history"]

    def _adam(self) -> dict[str, Tensor]:
        names = {id(p): name for name, p in self.engine.objective.named_parameters()}
        return {
            f"adam.{names[id(p)]}.{key}": value
            for p, state in self.engine.optimizer.state.items()
            for key, value in state.items()
        }

    def _fill_adam(self, tensors: dict[str, Tensor]) -> None:
        keys = ("step", "exp_avg", "exp_avg_sq")
        for name, parameter in self.engine.objective.named_parameters():
            if f"adam.{name}.step" in tensors:
                state = {key: tensors[f"adam.{name}.{key}"].to(self.batches.device) for key in keys}
                self.engine.optimizer.state[parameter].update(state)


def _finite(row: dict[str, float]) -> dict[str, float]:
    bad = [key for key, value in row.items() if not math.isfinite(value)]
    if bad:
        raise UserError(f"on_epoch gave a number that is not finite for {', '.join(bad)}; leave it out instead")
    return row


def _mask_schedule(threshold: float | Schedule | None) -> Schedule:
    return threshold if callable(threshold) else constant(math.inf if threshold is None else threshold)


def _shown(row: dict[str, float]) -> dict[str, str]:
    hidden = ("epoch", "beta", "lr", "seconds", "log_likelihood")
    return {key: f"{value:.4g}" for key, value in row.items() if key not in hidden}


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Pruned weights decay into denormal numbers, which slow a CPU's matrix products down."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


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
