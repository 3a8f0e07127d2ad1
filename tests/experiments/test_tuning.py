"""Every method has as many trials, on images that nothing trains on, and the table names the best of them."""

from dataclasses import replace

import pytest

from pyro_vd.errors import UserError
from pyro_vd.experiments import tuning
from pyro_vd.experiments.common.phases import PHASE_NAMES
from pyro_vd.experiments.common.spec import Data, Dense, Lottery, key_of
from pyro_vd.experiments.common.store import Store, committed
from pyro_vd.experiments.tuning import (
    COMPRESSION,
    GRIDS,
    SPARSITY,
    Args,
    error_at,
    main,
    make_spec,
    make_table,
    make_trials,
)
from pyro_vd.models import NETWORKS
from tests.tiny import Tiny

DATA = Data(name="mnist", validation=10_000)


def epochs_of(spec):
    return sum(
        phase.rounds * phase.training.epochs + phase.extra if isinstance(phase, Lottery) else phase.training.epochs
        for phase in spec.phases
    )


def test_the_budget_is_the_same_for_all():
    for method in GRIDS:
        specs = [make_spec(DATA, method, changes) for changes in make_trials(method)]
        assert len({key_of(spec) for spec in specs}) == 6
        assert {(spec.network, spec.data, spec.seed, spec.method) for spec in specs} == {("lenet300", DATA, 0, method)}
        assert {epochs_of(spec) for spec in specs} == {15 + 50}
        if method != "lottery":
            assert {(type(spec.phases[0]), spec.phases[0].training.epochs) for spec in specs} == {(Dense, 15)}


def test_the_baselines_are_sparse_enough_to_be_held_against():
    assert 1 / (1 - SPARSITY) > COMPRESSION


def test_trials_on_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(NETWORKS, "lenet300", Tiny)
    monkeypatch.setattr(tuning, "PRETRAIN", 1)
    monkeypatch.setattr(tuning, "EPOCHS", 3)
    monkeypatch.setattr(tuning, "SPARSITY", 0.75)
    monkeypatch.setitem(tuning.GRIDS, "lottery", {"rounds": (2,), "lr": (1e-3, 2e-3)})
    monkeypatch.setitem(tuning.GRIDS, "l0", {"kl_weight": (1.0,), "noise_lr": (3.0,)})
    monkeypatch.setattr("pyro_vd.experiments.common.measures.draw_run", lambda *_: None)
    args = Args(method=("l0", "lottery"), dataset="digits", validation=100, engine="eager", device="cpu", out=tmp_path)
    main(args)
    runs = Store(tmp_path).runs()
    assert [run.spec.method for run in runs] == ["l0", "lottery", "lottery"]
    assert {(run.spec.data, run["dataset"]) for run in runs} == {
        (Data(name="digits", validation=100), "digits (validation 100)")
    }
    assert {run["experiment"] for run in runs} == {"tuning"}
    length = {"pretrain": 1, "epochs": 3}
    assert runs[0]["changes"] == {**length, "kl_weight": 1.0, "noise_lr": 3.0}
    assert {run["changes"]["lr"] for run in runs[1:]} == {1e-3, 2e-3}
    assert [run.record.get("protocol") for run in runs] == ["molchanov2017", None, None]
    assert capsys.readouterr().out.startswith("3 runs, 12 epochs")
    table = (tmp_path / "table.md").read_text()
    rows = {"| l0 ": 1, "| lottery ": 2, "rounds 2, lr 0.001": 1, "rounds 2, lr 0.002": 1}
    assert {row: table.count(row) for row in rows} == rows
    assert "to do" in table  # the other methods
    capsys.readouterr()
    main(args)
    assert capsys.readouterr().out.count("already finished") == 3


def save(store, method, number, error, compression, curve=(), diverged=False, **changes):
    points = [{"threshold": 3.0, "error": e, "compression": c} for e, c in curve]
    numbers = {"test_error": error, "compression": compression, "curve": points, "diverged": diverged}
    spec = make_spec(DATA, method, make_trials(method)[number])
    return store.save(replace(spec, **changes), numbers)


def test_a_run_is_judged_where_it_first_leaves_few_enough(tmp_path):
    store = Store(tmp_path)
    posterior = save(store, "sparse", 0, 0.01, 90.0, [(0.09, 150.0), (0.02, 111.0), (0.01, 90.0), (0.9, None)])
    assert error_at(posterior, 110.0) == 0.02
    assert error_at(posterior, 80.0) == 0.01
    assert error_at(posterior, 200.0) is None
    assert error_at(save(store, "sparse", 1, None, None, diverged="nan"), 110.0) is None


@pytest.fixture
def two_each(monkeypatch):
    """Fewer trials than there are."""
    grids = {
        "sparse": {"kl_weight": (1.5, 2.0), "noise_lr": (1.0,)},
        "l0": {"kl_weight": (3.0,), "noise_lr": (3.0, 10.0)},
        "magnitude": {"end": (0.1,), "lr": (1e-3, 2e-3)},
    }
    monkeypatch.setattr(tuning, "GRIDS", grids)


def test_the_table_names_the_best_of_each_method(two_each, tmp_path):
    store = Store(tmp_path)
    save(store, "magnitude", 0, 0.03, 111.1)
    save(store, "magnitude", 1, 0.025, 111.1)
    save(store, "sparse", 1, None, None, diverged="nan")
    save(store, "sparse", 0, 0.01, 90.0, [(0.02, 111.0)])
    save(store, "l0", 0, 0.02, 12.0)
    save(store, "l0", 1, 0.9, None)
    save(store, "l0", 0, 0.001, 500.0, num_samples=7)
    save(store, "l0", 0, 0.001, 500.0, seed=1)
    table = make_table(DATA, store)
    assert table.title == "lenet300, mnist, 10,000 validation images, 15 + 50 epochs, seed 0"
    assert table.rows == (
        ("sparse", "kl_weight 1.5, noise_lr 1", "1.00", "90.0x", "2.00 (best)"),
        ("sparse", "kl_weight 2, noise_lr 1", "diverged", "-", "-"),
        ("l0", "kl_weight 3, noise_lr 3", "2.00", "12.0x", "-"),
        ("l0", "kl_weight 3, noise_lr 10", "90.00", "empty network", "-"),
        ("magnitude", "end 0.1, lr 0.001", "3.00", "111.1x", "3.00"),
        ("magnitude", "end 0.1, lr 0.002", "2.50", "111.1x", "2.50 (best)"),
    )


def test_none_is_the_best_before_all_are_there(two_each, tmp_path):
    store = Store(tmp_path)
    save(store, "magnitude", 0, 0.03, 111.1)
    assert make_table(DATA, store).rows[-2:] == (
        ("magnitude", "end 0.1, lr 0.001", "3.00", "111.1x", "3.00"),
        ("magnitude", "end 0.1, lr 0.002", "to do", "-", "-"),
    )


def test_every_committed_record_is_a_trial():
    trials = {key_of(make_spec(DATA, method, changes)) for method in GRIDS for changes in make_trials(method)}
    runs = committed(tuning.STUDY).runs()
    assert {key_of(run.spec) for run in runs} == trials
    assert len(runs) == len(trials) == 24
    table = make_table(DATA, committed(tuning.STUDY))
    assert [row[0] for row in table.rows if "(best)" in row[-1]] == ["sparse", "magnitude", "lottery"]
    assert [row[-1] for row in table.rows if row[0] == "l0"] == ["-"] * 6  # none of them is as sparse
    assert {row["phase"] for run in runs for row in run["history"]} <= set(PHASE_NAMES.values())


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(UserError, match="must not be used for tuning"):
        main(Args(validation=0, out=tmp_path))
    with pytest.raises(UserError, match="--method needs at least one name"):
        main(Args(method=(), out=tmp_path))
