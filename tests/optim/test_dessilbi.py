"""DessiLBI against closed forms, against the iteration written out, and against torch's optimizers."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from pyro_vd import Categorical, Training, fit, fit_seeds, guides, lift, optim
from pyro_vd.errors import UserError
from pyro_vd.optim.dessilbi import DessiLBI, DessiLBIAdam, TorchDessiLBI, TorchDessiLBIAdam, shrink, unit_norms
from pyro_vd.optim.dessilbi_path import path_scores, support_masks, unit_masks

BETA = torch.tensor([[4.1, -2.1, 1.1, -0.51, 0.0]], dtype=torch.float64)  # the least-squares estimate


def minimize(weight, optimizer, gradient, steps):
    """Yields W, Z and Gamma after every step."""
    for _ in range(steps):
        weight.grad = gradient(weight.detach())
        optimizer.step()
        state = optimizer.state[weight]
        yield weight.detach().clone(), state["z"].clone(), state["gamma"].clone()


def train_orthogonal(steps, start=0.0, **options):
    """The lasso's loss with an orthogonal design, ||W - BETA||^2 / 2."""
    weight = nn.Parameter(torch.full_like(BETA, start))
    optimizer = TorchDessiLBI([weight], momentum=0.0, **options)
    return optimizer, weight, list(minimize(weight, optimizer, lambda w: w - BETA, steps))


# The closed form, by coordinate: until a coordinate enters, W contracts to nu beta / (1 + nu) and Z is its sum.


@pytest.mark.parametrize("start", [0.0, 0.3])
@pytest.mark.parametrize(("lr", "kappa", "nu"), [(0.01, 10.0, 1.0), (0.1, 2.0, 20.0), (0.05, 5.0, 0.5)])
def test_before_entry_the_path_is_a_geometric_series(start, lr, kappa, nu):
    steps = 400
    optimizer, weight, path = train_orthogonal(steps, start, lr=lr, kappa=kappa, nu=nu)
    limit = nu * BETA / (1 + nu)
    factor = 1 - kappa * lr * (1 + 1 / nu)
    entry = torch.zeros_like(BETA)
    for k, (w, z, gamma) in enumerate(path, start=1):
        expected = lr / nu * (k * limit + (start - limit) * (1 - factor**k) / (1 - factor))
        outside = entry == 0
        torch.testing.assert_close(z[outside], expected[outside])
        outside &= expected.abs() <= 1
        entry[(entry == 0) & ~outside] = k
        assert torch.equal(gamma != 0, entry > 0)
        still = limit + (start - limit) * factor**k
        torch.testing.assert_close(w[outside], still[outside])
    assert (entry > 0).sum() >= 2
    assert torch.equal(optimizer.state[weight]["entry"], entry)


def test_after_entry_the_path_is_a_power_of_a_matrix():
    """(W, Z, 1) of a coordinate with Gamma = kappa (Z - 1) obeys a linear recursion."""
    lr, kappa, nu, beta = 0.02, 5.0, 2.0, BETA[0, 0].item()
    optimizer, weight, path = train_orthogonal(300, lr=lr, kappa=kappa, nu=nu)
    entry = int(optimizer.state[weight]["entry"][0, 0])
    a = kappa * lr
    matrix = np.array(
        [
            [1 - a * (1 + 1 / nu), a * kappa / nu, a * (beta - kappa / nu)],
            [lr / nu, 1 - lr * kappa / nu, lr * kappa / nu],
            [0, 0, 1],
        ]
    )
    begin = np.array([path[entry - 1][0][0, 0].item(), path[entry - 1][1][0, 0].item(), 1.0])
    for k in (0, 1, 10, 299 - entry):
        w, z, _ = np.linalg.matrix_power(matrix, k) @ begin
        found = path[entry - 1 + k]
        assert found[0][0, 0].item() == pytest.approx(w)
        assert found[1][0, 0].item() == pytest.approx(z)
        assert found[2][0, 0].item() == pytest.approx(kappa * (z - 1))


def test_the_limit_is_the_inverse_scale_space():
    """Coordinate i enters at the time (1 + nu) / |beta_i|, and Gamma is then the least-squares estimate without bias:
    hard thresholding, not the lasso's soft thresholding."""
    nu, kappa, lr = 1.0, 1000.0, 2e-4
    optimizer, weight, path = train_orthogonal(13000, lr=lr, kappa=kappa, nu=nu)
    times = lr * optimizer.state[weight]["entry"]
    entered = times > 0
    torch.testing.assert_close(times[entered], ((1 + nu) / BETA.abs())[entered], rtol=0.01, atol=0)
    assert entered.tolist() == [[True, True, True, False, False]]
    for time in (0.25, 0.75, 1.5, 2.5):
        gamma = path[round(time / lr) - 1][2]
        expected = torch.where((1 + nu) / BETA.abs() < time, BETA, 0.0)
        torch.testing.assert_close(gamma, expected, rtol=0.01, atol=0)


def test_the_early_stopped_support_is_the_true_one():
    """A linear model with 5 of 60 true coefficients: they enter before all others, the largest first."""
    generator = torch.Generator().manual_seed(0)
    true = torch.zeros(1, 60, dtype=torch.float64)
    true[0, [3, 11, 25, 40, 58]] = torch.tensor([5.0, -4.0, 3.0, -2.0, 1.5], dtype=torch.float64)
    x = torch.randn(200, 60, generator=generator, dtype=torch.float64)
    y = x @ true.T + torch.randn(200, 1, generator=generator, dtype=torch.float64)
    weight = nn.Parameter(torch.zeros_like(true))
    optimizer = TorchDessiLBI([weight], lr=0.004, kappa=50.0, nu=1.0, momentum=0.0)
    path = minimize(weight, optimizer, lambda w: (x @ w.T - y).T @ x / 200, 5000)
    supports = [gamma != 0 for *_, gamma in path]
    assert any(torch.equal(support, true != 0) for support in supports)
    entry = optimizer.state[weight]["entry"][0]
    assert torch.equal(entry[true[0] != 0].argsort(), torch.arange(5))  # by magnitude, as they stand in the vector
    others = entry[true[0] == 0]
    assert entry[true[0] != 0].max() < others[others > 0].min()
    best = unit_masks({"w": weight}, path_scores(optimizer, {"w": weight}), sparsity=55 / 60)["w"]
    assert torch.equal(best, true != 0)


@pytest.mark.parametrize("kappa", [0.5, 3.0, 10.0])
def test_kappa_scales_the_path(kappa):
    """With kappa and targets that are kappa times as large, at the same kappa lr, W and Gamma are kappa times as large
    and Z is the same."""

    def train(scale, lr):
        weight = nn.Parameter(torch.zeros_like(BETA))
        optimizer = TorchDessiLBI([weight], lr=lr, kappa=scale, nu=2.0)
        return list(minimize(weight, optimizer, lambda w: w - scale * BETA, 100))

    for scaled, one in zip(train(kappa, 0.05 / kappa), train(1.0, 0.05), strict=True):
        torch.testing.assert_close(scaled, (kappa * one[0], one[1], kappa * one[2]))
    assert bool((one[2] != 0).any())


# The iteration written out, with gradients of a network.


def make_net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Tanh(), nn.Linear(36, 3)).double()
    for parameter in net.parameters():
        parameter.data *= 3  # units enter within a few steps
    return net


def set_gradients(net, step):
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, 1, 5, 5, generator=generator, dtype=torch.float64)
    net.zero_grad()
    nn.functional.cross_entropy(net(x), torch.arange(8) % 3).backward()


def shrink_by_hand(z):
    shrunk = torch.zeros_like(z)
    if z.ndim == 2:
        for place in np.ndindex(*z.shape):
            shrunk[place] = math.copysign(max(abs(z[place].item()) - 1, 0), z[place].item())
        return shrunk
    for number, one in enumerate(z):
        length = math.sqrt(float((one**2).sum()))
        if length > 1:
            shrunk[number] = one * (length - 1) / length
    return shrunk


class Momentum:
    def __init__(self, momentum):
        self.momentum, self.buffer = momentum, 0.0

    def __call__(self, gradient):
        self.buffer = self.momentum * self.buffer + gradient
        return self.buffer


class Adam:
    def __init__(self, first, second, eps):
        self.first, self.second, self.eps = first, second, eps
        self.mean, self.square, self.count = 0.0, 0.0, 0

    def __call__(self, gradient):
        self.count += 1
        self.mean = self.first * self.mean + (1 - self.first) * gradient
        self.square = self.second * self.square + (1 - self.second) * gradient**2
        mean, square = self.mean / (1 - self.first**self.count), self.square / (1 - self.second**self.count)
        return mean / (square**0.5 + self.eps)


def train_by_hand(net, make_direction, steps, lr, kappa, nu, weight_decay):
    """The iteration by parameter; returns Z and Gamma by name."""
    states = {name: [0.0 * p.detach(), 0.0 * p.detach(), make_direction()] for name, p in net.named_parameters()}
    for step in range(steps):
        set_gradients(net, step)
        for name, parameter in net.named_parameters():
            z, gamma, direction = states[name]
            is_weight = parameter.ndim > 1
            d = direction(parameter.grad + is_weight * weight_decay * parameter.detach())
            old = parameter.detach().clone()
            if not is_weight:
                parameter.data = old - kappa * lr * d
                continue
            parameter.data = old - kappa * lr * (d + (old - gamma) / nu)
            states[name][0] = z - lr / nu * (gamma - old)
            states[name][1] = kappa * shrink_by_hand(states[name][0])
    return states


CASES = [
    (TorchDessiLBI, {"momentum": 0.9}, lambda: Momentum(0.9)),
    (TorchDessiLBI, {"momentum": 0.0}, lambda: Momentum(0.0)),
    (TorchDessiLBIAdam, {"betas": (0.8, 0.95), "eps": 1e-3}, lambda: Adam(0.8, 0.95, 1e-3)),
]


@pytest.mark.parametrize(("kind", "options", "make_direction"), CASES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_iteration_is_the_one_written_out(kind, options, make_direction, weight_decay):
    net, other = make_net(), make_net()
    common = {"lr": 0.4, "kappa": 0.25, "nu": 1.5, "weight_decay": weight_decay}
    optimizer = kind(net.parameters(), **common, **options)
    steps = 80
    for step in range(steps):
        set_gradients(net, step)
        optimizer.step()
    states = train_by_hand(other, make_direction, steps, **common)
    close = {"rtol": 1e-5, "atol": 1e-5}  # Adam counts in float32
    sizes = []
    for (name, own), (_, expected) in zip(net.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(own, expected, **close)
        if own.ndim > 1:
            torch.testing.assert_close(optimizer.state[own]["z"], states[name][0], **close)
            torch.testing.assert_close(optimizer.state[own]["gamma"], states[name][1], **close)
            sizes.append((states[name][1] != 0).double().mean().item())
    assert all(size > 0 for size in sizes)
    assert any(size < 1 for size in sizes)


@pytest.mark.parametrize(
    ("kind", "options", "reference"),
    [
        (TorchDessiLBI, {"momentum": 0.9}, lambda p, lr, wd: torch.optim.SGD(p, lr, momentum=0.9, weight_decay=wd)),
        (TorchDessiLBI, {"momentum": 0.0}, lambda p, lr, wd: torch.optim.SGD(p, lr, weight_decay=wd)),
        (TorchDessiLBIAdam, {}, lambda p, lr, wd: torch.optim.Adam(p, lr, weight_decay=wd)),
    ],
)
@pytest.mark.parametrize("nu", [1e12, math.inf])
def test_without_coupling_it_is_torchs_optimizer(kind, options, reference, nu):
    net, other = make_net(), make_net()
    weights = [p for p in other.parameters() if p.ndim > 1]
    biases = [p for p in other.parameters() if p.ndim < 2]
    references = [reference(weights, 0.02, 0.1), reference(biases, 0.02, 0.0)]
    optimizer = kind(net.parameters(), lr=0.01, kappa=2.0, nu=nu, weight_decay=0.1, **options)
    for step in range(20):
        set_gradients(net, step)
        optimizer.step()
        set_gradients(other, step)
        for one in references:
            one.step()
    torch.testing.assert_close(list(net.parameters()), list(other.parameters()))
    assert not any(bool(state["gamma"].any()) for state in optimizer.state.values() if "gamma" in state)
    assert ("gamma" in optimizer.state[net[0].weight]) == math.isfinite(nu)


def test_shrinkage_by_hand():
    z = torch.zeros(3, 1, 2, 2)
    z[0, 0] = torch.tensor([[3.0, 0.0], [0.0, 4.0]])  # norm 5: times 4/5
    z[1, 0] = torch.tensor([[0.5, 0.5], [0.5, 0.5]])  # norm 1: 0
    assert torch.equal(unit_norms(z).flatten(), torch.tensor([5.0, 1.0, 0.0]))
    torch.testing.assert_close(shrink(z)[0, 0], torch.tensor([[2.4, 0.0], [0.0, 3.2]]))
    assert not shrink(z)[1:].any()
    flat = torch.tensor([[3.0, -1.5], [1.0, -0.2]])
    torch.testing.assert_close(shrink(flat), torch.tensor([[2.0, -0.5], [0.0, 0.0]]))
    assert (shrink(flat) != 0).tolist() == [[True, True], [False, False]]


def test_a_unit_that_leaves_the_support_keeps_its_entry():
    weight = nn.Parameter(torch.full((1, 1), 2.0, dtype=torch.float64))
    optimizer = TorchDessiLBI([weight], lr=0.5, kappa=1.0, nu=1.0, momentum=0.0)
    sign = [1.0] * 6 + [-1.0] * 30 + [1.0] * 60
    path = [next(minimize(weight, optimizer, lambda w, s=s: w - 4 * s, 1))[2].item() != 0 for s in sign]
    first = path.index(True) + 1
    assert False in path[first:]
    assert path[-1]
    assert optimizer.state[weight]["entry"].item() == first


# A torch optimizer like any other.


@pytest.mark.parametrize(("kind", "options"), [(TorchDessiLBI, {}), (TorchDessiLBIAdam, {})])
def test_a_state_dict_continues_the_same_run(kind, options, tmp_path):
    def train(net, optimizer, steps):
        for step in steps:
            set_gradients(net, step)
            optimizer.step()

    options = {"lr": 0.4, "kappa": 0.25, "nu": 1.5, **options}
    net = make_net()
    optimizer = kind(net.parameters(), **options)
    train(net, optimizer, range(10))
    torch.save((net.state_dict(), optimizer.state_dict()), tmp_path / "state.pt")
    train(net, optimizer, range(10, 20))

    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    other = make_net()
    other.load_state_dict(weights)
    resumed = kind(other.parameters(), lr=1.0)
    resumed.load_state_dict(state)
    train(other, resumed, range(10, 20))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert optimizer.state[a].keys() == resumed.state[b].keys()
        assert all(torch.equal(optimizer.state[a][key], resumed.state[b][key]) for key in optimizer.state[a])
    assert optimizer.state[net[3].weight]["entry"].max() > 10


def test_a_closure_is_called_with_gradients_and_its_loss_returned():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = TorchDessiLBI([weight], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    assert bool((weight < 1).all())
    assert optimizer.step() is None


def test_groups_have_their_own_numbers():
    one, two, three = (nn.Parameter(torch.ones(1, 1)) for _ in range(3))
    groups = [{"params": [one]}, {"params": [two], "nu": 1.0, "lr": 1.0}, {"params": [three], "nu": math.inf}]
    optimizer = TorchDessiLBI(groups, lr=0.5, kappa=0.1, nu=2.0, momentum=0.0)
    for weight in (one, two, three):
        weight.grad = torch.ones(1, 1)
    optimizer.step()
    assert one.item() == pytest.approx(1 - 0.05 * 1.5)
    assert two.item() == pytest.approx(1 - 0.1 * 2)
    assert three.item() == pytest.approx(1 - 0.05)
    assert optimizer.state[one]["z"].item() == pytest.approx(0.25)
    assert optimizer.state[two]["z"].item() == pytest.approx(1.0)
    with pytest.raises(UserError, match="none of the parameters has a Gamma"):
        support_masks(optimizer, {"three": three})


def test_parameters_without_a_gradient_stay():
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = TorchDessiLBI([used, unused], lr=0.1)
    used.sum().backward()
    optimizer.step()
    assert torch.equal(unused, torch.ones(2, 2))
    assert unused not in optimizer.state


def test_a_copy_is_another_optimizer():
    weight = nn.Parameter(torch.ones(1, 1))
    optimizer = TorchDessiLBI([weight], lr=0.1)
    weight.grad = torch.ones(1, 1)
    optimizer.step()
    other = copy.deepcopy(optimizer)
    optimizer.step()
    (old,) = other.param_groups[0]["params"]
    assert other.state[old]["step"].item() == 1
    assert optimizer.state[weight]["step"].item() == 2


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (TorchDessiLBI, {"lr": -1.0}, "lr=-1 must be a finite number from 0"),
        (TorchDessiLBI, {"lr": float("nan")}, "lr=nan must be"),
        (TorchDessiLBI, {"lr": "fast"}, "lr='fast' must be a number"),
        (TorchDessiLBI, {"kappa": 0.0}, "kappa=0 must be more than 0"),
        (TorchDessiLBI, {"kappa": math.inf}, "kappa=inf must be a finite number"),
        (TorchDessiLBI, {"nu": 0.0}, "nu=0 must be more than 0"),
        (TorchDessiLBI, {"nu": -3.0}, "nu=-3 must be"),
        (TorchDessiLBI, {"momentum": 1.0}, "momentum=1 must be less than 1"),
        (TorchDessiLBI, {"momentum": -0.1}, "momentum=-0.1 must be"),
        (TorchDessiLBI, {"weight_decay": -1.0}, "weight_decay=-1 must be"),
        (TorchDessiLBIAdam, {"betas": (0.9, 1.0)}, r"betas=\(0.9, 1.0\) must be less than 1"),
        (TorchDessiLBIAdam, {"betas": (0.9,)}, r"betas=\(0.9,\) must be two numbers"),
        (TorchDessiLBIAdam, {"eps": -1.0}, "eps=-1 must be"),
    ],
)
def test_bad_numbers_are_refused(kind, options, message):
    weight = nn.Parameter(torch.ones(1, 1))
    with pytest.raises(UserError, match=message):
        kind([weight], **{"lr": 0.1, **options})
    optimizer = kind([nn.Parameter(torch.ones(1, 1))], lr=0.1)
    with pytest.raises(UserError, match=message):
        optimizer.add_param_group({"params": [weight], **options})
    assert len(optimizer.param_groups) == 1


def test_bad_parameters_and_gradients_are_refused():
    half = nn.Parameter(torch.ones(1, 1, dtype=torch.bfloat16))
    with pytest.raises(UserError, match=r"parameters of torch.bfloat16 would lose the small steps of Z"):
        TorchDessiLBI([half], lr=0.1)
    embedding = nn.Embedding(3, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(UserError, match="a gradient is sparse"):
        TorchDessiLBI(embedding.parameters(), lr=0.1).step()


# In fit.


def make_data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 1, 5, 5, generator=generator)
    return x, (3 * x[:, 0, 1, 1]).floor().long().clamp(0, 2)


def make_pair(scheme="none", seed=0):
    if seed is not None:
        torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Tanh(), nn.Linear(36, 3))
    scheme = guides.SCHEMES[scheme]
    model = lift(net, scheme.prior, Categorical, num_data=60)
    return net, model, scheme.Guide(model)


VALUES = [
    DessiLBI(kappa=0.5, nu=2.0, momentum=0.8, weight_decay=0.01),
    DessiLBIAdam(kappa=0.05, nu=2.0, weight_decay=0.01),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_fit_is_a_loop_with_the_torch_optimizer(value):
    """Full batches, so that the order of the examples does not matter."""
    net, model, guide = make_pair()
    x, y = make_data()
    training = Training(epochs=40, batch_size=60, lr=0.3, optimizer=value)
    posterior = fit(model, guide, (x, y), training, engine="eager", progress=False)
    optimizer = value.make([{"params": list(net.parameters()), "lr": 0.3}])
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    trained = dict(posterior.mean().named_parameters())
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(trained[name], parameter, rtol=1e-4, atol=1e-5)
    theta = dict(guide.theta.named_parameters())
    own = support_masks(optimizer, dict(net.named_parameters()))
    found = support_masks(posterior.optimizer, theta)
    assert found.keys() == own.keys() == {"0.weight", "3.weight"}
    assert all(torch.equal(found[name], own[name]) for name in own)
    assert any(bool(mask.any()) for mask in own.values())


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_the_compiled_step_is_the_eager_one(value):
    results = {}
    for engine in ("eager", "compiled"):
        _, model, guide = make_pair()
        training = Training(epochs=6, batch_size=20, lr=0.3, optimizer=value)
        posterior = fit(model, guide, make_data(), training, engine=engine, progress=False, seed=0)
        states = [posterior.optimizer.state[p] for p in guide.theta.parameters()]
        results[engine] = (list(posterior.mean().parameters()), [state["z"] for state in states],
                           [state["entry"] for state in states])  # fmt: skip
    torch.testing.assert_close(results["eager"], results["compiled"], rtol=1e-4, atol=1e-4)
    assert any(bool(entry.any()) for entry in results["eager"][2])


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_seed_has_the_path_that_it_has_alone(value, engine):
    training = Training(epochs=12, batch_size=20, lr=0.3, optimizer=value)

    def make():
        return make_pair(seed=None)[1:]

    together = fit_seeds(make, make_data(), training, seeds=[3, 7], engine=engine, progress=False)
    entries = []
    for seed, posterior in zip([3, 7], together, strict=True):
        torch.manual_seed(seed)
        alone = fit(*make(), make_data(), training, engine="eager", progress=False, seed=seed)
        for own, other in zip(posterior.guide.theta.parameters(), alone.guide.theta.parameters(), strict=True):
            found, expected = posterior.optimizer.state[own], alone.optimizer.state[other]
            torch.testing.assert_close(found["z"], expected["z"], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found["entry"], expected["entry"], rtol=0, atol=0)
            entries.append(found["entry"])
    conv, _, other_conv, _ = entries
    assert bool(conv.any())
    assert not torch.equal(conv, other_conv)


def test_a_posterior_keeps_the_optimizer_only_for_its_path():
    """The moments of another would keep twice the memory of the parameters alive."""
    for value, is_kept in ((optim.Adam(), False), (optim.SGD(momentum=0.9), False), (optim.DessiLBI(), True)):
        _, model, guide = make_pair()
        posterior = fit(model, guide, make_data(), epochs=1, optimizer=value, engine="eager", progress=False)
        assert (posterior.optimizer is not None) is is_kept


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_fit_resumes_the_path(value, tmp_path):
    def run(epochs, checkpoint):
        _, model, guide = make_pair()
        training = Training(epochs=epochs, batch_size=20, lr=0.3, optimizer=value)
        posterior = fit(model, guide, make_data(), training, engine="eager", progress=False, seed=0,
                        checkpoint=tmp_path / checkpoint)  # fmt: skip
        return posterior, [dict(posterior.optimizer.state[p]) for p in guide.theta.parameters()]

    whole, expected = run(8, "whole")
    run(4, "parts")
    for _ in range(2):  # the second time it is finished, and only loaded
        resumed, found = run(8, "parts")
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert all(
            torch.equal(a, b) for a, b in zip(whole.mean().parameters(), resumed.mean().parameters(), strict=True)
        )


def test_noise_parameters_have_no_gamma():
    """A sparse copy of a log variance would have no meaning."""
    _, model, guide = make_pair("sparse")
    training = Training(epochs=1, batch_size=20, lr=0.01, optimizer=DessiLBI())
    state = fit(model, guide, make_data(), training, engine="eager", progress=False).optimizer.state
    assert all("gamma" in state[parameter] for parameter in guide.theta.parameters())
    noise = [parameter for name, parameter in guide.named_parameters() if "log_sigma2" in name]
    assert noise
    assert all(state[parameter].keys() == {"step", "momentum_buffer"} for parameter in noise)
