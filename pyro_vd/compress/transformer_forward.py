"""PyTorch's transformer encoders as torch.fx can trace them, without the branches of the fast path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from pyro_vd.errors import UserError

__all__ = ["TRACEABLE"]


def run_encoder_layer(
    layer: nn.TransformerEncoderLayer,
    src: Any,
    src_mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool = False,
) -> Any:
    """What ``layer`` computes in eval mode."""

    def attend(x: Any) -> Any:
        return layer.self_attn(x, x, x, attn_mask=src_mask, key_padding_mask=src_key_padding_mask)[0]

    def feed_forward(x: Any) -> Any:
        return layer.linear2(layer.activation(layer.linear1(x)))

    if layer.norm_first:
        x = src + attend(layer.norm1(src))
        return x + feed_forward(layer.norm2(x))
    x = layer.norm1(src + attend(src))
    return layer.norm2(x + feed_forward(x))


def run_encoder(
    encoder: nn.TransformerEncoder,
    src: Any,
    mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool | None = None,
) -> Any:
    """What ``encoder`` computes in eval mode."""
    if encoder.use_nested_tensor and src_key_padding_mask is not None:
        raise UserError(
            "shrink: TransformerEncoder with a padding mask gives other numbers at padded positions without gradients; "
            "build it with enable_nested_tensor=False"
        )
    for layer in encoder.layers:
        src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask)
    return src if encoder.norm is None else encoder.norm(src)


TRACEABLE: dict[type, Callable[..., Any]] = {
    nn.TransformerEncoderLayer: run_encoder_layer,
    nn.TransformerEncoder: run_encoder,
}
