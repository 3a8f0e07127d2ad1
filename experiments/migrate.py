"""Turns the records of version 0.1 into those of today: a spec in place of settings, short names, a row a line.

``python -m experiments.migrate FOLDER`` rewrites every record of the folder and renames the files beside it. Numbers
are not changed. A record whose history contradicts its settings is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from pyro_vd.data import DATASETS
from pyro_vd.errors import UserError
from pyro_vd.experiments import cifar_compress, gradient_variance, linear_relevance, mnist_compress, pruning_baselines
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.phases import PHASE_NAMES
from pyro_vd.experiments.common.protocols import Protocol, accuracy_fit, compression_spec
from pyro_vd.experiments.common.records import DIGEST, Record, digest_of, read_json, write_record
from pyro_vd.experiments.common.spec import Data, Lottery, Options, Spec, encode
from pyro_vd.experiments.common.store import ARTIFACT_SUFFIXES, Store
from pyro_vd.experiments.common.tables import group_by

KEYS = {
    "calibration_error": "expected_calibration_error",
    "doubt": "uncertainty",
    "mc_samples": "num_samples",
    "outsiders": "ood_datasets",
    "parametrisation": "parametrization",
    "precision": "matmul_dtype",
    "rejected": "risk_coverage",
    "shipped": "deployment",
    "turned": "rotated",
}
"""Keys of older records -> their present names."""
PROTOCOL_NAMES = {"headline": "molchanov2017", "shifted": "augmented", "digits-short": "digits"}
ENVIRONMENT = ("torch", "pyro", "python", "revision", "device", "threads")
KEPT = (
    "experiment", "dataset", "data_sha256", *ENVIRONMENT, "test_error",
    "test_error_unpruned", "test_error_mc", "test_error_best", "test_error_pruned", "train_error", "sparsity_per_layer",
    "weights", "nonzero", "compression", "curve", "sparsity", "log_alpha", "deployment", "mean", "draws", "uncertainty",
    "auroc", "rotated", "risk_coverage", "ood_datasets", "diverged",
)  # fmt: skip
"""Entries that a record keeps, in their order."""


@dataclass(frozen=True)
class Args:
    """Rewrites the records of a folder."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of records."""


def main(args: Args) -> None:
    if not args.folder.is_dir():
        raise UserError(f"{args.folder}: no such folder")
    for old, new in migrate_folder(args.folder).items():
        print(f"{old} -> {new}")


def migrate_folder(folder: Path) -> dict[str, str]:
    """Rewrites every older record of the folder that has a spec today, and renames the files beside it.

    Returns:
        old name -> new name.

    Raises:
        UserError: before anything is written, for a record that cannot be understood; the message names it.
    """
    found = {path: read_old(path) for path in sorted(folder.glob("*.json"))}
    made = {}
    for path, record in found.items():
        if record is not None:
            try:
                made[path] = migrate(record)
            except (LookupError, TypeError, ValueError) as error:
                raise UserError(f"{path}: cannot be migrated: {error}") from None
    store, names = Store(folder), {}
    for target, sources in group_by(made, lambda path: store.path(made[path][0])).items():
        if len(sources) > 1:
            raise UserError(
                f"{' and '.join(map(str, sources))}: both would be {target.name}; move one to another folder"
            )
        if target.exists() and target not in made:
            raise UserError(f"{sources[0]}: would replace {target.name}, a record of today; move one to another folder")
    for path, (spec, numbers) in made.items():
        new = store.path(spec)
        for suffix in ARTIFACT_SUFFIXES:
            if (old := path.with_suffix(suffix)).is_file():
                old.rename(new.with_suffix(suffix))
        write_record(new, {"spec": encode(spec), **numbers})
        if new != path:
            path.unlink()
        names[path.name] = new.name
    return names


def read_old(path: Path) -> Record | None:
    """An older record under the present names of its keys; None for one of today.

    Raises:
        UserError: if it is not JSON, or has a digest that does not match its content.
    """
    record = read_json(path)
    digest = record.pop(DIGEST, None)
    if digest is not None and digest != digest_of(record):
        raise UserError(f"{path}: its digest does not match its content")
    return None if "spec" in record or "seed" not in record else rename_keys(record)


def rename_keys(record: Record) -> Record:
    """The record under the present names of its keys, in nested dictionaries too."""
    return {
        KEYS.get(key, key): rename_keys(value) if isinstance(value, dict) else value for key, value in record.items()
    }


def migrate(record: Record) -> tuple[Any, Record]:
    """The spec of an older record, and the rest of it.

    Raises:
        ValueError: if the history has other learning rates or KL weights than the spec gives.
    """
    if record["experiment"] in _OWN_SPECS:
        return _OWN_SPECS[record["experiment"]](record)
    read = _read_row if "row" in record else _read_baseline if "," in record["scheme"] else _read_scheme
    spec, told = read(record)
    history = _read_history(record, spec)
    _check(spec, history)
    numbers = {name: record[name] for name in KEPT if name in record}
    numbers["seconds"] = sum(row["seconds"] for row in history) or record["seconds"]
    return spec, {**numbers, **told, "history": history}


def _read_scheme(record: Record) -> tuple[Spec, Record]:
    """A run of mnist_compress or cifar_compress."""
    name = re.split(r"[:,]", record["protocol"].removeprefix("variant of "))[0]
    name = PROTOCOL_NAMES.get(name, name)
    protocol = {**mnist_compress.PROTOCOLS, **cifar_compress.PROTOCOLS}[name]
    epochs = record["epochs"]
    given = {key: record[key] for key in (
        "epochs", "batch_size", "lr", "noise_lr", "kl_weight", "hold", "init", "threshold", "train_masking", "pretrain",
        "fine_tune", "shift",
    ) if record.get(key) is not None}  # fmt: skip
    if record.get("parametrization", "log_sigma2") != "log_sigma2":
        given["parametrization"] = record["parametrization"]
    given |= {key: record[key] / epochs for key in ("wait", "ramp") if record.get(key) is not None}
    if given.get("ramp") == 1 / epochs:
        given["ramp"] = 0.0  # the shortest warm-up
    network, _, scale = record["network"].partition(" x ")
    data = _read_data(record)
    changes = protocol.differences(record["scheme"], given)
    # A record that is older than an argument ran without what the argument does.
    older = {key: value for key, value in (("pretrain", 0), ("fine_tune", 0), ("shift", 0), ("noise_lr", 1.0))
             if key not in record and getattr(protocol.change(record["scheme"], {}), key) != value}  # fmt: skip
    if "hold" not in record and record["history"][1]["lr"] < record["lr"]:
        older["hold"] = 0.0  # the rate of the first runs fell from the start
    spec = compression_spec(
        protocol, record["scheme"], data, network, changes=changes | older,
        options=Options(scale=float(scale)) if scale else None, num_samples=record["num_samples"], seed=record["seed"],
    )  # fmt: skip
    return spec, {"protocol": protocol.name, "changes": changes | older}


def _read_baseline(record: Record) -> tuple[Spec, Record]:
    """A run of pruning_baselines."""
    method, _, share = record["scheme"].partition(", ")
    sparsity = round(float(share.rstrip("%")) / 100, 10)
    names = (
        "network",
        "epochs",
        "pretrain",
        "start",
        "end",
        "rounds",
        "batch_size",
        "lr",
        "hold",
        "shift",
        "validation",
    )
    args = pruning_baselines.Args(**{name: record[name] for name in names if name in record})
    spec = pruning_baselines.make_spec(args, _read_data(record).name, method, sparsity, record["seed"])
    told = {name: getattr(args, name) for name in (*pruning_baselines.METHOD_ARGUMENTS[method], "lr", "shift")}
    return spec, {"changes": {k: v for k, v in told.items() if v != getattr(pruning_baselines.Args, k)}}


def _read_row(record: Record) -> tuple[Spec, Record]:
    """A run of an experiment with rows and columns."""
    protocol = Protocol(name=record["protocol"], **{
        name: record[name] for name in ("epochs", "batch_size", "lr", "hold", "wait", "ramp")
    })  # fmt: skip
    fit = accuracy_fit(
        protocol,
        record["scheme"],
        select=tuple(record["sites"]) if record["sites"] else None,
        options=record["options"],
        estimator="local" if record["local"] else "weights",
        kl_weight=record["kl_weight"],
        prior=record["row"] if record["experiment"] == "prior_swap" else None,
        matmul_dtype=record.get("matmul_dtype", "float32"),
    )
    network, options = _read_network(record["column"])
    members = record.get("members", 1)
    spec = Spec(
        network=network, options=options, data=_read_data(record), phases=(fit,), members=members,
        num_samples=record["num_samples"], seed=record["seed"],
    )  # fmt: skip
    return spec, {}


def _read_gradient(record: Record) -> tuple[Any, Record]:
    spec = gradient_variance.make_spec(
        Data(name=record["dataset"]), record["hidden"], tuple(record["epochs"]), record["minibatch"], record["draws"]
    )
    kept = ("experiment", "dataset", "data_sha256", *ENVIRONMENT, "variances")
    return replace(spec, seed=record["seed"]), {name: record[name] for name in kept}


def _read_regression(record: Record) -> tuple[Any, Record]:
    part = {"orthogonal": linear_relevance.OrthogonalSpec, "correlated": linear_relevance.CorrelatedSpec}
    kind = part[record["part"]]
    spec = kind(**{entry.name: record[entry.name] for entry in fields(kind)})
    return spec, {name: record[name] for name in ("experiment", *ENVIRONMENT, "z", "methods") if name in record}


_OWN_SPECS = {gradient_variance.STUDY: _read_gradient, linear_relevance.STUDY: _read_regression}


def _read_network(column: str) -> tuple[str, Options]:
    if column.endswith(" units"):
        return "mlp", Options(hidden=(int(column.split()[0]),) * 3)
    if re.fullmatch(r"\d+(-\d+)+", column):
        return "mlp", Options(hidden=tuple(map(int, column.split("-"))))
    if column == "widths x 0.5":
        return "cifar_cnn", Options(scale=0.5, size=16)
    if column.endswith("% shuffled"):
        return "lenet300", Options()
    return column, Options()


def _read_data(record: Record) -> Data:
    name = record["dataset"].split(" ")[0]
    if name not in DATASETS:
        raise ValueError(f"of a folder of images, {record['dataset']!r}, whose path it does not say")
    sizes = re.search(r"\(([\d,]+) and ([\d,]+) images\)", record["dataset"])
    shuffled = re.search(r"\(([\d.]+) % shuffled\)", record["dataset"])
    train, test = (int(number.replace(",", "")) for number in sizes.groups()) if sizes else (None, None)
    return Data(
        name=name,
        validation=record.get("validation", 0),
        num_train=train,
        num_test=test,
        augment=record.get("augment", False),
        shuffled=float(shuffled[1]) / 100 if shuffled else 0.0,
    )


def _read_history(record: Record, spec: Spec) -> list[Record]:
    """One row per epoch, with its phase."""
    phase = PHASE_NAMES[type(spec.main)]
    parts = record["history"] if spec.members > 1 or "members" in record else [record["history"]]
    rows = []
    for member, part in enumerate(parts):
        for row in part:
            accuracy = {"error": round(1 - row["accuracy"], 10)} if "accuracy" in row else {}
            rest = {key: value for key, value in row.items() if key != "accuracy"}
            rows.append({"phase": phase, **rest, **accuracy, **({"member": member} if spec.members > 1 else {})})
    return rows + [{"phase": "fine_tune", **row} for row in record.get("fine_tuning", {}).get("history", [])]


def _check(spec: Spec, history: list[Record]) -> None:
    """Refuses a history that the spec's schedules do not give."""
    trainings = {PHASE_NAMES[type(phase)]: phase.training for phase in spec.phases if not isinstance(phase, Lottery)}
    for row in history:
        if row["phase"] not in trainings:
            continue
        training = trainings[row["phase"]]
        lr, beta = (training.evaluate(name, row["epoch"]) for name in ("lr_schedule", "kl_schedule"))
        wrong = abs(row["lr"] - training.lr * lr) > 1e-9 or abs(row["beta"] - beta) > 1e-9
        if wrong:
            raise ValueError(f"{row['phase']}, epoch {row['epoch']}: lr {row['lr']:g}, KL weight {row['beta']:g}; "
                             f"its settings give {training.lr * lr:g} and {beta:g}")  # fmt: skip


if __name__ == "__main__":
    cli.run(Args, main)
