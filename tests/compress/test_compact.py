"""Compact files: exact, as small as their models say, and refused if they are anything else."""

import random
import struct
import sys
import tracemalloc
import zlib

import pytest
import torch
from torch import nn

from pyro_vd.compress import compressed_bytes, load, quantize, save, shrink
from pyro_vd.compress.adaptive_bits import BitWriter, code_natural
from pyro_vd.compress.compact import HEADER, MAGIC, compact_bits, pack, unpack
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.models import LeNet5, LeNet300
from tests.compress._files import make as make_small
from tests.compress._nets import is_same_state, prune_at_random, pruned
from tests.compress.test_storage import Embedded, tied_convolutions, tied_layers

STEP = 1 / 16


def on_grid(net, step=STEP):
    steps = {name: step for name, _ in net.named_parameters()}
    return quantize(net, steps), steps


def written(net, path, steps=None):
    save(net, path, steps or {}, format="compact")
    return path


@pytest.fixture
def small(tmp_path):
    """A shrunk network with selected inputs and its file."""
    torch.manual_seed(1)
    net = make_small().eval()
    with torch.no_grad():
        net[0].weight[:, 2:4] = 0
        net[0].weight[0] = 0
        net[3].weight[:, 1] = 0
    net, steps = on_grid(shrink(net, torch.randn(8, 6)))
    return net, written(net, tmp_path / "net", steps)


def perceptron():
    return nn.Sequential(nn.Linear(90, 80), nn.ReLU(), nn.Linear(80, 10))


def convolutions():
    return nn.Sequential(nn.Conv2d(3, 20, 5), nn.ReLU(), nn.Conv2d(20, 16, 3), nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize("make", [perceptron, convolutions])
def test_a_file_gives_back_every_bit(make, tmp_path):
    net, steps = on_grid(pruned(make(), 0.2))
    path = written(net, tmp_path / "net", steps)
    assert is_same_state(load(path, make()).state_dict(), net.state_dict())
    size = path.stat().st_size
    assert compact_bits(net, steps) < 8 * size < 1.05 * compact_bits(net, steps)
    assert size == compressed_bytes(net, steps, "compact") < 0.9 * compressed_bytes(net, steps)


@pytest.mark.parametrize("make", [LeNet300, LeNet5])
def test_a_shrunk_network_loads_into_a_fresh_whole_one(make, tmp_path):
    inputs = torch.randn(4, 1, 28, 28)
    net, steps = on_grid(shrink(prune_at_random(make(), 0.15), inputs))
    loaded = load(written(net, tmp_path / "net", steps), make())
    assert is_same_state(loaded.state_dict(), net.state_dict())
    assert torch.equal(loaded(inputs), net(inputs))
    assert repr(loaded) == repr(net)


@pytest.mark.parametrize("seed", range(8))
def test_random_networks_come_back(seed):
    torch.manual_seed(seed)
    draw = random.Random(seed)  # noqa: S311
    a, b, c, d = (draw.randint(1, 9) for _ in range(4))
    kernel = draw.choice([1, 3, (2, 5)])

    def make():
        return nn.Sequential(
            nn.Conv2d(a, b, kernel, bias=seed % 2 > 0),
            nn.BatchNorm2d(b),
            nn.Linear(c, d, bias=seed % 3 > 0),
            nn.Conv1d(d, 2 * d, 3, groups=d),
        )

    net, steps = on_grid(pruned(make(), draw.random()), draw.choice([0.25, 0.01, 1 / 3]))
    steps = {name: step for name, step in steps.items() if draw.random() < 0.7}
    content = pack(net, steps)
    assert is_same_state(unpack(content, make()), net.state_dict())
    assert 8 * len(content) <= compact_bits(net, steps) + 8 * HEADER.size + 40


@pytest.mark.parametrize("make", [tied_layers, Embedded, tied_convolutions])
def test_what_is_tied_is_tied_again(make, tmp_path):
    net = make().eval()
    loaded = load(written(net, tmp_path / "net"), make())
    assert is_same_state(loaded.state_dict(), net.state_dict())
    assert len(list(loaded.parameters())) == len(list(net.parameters()))


@pytest.mark.parametrize(
    "make", [lambda: nn.LSTM(3, 4), lambda: nn.MultiheadAttention(4, 2), nn.ReLU, nn.Embedding(3, 2).cpu]
)
def test_layers_of_other_kinds_come_back(make, tmp_path):
    net = make().eval()
    assert is_same_state(load(written(net, tmp_path / "net"), make()).state_dict(), net.state_dict())


def test_biases_that_shrinking_added_come_back(tmp_path):
    def make():
        return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2, bias=False))

    net = make().eval()
    with torch.no_grad():
        net[0].weight[1] = 0
        net[0].bias[1] = 1
    small = shrink(net, torch.randn(8, 4))
    assert "2.bias" in small.state_dict()
    assert is_same_state(load(written(small, tmp_path / "net"), make()).state_dict(), small.state_dict())


def test_dead_units_cost_nearly_nothing():
    net, steps = on_grid(pruned(nn.Linear(50, 40), 0.2))
    wide = nn.Linear(400, 300).eval()
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.zero_()
        wide.weight[:40, :50], wide.bias[:40] = net.weight, net.bias
    assert len(pack(wide, steps)) < len(pack(net, steps)) + 20


GOLDEN = "70766401848a5421b74fe6fd61739e896bc5cb472a9a315cf3abbc9c"


def golden_net():
    net = nn.Linear(6, 4)
    with torch.no_grad():
        net.weight.copy_(
            ((torch.arange(24) * 7 % 11 - 5).reshape(4, 6) * (torch.arange(24).reshape(4, 6) % 3 == 0)) / 8
        )
        net.bias.copy_(torch.tensor([0.5, 0.0, -0.25, 1.0]))
    return net.eval()


def test_the_file_is_the_same_everywhere():
    """The bytes of version 1. A change of them makes the files of users unreadable."""
    assert pack(golden_net(), {"weight": 0.125, "bias": 0.25}).hex() == GOLDEN


def test_threads_change_nothing(small):
    net, path = small
    threads = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            assert is_same_state(load(path, make_small()).state_dict(), net.state_dict())
            assert pack(net, {name: STEP for name, _ in net.named_parameters()}) == path.read_bytes()
    finally:
        torch.set_num_threads(threads)


def test_every_damaged_byte_is_found(small):
    _, path = small
    content = path.read_bytes()
    for place in range(len(content)):
        for damaged in (flip(content, place, 0x10), content[:place]):
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError):
                load(path, make_small())
    path.write_bytes(content + b"\0")
    with pytest.raises(CheckpointError, match="truncated or altered"):
        load(path, make_small())


def flip(content, place, bits):
    return content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :]


def sealed(rest, version=1):
    """A file with a right checksum, as one who means harm would write it."""
    return MAGIC + struct.pack("<BI", version, zlib.crc32(rest, version - 1)) + rest


def mutate(content, draw):
    rest = bytearray(content[8:])
    for _ in range(draw.choice((1, 1, 2, 8))):
        kind, place = draw.randrange(4), draw.randrange(4, len(rest) + 1)
        if kind == 0 and place < len(rest):
            rest[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del rest[place:]
        elif kind == 2:
            rest[place:place] = draw.randbytes(draw.choice((1, 4, 40)))
        else:
            rest[place:] = draw.randbytes(len(rest) - place)
    return bytes(rest)


def refuse_mutations(content, net, count, seed):
    """Every mutated file whose checksum is right is refused, or is what was saved: the rest is not read."""
    draw, version = random.Random(seed), content[3]  # noqa: S311
    before = {name: tensor.clone() for name, tensor in unpack(content, net).items()}
    for _ in range(count):
        rest = mutate(content, draw)
        try:
            tensors = unpack(sealed(rest, version), net)
        except CheckpointError:
            continue
        assert is_same_state(tensors, before)


def tiny():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.fixture
def tiny_content():
    torch.manual_seed(0)
    net = tiny()
    with torch.no_grad():
        net[0].weight[:, 2:4] = 0
        net[0].weight[0] = 0
    return pack(*on_grid(shrink(net, torch.randn(8, 6))))


def test_mutated_files_are_refused(tiny_content):
    refuse_mutations(tiny_content, tiny(), 2000, 0)


@pytest.mark.slow
@pytest.mark.fault
def test_very_many_mutated_files_are_refused(small, tiny_content):
    refuse_mutations(tiny_content, tiny(), 80_000, 1)
    refuse_mutations(small[1].read_bytes(), make_small(), 20_000, 2)


def test_a_file_of_a_newer_version_is_refused(small):
    _, path = small
    path.write_bytes(flip(path.read_bytes(), 3, 2))
    with pytest.raises(CheckpointError, match="a compact file of version 3, this version reads 2; update pyro_vd"):
        load(path, make_small())


def test_another_version_is_refused(small):
    _, path = small
    path.write_bytes(flip(path.read_bytes(), 3, 1 ^ 2))
    with pytest.raises(CheckpointError, match="truncated or altered"):
        load(path, make_small())


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (LeNet5, "of another network: its tensors have other names, types or numbers of axes"),
        (lambda: make_small().double(), "other names, types"),
        (lambda: nn.Sequential(nn.Linear(6, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 3)), r"0.bias is \(3,\)"),
    ],
)
def test_another_network_is_refused_by_name_and_untouched(small, other, named):
    net = other()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"net: .*{named}"):
        load(small[1], net)
    assert is_same_state(before, net.state_dict())


def test_a_large_shape_takes_no_memory_before_it_is_refused():
    coder = BitWriter()
    coder.bit(1, ("there", 0))  # a bias
    coder.bit(0, ("there", 1))  # no selected inputs
    coder.bit(0, "tied")
    coder.bit(0, "tied")
    known = []
    for length in (2**33, 2**33, 2**34):
        code_natural(coder, known.index(length) if length in known else len(known), "known length")
        if length not in known:
            code_natural(coder, length, "length")
        known = [length, *[other for other in known if other != length]]
    fingerprint = pack(nn.Linear(3, 2), {})[8:10]
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"weight is \(8589934592, 17179869184\)"):
        unpack(sealed(fingerprint + b"\0\0" + coder.finish()), nn.Linear(3, 2))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_what_decodes_to_something_else_is_refused(small):
    content = small[1].read_bytes()
    rest = flip(content[8:], 2, 1)  # the checksum of the tensors
    with pytest.raises(CheckpointError, match="does not decode to what was saved"):
        unpack(sealed(rest), make_small())


def test_nan_is_refused_where_the_network_has_none(tmp_path):
    net = nn.Linear(3, 2)
    with torch.no_grad():
        net.weight[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match="weight holds NaN or infinite numbers"):
        load(written(net, tmp_path / "net"), nn.Linear(3, 2))


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(UserError, match="format='zip': the formats are safetensors and compact"):
        save(nn.Linear(3, 2), tmp_path / "net", format="zip")


def test_without_the_coder_the_extra_is_named(monkeypatch, tmp_path):
    from pyro_vd.compress import adaptive_bits

    adaptive_bits._import_constriction.cache_clear()
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(UserError, match=r"install pyro-vd\[coding\]"):
        pack(nn.Linear(3, 2), {})
    adaptive_bits._import_constriction.cache_clear()
