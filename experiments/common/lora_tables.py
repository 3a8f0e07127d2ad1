"""Tables of experiments.lora_ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from pyro_vd.experiments.common.conclusions import Claim, conclusions_table
from pyro_vd.experiments.common.lora_runs import KEYS, LoraSpec
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, count_runs, ratio, summary

__all__ = ["find_rows", "make_tables"]

SCORES = {"error": ("error %", 100, "{:.2f}"), "expected_calibration_error": ("ECE %", 100, "{:.2f}"),
          "nll": ("NLL", 1, "{:.4f}")}  # fmt: skip
MARGIN = 0.3  # percent of the messages, for "as few errors"


def find_rows(rows: Mapping[str, LoraSpec], store: Store) -> dict[str, list[Run]]:
    """Row -> its runs with any seed, for the rows that have any."""
    found = {name: store.seeds(spec, KEYS) for name, spec in rows.items()}
    return {name: runs for name, runs in found.items() if runs}


def make_tables(rows: Mapping[str, LoraSpec], store: Store) -> list[Table]:
    """Scores of the saved adapter with its size, scores of weight draws, and what differs from the full adapter."""
    found = find_rows(rows, store)
    tables = [_adapter_table(found), _draws_table(found), conclusions_table(_make_claims(rows), [found], TITLE)]
    return [table for table in tables if table is not None and table.rows]


TITLE = "Pruned adapters against rank 16 without noise"


def _adapter_table(found: Mapping[str, Sequence[Run]]) -> Table:
    header = ("row", *(name for name, _, _ in SCORES.values()), "ranks", "fewer weights", "KiB", "n")
    lines = [(name, *_describe(runs)) for name, runs in found.items()]
    return Table("The adapter that is saved; pruned ones begin with rank 16", header, tuple(lines))


def _describe(runs: Sequence[Run]) -> tuple[str, ...]:
    good = [run for run in runs if not run.diverged]
    fewer = [run["rank_parameters_before"] / run["rank_parameters"] if run["rank_parameters"] else None for run in good]
    return (
        *_scores(good, "adapter"),
        summary([sum(run["ranks"].values()) for run in good], "{:.0f}"),
        ratio(fewer),
        f"{fmean(run['adapter_bytes'] for run in good) / 1024:.0f}" if good else "-",
        count_runs(runs),
    )


def _draws_table(found: Mapping[str, Sequence[Run]]) -> Table:
    header = ("row", *(name for name, _, _ in SCORES.values()), "draws")
    lines = [
        (name, *_scores(runs, "draws"), str(runs[0].spec.num_samples))
        for name, runs in found.items()
        if any(run["draws"] for run in runs)
    ]
    return Table("The average over weight draws of the ranks that are left", header, tuple(lines))


def _scores(runs: Sequence[Run], kind: str) -> tuple[str, ...]:
    measured = [run[kind] for run in runs if run[kind]]
    return tuple(
        summary([factor * scores[key] for scores in measured], form) for key, (_, factor, form) in SCORES.items()
    )


def _make_claims(rows: Mapping[str, LoraSpec]) -> list[Claim]:
    """That pruned adapters make about as many errors, and are better calibrated, each by the saved adapter."""
    full = max((name for name, spec in rows.items() if spec.fit.threshold is None), key=lambda name: rows[name].rank)
    claims = []
    for name, spec in rows.items():
        if spec.fit.threshold is None:
            continue
        claims += [
            Claim(f"{name}: as few errors, %", (name,), (full,), "same", _number("error"), MARGIN),
            Claim(f"{name}: lower ECE, %", (name,), (full,), "less", _number("expected_calibration_error")),
        ]
    return claims


def _number(key: str) -> Callable[[Run], float]:
    return lambda run: 100 * float(run["adapter"][key])
