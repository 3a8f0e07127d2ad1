"""SmoothedCategorical: label smoothing as a likelihood of class labels."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor

from pyro_vd.errors import UserError

__all__ = ["SmoothedCategorical"]


class _Smoothed(dist.Categorical):
    """A Categorical whose log_prob is that of smoothed labels; samples, probabilities and entropy are Categorical's."""

    smoothing = 0.0

    def expand(self, batch_shape: tuple[int, ...], _instance: dist.Categorical | None = None) -> dist.Categorical:
        expanded = super().expand(batch_shape, _instance)
        expanded.smoothing = self.smoothing
        return expanded

    def log_prob(self, value: Tensor) -> Tensor:
        chosen: Tensor = super().log_prob(value)
        logits: Tensor = self.logits
        return (1 - self.smoothing) * chosen + self.smoothing * logits.mean(-1)


class SmoothedCategorical:
    """Label smoothing (Szegedy et al. 2016, section 7): labels whose log-probability under logits (..., classes) is
    ``(1 - smoothing) log p_y + smoothing / K sum_k log p_k`` for K classes, the negative of PyTorch's
    ``cross_entropy(..., label_smoothing=smoothing)``.

    It is a regularizer of the training and not a likelihood: with ``smoothing`` above 0 the probabilities of the K
    labels do not sum to 1, and the objective is no bound on the evidence. Samples are those of the Categorical.
    Predictions and metrics read the network's output, so they have no smoothing.

    Args:
        smoothing: at least 0 and below 1; 0 gives the Categorical.

    Raises:
        UserError: for another smoothing.

    Example:
        >>> import torch
        >>> logits, label = torch.tensor([2.0, 0.0, 0.0]), torch.tensor(0)
        >>> SmoothedCategorical(0.2)(logits).log_prob(label)
        tensor(-0.5062)
        >>> -torch.nn.functional.cross_entropy(logits, label, label_smoothing=0.2)
        tensor(-0.5062)
    """

    def __init__(self, smoothing: float):
        if not 0 <= smoothing < 1:
            raise UserError(f"SmoothedCategorical(smoothing={smoothing}): smoothing must be at least 0 and below 1")
        self.smoothing = smoothing

    def __call__(self, logits: Tensor) -> dist.Categorical:
        smoothed = _Smoothed(logits=logits)
        smoothed.smoothing = self.smoothing
        return smoothed
