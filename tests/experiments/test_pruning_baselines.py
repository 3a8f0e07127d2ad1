"""The baselines end to end on digits with a network of a few hundred weights."""

import json

import pytest
import torch

from pyro_vd.errors import NonFiniteError, UserError
from pyro_vd.experiments import pruning_baselines
from pyro_vd.experiments.pruning_baselines import METHODS, Args, main, sparsity_at
from tests.tiny import Tiny


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    monkeypatch.setitem(pruning_baselines.NETWORKS, "lenet300", Tiny)


def arguments(out, **changes):
    small = {"dataset": "digits", "epochs": 4, "pretrain": 2, "rounds": 3, "sparsity": (0.75,), "device": "cpu"}
    return Args(**{**small, "engine": "eager", "out": out, **changes})


def records(out):
    return {record["scheme"]: record for record in (json.loads(path.read_text()) for path in out.glob("*.json"))}


def test_both_end_at_the_sparsity_that_was_asked(tmp_path, capsys):
    main(arguments(tmp_path))
    found = records(tmp_path)
    assert found.keys() == {"magnitude, 75.00%", "lottery, 75.00%"}
    for record in found.values():
        assert record["nonzero"] == (64 * 8 + 8 * 10) // 4
        assert record["compression"] == 4
        assert record["deployment"]["forms"]["float32"]["test_error"] == record["test_error"] < 0.9
    assert [row["epoch"] for row in found["magnitude, 75.00%"]["history"]] == [0, 1, 2, 3]
    assert [row["round"] for row in found["lottery, 75.00%"]["history"]] == [0, 0, 1, 1, 2, 2]
    assert "magnitude, 75.00%" in capsys.readouterr().out


def test_the_lottery_spends_all_epochs(tmp_path):
    main(arguments(tmp_path, method=("lottery",), epochs=6))
    (record,) = records(tmp_path).values()
    assert [row["round"] for row in record["history"]] == [0, 0, 1, 1, 2, 2, 2, 2]


def test_magnitude_pruning_is_gradual_and_not_uniform(tmp_path):
    """It reaches the schedule's sparsity after every epoch, by one ranking over all layers."""
    main(arguments(tmp_path, method=("magnitude",), end=0.75))
    (record,) = records(tmp_path).values()
    wanted = [sparsity_at(epoch, 4, 0.75, 0.0, 0.75) for epoch in (1, 2, 3, 4)]
    assert 0 < wanted[0] < wanted[1] < wanted[2] == wanted[3] == 0.75
    assert [row["sparsity"] for row in record["history"]] == pytest.approx(wanted, abs=0.5 / record["weights"])
    assert len(set(record["sparsity_per_layer"].values())) == 2


def test_a_diverged_run_is_a_record_too(tmp_path, monkeypatch, capsys):
    """It is counted, as ours are, and the runs after it go on."""
    fit = pruning_baselines.fit

    def diverging(*args, epochs, **options):
        if epochs == 2:  # a round of the lottery
            return fit(*args, epochs=epochs, **options)
        raise NonFiniteError("gradient", [{"epoch": 0, "seconds": 1.0}])

    monkeypatch.setattr(pruning_baselines, "fit", diverging)
    main(arguments(tmp_path))
    found = records(tmp_path)
    assert [found[name]["diverged"] for name in ("magnitude, 75.00%", "lottery, 75.00%")] == [True, False]
    broken = found["magnitude, 75.00%"]
    assert (broken["test_error"], broken["weights"], broken["seconds"]) == (None, 64 * 8 + 8 * 10, 1.0)
    assert capsys.readouterr().out.count("(+1 diverged)") == 1


def test_what_is_no_default_is_in_the_protocol_and_sparsities_have_names_of_their_own():
    """A row of a table is of one protocol and one scheme."""
    changed = pruning_baselines.described(Args(end=0.9, lr=0.01), "magnitude", 0.99991, 0)
    assert (changed["protocol"], changed["scheme"]) == ("30 + 100 epochs, end=0.9, lr=0.01", "magnitude, 99.991%")
    default = pruning_baselines.described(Args(), "magnitude", 0.991, 0)
    assert (default["protocol"], default["scheme"]) == ("30 + 100 epochs", "magnitude, 99.10%")
    others = {"rounds": 5, "end": 0.9}  # each is of one method
    labels = {pruning_baselines.described(Args(**others), method, 0.99, 0)["protocol"] for method in METHODS}
    assert labels == {"30 + 100 epochs, end=0.9", "30 + 100 epochs, rounds=5"}


def test_a_finished_run_is_kept_and_another_setting_is_another_run(tmp_path):
    main(arguments(tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}
    main(arguments(tmp_path))
    assert before == {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}
    for changes in ({"lr": 0.01}, {"validation": 200}, {"pretrain": 1}, {"shift": 1}):
        main(arguments(tmp_path, method=("magnitude",), resume=False, **changes))
    after = {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}
    assert len(after) == len(before) + 4
    assert before.items() < after.items()


def test_images_are_moved_in_training_alone(tmp_path, monkeypatch):
    seen = []
    fit = pruning_baselines.fit

    def watched(model, guide, train, **options):
        seen.append(train)
        return fit(model, guide, train, **options)

    monkeypatch.setattr(pruning_baselines, "fit", watched)
    main(arguments(tmp_path, method=("magnitude",), shift=2))
    assert [(train.pad, train.cutout, train.flip) for train in seen] == [(2, 0, False)]
    (record,) = records(tmp_path).values()
    assert (record["shift"], record["protocol"]) == (2, "2 + 4 epochs, shift=2")


def test_a_network_that_cannot_be_shrunk_keeps_its_record(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise UserError("no such network")

    monkeypatch.setattr("pyro_vd.experiments.common.deployment.shrink", refuse)
    main(arguments(tmp_path, method=("magnitude",)))
    (record,) = records(tmp_path).values()
    assert "deployment" not in record
    assert record["compression"] == 4
    assert "no deployment: no such network" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["magnitude", "lottery"])
def test_an_interrupted_run_goes_on_to_the_same_network(tmp_path, monkeypatch, method):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    main(arguments(whole, method=(method,)))
    fit = pruning_baselines.fit
    calls = []

    def stopping(*args, epochs, **options):
        calls.append(epochs)
        if len(calls) == 2 or method == "magnitude":
            fit(*args, epochs=1, **options)
            raise KeyboardInterrupt
        return fit(*args, epochs=epochs, **options)

    monkeypatch.setattr(pruning_baselines, "fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        main(arguments(broken, method=(method,)))
    monkeypatch.setattr(pruning_baselines, "fit", fit)
    main(arguments(broken, method=(method,)))
    (one,), (other,) = records(whole).values(), records(broken).values()
    assert one["test_error"] == other["test_error"]
    assert one["sparsity_per_layer"] == other["sparsity_per_layer"]


def test_the_lottery_rewinds_to_the_initial_weights(tmp_path, monkeypatch):
    started = []
    fit = pruning_baselines.fit

    def watched(model, guide, *args, **options):
        started.append({site: theta.detach().clone() for site, theta in guide.theta.named_parameters()})
        return fit(model, guide, *args, **options)

    monkeypatch.setattr(pruning_baselines, "fit", watched)
    main(arguments(tmp_path, method=("lottery",)))
    assert len(started) == 3
    assert all(torch.equal(later[site], weight) for later in started for site, weight in started[0].items())


def test_the_schedule_is_zhu_and_guptas():
    """Cubic: after half of the way 1 - 1/8 of the final sparsity; nothing before the start, all from the end on."""
    assert sparsity_at(0, 100, 0.9, 0.0, 0.5) == 0
    assert sparsity_at(25, 100, 0.9, 0.0, 0.5) == pytest.approx(0.9 * 7 / 8)
    assert sparsity_at(20, 100, 0.9, 0.2, 0.6) == 0
    assert sparsity_at(10, 100, 0.9, 0.2, 0.6) == 0
    assert [sparsity_at(epoch, 100, 0.9, 0.2, 0.6) for epoch in (60, 100)] == [0.9, 0.9]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method": ("magic",)}, "unknown method 'magic'"),
        ({"network": "lenet9"}, "did you mean"),
        ({"sparsity": (1.0,)}, "--sparsity"),
        ({"sparsity": (float("nan"),)}, "--sparsity"),
        ({"sparsity": ()}, "--method and --sparsity need at least one value"),
        ({"method": ()}, "--method and --sparsity need at least one value"),
        ({"sparsity": (0.9999,)}, "leaves none of 592 weights"),
        ({"start": 0.8}, "--start"),
        ({"rounds": 1}, "--rounds"),
        ({"rounds": 7}, "--epochs and --pretrain together at least --rounds"),
        ({"epochs": 0, "method": ("magnitude",)}, "--epochs"),
        ({"shift": -1}, "--shift"),
        ({"seeds": 0}, "--seeds"),
        ({"pretrain": -1}, "--pretrain"),
        ({"lr": 0.0}, "--lr"),
    ],
)
def test_bad_input_is_refused_before_anything_is_read(tmp_path, changes, named):
    with pytest.raises(UserError, match=named):
        main(arguments(tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()
