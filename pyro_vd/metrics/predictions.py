"""What the metrics are computed from: logits of a whole data set, and posterior predictive probabilities."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.metrics._checks import SAMPLE_AXES, check_scores

__all__ = ["compute_logits", "predictive_probabilities"]


@torch.no_grad()
def compute_logits(net: Callable[[Tensor], Tensor], examples: LabeledImages, batch_size: int = 1000) -> Tensor:
    """The network's outputs on all examples, (n, classes), computed batch by batch to bound the memory.

    Raises:
        UserError: if there are no examples, or for a batch size below 1.
    """
    if not len(examples) or batch_size < 1:
        raise UserError(
            f"compute_logits: {len(examples)} examples, batch_size={batch_size}; at least 1 of each is needed"
        )
    starts = range(0, len(examples), batch_size)
    index = torch.arange(len(examples), device=examples.labels.device)
    return torch.cat([net(examples.batch(index[start : start + batch_size])[0]) for start in starts])


def predictive_probabilities(logits: Tensor) -> Tensor:
    """Posterior predictive class probabilities (n, classes) from logits of weight draws (samples, n, classes)."""
    check_scores("predictive_probabilities", logits, SAMPLE_AXES)
    return F.softmax(logits, dim=-1).mean(0)
