"""lift: makes a Pyro model from a plain nn.Module, a prior and a likelihood."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_vd.errors import UserError
from pyro_vd.model.event import base_distribution, to_event
from pyro_vd.model.layers import TRANSPOSED_CONVOLUTIONS, input_dim_of
from pyro_vd.model.likelihoods import BY_LOGITS, Likelihood
from pyro_vd.model.param_store import ParamStoreModule
from pyro_vd.model.record_calls import record_calls
from pyro_vd.model.selection import OBSERVED, Select, Slot, select_slots
from pyro_vd.model.targets import as_target, likelihood_sites, observed_sites
from pyro_vd.pytree import Tree, as_tree, call, count

__all__ = ["OBSERVED", "LiftedModel", "lift"]

T = TypeVar("T")
Prior = type[Distribution] | Distribution | Callable[[str, Tensor], Distribution]


def lift(
    net: nn.Module,
    prior: Prior,
    likelihood: Likelihood | type[Distribution],
    num_data: int,
    select: Select | None = None,
) -> LiftedModel:
    """Turns a network into a Pyro model in which the selected weights are random.

    Args:
        net: any nn.Module, on the device that it runs on. It is not changed: the model keeps a copy of everything
            except the selected weights.
        prior: the prior of one weight, as a class without required arguments (``LogUniform``) or a scalar instance
            (``Normal(0., 1.)``); or a callable ``(name, parameter) -> distribution`` over the parameter's shape.
        likelihood: a callable from the network's output to the distribution of the targets: one of the library's, as
            ``pyro_vd.Gaussian(0.1)``, or your own. For the classes Categorical and Bernoulli, the output is logits. For
            targets in a tuple or a dict, it gives a tuple or a dict of distributions, whose log-likelihoods are added.
        num_data: number of training examples. The log likelihood of a batch of B examples is scaled by num_data / B.
        select: the parameters that get the prior: names, or a predicate ``(name, module, parameter) -> bool``. Default:
            the weights of linear and convolution layers and of attention's projections, except frozen ones
            (``requires_grad=False``). Biases, normalization layers and all others stay point parameters. A tied
            parameter is selected by any of its names.

    Returns:
        A model ``model(x, y=None)`` with one sample site per selected parameter, under its name in
        ``net.named_parameters()``, and the observed site ``y``, or ``y.key`` for each of several targets. It returns
        the network's output.

    Raises:
        UserError: for num_data < 1, a name that is not a parameter's, an empty selection, a network that cannot be
            copied, or a parameter that cannot be random (TorchScript, weight-normalized, renormalized embedding,
            uninitialized, not float32 or float64), naming it.
        TypeError: for a net, prior or likelihood of another type, and for a prior that is random or learned.

    Whatever is learned must be a parameter of a module: of the network, or of a likelihood that is a module. ``fit``
    refuses a tensor that requires a gradient and does not belong to a module.

    Example:
        >>> class Noise(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.log_scale = nn.Parameter(torch.zeros(()))
        ...     def forward(self, mean):
        ...         return torch.distributions.Normal(mean, self.log_scale.exp())
        >>> from pyro_vd import LogUniform
        >>> model = lift(nn.Linear(3, 1), prior=LogUniform, likelihood=Noise(), num_data=100)
        >>> [name for name, _ in model.named_parameters()]
        ['net.bias', 'likelihood.log_scale']
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"lift: net must be an nn.Module, not {net if inspect.isclass(net) else type(net).__name__}")
    if not num_data >= 1:  # NaN too
        raise UserError(
            f"lift(num_data={num_data}): num_data is the number of training examples; it must be at least 1"
        )
    slots = select_slots(net, select)
    priors = {name: _prior_of(prior, name, slot.parameter) for name, slot in slots.items()}
    for name, slot in slots.items():
        _refuse_wrong_unit_dim(name, net.get_submodule(slot.places[0][0]), priors[name])
    return LiftedModel(net, slots, priors, _likelihood_of(likelihood), num_data)


class LiftedModel(ParamStoreModule):
    """The Pyro model made by :func:`lift`.

    Two kinds of modules stay in eval mode when the model is trained: parts of the network whose parameters are all
    frozen, and modules that were in eval mode inside a network in training mode. Their running averages do not change
    and their dropout stays off.

    Attributes:
        initial: site -> weight of the given network, detached, not copied.
        fixed: names of the network's modules that stay in eval mode.
        seen_inputs: digests of the inputs that ``fit`` trained or validated the model on, (k,), int64, ascending; empty
            before any ``fit``, and None if one of them read its examples from a loader or a Dataset. See
            :func:`pyro_vd.diagnostics.certificate`.
    """

    def __init__(
        self,
        net: nn.Module,
        slots: dict[str, Slot],
        priors: dict[str, Distribution],
        likelihood: Likelihood,
        num_data: int,
    ):
        super().__init__()
        shared = {id(slot.parameter): slot.parameter for slot in slots.values()}
        self.net = _copy(net, shared)  # the memo keeps the selected weights from being copied
        self.fixed = _fixed_modules(net, shared)
        self.places = {name: slot.places for name, slot in slots.items()}
        for path, attribute in self._all_places():
            del self.net.get_submodule(path)._parameters[attribute]
        _refresh(self.net)
        self.initial = {name: slot.parameter.detach() for name, slot in slots.items()}
        self.priors = priors
        self.likelihood = likelihood
        self.num_data = num_data
        self.seen_inputs: Tensor | None = torch.empty(0, dtype=torch.int64)
        self.train(net.training)

    def train(self, mode: bool = True) -> LiftedModel:
        """Sets training or eval mode, except that the modules in ``fixed`` stay in eval mode."""
        super().train(mode)
        for name in self.fixed:
            self.net.get_submodule(name).training = False
        return self

    def forward(self, x: Tree, y: Tree | None = None) -> Any:
        """Samples the weights, runs the network on ``x`` and samples or observes the targets.

        Args:
            x: inputs of the network, (batch, ...): a tensor, a tuple of positional arguments or a dict of arguments by
                name.
            y: targets of the shape of the likelihood, whose first axis counts examples; None to sample them. In a tuple
                or a dict, as the likelihood gives its distributions, the site of each is ``y.key``.

        Returns:
            The network's output.

        Raises:
            UserError: for targets of another shape or in other containers than the likelihood's, inputs that the
                network does not take, or several draws of a weight at once.
        """
        self.register_params()
        weights = {name: pyro.sample(name, prior) for name, prior in self.priors.items()}
        self._check_weight_shapes(weights)
        with self.bound(weights):
            output = call(self.net, x)
        targets = self.likelihood(output)
        if y is None:
            for site, target in self._free(likelihood_sites(targets)).items():
                pyro.sample(site, to_event(target))
        else:
            y = as_tree(y)
            observed = self._free(observed_sites(targets, y))
            with poutine.scale(scale=self.num_data / count(y, OBSERVED)):
                for site, one in observed.items():
                    pyro.sample(site, to_event(one.target), obs=as_target(*one))
        return output

    def _free(self, observed: dict[str, T]) -> dict[str, T]:
        """The observed sites, whose names no weight may have."""
        taken = observed.keys() & self.priors.keys()
        if taken:
            raise UserError(
                f"{taken.pop()!r} is the site of a weight and of targets; rename the module, or the key of the targets"
            )
        return observed

    def input_dim(self, site: str) -> int:
        """The dimension of the weight at ``site`` that counts the layer's input units or channels.

        Raises:
            UserError: unless it is the weight of a linear, ungrouped convolution or transposed convolution layer,
                naming the site.
        """
        dims = {
            input_dim_of(self.net.get_submodule(path)) if attribute == "weight" else None
            for path, attribute in self.places[site]
        }
        dim = dims.pop()
        if dims or dim is None:
            raise UserError(
                f"{site!r} is not the weight of a linear or ungrouped convolution layer, so it has no input units to "
                "share noise or alpha; leave it out of lift(select=...), or use a scheme with noise per weight"
            )
        return dim

    def _check_weight_shapes(self, weights: dict[str, Tensor]) -> None:
        for site, value in weights.items():
            shape = self.initial[site].shape
            if value.shape == shape:
                continue
            if value.shape[-len(shape) :] != shape:
                raise UserError(
                    f"{site!r} got a value of shape {tuple(value.shape)}, but the weight has {tuple(shape)}: the guide "
                    "is of another model; make it by Guide(model)"
                )
            raise UserError(
                f"{site!r} got a value of shape {tuple(value.shape)}, but the weight has {tuple(shape)}: a network "
                "takes one draw at a time (Predictive: parallel=False; ELBO: vectorize_particles=False)"
            )

    @contextmanager
    def bound(self, weights: Mapping[str, Tensor]) -> Iterator[nn.Module]:
        """Puts these weights into the network inside the ``with`` block, and yields the network."""
        try:
            for name, value in weights.items():
                for path, attribute in self.places[name]:
                    # In _parameters, so that the network's own code also finds them by parameters().
                    parameters: dict[str, Any] = self.net.get_submodule(path)._parameters
                    parameters[attribute] = value
            _refresh(self.net)
            yield self.net
        finally:
            for path, attribute in self._all_places():
                self.net.get_submodule(path)._parameters.pop(attribute, None)
            _refresh(self.net)

    def network(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """A copy of the network, of the original class, with copies of these weights as its parameters."""
        net = copy.deepcopy(self.net)
        for name, value in weights.items():
            parameter = nn.Parameter(value.detach().clone())
            for path, attribute in self.places[name]:
                module = net.get_submodule(path)
                module._parameters = {attribute: parameter, **module._parameters}
        _refresh(net)
        return net

    def _all_places(self) -> list[tuple[str, str]]:
        return [place for places in self.places.values() for place in places]


def _copy(net: nn.Module, memo: dict[int, nn.Parameter]) -> nn.Module:
    try:
        return copy.deepcopy(net, dict(memo))
    except RuntimeError as error:
        computed = [
            f"{name}.{attribute}".lstrip(".")
            for name, module in net.named_modules()
            for attribute, value in vars(module).items()
            if isinstance(value, Tensor) and not value.is_leaf
        ]
        named = f" {', '.join(map(repr, computed))}, which" if computed else " a tensor that"
        raise UserError(
            f"lift: the network cannot be copied: it holds{named} is computed from other tensors, for example by "
            f"weight_norm or torch.nn.utils.prune; call remove_weight_norm or prune.remove first ({error})"
        ) from None


def _fixed_modules(net: nn.Module, selected: dict[int, nn.Parameter]) -> tuple[str, ...]:
    """Names of the modules that stay in eval mode in training: frozen parts, and those that the user put in eval mode.

    If the whole network is in eval mode, it was probably used for predictions, so only frozen parts are fixed.
    """
    fixed = {name for name, module in net.named_modules() if net.training and not module.training}
    for name, module in net.named_modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad or id(parameter) in selected for parameter in parameters):
            fixed.update(f"{name}.{inner}".strip(".") for inner, _ in module.named_modules())
    return tuple(name for name, _ in net.named_modules() if name in fixed)


def _refresh(net: nn.Module) -> None:
    """Updates recurrent layers, which read their weights from a list of their own instead of their attributes."""
    for module in net.modules():
        if isinstance(module, nn.RNNBase):
            module._init_flat_weights()


def _prior_of(prior: Prior, name: str, parameter: nn.Parameter) -> Distribution:
    if inspect.isclass(prior):
        prior = _default_instance(prior)
    if isinstance(prior, Distribution):
        if prior.batch_shape + prior.event_shape != torch.Size():
            raise TypeError(f"lift: the prior must be over one weight, but it has shape {tuple(prior.batch_shape)}")
        shaped = _move(prior, parameter).expand(parameter.shape)
    elif callable(prior):
        with record_calls() as calls:
            shaped = prior(name, parameter.detach())
        if calls.names:
            raise TypeError(
                f"lift: the prior of {name!r} calls pyro.sample or pyro.param ({', '.join(calls.names)}), but a prior "
                "is made once and does not change; give numbers, or EmpiricalBayes, whose variance is learned in "
                "closed form"
            )
    else:
        raise TypeError(f"lift: prior must be a distribution class, instance or callable, not {type(prior).__name__}")
    shaped = _as_event(shaped, name, parameter)
    if any(tensor.requires_grad for tensor in _tensors_of(shaped)):
        raise TypeError(
            f"lift: the prior of {name!r} holds a tensor that requires a gradient, but nothing trains a prior; detach "
            "it, or use EmpiricalBayes, whose variance is learned in closed form"
        )
    return shaped


def _tensors_of(distribution: Distribution) -> Iterator[Tensor]:
    for value in vars(distribution).values():
        if isinstance(value, Distribution):
            yield from _tensors_of(value)
        elif isinstance(value, Tensor):
            yield value


def _refuse_wrong_unit_dim(name: str, module: nn.Module, prior: Distribution) -> None:
    """Raises UserError unless a prior shared per input unit counts units in the layer's input dimension."""
    transposed = isinstance(module, TRANSPOSED_CONVOLUTIONS)
    of_weight = base_distribution(prior)
    if transposed and getattr(of_weight, "share", None) == "unit" and getattr(of_weight, "dim", 0) != 0:
        raise UserError(
            f"lift: {name!r} is of a transposed convolution, whose dimension 0 counts inputs: give it "
            f"{type(of_weight).__name__}(share='unit', dim=0), by a prior that is a function (name, parameter) -> "
            "distribution"
        )


def _default_instance(prior: type) -> Distribution:
    try:
        instance: Distribution = prior()
    except TypeError:
        raise TypeError(f"lift(prior={prior.__name__}): the class needs arguments; pass an instance instead") from None
    return instance


def _as_event(prior: Distribution, name: str, parameter: nn.Parameter) -> Distribution:
    if not isinstance(prior, Distribution) or prior.batch_shape + prior.event_shape != parameter.shape:
        raise TypeError(f"lift: the prior of {name!r} must be a distribution of shape {tuple(parameter.shape)}")
    return to_event(prior)


def _move(prior: Distribution, like: Tensor) -> Distribution:
    """A copy whose tensors, and those of the distributions inside it, have the device and dtype of ``like``."""
    moved = copy.copy(prior)
    for key, value in vars(prior).items():
        if isinstance(value, Distribution):
            vars(moved)[key] = _move(value, like)
        elif isinstance(value, Tensor) and value.is_floating_point():
            vars(moved)[key] = value.to(device=like.device, dtype=like.dtype)
    return moved


def _likelihood_of(likelihood: Likelihood | type[Distribution]) -> Likelihood:
    if inspect.isclass(likelihood) and issubclass(likelihood, Distribution):
        by_logits = BY_LOGITS.get(likelihood)
        if by_logits is None:
            raise TypeError(
                f"lift(likelihood={likelihood.__name__}): pass a callable from the network's output to a distribution, "
                "for example pyro_vd.Categorical or pyro_vd.Gaussian(scale=0.1)"
            )
        return by_logits
    if inspect.isclass(likelihood):
        raise TypeError(
            f"lift(likelihood={likelihood.__name__}): this is a class; pass an instance, for example "
            f"{likelihood.__name__}{inspect.signature(likelihood)} with its arguments"
        )
    if not callable(likelihood):
        raise TypeError(f"lift: likelihood must be a callable from output to distribution, not {likelihood!r}")
    return likelihood
