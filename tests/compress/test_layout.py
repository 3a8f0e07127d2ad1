"""The layout of a compact file: what is read is what was written, and nothing but a network like the given one."""

import pytest
import torch
from torch import nn

from pyro_vd.compress import shrink
from pyro_vd.compress.adaptive_bits import BitReader, BitWriter
from pyro_vd.compress.layout import Layout, checksum, fingerprint, read_layout, write_layout
from pyro_vd.errors import CheckpointError
from tests.compress._files import make
from tests.compress._nets import prune_at_random


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.b = nn.Linear(4, 4)
        self.a = nn.Linear(4, 4, bias=False)
        self.a.weight = self.b.weight


def written(net):
    writer = BitWriter()
    return write_layout(writer, net), fingerprint(net.state_dict()), writer.finish()


def test_the_first_name_of_a_tied_tensor_has_its_shape():
    layout, *_ = written(Tied())
    assert layout == Layout(
        {"a.weight": "a.weight", "b.bias": "b.bias", "b.weight": "a.weight"}, {"a.weight": (4, 4), "b.bias": (4,)}
    )


@pytest.mark.parametrize(
    "factory", [make, Tied, lambda: nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Conv2d(5, 3, 3))]
)
def test_a_layout_comes_back(factory):
    layout, _, code = written(factory())
    expected = fingerprint({name: factory().state_dict()[name] for name in layout.sources})
    assert read_layout(BitReader(code), factory(), expected) == layout


def test_a_smaller_network_of_the_class_comes_back():
    torch.manual_seed(0)
    small = shrink(prune_at_random(make(), 0.3).eval(), torch.randn(8, 6))
    layout, _, code = written(small)
    expected = fingerprint({name: small.state_dict()[name] for name in layout.sources})
    assert read_layout(BitReader(code), make(), expected) == layout


def test_another_network_is_refused():
    layout, _, code = written(make())
    expected = fingerprint({name: make().state_dict()[name] for name in layout.sources})
    with pytest.raises(CheckpointError, match="other names, types or numbers of axes"):
        read_layout(BitReader(code), make(), expected ^ 1)
    with pytest.raises(CheckpointError, match="of another network: "):
        read_layout(
            BitReader(code), nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)), expected
        )


def test_a_checksum_depends_on_every_tensor():
    tensors = [torch.zeros(3), torch.ones(2)]
    assert checksum(tensors) != checksum(tensors[:1]) != checksum([torch.tensor([0.0, 0.0, -0.0])])
    assert 0 <= checksum(tensors) < 2**16
