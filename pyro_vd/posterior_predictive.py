"""Predictions from weight draws: outputs, targets, and quantiles of targets in bounded memory."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_vd.data.labeled_images import to_float
from pyro_vd.errors import UserError
from pyro_vd.model.eval_mode import eval_mode
from pyro_vd.model.lift import OBSERVED, LiftedModel
from pyro_vd.model.targets import likelihood_sites
from pyro_vd.process_state import PYRO_LOCK, fork_rng
from pyro_vd.pytree import (
    Tree,
    as_tree,
    call,
    check_inputs,
    concatenate,
    count,
    first,
    leaves,
    map_leaves,
    named_leaves,
    split,
    take,
)

__all__ = ["Draw", "Interval", "PosteriorPredictive"]

IN_ONE = "; batch_size=None gives the network all of them at once"


class Interval(NamedTuple):
    """Ends of the interval of every target, (n, ...) each, in the containers of the targets."""

    low: Tree
    high: Tree


class Draw(NamedTuple):
    """A model with one draw of its weights."""

    model: LiftedModel
    weights: dict[str, Tensor]

    def outputs(self, x: Tree, batch_size: int | None) -> Iterator[Tree]:
        """The network's outputs, batch by batch, in eval mode."""
        for part in split(x, batch_size):
            with PYRO_LOCK:
                output = self._output(part)
            _check_output(output, None if batch_size is None else len(first(part)))
            yield output

    def targets(self, x: Tree, batch_size: int | None) -> Iterator[Tree]:
        """One draw of the targets, batch by batch."""
        for output in self.outputs(x, batch_size):
            with PYRO_LOCK:
                target = as_tree(self.model.likelihood(output))
                _check_one_target_per_input(target, None if batch_size is None else len(first(output)))
                drawn = map_leaves(lambda one: one.sample(), target)
            yield drawn

    def _output(self, x: Tree) -> Tree:
        with eval_mode(self.model), self.model.bound(self.weights) as net:
            return as_tree(call(net, to_float(x)))


class PosteriorPredictive(ABC):
    """What predicts by weight draws: a posterior, or an ensemble of them.

    Inputs ``x`` are as in ``fit``: a tensor, a tuple of positional arguments of the network, or a dict of arguments by
    name. Outputs and targets are tensors, or tensors in the containers of the network or of the likelihood; the shapes
    are those of each tensor in them.
    """

    @abstractmethod
    def _draw(self, number: int) -> Draw:
        """Draw ``number`` of a prediction, from 0 on."""

    @torch.no_grad()
    def predict(self, x: Tree, num_samples: int, batch_size: int | None = 1000) -> Tree:
        """Outputs of ``num_samples`` weight draws, shape (num_samples, n, ...); all examples share the draws.

        These are weight draws, not locally reparameterized activations, which lose the covariance between positions
        and between examples that prediction needs. The memory is that of the result and of one draw's outputs;
        :meth:`predict_mean` needs that of one draw's only.

        Args:
            x: inputs, (n, ...).
            num_samples: number of weight draws.
            batch_size: inputs in one forward pass. None for all at once: needed for inputs whose first axis does not
                count examples, such as the nodes and edges of a graph.

        Raises:
            UserError: for num_samples < 1, no inputs, inputs that the network does not take, or outputs that are no
                tensors with one entry for each input.
        """
        x, length = self._check("predict", num_samples, x, batch_size)
        draws = (self._draw(number).outputs(x, batch_size) for number in range(num_samples))
        return _stack((concatenate(parts, length) for parts in draws), num_samples)

    @torch.no_grad()
    def predict_mean(
        self,
        x: Tree,
        num_samples: int,
        transform: Callable[[Any], Any] = lambda outputs: outputs,
        batch_size: int | None = 1000,
    ) -> Tree:
        """Average of ``transform(outputs)`` over weight draws, shape (n, ...), in the memory of one draw.

        Args:
            x: inputs, (n, ...).
            num_samples: number of weight draws.
            transform: of the outputs of a batch; ``lambda logits: logits.softmax(-1)`` gives the predictive
                probabilities.
            batch_size: see :meth:`predict`.

        Raises:
            UserError: as :meth:`predict`.
        """
        x, length = self._check("predict_mean", num_samples, x, batch_size)

        def drawn(number: int) -> Tree:
            outputs = self._draw(number).outputs(x, batch_size)
            return concatenate((as_tree(transform(part)) for part in outputs), length)

        mean = map_leaves(torch.clone, drawn(0))  # a single part may be a tensor of the network's own
        for number in range(1, num_samples):
            part = drawn(number)
            _check_same_shape(part, mean)
            map_leaves(lambda one, other: one.lerp_(other, 1 / (number + 1)), mean, part)  # noqa: B023
        return mean

    @torch.no_grad()
    def predictive(self, x: Tree, num_samples: int, batch_size: int | None = 1000) -> Tree:
        """Draws of the targets, shape (num_samples, n, ...): a weight draw each, and the noise of the likelihood.

        All examples share the weight draws, and each has its own noise. The memory is that of the result;
        :meth:`quantiles` and :meth:`interval` need less.

        Args:
            x: inputs, (n, ...).
            num_samples: number of draws.
            batch_size: see :meth:`predict`.

        Raises:
            UserError: as :meth:`predict`, and for a likelihood that does not give one target per input.
        """
        x, length = self._check("predictive", num_samples, x, batch_size)
        draws = (self._draw(number).targets(x, batch_size) for number in range(num_samples))
        return _stack((concatenate(parts, length) for parts in draws), num_samples)

    @torch.no_grad()
    def quantiles(self, x: Tree, num_samples: int, q: float | Sequence[float], batch_size: int | None = 1000) -> Tree:
        """Quantiles of the draws of :meth:`predictive`, shape (len(q), n, ...), or (n, ...) for a number q.

        The draws are reduced for ``batch_size`` inputs at a time, so the memory is that of the result and of
        ``num_samples * batch_size`` targets. Every batch draws the same weights again.

        Args:
            x: inputs, (n, ...).
            num_samples: number of draws.
            q: probabilities between 0 and 1.
            batch_size: see :meth:`predict`.

        Raises:
            UserError: for q outside (0, 1), for targets that are classes, and what :meth:`predictive` refuses.
        """
        x, _ = self._check("quantiles", num_samples, x, batch_size)
        levels = _check_levels("quantiles", q)
        seeds = torch.randint(2**62, (num_samples,)).tolist()
        parts = []
        for part in split(x, batch_size):
            targets = _stack((self._redraw(*draw, part, batch_size) for draw in enumerate(seeds)), num_samples)
            _check_real(targets)
            parts.append(map_leaves(lambda one: one.quantile(levels.to(one), dim=0), targets))
        return map_leaves(lambda *found: torch.cat(found, dim=levels.ndim), *parts)

    def interval(self, x: Tree, num_samples: int, level: float = 0.9, batch_size: int | None = 1000) -> Interval:
        """The interval that holds the target of each input with probability ``level``, (n, ...) for each end.

        The same probability is left out on both sides. The memory is bounded as that of :meth:`quantiles`.

        Args:
            x: inputs, (n, ...).
            num_samples: number of draws.
            level: probability, between 0 and 1.
            batch_size: see :meth:`predict`.

        Raises:
            UserError: for a level outside (0, 1), and what :meth:`quantiles` refuses.
        """
        _check_levels("interval", level)
        tail = (1 - level) / 2
        ends = self.quantiles(x, num_samples, (tail, 1 - tail), batch_size)
        return Interval(take(ends, 0), take(ends, 1))

    def _redraw(self, number: int, seed: int, x: Tree, batch_size: int | None) -> Tree:
        """One draw of the targets of ``x``, one batch, with the weights of this seed and new noise."""
        with PYRO_LOCK, fork_rng(first(x)):
            torch.manual_seed(seed)
            draw = self._draw(number)
        return next(draw.targets(x, batch_size))

    def _check(self, name: str, num_samples: int, x: Tree, batch_size: int | None) -> tuple[Tree, int | None]:
        """The inputs as a tree, and their number; None if the network is given all of them at once."""
        x = as_tree(x)
        check_inputs(x, name)
        if batch_size is not None and batch_size < 1:
            raise UserError(f"{name}: batch_size={batch_size} must be at least 1, or None for all inputs at once")
        length = None if batch_size is None else count(x, "x", IN_ONE)
        self._check_count(name, num_samples, first(x).numel() if length is None else length)
        return x, length

    def _check_count(self, name: str, num_samples: int, num_inputs: int) -> None:
        if num_samples < 1 or not num_inputs:
            raise UserError(
                f"{name}: num_samples={num_samples} draws for {num_inputs} inputs; at least one of each is needed"
            )


def _stack(draws: Iterator[Tree], length: int) -> Tree:
    """The draws in one tree, filled one by one."""
    start = next(draws)
    found = map_leaves(lambda leaf: leaf.new_empty((length, *leaf.shape)), start)
    for number, draw in enumerate(itertools.chain([start], draws)):
        _check_same_shape(draw, start)
        map_leaves(lambda whole, leaf: whole[number].copy_(leaf), found, draw)  # noqa: B023
    return found


def _check_same_shape(draw: Tree, start: Tree) -> None:
    shapes, own = ([tuple(leaf.shape) for leaf in leaves(tree) if leaf is not None] for tree in (start, draw))
    if shapes != own:  # they would be broadcast
        raise UserError(
            f"the members of the ensemble give outputs of shapes {_list(shapes)} and {_list(own)}; they must be equal"
        )


def _list(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))


def _check_output(output: Tree, size: int | None) -> None:
    """Refuses an output that cannot be joined to those of other batches."""
    for name, leaf in named_leaves("output", output):
        if leaf is not None and not isinstance(leaf, Tensor):
            raise UserError(
                f"the network returns a {type(leaf).__name__} ({name}), and predictions need tensors; lift a network "
                "whose forward returns only tensors, such as those that the likelihood reads"
            )
        if leaf is not None and size is not None and (not leaf.ndim or len(leaf) != size):
            raise UserError(
                f"the network returns {name} of shape {tuple(leaf.shape)} for {size} inputs; the first axis must count "
                f"the inputs{IN_ONE}"
            )


def _check_one_target_per_input(target: Tree, size: int | None) -> None:
    for name, one in likelihood_sites(target).items():
        if not one.batch_shape or (size is not None and one.batch_shape[0] != size):
            what = "the likelihood" if name == OBSERVED else f"the likelihood of {name}"
            of = "" if size is None else f" of {size} outputs"
            raise UserError(
                f"{what}{of} is over targets of shape {tuple(one.batch_shape + one.event_shape)}; the first axis must "
                "count independent examples"
            )


def _check_real(targets: Tree) -> None:
    for name, drawn in named_leaves(OBSERVED, targets):
        if not drawn.is_floating_point():
            raise UserError(f"quantiles: {name} is {drawn.dtype}, as of classes; real targets are needed")


def _check_levels(name: str, q: float | Sequence[float]) -> Tensor:
    levels = torch.as_tensor(q, dtype=torch.float64)
    if levels.ndim > 1 or not levels.numel() or not bool(((levels > 0) & (levels < 1)).all()):
        raise UserError(f"{name}: {q} is not a probability between 0 and 1, or several of them")
    return levels
