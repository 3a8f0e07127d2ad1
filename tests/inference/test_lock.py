"""One writer per checkpoint: others are refused, and a holder that dies or fails holds nothing."""

import errno
import subprocess
import sys
import threading

import pytest

from pyro_vd.errors import CheckpointError
from pyro_vd.inference import lock
from tests._pairs import fresh


def test_a_checkpoint_in_use_is_refused_naming_the_process(tmp_path):
    """By another thread of this process, and by another process; afterwards it is free."""
    found = []

    def second(*_):
        with pytest.raises(CheckpointError, match="in use by another fit of this process") as caught:
            fresh(checkpoint=tmp_path / "run")
        found.append(str(caught.value))
        return {}

    fresh(epochs=1, checkpoint=tmp_path / "run", on_epoch=second)
    assert len(found) == 1
    assert "\n" not in found[0]
    assert str(tmp_path / "run:") in found[0]
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json", ".safetensors"]
    assert len(fresh(checkpoint=tmp_path / "run").history) == 2


HOLDING = """
import sys, time
from pathlib import Path
from pyro_vd.inference.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_holds_nothing(tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(run)], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout.readline() == "held\n"
            with pytest.raises(CheckpointError, match=f"in use by process {process.pid}"):
                fresh(checkpoint=run)
        finally:
            process.kill()  # leaving the block waits for its end
    assert len(fresh(checkpoint=run).history) == 2


def test_the_lock_is_a_file_where_there_is_no_flock(tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_vd.inference.lock.fcntl", None)
    fresh(epochs=1, checkpoint=tmp_path / "run")
    (tmp_path / "run.lock").write_text("12345")
    with pytest.raises(CheckpointError, match=r"in use by process 12345.*delete .*run\.lock"):
        fresh(checkpoint=tmp_path / "run")
    (tmp_path / "run.lock").unlink()
    assert len(fresh(checkpoint=tmp_path / "run").history) == 2
    assert not (tmp_path / "run.lock").exists()


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    with pytest.warns(UserWarning, match=r"run\.lock: the file cannot be locked \(No locks available\)"):
        fresh(checkpoint=tmp_path / "run")
    assert not (tmp_path / "run.lock").exists()


def test_a_lock_is_released_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fresh(checkpoint=tmp_path / "run", on_epoch=lambda *_: 1 / 0)
    assert len(fresh(checkpoint=tmp_path / "run").history) == 2


def test_one_thread_of_many_gets_the_lock(tmp_path):
    barrier, leave, held = threading.Barrier(8), threading.Event(), []

    def take():
        barrier.wait()
        try:
            with lock.hold_lock(tmp_path / "run"):
                held.append(True)
                leave.wait()
        except CheckpointError:
            held.append(False)
            if held.count(False) == 7:
                leave.set()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(held) == 7 * [False] + [True]


def test_a_lock_file_that_its_holder_deletes_is_taken_anew(tmp_path, monkeypatch):
    """Between opening and locking: a lock on a file without a name would keep nobody out."""
    run, flock, calls = tmp_path / "run", lock.fcntl.flock, []

    def late(*args):
        calls.append(args)
        if len(calls) == 1:
            (tmp_path / "run.lock").unlink()
        flock(*args)

    monkeypatch.setattr(lock.fcntl, "flock", late)
    with lock.hold_lock(run), pytest.raises(CheckpointError, match="in use"), lock.hold_lock(run):
        raise AssertionError("two hold the lock")
