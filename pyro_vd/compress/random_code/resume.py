"""A checkpoint of encode_posterior: the state of an encoder after an epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyro_vd import checkpoint as checkpoints
from pyro_vd.compress.random_code.encoder import Encoder
from pyro_vd.errors import CheckpointError
from pyro_vd.inference.batches import Batches
from pyro_vd.inference.identity import describe, describe_modules
from pyro_vd.inference.resume_checks import describe_differences
from pyro_vd.model.pair import check_history, check_tensors, load_tensors

__all__ = ["describe_run", "restore", "save"]

META = {"run": dict, "scales": dict, "indices": list, "kl_when_coded": list, "history": list, "loader": dict}
LARGEST = 1 << 30  # bytes of a tensor file


def describe_run(encoder: Encoder, batches: Batches) -> dict[str, Any]:
    """What decides the numbers of a run before its first epoch, the environment included.

    Raises:
        UserError: for a loader that cannot be resumed.
    """
    batches.check_resumable()
    model, state = encoder.model, encoder.state
    start = describe([state.mean.detach(), state.log_sigma2.detach(), *model.state_dict().values()])
    found: dict[str, Any] = checkpoints.as_json(
        asdict(encoder.plan)
        | {
            "num_data": model.num_data,
            "data": batches.content,
            "likelihood": describe(model.likelihood),
            "network": describe_modules(model.net),
            "posterior": hashlib.sha256(start.encode()).hexdigest()[:8],
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
    )
    return found


def save(encoder: Encoder, batches: Batches, run: Mapping[str, Any], path: Path) -> None:
    """Writes the checkpoint ``path``, a name without suffix.

    Args:
        run: see :func:`describe_run`.
    """
    state = encoder.state
    tensors, loader = batches.state()
    meta = {
        "run": run,
        "scales": state.scales,
        "indices": state.indices,
        "kl_when_coded": state.kl_when_coded,
        "history": encoder.history,
        "loader": loader,
    }
    checkpoints.save(path, _state_tensors(encoder) | _adam_tensors(encoder) | tensors, meta)


@torch.no_grad()
def restore(encoder: Encoder, batches: Batches, run: Mapping[str, Any], path: Path) -> None:
    """Puts a new encoder, the batches and torch's generator where the checkpoint was written.

    Raises:
        CheckpointError: for a checkpoint that is damaged, or of another run. Then nothing has changed.
    """
    tensors, meta = checkpoints.load(path, LARGEST)
    _check_types(meta, path)
    different = describe_differences(meta["run"], run)
    if different:
        raise CheckpointError(f"{path}: of another run ({'; '.join(different)}); choose another checkpoint")
    for name, parameter in _trained(encoder).items():
        if f"adam.{name}.step" not in tensors:  # no gradient has reached it, as that of a layer that is not called
            continue
        moments = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
        encoder.optimizer.state[parameter] = {"step": torch.zeros(()), **moments}
    own = _state_tensors(encoder)
    check_tensors(own | _adam_tensors(encoder) | batches.state()[0], tensors, str(path))
    load_tensors(own, {name: tensors[name] for name in own}, str(path))
    for name, value in _adam_tensors(encoder).items():
        value.copy_(tensors[name])
    torch.set_rng_state(tensors["rng.cpu"])
    batches.restore(tensors, meta["loader"])
    encoder.state.restore(meta["scales"], meta["indices"], meta["kl_when_coded"])
    encoder.history = meta["history"]


def _trained(encoder: Encoder) -> dict[str, Tensor]:
    points = {f"model.{name}": p for name, p in encoder.model.named_parameters() if p.requires_grad}
    return {"mean": encoder.state.mean, "log_sigma2": encoder.state.log_sigma2} | points


def _state_tensors(encoder: Encoder) -> dict[str, Tensor]:
    model = {f"model.{name}": value for name, value in encoder.model.state_dict(keep_vars=True).items()}
    others = {"log_kl_weight": encoder.state.log_kl_weight, "rng.cpu": torch.get_rng_state()}
    return _trained(encoder) | model | others


def _adam_tensors(encoder: Encoder) -> dict[str, Tensor]:
    state = encoder.optimizer.state
    return {
        f"adam.{name}.{key}": value
        for name, parameter in _trained(encoder).items()
        for key, value in state[parameter].items()
    }


def _check_types(meta: Mapping[str, Any], path: Path) -> None:
    wrong = meta.keys() ^ META.keys() or {name for name in META if not isinstance(meta[name], META[name])}
    if wrong:
        raise CheckpointError(f"{path}: not a checkpoint of encode_posterior ({', '.join(sorted(wrong))})")
    check_history(meta["history"], str(path))
