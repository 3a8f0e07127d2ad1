"""The generated blocks of the README: the result in four rows, and how long each table takes."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress, pruning_baselines
from pyro_vd.experiments.common.protocols import compression_spec
from pyro_vd.experiments.common.published import MOLCHANOV, Result, best_published, results
from pyro_vd.experiments.common.records import read_record
from pyro_vd.experiments.common.spec import Data, Spec
from pyro_vd.experiments.common.store import Run, committed
from pyro_vd.experiments.common.tables import Table, count_runs, percent, ratio, summary

__all__ = ["README", "fill_readme"]

README = Path(__file__).parents[1] / "README.md"
NETWORK, DATA = "lenet300", Data(name="mnist")
LABELS = {"paper": "the paper", "compression": "most compressed", "bytes": "smallest file"}
SPARSITY = 0.991  # of the baseline, about the compression of sparse
STUDIES = {
    "mnist_compress": "compression",
    "cifar_reference": "the reference's CIFAR-10 tables",
    "uncertainty": "calibration, out of distribution",
    "uci": "UCI regression, against published tables",
    "lora_ranks": "ranks of LoRA adapters",
    "digit_recognizer": "a network from a package",
}
"""Study -> what its table is about. The page of the results lists all studies; one without records is left out."""


def fill_readme(text: str) -> str:
    """The README with its generated blocks made anew.

    Raises:
        UserError: if a block's markers are missing.
    """
    for name, block in {"result": make_result(), "reproduce": make_reproduce()}.items():
        found = re.search(rf"<!-- {name}: [^>]*-->\n(.*?)<!-- end -->", text, flags=re.DOTALL)
        if not found:
            raise UserError(f"{README} has no block <!-- {name}: ... --> ... <!-- end -->")
        text = f"{text[: found.start(1)]}{block}\n{text[found.end(1) :]}"
    return text


def make_result() -> str:
    """Ours, baselines with equal tuning, and published results on LeNet-300-100."""
    ours, baselines = committed(mnist_compress.STUDY), committed(pruning_baselines.STUDY)
    pretrained = {"kl_weight": 1.25, "pretrain": 30, "epochs": 100}
    rows = [
        ("`sparse`, 200 epochs", *_describe(ours.seeds(_make_sparse({})))),
        ("`sparse`, 30 + 100 epochs", *_describe(ours.seeds(_make_sparse(pretrained)))),
        ("magnitude pruning, 30 + 100", *_describe(baselines.seeds(_make_baseline("magnitude")))),
        ("lottery ticket, 130", *_describe(baselines.seeds(_make_baseline("lottery", lr=2e-3)))),
        *(_describe_published(name, entry) for name, entry in _find_published().items()),
    ]
    header = ("", "error %", "compression", "bytes of the file", "minutes", "n")
    return Table("", header, tuple(rows)).markdown() + "\n\n" + _name_sources()


def _make_sparse(changes: Mapping[str, Any]) -> Spec:
    return compression_spec(mnist_compress.MOLCHANOV, "sparse", DATA, NETWORK, changes=changes)


def _make_baseline(method: str, **changes: Any) -> Spec:
    return pruning_baselines.make_spec(pruning_baselines.Args(**changes), DATA.name, method, SPARSITY)


def _describe(runs: Sequence[Run]) -> tuple[str, ...]:
    good = [run for run in runs if not run.diverged]
    files = [run["deployment"]["forms"]["int8"] for run in good if "deployment" in run.record]
    return (
        percent([run["test_error"] for run in good]),
        ratio([run["compression"] for run in good]),
        summary([file["bytes"] for file in files], "{:,.0f}"),
        f"{statistics.median(run['seconds'] for run in runs) / 60:.0f}",
        count_runs(runs),
    )


def _find_published() -> dict[str, Result]:
    """The paper's result, and those of highest compression and of fewest bytes."""
    (paper,) = results(dataset="mnist", network=NETWORK, method="sparse", source=MOLCHANOV)
    found = {name: best_published("mnist", NETWORK, quantity=name) for name in ("compression", "bytes")}
    return {"paper": paper} | {name: result for name, result in found.items() if result is not None}


def _describe_published(name: str, entry: Result) -> tuple[str, ...]:
    values = entry.values
    return (
        f"published: {LABELS[name]}",
        f"{100 * values['error']:.4g}" if "error" in values else "-",
        f"{values['compression']:g}x" if "compression" in values else "-",
        f"{values['bytes']:,.0f}" if "bytes" in values else "-",
        "-",
        "-",
    )


def _name_sources() -> str:
    """The sources of the published rows, with what a reader must know before a comparison."""
    lines = []
    for name, entry in _find_published().items():
        note = next((cell.note for cell in entry.cells if cell.note), "")
        told = f"- {LABELS[name].capitalize()}: {entry.source}, {entry.method} ({entry.cells[0].place})"
        lines.append(fill(f"{told}; {note}." if note else f"{told}.", 118, subsequent_indent="  "))
    return "\n".join(lines)


def make_reproduce() -> str:
    """What the table is about with a link to its page, the study, and the median minutes of a run by its records."""
    rows = []
    for study, topic in STUDIES.items():
        seconds = [_read_seconds(path) for path in committed(study).folder.glob("*.json")]
        if not seconds:  # no page yet
            continue
        known = [one for one in seconds if one is not None]
        minutes = f"{statistics.median(known) / 60:.1f}" if known else "-"
        rows.append((f"[{topic}](experiments/results/{study})", f"`{study}`", minutes))
    return Table("", ("table", "name", "minutes"), tuple(rows)).markdown()


def _read_seconds(path: Path) -> float | None:
    return read_record(path).get("seconds")
