"""Pictures of experiments.random_labels, drawn from its records."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from pyro_vd.experiments.common.plotting import plt, save_figure
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.tables import group_by

__all__ = ["draw_shares", "draw_weights"]

PANELS: tuple[tuple[str, str, Callable[[float], float]], ...] = (
    ("train_error", "error on the training labels, %", lambda error: 100 * error),
    ("test_error", "test error, %", lambda error: 100 * error),
    ("sparsity", "weights left, %", lambda sparsity: 100 * (1 - sparsity)),  # of schemes with log_alpha
)
COLORS = {"none": "C7", "binary dropout": "C0", "sparse": "C3", "hierarchical": "C1"}  # in both pictures


def draw_shares(records: Sequence[Record], path: Path) -> None:
    """Errors and sparsity against the share of shuffled labels, a line per scheme."""
    plain = [record for record in records if record["kl_weight"] == 1]
    _draw(plain, lambda record: float(record["column"].split()[0]), "training labels shuffled, %", "linear", path)


def draw_weights(records: Sequence[Record], path: Path) -> None:
    """Errors and sparsity against the weight of the KL with all labels shuffled, for schemes with several weights."""
    shuffled = [record for record in records if record["column"].startswith("100 ")]
    tried = {record["scheme"] for record in shuffled if record["kl_weight"] != 1}
    weighted = [record for record in shuffled if record["scheme"] in tried]
    _draw(weighted, lambda record: record["kl_weight"], "weight of the KL, all labels shuffled", "log", path)


def _draw(records: Sequence[Record], place: Callable[[Record], float], label: str, scale: str, path: Path) -> None:
    good = [record for record in records if not record["diverged"]]
    if not good:
        return
    rows = group_by(good, lambda record: record["row"].split(",")[0])
    figure, axes = plt.subplots(1, len(PANELS), figsize=(13, 4), layout="constrained")
    for axis, (key, name, percent) in zip(axes, PANELS, strict=True):
        for row, runs in rows.items():
            points = group_by((run for run in runs if key in run), place)
            means = {at: statistics.mean(percent(run[key]) for run in points[at]) for at in sorted(points)}
            if means:
                axis.plot(list(means), list(means.values()), "o-", color=COLORS[row], label=row)
        axis.set(xlabel=label, ylabel=name, xscale=scale)
        axis.grid(alpha=0.3)
    for axis in axes[:2]:
        axis.set_ylim(-3, 103)
    axes[1].axhline(90, color="gray", linewidth=0.8, linestyle=":")  # chance
    axes[2].set_yscale("log")
    axes[0].legend(frameon=False)
    save_figure(figure, path)
