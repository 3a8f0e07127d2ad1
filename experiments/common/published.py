"""Published compression results on MNIST: fractions, weights / non-zero weights, biases not counted."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.common.records import Record

__all__ = ["PUBLISHED", "Published", "published_beside"]

PAPER = "paper"
REFERENCE = "reference repository"


@dataclass(frozen=True)
class Published:
    """One published row. ``source`` is where the number stands."""

    network: str
    scheme: str
    kind: str
    error: float
    compression: float
    source: str


MOLCHANOV = "Molchanov et al. 2017, arXiv:1701.05369"
FORERUNNER = "lumosity4tpj/a-series-of-dropout"
PUBLISHED = (
    Published("lenet300", "none", PAPER, 0.0164, 1.0, MOLCHANOV),
    Published("lenet300", "sparse", PAPER, 0.0192, 68.0, MOLCHANOV),
    Published("lenet300", "sparse", REFERENCE, 0.0170, 46.25, FORERUNNER),
    Published("lenet300", "hierarchical", REFERENCE, 0.0173, 45.58, FORERUNNER),
    Published("lenet5", "none", PAPER, 0.0080, 1.0, MOLCHANOV),
    Published("lenet5", "sparse", PAPER, 0.0075, 280.0, MOLCHANOV),
    Published("lenet5", "sparse", REFERENCE, 0.0070, 61.39, FORERUNNER),
)


def published_beside(record: Record) -> list[Published]:
    """The published rows of the record's network; none for another dataset than theirs."""
    return [p for p in PUBLISHED if record["dataset"] == "mnist" and p.network == record["network"]]
