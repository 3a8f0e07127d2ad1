"""Networks that several tests prune and shrink, and comparisons of their logits."""

import torch
from torch import nn

EXACT = 1e-5  # of the largest logit


def prune_at_random(net, keep, seed=0):
    """Sets weights to 0, whole units and single ones, so that every rule of shrink applies."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                weight = module.weight
                weight *= torch.rand(weight.shape, generator=generator) < 0.8
                for axis in (0, 1) if weight.shape[1] > 1 else (0,):  # a depthwise layer has one input
                    shape = [1] * weight.ndim
                    shape[axis] = weight.shape[axis]
                    weight *= (torch.rand(weight.shape[axis], generator=generator) < keep).view(shape)
            elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.bias.normal_(generator=generator)
    return net.eval()


def pruned(net, kept=0.02):
    """The network with a random share of its weights kept, in eval mode."""
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter *= torch.rand_like(parameter) < kept
    return net.eval()


def assert_same_logits(net, small, inputs, tolerance=EXACT):
    with torch.no_grad():
        expected, got = net(inputs), small(inputs)
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def count_parameters(net):
    return sum(p.numel() for p in net.parameters())


class Written(nn.Module):
    """Named layers, and the function that calls them."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.written = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.written(self, x)


def is_same_state(one, other):
    """Whether two state dicts have the same names and equal tensors."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
