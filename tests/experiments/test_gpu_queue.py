"""The queue: which runs are missing, and that a budget is kept."""

import dataclasses
import json
import subprocess
import sys
import time

import pytest

from pyro_vd.errors import DataError, UserError
from pyro_vd.experiments import (
    cifar_accuracy,
    cifar_compress,
    gpu_queue,
    jobs,
    mnist_compress,
    pruning_baselines,
    tuning,
    uncertainty,
)
from pyro_vd.experiments.benchmarks import scaling, step
from pyro_vd.experiments.common import accuracy, compression, records
from pyro_vd.experiments.common.training import SCHEMES
from pyro_vd.experiments.gpu_queue import JOBS, Args
from pyro_vd.experiments.jobs import (
    CUDA_TEST_KEYS,
    AblationRun,
    Accuracy,
    Baseline,
    Benchmark,
    Compress,
    CompressCifar,
    CudaTests,
    Scaling,
    Uncertain,
    Where,
)
from pyro_vd.models import NETWORKS
from tests.records import complete

KINDS = (Compress, AblationRun, CompressCifar, Baseline, Accuracy, Uncertain, Benchmark, Scaling, CudaTests)


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """The jobs that would have been run, each taking ten minutes of a clock that no one waits for."""
    done = []
    for kind in KINDS:
        monkeypatch.setattr(kind, "run", lambda job, *_: done.append(job))
        monkeypatch.setattr(kind, "split", lambda *_: Anywhere())
    monkeypatch.setattr(jobs, "RESULTS", tmp_path / "committed")
    for kind in (Benchmark, Scaling):
        monkeypatch.setattr(kind, "committed", tmp_path / "committed" / kind.experiment)
    monkeypatch.setattr(time, "monotonic", lambda: 600.0 * len(done))
    return done


class Anywhere:
    def to(self, device):
        return self


def record_of(job, root, **changes):
    """A finished run of the job, as its experiment settles it."""
    if isinstance(job, Compress):
        args = job.args(Where())
        protocol = mnist_compress.protocol_of(args, "mnist")
        settings = compression.described(args, protocol, "mnist", job.network, job.scheme, job.seed)
        record = {**complete(), **settings, "dataset": "mnist"}
    elif isinstance(job, CompressCifar):
        args = job.args(Where())
        network = f"vgg x {job.scale:g}"
        settings = compression.described(args, cifar_compress.FULL, "cifar10", network, job.scheme, job.seed)
        record = {**complete(), **settings, "dataset": "cifar10 (JPEG)"}
    elif isinstance(job, Baseline):
        settings = pruning_baselines.described(job.args(Where()), job.method, job.sparsity, job.seed)
        record = {**complete(), **settings, "dataset": "mnist"}
    elif isinstance(job, Benchmark):
        record = complete(step.REQUIRED) | {"network": job.network, "device": "a GPU"}
    elif isinstance(job, Scaling):
        record = complete(scaling.REQUIRED) | {"device": "a GPU"}
    elif isinstance(job, CudaTests):
        record = complete(CUDA_TEST_KEYS) | {"failed": 0, "tests": 12, "skipped": 0}
    elif isinstance(job, Uncertain):
        dataset = {"lenet300": "mnist", "cifar_cnn": "cifar10"}[job.cell.column]
        record = complete(uncertainty.REQUIRED) | {"dataset": dataset, "num_samples": 20}
        record["ood_datasets"] = {"fashion_mnist": "its digest"}
        record |= accuracy.described(uncertainty.PROTOCOL, job.cell, job.seed)
    else:
        record = complete(accuracy.REQUIRED)
        record |= {**accuracy.described(job.protocol, job.cell, job.seed), "dataset": "cifar10 (JPEG)"}
    folder = root / job.experiment
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps({**record, "seed": getattr(job, "seed", None), **changes}))


def missing(capsys, out):
    gpu_queue.main(Args(list=True, out=out))
    return capsys.readouterr().out.splitlines()


FIRST = {kind: next(job for job in JOBS if isinstance(job, kind)) for kind in KINDS}


def test_jobs_are_runs_that_exist_and_none_is_there_twice():
    assert len({str(job) for job in JOBS}) == len(JOBS) > 100
    for job in JOBS:
        if isinstance(job, Compress):
            assert job.network in NETWORKS
            compression.check(job.args(Where()))
        elif isinstance(job, CompressCifar):
            compression.check(job.args(Where()))
            cifar_compress.table(job.args(Where()), None, None)
        elif isinstance(job, Accuracy | Uncertain):
            assert job.cell.row.scheme in SCHEMES
        elif isinstance(job, Baseline):
            pruning_baselines._check(job.args(Where()))
            assert job.method in pruning_baselines.METHODS
            assert 0 < job.sparsity < 1
        elif isinstance(job, Benchmark):
            assert job.network in step.NETWORK_NAMES
        else:
            assert isinstance(job, Scaling | CudaTests)


def test_the_full_cifar_tables_are_in_the_queue():
    rows = {cell.row.name for cell in cifar_accuracy.cells(cifar_accuracy.FULL)}
    for scale in (1.0, 1.5, 2.0):
        full = [j for j in JOBS if isinstance(j, Accuracy) and j.protocol is cifar_accuracy.FULL]
        found = [j for j in full if j.cell.column == f"widths x {scale:g}"]
        assert {(j.cell.row.name, j.seed) for j in found} == {(row, seed) for row in rows for seed in range(3)}
        assert {j.protocol.epochs for j in found} == {100}


def test_the_papers_widths_of_the_vgg_are_in_the_queue():
    queued = {(job.scale, job.scheme) for job in JOBS if isinstance(job, CompressCifar) and not job.augment}
    assert queued == {(scale, scheme) for scale in (0.25, 0.5, 1.0) for scheme in ("sparse", "none")}


def test_a_baseline_has_the_epochs_of_the_row_that_it_is_held_against():
    protocol = mnist_compress.NETWORK_PROTOCOLS["lenet5"]
    own = (protocol.pretrain + protocol.epochs + protocol.fine_tune, protocol.shift)
    against = {(job.pretrain + job.epochs, job.shift) for job in JOBS if isinstance(job, Baseline) and job.shift}
    assert against == {own}
    rows = [job.args(Where()) for job in JOBS if isinstance(job, Compress) and job.network == "lenet300"]
    spent = {job.pretrain + job.epochs for job in JOBS if isinstance(job, Baseline) and job.network == "lenet300"}
    assert spent <= {row.pretrain + row.epochs for row in rows}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_headline_is_what_its_command_leaves(seed):
    """At least the paper's compression at no more than its error: 280 times at 0.75 %."""
    args = mnist_compress.Args(network="lenet5", scheme=("sparse",))  # --network lenet5 --scheme sparse
    assert Compress(args.network, *args.scheme, seed).done(jobs.RESULTS / mnist_compress.EXPERIMENT)
    found = records.read_records(jobs.RESULTS / mnist_compress.EXPERIMENT)
    wanted = {"network": "lenet5", "scheme": "sparse", "protocol": "fine-tuned", "dataset": "mnist", "seed": seed}
    (record,) = [record for record in found if not records.mismatches(record, wanted, {})]
    assert record["compression"] >= 280
    assert record["test_error"] <= 0.0075


@pytest.mark.parametrize("changes", [{"ood_datasets": {}}, {"num_samples": 1}])
def test_a_record_without_outsiders_or_with_fewer_draws_is_not_the_one(tmp_path, capsys, ran, changes):
    job = FIRST[Uncertain]
    record_of(job, tmp_path / "out", **changes)
    assert str(job) in missing(capsys, tmp_path / "out")


def test_list_names_every_job_and_runs_nothing(tmp_path, capsys, ran):
    assert missing(capsys, tmp_path) == [str(job) for job in JOBS]
    assert ran == []


@pytest.mark.parametrize("kind", FIRST)
@pytest.mark.parametrize("where", ["committed", "out"])
def test_a_job_with_a_record_is_done_wherever_the_record_is(tmp_path, capsys, ran, kind, where):
    record_of(FIRST[kind], tmp_path / where)
    assert missing(capsys, tmp_path / "out") == [str(job) for job in JOBS if job != FIRST[kind]]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *((Compress, change) for change in ({"seed": 9}, {"kl_weight": 0.123}, {"epochs": 3}, {"dataset": "digits"})),
        (Compress, {"protocol": "headline"}),
        *((Accuracy, change) for change in ({"seed": 9}, {"protocol": "full, 3 epochs"}, {"column": "widths x 0.5"})),
        *((Benchmark, change) for change in ({"network": "resnet9"}, {"device": "cpu (2 cores, x86_64)"})),
        (Scaling, {"device": "cpu (2 cores, x86_64)"}),
        *((CudaTests, change) for change in ({"failed": 1}, {"skipped": 12})),
        *((Accuracy, change) for change in ({"dataset": "digits (28x28)"}, {"validation": 10_000}, {"lr": 1.0})),
    ],
)
def test_a_record_of_another_run_does_not_count(tmp_path, capsys, ran, kind, change):
    record_of(FIRST[kind], tmp_path / "committed", **change)
    assert str(FIRST[kind]) in missing(capsys, tmp_path)


def test_every_missing_job_runs_in_order(tmp_path, ran):
    gpu_queue.main(Args(minutes=1e5, out=tmp_path))
    assert ran == list(JOBS)


def test_a_job_that_would_not_fit_is_not_begun(tmp_path, ran, capsys, monkeypatch):
    monkeypatch.setattr(gpu_queue, "JOBS", tuple(Compress("lenet5", "none", seed) for seed in range(7)))
    gpu_queue.main(Args(minutes=45, out=tmp_path))
    assert len(ran) == 4
    assert capsys.readouterr().out.count("would not fit into the 5.0 minutes left") == 3


def test_an_untried_kind_is_given_a_try(tmp_path, ran, monkeypatch):
    """What it takes is not known before, so it is begun while any time is left."""
    monkeypatch.setattr(gpu_queue, "JOBS", (Compress("lenet5", "none", 0), Compress("lenet300", "none", 0)))
    gpu_queue.main(Args(minutes=11, out=tmp_path))
    assert [job.network for job in ran] == ["lenet5", "lenet300"]


@pytest.mark.parametrize("kind", [Benchmark, Scaling, CudaTests])
def test_what_is_about_a_gpu_wants_one(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_queue, "JOBS", (FIRST[kind],))
    monkeypatch.setattr(Benchmark, "split", lambda *_: Anywhere())
    gpu_queue.main(Args(device="cpu", out=tmp_path))
    assert f"{FIRST[kind]}: needs a GPU" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_cuda_tests_are_counted(tmp_path):
    """Of pytest's own report: a failure, an error and a skip."""
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "def test_fails(): assert False\n"
        "def test_breaks(nothing): pass\n"
        "@pytest.mark.skip\n"
        "def test_waits(): pass\n"
    )
    report = tmp_path / "report.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), f"--junitxml={report}"],
        check=False, capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    assert jobs.count_tests(report) == {"tests": 4, "failed": 2, "skipped": 1}
    assert jobs.CUDA_TEST_FILE.exists()


def test_an_accuracy_job_runs_its_cell_on_its_data(tmp_path):
    """Really run, with one epoch on digits in place of the queue's data."""
    cell = next(cell for cell in cifar_accuracy.cells(cifar_accuracy.SHORT) if cell.row.name == "none")
    protocol = accuracy.Protocol("full", epochs=1, batch_size=500, lr=1e-3, hold=1.0, wait=0.0, ramp=0.0)
    job = Accuracy("cifar_accuracy", protocol, cell, 0)
    split = cifar_accuracy.prepared(cifar_accuracy.SHORT, accuracy.Args(dataset="digits"))
    split = dataclasses.replace(split, name="cifar10 (JPEG)")
    job.run(Where(out=tmp_path), split, accuracy.check(accuracy.Args(device="cpu")))
    assert job.done(tmp_path / "cifar_accuracy")


def test_data_that_are_missing_do_not_stop_the_queue(tmp_path, ran, capsys, monkeypatch):
    def missing(*_):
        raise DataError("no CIFAR-10 here")

    for kind in (Accuracy, CompressCifar):
        monkeypatch.setattr(kind, "split", missing)
    gpu_queue.main(Args(minutes=1e5, out=tmp_path))
    assert ran == [job for job in JOBS if not isinstance(job, Accuracy | CompressCifar)]
    assert "no CIFAR-10 here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("network", "scheme", "changes"),
    [
        ("lenet5", "group_normal_jeffreys", {"kl_weight": 1.0}),
        ("lenet5", "group_horseshoe", {"kl_weight": 1.0}),
        ("lenet5", "structured_log_normal", {"kl_weight": 1.0}),
        ("lenet300", "group_normal_jeffreys", {"pretrain": 30, "epochs": 100}),
        ("lenet300", "l0", {"pretrain": 30, "epochs": 100}),
    ],
)
def test_the_committed_runs_of_units_are_found(network, scheme, changes):
    """By what their schemes say of themselves: other defaults would be other runs."""
    assert Compress(network, scheme, 0, changes).done(jobs.RESULTS / mnist_compress.EXPERIMENT)


def test_baselines_run_as_their_trials_were_best():
    found = records.read_records(jobs.RESULTS / tuning.EXPERIMENT)
    for method in pruning_baselines.METHODS:
        runs = [record for record in found if record["scheme"].startswith(method)]
        best = min(runs, key=lambda record: record["test_error"])
        assert len(runs) == len(tuning.trials(method))
        queued = [job.args(Where()) for job in JOBS if isinstance(job, Baseline) and job.method == method]
        assert queued
        assert all(getattr(args, name) == best[name] for args in queued for name in tuning.GRIDS[method])
    fewest = min((record for record in found if record["scheme"] == "l0"), key=lambda record: record["test_error"])
    assert {name: fewest[name] for name in tuning.GRIDS["l0"]} == gpu_queue.BEST_GATE_CHANGES


def test_committed_records_are_where_the_readme_reads_them():
    assert list((jobs.RESULTS / "mnist_compress").glob("*.json"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"minutes": 0.0}, "--minutes must be above 0 and finite"),
        ({"minutes": float("nan")}, "--minutes must be above 0 and finite"),
        ({"minutes": float("inf")}, "--minutes must be above 0 and finite"),
        ({"engine": "warp"}, "unknown engine 'warp'"),
        ({"device": "tpu9x"}, "unknown device 'tpu9x'"),
    ],
)
def test_a_queue_that_cannot_run_is_refused(ran, wrong, message, tmp_path):
    with pytest.raises(UserError, match=message):
        gpu_queue.main(Args(out=tmp_path / "queue", **{"device": "cpu", **wrong}))
    assert not ran


def test_a_queue_needs_a_folder_that_can_be_written(ran, tmp_path):
    (tmp_path / "taken").write_text("in the way")
    with pytest.raises(UserError, match="taken: cannot be written"):
        gpu_queue.main(Args(out=tmp_path / "taken", device="cpu"))
    assert not ran
