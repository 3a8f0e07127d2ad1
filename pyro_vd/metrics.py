"""Numbers of a classifier's predictions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyro_vd.data import Examples

__all__ = ["error_rate", "logits_of", "mean_probabilities"]


@torch.no_grad()
def logits_of(net: nn.Module, examples: Examples, batch_size: int = 1000) -> Tensor:
    """The network's outputs over all examples, (n, classes), without holding more than one batch of activations."""
    indices = torch.arange(len(examples), device=examples.labels.device).split(batch_size)
    return torch.cat([net(examples.batch(index)[0]) for index in indices])


def error_rate(scores: Tensor, labels: Tensor) -> float:
    """Share of examples whose largest score is not their label's; scores (n, classes), a fraction."""
    return (scores.argmax(-1) != labels).double().mean().item()


def mean_probabilities(logits: Tensor) -> Tensor:
    """Posterior predictive class probabilities (n, classes) from logits of weight draws (draws, n, classes)."""
    return F.softmax(logits, dim=-1).mean(0)
