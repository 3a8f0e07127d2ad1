"""The plan of the committed tables: every run that they have or lack, in order of value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pyro_vd.experiments import (
    ablation,
    cifar_accuracy,
    cifar_basics,
    cifar_compress,
    cifar_reference,
    dessilbi,
    dropout_exercises,
    mixed_precision,
    mnist_accuracy,
    mnist_compress,
    prior_swap,
    pruning_baselines,
    random_labels,
    resnet9,
    tuning,
    uncertainty,
)
from pyro_vd.experiments.common import accuracy, compression
from pyro_vd.experiments.common.accuracy import Columns
from pyro_vd.experiments.common.protocols import Protocol, compression_spec
from pyro_vd.experiments.common.spec import Data, Options, Spec
from pyro_vd.experiments.common.sweeps import Cell

__all__ = ["PLAN", "plan_columns", "plan_compression", "plan_schemes"]

MNIST, CIFAR, FASHION = Data(name="mnist"), Data(name="cifar10"), Data(name="fashion_mnist")


def plan_columns(study: str, columns: Columns, seeds: int) -> list[Cell]:
    """The runs of a study with rows and columns."""
    names = {spec: f"{column}, {row}" for column, rows in columns.items() for row, spec in rows.items()}
    specs = dict.fromkeys(accuracy.seeds_of(columns, seeds))  # two columns may have a run in common
    notes = Options(experiment=study)
    return [Cell(study, spec, names[replace(spec, seed=0)], notes) for spec in specs]


def plan_schemes(
    network: str, schemes: Iterable[str], seeds: int, changes: Mapping[str, Any] | None = None, name: str | None = None
) -> list[Cell]:
    """Runs of mnist_compress on MNIST.

    Args:
        changes: of the protocol.
        name: of the protocol; None for the network's own.
    """
    protocol = mnist_compress.PROTOCOLS[name] if name else mnist_compress.NETWORK_PROTOCOLS[network]
    return [
        plan_compression(
            mnist_compress.STUDY, protocol, scheme,
            compression_spec(protocol, scheme, MNIST, network, changes=changes, seed=seed), changes or {},
        )
        for seed in range(seeds)
        for scheme in schemes
    ]  # fmt: skip


def plan_compression(study: str, protocol: Protocol, scheme: str, spec: Spec, changes: Mapping[str, Any]) -> Cell:
    """A run in compression by a protocol with changes."""
    notes = compression.describe(study, protocol, scheme, changes)
    told = [protocol.name, *(f"{key} {value}" for key, value in notes["changes"].items())]
    return Cell(study, spec, f"{spec.network} {scheme}, {', '.join(told)}", Options(notes))


def _plan_vgg(augment: bool) -> list[Cell]:
    data = cifar_compress.make_data(CIFAR.name, cifar_compress.FULL, augment)
    cells = []
    for scheme in ("sparse", "none"):
        for scale in (0.25, 0.5, 1.0):
            spec = compression_spec(cifar_compress.FULL, scheme, data, "vgg", options=Options(scale=scale))
            cell = plan_compression(cifar_compress.STUDY, cifar_compress.FULL, scheme, spec, {})
            cells.append(replace(cell, name=f"{cell.name}, widths x {scale:g}{', augmented' * augment}"))
    return cells


def _plan_short_cifar() -> list[Cell]:
    cells = plan_columns(cifar_accuracy.STUDY, cifar_accuracy.make_columns(CIFAR.name), seeds=3)
    return [replace(cell, name=f"{cifar_accuracy.SHORT.name}, {cell.name}") for cell in cells]


def _plan_resnet9() -> list[Cell]:
    columns = resnet9.make_columns(resnet9.DATA)
    recipe = plan_columns(resnet9.STUDY, {"schemes": {"none": columns["schemes"]["none"]}}, seeds=3)
    return list(dict.fromkeys([*recipe, *plan_columns(resnet9.STUDY, columns, seeds=1)]))


def _plan_uncertainty(data: Data, network: str, seeds: int) -> list[Cell]:
    columns = uncertainty.make_columns(data, network, num_samples=uncertainty.Args.num_samples)
    return plan_columns(uncertainty.STUDY, columns, seeds)


def _plan_baselines(network: str, sparsity: float, seeds: int, **training: int) -> list[Cell]:
    """Both baselines with the number of gradient steps of the row that they are compared with."""
    cells = []
    for seed in range(seeds):
        for method, lr in BEST_RATES.items():
            args = pruning_baselines.Args(network=network, lr=lr, **training)  # type: ignore[arg-type]
            spec = pruning_baselines.make_spec(args, MNIST.name, method, sparsity, seed)
            notes = Options(pruning_baselines.describe(args, method))
            name = f"{network} {method} to {100 * sparsity:g} %"
            cells.append(Cell(pruning_baselines.STUDY, spec, name, notes))
    return cells


def _plan_ablation(network: str, epochs: int) -> list[Cell]:
    protocol, cells = mnist_compress.NETWORK_PROTOCOLS[network], []
    for factor, spec in ablation.make_specs(MNIST.name, network, epochs).items():
        changes = {"epochs": epochs, **ablation.BASE, **ablation.FACTORS[factor]}
        cell = plan_compression(ablation.STUDY, protocol, "sparse", spec, changes)
        cells.append(replace(cell, name=f"{network}, {factor}"))
    return cells


def _plan_tuning() -> list[Cell]:
    data, cells = replace(MNIST, validation=tuning.Args.validation), []
    for method in tuning.GRIDS:
        for changes in tuning.make_trials(method):
            spec, notes = tuning.make_spec(data, method, changes), tuning.describe(method, changes)
            told = ", ".join(f"{key} {value:g}" for key, value in changes.items())
            cells.append(Cell(tuning.STUDY, spec, f"{method}, {told}", Options(notes)))
    return cells


BEST_RATES = {"magnitude": 1e-3, "lottery": 2e-3}  # of tuning
BEST_GATE_CHANGES = {"kl_weight": 3.0, "noise_lr": 3.0}  # of tuning, least error
UNIT_SCHEMES = ("group_normal_jeffreys", "group_horseshoe", "structured_log_normal")
LONG = {"pretrain": 30, "epochs": 100}

PLAN: tuple[Cell, ...] = (
    *plan_columns(dessilbi.STUDY, dessilbi.make_columns(MNIST, "lenet1998"), seeds=3),
    # The paper's main network, then the tables that need a GPU.
    *plan_schemes("lenet5", ["sparse"], seeds=3),
    *_plan_vgg(augment=False),
    *plan_columns(cifar_reference.STUDY, cifar_reference.make_columns(CIFAR, (1.0,)), seeds=3),
    *_plan_resnet9(),
    *plan_columns(mnist_accuracy.STUDY, mnist_accuracy.make_columns(MNIST, (100, 250, 500, 750, 1000, 1250)), seeds=3),
    *_plan_uncertainty(MNIST, "lenet300", seeds=3),
    *_plan_uncertainty(FASHION, "lenet300", seeds=3),
    *_plan_uncertainty(CIFAR, "cifar_cnn", seeds=1),
    # The seeds of the compression table, and what they are compared with.
    *plan_schemes("lenet5", ["sparse"], 2, {"noise_lr": 0.3}, "molchanov2017"),
    *plan_schemes("lenet5", ["sparse"], 2, {}, "augmented"),
    *plan_schemes("lenet300", ["sparse"], 3, {"noise_lr": 0.3, **LONG}),
    *plan_schemes("lenet300", ["sparse", "hierarchical", "none"], 5),
    *plan_schemes("lenet300", ["sparse"], 3, {"kl_weight": 0.7}),
    *plan_schemes("lenet300", ["hierarchical"], 3, {"kl_weight": 0.3}),
    *plan_schemes("lenet300", ["sparse"], 3, {"kl_weight": 1.25, **LONG}),
    *plan_schemes("lenet300", ["hierarchical"], 3, {"kl_weight": 0.5, **LONG}),
    *_plan_baselines("lenet300", 0.98, seeds=3, **LONG),
    *_plan_baselines("lenet300", 0.991, seeds=3, **LONG),
    *_plan_baselines("lenet5", 0.9973, seeds=2, pretrain=30, epochs=170),  # compression 365, as molchanov2017
    *_plan_baselines("lenet5", 0.9967, seeds=2, pretrain=20, epochs=120, shift=1),  # about that of fine-tuned
    *plan_schemes("lenet5", ["hierarchical", "none"], 1),
    *plan_schemes("lenet5", UNIT_SCHEMES, 1, {"kl_weight": 1.0}),
    *plan_schemes("lenet300", ["group_normal_jeffreys", "l0"], 1, LONG),
    *plan_schemes("lenet300", ["l0"], 1, {**BEST_GATE_CHANGES, **LONG}),
    *plan_schemes("lenet5", ["l0"], 1, BEST_GATE_CHANGES),
    *_plan_ablation("lenet5", 30),
    *_plan_ablation("lenet300", 60),
    *_plan_tuning(),
    *_plan_short_cifar(),
    *plan_columns(mixed_precision.STUDY, mixed_precision.make_columns(MNIST), seeds=3),
    *plan_columns(prior_swap.STUDY, prior_swap.make_columns(MNIST), seeds=1),
    *plan_columns(
        random_labels.STUDY,
        random_labels.make_shares(MNIST.name) | random_labels.make_weights(MNIST.name),  # type: ignore[operator]
        seeds=1,
    ),
    *plan_columns(dropout_exercises.STUDY, dropout_exercises.make_columns(FASHION), seeds=3),
    *_plan_vgg(augment=True),
    *plan_columns(cifar_reference.STUDY, cifar_reference.make_columns(CIFAR, (1.5, 2.0)), seeds=1),
    *plan_columns(cifar_basics.STUDY, cifar_basics.make_columns(CIFAR), seeds=3),
    *plan_columns(dessilbi.STUDY, dessilbi.make_columns(CIFAR, "vgg"), seeds=1),
    # The curve of error against compression.
    *(
        cell
        for weight in (0.1, 0.5, 2.0)
        for cell in plan_schemes("lenet300", ["sparse", "hierarchical"], 1, {"kl_weight": weight})
    ),
)
