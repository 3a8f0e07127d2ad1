"""Conclusions of an original study, and whether our records support them: paired differences with standard errors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from pyro_vd.experiments.common.store import Run
from pyro_vd.experiments.common.tables import Table

__all__ = ["Claim", "conclusions_table", "decide", "error_percent", "pair_groups"]

CONFIDENCE = 0.95
Found = Mapping[str, Sequence[Run]]
"""Row -> its runs."""


def error_percent(run: Run) -> float:
    """The test error after the last epoch, in percent."""
    return 100 * float(run["test_error"])


@dataclass(frozen=True)
class Claim:
    """A conclusion about two groups of rows.

    Attributes:
        text: the conclusion, as a sentence.
        first, second: the rows. A group's number is the mean over its rows; that of no rows is 0.
        relation: "less" if the first number is claimed to be less than the second, "same" if the claim is that they
            differ by less than ``margin``.
        number: of a run; by default the test error in percent.
        margin: of "same", in the unit of ``number``.
    """

    text: str
    first: tuple[str, ...]
    second: tuple[str, ...] = ()
    relation: Literal["less", "same"] = "less"
    number: Callable[[Run], float] = error_percent
    margin: float = 0.5


def conclusions_table(
    claims: Sequence[Claim], columns: Sequence[Found], title: str = "Conclusions of the original"
) -> Table | None:
    """A line per claim with the mean of the first group minus the second, its standard error, and the answer.

    The pairs are the seeds of each column; those of all columns are pooled.

    Args:
        claims: the conclusions.
        columns: row -> runs, for every column of the study.
        title: of the table.

    Returns:
        The table; None if no claim has a pair.
    """
    rows = []
    for claim in claims:
        differences = [one for found in columns for one in pair_groups(claim, found)]
        if differences:
            rows.append((claim.text, _describe(differences), str(len(differences)), decide(differences, claim)))
    header = ("conclusion", "difference", "pairs", "holds here")
    return Table(f"{title}; differences with standard errors, paired by seed", header, tuple(rows)) if rows else None


def pair_groups(claim: Claim, found: Found) -> list[float]:
    """First minus second, for every seed with a finished run of every row of the claim."""
    by_seed = [
        {run.spec.seed: claim.number(run) for run in found.get(row, ()) if not run.diverged}
        for row in (*claim.first, *claim.second)
    ]
    seeds = sorted(set.intersection(*map(set, by_seed)))
    first, second = by_seed[: len(claim.first)], by_seed[len(claim.first) :]
    return [_mean(first, seed) - _mean(second, seed) for seed in seeds]


def decide(differences: Sequence[float], claim: Claim) -> str:
    """The answer by the 95 % interval of the mean difference (Student's t).

    Example:
        >>> decide([-1.0, -1.1, -0.9], Claim("a is better", ("a",), ("b",)))
        'yes'
        >>> decide([-1.0, 1.0, 0.5], Claim("a is better", ("a",), ("b",)))
        'not decided'
    """
    low, high = _interval(differences)
    if low == high == 0:
        return "no, equal" if claim.relation == "less" else "yes, equal"
    if claim.relation == "same":
        within, beyond = -claim.margin < low and high < claim.margin, low > 0 or high < 0
        return f"yes, within {claim.margin:g}" if within else "no" if beyond else "not decided"
    return "yes" if high < 0 else "no, the reverse" if low > 0 else "not decided"


def _mean(numbers: Sequence[Mapping[int, float]], seed: int) -> float:
    return statistics.fmean(by_seed[seed] for by_seed in numbers) if numbers else 0.0


def _interval(differences: Sequence[float]) -> tuple[float, float]:
    """Of one pair, everything; of equal differences, that number."""
    if len(differences) < 2:
        return -math.inf, math.inf
    mean, error = statistics.fmean(differences), _standard_error(differences)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1) * error
    return mean - half, mean + half


def _standard_error(differences: Sequence[float]) -> float:
    return statistics.stdev(differences) / math.sqrt(len(differences))


def _describe(differences: Sequence[float]) -> str:
    mean = f"{statistics.fmean(differences):+z.2f}"
    return mean if len(differences) < 2 else f"{mean} ± {_standard_error(differences):.2f}"
