"""Units of compressed LeNet-5s, ours and published, and the multiplications that remain, which decide the speed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyro_vd.experiments.common.compression_tables import describe_training, units
from pyro_vd.experiments.common.published import OTHER_PAPER, Result, results
from pyro_vd.experiments.common.store import Run
from pyro_vd.experiments.common.tables import Table

__all__ = ["architecture_table", "multiplications", "published_units"]

HEADER = ("scheme", "training or source", "units", "mult.", "error %")
POSITIONS = (25 * 24 * 24, 25 * 8 * 8, 1, 1)  # products of one weight's kernel with a 28x28 image, layer by layer

METHODS = {
    "group_horseshoe": "group horseshoe",
    "group_normal_jeffreys": "group normal-Jeffreys",
    "l0": "L0",
    "l0, a penalty per layer": "L0, a penalty per layer",
    "sparse": "sparse variational dropout",
    "structured_log_normal": "structured log-normal",
}
"""Schemes -> their names in rows of published networks."""


def architecture_table(runs: Iterable[Run]) -> Table:
    """A row for every shrunk LeNet-5 on MNIST, and for the published ones."""
    found = [run for run in runs if (run.spec.network, run["dataset"]) == ("lenet5", "mnist")]
    rows = [_row(run) for run in found if "deployment" in run.record]
    return Table(
        "Units of LeNet-5; mult.: how many times fewer multiplications",
        HEADER,
        (*rows, *map(_published, published_units())),
    )


def multiplications(layers: Iterable[Sequence[int]]) -> int:
    """Multiplications of one 28x28 image in a LeNet-5 with these (inputs, outputs) of its four layers, zeros included.

    Example:
        >>> multiplications([(1, 20), (20, 50), (800, 500), (500, 10)])
        2293000
    """
    return sum(each * inputs * outputs for each, (inputs, outputs) in zip(POSITIONS, layers, strict=True))


def _row(run: Run) -> tuple[str, ...]:
    sizes = run["deployment"]["architecture"]
    error = f"{100 * run['test_error']:.2f}"
    source = f"{describe_training(run)}, seed {run.spec.seed}"
    return (run.spec.method, source, units(sizes), _fewer(sizes.values()), error)


def published_units() -> list[Result]:
    """Published LeNet-5s with the units that are left: filters, inputs and outputs of the hidden layer."""
    return [result for result in results(dataset="mnist", network="lenet5") if result.layers("units")]


def _published(entry: Result) -> tuple[str, ...]:
    sizes = [int(size) for size in entry.layers("units").values()]
    written = "-".join(map(str, sizes))
    method = METHODS.get(entry.method, entry.method)
    paper = entry.source.replace("arXiv:", "")
    source = f"in {paper}" if entry.kind == OTHER_PAPER else paper
    return (method, source, written, _fewer(_layers(sizes)), f"{100 * entry.values['error']:.2g}")


def _layers(sizes: Sequence[int]) -> list[tuple[int, int]]:
    first, second, inputs, hidden = sizes
    seen = min(inputs, 4 * 4 * second)  # papers count inputs from removed filters, which are not multiplied
    return [(1, first), (first, second), (seen, hidden), (hidden, 10)]


def _fewer(layers: Iterable[Sequence[int]]) -> str:
    return f"{multiplications(_layers((20, 50, 800, 500))) / multiplications(layers):.1f}x"
