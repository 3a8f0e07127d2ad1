"""The UCI benchmark on a small made-up set: standardization, scores in the targets' unit, choice of settings."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_vd.data import load_uci
from pyro_vd.errors import NonFiniteError, UserError
from pyro_vd.experiments import uci
from pyro_vd.experiments.common import uci_runs, uci_tables
from pyro_vd.experiments.common.records import read_record
from pyro_vd.experiments.common.spec import Options
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.uci_runs import HELD_OUT, RegressionSpec, Standardized, hold_out, run_splits

N, SPLITS = 60, 2
NOISE = 30.0  # standard deviation of the targets around a line, in their unit


@pytest.fixture
def folder(tmp_path):
    """Targets of a line with noise, in a unit in which they are about 1,000."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(N, 2)) * [1, 100]
    y = 1000 + 200 * x[:, :1] + NOISE * generator.normal(size=(N, 1))
    place = tmp_path / "uci" / "yacht"
    place.mkdir(parents=True)
    np.savetxt(place / "data.txt", np.hstack([x, y]))
    np.savetxt(place / "index_features.txt", [0, 1])
    np.savetxt(place / "index_target.txt", [2])
    for split in range(SPLITS):
        np.savetxt(place / f"index_test_{split}.txt", generator.permutation(N)[:6])
    np.savetxt(place / "mc_dropout_test_ll.txt", [-5.0, -5.5])
    return tmp_path


def run(folder, tmp_path, **fields):
    spec = RegressionSpec(dataset="yacht", splits=SPLITS, batch_size=6, num_samples=20, **{"lr": 0.05} | fields)
    return run_splits(spec, load_uci("yacht", folder), "eager", torch.device("cpu"), tmp_path / "checkpoints")


# Mutants: no unit in the log likelihood, none in the error, a log likelihood of standardized targets.
@pytest.mark.parametrize(("noise", "steps"), [("one", 60), ("heteroscedastic", 150)])
def test_scores_are_in_the_unit_of_the_targets(noise, steps, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(uci_runs, "SMALL", 0)
    found = run(folder, tmp_path, scheme="none", settings=(Options(steps=steps),), noise=noise)
    expected = -0.5 * math.log(2 * math.pi * math.e) - math.log(NOISE)
    assert np.mean(found["rmse"]) == pytest.approx(NOISE, rel=0.5)
    assert np.mean(found["log_likelihood"]) == pytest.approx(expected, abs=0.8)
    assert found["setting"] == [0] * SPLITS


def test_the_setting_of_each_split_is_the_best_on_its_held_out_examples(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(uci_runs, "SMALL", 0)
    found = run(folder, tmp_path, scheme="none", settings=(Options(steps=2), Options(steps=60)))
    tried = np.array(found["held_out_log_likelihood"])
    assert tried.shape == (2, SPLITS)
    assert found["setting"] == tried.argmax(0).tolist() == [1] * SPLITS


def test_held_out_examples_are_a_fifth_of_the_training_examples():
    rows = torch.tensor([2, 3, 5, 7, 11, 13, 17, 19, 23, 29])
    fold = hold_out(rows, 0)
    assert len(fold.test) == round(HELD_OUT * len(rows))
    assert torch.cat([fold.train, fold.test]).sort().values.tolist() == rows.tolist()
    assert fold.test.tolist() != hold_out(rows, 1).test.tolist()


def test_a_network_standardizes_by_its_training_examples_alone():
    x, y = torch.tensor([[1.0, 7.0], [3.0, 7.0]]), torch.tensor([[10.0], [30.0]])
    net = Standardized(x, y, hidden=4, outputs=2)
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    assert net(torch.tensor([[5.0, 7.0]])).tolist() == [[20.0, pytest.approx(y.std(0).log().item())]]
    assert net.x_mean.tolist() == [2.0, 7.0]
    assert net.x_scale[1] == 1  # a constant column


# Mutants: the KL of one copy, the likelihood of one.
def test_repeating_a_small_set_does_not_change_the_objective(folder, tmp_path, monkeypatch):
    scores = []
    for small in (0, N):
        monkeypatch.setattr(uci_runs, "SMALL", small)
        fields = {"scheme": "sparse", "prior": "Normal(0, 1)", "settings": (Options(steps=60),)}
        scores.append(np.mean(run(folder, tmp_path / str(small), **fields)["log_likelihood"]))
    assert scores[0] == pytest.approx(scores[1], abs=0.25)


def test_members_of_an_ensemble_are_mixed(folder, tmp_path):
    settings = (Options(steps=20),)
    (single, together) = (
        run(folder, tmp_path / str(members), scheme="none", settings=settings, members=members) for members in (1, 3)
    )
    assert np.mean(together["log_likelihood"]) > np.mean(single["log_likelihood"])


@pytest.fixture
def finished(folder, tmp_path):
    return uci.Args(
        sets=("yacht",), rows=("none", "Bernoulli"), splits=2, data=folder, out=tmp_path / "out", engine="eager"
    )


def test_the_command_writes_records_that_it_finds_again(finished, monkeypatch, capsys):
    monkeypatch.setattr(
        uci,
        "ROWS",
        {
            "none": {"scheme": "none", "settings": (Options(steps=4),)},
            "Bernoulli": {"scheme": "bernoulli", "settings": (Options(steps=4, p=0.1),)},
        },
    )
    uci.main(finished)
    (path, _) = sorted(finished.out.glob("yacht-*.json"))
    record = read_record(path)
    assert record["mc_dropout"] == [-5.0, -5.5]
    assert len(record["rmse"]) == 2
    with open(finished.out / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["set"], row["row"], row["split"]) for row in rows] == [
        ("yacht", row, split) for row in ("Bernoulli", "none") for split in "01"
    ]
    assert (finished.out / "likelihoods.png").stat().st_size > 1000
    uci.main(finished)
    assert capsys.readouterr().out.count("already finished") == 2


def test_a_set_on_which_a_row_diverges_says_so(finished, monkeypatch):
    def diverge(spec, *given):
        if spec.scheme == "bernoulli":
            raise NonFiniteError("the loss is NaN", [])
        return {"log_likelihood": [-1.0, -2.0], "rmse": [1.0, 1.0], "setting": [0, 0], "held_out_log_likelihood": []}

    monkeypatch.setattr(uci_runs, "run_splits", diverge)
    uci.main(finished)
    store = Store(finished.out, uci.KINDS)
    assert [run.diverged for run in store.runs(uci_tables.KEYS)] == [True, False]
    likelihood, error, differences = uci_tables.make_tables(store, uci.ROWS)
    assert likelihood.rows[:2] == (("none", "-1.50 ± 0.50"), ("Bernoulli", "diverged"))
    assert error.rows[1] == differences.rows[1] == ("Bernoulli", "diverged")
    assert "Bernoulli" not in (finished.out / "scores.csv").read_text()
    assert (finished.out / "likelihoods.png").stat().st_size > 1000


@pytest.mark.parametrize("row", uci.ROWS)
def test_every_row_can_be_trained(row, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(uci_runs, "SMALL", 0)
    fields = {name: value for name, value in uci.ROWS[row].items() if name not in ("settings", "members")}
    (setting, *_) = uci.ROWS[row].get("settings", [Options()])
    found = run(folder, tmp_path, **fields, settings=(Options({**setting, "steps": 2}),))
    assert np.isfinite(found["log_likelihood"]).all()


@pytest.mark.parametrize(
    ("mean", "error", "cell"),
    [
        (-3.071, 0.026, "-3.07 ± 0.03"),
        (0.07912, 0.00031, "0.0791 ± 0.0003"),
        (41.3, 2.5, "41.30 ± 2.50"),
        (0.9, 0.0, "0.90 ± 0.00"),
        (0.1, None, "0.10"),
        (1.0, math.nan, "1.00"),
    ],
)
def test_a_cell_shows_the_first_digit_of_the_error(mean, error, cell):
    assert uci_tables._cell(mean, error) == cell


def test_differences_are_of_the_same_splits():
    mean, error = uci_tables.difference([1.0, 3.0], [0.0, 0.0, 99.0])
    assert (mean, error) == (2.0, pytest.approx(1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": ("Bernouli",)}, "unknown row 'Bernouli'; did you mean 'Bernoulli'"),
        ({"sets": ("yaht",)}, "unknown set 'yaht'; did you mean 'yacht'"),
        ({"splits": 0}, "--splits must be at least 1"),
    ],
)
def test_unknown_names_are_refused_before_anything_is_trained(change, message, finished):
    with pytest.raises(UserError, match=message):
        uci.main(replace(finished, **change))
    assert not list(finished.out.glob("*.json"))


def test_every_row_has_a_run_on_every_set():
    specs = {uci.make_spec(row, name, 5) for row in uci.ROWS for name in ("protein", "yacht")}
    assert len(specs) == 2 * len(uci.ROWS)
    assert {spec.hidden for spec in specs if spec.dataset == "protein"} == {100}
    assert all(Store(uci.Args.out, uci.KINDS).path(spec).name for spec in specs)
