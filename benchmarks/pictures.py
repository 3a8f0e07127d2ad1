"""Pictures of the benchmarks, drawn from records."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from experiments.common.records import Record

__all__ = ["draw_step"]


def draw_step(record: Record, title: str, path: Path) -> None:
    """A bar per column, fastest first, with its interval; ours in another colour."""
    columns = sorted(record["columns"].items(), key=lambda item: -item[1]["median_ms"])
    names = [name for name, _ in columns]
    medians = [column["median_ms"] for _, column in columns]
    low = [column["median_ms"] - column["interval_ms"][0] for _, column in columns]
    high = [column["interval_ms"][1] - column["median_ms"] for _, column in columns]
    colours = ["tab:orange" if name.startswith("ours") else "tab:gray" for name in names]
    figure, axis = plt.subplots(figsize=(8, 0.42 * len(names) + 1.2), layout="constrained")
    bars = axis.barh(names, medians, xerr=[low, high], color=colours, capsize=3)
    axis.bar_label(bars, fmt="%.2f", padding=6, fontsize=9)
    axis.set_xlabel("milliseconds a step (median; bar: 95 % interval)")
    axis.set_xlim(0, 1.18 * max(medians))
    figure.suptitle(title, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
