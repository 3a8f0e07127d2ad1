"""matplotlib for pictures that go to files, also without a display, and one color per scheme in all of them."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

__all__ = ["color_of", "plt", "save_figure"]

plt.switch_backend("Agg")
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})

# Ten colors that differ in lightness too; schemes of one family share one, and differ in their marks or lines.
SCHEME_COLORS = {
    "none": "#7f7f7f",
    "bernoulli": "#1f77b4",
    "gaussian_srivastava": "#17becf",
    "gaussian_wang": "#0b7a86",
    "variational_a": "#9467bd",
    "variational_b": "#5b3a86",
    "sparse": "#d62728",
    "hierarchical": "#ff7f0e",
    "hierarchical_a": "#b35806",
    "hierarchical_naive": "#fdb863",
    "concrete": "#8c564b",
    "group_normal_jeffreys": "#2ca02c",
    "group_horseshoe": "#98df8a",
    "structured_log_normal": "#006d2c",
    "l0": "#e377c2",
    "magnitude": "#000000",
    "lottery": "#555555",
}


def color_of(method: str) -> str:
    """The color of a scheme or a baseline; black for another name."""
    return SCHEME_COLORS.get(method, "black")


def save_figure(figure: Figure, path: str | Path, dpi: int = 110) -> None:
    """Writes the figure to ``path`` and frees it."""
    figure.savefig(path, dpi=dpi)
    plt.close(figure)
