"""Selected inputs in exported files: gathered only if that is faster, and in their order."""

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from pyro_vd.compress import SelectedLinear, shrink, to_onnx, to_torch_export
from pyro_vd.compress.gather import widen


def selecting(kept, outputs=10, width=100):
    """A network that reads so many of its inputs."""
    net = nn.Sequential(nn.Linear(width, outputs), nn.ReLU(), nn.Linear(outputs, 3)).eval()
    with torch.no_grad():
        net[0].weight[:, kept:] = 0
    return shrink(net, torch.randn(8, width))


@pytest.mark.parametrize("kept", [97, 50, 21, 19, 3, 2])
def test_inputs_are_gathered_in_a_file_only_where_that_is_faster(kept, tmp_path):
    """On 10 outputs onnxruntime gathers from 2 of 100 on, PyTorch from 33 on (see pyro_vd.compress.gather)."""
    small, x = selecting(kept), torch.randn(8, 100)
    assert small[0].in_features == kept
    to_onnx(small, x, tmp_path / "net.onnx")
    to_torch_export(small, x, tmp_path / "net.pt2")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    program = torch.export.load(tmp_path / "net.pt2")
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"input": x.numpy()})[0]), small(x).detach())
    torch.testing.assert_close(program.module()(x), small(x))
    gathers = [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node if node.op_type == "Gather"]
    assert len(gathers) == (kept <= 2)
    assert ("index_select" in program.graph_module.code) == (kept <= 33)
    assert isinstance(small[0], SelectedLinear)


def test_selected_inputs_keep_their_order(tmp_path):
    """Of a layer without a bias. Kills: columns in ascending order."""
    small, x = nn.Sequential(SelectedLinear(torch.tensor([4, 1]), 2, bias=False)), torch.randn(4, 5)
    to_onnx(small, x, tmp_path / "net.onnx")
    (logits,) = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {"input": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), (x[:, [4, 1]] @ small[0].weight.T).detach())


@pytest.mark.parametrize("gather_cost", [45, 44])
def test_a_layer_is_widened_below_the_cost_of_its_gathered_inputs(gather_cost):
    """Two of 20 inputs on 5 outputs save 45 multiplications for each gathered input."""
    net = nn.Sequential(SelectedLinear(torch.tensor([7, 3]), 5))
    x = torch.randn(4, 20)
    expected = net(x)
    widen(net, x, gather_cost + 1 if gather_cost == 45 else gather_cost)
    assert isinstance(net[0], SelectedLinear) == (gather_cost == 44)
    torch.testing.assert_close(net(x), expected)
