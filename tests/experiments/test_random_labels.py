"""Shuffled labels are what they are called, every run has its own, and the report says what was memorized."""

import dataclasses

import pytest
import torch

from pyro_vd.data import load
from pyro_vd.errors import UserError
from pyro_vd.experiments import random_labels
from pyro_vd.experiments.common.accuracy import Protocol
from pyro_vd.experiments.common.records import read_records
from pyro_vd.experiments.random_labels import REQUIRED, ROWS, Args, cells, main, shuffle_labels
from tests.tiny import Tiny


@pytest.fixture(scope="module")
def split():
    return load("digits").subset(1000, 100)


def test_a_share_of_the_labels_is_dealt_anew(split):
    half = shuffle_labels(split, 0.5, seed=0)
    before, after = split.train.labels, half.train.labels
    torch.testing.assert_close(after.bincount(minlength=10), before.bincount(minlength=10))
    # Of 500, a tenth keeps its label by chance: 450 others, 6.7 of a standard deviation.
    assert 410 < (before != after).sum() < 490
    assert half.test is split.test
    assert half.name == f"{split.name} (50 % shuffled)"
    assert shuffle_labels(split, 0.0, seed=0).name == split.name
    assert torch.equal(shuffle_labels(split, 0.0, seed=0).train.labels, before)
    assert not torch.equal(after, shuffle_labels(split, 0.5, seed=1).train.labels)
    assert torch.equal(after, shuffle_labels(split, 0.5, seed=0).train.labels)


def test_weighted_rows_are_those_with_a_kl_on_shuffled_labels():
    every = cells((0.0, 1.0), (0.1,))
    assert len({str(cell) for cell, _ in every}) == len(every) == 2 * len(ROWS) + 2
    assert [(cell.row.name, cell.row.kl_weight, share) for cell, share in every[-2:]] == [
        ("sparse, KL x 0.1", 0.1, 1.0), ("hierarchical, KL x 0.1", 0.1, 1.0)
    ]  # fmt: skip


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(random_labels, "PROTOCOL", Protocol("tiny", 60, 20, 3e-2, 0.5, 0.1, 0.2))
    monkeypatch.setattr(random_labels, "LeNet300", Tiny)
    monkeypatch.setattr(random_labels, "NUM_TRAIN", 60)
    monkeypatch.setattr(random_labels, "ROWS", (ROWS[0], ROWS[2]))
    return Args(dataset="digits", share=(0.0, 1.0), kl_weight=(0.001,), engine="eager", out=tmp_path)


def test_all_of_it_on_digits(small, capsys):
    main(small)
    records = {(r["row"], r["column"]): r for r in read_records(small.out, REQUIRED)}
    assert len(records) == 5
    # What is memorized is no use, and under the whole KL nothing is memorized.
    memorized, empty = records["none", "100 % shuffled"], records["sparse", "100 % shuffled"]
    assert memorized["train_error"] < 0.65
    assert memorized["test_error"] > 0.8
    assert empty["train_error"] > memorized["train_error"] + 0.1
    assert empty["sparsity"] > records["sparse", "0 % shuffled"]["sparsity"]
    assert empty["sparsity"] > records["sparse, KL x 0.001", "100 % shuffled"]["sparsity"]
    text = (small.out / "table.md").read_text()
    assert "| 100 % shuffled | sparse | 0.001 " in text
    for name in ("shares", "weights"):
        (picture,) = small.out.glob(f"digits*-cpu-{name}.png")
        assert picture.stat().st_size > 5_000
    capsys.readouterr()
    main(small)
    assert capsys.readouterr().out.count("already finished") == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": (1.1,)}, "--share"),
        ({"share": ()}, "--share"),
        ({"kl_weight": (-1.0,)}, "--kl-weight"),
        ({"kl_weight": (1.0,)}, "--kl-weight"),
        ({"row": ("sparce",)}, "sparse"),
    ],
)
def test_bad_arguments_are_refused(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        main(Args(dataset="digits", out=tmp_path, **changes))


def test_runs_of_another_length_have_tables_of_their_own_and_a_row_brings_its_weighted_ones(small):
    asked = dataclasses.replace(small, share=(1.0,), row=("sparse",), epochs=3)
    main(asked)
    main(dataclasses.replace(asked, epochs=2))
    records = read_records(small.out, REQUIRED)
    assert sorted((r["epochs"], r["row"]) for r in records) == [
        (epochs, row) for epochs in (2, 3) for row in ("sparse", "sparse, KL x 0.001")
    ]
    assert random_labels.tables(records).count(" epochs, cpu:") == 2
