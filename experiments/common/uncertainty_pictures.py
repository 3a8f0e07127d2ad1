"""Pictures of experiments.uncertainty, drawn from one run of every row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from pyro_vd.experiments.common.plotting import plt, save_figure
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.store import Run

__all__ = ["draw_diagram", "draw_reliability", "draw_risk_coverage", "draw_rotation"]

COLUMNS = 5
STYLES = ("-", "--", ":")  # for more schemes than the ten colors


def draw_reliability(runs: Mapping[str, Run], path: Path) -> None:
    """Accuracy minus confidence against confidence, a panel per scheme, of the posterior mean and of the average over
    draws; values below zero are overconfident."""
    drawn = list(runs.items())
    rows = -(-len(drawn) // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(2.9 * COLUMNS, 2.5 * rows + 0.5), sharex=True, sharey=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axis in axes.flat:
        axis.set_visible(False)
    for axis, (name, record) in zip(axes.flat, drawn, strict=False):
        axis.set_visible(True)
        for kind, color in (("mean", "tab:orange"), ("draws", "tab:blue")):
            if record[kind]:
                _gaps(axis, record[kind], kind, color)
        axis.axhline(0, color="gray", linewidth=0.8)
        axis.set_title(name, fontsize=10)
        axis.set(xlim=(0, 1), xticks=(0.2, 0.5, 0.8))
        axis.legend(frameon=False, fontsize=7, title="calibration error", title_fontsize=7)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy - confidence")
    figure.supxlabel("confidence; the area of a dot is the number of examples", fontsize=10)
    save_figure(figure, path)


def draw_diagram(found: Record, color: str, path: Path) -> None:
    """The reliability diagram of one network: accuracy minus confidence against confidence.

    Args:
        found: of experiments.common.predictive.quality.
        color: of the dots.
    """
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    _gaps(axis, found, "calibration error", color)
    axis.axhline(0, color="gray", linewidth=0.8)
    axis.set(xlim=(0, 1), xlabel="confidence; the area of a dot is the number of examples",
             ylabel="accuracy - confidence")  # fmt: skip
    axis.legend(frameon=False)
    save_figure(figure, path)


def _gaps(axis: Axes, found: Record, kind: str, color: str) -> None:
    bins = zip(*(found["reliability"][key] for key in ("examples", "confidence", "accuracy")), strict=True)
    points = [(confidence, accuracy - confidence, count) for count, confidence, accuracy in bins if count]
    places, gaps, counts = zip(*points, strict=True)
    axis.plot(places, gaps, color=color, linewidth=0.8)
    axis.scatter(places, gaps, s=[4 + 200 * count / sum(counts) for count in counts], color=color, alpha=0.5,
                 label=f"{kind}: {100 * found['expected_calibration_error']:.2f} %")  # fmt: skip


def draw_rotation(runs: Mapping[str, Run], path: Path) -> None:
    """Error, entropy and its epistemic part against the rotation angle of the test images, a line per scheme."""
    drawn = list(runs.items())
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.8), layout="constrained")
    panels = (("error", 100, "error, %"), ("entropy", 1, "entropy, nats"), ("epistemic", 1, "epistemic part, nats"))
    for axis, (key, factor, label) in zip(axes, panels, strict=True):
        for number, (name, record) in enumerate(drawn):
            angles = [point["angle"] for point in record["rotated"]]
            values = [factor * point[key] for point in record["rotated"]]
            axis.plot(angles, values, label=name, **_style(number))
        axis.set(xlabel="rotation, degrees", ylabel=label, xticks=range(0, 181, 30))
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    save_figure(figure, path)


def draw_risk_coverage(runs: Mapping[str, Run], path: Path) -> None:
    """Risk against coverage: error among the least uncertain examples against their share, a line per scheme."""
    drawn = list(runs.items())
    figure, axis = plt.subplots(figsize=(8.5, 4.8), layout="constrained")
    for number, (name, record) in enumerate(drawn):
        covered = [int(share) for share in record["risk_coverage"]]
        errors = [100 * error for error in record["risk_coverage"].values()]
        axis.plot(covered, errors, label=name, **_style(number))
    axis.set(xlabel="coverage: share of the examples, least entropy first, %", ylabel="error among them, %")
    axis.grid(alpha=0.3)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    save_figure(figure, path)


def _style(number: int) -> dict[str, Any]:
    return {"color": f"C{number % 10}", "linestyle": STYLES[number // 10 % len(STYLES)]}
