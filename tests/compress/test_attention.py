"""Attention as linear layers, and with any number of heads, against PyTorch's."""

import pytest
import torch
from torch import nn

from pyro_vd.compress.attention import PrunedAttention, SplitAttention
from pyro_vd.compress.coding import Note
from pyro_vd.compress.resize import check_shapes, load_resized
from pyro_vd.errors import UserError

WIDTH, HEADS = 12, 3
MASKS = {
    "none": {},
    "bools": {"attn_mask": torch.ones(5, 5).triu(1).bool()},
    "a term": {"attn_mask": torch.randn(5, 5)},
    "bools of each head": {"attn_mask": torch.ones(4 * HEADS, 5, 5).triu(1).bool()},
    "padding": {"key_padding_mask": torch.tensor([[False] * 3 + [True] * 2] * 4)},
    "both": {"attn_mask": torch.randn(5, 5), "key_padding_mask": torch.randn(4, 5)},
}


def attention(**options):
    net = nn.MultiheadAttention(WIDTH, HEADS, **options).double().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net


def batch(net, tokens=5):
    shape = (4, tokens, WIDTH) if net.batch_first else (tokens, 4, WIDTH)
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
def test_linear_layers_give_what_attention_gives(masks, bias, batch_first):
    net = attention(bias=bias, batch_first=batch_first)
    masks = {key: mask if mask.dtype == torch.bool else mask.double() for key, mask in masks.items()}
    query, key, value = batch(net), batch(net), batch(net)
    expected, _ = net(query, key, value, **masks)
    got, weights = SplitAttention("attention", net)(query, key, value, **masks)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    assert weights is None


@torch.no_grad()
def test_the_parts_go_back_into_the_layer():
    net = attention(batch_first=True)
    split = SplitAttention("attention", net)
    for parameter in split.parameters():
        nn.init.normal_(parameter)
    x = batch(net)
    assert split.merge_into(net) is net
    torch.testing.assert_close(net(x, x, x)[0], split(x, x, x)[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_fewer_heads_are_what_is_left_of_the_layer(bias):
    """A head whose columns of the last layer are 0 adds nothing."""
    net = attention(bias=bias, batch_first=True)
    width = WIDTH // HEADS
    net.out_proj.weight[:, width : 2 * width] = 0
    split = SplitAttention("attention", net)
    kept = torch.tensor([*range(width), *range(2 * width, WIDTH)])
    for part in (split.query, split.key, split.value):
        part.weight = nn.Parameter(part.weight[kept])
        part.bias = nn.Parameter(part.bias[kept]) if bias else None
    split.out.weight = nn.Parameter(split.out.weight[:, kept])
    pruned = split.merge_into(net)
    assert isinstance(pruned, PrunedAttention)
    assert (pruned.num_heads, pruned.head_dim, pruned.embed_dim) == (2, width, WIDTH)
    x, mask = batch(net), torch.ones(5, 5).triu(1).bool()
    torch.testing.assert_close(pruned(x, x, x, attn_mask=mask)[0], net(x, x, x, attn_mask=mask)[0])
    again = SplitAttention("attention", pruned)
    torch.testing.assert_close(again(x, x, x)[0], net(x, x, x)[0])


@pytest.mark.parametrize("gaining", ["query", "value", "out"])
@torch.no_grad()
def test_a_layer_without_biases_may_gain_one(gaining):
    """A folded constant. PyTorch's layer has all biases or none."""
    net = attention(bias=False, batch_first=True)
    split = SplitAttention("attention", net)
    layer = split.get_submodule(gaining)
    layer.bias = nn.Parameter(torch.randn(len(layer.weight), dtype=torch.float64))
    x = batch(net)
    expected = split(x, x, x)[0]
    merged = split.merge_into(net)
    torch.testing.assert_close(merged(x, x, x)[0], expected)
    own = {name: tensor.clone() for name, tensor in merged.state_dict().items()}
    loaded = nn.Sequential(attention(bias=False, batch_first=True))
    tensors = {f"0.{name}": tensor for name, tensor in own.items()}
    assert check_shapes(loaded, {name: Note(tuple(t.shape), t.dtype, None) for name, t in tensors.items()}) == []
    load_resized(loaded, tensors)
    torch.testing.assert_close(loaded[0](x, x, x)[0], expected)


@pytest.mark.parametrize("options", [{"kdim": 5}, {"vdim": 5}, {"add_bias_kv": True}, {"add_zero_attn": True}])
def test_other_forms_are_refused_by_name(options):
    with pytest.raises(UserError, match=r"layer 'self' \(MultiheadAttention\) has kdim, vdim, .*; write it"):
        SplitAttention("self", nn.MultiheadAttention(WIDTH, HEADS, **options))
