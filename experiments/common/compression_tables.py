"""Tables of runs in compression: errors and non-zero weights beside the published ones, files, units and times."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence

from pyro_vd.data import DATASETS
from pyro_vd.experiments.common.published import OTHER_PAPER, Result, results, results_for
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.spec import Gradual, Lottery, key_of
from pyro_vd.experiments.common.store import Run
from pyro_vd.experiments.common.tables import Table, count_runs, group_by, percent, ratio

__all__ = ["architecture_table", "compression_tables", "describe_training", "group_panels", "group_runs",
           "multiplications", "network_name", "published_results", "published_units", "units"]  # fmt: skip

FORMS = ("float32", "int8", "posterior + 1 bit", "posterior")  # records have float16 too
BATCHES = ("1", "256")
SHORT_NAMES = {"kl_weight": "KL", "noise_lr": "noise"}  # of what a run changes in its protocol
UNITS_HEADER = ("scheme", "training or source", "units", "mult.", "error %")
POSITIONS = (25 * 24 * 24, 25 * 8 * 8, 1, 1)  # products of one weight's kernel with a 28x28 image, layer by layer

METHODS = {
    "group_horseshoe": "group horseshoe",
    "group_normal_jeffreys": "group normal-Jeffreys",
    "l0": "L0",
    "l0, a penalty per layer": "L0, a penalty per layer",
    "sparse": "sparse variational dropout",
    "structured_log_normal": "structured log-normal",
}
"""Schemes -> their names in rows of published networks."""


def compression_tables(runs: Sequence[Run], timed: Iterable[Record] = ()) -> list[Table]:
    """The tables of every network and dataset; a diverged run is counted, not averaged.

    Args:
        runs: of one or several studies.
        timed: records of benchmarks.inference for some of them; one per group is enough.
    """
    times = {record["trained"]: record for record in timed}
    return [table for key, those in group_panels(runs).items() for table in _make_tables(", ".join(key), those, times)]


def group_panels(runs: Iterable[Run]) -> dict[tuple[str, str], list[Run]]:
    """Network and dataset -> their runs: what is compared in one table or picture."""
    return group_by(runs, lambda run: (network_name(run), run["dataset"]))


def group_runs(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs by spec, images and device, whatever their seed: the rows of a table."""

    def row(run: Run) -> tuple[Hashable, ...]:
        return (run.path.parent, key_of(run.spec), run.record.get("data_sha256"), run.device)

    return list(group_by(runs, row).values())


def network_name(run: Run) -> str:
    """The network with its options."""
    options = "".join(f" {name} {value}" for name, value in run.spec.options.items())
    return run.spec.network.rpartition(":")[2] + options.replace("scale", "x")


def published_results(run: Run) -> list[Result]:
    """Published errors and compressions of the run's network on its dataset; none for a folder of images."""
    if run.spec.data.name not in DATASETS:
        return []
    return results_for(run.spec.network, run.spec.options.get("scale"), run["dataset"])


def describe_training(run: Run) -> str:
    """The protocol and what the run changes in it, and the epochs of its phases if there are several."""
    phase, changes = run.spec.main, dict(run.record.get("changes", {}))
    epochs = [phase.training.epochs for phase in run.spec.phases if not isinstance(phase, Lottery)]
    told = [f"{SHORT_NAMES.get(name, name)} {_format(value)}" for name, value in changes.items() if name not in _EPOCHS]
    told += ["augmented"] if run.spec.data.augment else []
    if isinstance(phase, Gradual | Lottery):
        told = [f"{phase.sparsity:.2%}", *told]
    if isinstance(phase, Lottery):
        epochs = [phase.rounds * phase.training.epochs + phase.extra]
        told.append(f"{phase.rounds} rounds")
    if _EPOCHS & changes.keys() or not run.record.get("protocol"):
        told.append("+".join(map(str, epochs)) + " epochs")
    return ": ".join(part for part in (run.record.get("protocol", ""), ", ".join(told)) if part)


_EPOCHS = {"epochs", "pretrain", "fine_tune"}


def _format(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def units(architecture: Mapping[str, Sequence[int]]) -> str:
    """Units in the notation of the papers: outputs of all layers except the last, and the inputs of a linear layer if
    they are not the outputs of the layer before."""
    sizes = list(architecture.items())
    named: list[int] = []
    for index, (_, (inputs, outputs)) in enumerate(sizes):
        is_image = not index and inputs <= 4  # channels
        if not is_image and (not index or inputs != sizes[index - 1][1][1]):
            named.append(inputs)
        if index < len(sizes) - 1:
            named.append(outputs)
    return "-".join(map(str, named))


def _make_tables(title: str, runs: Sequence[Run], times: Mapping[str, Record]) -> list[Table]:
    groups = dict(enumerate(group_runs(runs), start=1))
    good = {number: [run for run in group if not run.diverged] for number, group in groups.items()}
    deployed = {n: those for n, group in good.items() if (those := [r for r in group if "deployment" in r.record])}
    tables = [_error_table(title, groups), _layer_table({n: group for n, group in good.items() if group})]
    if deployed:
        tables += [_size_table(deployed), _file_error_table(deployed)]
    timed = {n: [times[run.path.name] for run in group if _is_timed(run, times)] for n, group in deployed.items()}
    if any(timed.values()):
        tables.append(_time_table(groups, {n: found for n, found in timed.items() if found}))
    return tables


def _error_table(title: str, groups: Mapping[int, list[Run]]) -> Table:
    header = ("#", "scheme", "training", "error %", "compression", "n")
    rows = [(str(n), *_error_row(group)) for n, group in groups.items()]
    first = next(iter(groups.values()))[0]
    published = [_published_row(entry) for entry in published_results(first)]
    return Table(f"{title}, {_devices(groups)}", header, (*rows, *published))


def _error_row(group: Sequence[Run]) -> tuple[str, ...]:
    good = [run for run in group if not run.diverged]
    errors, ratios = percent([run["test_error"] for run in good]), ratio([run["compression"] for run in good])
    return (group[0].spec.method, describe_training(group[0]), errors, ratios, count_runs(group))


def _published_row(entry: Result) -> tuple[str, ...]:
    values = entry.values
    return ("", entry.method, f"published: {entry.kind}", f"{100 * values['error']:.2f}",
            f"{values['compression']:g}x", "")  # fmt: skip


def _layer_table(groups: Mapping[int, list[Run]]) -> Table:
    header = ("#", "scheme", "unpruned error %", "Monte Carlo", "units (seed 0)", "zeros per layer, %")
    rows = []
    for number, group in groups.items():
        others = [percent([run.record.get(key) for run in group]) for key in ("test_error_unpruned", "test_error_mc")]
        shares = [list(run["sparsity_per_layer"].values()) for run in group]
        layers = ", ".join(f"{100 * statistics.mean(layer):.1f}" for layer in zip(*shares, strict=True))
        shrunk = units(group[0]["deployment"]["architecture"]) if "deployment" in group[0].record else "-"
        rows.append((str(number), group[0].spec.method, *others, shrunk, layers))
    return Table("The whole posterior, and what is left of each layer", header, tuple(rows))


def _size_table(groups: Mapping[int, list[Run]]) -> Table:
    header = ("#", "scheme", "parameters", *(name.replace("posterior", "post.") for name in FORMS))
    rows = []
    for number, group in groups.items():
        costs = [run["deployment"] for run in group]
        parameters = ratio([cost["dense_parameters"] / cost["parameters"] for cost in costs])
        found = [_in_form(costs, form, lambda cost, it: cost["dense_bytes"] / it["bytes"]) for form in FORMS]
        sizes = [ratio(values) if values else "-" for values in found]
        rows.append((str(number), group[0].spec.method, parameters, *sizes))
    return Table("How many times smaller: parameters of the shrunk network, bytes of its file", header, tuple(rows))


def _file_error_table(groups: Mapping[int, list[Run]]) -> Table:
    header = ("#", "scheme", "bytes, int8", *(name.replace("posterior", "post.") for name in FORMS))
    rows = []
    for number, group in groups.items():
        costs = [run["deployment"] for run in group]
        sizes = _in_form(costs, "int8", lambda cost, it: it["bytes"])
        mean = f"{statistics.mean(sizes):,.0f}" if sizes else "-"
        errors = [_in_form(costs, form, lambda cost, it: it["test_error"]) for form in FORMS]
        rows.append((str(number), group[0].spec.method, mean, *(percent(values) for values in errors)))
    return Table("Error in % of the network that is loaded from the file", header, tuple(rows))


def _in_form(costs, form, value) -> list:
    """The values of all networks in this form; empty if one lacks it."""
    if not all(form in cost["forms"] for cost in costs):
        return []
    return [value(cost, cost["forms"][form]) for cost in costs]


def _is_timed(run: Run, times: Mapping[str, Record]) -> bool:
    """Whether this network has been timed, at the batch sizes of the table."""
    timed = times.get(run.path.name)
    if not timed or any(timed[key] != run[key] for key in ("test_error", "compression")):
        return False
    return timed["columns"]["shrunk"].keys() >= set(BATCHES)


def _time_table(groups: Mapping[int, list[Run]], timed: Mapping[int, list[Record]]) -> Table:
    header = ("#", "scheme", *(f"times faster, batch {size}" for size in BATCHES), "networks timed")
    rows = []
    for number, found in timed.items():
        ratios = [ratio([one["columns"]["shrunk"][size]["times_faster"] for one in found]) for size in BATCHES]
        group = groups[number]
        rows.append((str(number), group[0].spec.method, *ratios, f"{len(found)} of {len(group)}"))
    return Table("Speed of the shrunk network on a CPU against the dense one", header, tuple(rows))


def _devices(groups: Mapping[int, list[Run]]) -> str:
    return ", ".join(sorted({run.device for group in groups.values() for run in group}))


def architecture_table(runs: Iterable[Run]) -> Table:
    """A row for every shrunk LeNet-5 on MNIST, and for the published ones."""
    found = [run for run in runs if (run.spec.network, run["dataset"]) == ("lenet5", "mnist")]
    rows = [_units_row(run) for run in found if "deployment" in run.record]
    return Table(
        "Units of LeNet-5; mult.: how many times fewer multiplications",
        UNITS_HEADER,
        (*rows, *map(_published_units_row, published_units())),
    )


def multiplications(layers: Iterable[Sequence[int]]) -> int:
    """Multiplications of one 28x28 image in a LeNet-5 with these (inputs, outputs) of its four layers, zeros included.

    Example:
        >>> multiplications([(1, 20), (20, 50), (800, 500), (500, 10)])
        2293000
    """
    return sum(each * inputs * outputs for each, (inputs, outputs) in zip(POSITIONS, layers, strict=True))


def _units_row(run: Run) -> tuple[str, ...]:
    sizes = run["deployment"]["architecture"]
    error = f"{100 * run['test_error']:.2f}"
    source = f"{describe_training(run)}, seed {run.spec.seed}"
    return (run.spec.method, source, units(sizes), _fewer(sizes.values()), error)


def published_units() -> list[Result]:
    """Published LeNet-5s with the units that are left: filters, inputs and outputs of the hidden layer."""
    return [result for result in results(dataset="mnist", network="lenet5") if result.layers("units")]


def _published_units_row(entry: Result) -> tuple[str, ...]:
    sizes = [int(size) for size in entry.layers("units").values()]
    written = "-".join(map(str, sizes))
    method = METHODS.get(entry.method, entry.method)
    paper = entry.source.replace("arXiv:", "")
    source = f"in {paper}" if entry.kind == OTHER_PAPER else paper
    return (method, source, written, _fewer(_layers(sizes)), f"{100 * entry.values['error']:.2g}")


def _layers(sizes: Sequence[int]) -> list[tuple[int, int]]:
    first, second, inputs, hidden = sizes
    seen = min(inputs, 4 * 4 * second)  # papers count inputs from removed filters, which are not multiplied
    return [(1, first), (first, second), (seen, hidden), (hidden, 10)]


def _fewer(layers: Iterable[Sequence[int]]) -> str:
    return f"{multiplications(_layers((20, 50, 800, 500))) / multiplications(layers):.1f}x"
