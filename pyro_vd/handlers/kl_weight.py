"""kl_weight: multiply the KL of the latent sites by beta."""

from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_vd.errors import UserError

__all__ = ["kl_weight"]


class kl_weight(Messenger):
    """Scales every latent site by ``beta`` and leaves observed sites alone: KL warm-up and the beta-ELBO.

    ``poutine.scale`` cannot do this. It also scales the likelihood and refuses 0. Around only the model or only the
    guide it changes one of the two terms that Pyro's objectives read (the analytic KL takes the guide's scale, the
    sampled one both). Call the whole objective inside ``kl_weight``.

        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> def program():
        ...     w = pyro.sample("w", dist.Normal(0.0, 1.0))
        ...     pyro.sample("y", dist.Normal(w, 1.0), obs=torch.tensor(0.0))
        >>> def scales():
        ...     trace = pyro.poutine.trace(program).get_trace()
        ...     return [float(trace.nodes[name]["scale"]) for name in ("w", "y")]
        >>> scales()
        [1.0, 1.0]
        >>> with kl_weight(0.1):
        ...     scales()
        [0.1, 1.0]

    Args:
        beta: a finite number >= 0, or a 0-dim tensor if a traced step must follow a change of the value.

    Raises:
        UserError: for a negative or non-finite number.
    """

    def __init__(self, beta: float | Tensor):
        super().__init__()
        if not isinstance(beta, Tensor) and not 0 <= beta < float("inf"):
            raise UserError(f"kl_weight(beta={beta}): beta must be a finite number >= 0")
        self.beta = beta

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.beta
