"""Pictures of experiments.random_labels."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pyro_vd.experiments.common.plotting import plt, save_figure
from pyro_vd.experiments.common.store import Run

__all__ = ["draw_shares", "draw_weights"]

Points = Mapping[str, Mapping[float, Sequence[Run]]]
"""Row -> place on the axis -> runs."""
PANELS: tuple[tuple[str, str, Callable[[float], float]], ...] = (
    ("train_error", "error on the training labels, %", lambda error: 100 * error),
    ("test_error", "test error, %", lambda error: 100 * error),
    ("sparsity", "weights left, %", lambda sparsity: 100 * (1 - sparsity)),  # of schemes with log_alpha
)
COLORS = {"none": "C7", "binary dropout": "C0", "sparse": "C3", "hierarchical": "C1"}  # in both pictures


def draw_shares(points: Points, path: Path) -> None:
    """Errors and sparsity against the share of shuffled labels, a line per scheme."""
    _draw(points, "training labels shuffled, %", "linear", path)


def draw_weights(points: Points, path: Path) -> None:
    """Errors and sparsity against the weight of the KL with all labels shuffled, a line per scheme."""
    _draw(points, "weight of the KL, all labels shuffled", "log", path)


def _draw(points: Points, label: str, scale: str, path: Path) -> None:
    if not any(runs for places in points.values() for runs in places.values()):
        return
    figure, axes = plt.subplots(1, len(PANELS), figsize=(13, 4), layout="constrained")
    for axis, (key, name, percent) in zip(axes, PANELS, strict=True):
        for row, places in points.items():
            measured = {at: [run for run in runs if key in run.record] for at, runs in sorted(places.items())}
            means = {at: statistics.mean(percent(run[key]) for run in runs) for at, runs in measured.items() if runs}
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
