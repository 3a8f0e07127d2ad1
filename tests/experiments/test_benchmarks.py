"""The benchmarks measure what they say: steps, bytes, intervals, and peers that do the same work."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
import tyro
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pyro_vd import Categorical, Posterior, Training, compress, guides, lift
from pyro_vd.data import load
from pyro_vd.errors import UserError
from pyro_vd.experiments import digit_recognizer
from pyro_vd.experiments.benchmarks import (
    c_code,
    c_forms,
    compact,
    forms,
    inference,
    kernels,
    onnx_forms,
    page,
    pictures,
    random_code,
    scaling,
    selection,
    step,
    storage,
    timing,
)
from pyro_vd.experiments.benchmarks.columns import COLUMNS, EAGER, FLOOR, HAND, OURS, HandWritten, Noisy, products
from pyro_vd.experiments.common.records import read_records
from pyro_vd.experiments.common.spec import Data, Fit, Gradual, Spec
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import PAGE_WIDTH
from pyro_vd.metrics import compute_logits, error_rate
from pyro_vd.models import LeNet5, LeNet300
from tests.compress._nets import prune_at_random

N, B, FEATURES, CLASSES = 200, 16, 6, 3
COMPILED = [name for name in COLUMNS if "compile" in name]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def batch():
    x = torch.randn(B, FEATURES)
    return x, x[:, :CLASSES].argmax(1)


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def assert_shown(tables, printed):
    """Every table has rows as wide as its header, and every cell is printed."""
    assert tables
    for table in tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.header)}
        for row in table.rows:
            assert all(cell in printed for cell in row)


def test_a_round_times_every_column_for_its_own_number_of_steps():
    calls = {"a": 0, "b": 0}

    def counting(name):
        def count(x, y):
            calls[name] += 1

        return count

    times = timing.interleaved({name: counting(name) for name in calls}, batch, rounds=5, turn=1e9, most=7)
    assert calls == {"a": 4 + 5 * 7, "b": 4 + 5 * 7}
    assert all(len(values) == 5 and min(values) > 0 for values in times.values())


def test_the_turns_of_a_round_are_in_a_new_order():
    order = []
    steps = {name: lambda x, y, name=name: order.append(name) for name in "abcd"}
    timing.interleaved(steps, batch, rounds=6, turn=0.0, most=1)
    rounds = ["".join(order[i : i + 4]) for i in range(16, len(order), 4)]
    assert all(sorted(names) == list("abcd") for names in rounds)
    assert len(set(rounds)) > 1


def test_intervals():
    values = [1.0, 1.1, 0.9, 1.05, 0.95, 1.2, 1.0, 0.98]
    low, high = timing.median_interval(values)
    assert 0.9 <= low < 1.0 < high <= 1.2
    assert timing.ratio_interval([2 * value for value in values], values) == pytest.approx((2.0, 2.0))
    low, high = timing.ratio_interval(values[::-1], values)
    assert low < 1.0 < high


# Mutants: the sum of all allocations, the last one, what is there before.
def test_peak_bytes_are_those_of_the_fullest_moment():
    held = torch.empty(1 << 22)

    def step(x, y):
        first = torch.empty(1 << 20)
        del first
        second, third = torch.empty(1 << 21), torch.empty(1 << 20)
        return second.data_ptr() + third.data_ptr() + held.data_ptr()

    assert timing.peak_bytes(step, batch()) == 4 * 3 << 20


def test_hand_written_layers_have_our_kl_and_our_outputs():
    """Where they agree, the columns do the same work. Theirs adds epsilons, hence the tolerance."""
    net = network()
    model = lift(net, guides.sparse.prior, Categorical, num_data=N)
    ours = Posterior(model, guides.sparse.Guide(model))
    theirs = HandWritten(net, N)
    layers = [module for module in theirs.modules() if isinstance(module, Noisy)]
    with torch.no_grad():
        for site, layer in zip(ours.guide.sites, layers, strict=True):
            layer.log_sigma2.uniform_(-8, -2)
            ours.guide.log_sigma2[site].copy_(layer.log_sigma2)
    assert [layer.kl().item() for layer in layers] == pytest.approx(list(ours.kl().values()), rel=1e-4)
    x, y = batch()
    q = ours.guide.q("0.weight")
    with torch.no_grad():
        mean = ours.mean(ours.masks(3.0))[0](x)
        draws = torch.stack([layers[0](x) for _ in range(4000)]) - mean
    error = draws.std(0) / math.sqrt(4000)
    assert (draws.mean(0).abs() < 5 * error).all()
    torch.testing.assert_close(draws.var(0), x.square() @ q.variance.detach().T, rtol=0.15, atol=1e-6)
    assert theirs(x, y).item() > sum(ours.kl().values())


@pytest.mark.parametrize("make", [LeNet300, LeNet5])
def test_the_floor_has_the_matrix_products_of_a_step(make):
    """Six per layer: mean and variance, forward, by weight and by input; the first layer has none by input."""
    net, x = make(), torch.rand(B, *make().input_shape)
    with FlopCounterMode(display=False) as one_pass:
        net(x)
    floor = products(net, N, x)
    with FlopCounterMode(display=False) as counted:
        floor(x, torch.zeros(B))
    sizes = [counts for name, counts in one_pass.get_flop_counts().items() if name.count(".") == 1]
    layers = [sum(counts.values()) for counts in sizes]
    assert len(layers) == sum(isinstance(module, nn.Linear | nn.Conv2d) for module in net.modules())
    assert counted.get_total_flops() == 4 * layers[0] + 6 * sum(layers[1:])


@pytest.mark.parametrize("name", [name for name in COLUMNS if name not in COMPILED])
def test_every_eager_column_makes_steps(name):
    check_column(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_every_compiled_column_makes_steps(name):
    check_column(name)


def check_column(name):
    torch.manual_seed(1)
    net = network()
    before = [p.clone() for p in net.parameters()]
    made = COLUMNS[name](net, N, batch()[0])
    losses = [made(*batch()) for _ in range(150)]
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))  # the next column's start
    if name == FLOOR:
        return
    losses = [-loss.log_likelihood if isinstance(loss, tuple) else loss for loss in losses]
    assert sum(losses[-50:]) < sum(losses[:50])


def record():
    column = {"interval_ms": (0.9, 1.1), "times_ours_interval": (0.5, 2.0), "peak_bytes": 1 << 21}
    columns = {
        name: column | {"median_ms": 2.0 + i, "times_ours": 1 + i / 2, "first_step_s": 30.0 if name == OURS else 1.0}
        for i, name in enumerate(COLUMNS)
    }
    return {
        "network": "lenet300", "weights": 266_200, "batch_size": 100, "device": "cpu", "threads": 2, "torch": "2.15.0",
        "columns": columns,
    }  # fmt: skip


def test_the_tables_have_a_row_per_column():
    times, costs = step.make_tables([record()])
    for table in (times, costs):
        assert [row[0] for row in table.rows] == list(COLUMNS)
        assert {len(row) for row in table.rows} == {len(table.header)}
    assert times.rows[0] == ("ours, compiled", "2.00", "0.90 to 1.10", "1.00", "0.50 to 2.00")
    assert costs.rows[0] == ("ours, compiled", f"{2 / 11:.2f}", "2.0", "30.0")
    assert times.title == "lenet300, 266,200 weights, batch 100, cpu, 2 threads, torch 2.15.0"
    assert "29,000 steps" in costs.title


def test_small_networks_and_many_threads_come_first():
    given = [record() | {"network": name, "threads": n} for name, n in (("lenet5", 1), ("lenet300", 1), ("lenet5", 2))]
    titles = [table.title for table in step.make_tables(given)[::2]]
    assert [(title.split(",")[0], "2 threads" in title) for title in titles] == [
        ("lenet300", False),
        ("lenet5", True),
        ("lenet5", False),
    ]


def test_compiling_has_paid_when_the_faster_steps_made_up_for_it():
    assert step.break_even(record()) == 29_000  # 29 s later, 1 ms a step faster


@pytest.mark.parametrize("module", [step, kernels])
def test_an_unknown_network_is_refused_by_name(module, capsys):
    with pytest.raises(SystemExit) as end:
        tyro.cli(module.Args, args=["--network", "lenet"])
    assert end.value.code == 2
    assert "lenet300" in capsys.readouterr().err


def test_a_single_round_has_no_interval():
    with pytest.raises(UserError, match="--rounds must be at least 2"):
        step.main(step.Args(rounds=1))


@pytest.mark.parametrize("wrong", [{"turn": -1.0}, {"turn": math.nan}, {"warm_up": math.inf}, {"most": 0}])
def test_a_step_is_timed_in_seconds_that_there_are(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')}"):
        step.main(step.Args(**wrong))


def test_a_benchmark_needs_a_folder_that_can_be_written(tmp_path):
    (tmp_path / "taken").write_text("in the way")
    for module in (step, scaling, kernels):
        with pytest.raises(UserError, match=r"--out .*taken.*cannot be written"):
            module.main(module.Args(out=tmp_path / "taken" / "out"))


@pytest.mark.parametrize("weights", [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000])
def test_a_width_makes_about_the_weights_asked_for(weights):
    width = scaling.width_of(weights)
    assert 784 * width + 2 * width**2 + 10 * width == pytest.approx(weights, rel=0.05)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rounds": 1}, "--rounds must be at least 2"),
        ({"threads": -1}, "--threads must be at least 0"),
        ({"threads": 100_000}, r"--threads must be .*at most"),
        ({"turn": float("nan")}, "--turn must be at least 0 and finite"),
        ({"turn": -1.0}, "--turn must be at least 0 and finite"),
        ({"weights": (0,)}, "at least 1"),
        ({"batches": (10, 0)}, "at least 1"),
        ({"seeds": (2, 4)}, "needs 1 among them"),
    ],
)
def test_scaling_refuses_what_it_cannot_measure(wrong, message, tmp_path):
    with pytest.raises(UserError, match=message):
        scaling.main(scaling.Args(out=tmp_path, **wrong))
    assert not list(tmp_path.iterdir())


def test_scaling_measures_every_axis_and_writes_what_it_prints(tmp_path, capsys, quick_compiler):
    args = scaling.Args(
        weights=(800,), batches=(3,), seeds=(2, 1), batch_size=4, device="cpu", rounds=2, turn=0.0, out=tmp_path
    )
    scaling.main(args)
    (record,) = read_records(tmp_path, scaling.REQUIRED)
    points = {(point["axis"], point["value"], point["column"]) for point in record["points"]}
    columns = (OURS, EAGER, HAND, FLOOR)
    assert points == {
        *(("weights", 796, column) for column in columns),
        *(("batch", 3, column) for column in columns),
        ("seeds", 1, OURS),
        ("seeds", 2, OURS),
    }
    assert all(
        0 < point["interval_ms"][0] <= point["median_ms"] <= point["interval_ms"][1] for point in record["points"]
    )
    assert_shown(scaling.make_tables([record]), capsys.readouterr().out)
    assert (tmp_path / "cpu.png").stat().st_size > 10_000


def test_the_table_of_seeds_compares_with_one_whatever_the_order():
    points = [
        {"axis": "seeds", "value": value, "column": OURS, "median_ms": ms, "interval_ms": (ms, ms)}
        for value, ms in ((4, 12.0), (1, 4.0))
    ]
    (table,) = scaling.make_tables([{"points": points, "device": "cpu", "threads": 1, "torch": "2"}])
    assert table.rows[0] == ("4", "12.00", "12.00 to 12.00", "3.00", "0.75")


def test_the_parts_of_a_step_are_all_of_it_and_loops_have_names():
    events = [
        ("graph_0_cpp_fused_add_exp_mul_3", 4.0),
        ("graph_0_cpp_fused_add_exp_mul_5", 2.0),  # the same operations over another layer
        ("graph_0_cpp_fused_relu_7", 0.01),
        ("aoti_torch_cpu_mm_out", 1.5),
        ("aoti_torch_cpu_addmm_out", 0.5),
        ("aten::normal_", 1.0),
        ("aten::copy_", 0.5),
        ("## Call CompiledFxGraph f2 ##", 0.49),
    ]
    parts = kernels.sum_parts(events)
    assert [(part["part"], pytest.approx(part["ms"])) for part in parts] == [
        ("loop: add exp mul", 6.0),
        ("matrix products and convolutions", 2.0),
        ("random numbers", 1.0),
        ("copies and allocation", 0.5),
        ("wrapper and profiler", 0.49),
        ("small loops", 0.01),
    ]
    assert sum(part["share"] for part in parts) == pytest.approx(1.0)


def test_kernels_refuses_what_it_cannot_measure(tmp_path):
    with pytest.raises(UserError, match="--steps and --batch-size"):
        kernels.main(kernels.Args(steps=0, out=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_kernels_profiles_generated_code(tmp_path, capsys):
    torch._dynamo.reset()
    kernels.main(kernels.Args(dataset="digits", steps=5, out=tmp_path))
    (record,) = read_records(tmp_path, kernels.REQUIRED)
    named = [part["part"] for part in record["parts"] if part["part"].startswith("loop: ")]
    assert any("sqrt" in name and "exp" in name for name in named)  # the KL's gradient and Adam
    assert_shown(kernels.make_tables([record]), capsys.readouterr().out)


def test_a_long_name_of_a_loop_is_cut_after_a_word():
    parts = [{"part": "loop: " + 30 * "add mul ", "ms": 1.0, "share": 1.0}]
    given = {"network": "lenet300", "batch_size": 100, "parts": parts, "device": "cpu", "threads": 1, "torch": "2"}
    (table,) = kernels.make_tables([given])
    assert len(table.rows[0][0]) <= kernels.NAME_WIDTH
    assert table.rows[0][0].endswith((" add ...", " mul ..."))


SPEC = Spec(
    network="lenet300",
    data=Data(name="digits"),
    phases=(Fit(scheme="sparse", training=Training(epochs=3), threshold=3.0),),
)


@pytest.fixture
def compressed(tmp_path):
    """The path of a record as mnist_compress leaves it, with its network beside it."""
    net = LeNet300().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= torch.rand_like(parameter) < 0.05
    images = torch.rand(8, 1, 28, 28)
    path = Store(tmp_path).path(SPEC)
    size = compress.save(compress.shrink(net, images), path.with_suffix(".safetensors.xz"))
    numbers = {
        "protocol": "molchanov2017",
        "changes": {"epochs": 3},
        "sparsity_per_layer": {"fc1.weight": 0.95, "fc2.weight": 0.95, "fc3.weight": 0.95},
        "weights": 266_200,
        "dataset": "digits (28x28)",
        "data_sha256": load("digits").sha256,
        "test_error": 0.1,
        "test_error_unpruned": 0.05,
        "compression": 20.0,
        "deployment": {
            "dense_bytes": compress.dense_bytes(net),
            "forms": {"float32": {"bytes": size, "test_error": 0.1}},
        },
    }
    return Store(tmp_path).save(SPEC, numbers).path


def save_changed(path, out, spec=SPEC, **changes):
    """Writes the record at ``path`` with changes to ``out``, and returns its path there."""
    record = {name: value for name, value in Store(path.parent).read(path).record.items() if name != "spec"}
    return Store(out).save(spec, {**record, **changes}).path


def test_every_form_gives_the_same_logits(compressed):
    net = compress.load(compressed.with_suffix(".safetensors.xz"), LeNet300()).eval()
    x = torch.rand(5, 1, 28, 28)
    with torch.no_grad():
        expected = net(x)
        for kind in (forms.SparseLinear, forms.SciPyLinear):
            torch.testing.assert_close(forms.to_sparse(net, kind)(x), expected, rtol=1e-4, atol=1e-5)
    images = torch.rand(70, 1, 28, 28)
    exact = onnx_forms.to_onnxruntime(net, 1, 7, images)
    torch.testing.assert_close(exact.run(x), expected, rtol=1e-4, atol=1e-5)
    for int8 in (onnx_forms.to_dynamic_int8(net, 1, 7, images), onnx_forms.to_static_int8(net, 1, 7, images)):
        difference = (int8.run(x) - expected).abs().max() / expected.abs().max()
        assert 0 < difference < 0.05  # eight bits, and not the network as it was
        assert int8.bytes < exact.bytes


def test_gathering_is_timed_against_zeros_layer_by_layer(tmp_path, capsys):
    few = {"inputs": (8, 16), "outputs": (3,), "kept": (0.5, 0.25), "batch": 2, "rounds": 2, "turn": 0.001}
    selection.main(selection.Args(**few, out=tmp_path))
    record = json.loads((tmp_path / "batch=2.json").read_text())
    assert record.keys() >= set(selection.REQUIRED)
    assert [(layer["inputs"], layer["read"]) for layer in record["layers"]] == [(8, 4), (8, 2), (16, 8), (16, 4)]
    assert all(layer[what][name] > 0 for layer in record["layers"] for what in ("minimum_ms", "median_ms") for name in
               ("PyTorch, zeros", "PyTorch, gathered", "onnxruntime, zeros", "onnxruntime, gathered"))  # fmt: skip
    (table,) = selection.make_tables([record])
    assert [row[:4] for row in table.rows] == [
        ("3", "8", "4", "3"),
        ("3", "16", "8", "3"),
        ("9", "8", "2", "3"),
        ("9", "16", "4", "3"),
    ]
    assert_shown([table], capsys.readouterr().out)
    for wrong, named in (({"rounds": 1}, "--rounds"), ({"kept": (1.0,)}, "--kept"), ({"inputs": (0,)}, "--inputs")):
        with pytest.raises(UserError, match=named):
            selection.main(selection.Args(**few | wrong, out=tmp_path))


def test_a_layer_over_tokens_can_be_sparse_and_attention_stays():
    torch.manual_seed(0)
    layer, attention = torch.nn.Linear(6, 4), torch.nn.MultiheadAttention(6, 2, batch_first=True)
    tokens = torch.rand(2, 5, 6)
    with torch.no_grad():
        layer.weight *= torch.rand_like(layer.weight) < 0.3
        for kind in (forms.SparseLinear, forms.SciPyLinear):
            sparse = forms.to_sparse(torch.nn.Sequential(layer), kind)
            torch.testing.assert_close(sparse(tokens), layer(tokens))
            as_it_was = forms.to_sparse(attention, kind)
            torch.testing.assert_close(as_it_was(tokens, tokens, tokens), attention(tokens, tokens, tokens))


def test_the_masked_network_has_as_many_zeros_in_each_layer():
    net = LeNet300().eval()
    sparsity = {"fc1.weight": 0.98, "fc3.weight": 0.5}
    zeros = forms.mask_smallest(net, sparsity)
    shares = {site: float((zeros.get_parameter(site) == 0).float().mean()) for site in sparsity}
    assert shares == pytest.approx(sparsity, abs=1e-5)
    assert torch.equal(zeros.fc2.weight, net.fc2.weight)
    assert net.fc1.weight.all()


def test_inference_times_every_form_and_writes_what_it_prints(compressed, tmp_path, capsys):
    out = tmp_path / "out"
    inference.main(inference.Args(record=compressed, batches=(1, 3), rounds=2, turn=0.001, threads=0, out=out))
    (record,) = read_records(out, inference.REQUIRED)
    assert record["macs"]["sparse"] < record["macs"]["shrunk"] < record["macs"]["dense"] == 266_200
    assert record["bytes"]["shrunk"] < record["bytes"]["dense"] == record["bytes"]["masked"]
    assert record["macs"]["ONNX, dense"] == 266_200 > record["macs"]["ONNX, shrunk"] == record["macs"]["shrunk"]
    own = [record["errors"][form] for form in ("shrunk", "sparse", "sparse, SciPy", "ONNX, shrunk")]
    assert own == own[:1] * 4  # measured, unlike the record's
    assert own[0] > 0.5  # of a network that nobody trained
    assert (record["errors"]["dense"], record["errors"]["masked"]) == (0.05, 0.1)
    assert set(record["errors"]) == set(record["columns"]) == set(record["macs"]) == set(record["bytes"])
    assert all(set(column) == {"1", "3"} for column in record["columns"].values())
    for form in record["columns"].values():
        for size, column in form.items():
            faster = record["columns"]["dense"][size]["median_ms"] / column["median_ms"]
            assert column["times_faster"] == pytest.approx(faster, rel=1e-6)
    (table,) = inference.make_tables([record])
    assert_shown([table], capsys.readouterr().out)
    assert table.title.startswith("lenet300, sparse, molchanov2017: 3 epochs, 20x fewer weights, seed 0, ")
    assert [row[1] for row in table.rows if row[0] == "masked"] == ["10.00"]
    assert record["trained"] == compressed.name
    pictures.draw_inference([record], out / "times.png")
    assert (out / "times.png").stat().st_size > 10_000


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc on the path")
def test_generated_c_is_timed_image_by_image_with_its_bytes(compressed, tmp_path, capsys):
    out = tmp_path / "out"
    c_code.main(c_code.Args(record=compressed, images=5, rounds=2, turn=0.001, out=out))
    (record,) = read_records(out, c_code.REQUIRED)
    columns = record["columns"]
    assert len(columns) == 8
    assert all(column["minimum_us"] <= column["median_us"] for column in columns.values())
    assert columns["C"]["times_c"] == 1
    dense = columns["PyTorch, dense"]
    assert dense["times_c"] == pytest.approx(dense["median_us"] / columns["C"]["median_us"], rel=1e-6)
    tables = [columns[name]["table_bytes"] for name in ("C", "C, float16", "C, int8")]
    assert tables == sorted(tables, reverse=True)
    assert all(0 < columns[name]["code_bytes"] < 4096 for name in c_code.C_FORMS)
    images = inference.load_data(Store(compressed.parent).read(compressed), LeNet300(), None, None).test
    net = compress.load(compressed.with_suffix(".safetensors.xz"), LeNet300()).eval()
    assert columns["C"]["error"] == pytest.approx(error_rate(compute_logits(net, images), images.labels), abs=1e-6)
    (table,) = c_code.make_tables([record])
    assert_shown([table], capsys.readouterr().out)
    assert [row[0] for row in table.rows] == list(columns)


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc on the path")
def test_a_network_of_a_package_is_timed_as_its_compact_file_has_it(tmp_path, monkeypatch):
    pytest.importorskip("constriction")
    images = load("digits").resize(28)
    few = replace(images, train=images.subset(200, 50, 0).train, test=images.subset(200, 50, 0).test)
    for module in (digit_recognizer, c_code):
        monkeypatch.setattr(module, "load", lambda name, folder: few)
        monkeypatch.setattr(module, "load_network", LeNet300)
    digit_recognizer.main(digit_recognizer.Args(epochs=1, seeds=1, out=tmp_path / "runs", engine="eager"))
    (path,) = (tmp_path / "runs").glob("*.json")
    out = tmp_path / "out"
    c_code.main(c_code.Args(record=path, images=5, rounds=2, turn=0.001, out=out))
    (record,) = read_records(out, c_code.REQUIRED)
    assert record["network"] == "digit-recognizer-py"
    assert record["columns"]["C"]["error"] == pytest.approx(record["test_error"], abs=1e-6)
    monkeypatch.setattr(c_code, "load", lambda name, folder: replace(few, sha256="another"))
    with pytest.raises(UserError, match="other data than the record's"):
        c_code.main(c_code.Args(record=path, images=5, rounds=2, turn=0.001, out=out))


def test_generated_c_refuses_what_it_cannot_measure(compressed, tmp_path, monkeypatch):
    given = c_code.Args(record=compressed, out=tmp_path / "out")
    if shutil.which("gcc"):
        for wrong, named in (
            ({"images": 0}, "--images must be at least 1"),
            ({"images": 10**6}, "--images must be at most"),
        ):
            with pytest.raises(UserError, match=named):
                c_code.main(replace(given, **wrong))
    monkeypatch.setattr(c_forms.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="needs gcc and size on the path"):
        c_code.main(given)
    assert not list(tmp_path.glob("out/*"))


def test_the_error_of_a_baselines_dense_network_is_not_known(compressed):
    run = Store(compressed.parent).read(compressed)
    pruned = replace(SPEC, phases=(Gradual(sparsity=0.95, training=Training(epochs=3)),))
    known = [inference._measure_errors({}, it, None) for it in (run, replace(run, spec=pruned))]
    assert [(errors["dense"], errors["masked"]) for errors in known] == [(0.05, 0.1), (None, 0.1)]


def test_storage_counts_what_is_written(compressed, tmp_path, capsys):
    storage.main(storage.Args((compressed,), out=tmp_path / "out"))
    (record,) = read_records(tmp_path / "out", storage.REQUIRED)
    net = compress.load(compressed.with_suffix(".safetensors.xz"), LeNet300()).eval()
    weights = [weight for name, weight in net.named_parameters() if name.endswith("weight")]
    assert record["nonzero"] == sum(int((weight != 0).sum()) for weight in weights)
    compress.to_safetensors(net, tmp_path / "plain")
    assert record["bytes"]["zeros written"] == (tmp_path / "plain").stat().st_size
    assert record["bytes"]["gaps, xz"] == compressed.with_suffix(".safetensors.xz").stat().st_size
    arrays = sum(tensor.numel() * tensor.element_size() for tensor in storage.sparse_rows(net).values())
    assert 0 < record["bytes"]["sparse rows"] - arrays < 2000  # the names
    for coding in ("zeros written", "sparse rows", "gaps"):
        assert record["bytes"][f"{coding}, xz"] < record["bytes"][coding]
    assert record["bytes"]["gaps"] < record["bytes"]["sparse rows"] < record["bytes"]["zeros written"]
    names, ratios = storage.make_tables([record])
    assert_shown([names, ratios], capsys.readouterr().out)
    assert names.rows == (("1", "lenet300", "sparse", "molchanov2017: 3 epochs", "0"),)
    shown = [266_200 / record["nonzero"], record["dense_bytes"] / record["bytes"]["zeros written"]]
    assert ratios.rows[0][:3] == ("1", *(f"{number:.1f}x" for number in shown))
    assert ratios.rows[0][-1] == "-"  # no grid of the posterior


def test_compact_decodes_what_it_counts(compressed, tmp_path, monkeypatch, capsys):
    small = compress.shrink(prune_at_random(LeNet300(), 0.25), torch.rand(8, 1, 28, 28))
    compress.save(small, compressed.with_suffix(".safetensors.xz"))
    monkeypatch.setattr(compact, "measure_nncodec", lambda net, steps: None)
    compact.main(compact.Args((compressed,), tolerances=(1e-4, 1e-2), images=50, epochs=1, out=tmp_path / "out"))
    (record,) = read_records(tmp_path / "out", compact.REQUIRED)
    assert [(row["tolerance"], row["epochs"]) for row in record["rows"]] == [(1e-4, 0), (1e-4, 1), (1e-2, 0), (1e-2, 1)]
    for row in record["rows"]:
        assert row["bound"] < row["bytes"] < 1.05 * row["bound"]
        assert row["bytes"] < row["bytes_xz"]
        assert row["test_error"] > 0.5  # of a network that nobody trained
    fine, _, coarse, _ = record["rows"]
    assert fine["bytes"] > coarse["bytes"]
    assert fine["divergence"] < coarse["divergence"]
    tables = compact.make_tables([record, record])
    assert tables[0].rows[0][-1] == "2"
    assert [row[1:3] for row in tables[1].rows] == [("0.0001", "0"), ("0.0001", "1"), ("0.01", "0"), ("0.01", "1")]
    assert tables[1].rows[0][4:8] == (f"{fine['bytes']} ± 0", *tables[1].rows[0][5:7], "-")
    assert_shown(compact.make_tables([record]), capsys.readouterr().out)


def test_compact_measures_a_tuning_run_on_its_held_out_images(compressed, tmp_path, monkeypatch):
    """And no table mixes these errors with those of the test images."""
    loaded = []
    load_images = compact.load_images

    def watch(data, *args):
        loaded.append(data)
        return load_images(data, *args)

    monkeypatch.setattr(compact, "load_images", watch)
    monkeypatch.setattr(compact, "measure_nncodec", lambda net, steps: None)
    run = Store(compressed.parent).read(compressed)
    spec = replace(SPEC, data=replace(SPEC.data, validation=300))
    numbers = {key: value for key, value in run.record.items() if key != "spec"}
    held = Store(tmp_path / "held").save(spec, numbers).path
    held.with_suffix(".safetensors.xz").write_bytes(compressed.with_suffix(".safetensors.xz").read_bytes())
    compact.main(compact.Args((compressed, held), tolerances=(1e-2,), images=50, epochs=0, out=tmp_path / "out"))
    assert [data.validation for data in loaded] == [0, 300]
    records = read_records(tmp_path / "out", compact.REQUIRED)
    assert sorted(record["validation"] for record in records) == [0, 300]
    names, _ = compact.make_tables(records)
    told = "molchanov2017: 3 epochs"
    assert sorted(row[3] for row in names.rows) == [told, f"{told}; 300 validation images"]


def test_random_code_measures_what_the_file_decodes_to(tmp_path, capsys):
    pytest.importorskip("constriction")
    args = random_code.Args(
        (260, 300), units=(2, 3, 4), dense_epochs=1, small_epochs=1, epochs=2, coding_epochs=1, bits=10,
        dataset="digits", validation=1200, out=tmp_path / "out", checkpoints=tmp_path / "checkpoints",
    )  # fmt: skip
    random_code.main(args)
    records = read_records(tmp_path / "out", random_code.REQUIRED)
    assert [record["size"] for record in records] == [260, 300]
    for record in records:
        content = bytes.fromhex(record["content"])
        assert record["size"] - 8 <= len(content) == record["bytes"] <= record["size"]
        assert record["overhead"] == pytest.approx(8 * len(content) / record["kl_bits"] - 1)
        assert record["architecture"]["conv2"] == [2, 3]
        assert 0.5 < record["test_error"] <= 1  # of a network that hardly trained
        (tmp_path / "net").write_bytes(content)
        assert compress.architecture(compress.load(tmp_path / "net", LeNet5())) == {
            name: tuple(widths) for name, widths in record["architecture"].items()
        }
    (table,) = random_code.make_tables(records)
    assert [row[:2] for row in table.rows] == [("2-3-4", str(record["bytes"])) for record in records]
    assert_shown(random_code.make_tables(records[1:]), capsys.readouterr().out)
    with pytest.raises(UserError, match="no two of them the same"):
        random_code.main(replace(args, sizes=(300, 300)))


def test_the_strongest_units_are_kept():
    net = LeNet5()
    with torch.no_grad():
        net.conv1.weight[[3, 7]] += 1
        net.fc1.weight[20] *= 5
    random_code.keep_strongest(net, {"conv1": 2, "fc1": 1})
    assert net.conv1.weight.flatten(1).any(1).nonzero().flatten().tolist() == [3, 7]
    assert net.fc1.weight.any(1).nonzero().flatten().tolist() == [20]
    assert net.conv2.weight.flatten(1).any(1).all()


def test_compact_measures_the_standard_coder():
    pytest.importorskip("nncodec.nnc")
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), compress.SelectedLinear(torch.tensor([0, 2]), 3)).eval()
    steps = {name: 0.125 for name, _ in net.named_parameters()}
    size = compact.measure_nncodec(compress.quantize(net, steps), steps)
    assert size is not None
    assert 20 < size < 200


def test_sparse_rows_are_the_weights():
    torch.manual_seed(0)
    net = LeNet5()
    with torch.no_grad():
        net.conv2.weight *= torch.rand_like(net.conv2.weight) < 0.1
        net.fc1.weight[3:5] = 0
    written = storage.sparse_rows(net)
    for name in ("conv2.weight", "fc1.weight"):
        parts = [written[f"{name}.{part}"] for part in ("starts", "columns", "values")]
        size = net.get_parameter(name).flatten(1).shape
        again = torch.sparse_csr_tensor(*parts, size=size, check_invariants=True).to_dense()
        assert torch.equal(again, net.get_parameter(name).detach().flatten(1))
    assert torch.equal(written["fc1.bias"], net.fc1.bias)


def test_storage_refuses_what_it_cannot_measure(tmp_path):
    for none in ((), (tmp_path / "a" / "run.json", tmp_path / "b" / "run.json")):
        with pytest.raises(UserError, match="needs records of compressed networks, no two of the same name"):
            storage.main(storage.Args(none, out=tmp_path / "out"))
    with pytest.raises(UserError, match=r"nothing\.json: cannot be read"):
        storage.main(storage.Args((tmp_path / "nothing.json",), out=tmp_path / "out"))
    dense = Store(tmp_path / "dense").save(SPEC, {"test_error": 0.1}).path
    with pytest.raises(UserError, match="not a record of a compressed network"):
        storage.main(storage.Args((dense,), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_without_onnx_inference_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"ONNX needs onnxruntime; pip install 'pyro-vd\[onnx\]'"):
        inference.main(inference.Args(record=tmp_path / "nothing.json"))


def test_inference_refuses_what_it_cannot_measure(compressed, tmp_path):
    given = inference.Args(record=compressed, out=tmp_path / "out")
    for wrong, named in (
        ({"record": tmp_path / "nothing.json"}, r"nothing\.json: cannot be read"),
        ({"rounds": 1}, "--rounds"),
        ({"batches": ()}, "--batches"),
        ({"turn": math.nan}, "--turn"),
        ({"factory": "package:function"}, "the record is of lenet300"),
        ({"dataset": "nowhere"}, "unknown dataset 'nowhere'"),
    ):
        with pytest.raises(UserError, match=named):
            inference.main(replace(given, **wrong))
    held_out = replace(SPEC, data=Data(name="digits", validation=200))
    for spec, changes in (
        (SPEC, {"data_sha256": "another"}),
        (SPEC, {"dataset": "digits (50 and 20 images)"}),
        (held_out, {}),
    ):
        other = save_changed(compressed, tmp_path / "others", spec, **changes)
        with pytest.raises(UserError, match=r"other data than the record's: .* is not digits"):
            inference.main(replace(given, record=other))
    other = save_changed(compressed, tmp_path / "others", replace(SPEC, data=Data(name="a/folder")))
    with pytest.raises(UserError, match=r"give --dataset, the folder of the images that the record calls digits \(28x"):
        inference.main(replace(given, record=other))
    for name, message in (("lenet9", "'lenet9', which is not one of"), ("package:function", "give --factory package:")):
        other = save_changed(compressed, tmp_path / "others", replace(SPEC, network=name))
        with pytest.raises(UserError, match=message):
            inference.main(replace(given, record=other))
    assert not (tmp_path / "out").exists()


def test_the_images_are_those_of_the_spec_without_random_changes(compressed, tmp_path):
    """A validation set, if the errors of the record are of one."""
    spec = replace(SPEC, data=Data(name="digits", validation=200, shift=1))
    path = save_changed(compressed, tmp_path / "others", spec, dataset="digits (28x28) (validation 200)")
    split = inference.load_data(Store(path.parent).read(path), LeNet300(), None, None)
    assert len(split.test) == 200
    assert type(split.train) is type(split.test)


def test_the_page_has_every_benchmark_and_no_wide_table():
    parts = page.make_page_parts()
    assert [part for part in parts if part.startswith("## ")] == [f"## {heading}" for heading in page.SECTIONS]
    lines = "\n".join(parts).splitlines()
    assert max(len(line) for line in lines if line.startswith("|")) <= PAGE_WIDTH
    for name in page.PICTURES:
        assert (page.RESULTS / name).is_file()


def test_the_pictures_of_the_page_are_drawn_from_records(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: drawn.append(path.relative_to(page.RESULTS)))
    page.draw()
    assert {str(path) for path in drawn} >= set(page.PICTURES)


def test_a_record_of_a_compressed_network_has_the_name_of_what_it_measured():
    for folder in ("inference", "storage", "compact"):
        records = read_records(page.RESULTS / folder)
        assert records
        assert [record["file"] for record in records] == [record["trained"] for record in records]
