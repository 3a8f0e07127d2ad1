"""Store: the runs of a folder, found by their specs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

from pyro_vd.errors import UserError
from pyro_vd.experiments.common.records import Record, read_record, write_record
from pyro_vd.experiments.common.spec import KINDS, decode, encode, key_of

__all__ = ["RESULTS", "Run", "Store", "committed", "reuse"]

RESULTS = Path(__file__).parents[1] / "results"
"""Folder of the committed records, in a checkout."""

ARTIFACT_SUFFIXES = (".safetensors.xz", ".onnx", ".npz")  # files of a run beside its record, except pictures


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        spec: what decided its numbers.
        record: its numbers, and the environment that it ran in.
        path: of the record.
    """

    spec: Any
    record: Record
    path: Path

    def __getitem__(self, name: str) -> Any:
        return self.record[name]

    @property
    def diverged(self) -> bool:
        return bool(self.record["diverged"])

    @property
    def device(self) -> str:
        """The device without details: results do not depend on the number of cores."""
        return self.record["device"].partition(" (")[0]

    def beside(self, suffix: str) -> Path:
        """The path of a file beside the record."""
        return self.path.with_name(self.path.stem + suffix)


class Store:
    """A folder of records, one file per run: ``<label>-<key>-s<seed>.json``.

    Args:
        folder: made on the first write.
        kinds: of the specs' dataclasses, see ``spec.decode``.
    """

    def __init__(self, folder: Path, kinds: Mapping[str, type] = KINDS):
        self.folder, self.kinds = folder, kinds

    def path(self, spec: Any) -> Path:
        """Where the record of this spec is, or will be."""
        return self.folder / f"{spec.label}-{key_of(spec)}-s{spec.seed}.json"

    def __contains__(self, spec: Any) -> bool:
        return self.path(spec).is_file()

    def load(self, spec: Any, required: Iterable[str] = ()) -> Run | None:
        """The run of this spec; None if there is no record.

        Raises:
            UserError: for a file that is not a record, and for the record of another spec.
        """
        path = self.path(spec)
        if not path.is_file():
            return None
        run = self.read(path, required)
        _check(run, spec)
        return run

    def unfinished(
        self, specs: Iterable[Any], required: Iterable[str], resume: bool = True, sha256: str | None = None
    ) -> Iterator[Any]:
        """The specs without a record, one by one, and says where the others have theirs.

        Args:
            specs: of runs.
            required: entries that a record must have.
            resume: if it is False, the runs that are there are deleted and made again.
            sha256: of the data; None if the spec says all of them.

        Raises:
            UserError: as :meth:`load`, and for a run on other data.
        """
        for spec in specs:
            if not resume:
                self.delete(spec)
            if known := self.load(spec, required):
                reuse(known, sha256)
            else:
                yield spec

    def seeds(self, spec: Any, required: Iterable[str] = ()) -> list[Run]:
        """The runs of this spec with any seed, by seed.

        Raises:
            UserError: for a file that is not a record, the record of another spec, and runs on different images.
        """
        stem = f"{spec.label}-{key_of(spec)}-s"
        runs = [self.read(path, required) for path in self.folder.glob(f"{escape(stem)}*.json")]
        for run in runs:
            _check(run, replace(spec, seed=run.spec.seed))
        if len({run.record.get("data_sha256") for run in runs}) > 1:
            raise UserError(f"{self.folder}: {stem}* are runs on different images; move some to another folder")
        return sorted(runs, key=lambda run: run.spec.seed)

    def runs(self, required: Iterable[str] = ()) -> list[Run]:
        """All runs of the folder, by file name."""
        return [self.read(path, required) for path in sorted(self.folder.glob("*.json"))]

    def read(self, path: Path, required: Iterable[str] = ()) -> Run:
        """The run whose record is at ``path``."""
        record = read_record(path, ("spec", *required))
        try:
            return Run(decode(record["spec"], self.kinds), record, path)
        except UserError as error:
            raise UserError(f"{path}: {error}; run its experiment again") from None

    def save(self, spec: Any, numbers: Record) -> Run:
        """Writes the record of a finished run, atomically."""
        path = self.path(spec)
        write_record(path, {"spec": encode(spec), **numbers})
        return self.read(path)

    def delete(self, spec: Any) -> None:
        """Deletes the record of the spec and the files beside it."""
        path = self.path(spec)
        for old in (path, *(path.with_suffix(suffix) for suffix in ARTIFACT_SUFFIXES)):
            old.unlink(missing_ok=True)


def committed(study: str) -> Store:
    """The committed records of a study; empty outside a checkout."""
    return Store(RESULTS / study)


def reuse(known: Run, sha256: str | None) -> Run:
    """Says that the run is there already.

    Raises:
        UserError: for a run on other data of the same name.
    """
    if sha256 is not None and known["data_sha256"] != sha256:
        raise UserError(f"{known.path}: holds a run on other data of the same name; choose another --out")
    print(f"{known.path}: already finished")
    return known


def _check(run: Run, spec: Any) -> None:
    if run.spec != spec:
        raise UserError(f"{run.path}: holds the run of another spec; choose another --out")
