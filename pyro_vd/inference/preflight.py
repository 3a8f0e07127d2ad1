"""preflight: one forward and one backward pass before the first step, to find what would silently train wrong."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.utils.checkpoint import CheckpointError

from pyro_vd.errors import UserError
from pyro_vd.handlers.rules.noisy_weight import NoLocalRule
from pyro_vd.inference.engine.objective import Objective
from pyro_vd.inference.engine.python_state import keep_python_state
from pyro_vd.model.event import base_distribution
from pyro_vd.model.ownership import refuse_foreign
from pyro_vd.model.record_calls import record_calls
from pyro_vd.model.selection import OBSERVED
from pyro_vd.model.targets import check_some_label, check_target_values, has_one_support
from pyro_vd.process_state import fork_rng
from pyro_vd.pytree import Tree, first, leaves, named_leaves, take

__all__ = ["check_later_targets", "preflight"]


DTYPE_MESSAGE = re.compile(r"dtype|scalar type|not implemented for|should be the same", re.IGNORECASE)  # PyTorch's


def preflight(
    objective: Objective, x: Tree, y: Tree, targets: Tree, last_size: int | None = None
) -> dict[str, Distribution]:
    """Refuses a pair that cannot learn from batches like this one. Parameters, buffers and random state do not change.

    Args:
        objective: the training objective of the pair, in training mode.
        x, y: one batch.
        targets: of all examples, or those of the batch if only a loader knows the others.
        last_size: examples in an epoch's last batch, if that is known.

    Returns:
        Observed site -> the distribution of the targets of this batch, without any ``to_event``.

    Raises:
        UserError: for inputs of a dtype that the network does not run on, targets that the likelihood cannot give,
            parameters that no module owns, a network whose output does not depend on any parameter, activation
            checkpointing, and a batch of one example that batch normalization cannot average.
        NoLocalRule: for a weight that meets an operation without a rule for this kind of noise.

    Warns:
        UserWarning: naming the sites that no gradient of the likelihood reaches.
    """
    size, are_all = len(first(y)), targets is not y
    smallest = min(some // objective.count_parts(some) for some in (size, last_size or size))
    _, x, y = next(objective.parts(x, y))
    size, beta = len(first(y)), torch.ones((), device=first(y).device)
    with (
        fork_rng(beta),
        keep_python_state(objective),
        pyro.validation_enabled(False),
        _Inspect(targets, are_all) as calls,
    ):
        try:
            loss, log_likelihood, _ = objective(x, y, beta)
        except NoLocalRule as error:
            raise NoLocalRule(_advise_for_fit(str(error), objective)) from None
        except UserError as error:  # without the table of sites that Pyro adds
            raise UserError(str(error).partition("\n")[0]) from None
        except ValueError as error:
            _refuse_batch_of_one(error, size)
            raise
        except RuntimeError as error:
            _refuse_dtype(error, objective, x)
            raise
        refuse_foreign(loss, objective.parameters(), (x, y), getattr(objective.model, "likelihood", None))
        reached = _reached(objective, log_likelihood)
    if smallest == 1 < size and all(leaf.shape[:1] == (size,) for leaf in leaves(x)):
        _check_batch_of_one(objective, take(x, slice(1)), take(y, slice(1)))
    _report_unreached(objective, reached)
    return {site: base_distribution(target) for site, target in calls.observed.items()}


def check_later_targets(targets: Mapping[str, Distribution], y: Tree) -> None:
    """Refuses the targets of a later batch that the likelihood cannot give.

    Args:
        targets: what :func:`preflight` returned. Those whose support depends on the input are not checked.
        y: of the batch.

    Raises:
        UserError: naming the site and the value.
    """
    for site, values in named_leaves(OBSERVED, y):
        if site in targets and has_one_support(targets[site]):
            check_target_values(targets[site], values, site)


class _Inspect(record_calls):
    """Compares all targets with their distribution as soon as it is known. Later, the log likelihood of an impossible
    label would be an error of PyTorch that does not name it."""

    def __init__(self, targets: Tree, are_all: bool):
        super().__init__()
        self.are_all = are_all
        self.targets = dict(named_leaves(OBSERVED, targets))

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        super()._pyro_sample(msg)
        if msg["is_observed"]:
            site, target = msg["name"], base_distribution(msg["fn"])
            check_target_values(target, self.targets[site] if has_one_support(target) else msg["value"], site)
            if self.are_all:
                check_some_label(target, self.targets[site], site)


def _check_batch_of_one(objective: Objective, x: Tree, y: Tree) -> None:
    with fork_rng(first(y)), keep_python_state(objective), pyro.validation_enabled(False), torch.no_grad():
        try:
            objective(x, y, torch.ones((), device=first(y).device))
        except ValueError as error:
            _refuse_batch_of_one(error, 1)
            raise


def _refuse_batch_of_one(error: ValueError, size: int) -> None:
    if size == 1 and "more than 1 value per channel" in str(error):
        raise UserError(
            "the last batch of an epoch, or every batch, or a part of one, is of one example, over which batch "
            "normalization cannot average; choose another batch_size or micro_batch_size, or drop_last=True in a "
            "DataLoader"
        ) from None


def _refuse_dtype(error: RuntimeError, objective: Objective, x: Tree) -> None:
    """Raises UserError, saying what to convert the inputs to, if PyTorch's error is about a dtype."""
    if not DTYPE_MESSAGE.search(str(error)):
        return
    weight = next(objective.guide.parameters())
    method = "double" if weight.dtype == torch.float64 else "float"
    others = {name: leaf for name, leaf in named_leaves("x", x) if leaf.dtype != weight.dtype}
    if not others:
        return
    given = ", ".join(map(str, dict.fromkeys(leaf.dtype for leaf in others.values())))
    advice = [_convert(name, leaf, method) for name, leaf in others.items()]
    reason = str(error).splitlines()[0]
    raise UserError(
        f"the network, whose weights are {weight.dtype}, does not run on inputs of {given} ({reason}); "
        f"give {', '.join(advice)}"
    ) from None


def _convert(name: str, leaf: Tensor, method: str) -> str:
    return f"{name}.{method}()" + ("" if leaf.is_floating_point() else f" for numbers, {name}.long() for tokens")


def _advise_for_fit(message: str, objective: Objective) -> str:
    """The message of a missing rule with what helps under fit, in place of what helps under the handler."""
    missing, _, _ = message.partition(". Leave the weight out")
    others = "" if objective.estimator == "weights" else " or call fit with estimator='weights', which draws weights"
    return f"{missing}. Leave the weight out of lift(select=...){others}"


def _reached(objective: Objective, log_likelihood: Tensor) -> set[str]:
    """Names of the parameters that a gradient of the log likelihood reaches."""
    trainable = {name: parameter for name, parameter in objective.named_parameters() if parameter.requires_grad}
    if not log_likelihood.requires_grad:
        return set()
    before = {name: parameter.grad for name, parameter in trainable.items()}
    try:
        for parameter in trainable.values():
            parameter.grad = None
        torch.autograd.backward(
            log_likelihood
        )  # not autograd.grad, which the reentrant kind of checkpointing does not know
        return {name for name, parameter in trainable.items() if parameter.grad is not None}
    except (AttributeError, CheckpointError):
        raise UserError(
            "the network uses activation checkpointing (torch.utils.checkpoint) around layers with random weights: it "
            "runs them again in the backward pass, without the weights that were drawn for the step; switch it off "
            "for them, or leave their weights out of lift(select=...)"
        ) from None
    finally:
        for name, parameter in trainable.items():
            parameter.grad = before[name]


def _report_unreached(objective: Objective, reached: set[str]) -> None:
    if not reached:
        raise UserError(
            "no gradient of the likelihood reaches any parameter, so nothing can be learned from the data: does "
            "forward run under torch.no_grad(), or detach its output?"
        )
    theta = getattr(objective.guide, "theta", {})
    sites = [site for site in theta if f"guide.theta.{site}" not in reached and theta[site].requires_grad]
    if sites:
        warnings.warn(
            f"no gradient of the likelihood reaches {', '.join(sites)}: forward does not call the layer in training, "
            "or does not see the random weight (it keeps the weight elsewhere, or asks isinstance(weight, Tensor)). "
            "The KL alone would train these weights, and pruning would count them; leave them out by lift(select=...)",
            UserWarning,
            stacklevel=2,
        )
