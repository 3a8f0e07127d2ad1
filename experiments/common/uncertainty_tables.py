"""The tables of experiments.uncertainty, from its records and the test examples' log scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_vd.diagnostics import ModelRank, compare
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.tables import count_runs, device_kind, group_by, summary, to_markdown

__all__ = ["groups", "tables"]

COVERAGE = "90"  # percent


def groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by table: one network, dataset, number of epochs and device each."""

    def name(record: Record) -> str:
        return f"{record['column']}, {record['dataset']}, {record['epochs']} epochs, {device_kind(record)}"

    return group_by(records, name)


def tables(records: Sequence[Record], log_scores: Mapping[str, Tensor]) -> str:
    """For every group: a table of scores and calibration, best log score first, and a table of uncertainty.

    Args:
        log_scores: of the test examples, by the record's file.
    """
    return "\n\n".join(
        f"{name}:\n\n{to_markdown(_score_table(group, log_scores))}\n\n{to_markdown(_uncertainty_table(group))}"
        for name, group in groups(records).items()
    )


def _score_table(records: Sequence[Record], log_scores: Mapping[str, Tensor]) -> list[tuple[str, ...]]:
    header = (
        "scheme", "error %, mean", "draws", "NLL, mean", "draws", "Brier, draws", "calibration error %, mean", "draws",
        "elpd behind the best ± over test images", "n",
    )  # fmt: skip
    rows = _by_row(records)
    means = {row: _mean_scores(group, log_scores) for row, group in rows.items()}
    held = {row: scores for row, scores in means.items() if scores is not None}
    ranks = {rank.name: rank for rank in compare(held)} if held else {}
    order = sorted(rows, key=lambda row: _mean_nll(rows[row]))
    return [header, *(_score_row(row, rows[row], ranks.get(row)) for row in order)]


def _score_row(row: str, group: Sequence[Record], rank: ModelRank | None) -> tuple[str, ...]:
    good = [record for record in group if not record["diverged"]]
    cells = []
    for key, kinds, factor, form in (
        ("error", ("mean", "draws"), 100, "{:.2f}"),
        ("nll", ("mean", "draws"), 1, "{:.4f}"),
        ("brier", ("draws",), 1, "{:.4f}"),
        ("expected_calibration_error", ("mean", "draws"), 100, "{:.2f}"),
    ):
        for kind in kinds:
            cells.append(summary([factor * record[kind][key] for record in good if record[kind]], form))
    behind = f"{rank.elpd_diff:.0f} ± {rank.dse:.0f}" if rank else "-"
    return (row, *cells, behind, count_runs(group))


def _uncertainty_table(records: Sequence[Record]) -> list[tuple[str, ...]]:
    ood_datasets = list(dict.fromkeys(name for record in records for name in record["auroc"] or ()))
    header = (
        "scheme", "entropy on the test set, nats", "its epistemic part",
        *(f"AUROC {name}, {part}" for name in ood_datasets for part in ("entropy", "epistemic part")),
        f"error % of the surest {COVERAGE} %", "entropy at 90 degrees", "error % there", "n",
    )  # fmt: skip
    return [header, *(_uncertainty_row(row, group, ood_datasets) for row, group in _by_row(records).items())]


def _uncertainty_row(row: str, group: Sequence[Record], ood_datasets: Sequence[str]) -> tuple[str, ...]:
    good = [record for record in group if not record["diverged"]]
    noisy = [record for record in good if record["uncertainty"]["epistemic"] > 0]  # one draw has no epistemic part
    turned = [next(point for point in record["rotated"] if point["angle"] == 90) for record in good]
    cells = [summary([record["uncertainty"]["total"] for record in good], "{:.4f}"),
             summary([record["uncertainty"]["epistemic"] for record in noisy], "{:.4f}")]  # fmt: skip
    for name in ood_datasets:
        for part, those in (("total", good), ("epistemic", noisy)):
            areas = [record["auroc"][name][part] for record in those if name in record["auroc"]]
            cells.append(summary(areas, "{:.3f}"))
    cells.append(summary([100 * record["risk_coverage"][COVERAGE] for record in good], "{:.2f}"))
    cells += [summary([point["entropy"] for point in turned], "{:.3f}"),
              summary([100 * point["error"] for point in turned], "{:.1f}")]  # fmt: skip
    return (row, *cells, count_runs(group))


def _by_row(records: Sequence[Record]) -> dict[str, list[Record]]:
    return group_by(records, lambda record: record["row"])


def _mean_scores(group: Sequence[Record], log_scores: Mapping[str, Tensor]) -> Tensor | None:
    """The log score of each example, averaged over seeds; None unless those of every run are stored."""
    files = [record["file"] for record in group if not record["diverged"]]
    if not files or any(file not in log_scores for file in files):
        return None
    return torch.stack([log_scores[file] for file in files]).mean(0)


def _mean_nll(group: Sequence[Record]) -> float:
    found: list[Any] = [record["draws"]["nll"] for record in group if not record["diverged"]]
    return sum(found) / len(found) if found else float("inf")
