"""What a sweep must know about a study: how its runs are measured. ``run_cell`` makes a run of any of them."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pyro_vd.errors import UserError
from pyro_vd.experiments import (
    ablation,
    cifar_accuracy,
    cifar_compress,
    mixed_precision,
    mnist_accuracy,
    mnist_compress,
    prior_swap,
    pruning_baselines,
    random_labels,
    tuning,
    uncertainty,
)
from pyro_vd.experiments.common import accuracy, cli, compression
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.measures import (
    ACCURACY_KEYS,
    COMPRESSION_KEYS,
    measure_accuracy,
    measure_compression,
)
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.runner import Measure, Runner
from pyro_vd.experiments.common.spec import Data, Spec
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.sweeps import Cell, Place, Result
from pyro_vd.models import NETWORKS

__all__ = ["STUDIES", "Measurement", "make_runner", "run_cell"]


@dataclass(frozen=True)
class Measurement:
    """How the runs of a study are measured; the fields are those of ``Runner``."""

    measure: Measure
    required: tuple[str, ...]
    empty: Record


COMPRESSION = Measurement(measure_compression, COMPRESSION_KEYS, compression.DIVERGED)
ACCURACY = Measurement(measure_accuracy, ACCURACY_KEYS, accuracy.DIVERGED)


def measure_uncertainty(spec: Spec, data: Path | None) -> Measurement:
    """That of ``uncertainty``, with its out-of-distribution datasets.

    Raises:
        DataError: if one is not there: a record without it would not be that of the table.
    """
    network = NETWORKS[spec.network](**spec.options.plain())
    ood = {name: load_images(Data(name=name), network, data) for name in uncertainty.Args.ood_datasets}
    keys = uncertainty.KEYS
    return Measurement(partial(uncertainty.measure_predictions, ood=ood), keys, dict.fromkeys(keys))


STUDIES: dict[str, Callable[[Spec, Path | None], Measurement]] = {
    **{
        module.STUDY: lambda spec, data: COMPRESSION
        for module in (mnist_compress, cifar_compress, pruning_baselines, ablation, tuning)
    },
    **{
        module.STUDY: lambda spec, data: ACCURACY
        for module in (mnist_accuracy, cifar_accuracy, mixed_precision, prior_swap, random_labels)
    },
    uncertainty.STUDY: measure_uncertainty,
}
"""Study -> the measurement of a spec, given the folder of the datasets."""


def make_runner(cell: Cell, store: Store, place: Place) -> Runner:
    """The runner of a cell.

    Raises:
        UserError: for a study that is not one of ``STUDIES``.
    """
    if cell.study not in STUDIES:
        raise UserError(f"{cell}: a sweep knows no such study; known: {', '.join(STUDIES)}")
    measurement = STUDIES[cell.study](cell.spec, place.data)
    return Runner(
        store=store,
        **vars(measurement),
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
