"""Clock: says how long the runs of a command take, before the first and after the first epoch of each."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from tqdm import tqdm

from pyro_vd.experiments.common.spec import Lottery, Spec, Whiten
from pyro_vd.experiments.common.store import Store

__all__ = ["Clock", "count_epochs"]

FEW_SECONDS = 90
PAUSE = 60.0  # seconds between two estimates


def count_epochs(spec: Spec) -> int:
    """Epochs of all phases and members."""
    total = 0
    for phase in spec.phases:
        if isinstance(phase, Whiten):
            continue
        epochs = phase.training.epochs
        total += epochs * phase.rounds + phase.extra if isinstance(phase, Lottery) else epochs
    return total * spec.members


class Clock:
    """Counts the epochs of the runs that are to be made.

    Args:
        specs: of these runs.
        measured: records that tell how long such runs took; None if there are none.
    """

    def __init__(self, specs: Sequence[Spec], measured: Store | None = None):
        self.specs = list(specs)
        self.left = sum(map(count_epochs, specs))
        self.measured = measured
        self._begun = time.monotonic()
        self._told = -math.inf
        self._epochs = 0  # of the training under way

    def announce(self) -> None:
        """Prints how many runs and epochs there are, and how long they took before if that is known."""
        if not self.specs:
            return
        known = [self._measure(spec) for spec in self.specs]
        times = [seconds for seconds in known if seconds is not None]
        took = f"; such runs took {describe_duration(sum(times))} on one core" if len(times) == len(known) else ""
        print(f"{len(self.specs)} run{'s' * (len(self.specs) > 1)}, {self.left:,} epochs{took}", flush=True)

    def start(self) -> None:
        """Called at the beginning of every training."""
        self._epochs = 0

    def tick(self) -> None:
        """Called after every epoch. Prints the time left after the second of a training, at most once a minute: the
        first has the compilation of the step in it."""
        now = time.monotonic()
        self._epochs, self.left = self._epochs + 1, self.left - 1
        if self._epochs == 2 and self.left > 0 and now - self._told > PAUSE:
            tqdm.write(f"about {describe_duration((now - self._begun) * self.left)} left")
            self._told = now
        self._begun = now

    def _measure(self, spec: Spec) -> float | None:
        """Mean seconds of the runs of this spec with any seed."""
        runs = [] if self.measured is None else self.measured.seeds(spec)
        known = [run["seconds"] for run in runs if "seconds" in run.record]
        return sum(known) / len(known) if known else None


def describe_duration(seconds: float) -> str:
    """The duration in seconds, minutes or hours."""
    if seconds < FEW_SECONDS:
        return f"{seconds:.0f} second{'s' * (round(seconds) != 1)}"
    return f"{seconds / 60:.0f} minutes" if seconds < 60 * FEW_SECONDS else f"{seconds / 3600:.1f} hours"
