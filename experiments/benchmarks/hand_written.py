"""Sparse variational dropout written without a library, as in public code, for comparison.

Layers with theta, log_sigma2, the published KL and train-time masking. Nothing is checked and no parameter is kept in
bounds; the library does both.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["HandWritten"]

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
