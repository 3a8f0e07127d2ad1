"""The picture of experiments.linear_relevance, drawn from its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyro_vd.experiments.common.direct_labels import label_lines
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.store import Run

__all__ = ["draw_shrinkage"]

EXACT_COLOR, DASHES = "#0072b2", (0, (4, 5))  # of a scheme with the exact KL: it almost covers its approximation


def draw_shrinkage(run: Run | None, path: Path) -> None:
    """Posterior mean and log_alpha against the least-squares estimate: lines for closed forms, dots for training."""
    if run is None:
        return
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 9), layout="constrained")
    top.plot(run["z"], run["z"], color="gray", linewidth=0.8, label="least squares")
    for name, found in run["methods"].items():
        if "closed_theta" not in found:
            top.plot(run["z"], found["theta"], "+", color="black", markersize=5, label=f"{name} (+)")
            continue
        scheme, _, exact = name.partition(", ")
        color = EXACT_COLOR if exact else color_of(scheme)
        style: dict[str, Any] = {
            "color": color,
            "linestyle": DASHES if exact else "-",
            "linewidth": 1.2,
            "zorder": 4 if exact else 3,
        }
        dots: dict[str, Any] = {"color": color, "markersize": 4, "alpha": 0.4}
        top.plot(run["z"], found["closed_theta"], label=name, **style)
        top.plot(run["z"], found["theta"], ".", **dots)
        bottom.plot(run["z"], found["closed_log_alpha"], label=name, **style)
        bottom.plot(run["z"], found["log_alpha"], ".", **dots)
    top.set(xlabel="least squares, standard errors from zero", ylabel="posterior mean, standard errors")
    bottom.axhline(run.spec.threshold, color="black", linewidth=0.8)
    bottom.text(1.0, run.spec.threshold, "pruned above", transform=bottom.get_yaxis_transform(), ha="right",
                va="bottom", fontsize=10)  # fmt: skip
    bottom.set(xlabel="least squares, standard errors from zero", ylabel="log_alpha", ylim=(-4.5, 14))
    label_lines(top)
    label_lines(bottom)
    figure.suptitle("Linear regression with orthogonal inputs. Lines: closed form, dots: training", fontsize=11)
    save_figure(figure, path)
