"""Predictions from weight draws: outputs, targets, and quantiles of targets in bounded memory."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd.data.labeled_images import to_float
from pyro_vd.errors import UserError
from pyro_vd.model.eval_mode import eval_mode
from pyro_vd.model.lift import LiftedModel
from pyro_vd.process_state import PYRO_LOCK, fork_rng

__all__ = ["Draw", "Interval", "PosteriorPredictive", "concatenate"]


class Interval(NamedTuple):
    """Ends of the interval of every target, (n, ...) each."""

    low: Tensor
    high: Tensor


class Draw(NamedTuple):
    """A model with one draw of its weights."""

    model: LiftedModel
    weights: dict[str, Tensor]

    def outputs(self, x: Tensor, batch_size: int) -> Iterator[Tensor]:
        """The network's outputs, batch by batch, in eval mode."""
        for part in x.split(batch_size):
            with PYRO_LOCK:
                output = self._output(part)
            yield output

    def targets(self, x: Tensor, batch_size: int) -> Iterator[Tensor]:
        """One draw of the targets, batch by batch."""
        for output in self.outputs(x, batch_size):
            with PYRO_LOCK:
                target = self.model.likelihood(output)
                _check_one_target_per_input(target, output)
                drawn = target.sample()
            yield drawn

    def _output(self, x: Tensor) -> Tensor:
        with eval_mode(self.model), self.model.bound(self.weights) as net:
            output = net(to_float(x))
        if not isinstance(output, Tensor):
            raise UserError(
                f"the network returns {type(output).__name__}, and predictions need a tensor; lift a network whose "
                "forward returns the tensor that the likelihood reads"
            )
        return output


class PosteriorPredictive(ABC):
    """What predicts by weight draws: a posterior, or an ensemble of them."""

    @abstractmethod
    def _draw(self, number: int) -> Draw:
        """Draw ``number`` of a prediction, from 0 on."""

    @torch.no_grad()
    def predict(self, x: Tensor, num_samples: int, batch_size: int = 1000) -> Tensor:
        """Outputs of ``num_samples`` weight draws, shape (num_samples, len(x), ...); all examples share the draws.

        These are weight draws, not locally reparameterized activations, which lose the covariance between positions
        and between examples that prediction needs. The memory is that of the result and of one draw's outputs;
        :meth:`predict_mean` needs that of one draw's only.

        Raises:
            UserError: for num_samples < 1, or no inputs.
        """
        self._check_count("predict", num_samples, x)
        draws = (self._draw(number).outputs(x, batch_size) for number in range(num_samples))
        return _stack((concatenate(parts, len(x)) for parts in draws), num_samples)

    @torch.no_grad()
    def predict_mean(
        self,
        x: Tensor,
        num_samples: int,
        transform: Callable[[Tensor], Tensor] = lambda outputs: outputs,
        batch_size: int = 1000,
    ) -> Tensor:
        """Average of ``transform(outputs)`` over weight draws, shape (len(x), ...), in the memory of one draw.

        Args:
            x: inputs, (n, ...).
            num_samples: number of weight draws.
            transform: of the outputs of a batch; ``lambda logits: logits.softmax(-1)`` gives the predictive
                probabilities.
            batch_size: inputs in one forward pass.

        Raises:
            UserError: for num_samples < 1, or no inputs.
        """
        self._check_count("predict_mean", num_samples, x)

        def drawn(number: int) -> Tensor:
            return concatenate((transform(part) for part in self._draw(number).outputs(x, batch_size)), len(x))

        mean = drawn(0)
        for number in range(1, num_samples):
            part = drawn(number)
            _check_same_shape(part, mean)
            mean.lerp_(part, 1 / (number + 1))
        return mean

    @torch.no_grad()
    def predictive(self, x: Tensor, num_samples: int, batch_size: int = 1000) -> Tensor:
        """Draws of the targets, shape (num_samples, len(x), ...): a weight draw each, and the noise of the likelihood.

        All examples share the weight draws, and each has its own noise. The memory is that of the result;
        :meth:`quantiles` and :meth:`interval` need less.

        Args:
            x: inputs, (n, ...).
            num_samples: number of draws.
            batch_size: inputs in one forward pass.

        Raises:
            UserError: for num_samples < 1, no inputs, or a likelihood that does not give one target per input.
        """
        self._check_count("predictive", num_samples, x)
        draws = (self._draw(number).targets(x, batch_size) for number in range(num_samples))
        return _stack((concatenate(parts, len(x)) for parts in draws), num_samples)

    @torch.no_grad()
    def quantiles(self, x: Tensor, num_samples: int, q: float | Sequence[float], batch_size: int = 1000) -> Tensor:
        """Quantiles of the draws of :meth:`predictive`, shape (len(q), len(x), ...), or (len(x), ...) for a number q.

        The draws are reduced for ``batch_size`` inputs at a time, so the memory is that of the result and of
        ``num_samples * batch_size`` targets. Every batch draws the same weights again.

        Args:
            x: inputs, (n, ...).
            num_samples: number of draws.
            q: probabilities between 0 and 1.
            batch_size: inputs in one forward pass.

        Raises:
            UserError: for q outside (0, 1), for targets that are classes, and what :meth:`predictive` refuses.
        """
        self._check_count("quantiles", num_samples, x)
        levels = _check_levels("quantiles", q)
        seeds = torch.randint(2**62, (num_samples,)).tolist()
        parts = []
        for part in x.split(batch_size):
            targets = _stack((self._redraw(*draw, part) for draw in enumerate(seeds)), num_samples)
            if not targets.is_floating_point():
                raise UserError(f"quantiles: the targets are {targets.dtype}, as of classes; real targets are needed")
            parts.append(targets.quantile(levels.to(targets), dim=0))
        return torch.cat(parts, dim=levels.ndim)

    def interval(self, x: Tensor, num_samples: int, level: float = 0.9, batch_size: int = 1000) -> Interval:
        """The interval that holds the target of each input with probability ``level``, (len(x), ...) for each end.

        The same probability is left out on both sides. The memory is bounded as that of :meth:`quantiles`.

        Args:
            x: inputs, (n, ...).
            num_samples: number of draws.
            level: probability, between 0 and 1.
            batch_size: inputs in one forward pass.

        Raises:
            UserError: for a level outside (0, 1), and what :meth:`quantiles` refuses.
        """
        _check_levels("interval", level)
        tail = (1 - level) / 2
        return Interval(*self.quantiles(x, num_samples, (tail, 1 - tail), batch_size))

    def _redraw(self, number: int, seed: int, x: Tensor) -> Tensor:
        """One draw of the targets of ``x``, with the weights of this seed and new noise."""
        with PYRO_LOCK, fork_rng(x):
            torch.manual_seed(seed)
            draw = self._draw(number)
        return concatenate(draw.targets(x, len(x)), len(x))

    def _check_count(self, name: str, num_samples: int, x: Tensor) -> None:
        if num_samples < 1 or not len(x):
            raise UserError(
                f"{name}: num_samples={num_samples} draws for {len(x)} inputs; at least one of each is needed"
            )


def concatenate(parts: Iterator[Tensor], length: int) -> Tensor:
    """The parts in one tensor, filled one by one: a list of them would need twice the memory."""
    first = next(parts)
    found = first.new_empty((length, *first.shape[1:]))
    start = 0
    for part in itertools.chain([first], parts):
        found[start : start + len(part)] = part
        start += len(part)
    return found


def _stack(draws: Iterator[Tensor], length: int) -> Tensor:
    """The draws in one tensor, filled one by one."""
    first = next(draws)
    found = first.new_empty((length, *first.shape))
    for number, draw in enumerate(itertools.chain([first], draws)):
        _check_same_shape(draw, first)
        found[number] = draw
    return found


def _check_same_shape(draw: Tensor, first: Tensor) -> None:
    if draw.shape != first.shape:  # it would be broadcast
        raise UserError(
            f"the members of the ensemble give outputs of shapes {tuple(first.shape)} and {tuple(draw.shape)}; "
            "they must be equal"
        )


def _check_one_target_per_input(target: Distribution, output: Tensor) -> None:
    shape = target.batch_shape + target.event_shape
    if not target.batch_shape or target.batch_shape[0] != len(output):
        raise UserError(
            f"the likelihood of {len(output)} outputs is over targets of shape {tuple(shape)}; the first axis must "
            "count independent examples"
        )


def _check_levels(name: str, q: float | Sequence[float]) -> Tensor:
    levels = torch.as_tensor(q, dtype=torch.float64)
    if levels.ndim > 1 or not levels.numel() or not bool(((levels > 0) & (levels < 1)).all()):
        raise UserError(f"{name}: {q} is not a probability between 0 and 1, or several of them")
    return levels
