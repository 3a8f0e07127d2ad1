"""Which examples a pair has seen in ``fit``, so that a prior that has seen the examples of a certificate is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pyro_vd.data import LabeledImages
from pyro_vd.data.digests import digest_inputs
from pyro_vd.inference.batches import Batches, ExampleBatches
from pyro_vd.inference.examples import DatasetItems, Examples
from pyro_vd.inference.validation import Validation
from pyro_vd.posterior import Posterior

__all__ = ["record_seen_inputs"]


def record_seen_inputs(posteriors: Sequence[Posterior], batches: Batches, validation: Validation | None) -> None:
    """Adds the digests of the training and validation examples to ``seen_inputs`` of every model.

    It becomes None for examples that are only read batch by batch: a loader may change them.
    """
    held = torch.empty(0, dtype=torch.int64) if validation is None else _digest(validation.examples)
    train = _digest(batches.data) if isinstance(batches, ExampleBatches) else None
    for number, posterior in enumerate(posteriors):
        model = posterior.model
        parts = [model.seen_inputs, held, _select(train, batches, number)]
        known = [part for part in parts if part is not None]
        model.seen_inputs = torch.cat(known).unique() if len(known) == len(parts) else None


def _select(digests: Tensor | None, batches: Batches, number: int) -> Tensor | None:
    """Those of the examples that the pair ``number`` is trained on."""
    if digests is None or not isinstance(batches, ExampleBatches) or batches.subsets is None:
        return digests
    return digests[batches.subsets[number].cpu()]


def _digest(examples: Examples | DataLoader[Any]) -> Tensor | None:
    if isinstance(examples, DatasetItems | DataLoader):
        return None
    return digest_inputs(examples.images if isinstance(examples, LabeledImages) else examples.x)
