"""The example runs, and what it writes gives the logits of the network that it says it wrote."""

import re

import onnx
import onnxruntime
import pytest
import torch

from examples.resnet18 import Args, main
from pyro_vd import compress
from pyro_vd.compress import shrink
from pyro_vd.errors import UserError
from tests.images import write_folder


def test_a_share_that_is_none_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(UserError, match="--sparsity"):
        main(Args(tmp_path, sparsity=70, out=tmp_path / "out" / "net.onnx"))
    assert not list(tmp_path.iterdir())


def test_resnet18_goes_from_a_folder_of_images_to_onnx(tmp_path, capsys, monkeypatch):
    write_folder(tmp_path / "images", train=6, test=2, size=24)
    out = tmp_path / "net.onnx"
    pruned = []
    monkeypatch.setattr(compress, "shrink", lambda net, inputs: pruned.append(net) or shrink(net, inputs))
    main(Args(tmp_path / "images", size=32, epochs=1, sparsity=0.8, out=out))
    printed = re.search(r"([\d,]+) parameters, ([\d,]+) after shrinking", capsys.readouterr().out)
    before, after = (int(number.replace(",", "")) for number in printed.groups())
    assert before == 11_177_538
    assert after < before / 2
    onnx.checker.check_model(str(out))
    assert len(list(tmp_path.glob("net-32-1-*.json"))) == 1  # images of another size are another run
    images = torch.rand(3, 3, 32, 32)
    (logits,) = onnxruntime.InferenceSession(out).run(None, {"input": images.numpy()})
    expected = pruned[0].eval()(images).detach()
    assert expected.shape == (3, 2)
    assert (torch.from_numpy(logits) - expected).abs().max() <= 1e-4 * expected.abs().max()
