"""Resuming: what a checkpoint of ``fit`` holds, and what must be the same for a run to go on from it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from pyro_vd import checkpoint as checkpoints
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.inference.engine import EagerStep, Mode
from pyro_vd.inference.identity import describe, describe_modules, without_code
from pyro_vd.inference.lock import hold_lock
from pyro_vd.model.pair import check_history, check_tensors, load_tensors, pair_state, signature
from pyro_vd.posterior import FILE_OVERHEAD, Posterior

if TYPE_CHECKING:
    from pyro_vd.inference.loop import Loop

__all__ = ["Resume", "broken_tensors", "check_how", "held", "identity_of", "restore", "save", "seed_of"]

Resume = Literal["exact", "any"]
ROW = {"epoch", "loss", "log_likelihood", "kl", "beta", "lr", "seconds"}
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
LARGEST_STEP = 2**24  # Adam counts in float32, which has no larger odd numbers
SHOWN = 5  # differences in a message


@contextmanager
def held(checkpoint: Path | None) -> Iterator[None]:
    """Holds the checkpoint ``checkpoint`` against other processes and threads.

    Raises:
        CheckpointError: if another holds it, or if nothing can be written there.
    """
    if checkpoint is None:
        yield
        return
    checkpoints.make_ready(checkpoint)
    with hold_lock(checkpoint):
        yield


def check_how(resume: Resume) -> None:
    """Raises UserError for a word that is no way to resume."""
    if resume not in get_args(Resume):
        raise UserError(f"fit: resume={resume!r}: resume is one of {', '.join(get_args(Resume))}")


def seed_of(checkpoint: Path) -> int | None:
    """The seed of the checkpoint ``checkpoint``; None if there is no checkpoint, or one of several seeds."""
    if not checkpoints.exists(checkpoint):
        return None
    settings = checkpoints.metadata(checkpoint).get("settings")
    seed = settings.get("seed") if isinstance(settings, dict) else None
    return seed if isinstance(seed, int) else None


def identity_of(loop: Loop) -> dict[str, Any]:
    """What a run is of, besides its schedules: a checkpoint of another is refused. Tensors that training changes are
    not part of it.

    Raises:
        UserError: for a loader that cannot be resumed.
    """
    loop.batches.check_resumable()
    model, guide = loop.posteriors[0].model, loop.posteriors[0].guide
    return checkpoints.as_json(
        {
            **loop.settings,
            "data": loop.batches.content,
            "likelihood": describe(model.likelihood),
            "network": describe_modules(model.net),
            "guide": describe_modules(guide),
        }
    )


def save(loop: Loop) -> None:
    """Writes the checkpoint of a run. Nothing without one."""
    if loop.checkpoint is None:
        return
    tensors = {
        prefix + name: value
        for prefix, posterior, replica in _members(loop)
        for name, value in (*pair_state(posterior.model, posterior.guide), *_adam(replica).items())
    }
    tensors["rng.cpu"] = torch.get_rng_state()
    if loop.batches.device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(loop.batches.device)
    tensors["log_likelihood"] = loop.log_likelihood
    loader_tensors, loader = loop.batches.state()
    histories = [posterior.history for posterior in loop.posteriors]
    meta = {
        "pair": signature(loop.posteriors[0].model, loop.posteriors[0].guide),
        "settings": loop.identity,
        "environment": _environment(loop, loop.engine.mode),
        "python": _python(),
        "schedules": {name: _without_infinity(values) for name, values in loop.scheduled.items()},
        "trained": [replica.trained() for replica in loop.engine.replicas],
        "loader": loader,
        "epoch": loop.epoch,
        "step": loop.step,
        "seconds": loop.seconds,
        **({"history": histories[0]} if len(histories) == 1 else {"histories": histories}),
    }
    checkpoints.save(loop.checkpoint, tensors | loader_tensors, meta)


def restore(loop: Loop, checkpoint: Path, epochs: int) -> None:
    """Puts the loop where the checkpoint ``checkpoint`` stopped. Everything is checked before anything is changed.

    Raises:
        CheckpointError: for a checkpoint of other arguments, of another environment (unless ``loop.resume`` is "any"),
            of more epochs, or one that ``save`` does not write.
    """
    pairs = [dict(pair_state(posterior.model, posterior.guide)) for posterior in loop.posteriors]
    largest = 3 * sum(tensor.nbytes for pair in pairs for tensor in pair.values()) + FILE_OVERHEAD
    tensors, meta = checkpoints.load(checkpoint, largest)
    if "settings" not in meta:
        raise CheckpointError(f"{checkpoint}: saved by Posterior.save, not by fit; load it with Posterior.load")
    _check_types(meta, checkpoint, len(loop.posteriors))
    mode = _checked_engine(loop, meta["environment"], checkpoint)
    _check_same(loop, meta, checkpoint, mode)
    _check_position(loop, meta, checkpoint, epochs)
    _check_tensors(loop, meta, tensors, checkpoint)
    for prefix, posterior, replica in _members(loop):
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        state = dict(pair_state(posterior.model, posterior.guide))
        load_tensors(state, {name: own[name] for name in state}, str(checkpoint))
        _fill_adam(replica, own)
    torch.set_rng_state(tensors["rng.cpu"])
    if "rng.cuda" in tensors and loop.batches.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["rng.cuda"], loop.batches.device)
    loop.batches.restore(tensors, meta["loader"])
    loop.engine.mode = mode
    loop.log_likelihood.copy_(tensors["log_likelihood"])
    loop.epoch, loop.step, loop.seconds = meta["epoch"], meta["step"], meta["seconds"]
    loop.scheduled = {
        name: [math.inf if value is None else value for value in values] for name, values in meta["schedules"].items()
    }
    for posterior, history in zip(loop.posteriors, _histories(meta), strict=True):
        posterior.history = history


def broken_tensors(replica: EagerStep) -> list[str]:
    """Names of the trained parameters that are not finite, or whose moments in Adam are not."""
    state = replica.optimizer.state
    found = {
        name: torch.stack(
            [tensor.isfinite().all() for tensor in (parameter.detach(), *state[parameter].values())]
        ).all()
        for name, parameter in replica.objective.named_parameters()
        if parameter in state
    }
    finite = torch.stack(list(found.values())).tolist() if found else []  # a GPU is asked once
    return [name for name, whole in zip(found, finite, strict=True) if not whole]


def _members(loop: Loop) -> Iterator[tuple[str, Posterior, EagerStep]]:
    """Every seed's prefix of names in a checkpoint, none where it is alone, with what it trains."""
    alone = len(loop.posteriors) == 1
    prefixes = ["" if alone else f"seed{seed}." for seed in loop.batches.seeds]
    return zip(prefixes, loop.posteriors, loop.engine.replicas, strict=True)


def _environment(loop: Loop, mode: str) -> dict[str, Any]:
    """What else decides about the last digits of a step, or about all of them."""
    device = loop.batches.device.type
    return {
        "torch": torch.__version__,
        "device": device,
        "engine": mode,
        **({"threads": torch.get_num_threads()} if device == "cpu" else {}),
    }


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _without_infinity(values: list[float]) -> list[float | None]:
    """The values as JSON has them: None for an infinite threshold."""
    return [value if math.isfinite(value) else None for value in values]


def _histories(meta: Mapping[str, Any]) -> list[list[dict[str, float]]]:
    return meta["histories"] if "histories" in meta else [meta["history"]]


def _refuse(checkpoint: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{checkpoint}: {what}; not a checkpoint that fit wrote, choose another run")


def _check_types(meta: Mapping[str, Any], checkpoint: Path, members: int) -> None:
    """Names and types of the metadata."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "pair": str, "settings": dict, "environment": dict, "python": str, "schedules": dict, "trained": list,
        "loader": dict, "epoch": int, "step": int, "seconds": (int, float),
        "histories" if "histories" in meta else "history": list,
    }  # fmt: skip
    for name in sorted(kinds.keys() | meta.keys()):
        if name not in meta or name not in kinds:
            raise _refuse(checkpoint, f"its metadata has {'no' if name not in meta else 'an unexpected'} {name!r}")
        if not isinstance(meta[name], kinds[name]) or isinstance(meta[name], bool):
            raise _refuse(checkpoint, f"{name!r} in its metadata is a {type(meta[name]).__name__}")
    if any(not isinstance(number, int) for name, number in meta["loader"].items() if name != "state"):
        raise _refuse(checkpoint, "the numbers of the loader in its metadata are not whole")
    for name, values in meta["schedules"].items():
        if not isinstance(values, list) or not all(_is_number(value) or value is None for value in values):
            raise _refuse(checkpoint, f"the schedule {name!r} in its metadata is no list of numbers")
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in meta["trained"]):
        raise _refuse(checkpoint, "'trained' in its metadata holds no lists of names")
    if "history" in meta:
        check_history(meta["history"], str(checkpoint))
        return
    if members == 1 or len(meta["histories"]) != members:
        return  # of other seeds, which the settings say better
    for history in meta["histories"]:
        check_history(history, str(checkpoint))


def _checked_engine(loop: Loop, environment: Mapping[str, Any], checkpoint: Path) -> Mode:
    """The engine to go on with: the one that was, if the choice was left to the library."""
    mode = environment.get("engine")
    if mode not in ("eager", "compiled", "cudagraph"):
        raise _refuse(checkpoint, f"its engine is {mode!r}")
    possible = mode != "cudagraph" or loop.batches.device.type == "cuda"
    return mode if loop.automatic and possible else loop.engine.mode


def _check_same(loop: Loop, meta: Mapping[str, Any], checkpoint: Path, mode: str) -> None:
    """Arguments, data, network, schedules of the trained epochs, and what decides about the last digits."""
    exact = loop.resume == "exact"
    then = {"pair": meta["pair"], **_flat(meta["settings"])}
    now = {"pair": signature(loop.posteriors[0].model, loop.posteriors[0].guide), **_flat(loop.identity)}
    if not exact or meta["python"] != _python():
        then, now = ({k: without_code(v) if isinstance(v, str) else v for k, v in d.items()} for d in (then, now))
    different = _differences(then, now)
    epochs = {len(values) for values in meta["schedules"].values()}
    if meta["schedules"].keys() != loop.schedules.keys() or epochs != {meta["epoch"] + (meta["step"] > 0)}:
        raise _refuse(checkpoint, f"its schedules are not those of {meta['epoch']} epochs")
    if exact:  # a schedule that follows the training, a plateau for one, gives other values now
        different += _changed_schedules(loop, meta["schedules"])
    if different:
        more = f"; and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
        raise CheckpointError(
            f"{checkpoint}: made with other arguments ({'; '.join(different[:SHOWN])}{more}); choose another run"
        )
    different = _differences(meta["environment"], _environment(loop, mode))
    if exact and different:
        raise CheckpointError(
            f"{checkpoint}: made in another environment ({'; '.join(different)}), in which the run would not go on bit for "
            "bit; pass resume='any' to go on all the same, or choose another run"
        )


def _changed_schedules(loop: Loop, then: Mapping[str, list[float | None]]) -> list[str]:
    """The first epoch in which each schedule gives another value than it gave to the checkpoint's run."""
    found = []
    for name, values in then.items():
        now = _without_infinity([loop.schedules[name](epoch) for epoch in range(len(values))])
        pairs = enumerate(zip(values, now, strict=True))
        found += [f"{name} was {a} at epoch {epoch}, is {b}" for epoch, (a, b) in pairs if a != b][:1]
    return found


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The descriptions of modules by the module's name."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        modules = value if key in ("network", "guide") and isinstance(value, dict) else {"": value}
        flat |= {f"{key} {name}".rstrip(): part for name, part in modules.items()}
    return flat


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = [*now, *(key for key in then if key not in now)]
    return [f"{key} was {then.get(key)}, is {now.get(key)}" for key in keys if then.get(key) != now.get(key)]


def _check_position(loop: Loop, meta: Mapping[str, Any], checkpoint: Path, epochs: int) -> None:
    epoch, step, steps = meta["epoch"], meta["step"], loop.batches.steps
    if epoch < 0 or step < 0 or (steps is not None and step > steps):
        raise _refuse(checkpoint, f"it stopped at epoch {epoch}, step {step}, and an epoch has {steps or 'some'} steps")
    if not (math.isfinite(meta["seconds"]) and meta["seconds"] >= 0):
        raise _refuse(checkpoint, f"it took {meta['seconds']} seconds")
    for history in _histories(meta):
        numbers = [row["epoch"] for row in history if row.keys() >= ROW]
        if len(history) != epoch or numbers != list(range(epoch)):
            raise _refuse(checkpoint, f"its history is not that of {epoch} epochs")
    if epoch + (step > 0) > epochs:
        raise CheckpointError(f"{checkpoint}: holds {epoch + (step > 0)} epochs, more than the {epochs} asked for")


def _check_tensors(loop: Loop, meta: Mapping[str, Any], tensors: Mapping[str, Tensor], checkpoint: Path) -> None:
    """Every tensor's name, shape, dtype and values."""
    expected: dict[str, Tensor] = {"rng.cpu": torch.get_rng_state(), "log_likelihood": loop.log_likelihood}
    expected |= loop.batches.state()[0]
    if meta["environment"].get("device") == "cuda":
        on_cuda = loop.batches.device.type == "cuda"
        given = tensors.get("rng.cuda", expected["rng.cpu"])  # whose shape only that device knows
        expected["rng.cuda"] = torch.cuda.get_rng_state(loop.batches.device) if on_cuda else given
    if len(meta["trained"]) != len(loop.posteriors):
        raise _refuse(checkpoint, f"it names the trained parameters of {len(meta['trained'])} pairs")
    for (prefix, posterior, replica), names in zip(_members(loop), meta["trained"], strict=True):
        expected |= {prefix + name: value for name, value in pair_state(posterior.model, posterior.guide)}
        parameters = {name: p for name, p in replica.objective.named_parameters() if p.requires_grad}
        if len(set(names)) < len(names) or not parameters.keys() >= set(names):
            raise _refuse(checkpoint, "it names trained parameters that are none of this pair's")
        for name in names:
            like = parameters[name].detach()
            count = torch.zeros((), dtype=torch.float32)
            expected |= {f"{prefix}adam.{name}.{key}": count if key == "step" else like for key in MOMENTS}
    check_tensors(expected, tensors, str(checkpoint))
    _check_values(loop, meta, tensors, checkpoint)


def _check_values(loop: Loop, meta: Mapping[str, Any], tensors: Mapping[str, Tensor], checkpoint: Path) -> None:
    per_epoch = loop.batches.steps
    made = None if per_epoch is None else min(meta["epoch"] * per_epoch + meta["step"], LARGEST_STEP)
    counts = [tensor.item() for name, tensor in tensors.items() if name.endswith(".step") and _is_moment(name)]
    if not all(count >= 1 and float(count).is_integer() for count in counts):  # NaN is neither
        raise _refuse(checkpoint, "Adam's number of steps is none")
    if made is not None and counts and max(counts) != made:
        raise _refuse(checkpoint, f"Adam made {max(counts):.0f} steps, and the run {made}")
    for name, tensor in tensors.items():
        if (_is_moment(name) or name == "log_likelihood") and not bool(tensor.isfinite().all()):
            raise _refuse(checkpoint, f"{name} is not finite")
        if name.endswith(".exp_avg_sq") and _is_moment(name) and bool((tensor < 0).any()):
            raise _refuse(checkpoint, f"{name} is negative")
        if name == "rng.cpu" or name.startswith("loader."):
            _check_generator(name, tensor, checkpoint)


def _is_moment(name: str) -> bool:
    return name.startswith("adam.") or ".adam." in name


def _check_generator(name: str, state: Tensor, checkpoint: Path) -> None:
    try:
        torch.Generator().set_state(state)
    except RuntimeError:
        raise _refuse(checkpoint, f"{name} is no state of a random generator") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _adam(replica: EagerStep) -> dict[str, Tensor]:
    names = {id(p): name for name, p in replica.objective.named_parameters()}
    return {
        f"adam.{names[id(p)]}.{key}": value
        for p, state in replica.optimizer.state.items()
        for key, value in state.items()
    }


def _fill_adam(replica: EagerStep, tensors: Mapping[str, Tensor]) -> None:
    for name, parameter in replica.objective.named_parameters():
        if f"adam.{name}.step" in tensors:
            state = {key: tensors[f"adam.{name}.{key}"].to(parameter.device) for key in MOMENTS}
            replica.optimizer.state[parameter].update(state)
