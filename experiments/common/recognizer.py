"""The network of digit-recognizer-py, its examples, and the spec of a run that compresses it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pyro_vd.data import DataSplits
from pyro_vd.errors import UserError

__all__ = ["KINDS", "RecognizerSpec", "load_network", "make_examples"]

MEAN, STD = 0.1307, 0.3081  # of the pixels, by the package
Examples = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class RecognizerSpec:
    """A run; the fields are those of the arguments."""

    scheme: str
    epochs: int
    batch_size: int
    lr: float
    validation: int = 0
    seed: int = 0

    @property
    def label(self) -> str:
        """A short name for files."""
        return f"mnist-cnn-{self.scheme}"


KINDS = {"RecognizerSpec": RecognizerSpec}


def load_network() -> nn.Module:
    """The package's network with its weights. The package freezes them; here they may be trained.

    Raises:
        UserError: if the package is not there.
    """
    try:
        from digit_recognizer import DigitRecognizer
    except ModuleNotFoundError as error:
        raise UserError(f"digit_recognizer needs {error.name}; pip install 'pyro-vd[recognizer]'") from None
    net: nn.Module = DigitRecognizer(device="cpu").model
    return net.requires_grad_(True)


def make_examples(spec: RecognizerSpec, data: DataSplits) -> tuple[Examples, Examples]:
    """What to train on and what to measure on, in the package's normalization."""
    if spec.validation:
        data = data.hold_out(spec.validation, spec.seed)
    train, test = (
        ((part.batch(torch.arange(len(part)))[0] - MEAN) / STD, part.labels) for part in (data.train, data.test)
    )
    return train, test
