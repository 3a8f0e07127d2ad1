"""posterior_mean: evaluate with the mean of every latent site."""

from typing import Any

from pyro.poutine.messenger import Messenger

__all__ = ["posterior_mean"]


class posterior_mean(Messenger):
    """Gives every latent site the mean of its distribution: the deterministic network of the weight-scaling rule.

        >>> import pyro
        >>> import pyro.distributions as dist
        >>> def guide():
        ...     return pyro.sample("w", dist.Normal(2.0, 1.0))
        >>> with posterior_mean():
        ...     guide()
        tensor(2.)

    Raises:
        NotImplementedError: for a distribution that has no mean, naming the site.
    """

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if not msg["done"] and not msg["is_observed"]:
            mean = msg["fn"].mean
            if mean.isnan().any():  # PyTorch's way to say that a distribution has none
                raise NotImplementedError(
                    f"posterior_mean: the mean of the distribution at site {msg['name']!r} is NaN"
                )
            msg["value"] = mean
            msg["done"] = True
