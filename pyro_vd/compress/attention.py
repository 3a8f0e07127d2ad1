"""Multi-head attention with any number of heads, and as linear layers, so that shrink can take heads out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from pyro_vd.compress.layers import linear_of, set_parameters
from pyro_vd.errors import UserError

__all__ = ["PrunedAttention", "SplitAttention"]


@fx.wrap
def add_mask(scores: Tensor, mask: Tensor) -> Tensor:
    """The scores, (batch, heads, queries, keys), with a mask in PyTorch's forms: bools that hide, or a term."""
    mask = mask.view(*scores.shape) if mask.ndim == 3 else mask
    return scores.masked_fill(mask, float("-inf")) if mask.dtype == torch.bool else scores + mask


def attend(
    query: Tensor, key: Tensor, value: Tensor, head_width: int, attn_mask: Tensor | None, key_mask: Tensor | None
) -> Tensor:
    """Attention of heads of this width: (batch, tokens, heads * head_width) of each, and of the result."""
    query, key, value = (
        each.view(each.size(0), each.size(1), -1, head_width).transpose(1, 2) for each in (query, key, value)
    )
    scores = query @ key.transpose(-2, -1) * head_width**-0.5
    if attn_mask is not None:
        scores = add_mask(scores, attn_mask)
    if key_mask is not None:
        scores = add_mask(scores, key_mask.unsqueeze(1).unsqueeze(1))
    return (F.softmax(scores, dim=-1) @ value).transpose(1, 2).flatten(2)


def _bias_of(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias


class PrunedAttention(nn.MultiheadAttention):
    """Multi-head attention that lost heads: :class:`torch.nn.MultiheadAttention` with any number of heads of one width.

    It is called like the layer whose place it takes, with the same masks, and returns None in place of the weights of
    attention.

    Args:
        embed_dim: width of its inputs and outputs.
        num_heads: number of heads.
        head_width: width of a head.
        bias: whether the layers have biases.
        batch_first: whether inputs are (batch, tokens, features), or (tokens, batch, features).

    Example:
        >>> attention = PrunedAttention(embed_dim=12, num_heads=2, head_width=4, batch_first=True)
        >>> x = torch.randn(3, 5, 12)
        >>> mixed, _ = attention(x, x, x)
        >>> attention.in_proj_weight.shape, mixed.shape
        (torch.Size([24, 12]), torch.Size([3, 5, 12]))
    """

    def __init__(self, embed_dim: int, num_heads: int, head_width: int, bias: bool = True, batch_first: bool = False):
        super().__init__(embed_dim, 1, bias=bias, batch_first=batch_first)
        self.num_heads, self.head_dim = num_heads, head_width
        self._qkv_same_embed_dim = False  # PyTorch's fast path computes head_dim from embed_dim
        width = num_heads * head_width
        values = {"in_proj_weight": nn.init.xavier_uniform_(torch.empty(3 * width, embed_dim))}
        if bias:
            values["in_proj_bias"] = torch.zeros(3 * width)
        set_parameters(self, values)
        self.out_proj = nn.modules.linear.NonDynamicallyQuantizableLinear(width, embed_dim, bias=bias)

    @classmethod
    def of(cls, attention: nn.MultiheadAttention, values: dict[str, Tensor]) -> PrunedAttention:
        """The layer in the place of ``attention`` that holds copies of these values, by name of the parameter."""
        heads = values["out_proj.weight"].shape[1] // attention.head_dim
        embed_dim, bias = values["in_proj_weight"].shape[1], "in_proj_bias" in values
        pruned = cls(embed_dim, heads, attention.head_dim, bias, attention.batch_first)
        own = {key: value for key, value in values.items() if key.startswith("in_proj")}
        set_parameters(pruned, own)
        set_parameters(
            pruned.out_proj, {key.removeprefix("out_proj."): values[key] for key in values.keys() - own.keys()}
        )
        pruned.out_proj.out_features, pruned.out_proj.in_features = values["out_proj.weight"].shape
        return pruned.requires_grad_(attention.in_proj_weight.requires_grad).eval()

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        if not self.batch_first:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        query, key, value = (
            F.linear(each, weight, bias)
            for each, weight, bias in zip((query, key, value), self.in_proj_weight.chunk(3), biases, strict=True)
        )
        mixed = self.out_proj(attend(query, key, value, self.head_dim, attn_mask, key_padding_mask))
        return mixed if self.batch_first else mixed.transpose(0, 1), None


class SplitAttention(nn.Module):
    """The same function with a linear layer each for queries, keys, values and outputs, in eval mode.

    Args:
        name: dotted name of ``attention``, for the message.
        attention: the layer.

    Raises:
        UserError: for keys or values of another width, and for extra keys.
    """

    def __init__(self, name: str, attention: nn.MultiheadAttention):
        super().__init__()
        if attention.in_proj_weight is None or attention.bias_k is not None or attention.add_zero_attn:
            raise UserError(
                f"shrink: layer {name!r} (MultiheadAttention) has kdim, vdim, add_bias_kv or add_zero_attn, which "
                "shrink does not know; write it with a linear layer each for queries, keys and values"
            )
        self.head_width, self.num_heads, self.batch_first = (
            attention.head_dim, attention.num_heads, attention.batch_first,
        )  # fmt: skip
        biases = (None,) * 3 if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)
        self.query, self.key, self.value = map(linear_of, attention.in_proj_weight.chunk(3), biases)
        self.out = linear_of(attention.out_proj.weight, attention.out_proj.bias)
        self.in_proj_bias, self._qkv_same_embed_dim = attention.in_proj_bias, False  # PyTorch's encoder layer asks

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        if not self.batch_first:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        query, key, value = self.query(query), self.key(key), self.value(value)
        mixed = self.out(attend(query, key, value, self.head_width, attn_mask, key_padding_mask))
        return mixed if self.batch_first else mixed.transpose(0, 1), None

    def merge_into(self, attention: nn.MultiheadAttention) -> nn.MultiheadAttention:
        """``attention`` with these weights; a :class:`PrunedAttention` if heads are gone."""
        parts = (self.query, self.key, self.value)
        values = {"in_proj_weight": torch.cat([part.weight for part in parts]), "out_proj.weight": self.out.weight}
        if any(layer.bias is not None for layer in (*parts, self.out)):  # one of them may have gained a bias
            values["in_proj_bias"] = torch.cat([_bias_of(part) for part in parts])
            values["out_proj.bias"] = _bias_of(self.out)
        before = dict(attention.named_parameters())
        if any(key not in before or before[key].shape != value.shape for key, value in values.items()):
            return PrunedAttention.of(attention, values)
        for key, value in values.items():
            before[key].copy_(value)
        return attention
