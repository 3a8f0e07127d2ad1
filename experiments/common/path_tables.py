"""Tables of experiments.dessilbi: accuracy beside the original's, pruning at equal shares, and the conclusions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.accuracy_tables import make_title
from pyro_vd.experiments.common.conclusions import Claim, conclusions_table
from pyro_vd.experiments.common.path_measures import LAYERS, PATH_KEYS, SHARES
from pyro_vd.experiments.common.published import find
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, count_runs, percent

__all__ = ["CLAIMS", "LINES", "find_original", "make_tables", "pruned_errors"]

SOURCE = "DessiLBI exercise of the series"
LINES = {
    "DessiLBI, order of entry": ("DessiLBI", "path"),
    "DessiLBI, magnitude": ("DessiLBI", "magnitude"),
    "SGD, magnitude": ("SGD", "magnitude"),
    "sparse, log_alpha": ("sparse", "log_alpha"),
}
"""Line of the pruning tables -> the row of the runs, and the ranking."""
Found = Mapping[str, Sequence[Run]]


def make_tables(columns: Columns, store: Store) -> list[Table]:
    """For every column: accuracies, pruning of every group of layers, and the conclusions."""
    tables = []
    for column, rows in columns.items():
        found = find_runs(store, rows, PATH_KEYS)
        if not found:
            continue
        tables.append(_accuracy_table(column, found))
        tables += [_pruning_table(layers, found) for layers in LAYERS.get(column, ())]
        for title, claims in CLAIMS.get(column, {}).items():
            table = conclusions_table(claims, [found], title)
            tables += [table] if table else []
    return tables


def find_original(found: Found, method: str, setting: str = "") -> float | None:
    """The original's error, a fraction; None if it has none, or if the runs are on other data."""
    run = next(iter(found.values()))[0]
    dataset = run["dataset"].removesuffix(" (JPEG)")
    cells = find(source=SOURCE, network=run.spec.network, dataset=dataset, method=method, setting=setting)
    return cells[0].value if cells else None


def pruned_errors(runs: Sequence[Run], ranking: str, layers: str) -> list[list[float]]:
    """For every share, the errors of the finished runs."""
    curves = [run["pruned"][ranking][layers] for run in runs if not run.diverged]
    return [list(errors) for errors in zip(*curves, strict=True)]


def _accuracy(errors: Sequence[float | None]) -> str:
    return percent([1 - error for error in errors if error is not None])


def _accuracy_table(column: str, found: Found) -> Table:
    header = ("row", "accuracy %", "original", "best epoch", "support %", "accuracy % of the support", "n")
    rows = []
    for name, runs in found.items():
        good = [run for run in runs if not run.diverged]
        supports = [run["support"] for run in good if run["support"]]
        rows.append(
            (
                name,
                _accuracy([run["test_error"] for run in good]),
                _accuracy([find_original(found, name)]),
                _accuracy([run["test_error_best"] for run in good]),
                percent([support["share"] for support in supports], "{:.1f}"),
                _accuracy([support["error"] for support in supports]),
                count_runs(runs),
            )
        )
    return Table(make_title(column, [run for runs in found.values() for run in runs]), header, tuple(rows))


def _pruning_table(layers: str, found: Found) -> Table:
    """Accuracies; a row per share."""
    lines = {line: (row, ranking) for line, (row, ranking) in LINES.items() if row in found}
    curves = {line: pruned_errors(found[row], ranking, layers) for line, (row, ranking) in lines.items()}
    rows = [
        (
            f"{100 * share:g}",
            _accuracy([find_original(found, "DessiLBI", f"{layers}, {100 * share:g} %")]),
            *(_accuracy(curve[index]) if curve else "-" for curve in curves.values()),
        )
        for index, share in enumerate(SHARES)
    ]
    return Table(f"Accuracy % after pruning {layers}", ("pruned %", "original", *curves), tuple(rows))


def _loss(ranking: str, layers: str, share: float, less: tuple[str, str] | None = None) -> Callable[[Run], float]:
    """Points of accuracy that pruning costs; with ``less``, minus those of another ranking and group of layers."""

    def compute(run: Run) -> float:
        errors = run["pruned"][ranking][layers]
        cost = 100 * (errors[SHARES.index(share)] - errors[0])
        return cost - _loss(*less, share)(run) if less else cost

    return compute


BOTH, ONE = "conv3 and fc1", "conv3"
CLAIMS: dict[str, dict[str, tuple[Claim, ...]]] = {
    "lenet1998": {
        "Conclusions of the original": (
            Claim("DessiLBI is less accurate than SGD", ("SGD",), ("DessiLBI",)),
            Claim("DessiLBI with Adam is more accurate than SGD", ("DessiLBI, Adam",), ("SGD",)),
            Claim("30 % of conv3 can be pruned", ("DessiLBI",), relation="same", number=_loss("path", ONE, 0.3)),
            Claim("30 % of conv3 and of fc1 can be", ("DessiLBI",), relation="same", number=_loss("path", BOTH, 0.3)),
            Claim("60 % of conv3 cannot", (), ("DessiLBI",), number=_loss("path", ONE, 0.6)),
            Claim(
                "60 % of fc1 costs little on top of that", ("DessiLBI",),
                relation="same", margin=1.0, number=_loss("path", BOTH, 0.6, less=("path", ONE)),
            ),
        ),
        "Beside the original": (
            Claim(
                "60 % of conv3 costs less by order of entry than by magnitude", ("DessiLBI",),
                number=_loss("path", ONE, 0.6, less=("magnitude", ONE)),
            ),
        ),
    },
    "vgg": {
        "Conclusions of the original": (
            Claim("DessiLBI with Adam is more accurate than DessiLBI", ("DessiLBI, Adam",), ("DessiLBI",)),
        ),
    },
}  # fmt: skip
"""Network -> title of a table -> its claims."""
