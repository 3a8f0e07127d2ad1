"""Likelihoods of real targets against SciPy's densities and closed forms of the maximum likelihood."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

import pyro_vd
from pyro_vd import Gaussian, HeteroscedasticGaussian, StudentT
from pyro_vd.errors import UserError
from tests.model._likelihoods import N, fit, maximize

MEAN, Y = torch.randn(2, 7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("learn_scale", [False, True])
def test_densities_are_those_of_scipy(learn_scale):
    gaussian = Gaussian(0.7, learn_scale=learn_scale)(MEAN).log_prob(Y).detach()
    np.testing.assert_allclose(gaussian, scipy.stats.norm(MEAN, 0.7).logpdf(Y), rtol=1e-6)
    student = StudentT(3.0, 0.7, learn_scale=learn_scale)(MEAN).log_prob(Y).detach()
    np.testing.assert_allclose(student, scipy.stats.t(3.0, MEAN, 0.7).logpdf(Y), rtol=1e-6)


def test_the_heteroscedastic_density_is_that_of_scipy():
    """Means first, then the logarithms of the scales."""
    log_scale = torch.randn(7, 2, dtype=torch.float64)
    target = HeteroscedasticGaussian(0.1)(torch.cat([MEAN, log_scale], -1))
    np.testing.assert_allclose(target.log_prob(Y), scipy.stats.norm(MEAN, 0.1 + log_scale.exp()).logpdf(Y), rtol=1e-10)


@pytest.mark.parametrize("kind", [Gaussian, StudentT])
def test_a_learned_scale_is_a_parameter_that_starts_at_the_given_one(kind):
    assert not list(kind(scale=0.3).parameters())
    (name, parameter), *others = kind(scale=0.3, learn_scale=True).named_parameters()
    assert (name, others, parameter.shape) == ("log_scale", [], ())
    assert parameter.item() == pytest.approx(math.log(0.3))
    assert kind(learn_scale=True).scale.item() == 1.0


def test_the_learned_scale_is_the_maximum_likelihood():
    """The standard deviation of the residuals of least squares."""
    x = torch.randn(N, 3)
    y = x.sum(-1, keepdim=True) + 0.3 * torch.randn(N, 1)
    likelihood = Gaussian(learn_scale=True)
    maximize(likelihood, y, x)
    design = torch.cat([x, torch.ones(N, 1)], 1)
    residuals = y - design @ torch.linalg.lstsq(design, y).solution
    assert likelihood.scale.item() == pytest.approx(residuals.square().mean().sqrt().item(), rel=1e-3)


def test_fit_learns_the_scale_and_saves_it(tmp_path):
    posterior = fit(Gaussian(learn_scale=True), torch.randn(N, 1))
    assert posterior.model.likelihood.log_scale.item() != 0.0
    posterior.save(tmp_path / "pair")
    other = fit(Gaussian(learn_scale=True), 10 * torch.randn(N, 1))
    other.load(tmp_path / "pair")
    assert torch.equal(other.model.likelihood.log_scale, posterior.model.likelihood.log_scale)


def test_an_outlier_does_not_move_students_t():
    y = torch.zeros(N, 1)
    y[0] = 1000.0
    x = torch.zeros(N, 1)
    mean, robust = (maximize(likelihood, y, x)[0].item() for likelihood in (Gaussian(1.0), StudentT(4, 1)))
    assert mean == pytest.approx(1000.0 / N, rel=1e-3)
    assert abs(robust) < 0.1


def test_the_noise_of_a_region_is_learned():
    """Of two groups of examples, each with its own standard deviation."""
    x = (torch.arange(400) % 2).float()[:, None]
    y = torch.where(x > 0, 0.5, 0.1) * torch.randn(400, 1)
    likelihood = HeteroscedasticGaussian()
    scales = likelihood(maximize(likelihood, y, x, outputs=2)).stddev
    for group in (0, 1):
        mean = y[x == group].mean()
        expected = (y[x == group] - mean).square().mean().sqrt().item()
        assert scales[x == group][0].item() == pytest.approx(expected, rel=0.01)


def test_a_likelihood_shows_its_numbers():
    assert str(Gaussian(0.5)) == "Gaussian(scale=0.5)"
    assert str(Gaussian(learn_scale=True)) == "Gaussian(scale=1, learn_scale=True)"
    assert str(StudentT(3.0, 2.0)) == "StudentT(df=3, scale=2)"
    assert str(HeteroscedasticGaussian()) == "HeteroscedasticGaussian(min_scale=0.001)"


ARGUMENTS = {
    "no scale": (lambda: Gaussian(), "Gaussian: give scale, a number above 0, or learn it with learn_scale=True"),
    "no scale of t": (lambda: StudentT(), "StudentT: give scale"),
    "scale 0": (lambda: Gaussian(0.0), r"Gaussian\(scale=0.0\): scale must be a finite number above 0"),
    "learned scale 0": (lambda: Gaussian(0.0, learn_scale=True), "scale=0.0"),
    "negative": (lambda: StudentT(3.0, -1.0), "scale=-1.0"),
    "NaN": (lambda: Gaussian(math.nan), "scale=nan"),
    "infinite": (lambda: HeteroscedasticGaussian(math.inf), "min_scale=inf"),
    "df": (lambda: StudentT(0.0, 1.0), r"StudentT\(df=0.0\)"),
    "a word": (lambda: Gaussian(True), r"Gaussian\(scale=True\)"),
    "no floor": (lambda: HeteroscedasticGaussian(0.0), "min_scale=0.0"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_out_of_range_are_refused(case):
    make, message = ARGUMENTS[case]
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("outputs", [1, 3])
def test_an_odd_number_of_outputs_is_refused_before_the_first_step(outputs):
    with pytest.raises(UserError, match=rf"has shape \({N}, {outputs}\).*a mean and a log_scale for every target"):
        fit(HeteroscedasticGaussian(), torch.randn(N, 1), outputs)


@pytest.mark.parametrize(
    ("likelihood", "outputs"), [(StudentT(learn_scale=True), 1), (HeteroscedasticGaussian(), 2), (Gaussian(1.0), 1)]
)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_targets_that_are_not_finite_are_named(likelihood, outputs, wrong):
    y = torch.zeros(N, 1)
    y[4] = wrong
    with pytest.raises(UserError, match=rf"y\[4, 0\] is {wrong}"):
        fit(likelihood, y, outputs)


def test_the_class_is_refused_with_what_to_give():
    with pytest.raises(TypeError, match="this is a class; pass an instance"):
        pyro_vd.lift(nn.Linear(3, 2), pyro_vd.Flat, HeteroscedasticGaussian, num_data=N)
