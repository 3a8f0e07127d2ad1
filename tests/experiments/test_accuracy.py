"""The accuracy studies: rows that are what they are called, runs that are resumed or refused, and their commands."""

import dataclasses

import pyro
import pytest
import torch

from pyro_vd.data import LabeledImages, load
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.experiments import cifar_accuracy, cifar_reference, mixed_precision, mnist_accuracy, prior_swap, resnet9
from pyro_vd.experiments.common import accuracy
from pyro_vd.experiments.common.accuracy import Columns, seeds_of, select_rows
from pyro_vd.experiments.common.accuracy_tables import accuracy_tables
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.measures import ACCURACY_KEYS, measure_accuracy
from pyro_vd.experiments.common.pairs import SCHEMES, make_pair
from pyro_vd.experiments.common.protocols import Protocol, accuracy_fit
from pyro_vd.experiments.common.published import FORERUNNER, KINGMA, errors_by_width
from pyro_vd.experiments.common.runner import Runner, network_maker
from pyro_vd.experiments.common.spec import Data, Options, Spec, key_of
from pyro_vd.experiments.common.store import Store
from pyro_vd.inference.engine import Objective

TINY = Protocol(name="tiny", epochs=2, batch_size=50, ramp=1.0)
DIGITS = Data(name="digits", num_train=200, num_test=100)
MNIST = Data(name="mnist")
CIFAR = cifar_accuracy.make_columns("digits", cifar_accuracy.SHORT)["widths x 0.5"]


def spec_of(scheme="none", protocol=TINY, **row):
    fit = accuracy_fit(protocol, scheme, **row)
    return Spec(network="mlp", options=Options(hidden=(8,)), data=DIGITS, phases=(fit,), num_samples=2)


def make_runner(out, **changes):
    return Runner(
        store=Store(out), measure=measure_accuracy, required=ACCURACY_KEYS, device=torch.device("cpu"),
        empty=accuracy.DIVERGED, engine="eager", **changes,
    )  # fmt: skip


# --- rows


def all_columns() -> list[Columns]:
    return [
        mnist_accuracy.make_columns(MNIST, (100, 250)),
        cifar_reference.make_columns(Data(name="cifar10")),
        cifar_accuracy.make_columns("cifar10"),
        {part: rows for part, rows in resnet9.make_columns(resnet9.DATA).items() if part != "pruning"},
        mixed_precision.make_columns(MNIST),
        prior_swap.make_columns(MNIST),
    ]


def test_rows_are_different_runs_of_schemes_that_exist():
    for columns in all_columns():
        specs = [spec for rows in columns.values() for spec in rows.values()]
        assert len({key_of(spec) for spec in specs}) == len(specs)
        assert {spec.method for spec in specs} <= set(SCHEMES)


def test_published_rows_are_rows_of_the_tables():
    assert set(errors_by_width(KINGMA, "mlp")) == set(mnist_accuracy.ROWS)
    assert set(errors_by_width(FORERUNNER, "cifar_cnn")) <= set(CIFAR)


def make_cifar_pair(name):
    """The pair of a row on a small network, and twenty images."""
    spec = CIFAR[name]
    images = load("digits").resize(16).to_rgb().subset(20, 10)
    torch.manual_seed(0)
    return make_pair(network_maker(spec)(10), spec.main, 20), images.train.batch(torch.arange(20))


@pytest.mark.parametrize("name", CIFAR)
def test_every_row_of_the_cifar_table_steps(name):
    """Ours has finite losses; the naive formulas do not get through the first step."""
    pair, batch = make_cifar_pair(name)
    with torch.no_grad(), pyro.validation_enabled(False):
        objective = Objective(pair.model, pair.guide, estimator=CIFAR[name].main.training.estimator)
        loss, *_ = objective(*batch, torch.tensor(1.0))
    assert bool(loss.isfinite()) is (CIFAR[name].method != "hierarchical_naive")


def test_after_conv_has_a_variable_per_channel_and_before_fc_one_per_unit():
    before, after = (make_cifar_pair(f"variational A, {place}")[0] for place in ("before fc", "after conv"))
    assert before.guide.units == {"fc1.weight": 32 * 4 * 4, "fc2.weight": 64}
    assert after.guide.units == {"conv2.weight": 16, "fc1.weight": 32, "fc2.weight": 64}


def test_a2_is_a_with_a_third_of_the_kl():
    whole, third = (spec_of(**mnist_accuracy.ROWS[f"variational {name}"]).main for name in ("A", "A2"))
    assert third.training.kl_schedule.weight == pytest.approx(1 / 3)
    schedule = dataclasses.replace(third.training.kl_schedule, weight=1.0)
    assert dataclasses.replace(third, training=dataclasses.replace(third.training, kl_schedule=schedule)) == whole


# --- runs


def test_a_run_leaves_a_record_and_is_not_run_again(tmp_path, capsys):
    spec = spec_of("gaussian_wang", options={"p": 0.2})
    run = make_runner(tmp_path).run(spec)
    (read,) = Store(tmp_path).runs(ACCURACY_KEYS)
    assert read == run
    assert read["test_error"] == read["history"][-1]["error"]
    assert read["test_error_best"] == min(epoch["error"] for epoch in read["history"])
    assert read.spec.main.options.plain() == {"p": 0.2}
    assert read.diverged is False
    capsys.readouterr()
    assert make_runner(tmp_path).run(spec) == run
    assert "already finished" in capsys.readouterr().out
    again = make_runner(tmp_path, resume=False).run(spec)
    assert again["test_error"] == run["test_error"]


def test_other_options_are_another_run(tmp_path):
    runs = [make_runner(tmp_path).run(spec_of("gaussian_wang", options={"p": p})) for p in (0.2, 0.3)]
    assert runs[0].path != runs[1].path
    assert runs[0]["history"][0]["loss"] != runs[1]["history"][0]["loss"]


def test_the_kl_weight_of_a_row_is_the_one_it_trains_with(tmp_path):
    spec = spec_of("variational_a", kl_weight=1 / 3, protocol=dataclasses.replace(TINY, epochs=3))
    run = make_runner(tmp_path).run(spec)
    assert [epoch["beta"] for epoch in run["history"]] == pytest.approx([0, 1 / 9, 2 / 9])


def test_a_diverged_run_says_so(tmp_path):
    columns = cifar_accuracy.make_columns("digits", dataclasses.replace(cifar_accuracy.SHORT, epochs=1))
    (rows,) = columns.values()
    run = make_runner(tmp_path).run(rows["hierarchical B, naive formulas"])
    assert run.diverged
    assert "non-finite" in run["diverged"]
    assert run["test_error"] is None
    (table,) = accuracy_tables(columns, Store(tmp_path), "short")
    assert table.rows == (("hierarchical B, naive formulas", "-", "-", "-", "0 (+1 diverged)"),)


def test_a_checkpoint_of_other_data_is_not_resumed(tmp_path):
    """Interrupted on one dataset, started on another of the same size under the same spec."""
    spec = spec_of()
    make = network_maker(spec)
    split = load_images(DIGITS, make(10), None)

    class Stop(Exception):
        pass

    def stop(trained):
        raise Stop

    with pytest.raises(Stop):
        dataclasses.replace(make_runner(tmp_path), measure=stop).record(spec, split, make)
    inverted = LabeledImages(1 - split.train.images, split.train.labels)
    other = dataclasses.replace(split, name="inverted", sha256="other", train=inverted)
    with pytest.raises(CheckpointError, match=r"made with other arguments \(data was"):
        make_runner(tmp_path).record(spec, other, make)


# --- commands


@pytest.mark.parametrize("module", [mnist_accuracy, cifar_accuracy, prior_swap, mixed_precision])
def test_commands_refuse_bad_input(module, tmp_path):
    for wrong, message in (
        ({"row": ("nonsense",)}, "unknown row 'nonsense'"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"num_samples": 0}, "--num-samples must be at least 1"),
        ({"validation": -1}, "at least 0"),
    ):
        with pytest.raises(UserError, match=message):
            module.main(module.Args(dataset="digits", out=tmp_path, **wrong))
    assert not list(tmp_path.iterdir())


def test_commands_of_one_experiment_alone(tmp_path):
    for hidden in ((0,), (), (10, -1)):
        with pytest.raises(UserError, match="--hidden must be at least 1"):
            mnist_accuracy.main(mnist_accuracy.Args(dataset="digits", out=tmp_path, hidden=hidden))
    assert not list(tmp_path.iterdir())


def test_the_command_prints_and_writes_its_table(tmp_path, capsys):
    args = cifar_accuracy.Args(dataset="digits", out=tmp_path, row=("none",), seeds=1, epochs=1, num_samples=1)
    cifar_accuracy.main(args)
    written = (tmp_path / "table.md").read_text()
    title = "widths x 0.5, short, digits (3 channels) (16x16) (1,438 and 359 images), 1 epoch, cpu"
    assert written.startswith(f"{title}:\n\n| scheme | error %, last |")
    printed = capsys.readouterr().out
    assert "error %, last" in printed
    assert f"written to {tmp_path}: records, table.md" in printed


def test_every_row_and_seed_is_selected_once():
    columns = {"a": {"x": spec_of(), "y": spec_of("sparse")}, "b": {"x": spec_of()}}
    assert seeds_of(columns, 2) == [
        dataclasses.replace(spec, seed=seed) for seed in (0, 1) for spec in (spec_of(), spec_of("sparse"))
    ]
    assert select_rows(columns, ("y",)) == {"a": {"y": spec_of("sparse")}, "b": {}}
    assert select_rows(columns, ()) == columns


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"dataset": "digits"}, False), ({"epochs": 1}, False), ({"validation": 10}, False)],
)
def test_published_numbers_need_the_same_data_and_protocol(changes, expected, monkeypatch, tmp_path):
    for module, args in (
        (mnist_accuracy, mnist_accuracy.Args(**{"dataset": "mnist", "out": tmp_path, **changes})),
        (cifar_reference, cifar_reference.Args(**{"dataset": "cifar10", "out": tmp_path, **changes})),
    ):
        given = []
        monkeypatch.setattr(module.accuracy, "run_columns", lambda *_: Store(tmp_path))
        monkeypatch.setattr(
            module, "accuracy_tables", lambda *arguments, given=given: given.append(arguments[-1]) or ()
        )
        module.main(args)
        assert given == [module.find_published if expected else None]
