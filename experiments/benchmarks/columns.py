"""The training steps that are compared: a column is a function that returns a step (x, y) -> anything.

The hand-written columns are sparse variational dropout without a library, as in public code: layers with theta,
log_sigma2, the published KL and train-time masking. Nothing is checked and no parameter is kept in bounds; the library
does both.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import cast

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.infer import SVI, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroSample
from pyro.nn.module import to_pyro_module_
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from pyro_vd import Categorical, guides, lift
from pyro_vd.inference.engine import EagerStep, Engine, EngineName, Ensemble, Objective

__all__ = ["COLUMNS", "EAGER", "FLOOR", "GRAPH", "HAND", "OURS", "Column", "HandWritten", "Noisy", "Step",
           "columns_on", "ours"]  # fmt: skip

Step = Callable[[Tensor, Tensor], object]
Column = Callable[[nn.Module, int, Tensor], Step]  # network, number of training examples, a batch of inputs
LR = 1e-3
LOG_SIGMA2, THRESHOLD, EPS = -10.0, 3.0, 1e-8


class Noisy(nn.Module):
    """A linear or convolution layer whose output is sampled."""

    def __init__(self, layer: nn.Linear | nn.Conv2d):
        super().__init__()
        self.theta, self.bias = layer.weight, layer.bias
        self.log_sigma2 = nn.Parameter(torch.full_like(layer.weight, LOG_SIGMA2))
        self.geometry = (layer.stride, layer.padding) if isinstance(layer, nn.Conv2d) else None

    def log_alpha(self) -> Tensor:
        return (self.log_sigma2 - 2 * (self.theta.abs() + EPS).log()).clamp(-10, 10)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.apply_weight(x, self.theta * (self.log_alpha() < THRESHOLD), self.bias)
        variance = self.apply_weight(x.square(), self.log_sigma2.exp(), None)
        return mean + (variance + EPS).sqrt() * torch.randn_like(mean)

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.geometry is None:
            return F.linear(x, weight, bias)
        stride, padding = self.geometry
        return F.conv2d(x, weight, bias, stride, padding)

    def kl(self) -> Tensor:
        log_alpha = self.log_alpha()
        fit = 0.63576 * (1.8732 + 1.48695 * log_alpha).sigmoid()
        return (0.5 * F.softplus(-log_alpha) - fit + 0.63576).sum()


class HandWritten(nn.Module):
    """The network with noisy layers for its linear and convolution layers; forward gives the loss over n examples."""

    def __init__(self, net: nn.Module, n: int):
        super().__init__()
        self.net, self.n = copy.deepcopy(net), n
        layers = {name: m for name, m in self.net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
        for name, layer in layers.items():
            owner, _, attribute = name.rpartition(".")
            setattr(self.net.get_submodule(owner), attribute, Noisy(layer))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        kl = sum(module.kl() for module in self.net.modules() if isinstance(module, Noisy))
        return self.n * F.cross_entropy(self.net(x), y) + kl


def ours(engine: EngineName, net: nn.Module, n: int, x: Tensor, seeds: int = 1) -> Step:
    """``seeds`` copies step at once, on copies of the batch."""
    scheme = guides.sparse
    pairs = []
    for _ in range(seeds):
        model = lift(copy.deepcopy(net), scheme.prior, Categorical, n)
        objective = Objective(model, scheme.Guide(model), threshold=THRESHOLD).to(x.device).train()
        pairs.append(EagerStep(objective, LR))
    beta = torch.ones((), device=x.device)
    if seeds == 1:
        one = Engine(pairs[0], engine)
        return lambda x, y: one.step((x, y), beta)
    many = Engine(Ensemble(pairs), engine)
    return lambda x, y: many.step(
        (x.expand(seeds, *x.shape).contiguous(), y.expand(seeds, *y.shape).contiguous()), beta
    )


def hand_written(compiled: bool, fused: bool, net: nn.Module, n: int, x: Tensor) -> Step:
    return _by_backward(HandWritten(net, n), compiled, fused)


def hand_written_as_one_graph(net: nn.Module, n: int, x: Tensor) -> Step:
    """The fastest step found in plain PyTorch: torch.func's gradient and Adam's rule in one compiled call."""
    module = HandWritten(net, n)
    parameters = {name: p.detach().clone() for name, p in module.named_parameters()}
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in parameters.items()}
    count = torch.zeros((), device=x.device)

    def loss_of(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        fresh = {name: b.clone() for name, b in buffers.items()}  # torch.func refuses in-place changes of these
        return functional_call(module, parameters | fresh, (x, y))

    def step(x: Tensor, y: Tensor) -> Tensor:
        gradients, loss = grad_and_value(loss_of)(parameters, x, y)
        count.add_(1)
        root = (1 - 0.999**count).sqrt()
        rate = LR * root / (1 - 0.9**count)
        for name, gradient in gradients.items():
            first, second = moments[name]
            first.copy_(first + 0.1 * (gradient - first))
            second.copy_(0.999 * second + 0.001 * gradient * gradient)
            parameters[name].sub_(rate * first / (second.sqrt() + 1e-8 * root))
        return loss

    options: dict[str, str | int | bool | Callable] = (
        {} if x.is_cuda else {"fallback_random": True, "cpp_wrapper": True}
    )
    return torch.no_grad()(torch.compile(step, fullgraph=True, options=options))


def deterministic(compiled: bool, net: nn.Module, n: int, x: Tensor) -> Step:
    return _by_backward(_Deterministic(net, n), compiled, fused=True)


def stock_pyro(net: nn.Module, n: int, x: Tensor) -> Step:
    """A step as in Pyro's documentation: PyroSample weights under N(0, 1), AutoNormal, one weight draw."""
    pyro.clear_param_store()
    net = copy.deepcopy(net)
    to_pyro_module_(net)
    for module in list(net.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            shape = module.weight.shape
            zero, one = torch.zeros(shape, device=x.device), torch.ones(shape, device=x.device)
            module.weight = PyroSample(dist.Normal(zero, one).to_event(len(shape)))

    def model(x: Tensor, y: Tensor) -> None:
        logits = net(x)
        with pyro.plate("data", n, subsample_size=len(x)):
            pyro.sample("y", dist.Categorical(logits=logits), obs=y)

    guide = AutoNormal(model, init_scale=1e-2)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": LR}), TraceMeanField_ELBO())
    return svi.step


def products(net: nn.Module, n: int, x: Tensor) -> Step:
    """The matrix products and convolutions of a step only: of mean and variance, forward and both gradients."""
    calls: list[Callable[[], object]] = []
    hooks = []
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            hooks.append(module.register_forward_hook(partial(_collect, calls)))
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()

    @torch.no_grad()
    def step(x: Tensor, y: Tensor) -> None:
        for call in calls:
            call()

    return step


def _collect(calls: list[Callable[[], object]], layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
    x, w, first = inputs[0].detach().clone(), cast(Tensor, layer.weight).detach(), not calls
    gradient = torch.randn_like(output)
    if isinstance(layer, nn.Conv2d):
        geometry = (layer.stride, layer.padding, layer.dilation, False, [0], 1)  # not transposed, one group
        forward = partial(torch.ops.aten.convolution, x, w, None, *geometry)
        backward = partial(torch.ops.aten.convolution_backward, gradient, x, w, None, *geometry)
        calls += 2 * [forward, partial(backward, [not first, True, False])]
        return
    calls += 2 * [lambda: F.linear(x, w), lambda: gradient.t() @ x]
    if not first:
        calls += 2 * [lambda: gradient @ w]


class _Deterministic(nn.Module):
    def __init__(self, net: nn.Module, n: int):
        super().__init__()
        self.net, self.n = copy.deepcopy(net), n

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.n * F.cross_entropy(self.net(x), y)


def _by_backward(module: nn.Module, compiled: bool, fused: bool) -> Step:
    optimizer = torch.optim.Adam(module.parameters(), lr=LR, fused=fused or None)
    forward = torch.compile(module, fullgraph=True) if compiled else module

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


OURS, EAGER, GRAPH = "ours, compiled", "ours, eager", "ours, CUDA graph"
HAND, FLOOR = "hand-written, fused Adam", "the matrix products alone"
COLUMNS: dict[str, Column] = {
    OURS: partial(ours, "compiled"),
    EAGER: partial(ours, "eager"),
    "hand-written, default Adam": partial(hand_written, False, False),
    HAND: partial(hand_written, False, True),
    "hand-written, torch.compile, fused Adam": partial(hand_written, True, True),
    "hand-written, all in one compiled graph": hand_written_as_one_graph,
    "deterministic, fused Adam": partial(deterministic, False),
    "deterministic, torch.compile, fused Adam": partial(deterministic, True),
    "stock Pyro": stock_pyro,
    FLOOR: products,
}


def columns_on(device: torch.device) -> dict[str, Column]:
    """The columns that run on this device."""
    return COLUMNS | ({GRAPH: partial(ours, "cudagraph")} if device.type == "cuda" else {})
