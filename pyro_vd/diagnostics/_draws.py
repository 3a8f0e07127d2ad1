"""What all diagnostics of weight draws share: the data, a local seed, and the distribution of the targets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.inference.user_numbers import to_seed
from pyro_vd.model.lift import OBSERVED
from pyro_vd.model.targets import Observed, as_target, observed_sites
from pyro_vd.posterior import Posterior
from pyro_vd.pytree import Tree, as_tree, check_inputs, count, named_leaves

__all__ = ["fork_seeded_rng", "observe", "unpack_data"]


@contextlib.contextmanager
def fork_seeded_rng(seed: int) -> Iterator[None]:
    """Seeds the generators of all devices inside the block, and restores their states on exit.

    Raises:
        UserError: for a seed that PyTorch does not take.
    """
    seed = to_seed("seed", seed)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def unpack_data(data: LabeledImages | tuple[Any, Any]) -> tuple[Tree, Tree]:
    """Inputs and targets.

    Raises:
        UserError: if they are not tensors of the same number of examples, at least one, or a number is NaN.
    """
    pair = (data.images, data.labels) if isinstance(data, LabeledImages) else data
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise UserError(f"the data are a {type(data).__name__}; give LabeledImages, or a pair (x, y) of tensors")
    x, y = map(as_tree, pair)
    for leaf, value in (*named_leaves("x", x), *named_leaves("y", y)):
        if not isinstance(value, Tensor):
            raise UserError(
                f"{leaf} is a {type(value).__name__}; tensors are needed, whose first axis counts examples: "
                "torch.as_tensor makes them of arrays"
            )
        if value.isnan().any():
            raise UserError(f"a number of {leaf} is NaN; leave its example out")
    check_inputs(x, "the data")
    sizes = count(x), count(y, OBSERVED)
    if sizes[0] != sizes[1] or not sizes[0]:
        raise UserError(f"{sizes[0]} inputs and {sizes[1]} targets; as many of both are needed, and at least one")
    return x, y


def observe(posterior: Posterior, weights: dict[str, Tensor], x: Tree, y: Tree) -> dict[str, Observed]:
    """Site -> the distribution of the targets under these weights, with one event per observation, and the targets.

    Raises:
        UserError: for targets of another shape or in other containers than the likelihood's, and for a likelihood
            without independent examples.
    """
    sites = observed_sites(posterior.model.likelihood(posterior.outputs(weights, x)), y)
    for site, (target, values) in sites.items():
        if not target.batch_shape:
            raise UserError(
                f"the likelihood over targets {site} of shape {tuple(values.shape)} is one joint event; the first axis "
                "must count independent examples"
            )
    return {site: Observed(_one_event_each(target), as_target(target, y)) for site, (target, y) in sites.items()}


def _one_event_each(target: Distribution) -> Distribution:
    return Independent(target, len(target.batch_shape) - 1)
