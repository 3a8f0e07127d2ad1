"""The training objective as a module, and as a graph of tensor operations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Literal, get_args

import pyro
import torch
from torch import Tensor, nn

from pyro_vd.elbo import AnalyticELBO
from pyro_vd.errors import UserError
from pyro_vd.handlers import flipout, kl_weight, local_reparam, matmul_precision
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.param_store import param_store_disabled
from pyro_vd.model.weight_guide import WeightGuide
from pyro_vd.pytree import Tree, count_both, divide, first

__all__ = ["Estimator", "MatmulDtype", "Objective", "trace_objective"]

Estimator = Literal["local", "flipout", "weights"]
MatmulDtype = Literal["float32", "bfloat16"]


class Objective(nn.Module):
    """The training objective of a (model, guide) pair as a module: (x, y, beta) -> (loss, log likelihood, KLs).

    Args:
        model, guide: the pair.
        estimator: how the noise is drawn: by ``local_reparam`` ("local"), by ``flipout``, or with the "weights".
        threshold: train-time masking threshold of ``local_reparam``; ``math.inf`` for no masking. It is a buffer, so
            that a traced step follows :meth:`set_threshold`.
        matmul_dtype: of the means' matrix products and convolutions; parameters, variances, KL and likelihood keep
            theirs.
        micro_batch_size: most examples in a part of a batch, see :meth:`parts`; None if a batch is not divided.

    Raises:
        UserError: for another estimator or matmul_dtype.
    """

    threshold: Tensor

    def __init__(
        self,
        model: LiftedModel,
        guide: WeightGuide,
        estimator: Estimator = "local",
        threshold: float = math.inf,
        matmul_dtype: MatmulDtype = "float32",
        micro_batch_size: int | None = None,
    ):
        super().__init__()
        self.model = model
        self.guide = guide
        if estimator not in get_args(Estimator):
            raise UserError(f"estimator={estimator!r}: estimator is one of {', '.join(get_args(Estimator))}")
        if matmul_dtype not in get_args(MatmulDtype):
            raise UserError(f"matmul_dtype={matmul_dtype!r}: matmul_dtype is one of {', '.join(get_args(MatmulDtype))}")
        self.estimator = estimator
        self.matmul_dtype = matmul_dtype
        self.micro_batch_size = micro_batch_size
        device = next(guide.parameters()).device
        self.register_buffer("threshold", torch.tensor(math.inf, device=device), persistent=False)
        self.set_threshold(threshold)

    def set_threshold(self, threshold: float) -> None:
        """Sets the train-time masking threshold; ``math.inf`` for no masking."""
        self.threshold.fill_(threshold)

    def forward(self, x: Tree, y: Tree, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with ExitStack() as handlers:
            if self.estimator == "local":
                handlers.enter_context(local_reparam(self.threshold))
            elif self.estimator == "flipout":
                handlers.enter_context(flipout())
            handlers.enter_context(kl_weight(beta))
            handlers.enter_context(param_store_disabled())
            if self.matmul_dtype == "bfloat16":
                handlers.enter_context(matmul_precision(torch.bfloat16))
            terms = AnalyticELBO().terms(self.model, self.guide, x, y)
        return terms.loss, terms.log_likelihood, torch.stack(list(terms.kl.values()))

    def parts(self, x: Tree, y: Tree) -> Iterator[tuple[float, Tree, Tree]]:
        """The batch in parts of equal size, up to one example, each with its share of the batch's examples.

        The objective of a batch is the sum of those of its parts, each times its share, because the log likelihood is
        scaled to the whole training set.

        Raises:
            UserError: for inputs that cannot be divided, because their first axis does not count examples.
        """
        size = len(first(y))
        number = self.count_parts(size)
        if number > 1:
            count_both(x, y, "; leave out micro_batch_size for other inputs")
            for part_x, part_y in zip(divide(x, number), divide(y, number), strict=True):
                yield len(first(part_y)) / size, part_x, part_y
        else:
            yield 1.0, x, y

    def count_parts(self, size: int) -> int:
        """Into how many parts a batch of ``size`` examples is divided."""
        return 1 if self.micro_batch_size is None else -(-size // self.micro_batch_size)

    def statistics(self) -> dict[str, Tensor]:
        """The buffers that a forward pass may change, by name: running averages and the like."""
        fixed = {"threshold", *self.fixed_buffers()}
        return {name: buffer for name, buffer in self.named_buffers() if name not in fixed}

    def fixed_buffers(self) -> dict[str, Tensor]:
        """The buffers that a step reads and does not change, by name: the state of train-time masking."""
        return {name: buffer for name, buffer in self.named_buffers() if name.startswith("guide.started.")}

    def bounds(self) -> dict[str, tuple[float, float]]:
        """Parameter name -> the interval that its entries are kept in."""
        return {f"guide.{name}": interval for name, interval in self.guide.bounds().items()}


def trace_objective(objective: Objective, x: Tree, y: Tree) -> nn.Module:
    """The objective as one graph of tensor operations over its own parameters and buffers, for batches of this size.

    Pyro's handlers run in Python; ``torch.export`` runs them a single time.
    """
    beta = torch.ones((), device=first(y).device)
    with pyro.validation_enabled(False):
        return torch.export.export(objective, (x, y, beta), strict=False).module()
