"""Exported networks give the same logits in other programs, and nothing is written if they do not."""

import copy
import hashlib
import json
import sys
from pathlib import Path

import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import nn

from pyro_vd.compress import shrink, to_onnx, to_safetensors, to_torch_export
from pyro_vd.errors import UserError
from pyro_vd.models import LeNet5, LeNet300
from tests.compress._nets import pruned
from tests.compress.test_rounding import FixedType


@pytest.fixture
def inputs():
    return torch.randn(4, 1, 28, 28)


@pytest.mark.parametrize("make", [LeNet300, LeNet5])
def test_onnx_gives_the_pruned_networks_logits_at_any_batch_size(make, inputs, tmp_path):
    net = pruned(make(), 0.05)
    to_onnx(shrink(net, inputs), inputs, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    for batch in (torch.randn(1, 1, 28, 28), torch.randn(9, 1, 28, 28)):
        (logits,) = session.run(["output"], {"input": batch.numpy()})
        expected = net(batch).detach()
        assert (torch.from_numpy(logits) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_file_names_its_input_output_and_axes(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    x = torch.randn(4, 3, 8, 8)
    to_onnx(net, x, tmp_path / "batch.onnx")
    to_onnx(net, x, tmp_path / "axes.onnx", axes={2: "height", 3: "width"})
    for name, shape in (("batch", ["batch", 3, 8, 8]), ("axes", ["batch", 3, "height", "width"])):
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx")
        (given,), (made,) = session.get_inputs(), session.get_outputs()
        assert (given.name, given.shape) == ("input", shape)
        assert (made.name, made.shape) == ("output", ["batch", 2])
    other = torch.randn(2, 3, 5, 19)
    (outputs,) = session.run(None, {"input": other.numpy()})
    torch.testing.assert_close(torch.from_numpy(outputs), net(other).detach())


class Parity(nn.Module):
    """Its code asks for a size, which a tracer answers once."""

    def forward(self, x):
        return x if x.shape[1] % 2 else 2 * x


@pytest.mark.parametrize(
    ("axes", "net", "named"),
    [
        ({0: "n"}, nn.Flatten(), r"axes=\{0: 'n'\}: an axis must be from 1 to 2; 0 is the batch"),
        ({-1: "n"}, nn.Flatten(), "an axis must be from 1 to 2"),
        ({1: "batch"}, nn.Flatten(), "each axis needs a name of its own"),
        ({1: "n", 2: "n"}, nn.Flatten(), "each axis needs a name of its own"),
        ({1: "a b"}, nn.Flatten(), "each axis needs a name of its own"),
        ({2: "one"}, nn.Flatten(), r"axis 2 \(one\) has 1 position; inputs with two are needed"),
        ({1: "n"}, nn.Sequential(nn.Flatten(), nn.Linear(6, 2)), r"does not run with 5 positions of axis 1 \(n\), so"),
        ({1: "n"}, Parity(), "differ by 1.0e[+]00 of the largest; nothing is written"),
    ],
)
def test_axes_of_one_size_alone_are_refused(axes, net, named, tmp_path):
    with pytest.raises(UserError, match=named):
        to_onnx(net, torch.rand(4, 6, 1), tmp_path / "net", axes)
    assert not list(tmp_path.iterdir())


class Worded(nn.Module):
    def forward(self, x):
        return x, "a word"


@pytest.mark.parametrize("write", [to_onnx, to_torch_export])
@pytest.mark.parametrize(
    ("net", "x", "named"),
    [
        (nn.Linear(3, 2), torch.randn(4, 5), r"does not run on inputs of shape \(4, 5\): mat1 and mat2 shapes"),
        (nn.Linear(3, 2), torch.full((4, 3), torch.nan), "are not finite; look for NaN in the inputs"),
        (Worded(), torch.randn(4, 3), "returns a str; it must return tensors"),
    ],
)
def test_inputs_and_outputs_that_no_file_has_are_refused(write, net, x, named, tmp_path):
    with pytest.raises(UserError, match=named):
        write(net, x, tmp_path / "net")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [LeNet300, LeNet5])
def test_an_exported_program_gives_the_same_logits_to_the_bit(make, inputs, tmp_path):
    net = pruned(make(), 0.05)
    to_torch_export(net, inputs, tmp_path / "net.pt2")
    program = torch.export.load(tmp_path / "net.pt2").module()
    batch = torch.randn(9, 1, 28, 28)
    assert torch.equal(program(batch), net(batch))


def test_safetensors_and_json_hold_state_and_sizes(inputs, tmp_path):
    small = shrink(pruned(LeNet5(), 0.05), inputs)
    to_safetensors(small, tmp_path / "net.safetensors")
    state = safetensors.torch.load_file(tmp_path / "net.safetensors")
    assert all(torch.equal(state[name], value) for name, value in small.state_dict().items())
    written = json.loads((tmp_path / "net.safetensors.json").read_text())
    assert written["empty"] == []
    assert written["network"] == "LeNet5"
    assert written["layers"]["fc2"] == {"inputs": small.fc2.in_features, "outputs": 10}


@pytest.mark.parametrize("write", [to_onnx, to_torch_export])
def test_an_empty_layer_is_refused_by_name(write, inputs, tmp_path):
    net = pruned(LeNet300(), 0.05)
    with torch.no_grad():
        net.fc2.weight.zero_()
    with pytest.raises(UserError, match="nothing is left of fc2"):
        write(net, inputs, tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_a_plain_file_marks_empty_layers(inputs, tmp_path):
    net = pruned(LeNet300(), 0.05)
    with torch.no_grad():
        net.fc2.weight.zero_()
    to_safetensors(net, tmp_path / "net.safetensors")
    assert json.loads((tmp_path / "net.safetensors.json").read_text())["empty"] == ["fc2"]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.head = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.b(self.a(x).relu()))


def test_a_residual_network_may_lose_a_block(tmp_path):
    net = Block()
    with torch.no_grad():
        net.b.weight.zero_()
    x = torch.randn(4, 6)
    with pytest.warns(UserWarning, match="nothing is left of b"):
        small = shrink(net, x)
    to_onnx(small, x, tmp_path / "net.onnx")
    (logits,) = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {"input": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), net(x).detach())


@pytest.mark.parametrize("write", [to_onnx, to_torch_export])
def test_exporting_leaves_the_network_in_its_mode_and_needs_two_inputs(write, tmp_path):
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 2)).train()
    write(net, torch.randn(4, 3), tmp_path / "net")
    assert net.training
    assert net[1].training
    with pytest.raises(UserError, match="at least two inputs"):
        write(net, torch.randn(1, 3), tmp_path / "net")


class Forgetful(nn.Module):
    """Gives other outputs to whoever traces it."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x) + (0 if torch.compiler.is_compiling() else 1)


@pytest.mark.parametrize("write", [to_onnx, to_torch_export])
def test_other_outputs_leave_no_file(write, tmp_path):
    with pytest.raises(UserError, match="nothing is written"):
        write(Forgetful(), torch.randn(4, 3), tmp_path / "net")
    assert not list(tmp_path.iterdir())


class Choosy(nn.Module):
    """Asks for a value, which no tracer has."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x) if x.max() > 0 else self.fc(-x)


@pytest.mark.parametrize(("write", "name"), [(to_onnx, "ONNX"), (to_torch_export, "torch.export")])
def test_what_cannot_be_traced_is_refused_in_a_line(write, name, tmp_path):
    with pytest.raises(UserError, match=f"export: {name} cannot write this network: Could not guard") as refusal:
        write(Choosy(), torch.randn(4, 3), tmp_path / "net")
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"ONNX needs onnxruntime; pip install 'pyro-vd\[onnx\]'"):
        to_onnx(LeNet300(), inputs, tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("write", "room"),
    [(to_onnx, 0), (to_torch_export, 0), *((lambda net, inputs, path: to_safetensors(net, path), n) for n in (0, 1))],
    ids=["onnx", "torch.export", "safetensors", "safetensors, its JSON"],
)
def test_a_full_disk_leaves_what_was_there(write, room, inputs, tmp_path, monkeypatch):
    """There is room for so many files."""
    net = pruned(LeNet300(), 0.05)
    path = tmp_path / "net.file"
    path.write_bytes(b"before")
    written = []

    def full(descriptor):
        if len(written) == room:
            raise OSError(28, "No space left on device")
        written.append(descriptor)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        write(net, inputs, path)
    assert caught.value.filename.startswith(str(path))
    assert path.read_bytes() == b"before"
    assert [found.name for found in tmp_path.iterdir()] == ["net.file"]


class Nearly(Forgetful):
    """The same, by more than is allowed and by less than anyone would see."""

    def __init__(self, off):
        super().__init__()
        self.off = off

    def forward(self, x):
        logits = self.fc(x)
        return logits * (1 if torch.compiler.is_compiling() else 1 + self.off)


@pytest.mark.parametrize("write", [to_onnx, to_torch_export])
def test_a_difference_of_three_in_a_hundred_thousand_is_too_much(write, tmp_path):
    with pytest.raises(UserError, match=r"differ by 3\.0e-05 of the largest; nothing is written"):
        write(Nearly(3e-5), torch.randn(4, 3), tmp_path / "net")
    write(Nearly(3e-7), torch.randn(4, 3), tmp_path / "net")


def cancelling():
    """Logits that are small differences of large numbers."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 512), nn.ReLU(), nn.Linear(512, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 16)
        net[0].bias.fill_(1e4)
        net[2].weight -= net[2].weight.mean(1, keepdim=True)
    return net.eval()


def test_a_networks_own_rounding_is_allowed(tmp_path):
    """float32 is farther than the tolerance from float64, and onnxruntime no farther than float32."""
    net, x = cancelling(), torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    exact = copy.deepcopy(net).double()(x.double())
    assert (net(x) - exact).abs().max() > 1e-4 * exact.abs().max()
    to_onnx(net, x, tmp_path / "net.onnx")
    (logits,) = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {"input": x.numpy()})
    assert (torch.from_numpy(logits) - exact).abs().max() <= 8 * (net(x) - exact).abs().max()


@pytest.mark.parametrize("write", [to_onnx, to_torch_export])
def test_a_network_of_float32_alone_is_checked_against_itself(write, tmp_path):
    write(FixedType(3, 2), torch.randn(4, 3), tmp_path / "net")
    assert (tmp_path / "net").exists()


def test_a_pair_that_disagrees_shows(inputs, tmp_path, monkeypatch):
    """Killed between its two files: the digest in the JSON is of the tensors before."""
    path, replace = tmp_path / "net", Path.replace
    to_safetensors(pruned(LeNet300(), 0.05), path)
    about = json.loads((tmp_path / "net.json").read_text())
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()

    def killed(partial, target):
        if target.suffix == ".json":
            raise KeyboardInterrupt
        return replace(partial, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        to_safetensors(pruned(LeNet300(), 0.05), path)
    assert json.loads((tmp_path / "net.json").read_text()) == about
    assert about["sha256"] != hashlib.sha256(path.read_bytes()).hexdigest()


class Adapted(nn.Module):
    """As in LoRA: a layer and a product of two narrow ones beside it, the second of which begins at 0."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.a, self.b = nn.Linear(inputs, 2, bias=False), nn.Linear(2, outputs, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


class Peft(nn.Module):
    """The same as PEFT writes it: adapters by name, more arguments, a scaling."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.base_layer = nn.Linear(inputs, outputs)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(inputs, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, outputs, bias=False)})
        self.lora_dropout = nn.ModuleDict({"default": nn.Identity()})
        self.scaling, self.active_adapters = {"default": 0.5}, ["default"]

    def forward(self, x, *args, **kwargs):
        y = self.base_layer(x, *args, **kwargs)
        for name in self.active_adapters:
            y = y + self.lora_B[name](self.lora_A[name](self.lora_dropout[name](x))) * self.scaling[name]
        return y.to(x.dtype)


@pytest.mark.filterwarnings("ignore:shrink. nothing is left")
@pytest.mark.parametrize("kind", [Adapted, Peft])
@pytest.mark.parametrize("adapted", [True, False])
def test_networks_with_low_rank_adapters(kind, adapted, tmp_path):
    """Also where all of an adapter is 0, as it begins."""
    net, x = nn.Sequential(kind(6, 8), nn.ReLU(), kind(8, 3)).eval(), torch.randn(4, 6)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.shape[-1] == 2 and adapted:
                parameter.copy_(torch.randn_like(parameter))
            elif "base" in name and parameter.ndim > 1:
                parameter[1] = 0
    for number, each in enumerate((net, shrink(net, x))):
        to_onnx(each, x, tmp_path / f"{number}.onnx")
        (logits,) = onnxruntime.InferenceSession(tmp_path / f"{number}.onnx").run(None, {"input": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), net(x).detach(), rtol=1e-4, atol=1e-6)


# --- several inputs and outputs


class Tagger(nn.Module):
    """Several outputs of tokens and a mask."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, tokens, mask):
        hidden = self.embedding(tokens) * mask[..., None]
        return {"logits": self.head(hidden), "length": mask.sum(1, keepdim=True).float()}


def sentences():
    return {"mask": torch.rand(4, 6) < 0.7, "tokens": torch.randint(9, (4, 6))}  # not in the order of forward


LENGTHS = {"tokens": {1: "length"}, "mask": {1: "length"}}


def test_several_inputs_have_the_names_of_forward(tmp_path):
    net, x = Tagger(), sentences()
    to_onnx(net, x, tmp_path / "net.onnx", LENGTHS)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    assert [(one.name, one.shape) for one in session.get_inputs()] == [
        ("tokens", ["batch", "length"]), ("mask", ["batch", "length"]),
    ]  # fmt: skip
    assert [one.name for one in session.get_outputs()] == ["logits", "length"]
    shorter = {name: value[:3, :2] for name, value in x.items()}
    got = session.run(None, {name: value.numpy() for name, value in shorter.items()})
    for one, other in zip(got, net(**shorter).values(), strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other)


def test_a_tuple_is_positional_and_its_outputs_are_numbered(tmp_path):
    class Swap(nn.Module):
        def forward(self, left, right):
            return right, left

    x = torch.randn(4, 2), torch.randn(4, 2)
    to_onnx(Swap(), x, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    assert [one.name for one in session.get_inputs()] == ["left", "right"]
    assert [one.name for one in session.get_outputs()] == ["output.0", "output.1"]
    right, _ = session.run(None, {"left": x[0].numpy(), "right": x[1].numpy()})
    assert (right == x[1].numpy()).all()
    to_torch_export(Swap(), x, tmp_path / "net.pt2")
    assert torch.equal(torch.export.load(tmp_path / "net.pt2").module()(*x)[0], x[1])


@pytest.mark.parametrize(("axes", "reason"), [
    ({1: "length"}, r"give the axes by input, such as \{'tokens': \{1: 'length'\}\}; the inputs are tokens, mask"),
    ({"words": {1: "length"}}, "the inputs are tokens, mask"),
    ({"tokens": {2: "length"}}, "an axis must be from 1 to 1"),
])  # fmt: skip
def test_axes_of_several_inputs_are_given_by_input(axes, reason, tmp_path):
    with pytest.raises(UserError, match=reason):
        to_onnx(Tagger(), sentences(), tmp_path / "net", axes)
