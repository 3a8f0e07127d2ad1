"""Pictures of experiments.uncertainty, drawn from one run of every row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from pyro_vd.experiments.common.direct_labels import label_lines
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.store import Run

__all__ = ["draw_diagram", "draw_reliability", "draw_risk_coverage", "draw_rotation"]

COLUMNS = 3
MEAN_COLOR = "black"


def draw_reliability(runs: Mapping[str, Run], path: Path) -> None:
    """Accuracy minus confidence against confidence, a panel per scheme, of the posterior mean and of the average over
    draws; values below zero are overconfident."""
    columns = min(COLUMNS, len(runs))
    rows = -(-len(runs) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.7 * columns, 2.1 * rows + 0.5), sharex=True, sharey=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axis in axes.flat[len(runs) :]:
        axis.remove()
    for axis, (name, run) in zip(axes.flat, runs.items(), strict=False):
        kinds = {"mean": MEAN_COLOR} if run["mean"] else {}
        kinds |= {"draws": color_of(run.spec.method)} if _has_noise(run) else {}
        for number, (kind, color) in enumerate(kinds.items()):
            _draw_gaps(axis, run[kind], color)
            error = f"{kind}: {100 * run[kind]['expected_calibration_error']:.2f} %"
            axis.text(0.98, 0.9 - 0.12 * number, error, transform=axis.transAxes, ha="right", fontsize=10, color=color)
        axis.set_title(name, fontsize=10)
        axis.set(xlim=(0, 1), xticks=(0.2, 0.5, 0.8))
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy - confidence")
    for axis in axes.flat[max(0, len(runs) - columns) : len(runs)]:
        axis.tick_params(labelbottom=True)
    figure.supxlabel("confidence; the area of a dot is the number of examples; text: calibration error", fontsize=10)
    save_figure(figure, path)


def draw_diagram(found: Record, color: str, path: Path) -> None:
    """The reliability diagram of one network: accuracy minus confidence against confidence.

    Args:
        found: of experiments.common.predictive.quality.
        color: of the dots.
    """
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    _draw_gaps(axis, found, color)
    axis.set(xlim=(0, 1), xlabel="confidence; the area of a dot is the number of examples",
             ylabel="accuracy - confidence")  # fmt: skip
    axis.set_title(f"calibration error: {100 * found['expected_calibration_error']:.2f} %", fontsize=10)
    save_figure(figure, path)


def _draw_gaps(axis: Axes, found: Record, color: str) -> None:
    bins = zip(*(found["reliability"][key] for key in ("examples", "confidence", "accuracy")), strict=True)
    points = [(confidence, accuracy - confidence, count) for count, confidence, accuracy in bins if count]
    places, gaps, counts = zip(*points, strict=True)
    axis.axhline(0, color="gray", linewidth=0.8)
    axis.plot(places, gaps, color=color, linewidth=0.8)
    axis.scatter(places, gaps, s=[4 + 200 * count / sum(counts) for count in counts], color=color, alpha=0.5)


def draw_rotation(runs: Mapping[str, Run], path: Path) -> None:
    """Error, entropy and its epistemic part against the rotation angle of the test images, a line per scheme."""
    panels = {"error": (100, "error, %"), "entropy": (1, "entropy, nats"), "epistemic": (1, "epistemic part, nats")}
    if not any(_has_noise(run) for run in runs.values()):
        del panels["epistemic"]
    figure, axes = plt.subplots(len(panels), 1, figsize=(8, 3.9 * len(panels)), layout="constrained")
    for axis, (key, (factor, label)) in zip(axes, panels.items(), strict=True):
        for name, run in runs.items():
            if key != "epistemic" or _has_noise(run):
                angles = [point["angle"] for point in run["rotated"]]
                axis.plot(angles, [factor * point[key] for point in run["rotated"]], label=name, **_style(run))
        axis.set(xlabel="rotation, degrees", ylabel=label, xticks=range(0, 181, 30))
        axis.grid(alpha=0.3)
        if key == "error":
            axis.set_title("lines as in the next panel", fontsize=10)
        else:
            label_lines(axis)
    save_figure(figure, path)


def draw_risk_coverage(runs: Mapping[str, Run], path: Path) -> None:
    """Risk against coverage: error among the least uncertain examples against their share, a line per scheme."""
    figure, axis = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for name, run in runs.items():
        covered = [int(share) for share in run["risk_coverage"]]
        axis.plot(covered, [100 * error for error in run["risk_coverage"].values()], label=name, **_style(run))
    axis.set(xlabel="coverage: share of the examples, least entropy first, %", ylabel="error among them, %")
    axis.grid(alpha=0.3)
    label_lines(axis)
    save_figure(figure, path)


def _has_noise(run: Run) -> bool:
    """Whether its draws differ."""
    return run["uncertainty"]["epistemic"] > 0


def _style(run: Run) -> dict[str, Any]:
    """The scheme's color; dashes for an ensemble."""
    return {"color": color_of(run.spec.method), "linestyle": "--" if run.spec.members > 1 else "-", "linewidth": 1.2}
