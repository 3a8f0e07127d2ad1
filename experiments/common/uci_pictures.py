"""Picture of the UCI benchmark: how much every scheme differs from published Monte Carlo dropout, set by set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pyro_vd.data import UCI_SETS
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.uci_tables import collect, compare

__all__ = ["draw_likelihoods"]


def draw_likelihoods(store: Store, rows: Iterable[str], path: Path) -> None:
    """An axis per set, a line per row: differences of the log likelihood with bars of two standard errors.

    Nothing is drawn if there are no runs.
    """
    found = collect(store, rows)
    names = [name for name in UCI_SETS if any(name in runs for runs in found.values())]
    if not names:
        return
    size = (2.2 * len(names) + 2, 0.35 * len(found) + 1.2)
    figure, axes = plt.subplots(1, len(names), figsize=size, sharey=True, layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        axis.axvline(0, color="#bbbbbb", linewidth=1)
        for place, runs in enumerate(found.values()):
            if name in runs and not runs[name].diverged:
                mean, error = compare(runs[name])
                color = color_of(runs[name].spec.scheme)
                axis.errorbar(mean, place, xerr=2 * error, fmt="o", color=color, capsize=2, markersize=4)
        axis.set_title(name, fontsize=10)
    axes[0][0].set_yticks(range(len(found)), list(found))
    axes[0][0].invert_yaxis()
    figure.supxlabel("log likelihood of test targets minus that of Monte Carlo dropout, nats; bars: 2 standard errors")
    save_figure(figure, path)
