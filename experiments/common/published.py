"""Published numbers: ``published.csv`` beside this file holds one number a line, with the place where it is printed.

Errors, sparsities and calibration errors are fractions. Columns:

- ``dataset``, ``network``: the project's names; ``width``: the scale of the layers, or the units of a hidden layer;
  empty if the network has one size.
- ``method``: a scheme, the row of one of our tables, or the name that the publication gives.
- ``setting``: what distinguishes several results of one method; empty for the main one.
- ``layer``: empty if the number is about the whole network.
- ``quantity``, ``value``, ``unit``; ``spread``: the +- printed beside the value, which ``note`` explains.
- ``kind``: how the number was found (``KINDS``); ``source``: the publication; ``place``: a table, figure or file of it.
- ``note``: what a reader must know before a comparison.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from pyro_vd.errors import UserError, did_you_mean

__all__ = [
    "Published",
    "Result",
    "best_published",
    "errors_by_width",
    "find",
    "read_published",
    "results",
    "results_for",
]  # fmt: skip

PATH = Path(__file__).with_suffix(".csv")
QUANTITIES = {
    "bytes": "bytes",  # of the file with the compressed network
    "compression": "ratio",  # weights / non-zero weights, biases not counted
    "ece": "fraction",
    "error": "fraction",  # on test data
    "error_increase": "fraction",  # over the error of the publication's own dense network
    "fewer_multiplications": "ratio",
    "gradient_variance": "squared gradient",
    "nll": "nats",  # per example
    "rmse": "target units",
    "size_compression": "ratio",  # bytes of the dense float32 network / bytes
    "sparsity": "fraction",
    "times_faster_cpu": "ratio",
    "times_faster_gpu": "ratio",
    "train_error": "fraction",
    "units": "units",  # that are left of a layer's outputs, or of its inputs if ``layer`` says so
}
"""Quantities and their units."""
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
REQUIRED = ("dataset", "network", "method", "value", "source", "place")
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


def read_published(path: Path) -> tuple[Published, ...]:
    """The numbers of a file.

    Raises:
        UserError: if a line is not as the module describes; the message names file and line.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = tuple(next(reader, ()))
        if header != COLUMNS:
            raise UserError(f"{path}, line 1: the columns must be {','.join(COLUMNS)}, not {','.join(header)}")
        found: dict[tuple[object, ...], int] = {}
        numbers = []
        for cells in reader:
            try:
                number = _parse(cells)
            except UserError as error:
                raise UserError(f"{path}, line {reader.line_num}: {error}") from None
            key = (*(getattr(number, name) for name in RESULT), number.layer, number.quantity)
            if key in found:
                raise UserError(f"{path}, line {reader.line_num}: the same number as in line {found[key]}; remove one")
            found[key] = reader.line_num
            numbers.append(number)
    return tuple(numbers)


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
    groups: dict[tuple[object, ...], list[Published]] = {}
    for cell in find(**fields):
        groups.setdefault(tuple(getattr(cell, name) for name in RESULT), []).append(cell)
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
    return read_published(PATH)


def _parse(cells: list[str]) -> Published:
    if len(cells) != len(COLUMNS):
        raise UserError(f"{len(cells)} cells, but {len(COLUMNS)} columns")
    row = dict(zip(COLUMNS, cells, strict=True))
    if empty := [name for name in REQUIRED if not row[name].strip()]:
        raise UserError(f"{', '.join(empty)} must not be empty")
    _check(row["quantity"], "quantity", QUANTITIES)
    _check(row["unit"], "unit", [QUANTITIES[row["quantity"]]])
    _check(row["kind"], "kind", KINDS)
    numbers = {name: _number(row[name], name) for name in NUMBERS}
    if row["unit"] == "fraction" and not 0 <= float(row["value"]) <= 1:
        raise UserError(f"value {row['value']}: a fraction lies between 0 and 1; divide a percentage by 100")
    return Published(**(row | numbers))  # type: ignore[arg-type]


def _check(name: str, column: str, known: Iterable[str]) -> None:
    if name not in known:
        raise UserError(f"{column} {name!r} must be one of {', '.join(known)}{did_you_mean(name, known)}")


def _number(text: str, column: str) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{column} {text!r} is no finite number")
    return number


def _claimed_error(values: Mapping[str, float], dense: float) -> float:
    return values.get("error", dense + values.get("error_increase", math.inf))
