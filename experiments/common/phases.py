"""How each phase of a spec trains. A phase is idempotent: it resumes from its checkpoint, and loads it once finished.

The checkpoint is named after the digest of the spec's beginning up to the phase, so runs with the same beginning share
it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial, singledispatch
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyro_vd
from pyro_vd import NonFiniteError, Posterior, Training, compression_report, guides, lift
from pyro_vd.compress import top_k_masks
from pyro_vd.data import DataSplits, LabeledImages
from pyro_vd.errors import CheckpointInUseError, UserError
from pyro_vd.experiments.common.monitors import MONITORS
from pyro_vd.experiments.common.pairs import make_likelihood, make_masked_pair, make_pair
from pyro_vd.experiments.common.spec import Dense, FineTune, Fit, Gradual, Lottery, Phase, Spec, Whiten, key_of
from pyro_vd.inference.loop import OnEpoch
from pyro_vd.inference.schedules import HoldThenDecay
from pyro_vd.metrics import compute_logits, error_rate
from pyro_vd.model.scheme_defaults import scale_noise_lr

__all__ = ["PHASE_NAMES", "Job", "State", "averaged_inputs", "measure_error", "run_phases", "sparsity_at"]

NUM_AVERAGED_IMAGES = 10_000  # for the running averages of batch normalization
# In histories.
PHASE_NAMES = {Dense: "dense", Fit: "fit", FineTune: "fine_tune", Gradual: "gradual", Lottery: "lottery"}
WAIT = 2.0  # seconds between two looks at a checkpoint that another process writes


def averaged_inputs(split: DataSplits) -> Tensor:
    """Training images of all classes, for the running averages of batch normalization."""
    images = split.train.images
    some = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:NUM_AVERAGED_IMAGES]
    return images[some.to(images.device)]


@dataclass(frozen=True)
class Job:
    """A spec with all that its phases need.

    Attributes:
        spec: of one network.
        split: the spec's data, on the device.
        make: builds the network from a number of classes.
        folder: of the checkpoints.
        engine: of ``fit``.
        on_start, on_epoch: called before every training and after every epoch.
    """

    spec: Spec
    split: DataSplits
    make: Callable[[int], nn.Module]
    folder: Path
    engine: str = "auto"
    on_start: Callable[[], None] = lambda: None
    on_epoch: Callable[[], None] = lambda: None

    @property
    def device(self) -> torch.device:
        return self.split.test.labels.device

    @cached_property  # used after every epoch
    def inputs(self) -> Tensor:
        return averaged_inputs(self.split)

    def checkpoint(self, count: int) -> Path:
        """The checkpoint of the first ``count`` phases."""
        prefix = self.spec.prefix(count)
        return self.folder / f"{count}-phases-{key_of(prefix)}-s{self.spec.seed}"

    def _with_hook(self, on_epoch: OnEpoch | None) -> OnEpoch:
        def call(epoch: int, posterior: Posterior) -> Mapping[str, float] | None:
            numbers = on_epoch(epoch, posterior) if on_epoch else None
            self.on_epoch()
            return numbers

        return call

    def fit(self, pair: Posterior, training: Training, checkpoint: Path, **how) -> Posterior:
        """Trains the pair, or loads its finished training. If another process trains it, waits for that."""
        how = {"engine": self.engine, "seed": self.spec.seed, **how, "on_epoch": self._with_hook(how.get("on_epoch"))}
        self.on_start()
        told = False
        while True:
            try:
                # A run may resume on another machine; its record names the one on which it ended.
                return pyro_vd.fit(
                    pair.model, pair.guide, self.split.train, training, checkpoint=checkpoint, resume="any", **how
                )
            except CheckpointInUseError as error:
                if not told:
                    print(f"waits: {error}", flush=True)
                told = True
                time.sleep(WAIT)


@dataclass(frozen=True)
class State:
    """What the phases so far have made.

    Attributes:
        net: the network, on the device; after pruning, the pruned one.
        posterior: of the main phase.
        error_before_tuning: test error of the pruned network before FineTune.
        history: one row per epoch of every phase.
    """

    net: nn.Module
    posterior: Posterior | None = None
    error_before_tuning: float | None = None
    history: tuple[dict, ...] = ()

    def then(self, phase: Phase, history: list[dict], **changes) -> State:
        """The state after another phase."""
        rows = tuple({"phase": PHASE_NAMES[type(phase)], **row} for row in history)
        return replace(self, history=self.history + rows, **changes)


def run_phases(job: Job, net: nn.Module) -> State:
    """Runs all phases of the spec, each from where it was interrupted.

    Raises:
        NonFiniteError: if one diverges; with the history of all phases up to there.
    """
    state = State(net)
    for index, phase in enumerate(job.spec.phases):
        try:
            state = run_phase(phase, job, state, job.checkpoint(index + 1))
        except NonFiniteError as error:
            error.history = list(state.then(phase, error.history).history)
            raise
    return state


@singledispatch
def run_phase(phase: Phase, job: Job, state: State, checkpoint: Path) -> State:
    """Runs one phase from ``state``."""
    raise TypeError(type(phase).__name__)


@run_phase.register
def _(phase: Whiten, job: Job, state: State, checkpoint: Path) -> State:
    layer: Any = getattr(state.net, "whiten", None)
    if layer is None:
        raise UserError(f"Whiten: {type(state.net).__name__} has no layer whiten")
    layer.fit_images(averaged_inputs(job.split))
    return state


@run_phase.register
def _(phase: Dense, job: Job, state: State, checkpoint: Path) -> State:
    layers = [module for module in state.net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    rates = [phase.dropout[0]] + [phase.dropout[1]] * (len(layers) - 1)
    hooks = [layer.register_forward_pre_hook(partial(_drop, rate)) for layer, rate in zip(layers, rates, strict=True)]
    # The lifted copy keeps the hooks.
    model = lift(state.net, guides.none.prior, make_likelihood(phase), num_data=len(job.split.train))
    for hook in hooks:
        hook.remove()
    posterior = job.fit(Posterior(model, guides.none.Guide(model)), phase.training, checkpoint, engine="eager")
    state.net.load_state_dict(posterior.mean().state_dict())
    return state.then(phase, posterior.history)


def _drop(rate: float, layer: nn.Module, inputs: tuple) -> tuple:
    return (F.dropout(inputs[0], rate), *inputs[1:])


@run_phase.register
def _(phase: Fit, job: Job, state: State, checkpoint: Path) -> State:
    pair = make_pair(state.net, phase, len(job.split.train))
    lr_scale = {**phase.training.lr_scale, **scale_noise_lr(pair.guide, phase.noise_lr)}
    training = replace(phase.training, lr_scale=lr_scale)

    def deploy(posterior: Posterior) -> nn.Module:
        masks = None if phase.threshold is None else posterior.masks(phase.threshold)
        return posterior.mean(masks, job.inputs)

    def evaluate_epoch(epoch: int, current: Posterior) -> dict[str, float]:
        if (training.epochs - 1 - epoch) % phase.evaluate_every:
            return {}
        net = deploy(current)
        numbers = {"error": measure_error(net, job.split.test)}
        for name in phase.monitors:
            numbers |= MONITORS[name](current, job.split)
        if phase.threshold is None:
            return numbers
        return {"sparsity": compression_report(net, current.model.priors).sparsity, **numbers}

    posterior = job.fit(pair, training, checkpoint, on_epoch=evaluate_epoch)
    return state.then(phase, posterior.history, net=deploy(posterior), posterior=posterior)


@run_phase.register
def _(phase: FineTune, job: Job, state: State, checkpoint: Path) -> State:
    fit = job.spec.main
    if state.posterior is None or not isinstance(fit, Fit) or fit.threshold is None:
        raise UserError("FineTune needs a phase Fit with a threshold before it")
    pair = make_masked_pair(state.net, len(job.split.train), state.posterior.masks(fit.threshold))
    tuned = job.fit(pair, phase.training, checkpoint)
    before = measure_error(state.net, job.split.test)
    return state.then(phase, tuned.history, net=tuned.mean(inputs=job.inputs), error_before_tuning=before)


@run_phase.register
def _(phase: Gradual, job: Job, state: State, checkpoint: Path) -> State:
    pair = make_masked_pair(state.net, len(job.split.train))
    epochs = phase.training.epochs

    def narrow(epoch: int, current: Posterior) -> dict[str, float]:
        masks = top_k_masks(_magnitudes(current), sparsity_at(epoch + 1, epochs, phase))
        pair.guide.set_masks(masks)  # type: ignore[operator]
        kept = torch.cat([mask.flatten() for mask in masks.values()])
        return {"sparsity": 1 - int(kept.sum()) / len(kept)}

    posterior = job.fit(pair, phase.training, checkpoint, on_epoch=narrow)
    return state.then(phase, posterior.history, net=posterior.mean(), posterior=posterior)


@run_phase.register
def _(phase: Lottery, job: Job, state: State, checkpoint: Path) -> State:
    kept = (1 - phase.sparsity) ** (1 / (phase.rounds - 1))  # of the remaining weights, by each round except the last
    pair = make_masked_pair(state.net, len(job.split.train))
    history: list[dict] = []
    for number in range(phase.rounds):
        if number:
            masks = top_k_masks(_magnitudes(pair), 1 - kept**number)
            pair = make_masked_pair(state.net, len(job.split.train), masks)  # from the initial weights
        last = number == phase.rounds - 1
        training = _lengthen(phase) if last else phase.training
        try:
            pair = job.fit(pair, training, checkpoint.with_name(f"{checkpoint.name}-round{number}"))
        except NonFiniteError as error:
            error.history = [*history, *({"round": number, **row} for row in error.history)]
            raise
        history += [{"round": number, **row} for row in pair.history]
    return state.then(phase, history, net=pair.mean(), posterior=pair)


def _lengthen(phase: Lottery) -> Training:
    """The training of the last round."""
    epochs = phase.training.epochs + phase.extra
    decay = HoldThenDecay(min(round(phase.hold * epochs), epochs - 1), epochs)
    return replace(phase.training, epochs=epochs, lr_schedule=decay)


def sparsity_at(epoch: int, epochs: int, phase: Gradual) -> float:
    """Share of pruned weights after ``epoch`` epochs: Zhu and Gupta 2017, eq. 1, with initial sparsity 0."""
    progress = (epoch / epochs - phase.start) / (phase.end - phase.start)
    return phase.sparsity * (1 - (1 - min(max(progress, 0.0), 1.0)) ** 3)


def _magnitudes(posterior: Posterior) -> dict[str, Tensor]:
    net = posterior.mean()
    return {site: net.get_parameter(site).detach().abs() for site in posterior.model.priors}


def measure_error(net: nn.Module, examples: LabeledImages) -> float:
    """The share of the examples that the network classifies wrongly."""
    return error_rate(compute_logits(net, examples), examples.labels)
