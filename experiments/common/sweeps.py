"""Sweeps: makes the missing runs of a plan on several workers, and collects their records.

A worker returns the files of a run as bytes, and the driver, which is the process of the command, writes them.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pyro_vd.experiments.common.clock import count_epochs, describe_duration
from pyro_vd.experiments.common.spec import Options, Spec
from pyro_vd.experiments.common.store import Store
from pyro_vd.files import write_together

__all__ = ["Cell", "Place", "Pool", "Progress", "Result", "missing", "run_sweep", "save"]

POLL = 1.0  # seconds between two looks at the number of slots
STOP_LIMIT = 60.0  # seconds for the workers to save their checkpoints
Key = TypeVar("Key")


@dataclass(frozen=True)
class Cell:
    """A run of a plan.

    Attributes:
        study: the module whose table it is for, and the folder of its record.
        spec: of the run.
        name: what distinguishes it from the study's other runs, for people.
        notes: entries of the record besides numbers and environment.
    """

    study: str
    spec: Spec
    name: str
    notes: Options = field(default_factory=Options)

    def __str__(self) -> str:
        return f"{self.study}: {self.name}, seed {self.spec.seed}"

    @property
    def kind(self) -> Hashable:
        """An epoch takes about the same time in all cells of a kind."""
        return self.spec.network, self.spec.options, self.spec.data.name, self.spec.data.num_train, self.spec.method


@dataclass(frozen=True)
class Place:
    """How and where a worker trains.

    Attributes:
        device, engine: of the training.
        data: folder of the datasets; None for the default of the worker's machine.
        scratch: folder of the checkpoints, with one folder per study.
    """

    device: str
    engine: str
    data: Path | None
    scratch: Path


@dataclass(frozen=True)
class Result:
    """What a worker returns of a cell.

    Attributes:
        files: name -> content, the record last; empty if the run failed.
        seconds: from its start to its end on the worker.
        error: the traceback of a run that failed.
    """

    files: Mapping[str, bytes]
    seconds: float
    error: str = ""


class Pool(Protocol):
    """Workers. Each of them runs one function at a time."""

    @property
    def slots(self) -> int:
        """How many functions can run at once now."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Runs the function on a worker. The future fails if the worker dies."""

    def stop(self) -> None:
        """Interrupts all workers. A training that is interrupted saves its checkpoint first."""


def missing(plan: Iterable[Cell], find_stores: Callable[[str], Iterable[Store]]) -> list[Cell]:
    """The cells of the plan whose record is in none of the stores of their study."""
    return [cell for cell in plan if not any(cell.spec in store for store in find_stores(cell.study))]


def save(store: Store, spec: Spec, files: Mapping[str, bytes]) -> bool:
    """Writes the files of a run, its record last, unless it has a record already. Returns whether it did."""
    if spec in store:
        return False
    store.folder.mkdir(parents=True, exist_ok=True)
    write_together({store.folder / name: content for name, content in files.items()})
    return True


class Progress:
    """Counts the cells, and estimates from the finished ones how long the others take."""

    def __init__(self, total: int, say: Callable[[str], None]):
        self.total, self.say = total, say
        self.done = self.failed = 0
        self._paces: dict[Hashable, list[float]] = defaultdict(list)  # seconds per epoch

    def add(self, cell: Cell, seconds: float) -> None:
        """Called with every finished cell."""
        self.done += 1
        self._paces[cell.kind].append(seconds / count_epochs(cell.spec))

    def estimate(self, cell: Cell) -> float | None:
        """Seconds of a cell, from the slowest one of its kind; None if none has finished."""
        paces = self._paces.get(cell.kind)
        return max(paces) * count_epochs(cell.spec) if paces else None

    def report(self, what: str, waiting: Iterable[Cell], running: Mapping[Cell, float], slots: int) -> None:
        """Prints the numbers of cells, the time left, and what has just happened.

        Args:
            running: cell -> seconds since it began.
        """
        known = [pace for paces in self._paces.values() for pace in paces]
        usual = sum(known) / len(known) if known else math.nan  # for kinds of which none has finished

        def guess(cell: Cell) -> float:
            found = self.estimate(cell)
            return usual * count_epochs(cell.spec) if found is None else found

        left = sum(map(guess, waiting)) + sum(max(0.0, guess(cell) - spent) for cell, spent in running.items())
        time_left = f", about {describe_duration(left / slots)} left" if left > 0 else ""
        failed = f", {self.failed} failed" if self.failed else ""
        self.say(f"{self.done} of {self.total} done{failed}, {len(running)} running{time_left}; {what}")


def run_sweep(
    cells: Iterable[Cell],
    pool: Pool,
    run: Callable[[Cell, Place], Result],
    place: Place,
    keep: Callable[[Cell, Mapping[str, bytes]], object],
    retries: int = 2,
    minutes: float = math.inf,
    say: Callable[[str], None] = print,
) -> dict[Cell, str]:
    """Runs the cells in their order, as many at once as the pool has slots.

    Args:
        run: called on a worker.
        keep: called here with the files of every finished cell.
        retries: a cell that fails, or whose worker dies, runs so many times again, after the other cells.
        minutes: no cell begins whose estimate says that it would end later than this.

    Returns:
        cell -> the last error of every cell that failed.

    Raises:
        KeyboardInterrupt: after the workers have saved their checkpoints.
    """
    waiting, tries, failed = deque(cells), Counter[Cell](), dict[Cell, str]()
    running: dict[Future, tuple[Cell, float]] = {}
    progress, end = Progress(len(waiting), say), time.monotonic() + 60 * minutes

    def fill() -> None:
        while waiting and len(running) < max(pool.slots, 1):
            cell, now = waiting.popleft(), time.monotonic()
            if now + (progress.estimate(cell) or 0.0) > end:
                progress.total -= 1
                say(f"{cell}: would not fit into the {max(0.0, end - now) / 60:.1f} minutes left")
                continue
            tries[cell] += 1
            running[pool.submit(run, cell, place)] = (cell, now)

    def settle(future: Future) -> str:
        cell, _ = running.pop(future)
        result = _result_of(future)
        if result.files:
            keep(cell, result.files)
            progress.add(cell, result.seconds)
            return f"{cell}: {describe_duration(result.seconds)}"
        if tries[cell] <= retries:
            waiting.append(cell)
            return f"{cell}: failed, runs again later: {_last_line(result.error)}"
        failed[cell] = result.error
        progress.failed += 1
        return f"{cell}: failed {tries[cell]} times: {_last_line(result.error)}"

    try:
        fill()
        while running:
            events = [settle(future) for future in wait(running, POLL, FIRST_COMPLETED).done]
            fill()
            spent = {cell: time.monotonic() - begun for cell, begun in running.values()}
            for event in events:
                progress.report(event, waiting, spent, max(pool.slots, 1))
    except BaseException as stop:
        say("stopping: the workers save their checkpoints")
        pool.stop()
        for future in wait(running, timeout=STOP_LIMIT).done:
            result = _result_of(future)
            if result.files:
                keep(running[future][0], result.files)
                progress.done += 1
        if not isinstance(stop, KeyboardInterrupt):
            raise
        told = f"stopped with {progress.done} of {progress.total} runs done"
        raise KeyboardInterrupt(f"{told}; run the same command again to go on from there") from None
    return failed


def _result_of(future: Future) -> Result:
    """The result of a future that is done; one without files if the worker died or was stopped."""
    try:
        return future.result()
    except (Exception, CancelledError, KeyboardInterrupt, SystemExit) as error:
        return Result({}, 0.0, f"{type(error).__name__}: {error}")


def _last_line(error: str) -> str:
    return error.strip().rpartition("\n")[2]
