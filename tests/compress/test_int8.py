"""Networks in int8: the weights that are stored, the activations, the returned error, and what is refused."""

import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from pyro_vd.compress import shrink, to_onnx, to_onnx_int8
from pyro_vd.errors import UserError
from pyro_vd.models import LeNet5
from tests.compress._nets import pruned

BOTH = pytest.mark.parametrize("activations", [False, True])


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(path, x):
    return torch.from_numpy(session_of(path).run(["output"], {"input": x.numpy()})[0])


def weights_of(path):
    arrays = [numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer]
    return [array for array in arrays if array.ndim > 1]


def dense(inputs=12, outputs=5, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs)).eval()


@BOTH
def test_a_shrunk_network_is_smaller_and_near_at_any_batch_size(activations, tmp_path):
    torch.manual_seed(0)
    x = torch.rand(70, 1, 28, 28)  # more than a batch of calibration
    net = pruned(LeNet5(), 0.3)
    small = shrink(net, x[:4])
    error = to_onnx_int8(small, x, tmp_path / "int8.onnx", activations)
    expected = net(x).detach()
    assert error == pytest.approx(float((run(tmp_path / "int8.onnx", x) - expected).abs().max() / expected.abs().max()))
    assert 0 < error < 0.05  # eight bits, and not the network as it was
    to_onnx(small, x, tmp_path / "net.onnx")
    assert (tmp_path / "int8.onnx").stat().st_size < 0.5 * (tmp_path / "net.onnx").stat().st_size
    for batch in (x[:1], x[:9]):
        assert (run(tmp_path / "int8.onnx", batch) - net(batch)).abs().max() < 0.06 * expected.abs().max()


@BOTH
def test_weights_are_rounded_to_a_grid_with_zero(activations, tmp_path):
    """The closed form: one scale for a weight, the largest entry +-127."""
    net = dense()
    with torch.no_grad():
        net[0].weight[torch.rand(16, 12) < 0.5] = 0
    to_onnx_int8(net, torch.randn(8, 12), tmp_path / "net.onnx", activations)
    stored = weights_of(tmp_path / "net.onnx")
    assert [array.dtype for array in stored] == [np.int8, np.int8]
    for layer in (net[0], net[2]):
        weight = layer.weight.detach().numpy()
        (integers,) = (a if a.shape == weight.shape else a.T for a in stored if weight.shape in (a.shape, a.T.shape))
        cell = np.abs(weight).max() / 127
        assert np.abs(integers - weight / cell).max() < 0.51
        assert (integers[weight == 0] == 0).all()


def test_activations_are_rounded_on_the_fly_or_by_calibration(tmp_path):
    """With weights alone, an input's outputs depend on its batch. With calibration, larger inputs are cut off."""
    net, x = dense(), torch.randn(64, 12, generator=torch.Generator().manual_seed(1))
    for activations in (False, True):
        to_onnx_int8(net, x, tmp_path / "net.onnx", activations)
        alone = run(tmp_path / "net.onnx", x[:1])
        beside = run(tmp_path / "net.onnx", torch.cat([x[:1], 10 * x]))[:1]
        assert torch.equal(alone, beside) == activations
        far = 100 * x[:8]
        difference = (run(tmp_path / "net.onnx", far) - net(far)).abs().max() / net(far).abs().max()
        assert difference > 0.5 if activations else difference < 0.05


def test_all_of_the_inputs_calibrate(tmp_path):
    """The largest one is in the last of several batches."""
    net, x = dense(), torch.randn(140, 12, generator=torch.Generator().manual_seed(1)) / 100
    x[-1] *= 1000
    assert to_onnx_int8(net, x, tmp_path / "net.onnx", activations=True) < 0.05


@BOTH
def test_names_and_axes_are_those_of_to_onnx(activations, tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    to_onnx_int8(net, torch.rand(4, 3, 8, 8), tmp_path / "net.onnx", activations, {2: "height"})
    (given,), (made,) = (getattr(session_of(tmp_path / "net.onnx"), f"get_{x}")() for x in ("inputs", "outputs"))
    assert (given.name, given.shape, made.name) == ("input", ["batch", 3, "height", 8], "output")
    assert run(tmp_path / "net.onnx", torch.rand(1, 3, 17, 8)).shape == (1, 2)


class Last(nn.Module):
    """A recurrent layer that returns more than its last output."""

    def __init__(self, kind):
        super().__init__()
        self.layer = kind(6, 8, batch_first=True)

    def forward(self, x):
        return self.layer(x)[0][:, -1]


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.block(self.embedding(x)).mean(1)


@BOTH
def test_a_transformer_of_tokens(activations, tmp_path):
    net, x = Tokens().eval(), torch.randint(20, (8, 5))
    assert to_onnx_int8(net, x, tmp_path / "net.onnx", activations, {1: "length"}) < 0.1
    assert all(array.dtype in (np.int8, np.uint8) for array in weights_of(tmp_path / "net.onnx"))


@pytest.mark.parametrize(
    ("net", "x", "activations", "named"),
    [
        (nn.ConvTranspose1d(6, 4, 2), torch.randn(4, 6, 5), False,
         "no int8 form of ConvTranspose with activations=False; choose activations=True, or write float32"),
        (Last(nn.LSTM), torch.randn(4, 5, 6), True,
         "no int8 form of LSTM with activations=True; choose activations=False, or write float32"),
        (Last(nn.GRU), torch.randn(4, 5, 6), True, "no int8 form of GRU with activations=True; write float32"),
        (nn.LayerNorm(6), torch.randn(4, 6), False, "no weights that onnxruntime can quantize"),
    ],
)  # fmt: skip
def test_what_stays_in_float32_is_named(net, x, activations, named, tmp_path):
    with pytest.raises(UserError, match=named):
        to_onnx_int8(net, x, tmp_path / "net.onnx", activations)
    assert not list(tmp_path.iterdir())


def test_the_other_choice_holds_them_in_int8(tmp_path):
    assert to_onnx_int8(nn.ConvTranspose1d(6, 4, 2), torch.randn(4, 6, 5), tmp_path / "a", activations=True) < 0.05
    assert to_onnx_int8(Last(nn.LSTM), torch.randn(4, 5, 6), tmp_path / "b") < 0.05


@BOTH
def test_outputs_that_are_lost_leave_no_file(activations, tmp_path):
    """One weight is a million times the others, and nothing reads its unit."""
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))
    with torch.no_grad():
        net[0].weight[0, 0] = 1e6
        net[1].weight[:, 0] = 0
        net[0].bias.zero_()
        net[1].bias.zero_()
    with pytest.raises(UserError, match=r"outputs in int8 differ by 1\.0e[+]00 of the largest; nothing is written"):
        to_onnx_int8(net, torch.randn(8, 6), tmp_path / "net.onnx", activations)
    assert not list(tmp_path.iterdir())


def test_the_network_is_left_as_it_was(tmp_path):
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 2)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    to_onnx_int8(net, torch.randn(8, 3), tmp_path / "net.onnx")
    assert net.training
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("x", [torch.randn(4, 5), torch.randn(1, 12), torch.full((4, 12), torch.nan)])
def test_inputs_of_another_network_are_refused(x, tmp_path):
    with pytest.raises(UserError, match=r"shape \(4, 5\)|at least two inputs|not finite"):
        to_onnx_int8(dense(), x, tmp_path / "net.onnx", activations=True)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"ONNX needs onnxruntime; pip install 'pyro-vd\[onnx\]'"):
        to_onnx_int8(dense(), torch.randn(4, 12), tmp_path / "net.onnx")


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"before")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        to_onnx_int8(dense(), torch.randn(4, 12), path)
    assert path.read_bytes() == b"before"
    assert [found.name for found in tmp_path.iterdir()] == ["net.onnx"]
