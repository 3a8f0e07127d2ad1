"""The loss along the gradient: quadratic functions, on which all measures are known, and pairs with noise."""

import copy
from dataclasses import replace

import pytest
import torch

from pyro_vd import Training
from pyro_vd.experiments.common.landscape_measures import find_moved, measure_landscape, measure_pair
from pyro_vd.experiments.common.pairs import make_pair
from pyro_vd.experiments.common.spec import Fit
from pyro_vd.inference.engine import Objective
from pyro_vd.models import VGGA

STEP_SIZES = (0.01, 0.1, 0.3)
NOISY = ("bernoulli", "gaussian_srivastava", "variational_a", "variational_b", "sparse")
FC = ("fc1.weight", "fc2.weight", "fc3.weight")


def make_quadratic(size=6, eigenvalues=None):
    """L(w) = w'Hw/2 + b'w in two tensors: H, b, the tensors, and the loss."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    values = torch.linspace(0.5, 4, size, dtype=torch.float64) if eigenvalues is None else eigenvalues
    hessian, b = basis @ values.diag() @ basis.T, torch.randn(size, generator=generator, dtype=torch.float64)
    w = torch.randn(size, generator=generator, dtype=torch.float64)
    parts = [w[:2].clone().requires_grad_(), w[2:].reshape(2, -1).clone().requires_grad_()]

    def loss():
        x = torch.cat([part.flatten() for part in parts])
        return x @ hessian @ x / 2 + b @ x

    return hessian, b, w, parts, loss


def test_all_measures_of_a_quadratic_loss_are_known():
    """g = Hw + b, L(w - eta g) = L - eta g'g + eta^2 g'Hg/2, gradient change eta |Hg|, smoothness |Hg|/|g|."""
    hessian, b, w, parts, loss = make_quadratic()
    found = measure_landscape(loss, parts, STEP_SIZES)
    g = hessian @ w + b
    value = w @ hessian @ w / 2 + b @ w
    assert found.loss == pytest.approx(value.item())
    assert found.norm == pytest.approx(g.norm().item())
    losses = [(value - eta * g @ g + eta**2 * g @ hessian @ g / 2).item() for eta in STEP_SIZES]
    assert found.losses == pytest.approx(losses)
    assert found.changes == pytest.approx([eta * (hessian @ g).norm().item() for eta in STEP_SIZES])
    assert found.smoothness == pytest.approx(((hessian @ g).norm() / g.norm()).item())
    assert 0.5 < found.smoothness < 4  # between the eigenvalues


def test_the_smoothness_along_an_eigenvector_is_its_eigenvalue():
    hessian, b, _, parts, loss = make_quadratic()
    optimum = -torch.linalg.solve(hessian, b)
    values, vectors = torch.linalg.eigh(hessian)
    for value, vector in zip(values, vectors.T, strict=True):
        w = optimum + vector  # the gradient is value * vector
        with torch.no_grad():
            parts[0].copy_(w[:2])
            parts[1].copy_(w[2:].reshape(2, -1))
        assert measure_landscape(loss, parts, STEP_SIZES).smoothness == pytest.approx(value.item())


def test_the_smoothness_is_the_largest_over_the_step_sizes():
    """L = w^4/4 from w = 1: the gradient changes by 1 - (1 - eta)^3, less per distance on longer steps."""
    w = torch.ones(1, dtype=torch.float64, requires_grad=True)
    found = measure_landscape(lambda: (w**4 / 4).sum(), [w], (0.1, 0.5))
    assert found.changes == pytest.approx((1 - 0.9**3, 1 - 0.5**3))
    assert found.smoothness == pytest.approx((1 - 0.9**3) / 0.1)
    assert measure_landscape(lambda: (w**4 / 4).sum(), [w], (0.5, 0.1)) == replace(
        found, losses=found.losses[::-1], changes=found.changes[::-1]
    )


def test_the_point_is_the_same_afterwards_bit_for_bit():
    *_, parts, loss = make_quadratic()
    before = copy.deepcopy(parts)
    measure_landscape(loss, parts, STEP_SIZES)
    assert all(torch.equal(one, other) for one, other in zip(parts, before, strict=True))
    assert all(part.grad is None for part in parts)


@pytest.mark.parametrize("eigenvalues", [torch.zeros(6, dtype=torch.float64), None], ids=["linear", "at the optimum"])
def test_where_the_gradient_does_not_change_the_smoothness_is_0(eigenvalues):
    _, b, _, parts, loss = make_quadratic(eigenvalues=eigenvalues)
    if eigenvalues is None:
        loss = lambda: sum((part * 0).sum() for part in parts)  # noqa: E731
    found = measure_landscape(loss, parts, STEP_SIZES)
    assert found.changes == (0.0,) * 3
    assert found.smoothness == 0.0
    assert found.norm == (0.0 if eigenvalues is None else pytest.approx(b.norm().item()))


# --- pairs


def make_objective(scheme, batch_norm=True):
    torch.manual_seed(0)
    fit = Fit(scheme=scheme, training=Training(epochs=1), select=None if scheme == "none" else FC)
    pair = make_pair(VGGA(3, 0.07, batch_norm), fit, 40)
    return Objective(pair.model, pair.guide).train()


def make_batch():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(8, 3, 32, 32, generator=generator), torch.randint(3, (8,), generator=generator)


BETA = torch.tensor(0.5)


@pytest.mark.parametrize("scheme", NOISY)
def test_with_the_same_noise_two_gradients_at_one_point_are_equal(scheme):
    """A step of size 0: the change is exactly 0, and that of another draw is not."""
    found, noise = measure_pair(make_objective(scheme), *make_batch(), BETA, (1e-30,), seed=3)
    assert found.changes == (0.0,)
    assert found.losses == (found.loss,)
    assert noise > 1e-4 * found.norm


def test_without_noise_a_new_draw_changes_nothing():
    found, noise = measure_pair(make_objective("none"), *make_batch(), BETA, STEP_SIZES, seed=3)
    assert noise == 0.0
    assert min(found.changes) > 0


@pytest.mark.parametrize("scheme", ["none", *NOISY])
def test_a_measurement_leaves_no_trace(scheme):
    """Parameters, running averages, gradients and random state."""
    objective = make_objective(scheme)
    state, rng = copy.deepcopy(objective.state_dict()), torch.get_rng_state()
    measure_pair(objective, *make_batch(), BETA, STEP_SIZES, seed=3)
    assert all(torch.equal(value, state[name]) for name, value in objective.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(parameter.grad is None for parameter in objective.parameters())


def test_the_loss_is_the_objective_per_example():
    objective, batch = make_objective("sparse"), make_batch()
    found, _ = measure_pair(objective, *batch, BETA, STEP_SIZES, seed=3)
    torch.manual_seed(3)
    assert found.loss == pytest.approx(objective(*batch, BETA)[0].item() / 40, rel=1e-5)


@pytest.mark.parametrize("scheme", NOISY)
def test_the_same_parameters_move_with_and_without_noise(scheme):
    plain, noisy = find_moved(make_objective("none")), find_moved(make_objective(scheme))
    assert sorted(tuple(p.shape) for p in noisy) == sorted(tuple(p.shape) for p in plain)
    learned = scheme in ("variational_a", "variational_b", "sparse")
    assert (len(noisy) < len(list(make_objective(scheme).parameters()))) is learned
