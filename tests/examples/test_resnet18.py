"""The example runs, and what it writes gives the logits of the network that it says it wrote."""

import onnx
import onnxruntime
import torch

from examples.resnet18 import Args, main
from tests.images import write_folder


def test_resnet18_goes_from_a_folder_of_images_to_onnx(tmp_path, capsys):
    write_folder(tmp_path / "images", train=6, test=2, size=24)
    out = tmp_path / "net.onnx"
    main(Args(tmp_path / "images", size=32, epochs=1, sparsity=0.8, out=out))
    before, after = (int(word.replace(",", "")) for word in capsys.readouterr().out.split() if word.count(",") == 2)
    assert before == 11_177_538
    assert after < before / 2
    onnx.checker.check_model(str(out))
    (logits,) = onnxruntime.InferenceSession(out).run(None, {"x": torch.rand(3, 3, 32, 32).numpy()})
    assert logits.shape == (3, 2)
