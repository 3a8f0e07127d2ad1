"""Sweeps: which runs of a plan are missing, what a failed or killed one costs, and that the records are the study's."""

import json
import os
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import replace

import pytest

from pyro_vd.errors import UserError
from pyro_vd.experiments import (
    mnist_accuracy,
    mnist_compress,
    plans,
    resnet9,
    studies,
    sweep,
    uncertainty,
)
from pyro_vd.experiments.common import accuracy, cli, pools, sweeps
from pyro_vd.experiments.common.spec import Options, key_of
from pyro_vd.experiments.common.store import Store, committed
from pyro_vd.experiments.common.sweeps import Place, Result, run_sweep
from pyro_vd.experiments.plans import PLAN
from pyro_vd.experiments.studies import run_cell
from tests.experiments import sweep_plan
from tests.experiments.pretend import pretend

COMPRESSION_STUDIES = ("mnist_compress", "cifar_compress", "pruning_baselines", "ablation", "tuning")
CELLS = plans.plan_columns(mnist_accuracy.STUDY, sweep_plan.COLUMNS, seeds=2)
CELLS[1] = FAILS = replace(CELLS[1], notes=Options(does="fails"))
CELLS[2] = DIES = replace(CELLS[2], notes=Options(does="dies"))


class Pool:
    """Runs at once what it is given, in this process."""

    def __init__(self, slots=1):
        self.slots, self.stopped = slots, False

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)
        return future

    def stop(self):
        self.stopped = True


@pytest.fixture
def place(tmp_path):
    return Place("cpu", "eager", None, tmp_path / "scratch")


@pytest.fixture
def kept():
    return {}


def sweep_with(run, place, kept, pool=None, cells=CELLS, **how):
    lines = []
    failed = run_sweep(cells, pool or Pool(), run, place, kept.__setitem__, say=lines.append, **how)
    return failed, lines


# Which runs are missing


def listed(capsys, **arguments):
    sweep.main(sweep.Args(list=True, **arguments))
    return capsys.readouterr().out.splitlines()


def test_a_run_is_missing_until_it_has_a_record_there_or_among_the_committed_ones(tmp_path, capsys):
    lines = listed(capsys, out=tmp_path)
    there = [cell for cell in PLAN if cell.spec in committed(cell.study)]
    assert there
    assert lines == [str(cell) for cell in PLAN if cell not in there]
    everything = listed(capsys, out=tmp_path, committed=False)
    assert everything == [str(cell) for cell in PLAN]
    cell = PLAN[0]
    Store(tmp_path / cell.study).save(cell.spec, {})
    assert listed(capsys, out=tmp_path, committed=False) == everything[1:]
    Store(tmp_path / "another_study").save(PLAN[1].spec, {})
    assert listed(capsys, out=tmp_path, committed=False) == everything[1:]


def test_study_and_match_select(tmp_path, capsys):
    lines = listed(capsys, out=tmp_path, committed=False, study=("uncertainty",), match="deep ensemble")
    networks = ("lenet300", "lenet300-fashion_mnist")
    assert lines == [
        f"uncertainty: {name}, deep ensemble of 5, seed {seed}" for name in networks for seed in range(3)
    ] + ["uncertainty: cifar_cnn, deep ensemble of 5, seed 0"]
    assert listed(capsys, out=tmp_path, match="no such run") == ["nothing is missing"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"minutes": 0.0}, "--minutes must be above 0 and finite"),
        ({"minutes": float("nan")}, "--minutes must be above 0 and finite"),
        ({"workers": -1}, "--workers and --retries must be at least 0"),
        ({"retries": -1}, "--workers and --retries must be at least 0"),
        ({"study": ("mnist_compres",)}, "did you mean 'mnist_compress'"),
        ({"plan": "nowhere"}, "written package.module:NAME"),
        ({"plan": "no.such.module:PLAN"}, "is it importable from here"),
        ({"plan": "pyro_vd.experiments.plans:NOTHING"}, "is it importable from here"),
        ({"plan": "pyro_vd.experiments.plans:MNIST"}, "not iterable"),
        ({"plan": "pyro_vd.experiments.plans:UNIT_SCHEMES"}, "must be a sequence of cells"),
        ({"engine": "cudagraph", "device": "cpu"}, "--engine cudagraph is for a GPU"),
    ],
)
def test_a_sweep_that_cannot_run_is_refused(wrong, message, tmp_path):
    with pytest.raises(UserError, match=message):
        sweep.main(sweep.Args(out=tmp_path / "out", **wrong))
    assert not (tmp_path / "out").exists()


# Running


def test_a_worker_that_dies_and_a_run_that_fails_stop_no_other(place, kept, tmp_path):
    with pools.LocalPool(2, [], tmp_path / "logs") as pool:
        failed, lines = sweep_with(pretend, place, kept, pool, cells=CELLS[:5], retries=1)
    assert "TQDM_MININTERVAL" not in os.environ  # that of the workers only
    assert failed == {FAILS: "Traceback\nValueError: as told"}
    assert set(kept) == {*CELLS[:5]} - {FAILS}
    assert lines[-1].startswith("4 of 5 done, 1 failed, 0 running; ")
    assert sum("BrokenProcessPool" in line and "runs again later" in line for line in lines) == 1
    assert any(line.endswith(f"{FAILS}: failed 2 times: ValueError: as told") for line in lines)
    died = (place.scratch / DIES.spec.label).read_text().split()
    assert died[1::2] == ["1", "1"]
    assert died[0] != died[2]


@pytest.mark.parametrize("fails", [False, True])
def test_the_command_keeps_the_records_and_says_what_failed(fails, tmp_path, capsys, monkeypatch):
    def run(cell, place):
        if fails and cell.spec == sweep_plan.ROWS[0].spec:
            return Result({}, 1.0, "Traceback\nValueError: as told")
        return Result({Store(tmp_path).path(cell.spec).name: b"a record"}, 1.0)

    class Here(Pool):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(sweep, "make_pool", lambda args, device: Here())
    monkeypatch.setattr(sweep, "run_cell", run)
    args = sweep.Args(plan="tests.experiments.sweep_plan:ROWS", out=tmp_path / "out", device="cpu")
    if fails:
        with pytest.raises(SystemExit, match="3"):
            sweep.main(args)
        said = capsys.readouterr()
        assert f"\n{sweep_plan.ROWS[0]}\nTraceback\nValueError: as told\n" in said.out
        assert said.err == f"error: 1 of {len(sweep_plan.ROWS)} runs failed; the same command tries them again\n"
    else:
        sweep.main(args)
    assert len(list((args.out / mnist_accuracy.STUDY).glob("*.json"))) == len(sweep_plan.ROWS) - fails
    sweep.main(replace(args, list=True))
    assert capsys.readouterr().out.endswith(f"{sweep_plan.ROWS[0]}\n" if fails else "nothing is missing\n")


def test_cells_run_in_order_and_failed_ones_again_after_the_others(place, kept):
    ran = []

    def run(cell, place):
        ran.append(cell)
        return Result({}, 0.0, "wrong") if cell == FAILS else Result({"record": b""}, 0.0)

    failed, _ = sweep_with(run, place, kept, retries=2)
    assert ran == [*CELLS, FAILS, FAILS]
    assert list(failed) == [FAILS]
    assert Counter(ran)[FAILS] == 3


def test_a_run_that_would_not_fit_is_not_begun(place, kept, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def run(cell, place):
        clock[0] += 600.0
        return Result({"record": b""}, 600.0)

    alike = [cell for cell in CELLS if cell.kind == CELLS[0].kind] * 4
    _, lines = sweep_with(run, place, kept, cells=alike[:7], minutes=45)
    assert sum("would not fit into the 5.0 minutes left" in line for line in lines) == 3
    assert "3 of 7 done, 1 running, about 30 minutes left" in lines[2]


def test_an_unknown_kind_is_tried_while_time_is_left(place, kept, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def run(cell, place):
        clock[0] += 600.0
        return Result({"record": b""}, 600.0)

    sweep_with(run, place, kept, cells=CELLS[:3], minutes=11)
    assert list(kept) == CELLS[:2]


def test_an_interrupted_sweep_keeps_what_is_done_and_stops_the_workers(place, kept):
    stop = threading.Event()

    class Slow(Pool):
        def submit(self, function, *arguments):
            future = Future()
            if len(kept) == 1:  # the second one never ends by itself
                self.future = future
                raise KeyboardInterrupt
            future.set_result(function(*arguments))
            return future

        def stop(self):
            stop.set()

    pool = Slow()
    with pytest.raises(KeyboardInterrupt, match=f"stopped with 1 of {len(CELLS)} runs done; run the same command"):
        sweep_with(lambda cell, place: Result({"record": b""}, 0.0), place, kept, pool)
    assert stop.is_set()
    assert list(kept) == CELLS[:1]


def test_an_error_of_the_driver_stops_the_workers(place):
    def full(cell, files):
        raise OSError("no space left")

    pool = Pool()
    with pytest.raises(OSError, match="no space left"):
        run_sweep(CELLS, pool, lambda cell, place: Result({"record": b""}, 0.0), place, full, say=lambda line: None)
    assert pool.stopped


def test_a_record_is_written_once(tmp_path):
    store, spec = Store(tmp_path / "store"), CELLS[0].spec
    name = store.path(spec).name
    assert sweeps.save(store, spec, {"picture.png": b"1", name: b"first"})
    assert not sweeps.save(store, spec, {"picture.png": b"2", name: b"second"})
    assert sorted(path.read_bytes() for path in store.folder.iterdir()) == [b"1", b"first"]


# The runs


def test_the_record_of_a_cell_is_the_one_that_the_study_writes(place, tmp_path):
    (cell,) = plans.plan_columns(mnist_accuracy.STUDY, short_columns(), seeds=1)
    result = run_cell(cell, place)
    assert not result.error
    (name,) = result.files
    args = mnist_accuracy.Args(
        dataset="digits", hidden=(20,), row=("none",), seeds=1, epochs=2, engine="eager", device="cpu", out=tmp_path
    )
    accuracy.run_columns(args, mnist_accuracy.STUDY, short_columns(), cli.device_of("cpu"))
    own = json.loads((tmp_path / name).read_text())
    found = json.loads(result.files[name])
    assert without_times(found) == without_times(own)
    assert name == f"digits-mlp-none-{key_of(cell.spec)}-s0.json"
    assert list((place.scratch / mnist_accuracy.STUDY / "checkpoints").glob("*.safetensors"))


def without_times(record):
    """What does not depend on the machine and its load."""
    left = {name: value for name, value in record.items() if name not in ("seconds", "threads", "digest")}
    return {**left, "history": [{**row, "seconds": None} for row in record["history"]]}


def short_columns():
    columns = mnist_accuracy.make_columns(
        sweep_plan.DIGITS, (20,), mnist_compress.Protocol(name="short", epochs=2, batch_size=500)
    )
    return accuracy.select_rows(columns, ("none",))


def test_a_run_that_raises_is_a_result_with_its_traceback(place, tmp_path):
    (cell,) = plans.plan_columns(mnist_accuracy.STUDY, short_columns(), seeds=1)
    result = run_cell(cell, Place("cpu", "no such engine", None, tmp_path))
    assert not result.files
    assert result.error.startswith("Traceback")
    assert "no such engine" in sweeps._last_line(result.error)


def test_a_run_about_uncertainty_needs_its_other_datasets(place, tmp_path):
    cell = next(cell for cell in PLAN if cell.study == uncertainty.STUDY)
    result = run_cell(cell, Place("cpu", "eager", tmp_path, tmp_path))
    assert "fashion_mnist" in sweeps._last_line(result.error)


def test_a_run_is_measured_by_what_it_is():
    """Also that of a study that the project does not have."""
    for cell in PLAN:
        if cell.study != uncertainty.STUDY:
            compressed = studies.find_measurement(cell, None) is studies.COMPRESSION
            is_pruning = cell.study == resnet9.STUDY and cell.name.startswith("pruning")
            assert compressed == (cell.study in COMPRESSION_STUDIES or is_pruning)
    assert studies.find_measurement(replace(CELLS[0], study="mine"), None) is studies.ACCURACY


def test_a_sweep_without_ray_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--cluster needs ray; pip install 'pyro-vd\[sweeps\]'"):
        pools.RayPool("auto", gpu=False)


def test_gpus_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert pools.visible_gpus() == ["2", "5"]
