"""The encoders that torch.fx traces give what PyTorch's give in eval mode."""

import pytest
import torch
from torch import nn

from pyro_vd.compress.transformer_forward import TRACEABLE, run_encoder, run_encoder_layer
from pyro_vd.errors import UserError

CAUSAL = torch.ones(5, 5).triu(1).bool()
PADDING = torch.tensor([[False] * 4 + [True]] * 3)


def layer(**options):
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, **options).double().eval()


@pytest.mark.parametrize("options", [{}, {"norm_first": True, "activation": "gelu"}, {"bias": False}])
@pytest.mark.parametrize("masks", [{}, {"src_mask": CAUSAL}, {"src_key_padding_mask": PADDING}])
def test_a_layer(options, masks):
    net, x = layer(**options), torch.randn(3, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(run_encoder_layer(net, x, **masks), net(x, **masks))


@pytest.mark.parametrize("norm", [None, nn.LayerNorm(8).double()])
def test_an_encoder(norm):
    net = nn.TransformerEncoder(layer(), 2, norm=norm, enable_nested_tensor=False).eval()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    expected = net(x, mask=CAUSAL, src_key_padding_mask=PADDING)
    torch.testing.assert_close(run_encoder(net, x, CAUSAL, PADDING), expected)


def test_an_encoder_with_nested_tensors_and_padding_is_refused():
    """Its outputs at padded positions, and their number, depend on whether gradients are on."""
    net, x = nn.TransformerEncoder(layer(), 1).eval(), torch.randn(3, 5, 8, dtype=torch.float64)
    assert net.use_nested_tensor
    run_encoder(net, x, CAUSAL)
    with pytest.raises(UserError, match=r"TransformerEncoder with a padding mask .* enable_nested_tensor=False"):
        run_encoder(net, x, None, PADDING)


def test_both_are_in_the_table():
    assert {nn.TransformerEncoderLayer: run_encoder_layer, nn.TransformerEncoder: run_encoder} == TRACEABLE
