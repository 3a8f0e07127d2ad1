"""The continuous spike-and-slab prior: two zero-mean Gaussians, a narrow one and a wide one."""

import pyro.distributions as dist
import torch

from pyro_vd.errors import UserError

__all__ = ["spike_and_slab"]


def spike_and_slab(slab: float = 1.0, spike: float = 0.01, pi: float = 0.5) -> dist.MixtureSameFamily:
    r"""The prior :math:`\pi\,\mathcal N(0, slab^2) + (1 - \pi)\,\mathcal N(0, spike^2)` of one weight.

    Blundell et al. 2015, section 3.3 (their scale mixture), after George and McCulloch 1993. A spike that is a point
    would have an infinite KL from any Gaussian posterior. Its KL has no closed form: use
    ``MonteCarloKL(spike_and_slab(...))``.

    Args:
        slab, spike: standard deviations, 0 < spike < slab, in the weights' units.
        pi: probability of the slab, in (0, 1).

    Raises:
        UserError: for numbers out of range.

    Example:
        >>> spike_and_slab().variance
        tensor(0.5001)
    """
    if not 0 < spike < slab < float("inf") or not 0 < pi < 1:
        raise UserError(f"spike_and_slab(slab={slab}, spike={spike}, pi={pi}): 0 < spike < slab and 0 < pi < 1 needed")
    return dist.MixtureSameFamily(
        dist.Categorical(probs=torch.tensor([pi, 1 - pi])),
        dist.Normal(torch.zeros(2), torch.tensor([slab, spike])),
    )
