"""SchemeDefaults: how a dropout scheme is usually trained and pruned."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

__all__ = ["SchemeDefaults", "scale_noise_lr"]


@dataclass(frozen=True, kw_only=True)
class SchemeDefaults:
    """How a scheme is usually trained and pruned: ``guides.sparse.defaults``, for example.

    ``Posterior.masks`` without an argument and :func:`pyro_vd.sparsify` use it. ``fit`` does not: it trains as its
    arguments say.

    Attributes:
        threshold: of ``Posterior.masks``; None for a scheme that is not for pruning.
        threshold_of: the number of a weight that is compared with the threshold; the weight is kept if it is smaller.
            Empty if the scheme needs no threshold: ``l0``, whose gates are open or closed.
        masking: whether training masks the means at the threshold, see ``Training.threshold``.
        noise_lr: factor of the learning rate for the guide's parameters other than the means. A parameter that many
            weights share must learn as fast as they do.
        wait, ramp: shares of the epochs without the KL, and of its linear warm-up after them.

    Example:
        >>> from pyro_vd import guides
        >>> guides.group_horseshoe.defaults.threshold, guides.group_horseshoe.defaults.threshold_of
        (3.0, '-log of the mode of the scale')
        >>> guides.bernoulli.defaults.threshold is None
        True
    """

    threshold: float | None = None
    threshold_of: str = ""
    masking: bool = False
    noise_lr: float = 1.0
    wait: float = 0.0
    ramp: float = 0.5


def scale_noise_lr(guide: nn.Module, factor: float) -> dict[str, float]:
    """The ``lr_scale`` of a Training that multiplies the rate of all the guide's parameters but its means.

    Example:
        >>> import pyro_vd
        >>> from pyro_vd import guides
        >>> model = pyro_vd.lift(nn.Linear(3, 2), guides.sparse.prior, pyro_vd.Categorical, num_data=10)
        >>> scale_noise_lr(guides.sparse.Guide(model), 3.0)
        {'log_sigma2': 3.0}
    """
    learned = {name.split(".")[0] for name, _ in guide.named_parameters()} - {"theta"}
    return dict.fromkeys(sorted(learned), factor) if factor != 1 else {}
