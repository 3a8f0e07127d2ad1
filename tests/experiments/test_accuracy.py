"""The accuracy experiments: rows that are what they are called, records, tables that say only what the seeds allow."""

import dataclasses
import json
import math
from functools import partial

import pyro
import pytest
import torch

from pyro_vd.data import DataSplits, LabeledImages, load
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.errors import UserError
from pyro_vd.experiments import cifar_accuracy, gradient_variance, mixed_precision, mnist_accuracy, prior_swap
from pyro_vd.experiments.common import accuracy
from pyro_vd.experiments.common.accuracy import REQUIRED, Cell, Protocol, Row, Table, one_run, select_cells
from pyro_vd.experiments.common.accuracy_tables import accuracy_tables
from pyro_vd.experiments.common.published import KINGMA_FIGURE, REFERENCE_CIFAR, published_error
from pyro_vd.experiments.common.records import read_records
from pyro_vd.experiments.common.training import SCHEMES, initial_net, make_pair
from pyro_vd.inference.engine import Objective
from pyro_vd.models import MLP, CifarCNN

TINY = Protocol("tiny", epochs=2, batch_size=50, lr=1e-3, hold=0.5, wait=0.0, ramp=1.0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def split():
    return load("digits").resize(28).subset(200, 100)


def table(split, out, **args):
    return Table("tiny", TINY, split, CPU, mnist_accuracy.Args(out=out, num_samples=2, engine="eager", **args))


def cell(row, hidden=(8,)):
    return Cell(row, "8 units", partial(MLP, hidden=hidden))


# --- rows


def every_cell():
    return [*mnist_accuracy.cells((100, 250)), *cifar_accuracy.cells(cifar_accuracy.FULL), *prior_swap.cells()]


def test_rows_have_names_of_their_own_and_schemes_that_exist():
    for cells in (mnist_accuracy.cells((100, 250)), cifar_accuracy.cells(cifar_accuracy.SHORT), prior_swap.cells()):
        assert len({str(c) for c in cells}) == len(cells)
    assert {c.row.scheme for c in every_cell()} <= set(SCHEMES)


def test_published_rows_are_rows_of_the_tables():
    assert set(KINGMA_FIGURE) == {row.name for row in mnist_accuracy.ROWS}
    assert set(REFERENCE_CIFAR) <= {row.name for row in cifar_accuracy.rows(CifarCNN())}


@pytest.mark.parametrize("c", cifar_accuracy.cells(cifar_accuracy.SHORT), ids=lambda c: c.row.name)
def test_every_row_of_the_cifar_table_steps(c, split):
    """Ours has finite losses; the naive formulas do not get through the first step."""
    images = split.resize(16).to_rgb().subset(20, 10)
    pair = make_pair(
        initial_net(c.make, images, 0, CPU), c.row.scheme, images, c.row.sites, c.row.prior, **c.row.options
    )
    with torch.no_grad(), pyro.validation_enabled(False):
        loss, *_ = Objective(pair.model, pair.guide, estimator="local" if c.row.local else "weights")(
            *images.train.batch(torch.arange(20)), torch.tensor(1.0)
        )
    assert bool(loss.isfinite()) is (c.row.scheme != "hierarchical_naive")


def test_after_conv_has_a_variable_per_channel_and_before_fc_one_per_unit(split):
    images = split.resize(16).to_rgb().subset(20, 10)
    number = {}
    for name in ("variational A, before fc", "variational A, after conv"):
        (c,) = select_cells(cifar_accuracy.cells(cifar_accuracy.SHORT), (name,))
        pair = make_pair(initial_net(c.make, images, 0, CPU), c.row.scheme, images, c.row.sites, **c.row.options)
        number[name] = pair.guide.units
    assert number["variational A, before fc"] == {"fc1.weight": 32 * 4 * 4, "fc2.weight": 64}
    assert number["variational A, after conv"] == {"conv2.weight": 16, "fc1.weight": 32, "fc2.weight": 64}


def test_the_rows_of_the_residual_network_are_the_same():
    small, large = (cifar_accuracy.cells(protocol) for protocol in (cifar_accuracy.FULL, cifar_accuracy.RESNET))
    assert [c.row.name for c in small] == [c.row.name for c in large]
    sites = {c.row.name: c.row.sites for c in large}
    assert sites["Bernoulli"] == ("fc.weight",)
    assert len(sites["variational A, after conv"]) == 8
    assert "prepare.conv.weight" not in sites["variational A, after conv"]


def test_only_the_residual_network_is_trained_with_augmentation(monkeypatch, split):
    monkeypatch.setattr(cifar_accuracy, "load_data", lambda *_, **__: split)
    for protocol in cifar_accuracy.PROTOCOLS.values():
        prepared = cifar_accuracy.prepared(protocol, accuracy.Args())
        assert isinstance(prepared.train, AugmentedImages) is (protocol is cifar_accuracy.RESNET)
        assert not isinstance(prepared.test, AugmentedImages)


def test_a2_is_a_with_a_third_of_the_kl():
    rows = {row.name: row for row in mnist_accuracy.ROWS}
    assert rows["variational A2"].kl_weight == pytest.approx(1 / 3)
    assert dataclasses.replace(rows["variational A2"], name="variational A", kl_weight=1.0) == rows["variational A"]


# --- runs


def test_a_run_leaves_a_record_and_is_not_run_again(split, tmp_path, capsys):
    row = Row("Gaussian B", "gaussian_wang", options={"p": 0.2})
    record = one_run(table(split, tmp_path), cell(row), seed=0)
    (read,) = read_records(tmp_path, REQUIRED)
    assert read["test_error"] == record["test_error"] == record["history"][-1]["error"]
    assert read["test_error_best"] == min(epoch["error"] for epoch in record["history"])
    assert read["options"] == {"p": 0.2}
    assert read["diverged"] is False
    capsys.readouterr()
    assert one_run(table(split, tmp_path), cell(row), seed=0) == read
    assert "already finished" in capsys.readouterr().out
    with pytest.raises(UserError, match="another options"):
        one_run(table(split, tmp_path), cell(dataclasses.replace(row, options={"p": 0.3})), seed=0)
    again = one_run(table(split, tmp_path, resume=False), cell(row), seed=0)
    assert again["test_error"] == record["test_error"]


def test_the_kl_weight_of_a_row_is_the_one_it_trains_with(split, tmp_path):
    row = Row("A2", "variational_a", kl_weight=1 / 3)
    record = one_run(table(split, tmp_path, epochs=3), cell(row), seed=0)
    assert [epoch["beta"] for epoch in record["history"]] == pytest.approx([0, 1 / 9, 2 / 9])


def test_a_diverged_run_says_so(split, tmp_path):
    images = split.resize(16).to_rgb()
    (c,) = select_cells(cifar_accuracy.cells(cifar_accuracy.SHORT), ("hierarchical B, naive formulas",))
    record = one_run(table(images, tmp_path), c, seed=0)
    assert "non-finite" in record["diverged"]
    assert record["test_error"] is None
    text = accuracy_tables(read_records(tmp_path, REQUIRED), [c])
    assert "0 (+1 diverged)" in text


def test_prior_swap_prunes_by_log_alpha(split, tmp_path):
    record = one_run(table(split, tmp_path), cell(Row("EmpiricalBayes", "sparse")), seed=0)
    assert sum(record["log_alpha"]["counts"]) == record["weights"]
    quantiles = list(record["log_alpha"]["quantiles"].values())
    assert quantiles == sorted(quantiles)
    kept = sum(record["log_alpha"]["counts"][: round((3 + 15) / 30 * 60)])
    assert record["sparsity"] == pytest.approx(1 - kept / record["weights"])


@pytest.mark.parametrize("module", [mnist_accuracy, cifar_accuracy, prior_swap, mixed_precision])
def test_commands_refuse_bad_input(module, tmp_path):
    base = {"dataset": "digits", "out": tmp_path}
    for wrong, message in (
        ({"row": ("nonsense",)}, "unknown row 'nonsense'"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"validation": -1}, "at least 0"),
        ({"engine": "warp"}, "unknown engine 'warp'"),
    ):
        with pytest.raises(UserError, match=message):
            module.main(module.Args(**base, **wrong))
    assert not list(tmp_path.iterdir())


def test_commands_of_one_experiment_alone(tmp_path):
    with pytest.raises(UserError, match="unknown protocol 'fulll'; did you mean 'full'"):
        cifar_accuracy.main(cifar_accuracy.Args(dataset="digits", out=tmp_path, protocol="fulll"))
    for hidden in ((0,), (), (10, -1)):
        with pytest.raises(UserError, match="--hidden must be at least 1"):
            mnist_accuracy.main(mnist_accuracy.Args(dataset="digits", out=tmp_path, hidden=hidden))
    for scale in (0.0, -1.0, 1e30, float("nan")):
        with pytest.raises(UserError, match="--scale must lie between"):
            cifar_accuracy.main(cifar_accuracy.Args(dataset="digits", out=tmp_path, protocol="full", scale=scale))
    for wrong, message in (
        ({"draws": 1}, "one gradient has no variance"),
        ({"after": (2, 1)}, "--after must increase"),
        ({"after": ()}, "at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            gradient_variance.main(gradient_variance.Args(dataset="digits", out=tmp_path, **wrong))


def test_the_command_prints_and_writes_its_table(tmp_path, capsys):
    args = cifar_accuracy.Args(dataset="digits", out=tmp_path, row=("none",), seeds=1, epochs=1, num_samples=1)
    cifar_accuracy.main(args)
    written = (tmp_path / "table.md").read_text()
    assert written in capsys.readouterr().out + "\n"
    assert "digits (3 channels) (16x16) (1,438 and 359 images), short, 1 epochs, cpu" in written


def test_prior_swap_and_the_figure_draw_their_pictures(tmp_path):
    rows = ("EmpiricalBayes()", "Laplace")
    prior_swap.main(prior_swap.Args(dataset="digits", out=tmp_path / "swap", row=rows, epochs=1, num_samples=1))
    assert (tmp_path / "swap" / "log_alpha.png").stat().st_size > 5_000
    mnist_accuracy.main(
        mnist_accuracy.Args(dataset="digits", out=tmp_path / "a", row=("none",), hidden=(8,), seeds=1, epochs=1)
    )
    assert (tmp_path / "a" / "errors.png").stat().st_size > 5_000


# --- what a table says


def record(row, seed, error, **changes):
    base = dict.fromkeys(REQUIRED) | {
        "experiment": "cifar_accuracy", "row": row, "column": "widths x 1", "dataset": "cifar10 (JPEG)",
        "protocol": "short", "device": "cpu (2 cores)", "seed": seed, "test_error": error, "test_error_best": error,
        "test_error_mc": error, "diverged": False,
    }  # fmt: skip
    return base | changes


def line(text, row):
    return next(found for found in text.splitlines() if found.startswith(f"| {row} "))


def test_a_difference_is_paired_by_seed_and_marked_only_where_it_holds():
    """Seeds that differ much from each other and rows that differ little, but always the same way."""
    noise = [0.10, 0.20, 0.30, 0.40]
    rows = [record("none", seed, error) for seed, error in enumerate(noise)]
    rows += [record("sure", seed, error - 0.01 - 1e-4 * seed) for seed, error in enumerate(noise)]
    rows += [record("unsure", seed, error + (-1) ** seed * 0.01) for seed, error in enumerate(noise)]
    text = accuracy_tables(rows, [])
    assert line(text, "sure").count("*") == 1
    assert "-1.02 [" in line(text, "sure")
    assert "*" not in line(text, "unsure")
    assert "+0.00 [-1.84, +1.84]" in line(text, "unsure")


def test_one_run_is_no_comparison():
    text = accuracy_tables([record("none", 0, 0.5), record("sparse", 0, 0.1)], [])
    assert "[" not in line(text, "sparse")
    assert "*" not in text


def test_tables_never_mix_datasets_protocols_or_devices():
    rows = [record("none", 0, 0.5), record("none", 0, 0.1, dataset="digits"), record("none", 0, 0.2, protocol="full")]
    text = accuracy_tables(rows, [])
    assert text.count("| none") == 3


def test_diverged_runs_are_counted_and_never_averaged():
    rows = [record("none", seed, 0.5) for seed in range(2)]
    rows.append(record("none", 2, None, diverged="non-finite loss", test_error_best=None, test_error_mc=None))
    text = accuracy_tables(rows, [])
    assert "2 (+1 diverged)" in line(text, "none")
    assert "50.00 ± 0.00" in line(text, "none")


def test_published_numbers_stand_beside_their_own_dataset_and_protocol_only():
    figure = record(
        "binary", 0, 0.02, experiment="mnist_accuracy", protocol="figure", column="250 units", dataset="mnist"
    )
    assert published_error(figure) == "1.39"
    assert published_error(figure | {"dataset": "digits (28x28)"}) == "-"
    assert published_error(figure | {"column": "30 units"}) == "-"
    cifar = record("sparse B, per weight", 0, 0.4, protocol="full", column="widths x 1.5")
    assert published_error(cifar) == "37.44 (reference, one run)"
    assert published_error(cifar | {"protocol": "short"}) == "-"


# --- gradient variance


DRAWS = 200


def gaussian_problem():
    """A linear classifier over ten inputs and what gradient_variance measures on it."""
    torch.manual_seed(0)
    images = torch.randn(8, 1, 28, 28)
    examples = LabeledImages(images, torch.randint(3, (8,)))
    split = DataSplits("noise", "folder", examples, examples, 3, "")
    pair = make_pair(MLP(3, hidden=()), "variational_b", split, init=-1.0)
    return pair, examples.batch(torch.arange(8))


# Mutants: one weight draw for a chunk, a missing N/B, noise that does not reach the gradient.
def test_the_four_gradients_have_one_mean_and_the_papers_order_of_variances():
    pair, (x, y) = gaussian_problem()
    (theta,) = (pair.guide.theta["fc1.weight"],)
    means, variances = {}, {}
    for name, loss in gradient_variance.ESTIMATORS.items():
        draws = torch.stack([torch.autograd.grad(loss(pair, x, y), theta)[0] for _ in range(DRAWS)])
        means[name], variances[name] = draws.mean(0), draws.var(0).mean()
    assert variances["no dropout noise"] < 1e-8
    local, separate, single = (variances[name] for name in list(gradient_variance.ESTIMATORS)[:3])
    assert local < separate < single
    # One linear layer: local noise is the marginal law of separate weights, so both have the mean of the single draw.
    for name in ("separate weight samples", "single weight sample"):
        error = (means[name] - means["local reparameterization"]).square().mean()
        assert error < 4 * (variances[name] + local) / DRAWS


def test_gradient_variance_leaves_a_record_and_a_table(tmp_path, capsys):
    args = gradient_variance.Args(dataset="digits", hidden=5, after=(1, 2), minibatch=50, draws=3, out=tmp_path)
    gradient_variance.main(args)
    (read,) = read_records(tmp_path, gradient_variance.REQUIRED)
    assert set(read["variances"]) == {"1", "2"}
    for by_name in read["variances"].values():
        assert set(by_name) == set(gradient_variance.ESTIMATORS)
        assert all(math.isfinite(v) and v > 0 for layers in by_name.values() for v in layers.values())
    capsys.readouterr()
    gradient_variance.main(args)
    assert "already finished" in capsys.readouterr().out
    assert json.loads((tmp_path / "5-units-s0.json").read_text())["epochs"] == [1, 2]
    with pytest.raises(UserError, match="--minibatch must be at most 1438"):
        gradient_variance.main(dataclasses.replace(args, minibatch=1439))


def test_a_measurement_is_of_its_epoch_also_after_an_interruption(tmp_path, monkeypatch):
    """Stopped after the first measurement, resumed: the same numbers as in one go."""
    args = gradient_variance.Args(dataset="digits", hidden=5, after=(1, 3), minibatch=50, draws=3, engine="eager")
    whole, parts = (dataclasses.replace(args, out=tmp_path / name) for name in ("whole", "parts"))
    gradient_variance.main(whole)
    measured, calls = gradient_variance.measure, []

    def stop_at_the_second(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measured(*arguments)

    monkeypatch.setattr(gradient_variance, "measure", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        gradient_variance.main(parts)
    monkeypatch.setattr(gradient_variance, "measure", measured)
    gradient_variance.main(parts)
    records = [read_records(run.out, gradient_variance.REQUIRED)[0]["variances"] for run in (whole, parts)]
    assert records[0] == records[1]
    assert records[0]["1"] != records[0]["3"]


def test_a_measurement_of_other_settings_is_not_taken_over(tmp_path, monkeypatch):
    """Interrupted with 3 draws after the first measurement, then asked for 4: all of it has 4."""
    args = gradient_variance.Args(dataset="digits", hidden=5, after=(1, 2), minibatch=50, draws=3, engine="eager")
    parts, whole = (dataclasses.replace(args, out=tmp_path / name) for name in ("parts", "whole"))
    measured = gradient_variance.measure

    def stop_at_the_second(pair, *arguments):
        if len(pair.history) == 1:
            raise KeyboardInterrupt
        return measured(pair, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(gradient_variance, "measure", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            gradient_variance.main(parts)
    for run in (parts, whole):
        gradient_variance.main(dataclasses.replace(run, draws=4))
    records = [read_records(run.out, gradient_variance.REQUIRED)[0]["variances"] for run in (parts, whole)]
    assert records[0] == records[1]


def test_a_checkpoint_of_other_settings_is_not_gone_on_from(split, tmp_path):
    """Interrupted on one dataset, started on another of the same size under the same name."""
    row = cell(Row("none", "none"))

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy, "_evaluate", stop)
        with pytest.raises(Stop):
            one_run(table(split, tmp_path), row, seed=0)
    inverted = LabeledImages(1 - split.train.images, split.train.labels)
    other = dataclasses.replace(split, name="inverted", sha256="other", train=inverted)
    mixed = one_run(table(other, tmp_path), row, seed=0)
    alone = one_run(table(other, tmp_path / "alone"), row, seed=0)
    assert [e["loss"] for e in mixed["history"]] == [e["loss"] for e in alone["history"]]


def test_precisions_are_compared_seed_by_seed(tmp_path, capsys):
    """Rows train in the precision they name, and only seeds of both precisions count."""
    args = mixed_precision.Args(dataset="digits", out=tmp_path, epochs=1, num_samples=1, engine="eager")
    mixed_precision.main(dataclasses.replace(args, seeds=2, row=("none bfloat16",)))
    mixed_precision.main(dataclasses.replace(args, seeds=1, row=("none float32",)))
    table = mixed_precision.precision_table(read_records(tmp_path, REQUIRED))
    assert [row[0] for row in table] == ["scheme", "`none`"]
    assert table[1][-2:] == ("-", "1")
    assert "`none`" in capsys.readouterr().out
    losses = {
        r["matmul_dtype"]: r["history"][0]["log_likelihood"] for r in read_records(tmp_path, REQUIRED) if r["seed"] == 0
    }
    assert losses["float32"] != losses["bfloat16"]
    assert losses["float32"] == pytest.approx(losses["bfloat16"], rel=1e-2)


def test_the_difference_of_precisions_is_bfloat16_minus_float32():
    errors = {"float32": (0.01, 0.03), "bfloat16": (0.02, 0.05)}
    records = [
        {"scheme": "sparse", "matmul_dtype": precision, "seed": seed, "test_error": error, "diverged": False}
        for precision, values in errors.items()
        for seed, error in enumerate(values)
    ]
    (_, row) = mixed_precision.precision_table(records)
    assert row[0] == "`sparse`"
    assert row[3].startswith("+1.50 [")
    assert row[4] == "2"
