"""z-scores for Monte Carlo tests: |z| < 5 fails one run in 1.7 million, and never once a seed has passed."""

from torch import Tensor


def z_of_mean(samples: Tensor, mean: Tensor | float) -> Tensor:
    """z-score of the sample mean over dimension 0, with the estimated standard error."""
    return (samples.mean(0) - mean) / (samples.std(0) / len(samples) ** 0.5)


def z_of_variance(samples: Tensor, variance: Tensor | float) -> Tensor:
    """z-score of Gaussian samples' variance over dimension 0."""
    return (samples.var(0) / variance - 1) * (len(samples) / 2) ** 0.5
