"""NoisyWeight: a weight that is still a distribution, and the registry of rules for operations on it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from pyro.distributions import Delta
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Distribution
from torch.overrides import resolve_name
from torch.utils._pytree import tree_leaves, tree_map_only

from pyro_vd.errors import UserError
from pyro_vd.model.event import base_distribution

__all__ = [
    "NoLocalRule",
    "NoisyWeight",
    "awaits_noisy_weight",
    "check_fallback",
    "refuse_noisy_input",
    "register_local",
]

Rule = TypeVar("Rule", bound=Callable[..., Any])

_RULES: dict[tuple[str, type, Any], Callable[..., Any]] = {}


class NoLocalRule(TypeError):
    """A noisy weight reached an operation for which its handler has no rule; the message names both."""


def register_local(
    posteriors: tuple[type[Distribution], ...], *ops: Any, handler: str = "local_reparam"
) -> Callable[[Rule], Rule]:
    """Registers ``rule(op, *args, **kwargs)`` for torch functions that meet a weight of one of these types.

    The registry works as ``torch.distributions.register_kl`` does: the rule of the posterior's nearest base class that
    has one for the operation is used. The rule gets the operation and its arguments as the caller gave them, with at
    least one :class:`NoisyWeight` among them.

    Args:
        posteriors: types of posterior.
        ops: torch functions.
        handler: the handler that uses the rule, ``"local_reparam"`` or ``"flipout"``.
    """

    def register(rule: Rule) -> Rule:
        _RULES.update({(handler, posterior, op): rule for posterior in posteriors for op in ops})
        return rule

    return register


def awaits_noisy_weight(msg: dict[str, Any], handler: str) -> bool:
    """Whether the site is a weight that ``handler`` must make a noisy weight.

    That is a site whose posterior has rules, or is random with two dimensions or more: a posterior of that kind without
    rules is then refused by name. Other latent variables, such as a precision, are not changed.
    """
    if msg["done"] or msg["is_observed"] or site_is_subsample(msg):
        return False
    q = base_distribution(msg["fn"])
    if isinstance(q, Delta):
        return False
    return _has_rules(q, handler) or len(q.batch_shape + q.event_shape) >= 2


def check_fallback(handler: str, fallback: str) -> None:
    """Raises UserError for anything but "raise" and "sample"."""
    if fallback not in ("raise", "sample"):
        raise UserError(f"{handler}(fallback={fallback!r}): fallback must be 'raise' or 'sample'")


def refuse_noisy_input(op: Callable[..., Any], input: Any) -> None:
    """Raises NoLocalRule if the noisy weight is the input of a layer instead of its weight."""
    if isinstance(input, NoisyWeight):
        raise NoLocalRule(f"{input.handler}: weight {input.site!r} is the input of {op.__name__}, not its weight")


def _has_rules(q: Distribution, handler: str) -> bool:
    bases = type(q).__mro__
    return any(of == handler and posterior in bases for of, posterior, _ in _RULES)


class NoisyWeight:
    """Takes the place of a weight tensor in the network, and holds the weight's posterior.

    It is not a tensor: nothing is sampled until a rule samples the output. PyTorch passes every torch function that
    gets it as an argument, also inside a list or by keyword, to ``__torch_function__`` below. So no function is
    patched, no table of ids is kept, and no operation without a rule goes unnoticed.

    Args:
        site: name of the weight's sample site, for messages.
        q: the posterior of the weight, possibly wrapped by ``to_event``.
        threshold: weights with log_alpha >= threshold enter the mean as zero (train-time masking); infinity masks
            none.
        fallback: ``"raise"`` on an operation without a rule, or ``"sample"`` to give it one draw of the weight.
        draw: makes that draw; by default ``q.rsample``.
        started: see :func:`pyro_vd.posteriors.train_mask.mark_started`; None if no state is kept.

    Attributes:
        handler: whose rules serve this weight.
    """

    handler = "local_reparam"

    def __init__(
        self,
        site: str,
        q: Distribution,
        threshold: float | Tensor = math.inf,
        fallback: str = "raise",
        draw: Callable[[], Tensor] | None = None,
        started: Tensor | None = None,
    ):
        self.site = site
        self.q = base_distribution(q)
        self.threshold = threshold
        self.fallback = fallback
        self.started = started
        self._make_draw = draw or (lambda: self.q.rsample())
        self._draw: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        return self.q.batch_shape + self.q.event_shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.q.mean.dtype

    @property
    def device(self) -> torch.device:
        return self.q.mean.device

    def size(self, dim: int | None = None) -> torch.Size | int:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.ndim

    def numel(self) -> int:
        return self.shape.numel()

    def draw(self) -> Tensor:
        """One weight draw, the same on every call, which operations without a rule get with fallback="sample"."""
        if self._draw is None:
            self._draw = self._make_draw()
        return self._draw

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        weights = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, NoisyWeight)]
        rules = [_find_rule(weight, func) for weight in weights]
        if rules[0] is not None and all(rule is rules[0] for rule in rules):
            return rules[0](func, *args, **kwargs)
        if all(weight.fallback == "sample" for weight in weights):
            args, kwargs = tree_map_only(NoisyWeight, NoisyWeight.draw, (args, kwargs))
            return func(*args, **kwargs)
        without = next(i for i, rule in enumerate(rules) if rule is None or rule is not rules[0])
        raise NoLocalRule(_no_rule(weights[without], resolve_name(func) or repr(func)))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__") or self.__dict__.get("fallback") is None:
            raise AttributeError(name)
        method = getattr(Tensor, name, None)
        if not callable(method):
            raise AttributeError(_no_rule(self, f"Tensor.{name}"))
        return lambda *args, **kwargs: self.__torch_function__(method, (), (self, *args), kwargs)

    T = property(lambda self: self.t())
    mT = property(lambda self: self.t())

    __hash__ = object.__hash__


def _operator(name: str) -> Callable[..., Any]:
    """A method for an operator: Python looks operators up on the class, without ``__getattr__``."""

    def operate(self: NoisyWeight, *others: Any) -> Any:
        return NoisyWeight.__torch_function__(getattr(Tensor, name), (), (self, *others))

    return operate


OPERATORS = (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod pow rpow matmul rmatmul neg abs invert "
    "and or xor eq ne lt le gt ge getitem iter len bool float int contains"
)
for _name in OPERATORS.split():
    setattr(NoisyWeight, f"__{_name}__", _operator(f"__{_name}__"))


def _density_is_asked() -> bool:
    """Whether the operation is part of a distribution's log_prob, which Pyro's own objectives call."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name in ("log_prob", "_validate_sample") and isinstance(
            frame.f_locals.get("self"), Distribution
        ):
            return True
        frame = frame.f_back
    return False


def _find_rule(weight: NoisyWeight, func: Any) -> Callable[..., Any] | None:
    for base in type(weight.q).__mro__:
        if (weight.handler, base, func) in _RULES:
            return _RULES[weight.handler, base, func]
    return None


def _no_rule(weight: NoisyWeight, op: str) -> str:
    if _density_is_asked():
        return (
            f"{weight.handler}: an objective asks for the density of the weight at {weight.site!r}, which is not drawn "
            f"under {weight.handler}; train by SVI(model, guide, optim, loss=pyro_vd.AnalyticELBO()), whose KL is in "
            "closed form"
        )
    return (
        f"{weight.handler}: weight {weight.site!r} ({type(weight.q).__name__}) reached {op}, which has no rule for it. "
        f"Leave the weight out of lift(select=...), run without {weight.handler}, pass fallback='sample' to give this "
        "operation a weight draw, or register a rule with pyro_vd.handlers.register_local"
    )
