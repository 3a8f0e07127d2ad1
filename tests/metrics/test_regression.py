"""Regression metrics against closed forms, SciPy, torchmetrics and the formulas written out."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torchmetrics
from torch.distributions import Independent, Normal, Poisson, StudentT

from pyro_vd.errors import UserError
from pyro_vd.metrics import coverage, crps, interval_width, log_predictive_density, predictive_variance, rmse

NAN = float("nan")


def normal_crps(mean, scale, y):
    """Gneiting and Raftery 2007, equation 22 with the sign changed."""
    z = (y - mean) / scale
    normal = scipy.stats.norm
    return scale * (z * (2 * normal.cdf(z) - 1) + 2 * normal.pdf(z) - 1 / math.sqrt(math.pi))


def test_rmse_is_that_of_torchmetrics():
    prediction, y = torch.randn(50, 2), torch.randn(50, 2)
    theirs = torchmetrics.MeanSquaredError(squared=False)(prediction, y).item()
    assert rmse(prediction, y) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("m", [2, 3, 10, 11])
def test_crps_is_the_formula_written_out(m):
    draws, y = torch.randn(m, 4, 2, dtype=torch.float64) * 3 + 100, torch.randn(4, 2, dtype=torch.float64)
    pairs = (draws[:, None] - draws[None]).abs().sum((0, 1)) / (m * (m - 1))
    torch.testing.assert_close(crps(draws, y), (draws - y).abs().mean(0) - pairs / 2)


@pytest.mark.parametrize("m", [2, 50])
def test_crps_has_no_bias(m):
    """Against the closed form of the normal distribution; five standard errors. Kills an average over all m**2 pairs,
    which is too large by E|X - X'| / (2m)."""
    torch.manual_seed(0)
    mean, scale, y = 1.0, 2.0, 2.5
    found = crps(mean + scale * torch.randn(m, 20_000, dtype=torch.float64), torch.full((20_000,), y).double())
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - normal_crps(mean, scale, y)) < 5 * error
    assert scale / math.sqrt(math.pi) / m > 5 * error


def test_crps_is_proper():
    """The true distribution has a smaller score than a biased, a narrow or a wide one."""
    torch.manual_seed(0)
    y = torch.randn(20_000)
    noise = torch.randn(20, 20_000)
    right, *wrong = (crps(draws, y).mean() for draws in (noise, noise + 0.5, noise * 0.5, noise * 2))
    assert all(right < score - 0.02 for score in wrong)


def test_coverage_of_known_quantiles_is_exact():
    """The middle of every hundredth of a normal distribution: 80 of 100 lie in the interval of 0.8."""
    y = torch.tensor(scipy.stats.norm.ppf((np.arange(100) + 0.5) / 100))
    for level in (0.1, 0.5, 0.8, 0.98):
        end = torch.full((100,), scipy.stats.norm.ppf((1 + level) / 2))
        assert coverage(-end, end, y) == pytest.approx(level, abs=1e-12)
        assert interval_width(-end, end) == pytest.approx(2 * end[0].item(), abs=1e-12)


def test_ends_belong_to_the_interval():
    assert coverage(torch.zeros(3), torch.ones(3), torch.tensor([0, 1, 2])) == pytest.approx(2 / 3)


def test_the_log_density_is_that_of_the_benchmark():
    """As Gal and Ghahramani compute it: log-sum-exp over draws of normal log densities, minus log of their number."""
    means, y = torch.randn(12, 30, dtype=torch.float64), torch.randn(30, dtype=torch.float64)
    found = log_predictive_density(Normal(means, 0.3), y)
    tau = 0.3**-2
    exponents = -0.5 * tau * (y - means).square().numpy()
    expected = scipy.special.logsumexp(exponents, 0) - np.log(12) - 0.5 * np.log(2 * np.pi) + 0.5 * np.log(tau)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("event_dims", [0, 1])
def test_the_numbers_of_a_target_are_averaged_together(event_dims):
    """The average is of their joint density under each draw. Kills the average of each number for itself."""
    means, y = torch.randn(5, 4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    found = log_predictive_density(Independent(Normal(means, 1.0), event_dims), y)
    expected = Normal(means, 1.0).log_prob(y).sum(-1).exp().mean(0).log()
    torch.testing.assert_close(found, expected)
    assert found.shape == (4,)


def test_the_log_density_does_not_underflow():
    far = torch.tensor([1000.0])
    assert log_predictive_density(Normal(torch.zeros(3, 1), 1.0), far).item() == pytest.approx(
        -500_000 - 0.919, rel=1e-6
    )


def test_counts_have_a_log_probability():
    found = log_predictive_density(Poisson(torch.tensor([[1.0], [3.0]])), torch.tensor([2]))
    expected = np.log(scipy.stats.poisson([1.0, 3.0]).pmf(2).mean())
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_the_total_variance_is_that_of_the_mixture():
    means, scales = torch.randn(6, 5, dtype=torch.float64), torch.rand(6, 5, dtype=torch.float64)
    found = predictive_variance(Normal(means, scales))
    second_moment = (scales.square() + means.square()).mean(0)
    torch.testing.assert_close(found.total, second_moment - means.mean(0).square())
    torch.testing.assert_close(found.total, found.aleatoric + found.epistemic)
    torch.testing.assert_close(found.aleatoric, scales.square().mean(0))


def test_draws_that_agree_leave_the_noise():
    found = predictive_variance(Normal(torch.ones(4, 3), 2.0))
    assert found.epistemic.tolist() == [0, 0, 0]
    assert found.total.tolist() == [4, 4, 4]


REAL = torch.zeros(3)
REFUSED = {
    "integers": (lambda: rmse(torch.zeros(3).long(), REAL), r"rmse: prediction is int64 of shape \(3,\); floating"),
    "(n, 1) for (n,)": (lambda: rmse(torch.zeros(3, 1), REAL), r"float32 of shape \(3, 1\).*shape \(3,\)"),
    "draws for a mean": (lambda: rmse(torch.zeros(5, 3), REAL), r"float32 of shape \(5, 3\)"),
    "nothing": (lambda: rmse(torch.zeros(0), torch.zeros(0)), "not empty"),
    "NaN target": (lambda: rmse(REAL, torch.tensor([0, NAN, 0])), "a number in the targets is NaN or infinite"),
    "NaN prediction": (lambda: rmse(torch.tensor([0, NAN, 0]), REAL), "a number in prediction is NaN"),
    "a mean for draws": (lambda: crps(REAL, REAL), r"crps: draws is float32 of shape \(3,\)"),
    "one draw": (lambda: crps(REAL[None], REAL), "at least 2 are needed"),
    "integer draws": (lambda: crps(torch.zeros(2, 3).long(), REAL), "crps: draws is int64"),
    "NaN draws": (lambda: crps(torch.full((2, 3), NAN), REAL), "a number in draws"),
    "swapped ends": (lambda: coverage(REAL + 1, REAL, REAL), "ends before it starts"),
    "swapped ends of a width": (lambda: interval_width(REAL + 1, REAL), "interval_width: an interval ends before"),
    "ends of other shapes": (lambda: coverage(REAL, torch.zeros(3, 1), REAL), r"coverage: high is .*\(3, 1\)"),
    "NaN end": (lambda: coverage(REAL, REAL + NAN, REAL), "a number in high"),
    "no draws": (lambda: log_predictive_density(Normal(REAL, 1.0), REAL), r"batch shape \(3,\); \(samples, n, ...\)"),
    "density, (n,) for (n, 1)": (
        lambda: log_predictive_density(Normal(torch.zeros(5, 3, 1), 1.0), REAL), r"unsqueeze\(-1\)",
    ),
    "density of NaN": (
        lambda: log_predictive_density(Normal(torch.zeros(5, 3), 1.0), REAL + NAN), "nan, which Normal cannot give",
    ),
    "density of no count": (
        lambda: log_predictive_density(Poisson(torch.ones(5, 3)), REAL + 0.5), "0.5, which Poisson cannot give",
    ),
    "variance without draws": (lambda: predictive_variance(Normal(REAL, 1.0)), r"shape \(3,\); \(samples, n, ...\)"),
    "infinite variance": (lambda: predictive_variance(StudentT(2.0, torch.zeros(5, 3))), "a finite mean and variance"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_mean_nothing_are_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        call()
