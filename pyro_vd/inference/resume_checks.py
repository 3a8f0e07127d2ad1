"""What a checkpoint is refused by: one that ``fit`` did not write, or one of another run or environment."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyro_vd.errors import CheckpointError
from pyro_vd.inference.engine import EagerStep
from pyro_vd.inference.identity import without_code
from pyro_vd.inference.schedules import describe_schedule
from pyro_vd.inference.validation import SCORE
from pyro_vd.model.pair import check_best, check_history, check_tensors, pair_state, signature
from pyro_vd.optim import Adam
from pyro_vd.posterior import BEST

if TYPE_CHECKING:
    from pyro_vd.inference.loop import Loop

__all__ = [
    "check_checkpoint",
    "describe_differences",
    "describe_environment",
    "describe_python",
    "histories_of",
    "state_prefix",
]

ROW = {"epoch", "loss", "log_likelihood", "kl", "beta", "lr", "seconds"}
LARGEST_STEP = 2**24  # an optimizer counts in float32, which has no larger odd numbers
MOST_DIFFERENCES = 5  # in a message


def check_checkpoint(loop: Loop, meta: Mapping[str, Any], tensors: Mapping[str, Tensor], checkpoint: Path) -> str:
    """Compares all of a checkpoint with the run that is to go on from it. Changes nothing.

    Returns:
        The name of the engine to go on with.

    Raises:
        CheckpointError: for a checkpoint that ``fit`` does not write, one of other arguments, of another environment
            (unless ``loop.resume`` is "any"), or of more epochs.
    """
    if not meta.keys() & {"pair", "settings"}:
        raise CheckpointError(f"{checkpoint}: not written by fit; choose another checkpoint")
    if "settings" not in meta:
        raise CheckpointError(f"{checkpoint}: saved by Posterior.save, not by fit; load it with Posterior.load")
    _check_types(meta, checkpoint, len(loop.posteriors))
    engine = _find_engine(loop, meta["environment"], checkpoint)
    _check_same(loop, meta, checkpoint, engine)
    _check_position(loop, meta, checkpoint)
    _check_tensors(loop, meta, tensors, checkpoint)
    return engine


def describe_environment(loop: Loop, engine: str) -> dict[str, Any]:
    """What else decides the last digits of a step, or all of them."""
    device = loop.batches.device.type
    return {
        "torch": torch.__version__,
        "device": device,
        "engine": engine,
        **({"threads": torch.get_num_threads()} if device == "cpu" else {}),
    }


def describe_python() -> str:
    """The version of Python, on which the digests of code depend."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def histories_of(meta: Mapping[str, Any]) -> list[list[dict[str, float]]]:
    """The history of every pair."""
    histories: list[list[dict[str, float]]] = meta["histories"] if "histories" in meta else [meta["history"]]
    return histories


def state_prefix(pair: EagerStep) -> str:
    """What the names of the optimizer's tensors begin with in a checkpoint, in front of the parameter's."""
    return f"{pair.update.name.lower()}."


def _refuse(checkpoint: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{checkpoint}: {what}; not a checkpoint that fit wrote, choose another checkpoint")


def _check_types(meta: Mapping[str, Any], checkpoint: Path, members: int) -> None:
    """Names and types of the metadata."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "pair": str, "settings": dict, "environment": dict, "python": str, "schedules": dict, "trained": list,
        "loader": dict, "epoch": int, "step": int, "seconds": (int, float),
        "histories" if "histories" in meta else "history": list,
    }  # fmt: skip
    kinds |= {name: kind for name, kind in (("stopped", int), ("best", dict)) if name in meta}
    for name in sorted(kinds.keys() | meta.keys()):
        if name not in meta or name not in kinds:
            raise _refuse(checkpoint, f"its metadata has {'no' if name not in meta else 'an unexpected'} {name!r}")
        if not isinstance(meta[name], kinds[name]) or isinstance(meta[name], bool):
            raise _refuse(checkpoint, f"{name!r} in its metadata is a {type(meta[name]).__name__}")
    if any(not isinstance(number, int) for name, number in meta["loader"].items() if name != "state"):
        raise _refuse(checkpoint, "the numbers of the loader in its metadata are not whole")
    _check_schedule_types(meta["schedules"], checkpoint)
    if "best" in meta:
        check_best(meta["best"], str(checkpoint))
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in meta["trained"]):
        raise _refuse(checkpoint, "'trained' in its metadata holds no lists of names")
    if "history" in meta:
        check_history(meta["history"], str(checkpoint))
        return
    if members == 1 or len(meta["histories"]) != members:
        return  # of other seeds, which the settings say better
    for history in meta["histories"]:
        check_history(history, str(checkpoint))


def _check_schedule_types(schedules: Mapping[str, Any], checkpoint: Path) -> None:
    """Every schedule is the repr of a value, or null, and a list of numbers, or null for infinity."""
    for name, found in schedules.items():
        if (
            not isinstance(found, dict)
            or found.keys() != {"schedule", "values"}
            or not (found["schedule"] is None or isinstance(found["schedule"], str))
            or not isinstance(found["values"], list)
            or not all(_is_number(value) or value is None for value in found["values"])
        ):
            raise _refuse(checkpoint, f"the schedule {name!r} in its metadata is no list of numbers")


def _find_engine(loop: Loop, environment: Mapping[str, Any], checkpoint: Path) -> str:
    """The engine to go on with: that of the checkpoint, if the choice was left to the library."""
    engine = environment.get("engine")
    if engine not in ("eager", "compiled", "cudagraph"):
        raise _refuse(checkpoint, f"its engine is {engine!r}")
    is_possible = engine != "cudagraph" or loop.batches.device.type == "cuda"
    return str(engine) if loop.engine.is_automatic and is_possible else loop.engine.name


def _check_same(loop: Loop, meta: Mapping[str, Any], checkpoint: Path, engine: str) -> None:
    """Arguments, data, network, schedules of the trained epochs, and what decides the last digits."""
    exact = loop.resume == "exact"
    default = {"optimizer": repr(Adam())}  # which a checkpoint leaves out
    then = {"pair": meta["pair"], **default, **_flat(meta["settings"])}
    now = {"pair": signature(loop.posteriors[0].model, loop.posteriors[0].guide), **default, **_flat(loop.identity)}
    if not exact or meta["python"] != describe_python():
        then, now = ({k: without_code(v) if isinstance(v, str) else v for k, v in d.items()} for d in (then, now))
    different = describe_differences(then, now)
    epochs = {len(found["values"]) for found in meta["schedules"].values()}
    if meta["schedules"].keys() != loop.training.schedules.keys() or epochs != {meta["epoch"] + (meta["step"] > 0)}:
        raise _refuse(checkpoint, f"its schedules are not those of {meta['epoch']} epochs")
    different += _changed_schedules(loop, meta["schedules"])
    if different:
        hidden = len(different) - MOST_DIFFERENCES
        more = f"; and {hidden} more" if hidden > 0 else ""
        raise CheckpointError(
            f"{checkpoint}: made with other arguments ({'; '.join(different[:MOST_DIFFERENCES])}{more}); choose "
            "another checkpoint"
        )
    different = describe_differences(meta["environment"], describe_environment(loop, engine))
    if exact and different:
        raise CheckpointError(
            f"{checkpoint}: made in another environment ({'; '.join(different)}), in which the run would not go on bit "
            "for bit; pass resume='any' to go on all the same, or choose another checkpoint"
        )


def _changed_schedules(loop: Loop, then: Mapping[str, Any]) -> list[str]:
    """The first trained epoch in which each schedule gives another value than it gave to the checkpoint's run.

    A schedule that is a value is compared always. A plain function may follow the training, as a plateau does, and give
    other values now; ``resume="any"`` goes on with it.
    """
    found = []
    for name, schedule in loop.training.schedules.items():
        before, now = then[name]["schedule"], describe_schedule(schedule)
        if loop.resume == "any" and None in (before, now):
            continue
        for epoch, value in enumerate(then[name]["values"]):
            was, current = math.inf if value is None else value, loop.training.evaluate(name, epoch)
            if was != current:
                which = f" ({before} then, {now} now)" if before != now and None not in (before, now) else ""
                found.append(f"{name} was {was} at epoch {epoch}, is {current}{which}")
                break
    return found


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The descriptions of modules by the module's name."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        modules = value if key in ("network", "guide") and isinstance(value, dict) else {"": value}
        flat |= {f"{key} {name}".rstrip(): part for name, part in modules.items()}
    return flat


def describe_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two descriptions have different, a text for each key."""
    keys = [*now, *(key for key in then if key not in now)]
    return [f"{key} was {then.get(key)}, is {now.get(key)}" for key in keys if then.get(key) != now.get(key)]


def _check_position(loop: Loop, meta: Mapping[str, Any], checkpoint: Path) -> None:
    epoch, step, steps = meta["epoch"], meta["step"], loop.batches.steps
    epochs = loop.training.epochs
    if epoch < 0 or step < 0 or (steps is not None and step > steps):
        raise _refuse(checkpoint, f"it stopped at epoch {epoch}, step {step}, and an epoch has {steps or 'some'} steps")
    if not (math.isfinite(meta["seconds"]) and meta["seconds"] >= 0):
        raise _refuse(checkpoint, f"it took {meta['seconds']} seconds")
    for history in histories_of(meta):
        numbers = [row["epoch"] for row in history if row.keys() >= ROW]
        if len(history) != epoch or numbers != list(range(epoch)):
            raise _refuse(checkpoint, f"its history is not that of {epoch} epochs")
    _check_best_position(loop, meta, checkpoint)
    if epoch + (step > 0) > epochs:
        raise CheckpointError(f"{checkpoint}: holds {epoch + (step > 0)} epochs, more than the {epochs} asked for")


def _check_best_position(loop: Loop, meta: Mapping[str, Any], checkpoint: Path) -> None:
    """With a validation set, every row has a score, and every pair a best epoch or none."""
    if (loop.validation is not None) != ("best" in meta):
        raise _refuse(checkpoint, f"its metadata has {'no' if loop.validation else 'an unexpected'} 'best'")
    if loop.validation is None:
        return
    best = meta["best"]["epochs"]
    if len(best) != len(loop.posteriors) or not all(epoch is None or 0 <= epoch < meta["epoch"] for epoch in best):
        raise _refuse(checkpoint, f"its best epochs are {best}")
    if not all(SCORE in row and _is_number(row[SCORE]) for history in histories_of(meta) for row in history):
        raise _refuse(checkpoint, f"its history has epochs without {SCORE}")


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
    best = [*meta["best"]["epochs"]] if loop.validation is not None else [None] * len(loop.posteriors)
    for (prefix, posterior, pair), names in zip(loop.items(), meta["trained"], strict=True):
        state = dict(pair_state(posterior.model, posterior.guide))
        expected |= {prefix + name: value for name, value in state.items()}
        if best.pop(0) is not None:
            expected |= {f"{prefix}{BEST}{name}": value for name, value in state.items()}
        parameters = {name: p for name, p in pair.objective.named_parameters() if p.requires_grad}
        if len(set(names)) < len(names) or not parameters.keys() >= set(names):
            raise _refuse(checkpoint, "it names trained parameters that are none of this pair's")
        for name in names:
            state = _init_state(pair, parameters[name])
            expected |= {f"{prefix}{state_prefix(pair)}{name}.{key}": value for key, value in state.items()}
    check_tensors(expected, tensors, str(checkpoint))
    _check_values(loop, meta, tensors, checkpoint)


def _check_values(loop: Loop, meta: Mapping[str, Any], tensors: Mapping[str, Tensor], checkpoint: Path) -> None:
    member = loop.engine.pair.members[0]
    per_epoch, optimizer, prefix = loop.batches.steps, member.update.name, state_prefix(member)
    states = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix) or f".{prefix}" in name}
    made = None if per_epoch is None else min(meta["epoch"] * per_epoch + meta["step"], LARGEST_STEP)
    counts = [tensor.item() for name, tensor in states.items() if name.endswith(".step")]
    if not all(count >= 1 and float(count).is_integer() for count in counts):  # NaN is neither
        raise _refuse(checkpoint, f"{optimizer}'s number of steps is not a positive whole number")
    if made is not None and counts and max(counts) != made:
        raise _refuse(checkpoint, f"{optimizer} made {max(counts):.0f} steps, and the run {made}")
    for name, tensor in (states | {"log_likelihood": tensors["log_likelihood"]}).items():
        if not bool(tensor.isfinite().all()):
            raise _refuse(checkpoint, f"{name} is not finite")
        if name in states and name.endswith(".exp_avg_sq") and bool((tensor < 0).any()):
            raise _refuse(checkpoint, f"{name} is negative")
    for name, tensor in tensors.items():
        if name == "rng.cpu" or name.startswith("loader."):
            _check_generator(name, tensor, checkpoint)


def _init_state(pair: EagerStep, parameter: Tensor) -> dict[str, Tensor]:
    return pair.update.rule_of(parameter).init_state(parameter.detach())  # a value: others have no checkpoint


def _check_generator(name: str, state: Tensor, checkpoint: Path) -> None:
    try:
        torch.Generator().set_state(state)
    except RuntimeError:
        raise _refuse(checkpoint, f"{name} is no state of a random generator") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
