"""What every number of weight draws needs: inputs and targets, a seed, and the targets' distribution."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.posterior import Posterior

__all__ = ["inputs_and_targets", "seeded", "target_of"]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds every device's generator, inside."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def inputs_and_targets(data: LabeledImages | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    x, y = (data.images, data.labels) if isinstance(data, LabeledImages) else data
    if not (isinstance(x, Tensor) and isinstance(y, Tensor) and x.ndim and y.ndim):
        raise UserError(
            f"inputs are a {type(x).__name__} and targets a {type(y).__name__}; two tensors are needed, whose first "
            "axis counts examples: torch.as_tensor makes them of arrays"
        )
    if len(x) != len(y) or not len(x):
        raise UserError(f"{len(x)} inputs and {len(y)} targets; as many of both are needed, one at least")
    if x.isnan().any() or y.isnan().any():
        raise UserError("a number of the inputs or targets is NaN; leave its example out")
    return x, y


def target_of(posterior: Posterior, weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Distribution:
    """The targets' distribution under these weights, one event per observation."""
    target = posterior.model.likelihood(posterior.outputs(weights, x))
    shape = target.batch_shape + target.event_shape
    if shape != y.shape or not target.batch_shape:
        raise UserError(
            f"the targets have shape {tuple(y.shape)}, the likelihood is of {tuple(shape)} "
            f"({len(target.batch_shape)} axes of it independent); they have to agree, and the first counts examples"
        )
    return Independent(target, len(target.batch_shape) - 1)
