"""Bases of the priors that have no samples, and the stand-in for a log density that does not exist."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NoReturn, Self

import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.poutine.condition_messenger import ConditionMessenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor
from torch.distributions import constraints

__all__ = ["ImproperPrior", "NoisePrior", "UndefinedLogProb"]


class ImproperPrior(TorchDistribution):
    """A prior over real weights from which nothing can be drawn. Subclasses give ``log_prob``."""

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real
    why_no_samples = "it does not normalize"

    def __init__(self, batch_shape: torch.Size = torch.Size(), validate_args: bool | None = None):
        super().__init__(torch.Size(batch_shape), validate_args=validate_args)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        if _only_shapes_are_read():
            return torch.zeros(self._extended_shape(sample_shape))
        raise NotImplementedError(
            f"{type(self).__name__} has no samples: {self.why_no_samples}. Use a proper prior such as Normal(0., 1.), "
            "or give the weights values (a guide, poutine.condition; for an autoguide, "
            "init_loc_fn=init_to_value(values=model.initial))"
        )

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Self:
        new = copy.copy(self)
        new._batch_shape = torch.Size(batch_shape)
        return new


class NoisePrior(ImproperPrior):
    """A prior without samples and without a density over weights. Subclasses name what it is a prior of."""

    prior_of: str

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.why_no_samples = f"it is a prior on {cls.prior_of}, not on weights"

    def log_prob(self, value: Tensor) -> UndefinedLogProb:
        return UndefinedLogProb(type(self).__name__, value.shape)


class UndefinedLogProb:
    """Stands in for a log density that does not exist, and raises if something needs its value.

    Pyro's TraceMeanField_ELBO computes the log density of every prior, and does not use it if a KL is registered.
    An error in ``log_prob`` would refuse that objective too, and NaN would let Trace_ELBO run with a wrong objective.
    So the operations of a trace on a log density (sum, reshape, scale, a check for NaN) are allowed, and adding it to
    an objective raises.

    Args:
        owner: name of the distribution, for the message.
        shape: of the log density.
    """

    def __init__(self, owner: str, shape: Sequence[int]):
        self.owner = owner
        self.shape = torch.Size(shape)

    def sum(self, dim: int | None = None) -> UndefinedLogProb:
        return UndefinedLogProb(self.owner, self.shape[:-1] if dim == -1 else ())

    def reshape(self, *shape: Any) -> UndefinedLogProb:
        return UndefinedLogProb(self.owner, torch.empty(self.shape, device="meta").reshape(*shape).shape)

    def __mul__(self, scale: Any) -> UndefinedLogProb:
        return self

    def __eq__(self, other: object) -> Any:  # Pyro's validation asks whether a log density equals infinity
        return torch.tensor(False)

    def __hash__(self) -> int:
        return id(self)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Tensor:
        if func in (torch.isnan, torch.isinf):
            return torch.tensor(False)
        return next(arg for arg in args if isinstance(arg, cls))._refuse()

    def _refuse(self, *_: Any) -> NoReturn:
        raise NotImplementedError(
            f"{self.owner} has no density over weights, so a sampled KL cannot use it: train with a prior whose KL is "
            "in closed form, by pyro_vd.AnalyticELBO or pyro.infer.TraceMeanField_ELBO"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __neg__ = __float__ = item = _refuse


def _only_shapes_are_read() -> bool:
    """Whether this is the run in which ``Predictive`` determines a model's shapes.

    ``Predictive`` makes that run without the guide, with densities masked out, and does not use the values. Its other
    runs are conditioned on the guide's draws, or on nothing, which is a request for prior samples and is refused.
    """
    return poutine.get_mask() is False and not any(isinstance(h, ConditionMessenger) for h in _PYRO_STACK)
