"""The generated blocks of the README: the result in four rows, and how long each table takes."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress, pruning_baselines
from pyro_vd.experiments.common.protocols import compression_spec
from pyro_vd.experiments.common.published import MOLCHANOV, best_published, results
from pyro_vd.experiments.common.records import read_record
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.store import Run, committed
from pyro_vd.experiments.common.tables import Table, count_runs, percent, ratio, summary

__all__ = ["README", "fill_readme"]

README = Path(__file__).parents[1] / "README.md"
NETWORK, DATA = "lenet300", Data(name="mnist")
SPARSITY = 0.991  # of the baseline, about the compression of sparse
STUDIES = {
    "mnist_compress": "compression",
    "pruning_baselines": "magnitude pruning, lottery ticket",
    "ablation": "what makes the difference",
    "tuning": "equal tuning of the methods",
    "mnist_accuracy": "figure 1 of Kingma et al. 2015",
    "gradient_variance": "table 1 of Kingma et al. 2015",
    "cifar_accuracy": "every scheme on CIFAR-10",
    "uncertainty": "calibration, out of distribution",
    "random_labels": "shuffled labels",
    "prior_swap": "one network, every prior",
    "linear_relevance": "closed forms, relevance vectors",
    "mixed_precision": "bfloat16 products",
}
"""Study -> what its table is about, in the README's order."""


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
    """Ours, the paper, the best published, and magnitude pruning, on LeNet-300-100."""
    ours = committed(mnist_compress.STUDY).seeds(
        compression_spec(mnist_compress.MOLCHANOV, "sparse", DATA, NETWORK, num_samples=20)
    )
    baseline = pruning_baselines.make_spec(pruning_baselines.Args(), DATA.name, "magnitude", SPARSITY)
    pruned = committed(pruning_baselines.STUDY).seeds(baseline)
    header = ("", "error %", "compression", "non-zero", "bytes, int8 file", "minutes", "n")
    rows = (
        ("`sparse`, the first command", *_describe(ours)),
        _describe_paper(),
        _describe_best(),
        ("magnitude pruning, tuned", *_describe(pruned)),
    )
    return Table("", header, rows).markdown() + "\n\n" + _name_sources()


def _describe(runs: Sequence[Run]) -> tuple[str, ...]:
    bytes_of = [run["deployment"]["forms"]["int8"]["bytes"] for run in runs]
    return (
        percent([run["test_error"] for run in runs]),
        ratio([run["compression"] for run in runs]),
        summary([run["nonzero"] for run in runs], "{:,.0f}"),
        summary(bytes_of, "{:,.0f}"),
        f"{statistics.mean(run['seconds'] for run in runs) / 60:.0f}",
        count_runs(runs),
    )


def _describe_paper() -> tuple[str, ...]:
    (paper,) = results(dataset="mnist", network=NETWORK, method="sparse", source=MOLCHANOV)
    return ("the paper", f"{100 * paper.values['error']:.2f}", f"{paper.values['compression']:g}x", "-", "-", "-", "-")


def _describe_best() -> tuple[str, ...]:
    smallest = best_published("mnist", NETWORK, quantity="bytes")
    sparsest = best_published("mnist", NETWORK)
    assert smallest is not None
    assert sparsest is not None
    error = f"{100 * smallest.values['error']:.1f}"
    return ("best published", error, f"{sparsest.values['compression']:g}x", "-", f"{smallest.values['bytes']:,.0f}",
            "-", "-")  # fmt: skip


def _name_sources() -> str:
    smallest, sparsest = (best_published("mnist", NETWORK, quantity=name) for name in ("bytes", "compression"))
    assert smallest is not None
    assert sparsest is not None
    said = (
        f"an error of {100 * sparsest.values['error']:.1f} %" if "error" in sparsest.values else "no loss of accuracy"
    )
    return (
        f"Paper: {MOLCHANOV}. Best published: bytes and error of {smallest.source}\n"
        f"({smallest.method}); compression of {sparsest.source}\n({sparsest.method}), which claims {said}."
    )


def make_reproduce() -> str:
    """What the table is about with a link to its page, the study, and the mean minutes of a run by its records."""
    rows = []
    for study, topic in STUDIES.items():
        runs = committed(study).folder.glob("*.json")
        seconds = [_read_seconds(path) for path in runs]
        known = [one for one in seconds if one is not None]
        minutes = f"{statistics.mean(known) / 60:.1f}" if known else "-"
        rows.append((f"[{topic}](experiments/results/{study})", f"`{study}`", minutes))
    return Table("", ("table", "name", "minutes"), tuple(rows)).markdown()


def _read_seconds(path: Path) -> float | None:
    return read_record(path).get("seconds")
