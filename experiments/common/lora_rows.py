"""The rows of experiments.lora_ranks: adapters of four ranks, and schemes that prune one of rank 16."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pyro_vd import Training, schedules
from pyro_vd.experiments.common.lora_runs import LoraSpec
from pyro_vd.experiments.common.spec import Fit

__all__ = ["EPOCHS", "FULL", "PRUNED", "RANKS", "make_rows"]

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


def make_rows(epochs: int = EPOCHS, length: int = LoraSpec.length, validation: bool = False) -> dict[str, LoraSpec]:
    """The spec of seed 0 of every row."""
    training = Training(
        epochs=epochs, batch_size=BATCH_SIZE, lr=LR, lr_schedule=schedules.HoldThenDecay(epochs // 2, epochs)
    )
    warm = replace(training, kl_schedule=schedules.WarmUp(wait=epochs // 4, ramp=max(1, epochs // 4)))
    fits = {FULL.format(rank): (rank, Fit(scheme="none", training=training)) for rank in RANKS}
    for name, row in PRUNED.items():
        masked = row["threshold"] if row["scheme"] == MASKED["scheme"] else None
        fits[name] = RANKS[-1], Fit(training=replace(warm, threshold=masked), **row)
    return {
        name: LoraSpec(rank=rank, fit=fit, length=length, validation=validation) for name, (rank, fit) in fits.items()
    }
