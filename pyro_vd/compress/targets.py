"""Targets of pruning: how sparse, small or fast the network must be, and the threshold that reaches it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, SupportsFloat

import torch
from torch import Tensor, nn

from pyro_vd.compress.multiplications import count_multiplications
from pyro_vd.compress.report import CompressionReport, compression_report
from pyro_vd.compress.shrink import shrink
from pyro_vd.compress.storage import compressed_bytes
from pyro_vd.errors import UserError
from pyro_vd.posterior import Posterior
from pyro_vd.pytree import Tree, as_tree, call, count, leaves, map_leaves, take

__all__ = ["Bytes", "Candidate", "Multiplications", "Sparsity", "Target", "TargetError", "call_network", "check_target",
           "find_candidate", "is_number", "make_candidate", "read_inputs", "try_shrink"]  # fmt: skip

NUM_TRACED = 64  # inputs that shrink traces the network with
NUM_STEPS = 50  # of the search; each halves an interval of thresholds
RESOLUTION = 1e-6  # of thresholds, about that of log_alpha in float32
CONSTANT = 1e-6  # differences between outputs, relative to the outputs, that are rounding


class Candidate(NamedTuple):
    """A network that one threshold makes of a posterior.

    Attributes:
        net: the posterior's mean, pruned at the threshold, and shrunk if :func:`pyro_vd.compress.shrink` takes it.
        report: counts of the pruned network, with the threshold.
        inputs: a few inputs of the network.
    """

    net: nn.Module
    report: CompressionReport
    inputs: Tree


class Target(Protocol):
    """What a pruned network must reach. Any class with these two methods is one, also of your own.

    Pruning more must lead from False to True. It is the other way for a target that has the attribute
    ``limits_pruning = True``, as :class:`~pyro_vd.compress.Accuracy` has: then the smallest network is taken for which
    it is still True.
    """

    def measure(self, candidate: Candidate) -> float:
        """The number that the target is about."""

    def is_reached(self, measured: float) -> bool:
        """Whether this number is enough."""


@dataclass(frozen=True)
class Sparsity:
    """At least this share of the lifted weights is 0.

    Raises:
        UserError: for a share that is not between 0 and 1.

    Example:
        >>> Sparsity(0.95).is_reached(0.94)
        False
    """

    share: float

    def __post_init__(self) -> None:
        if not (is_number(self.share) and 0 <= self.share < 1):
            raise UserError(f"{self}: the share of weights that are 0 must be at least 0 and below 1")

    def measure(self, candidate: Candidate) -> float:
        return candidate.report.sparsity

    def is_reached(self, measured: float) -> bool:
        return measured >= self.share - 1e-9  # of rounding


@dataclass(frozen=True)
class Bytes:
    """:func:`pyro_vd.compress.save` writes the network to a file of at most so many bytes.

    Raises:
        UserError: for a number below 1.
    """

    most: int

    def __post_init__(self) -> None:
        _check_most(self, self.most)

    def measure(self, candidate: Candidate) -> float:
        return compressed_bytes(candidate.net)

    def is_reached(self, measured: float) -> bool:
        return measured <= self.most


@dataclass(frozen=True)
class Multiplications:
    """The shrunk network needs at most so many multiplications for one input.

    See :func:`pyro_vd.compress.count_multiplications`.

    Raises:
        UserError: for a number below 1; later for a network that cannot be shrunk, because zeros save nothing.
    """

    most: float

    def __post_init__(self) -> None:
        _check_most(self, self.most)

    def measure(self, candidate: Candidate) -> float:
        return count_multiplications(candidate.net, candidate.inputs)

    def is_reached(self, measured: float) -> bool:
        return measured <= self.most


class TargetError(UserError):
    """A target that no threshold reaches; the message names the nearest point.

    Attributes:
        posterior: the trained pair.
        nearest: the network of the nearest point, with its report.
    """

    def __init__(self, message: str, posterior: Posterior, nearest: Candidate):
        super().__init__(message)
        self.posterior = posterior
        self.nearest = nearest


class _Point(NamedTuple):
    """A candidate with what the search asks about it.

    Attributes:
        kept: number of weights that the masks keep.
        measured: the target's number.
        is_constant: whether all inputs get the same output.
        is_enough: whether the target is reached, and not by a constant output.
    """

    candidate: Candidate
    kept: int
    measured: float
    is_constant: bool
    is_enough: bool

    def is_beyond(self, limits: bool) -> bool:
        """Whether the threshold that is looked for is at least this one: the target is reached here, or, if it limits
        pruning, is no longer."""
        return self.is_constant or self.is_enough != limits


def find_candidate(posterior: Posterior, inputs: Tree, target: Target | None = None) -> Candidate:
    """Prunes the posterior's mean at the scheme's threshold, or at a lower one if the target needs or allows it.

    By bisection, this is the largest threshold that reaches the target, or, if the target limits pruning, the smallest
    one. A network whose output is the same for all inputs reaches no target.

    Args:
        posterior: a trained pair.
        inputs: of the training set, (n, ...), at least two: for the running averages of batch normalization, and some
            of them for :func:`pyro_vd.compress.shrink`.
        target: what to reach; None for the scheme's threshold.

    Raises:
        UserError: for a scheme without a threshold of its own, see ``Posterior.masks``, and for what is not a target.
        TargetError: if no threshold reaches the target.
    """
    check_target(target)
    inputs = as_tree(inputs)
    start = posterior.threshold
    if target is None:
        return make_candidate(posterior.mean(posterior.masks(), inputs), posterior.model.priors, start, inputs)
    limits = bool(getattr(target, "limits_pruning", False))
    points = _Points(posterior, inputs, target)
    high, low = (start, points.at(start)), None
    for step in range(0 if high[1].is_beyond(limits) else NUM_STEPS):
        threshold = (low[0] + high[0]) / 2 if low else start - 2.0**step
        point = points.at(threshold)
        if point.is_beyond(limits):
            low = threshold, point
        else:
            high = threshold, point
        if low and (high[0] - low[0] < RESOLUTION or high[1].kept - low[1].kept <= 1):
            break
    enough = [point for point in points.known.values() if point.is_enough]
    if not enough:
        raise TargetError(_explain(target, high[1], low[1] if low else None), posterior, high[1].candidate)
    return (min if limits else max)(enough, key=lambda point: point.kept).candidate


def check_target(target: object) -> None:
    """Raises UserError unless it is a target, or None."""
    has_both = all(callable(getattr(target, name, None)) for name in ("measure", "is_reached"))
    if target is not None and (isinstance(target, type) or not has_both):
        raise UserError(
            f"target={target!r} is not a target; give Sparsity(share), Bytes(most), Multiplications(most), "
            "Latency(most, x) or Accuracy(least, x, y) of pyro_vd.compress, or an object with the methods measure and "
            "is_reached"
        )


class _Points:
    """The points of a posterior's pruning curve. Masks are nested, so a number of kept weights is one point."""

    def __init__(self, posterior: Posterior, inputs: Tree, target: Target):
        self.posterior = posterior
        self.inputs = inputs
        self.target = target
        self.known: dict[int, _Point] = {}

    def at(self, threshold: float) -> _Point:
        """The point at this threshold."""
        masks = self.posterior.masks(threshold)
        kept = sum(int(mask.sum()) for mask in masks.values())
        if kept not in self.known:
            pruned = self.posterior.mean(masks, self.inputs)
            candidate = make_candidate(pruned, self.posterior.model.priors, threshold, self.inputs)
            measured, constant = self.target.measure(candidate), _is_constant(candidate)
            enough = self.target.is_reached(measured) and not constant
            self.known[kept] = _Point(candidate, kept, measured, constant, enough)
        return self.known[kept]


def try_shrink(net: nn.Module, inputs: Tree) -> tuple[nn.Module, str]:
    """The shrunk network and an empty text; for one that ``shrink`` refuses, the network as it is and why."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "shrink: ")  # the report has it
            return shrink(net, take(inputs, slice(NUM_TRACED))), ""
    except UserError as refusal:
        return net, str(refusal).removesuffix("; the network is untouched")


def make_candidate(net: nn.Module, sites: Iterable[str], threshold: float, inputs: Tree) -> Candidate:
    """The candidate of a network that was pruned at the threshold."""
    some = take(inputs, slice(NUM_TRACED))
    report = compression_report(net, sites, take(some, slice(2)))
    return Candidate(try_shrink(net, some)[0], replace(report, threshold=threshold), some)


@torch.no_grad()
def _is_constant(candidate: Candidate) -> bool:
    """Whether all inputs get the same output, as after a layer without weights."""
    found = as_tree(call(candidate.net, map_leaves(torch.clone, candidate.inputs)))
    outputs = [leaf.double() for leaf in leaves(found) if isinstance(leaf, Tensor) and leaf.ndim]
    return bool(outputs) and all(bool((leaf - leaf[:1]).abs().max() <= CONSTANT * leaf.abs().max()) for leaf in outputs)


def _explain(target: Target, nearest: _Point, constant: _Point | None) -> str:
    """Why the target is not reached. ``constant`` is the next point, if its output is."""
    where = f"threshold {nearest.candidate.report.threshold:.4g}"
    if nearest.is_constant:
        return f"{target} is not reached: already at {where} all inputs get the same output; lower the weight of the KL"
    return (
        f"{target} is not reached by any threshold; the nearest point is {where} with {nearest.measured:,.6g}, where "
        f"{nearest.candidate.report.sparsity:.2%} of the lifted weights are 0"
        f"{'' if constant is None else '; at the next one, all inputs get the same output'}"
    )


def is_number(value: object) -> bool:
    return isinstance(value, SupportsFloat) and not isinstance(value, bool) and not getattr(value, "ndim", 0)


def read_inputs(target: object, x: Tree) -> Tree:
    """The inputs of a target.

    Raises:
        UserError: for inputs that are not tensors, or of no example.
    """
    x = as_tree(x)
    found = [leaf for leaf in leaves(x) if leaf is not None]
    others = [type(leaf).__name__ for leaf in found if not isinstance(leaf, Tensor)]
    if others or not found:
        raise UserError(
            f"{target}: the inputs x hold {', '.join(dict.fromkeys(others)) or 'nothing'}; give a tensor, or a tuple "
            "or dict of tensors"
        )
    if not count(x):
        raise UserError(f"{target}: the inputs x hold no example")
    return x


def call_network(target: object, net: nn.Module, x: Tree) -> Any:
    """The output of the network.

    Raises:
        UserError: for a network that does not take these inputs.
    """
    try:
        return call(net, x)
    except Exception as error:  # the network's own code may raise anything
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{target}: the network does not take the inputs x: {first}") from error


def _check_most(target: object, most: float) -> None:
    if not (is_number(most) and 1 <= most < math.inf):
        raise UserError(f"{target}: give a finite number of at least 1")
