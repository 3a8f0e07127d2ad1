"""Probabilities for the tests of metrics."""

import torch


def probabilities(*shape):
    return torch.rand(*shape).softmax(-1)
