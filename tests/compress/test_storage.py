"""Files of compressed networks: exact, small, read in bounded memory, and refused if they are anything else."""

import lzma
import os
import pickle
import tracemalloc

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from pyro_vd.compress import dense_bytes, load, quantize, save, shrink
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.models import VGG, LeNet5, LeNet300
from tests.compress._files import make, pack, saved, unpack
from tests.compress._nets import is_same_state, pruned


@pytest.fixture
def path(tmp_path):
    saved(tmp_path / "net")
    return tmp_path / "net"


def test_a_step_size_of_an_unknown_weight_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"step sizes of weights that the network does not have: fc9\.weight"):
        save(LeNet300(), tmp_path / "net", {"fc9.weight": 0.1})
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("make", [LeNet300, LeNet5, lambda: VGG(scale=0.125)])
def test_a_file_gives_back_every_bit(make, tmp_path):
    net = pruned(make())
    save(net, tmp_path / "net", {})
    assert is_same_state(load(tmp_path / "net", make()).state_dict(), net.state_dict())


def test_a_shrunk_network_loads_into_a_fresh_whole_one(tmp_path):
    net = pruned(LeNet5())
    inputs = torch.randn(4, 1, 28, 28)
    small = shrink(net, inputs)
    save(small, tmp_path / "net")
    loaded = load(tmp_path / "net", LeNet5()).eval()
    assert is_same_state(loaded.state_dict(), small.state_dict())
    assert torch.equal(loaded(inputs), small(inputs))
    assert repr(loaded) == repr(small)


def test_sizes_are_those_of_files(tmp_path):
    net = pruned(LeNet300())
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
        load(tmp_path / "net", LeNet300())


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
    save(pruned(LeNet300()), tmp_path / "net")
    other = LeNet5()
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"no conv1.bias; no conv1.weight.*unexpected fc3.weight"):
        load(tmp_path / "net", other)
    assert is_same_state(before, other.state_dict())
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "nothing", other)


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    net = pruned(LeNet300())
    save(net, tmp_path / "net")
    before = (tmp_path / "net").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(pruned(LeNet300(), 0.5), tmp_path / "net")
    assert (tmp_path / "net").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


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
    assert is_same_state(loaded.state_dict(), net.state_dict())
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
        assert is_same_state(load(tmp_path / "net", tied_layers()).state_dict(), net.state_dict())


def test_two_tensors_are_not_one(tmp_path):
    save(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), tmp_path / "net")
    with pytest.raises(CheckpointError, match=r"0\.weight and 1\.weight, one tensor in this network, differ"):
        load(tmp_path / "net", tied_layers())


def test_a_tie_may_be_of_files_only(tmp_path):
    """Into a network that ties nothing they load as two, equal and apart."""
    net = tied_layers()
    save(net, tmp_path / "net")
    loaded = load(tmp_path / "net", nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    assert is_same_state(loaded.state_dict(), net.state_dict())
    assert loaded[0].weight is not loaded[1].weight


@pytest.mark.parametrize("training", [True, False])
def test_what_is_loaded_is_in_eval_mode(training, tmp_path):
    """Batch normalization by a batch's own averages would give other logits. ``net`` stays as it is."""
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


def test_a_bomb_is_refused_in_little_memory(path):
    path.write_bytes(lzma.compress(bytes(2**27), preset=0))
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"unpacks to more than the [\d,]+ bytes that this network could need"):
        load(path, make())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_a_large_shape_takes_no_memory_before_it_is_refused(path):
    arrays, body = unpack(path)
    body["tensors"]["0.weight"]["shape"] = [2**33, 4]  # 128 GiB
    arrays["0.weight.values"], arrays["0.weight.gaps"] = torch.ones(1), torch.zeros(1, dtype=torch.uint8)
    pack(path, arrays, body)
    with pytest.raises(CheckpointError, match=r"0.weight is \(8589934592, 4\)"):
        load(path, make())


def test_a_decoder_that_asks_for_much_memory_is_refused(path):
    """An xz file names the size of its dictionary, which a decoder sets aside."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**29}]
    path.write_bytes(lzma.compress(lzma.decompress(path.read_bytes()), filters=filters))
    with pytest.raises(CheckpointError, match="not a compressed network"):
        load(path, make())


def test_only_a_regular_file_of_a_possible_size_is_read(path):
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)
    with pytest.raises(CheckpointError, match=r"cannot be read \(not a regular file\)"):
        load(pipe, make())
    path.with_name("zeros").symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match=r"cannot be read \(not a regular file\)"):
        load(path.with_name("zeros"), make())
    path.write_bytes(bytes(2**20))
    with pytest.raises(CheckpointError, match=r"cannot be read \(larger than [\d,]+ bytes\)"):
        load(path, make())


def test_something_behind_the_container_is_refused(path):
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(CheckpointError, match="truncated or altered"):
        load(path, make())


@pytest.mark.parametrize("file_format", ["safetensors", "compact"])
@pytest.mark.parametrize("step", [np.float32(0.1), torch.tensor(0.25), 1])
def test_a_step_size_may_be_a_number_of_any_library(step, file_format, tmp_path):
    net = quantize(nn.Linear(4, 3).apply(lambda layer: nn.init.normal_(layer.weight, std=3.0)), {"weight": step})
    save(net, tmp_path / "net", {"weight": step}, file_format)
    assert is_same_state(load(tmp_path / "net", nn.Linear(4, 3)).state_dict(), net.state_dict())


class WithExtraState(nn.Linear):
    def get_extra_state(self):
        return {"version": 1}


def sparse():
    net = nn.Linear(2, 2)
    net.register_buffer("table", torch.eye(2).to_sparse())
    return net


@pytest.mark.parametrize("file_format", ["safetensors", "compact"])
@pytest.mark.parametrize(
    ("net", "message"),
    [
        (WithExtraState(2, 2), "'_extra_state' is a dict, and files have tensors only"),
        (sparse(), "'table' is stored as torch.sparse_coo; files have dense tensors only"),
        (nn.Linear(2, 2, device="meta"), "'weight' is on the meta device"),
        (nn.LazyLinear(2), "'weight' has no shape yet; call the network once"),
    ],
)
def test_what_a_file_cannot_hold_is_refused_by_name(net, message, file_format, tmp_path):
    with pytest.raises(UserError, match=f"save: {message}"):
        save(net, tmp_path / "net", format=file_format)
    save(nn.Linear(2, 2), tmp_path / "other", format=file_format)
    with pytest.raises(UserError, match=f"load: {message}"):
        load(tmp_path / "other", net)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_sizes": ["weight"]}, "the step sizes are a list; give a dict"),
        ({"step_sizes": {"weight": "0.5"}}, "'weight': the step size is '0.5'; it must be above 0"),
        ({"format": ["compact"]}, r"format=\['compact'\]: the formats are"),
    ],
)
def test_arguments_of_save_are_checked(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        save(nn.Linear(2, 2), tmp_path / "net", **options)


def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"save: net must be an nn\.Module, not OrderedDict"):
        save(nn.Linear(2, 2).state_dict(), tmp_path / "net")
    with pytest.raises(TypeError, match=r"load: net must be an nn\.Module, not type"):
        load(tmp_path / "net", nn.Linear)
