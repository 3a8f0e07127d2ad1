"""Tables from hand-made records: what is averaged, what is counted, and beside what."""

from dataclasses import replace

import pytest
from matplotlib.text import Text

from pyro_vd import Training
from pyro_vd.experiments.common import curve_pictures
from pyro_vd.experiments.common.compression_tables import compression_tables, describe_training, units
from pyro_vd.experiments.common.curve_pictures import draw_curves
from pyro_vd.experiments.common.plotting import color_of, plt
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.published import results_for
from pyro_vd.experiments.common.spec import Data, FineTune, Fit, Gradual, Lottery, Options, Spec
from pyro_vd.experiments.common.store import Store, committed
from pyro_vd.experiments.common.tables import Table, count_runs, group_by, percent, ratio, summary

FIT = Fit(scheme="sparse", training=Training(epochs=200), threshold=3.0)
SPEC = Spec(network="lenet300", data=Data(name="mnist"), phases=(FIT,))
NUMBERS = {
    "dataset": "mnist", "protocol": "molchanov2017", "changes": {}, "device": "cpu (2 cores, x86_64)",
    "diverged": False, "test_error": 0.02, "test_error_unpruned": 0.03, "test_error_mc": 0.01, "compression": 50.0,
    "sparsity_per_layer": {"fc1.weight": 0.98, "fc2.weight": 0.9}, "curve": [],
}  # fmt: skip
NOTHING = {"diverged": "nan", "test_error": None, "test_error_mc": None, "compression": None, "sparsity_per_layer": {}}


@pytest.fixture
def save(tmp_path):
    """Makes a run of the spec with these numbers; ``device`` in another folder."""

    def make(seed=0, spec=SPEC, **numbers):
        folder = tmp_path / str(numbers.get("device", "cpu"))[:3]
        return Store(folder).save(replace(spec, seed=seed), {**NUMBERS, **numbers})

    return make


def rows_of(runs, number=0):
    table = compression_tables(runs)[number]
    return [dict(zip(table.header, row, strict=True)) for row in table.rows if row[0]]


def test_one_run_has_no_deviation(save):
    (row,) = rows_of([save(test_error=0.0192, compression=68.04)])
    assert (row["error %"], row["compression"], row["n"]) == ("1.92", "68.0x", "1")
    (row,) = rows_of([save(test_error_mc=0.0188)], 1)
    assert (row["unpruned error %"], row["Monte Carlo"]) == ("3.00", "1.88")


def test_several_runs_have_mean_sample_deviation_and_n(save):
    """Sample standard deviation: of 1, 2, 3 it is 1, the population's would be 0.82."""
    (row,) = rows_of([save(i, test_error=0.01 * (i + 1), compression=40.0 + 10 * i) for i in range(3)])
    assert (row["error %"], row["compression"], row["n"]) == ("2.00 ± 1.00", "50.0 ± 10.0x", "3")


def test_a_diverged_run_is_counted_and_not_averaged(save):
    runs = [save(0, test_error=0.01), save(1, **NOTHING), save(2, test_error=0.03), save(3, **NOTHING)]
    (row,) = rows_of(runs)
    assert (row["error %"], row["compression"], row["n"]) == ("2.00 ± 1.41", "50.0 ± 0.0x", "2 (+2 diverged)")
    assert rows_of(runs, 1)[0]["zeros per layer, %"] == "98.0, 90.0"


def test_runs_that_all_diverged_still_have_a_row(save):
    runs = [save(0, **NOTHING), save(1, **NOTHING)]
    (row,) = rows_of(runs)
    assert (row["error %"], row["compression"], row["n"]) == ("-", "-", "0 (+2 diverged)")


def test_an_empty_network_is_called_that(save):
    """Its ratio is infinite: None in the record, and no average with finite ones."""
    (row,) = rows_of([save(0), save(1, compression=None)])
    assert (row["compression"], row["n"]) == ("empty network", "2")


@pytest.mark.parametrize(
    "other",
    [
        {"network": "lenet5"}, {"phases": (replace(FIT, scheme="none"),)}, {"data": Data(name="mnist", shift=1)},
        {"num_samples": 5}, {"options": Options(scale=0.5)}, {"phases": (FIT, FineTune(training=FIT.training))},
    ],
    ids=["network", "scheme", "data", "samples", "options", "tuned"],
)  # fmt: skip
def test_what_differs_is_never_averaged(save, other):
    runs = [save(0), save(1, replace(SPEC, **other))]
    tables = [table for table in compression_tables(runs) if table.header[-1] == "n"]
    assert [row[-1] for table in tables for row in table.rows if row[0]] == ["1", "1"]


@pytest.mark.parametrize("other", [{"dataset": "mnist (JPEG)"}, {"device": "H"}], ids=["dataset", "device"])
def test_runs_elsewhere_are_never_averaged(save, other):
    tables = [table for table in compression_tables([save(0), save(1, **other)]) if table.header[-1] == "n"]
    assert [row[-1] for table in tables for row in table.rows if row[0]] == ["1", "1"]


def test_the_number_of_a_cpus_cores_makes_no_other_row(save):
    (row,) = rows_of([save(0), save(1, device="cpu (16 cores, x86_64)")])
    assert row["n"] == "2"


def test_rows_are_numbered_the_same_in_all_tables(save):
    runs = [save(0, replace(SPEC, phases=(replace(FIT, scheme=scheme),))) for scheme in ("none", "sparse", "l0")]
    tables = compression_tables(runs)
    assert len(tables) == 2
    assert all([row[:2] for row in table.rows if row[0]] == [row[:2] for row in tables[0].rows[:3]] for table in tables)
    assert [row[0] for row in tables[0].rows[:3]] == ["1", "2", "3"]


def published(tables):
    return {row[1:5] for row in tables[0].rows if not row[0]}


def test_published_numbers_stand_beside_the_same_dataset_only(save):
    """Each with its kind, below the rows."""
    found = published(compression_tables([save()]))
    assert ("sparse", "published: paper", "1.92", "68x") in found
    assert len(found) == len(results_for("lenet300", None, "mnist"))
    for dataset in ("digits (28x28)", "fashion_mnist", "mnist (validation 5000)", "MNIST", "mnist_like", "cifar10"):
        assert published(compression_tables([save(dataset=dataset)])) == set()
    other = replace(SPEC, network="lenet5")
    assert ("sparse", "published: paper", "0.75", "280x") in published(compression_tables([save(0, other)]))
    assert published(compression_tables([save(0, replace(SPEC, options=Options(scale=2)))])) == set()


def test_training_is_the_protocol_and_its_changes(save):
    assert describe_training(save()) == "molchanov2017"
    changed = {"kl_weight": 1.25, "noise_lr": 0.3, "train_masking": False}
    assert describe_training(save(changes=changed)) == "molchanov2017: KL 1.25, noise 0.3, train_masking False"
    tuned = replace(SPEC, phases=(FIT, FineTune(training=Training(epochs=40))))
    assert describe_training(save(0, tuned, changes={"fine_tune": 40})) == "molchanov2017: 200+40 epochs"
    gradual = replace(SPEC, phases=(Gradual(sparsity=0.991, training=Training(epochs=100)),))
    assert describe_training(save(0, gradual, protocol="", changes={"lr": 2e-3})) == "99.10%, lr 0.002, 100 epochs"
    ticket = Lottery(sparsity=0.98, training=Training(epochs=10), rounds=13, extra=2)
    lottery = replace(SPEC, phases=(ticket,))
    assert describe_training(save(0, lottery, protocol="", changes={})) == "98.00%, 13 rounds, 132 epochs"


def test_no_runs_are_no_tables(tmp_path):
    """And no picture."""
    assert compression_tables([]) == []
    draw_curves([], tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("study", ["mnist_compress", "pruning_baselines"])
def test_no_label_of_the_curves_covers_another(tmp_path, monkeypatch, study):
    """And a scheme has one color."""
    figures = []
    monkeypatch.setattr(curve_pictures, "save_figure", lambda figure, path: figures.append(figure))
    draw_curves(committed(study).runs(), tmp_path / "curves.png")
    figures[0].canvas.draw()
    assert len(figures[0].axes) == 2
    for axis in figures[0].axes:
        labels = [text for text in axis.texts if text.get_text()]
        boxes = [Text.get_window_extent(label) for label in labels]
        assert len(boxes) >= 4
        assert [box.count_overlaps(boxes) for box in boxes] == [1] * len(boxes)
        assert all(axis.bbox.fully_contains(box.x0, box.y0) for box in boxes)
        for label in labels:
            if label.get_text().endswith(")"):
                assert label.get_color() == color_of(label.get_text().partition(" ")[0])
    plt.close(figures[0])


def test_the_axis_of_errors_ends_at_100_percent(save, monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(curve_pictures, "save_figure", lambda figure, path: figures.append(figure))
    monkeypatch.setattr(curve_pictures, "published_results", lambda run: [])
    for error, top in ((0.8552, 100), (0.02, 3.36)):
        draw_curves([save(0, test_error=error, curve=[])], tmp_path / "curves.png")
        assert figures[-1].axes[0].get_ylim()[1] == pytest.approx(top)
        plt.close(figures[-1])


def deployed(save, seed=0, error=0.02, **forms):
    made = {name: {"bytes": size, "test_error": wrong} for name, (size, wrong) in forms.items()}
    architecture = {"fc1": [400, 100], "fc2": [100, 50], "fc3": [50, 10]}
    numbers = {"architecture": architecture, "parameters": 50, "dense_parameters": 200, "dense_bytes": 1000}
    layers = {"fc1.weight": 0.98 + 0.01 * seed, "fc2.weight": 0.9}
    return save(seed, test_error=error, sparsity_per_layer=layers, deployment={**numbers, "forms": made})


def test_sizes_are_ratios_and_errors_are_of_the_loaded_network(save):
    runs = [deployed(save, float32=(100, 0.02), int8=(40, 0.021))]
    layers, sizes, errors = (rows_of(runs, number)[0] for number in (1, 2, 3))
    assert (layers["units (seed 0)"], layers["zeros per layer, %"]) == ("400-100-50", "98.0, 90.0")
    assert (sizes["parameters"], sizes["float32"], sizes["int8"], sizes["post."]) == ("4.0x", "10.0x", "25.0x", "-")
    assert (errors["bytes, int8"], errors["float32"], errors["int8"], errors["post."]) == ("40", "2.00", "2.10", "-")


def test_sizes_of_several_seeds_are_averaged(save):
    """Of those that have files."""
    runs = [deployed(save, 0, float32=(100, 0.02)), deployed(save, 1, 0.04, float32=(50, 0.04)), save(2)]
    assert rows_of(runs, 2)[0]["float32"] == "15.0 ± 7.1x"
    assert rows_of(runs, 3)[0]["float32"] == "3.00 ± 1.41"
    assert rows_of(runs[:2], 1)[0]["zeros per layer, %"] == "98.5, 90.0"


def test_times_stand_beside_the_network_that_was_timed(save):
    runs = [deployed(save, seed, float32=(100, 0.02)) for seed in (0, 1)]

    def timed(run, *faster):
        sizes = {size: {"times_faster": times} for size, times in zip(("1", "256"), faster, strict=True)}
        columns = {"dense": {}, "shrunk": {"8": {"times_faster": 9.0}, **sizes}}
        return {"trained": run.path.name, "test_error": 0.02, "compression": 50.0, "columns": columns}

    def cells(*times):
        found = compression_tables(runs, times)[4:]
        return [row[2:] for table in found for row in table.rows]

    one, other = (timed(run, 1.5 + i, 2.0) for i, run in enumerate(runs))
    assert cells() == []
    assert cells(other, {**one, "trained": "another.json"}) == [("2.5x", "2.0x", "1 of 2")]
    assert cells(one, other) == [("2.0 ± 0.7x", "2.0 ± 0.0x", "2 of 2")]
    assert cells({**one, "compression": 49.0}) == []  # of a run before this one
    del one["columns"]["shrunk"]["256"]
    assert cells(one) == []


def test_units_are_written_as_papers_do():
    lenet5 = {"conv1": (1, 20), "conv2": (20, 50), "fc1": (800, 500), "fc2": (500, 10)}
    assert units(lenet5) == "20-50-800-500"
    assert units({"fc1": (784, 300), "fc2": (300, 100), "fc3": (100, 10)}) == "784-300-100"
    assert units({"fc1": (784, 30), "fc2": (20, 10)}) == "784-30-20"


def test_markdown_is_a_table():
    """Aligned; no cell ends at a bar or line break of its own."""
    lines = Table("two", ("name", "n"), (("a|b\nc", "1"), ("d", "20"))).markdown().splitlines()
    assert lines == ["two:", "", "| name   | n  |", "| ------ | -- |", r"| a\|b c | 1  |", "| d      | 20 |"]
    assert Table("", ("n",), ()).markdown().splitlines() == ["| n |", "| - |"]


def test_numbers_of_nothing():
    assert [percent([]), percent([None]), ratio([]), summary([], "{}")] == ["-"] * 4
    assert percent([0.1, None]) == "10.00"
    assert count_runs([]) == "0"
    assert group_by([1, 2, 3], lambda n: n % 2) == {1: [1, 3], 0: [2]}


def test_a_table_is_written_before_it_is_printed_and_as_utf_8(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyro_vd.experiments.common.publish.show", fail)
    with pytest.raises(OSError, match="No space"):
        publish([Table("", ("n",), (("1.0 ± 0.1",),))], tmp_path)
    assert (tmp_path / "table.md").read_bytes().endswith("| 1.0 ± 0.1 |\n".encode())
