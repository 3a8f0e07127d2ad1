"""The runner: a spec becomes a record once, with the same numbers however often it was interrupted."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch

import pyro_vd
from pyro_vd import Training
from pyro_vd.data import LabeledImages, load
from pyro_vd.errors import CheckpointInUseError, UserError
from pyro_vd.experiments.common import phases, runner
from pyro_vd.experiments.common.measures import COMPRESSION_KEYS, measure_compression
from pyro_vd.experiments.common.runner import network_maker
from pyro_vd.experiments.common.spec import Data, Options
from pyro_vd.inference.lock import hold_lock
from pyro_vd.models import NETWORKS, VGG
from tests.runs import DENSE, FIT, TUNE, make_runner, make_spec, without_times
from tests.tiny import Tiny

SPEC = make_spec(replace(FIT, training=Training(epochs=2, batch_size=500)))


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    monkeypatch.setitem(NETWORKS, "tiny", Tiny)


def draw(trained):
    """A number that depends on the random state, as that of weight draws."""
    return {"draw": float(torch.rand(())), "weights": trained.weights}


def read(folder):
    return {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}


def stamp(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*.json")}


def no_training(*_, **__):
    raise AssertionError("a finished run is trained again")


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_record_says_what_was_run_and_where(tmp_path):
    made = make_runner(tmp_path, draw, notes=lambda spec: {"experiment": spec.method})
    run = made.run(SPEC)
    assert (run.spec, run["experiment"], run["weights"], run["diverged"]) == (SPEC, "sparse", 592, False)
    digits = load("digits")
    assert (run["dataset"], run["data_sha256"], run["torch"]) == (digits.name, digits.sha256, torch.__version__)
    assert [row["epoch"] for row in run["history"]] == [0, 1]
    assert run["seconds"] == sum(row["seconds"] for row in run["history"]) > 0
    assert list(read(tmp_path)) == [run.path.name]


def test_a_finished_run_is_kept(tmp_path, capsys, monkeypatch):
    specs = [SPEC, replace(SPEC, seed=1)]
    runs = make_runner(tmp_path, draw).run_all(specs)
    before = stamp(tmp_path)
    assert "run 2 of 2: digits-tiny-sparse, seed 1" in capsys.readouterr().out
    monkeypatch.setattr(phases.pyro_vd, "fit", no_training)
    again = make_runner(tmp_path, no_training).run_all(specs)
    assert [run.record for run in again] == [run.record for run in runs]
    assert stamp(tmp_path) == before
    assert capsys.readouterr().out.count("already finished") == 2


def test_what_is_lacking_is_run_in_order(tmp_path, capsys):
    specs = [replace(SPEC, seed=seed) for seed in (3, 0, 2)]
    make_runner(tmp_path, draw).run(specs[1])
    assert [run.spec for run in make_runner(tmp_path, draw).run_all(specs)] == specs
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("run ")]
    assert [line[:10] for line in said] == ["run 1 of 3", "run 3 of 3"]


def test_starting_over_finds_the_same_and_leaves_other_runs(tmp_path):
    spec = make_spec(DENSE, FIT, seed=1)
    first = make_runner(tmp_path, draw).run(spec)
    other = make_runner(tmp_path, draw).run(replace(spec, seed=10))
    mine = tmp_path / "checkpoints" / "another-run.json"
    mine.write_text("mine")
    first.beside(".safetensors.xz").write_text("old")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").iterdir()}
    second = make_runner(tmp_path, draw, resume=False).run(spec)
    assert without_times(second.record) == without_times(first.record)
    assert not first.beside(".safetensors.xz").exists()
    assert make_runner(tmp_path, no_training).run(other.spec).record == other.record
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").iterdir()}
    changed = {path.name for path in before if after.get(path) != before[path]}
    assert changed
    assert all(re.match(r"[12]-phases-\w{8}-s1[.-]", name) for name in changed)  # not those of seed 10
    assert {name[0] for name in changed} == {"1", "2"}


def test_a_run_that_was_interrupted_draws_the_same(tmp_path, monkeypatch):
    """As if it had not been."""
    whole = make_runner(tmp_path / "whole", draw).run(SPEC)
    broken = make_runner(tmp_path / "run", draw)
    with monkeypatch.context() as patch:
        patch.setattr(broken, "measure", interrupt)
        with pytest.raises(KeyboardInterrupt):
            broken.run(SPEC)
    assert list((tmp_path / "run").glob("*.json")) == []
    torch.rand(7)
    assert without_times(make_runner(tmp_path / "run", draw).run(SPEC).record) == without_times(whole.record)


def test_draws_depend_on_the_seed_alone(tmp_path):
    """Also if a network is given, which takes no initial weights from the seed."""
    torch.manual_seed(0)
    net = Tiny()
    split, make = load("digits"), lambda classes: Tiny(classes)
    torch.rand(3)
    given = make_runner(tmp_path / "given", draw).record(SPEC, split, make, net)
    own = make_runner(tmp_path / "own", draw).run(SPEC)
    assert without_times(given.record) == without_times(own.record)
    other = make_runner(tmp_path / "own", draw).run(replace(SPEC, seed=1))
    assert other["draw"] != own["draw"]
    assert other["history"][0]["loss"] != own["history"][0]["loss"]


def spoil(split):
    images = split.train.images.clone()
    images[7] = math.nan
    return replace(split, train=LabeledImages(images, split.train.labels))


@pytest.fixture
def spoilt(monkeypatch):
    real = runner.load_images
    monkeypatch.setattr(runner, "load_images", lambda *given: spoil(real(*given)))


def test_a_diverged_run_is_a_record_too(tmp_path, capsys, spoilt, monkeypatch):
    empty = {**dict.fromkeys(COMPRESSION_KEYS), "sparsity_per_layer": {}, "curve": []}
    how = {"required": COMPRESSION_KEYS, "empty": empty}
    run = make_runner(tmp_path, no_training, **how).run(SPEC)
    assert run.diverged
    assert "diverged: " in capsys.readouterr().out
    assert str(run["diverged"])[:4] == "loss" or "finite" in run["diverged"]
    assert run["test_error"] is None
    assert run["seconds"] > 0
    monkeypatch.setattr(phases.pyro_vd, "fit", no_training)
    assert make_runner(tmp_path, no_training, **how).run_all([SPEC])[0].record == run.record
    assert make_runner(tmp_path, **how).store.runs(COMPRESSION_KEYS) == [run]


def test_a_run_that_diverges_late_keeps_its_history(tmp_path, monkeypatch):
    fit = pyro_vd.fit

    def diverging(model, guide, train, training, **how):
        if training == TUNE.training:
            raise pyro_vd.NonFiniteError("no number", [{"epoch": 0, "seconds": 2.5}])
        return fit(model, guide, train, training, **how)

    monkeypatch.setattr(phases.pyro_vd, "fit", diverging)
    spec = make_spec(FIT, TUNE, members=2)
    run = make_runner(tmp_path, no_training).run(spec)
    assert [(row["member"], row["phase"], row["epoch"]) for row in run["history"]] == [
        (0, "fit", 0), (0, "fit", 1), (0, "fit", 2), (0, "fine_tune", 0),
    ]  # fmt: skip
    assert run["seconds"] == pytest.approx(2.5 + sum(row["seconds"] for row in run["history"][:3]))


def test_a_record_of_other_images_is_refused(tmp_path, monkeypatch):
    """Two datasets of the same name and size, as a folder of images may be before and after a change."""
    run = make_runner(tmp_path, draw).run(SPEC)
    real = runner.load_images
    monkeypatch.setattr(runner, "load_images", lambda *given: replace(real(*given), sha256="another"))
    with pytest.raises(UserError, match=rf"{run.path.name}: holds a run on other data of the same name"):
        make_runner(tmp_path, draw).run(SPEC)
    assert make_runner(tmp_path, draw, resume=False).run(SPEC)["data_sha256"] == "another"


def test_the_members_of_an_ensemble_are_runs_of_their_own(tmp_path):
    """With the seeds of single runs, whose checkpoints they share."""
    seen = []

    def measure(trained):
        seen.append(trained)
        return draw(trained)

    single = make_runner(tmp_path, draw).run(replace(SPEC, seed=2))
    run = make_runner(tmp_path, measure).run(replace(SPEC, members=2, seed=1))
    (trained,) = seen
    assert len(trained.states) == 2
    assert [row["member"] for row in run["history"]] == [0, 0, 1, 1]
    first = [{key: value for key, value in row.items() if key != "member"} for row in run["history"][:2]]
    assert first == single["history"]
    with pytest.raises(ValueError, match="unpack"):
        trained.state  # noqa: B018
    assert run["weights"] == 592


def test_an_interrupted_ensemble_goes_on_with_the_member(tmp_path, monkeypatch):
    spec = replace(SPEC, members=2)
    whole = make_runner(tmp_path / "whole", draw).run(spec)
    broken = make_runner(tmp_path / "run", draw)
    counts = [0]

    def tick():
        counts[0] += 1
        if counts[0] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(broken.clock, "tick", tick)
    with pytest.raises(KeyboardInterrupt):
        broken.run(spec)
    counts[0] = 10
    assert without_times(broken.run(spec).record) == without_times(whole.record)
    assert counts[0] <= 10 + 2


def test_images_are_loaded_once(tmp_path, monkeypatch):
    real, loads = runner.load_images, []
    monkeypatch.setattr(runner, "load_images", lambda *given: (loads.append(given[0]), real(*given))[1])
    made = make_runner(tmp_path)
    net = Tiny()
    assert made.load(Data(name="digits"), net) is made.load(Data(name="digits"), Tiny(), seed=3)
    assert len(loads) == 1
    shuffled = Data(name="digits", shuffled=1.0)
    one, other = made.load(shuffled, net, 0), made.load(shuffled, net, 1)
    assert not torch.equal(one.train.labels, other.train.labels)
    assert len(loads) == 3


def test_networks_are_made_as_the_spec_says():
    spec = replace(SPEC, network="vgg", options=Options(scale=1 / 16))
    net = network_maker(spec)(3)
    assert isinstance(net, VGG)
    assert net.state_dict().keys() == VGG(3, 1 / 16).state_dict().keys()
    with pytest.raises(UserError, match="a spec of the network 'lenet9', which is not one of lenet300"):
        network_maker(replace(SPEC, network="lenet9"))


def test_nothing_is_written_for_a_batch_of_one(tmp_path):
    phase = replace(FIT, training=Training(epochs=1, batch_size=1437))
    spec = make_spec(phase, network="vgg", options=Options(scale=1 / 64))
    with pytest.raises(UserError, match="--batch-size 1437 leaves a batch of one of 1438 images"):
        make_runner(tmp_path / "out").run(spec)
    assert not (tmp_path / "out").exists()


def test_a_run_is_recorded_when_its_pictures_are_drawn(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("pyro_vd.experiments.common.measures.draw_run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_runner(tmp_path, measure_compression).run(SPEC)
    assert list(tmp_path.glob("*.json")) == []
    run = make_runner(tmp_path, measure_compression, required=COMPRESSION_KEYS).run(SPEC)
    assert run.beside("-filters.png").exists()


def test_starting_over_trains_a_shared_beginning_once(tmp_path, monkeypatch):
    """What the first spec has made is there for the second."""
    first, second = (make_spec(DENSE, replace(FIT, noise_lr=rate)) for rate in (1.0, 0.3))
    make_runner(tmp_path, draw).run_all([first, second])
    epochs = []
    monkeypatch.setattr(runner.Clock, "tick", lambda self: epochs.append(1))
    make_runner(tmp_path, draw, resume=False).run_all([first, second])
    assert len(epochs) == DENSE.training.epochs + 2 * FIT.training.epochs


def test_starting_over_leaves_what_another_process_trains(tmp_path, monkeypatch):
    made = make_runner(tmp_path, draw)
    made.run(SPEC)
    job = phases.Job(SPEC, None, None, made.checkpoints)
    before = sorted(path.name for path in made.checkpoints.iterdir())
    again = make_runner(tmp_path, draw, resume=False)
    monkeypatch.setattr(again, "run", no_training)  # it would wait for the other process
    with hold_lock(job.checkpoint(1)), pytest.raises(CheckpointInUseError, match="in use by"):
        again.run_all([SPEC])
    assert sorted(path.name for path in made.checkpoints.iterdir()) == before
    assert SPEC in made.store


def test_runs_on_different_images_are_not_joined(tmp_path):
    made = make_runner(tmp_path, draw)
    run = made.run(SPEC)
    numbers = {key: value for key, value in run.record.items() if key not in ("spec", "file")}
    made.store.save(replace(SPEC, seed=1), {**numbers, "data_sha256": "another"})
    with pytest.raises(UserError, match="are runs on different images"):
        made.store.seeds(SPEC)
