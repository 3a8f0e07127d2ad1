"""The tables of experiments.uncertainty, from its records and the test examples' log scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.tables import counted, grouped, kind_of_device, summary, to_markdown
from torch import Tensor

from pyro_vd.diagnostics import ModelRank, compare

__all__ = ["groups", "tables"]

ANSWERED = "90"  # percent


def groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records that belong into one table: of one network, dataset, length and device."""

    def name(record: Record) -> str:
        return f"{record['column']}, {record['dataset']}, {record['epochs']} epochs, {kind_of_device(record)}"

    return grouped(records, name)


def tables(records: Sequence[Record], log_scores: Mapping[str, Tensor]) -> str:
    """For every group: scores and calibration, the best log score first, then doubt.

    Args:
        log_scores: of the test examples, by the record's file.
    """
    return "\n\n".join(
        f"{name}:\n\n{to_markdown(_scores(group, log_scores))}\n\n{to_markdown(_doubts(group))}"
        for name, group in groups(records).items()
    )


def _scores(records: Sequence[Record], log_scores: Mapping[str, Tensor]) -> list[tuple[str, ...]]:
    header = (
        "scheme", "error %, mean", "draws", "NLL, mean", "draws", "Brier, draws", "calibration error %, mean", "draws",
        "elpd behind the best ± over test images", "n",
    )  # fmt: skip
    rows = _rows(records)
    means = {row: _mean_scores(group, log_scores) for row, group in rows.items()}
    held = {row: scores for row, scores in means.items() if scores is not None}
    ranks = {rank.name: rank for rank in compare(held)} if held else {}
    order = sorted(rows, key=lambda row: _mean_nll(rows[row]))
    return [header, *(_score(row, rows[row], ranks.get(row)) for row in order)]


def _score(row: str, group: Sequence[Record], rank: ModelRank | None) -> tuple[str, ...]:
    good = [record for record in group if not record["diverged"]]
    cells = []
    for key, kinds, factor, form in (
        ("error", ("mean", "draws"), 100, "{:.2f}"),
        ("nll", ("mean", "draws"), 1, "{:.4f}"),
        ("brier", ("draws",), 1, "{:.4f}"),
        ("calibration_error", ("mean", "draws"), 100, "{:.2f}"),
    ):
        for kind in kinds:
            cells.append(summary([factor * record[kind][key] for record in good if record[kind]], form))
    behind = f"{rank.elpd_diff:.0f} ± {rank.dse:.0f}" if rank else "-"
    return (row, *cells, behind, counted(group))


def _doubts(records: Sequence[Record]) -> list[tuple[str, ...]]:
    outsiders = list(dict.fromkeys(name for record in records for name in record["auroc"] or ()))
    header = (
        "scheme", "entropy on the test set, nats", "its epistemic part",
        *(f"AUROC {name}, {part}" for name in outsiders for part in ("entropy", "epistemic part")),
        f"error % of the surest {ANSWERED} %", "entropy at 90 degrees", "error % there", "n",
    )  # fmt: skip
    return [header, *(_doubt(row, group, outsiders) for row, group in _rows(records).items())]


def _doubt(row: str, group: Sequence[Record], outsiders: Sequence[str]) -> tuple[str, ...]:
    good = [record for record in group if not record["diverged"]]
    noisy = [record for record in good if record["doubt"]["epistemic"] > 0]  # one draw has no epistemic part
    turned = [next(point for point in record["turned"] if point["angle"] == 90) for record in good]
    cells = [summary([record["doubt"]["total"] for record in good], "{:.4f}"),
             summary([record["doubt"]["epistemic"] for record in noisy], "{:.4f}")]  # fmt: skip
    for name in outsiders:
        for part, those in (("total", good), ("epistemic", noisy)):
            areas = [record["auroc"][name][part] for record in those if name in record["auroc"]]
            cells.append(summary(areas, "{:.3f}"))
    cells.append(summary([100 * record["rejected"][ANSWERED] for record in good], "{:.2f}"))
    cells += [summary([point["entropy"] for point in turned], "{:.3f}"),
              summary([100 * point["error"] for point in turned], "{:.1f}")]  # fmt: skip
    return (row, *cells, counted(group))


def _rows(records: Sequence[Record]) -> dict[str, list[Record]]:
    return grouped(records, lambda record: record["row"])


def _mean_scores(group: Sequence[Record], log_scores: Mapping[str, Tensor]) -> Tensor | None:
    """Each example's log score, averaged over seeds; None unless every run has left its own."""
    files = [record["file"] for record in group if not record["diverged"]]
    if not files or any(file not in log_scores for file in files):
        return None
    return torch.stack([log_scores[file] for file in files]).mean(0)


def _mean_nll(group: Sequence[Record]) -> float:
    found: list[Any] = [record["draws"]["nll"] for record in group if not record["diverged"]]
    return sum(found) / len(found) if found else float("inf")
