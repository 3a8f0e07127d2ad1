"""What all diagnostics of weight draws share: the data, a local seed, and the distribution of the targets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.model.targets import check_target_shape
from pyro_vd.posterior import Posterior

__all__ = ["fork_seeded_rng", "target_distribution", "unpack_data"]


@contextlib.contextmanager
def fork_seeded_rng(seed: int) -> Iterator[None]:
    """Seeds the generators of all devices inside the block, and restores their states on exit."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def unpack_data(data: LabeledImages | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Inputs and targets.

    Raises:
        UserError: if they are not tensors of the same number of examples, at least one, or a number is NaN.
    """
    x, y = (data.images, data.labels) if isinstance(data, LabeledImages) else data
    if not (isinstance(x, Tensor) and isinstance(y, Tensor) and x.ndim and y.ndim):
        raise UserError(
            f"inputs are a {type(x).__name__} and targets a {type(y).__name__}; two tensors are needed, whose first "
            "axis counts examples: torch.as_tensor makes them of arrays"
        )
    if len(x) != len(y) or not len(x):
        raise UserError(f"{len(x)} inputs and {len(y)} targets; as many of both are needed, and at least one")
    if x.isnan().any() or y.isnan().any():
        raise UserError("a number of the inputs or targets is NaN; leave its example out")
    return x, y


def target_distribution(posterior: Posterior, weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Distribution:
    """Distribution of the targets under these weights, with one event per observation.

    Raises:
        UserError: for targets of another shape than the likelihood's, and for a likelihood without independent
            examples.
    """
    target = posterior.model.likelihood(posterior.outputs(weights, x))
    check_target_shape(target, y)
    if not target.batch_shape:
        raise UserError(
            f"the likelihood over targets {tuple(y.shape)} is one joint event; the first axis must count independent "
            "examples"
        )
    return Independent(target, len(target.batch_shape) - 1)
