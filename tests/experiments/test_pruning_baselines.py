"""The baselines end to end on digits with a network of a few hundred weights."""

import json

import pytest

import pyro_vd
from pyro_vd import Training
from pyro_vd.errors import NonFiniteError, UserError
from pyro_vd.experiments import mnist_compress
from pyro_vd.experiments.common import phases, runner
from pyro_vd.experiments.common.compression_tables import describe_training
from pyro_vd.experiments.common.measures import COMPRESSION_KEYS
from pyro_vd.experiments.common.spec import Data, Dense, Gradual, Lottery
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.pruning_baselines import Args, describe, main, make_spec
from pyro_vd.inference.schedules import HoldThenDecay
from pyro_vd.models import NETWORKS
from tests.runs import without_times
from tests.tiny import Tiny


@pytest.fixture(scope="module", autouse=True)
def tiny_network():
    real = NETWORKS["lenet300"]
    NETWORKS["lenet300"] = Tiny
    yield
    NETWORKS["lenet300"] = real


def arguments(out, **changes):
    small = {"dataset": "digits", "epochs": 4, "pretrain": 2, "rounds": 3, "sparsity": (0.75,), "device": "cpu"}
    return Args(**{**small, "batch_size": 500, "engine": "eager", "out": out, **changes})


def runs_of(out):
    return {run.spec.method: run for run in Store(out).runs(COMPRESSION_KEYS)}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("done")
    main(arguments(out))
    return out


def test_both_end_at_the_sparsity_that_was_asked(done):
    found = runs_of(done)
    assert found.keys() == {"magnitude", "lottery"}
    for run in found.values():
        assert run["nonzero"] == (64 * 8 + 8 * 10) // 4
        assert run["compression"] == 4
        assert run["deployment"]["forms"]["float32"]["test_error"] == run["test_error"] < 0.95
        assert run["experiment"] == "pruning_baselines"
    epochs = {name: [row["epoch"] for row in run["history"]] for name, run in found.items()}
    assert epochs == {"magnitude": [0, 1, 0, 1, 2, 3], "lottery": [0, 1] * 3}
    assert [row["round"] for row in found["lottery"]["history"]] == [0, 0, 1, 1, 2, 2]


def test_the_table_says_sparsity_and_what_was_changed(done):
    text = (done / "table.md").read_text()
    assert text.count("75.00%") == 2
    described = {name: describe_training(run) for name, run in runs_of(done).items()}
    assert described["magnitude"].startswith("75.00%")
    assert "2+4 epochs" in described["magnitude"]
    assert "6 epochs" in described["lottery"]
    assert "3 rounds" in described["lottery"]


def test_gradual_pruning_follows_dense_training_with_the_dropout_of_ours():
    """So that it can be compared with the protocol's rows."""
    spec = make_spec(Args(), "mnist", "magnitude", 0.991, 3)
    dense, gradual = spec.phases
    assert (spec.seed, spec.data) == (3, Data(name="mnist"))
    decay = HoldThenDecay(0, 30)
    assert dense == Dense(training=Training(epochs=30, lr_schedule=decay), dropout=mnist_compress.MOLCHANOV.dropout)
    assert gradual == Gradual(sparsity=0.991, training=Training(epochs=100, lr_schedule=HoldThenDecay(50, 100)))
    (gradual,) = make_spec(Args(pretrain=0, start=0.1, end=0.6, shift=1), "mnist", "magnitude", 0.9).phases
    assert (gradual.start, gradual.end) == (0.1, 0.6)


@pytest.mark.parametrize(
    ("epochs", "pretrain", "rounds", "each", "extra"), [(100, 30, 13, 10, 0), (6, 2, 3, 2, 2), (7, 0, 2, 3, 1)]
)
def test_the_lottery_spends_all_epochs(epochs, pretrain, rounds, each, extra):
    args = Args(epochs=epochs, pretrain=pretrain, rounds=rounds)
    (phase,) = make_spec(args, "mnist", "lottery", 0.98).phases
    assert isinstance(phase, Lottery)
    assert (phase.training.epochs, phase.extra, phase.rounds) == (each, extra, rounds)
    assert rounds * each + extra == epochs + pretrain


@pytest.mark.parametrize(
    ("changes", "magnitude", "lottery"),
    [
        ({}, {}, {}),
        ({"end": 0.9}, {"end": 0.9}, {}),
        ({"rounds": 5}, {}, {"rounds": 5}),
        ({"lr": 0.01, "shift": 1}, {"lr": 0.01, "shift": 1}, {"lr": 0.01, "shift": 1}),
    ],
    ids=str,
)
def test_records_say_what_is_no_default_of_their_method(changes, magnitude, lottery, tmp_path):
    args = Args(out=tmp_path, **changes)
    notes = [describe(args, make_spec(args, "mnist", name, 0.9).method) for name in ("magnitude", "lottery")]
    assert [note["changes"] for note in notes] == [magnitude, lottery]


def test_a_finished_run_is_kept_and_another_setting_is_another_run(done, capsys, monkeypatch):
    class Trained(Exception):
        pass

    def note(*_, **__):
        raise Trained

    before = {path.name: path.read_bytes() for path in done.glob("*.json")}
    monkeypatch.setattr(phases.pyro_vd, "fit", note)
    main(arguments(done))
    assert capsys.readouterr().out.count("already finished") == 2
    for changes in (
        {"lr": 0.01}, {"validation": 200}, {"pretrain": 1}, {"shift": 1}, {"epochs": 5}, {"end": 0.5}, {"hold": 0.1},
        {"sparsity": (0.7500001,)}, {"batch_size": 100},
    ):  # fmt: skip
        with pytest.raises(Trained):
            main(arguments(done, method=("magnitude",), **changes))
    assert before == {path.name: path.read_bytes() for path in done.glob("*.json")}


def test_a_diverged_run_is_a_record_too(tmp_path, monkeypatch, capsys):
    """It is counted, as ours are, and the runs after it go on."""
    fit = pyro_vd.fit

    def diverging(model, guide, train, training, **options):
        if training.epochs == 4:
            raise NonFiniteError("gradient", [{"epoch": 0, "seconds": 1.0}])
        return fit(model, guide, train, training, **options)

    monkeypatch.setattr(phases.pyro_vd, "fit", diverging)
    main(arguments(tmp_path, pretrain=0, rounds=2))
    found = runs_of(tmp_path)
    assert [found[name].diverged for name in ("magnitude", "lottery")] == [True, False]
    broken = found["magnitude"]
    assert (broken["test_error"], broken["seconds"], broken["history"][0]["phase"]) == (None, 1.0, "gradual")
    assert (tmp_path / "table.md").read_text().count("(+1 diverged)") == 1


@pytest.mark.parametrize("stop", [1, 3, 6])
@pytest.mark.parametrize("method", ["magnitude", "lottery"])
def test_an_interrupted_run_goes_on_to_the_same_network(tmp_path, monkeypatch, method, stop, done):
    counts = [0]

    def tick(self):
        counts[0] += 1
        if counts[0] == stop:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner.Clock, "tick", tick)
        with pytest.raises(KeyboardInterrupt):
            main(arguments(tmp_path, method=(method,)))
    main(arguments(tmp_path, method=(method,)))
    assert without_times(runs_of(tmp_path)[method].record) == without_times(runs_of(done)[method].record)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sparsity": (1.0,)}, "--sparsity"),
        ({"sparsity": (float("nan"),)}, "--sparsity"),
        ({"sparsity": ()}, "--method and --sparsity need at least one value"),
        ({"method": ()}, "--method and --sparsity need at least one value"),
        ({"sparsity": (0.9999,)}, "leaves none of 592 weights"),
        ({"start": 0.8}, "--start"),
        ({"hold": 1.5}, "--hold"),
        ({"rounds": 1}, "--rounds"),
        ({"rounds": 7}, "--epochs and --pretrain together at least --rounds"),
        ({"epochs": 0, "method": ("magnitude",)}, "--epochs"),
        ({"shift": -1}, "--shift"),
        ({"seeds": 0}, "--seeds"),
        ({"pretrain": -1}, "--pretrain"),
        ({"lr": 0.0}, "--lr"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, changes, named):
    with pytest.raises(UserError, match=named):
        main(arguments(tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_records_are_strict_json(done):
    for path in done.glob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)
