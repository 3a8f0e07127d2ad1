"""Training: what decides a fit's numbers, as one value."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict, get_args

from pyro_vd.errors import UserError, did_you_mean
from pyro_vd.inference.engine import Estimator, MatmulDtype
from pyro_vd.inference.schedules import Constant, Schedule, describe_schedule
from pyro_vd.inference.user_numbers import to_number, to_whole_number
from pyro_vd.optim import Adam, Optimizer, TorchFactory, check_optimizer

__all__ = ["LARGEST_LR", "Training", "TrainingOptions", "make_training"]

LARGEST_LR = 1e6  # Adam moves a parameter by about the rate: no run of it reaches float32's limits by this one
LARGEST_NORM = 1e12
LARGEST_KL_WEIGHT = 1e12
ONE = Constant()  # the default of lr_schedule and kl_schedule
ADAM = Adam()  # the default of optimizer


class _Factors(Mapping[str, float]):
    """A read-only, hashable dict: a ``MappingProxyType`` can be neither hashed nor pickled."""

    __slots__ = ("_factors",)

    def __init__(self, factors: Mapping[str, float]):
        self._factors = dict(sorted(factors.items()))  # sorted: those that are equal have the same repr

    def __getitem__(self, word: str) -> float:
        return self._factors[word]

    def __iter__(self) -> Iterator[str]:
        return iter(self._factors)

    def __len__(self) -> int:
        return len(self._factors)

    def __hash__(self) -> int:
        return hash(tuple(self._factors.items()))

    def __repr__(self) -> str:
        return repr(self._factors)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What decides a fit's numbers, besides its data, its pair and its seed. How a fit is run (engine, checkpoint,
    progress) is not part of it.

    Two that are equal are the same training, unless a schedule is a plain function: that is equal only to itself.
    A Training cannot be changed, and is hashable if its schedules are. ``dataclasses.replace`` makes one that differs
    in some fields.

    Attributes:
        epochs: passes over the training set, at least 1.
        batch_size: examples in a step, at least 1; the last batch of an epoch may be smaller. A DataLoader brings its
            own batches.
        lr: the optimizer's learning rate, multiplied by ``lr_schedule(epoch)``.
        lr_scale: factors of ``lr`` for parameters by a word of their dotted name, e.g. ``{"log_sigma2": 10.0}``. It
            becomes a read-only mapping, sorted by word. None is the default, no factors.
        lr_schedule: factor of ``lr`` by epoch, or at every step, see :mod:`pyro_vd.inference.schedules`. None is the
            default, 1.
        kl_schedule: KL weight by epoch. None is the default, 1.
        estimator: of the gradient, by how the noise is drawn: "local" reparameterization of every output, "flipout"
            (one weight draw a step, signs for every example), or one draw of the "weights" for the batch.
        threshold: train-time masking, see ``local_reparam``: a number, a schedule of numbers (``math.inf`` in epochs
            without masking), or None for no masking.
        matmul_dtype: of the means' matrix products and convolutions, "float32" or, for hardware that has it,
            "bfloat16"; parameters, variances, KL and likelihood are float32 in either, see ``matmul_precision``.
        optimizer: a value of :mod:`pyro_vd.optim`, or what makes a ``torch.optim.Optimizer`` of a list of parameter
            groups: a class or a ``functools.partial`` of one. The latter only steps eagerly, and has no checkpoints.
            None is the default, Adam.
        micro_batch_size: a batch of more examples is processed in parts of at most so many, and their gradients are
            added up (gradient accumulation): a step needs the memory of a part, and its update is that of the batch.
            Batch normalization averages over a part. None for no parts.
        clip_norm: if the gradients of all parameters together have a larger norm, they are multiplied by one factor so
            that they have this one. The norm is that of the loss per training example. None for no clipping.

    Raises:
        UserError: for a number out of range, a word that is not a choice, an ``lr_scale`` that is not a mapping of
            words, a schedule that cannot be called, a threshold with another estimator than "local", or an optimizer
            that is neither a value nor can be called.

    Example:
        >>> import dataclasses
        >>> from pyro_vd import schedules
        >>> training = Training(epochs=20, lr=2e-3, kl_schedule=schedules.WarmUp(wait=5, ramp=15))
        >>> training == Training(epochs=20, lr=2e-3, kl_schedule=schedules.WarmUp(5, 15))
        True
        >>> dataclasses.replace(training, epochs=40).epochs
        40
    """

    epochs: int
    batch_size: int = 100
    lr: float = 1e-3
    lr_scale: Mapping[str, float] = field(default_factory=dict)
    lr_schedule: Schedule = ONE
    kl_schedule: Schedule = ONE
    estimator: Estimator = "local"
    threshold: float | Schedule | None = None
    matmul_dtype: MatmulDtype = "float32"
    optimizer: Optimizer | TorchFactory = ADAM
    clip_norm: float | None = None
    micro_batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "micro_batch_size"):
            if name != "micro_batch_size" or self.micro_batch_size is not None:
                self._set(name, _count(name, getattr(self, name)))
        self._set("lr", to_number("lr", self.lr, 0.0, LARGEST_LR))
        for name, default in (("lr_scale", {}), ("lr_schedule", ONE), ("kl_schedule", ONE), ("optimizer", ADAM)):
            if getattr(self, name) is None:
                self._set(name, default)
        self._set("lr_scale", _read_factors(self.lr_scale, self._largest_factor))
        _check_choice("estimator", self.estimator, get_args(Estimator))
        _check_choice("matmul_dtype", self.matmul_dtype, get_args(MatmulDtype))
        check_optimizer(self.optimizer)
        if self.clip_norm is not None:
            self._set("clip_norm", _read_norm(self.clip_norm))
        for name in ("lr_schedule", "kl_schedule"):
            if not callable(getattr(self, name)):
                raise UserError(f"{name}={getattr(self, name)!r} must be a function of the epoch, a schedule")
        if self.threshold is None:
            return
        if self.estimator != "local":
            raise UserError(
                f"threshold masks the means of local_reparam; with estimator={self.estimator!r} leave it out"
            )
        if not callable(self.threshold):
            self._set("threshold", to_number("threshold", self.threshold, -math.inf, math.inf))

    @property
    def schedules(self) -> dict[str, Schedule]:
        """Name -> schedule of all that may change from epoch to epoch. A threshold that is a number is a Constant,
        and None is a Constant of infinity."""
        threshold = math.inf if self.threshold is None else self.threshold
        return {
            "lr_schedule": self.lr_schedule,
            "kl_schedule": self.kl_schedule,
            "threshold": threshold if callable(threshold) else Constant(threshold),
        }

    def evaluate(self, name: str, epoch: float) -> float:
        """What the schedule ``name`` gives at this epoch, as a Python float. A fraction is for schedules per step.

        Raises:
            UserError: for a value that is not a number, or out of range.
        """
        low, high = {
            "lr_schedule": (0.0, self._largest_factor),
            "kl_schedule": (0.0, LARGEST_KL_WEIGHT),
            "threshold": (-math.inf, math.inf),
        }[name]
        return to_number(f"{name}({epoch})", self.schedules[name](epoch), low, high)  # type: ignore[arg-type]

    def check_schedules(self) -> None:
        """Raises UserError for a schedule that gives, in one of the epochs, what :meth:`evaluate` refuses. A plain
        function is not asked beforehand: it may follow the training."""
        for name, schedule in self.schedules.items():
            for epoch in range(self.epochs if describe_schedule(schedule) is not None else 0):
                self.evaluate(name, epoch)

    @property
    def _largest_factor(self) -> float:
        """Of the learning rate."""
        return LARGEST_LR / max(self.lr, 1.0)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


class TrainingOptions(TypedDict, total=False):
    """The fields of :class:`Training` as keyword arguments, the short form of ``fit`` and ``fit_seeds``."""

    epochs: int
    batch_size: int
    lr: float
    lr_scale: Mapping[str, float]
    lr_schedule: Schedule
    kl_schedule: Schedule
    estimator: Estimator
    threshold: float | Schedule | None
    matmul_dtype: MatmulDtype
    optimizer: Optimizer | TorchFactory
    clip_norm: float | None
    micro_batch_size: int | None


def make_training(function: Callable[..., object], training: Training | None, options: TrainingOptions) -> Training:
    """The training that was given to ``function``, as a value or by its fields.

    Raises:
        TypeError: for options that are not fields.
        UserError: for neither a value nor the number of epochs, or for a value and fields.
    """
    caller = function.__name__
    _check_names(function, options)
    if training is None:
        if "epochs" not in options:
            raise UserError(f"{caller}: give epochs=, or a Training")
        return Training(**options)
    if not isinstance(training, Training):
        raise UserError(f"{caller}: training is of type {type(training).__name__}; give a pyro_vd.Training, or epochs=")
    if options:
        raise UserError(
            f"{caller}: a Training and {', '.join(options)} are given; give either, or "
            "dataclasses.replace(training, ...)"
        )
    return training


def _check_names(function: Callable[..., object], options: Mapping[str, object]) -> None:
    """Raises TypeError, as Python does, for a keyword that is neither a field of Training nor the function's own."""
    names = [each.name for each in fields(Training)]
    unknown = next((name for name in options if name not in names), None)
    if unknown is None:
        return
    parameters = inspect.signature(function).parameters.values()
    own = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    raise TypeError(
        f"{function.__name__}: unexpected keyword argument {unknown!r}; a Training has {', '.join(names)}, and "
        f"{function.__name__} itself {', '.join(own)}{did_you_mean(unknown, [*names, *own])}"
    )


def _read_factors(lr_scale: Any, largest: float) -> _Factors:
    if not isinstance(lr_scale, Mapping) or not all(isinstance(word, str) for word in lr_scale):
        raise UserError(f"lr_scale={lr_scale!r} must be a mapping of words to numbers, such as {{'log_sigma2': 10.0}}")
    return _Factors({word: to_number(f"lr_scale[{word!r}]", x, 0.0, largest) for word, x in lr_scale.items()})


def _read_norm(clip_norm: float) -> float:
    norm = to_number("clip_norm", clip_norm, 0.0, LARGEST_NORM)
    if norm == 0:
        raise UserError("clip_norm=0 would stop the training; give a positive number, or None for no clipping")
    return norm


def _count(name: str, value: int) -> int:
    count = to_whole_number(name, value)
    if count < 1:
        raise UserError(f"{name}={count} must be at least 1")
    return count


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{name}={value!r}: {name} is one of {', '.join(choices)}")
