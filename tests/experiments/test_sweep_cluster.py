"""Sweeps that lose a worker, a machine and their driver, on processes and on a Ray cluster of two machines."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.experiments.sweep_plan import PLAN

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 600.0  # seconds for any of the steps below
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals")]


class Driver:
    """The command, in a process of its own, and the lines that it prints."""

    def __init__(self, out, *arguments):
        self.out, self.log = out, out.with_name(f"{out.name}.txt")
        command = [sys.executable, "-m", "experiments.sweep", "--plan", "tests.experiments.sweep_plan:PLAN"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--engine", "eager", "--device", "cpu", "--out", str(out), *arguments],
                cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def said(self):
        return self.log.read_text()

    def end(self):
        return self.process.wait(LIMIT)

    def find_trainer(self, parent=None):
        """The process that trains a run now, of this parent if one is given."""
        return wait_for(lambda: next(iter(self._find_trainers(parent)), None), self)

    def _find_trainers(self, parent):
        for lock in self.out.glob("*/checkpoints/*.lock"):
            try:
                number = int(lock.read_text())
                own = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):  # it has ended, or begins
                continue
            if parent in (None, own):
                yield number


def wait_for(find, driver):
    end = time.monotonic() + LIMIT
    while not (found := find()):
        assert time.monotonic() < end, driver.said
        assert driver.process.poll() is None, driver.said
        time.sleep(0.05)
    return found


def read_runs(out):
    """Name -> what does not depend on the machine and its load, for records; the content, for weights."""
    found = {}
    for path in sorted(out.glob("*/*.json")):
        record = json.loads(path.read_text())
        left = {name: value for name, value in record.items() if name not in ("seconds", "revision", "digest")}
        found[path.name] = {**left, "history": [{**row, "seconds": None} for row in record["history"]]}
    return found | {path.name: path.read_bytes() for path in sorted(out.glob("*/*.xz"))}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The runs of one local worker."""
    driver = Driver(tmp_path_factory.mktemp("sweeps") / "undisturbed", "--workers", "1")
    assert driver.end() == 0, driver.said
    runs = read_runs(driver.out)
    assert len(runs) == len(PLAN) + 2  # two have weights beside them
    return runs


@pytest.fixture
def cluster():
    """Two machines with one core each, the first of which is the head."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        made.second = made.add_node(num_cpus=1)
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()


def test_processes_lose_a_worker_and_the_driver(undisturbed, tmp_path):
    first = Driver(tmp_path / "local", "--workers", "2")
    os.kill(first.find_trainer(), signal.SIGKILL)
    wait_for(lambda: "BrokenProcessPool" in first.said, first)
    first.find_trainer()
    first.process.send_signal(signal.SIGINT)
    assert first.end() == 130, first.said
    assert "run the same command again to go on from there" in first.said
    checkpoints = list(first.out.glob("*/checkpoints/*.safetensors"))
    assert checkpoints
    second = Driver(tmp_path / "local", "--workers", "2")
    worker = second.find_trainer()
    second.process.kill()  # a driver that cannot stop its workers
    second.process.wait(LIMIT)
    end = time.monotonic() + LIMIT
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    third = Driver(tmp_path / "local", "--workers", "2")
    assert third.end() == 0, third.said
    assert read_runs(third.out) == undisturbed


def test_a_cluster_loses_a_worker_a_machine_and_the_driver(undisturbed, tmp_path, cluster):
    arguments = ("--cluster", cluster.address)
    first = Driver(tmp_path / "ray", *arguments)
    os.kill(first.find_trainer(), signal.SIGKILL)
    wait_for(lambda: first.said.count("runs again later") == 1, first)
    raylet = cluster.second.all_processes["raylet"][0].process.pid
    first.find_trainer(parent=raylet)
    cluster.remove_node(cluster.second, allow_graceful=False)
    wait_for(lambda: first.said.count("runs again later") == 2, first)
    first.find_trainer()
    first.process.send_signal(signal.SIGINT)
    assert first.end() == 130, first.said
    assert "run the same command again to go on from there" in first.said
    second = Driver(tmp_path / "ray", *arguments)
    assert second.end() == 0, second.said
    assert read_runs(second.out) == undisturbed
