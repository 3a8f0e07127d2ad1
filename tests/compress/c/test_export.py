"""The C program of a network computes what the network computes, and nothing is written if it cannot."""

import copy
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyro_vd import compress
from pyro_vd.compress import SelectedLinear, shrink, to_c
from pyro_vd.data import load
from pyro_vd.errors import UserError
from pyro_vd.files import partial_path
from pyro_vd.models import LeNet5, LeNet300
from tests.compress._nets import Written, pruned
from tests.compress.c._compile import SANITIZED, assert_equal_outputs, compile_c, needs_compiler, run_c

ROOT = Path(__file__).resolve().parents[3]
RESULTS, REAL_DATA = ROOT / "experiments" / "results", ROOT.parent / "shared" / "data"


class Branches(nn.Module):
    """Networks side by side: one trace and one compilation for all."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x).flatten(1) for branch in self.branches], 1)


def assert_branches(net, inputs, folder, **options):
    """Each branch's outputs are equal, relative to its own largest output."""
    made, _ = run_c(net, inputs, folder, **options)
    with torch.no_grad():
        expected = [branch(inputs).flatten(1) for branch in net.branches]
    for branch, own, other in zip(net.branches, made.split([e.shape[1] for e in expected], 1), expected, strict=True):
        assert (own - other).abs().max() <= 1e-5 * other.abs().max(), branch


ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Hardswish)


def random_network(seed):
    """Random layers of all kinds on images of 2 x 12 x 11, with random weights of which random ones are 0."""
    choose = random.Random(seed)  # noqa: S311
    layers, channels = [], 2
    x = torch.zeros(1, 2, 12, 11)

    def add(*made):
        nonlocal x
        for layer in made:
            x = layer.eval()(x)
            layers.append(layer)

    for _ in range(choose.randint(1, 4)):
        groups = choose.choice([1, 1, channels]) if channels < 5 else 1
        made = groups * choose.randint(2, 4)
        kernel, dilation = (choose.randint(1, 3), choose.randint(1, 3)), choose.randint(1, 2)
        padding = choose.choice([0, "same", (1, 2), (3, 0)])
        stride = 1 if padding == "same" else (choose.randint(1, 2), choose.randint(1, 3))
        conv = nn.Conv2d(channels, made, kernel, stride, padding, dilation, groups, bias=choose.random() < 0.7)
        try:
            add(conv)
        except RuntimeError:  # the kernel is larger than the image
            continue
        channels = made
        if choose.random() < 0.6:
            norm = nn.BatchNorm2d(channels, affine=choose.random() < 0.7)
            add(*choose.choice([[norm, choose.choice(ACTIVATIONS)()], [nn.PReLU(channels), norm]]))
        size = min(x.shape[2:])
        if size > 1:
            window = (choose.randint(2, min(size, 4)), choose.randint(1, 2), choose.randint(0, 1))
            ceil_mode, count_pad = choose.random() < 0.5, choose.random() < 0.5
            pools = [nn.MaxPool2d(*window, ceil_mode=ceil_mode), nn.AvgPool2d(*window, ceil_mode, count_pad)]
            add(choose.choice(pools))
    add(choose.choice([nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d((1, None))]))
    add(nn.Flatten(), nn.Dropout(), nn.Linear(x.flatten(1).shape[1], choose.randint(4, 9)))
    norm, last = nn.BatchNorm1d(x.shape[1]), nn.Linear(x.shape[1], 3, bias=False)
    add(norm, choose.choice(ACTIVATIONS)(), last)
    return fill(nn.Sequential(*layers), seed)


def fill(net, seed):
    """Random values everywhere, and random weights set to 0."""
    generator = torch.Generator().manual_seed(seed)
    share = 0.3 + 0.7 * torch.rand((), generator=generator)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=generator)
            elif tensor.is_floating_point():
                tensor.normal_(generator=generator)
                if tensor.ndim > 1:
                    tensor *= torch.rand(tensor.shape, generator=generator) < share
    return net.eval()


@needs_compiler
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(
    ("first", "count"), [(0, 6), *(pytest.param(first, 20, marks=pytest.mark.slow) for first in (6, 26))]
)
def test_random_networks(first, count, tmp_path):
    net = Branches(*(random_network(seed) for seed in range(first, first + count))).eval()
    assert_branches(net, torch.randn(25, 2, 12, 11), tmp_path)


def test_random_networks_differ():
    """The property is worth something: the networks have many kinds of layers, and outputs that depend on the input."""
    nets, x = [random_network(seed) for seed in range(6)], torch.randn(4, 2, 12, 11)
    assert len({type(layer) for net in nets for layer in net}) >= 12
    with torch.no_grad():
        assert sum(bool((net(x) != net(x[:1])).any()) for net in nets) >= 5


MODULES = (
    nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.3), nn.ELU(0.7), nn.SELU(), nn.CELU(0.7), nn.GELU(), nn.GELU("tanh"),
    nn.SiLU(), nn.Mish(), nn.Sigmoid(), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardtanh(-0.4, 0.8), nn.Tanh(),
    nn.Softplus(2, 3), nn.Softsign(), nn.LogSigmoid(), nn.Threshold(0.1, 0.2), nn.Softshrink(0.3), nn.Hardshrink(0.4),
    nn.Tanhshrink(), nn.PReLU(), nn.PReLU(4), nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout(), nn.Identity(),
    nn.Softmax(1), nn.Softmax(2), nn.LogSoftmax(-1), nn.Softmax2d(), nn.BatchNorm2d(4),
    nn.AvgPool2d(2, divisor_override=3), nn.AvgPool2d((3, 4), 2, 1, True), nn.AvgPool2d((3, 4), 2, 1, True, False),
    nn.MaxPool2d((2, 1), dilation=2),
)  # fmt: skip
FUNCTIONS = (
    lambda x: x.abs().log() + x.abs().sqrt() + (x.abs() + 0.1).rsqrt() + x.exp().log1p() + (2 * x).square(),
    lambda x: x.sin() * x.cos() - x.erf() / (x.abs() + 1) + torch.maximum(x, -x) + torch.minimum(x, 0.5 * x),
    lambda x: x.floor() + x.round() + x.sign() + x.clamp(-torch.inf, 1) + x.clamp(max=0.3) + x.clamp_min(-0.2) + 3 - x,
    lambda x: torch.sub(x, x.tanh(), alpha=2) + torch.add(x, x, alpha=0.5) + 1 / (x + 9) + x.abs() ** 1.5 + 2**x,
    lambda x: torch.where(x > 0.2, x, x.neg() * 3) + torch.where(x <= 0, 2.0, x) + (x >= 0).float() + (x < 1) * x,
    lambda x: F.relu(x.clone(), inplace=True).add_(1).mul_(x).view(len(x), -1)[:, None].squeeze(1).unsqueeze(-1),
    lambda x: torch.cat([x, F.max_pool2d(x, 3, 1, 1), x.tanh()], 1).relu(),
    lambda x: x.mean((-2, -1)) + x.amax((2, 3)) + x.flatten(2).mean(-1) + x.flatten(2).amax(-1),
    lambda x: F.max_pool1d(x.flatten(2), 3, 2, 1) + F.avg_pool1d(x.flatten(2), 3, 2, 1),
    lambda x: F.adaptive_avg_pool1d(x.flatten(2), 5) + F.adaptive_max_pool1d(x.flatten(2), 5),
    lambda x: x,
)  # fmt: skip


class Constants(nn.Module):
    """Tensors of the network's own: for each channel, for each number, in the network's code."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.randn(4, 1, 1))
        self.register_buffer("image", torch.randn(1, 4, 6, 5))
        self.scale = nn.Parameter(torch.rand(1, 4, 1, 1) + 0.5)

    def forward(self, x):
        normalized = (x - self.mean) / self.scale + self.image
        return self.mean - normalized * self.image + torch.add(self.image, x, alpha=2) + torch.tensor(0.7) * x


class Norms(nn.Module):
    """Batch normalization that no layer can take in: its layer is read twice, or there is none."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.first = nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(self.first(x))
        return x + self.norm(x)


class Sequences(nn.Module):
    """Convolutions of sequences, one of them called twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv1d(4, 4, 3, padding=2, dilation=2), nn.Conv1d(4, 6, 4, 3, groups=2)

    def forward(self, x):
        return self.last(self.conv(self.conv(x.flatten(2))))


class Selected(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = SelectedLinear(torch.tensor([0, 3, 77, 119, 3]), 3)

    def forward(self, x):
        return self.head(x.flatten(1))


@needs_compiler
def test_every_operation(tmp_path):
    own = (Constants(), Norms(), Sequences(), Selected())
    net = Branches(*MODULES, *(Written(lambda _, x, f=f: f(x)) for f in FUNCTIONS), *own)
    net = fill(net, 3)
    with torch.no_grad():
        net.branches[-4].scale.abs_().add_(0.5)
    assert_branches(net, torch.randn(30, 4, 6, 5), tmp_path)


class AnyArguments(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, *args):
        return self.layer(*args)


@needs_compiler
@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nn.Sequential(nn.Conv2d(4, 3, 2), nn.Flatten()), (4, 5, 6)),
        (nn.Sequential(nn.Linear(6, 6), nn.Unflatten(1, (2, 3))), (6,)),
        (Written(lambda net, x: net.layer(x).relu().unsqueeze(1), layer=nn.Linear(6, 2)), (6,)),
        (AnyArguments(), (6,)),
        (Written(lambda _, x: torch.where(x > 1e39, 0.0, x)), (6,)),
        (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (4, 5, 6)),
    ],
    ids=["flattened", "unflattened", "one axis more", "any arguments", "beyond float32", "average pool alone"],
)
def test_one_network_by_itself(net, shape, tmp_path):
    assert_equal_outputs(net.eval(), torch.randn(8, *shape), tmp_path)


@needs_compiler
def test_one_number_of_an_example_needs_no_axis(tmp_path):
    net, x = Written(lambda net, x: net.layer(x).squeeze(1), layer=nn.Linear(6, 1)), torch.randn(8, 6)
    made, _ = run_c(net, x, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(made[:, 0], net(x), rtol=1e-5, atol=1e-6)


@needs_compiler
def test_the_channels_last_format_changes_nothing(tmp_path):
    net = nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    x = torch.randn(8, 4, 5, 6).to(memory_format=torch.channels_last)
    assert_equal_outputs(net.to(memory_format=torch.channels_last), x, tmp_path)


@needs_compiler
@pytest.mark.parametrize("values", ["float32", "float16", "int8"])
def test_rounded_weights(values, tmp_path):
    """The network of the rounded weights is the program; the error says how far it is from the network itself."""
    net = fill(nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 4)), 0)
    x = torch.randn(8, 2, 8, 8)
    if values == "float16":
        with torch.no_grad():
            net[3].weight *= 1e-6  # subnormal numbers of float16
            net[3].bias.zero_()
    rounded = copy.deepcopy(net)
    with torch.no_grad():
        for layer in (rounded[0], rounded[3]):
            layer.weight.copy_(layer.weight.half() if values == "float16" else layer.weight)
    if values == "int8":
        rounded = compress.quantize(net, compress.int8_step_sizes(net))
    made, written = run_c(net, x, tmp_path, values=values)
    with torch.no_grad():
        expected, exact = rounded(x), net(x)
    assert (made - expected).abs().max() <= 1e-5 * expected.abs().max()
    error = float((expected - exact).abs().max() / exact.abs().max())
    assert written.error == pytest.approx(error, rel=1e-2, abs=1e-6)
    assert (written.error > 1e-6) == (values != "float32")


@needs_compiler
@pytest.mark.parametrize("make", [LeNet300, LeNet5])
def test_a_shrunk_network_has_the_pruned_networks_outputs(make, tmp_path):
    x = torch.rand(20, 1, 28, 28)
    net = pruned(make(), 0.05)
    small = shrink(net, x)
    with torch.no_grad():
        assert (net(x) - small(x)).abs().max() <= 1e-5 * net(x).abs().max()
    written = assert_equal_outputs(small, x, tmp_path)
    weights = sum(int(weight.count_nonzero()) for weight in small.parameters() if weight.ndim > 1)
    biases = sum(len(bias) for bias in small.parameters() if bias.ndim == 1)
    least = 5 * weights + 5 * biases  # 4 bytes and a gap for each weight; a bias and an end for each row
    assert least <= written.table_bytes <= 1.05 * least + 400


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a small network's files."""
    folder = tmp_path_factory.mktemp("c")
    net = fill(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)), 0)
    to_c(net, torch.randn(4, 1, 8, 8), folder / "my-net.v2.c", prefix="digits2")
    return folder


@needs_compiler
def test_the_self_test_compares_with_pytorch(written):
    program = compile_c(written, "my-net.v2.c", flags=("-O2", "-DDIGITS2_SELF_TEST"))
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("largest difference ")
    text = (written / "my-net.v2.c").read_text()
    value = text.split("linear_bias[3]", 1)[0] and text.split("_bias[3] = {\n    ", 1)[1].split("f", 1)[0]
    (written / "wrong.c").write_text(text.replace(value, str(float(value) + 1), 1))
    program = compile_c(written, "wrong.c", flags=("-O2", "-DDIGITS2_SELF_TEST"))
    assert subprocess.run([program], capture_output=True, check=False).returncode == 1


@needs_compiler
def test_the_program_has_no_state_and_needs_no_library(written):
    """Threads may call it at once, and it runs where there is no operating system."""
    compile_c(written, "my-net.v2.c", flags=("-O2", "-c"))
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm on the path")
    listed = subprocess.run([nm, written / "my-net.v2.c.program"], capture_output=True, text=True, check=True).stdout
    symbols = [line.split()[-2:] for line in listed.splitlines()]
    assert [name.lstrip("_") for kind, name in symbols if kind == "T"] == ["digits2_run"]
    assert not [name for kind, name in symbols if kind in "bBdDC"]
    assert {name.lstrip("_") for kind, name in symbols if kind == "U"} <= {"memcpy", "memset"}


def test_the_header_says_how_to_call_it(written):
    header = (written / "my-net.v2.h").read_text()
    for line in ("#define DIGITS2_INPUTS 64", "#define DIGITS2_OUTPUTS 3", "#define DIGITS2_SCRATCH 72 /* floats */",
                 "void digits2_run(const float *input, float *output, float *scratch);", '#include "my-net.v2.h"',
                 "one input of shape 1 x 8 x 8", "-DDIGITS2_SELF_TEST my-net.v2.c"):  # fmt: skip
        assert line in header


@pytest.mark.parametrize(
    ("net", "x", "options", "message"),
    [
        (nn.LayerNorm(3), torch.randn(4, 3), {}, r"layer '' \(LayerNorm\) has no form in C; compute it with"),
        (nn.Sequential(nn.Linear(3, 2), nn.GLU()), torch.randn(4, 3), {}, r"layer '1' \(GLU\) has no form in C"),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), torch.randn(4, 2, 5, 5), {}, r"\(Conv2d\) has no form"),
        (nn.ConvTranspose2d(2, 2, 3), torch.randn(4, 2, 5, 5), {}, r"\(ConvTranspose2d\) has no form in C"),
        (nn.AdaptiveAvgPool2d(3), torch.randn(4, 2, 5, 6), {}, r"pools \(2, 5, 6\) to \(2, 3, 3\); choose an output"),
        (nn.Linear(3, 2), torch.randn(4, 5, 3), {}, r"reads \(5, 3\) numbers of an example; flatten them"),
        (Written(lambda _, x: x - x.mean(0)), torch.randn(4, 3), {}, "makes a tensor whose first axis is not"),
        (Written(lambda _, x: x.sum(1)), torch.randn(4, 3), {}, r"operation 'sum_1' has no form in C"),
        (Written(lambda _, x: x.mean(1, keepdim=True)), torch.randn(4, 3, 2), {}, r"reduces axes \[1\] of 3"),
        (Written(lambda _, x: x * x.mean((2, 3), keepdim=True)), torch.randn(4, 3, 2, 2), {}, r"combines shapes \(3,"),
        (Written(lambda _, x: torch.cat([x, x], 2)), torch.randn(4, 3, 2), {}, "concatenate channels, on axis 1"),
        (Written(lambda _, x: x.softmax(0)), torch.randn(4, 3), {}, "is a softmax over the examples of a batch"),
        (Written(lambda _, x: x.flip(1)), torch.randn(4, 3), {}, r"operation 'flip' has no form in C"),
        (Written(lambda _, x: x.index_select(1, torch.tensor([0])).relu()), torch.randn(4, 3), {}, "only a linear"),
        (Written(lambda _, x: torch.ones(len(x), 2)), torch.randn(4, 3), {}, "output does not depend on its input"),
        (Written(lambda _, x: x.argmax(1).float()), torch.randn(4, 3), {}, "'argmax' makes a tensor of torch.int64"),
        (Written(lambda _, x: ((x > 0) + (x > 1)).float()), torch.randn(4, 3), {}, "makes a tensor of torch.bool"),
        (Written(lambda _, x: x.double().relu()), torch.randn(4, 3), {}, "makes a tensor of torch.float64"),
        (Written(lambda _, x: x * x.shape[0]), torch.randn(4, 3), {}, "depends on the number of examples"),
        (Written(lambda _, x: x * len(x)), torch.randn(4, 3), {}, "outputs of the steps that were read differ"),
        (Written(lambda _, x: x + torch.ones(x.shape[0], 1)), torch.randn(4, 3), {}, "depends on the number of"),
        (Written(lambda _, x: x[:, :2] * 2), torch.randn(4, 3), {}, r"operation 'slice_1' has no form in C"),
        (Written(lambda _, x: x.index_select(1, torch.tensor([0])).clone()), torch.randn(4, 3), {}, "only a linear"),
        (Written(lambda _, x: x.round(decimals=2)), torch.randn(4, 3), {}, r"operation 'round_1' has no form in C"),
        (Written(lambda _, x: (x.relu(), x.abs())), torch.randn(4, 3), {}, "the network returns 2 tensors, and the"),
        (Written(lambda _, x: (y := x.relu(), y)), torch.randn(4, 3), {}, "the network returns 2 tensors, and the"),
        (Written(lambda _, x: x.view(4, -1)), torch.randn(4, 3), {}, "does not run on a batch of 1: .*; its forward"),
        (nn.Embedding(3, 2), torch.tensor([[0], [1]]), {}, "inputs are torch.int64; only networks that read float32"),
        (nn.Linear(3, 2), torch.randn(4, 3), {"prefix": "2nd"}, "prefix='2nd': it must be a letter, then letters"),
        (nn.Linear(3, 2), torch.randn(4, 3), {"prefix": 2}, "prefix=2: it must be a letter, then letters"),
        (nn.Linear(3, 2), torch.randn(4, 3), {"values": "int4"}, "values='int4': it must be one of float32,"),
        (nn.Linear(3, 2), torch.randn(4, 3), {"values": ["int8"]}, r"values=\['int8'\]: it must be one of float32,"),
        (nn.Linear(3, 2), torch.randn(1, 3), {}, "needs at least two inputs"),
        (nn.Linear(3, 2), torch.full((4, 3), torch.nan), {}, "are not finite"),
    ],
)  # fmt: skip
def test_what_has_no_form_in_c_is_refused_by_name(net, x, options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        to_c(net, x, tmp_path / "network.c", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("net", "x", "message"),
    [
        (nn.Linear(3, 2), (torch.randn(4, 3),), "to_c: inputs must be one tensor, not tuple"),
        (nn.Linear(3, 2), {"input": torch.randn(4, 3)}, "to_c: inputs must be one tensor, not dict"),
        (nn.Linear(3, 2).state_dict(), torch.randn(4, 3), "to_c: net must be an nn.Module, not OrderedDict"),
    ],
)
def test_what_is_no_network_or_no_tensor_is_refused(net, x, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        to_c(net, x, tmp_path / "network.c")
    assert not list(tmp_path.iterdir())


def test_weights_that_float16_or_int8_lose_are_refused(tmp_path):
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    with torch.no_grad():
        net[0].weight[0, 0] = 1e6
    with pytest.raises(UserError, match=r"layer '0' \(Linear\) has weights beyond 65,504"):
        to_c(net, torch.randn(4, 3), tmp_path / "network.c", values="float16")
    with torch.no_grad():
        net[0].weight[:] = torch.tensor([[1e6, 1.0, 1.0], [0.0, 1.0, 1.0]])
        net[0].bias.zero_(), net[1].bias.zero_()
    x = torch.randn(4, 3)
    x[:, 0] = 0
    with pytest.raises(UserError, match="outputs with weights in int8 differ by"):
        to_c(net, x, tmp_path / "network.c", values="int8")
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be_written_leave_the_old_ones(tmp_path):
    to_c(nn.Linear(3, 2), torch.randn(4, 3), tmp_path / "network.c")
    before = (tmp_path / "network.c").read_bytes()
    partial_path(tmp_path / "network.h").mkdir()  # in the way of the second file
    with pytest.raises(OSError, match="network"):
        to_c(nn.Linear(3, 2), torch.randn(4, 3), tmp_path / "network.c")
    assert (tmp_path / "network.c").read_bytes() == before
    assert not partial_path(tmp_path / "network.c").exists()


def test_a_folder_in_the_place_of_the_header_leaves_the_old_source(tmp_path):
    (tmp_path / "network.h").mkdir()
    (tmp_path / "network.c").write_text("old")
    with pytest.raises(IsADirectoryError, match=r"network\.h"):
        to_c(nn.Linear(3, 2), torch.randn(4, 3), tmp_path / "network.c")
    assert (tmp_path / "network.c").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.c", "network.h"]


def test_the_network_is_untouched(tmp_path):
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double().train()
    before = copy.deepcopy(net.state_dict())
    to_c(net, torch.randn(4, 3, dtype=torch.float64), tmp_path / "network.c")
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def ten_thousand_images():
    """MNIST's test images, or where they are not, digits of 28 x 28 pixels and moved copies of them."""
    if REAL_DATA.is_dir():
        return load("mnist", REAL_DATA, download=False).test.batch(torch.arange(10_000))[0]
    digits = F.interpolate(load("digits").test.batch(torch.arange(100))[0], (28, 28), mode="bilinear")
    return torch.cat([digits.roll((down, across), (2, 3)) for down in range(-5, 5) for across in range(-5, 5)])


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("values", ["float32", "float16", "int8"])
@pytest.mark.parametrize("file", sorted(RESULTS.rglob("mnist-lenet*.safetensors.xz")), ids=lambda file: file.name)
def test_committed_networks_on_all_test_images(file, values, tmp_path):
    images = ten_thousand_images()
    net = compress.load(file, LeNet300() if "lenet300" in file.name else LeNet5())
    net = net if values == "float32" else compress.round_to_float16(net)
    if values == "int8":
        net = compress.quantize(net, compress.int8_step_sizes(net))
    assert_equal_outputs(net, images, tmp_path, values=values, flags=("-O2", *SANITIZED[1:]))
