"""DessiLBI: training on a path along which weights and filters enter a sparse copy of the network one after another.

The split linearized Bregman iteration (Fu et al. 2020, arXiv:2007.02010) couples the weights W with a sparse copy
Gamma, which starts at 0. Important weights and filters enter the support of Gamma first; see
:mod:`pyro_vd.optim.dessilbi_path` for what the support and the order of entry are used for.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from pyro_vd.errors import UserError
from pyro_vd.inference.user_numbers import to_number
from pyro_vd.optim.adam import LARGEST_DECAY, Adam
from pyro_vd.optim.optimizer import Group, Optimizer, State
from pyro_vd.optim.sgd import SGD

__all__ = ["DessiLBI", "DessiLBIAdam", "TorchDessiLBI", "TorchDessiLBIAdam", "shrink", "unit_norms"]

LARGEST = 1e6  # of lr and kappa
DTYPES = (torch.float32, torch.float64)


def unit_norms(values: Tensor) -> Tensor:
    """The norm of every unit.

    Args:
        values: a weight, or another tensor of its shape. With three or more dimensions, its units are its filters,
            the indices of the first dimension. Else every entry is a unit.

    Returns:
        The Euclidean norms of the filters, of shape (filters, 1, 1, ...), or the absolute values of the entries.

    Example:
        >>> unit_norms(torch.tensor([[3.0, -4.0]]))
        tensor([[3., 4.]])
        >>> unit_norms(torch.tensor([[[3.0, -4.0]]]))
        tensor([[[5.]]])
    """
    if values.ndim < 3:
        return values.abs()
    norms: Tensor = torch.linalg.vector_norm(values, dim=tuple(range(1, values.ndim)), keepdim=True)
    return norms


def shrink(z: Tensor) -> Tensor:
    """Shrinks the norm of every unit by 1, to 0 at least: the proximal map of the sum of the units' norms.

    Example:
        >>> shrink(torch.tensor([[3.0, -1.5, 0.5]]))
        tensor([[ 2.0000, -0.5000,  0.0000]])
    """
    norms = unit_norms(z)
    return z * ((norms - 1) / norms).clamp(min=0)  # at norm 0, the clamp of -inf


@dataclass(frozen=True)
class _SplitBregman(Optimizer):
    """The split linearized Bregman iteration along the direction of another optimizer."""

    has_result: ClassVar[bool] = True  # the path
    other_options: ClassVar[Mapping[str, float]] = {"weight_decay": 0.0, "nu": math.inf}

    kappa: float = 1.0
    nu: float = 20.0

    def __post_init__(self) -> None:
        for name, high in (("kappa", LARGEST), ("nu", math.inf), ("weight_decay", LARGEST_DECAY)):
            number = to_number(f"{type(self).__name__}: {name}", getattr(self, name), 0.0, high)
            if number == 0 and name != "weight_decay":
                raise UserError(f"{type(self).__name__}: {name}=0 must be more than 0")
            object.__setattr__(self, name, number)

    @property
    @abstractmethod
    def direction(self) -> Optimizer:
        """The optimizer whose steps at the rate 1 are d."""

    def init_state(self, parameter: Tensor) -> State:
        state = {"step": torch.zeros((), device=parameter.device), **self.direction.init_state(parameter)}
        if self._splits(parameter):
            state |= {name: torch.zeros_like(parameter, requires_grad=False) for name in ("z", "gamma")}
            state["entry"] = torch.zeros_like(unit_norms(parameter.detach()))
        return state

    def step(self, parameter: Tensor, gradient: Tensor, state: State, lr: Tensor | float) -> tuple[Tensor, State]:
        if self.weight_decay and parameter.ndim > 1:
            gradient = gradient + self.weight_decay * parameter
        one, still = torch.ones_like(state["step"]), torch.zeros_like(parameter)
        opposite, moments = self.direction.step(still, gradient, state, one)
        state = {**state, **moments, "step": state["step"] + 1}
        if not self._splits(parameter):
            return parameter + lr * self.kappa * opposite, state
        distance = (parameter - state["gamma"]) / self.nu
        z = state["z"] + lr * distance
        gamma = self.kappa * shrink(z)
        is_new = (state["entry"] == 0) & (unit_norms(gamma) > 0)
        entry = torch.where(is_new, state["step"].to(z.dtype), state["entry"])
        return parameter + lr * self.kappa * (opposite - distance), {**state, "z": z, "gamma": gamma, "entry": entry}

    def _splits(self, parameter: Tensor) -> bool:
        """Whether the parameter has a Gamma."""
        return parameter.ndim > 1 and math.isfinite(self.nu)


@dataclass(frozen=True)
class DessiLBI(_SplitBregman):
    r"""Deep structurally splitting linearized Bregman iteration (Fu et al. 2020, section 3), with momentum.

    .. math::
        W_{k+1} &= W_k - \kappa \alpha \, (d_k + (W_k - \Gamma_k) / \nu) \\
        Z_{k+1} &= Z_k - \alpha \, (\Gamma_k - W_k) / \nu \\
        \Gamma_{k+1} &= \kappa \max(0, 1 - 1 / \lVert Z_{k+1} \rVert) \, Z_{k+1}

    alpha is the learning rate, and d is the direction of SGD with momentum, for the loss per training example. Z and
    Gamma start at 0. The norm is that of a unit: of every single weight of a matrix, and of every filter of a
    convolution, see :func:`~pyro_vd.optim.dessilbi.unit_norms`. Parameters with fewer than two dimensions, such as
    biases, and the noise parameters of a guide have no Gamma; SGD with the rate kappa alpha trains them.

    The state of a parameter with a Gamma holds ``z`` and ``gamma``, of its shape, and ``entry``, of the shape of its
    unit norms: the number of the step in which the unit first entered the support of Gamma, 0 if it has not. Float32
    counts 2^24 steps exactly.

    Attributes:
        kappa: more than 0. At the same product kappa alpha, a larger kappa brings Gamma nearer to the inverse scale
            space, the limit of large kappa, and takes more steps in proportion.
        nu: more than 0. The larger, the more freely W follows the gradient, and the later do units enter. With
            ``math.inf`` no parameter has a Gamma.
        momentum: of the gradient, at least 0 and less than 1.
        weight_decay: this times the weights is added to their gradient (an L2 penalty).

    Raises:
        UserError: for a number out of range.

    Example:
        >>> DessiLBI(nu=100)
        DessiLBI(kappa=1.0, nu=100.0, momentum=0.9, weight_decay=0.0)
    """

    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "momentum", to_number("DessiLBI: momentum", self.momentum, 0.0, 1.0))
        if self.momentum == 1.0:
            raise UserError("DessiLBI: momentum=1 must be less than 1")

    @property
    def direction(self) -> Optimizer:
        return SGD(momentum=self.momentum)

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        return TorchDessiLBI(groups, **vars(self))


@dataclass(frozen=True)
class DessiLBIAdam(_SplitBregman):
    """:class:`DessiLBI` with Adam's direction (Kingma and Ba 2015, algorithm 1) instead of that of SGD with momentum.

    Attributes:
        kappa, nu, weight_decay: as for :class:`DessiLBI`.
        betas, eps: as for :class:`Adam`, but the gradient is that of the loss per training example.

    Raises:
        UserError: for a number out of range.

    Example:
        >>> DessiLBIAdam(kappa=2.0)
        DessiLBIAdam(kappa=2.0, nu=20.0, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        adam = Adam(betas=self.betas, eps=self.eps)  # checks them
        object.__setattr__(self, "betas", adam.betas)
        object.__setattr__(self, "eps", adam.eps)

    @property
    def direction(self) -> Optimizer:
        return Adam(betas=self.betas, eps=self.eps)

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        return TorchDessiLBIAdam(groups, **vars(self))


class TorchDessiLBI(torch.optim.Optimizer):
    """:class:`DessiLBI` for a training loop in PyTorch.

    Args:
        params: parameters of float32 or float64, or groups of them with their own values of the other arguments.
        lr: alpha, at least 0.
        options: those of :class:`DessiLBI`.

    Raises:
        UserError: for a number out of range, for parameters of another type, and, in ``step``, for a sparse gradient.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(1, 2))
        >>> optimizer = TorchDessiLBI([weight], lr=0.1, kappa=5.0, nu=1.0, momentum=0.0)
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     loss = (weight - torch.tensor([[2.0, 0.1]])).square().sum() / 2
        ...     loss.backward()
        ...     optimizer.step()
        >>> optimizer.state[weight]["gamma"] != 0
        tensor([[ True, False]])
    """

    rule: ClassVar[type[_SplitBregman]] = DessiLBI

    def __init__(self, params: Any, lr: float = 1e-3, **options: Any):
        super().__init__(params, {"lr": lr, **vars(self.rule(**options))})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters, see ``torch.optim.Optimizer``.

        Raises:
            UserError: for a number out of range, and for parameters that are not float32 or float64.
        """
        super().add_param_group(param_group)
        try:
            self._check_group(self.param_groups[-1])
        except UserError:
            self.param_groups.pop()
            raise

    def _check_group(self, group: Group) -> None:
        to_number("lr", group["lr"], 0.0, LARGEST)
        self._make_rule(group)
        wrong = {str(parameter.dtype) for parameter in group["params"] if parameter.dtype not in DTYPES}
        if wrong:
            raise UserError(
                f"{type(self).__name__}: parameters of {', '.join(sorted(wrong))} would lose the small steps of Z; "
                "convert them to float32"
            )

    def _make_rule(self, group: Group) -> _SplitBregman:
        return self.rule(**{field.name: group[field.name] for field in fields(self.rule)})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient.

        Args:
            closure: computes the loss anew, with its gradients, and returns it.

        Raises:
            UserError: for a sparse gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rule = self._make_rule(group)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_parameter(rule, parameter, group["lr"])
        return loss

    def _step_parameter(self, rule: _SplitBregman, parameter: Tensor, lr: float) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if gradient.is_sparse:
            raise UserError(f"{type(self).__name__}: a gradient is sparse; use sparse=False in the embedding")
        state = self.state[parameter]
        if not state:
            state.update(rule.init_state(parameter))
        moved, after = rule.step(parameter, gradient, state, lr)
        parameter.copy_(moved)
        for name, value in after.items():
            state[name].copy_(value)


class TorchDessiLBIAdam(TorchDessiLBI):
    """:class:`DessiLBIAdam` for a training loop in PyTorch; see :class:`TorchDessiLBI`.

    Example:
        >>> net = torch.nn.Linear(3, 2)
        >>> optimizer = TorchDessiLBIAdam(net.parameters(), lr=1e-3, nu=20.0)
        >>> net(torch.ones(4, 3)).square().sum().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.state[net.weight])
        ['entry', 'exp_avg', 'exp_avg_sq', 'gamma', 'step', 'z']
    """

    rule = DessiLBIAdam
