"""Resuming: what a checkpoint of ``fit`` holds, and how a run goes on from it. What is refused: ``resume_checks``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from pyro_vd import checkpoint as checkpoints
from pyro_vd.errors import UserError
from pyro_vd.inference.engine import EagerStep
from pyro_vd.inference.identity import describe, describe_modules
from pyro_vd.inference.lock import hold_lock
from pyro_vd.inference.resume_checks import (
    check_checkpoint,
    describe_environment,
    describe_python,
    histories_of,
    state_prefix,
)
from pyro_vd.inference.schedules import describe_schedule
from pyro_vd.inference.validation import BestState
from pyro_vd.model.pair import load_tensors, pair_state, signature
from pyro_vd.optim import Adam, Optimizer, TorchFactory, optimizer_name
from pyro_vd.posterior import BEST, FILE_OVERHEAD, MOST_COPIES

if TYPE_CHECKING:
    from pyro_vd.inference.loop import Loop
    from pyro_vd.inference.validation import Validation

__all__ = ["Resume", "check_resume", "describe_run", "hold_checkpoint", "read_seed", "restore", "save"]

Resume = Literal["exact", "any"]
OPTIONAL = ("clip_norm", "micro_batch_size")  # fields of a Training that a checkpoint leaves out if they are None


@contextmanager
def hold_checkpoint(checkpoint: Path | None) -> Iterator[None]:
    """Holds the checkpoint against other processes and threads.

    Raises:
        CheckpointError: if another holds it, or if nothing can be written there.
    """
    if checkpoint is None:
        yield
        return
    checkpoints.make_ready(checkpoint)
    with hold_lock(checkpoint):
        yield


def check_resume(resume: Resume) -> None:
    """Raises UserError for another word than those of Resume."""
    if resume not in get_args(Resume):
        raise UserError(f"fit: resume={resume!r}: resume is one of {', '.join(get_args(Resume))}")


def read_seed(checkpoint: Path) -> int | None:
    """The seed of the run that the checkpoint holds; None if there is no checkpoint, or one of several seeds."""
    if not checkpoints.exists(checkpoint):
        return None
    settings = checkpoints.metadata(checkpoint).get("settings")
    seed = settings.get("seed") if isinstance(settings, dict) else None
    return seed if isinstance(seed, int) else None


def describe_run(loop: Loop) -> dict[str, Any]:
    """What a run is of, besides its schedules: a checkpoint of another is refused. Tensors that training changes are
    not part of it.

    Raises:
        UserError: for a loader or an optimizer that cannot be resumed.
    """
    loop.batches.check_resumable()
    _check_has_state(loop.training.optimizer)
    training, seeds = loop.training, loop.seeds
    model, guide = loop.posteriors[0].model, loop.posteriors[0].guide
    description: dict[str, Any] = checkpoints.as_json(
        {
            "batch_size": training.batch_size,
            "lr": training.lr,
            "lr_scale": dict(training.lr_scale),
            "estimator": training.estimator,
            "matmul_dtype": training.matmul_dtype,
            **({} if training.optimizer == Adam() else {"optimizer": repr(training.optimizer)}),
            **{name: getattr(training, name) for name in OPTIONAL if getattr(training, name) is not None},
            **({"seed": seeds[0]} if len(seeds) == 1 else {"seeds": seeds}),
            "num_data": loop.num_data,
            "data": loop.batches.content,
            **({} if loop.validation is None else {"validation": loop.validation.content}),
            "likelihood": describe(model.likelihood),
            "network": describe_modules(model.net),
            "guide": describe_modules(guide),
        }
    )
    return description


def save(loop: Loop) -> None:
    """Writes the checkpoint of a run. Does nothing for a run without one."""
    if loop.checkpoint is None:
        return
    tensors = {
        prefix + name: value
        for prefix, posterior, pair in loop.items()
        for name, value in (*pair_state(posterior.model, posterior.guide), *_optimizer_tensors(pair).items())
    }
    if loop.validation is not None:
        tensors |= _best_tensors(loop, loop.validation)
    tensors["rng.cpu"] = torch.get_rng_state()
    if loop.batches.device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(loop.batches.device)
    tensors["log_likelihood"] = loop.log_likelihood
    loader_tensors, loader = loop.batches.state()
    histories = [posterior.history for posterior in loop.posteriors]
    meta = {
        "pair": signature(loop.posteriors[0].model, loop.posteriors[0].guide),
        "settings": loop.identity,
        "environment": describe_environment(loop, loop.engine.name),
        "python": describe_python(),
        "schedules": _schedules(loop),
        "trained": [pair.trained() for pair in loop.engine.pair.members],
        "loader": loader,
        "epoch": loop.epoch,
        "step": loop.step,
        "seconds": loop.seconds,
        **({"history": histories[0]} if len(histories) == 1 else {"histories": histories}),
        **({} if loop.stopped is None else {"stopped": loop.stopped}),
        **({} if loop.validation is None else {"best": _describe_best(loop, loop.validation)}),
    }
    checkpoints.save(loop.checkpoint, tensors | loader_tensors, meta)


def restore(loop: Loop, checkpoint: Path) -> None:
    """Puts the loop where the checkpoint stopped. Everything is checked before anything is changed.

    Raises:
        CheckpointError: see :func:`~pyro_vd.inference.resume_checks.check_checkpoint`.
    """
    pairs = [dict(pair_state(posterior.model, posterior.guide)) for posterior in loop.posteriors]
    largest = MOST_COPIES * sum(tensor.nbytes for pair in pairs for tensor in pair.values()) + FILE_OVERHEAD
    tensors, meta = checkpoints.load(checkpoint, largest)
    loop.engine.name = check_checkpoint(loop, meta, tensors, checkpoint)
    for (prefix, posterior, pair), names in zip(loop.items(), meta["trained"], strict=True):
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        state = dict(pair_state(posterior.model, posterior.guide))
        load_tensors(state, {name: own[name] for name in state}, str(checkpoint))
        _fill_optimizer(pair, own, names)
    torch.set_rng_state(tensors["rng.cpu"])
    if "rng.cuda" in tensors and loop.batches.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["rng.cuda"], loop.batches.device)
    loop.batches.restore(tensors, meta["loader"])
    loop.log_likelihood.copy_(tensors["log_likelihood"])
    loop.epoch, loop.step, loop.seconds = meta["epoch"], meta["step"], meta["seconds"]
    loop.scheduled = {
        name: [math.inf if value is None else value for value in found["values"]]
        for name, found in meta["schedules"].items()
    }
    for posterior, history in zip(loop.posteriors, histories_of(meta), strict=True):
        posterior.history = history
    loop.stopped = meta.get("stopped")
    if loop.validation is not None:
        _restore_best(loop, loop.validation, tensors, meta["best"]["epochs"])


def _best_tensors(loop: Loop, validation: Validation) -> dict[str, Tensor]:
    return {
        f"{prefix}{BEST}{name}": value
        for number, (prefix, _, _) in enumerate(loop.items())
        if number in validation.kept
        for name, value in validation.kept[number].tensors.items()
    }


def _describe_best(loop: Loop, validation: Validation) -> dict[str, Any]:
    kept = [validation.kept.get(number) for number in range(len(loop.posteriors))]
    epochs = [None if state is None else state.epoch for state in kept]
    return {"epochs": epochs, "returned": validation.returns_best}


def _restore_best(
    loop: Loop, validation: Validation, tensors: Mapping[str, Tensor], epochs: Sequence[int | None]
) -> None:
    for number, (prefix, posterior, _) in enumerate(loop.items()):
        epoch = epochs[number]
        if epoch is not None:
            state = dict(pair_state(posterior.model, posterior.guide))
            own = {name: tensors[f"{prefix}{BEST}{name}"].to(tensor.device) for name, tensor in state.items()}
            validation.kept[number] = BestState(epoch, own)


def _check_has_state(optimizer: Optimizer | TorchFactory) -> None:
    """Raises UserError for an optimizer whose state a checkpoint cannot hold."""
    if not isinstance(optimizer, Optimizer):
        raise UserError(
            f"checkpoint: the state of {optimizer_name(optimizer)} cannot be checked when it is read; use an optimizer "
            "of pyro_vd.optim, or leave out checkpoint="
        )


def _schedules(loop: Loop) -> dict[str, Any]:
    """Name -> a schedule's repr, null if it is not comparable, and the values that it gave so far, null for infinity,
    which JSON lacks."""
    return {
        name: {
            "schedule": describe_schedule(schedule),
            "values": [value if math.isfinite(value) else None for value in loop.scheduled[name]],
        }
        for name, schedule in loop.training.schedules.items()
    }


def _optimizer_tensors(pair: EagerStep) -> dict[str, Tensor]:
    names = {id(p): name for name, p in pair.objective.named_parameters()}
    prefix = state_prefix(pair)
    return {
        f"{prefix}{names[id(p)]}.{key}": value
        for p, state in pair.optimizer.state.items()
        for key, value in state.items()
    }


def _fill_optimizer(pair: EagerStep, tensors: Mapping[str, Tensor], trained: Sequence[str]) -> None:
    parameters, prefix = dict(pair.objective.named_parameters()), state_prefix(pair)
    for name in trained:
        state = pair.update.state_of(parameters[name])
        for key, value in state.items():
            state[key] = tensors[f"{prefix}{name}.{key}"].to(value.device)
