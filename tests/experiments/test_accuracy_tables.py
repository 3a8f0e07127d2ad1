"""Tables and pictures of the accuracy studies: they say only what the seeds allow."""

import dataclasses

import pytest
from scipy import stats

from pyro_vd.experiments import cifar_reference, mnist_accuracy
from pyro_vd.experiments.common import accuracy_pictures
from pyro_vd.experiments.common.accuracy import find_runs
from pyro_vd.experiments.common.accuracy_tables import accuracy_tables, interval, paired_differences
from pyro_vd.experiments.common.measures import ACCURACY_KEYS
from pyro_vd.experiments.common.protocols import Protocol, accuracy_fit
from pyro_vd.experiments.common.spec import Data, Options, Spec
from pyro_vd.experiments.common.store import Store

TINY = Protocol(name="tiny", epochs=2, batch_size=50, ramp=1.0)
DIGITS = Data(name="digits")


def spec_of(scheme="none", protocol=TINY, **row):
    fit = accuracy_fit(protocol, scheme, **row)
    return Spec(network="mlp", options=Options(hidden=(8,)), data=DIGITS, phases=(fit,))


# --- tables


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


COLUMNS = {"8 units": {name: spec_of(options={"p": p} if p else None, scheme="bernoulli" if p else "none")
                       for name, p in (("none", 0), ("sure", 0.1), ("unsure", 0.2))}}  # fmt: skip


def save(store, row, errors, rows=COLUMNS["8 units"], **changes):
    """Hand-made runs with seeds 0, 1, ...; None is a run that diverged."""
    for seed, error in enumerate(errors):
        numbers = {**dict.fromkeys(ACCURACY_KEYS, error), "diverged": False if error is not None else "non-finite"}
        made = {"dataset": "digits", "device": "cpu (2 cores)", **numbers, **changes}
        store.save(dataclasses.replace(rows[row], seed=seed), made)


def tables_of(store, columns=COLUMNS, **options):
    return [{row[0]: row[1:] for row in table.rows} for table in accuracy_tables(columns, store, "tiny", **options)]


def test_a_difference_is_paired_by_seed_and_marked_only_where_it_holds(store):
    """Seeds that differ much from each other and rows that differ little, but always the same way."""
    noise = [0.10, 0.20, 0.30, 0.40]
    save(store, "none", noise)
    save(store, "sure", [error - 0.01 - 1e-4 * seed for seed, error in enumerate(noise)])
    save(store, "unsure", [error + (-1) ** seed * 0.01 for seed, error in enumerate(noise)])
    errors, differences = tables_of(store)
    assert errors["none"][0] == "25.00 ± 12.91"
    sure, unsure = differences["sure"][0], differences["unsure"][0]
    assert sure.startswith("-1.02 [")
    assert sure.endswith("] *")
    assert unsure == "+0.00 [-1.84, +1.84]"
    assert [row[1] for row in differences.values()] == ["4", "4"]


def test_intervals_are_those_of_scipys_paired_t_test(store):
    ours, theirs = [0.11, 0.13, 0.12], [0.10, 0.11, 0.13]
    save(store, "none", theirs)
    save(store, "sure", ours)
    found = find_runs(store, COLUMNS["8 units"])
    differences = paired_differences(found["sure"], found["none"])
    assert differences == pytest.approx([1.0, 2.0, -1.0])
    low, high = stats.ttest_rel([100 * e for e in ours], [100 * e for e in theirs]).confidence_interval(0.95)
    assert interval(differences) == f"+0.67 [{low:+.2f}, {high:+.2f}]"


def test_pairs_have_the_same_seed_and_did_not_diverge(store):
    save(store, "none", [0.10, None, 0.30, 0.40])
    save(store, "sure", [0.20, 0.30, None, 0.60])
    found = find_runs(store, COLUMNS["8 units"])
    assert paired_differences(found["sure"], found["none"]) == pytest.approx([10.0, 20.0])


def test_five_percent_are_of_all_rows_together(store):
    """p = 0.04 alone is marked; beside a row of p = 0.5 it is not (Benjamini and Hochberg)."""
    save(store, "none", [0.5, 0.5, 0.5, 0.5])
    save(store, "sure", [0.51, 0.52, 0.53, 0.51])
    difference = [1, 2, 3, 1]
    assert 0.025 < stats.ttest_1samp(difference, 0).pvalue < 0.05
    assert tables_of(store)[1]["sure"][0].endswith("*")
    save(store, "unsure", [0.51, 0.49, 0.52, 0.49])
    assert not tables_of(store)[1]["sure"][0].endswith("*")


def test_one_run_is_no_comparison(store):
    save(store, "none", [0.5])
    save(store, "sure", [0.1])
    (errors,) = tables_of(store)
    assert errors == {"none": ("50.00", "50.00", "50.00", "1"), "sure": ("10.00", "10.00", "10.00", "1")}
    assert interval([0.4]) == "-"


def test_columns_have_tables_of_their_own(store):
    """Runs of another dataset or length are other specs, and are in no table of these."""
    other = {row: dataclasses.replace(spec, options=Options(hidden=(9,))) for row, spec in COLUMNS["8 units"].items()}
    save(store, "none", [0.5])
    save(store, "none", [0.1], other)
    longer = {"none": spec_of(protocol=dataclasses.replace(TINY, epochs=3))}
    save(store, "none", [0.2], longer)
    titles = [table.title for table in accuracy_tables(COLUMNS | {"9 units": other}, store, "tiny")]
    assert titles == ["8 units, tiny, digits, 2 epochs, cpu", "9 units, tiny, digits, 2 epochs, cpu"]
    assert tables_of(store) == [{"none": ("50.00", "50.00", "50.00", "1")}]


def test_a_title_names_every_device(store):
    save(store, "none", [0.5])
    save(store, "sure", [0.5], device="NVIDIA H200")
    (table,) = accuracy_tables(COLUMNS, store, "tiny")
    assert table.title.endswith("2 epochs, NVIDIA H200, cpu")


def test_diverged_runs_are_counted_and_never_averaged(store):
    save(store, "none", [0.5, 0.5, None])
    (errors,) = tables_of(store)
    assert errors == {"none": ("50.00 ± 0.00", "50.00 ± 0.00", "50.00 ± 0.00", "2 (+1 diverged)")}


def test_published_numbers_are_those_of_the_column(store):
    assert mnist_accuracy.find_published("250 units")["binary"] == 0.0139
    assert mnist_accuracy.find_published("30 units") == {}
    assert cifar_reference.find_published("widths x 1.5")["sparse B, per weight"] == pytest.approx(0.3744)
    save(store, "none", [0.5])
    save(store, "sure", [0.5])
    (errors,) = tables_of(store, published=lambda column: {"none": 0.0139} if column == "8 units" else {})
    assert [row[-1] for row in errors.values()] == ["1.39", "-"]


# --- pictures


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, instead of their files."""
    drawn = []
    monkeypatch.setattr(accuracy_pictures, "save_figure", lambda figure, path: drawn.append(figure))
    yield drawn
    for figure in drawn:
        accuracy_pictures.plt.close(figure)


def test_the_figure_has_a_line_per_row_and_crosses_for_published_errors_only(store, figures, tmp_path):
    save(store, "none", [0.5, 0.6])
    save(store, "sure", [0.1, None])
    save(store, "unsure", [None])
    accuracy_pictures.draw_errors(COLUMNS, store, tmp_path)
    accuracy_pictures.draw_errors(COLUMNS, store, tmp_path, lambda column: {"sure": 0.2})
    plain, compared = (figure.axes[0] for figure in figures)
    assert [text.get_text() for text in plain.texts] == ["none", "sure"]
    assert not [line for line in plain.lines if line.get_marker() == "x"]
    (cross,) = [line for line in compared.lines if line.get_marker() == "x"]
    assert cross.get_ydata().tolist() == [20]
    assert (plain.get_title(), plain.get_legend(), bool(compared.get_title())) == ("", None, True)


def test_rows_of_one_scheme_share_a_color_and_not_a_line(store, figures, tmp_path):
    for row in ("none", "sure", "unsure"):
        save(store, row, [0.5])
    accuracy_pictures.draw_errors(COLUMNS, store, tmp_path)
    lines = {line.get_label(): line for line in figures[0].axes[0].lines if not line.get_label().startswith("_")}
    assert lines["sure"].get_color() == lines["unsure"].get_color() != lines["none"].get_color()
    assert lines["sure"].get_linestyle() != lines["unsure"].get_linestyle()


def test_nothing_is_drawn_without_runs(store, figures, tmp_path):
    save(store, "none", [None])
    accuracy_pictures.draw_errors(COLUMNS, store, tmp_path)
    accuracy_pictures.draw_log_alphas(COLUMNS["8 units"], store, tmp_path)
    assert figures == []
