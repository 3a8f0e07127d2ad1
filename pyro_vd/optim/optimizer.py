"""Optimizer: what ``fit(optimizer=)`` takes, and the contract of an own optimizer."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from pyro_vd.errors import UserError

__all__ = ["Group", "Optimizer", "State", "TorchFactory", "check_optimizer", "optimizer_name"]

Group = dict[str, Any]  # a parameter group of torch.optim: params, lr and options
State = dict[str, Tensor]  # what an optimizer keeps for one parameter, by name
TorchFactory = Callable[[list[Group]], torch.optim.Optimizer]


class Optimizer(ABC):
    """An optimizer as a value. A subclass is a frozen dataclass whose fields are its settings.

    It gives the same update twice: :meth:`make` for eager steps, and :meth:`step` for a step that is compiled. An
    optimizer without ``step`` steps eagerly only. ``fit`` saves the state of :meth:`init_state` in its checkpoints,
    under ``<class name in lower case>.<parameter>.<name>``.

    Weight decay acts on weights only: the guide's means and the network's deterministic parameters, if they have two or
    more dimensions. In the groups of the other parameters the option ``weight_decay`` is 0. For a compiled step they
    have an optimizer of their own, whose field ``weight_decay`` is 0. ``other_options`` may name more such fields.

    Attributes:
        per_example: whether the gradient is that of the loss per training example, as of a mean in PyTorch. Otherwise
            it is ``num_data`` times as large.
        has_result: whether the state is a result of the training, so that ``Posterior.optimizer`` keeps it after a fit.
        other_options: fields, with their values for parameters that are not weights.
        weight_decay: 0 if the optimizer has none.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class RMSprop(Optimizer):
        ...     alpha: float = 0.99
        ...     def make(self, groups):
        ...         return torch.optim.RMSprop(groups, alpha=self.alpha, eps=1e-8)
        ...     def init_state(self, parameter):
        ...         return {"step": torch.zeros(()), "square_avg": torch.zeros_like(parameter)}
        ...     def step(self, parameter, gradient, state, lr):
        ...         square_avg = torch.lerp(gradient**2, state["square_avg"], self.alpha)
        ...         parameter = parameter - lr * gradient / (square_avg.sqrt() + 1e-8)
        ...         return parameter, {"step": state["step"] + 1, "square_avg": square_avg}
        >>> RMSprop(alpha=0.9)
        RMSprop(alpha=0.9)
    """

    per_example: ClassVar[bool] = True
    has_result: ClassVar[bool] = False
    other_options: ClassVar[Mapping[str, float]] = {"weight_decay": 0.0}
    weight_decay: float = 0.0

    @abstractmethod
    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        """The torch optimizer of these groups.

        Args:
            groups: each has ``params`` and ``lr``, and those of ``other_options`` that differ from the fields if its
                parameters are not weights. They must remain the groups of the optimizer.
        """

    @abstractmethod
    def init_state(self, parameter: Tensor) -> State:
        """The state of the torch optimizer for this parameter before its first step, under the names in
        ``torch_optimizer.state[parameter]``. Only tensors, of the parameter's shape and dtype.

        Two names have a meaning: ``step`` is a 0-dim float32 tensor that counts the steps, and the entries of
        ``exp_avg_sq`` are not negative.
        """

    def step(self, parameter: Tensor, gradient: Tensor, state: State, lr: Tensor) -> tuple[Tensor, State]:
        """The update in tensor operations that can be traced and mapped by ``torch.func.vmap``.

        Args:
            lr: the learning rate, 0-dim.

        Returns:
            The new parameter and state. Nothing is changed in place.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step that can be compiled")

    @property
    def is_compilable(self) -> bool:
        """Whether the subclass has a :meth:`step`."""
        return type(self).step is not Optimizer.step


def check_optimizer(optimizer: object) -> None:
    """Raises UserError unless this is an Optimizer, or a function that may make a torch optimizer of groups."""
    if isinstance(optimizer, Optimizer):
        return
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        raise UserError(f"optimizer is the class {optimizer.__name__}; give an instance, optim.{optimizer.__name__}()")
    if isinstance(optimizer, torch.optim.Optimizer):
        name = type(optimizer).__name__
        raise UserError(
            f"optimizer is an instance of {name}, made of other parameters; give what makes it of parameter groups: "
            f"the class, or functools.partial({name}, ...)"
        )
    if not callable(optimizer):
        raise UserError(
            f"optimizer={optimizer!r} must be a value of pyro_vd.optim, such as optim.SGD(momentum=0.9), or what makes "
            "a torch optimizer of parameter groups, such as torch.optim.RMSprop"
        )


def optimizer_name(optimizer: Optimizer | TorchFactory) -> str:
    """The name of the optimizer's class, or of the function that makes it.

    Example:
        >>> optimizer_name(functools.partial(torch.optim.RMSprop, alpha=0.9))
        'RMSprop'
    """
    while isinstance(optimizer, functools.partial):
        optimizer = optimizer.func
    return (
        type(optimizer).__name__
        if isinstance(optimizer, Optimizer)
        else getattr(optimizer, "__name__", type(optimizer).__name__)
    )
