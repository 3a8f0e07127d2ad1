"""How the run of a cell is measured, whatever its study, and ``run_cell``, which makes it on a worker."""

from __future__ import annotations

import tempfile
import time
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pyro_vd.experiments import dessilbi, uncertainty
from pyro_vd.experiments.common import accuracy, cli, compression
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.measures import ACCURACY_KEYS, COMPRESSION_KEYS, measure_accuracy, measure_compression
from pyro_vd.experiments.common.path_measures import DIVERGED, PATH_KEYS, measure_path
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.runner import Measure, Runner
from pyro_vd.experiments.common.spec import Data, Fit, Spec
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.sweeps import Cell, Place, Result
from pyro_vd.models import NETWORKS

__all__ = ["ACCURACY", "COMPRESSION", "PATH", "Measurement", "find_measurement", "make_runner", "run_cell"]


@dataclass(frozen=True)
class Measurement:
    """How a run is measured; the fields are those of ``Runner``."""

    measure: Measure
    required: tuple[str, ...]
    empty: Record


COMPRESSION = Measurement(measure_compression, COMPRESSION_KEYS, compression.DIVERGED)
ACCURACY = Measurement(measure_accuracy, ACCURACY_KEYS, accuracy.DIVERGED)
PATH = Measurement(measure_path, PATH_KEYS, DIVERGED)


def find_measurement(cell: Cell, data: Path | None) -> Measurement:
    """Those of ``uncertainty`` and ``dessilbi`` for their cells, that of the compression tables for a run that prunes,
    and that of the accuracy tables for any other.

    Args:
        data: folder of the datasets; None for the default.

    Raises:
        DataError: if an out-of-distribution dataset of ``uncertainty`` is not there.
    """
    if cell.study == uncertainty.STUDY:
        return _measure_uncertainty(cell.spec, data)
    if cell.study == dessilbi.STUDY:
        return PATH
    main = cell.spec.main
    return ACCURACY if isinstance(main, Fit) and main.threshold is None else COMPRESSION


def _measure_uncertainty(spec: Spec, data: Path | None) -> Measurement:
    """A record without one of the datasets would not be that of the table."""
    network = NETWORKS[spec.network](**spec.options.plain())
    ood = {
        name: load_images(Data(name=name), network, data) for name in uncertainty.choose_ood_datasets(spec.data.name)
    }
    keys = uncertainty.KEYS
    return Measurement(partial(uncertainty.measure_predictions, ood=ood), keys, dict.fromkeys(keys))


def make_runner(cell: Cell, store: Store, place: Place) -> Runner:
    """The runner of a cell."""
    return Runner(
        store=store,
        **vars(find_measurement(cell, place.data)),
        device=cli.device_of(place.device),
        engine=place.engine,
        data=place.data,
        notes=lambda spec: cell.notes.plain(),
        scratch=place.scratch / cell.study / "checkpoints",
    )


def run_cell(cell: Cell, place: Place) -> Result:
    """Makes the run of a cell, or resumes it, and returns its files. A worker calls this."""
    start = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            (run,) = make_runner(cell, Store(Path(folder)), place).run_all([cell.spec])
            others = [path for path in sorted(Path(folder).iterdir()) if path.is_file() and path != run.path]
            files = {path.name: path.read_bytes() for path in (*others, run.path)}
    except Exception:
        return Result({}, time.monotonic() - start, traceback.format_exc())
    return Result(files, time.monotonic() - start)
