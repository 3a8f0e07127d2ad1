"""Grids for all parameters of a network, as coarse as its predictions allow, and training on these grids."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import SupportsFloat

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyro_vd.compress.copies import copy_network
from pyro_vd.compress.quantize import quantize, read_step_sizes
from pyro_vd.errors import UserError
from pyro_vd.inference.user_numbers import to_number, to_seed, to_whole_number

__all__ = ["Divergence", "categorical_divergence", "choose_step_sizes", "tune_on_grid"]

Divergence = Callable[[Tensor, Tensor], Tensor]  # outputs before and after, (batch, ...) -> its mean
FACTORS, OCTAVES = (1.0, 1.25, 1.5, 1.75), 20  # step sizes: a factor times a power of two, at most the largest entry
CHUNK = 1000  # inputs at once
LARGEST_LR = 1e6  # steps of a grid


def categorical_divergence(expected: Tensor, logits: Tensor) -> Tensor:
    """KL divergence between the predicted distributions of classes, in nats, mean over the batch.

    Args:
        expected: logits, (batch, classes).
        logits: of the changed network, (batch, classes).
    """
    before, after = expected.log_softmax(-1), logits.log_softmax(-1)
    return (before.exp() * (before - after)).sum(-1).mean()


@torch.no_grad()
def choose_step_sizes(
    net: nn.Module, inputs: Tensor, tolerance: float = 1e-3, divergence: Divergence = categorical_divergence
) -> dict[str, float]:
    """Parameter -> step size of a grid, for weights and biases, so that rounding hardly changes the predictions.

    The step size of a parameter is the largest at which rounding it, and it alone, changes the predictions by no more
    than its share of ``tolerance``. Shares are proportional to numbers of nonzero entries. That is the best division:
    the change grows with the square of the step d, and a file loses log2 d bits for each entry, so the change for a
    bit is the same everywhere if the change of a parameter is proportional to its entries.

    Args:
        net: a pruned network.
        inputs: of the training set, (n, ...), some thousands. Test inputs must not decide this.
        tolerance: how much the predictions may change in all, about.
        divergence: between outputs, for networks that do not give logits of classes.

    Raises:
        TypeError: for inputs that are not one tensor, and for what is not a network.
        UserError: for a tolerance that is not above 0, no inputs, outputs that are not finite, outputs without classes
            beside the default divergence, and a divergence that is not one number.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> steps = choose_step_sizes(nn.Linear(4, 3), torch.randn(100, 4), tolerance=1e-2)
        >>> list(steps)
        ['weight', 'bias']
    """
    if not isinstance(tolerance, SupportsFloat) or not float(tolerance) > 0:
        raise UserError(f"choose_step_sizes: tolerance={tolerance!r} must be above 0")
    _check_inputs("choose_step_sizes", inputs)
    rounded = copy_network(net, "choose_step_sizes").eval()
    expected = _outputs(rounded, inputs)
    _check_divergence("choose_step_sizes", divergence, expected)
    counts = {name: int(parameter.count_nonzero()) for name, parameter in rounded.named_parameters()}
    share = tolerance / max(1, sum(counts.values()))

    def measure_change(parameter: nn.Parameter, step: float) -> float:
        before = parameter.clone()
        parameter.copy_((parameter / step).round() * step)
        changed = float(divergence(expected, _outputs(rounded, inputs)))
        parameter.copy_(before)
        return math.inf if math.isnan(changed) else changed  # else bisection would take it for allowed

    return {
        name: _largest_step(parameter, share * counts[name], partial(measure_change, parameter))
        for name, parameter in rounded.named_parameters()
        if parameter.is_floating_point()
    }


@torch.inference_mode(False)
@torch.enable_grad()
def tune_on_grid(
    net: nn.Module,
    step_sizes: Mapping[str, float],
    inputs: Tensor,
    epochs: int = 2,
    lr: float = 0.05,
    batch_size: int = 100,
    divergence: Divergence = categorical_divergence,
    seed: int = 0,
) -> nn.Module:
    """A copy of ``net`` in eval mode with parameters on the grid, trained to predict what ``net`` predicts.

    Gradients are those at the rounded parameters, and Adam moves the parameters before rounding (the straight-through
    estimator of Bengio et al. 2013; learning from predictions is distillation, Hinton et al. 2015). Entries that are 0
    after rounding stay 0. Labels are not needed.

    Args:
        net: the pruned network, not rounded.
        step_sizes: parameter -> step size, of the parameters to train.
        inputs: the training set, (n, ...).
        epochs: passes over the inputs.
        lr: learning rate in steps of each grid; it falls to 0 linearly.
        batch_size: inputs of a batch.
        divergence: between outputs, for networks that do not give logits of classes.
        seed: of the order of the inputs.

    Raises:
        TypeError: for inputs that are not one tensor, and for what is not a network.
        UserError: as :func:`quantize` and :func:`choose_step_sizes`; for no step sizes, for a number out of range, and
            if parameters become NaN.
    """
    epochs, batch_size = (
        to_whole_number(f"tune_on_grid: {name}", value)
        for name, value in (("epochs", epochs), ("batch_size", batch_size))
    )
    if epochs < 0 or batch_size < 1:
        raise UserError(f"tune_on_grid: epochs={epochs} must be at least 0, and batch_size={batch_size} at least 1")
    lr, seed = to_number("tune_on_grid: lr", lr, 0.0, LARGEST_LR), to_seed("tune_on_grid: seed", seed)
    _check_inputs("tune_on_grid", inputs)
    before = copy_network(net, "tune_on_grid").eval()
    step_sizes = read_step_sizes("tune_on_grid", net, step_sizes)
    if not step_sizes:
        raise UserError("tune_on_grid: there are no step sizes; choose_step_sizes finds them")
    rounded = quantize(net, step_sizes)
    with torch.no_grad():
        _check_divergence("tune_on_grid", divergence, _outputs(before, inputs[:batch_size]))
    masks = {name: rounded.get_parameter(name) != 0 for name in step_sizes}
    free = {name: (before.get_parameter(name).detach() * mask).requires_grad_() for name, mask in masks.items()}
    groups = [{"params": [parameter], "lr": lr * step_sizes[name]} for name, parameter in free.items()]
    optimizer = torch.optim.Adam(groups)
    batches = _shuffle(len(inputs), batch_size, epochs, seed)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(batches))
    for index in batches:
        batch = inputs[index.to(inputs.device)]
        with torch.no_grad():
            expected = before(batch)
        outputs = functional_call(rounded, {name: _round(free[name], step_sizes[name]) for name in free}, (batch,))
        optimizer.zero_grad()
        divergence(expected, outputs).backward()
        for name, parameter in free.items():
            if parameter.grad is not None:
                parameter.grad *= masks[name]
        optimizer.step()
        schedule.step()
    lost = [name for name, parameter in free.items() if not bool(parameter.isfinite().all())]
    if lost:
        raise UserError(
            f"tune_on_grid: {', '.join(lost)} became NaN or infinite; look for NaN in the inputs, or lower lr"
        )
    for name, parameter in free.items():
        rounded.get_parameter(name).data.copy_(_round(parameter, step_sizes[name]).detach())
    return rounded


def _check_inputs(caller: str, inputs: Tensor) -> None:
    if not isinstance(inputs, Tensor):
        raise TypeError(f"{caller}: inputs must be one tensor, not {type(inputs).__name__}")
    if not inputs.ndim or not len(inputs):
        raise UserError(
            f"{caller}: inputs of shape {tuple(inputs.shape)} hold no example; give some of the training set"
        )


def _check_divergence(caller: str, divergence: Divergence, outputs: Tensor) -> None:
    """Refuses outputs, and a divergence between them, that say nothing about the predictions."""
    if not bool(outputs.isfinite().all()):
        raise UserError(f"{caller}: the outputs of the network hold NaN or infinite numbers")
    if divergence is categorical_divergence and (outputs.ndim < 2 or outputs.shape[-1] < 2):
        raise UserError(
            f"{caller}: outputs of shape {tuple(outputs.shape)} are not logits of classes; give divergence=, a "
            "function of the outputs before and after"
        )
    found = divergence(outputs, outputs)
    are_many = isinstance(found, Tensor) and found.ndim > 0
    if are_many or not isinstance(found, SupportsFloat) or not math.isfinite(found):
        given = f"a tensor of shape {tuple(found.shape)}" if are_many else found
        raise UserError(f"{caller}: divergence= of outputs from themselves is {given}; it must be one finite number")


def _outputs(net: nn.Module, inputs: Tensor) -> Tensor:
    try:
        found = [net(chunk) for chunk in inputs.split(CHUNK)]
    except Exception as error:  # the network's own code may raise anything
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"the network does not run on inputs of shape {tuple(inputs.shape)}: {first}") from error
    if not isinstance(found[0], Tensor):
        raise UserError(
            f"the network returns a {type(found[0]).__name__}, and one tensor is needed; wrap it in a module that "
            "returns one"
        )
    return torch.cat(found)


def _largest_step(parameter: Tensor, allowed: float, measure_change: Callable[[float], float]) -> float:
    """The largest of the step sizes whose change is allowed, found by bisection; of none, the smallest."""
    largest = parameter.abs().max().item() if parameter.numel() else 0.0
    exponent = math.frexp(largest)[1]
    steps = [factor * 2.0**power for power in range(exponent - OCTAVES, exponent) for factor in FACTORS]
    return steps[max(0, bisect.bisect_right(steps, allowed, key=measure_change) - 1)]


def _round(parameter: Tensor, step: float) -> Tensor:
    """The parameter on its grid; the gradient passes through unchanged."""
    return parameter + ((parameter / step).round() * step - parameter).detach()


def _shuffle(count: int, batch_size: int, epochs: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(count, generator=generator) for _ in range(epochs)]
    return [index for order in orders for index in order.split(batch_size)]
