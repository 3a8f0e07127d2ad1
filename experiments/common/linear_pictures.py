"""The picture of experiments.linear_relevance, drawn from its run."""

from __future__ import annotations

from pathlib import Path

from pyro_vd.experiments.common.plotting import plt, save_figure
from pyro_vd.experiments.common.store import Run

__all__ = ["draw_shrinkage"]


def draw_shrinkage(run: Run | None, path: Path) -> None:
    """Posterior mean and log_alpha against the least-squares estimate: lines for closed forms, dots for training."""
    if run is None:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    left.plot(run["z"], run["z"], color="gray", linewidth=0.8, label="least squares")
    for name, found in run["methods"].items():
        if "closed_theta" not in found:
            left.plot(run["z"], found["theta"], "+", color="black", markersize=5, label=name)
            continue
        (line,) = left.plot(run["z"], found["closed_theta"], label=name)
        left.plot(run["z"], found["theta"], ".", color=line.get_color(), markersize=5)
        right.plot(run["z"], found["closed_log_alpha"], color=line.get_color())
        right.plot(run["z"], found["log_alpha"], ".", color=line.get_color(), markersize=5)
    left.set(xlabel="least squares, standard errors from zero", ylabel="posterior mean, standard errors")
    right.axhline(run.spec.threshold, color="tab:red", linewidth=0.8)
    right.set(xlabel="least squares, standard errors from zero", ylabel="log alpha; above the red line: pruned",
              ylim=(-4.5, 14))  # fmt: skip
    left.legend(frameon=False)
    figure.suptitle("Linear regression with orthogonal inputs. Lines: closed form, dots: training")
    save_figure(figure, path)
