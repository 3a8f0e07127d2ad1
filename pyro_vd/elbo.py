"""AnalyticELBO: the ELBO with closed-form KLs. It raises for a pair without one instead of sampling it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO
from pyro.infer.elbo import ELBOModule
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_vd.errors import UserError
from pyro_vd.kl import registered_kl
from pyro_vd.model.ownership import refuse_foreign

__all__ = ["AnalyticELBO", "ELBOTerms"]

Stochastic = Callable[..., Any]  # a Pyro program


@dataclass(frozen=True)
class ELBOTerms:
    """The two terms of the ELBO in nats, for the whole training set.

    Attributes:
        log_likelihood: 0-dim, sum over observed sites of scale * log p(y | x, w).
        kl: site -> 0-dim KL(q || p), before the KL weight.
        weighted_kl: 0-dim, sum over sites of the KL weight times its KL.
    """

    log_likelihood: Tensor
    kl: dict[str, Tensor]
    weighted_kl: Tensor

    @property
    def loss(self) -> Tensor:
        """Negative (weighted) ELBO, 0-dim."""
        return self.weighted_kl - self.log_likelihood

    def per_example(self, num_data: int) -> dict[str, float]:
        """The terms in nats per training example: ``log_likelihood``, and ``kl/<site>`` for every site."""
        shares = {f"kl/{site}": value.item() / num_data for site, value in self.kl.items()}
        return {"log_likelihood": self.log_likelihood.item() / num_data, **shares}


class AnalyticELBO(ELBO):
    """E_q[log p(y | x, w)] - sum over sites of KL(q || p), every KL in closed form.

    It can be the ``loss`` of ``pyro.infer.SVI``. It does not evaluate the log density of a weight, so it works with
    ``local_reparam``. Without that handler it equals TraceMeanField_ELBO.

    Args:
        num_particles: number of draws that the loss is averaged over.

    Raises:
        NotImplementedError: if a (posterior, prior) pair has no registered KL, naming the site and both types.
        UserError: if model and guide do not have the same latent sites.
        UserError: if the loss depends on a parameter that is neither a module's nor passed to pyro.param.

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> def model():
        ...     w = pyro.sample("w", dist.Normal(0.0, 1.0))
        ...     pyro.sample("y", dist.Normal(w, 1.0), obs=torch.tensor(0.0))
        >>> def guide():
        ...     pyro.sample("w", dist.Normal(1.0, 1.0))
        >>> AnalyticELBO().terms(model, guide).kl
        {'w': tensor(0.5000)}
    """

    def __init__(self, num_particles: int = 1):
        super().__init__(num_particles=num_particles)
        self._checked = False

    def __call__(self, model: nn.Module, guide: nn.Module) -> _OwnedELBOModule:
        """The loss as a module over the parameters of model and guide.

        The module refuses a loss that depends on parameters that no module owns.

        Raises:
            UserError: for a model or guide that is not a module, for example a guide wrapped in a handler.
        """
        for name, part in (("model", model), ("guide", guide)):
            if not isinstance(part, nn.Module):
                raise UserError(
                    f"AnalyticELBO: the {name} is a {type(part).__name__}, whose parameters are not found; give the "
                    f"{name} itself and call the loss inside a handler, with pyro_vd.local_reparam(): loss(x, y)"
                )
        return _OwnedELBOModule(model, guide, self)

    def terms(self, model: Stochastic, guide: Stochastic, *args: Any, **kwargs: Any) -> ELBOTerms:
        """The objective's terms, from one draw of model and guide.

        Args:
            model, guide: Pyro programs with the same latent sites.
            args, kwargs: arguments of both.

        Raises:
            NotImplementedError, UserError: as the class.
        """
        q = poutine.trace(guide).get_trace(*args, **kwargs)
        p = poutine.trace(poutine.replay(model, trace=q)).get_trace(*args, **kwargs)
        latent = _latent(p)
        _check_match(latent, q)
        kl = {name: _kl(name, q.nodes[name], p.nodes[name]["fn"]) for name in latent}
        weighted = [kl[name] * q.nodes[name]["scale"] for name in latent]
        p.compute_log_prob(lambda _, site: site["is_observed"])
        observed = [site["log_prob_sum"] for site in p.nodes.values() if "log_prob_sum" in site]
        zero = torch.zeros(())
        return ELBOTerms(sum(observed, zero), kl, sum(weighted, zero))

    def differentiable_loss(self, model: Stochastic, guide: Stochastic, *args: Any, **kwargs: Any) -> Tensor:
        """Negative ELBO averaged over ``num_particles`` draws, 0-dim."""
        losses = [self.terms(model, guide, *args, **kwargs).loss for _ in range(self.num_particles)]
        return torch.stack(losses).mean()

    @torch.no_grad()
    def loss(self, model: Stochastic, guide: Stochastic, *args: Any, **kwargs: Any) -> float:
        return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Stochastic, guide: Stochastic, *args: Any, **kwargs: Any) -> float:
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if not self._checked:  # SVI trains the parameters that passed through pyro.param
            stored = [value for _, value in pyro.get_param_store().named_parameters()]
            refuse_foreign(loss, stored, (args, kwargs), getattr(model, "likelihood", None))
            self._checked = True
        torch.autograd.backward(loss)
        return float(loss.detach())

    def _get_trace(self, model: Stochastic, guide: Stochastic, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError("AnalyticELBO reads its terms from terms(), not from pairs of traces")


class _OwnedELBOModule(ELBOModule):
    """An ELBOModule that checks, once, that the loss depends only on its own parameters."""

    _checked = False

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        loss: Tensor = super().forward(*args, **kwargs)
        if not self._checked and loss.requires_grad:
            refuse_foreign(loss, self.parameters(), (args, kwargs), getattr(self.model, "likelihood", None))
            self._checked = True
        return loss


def _latent(trace: Any) -> list[str]:
    """Names of the latent sites, without the indices of plates."""
    samples = ((name, site) for name, site in trace.nodes.items() if site["type"] == "sample")
    return [name for name, site in samples if not site["is_observed"] and not site_is_subsample(site)]


def _check_match(latent: list[str], guide_trace: Any) -> None:
    guided = set(_latent(guide_trace))
    missing, extra = sorted(set(latent) - guided), sorted(guided - set(latent))
    if missing or extra:
        raise UserError(f"AnalyticELBO: the guide lacks the sites {missing} and has {extra} that the model does not")


def _kl(name: str, q_site: dict[str, Any], p: Distribution) -> Tensor:
    kl = registered_kl(name, q_site["fn"], p)
    if q_site["mask"] is not None:
        kl = kl * q_site["mask"]
    return kl.sum()
