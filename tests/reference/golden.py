"""Golden values of every scheme's KL and moments, by NumPy and SciPy alone: definitions integrated or minimized
numerically, none of the library's closed forms. ``python -m tests.reference.golden`` writes golden.json beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import integrate, optimize, stats

PATH = Path(__file__).with_suffix(".json")

# The points that test_golden.py rebuilds as torch tensors.
THETA = np.array([[0.5, -1.25, 0.02], [2.0, 0.3, -0.7]])
LOG_SIGMA2 = np.array([[-2.0, 0.5, -3.0], [-1.0, -6.0, 1.0]])
P = 0.3
MU, LOG_SIGMA = np.array([-0.5, -3.0, -19.0]), np.array([-1.0, 0.5, 2.0])  # truncated log-normal
LOCATION = np.array([-2.0, 0.0, 1.5])  # hard concrete
LOG_NORMAL = (np.array([0.3, -1.0, 0.7]), np.array([-2.0, -1.0, 0.0]))  # mu, log_sigma2
TAU0 = 0.1


def expectation(mean: float, sd: float, f: Callable[[float], float], at: tuple[float, ...] = ()) -> float:
    """E f(w) for w ~ N(mean, sd^2); ``at`` are points where f is not smooth."""
    low, high = mean - 12 * sd, mean + 12 * sd
    pieces = [low, *sorted(p for p in at if low < p < high), high]
    density = stats.norm(mean, sd).pdf
    return sum(
        integrate.quad(lambda w: density(w) * f(w), a, b, limit=400, epsabs=1e-12, epsrel=1e-12)[0]
        for a, b in pairwise(pieces)
    )


def entropy(sd: float) -> float:
    return -expectation(0.0, sd, stats.norm(0.0, sd).logpdf)


def gaussian_kl(log_density: Callable[[float], float], at: tuple[float, ...] = ()) -> float:
    """Sum over the weights of E log q - E log p."""
    deviations = np.exp(0.5 * LOG_SIGMA2)
    return sum(
        -entropy(s) - expectation(m, s, log_density, at) for m, s in zip(THETA.ravel(), deviations.ravel(), strict=True)
    )


def log_uniform() -> float:
    """The member of the family whose KL vanishes for infinite alpha, taken there numerically."""
    vanishing = -entropy(1.0) + expectation(0.0, 1.0, lambda w: np.log(abs(w)), (0.0,))
    return gaussian_kl(lambda w: -np.log(abs(w)), (0.0,)) - THETA.size * vanishing


def molchanov(log_alpha: np.ndarray) -> float:
    k1, k2, k3 = 0.63576, 1.87320, 1.48695
    negative = k1 / (1 + np.exp(-(k2 + k3 * log_alpha))) - 0.5 * np.log(1 + np.exp(-log_alpha)) - k1
    return float(-negative.sum())


def kingma(alpha: np.ndarray) -> float:
    c1, c2, c3 = 1.161451241083230, -1.502041176441722, 0.586299206427007
    negative = 0.5 * np.log(alpha) + c1 * alpha + c2 * alpha**2 + c3 * alpha**3
    return float((0.5 * (np.euler_gamma + np.log(2)) - negative).sum())


def empirical_bayes(groups: list[np.ndarray]) -> float:
    """The variance of every group of weights minimized over numerically."""

    def kl(log_gamma: float, theta: np.ndarray, log_sigma2: np.ndarray) -> float:
        gamma = np.exp(log_gamma)
        return float((0.5 * (log_gamma - log_sigma2 + (np.exp(log_sigma2) + theta**2) / gamma - 1)).sum())

    best = (
        optimize.minimize_scalar(
            kl, bounds=(-20, 10), args=(THETA.ravel()[g], LOG_SIGMA2.ravel()[g]), method="bounded",
            options={"xatol": 1e-10},
        ).fun
        for g in groups
    )  # fmt: skip
    return float(sum(best))


def horseshoe(w: float) -> float:
    """log of the integral over the half-Cauchy scale; TAU0 is the global one."""
    value, _ = integrate.quad(
        lambda t: stats.norm.pdf(w, 0, TAU0 * np.tan(t)) * 2 / np.pi, 0, np.pi / 2, limit=400, epsrel=1e-11
    )
    return float(np.log(value))


def truncated_log_normal() -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"kl": [], "mean": [], "variance": []}
    for mu, sigma in zip(MU, np.exp(LOG_SIGMA), strict=True):
        q = stats.truncnorm((-20 - mu) / sigma, (0 - mu) / sigma, mu, sigma)
        integral = _integral(q.pdf, -20.0, 0.0, peak=mu, width=sigma)
        found["kl"].append(integral(lambda x, q=q: q.logpdf(x) + np.log(20)))
        mean = integral(np.exp)
        found["mean"].append(mean)
        found["variance"].append(integral(lambda x, mean=mean: (np.exp(x) - mean) ** 2))
    return found


def _integral(pdf, low, high, peak, width):
    points = sorted({low, high, *np.clip([peak - 6 * width, peak, peak + 6 * width], low, high)})
    return lambda f: sum(
        integrate.quad(lambda x: pdf(x) * f(x), a, b, limit=400, epsabs=1e-14)[0] for a, b in pairwise(points)
    )


def hard_concrete() -> dict[str, list[float]]:
    """Probability of an open gate and its test-time value, from the gate as a function of u."""

    def gate(u: float, location: float) -> float:
        return float(np.clip(1.2 / (1 + np.exp(-(np.log(u / (1 - u)) + location) / (2 / 3))) - 0.1, 0, 1))

    closed = [optimize.bisect(lambda u, loc=loc: 1e-12 - gate(u, loc), 1e-9, 1 - 1e-9) for loc in LOCATION]
    return {
        "active": [1 - c for c in closed],
        "gate": [float(np.clip(1.2 / (1 + np.exp(-loc)) - 0.1, 0, 1)) for loc in LOCATION],
    }


def log_normal_kl(prior) -> float:
    """Of every log-normal variable to the prior, by integrating over its logarithm."""
    total = 0.0
    for mu, log_sigma2 in zip(*LOG_NORMAL, strict=True):
        s = np.exp(0.5 * log_sigma2)
        total += -entropy(s) - expectation(mu, s, lambda t: prior.logpdf(np.exp(t)) + t)
    return float(total)


def compute() -> dict:
    log_alpha = LOG_SIGMA2 - np.log(THETA**2)
    index = np.arange(THETA.size).reshape(THETA.shape)
    slab = lambda w: np.log(0.25 * stats.norm.pdf(w, 0, 1.5) + 0.75 * stats.norm.pdf(w, 0, 0.1))  # noqa: E731
    return {
        "log_uniform_exact": log_uniform(),
        "log_uniform_molchanov": molchanov(log_alpha),
        "log_uniform_kingma": kingma(np.array([0.05, 0.4, 1.0])),
        "empirical_bayes_weight": empirical_bayes([np.array([i]) for i in range(THETA.size)]),
        "empirical_bayes_unit": empirical_bayes(list(index.T)),
        "empirical_bayes_layer": empirical_bayes([index.ravel()]),
        "normal": gaussian_kl(stats.norm(0.1, 0.7).logpdf),
        "laplace": gaussian_kl(stats.laplace(0.1, 0.7).logpdf, (0.1,)),
        "student_t": gaussian_kl(stats.t(3.0, 0.1, 0.7).logpdf),
        "spike_and_slab": gaussian_kl(slab, (-0.3, 0.0, 0.3)),
        "horseshoe": {str(w): horseshoe(w) for w in (0.001, 0.05, 0.3, 2.0, 40.0)},
        "gaussian_dropout_variance": P / (1 - P),
        "truncated_log_normal": truncated_log_normal(),
        "hard_concrete": hard_concrete(),
        "log_normal_gamma": log_normal_kl(stats.gamma(0.5, scale=TAU0**2)),
        "log_normal_inverse_gamma": log_normal_kl(stats.invgamma(0.5)),
        "standard_normal": gaussian_kl(stats.norm(0.0, 1.0).logpdf),
        "concrete": float(0.5 * (THETA**2).sum() / (1 - P) / 0.7**2 + 3 * (np.log(2) - stats.bernoulli(P).entropy())),
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(compute(), indent=1) + "\n")
    print(PATH)
