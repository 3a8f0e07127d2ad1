"""Pictures of experiments.dropout_exercises."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.direct_labels import label_lines
from pyro_vd.experiments.common.dropout_tables import BASELINE, LAYERS, LEARNED, RATES, SWAPPED
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.store import Run, Store

__all__ = ["PICTURES", "draw"]

PICTURES = {
    "rates.png": "Accuracy against each drop rate, the other one fixed",
    "activations.png": "Variance of the hidden activations by epoch",
    "learned.png": "Learned drop rates by epoch beside those of the exercise",
    "gradients.png": "Norm of the gradient by epoch, with and without dropout",
}
"""Name -> what the picture shows."""
Lines = Mapping[str, Sequence[Run]]
"""Label -> runs that did not diverge."""
DRAWN = ("dropout", SWAPPED, BASELINE)
GRADIENTS = ("dropout", BASELINE, "neither, usual init")
OTHER_COLORS = {SWAPPED: "#17becf", "neither, usual init": "black"}  # of a second row of a scheme
STYLES = ("-", "--", ":")  # of the lines of one scheme
SWEEPS = {"first rate": ("after the first layer", "#1f77b4"), "second rate": ("after the second layer", "#d62728")}
"""Column -> label and color."""
QUANTITIES = {"train_error": "training accuracy, %", "test_error": "test accuracy, %"}


def draw(columns: Columns, store: Store) -> tuple[str, ...]:
    """Draws in the folder of the runs what has been run, and returns the names of the pictures."""
    found = {
        column: {row: good for row, runs in find_runs(store, rows).items() if (good := _finished(runs))}
        for column, rows in columns.items()
    }
    rows, folder = found["rows"], store.folder
    learned = {row: runs for row, runs in rows.items() if row.startswith(LEARNED)}
    draw_rates({column: found[column] for column in SWEEPS}, folder / "rates.png")
    draw_activations({row: rows[row] for row in DRAWN if row in rows}, folder / "activations.png")
    draw_learned(learned, folder / "learned.png")
    draw_gradients({row: rows[row] for row in GRADIENTS if row in rows}, folder / "gradients.png")
    return tuple(PICTURES)


def draw_rates(sweeps: Mapping[str, Lines], path: Path) -> None:
    """Training and test accuracy against the rate of each layer, bars of one standard deviation."""
    if not any(sweeps.values()):
        return
    figure, axes = plt.subplots(2, 1, figsize=(8, 7), sharex=True, layout="constrained")
    for axis, (key, name) in zip(axes, QUANTITIES.items(), strict=True):
        for column, places in sweeps.items():
            label, color = SWEEPS[column]
            points = {float(rate): [100 * (1 - run[key]) for run in runs] for rate, runs in places.items()}
            _draw_bars(axis, points, label, color)
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
        label_lines(axis)
    first, second = RATES.values()
    axes[-1].set_xlabel(f"drop rate; the other one is {second:g} (second layer) or {first:g} (first layer)")
    save_figure(figure, path)


def draw_activations(lines: Lines, path: Path) -> None:
    """Variance of each hidden layer by epoch: of the network without noise, and dashed, of the noisy units."""
    panels = {f"{name} hidden layer: variance": f"variance_{layer}" for layer, name in LAYERS.items()}
    if not lines:
        return
    figure, axes = _make_panels(len(panels))
    for axis, (name, key) in zip(axes, panels.items(), strict=True):
        for row, runs in lines.items():
            color = _color_of(row, runs)
            _draw_epochs(axis, runs, key, color, "-", row)
            if f"noisy_{key}" in runs[0]["history"][0]:
                _draw_epochs(axis, runs, f"noisy_{key}", color, "--", f"{row}: noisy")
        _finish(axis, name)
    save_figure(figure, path)


def draw_learned(lines: Lines, path: Path) -> None:
    """Rate of each hidden layer by epoch, a line per row, and the rate of the exercise."""
    if not lines:
        return
    figure, axes = _make_panels(len(LAYERS))
    for axis, (layer, name) in zip(axes, LAYERS.items(), strict=True):
        drawn: list[str] = []
        for row, runs in lines.items():
            method = runs[0].spec.method
            _draw_epochs(axis, runs, f"rate_{layer}", color_of(method), STYLES[drawn.count(method)], row)
            drawn.append(method)
        epochs = len(next(iter(lines.values()))[0]["history"])
        axis.plot([1, epochs], [RATES[layer]] * 2, color="black", linewidth=1, label="the exercise")
        axis.set_ylim(0, None)
        _finish(axis, f"drop rate after the {name} layer")
    save_figure(figure, path)


def draw_gradients(lines: Lines, path: Path) -> None:
    """Norm of the gradient by epoch, and dotted the largest of the batches."""
    if not lines:
        return
    figure, (axis,) = _make_panels(1)
    for row, runs in lines.items():
        color = _color_of(row, runs)
        _draw_epochs(axis, runs, "gradient_norm", color, "-", row)
        _draw_epochs(axis, runs, "largest_gradient_norm", color, ":")
    axis.set_ylim(bottom=0)
    axis.set_title("solid: mean of 10 batches of the training set; dotted: the largest of them", fontsize=10)
    _finish(axis, "norm of the gradient")
    save_figure(figure, path)


def _finished(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if not run.diverged]


def _color_of(row: str, runs: Sequence[Run]) -> str:
    return OTHER_COLORS.get(row, color_of(runs[0].spec.method))


def _make_panels(count: int) -> tuple:
    figure, axes = plt.subplots(count, 1, figsize=(8, 3.6 * count), sharex=True, layout="constrained", squeeze=False)
    axes[-1, 0].set_xlabel("epoch")
    return figure, axes[:, 0]


def _draw_epochs(axis: Axes, runs: Sequence[Run], key: str, color: str, style: str, label: str = "_") -> None:
    """The mean of the runs after every epoch."""
    means = [statistics.fmean(row[key] for row in rows) for rows in zip(*(run["history"] for run in runs), strict=True)]
    axis.plot(range(1, len(means) + 1), means, color=color, linestyle=style, label=label)


def _draw_bars(axis: Axes, points: Mapping[float, Sequence[float]], label: str, color: str) -> None:
    spreads = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in points.values()]
    axis.errorbar(
        list(points), [statistics.fmean(values) for values in points.values()], spreads, color=color, marker="o",
        capsize=3,
    ).lines[0].set_label(label)  # fmt: skip


def _finish(axis: Axes, name: str) -> None:
    axis.set_ylabel(name)
    axis.grid(alpha=0.3)
    label_lines(axis)
