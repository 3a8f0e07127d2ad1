"""The accuracy table of a folder of records, and what its seeds allow to be said."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable
from pathlib import Path

from scipy import stats

from experiments.common.accuracy import REQUIRED
from experiments.common.records import Record, read_records
from experiments.common.tables import summary, to_markdown

__all__ = ["accuracy_table", "comparisons", "report"]

Groups = dict[tuple[str, str], dict[int, Record]]  # (column, row) -> seed -> record
FALSE_DISCOVERIES = 0.05


def report(out: Path) -> None:
    """Prints the table of every record in ``out`` and writes it there."""
    records = read_records(out, REQUIRED)
    text = "\n\n".join([to_markdown(accuracy_table(records)), *comparisons(records)])
    (out / "table.md").write_text(text + "\n")
    print(f"\n{text}\n\nrecords and table.md: {out}")


def accuracy_table(records: Iterable[Record]) -> list[tuple[str, ...]]:
    """Rows by columns, header first: error in percent of the posterior mean after the last epoch, then of the best
    epoch, then of Monte Carlo predictions; mean and standard deviation over seeds."""
    groups = _grouped(records)
    columns = list(dict.fromkeys(column for column, _ in groups))
    rows = list(dict.fromkeys(row for _, row in groups))
    header = ("scheme", *(f"{column}: last / best / MC" for column in columns), "n")
    return [header, *((row, *(_cell(groups.get((c, row), {})) for c in columns), _counts(groups, columns, row))
                      for row in rows)]  # fmt: skip


def comparisons(records: Iterable[Record]) -> list[str]:
    """One line per column: which rows have a lower error than which, where the seeds allow to say so.

    Paired t-tests over seeds between all pairs of rows of the column (a seed fixes initial weights and the order of
    the examples for every row), Benjamini and Yekutieli's control of the false discovery rate at 5 %.
    """
    columns: dict[str, dict[str, dict[int, float]]] = {}
    for (column, row), by_seed in _grouped(records).items():
        errors = {seed: record["test_error"] for seed, record in by_seed.items() if not record["diverged"]}
        columns.setdefault(column, {})[row] = errors
    return [f"{column}: {_found(rows)}" for column, rows in columns.items()]


def _found(rows: dict[str, dict[int, float]]) -> str:
    pairs, p_values = [], []
    for a, b in itertools.combinations(rows, 2):
        seeds = sorted(rows[a].keys() & rows[b].keys())
        differences = [rows[a][seed] - rows[b][seed] for seed in seeds]
        if len(seeds) < 2 or statistics.pstdev(differences) == 0:
            continue  # one run is no comparison, and equal differences have no t
        pairs.append((a, b) if statistics.mean(differences) < 0 else (b, a))
        p_values.append(stats.ttest_1samp(differences, 0.0).pvalue)
    if not pairs:
        return "one run a row allows no comparison."
    adjusted = stats.false_discovery_control(p_values, method="by")
    better: dict[str, list[str]] = {}
    for (winner, loser), p in zip(pairs, adjusted, strict=True):
        if p < FALSE_DISCOVERIES:
            better.setdefault(winner, []).append(loser)
    lines = [f"`{winner}` below {', '.join(f'`{loser}`' for loser in losers)}" for winner, losers in better.items()]
    return "; ".join(lines) + "." if lines else f"no difference among {len(pairs)} pairs is certain at this n."


def _grouped(records: Iterable[Record]) -> Groups:
    groups: Groups = {}
    for record in records:
        groups.setdefault((record["column"], record["row"]), {})[record["seed"]] = record
    return groups


def _cell(by_seed: dict[int, Record]) -> str:
    good = [record for record in by_seed.values() if not record["diverged"]]
    if not by_seed:
        return "-"
    if not good:
        return f"diverged ({len(by_seed)} of {len(by_seed)})"
    keys = ("test_error", "test_error_best", "test_error_mc")
    return " / ".join(summary([100 * record[key] for record in good], "{:.2f}") for key in keys)


def _counts(groups: Groups, columns: list[str], row: str) -> str:
    counts = []
    for column in columns:
        by_seed = groups.get((column, row), {})
        diverged = sum(bool(record["diverged"]) for record in by_seed.values())
        counts.append(str(len(by_seed) - diverged) + (f" (+{diverged} diverged)" if diverged else ""))
    return ", ".join(counts) if len(set(counts)) > 1 else counts[0]
