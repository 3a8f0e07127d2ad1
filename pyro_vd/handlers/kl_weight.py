"""kl_weight: multiply the KL of the latent sites by beta."""

from pyro.poutine.messenger import Messenger
from torch import Tensor

__all__ = ["kl_weight"]


class kl_weight(Messenger):
    """Scales every latent site by ``beta`` and leaves observed sites alone: KL warm-up and the beta-ELBO.

    ``poutine.scale`` cannot do this: it also scales the likelihood, refuses 0, and around one of model and guide only
    it changes one of the two terms that Pyro's objectives read (the analytic KL takes the guide's scale, the sampled
    one both). Wrap the whole objective in ``kl_weight``.

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
        beta: a number >= 0, or a 0-dim tensor where a traced step must not bake the value in.

    Raises:
        ValueError: for a negative or non-finite number.
    """

    def __init__(self, beta: float | Tensor):
        super().__init__()
        if not isinstance(beta, Tensor) and not 0 <= beta < float("inf"):
            raise ValueError(f"kl_weight(beta={beta}): beta is a finite number >= 0")
        self.beta = beta

    def _pyro_sample(self, msg):
        if not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.beta
