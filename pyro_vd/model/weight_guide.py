"""WeightGuide: the contract of a dropout scheme's guide."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import pyro
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_vd.errors import UserError
from pyro_vd.model.event import base_distribution, to_event
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.param_store import ParamStoreModule, is_param_store_disabled
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.model.site_parameters import SiteParameters
from pyro_vd.posteriors.train_mask import mark_started

__all__ = ["WeightGuide", "refuse_kingma_above_1"]


class WeightGuide(ParamStoreModule, ABC):
    """A Pyro guide over the weights of a lifted model: the base class of every dropout scheme.

    It holds the means ``theta``, which start at the network's weights, and samples one site per weight. ``fit``,
    ``Posterior``, ``compress`` and the diagnostics use a guide by the members below alone.

    A subclass gives:

    - ``__init__(self, model, *, ...)``, which calls ``super().__init__(model)`` and makes every parameter, as
      :class:`SiteParameters` for instance. Arguments after ``model`` are keyword-only. Each is kept as an attribute of
      its name, which :meth:`__repr__` reads; ``init``, where noise parameters start, is the exception.
    - :meth:`q`, the posterior of one weight.

    A subclass may override:

    - :meth:`bounds`, the intervals that parameters are kept in. Default: none.
    - :meth:`keep_mask`, the weights that stay at a pruning threshold. Default: by ``q(site).log_alpha``.
    - ``defaults``, how the scheme is usually trained and pruned. Default: None, so that ``Posterior.masks`` needs a
      threshold.
    - ``self.started``, the state of train-time masking, if means can start at 0 (see ``local_reparam``): site ->
      bools, all False at the start. Default: empty.

    :meth:`forward`, :meth:`project`, :meth:`mark_started` and :meth:`__repr__` need no override. The posterior must
    have a registered KL to the priors that the scheme is for, and local rules if its type is new.

    Args:
        model: the lifted model. Its network's weights are copied.

    Attributes:
        sites: names of the weights, in the model's order.
        theta: site -> mean of the weight, its shape and dtype.
        started: site -> bools of the weight's shape, or empty.
    """

    defaults: ClassVar[SchemeDefaults | None] = None

    def __init__(self, model: LiftedModel):
        super().__init__()
        self.sites = tuple(model.priors)
        self.started = SiteParameters({})
        self.theta = SiteParameters({site: weight.detach().clone() for site, weight in model.initial.items()})
        self._projected: list[int] = []  # versions of the parameters at the last projection

    @abstractmethod
    def q(self, site: str) -> Distribution:
        """Posterior of the weight at ``site``. Its batch shape is the weight's shape; its KL may have any shape."""

    def bounds(self) -> dict[str, tuple[float, float]]:
        """Parameter name -> the interval that its entries are kept in. Parameters that are not named are free."""
        return {}

    @torch.no_grad()
    def keep_mask(self, site: str, threshold: float) -> Tensor:
        """Bools of the weight's shape, True for the weights that pruning at ``threshold`` keeps.

        These have log_alpha < threshold. A weight whose mean is exactly 0 has log_alpha = +inf and is pruned. A
        posterior without ``log_alpha`` keeps all weights.
        """
        q = self.q(site)
        return q.log_alpha < threshold if hasattr(q, "log_alpha") else torch.ones_like(q.mean, dtype=torch.bool)

    def forward(self, x: Tensor | None = None, y: Tensor | None = None) -> None:
        """Samples every site. The arguments are the model's, and are not read."""
        self.register_params()
        # pyro.infer.SVI does not call project after its steps.
        if not is_param_store_disabled() and self._versions() != self._projected:
            self.project()
        for site in self.sites:
            infer = {"started": self.started[site]} if site in self.started else {}
            pyro.sample(site, to_event(self.q(site)), infer=infer)

    @torch.no_grad()
    def project(self) -> None:
        """Clamps the parameters to their bounds.

        ``fit`` calls it after every step, and :meth:`forward` after any other change.
        """
        for name, (low, high) in self.bounds().items():
            # Not in place for autograd: several draws go into one backward pass, which would take this for a change
            # of a saved tensor, although a second projection changes nothing.
            self.get_parameter(name).data.clamp_(low, high)
        self._projected = self._versions()

    def mark_started(self, threshold: float) -> None:
        """Marks the weights with log_alpha < threshold as started, so that train-time masking may mask them later.

        ``fit`` calls it before every epoch.
        """
        for site in self.started:
            mark_started(self.q(site), threshold, self.started[site])

    def site_bounds(self, name: str, low: float, high: float) -> dict[str, tuple[float, float]]:
        """The bounds of all parameters of the :class:`SiteParameters` attribute ``name``, for :meth:`bounds`."""
        return {parameter: (low, high) for parameter, _ in self.get_submodule(name).named_parameters(prefix=name)}

    def __repr__(self) -> str:
        """Module, class and constructor arguments in one line, the guide's identity in a checkpoint.

        Arguments that are None are left out, modules and tensors are shown as ``...``, and ``init`` is left out,
        because a checkpoint holds the parameters themselves.
        """
        shown = {name: getattr(self, name) for name in _argument_names(type(self))}
        written = [f"{name}={_format(value)}" for name, value in shown.items() if value is not None]
        module = type(self).__module__.removeprefix("pyro_vd.guides.")
        return f"{module}.{type(self).__qualname__}({', '.join(written)})"

    def _versions(self) -> list[int]:
        return [parameter._version for parameter in self.parameters()]


def _argument_names(guide_type: type[WeightGuide]) -> list[str]:
    """Names of the keyword-only arguments of ``__init__``; if it takes ``**kwargs``, of the base class's too."""
    names: list[str] = []
    for kind in guide_type.__mro__:
        if "__init__" not in vars(kind):
            continue
        parameters = inspect.signature(vars(kind)["__init__"]).parameters.values()
        names += [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return [name for name in names if name != "init"]


def _format(value: Any) -> str:
    return "..." if isinstance(value, nn.Module | Tensor) else repr(value)


def refuse_kingma_above_1(model: LiftedModel, log_alpha_max: float) -> None:
    """Refuses Kingma's cubic, a fit for alpha <= 1, as the prior's KL if the scheme lets alpha go above 1.

    Args:
        log_alpha_max: the largest log_alpha that the scheme allows.

    Raises:
        UserError: naming the site.
    """
    for site, prior in model.priors.items():
        if log_alpha_max > 0 and getattr(base_distribution(prior), "kl", None) == "kingma":
            raise UserError(
                f"{site!r}: LogUniform('kingma') holds for alpha <= 1, and this scheme's alpha goes above; choose "
                "LogUniform('exact') or LogUniform('molchanov'), or a scheme that stays below (variational_a or _b)"
            )
