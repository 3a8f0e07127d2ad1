"""lift: a plain nn.Module plus a prior plus a likelihood becomes a Pyro model."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.utils import parametrize

from pyro_vd.distributions.event import as_one_event, of_one_weight
from pyro_vd.likelihoods import BY_LOGITS, Likelihood
from pyro_vd.registered import Registered

__all__ = ["LiftedModel", "lift"]

Prior = type[Distribution] | Distribution | Callable[[str, Tensor], Distribution]
Select = Callable[[str, nn.Module, nn.Parameter], bool] | Iterable[str]

WEIGHTED = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
OBSERVED = "y"


def lift(
    net: nn.Module,
    prior: Prior,
    likelihood: Likelihood | type[Distribution],
    n: int,
    select: Select | None = None,
) -> LiftedModel:
    """Turns a network into a Pyro model in which the selected weights are random.

    Args:
        net: any nn.Module, on the device it is to run on. It is not changed; the model keeps a copy of everything but
            the selected weights.
        prior: one weight's prior, as a class without required arguments (``LogUniform``), a scalar instance
            (``Normal(0., 1.)``), or a callable ``(name, parameter) -> distribution`` over the parameter's shape.
        likelihood: a callable from the network's output to the distribution of the targets (see
            pyro_vd.likelihoods); Pyro's Categorical and Bernoulli classes are read as taking logits.
        n: number of training examples; the log likelihood of a batch of B is scaled by n / B.
        select: which parameters get the prior: names, or a predicate ``(name, module, parameter) -> bool``. By default
            the weights of linear and convolution layers; biases, normalisation layers and the rest stay point
            parameters.

    Returns:
        A model ``model(x, y=None)`` with one sample site per selected parameter, named like
        ``net.named_parameters()``, and the observed site ``y``. It returns the network's output.

    Raises:
        ValueError: for n < 1, a name that is no parameter, an empty selection, or a parameter that cannot be random
            (TorchScript, weight-normalised, renormalised embedding, uninitialised, not float32 or
            float64), naming it.
        TypeError: for a prior or likelihood of another kind.
    """
    if not n >= 1:  # NaN too
        raise ValueError(f"lift(n={n}): n is the number of training examples, at least 1")
    slots = _select(net, select)
    priors = {name: _prior_of(prior, name, slot.parameter) for name, slot in slots.items()}
    for name, slot in slots.items():
        _refuse_units_elsewhere(name, net.get_submodule(slot.places[0][0]), priors[name])
    return LiftedModel(net, slots, priors, _likelihood_of(likelihood), n)


@dataclass(frozen=True)
class _Slot:
    """Where one selected parameter lives: more than one place when it is tied."""

    parameter: nn.Parameter
    places: tuple[tuple[str, str], ...]  # (module path, attribute)


class LiftedModel(Registered):
    """The Pyro model made by :func:`lift`. ``initial`` maps site names to the network's own weights, by reference."""

    def __init__(
        self,
        net: nn.Module,
        slots: dict[str, _Slot],
        priors: dict[str, Distribution],
        likelihood: Likelihood,
        n: int,
    ):
        super().__init__()
        shared = {id(slot.parameter): slot.parameter for slot in slots.values()}
        self.net = copy.deepcopy(net, shared)  # the memo keeps the selected weights from being copied
        self.places = {name: slot.places for name, slot in slots.items()}
        for path, attribute in self._all_places():
            del self.net.get_submodule(path)._parameters[attribute]
        _refresh(self.net)
        self.initial = {name: slot.parameter.detach() for name, slot in slots.items()}
        self.priors = priors
        self.likelihood = likelihood
        self.n = n

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        self.register()
        weights = {name: pyro.sample(name, prior) for name, prior in self.priors.items()}
        with self.bound(weights):
            output = self.net(x)
        target = as_one_event(self.likelihood(output))
        if y is None:
            pyro.sample(OBSERVED, target)
        else:
            with poutine.scale(scale=self.n / len(y)):
                pyro.sample(OBSERVED, target, obs=y)
        return output

    @contextmanager
    def bound(self, weights: dict) -> Iterator[nn.Module]:
        """The network with these weights in their places, inside the ``with`` block."""
        try:
            for name, value in weights.items():
                for path, attribute in self.places[name]:
                    self.net.get_submodule(path).__dict__[attribute] = value
            _refresh(self.net)
            yield self.net
        finally:
            for path, attribute in self._all_places():
                self.net.get_submodule(path).__dict__.pop(attribute, None)
            _refresh(self.net)

    def network(self, weights: dict[str, Tensor]) -> nn.Module:
        """A plain nn.Module of the original class with these weights as its parameters (copied)."""
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


def _refresh(net: nn.Module) -> None:
    """Recurrent layers read their weights from a list of their own, which has to follow their attributes."""
    for module in net.modules():
        if isinstance(module, nn.RNNBase):
            module._init_flat_weights()


def _select(net: nn.Module, select: Select | None) -> dict[str, _Slot]:
    owners: dict[int, list[tuple[str, str]]] = {}
    for path, module in net.named_modules():
        _refuse_hidden_weights(path, module, by_default=select is None)
        for attribute, parameter in module._parameters.items():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append((path, attribute))
    wanted = _wanted(net, select)
    slots = {}
    for name, parameter in net.named_parameters():
        path, _, attribute = name.rpartition(".")
        module = net.get_submodule(path)
        if wanted(name, module, parameter):
            _refuse_unliftable(name, attribute, module, parameter)
            slots[name] = _Slot(parameter, tuple(owners[id(parameter)]))
    if not slots:
        raise ValueError("lift: no parameter was selected; name some, e.g. select=['fc1.weight']")
    return slots


def _wanted(net: nn.Module, select: Select | None) -> Callable[[str, nn.Module, nn.Parameter], bool]:
    if select is None:
        return lambda name, module, _: isinstance(module, WEIGHTED) and name.rpartition(".")[2] == "weight"
    if callable(select):
        return select
    names = set(select)
    unknown = names - {name for name, _ in net.named_parameters()}
    if unknown:
        raise ValueError(f"lift(select=...): the network has no parameter {', '.join(sorted(unknown))}")
    return lambda name, _, __: name in names


def _refuse_hidden_weights(path: str, module: nn.Module, by_default: bool) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            f"lift: module {path!r} is TorchScript, which hides its weights; lift the Python module instead"
        )
    if by_default and isinstance(module, WEIGHTED) and module._parameters.get("weight") is None:
        raise ValueError(
            f"lift: the weight of {path!r} is no parameter of that name (weight_norm or another parametrization moved "
            "it); remove that first, or select parameters by name"
        )


def _refuse_unliftable(name: str, attribute: str, module: nn.Module, parameter: nn.Parameter) -> None:
    reason = None
    if parametrize.is_parametrized(module) or type(module).__module__.endswith("parametrize"):
        reason = "it is behind torch.nn.utils.parametrize; remove the parametrization first"
    elif attribute.endswith(("_g", "_v")) and hasattr(module, attribute[:-2]):
        reason = "weight_norm renames it; call torch.nn.utils.remove_weight_norm first"
    elif getattr(module, "max_norm", None) is not None:
        reason = "max_norm rewrites the embedding in place; build it with max_norm=None"
    elif isinstance(parameter, nn.UninitializedParameter):
        reason = "it is uninitialised; run the lazy module once first"
    elif parameter.dtype not in (torch.float32, torch.float64):
        reason = f"it is {parameter.dtype}; variational parameters need float32 or float64 (use autocast for speed)"
    elif name == OBSERVED:
        reason = "its name is that of the observed site; rename it"
    if reason:
        raise ValueError(f"lift: parameter {name!r} cannot be random: {reason}")


def _prior_of(prior: Prior, name: str, parameter: nn.Parameter) -> Distribution:
    if inspect.isclass(prior):
        prior = _default_instance(prior)
    if isinstance(prior, Distribution):
        if prior.batch_shape + prior.event_shape != torch.Size():
            raise TypeError(f"lift: the prior is over one weight, but it has shape {tuple(prior.batch_shape)}")
        shaped = _on(prior, parameter).expand(parameter.shape)
    elif callable(prior):
        shaped = prior(name, parameter)
    else:
        raise TypeError(f"lift: prior is a distribution class, instance or callable, not {type(prior).__name__}")
    return _as_event(shaped, name, parameter)


def _refuse_units_elsewhere(name: str, module: nn.Module, prior: Distribution) -> None:
    """A prior that is shared per input unit has to count the units where the layer has them."""
    transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    one = of_one_weight(prior)
    if transposed and getattr(one, "share", None) == "unit" and getattr(one, "dim", 0) != 0:
        raise ValueError(
            f"lift: {name!r} is of a transposed convolution, whose inputs are dimension 0: give it "
            "EmpiricalBayes('unit', dim=0), by a prior that is a function (name, parameter) -> distribution"
        )


def _default_instance(prior: type) -> Distribution:
    try:
        return prior()
    except TypeError:
        raise TypeError(f"lift(prior={prior.__name__}): the class needs arguments; pass an instance instead") from None


def _as_event(prior: Distribution, name: str, parameter: nn.Parameter) -> Distribution:
    if not isinstance(prior, Distribution) or prior.batch_shape + prior.event_shape != parameter.shape:
        raise TypeError(f"lift: the prior of {name!r} has to be a distribution of shape {tuple(parameter.shape)}")
    return as_one_event(prior)


def _on(prior: Distribution, like: Tensor) -> Distribution:
    """The scalar prior with its tensors, and those of the distributions inside it, on the weight's device and dtype."""
    moved = copy.copy(prior)
    for key, value in vars(prior).items():
        if isinstance(value, Distribution):
            vars(moved)[key] = _on(value, like)
        elif isinstance(value, Tensor) and value.is_floating_point():
            vars(moved)[key] = value.to(device=like.device, dtype=like.dtype)
    return moved


def _likelihood_of(likelihood: Likelihood | type[Distribution]) -> Likelihood:
    if inspect.isclass(likelihood) and issubclass(likelihood, Distribution):
        by_logits = BY_LOGITS.get(likelihood)
        if by_logits is None:
            raise TypeError(
                f"lift(likelihood={likelihood.__name__}): pass a callable from the network's output to a distribution, "
                "for instance pyro_vd.Categorical or pyro_vd.Gaussian(scale=0.1)"
            )
        return by_logits
    if not callable(likelihood):
        raise TypeError(f"lift: likelihood is a callable from output to distribution, not {likelihood!r}")
    return likelihood  # type: ignore[return-value]
