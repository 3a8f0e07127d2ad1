"""matmul_precision rounds the means' products and nothing else, in every engine."""

import pyro
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyro_vd import LogUniform, fit, guides, lift
from pyro_vd.errors import CheckpointError
from pyro_vd.handlers import local_reparam, matmul_precision
from pyro_vd.inference.engine import EagerStep, Engine, Objective
from pyro_vd.model.likelihoods import Categorical
from pyro_vd.posteriors import WeightNormal

ROUNDED = torch.bfloat16
N, FEATURES, CLASSES = 60, 7, 3

OPS = {
    "linear": (F.linear, (4, 7), (5, 7)),
    "conv1d": (F.conv1d, (4, 7, 9), (5, 7, 3)),
    "conv2d": (F.conv2d, (4, 7, 6, 6), (5, 7, 3, 3)),
    "conv_transpose2d": (F.conv_transpose2d, (4, 7, 6, 6), (7, 5, 3, 3)),
    "matmul": (torch.matmul, (4, 7), (7, 5)),
    "@": (torch.Tensor.__matmul__, (4, 7), (7, 5)),
    "mm": (torch.mm, (4, 7), (7, 5)),
    "bmm": (torch.bmm, (2, 4, 7), (2, 7, 5)),
}


def rounded(op, *tensors):
    return op(*(tensor.to(ROUNDED) for tensor in tensors)).float()


@pytest.mark.parametrize("name", list(OPS))
def test_a_product_rounds_its_arguments_and_gives_float32(name):
    op, *shapes = OPS[name]
    x, w = map(torch.randn, shapes)
    with matmul_precision(ROUNDED):
        result, other = op(x, w), x.exp()
    assert result.dtype == torch.float32
    assert torch.equal(result, rounded(op, x, w))
    assert not torch.equal(result, op(x, w))
    assert torch.equal(other, x.exp())


def test_other_types_and_operations_stay():
    x, w = torch.randn(4, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    with matmul_precision(ROUNDED):
        assert torch.equal(F.linear(x, w), x @ w.T)
        assert F.linear(x, w).dtype == torch.float64
        assert torch.equal(
            torch.arange(4).reshape(2, 2) @ torch.ones(2, 2, dtype=torch.int64), torch.tensor([[1, 1], [5, 5]])
        )
        assert (x.float() * w.float()[:4]).dtype == torch.float32


def test_an_error_inside_leaves_nothing_behind():
    x, w = torch.randn(4, 7), torch.randn(5, 7)
    exact = F.linear(x, w)
    with pytest.raises(RuntimeError), matmul_precision(ROUNDED):
        F.linear(x, w.T)
    assert torch.equal(F.linear(x, w), exact)


# Mutants: the variance rounded, the noise rounded, the mean not rounded.
@pytest.mark.parametrize("name", ["linear", "conv1d", "conv2d", "conv_transpose2d", "matmul"])
def test_under_local_reparam_only_the_mean_is_rounded(name):
    op, *shapes = OPS[name]
    x, theta = map(torch.randn, shapes)
    log_sigma2 = torch.randn(shapes[1])
    with matmul_precision(ROUNDED), local_reparam():
        w = pyro.sample("w", WeightNormal(theta, log_sigma2=log_sigma2).to_event(theta.ndim))
        torch.manual_seed(3)
        result = op(x, w)
    torch.manual_seed(3)
    mean, deviation = rounded(op, x, theta), op(x.square(), log_sigma2.exp()).sqrt()
    assert torch.equal(result, mean + deviation * torch.randn(mean.shape))


@pytest.mark.parametrize("op", [torch.matmul, torch.mm, lambda w, x: w @ x, lambda w, x: w.matmul(x)])
def test_the_variance_of_a_weight_on_the_left_is_not_rounded(op):
    """PyTorch asks the weight's type first there, with the mode still on."""
    theta, log_sigma2, x = torch.randn(5, 7), torch.randn(5, 7), torch.randn(7, 4)
    with matmul_precision(ROUNDED), local_reparam():
        w = pyro.sample("w", WeightNormal(theta, log_sigma2=log_sigma2).to_event(2))
        torch.manual_seed(3)
        result = op(w, x)
    torch.manual_seed(3)
    mean, deviation = rounded(torch.matmul, theta, x), (log_sigma2.exp() @ x.square()).sqrt()
    assert torch.equal(result, mean + deviation * torch.randn(mean.shape))


def test_regions_nest_and_end():
    x, w = torch.randn(4, 7), torch.randn(5, 7)
    mode = matmul_precision(ROUNDED)
    with mode:
        with mode:
            assert torch.equal(F.linear(x, w), rounded(F.linear, x, w))
        assert torch.equal(F.linear(x, w), rounded(F.linear, x, w))
    assert not torch.equal(F.linear(x, w), rounded(F.linear, x, w))


SCHEMES = ["none", "bernoulli", "variational_a", "sparse", "group_normal_jeffreys"]


def objective_of(scheme, precision, estimator="local", net=None):
    torch.manual_seed(0)
    chosen = guides.SCHEMES[scheme]
    net = net or nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, CLASSES))
    model = lift(net, chosen.prior, Categorical, num_data=N)
    return Objective(model, chosen.Guide(model), estimator, matmul_dtype=precision).train()


def batch(size=12):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, FEATURES, generator=generator), torch.arange(size) % CLASSES


def loss_and_gradients(objective):
    torch.manual_seed(2)
    loss, _, kl = objective(*batch(), torch.tensor(0.5))
    objective.zero_grad()
    loss.backward()
    return loss.detach(), kl.detach(), {name: p.grad for name, p in objective.named_parameters()}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_objective_in_bfloat16_is_near_and_its_kl_and_gradients_are_float32(scheme):
    exact, near = (loss_and_gradients(objective_of(scheme, precision)) for precision in ("float32", "bfloat16"))
    assert torch.equal(near[1], exact[1])
    assert near[0] != exact[0]
    torch.testing.assert_close(near[0], exact[0], rtol=2e-2, atol=0)
    for name, gradient in near[2].items():
        assert gradient.dtype == torch.float32
        error = (gradient - exact[2][name]).norm() / exact[2][name].norm().clamp(min=1e-6)
        assert error < 0.1, name


def test_flipout_and_weight_draws_are_rounded_too():
    for estimator in ("flipout", "weights"):
        exact, near = (loss_and_gradients(objective_of("sparse", p, estimator))[0] for p in ("float32", "bfloat16"))
        assert near != exact
        torch.testing.assert_close(near, exact, rtol=2e-2, atol=0)


@pytest.mark.parametrize("scheme", ["none", "sparse"])
def test_a_compiled_step_rounds_as_an_eager_one(scheme, quick_compiler):
    ends = []
    for mode in ("eager", "compiled"):
        objective = objective_of(scheme, "bfloat16")
        engine = Engine(EagerStep(objective, 0.01), mode)
        x, y = batch()
        if mode == "compiled":
            engine.compile((x, y))
        torch.manual_seed(5)
        first = engine.step((x, y), torch.ones(()))
        ends.append((first.log_likelihood, {name: p.detach().clone() for name, p in objective.named_parameters()}))
    torch.testing.assert_close(ends[0][0], ends[1][0], rtol=1e-6, atol=0)
    for name, value in ends[0][1].items():
        torch.testing.assert_close(value, ends[1][1][name], rtol=1e-3, atol=1e-5)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="float32, bfloat16"):
        objective_of("sparse", "float16")


def test_a_fit_in_another_precision_does_not_go_on_from_a_checkpoint(tmp_path):
    x, y = batch(N)
    arguments = {"epochs": 1, "checkpoint": tmp_path / "run", "engine": "eager", "progress": False}

    def pair():
        model = lift(nn.Linear(FEATURES, CLASSES), LogUniform, Categorical, num_data=N)
        return model, guides.sparse.Guide(model)

    fit(*pair(), (x, y), matmul_dtype="bfloat16", **arguments)
    with pytest.raises(CheckpointError, match="matmul_dtype was bfloat16, is float32"):
        fit(*pair(), (x, y), **arguments)
