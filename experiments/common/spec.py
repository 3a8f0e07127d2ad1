"""Spec: what decides the numbers of a run, as one frozen value with a short key.

Two equal specs are the same run, whoever made them. How and where a run is made (engine, device, folders) is not part
of a spec. A spec is written to a record as JSON and read back from it; a field that has its default is left out, so
that a new field does not change the keys of older specs.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from pyro_vd import Training, optim, schedules
from pyro_vd.errors import UserError

__all__ = ["Data", "Dense", "FineTune", "Fit", "Gradual", "Lottery", "Options", "Phase", "Spec", "Whiten", "decode",
           "encode", "key_of"]  # fmt: skip

KEY_LENGTH = 8  # hexadecimal digits


class Options(Mapping[str, Any]):
    """A read-only, hashable mapping: keyword arguments as part of a value."""

    def __init__(self, options: Mapping[str, Any] | None = None, /, **named: Any):
        self._items = {
            name: Options(value) if isinstance(value, Mapping) else tuple(value) if isinstance(value, list) else value
            for name, value in sorted({**(options or {}), **named}.items())
        }

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __repr__(self) -> str:
        return f"Options({self._items})"

    def plain(self) -> dict[str, Any]:
        """The same as a dictionary of dictionaries."""
        return {name: value.plain() if isinstance(value, Options) else value for name, value in self._items.items()}


@dataclass(frozen=True, kw_only=True)
class Data:
    """The images of a run.

    Attributes:
        name: of ``pyro_vd.data.load``: a dataset or a folder of images.
        size: pixels per side that the images are resized to; None for those of the network, see ``images.adapt``.
        validation: so many training images are held out and replace the test set.
        num_train, num_test: sizes of random subsets; None for all images.
        shift: largest random shift of training images, in pixels, anew in every batch.
        augment: random crops, flips and cutout of training images; ``cutout`` is the side of its square, 0 for none.
        shuffled: share of the training labels that are permuted, by the run's seed.
    """

    name: str
    size: int | None = None
    validation: int = 0
    num_train: int | None = None
    num_test: int | None = None
    shift: int = 0
    augment: bool = False
    cutout: int = 8
    shuffled: float = 0.0


@dataclass(frozen=True)
class Whiten:
    """No training: the fixed filters of the network's ``whiten`` are computed from training images."""


@dataclass(frozen=True, kw_only=True)
class Dense:
    """Training without a posterior, with Bernoulli dropout before every linear and convolution layer.

    Attributes:
        dropout: rates on the input of the network and on that of every other layer.
        smoothing: of the labels.
    """

    training: Training
    dropout: tuple[float, float] = (0.0, 0.0)
    smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Training of a scheme's model/guide pair.

    Attributes:
        scheme: a key of ``experiments.common.pairs.SCHEMES``.
        options: of the guide.
        prior: a key of ``experiments.common.priors.PRIORS``; None for the scheme's own.
        select: the random weights; None for those of every linear and convolution layer.
        noise_lr: factor of the learning rate for the guide's parameters other than the means.
        smoothing: of the labels.
        evaluate_every: epochs between two measurements of the test error; the last epoch always has one.
        threshold: of ``Posterior.masks``, which prunes the network after the phase; None if it is not pruned.
        monitors: keys of ``experiments.common.monitors.MONITORS``, measured after every epoch besides the error.
    """

    scheme: str
    training: Training
    options: Options = field(default_factory=Options)
    prior: str | None = None
    select: tuple[str, ...] | None = None
    noise_lr: float = 1.0
    smoothing: float = 0.0
    evaluate_every: int = 1
    threshold: float | None = None
    monitors: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """Training without noise after pruning; pruned weights stay 0."""

    training: Training


@dataclass(frozen=True, kw_only=True)
class Gradual:
    """Gradual magnitude pruning (Zhu and Gupta 2017, eq. 1), with one ranking over all layers.

    Attributes:
        sparsity: share of pruned weights at the end.
        start, end: shares of the epochs at which pruning begins and ends.
    """

    sparsity: float
    training: Training
    start: float = 0.0
    end: float = 0.2


@dataclass(frozen=True, kw_only=True)
class Lottery:
    """The lottery ticket (Frankle and Carbin 2019): rounds of training from the same initial weights, each of which
    prunes the same share of the remaining weights.

    Attributes:
        sparsity: share of pruned weights in the last round.
        rounds: at least 2; the last one trains the final ticket.
        training: of one round; the last round also has the ``extra`` epochs.
        hold: share of a round at the full learning rate, which then decays linearly to 0.
    """

    sparsity: float
    training: Training
    rounds: int = 13
    extra: int = 0
    hold: float = 0.5


Phase = Whiten | Dense | Fit | FineTune | Gradual | Lottery


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A run: a network, its data, and the phases of its training.

    Attributes:
        network: a key of ``pyro_vd.models.NETWORKS``, or the factory of a network, ``package.module:function``.
        options: of the network, besides the number of classes.
        weights: SHA-256 of the initial weights if they are not those of the seed.
        members: networks of an ensemble; member i has the seed ``seed * members + i``.
        num_samples: weight draws of a Monte Carlo prediction, divided among the members.
        shrink: whether dead units are removed from the compressed network.
        seed: of initial weights, noise, order of the examples and shuffled labels.
    """

    network: str
    data: Data
    phases: tuple[Phase, ...]
    options: Options = field(default_factory=Options)
    weights: str | None = None
    members: int = 1
    num_samples: int = 1
    shrink: bool = True
    seed: int = 0

    @property
    def main(self) -> Fit | Gradual | Lottery:
        """The phase that the run is about.

        Raises:
            UserError: if there is none.
        """
        for phase in self.phases:
            if isinstance(phase, Fit | Gradual | Lottery):
                return phase
        raise UserError("a spec needs a phase Fit, Gradual or Lottery")

    @property
    def method(self) -> str:
        """The scheme, or ``magnitude`` or ``lottery``."""
        phase = self.main
        return phase.scheme if isinstance(phase, Fit) else {Gradual: "magnitude", Lottery: "lottery"}[type(phase)]

    @property
    def label(self) -> str:
        """A short name for files: data, network, method. The key distinguishes specs with the same label."""
        words = (Path(self.data.name).name, self.network.rpartition(":")[2], self.method)
        return "-".join("".join(c if c.isalnum() or c in "_." else "_" for c in word)[:40] for word in words)

    def prefix(self, count: int) -> Spec:
        """The spec of the first ``count`` phases alone, which every spec with the same beginning has."""
        return replace(self, phases=self.phases[:count], members=1, num_samples=1, shrink=True)

    def member(self, index: int) -> Spec:
        """The spec of one network of the ensemble."""
        return replace(self, members=1, num_samples=1, seed=self.seed * self.members + index)


def key_of(spec: Any) -> str:
    """The short digest of every field but the seed. ``spec``: a frozen dataclass with a field ``seed``.

    Example:
        >>> key_of(Data(name="mnist", shift=1)) == key_of(Data(name="mnist", shift=1.0))
        True
    """
    body = encode(spec)
    body.pop("seed", None)
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()[:KEY_LENGTH]


def encode(value: Any) -> Any:
    """JSON of a value: a dataclass becomes an object with its ``kind`` and the fields that differ from their default.

    Raises:
        UserError: for what JSON has not, such as a plain function or infinity.
    """
    if is_dataclass(value):
        changed = {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != _default(f)}
        return {"kind": type(value).__name__, **{name: encode(part) for name, part in changed.items()}}
    if isinstance(value, Mapping):
        return {name: encode(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [encode(part) for part in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 1 and 1.0 are equal, and so must their keys be
    if not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"{value!r} cannot be part of a spec, which is written as JSON")
    return value


def decode(body: Any, kinds: Mapping[str, type] | None = None) -> Any:
    """The value that ``encode`` wrote.

    Args:
        kinds: name -> dataclass; by default those of a ``Spec``.

    Raises:
        UserError: for an unknown kind, and for an unknown, missing or wrong field.
    """
    known = KINDS if kinds is None else kinds
    if isinstance(body, list):
        return tuple(decode(part, known) for part in body)
    if not isinstance(body, dict):
        return body
    parts = {name: decode(part, known) for name, part in body.items() if name != "kind"}
    if "kind" not in body:
        return Options(parts)
    if body["kind"] not in known:
        raise UserError(f"unknown kind of value {body['kind']!r}")
    kind = known[body["kind"]]
    try:
        return kind(**parts)
    except TypeError as error:
        raise UserError(f"{kind.__name__}: {str(error).partition(') ')[2] or error}") from None


def _default(entry: Any) -> Any:
    """The default of a dataclass's field; a value that equals nothing if it has none."""
    return entry.default_factory() if callable(entry.default_factory) else entry.default


KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Spec, Data, Whiten, Dense, Fit, FineTune, Gradual, Lottery, Training,
        schedules.Constant, schedules.WarmUp, schedules.HoldThenDecay, schedules.StepDecay, schedules.Cosine,
        schedules.OneCycle,
        optim.Adam, optim.AdamW, optim.SGD, optim.DessiLBI, optim.DessiLBIAdam,
    )
}  # fmt: skip
