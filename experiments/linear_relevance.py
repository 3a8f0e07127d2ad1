"""Origin of sparsity: linear regression, where the optimum of variational dropout has a closed form.

``python -m experiments.linear_relevance`` has two parts. With orthogonal inputs the objective separates into one
problem per weight: given the least-squares estimate, z standard errors from zero, the optimum is alpha = infinity for
z^2 <= 1 and a known value above. Training by ``fit`` is compared with it, and with scikit-learn's ARDRegression, the
relevance vector machine (Tipping 2001), which maximizes the evidence of the model whose bound ``hierarchical`` trains.
With correlated inputs, few of which are relevant, all methods are compared by their estimates and by the inputs that
they keep. Every part and seed writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd import EmpiricalBayes, LogUniform
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.direct_labels import label_lines
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.linear_regression import (
    CURVATURE,
    NOISE,
    fit_relevance_vector,
    make_correlated_data,
    make_orthogonal_data,
    optimum,
    train_regression,
)
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, percent, summary

STUDY = "linear_relevance"
ORTHOGONAL, CORRELATED = "orthogonal", "correlated"
KEYS = ("methods",)
"""Numbers of a record."""
PRIORS: dict[str, Distribution] = {
    "sparse, exact KL": LogUniform("exact"),
    "sparse": LogUniform("molchanov"),
    "hierarchical": EmpiricalBayes(),
}
ARD, LEAST_SQUARES = "ARDRegression", "least squares"
LARGEST_Z = 5.0
FLAT_REGION = (0.9, 1.1)  # z between which the optimum is too flat for a comparison with an optimizer's result
LARGEST_LOG_ALPHA = 40.0  # stands for infinity, in records
EXACT_COLOR, DASHES = "#0072b2", (0, (4, 5))  # of a scheme with the exact KL: it almost covers its approximation


@dataclass(frozen=True)
class Args(cli.Setup):
    """Trains linear regressions and compares them with closed forms."""

    weights: int = 200
    """Inputs of the orthogonal design, with z-scores evenly spaced from 0 to 5."""
    inputs: int = 100
    """Inputs of the correlated design."""
    relevant: int = 10
    """Number of relevant inputs among them."""
    examples: int = 300
    """Training examples of the correlated design, and the number of its test examples."""
    correlation: float = 0.7
    """Correlation of neighboring inputs of the correlated design."""
    seeds: int = 5
    """Data sets of the correlated design; the orthogonal design has one."""
    epochs: int = 4000
    """Steps of full-batch training."""
    lr: float = 0.02
    threshold: float = 3.0
    """Weights with log_alpha at or above it are irrelevant."""
    out: Path = Path("runs/linear_relevance")
    """Folder of records, tables and picture."""


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """What both kinds of runs share; the attributes of a spec are arguments of the same name."""

    epochs: int
    lr: float
    threshold: float
    noise: float = NOISE
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class OrthogonalSpec(_Trained):
    """A run with orthogonal inputs."""

    weights: int
    label = ORTHOGONAL


@dataclass(frozen=True, kw_only=True)
class CorrelatedSpec(_Trained):
    """A run with correlated inputs."""

    inputs: int
    relevant: int
    examples: int
    correlation: float
    label = CORRELATED


Train = Callable[[Distribution, Tensor, Tensor, int, float, int], tuple[Tensor, Tensor]]
"""``train_regression`` on a device."""
KINDS = {kind.__name__: kind for kind in (OrthogonalSpec, CorrelatedSpec)}


def main(args: Args) -> None:
    _check(args)
    device = cli.begin(args)
    train = partial(train_regression, engine=args.engine, device=device)
    store = Store(args.out, KINDS)
    orthogonal, *correlated = make_specs(args)
    for spec in store.unfinished((orthogonal, *correlated), KEYS, args.resume):
        numbers = run_orthogonal(spec, train) if spec == orthogonal else run_correlated(spec, train)
        store.save(spec, {"experiment": STUDY, **environment(device), **numbers})
    draw_shrinkage(store.load(orthogonal), args.out / "shrinkage.png")
    publish(make_tables(store, args), args.out, "shrinkage.png")


def make_specs(args: Args) -> list[Any]:
    """The spec with orthogonal inputs, then those with correlated inputs, one per seed."""
    shared = {name: getattr(args, name) for name in ("epochs", "lr", "threshold")}
    design = {name: getattr(args, name) for name in ("inputs", "relevant", "examples", "correlation")}
    correlated = [CorrelatedSpec(**design, **shared, seed=seed) for seed in range(args.seeds)]
    return [OrthogonalSpec(weights=args.weights, **shared), *correlated]


def run_orthogonal(spec: OrthogonalSpec, train: Train) -> dict[str, Any]:
    """Finds every weight's optimum by training, by closed form and by ARDRegression."""
    z = np.linspace(0.0, LARGEST_Z, spec.weights)
    x, y = make_orthogonal_data(torch.from_numpy(z) / CURVATURE**0.5)
    methods: dict[str, Any] = {}
    for name, prior in PRIORS.items():
        theta, log_alpha = train(prior, x, y, spec.epochs, spec.lr, spec.seed)
        known = np.array([optimum(prior, z2) for z2 in np.square(z)])
        methods[name] = {
            "theta": (theta.numpy() * CURVATURE**0.5).tolist(),
            "log_alpha": log_alpha.clamp(max=LARGEST_LOG_ALPHA).tolist(),
            "closed_theta": (z / (1 + np.exp(known))).tolist(),
            "closed_log_alpha": np.minimum(known, LARGEST_LOG_ALPHA).tolist(),
        }
    methods[ARD] = {"theta": (fit_relevance_vector(x, y)[0] * CURVATURE**0.5).tolist()}
    return {"z": z.tolist(), "methods": methods}


def run_correlated(spec: CorrelatedSpec, train: Train) -> dict[str, Any]:
    """Runs every method on a data set with few relevant inputs."""
    truth, x, y = make_correlated_data(spec.inputs, spec.relevant, spec.examples, spec.correlation, spec.seed)
    training, test = (x[: spec.examples], y[: spec.examples]), (x[spec.examples :], y[spec.examples :])
    methods = {}
    for name, prior in PRIORS.items():
        theta, log_alpha = train(prior, *training, spec.epochs, spec.lr, spec.seed)
        kept = (log_alpha < spec.threshold).numpy()
        methods[name] = _judge(np.where(kept, theta.numpy(), 0.0), kept, truth, test)
    methods[ARD] = _judge(*fit_relevance_vector(*training), truth, test)
    ols = torch.linalg.lstsq(*training).solution[:, 0].numpy()
    methods[LEAST_SQUARES] = _judge(ols, np.ones_like(ols, dtype=bool), truth, test)
    return {"methods": methods}


def _judge(theta: np.ndarray, kept: np.ndarray, truth: np.ndarray, test: tuple[Tensor, Tensor]) -> dict[str, float]:
    relevant = truth != 0
    x, y = (part.double().numpy() for part in test)
    return {
        "found": float(kept[relevant].mean()),
        "false_alarms": float(kept[~relevant].mean()),
        "distance": float(np.linalg.norm(theta - truth)),
        "test_mse": float(np.square(y[:, 0] - x @ theta).mean()),
    }


def make_tables(store: Store, args: Args) -> list[Table]:
    """Deviation of training from the closed form, then the results of each method with correlated inputs."""
    orthogonal, correlated, *_ = make_specs(args)
    return [*map(_closeness, store.seeds(orthogonal, KEYS)), _findings(store.seeds(correlated, KEYS))]


def _closeness(run: Run) -> Table:
    low, high = FLAT_REGION
    header = ("method", "theta, off by at most", "log alpha, off by at most", "largest z pruned", "closed form")
    rows, z = [], np.array(run["z"])
    clear = (z < low) | (z > high)
    for name, found in run["methods"].items():
        own = found if "closed_theta" in found else run["methods"]["hierarchical"]  # ARD has the same model
        far = np.abs(np.array(found["theta"]) - np.array(own["closed_theta"]))[clear].max()
        rows.append((name, f"{far:.3f}", *_log_alphas(found, z, run.spec.threshold)))
    title = (
        f"Orthogonal inputs: training against the closed form (theta in standard errors, z outside {low:g} to {high:g})"
    )
    return Table(title, header, tuple(rows))


def _log_alphas(found: dict[str, list[float]], z: np.ndarray, threshold: float) -> tuple[str, str, str]:
    if "log_alpha" not in found:
        return "-", "-", "-"
    log_alpha, known = np.array(found["log_alpha"]), np.array(found["closed_log_alpha"])
    ours, closed = (
        f"{z[values >= threshold].max():.2f}" if (values >= threshold).any() else "-" for values in (log_alpha, known)
    )
    return f"{np.abs(log_alpha - known)[z > FLAT_REGION[1]].max():.3f}", ours, closed


def _findings(runs: list[Run]) -> Table:
    header = ("method", "relevant found, %", "irrelevant kept, %", "distance from the truth", "test MSE", "n")
    names = list(runs[0]["methods"]) if runs else []
    rows = [_finding(name, [run["methods"][name] for run in runs]) for name in names]
    return Table("Correlated inputs", header, tuple(rows))


def _finding(name: str, found: list[dict[str, float]]) -> tuple[str, ...]:
    shares = [percent([one[key] for one in found], "{:.1f}") for key in ("found", "false_alarms")]
    errors = [summary([one[key] for one in found], "{:.3f}") for key in ("distance", "test_mse")]
    return (name, *shares, *errors, str(len(found)))


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


def _check(args: Args) -> None:
    if args.weights < 2 or min(args.epochs, args.seeds, args.relevant) < 1:
        raise UserError("--weights must be at least 2, --epochs, --seeds and --relevant at least 1")
    if not args.relevant < args.inputs <= args.examples:
        raise UserError("--inputs must be above --relevant and at most --examples; else least squares is not unique")
    if not 0 <= args.correlation < 1:
        raise UserError("--correlation must be at least 0 and below 1")
    if not 0 < args.lr < math.inf:
        raise UserError("--lr must be above 0 and finite")
    if not math.isfinite(args.threshold):
        raise UserError("--threshold must be finite")


if __name__ == "__main__":
    cli.run(Args, main)
