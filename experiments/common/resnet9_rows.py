"""The rows of the study of ResNet9: the recipe with dropout, the steps to the recipe, and pruning after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pyro_vd import Training, guides
from pyro_vd.experiments.common.accuracy import Columns
from pyro_vd.experiments.common.spec import Data, Dense, Fit, Gradual, Options, Phase, Spec, Whiten
from pyro_vd.inference.schedules import OneCycle, WarmUp
from pyro_vd.optim import SGD

__all__ = ["EPOCHS", "make_columns", "recipe"]

EPOCHS = {"schemes": 20, "steps": 5, "pruning": 10}
NETWORK = {"scale": 0.5625, "flip": True}  # 2.1 million weights
SMOOTHING, BATCH_SIZE = 0.2, 500
LAST = tuple(f"{name}.weight" for name in ("layer3.conv", "residual3.first.conv", "residual3.second.conv", "fc"))
CHANNELS = tuple(f"{name}.conv.weight" for name in ("residual1.first", "residual1.second", "layer2")) + LAST
SPARSITIES = (0.8, 0.9, 0.95, 0.98)


def recipe(epochs: int, **changes: Any) -> Training:
    """The training of the recipe; the biases of batch normalization have 64 times the rate, as in airbench94."""
    cycle = OneCycle(epochs, peak=epochs / 4, start=0.2, final=0.05)
    training = Training(epochs=epochs, batch_size=BATCH_SIZE, lr=0.5, lr_scale={"norm": 64.0}, lr_schedule=cycle,
                        optimizer=SGD(momentum=0.9, nesterov=True, weight_decay=1e-3),
                        matmul_dtype="bfloat16")  # fmt: skip
    return replace(training, **changes)


def adam(epochs: int) -> Training:
    """Adam, for learned noise: the gradient of its KL is too small for the rates of SGD."""
    cycle = OneCycle(epochs, peak=epochs / 4, start=0.2)
    warm_up = WarmUp(epochs // 10, max(1, epochs // 4))
    return Training(epochs=epochs, batch_size=BATCH_SIZE, lr=2e-3, lr_schedule=cycle, kl_schedule=warm_up,
                    matmul_dtype="bfloat16")  # fmt: skip


def make_columns(data: Data, epochs: int | None = None, num_samples: int = 10) -> Columns:
    """Part -> row -> spec.

    Args:
        epochs: of every training; None for those of the part.
        num_samples: of rows with noise.
    """
    lengths = {part: epochs or length for part, length in EPOCHS.items()}
    parts: Mapping[str, Mapping[str, Spec]] = {
        "schemes": {row: _make(data, fit) for row, fit in _schemes(lengths["schemes"]).items()},
        "steps": _steps(data, lengths["steps"]),
        "pruning": {row: _make(data, Dense(training=recipe(lengths["schemes"]), smoothing=SMOOTHING), phase)
                    for row, phase in _pruning(lengths["pruning"]).items()},
    }  # fmt: skip
    return {
        part: {
            row: spec if spec.method == "none" else replace(spec, num_samples=num_samples) for row, spec in of.items()
        }
        for part, of in parts.items()
    }


def _make(data: Data, *phases: Phase, **options: Any) -> Spec:
    return Spec(network="resnet9", options=Options(NETWORK | options), data=data, phases=(Whiten(), *phases))


def _schemes(epochs: int) -> dict[str, Fit]:
    every = max(1, epochs // 4)
    sgd, learned = recipe(epochs), adam(epochs)

    def fit(scheme: str, training: Training, **how: Any) -> Fit:
        return Fit(scheme=scheme, training=training, smoothing=SMOOTHING, evaluate_every=every, **how)

    return {
        "none": fit("none", sgd),
        "Bernoulli 0.5, before fc": fit("bernoulli", sgd, select=("fc.weight",), options=Options(p=0.5)),
        "Bernoulli 0.1, channels": fit("bernoulli", sgd, select=CHANNELS, options=Options(p=0.1)),
        "Gaussian S 0.1, channels": fit("gaussian_srivastava", sgd, select=CHANNELS, options=Options(p=0.1)),
        "none, Adam": fit("none", learned),
        "variational A, channels, Adam": fit("variational_a", learned, select=CHANNELS),
        "variational B, last layers, Adam": fit("variational_b", learned, select=LAST),
        "hierarchical B, last layers, Adam": fit("hierarchical", learned, select=LAST),
        "sparse B, last layers, Adam": fit("sparse", learned, select=LAST),
    }


def _steps(data: Data, epochs: int) -> dict[str, Spec]:
    """The rows of the original study, each with what the one before has."""
    plain = Training(epochs=epochs, batch_size=BATCH_SIZE, lr=0.1, optimizer=SGD(), matmul_dtype="bfloat16")
    decay = replace(plain, optimizer=SGD(weight_decay=5e-4))
    momentum = replace(plain, optimizer=SGD(momentum=0.9, weight_decay=5e-4))
    cyclic = replace(momentum, lr=0.4, lr_schedule=OneCycle(epochs, peak=epochs / 4))
    trainings = {"crop and flip": plain, "L2": decay, "momentum": momentum, "cyclic learning rate": cyclic}

    def make(training: Training, kernel: int = 5, data: Data = data) -> Spec:
        return _make(data, Fit(scheme="none", training=training, evaluate_every=epochs), flip=False, kernel=kernel)

    return {
        "no augmentation": make(plain, data=replace(data, augment=False, cutout=Data.cutout)),
        **{row: make(training) for row, training in trainings.items()},
        "3x3 kernels": make(cyclic, kernel=3),
    }


def _pruning(epochs: int) -> dict[str, Phase]:
    """Phases after the recipe."""
    rows: dict[str, Phase] = {}
    threshold, often = guides.sparse.defaults.threshold, max(1, epochs // 4)
    for weight in (0.1, 1.0):
        warm_up = WarmUp(epochs // 10, max(1, epochs // 4), weight)
        training = replace(adam(epochs), lr=1e-3, kl_schedule=warm_up, threshold=threshold)
        rows[f"sparse, KL weight {weight:g}"] = Fit(
            scheme="sparse", training=training, smoothing=SMOOTHING, evaluate_every=often, threshold=threshold
        )
    for sparsity in SPARSITIES:
        rows[f"magnitude, {sparsity:g}"] = Gradual(sparsity=sparsity, training=recipe(epochs, lr=0.1), end=0.5)
    return rows
