"""How each scheme is trained and pruned where nothing else is asked for: what its noise is on decides."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyro_vd import Posterior
from pyro_vd.errors import UserError

__all__ = ["SCHEME_SETTINGS", "Pruning", "check_threshold", "lr_scale", "pruning_settings"]


@dataclass(frozen=True)
class Pruning:
    """Settings of a run.

    Attributes:
        threshold: of ``Posterior.masks``.
        train_masking: whether weights above the threshold are left out of the mean during training too.
        noise_lr: factor of the learning rate for what the guide learns beside the means.
    """

    threshold: float = 3.0
    train_masking: bool = True
    noise_lr: float = 1.0


# A few parameters per unit have to keep up with its many weights: of group normal-Jeffreys at 1 hardly a unit goes, at
# 10 too many.
UNIT_SETTINGS: dict[str, Any] = {"threshold": 0.0, "train_masking": False, "noise_lr": 3.0}
SCHEME_SETTINGS: dict[str, dict[str, Any]] = {
    "sparse": {},
    "hierarchical": {},
    "group_normal_jeffreys": UNIT_SETTINGS,
    "group_horseshoe": UNIT_SETTINGS | {"threshold": 3.0},  # of the scale's mode, not of log_alpha
    "structured_log_normal": UNIT_SETTINGS,
    "l0": {"noise_lr": 10.0},
}
"""Schemes that prune: by name, where they are unlike the first."""


def pruning_settings(scheme: str, usual_noise_lr: float = 1.0, **asked: Any) -> Pruning:
    """What was asked for, where it is not None; the scheme's own settings; or the usual ones."""
    given = {name: value for name, value in asked.items() if value is not None}
    return Pruning(**{"noise_lr": usual_noise_lr} | SCHEME_SETTINGS.get(scheme, {}) | given)


def check_threshold(threshold: float | None, schemes: Iterable[str]) -> None:
    """Refuses one that prunes nothing or everything, or that a scheme does not look at.

    Raises:
        UserError: saying which.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise UserError("--threshold has to be finite")
    if threshold is not None and "l0" in schemes:
        raise UserError("--threshold is not for l0, whose gates are open or closed by themselves")


def lr_scale(pair: Posterior, noise_lr: float) -> dict[str, float]:
    """Factors for what the guide learns beside the means, as ``fit`` takes them."""
    learned = {name.split(".")[0] for name, _ in pair.guide.named_parameters()} - {"theta"}
    return dict.fromkeys(sorted(learned), noise_lr) if noise_lr != 1 else {}
