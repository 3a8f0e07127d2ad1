"""preflight: one forward and one backward pass before the first step, to find what would train silently wrong."""

from __future__ import annotations

import warnings

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd.distributions.event import of_one_weight
from pyro_vd.engine.objective import Objective
from pyro_vd.engine.python_state import python_state_kept
from pyro_vd.engine.step import untouched_randomness
from pyro_vd.errors import UserError
from pyro_vd.handlers.noisy_weight import NoLocalRule
from pyro_vd.handlers.record_calls import record_calls
from pyro_vd.ownership import graph_nodes, refuse_foreign
from pyro_vd.targets import check_target_values

__all__ = ["preflight"]


def preflight(objective: Objective, x: Tensor, y: Tensor, targets: Tensor) -> Distribution:
    """Refuses a pair that cannot learn from batches like this one. Parameters, buffers and random state stay.

    Args:
        objective: the training objective of the pair, in training mode.
        x, y: one batch.
        targets: of all examples, or those of the batch if only a loader knows the others.

    Returns:
        The distribution of the targets of this batch, without any ``to_event``.

    Raises:
        UserError: for inputs of another dtype than the network's or one that it does not run on, targets that the
            likelihood cannot give, parameters that no module owns, a network whose output does not depend on any
            parameter, and activation checkpointing.
        NoLocalRule: for a weight that meets an operation without a rule for this kind of noise.

    Warns:
        UserWarning: naming the sites that no gradient of the likelihood reaches.
    """
    _check_dtype(objective, x)
    beta = torch.ones((), device=x.device)
    with (
        untouched_randomness(x),
        python_state_kept(objective),
        pyro.validation_enabled(False),
        _Inspect(targets) as calls,
    ):
        try:
            loss, log_likelihood, _ = objective(x, y, beta)
        except NoLocalRule as error:
            raise NoLocalRule(_with_fits_argument(str(error), objective)) from None
        except RuntimeError as error:
            if x.is_floating_point():
                raise
            reason = str(error).splitlines()[0]
            raise UserError(
                f"the network does not run on inputs of {x.dtype} ({reason}); give x.float() for numbers, x.long() for "
                "tokens"
            ) from None
        if calls.params:
            raise UserError(
                f"the model or guide calls pyro.param({calls.params[0]!r}), which fit does not train; make it an "
                "nn.Parameter of an nn.Module, of the network or of a likelihood that is a module (see the example of "
                "pyro_vd.lift)"
            )
        refuse_foreign(loss, [*objective.parameters(), x, y], getattr(objective.model, "likelihood", None))
        reached = _reached(objective, log_likelihood)
    _report_unreached(objective, reached)
    return of_one_weight(calls.observed[-1])


class _Inspect(record_calls):
    """Compares all targets with their distribution as soon as there is one: the log likelihood of an impossible label
    is an error of PyTorch's without a name."""

    def __init__(self, targets: Tensor):
        super().__init__()
        self.targets = targets

    def _pyro_sample(self, msg):
        super()._pyro_sample(msg)
        if msg["is_observed"]:
            check_target_values(of_one_weight(msg["fn"]), self.targets)


def _check_dtype(objective: Objective, x: Tensor) -> None:
    weight = next(objective.guide.parameters())
    if x.is_floating_point() and x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        name = {torch.float32: "float", torch.float64: "double"}[weight.dtype]
        raise UserError(f"the inputs x are {x.dtype}, the network's weights {weight.dtype}; give x.{name}()")


def _with_fits_argument(message: str, objective: Objective) -> str:
    """The message of a missing rule with the mend that fit has, in the place of those of the handler."""
    missing, _, _ = message.partition(". Leave the weight out")
    others = "" if objective.noise == "weights" else " or call fit with noise='weights', which draws weights"
    return f"{missing}. Leave the weight out of lift(select=...){others}"


def _reached(objective: Objective, log_likelihood: Tensor) -> set[str]:
    """Names of the parameters that a gradient of the log likelihood reaches."""
    trainable = {name: parameter for name, parameter in objective.named_parameters() if parameter.requires_grad}
    if not log_likelihood.requires_grad:
        return set()
    recomputed = UserError(
        "the network uses activation checkpointing, which runs a part of it again in the backward pass, without the "
        "weights that were drawn for the step; switch it off, for instance by net.gradient_checkpointing_disable()"
    )
    if any("CheckpointFunction" in node.name() for node in graph_nodes(log_likelihood)):  # the reentrant kind
        raise recomputed
    try:
        gradients = torch.autograd.grad(log_likelihood, list(trainable.values()), allow_unused=True)
    except (AttributeError, torch.utils.checkpoint.CheckpointError):  # the other one
        raise recomputed from None
    return {name for name, gradient in zip(trainable, gradients, strict=True) if gradient is not None}


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
