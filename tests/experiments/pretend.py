"""Runs for tests of sweeps, in a module that a worker imports quickly."""

import os
import signal

from pyro_vd.experiments.common.sweeps import Result


def pretend(cell, place):
    """Does what the cell's notes say, and writes which process did it with how many threads."""
    path = place.scratch / cell.spec.label
    place.scratch.mkdir(exist_ok=True)
    first = not path.exists()
    with path.open("a") as file:
        file.write(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}\n")
    does = cell.notes.get("does")
    if does == "fails":
        return Result({}, 0.1, "Traceback\nValueError: as told")
    if does == "dies" and first:
        os.kill(os.getpid(), signal.SIGKILL)
    return Result({"record": str(cell).encode()}, 0.1)
