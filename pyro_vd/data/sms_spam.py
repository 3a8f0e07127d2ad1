"""The SMS Spam Collection (Almeida, Hidalgo and Yamakami 2011; UCI repository, CC BY 4.0): messages with labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pyro_vd.data.cache import data_folder
from pyro_vd.errors import DataError
from pyro_vd.files import read_file

__all__ = ["LabeledTexts", "SmsSpam", "load_sms_spam"]

FILE, SHA256 = "sms_spam.tsv", "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d"
SIZE = 477_907  # bytes
LABELS = ("ham", "spam")
TEST, VALIDATION, TRAIN = "012345", "67", "89abcdef"  # first hexadecimal digits of the messages' digests


@dataclass(frozen=True)
class LabeledTexts:
    """Texts and their labels.

    Attributes:
        texts: n strings.
        labels: (n,), int64.
    """

    texts: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class SmsSpam:
    """The messages without repetitions; label 1 is spam.

    Attributes:
        train, validation, test: about 1/2, 1/8 and 3/8 of the messages.
        sha256: of the file.
    """

    train: LabeledTexts
    validation: LabeledTexts
    test: LabeledTexts
    sha256: str


def load_sms_spam(folder: str | Path | None = None) -> SmsSpam:
    """Reads ``sms_spam.tsv``: 5,574 lines, a label, a tab and a message each.

    A message that occurs more than once is kept once. The part that it belongs to follows from the first hexadecimal
    digit of the SHA-256 of its UTF-8 bytes: 0 to 5 test, 6 and 7 validation, 8 to f training. So no message is in two
    parts, whatever the order of the lines.

    Args:
        folder: folder of dataset files; see :func:`data_folder`.

    Raises:
        DataError: for a missing or damaged file, with its path and what to do.
    """
    path = data_folder(folder) / FILE
    try:
        content = read_file(path, SIZE)
    except OSError as error:
        raise DataError(
            f"sms_spam: no {path} ({error.strerror}); put SMSSpamCollection of the UCI repository, data set 228, there "
            f"under this name (SHA-256 {SHA256}), or set PYRO_VD_DATA to its folder"
        ) from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise DataError(f"sms_spam: {path} has another SHA-256 than {SHA256}; get it again")
    lines = [line.split("\t", 1) for line in content.decode().split("\n") if line]
    return split_messages({text: LABELS.index(label) for label, text in lines})


def split_messages(labels: dict[str, int], sha256: str = SHA256) -> SmsSpam:
    """The parts of messages with labels, by the rule of :func:`load_sms_spam`."""

    def part(digits: str) -> LabeledTexts:
        texts = tuple(text for text in labels if hashlib.sha256(text.encode()).hexdigest()[0] in digits)
        return LabeledTexts(texts, torch.tensor([labels[text] for text in texts], dtype=torch.int64))

    return SmsSpam(part(TRAIN), part(VALIDATION), part(TEST), sha256)
