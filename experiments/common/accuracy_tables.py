"""The accuracy tables of a folder of records, with paired tests over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from pyro_vd.experiments.common.accuracy import REQUIRED, Cell
from pyro_vd.experiments.common.published import published_error
from pyro_vd.experiments.common.records import Record, read_records
from pyro_vd.experiments.common.tables import count_runs, device_kind, group_by, publish, summary, to_markdown

__all__ = ["BASELINE", "accuracy_tables", "interval", "report"]

BASELINE = "none"
FALSE_DISCOVERIES = 0.05


def report(out: Path, cells: Sequence[Cell]) -> None:
    """Prints the tables of all records in ``out`` and writes them there."""
    text = accuracy_tables(read_records(out, REQUIRED), cells)
    publish(text, out)


def accuracy_tables(records: Sequence[Record], cells: Sequence[Cell]) -> str:
    """One table per network, protocol and dataset, rows in the order of the cells: test errors in percent."""
    order = list(dict.fromkeys(cell.row.name for cell in cells))
    in_order = sorted(records, key=lambda r: order.index(r["row"]) if r["row"] in order else len(order))
    groups = group_by(in_order, lambda record: (record["column"], record["dataset"], record["protocol"]))
    # Widths by number, not by name: 1000 units after 250.
    by_width = sorted(groups.items(), key=lambda group: (len(group[0][0]), group[0]))
    return "\n\n".join(
        f"{', '.join((*key, *_devices(group)))}:\n\n{to_markdown(_table(group))}" for key, group in by_width
    )


def _devices(records: list[Record]) -> list[str]:
    """The devices of the runs. A seed fixes initial weights and order on any device, so runs pair across devices."""
    return sorted({device_kind(record) for record in records})


def _table(records: list[Record]) -> list[tuple[str, ...]]:
    rows: dict[str, dict[int, Record]] = {}
    for record in records:
        rows.setdefault(record["row"], {})[record["seed"]] = record
    certain = _significant(rows)
    header = (
        "scheme",
        "error %, last epoch",
        "best epoch",
        "Monte Carlo",
        "n",
        f"minus {BASELINE} [95 %]",
        "published",
    )
    return [header, *(_row(name, rows, certain) for name in rows)]


def _row(name: str, rows: dict[str, dict[int, Record]], certain: set[str]) -> tuple[str, ...]:
    by_seed = rows[name]
    good = [record for record in by_seed.values() if not record["diverged"]]
    errors = ("test_error", "test_error_best", "test_error_mc")
    values = [summary([100 * record[key] for record in good], "{:.2f}") for key in errors]
    count = count_runs(list(by_seed.values()))
    difference = interval(_differences(rows, name)) + (" *" if name in certain else "")
    return (name, *values, count, difference, published_error(next(iter(by_seed.values()))))


def _differences(rows: dict[str, dict[int, Record]], name: str) -> list[float]:
    """Error minus the baseline's, in points, seed by seed: a seed fixes initial weights and the examples' order."""
    if name == BASELINE or BASELINE not in rows:
        return []
    pairs = [(record, rows[BASELINE].get(seed)) for seed, record in sorted(rows[name].items())]
    return [
        100 * (ours["test_error"] - theirs["test_error"])
        for ours, theirs in pairs
        if theirs and not ours["diverged"] and not theirs["diverged"]
    ]


def interval(differences: list[float]) -> str:
    """Mean and 95 % interval of paired differences (Student's t); "-" for fewer than two."""
    if len(differences) < 2:
        return "-"  # one run is not a comparison
    test = stats.ttest_1samp(differences, 0.0)
    low, high = test.confidence_interval(0.95)
    return f"{sum(differences) / len(differences):+z.2f} [{low:+z.2f}, {high:+z.2f}]"


def _significant(rows: dict[str, dict[int, Record]]) -> set[str]:
    """Rows that differ from the baseline: paired t-tests, false discovery rate 5 % (Benjamini and Hochberg 1995)."""
    differences = {name: _differences(rows, name) for name in rows}
    tested = {name: d for name, d in differences.items() if len(d) > 1 and len(set(d)) > 1}
    if not tested:
        return set()
    p_values = [stats.ttest_1samp(d, 0.0).pvalue for d in tested.values()]
    adjusted = stats.false_discovery_control(p_values, method="bh")
    return {name for name, p in zip(tested, adjusted, strict=True) if p < FALSE_DISCOVERIES}
