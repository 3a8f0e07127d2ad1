"""Linear regression by variational dropout: data, training, and what its results are compared with."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from scipy.optimize import brentq
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ARDRegression
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_vd import Gaussian, NonFiniteError, fit, guides, lift
from pyro_vd.errors import UserError
from pyro_vd.inference.engine import EngineName
from pyro_vd.inference.schedules import HoldThenDecay
from pyro_vd.kl import registered_kl
from pyro_vd.posteriors import WeightNormal

__all__ = ["CURVATURE", "NOISE", "fit_relevance_vector", "make_correlated_data", "make_orthogonal_data", "optimum",
           "train_regression"]  # fmt: skip

NOISE = 0.5  # standard deviation of the targets
CURVATURE = 400.0  # of the log likelihood in each weight: a standard error of 1/20


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


def make_correlated_data(
    inputs: int, relevant: int, examples: int, correlation: float, seed: int
) -> tuple[np.ndarray, Tensor, Tensor]:
    """True weights (d,), inputs (2 n, d) with correlation ``correlation`` to the power of their distance, targets."""
    generator = np.random.default_rng(seed)
    truth = np.zeros(inputs)
    chosen = generator.choice(inputs, relevant, replace=False)
    truth[chosen] = generator.choice([-1.0, 1.0], relevant) * generator.uniform(0.1, 1.0, relevant)
    distance = np.abs(np.subtract.outer(np.arange(inputs), np.arange(inputs)))
    root = np.linalg.cholesky(correlation**distance)
    x = generator.standard_normal((2 * examples, inputs)) @ root.T
    y = x @ truth[:, None] + NOISE * generator.standard_normal((2 * examples, 1))
    return truth, torch.from_numpy(x).float(), torch.from_numpy(y).float()


def optimum(prior: Distribution, z2: float) -> float:
    """log_alpha at the optimum of one weight's objective; infinite for z2 <= 1, where there is no stationary point.

    The objective is -a/2 ((ols - theta)^2 + sigma^2) - KL(alpha) for a curvature a, and z2 = a ols^2. Its derivatives
    are zero if theta = ols / (1 + alpha) and z2 = -2 (1 + alpha)^2 / alpha dKL/dlog_alpha, an increasing function of
    1 / alpha with the limit 1 for alpha -> infinity.

    Args:
        prior: one whose KL from N(theta, alpha theta^2) depends on alpha alone.

    Example:
        >>> from pyro_vd import EmpiricalBayes
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


def train_regression(
    prior: Distribution, x: Tensor, y: Tensor, epochs: int, lr: float, seed: int, engine: EngineName,
    device: torch.device,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Trains a linear regression with known noise, starting at least squares.

    Returns:
        posterior means and log_alpha, (d,) each.

    Raises:
        UserError: if training diverges.
    """
    net = nn.Linear(x.shape[1], 1, bias=False)
    net.weight.data = torch.linalg.lstsq(x, y).solution.mT.contiguous()
    model = lift(net.to(device), prior, Gaussian(NOISE), num_data=len(x))
    try:
        posterior = fit(
            model,
            guides.sparse.Guide(model),
            (x.to(device), y.to(device)),
            epochs=epochs,
            batch_size=len(x),
            lr=lr,
            lr_schedule=HoldThenDecay(epochs // 3, epochs),
            engine=engine,
            seed=seed,
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
