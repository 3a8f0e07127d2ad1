"""The rows of experiments.lora_ranks: adapters of four ranks, and schemes that prune one of rank 16.

Two rows are made to have four times fewer ranks: one by a larger weight of the KL, one by the order of log_alpha.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pyro_vd import Training, schedules
from pyro_vd.experiments.common.lora_runs import LoraSpec
from pyro_vd.experiments.common.spec import Fit

__all__ = ["EPOCHS", "FULL", "PRUNED", "RANKS", "SMALLER", "make_rows"]

EPOCHS, BATCH_SIZE, LR = 4, 32, 1e-3
RANKS = (2, 4, 8, 16)
FULL = "LoRA, rank {}"
# One factor per rank averages out over many ranks, so none of them leaves by itself: the training masks the ranks above
# the threshold, and the others take over what they did.
MASKED: dict[str, Any] = {"scheme": "hierarchical_a", "noise_lr": 100.0, "threshold": 1.0}
PRUNED: dict[str, dict[str, Any]] = {
    "log-uniform": {**MASKED, "prior": 'LogUniform("exact")'},
    "empirical Bayes": {**MASKED, "prior": "EmpiricalBayes()"},
    "normal-Jeffreys": {"scheme": "group_normal_jeffreys", "noise_lr": 30.0, "threshold": 0.0},
}
SMALLER: dict[str, tuple[str, dict[str, Any]]] = {
    "empirical Bayes, KL 3": ("empirical Bayes", {"kl_weight": 3.0}),
    "normal-Jeffreys, 1/4": ("normal-Jeffreys", {"keep": 48}),  # of the 192 ranks of all layers
}
"""Row -> the row that it changes, and the changes."""


def make_rows(epochs: int = EPOCHS, length: int = LoraSpec.length, validation: bool = False) -> dict[str, LoraSpec]:
    """The spec of seed 0 of every row."""
    training = Training(
        epochs=epochs, batch_size=BATCH_SIZE, lr=LR, lr_schedule=schedules.HoldThenDecay(epochs // 2, epochs)
    )
    plain = Fit(scheme="none", training=training)
    rows = {FULL.format(rank): LoraSpec(rank=rank, fit=plain) for rank in RANKS}
    for name, row in PRUNED.items():
        rows[name] = _make_pruned(training, row)
    for name, (base, changes) in SMALLER.items():
        rows[name] = _make_pruned(training, PRUNED[base], **changes)
    return {name: replace(spec, length=length, validation=validation) for name, spec in rows.items()}


def _make_pruned(training: Training, row: dict[str, Any], kl_weight: float = 1.0, keep: int | None = None) -> LoraSpec:
    masked = row["threshold"] if row["scheme"] == MASKED["scheme"] else None
    epochs = training.epochs
    warm = schedules.WarmUp(wait=epochs // 4, ramp=max(1, epochs // 4), weight=kl_weight)
    fit = Fit(training=replace(training, kl_schedule=warm, threshold=masked), **row)
    return LoraSpec(rank=RANKS[-1], fit=fit, keep=keep)
