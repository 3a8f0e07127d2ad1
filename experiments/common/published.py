"""Published numbers: ``published.csv`` beside this file holds one number a line, with the place where it is printed.

Errors, sparsities and calibration errors are fractions. Columns:

- ``dataset``, ``network``: the project's names; ``width``: the scale of the layers, or the units of a hidden layer;
  empty if the network has one size.
- ``method``: a scheme, the row of one of our tables, or the name that the publication gives.
- ``setting``: what distinguishes several results of one method; empty for the main one.
- ``layer``: empty if the number is about the whole network.
- ``quantity``, ``value``, ``unit``; ``spread``: the +- printed beside the value, which ``note`` explains. A compression
  is weights / non-zero weights without biases, an ``error_increase`` is over the error of the publication's own dense
  network, ``nll`` is per example, ``units`` are those left of a layer's outputs, or of its inputs if ``layer`` says so.
- ``kind``: how the number was found (``KINDS``); ``source``: the publication; ``place``: a table, figure or file of it.
- ``note``: what a reader must know before a comparison.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from pyro_vd.errors import UserError, did_you_mean
from pyro_vd.experiments.common.tables import group_by

__all__ = ["Published", "Result", "best_published", "errors_by_width", "find", "results", "results_for"]

PATH = Path(__file__).with_suffix(".csv")
PAPER, PLOT, ABSTRACT = "paper", "paper, read off a plot", "paper, abstract"
OTHER_PAPER, SECONDARY = "reported in another paper", "secondary source"
REFERENCE, REPOSITORY = "reference repository", "repository"
KINDS = (PAPER, PLOT, ABSTRACT, OTHER_PAPER, SECONDARY, REFERENCE, REPOSITORY)
MOLCHANOV = "Molchanov et al. 2017, arXiv:1701.05369"
KINGMA = "Kingma et al. 2015, arXiv:1506.02557"
FORERUNNER = "lumosity4tpj/a-series-of-dropout"
CIFAR = ("cifar10", "cifar10 (JPEG)")  # the JPEG files are the same images with lossy compression; captions say so


@dataclass(frozen=True)
class Published:
    """One published number, a line of the file."""

    dataset: str
    network: str
    width: float | None
    method: str
    setting: str
    layer: str
    quantity: str
    value: float
    spread: float | None
    unit: str
    kind: str
    source: str
    place: str
    note: str


COLUMNS = tuple(field.name for field in fields(Published))
NUMBERS = ("width", "value", "spread")
RESULT = ("dataset", "network", "width", "method", "setting", "source")


@dataclass(frozen=True)
class Result:
    """The numbers that one publication gives for one network and method. ``kind`` is that of the first."""

    dataset: str
    network: str
    width: float | None
    method: str
    setting: str
    source: str
    kind: str
    cells: tuple[Published, ...]

    @property
    def values(self) -> dict[str, float]:
        """Quantities of the whole network -> values."""
        return {cell.quantity: cell.value for cell in self.cells if not cell.layer}

    def layers(self, quantity: str) -> dict[str, float]:
        """Layers -> values of a quantity, in the order of the layers."""
        return {cell.layer: cell.value for cell in self.cells if cell.layer and cell.quantity == quantity}


def find(**fields: object) -> list[Published]:
    """The published numbers with these fields, in the order of the file. ``width=None`` asks for networks of one size.

    Raises:
        TypeError: if a keyword is no column of the file.

    Example:
        >>> [cell.value for cell in find(network="lenet5", method="sparse", quantity="compression", kind="paper")]
        [280.0]
    """
    for name in fields:
        if name not in COLUMNS:
            raise TypeError(f"find: {name!r} is no column of {PATH.name}{did_you_mean(name, COLUMNS)}")
    return [cell for cell in _all_published() if all(getattr(cell, name) == wanted for name, wanted in fields.items())]


def results(**fields: object) -> list[Result]:
    """The numbers that ``find`` finds, joined to results."""
    groups = group_by(find(**fields), lambda cell: tuple(getattr(cell, name) for name in RESULT))
    return [
        Result(**{name: getattr(cells[0], name) for name in RESULT}, kind=cells[0].kind, cells=tuple(cells))
        for cells in groups.values()
    ]


def best_published(
    dataset: str, network: str, width: float | None = None, *, quantity: str = "compression", margin: float = 0.005
) -> Result | None:
    """The published result of highest compression, or of fewest bytes, at a comparable error.

    Comparable is an error at most ``margin`` above that of Molchanov's dense network. If a publication gives no error,
    its claim counts that its own dense network is not better (``error_increase`` in the result's values). Numbers that
    stand in repositories only do not count.

    Args:
        dataset: name of the dataset.
        network: name of the network.
        width: of the network; None if it has one size.
        quantity: "compression" or "bytes".
        margin: largest difference of errors, a fraction.

    Raises:
        UserError: for another quantity, or if the dense network's error is not published.

    Example:
        >>> best = best_published("mnist", "lenet300", quantity="bytes")
        >>> best.method, best.values["bytes"], best.values["error"]
        ('entropy-penalized reparameterization', 8560.0, 0.019)
    """
    if quantity not in ("compression", "bytes"):
        raise UserError(f"best_published(quantity={quantity!r}): quantity must be compression or bytes")
    size = {"dataset": dataset, "network": network, "width": width}
    dense = find(**size, method="none", quantity="error", setting="", source=MOLCHANOV)
    if not dense:
        raise UserError(f"best_published: {PATH.name} has no error of the dense {network} on {dataset}, width {width}")
    limit = dense[0].value + margin
    comparable = [
        result
        for result in results(**size)
        if quantity in result.values
        and result.method != "none"
        and result.kind not in (REFERENCE, REPOSITORY)
        and _claimed_error(result.values, dense[0].value) <= limit
    ]
    sign = 1 if quantity == "compression" else -1
    return max(comparable, key=lambda result: sign * result.values[quantity], default=None)


def results_for(network: str, width: float | None, dataset: str) -> list[Result]:
    """Error and compression of a network on a dataset: the paper's and the reference repository's.

    Args:
        network: name of the network.
        width: the scale of its layers; None if it has one size.
        dataset: the name that records show.
    """
    return [
        result
        for result in results(dataset="cifar10" if dataset in CIFAR else dataset, network=network, width=width)
        if not result.setting
        and result.source in (MOLCHANOV, FORERUNNER)
        and result.kind in (PAPER, PLOT, REFERENCE)
        and {"error", "compression"} <= result.values.keys()
    ]


def errors_by_width(source: str, network: str) -> dict[str, dict[float, float]]:
    """Errors that a publication gives for several widths of a network, by method and width.

    Example:
        >>> errors_by_width(KINGMA, "mlp")["variational A2"][250]
        0.0121
    """
    errors: dict[str, dict[float, float]] = {}
    for cell in find(source=source, network=network, quantity="error", setting="", layer=""):
        if cell.width is not None:
            errors.setdefault(cell.method, {})[cell.width] = cell.value
    return errors


@cache
def _all_published() -> tuple[Published, ...]:
    with PATH.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [{name: float(row[name]) if row[name] else None for name in NUMBERS} for row in rows]
    return tuple(Published(**(row | own)) for row, own in zip(rows, numbers, strict=True))  # type: ignore[arg-type]


def _claimed_error(values: Mapping[str, float], dense: float) -> float:
    return values.get("error", dense + values.get("error_increase", math.inf))
