"""Protocols: named schedules of training, and the specs that they make."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pyro_vd import Training, guides
from pyro_vd.experiments.common.spec import Data, Dense, FineTune, Fit, Options, Phase, Spec
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp

__all__ = ["CHANGES", "Protocol", "accuracy_fit", "compression_spec", "has_parametrization"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A schedule of training with a name.

    Attributes:
        epochs, batch_size, lr: of the main phase.
        hold: share of the epochs at the full learning rate, which then decays linearly to 0.
        wait, ramp: shares of the epochs without the KL and of its linear warm-up, which takes at least one epoch.
        kl_weight: weight of the KL after warm-up.
        noise_lr: factor of the learning rate for the guide's parameters other than the means.
        parametrization, init: of the guide, for schemes with noise on every weight; None for the guide's own.
        threshold: weights with log_alpha at or above it are pruned.
        train_masking: whether the mean leaves them out during training too.
        pretrain: epochs of dense training before the main phase.
        dropout: rates of the dense training, on the input of the network and on that of every other layer.
        fine_tune: epochs without noise after pruning.
        shift: largest random shift of training images, in pixels.
    """

    name: str
    epochs: int
    batch_size: int = 100
    lr: float = 1e-3
    hold: float = 0.5
    wait: float = 0.0
    ramp: float = 0.0
    kl_weight: float = 1.0
    noise_lr: float = 1.0
    parametrization: str | None = None
    init: float | None = None
    threshold: float = 3.0
    train_masking: bool = True
    pretrain: int = 0
    dropout: tuple[float, float] = (0.0, 0.0)
    fine_tune: int = 0
    shift: int = 0

    def change(self, scheme: str, changes: Mapping[str, Any]) -> Protocol:
        """The protocol of a run: with what the scheme changes, and with ``changes``, which precede."""
        return replace(self, **_scheme_changes(scheme) | dict(changes))

    def differences(self, scheme: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the changes that are not what the protocol and the scheme have anyway, by name."""
        usual = self.change(scheme, {})
        return {name: value for name, value in sorted(changes.items()) if getattr(usual, name) != value}

    @property
    def kl_schedule(self) -> WarmUp:
        """The warm-up of the KL in epochs."""
        return WarmUp(round(self.wait * self.epochs), max(1, round(self.ramp * self.epochs)), self.kl_weight)


def _scheme_changes(scheme: str) -> dict[str, Any]:
    """What the scheme's defaults change in every protocol. What the scheme does not read stays the protocol's."""
    own = guides.SCHEMES[scheme].defaults
    changes = {} if own.noise_lr == 1 else {"noise_lr": own.noise_lr}
    return changes | ({"threshold": own.threshold, "train_masking": own.masking} if own.threshold_of else {})


CHANGES = tuple(field.name for field in fields(Protocol) if field.name not in ("name", "dropout"))
"""Names of what a run may change in its protocol."""


def compression_spec(
    protocol: Protocol,
    scheme: str,
    data: Data,
    network: str,
    *,
    changes: Mapping[str, Any] | None = None,
    options: Options | None = None,
    num_samples: int = 20,
    seed: int = 0,
) -> Spec:
    """Dense training, the scheme, and fine-tuning after pruning, by a protocol with changes.

    Args:
        protocol: before the changes.
        scheme: a key of guides.SCHEMES.
        data: ``shift`` is the protocol's.
        network, options, num_samples, seed: of the spec.
        changes: values of the protocol's fields by name.
    """
    it = protocol.change(scheme, changes or {})
    training = Training(
        epochs=it.epochs,
        batch_size=it.batch_size,
        lr=it.lr,
        lr_schedule=HoldThenDecay(min(round(it.hold * it.epochs), it.epochs - 1), it.epochs),
        kl_schedule=it.kl_schedule,
        threshold=it.threshold if it.train_masking else None,
    )
    fit = Fit(
        scheme=scheme,
        training=training,
        options=_guide_options(it, scheme),
        noise_lr=it.noise_lr,
        threshold=it.threshold,
    )
    phases: list[Phase] = [fit]
    if it.pretrain:
        phases.insert(0, Dense(training=_decaying(it, it.pretrain), dropout=it.dropout))
    if it.fine_tune:
        phases.append(FineTune(training=_decaying(it, it.fine_tune)))
    return Spec(
        network=network,
        options=options or Options(),
        data=replace(data, shift=it.shift),
        phases=tuple(phases),
        num_samples=num_samples,
        seed=seed,
    )


def _decaying(protocol: Protocol, epochs: int) -> Training:
    """Training without noise, whose learning rate decays linearly from the start."""
    return Training(epochs=epochs, batch_size=protocol.batch_size, lr=protocol.lr, lr_schedule=HoldThenDecay(0, epochs))


def _guide_options(protocol: Protocol, scheme: str) -> Options:
    """Those of parametrization and init that the scheme's guide takes and that are given."""
    given = {"parametrization": protocol.parametrization, "init": protocol.init}
    return Options({name: value for name, value in given.items() if value is not None and has_parametrization(scheme)})


def has_parametrization(scheme: str) -> bool:
    """Whether the scheme's guide has noise on every weight, with a choice of its parameter."""
    return "parametrization" in inspect.signature(guides.SCHEMES[scheme].Guide).parameters


def accuracy_fit(
    protocol: Protocol,
    scheme: str,
    *,
    select: tuple[str, ...] | None = None,
    options: Mapping[str, Any] | None = None,
    estimator: str = "local",
    kl_weight: float = 1.0,
    prior: str | None = None,
    matmul_dtype: str = "float32",
) -> Fit:
    """The phase of a row of an accuracy table: the protocol's training of a scheme, without pruning.

    The learning rate decays to 0 at the epoch after the last.
    """
    training = Training(
        epochs=protocol.epochs,
        batch_size=protocol.batch_size,
        lr=protocol.lr,
        lr_schedule=HoldThenDecay(round(protocol.hold * protocol.epochs), protocol.epochs + 1),
        kl_schedule=replace(protocol.kl_schedule, weight=kl_weight),
        estimator=estimator,  # type: ignore[arg-type]
        matmul_dtype=matmul_dtype,  # type: ignore[arg-type]
    )
    return Fit(scheme=scheme, training=training, options=Options(options or {}), prior=prior, select=select)
