"""Each scheme's default settings of training and pruning; they depend on what its noise acts on."""

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
        train_masking: whether the mean leaves out weights above the threshold during training too.
        noise_lr: factor of the learning rate for the guide's parameters other than the means.
    """

    threshold: float = 3.0
    train_masking: bool = True
    noise_lr: float = 1.0


# One parameter per unit must learn as fast as the unit's many weights: with group normal-Jeffreys, factor 1 prunes
# hardly any unit, and factor 10 too many.
UNIT_SETTINGS: dict[str, Any] = {"threshold": 0.0, "train_masking": False, "noise_lr": 3.0}
SCHEME_SETTINGS: dict[str, dict[str, Any]] = {
    "sparse": {},
    "hierarchical": {},
    "group_normal_jeffreys": UNIT_SETTINGS,
    "group_horseshoe": UNIT_SETTINGS | {"threshold": 3.0},  # applies to the mode of the scale, not to log_alpha
    "structured_log_normal": UNIT_SETTINGS,
    "l0": {"noise_lr": 10.0},
}
"""Scheme -> settings that differ from ``Pruning()``, for all schemes that prune."""


def pruning_settings(scheme: str, usual_noise_lr: float = 1.0, **asked: Any) -> Pruning:
    """The settings of a run: what ``asked`` gives and is not None, else the scheme's own, else the usual ones."""
    given = {name: value for name, value in asked.items() if value is not None}
    return Pruning(**{"noise_lr": usual_noise_lr} | SCHEME_SETTINGS.get(scheme, {}) | given)


def check_threshold(threshold: float | None, schemes: Iterable[str]) -> None:
    """Refuses a threshold that is not finite, and any threshold for a scheme that has none.

    Raises:
        UserError: naming the reason.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise UserError("--threshold must be finite")
    if threshold is not None and "l0" in schemes:
        raise UserError("--threshold is not for l0, whose gates are open or closed by themselves")


def lr_scale(pair: Posterior, noise_lr: float) -> dict[str, float]:
    """``lr_scale`` of ``fit``: ``noise_lr`` for the guide's parameters other than the means."""
    learned = {name.split(".")[0] for name, _ in pair.guide.named_parameters()} - {"theta"}
    return dict.fromkeys(sorted(learned), noise_lr) if noise_lr != 1 else {}
