"""The picture of experiments.linear_relevance, drawn from its run."""

from __future__ import annotations

from pathlib import Path

from pyro_vd.experiments.common.direct_labels import label_lines
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.store import Run

__all__ = ["draw_shrinkage"]


def draw_shrinkage(run: Run | None, path: Path) -> None:
    """Posterior mean and log_alpha against the least-squares estimate: lines for closed forms, dots for training."""
    if run is None:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.8), layout="constrained")
    left.plot(run["z"], run["z"], color="gray", linewidth=0.8, label="least squares")
    for name, found in run["methods"].items():
        if "closed_theta" not in found:
            left.plot(run["z"], found["theta"], "+", color="black", markersize=5, label=f"{name} (+)")
            continue
        scheme, _, exact = name.partition(", ")
        style = {"color": color_of(scheme), "linestyle": "--" if exact else "-"}
        left.plot(run["z"], found["closed_theta"], label=name, **style)
        left.plot(run["z"], found["theta"], ".", color=color_of(scheme), markersize=5)
        right.plot(run["z"], found["closed_log_alpha"], label=name, **style)
        right.plot(run["z"], found["log_alpha"], ".", color=color_of(scheme), markersize=5)
    left.set(xlabel="least squares, standard errors from zero", ylabel="posterior mean, standard errors")
    right.axhline(run.spec.threshold, color="black", linewidth=0.8)
    right.text(1.0, run.spec.threshold, "pruned above", transform=right.get_yaxis_transform(), ha="right", va="bottom",
               fontsize=9)  # fmt: skip
    right.set(xlabel="least squares, standard errors from zero", ylabel="log_alpha", ylim=(-4.5, 14))
    label_lines(left)
    label_lines(right)
    figure.suptitle("Linear regression with orthogonal inputs. Lines: closed form, dots: training", fontsize=11)
    save_figure(figure, path)
