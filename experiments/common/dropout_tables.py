"""Tables of experiments.dropout_exercises."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product

from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.accuracy_tables import interval, make_title
from pyro_vd.experiments.common.conclusions import Claim, conclusions_table, pair_groups
from pyro_vd.experiments.common.published import find
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, count_runs, percent, summary

__all__ = ["BASELINE", "CLAIMS", "LAYERS", "LEARNED", "RATES", "RATE_CLAIMS", "SOURCE", "SWAPPED", "make_tables"]

BASELINE, SWAPPED = "neither", "swapped rates"
LAYERS = {"fc2": "first", "fc3": "second"}
"""Layer -> the hidden layer that is its input."""
RATES = {"fc2": 0.2, "fc3": 0.5}
"""Layer -> the exercise's drop rate of its inputs."""
LEARNED = ("variational A", "concrete", "L0")
"""Beginnings of the names of the rows that learn their rates."""
RATE_MARGIN, LATE = 0.05, 10
SOURCE = "Dive into Deep Learning, exercises of the section Dropout: one solution"
ORIGINAL_NAMES = {"noise, std 0.01": "noise", "noise, std 0.1": "noise"}
Found = Mapping[str, Sequence[Run]]


def last(key: str, run: Run) -> float:
    """The number after the last epoch."""
    return float(run["history"][-1][key])


def largest(key: str, run: Run) -> float:
    """The largest number of all epochs."""
    return float(max(row[key] for row in run["history"]))


def late(key: str, run: Run) -> float:
    """The mean of a fraction over the last ten epochs, in percent: after single epochs it fluctuates."""
    return 100 * statistics.fmean(row[key] for row in run["history"][-LATE:])


TEST_ERROR, TRAIN_ERROR = partial(late, "error"), partial(late, "train_error")
CLAIMS = (
    *(
        Claim(text, (first,), (second,), number=number)
        for text, first, second, number in (
            ("Dropout has a lower test error than neither.", "dropout", BASELINE, TEST_ERROR),
            ("Neither has a lower training error than dropout.", BASELINE, "dropout", TRAIN_ERROR),
            ("Dropout has a lower test error than swapped rates.", "dropout", SWAPPED, TEST_ERROR),
            ("Dropout has a lower training error than swapped rates.", "dropout", SWAPPED, TRAIN_ERROR),
            ("Dropout has a lower test error than dropout and decay.", "dropout", "dropout and decay", TEST_ERROR),
            ("Neither has a lower test error than decay.", BASELINE, "decay", TEST_ERROR),
            ("Dropout has a lower test error than dropout of outputs.", "dropout", "dropout of outputs", TEST_ERROR),
            ("Noise of std 0.01 has a lower test error than dropout.", "noise, std 0.01", "dropout", TEST_ERROR),
            ("Noise of std 0.1 has a lower test error than dropout.", "noise, std 0.1", "dropout", TEST_ERROR),
            ("Gradients are smaller with dropout.", "dropout", BASELINE, partial(largest, "largest_gradient_norm")),
        )
    ),
    *(
        Claim(f"Dropout lowers the variance of the {name} hidden layer.", ("dropout",), (BASELINE,),
              number=partial(last, f"variance_{layer}"))
        for layer, name in LAYERS.items()
    ),
)  # fmt: skip
"""Of the original by its numbers, and what its exercises ask about gradients and variances."""
RATE_CLAIMS = tuple(
    Claim(f"{scheme} finds {RATES[layer]:g} after the {name} hidden layer.",
          (f"{scheme}, 0.05", f"{scheme}, 0.4"), relation="same", margin=RATE_MARGIN,
          number=lambda run, layer=layer: last(f"rate_{layer}", run) - RATES[layer])  # type: ignore[misc]
    for scheme, (layer, name) in product(LEARNED, LAYERS.items())
)  # fmt: skip


def make_tables(columns: Columns, store: Store, published: bool = True) -> list[Table]:
    """Errors of the rows, conclusions, errors by rate, learned rates, and what was measured by epoch.

    Args:
        columns: of the study.
        store: of its runs.
        published: whether the original numbers are of the same data.
    """
    found = {name: find_runs(store, rows) for name, rows in columns.items()}
    rows = found["rows"]
    learned = {row: runs for row, runs in rows.items() if row.startswith(LEARNED)}
    made = [
        _error_table(rows, published),
        conclusions_table(CLAIMS, [rows]),
        _sweep_table(found["first rate"], found["second rate"]),
        _rate_table(learned),
        conclusions_table(RATE_CLAIMS, [learned], f"Learned rates, to within {RATE_MARGIN}"),
        _gradient_table(rows),
        _variance_table(rows),
    ]
    return [table for table in made if table is not None and table.rows]


def _finished(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if not run.diverged]


def _errors(runs: Sequence[Run]) -> tuple[str, str]:
    """On the training and on the test set."""
    good = _finished(runs)
    return percent([run["train_error"] for run in good]), percent([run["test_error"] for run in good])


def _error_table(found: Found, published: bool) -> Table:
    rows = [
        (name, *_errors(runs), _summarize(runs, TEST_ERROR, "{:.2f}"), _compare(name, found), count_runs(runs),
         *([_find_original(name)] if published else []))
        for name, runs in found.items()
    ]  # fmt: skip
    header = ("row", "training %", "test %", f"last {LATE} %", f"minus {BASELINE} [95 %]", "n")
    title = make_title("Errors of 784-256-256-10", [run for runs in found.values() for run in runs])
    return Table(title, header + ("original %",) * published, tuple(rows))


def _compare(row: str, found: Found) -> str:
    """The difference of test errors from the baseline over the last epochs, in points."""
    return "-" if row == BASELINE else interval(pair_groups(Claim("", (row,), (BASELINE,), number=TEST_ERROR), found))


def _find_original(row: str) -> str:
    """Training and test error of the original row, one run; "-" if it has none."""
    cells = {cell.quantity: cell.value for cell in find(source=SOURCE, method=ORIGINAL_NAMES.get(row, row))}
    return "/".join(f"{100 * cells[key]:.2f}" for key in ("train_error", "error") if key in cells) or "-"


def _sweep_table(first: Found, second: Found) -> Table:
    def describe(runs: Sequence[Run]) -> tuple[str, ...]:
        return *_errors(runs), count_runs(runs)

    rates = dict.fromkeys([*first, *second])
    rows = [(rate, *describe(first.get(rate, ())), *describe(second.get(rate, ()))) for rate in rates]
    header = ("rate", "first rate: training error %", "test error %", "n", "second rate: training", "test", "n")
    title = f"One rate varies, the other one is {RATES['fc3']:g} (first) or {RATES['fc2']:g} (second)"
    return Table(title, header, tuple(rows))


def _rate_table(found: Found) -> Table:
    rows = [
        (name, *(_summarize(runs, partial(last, f"rate_{layer}"), "{:.3f}") for layer in LAYERS), _errors(runs)[1],
         count_runs(runs))
        for name, runs in found.items()
    ]  # fmt: skip
    fixed = " and ".join(f"{rate:g}" for rate in RATES.values())
    header = ("row", "rate after the first layer", "after the second", "test error %", "n")
    return Table(f"Learned rates beside the exercise's {fixed}", header, tuple(rows))


def _gradient_table(found: Found) -> Table:
    numbers = (lambda run: float(run["history"][0]["gradient_norm"]), partial(largest, "gradient_norm"),
               partial(last, "gradient_norm"))  # fmt: skip
    header = ("row", "after the first epoch", "largest of all epochs", "after the last epoch", "n")
    rows = [
        (name, *(_summarize(runs, number, "{:.2f}") for number in numbers), count_runs(runs))
        for name, runs in found.items()
    ]
    return Table("Norm of the gradient of the mean loss", header, tuple(rows))


def _variance_table(found: Found) -> Table:
    keys = [f"{kind}_{layer}" for layer in LAYERS for kind in ("variance", "noisy_variance")]
    rows = [(name, *(_summarize(runs, partial(last, key), "{:.2f}") for key in keys)) for name, runs in found.items()]
    header = ("row", "first layer", "noisy", "second layer", "noisy")
    return Table("Variance of the hidden units after the last epoch", header, tuple(rows))


def _summarize(runs: Sequence[Run], number: Callable[[Run], float], form: str) -> str:
    """Mean and standard deviation; "-" if the runs have no such number."""
    try:
        return summary([number(run) for run in _finished(runs)], form)
    except KeyError:
        return "-"
