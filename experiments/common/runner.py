"""The runner: turns a spec into a run. Loads its record if there is one, else trains, measures and writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pyro_vd import NonFiniteError
from pyro_vd.data import DataSplits
from pyro_vd.errors import UserError
from pyro_vd.experiments.common.cli import Setup
from pyro_vd.experiments.common.clock import Clock
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.images import check_last_batch, load_images
from pyro_vd.experiments.common.phases import Job, State, run_phases
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.spec import Data, Spec, Whiten
from pyro_vd.experiments.common.store import Run, Store, committed, reuse
from pyro_vd.inference.lock import hold_lock
from pyro_vd.models import NETWORKS

__all__ = ["Measure", "Runner", "Trained", "make_runner", "network_maker"]


@dataclass(frozen=True)
class Trained:
    """What a spec's training has made, before it is measured.

    Attributes:
        spec: of the run.
        split: its data, on the device.
        states: one per network of the ensemble.
        make: builds the network from a number of classes.
        stem: path of the record without its suffix, for files beside it.
    """

    spec: Spec
    split: DataSplits
    states: tuple[State, ...]
    make: Callable[[int], nn.Module]
    stem: Path

    @property
    def state(self) -> State:
        """That of the only network."""
        (state,) = self.states
        return state

    @property
    def weights(self) -> int:
        """Number of weights that the main phase is about."""
        posterior = self.states[0].posterior
        assert posterior is not None, "the spec has no main phase"
        return sum(weight.numel() for weight in posterior.model.initial.values())


Measure = Callable[[Trained], Record]
"""Gives the numbers of a record."""


def network_maker(spec: Spec) -> Callable[[int], nn.Module]:
    """The constructor of the spec's network, which takes the number of classes.

    Raises:
        UserError: for an unknown name.
    """
    if spec.network not in NETWORKS:
        raise UserError(f"a spec of the network {spec.network!r}, which is not one of {', '.join(NETWORKS)}")
    return partial(NETWORKS[spec.network], **spec.options.plain())


@dataclass
class Runner:
    """Makes runs on one device.

    Attributes:
        store: the records.
        measure: the numbers of a record.
        required: keys that a record must have.
        empty: the numbers of a diverged run.
        device, engine: of the training.
        data: folder of the datasets; None for the default.
        resume: if False, the runner makes the records of its specs again from the start, each once.
        notes: entries of every new record besides numbers and environment, by spec.
        scratch: folder of the checkpoints; None for one in the folder of the store.
        measured: records that tell how long such runs took; None if there are none.
        clock: of the runs under way.
    """

    store: Store
    measure: Measure
    required: tuple[str, ...]
    device: torch.device
    empty: Record = field(default_factory=dict)
    engine: str = "auto"
    data: Path | None = None
    resume: bool = True
    notes: Callable[[Spec], Record] = lambda spec: {}
    scratch: Path | None = None
    measured: Store | None = None
    clock: Clock = field(default_factory=lambda: Clock([]), repr=False)
    _cleared: set[Path] = field(default_factory=set, repr=False)
    _loaded: dict[Any, DataSplits] = field(default_factory=dict, repr=False)

    def run_all(self, specs: Sequence[Spec]) -> list[Run]:
        """Makes the runs of these specs in order; prints how long they will take."""
        if not self.resume:
            self._start_over(specs)
        self.clock = Clock([spec for spec in specs if spec not in self.store], self.measured)
        self.clock.announce()
        runs = []
        for number, spec in enumerate(specs, start=1):
            if spec not in self.store:
                print(f"run {number} of {len(specs)}: {spec.label}, seed {spec.seed}", flush=True)
            runs.append(self.run(spec))
        return runs

    def run(self, spec: Spec) -> Run:
        """Trains, measures and records the spec, or loads the record.

        Raises:
            UserError: for a record of other data under the same spec.
            DataError: if the data are not there.
        """
        make = network_maker(spec)
        return self.run_on(spec, self.load(spec.data, make(10), spec.seed), make)

    def run_on(
        self, spec: Spec, split: DataSplits, make: Callable[[int], nn.Module], net: nn.Module | None = None
    ) -> Run:
        """As ``run``, on these data and with the networks of ``make``.

        Args:
            net: the initial network, see ``record``.
        """
        if not self.resume:
            self._start_over([spec])
        known = self.store.load(spec, self.required)
        return self.record(spec, split, make, net) if known is None else reuse(known, split.sha256)

    def record(
        self, spec: Spec, split: DataSplits, make: Callable[[int], nn.Module], net: nn.Module | None = None
    ) -> Run:
        """Trains on these data, measures, and writes the record.

        Args:
            net: the initial network; by default ``make(classes)`` with weights that depend on the seed only.
        """
        stem = self.store.path(spec).with_suffix("")
        facts = {"dataset": split.name, "data_sha256": split.sha256, **environment(self.device), **self.notes(spec)}
        states, start = [], time.monotonic()
        try:
            for index in range(spec.members):
                member = spec.member(index)
                job = Job(member, split, make, self.checkpoints, self.engine, self.clock.start, self.clock.tick)
                check_last_batch(make(split.classes), split, _batch_size(spec))
                states.append(run_phases(job, net if net is not None else _initial_net(member, job)))
            torch.manual_seed(spec.seed)  # of the weight draws, also if the training was resumed
            numbers = {**self.measure(Trained(spec, split, tuple(states), make, stem)), "diverged": False}
        except NonFiniteError as error:
            print(f"diverged: {error}")
            states.append(State(nn.Identity(), history=tuple(error.history)))
            numbers = {**self.empty, "diverged": str(error)}
        history = [row | ({"member": i} if spec.members > 1 else {}) for i, s in enumerate(states) for row in s.history]
        seconds = sum(row["seconds"] for row in history) or time.monotonic() - start
        return self.store.save(spec, {**facts, **numbers, "seconds": seconds, "history": history})

    def load(self, data: Data, net: nn.Module, seed: int = 0) -> DataSplits:
        """The images of a spec on the device; the last ones are kept."""
        wanted = (data, getattr(net, "input_shape", None), seed if data.shuffled else 0)
        if wanted not in self._loaded:
            self._loaded = {wanted: load_images(data, net, self.data, seed).to(self.device)}
        return self._loaded[wanted]

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.scratch or self.store.folder / "checkpoints"

    def _start_over(self, specs: Sequence[Spec]) -> None:
        """Deletes the records and checkpoints of the specs, once: what one of them has made is there for the next.

        Raises:
            CheckpointInUseError: if another process trains one of their phases.
        """
        jobs = [
            Job(spec.member(index), None, None, self.checkpoints)  # type: ignore[arg-type]
            for spec in specs
            for index in range(spec.members)
        ]
        checkpoints = {job.checkpoint(count) for job in jobs for count in range(1, len(job.spec.phases) + 1)}
        for checkpoint in checkpoints - self._cleared:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            with hold_lock(checkpoint):
                for old in self.checkpoints.glob(f"{escape(checkpoint.name)}[.-]*"):
                    if old.suffix != ".lock":
                        old.unlink(missing_ok=True)
        for spec in specs:
            if self.store.path(spec) not in self._cleared:
                self.store.delete(spec)
        self._cleared |= checkpoints | {self.store.path(spec) for spec in specs}


def make_runner(
    args: Setup,
    study: str,
    device: torch.device,
    measure: Measure,
    required: tuple[str, ...],
    empty: Record,
    notes: Callable[[Spec], Record] | None = None,
) -> Runner:
    """The runner of a command.

    Args:
        args: with ``out``, the folder of the records.
        study: whose committed records tell how long a run takes.
        device, measure, required, empty: of the runner.
        notes: of the runner; None for the name of the study alone.
    """
    return Runner(
        store=Store(vars(args)["out"]),
        measure=measure,
        required=required,
        device=device,
        empty=empty,
        engine=args.engine,
        data=args.data,
        resume=args.resume,
        notes=notes or (lambda spec: {"experiment": study}),
        measured=committed(study),
    )


def _initial_net(spec: Spec, job: Job) -> nn.Module:
    torch.manual_seed(spec.seed)
    return job.make(job.split.classes).to(job.device)


def _batch_size(spec: Spec) -> int:
    last = spec.phases[-1]
    assert not isinstance(last, Whiten)
    return last.training.batch_size
