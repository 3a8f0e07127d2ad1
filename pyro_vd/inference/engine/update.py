"""Update: how the gradients of one pair become new parameters."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from pyro_vd.errors import UserError
from pyro_vd.inference.engine.objective import Objective
from pyro_vd.optim import Adam, Optimizer, TorchFactory, optimizer_name
from pyro_vd.optim.optimizer import Group, State

__all__ = ["Update", "clip_factor", "group_parameters", "is_weight", "make_optimizer"]


class Update:
    """The torch optimizer of one pair, its rule for a compiled step, and the scale of its gradients.

    Args:
        objective: the module whose parameters are updated.
        lr, lr_scale: learning rates, see :func:`group_parameters`.
        optimizer: a value of ``pyro_vd.optim``, or what makes a torch optimizer of parameter groups.
        clip_norm: largest norm of all gradients per training example together; None for no clipping.

    Attributes:
        value: the optimizer, if it is a value of ``pyro_vd.optim``; None for another.
        name: the optimizer's name in messages.
        optimizer: the torch optimizer.
        has_result: whether the optimizer's state is a result of the training.
        loss_scale: factor of the objective before its gradient is taken.
        largest_norm: ``clip_norm`` for gradients of that scale; None for no clipping.

    Raises:
        UserError: for a word of ``lr_scale`` that names no parameter, or a torch optimizer that cannot be made or used.
    """

    def __init__(
        self,
        objective: Objective,
        lr: float,
        lr_scale: Mapping[str, float] | None = None,
        optimizer: Optimizer | TorchFactory | None = None,
        clip_norm: float | None = None,
    ):
        chosen = Adam() if optimizer is None else optimizer
        self.value = chosen if isinstance(chosen, Optimizer) else None
        self.name = optimizer_name(chosen)
        others = {"weight_decay": 0.0} if self.value is None else _differing(self.value)
        groups = group_parameters(objective, lr, lr_scale or {}, others)
        self.optimizer = make_optimizer(chosen, groups)
        self._others = None
        if self.value is not None:
            self._others = replace(self.value, **others)  # type: ignore[type-var]  # a subclass is a dataclass
        self._other_parameters = {
            id(parameter) for name, parameter in objective.named_parameters() if not is_weight(name, parameter)
        }
        self.has_result = self.value is not None and self.value.has_result
        num_data = objective.model.num_data
        self.loss_scale = 1.0 if self.value is not None and not self.value.per_example else 1 / num_data
        self.largest_norm = None if clip_norm is None else clip_norm * num_data * self.loss_scale
        # Fused optimizers leave parameters and state alone if found_inf is 1, without asking the host. A factory's may
        # have made its state before.
        is_guarded = getattr(self.optimizer, "_step_supports_amp_scaling", False)
        self._is_guarded = self.value is not None and is_guarded

    def set_lr(self, factor: float) -> None:
        """Sets every group's learning rate to its base rate times ``factor``."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def scale(self, loss: Tensor) -> Tensor:
        """The objective, or the loss per training example, whichever the optimizer needs the gradient of."""
        return loss if self.loss_scale == 1 else loss * self.loss_scale

    def step(self, parameters: Sequence[nn.Parameter], norms: Sequence[Tensor], accept: Tensor) -> None:
        """Updates the parameters by their gradients; if not ``accept``, changes nothing.

        Args:
            parameters: those with a gradient.
            norms: of the gradients.
            accept: 0-dim bool.
        """
        if self.largest_norm is not None:
            factor = clip_factor(norms, self.largest_norm)
            torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], factor)
        for parameter in parameters:
            self.state_of(parameter)
        if self._is_guarded:
            # Both are attributes that torch.amp.GradScaler sets, too.
            vars(self.optimizer).update(found_inf=(~accept).float(), grad_scale=None)
            self.optimizer.step()
        elif accept:
            self.optimizer.step()
        self.optimizer.zero_grad()

    def state_of(self, parameter: Tensor) -> State:
        """The torch optimizer's own state of this parameter. Before the first step it is made, if the optimizer is a
        value. Whether a parameter has one, empty or not, says whether it is trained."""
        state: State = self.optimizer.state[parameter]
        if not state and self.value is not None:
            state.update(self.rule_of(parameter).init_state(parameter))
        return state

    def rule_of(self, parameter: Tensor) -> Optimizer:
        """The optimizer of this parameter as a value."""
        rule = self._others if id(parameter) in self._other_parameters else self.value
        assert rule is not None  # callers know that the optimizer is a value
        return rule

    def rules(self, objective: nn.Module) -> dict[str, tuple[Optimizer, float]]:
        """Parameter name -> the optimizer as a value, and the base rate."""
        names = {id(parameter): name for name, parameter in objective.named_parameters()}
        return {
            names[id(parameter)]: (self.rule_of(parameter), group["base_lr"])
            for group in self.optimizer.param_groups
            for parameter in group["params"]
        }


def _differing(optimizer: Optimizer) -> dict[str, float]:
    """The options that parameters other than weights have instead of the optimizer's own."""
    return {name: value for name, value in optimizer.other_options.items() if getattr(optimizer, name) != value}


def group_parameters(
    objective: nn.Module, lr: float, lr_scale: Mapping[str, float], others: Mapping[str, float] | None = None
) -> list[Group]:
    """Parameter groups: ``lr_scale`` multiplies the rate of parameters with that word in their dotted name.

    Args:
        others: options of parameters that are not weights, which then have groups of their own; None for none.

    Raises:
        UserError: for a word that names no parameter.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    unused = set(lr_scale)
    for name, parameter in objective.named_parameters():
        words = [word for word in name.split(".") if word in lr_scale]
        unused -= set(words)
        factor = lr_scale[words[0]] if words else 1.0
        is_other = bool(others) and not is_weight(name, parameter)
        groups.setdefault((factor, is_other), []).append(parameter)
    if unused:
        raise UserError(f"lr_scale names no parameter: {', '.join(sorted(unused))}")
    return [
        {"params": params, "lr": lr * factor, "base_lr": lr * factor, **((others or {}) if is_other else {})}
        for (factor, is_other), params in groups.items()
    ]


def is_weight(name: str, parameter: Tensor) -> bool:
    """Whether weight decay may act on this parameter of an objective: a mean of the guide, or a deterministic parameter
    of the network, of two or more dimensions.

    Noise parameters are on a log scale, where 0 means a variance or an alpha of 1. Biases and normalization do not
    make a network complex, so nothing is gained by decay.
    """
    return name.startswith(("guide.theta.", "model.net.")) and parameter.ndim >= 2


def make_optimizer(optimizer: Optimizer | TorchFactory, groups: list[Group]) -> torch.optim.Optimizer:
    """The torch optimizer of these groups.

    Raises:
        UserError: if that fails, or makes anything but an optimizer of these groups that steps without a closure.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer.make(groups)
    name = optimizer_name(optimizer)
    try:
        made = optimizer(groups)
    except Exception as error:  # whatever the user's code raises
        raise UserError(
            f"optimizer {name}: cannot be made of parameter groups ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(made, torch.optim.Optimizer):
        raise UserError(f"optimizer {name} made a {type(made).__name__}; it must make a torch.optim.Optimizer")
    kept = [id(parameter) for group in made.param_groups if "base_lr" in group for parameter in group["params"]]
    if sorted(kept) != sorted(id(parameter) for group in groups for parameter in group["params"]):
        raise UserError(f"optimizer {name} has other parameter groups than those it was given; it must keep them")
    closure = inspect.signature(made.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UserError(
            f"optimizer {name} evaluates the loss several times in a step, which fit does not; choose another one"
        )
    return made


def clip_factor(norms: Sequence[Tensor], largest: float) -> Tensor:
    """The factor that makes gradients of these norms have at most the global norm ``largest``, as in
    ``torch.nn.utils.clip_grad_norm_`` (Pascanu et al. 2013)."""
    total = torch.linalg.vector_norm(torch.stack(list(norms)))
    factor: Tensor = (largest / (total + 1e-6)).clamp(max=1.0)
    return factor
