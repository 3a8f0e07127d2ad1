"""How each scheme is trained and pruned where nothing else is asked for: what its noise is on decides."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pyro_vd import Posterior

__all__ = ["OF_WEIGHTS", "PRUNING", "Pruning", "lr_scale"]


@dataclass(frozen=True)
class Pruning:
    """Settings of a scheme.

    Attributes:
        threshold: of ``Posterior.masks``.
        train_masking: whether weights above the threshold are left out of the mean during training too.
        noise_lr: factor of the learning rate for what the guide learns beside the means; None is the protocol's, or 1.
    """

    threshold: float = 3.0
    train_masking: bool = True
    noise_lr: float | None = None


OF_WEIGHTS = Pruning()
# A few parameters per unit have to keep up with its many weights: at 1 hardly a unit goes, at 10 too many.
OF_UNITS = Pruning(threshold=0.0, train_masking=False, noise_lr=3.0)
PRUNING = {
    "sparse": OF_WEIGHTS,
    "hierarchical": OF_WEIGHTS,
    "group_normal_jeffreys": OF_UNITS,
    "group_horseshoe": replace(OF_UNITS, threshold=3.0),  # of the scale's mode, not of log_alpha
    "structured_log_normal": OF_UNITS,
    "l0": Pruning(noise_lr=10.0),  # its gates have no threshold
}
"""Those that prune; by name."""


def lr_scale(pair: Posterior, noise_lr: float) -> dict[str, float]:
    """Factors for what the guide learns beside the means, as ``fit`` takes them."""
    learned = {name.split(".")[0] for name, _ in pair.guide.named_parameters()} - {"theta"}
    return dict.fromkeys(sorted(learned), noise_lr) if noise_lr != 1 else {}
