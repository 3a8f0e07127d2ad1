"""matplotlib for pictures that go to files, also on a machine without a display."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

__all__ = ["plt", "save_figure"]

plt.switch_backend("Agg")


def save_figure(figure: Figure, path: str | Path, dpi: int = 110) -> None:
    """Writes the figure to ``path`` and frees it."""
    figure.savefig(path, dpi=dpi)
    plt.close(figure)
