"""Numbers and tables of experiments.landscape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from pyro_vd.experiments.common.landscape_runs import KEYS, WITH, WITHOUT, LandscapeSpec, Rows
from pyro_vd.experiments.common.published import find
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, count_runs, percent, summary

__all__ = ["MEASURES", "Bands", "average_bands", "find_bands_along", "find_bands_between", "find_learning_rates",
           "find_rows", "find_schemes", "make_tables"]  # fmt: skip

MEASURES = {
    "loss": "loss, nats per example",
    "change": "change of the gradient, l2",
    "smoothness": "change / distance moved",
}
"""Measure -> its name with its unit."""
COLUMNS = {"change": "changes", "smoothness": "smoothness", "noise": "noise"}  # number -> entry of the points
CONCLUSIONS = {
    "the loss varies less along the gradient": "loss",
    "the gradient changes less": "change",
    "the change per distance moved is smaller": "smoothness",
    "the error is lower": "test_error",
}
"""What the paper says of batch normalization -> the number that is then smaller."""


def find_rows(rows: Mapping[str, LandscapeSpec], store: Store) -> dict[str, list[Run]]:
    """Row -> its runs with any seed that did not diverge, for the rows that have any."""
    found = {name: [run for run in store.seeds(spec, KEYS) if not run.diverged] for name, spec in rows.items()}
    return {name: runs for name, runs in found.items() if runs}


def find_learning_rates(rows: Mapping[str, LandscapeSpec], store: Store) -> list[list[Run]]:
    """For every seed that has all of them, the runs without noise at the learning rates."""
    without_noise = {name: spec for name, spec in rows.items() if spec.fit.scheme == "none"}
    found = find_rows(without_noise, store)
    by_seed = [{run.spec.seed: run for run in found.get(name, [])} for name in without_noise]
    return [[runs[seed] for runs in by_seed] for seed in sorted(set.intersection(*map(set, by_seed)))]


def find_schemes(rows: Mapping[str, LandscapeSpec], store: Store) -> dict[str, list[Run]]:
    """Row -> its runs, for the rows at the learning rate of the schemes."""
    rate = rows["none"].fit.training.lr
    return find_rows({name: spec for name, spec in rows.items() if spec.fit.training.lr == rate}, store)


@dataclass(frozen=True)
class Bands:
    """Ranges of the measures.

    Attributes:
        steps: of training, at which they were measured.
        low, high: measure -> lowest and highest value at every step.
    """

    steps: np.ndarray
    low: Mapping[str, np.ndarray]
    high: Mapping[str, np.ndarray]

    def width(self, measure: str) -> float:
        """Mean of highest - lowest over the steps."""
        return float((self.high[measure] - self.low[measure]).mean())


def find_bands_along(run: Run) -> Bands:
    """Ranges over the step sizes along the gradient of one network: those of the paper."""
    points = _read(run)
    moved = points["norm"][:, None] * np.array(run.spec.step_sizes)
    ratios = np.divide(points["changes"], moved, out=np.zeros_like(moved), where=moved > 0)
    values = {"loss": points["losses"], "change": points["changes"], "smoothness": ratios}
    return _make_bands(points["step"], {name: those.T for name, those in values.items()})


def find_bands_between(runs: Sequence[Run]) -> Bands:
    """Ranges over several networks at the same step of their training: those of common re-implementations. The loss is
    that before the step, and the change a mean over the step sizes."""
    read = _align([_read(run) for run in runs])
    values = {
        "loss": np.stack([points["loss"] for points in read]),
        "change": np.stack([points["changes"].mean(1) for points in read]),
        "smoothness": np.stack([points["smoothness"] for points in read]),
    }
    return _make_bands(read[0]["step"], values)


def average_bands(bands: Sequence[Bands]) -> Bands:
    """Means of the lowest and of the highest values over seeds, at the steps that all have."""
    read = _align([{"step": one.steps, **{f"low {n}": one.low[n] for n in MEASURES},
                    **{f"high {n}": one.high[n] for n in MEASURES}} for one in bands])  # fmt: skip
    low, high = ({n: np.mean([one[f"{end} {n}"] for one in read], 0) for n in MEASURES} for end in ("low", "high"))
    return Bands(read[0]["step"], low, high)


def _make_bands(steps: np.ndarray, values: Mapping[str, np.ndarray]) -> Bands:
    """From measure -> values of shape (what the range is over, steps)."""
    return Bands(steps, {n: v.min(0) for n, v in values.items()}, {n: v.max(0) for n, v in values.items()})


def _align(read: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """The columns at the steps that all of them have."""
    steps = reduce(np.intersect1d, (points["step"] for points in read))
    return [{name: column[np.isin(points["step"], steps)] for name, column in points.items()} for points in read]


def _read(run: Run) -> dict[str, np.ndarray]:
    """The columns of the measured points, without points at which a number is not finite."""
    points = run["points"]
    columns = {name: np.array([point[name] for point in points], dtype=float) for name in points[0]}
    finite = np.all([np.isfinite(column).reshape(len(points), -1).all(1) for column in columns.values()], axis=0)
    return {name: column[finite] for name, column in columns.items()}


def _summarize(run: Run) -> dict[str, float]:
    """Means over the measured steps, and the errors of the network."""
    points = _read(run)
    return {
        "loss": find_bands_along(run).width("loss"),
        **{name: float(points[column].mean()) for name, column in COLUMNS.items()},
        "test_error": run["test_error"],
    }


def make_tables(rows: Rows, store: Store) -> list[Table]:
    """Conclusions of the paper, measures of every scheme, ranges between learning rates, and errors; those with
    rows."""
    found = {network: find_rows(specs, store) for network, specs in rows.items()}
    runs = [run for named in found.values() for those in named.values() for run in those]
    if not runs:
        return []
    about = f"{runs[0]['dataset']}, widths x {runs[0].spec.scale:g}, {runs[0].spec.fit.training.epochs} epochs"
    tables = [
        _make_conclusions(found, about),
        _make_schemes(rows, store),
        _make_between(rows, store),
        _make_errors(found, list(rows[WITH].values())),
    ]
    return [table for table in tables if table.rows]


def _make_conclusions(found: Mapping[str, Mapping[str, Sequence[Run]]], about: str) -> Table:
    plain, normed = (
        {run.spec.seed: _summarize(run) for run in found[name].get("none", [])} for name in (WITHOUT, WITH)
    )
    seeds = sorted(plain.keys() & normed.keys())
    rows = []
    for text, key in CONCLUSIONS.items() if seeds else ():
        ours, theirs = [normed[seed][key] for seed in seeds], [plain[seed][key] for seed in seeds]
        form = _format(key)
        rows.append((text, form(theirs), form(ours), _count_less(ours, theirs)))
    header = ("with batch norm", "without", "with", "holds in")
    return Table(f"Conclusions of the paper, here: {about}", header, tuple(rows))


def _format(key: str) -> Callable[[Sequence[float]], str]:
    return percent if key == "test_error" else lambda values: summary(values, "{:.3g}")


def _count_less(ours: Sequence[float], theirs: Sequence[float]) -> str:
    less = sum(one < other for one, other in zip(ours, theirs, strict=True))
    return f"{less} of {len(ours)} seed{'s' * (len(ours) > 1)}"


def _make_schemes(rows: Rows, store: Store) -> Table:
    header = ("network", "scheme", "loss range", "change", "change / distance", "new noise", "error %", "n")
    made = []
    for network, specs in rows.items():
        for name, runs in find_schemes(specs, store).items():
            numbers = [_summarize(run) for run in runs]
            cells = (summary([one[key] for one in numbers], "{:.3g}") for key in (*MEASURES, "noise"))
            errors = percent([one["test_error"] for one in numbers], "{:.1f}")
            made.append((network.replace(" batch norm", ""), name, *cells, errors, count_runs(runs)))
    return Table("Along the gradient: means over the measured steps", header, tuple(made))


def _make_between(rows: Rows, store: Store) -> Table:
    header = ("network", *MEASURES.values(), "n")
    made = []
    for network, specs in rows.items():
        if bands := [find_bands_between(runs) for runs in find_learning_rates(specs, store)]:
            widths = (summary([one.width(name) for one in bands], "{:.3g}") for name in MEASURES)
            made.append((network, *widths, str(len(bands))))
    return Table("Ranges between four networks, trained at four learning rates", header, tuple(made))


def _make_errors(found: Mapping[str, Mapping[str, Sequence[Run]]], specs: Sequence[LandscapeSpec]) -> Table:
    rates = sorted({spec.fit.training.lr for spec in specs}, reverse=True)
    header = ("error % without noise", *(f"lr {lr:g}" for lr in rates), "original", "n")
    rows = []
    for network, named in found.items():
        runs = [run for those in named.values() for run in those if run.spec.fit.scheme == "none"]
        if runs:
            by_rate = {lr: [run["test_error"] for run in runs if run.spec.fit.training.lr == lr] for lr in rates}
            counts = sorted({len(errors) for errors in by_rate.values()})
            cells = (percent(errors, "{:.1f}") for errors in by_rate.values())
            rows.append((network, *cells, _find_original(network, runs[0]), " to ".join(map(str, counts))))
    return Table("Test errors", header, tuple(rows))


def _find_original(network: str, run: Run) -> str:
    """The error of the original with this network on the images of the run."""
    method = {WITHOUT: "none", WITH: "batch norm"}[network]
    return percent(
        [cell.value for cell in find(dataset=run.spec.data.name, network="vgg_a", method=method, quantity="error")],
        "{:.1f}",
    )
