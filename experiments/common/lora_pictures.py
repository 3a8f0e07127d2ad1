"""The picture of experiments.lora_ranks: the ranks that every layer keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pyro_vd.experiments.common.lora_runs import LoraSpec
from pyro_vd.experiments.common.lora_tables import find_rows
from pyro_vd.experiments.common.plotting import plt, save_figure
from pyro_vd.experiments.common.store import Run, Store

__all__ = ["draw_ranks"]

COLUMNS = 3


def draw_ranks(rows: Mapping[str, LoraSpec], store: Store, path: Path) -> None:
    """A panel for every pruned row: the mean number of ranks that each layer keeps. No file without such runs."""
    found = {
        name: _finished(runs) for name, runs in find_rows(rows, store).items() if rows[name].fit.threshold is not None
    }
    found = {name: runs for name, runs in found.items() if runs}
    if not found:
        return
    layers = list(dict.fromkeys(layer for runs in found.values() for run in runs for layer in run["log_alpha"]))
    lines = -(-len(found) // COLUMNS)
    figure, axes = plt.subplots(lines, COLUMNS, figsize=(9, 3.6 * lines), sharey=True, squeeze=False,
                                layout="constrained")  # fmt: skip
    for axis in axes.flat[len(found) :]:
        axis.set_visible(False)
    for axis, (name, runs) in zip(axes.flat, found.items(), strict=False):
        kept = [np.mean([run["ranks"].get(layer, 0) for run in runs]) for layer in layers]
        axis.barh([_shorten(layer) for layer in layers], kept, color="#1f77b4")
        axis.set(
            title=name, xlabel="ranks that are left", xlim=(0, rows[name].rank), xticks=range(0, rows[name].rank + 1, 4)
        )
    axes[0, 0].invert_yaxis()
    figure.suptitle(f"Ranks of every layer after pruning; {rows[next(iter(found))].rank} at the start", fontsize=11)
    save_figure(figure, path)


def _finished(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if not run.diverged]


def _shorten(layer: str) -> str:
    """``encoder.layer.0.attention.self.query`` -> ``0 query``."""
    parts = layer.split(".")
    return " ".join([next((part for part in parts if part.isdigit()), ""), parts[-1]]).strip()
