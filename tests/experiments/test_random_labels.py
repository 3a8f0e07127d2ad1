"""Shuffled labels are what they are called, every run has its own, and the tables say what was memorized."""

import dataclasses

import pytest
import torch

from pyro_vd.errors import UserError
from pyro_vd.experiments import random_labels
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.measures import ACCURACY_KEYS
from pyro_vd.experiments.common.protocols import Protocol
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.random_labels import ROWS, Args, main, make_shares, make_table, make_weights
from pyro_vd.models import NETWORKS
from tests.tiny import Tiny

PROTOCOL = Protocol(name="tiny", epochs=60, batch_size=20, lr=3e-2, wait=0.1, ramp=0.2)


def load_shuffled(share, seed):
    data = Data(name="digits", num_train=1000, num_test=100, shuffled=share)
    return load_images(data, Tiny(), None, seed)


def test_a_share_of_the_labels_is_permuted():
    true, half = load_shuffled(0.0, seed=0), load_shuffled(0.5, seed=0)
    before, after = true.train.labels, half.train.labels
    torch.testing.assert_close(after.bincount(minlength=10), before.bincount(minlength=10))
    # Of 500, a tenth keeps its label by chance: 450 others, 6.7 of a standard deviation.
    assert 410 < (before != after).sum() < 490
    assert torch.equal(half.test.labels, true.test.labels)
    assert half.name == f"{true.name} (50 % shuffled)"
    assert not torch.equal(after, load_shuffled(0.5, seed=1).train.labels)
    assert torch.equal(after, load_shuffled(0.5, seed=0).train.labels)
    assert torch.equal(before, load_shuffled(0.0, seed=1).train.labels)


def test_weighted_rows_are_those_with_a_kl_on_shuffled_labels():
    shares, weights = make_shares("digits", (0.0, 1.0)), make_weights("digits", (0.1, 1.0))
    assert list(shares) == ["0 %", "100 %"]
    assert all(list(rows) == list(ROWS) for rows in shares.values())
    assert {(c, r): s.main.training.kl_schedule.weight for c, rows in weights.items() for r, s in rows.items()} == {
        ("0.1", "sparse"): 0.1, ("0.1", "hierarchical"): 0.1, ("1", "sparse"): 1.0, ("1", "hierarchical"): 1.0
    }  # fmt: skip
    assert {spec.data.shuffled for rows in weights.values() for spec in rows.values()} == {1.0}
    assert all(weights["1"][row] == shares["100 %"][row] for row in weights["1"])  # the same runs


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(random_labels, "PROTOCOL", PROTOCOL)
    monkeypatch.setitem(NETWORKS, "lenet300", Tiny)
    monkeypatch.setattr(random_labels, "NUM_TRAIN", 60)
    return Args(
        dataset="digits", row=("none", "sparse"), share=(0.0, 1.0), kl_weight=(0.001,), engine="eager", out=tmp_path
    )


def test_all_of_it_on_digits(small, capsys):
    main(small)
    store = Store(small.out)
    columns = make_shares("digits", small.share, PROTOCOL) | make_weights("digits", small.kl_weight, PROTOCOL)
    runs = {(column, row): store.load(spec) for column, rows in columns.items() for row, spec in rows.items()}
    runs = {place: run for place, run in runs.items() if run}
    assert len(store.runs(ACCURACY_KEYS)) == 5
    assert len(runs) == 6  # all labels shuffled with the whole KL is in both tables
    # What is memorized is no use, and under the whole KL nothing is memorized.
    memorized, empty = runs["100 %", "none"], runs["100 %", "sparse"]
    assert memorized["train_error"] < 0.65
    assert memorized["test_error"] > 0.8
    assert empty["train_error"] > memorized["train_error"] + 0.1
    assert empty["sparsity"] > runs["0 %", "sparse"]["sparsity"]
    assert empty["sparsity"] > runs["0.001", "sparse"]["sparsity"]
    text = (small.out / "table.md").read_text()
    assert "digits (60 and 359 images), 60 epochs, cpu" in text
    assert "| 100 %           | none   |" in text
    assert "| 0.001     | sparse |" in text
    for name in ("shares", "weights"):
        assert (small.out / f"{name}.png").stat().st_size > 5_000
    capsys.readouterr()
    main(small)
    assert capsys.readouterr().out.count("already finished") == 5


def test_a_row_without_a_kl_has_no_weighted_runs(small):
    main(dataclasses.replace(small, row=("none",), share=(1.0,), epochs=1))
    (run,) = Store(small.out).runs()
    assert run.spec.method == "none"
    assert not (small.out / "weights.png").exists()


def test_a_row_brings_its_weighted_runs_and_lengths_are_not_mixed(small):
    asked = dataclasses.replace(small, share=(1.0,), row=("sparse",))
    for epochs in (3, 2):
        main(dataclasses.replace(asked, epochs=epochs))
    store = Store(small.out)
    found = [(run.spec.main.training.epochs, run.spec.main.training.kl_schedule.weight) for run in store.runs()]
    assert sorted(found) == [(2, 0.001), (2, 1.0), (3, 0.001), (3, 1.0)]
    shares = make_shares("digits", (1.0,), dataclasses.replace(PROTOCOL, epochs=3))
    table = make_table("labels shuffled", shares, store)
    assert len(table.rows) == 1
    assert ", 3 epochs, " in table.title


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": (1.1,)}, "--share"),
        ({"share": ()}, "--share"),
        ({"kl_weight": (-1.0,)}, "--kl-weight"),
        ({"kl_weight": (float("inf"),)}, "--kl-weight"),
        ({"row": ("sparce",)}, "sparse"),
    ],
)
def test_bad_arguments_are_refused(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        main(Args(dataset="digits", out=tmp_path, **changes))


def save(store, columns, column, row, **numbers):
    empty = dict.fromkeys(ACCURACY_KEYS, 0.5)
    made = {"dataset": "digits", "device": "cpu", "diverged": False, **empty, "train_error": 0.25, **numbers}
    return store.save(columns[column][row], made)


def test_pruned_shares_are_of_schemes_with_a_kl_and_diverged_runs_are_counted(tmp_path):
    store, columns = Store(tmp_path), make_shares("digits", (0.2,))
    save(store, columns, "20 %", "none", sparsity=0.5, test_error_pruned=0.5)
    save(store, columns, "20 %", "sparse", sparsity=0.9, test_error_pruned=0.75)
    save(store, columns, "20 %", "hierarchical", diverged="non-finite")
    assert make_table("labels shuffled", columns, store).rows == (
        ("20 %", "none", "25.0", "50.0", "-", "-", "1"),
        ("20 %", "sparse", "25.0", "50.0", "90.00", "75.0", "1"),
        ("20 %", "hierarchical", "-", "-", "-", "-", "0 (+1 diverged)"),
    )


def test_a_panel_needs_something_that_was_measured(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(random_labels, "save_figure", lambda figure, path: figures.append(figure))
    store, columns = Store(tmp_path), make_weights("digits", (0.0, 0.1))
    runs = {at: [save(store, columns, f"{at:g}", "sparse", sparsity=0.9)] for at in (0.0, 0.1)}
    none = [save(store, make_shares("digits"), "0 %", "none")]
    random_labels.draw_panels({"sparse": runs}, "weight of the KL", "log", tmp_path)
    random_labels.draw_panels({"none": {0.0: none}}, "labels shuffled, %", "linear", tmp_path)
    random_labels.draw_panels({"none": {0.0: []}}, "labels shuffled, %", "linear", tmp_path)
    weights, shares = figures
    assert [len(figure.axes) for figure in figures] == [3, 2]
    assert weights.axes[0].get_xscale() == "symlog"  # shows a weight of 0
    assert [text.get_text() for axis in shares.axes for text in axis.texts] == ["none"] * 2
    for figure in figures:
        random_labels.plt.close(figure)
