"""The tables of experiments.uncertainty, from its runs and the test examples' log scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from pyro_vd.diagnostics import ModelRank, compare
from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.accuracy_tables import make_title
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, count_runs, percent, summary

__all__ = ["make_tables"]

COVERAGE = "90"  # percent
ANGLE = 90  # degrees


def make_tables(columns: Columns, store: Store, required: tuple[str, ...]) -> list[Table]:
    """For every column: tables of scores, best log score first, of uncertainty, and of shifted images."""
    tables = []
    for rows in columns.values():
        found = find_runs(store, rows, required)
        if found:
            title = make_title(next(iter(rows.values())).network, [run for runs in found.values() for run in runs])
            data = next(iter(found.values()))[0]["dataset"]
            tables.append(_score_table(title, found))
            tables += [make(data, found) for make in (_calibration_table, _scaled_table, _ood_table, _shift_table)]
    return [table for table in tables if len(table.header) > 1 and table.rows]


def _score_table(title: str, found: Mapping[str, Sequence[Run]]) -> Table:
    header = ("scheme", "error %, mean", "draws", "NLL, mean", "draws", "elpd behind", "n")
    means = {row: _mean_scores(runs) for row, runs in found.items()}
    held = {row: scores for row, scores in means.items() if scores is not None}
    ranks = {rank.name: rank for rank in compare(held)} if held else {}
    order = sorted(found, key=lambda row: _mean_nll(found[row]))
    title += "; elpd behind that of the best scheme ± standard error"
    return Table(title, header, tuple(_score_row(row, found[row], ranks.get(row)) for row in order))


def _score_row(row: str, runs: Sequence[Run], rank: ModelRank | None) -> tuple[str, ...]:
    good = _good(runs)
    cells = []
    for key, factor, form in (("error", 100, "{:.2f}"), ("nll", 1, "{:.4f}")):
        for kind in ("mean", "draws"):
            cells.append(summary([factor * run[kind][key] for run in good if run[kind]], form))
    behind = f"{rank.elpd_diff:.0f} ± {rank.dse:.0f}" if rank else "-"
    return (row, *cells, behind, count_runs(runs))


def _calibration_table(data: str, found: Mapping[str, Sequence[Run]]) -> Table:
    header = ("scheme", "ECE %, mean", "draws", "Brier, draws", "entropy, nats", "epistemic part")
    rows = []
    for row, runs in found.items():
        good = _good(runs)
        errors = [
            summary([100 * run[kind]["expected_calibration_error"] for run in good if run[kind]], "{:.2f}")
            for kind in ("mean", "draws")
        ]
        parts = [
            summary([run["uncertainty"][part] for run in those], "{:.4f}")
            for part, those in (("total", good), ("epistemic", _noisy(good)))
        ]
        rows.append((row, *errors, summary([run["draws"]["brier"] for run in good], "{:.4f}"), *parts))
    title = f"{data}: calibration (ECE: expected calibration error) and uncertainty on the test set"
    return Table(title, header, tuple(rows))


def _scaled_table(data: str, found: Mapping[str, Sequence[Run]]) -> Table:
    """Best log score of the draws first; without the rows whose records have no scaled predictions."""
    header = ("scheme", "NLL, mean", "draws", "ECE %, mean", "draws", "T, mean", "draws")
    scaled = {row: [run.record.get("scaled", {}) for run in _good(runs)] for row, runs in found.items()}
    held = {row: parts for row, parts in scaled.items() if parts and all(part.get("draws") for part in parts)}
    order = sorted(held, key=lambda row: fmean(part["draws"]["nll"] for part in held[row]))
    rows = []
    for row in order:
        cells = [
            summary([factor * part[kind][key] for part in held[row] if part.get(kind)], form)
            for key, factor, form in (("nll", 1, "{:.4f}"), ("expected_calibration_error", 100, "{:.2f}"))
            for kind in ("mean", "draws")
        ]
        by_kind = ([part[kind]["temperature"] for part in held[row] if part.get(kind)] for kind in ("mean", "draws"))
        rows.append((row, *cells, *(f"{fmean(found):.2f}" if found else "-" for found in by_kind)))
    return Table(f"{data}, after temperature scaling; T is the mean temperature", header, tuple(rows))


def _ood_table(data: str, found: Mapping[str, Sequence[Run]]) -> Table:
    datasets = list(dict.fromkeys(name for runs in found.values() for run in runs for name in run["auroc"] or ()))
    header = ("scheme", *(f"{name}, by the {part}" for name in datasets for part in ("entropy", "epistemic part")))
    rows = []
    for row, runs in found.items():
        good = _good(runs)
        cells = [
            summary([run["auroc"][name][part] for run in those if name in run["auroc"]], "{:.3f}")
            for name in datasets
            for part, those in (("total", good), ("epistemic", _noisy(good)))
        ]
        rows.append((row, *cells))
    return Table(f"{data}: AUROC of the detection of images out of distribution", header, tuple(rows))


def _noisy(runs: Sequence[Run]) -> list[Run]:
    """The runs with an epistemic part: one draw has none."""
    return [run for run in runs if run["uncertainty"]["epistemic"] > 0]


def _shift_table(data: str, found: Mapping[str, Sequence[Run]]) -> Table:
    header = ("scheme", f"error % of the surest {COVERAGE} %", f"entropy at {ANGLE} degrees, nats", "error % there")
    rows = []
    for row, runs in found.items():
        good = _good(runs)
        rotated = [next(point for point in run["rotated"] if point["angle"] == ANGLE) for run in good]
        rows.append((row, percent([run["risk_coverage"][COVERAGE] for run in good]),
                     summary([point["entropy"] for point in rotated], "{:.3f}"),
                     percent([point["error"] for point in rotated], "{:.1f}")))  # fmt: skip
    return Table(f"{data}: selective prediction and rotated images", header, tuple(rows))


def _good(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if not run.diverged]


def _mean_scores(runs: Sequence[Run]) -> Tensor | None:
    """The log score of each test example, averaged over seeds; None unless those of every run are stored."""
    paths = [run.beside(".npz") for run in _good(runs)]
    if not paths or not all(path.is_file() for path in paths):
        return None
    return torch.stack([_read_scores(path) for path in paths]).mean(0)


def _read_scores(path: Path) -> Tensor:
    with np.load(path) as stored:
        return torch.from_numpy(stored["log_score"]).double()


def _mean_nll(runs: Sequence[Run]) -> float:
    found = [run["draws"]["nll"] for run in _good(runs)]
    return sum(found) / len(found) if found else float("inf")
