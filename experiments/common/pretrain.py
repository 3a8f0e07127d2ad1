"""A dense network trained with Bernoulli dropout: where sparsification can start from."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import trange

from pyro_vd.data import Examples

__all__ = ["pretrain"]


def pretrain(
    net: nn.Module,
    train: Examples,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
    dropout: tuple[float, float] = (0.2, 0.3),
) -> None:
    """Trains ``net`` in place by Adam with a linearly falling rate and dropout before every linear and conv layer.

    Args:
        net: on the examples' device; dropout lives in hooks that are removed afterwards.
        train, epochs, batch_size, lr: as usual.
        seed: of the order and of the dropout masks; seeds torch's global generator.
        dropout: rates, on the network's input and on that of every other layer.
    """
    torch.manual_seed(seed)
    layers = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    rates = [dropout[0]] + [dropout[1]] * (len(layers) - 1)
    hooks = [layer.register_forward_pre_hook(partial(_drop, rate)) for layer, rate in zip(layers, rates, strict=True)]
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    net.train()
    for epoch in trange(epochs, desc="pretraining", unit="epoch"):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - epoch / epochs)
        for index in torch.randperm(len(train)).to(train.labels.device).split(batch_size):
            x, y = train.batch(index)
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    for hook in hooks:
        hook.remove()


def _drop(rate: float, layer: nn.Module, inputs: tuple) -> tuple:
    return (F.dropout(inputs[0], rate), *inputs[1:])
