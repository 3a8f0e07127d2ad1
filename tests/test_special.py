import mpmath as mp
import pytest
import torch
from torch.autograd import gradcheck

from pyro_vd.special import COEFFICIENTS, KNEE, TERMS, dawson_excess
from tests.reference import dawson as reference

R = [0.0, 1e-30, 1e-12, 1e-6, 1e-3, 0.1, 1.0, 5.9, 6.0, 50.0, 119.0, 121.0, 1e4, 1e9, 1e20, 1e30]


# Mutants: any digit of the table, a knee or length that the table was not made for.
def test_table_is_a_fresh_computation():
    fresh = reference.coefficients()
    assert KNEE == reference.KNEE
    assert len(COEFFICIENTS) == len(fresh) == max(TERMS.values())
    assert max(abs(float(c) - held) for c, held in zip(fresh, COEFFICIENTS, strict=True)) < 1e-16


# Mutant: the reference itself (both branches of it): Dawson's integral, by quadrature.
@pytest.mark.parametrize("r", [1e-4, 0.3, 4.0, 100.0, 119.9, 120.1, 400.0])
def test_reference_is_twice_the_integral_of_dawsons_function(r):
    def dawson(t):
        return mp.sqrt(mp.pi) / 2 * mp.exp(-t * t) * mp.erfi(t)

    with mp.workdps(30):
        integral = 2 * mp.quad(dawson, mp.linspace(0, mp.sqrt(mp.mpf(r) / 2), 6))
        assert abs(integral - reference.log_uniform_kl(r)) < mp.mpf(10) ** -25


# Mutant: the reference's slope (both branches), by differencing its value.
@pytest.mark.parametrize("log_alpha", [-20, -5, -4.8, -1, 0, 3, 20])
def test_reference_slope_is_the_derivative(log_alpha):
    slope = mp.diff(lambda la: reference.log_uniform_kl(mp.exp(-la)), log_alpha)
    assert abs(slope / reference.log_uniform_kl_slope(log_alpha) - 1) < 1e-15


# Mutants: v for v^2, 2v + 1 for 2v - 1, fewer terms in float64 (40 terms: 2e-12).
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 3e-7)])
def test_excess_is_exact_to_the_promised_error(dtype, bound):
    r = torch.tensor(R, dtype=dtype)
    truth = [float(reference.log_uniform_kl(x) - mp.log1p(x) / 2) for x in map(mp.mpf, r.tolist())]
    error = dawson_excess(r).double() - torch.tensor(truth, dtype=torch.float64)
    assert error.abs().max() < bound


# Mutant: a slope that is not the value's (a custom backward, a truncated derivative).
def test_gradcheck():
    r = torch.tensor([1e-3, 0.5, 6.0, 60.0, 1e3], dtype=torch.float64, requires_grad=True)
    assert gradcheck(dawson_excess, (r,), rtol=1e-6, atol=1e-9)


# Mutant: any pole at 0 or overflow at the far end.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends_are_finite_with_finite_slopes(dtype):
    r = torch.tensor([0.0, 1e-45, 1e38], dtype=dtype, requires_grad=True)
    value = dawson_excess(r)
    (slope,) = torch.autograd.grad(value.sum(), r)
    assert slope.isfinite().all()
    limit = float(reference.LIMIT)
    torch.testing.assert_close(value, torch.tensor([0.0, 0.0, limit], dtype=dtype), rtol=1e-6, atol=1e-30)


# Mutant: half precision computed silently.
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_refuses_half_precision(dtype):
    with pytest.raises(TypeError, match=str(dtype)):
        dawson_excess(torch.ones(1, dtype=dtype))
