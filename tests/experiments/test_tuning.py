"""Every method has as many trials, on images that nothing trains on, and the table names the best of them."""

import json

import pytest

from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress, pruning_baselines, tuning
from pyro_vd.experiments.tuning import COMPRESSION, GRIDS, SPARSITY, Args, error_at, main, trial, trials, tuning_table
from tests.tiny import Tiny


def test_the_budget_is_the_same_for_all():
    for method in GRIDS:
        runs = [trial(Args(), method, changes) for changes in trials(method)]
        assert len(runs) == len(set(map(str, runs))) == 6
        lengths = {(run.network, run.pretrain, run.epochs, run.validation) for run in runs}
        assert lengths == {("lenet300", 15, 50, 10_000)}


def test_the_baselines_are_sparse_enough_to_be_held_against():
    assert 1 / (1 - SPARSITY) > COMPRESSION


def test_trials_on_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(mnist_compress.NETWORKS, "lenet300", Tiny)
    monkeypatch.setitem(pruning_baselines.NETWORKS, "lenet300", Tiny)
    monkeypatch.setattr(tuning, "PRETRAIN", 1)
    monkeypatch.setattr(tuning, "EPOCHS", 3)
    monkeypatch.setattr(tuning, "SPARSITY", 0.75)
    monkeypatch.setitem(tuning.GRIDS, "lottery", {"rounds": (2,), "lr": (1e-3, 2e-3)})
    monkeypatch.setitem(tuning.GRIDS, "l0", {"kl_weight": (1.0,), "noise_lr": (3.0,)})
    monkeypatch.setattr("pyro_vd.experiments.common.compression.pictures.draw_run", lambda *_: None)
    args = Args(method=("l0", "lottery"), dataset="digits", validation=100, engine="eager", device="cpu", out=tmp_path)
    main(args)
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert {record["scheme"] for record in records} == {"l0", "lottery, 75.00%"}
    assert {(record["validation"], record["dataset"]) for record in records} == {(100, "digits (validation 100)")}
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out
    rows = {"| l0 ": 1, "| lottery ": 2, "rounds 2, lr 0.001": 1, "rounds 2, lr 0.002": 1}
    assert {row: table.count(row) for row in rows} == rows
    main(args)
    assert capsys.readouterr().out.count("already finished") == 3


def record(method, number, error, compression, curve=(), **other):
    points = [{"threshold": 3.0, "error": e, "compression": c} for e, c in curve]
    numbers = {"test_error": error, "compression": compression, "curve": points, "diverged": False}
    settings = {"network": "lenet300", "pretrain": 15, "epochs": 50, "dataset": "mnist", "scheme": method}
    return {**settings, **trials(method.split(",")[0])[number], **numbers, **other}


def test_a_run_is_judged_where_it_first_leaves_few_enough():
    posterior = record("sparse", 0, 0.01, 90.0, [(0.09, 150.0), (0.02, 111.0), (0.01, 90.0), (0.9, None)])
    assert error_at(posterior, 110.0) == 0.02
    assert error_at(posterior, 80.0) == 0.01
    assert error_at(posterior, 200.0) is None
    assert error_at(record("sparse", 0, None, None, diverged=True), 110.0) is None


def rows_of(records):
    table = tuning_table(records)
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[4:]]


@pytest.fixture
def two_each(monkeypatch):
    """Fewer trials than there are."""
    grids = {
        "sparse": {"kl_weight": (1.5, 2.0), "noise_lr": (1.0,)},
        "l0": {"kl_weight": (3.0,), "noise_lr": (3.0, 10.0)},
        "magnitude": {"end": (0.1,), "lr": (1e-3, 2e-3)},
    }
    monkeypatch.setattr(tuning, "GRIDS", grids)


def test_the_table_names_the_best_of_each_method(two_each):
    records = [
        record("magnitude, 99.10%", 0, 0.03, 111.1),
        record("magnitude, 99.10%", 1, 0.025, 111.1),
        record("sparse", 1, None, None, diverged=True),
        record("sparse", 0, 0.01, 90.0, [(0.02, 111.0)]),
        record("l0", 0, 0.02, 12.0),
        record("l0", 1, 0.9, None),
        record("l0", 0, 0.001, 500.0, epochs=100),
    ]
    assert rows_of(records) == [
        ["sparse", "kl_weight 1.5, noise_lr 1", "1.00", "90.0x", "2.00 (best)"],
        ["sparse", "kl_weight 2, noise_lr 1", "diverged", "-", "-"],
        ["l0", "kl_weight 3, noise_lr 3", "2.00", "12.0x", "-"],
        ["l0", "kl_weight 3, noise_lr 10", "90.00", "empty network", "-"],
        ["magnitude", "end 0.1, lr 0.001", "3.00", "111.1x", "3.00"],
        ["magnitude", "end 0.1, lr 0.002", "2.50", "111.1x", "2.50 (best)"],
    ]


def test_none_is_the_best_before_all_are_there(two_each):
    rows = rows_of([record("magnitude, 99.10%", 0, 0.03, 111.1)])
    assert rows[-2:] == [
        ["magnitude", "end 0.1, lr 0.001", "3.00", "111.1x", "3.00"],
        ["magnitude", "end 0.1, lr 0.002", "to do", "-", "-"],
    ]


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(UserError, match="must not be used for tuning"):
        main(Args(validation=0, out=tmp_path))
    with pytest.raises(UserError, match="--method needs at least one name"):
        main(Args(method=(), out=tmp_path))
    with pytest.raises(UserError, match="did you mean 'lottery'"):
        main(Args(method=("lotery",), out=tmp_path))
