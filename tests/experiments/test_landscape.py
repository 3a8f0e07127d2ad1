"""The study of the loss along the gradient: runs that repeat, bands and tables of known points, pictures, arguments."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_vd import Training
from pyro_vd.data import load
from pyro_vd.errors import UserError
from pyro_vd.experiments import landscape
from pyro_vd.experiments.common import landscape_runs
from pyro_vd.experiments.common.images import adapt, load_images
from pyro_vd.experiments.common.landscape_runs import KEYS, KINDS, LandscapeSpec, make_order, run_spec
from pyro_vd.experiments.common.landscape_tables import (
    average_bands,
    find_bands_along,
    find_bands_between,
    find_learning_rates,
    make_tables,
)
from pyro_vd.experiments.common.spec import Data, Fit, decode, encode, key_of
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import PAGE_WIDTH
from pyro_vd.experiments.landscape import Args, draw, make_rows
from pyro_vd.models import VGGA

DATA = Data(name="digits", num_train=50, num_test=20)
TINY = LandscapeSpec(
    batch_norm=True, scale=0.05, data=DATA, fit=Fit(scheme="bernoulli", training=Training(epochs=2, batch_size=16)),
    step_sizes=(0.01, 0.02), every=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def split():
    return load_images(DATA, VGGA(), None)


# --- runs


def test_a_run_measures_at_every_kth_step_and_repeats(tmp_path, split, capsys):
    first = run_spec(TINY, Store(tmp_path / "a", KINDS), split, "landscape")
    assert [point["step"] for point in first["points"]] == [0, 2, 4]  # 3 minibatches of 16 in each of 2 epochs
    assert all(len(point["losses"]) == len(point["changes"]) == 2 for point in first["points"])
    assert 0 <= first["test_error"] <= 1
    assert not first.diverged
    again = run_spec(TINY, Store(tmp_path / "b", KINDS), split, "landscape")
    assert [again[key] for key in KEYS] == [first[key] for key in KEYS]
    run_spec(TINY, Store(tmp_path / "a", KINDS), split, "landscape")
    assert "already finished" in capsys.readouterr().out


def test_a_record_of_other_images_is_refused(tmp_path, split):
    store = Store(tmp_path, KINDS)
    run_spec(TINY, store, split, "landscape")
    with pytest.raises(UserError, match="other data of the same name"):
        run_spec(TINY, store, replace(split, sha256="another"), "landscape")


def test_measuring_does_not_change_the_training(tmp_path, split):
    """The errors and the losses are those of a run that measures less often."""
    often, seldom = (run_spec(replace(TINY, every=k), Store(tmp_path, KINDS), split, "landscape") for k in (1, 4))
    assert [often["points"][i] for i in (0, 4)] == seldom["points"]
    assert (often["test_error"], often["train_error"]) == (seldom["test_error"], seldom["train_error"])


def test_a_run_whose_loss_is_not_finite_says_so(tmp_path, split):
    training = Training(epochs=4, batch_size=16, lr=1e6)
    spec = replace(TINY, batch_norm=False, fit=Fit(scheme="none", training=training))
    run = run_spec(spec, Store(tmp_path, KINDS), split, "landscape")
    assert run.diverged
    assert "not finite at step" in run["diverged"]
    assert run["test_error"] is None
    assert run["points"]


def test_the_order_has_every_image_once_except_those_of_a_smaller_last_minibatch():
    order = make_order(50, 16, seed=0, epoch=0)
    assert [len(index) for index in order] == [16, 16, 16]
    assert len(set(torch.cat(order).tolist())) == 48
    assert len(make_order(10, 16, 0, 0)) == 1
    others = [make_order(50, 16, 0, 1), make_order(50, 16, 1, 0)]
    assert all(not torch.equal(torch.cat(order), torch.cat(other)) for other in others)


# --- rows


def test_rows_are_different_runs_that_are_read_back():
    rows = make_rows(Data(name="cifar10"))
    specs = [spec for named in rows.values() for spec in named.values()]
    assert len({key_of(spec) for spec in specs}) == len(specs) == 18
    assert all(decode(encode(spec), KINDS) == spec for spec in specs)
    assert {spec.fit.training.lr for spec in specs} == {2e-3, 1e-3, 5e-4, 1e-4}
    assert {spec.fit.select for spec in specs if spec.fit.scheme != "none"} == {landscape.FC}


# --- bands and tables of points that are known


def make_points(low, width, change, steps=40):
    return [
        {
            "step": 20 * i, "loss": low, "norm": 2.0, "losses": [low, low + width / 2, low + width, low],
            "changes": [change] * 4, "smoothness": change / (0.01 * 2.0), "noise": 0.5,
        }
        for i in range(steps)
    ]  # fmt: skip


@pytest.fixture
def filled(tmp_path):
    """Rows, and a store of two seeds of every run. Batch norm halves the range, and the schemes add to the change."""
    rows, store = make_rows(Data(name="cifar10")), Store(tmp_path, KINDS)
    for network, named in rows.items():
        factor = 1.0 if network == "with batch norm" else 2.0
        for place, spec in enumerate(named.values()):
            for seed in (0, 1):
                points = make_points(1.0 + 0.1 * place, factor * (1 + seed), factor * (3 + place))
                record = {"points": points, "test_error": 0.2 * factor, "train_error": 0.1, "diverged": False}
                store.save(replace(spec, seed=seed), {**record, "dataset": "cifar10", "device": "cpu"})
    return rows, store


def test_bands_along_the_gradient_are_over_step_sizes(filled):
    rows, store = filled
    band = find_bands_along(store.load(rows["without batch norm"]["none"]))
    assert band.steps.tolist() == [20 * i for i in range(40)]
    assert (band.low["loss"] == 1.0).all()
    assert (band.high["loss"] == 3.0).all()
    assert band.width("loss") == 2.0
    assert band.width("change") == 0.0
    np.testing.assert_allclose(band.high["smoothness"], 6.0 / (0.01 * 2))
    np.testing.assert_allclose(band.low["smoothness"], 6.0 / (0.08 * 2))


def test_bands_between_networks_are_over_their_learning_rates(filled):
    rows, store = filled
    groups = find_learning_rates(rows["with batch norm"], store)
    assert [[run.spec.fit.training.lr for run in runs] for runs in groups] == [[1e-3, 2e-3, 5e-4, 1e-4]] * 2
    assert {run.spec.seed for run in groups[1]} == {1}
    band = find_bands_between(groups[0])
    np.testing.assert_allclose(band.low["loss"], 1.0)
    np.testing.assert_allclose(band.high["loss"], 1.3)
    assert band.width("change") == pytest.approx(3.0)
    assert band.width("smoothness") == pytest.approx(3 / 0.02)


def test_a_seed_without_one_of_the_learning_rates_has_no_band(filled):
    rows, store = filled
    store.delete(replace(rows["with batch norm"]["none, lr 0.0005"], seed=0))
    assert [runs[0].spec.seed for runs in find_learning_rates(rows["with batch norm"], store)] == [1]


def test_points_with_a_number_that_is_not_finite_are_left_out(filled):
    rows, store = filled
    spec = rows["with batch norm"]["none"]
    points = make_points(1.0, 1.0, 3.0)
    points[3] |= {"losses": [1.0, None, 1.0, 1.0]}
    record = {"points": points, "test_error": 0.1, "train_error": 0.1, "diverged": False}
    run = store.save(spec, record)
    assert 60 not in find_bands_along(run).steps
    other = store.load(replace(spec, seed=1))
    averaged = average_bands([find_bands_along(run), find_bands_along(other)])
    assert len(averaged.steps) == 39
    np.testing.assert_allclose(averaged.high["loss"], (2.0 + 3.0) / 2)
    assert len(find_bands_between([run, other]).steps) == 39


def test_bands_of_several_runs_are_at_the_same_steps(filled):
    """One run lacks a step: the others' numbers of that step are left out, and not of another."""
    rows, store = filled
    runs = []
    for seed in (0, 1):
        points = [point | {"loss": point["step"], "losses": [point["step"]] * 4} for point in make_points(0, 0, 3.0)]
        points[3]["norm"] = None if seed == 0 else 2.0
        record = {"points": points, "test_error": 0.1, "train_error": 0.1, "diverged": False}
        runs.append(store.save(replace(rows["with batch norm"]["none"], seed=seed), record))
    for band in (find_bands_between(runs), average_bands([find_bands_along(run) for run in runs])):
        assert 60 not in band.steps
        np.testing.assert_array_equal(band.low["loss"], band.steps)
        np.testing.assert_array_equal(band.high["loss"], band.steps)


def test_the_tables_say_what_the_points_say(filled):
    conclusions, schemes, between, errors = make_tables(*filled)
    assert conclusions.rows[0] == (
        "the loss varies less along the gradient", "3 ± 1.41", "1.5 ± 0.707", "2 of 2 seeds",
    )  # fmt: skip
    assert conclusions.rows[3][1:] == ("40.00 ± 0.00", "20.00 ± 0.00", "2 of 2 seeds")
    assert [row[:2] for row in schemes.rows[:2]] == [("without", "none"), ("without", "Bernoulli")]
    assert len(schemes.rows) == 12
    assert schemes.rows[-1][3:] == ("11 ± 0", "550 ± 0", "0.5 ± 0", "20.0 ± 0.0", "2")
    assert between.rows[0] == ("without batch norm", "0.3 ± 0", "6 ± 0", "300 ± 0", "2")
    assert errors.header == (
        "error % without noise", "lr 0.002", "lr 0.001", "lr 0.0005", "lr 0.0001", "original", "n",
    )  # fmt: skip
    assert errors.rows[1] == ("with batch norm", *["20.0 ± 0.0"] * 4, "17.5", "2")
    for table in (conclusions, schemes, between, errors):
        assert max(map(len, table.markdown().splitlines())) <= PAGE_WIDTH


def test_without_runs_there_are_no_tables_and_no_pictures(tmp_path):
    rows, store = make_rows(Data(name="cifar10")), Store(tmp_path, KINDS)
    assert make_tables(rows, store) == []
    draw(rows, store)
    assert not list(tmp_path.iterdir())


def test_the_pictures_are_drawn(filled):
    rows, store = filled
    for name in draw(rows, store):
        assert (store.folder / name).stat().st_size > 10_000


# --- the command


def test_the_command_makes_the_selected_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(landscape, "load_images", lambda *_: adapt(load("digits"), VGGA()).subset(40, 20))
    args = Args(dataset="digits", row=("none",), scale=0.05, epochs=1, every=100, seeds=1, out=tmp_path)
    landscape.main(args)
    assert "17.5" not in (tmp_path / "table.md").read_text()  # of the original, on CIFAR-10
    assert {run.spec.batch_norm for run in Store(tmp_path, KINDS).runs(KEYS)} == {False, True}
    assert "Conclusions of the paper" in (tmp_path / "table.md").read_text()
    calls, trained = [], landscape_runs._train
    monkeypatch.setattr(landscape_runs, "_train", lambda *given: calls.append(1) or trained(*given))
    landscape.main(args)
    assert not calls
    landscape.main(replace(args, resume=False))
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"every": 0}, "--every must be at least 1"),
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"row": ("bernouli",)}, "Bernoulli"),
        ({"scale": 0.001}, "the first layer would be empty"),
    ],
)
def test_bad_arguments_are_refused(wrong, message, tmp_path):
    with pytest.raises(UserError, match=message):
        landscape.main(Args(**{"dataset": "digits", "out": tmp_path, **wrong}))
    assert not list(tmp_path.iterdir())
