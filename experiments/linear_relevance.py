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
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ARDRegression
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_vd import EmpiricalBayes, LogUniform, NonFiniteError, fit, guides, lift
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.linear_pictures import draw_shrinkage
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, percent, summary
from pyro_vd.inference.schedules import HoldThenDecay
from pyro_vd.kl import registered_kl
from pyro_vd.model.likelihoods import Gaussian
from pyro_vd.posteriors import WeightNormal

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
NOISE = 0.5  # standard deviation of the targets
CURVATURE = 400.0  # of the log likelihood in each weight: a standard error of 1/20
LARGEST_Z = 5.0
FLAT_REGION = (0.9, 1.1)  # z between which the optimum is too flat for a comparison with an optimizer's result
LARGEST_LOG_ALPHA = 40.0  # stands for infinity, in records


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
class OrthogonalSpec:
    """A run with orthogonal inputs; the attributes are arguments of the same name."""

    weights: int
    epochs: int
    lr: float
    threshold: float
    noise: float = NOISE
    seed: int = 0
    label = ORTHOGONAL


@dataclass(frozen=True, kw_only=True)
class CorrelatedSpec:
    """A run with correlated inputs; the attributes are arguments of the same name."""

    inputs: int
    relevant: int
    examples: int
    correlation: float
    epochs: int
    lr: float
    threshold: float
    noise: float = NOISE
    seed: int = 0
    label = CORRELATED


KINDS = {kind.__name__: kind for kind in (OrthogonalSpec, CorrelatedSpec)}


def main(args: Args) -> None:
    _check(args)
    device = cli.begin(args)
    store = Store(args.out, KINDS)
    orthogonal, *correlated = make_specs(args)
    for spec in (orthogonal, *correlated):
        if not args.resume:
            store.delete(spec)
        if known := store.load(spec, KEYS):
            print(f"{known.path}: already finished")
            continue
        numbers = run_orthogonal(spec, args, device) if spec == orthogonal else run_correlated(spec, args, device)
        store.save(spec, {"experiment": STUDY, **environment(device), **numbers})
    draw_shrinkage(store.load(orthogonal), args.out / "shrinkage.png")
    publish(make_tables(store, args), args.out, "shrinkage.png")


def make_specs(args: Args) -> list[Any]:
    """The spec with orthogonal inputs, then those with correlated inputs, one per seed."""
    shared = {name: getattr(args, name) for name in ("epochs", "lr", "threshold")}
    design = {name: getattr(args, name) for name in ("inputs", "relevant", "examples", "correlation")}
    correlated = [CorrelatedSpec(**design, **shared, seed=seed) for seed in range(args.seeds)]
    return [OrthogonalSpec(weights=args.weights, **shared), *correlated]


def optimum(prior: Distribution, z2: float) -> float:
    """log_alpha at the optimum of one weight's objective; infinite for z2 <= 1, where there is no stationary point.

    The objective is -a/2 ((ols - theta)^2 + sigma^2) - KL(alpha) for a curvature a, and z2 = a ols^2. Its derivatives
    are zero if theta = ols / (1 + alpha) and z2 = -2 (1 + alpha)^2 / alpha dKL/dlog_alpha, an increasing function of
    1 / alpha with the limit 1 for alpha -> infinity.

    Args:
        prior: one whose KL from N(theta, alpha theta^2) depends on alpha alone.

    Example:
        >>> round(optimum(EmpiricalBayes(), 5.0), 6) == round(-math.log(4.0), 6)  # the closed form: -log(z2 - 1)
        True
    """

    def excess(log_alpha: float) -> float:
        x = torch.tensor(log_alpha, dtype=torch.float64, requires_grad=True)
        q = WeightNormal(torch.ones((), dtype=torch.float64), log_sigma2=x)
        (slope,) = torch.autograd.grad(registered_kl("weight", q, prior), x)
        return -2 * (1 + math.exp(log_alpha)) ** 2 / math.exp(log_alpha) * slope.item() - z2

    low, high = -math.log(z2) - 5 if z2 > 0 else 0.0, 18.0  # above, 1 + 1/alpha is 1 in float64
    return brentq(excess, low, high, xtol=1e-12) if z2 > 1 and excess(high) < 0 else math.inf


def run_orthogonal(spec: OrthogonalSpec, args: Args, device: torch.device) -> dict[str, Any]:
    """Finds every weight's optimum by training, by closed form and by ARDRegression."""
    z = np.linspace(0.0, LARGEST_Z, spec.weights)
    x, y = make_orthogonal_data(torch.from_numpy(z) / CURVATURE**0.5)
    methods: dict[str, Any] = {}
    for name, prior in PRIORS.items():
        theta, log_alpha = train_regression(spec, prior, x, y, args, device)
        known = np.array([optimum(prior, z2) for z2 in np.square(z)])
        methods[name] = {
            "theta": (theta.numpy() * CURVATURE**0.5).tolist(),
            "log_alpha": log_alpha.clamp(max=LARGEST_LOG_ALPHA).tolist(),
            "closed_theta": (z / (1 + np.exp(known))).tolist(),
            "closed_log_alpha": np.minimum(known, LARGEST_LOG_ALPHA).tolist(),
        }
    methods[ARD] = {"theta": (fit_relevance_vector(x, y)[0] * CURVATURE**0.5).tolist()}
    return {"z": z.tolist(), "methods": methods}


def make_orthogonal_data(ols: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs X and targets y, (4 d, d) and (4 d, 1), float32, with X'X = CURVATURE NOISE^2 I and the least-squares
    solution ``ols``. The residual is such that ARDRegression estimates the true noise at its optimum: the unexplained
    sum of squares over the number of examples minus its effective parameters."""
    d = len(ols)
    unexplained = 4 * d - (CURVATURE * ols.square()).clamp(max=1.0).sum()
    random = torch.randn(4 * d, d + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis, _ = torch.linalg.qr(random)
    x = basis[:, :d] * NOISE * CURVATURE**0.5
    residual = basis[:, d:] * NOISE * unexplained.sqrt()
    return x.float(), (x @ ols[:, None] + residual).float()


def run_correlated(spec: CorrelatedSpec, args: Args, device: torch.device) -> dict[str, Any]:
    """Runs every method on a data set with few relevant inputs."""
    truth, x, y = make_correlated_data(spec)
    train, test = (x[: spec.examples], y[: spec.examples]), (x[spec.examples :], y[spec.examples :])
    methods = {}
    for name, prior in PRIORS.items():
        theta, log_alpha = train_regression(spec, prior, *train, args, device)
        kept = (log_alpha < spec.threshold).numpy()
        methods[name] = _judge(np.where(kept, theta.numpy(), 0.0), kept, truth, test)
    methods[ARD] = _judge(*fit_relevance_vector(*train), truth, test)
    ols = torch.linalg.lstsq(*train).solution[:, 0].numpy()
    methods[LEAST_SQUARES] = _judge(ols, np.ones_like(ols, dtype=bool), truth, test)
    return {"methods": methods}


def make_correlated_data(spec: CorrelatedSpec) -> tuple[np.ndarray, Tensor, Tensor]:
    """True weights (d,), inputs (2 n, d) with correlation ``correlation`` to the power of their distance, targets."""
    generator = np.random.default_rng(spec.seed)
    truth = np.zeros(spec.inputs)
    relevant = generator.choice(spec.inputs, spec.relevant, replace=False)
    truth[relevant] = generator.choice([-1.0, 1.0], spec.relevant) * generator.uniform(0.1, 1.0, spec.relevant)
    distance = np.abs(np.subtract.outer(np.arange(spec.inputs), np.arange(spec.inputs)))
    root = np.linalg.cholesky(spec.correlation**distance)
    x = generator.standard_normal((2 * spec.examples, spec.inputs)) @ root.T
    y = x @ truth[:, None] + NOISE * generator.standard_normal((2 * spec.examples, 1))
    return truth, torch.from_numpy(x).float(), torch.from_numpy(y).float()


def train_regression(
    spec: OrthogonalSpec | CorrelatedSpec, prior: Distribution, x: Tensor, y: Tensor, args: Args, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Trains a linear regression with known noise, starting at least squares.

    Returns:
        posterior means and log_alpha, (d,) each.
    """
    net = nn.Linear(x.shape[1], 1, bias=False)
    net.weight.data = torch.linalg.lstsq(x, y).solution.mT.contiguous()
    model = lift(net.to(device), prior, Gaussian(NOISE), num_data=len(x))
    try:
        posterior = fit(
            model,
            guides.sparse.Guide(model),
            (x.to(device), y.to(device)),
            epochs=spec.epochs,
            batch_size=len(x),
            lr=spec.lr,
            lr_schedule=HoldThenDecay(spec.epochs // 3, spec.epochs),
            engine=args.engine,
            seed=spec.seed,
        )
    except NonFiniteError as error:
        raise UserError(f"{error}; choose a smaller --lr") from None
    theta = posterior.mean().get_parameter("weight").detach()
    return theta[0].cpu(), posterior.log_alpha()["weight"][0].cpu()


def fit_relevance_vector(x: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Fits scikit-learn's ARDRegression, which learns the noise as well.

    Its hyperpriors are made flat. The default ones stop the growth of an irrelevant input's precision near the
    threshold of pruning.

    Returns:
        coefficients (d,), and the mask (d,) of the inputs that are kept.
    """
    flat = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 1e-15)
    model = ARDRegression(fit_intercept=False, max_iter=2000, tol=1e-6, threshold_lambda=1e6, **flat)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # precisions of irrelevant inputs grow without bound
        model.fit(x.double().numpy(), y.double().numpy()[:, 0])
    return model.coef_, model.lambda_ < model.threshold_lambda


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
    return [_closeness(store.load(orthogonal, KEYS)), _findings(store.seeds(correlated, KEYS))]


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
