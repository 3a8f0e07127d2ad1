"""A (model, guide) pair in a checkpoint: what identifies it, its tensors, and the checks before they are loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_vd.errors import CheckpointError
from pyro_vd.model.event import base_distribution
from pyro_vd.model.lift import LiftedModel

__all__ = ["check_best", "check_history", "check_tensors", "describe_prior", "load_tensors", "pair_state", "signature"]

MIXTURE_PARTS = ("_mixture_distribution", "_component_distribution")  # arguments that torch keeps under private names


def signature(model: LiftedModel, guide: nn.Module) -> str:
    """The guide's repr and the priors.

    Two schemes can have the same parameters. A checkpoint of one does not load into the other, because their
    signatures differ.
    """
    names = {site: describe_prior(base_distribution(prior)) for site, prior in model.priors.items()}
    alike = len(set(names.values())) == 1
    priors = next(iter(names.values())) if alike else ", ".join(f"{site}: {name}" for site, name in names.items())
    return f"{guide!r} with {priors}"


def describe_prior(prior: Distribution) -> str:
    """The prior as it would be written: its type with its numbers and the distributions it is made of.

    Example:
        >>> describe_prior(torch.distributions.Normal(0.0, 0.5))
        'Normal(loc=0, scale=0.5)'
    """
    inside = []
    for key, value in sorted(vars(prior).items()):
        if isinstance(value, Distribution) and (not key.startswith("_") or key in MIXTURE_PARTS):
            inside.append(describe_prior(value))
        elif key in prior.arg_constraints and isinstance(value, Tensor):
            if key != "logits" or "probs" not in vars(prior):  # torch adds one to the other when it is first read
                inside.append(f"{key}={_format(value)}")
        elif not key.startswith("_") and isinstance(value, str | int | float):
            inside.append(f"{key}={value!r}")
    return f"{type(prior).__name__}({', '.join(inside)})"


def _format(values: Tensor) -> str:
    """One number if all are equal, else a digest."""
    first = values.flatten()[:1]
    if bool((values == first).all()):
        return f"{first.item():g}"
    return hashlib.sha256(values.detach().cpu().numpy().tobytes()).hexdigest()[:8]


def pair_state(model: nn.Module, guide: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Named parameters and buffers of a pair, as ``model.*`` and ``guide.*``; the tensors themselves, not copies."""
    for prefix, module in (("model", model), ("guide", guide)):
        for name, tensor in module.state_dict(keep_vars=True).items():
            yield f"{prefix}.{name}", tensor


def check_tensors(own: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str) -> None:
    """Compares names, shapes and dtypes, and checks that parameters are finite.

    Args:
        own: name -> tensor of the pair.
        given: name -> tensor of the file.
        source: the file, for messages.

    Raises:
        CheckpointError: naming every difference.
    """
    wrong = [f"no {name}" for name in own.keys() - given.keys()]
    wrong += [f"unexpected {name}" for name in given.keys() - own.keys()]
    for name in own.keys() & given.keys():
        expected, found = own[name], given[name]
        if (expected.shape, expected.dtype) != (found.shape, found.dtype):
            sizes = [f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in (found, expected)]
            wrong.append(f"{name} is {sizes[0]}, expected {sizes[1]}")
        elif isinstance(expected, nn.Parameter) and not bool(found.isfinite().all()):
            wrong.append(f"{name} is not finite")
    if wrong:
        raise CheckpointError(f"{source}: of another model or guide: {'; '.join(sorted(wrong))}")


def check_history(history: Any, source: str) -> None:
    """Raises CheckpointError unless ``history`` is a list of dicts of numbers."""
    rows = history if isinstance(history, list) else [None]
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(value, int | float) for value in row.values()):
            raise CheckpointError(f"{source}: its history is not a list of rows of numbers; not used")


def check_best(best: Any, source: str) -> None:
    """Raises CheckpointError unless ``best`` has the best epoch of every pair, None before there is one, and whether
    ``fit`` returns it."""
    found = best if isinstance(best, dict) else {}
    epochs = found.get("epochs")
    if (
        found.keys() != {"epochs", "returned"}
        or not isinstance(found["returned"], bool)
        or not isinstance(epochs, list)
        or not all(epoch is None or (isinstance(epoch, int) and not isinstance(epoch, bool)) for epoch in epochs)
    ):
        raise CheckpointError(
            f"{source}: 'best' in its metadata does not say which epoch is the best; not a checkpoint that fit wrote, "
            "choose another checkpoint"
        )


@torch.no_grad()
def load_tensors(own: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str) -> None:
    """Copies ``given`` into ``own`` after :func:`check_tensors`, which raises before anything is changed."""
    check_tensors(own, given, source)
    for name, tensor in own.items():
        tensor.copy_(given[name])
