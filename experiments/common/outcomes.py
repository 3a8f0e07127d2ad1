"""What came out of runs in compression: a sentence and a few numbers for every network and dataset, and the outcomes
that a reader must not take for results."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pyro_vd import guides
from pyro_vd.experiments.common.compression_tables import group_panels, group_runs, network_name
from pyro_vd.experiments.common.store import Run
from pyro_vd.experiments.common.tables import percent

__all__ = ["Headline", "describe_failures", "headlines"]

NETWORK_TITLES = {"lenet300": "LeNet-300-100", "lenet5": "LeNet-5"}
TOLERANCE = 0.005  # how much more error than the lowest the chosen result may have
PAGE = "docs/how_to/everything_or_nothing_was_pruned.md"
MUCH_ERROR = 0.2  # above the lowest error of the network on the data
LITTLE_COMPRESSION = 1.05
PRUNING = tuple(name for name, scheme in guides.SCHEMES.items() if scheme.defaults.threshold is not None)


@dataclass(frozen=True)
class Headline:
    """What came out for one network on one dataset.

    Attributes:
        sentence: the result.
        numbers: value and meaning of the most important numbers.
        choice: why this result of several; empty if there is only one.
        runs: of this result, one per seed.
    """

    sentence: str
    numbers: tuple[tuple[str, str], ...]
    choice: str
    runs: tuple[Run, ...]


def headlines(runs: Sequence[Run]) -> list[Headline]:
    """One for every network and dataset: its smallest network among those whose error is about the lowest."""
    return [_make_headline(those) for those in group_panels(runs).values()]


def _make_headline(runs: Sequence[Run]) -> Headline:
    first = runs[0]
    name = first.spec.network if ":" in first.spec.network else network_name(first)
    where = f"{NETWORK_TITLES.get(name, name)} on {first['dataset']}"
    groups = [good for group in group_runs(runs) if (good := [run for run in group if not run.diverged])]
    if not groups:
        return Headline(f"{where}: every run diverged.", (), "", tuple(runs))
    lowest = min(map(_error, groups))
    near = [group for group in groups if _error(group) <= lowest + TOLERANCE]
    best = max(near, key=_compression)
    choice = (
        f"Of {len(groups)} results, this is the smallest network whose error is at most {100 * TOLERANCE:g} points "
        f"above the lowest, {100 * lowest:.2f} %."
    )
    seeds = f", mean of {len(best)} runs" if len(best) > 1 else ""
    if _compression(best) == 1 and len(groups) > 1:
        sentence = (
            f"{where}: no pruned network is within {100 * TOLERANCE:g} points of the lowest error, "
            f"{100 * lowest:.2f} % ({min(groups, key=_error)[0].spec.method})."
        )
        return Headline(sentence, tuple(_numbers(best, groups)), "", tuple(best))
    return Headline(
        sentence=f"{where} keeps {_kept(best)} at {100 * _error(best):.2f} % error ({best[0].spec.method}{seeds}).",
        numbers=tuple(_numbers(best, groups)),
        choice=choice if len(groups) > 1 else "",
        runs=tuple(best),
    )


def _error(group: Sequence[Run]) -> float:
    return statistics.mean(run["test_error"] for run in group)


def _compression(group: Sequence[Run]) -> float:
    """The mean; 0 for an empty network, which is no result to show."""
    ratios = [run["compression"] for run in group]
    return 0.0 if None in ratios else statistics.mean(ratios)


def _kept(group: Sequence[Run]) -> str:
    ratio = _compression(group)
    if ratio == 0:
        return "no weight"
    return "all weights" if ratio == 1 else f"1 of {_short(ratio)} weights"


def _short(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def _numbers(best: Sequence[Run], groups: Sequence[Sequence[Run]]) -> list[tuple[str, str]]:
    first = best[0]
    numbers = [
        (f"{_short(_compression(best))}x", f"weights / non-zero weights, of {first['weights']:,}"),
        (f"{percent([run['test_error'] for run in best])} %", "test error"),
    ]
    dense = [run for group in groups for run in group if run.spec.method == "none"]
    if "test_error_dense" in first.record:
        numbers.append((f"{100 * first['test_error_dense']:.2f} %", "error of the network before"))
    elif dense and first.spec.method != "none":
        numbers.append((f"{percent([run['test_error'] for run in dense])} %", "error without pruning (none)"))
    costs = [run["deployment"] for run in best if "deployment" in run.record]
    if costs:
        size = statistics.mean(cost["forms"]["float32"]["bytes"] for cost in costs)
        numbers.append((_bytes(size), f"file, from {_bytes(costs[0]['dense_bytes'])}"))
    return numbers


def _bytes(count: float) -> str:
    return f"{count / 1000:,.0f} kB" if count >= 10_000 else f"{count / 1000:.1f} kB"


def describe_failures(runs: Sequence[Run]) -> list[str]:
    """A sentence for every row of the tables that has far more error than another row of its network and data, or,
    trained by a scheme that prunes, nearly all its weights."""
    panels = group_panels([run for run in runs if not run.diverged])
    return [line for those in panels.values() for line in _describe_panel(those)]


def _describe_panel(runs: Sequence[Run]) -> list[str]:
    groups = [(group[0].spec.method, _error(group), group) for group in group_runs(runs)]
    known = [(error, method) for method, error, _ in groups]
    known += [(run["test_error_dense"], "the network before") for run in runs if "test_error_dense" in run.record]
    lowest, best = min(known)
    lines = []
    for method, error, group in groups:
        if error > lowest + MUCH_ERROR:
            lines.append(
                f"{method} has {100 * error:.2f} % error, {best} has {100 * lowest:.2f} %: "
                f"too few epochs or too much KL; see {PAGE}"
            )
        elif method in PRUNING and all(run["compression"] and run["compression"] < LITTLE_COMPRESSION for run in group):
            lines.append(f"{method} pruned hardly any weight: too few epochs or too little KL; see {PAGE}")
    return lines
