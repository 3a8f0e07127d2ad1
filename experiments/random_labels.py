"""Fitting shuffled labels (Zhang et al. 2017; Molchanov et al. 2017, section 4.5).

``python -m experiments.random_labels`` trains LeNet-300-100 on 5,000 MNIST images with a growing share of shuffled
labels, and, with all labels shuffled, under growing weights of the KL: without noise, with binary dropout, and with
sparse and hierarchical variational dropout. In the papers, networks without a KL memorize the labels, and sparse
variational dropout prunes all weights. Every run writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from pyro_vd.errors import UserError
from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.accuracy_tables import make_title
from pyro_vd.experiments.common.direct_labels import label_lines
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.protocols import Protocol, accuracy_fit
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.spec import Data, Spec
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, count_runs, percent

STUDY = "random_labels"
PROTOCOL = Protocol(name="random labels", epochs=400, wait=0.1, ramp=0.2)
NUM_TRAIN, NUM_TEST = 5_000, 2_000
RATES = {"p": {"fc1.weight": 0.2, "fc2.weight": 0.5, "fc3.weight": 0.5}}
ROWS: dict[str, dict[str, Any]] = {
    "none": {"scheme": "none"},
    "binary dropout": {"scheme": "bernoulli", "options": RATES},
    "sparse": {"scheme": "sparse"},
    "hierarchical": {"scheme": "hierarchical"},
}
SCHEMES_WITH_KL = ("sparse", "hierarchical")
SHARES = (0.0, 0.2, 0.5, 0.8, 1.0)
KL_WEIGHTS = (0.001, 0.01, 0.03, 0.1, 0.3)
PANELS: dict[str, tuple[str, Callable[[float], float]]] = {
    "train_error": ("error on the training labels, %", lambda error: 100 * error),
    "test_error": ("test error, %", lambda error: 100 * error),
    "sparsity": ("weights left, %", lambda sparsity: 100 * (1 - sparsity)),  # of schemes with log_alpha
}


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains on true and on shuffled labels and prints which labels were memorized."""

    share: tuple[float, ...] = SHARES
    """Shares of the training labels that are shuffled."""
    kl_weight: tuple[float, ...] = KL_WEIGHTS
    """Weights of the KL besides 1 for the runs with all labels shuffled."""
    seeds: int = 1
    """Seeds 0 .. n-1 of the network, the order and the shuffling, one run each."""
    out: Path = Path("runs/random_labels")
    """Folder of records, checkpoints, tables and pictures."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    _check(args)
    dataset = choose_dataset(args.dataset, args.data)
    protocol = accuracy.set_epochs(PROTOCOL, args)
    shares = make_shares(dataset, args.share, protocol, args.validation, args.num_samples)
    weights = make_weights(dataset, args.kl_weight, protocol, args.validation, args.num_samples)
    store = accuracy.run_columns(args, STUDY, {**shares, **weights}, device)
    names = draw(shares, weights, store)
    publish([make_table("labels shuffled", shares, store), make_table("KL weight", weights, store)], args.out, *names)


def make_shares(
    dataset: str, shares: Sequence[float] = SHARES, protocol: Protocol = PROTOCOL, validation: int = 0,
    num_samples: int = Args.num_samples,
) -> Columns:  # fmt: skip
    """Every row at every share of shuffled labels."""
    fits = {name: accuracy_fit(protocol, **row) for name, row in ROWS.items()}
    make = partial(Spec, network="lenet300", num_samples=num_samples)
    return {
        f"{100 * share:g} %": {
            name: make(data=_make_data(dataset, share, validation), phases=(fit,)) for name, fit in fits.items()
        }
        for share in shares
    }


def make_weights(
    dataset: str, weights: Sequence[float] = KL_WEIGHTS, protocol: Protocol = PROTOCOL, validation: int = 0,
    num_samples: int = Args.num_samples,
) -> Columns:  # fmt: skip
    """The rows with a KL at every weight of it, with all labels shuffled."""
    make = partial(Spec, network="lenet300", data=_make_data(dataset, 1.0, validation), num_samples=num_samples)
    return {
        f"{weight:g}": {
            name: make(phases=(accuracy_fit(protocol, name, kl_weight=weight),)) for name in SCHEMES_WITH_KL
        }
        for weight in sorted({*weights, 1.0})
    }


def _make_data(dataset: str, share: float, validation: int) -> Data:
    return Data(name=dataset, validation=validation, num_train=NUM_TRAIN, num_test=NUM_TEST, shuffled=share)


def draw(shares: Columns, weights: Columns, store: Store) -> tuple[str, ...]:
    """Draws errors and sparsity against the share of shuffled labels, and, with all labels shuffled, against the weight
    of the KL, in the folder of the runs. Returns the names of the pictures."""
    draw_panels(_numbers(shares, store), "training labels shuffled, %", "linear", store.folder / "shares.png")
    draw_panels(_numbers(weights, store), "weight of the KL, all labels shuffled", "log", store.folder / "weights.png")
    return ("shares.png", "weights.png")


def _numbers(columns: Columns, store: Store) -> dict[str, dict[float, list[Run]]]:
    """Row -> number in the column's name -> runs that did not diverge."""
    found: dict[str, dict[float, list[Run]]] = {}
    for column, rows in columns.items():
        for row, runs in find_runs(store, rows).items():
            good = [run for run in runs if not run.diverged]
            found.setdefault(row, {})[float(column.split()[0])] = good
    return found


def draw_panels(points: Mapping[str, Mapping[float, Sequence[Run]]], label: str, scale: str, path: Path) -> None:
    """A panel per quantity that was measured; no picture if none was."""
    panels = {key: lines for key in PANELS if (lines := _select(points, key))}
    if not panels:
        return
    figure, axes = plt.subplots(len(panels), 1, figsize=(8, 3.2 * len(panels)), layout="constrained", squeeze=False)
    for axis, (key, lines) in zip(axes[:, 0], panels.items(), strict=True):
        name, convert = PANELS[key]
        for row, places in lines.items():
            means = [statistics.mean(convert(run[key]) for run in runs) for runs in places.values()]
            color = color_of(next(iter(places.values()))[0].spec.method)
            axis.plot(list(places), means, "o-", color=color, label=row)
        axis.set(xlabel=label, ylabel=name)
        _set_scale(axis, scale, [at for places in lines.values() for at in places])
        if key == "sparsity":
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
        else:
            axis.set_ylim(-3, 103)
        axis.grid(alpha=0.3)
        label_lines(axis)
    save_figure(figure, path)


def _select(points: Mapping[str, Mapping[float, Sequence[Run]]], key: str) -> dict[str, dict[float, list[Run]]]:
    """The rows, places and runs that have a number ``key``, in the order of the places."""
    found = {
        row: {at: good for at, runs in sorted(places.items()) if (good := [run for run in runs if key in run.record])}
        for row, places in points.items()
    }
    return {row: places for row, places in found.items() if places}


def _set_scale(axis: Axes, scale: str, places: Sequence[float]) -> None:
    """Sets the scale of the places; a logarithmic one is linear below the least positive place, to show 0."""
    if scale == "log" and min(places) == 0 < max(places):
        axis.set_xscale("symlog", linthresh=min(at for at in places if at))
    else:
        axis.set_xscale(scale)
    axis.xaxis.set_major_formatter("{x:g}")


def make_table(name: str, columns: Columns, store: Store) -> Table:
    """Errors and sparsity of every row and column.

    Args:
        name: what the columns are.
    """
    header = (name, "scheme", "training error %", "test error %", "pruned %", "error % pruned", "n")
    found = [(column, row, runs) for column, specs in columns.items() for row, runs in find_runs(store, specs).items()]
    title = make_title("LeNet-300-100", [run for *_, runs in found for run in runs])
    return Table(title, header, tuple(_make_row(*place) for place in found))


def _make_row(column: str, row: str, runs: Sequence[Run]) -> tuple[str, ...]:
    good = [run for run in runs if not run.diverged]
    errors = [percent([run[key] for run in good], "{:.1f}") for key in ("train_error", "test_error")]
    pruned = [
        percent([run[key] for run in good], form) if row in SCHEMES_WITH_KL else "-"
        for key, form in (("sparsity", "{:.2f}"), ("test_error_pruned", "{:.1f}"))
    ]
    return (column, row, *errors, *pruned, count_runs(runs))


def _check(args: Args) -> None:
    if not args.share or not all(0 <= share <= 1 for share in args.share):
        raise UserError("--share must lie between 0 and 1")
    if not all(0 <= weight < float("inf") for weight in args.kl_weight):
        raise UserError("--kl-weight must be at least 0 and finite")


if __name__ == "__main__":
    cli.run(Args, main)
