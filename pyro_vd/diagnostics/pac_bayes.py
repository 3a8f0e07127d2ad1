"""The inequalities that a certificate is made of, as functions of numbers."""

from __future__ import annotations

import math

__all__ = ["binary_kl", "bound_gibbs_risk", "bound_mean", "invert_kl"]

HALVINGS = 100  # of an interval of length 1, more than float64 has bits


def binary_kl(q: float, p: float) -> float:
    """KL of a Bernoulli variable of probability q to one of probability p, nats.

    Example:
        >>> round(binary_kl(0.1, 0.2), 4), binary_kl(0.1, 1.0)
        (0.0367, inf)
    """
    return _kl_term(q, p) + _kl_term(1 - q, 1 - p)


def _kl_term(q: float, p: float) -> float:
    if q == 0:
        return 0.0
    return q * math.log(q / p) if p > 0 else math.inf


def invert_kl(q: float, bound: float) -> float:
    """The largest p in [q, 1] with ``binary_kl(q, p) <= bound``, rounded up.

    Example:
        >>> round(invert_kl(0.02, 0.001), 4)
        0.0269
    """
    low, high = q, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if binary_kl(q, middle) <= bound:
            low = middle
        else:
            high = middle
    return high


def bound_gibbs_risk(empirical_risk: float, kl: float, num_examples: int, delta: float) -> float:
    r"""Upper bound on the risk of a stochastic classifier, with probability at least 1 - delta.

    With probability at least :math:`1 - \delta` over n independent examples, all posteriors q at once have
    (Maurer 2004, theorem 5; Langford and Seeger 2001):

    .. math:: \mathrm{kl}(\hat R(q) \| R(q)) \le \frac{\mathrm{KL}(q \| p) + \log(2 \sqrt n / \delta)}{n}

    Args:
        empirical_risk: expected share of errors on the examples, under q.
        kl: KL(q || p), nats; p does not depend on the examples.
        num_examples: n.
        delta: between 0 and 1.
    """
    budget = kl + math.log(2 * math.sqrt(num_examples) / delta)
    return invert_kl(empirical_risk, budget / num_examples)


def bound_mean(mean: float, variance: float, num_samples: int, delta: float) -> float:
    r"""Upper bound on the expectation of independent equal variables in [0, 1], with probability at least 1 - delta.

    The empirical Bernstein bound (Maurer and Pontil 2009, theorem 4), which is tight for a small variance:

    .. math:: \bar X + \sqrt{2 V \log(2 / \delta) / m} + \frac{7 \log(2 / \delta)}{3 (m - 1)}

    Args:
        mean: of the m variables.
        variance: V, of the m variables, with the divisor m - 1.
        num_samples: m, at least 2.
        delta: between 0 and 1.
    """
    log_term = math.log(2 / delta)
    slack = math.sqrt(2 * variance * log_term / num_samples) + 7 * log_term / (3 * (num_samples - 1))
    return min(1.0, mean + slack)
