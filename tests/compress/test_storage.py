"""Files of compressed networks: exact, short, and refused when they are anything else."""

import lzma
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro_vd.models import lenet5, lenet300, vgg
from torch import nn

from pyro_vd.compress import dense_bytes, load, save, shrink
from pyro_vd.compress import quantize as quantize
from pyro_vd.compress.coding import _gaps, _indices
from pyro_vd.errors import CheckpointError


def pruned(net, kept=0.02):
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter *= torch.rand_like(parameter) < kept
    return net.eval()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@given(st.lists(st.integers(0, 1_000), max_size=40), st.integers(1, 2_000))
def test_gaps_say_where_the_weights_are(gaps, extra):
    index = np.cumsum(np.array(gaps, dtype=np.int64) + 1) - 1
    assert _indices(_gaps(index)).tolist() == index.tolist()
    assert _gaps(index).nbytes == len(index) + sum(gap // 255 for gap in gaps)


@pytest.mark.parametrize("make", [lenet300, lenet5, lambda: vgg(scale=0.125)])
def test_a_file_gives_back_every_bit(make, tmp_path):
    net = pruned(make())
    save(net, tmp_path / "net", {})
    assert same(load(tmp_path / "net", make()).state_dict(), net.state_dict())


def test_a_shrunk_network_loads_into_a_fresh_whole_one(tmp_path):
    net = pruned(lenet5())
    inputs = torch.randn(4, 1, 28, 28)
    small = shrink(net, inputs)
    save(small, tmp_path / "net")
    loaded = load(tmp_path / "net", lenet5()).eval()
    assert same(loaded.state_dict(), small.state_dict())
    assert torch.equal(loaded(inputs), small(inputs))
    assert repr(loaded) == repr(small)


def test_depthwise_convolutions_come_back(tmp_path):
    def make():
        return nn.Sequential(nn.Conv2d(2, 5, 1), nn.Conv2d(5, 5, 3, groups=5), nn.Conv2d(5, 3, 1))

    net = make()
    with torch.no_grad():
        net[2].weight[:, 1:4] = 0
    small = shrink(net, torch.randn(4, 2, 6, 6))
    save(small, tmp_path / "net")
    loaded = load(tmp_path / "net", make())
    assert repr(loaded) == repr(small)
    assert small[1].groups == 2
    assert torch.equal(loaded(torch.ones(1, 2, 6, 6)), small(torch.ones(1, 2, 6, 6)))


def test_a_whole_convolution_is_no_depthwise_one(tmp_path):
    save(nn.Sequential(nn.Conv2d(5, 5, 3)), tmp_path / "net")
    with pytest.raises(CheckpointError, match=r"0\.weight is \(5, 5, 3, 3\)"):
        load(tmp_path / "net", nn.Sequential(nn.Conv2d(5, 5, 3, groups=5)))


def test_biases_that_constants_made_come_back(tmp_path):
    def make():
        return nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2, bias=False))

    net = make()
    with torch.no_grad():
        net[0].weight[0] = 0
        net[0].bias[0] = 1
    inputs = torch.randn(4, 3)
    save(shrink(net, inputs), tmp_path / "net")
    torch.testing.assert_close(load(tmp_path / "net", make())(inputs), net(inputs))


def test_each_tensor_has_the_shortest_coding_that_is_exact(tmp_path):
    weight = torch.zeros(100, 100)
    weight[0, :50] = torch.randn(50)
    net = nn.Linear(100, 100, bias=False)

    def size(values, steps=None):
        net.weight.data = values
        save(net, tmp_path / "net", steps)
        content = lzma.decompress((tmp_path / "net").read_bytes())
        assert torch.equal(load(tmp_path / "net", nn.Linear(100, 100, bias=False)).weight, values)
        return sum(array.nbytes for array in safetensors.torch.load(content).values())

    skips = (100 * 100 - 50) // 255  # at most: none behind the last weight
    assert size(weight) <= 50 * (4 + 1) + skips
    assert size(weight.half().float()) <= 50 * (2 + 1) + skips
    on_grid = (weight * 10).round() / 8
    assert size(on_grid, {"weight": 0.125}) <= 50 * (1 + 1) + skips
    assert size(torch.randn(100, 100)) == 4 * 100 * 100


def test_what_is_not_on_its_grid_is_refused(tmp_path):
    net = lenet300()
    with pytest.raises(ValueError, match=r"'fc2.weight' is not on the grid of step 0.1"):
        save(net, tmp_path / "net", {"fc2.weight": 0.1})
    save(quantize(net, {"fc2.weight": 0.1}), tmp_path / "net", {"fc2.weight": 0.1})


@pytest.mark.parametrize("numbers", [[0.0, -0.0, 1e-45, -3e38], [float("inf"), 1.0, float("nan")], []])
def test_odd_numbers_survive(numbers, tmp_path):
    net = nn.Module()
    net.register_buffer("values", torch.tensor([*numbers, *[0.0] * 100]))
    save(net, tmp_path / "net")
    fresh = nn.Module()
    fresh.register_buffer("values", net.values / 1)  # not finite where the saved one is not
    torch.testing.assert_close(load(tmp_path / "net", fresh).values, net.values, rtol=0, atol=0, equal_nan=True)


def test_sizes_are_those_of_files(tmp_path):
    net = pruned(lenet300())
    size = save(net, tmp_path / "net")
    assert size == (tmp_path / "net").stat().st_size
    (tmp_path / "dense").write_bytes(safetensors.torch.save(net.state_dict()))
    assert dense_bytes(net) == (tmp_path / "dense").stat().st_size
    assert size < dense_bytes(net) / 30


def odd_header(header):
    return lzma.compress(safetensors.torch.save({"a.values": torch.ones(2)}, {"pyro_vd": header}))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "not a compressed network"),
        (pickle.dumps({"a": 1}), "not a compressed network"),
        (lzma.compress(pickle.dumps({"a": 1})), "an xz file, but not"),
        (lzma.compress(safetensors.torch.save({"a": torch.ones(2)})), "an xz file, but not"),
        (lzma.compress(safetensors.torch.save({"a": torch.ones(2)}, {"pyro_vd": '{"format": 3}'})), "format 3"),
        (odd_header('{"format": 1, "tensors": []}'), "an xz file, but not"),
        (odd_header('{"format": 1, "tensors": {"a": {"dtype": "float33", "shape": [2]}}}'), "an xz file, but not"),
    ],
)
def test_other_files_are_refused(content, named, tmp_path):
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(CheckpointError, match=named):
        load(tmp_path / "net", lenet300())


def test_every_damaged_byte_is_found(tmp_path):
    path = tmp_path / "net"
    save(pruned(nn.Linear(5, 4)), path)
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        path.write_bytes(bytes(damaged))
        with pytest.raises(CheckpointError):
            load(path, nn.Linear(5, 4))
        path.write_bytes(content[:place])
        with pytest.raises(CheckpointError):
            load(path, nn.Linear(5, 4))


def test_another_network_is_refused_and_untouched(tmp_path):
    save(pruned(lenet300()), tmp_path / "net")
    other = lenet5()
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"no conv1.bias; no conv1.weight.*unexpected fc3.weight"):
        load(tmp_path / "net", other)
    assert same(before, other.state_dict())
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "nothing", other)


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    net = pruned(lenet300())
    save(net, tmp_path / "net")
    before = (tmp_path / "net").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(pruned(lenet300(), 0.5), tmp_path / "net")
    assert (tmp_path / "net").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def batch_normed(affine=True, kernel=3, dtype=torch.float32):
    return nn.Sequential(nn.Conv2d(2, 4, kernel), nn.BatchNorm2d(4, affine=affine), nn.Conv2d(4, 4, 1, groups=2)).to(
        dtype
    )


@pytest.mark.parametrize("affine", [True, False])
def test_norms_and_groups_come_back(affine, tmp_path):
    net = batch_normed(affine).requires_grad_(False)
    save(net, tmp_path / "net")
    fresh = batch_normed(affine).requires_grad_(False)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    loaded = load(tmp_path / "net", fresh)
    assert same(loaded.state_dict(), net.state_dict())
    assert repr(loaded) == repr(net)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert same(before, fresh.state_dict())


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda: batch_normed(kernel=5), r"0.weight is \(4, 2, 3, 3\)"),
        (lambda: batch_normed(dtype=torch.float64), "expected .* torch.float64"),
        (lambda: nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Conv2d(4, 4, 1, groups=2)), "0.weight is"),
    ],
)
def test_layers_of_another_kind_are_refused(other, named, tmp_path):
    save(batch_normed(), tmp_path / "net")
    with pytest.raises(CheckpointError, match=named):
        load(tmp_path / "net", other())


def test_a_bias_belongs_to_a_layer(tmp_path):
    save(nn.Sequential(nn.LayerNorm(3)), tmp_path / "net")
    with pytest.raises(CheckpointError, match=r"unexpected 0.bias"):
        load(tmp_path / "net", nn.Sequential(nn.LayerNorm(3, bias=False)))


def tied_layers():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    return net


class Embedded(nn.Module):
    """A language model's kind of tie: an embedding and the layer that reads it back."""

    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(40, 30), nn.Linear(30, 40)
        self.out.weight = self.embedding.weight


def tied_convolutions():
    net = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    net[1].weight, net[1].bias = net[0].weight, net[0].bias
    return net


@pytest.mark.parametrize("make", [tied_layers, Embedded, tied_convolutions])
def test_what_is_tied_is_stored_once_and_tied_again(make, tmp_path):
    net = make()
    save(net, tmp_path / "net")
    fresh = make()
    loaded = load(tmp_path / "net", fresh)
    assert same(loaded.state_dict(), net.state_dict())
    assert [name for name, _ in loaded.named_parameters()] == [name for name, _ in net.named_parameters()]
    assert {id(parameter) for parameter in loaded.parameters()}.isdisjoint(map(id, fresh.parameters()))
    stored = safetensors.torch.load(lzma.decompress((tmp_path / "net").read_bytes()))
    assert len(stored) == len(list(net.parameters()))
    assert dense_bytes(net) > 0


def test_a_tied_weight_on_a_grid_takes_the_step_of_any_of_its_names(tmp_path):
    net = quantize(tied_layers(), {"0.weight": 0.25})
    for name in ("0.weight", "1.weight"):
        save(net, tmp_path / "net", {name: 0.25})
        stored = safetensors.torch.load(lzma.decompress((tmp_path / "net").read_bytes()))
        assert stored["0.weight.values"].dtype == torch.int8
        assert same(load(tmp_path / "net", tied_layers()).state_dict(), net.state_dict())


def test_two_tensors_are_not_one(tmp_path):
    save(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), tmp_path / "net")
    with pytest.raises(CheckpointError, match=r"0\.weight and 1\.weight, one tensor in this network, differ"):
        load(tmp_path / "net", tied_layers())


def test_a_tie_may_be_of_files_only(tmp_path):
    """Into a network that ties nothing they load as two, equal and apart."""
    net = tied_layers()
    save(net, tmp_path / "net")
    loaded = load(tmp_path / "net", nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    assert same(loaded.state_dict(), net.state_dict())
    assert loaded[0].weight is not loaded[1].weight


def test_a_step_that_is_far_too_fine_is_refused(tmp_path):
    net = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="beyond 32 bits"):
        save(quantize(net, {"weight": 1e-12}), tmp_path / "net", {"weight": 1e-12})


@pytest.mark.parametrize("training", [True, False])
def test_what_is_loaded_is_in_eval_mode(training, tmp_path):
    """Batch normalisation by a batch's own averages would give other logits. ``net`` stays as it is."""
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    net(torch.randn(16, 3))
    save(net, tmp_path / "net")
    fresh = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)).train(training)
    loaded, x = load(tmp_path / "net", fresh), torch.randn(8, 3)
    assert not any(module.training for module in loaded.modules())
    assert all(module.training == training for module in fresh.modules())
    assert torch.equal(loaded(x), net.eval()(x))
    with torch.no_grad():
        net[0].weight[1:] = 0
        net[3].weight[:, 2] = 0
    small = shrink(net, x)
    save(small, tmp_path / "net")
    assert not any(module.training for module in load(tmp_path / "net", fresh.train()).modules())


def test_a_network_with_a_weight_that_is_computed_comes_back(tmp_path):
    def make():
        return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.BatchNorm1d(4))

    net = make().eval()
    save(net, tmp_path / "net")
    x = torch.randn(5, 3)
    assert torch.equal(load(tmp_path / "net", make())(x), net(x))
