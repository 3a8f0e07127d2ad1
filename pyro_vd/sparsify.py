"""sparsify: from a network and its data to a smaller network, in one call."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Unpack

import torch
from torch import nn
from torch.distributions import Distribution

from pyro_vd import guides
from pyro_vd.compress.latency import Latency
from pyro_vd.compress.report import CompressionReport
from pyro_vd.compress.targets import Multiplications, Target, check_target, find_candidate, make_candidate, try_shrink
from pyro_vd.errors import UserError, did_you_mean
from pyro_vd.inference.batches import Batches, make_batches
from pyro_vd.inference.engine import EngineName
from pyro_vd.inference.examples import Data, ReadBatch, check_read
from pyro_vd.inference.fit import fit
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp
from pyro_vd.inference.training import Training, TrainingOptions, make_training
from pyro_vd.model.lift import Prior, lift
from pyro_vd.model.likelihoods import Categorical, Likelihood
from pyro_vd.model.scheme_defaults import SchemeDefaults, scale_noise_lr
from pyro_vd.model.selection import Select
from pyro_vd.model.weight_guide import WeightGuide
from pyro_vd.posterior import Posterior
from pyro_vd.pytree import Tree, cat, count_both, take

__all__ = ["Sparsified", "sparsify"]

NUM_INPUTS = 1000  # for the running averages of batch normalization


class Sparsified(NamedTuple):
    """What :func:`sparsify` returns: ``net, posterior, report = sparsify(...)``.

    Attributes:
        net: the pruned network, in eval mode; shrunk, if :func:`pyro_vd.compress.shrink` takes it.
        posterior: the trained pair, of which other points of the pruning curve can be made.
        report: counts of the weights, with the threshold.
    """

    net: nn.Module
    posterior: Posterior
    report: CompressionReport

    def __repr__(self) -> str:
        return f"{self.net}\n{self.report!r}"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def sparsify(
    net: nn.Module,
    data: Data,
    scheme: str | ModuleType = "sparse",
    training: Training | None = None,
    *,
    target: Target | None = None,
    likelihood: Likelihood | type[Distribution] = Categorical,
    prior: Prior | None = None,
    select: Select | None = None,
    num_data: int | None = None,
    batch: ReadBatch | None = None,
    seed: int | None = None,
    engine: EngineName = "auto",
    checkpoint: str | Path | None = None,
    progress: bool = True,
    **options: Unpack[TrainingOptions],
) -> Sparsified:
    """Trains the noise of a network's weights, prunes the weights that the data do not need, and shrinks the network.

    It is ``lift``, ``fit`` and ``find_candidate`` with the scheme's prior and defaults. With ``epochs`` and other
    fields of Training, what is not given is the scheme's: the KL warms up, noise parameters learn at their own rate,
    the means are masked at the threshold, and the learning rate decays to 0 in the second half. A ``training`` value is
    used as it is.

    Args:
        net: any network that ``lift`` takes, best a trained one. It is not changed.
        data: training data, as ``fit`` takes them.
        scheme: a key of ``guides.SCHEMES`` that prunes, or a module with ``prior``, ``defaults`` and ``Guide``.
        training: see ``fit``.
        target: ``Sparsity``, ``Bytes``, ``Multiplications``, ``Latency`` or ``Accuracy`` of :mod:`pyro_vd.compress`, or
            your own. If the scheme's threshold does not reach it, the largest lower threshold that does is used.
            ``Accuracy`` takes the smallest one that does.
        likelihood, select: see ``lift``.
        prior: by default the scheme's.
        num_data: number of training examples, if a DataLoader does not know it.
        batch, seed, engine, checkpoint, progress: see ``fit``.
        **options: the fields of Training, instead of ``training``.

    Returns:
        The network, on the device of ``net``, the posterior and the report.

    Warns:
        UserWarning: for a network that ``shrink`` refuses, with the reason. It is pruned, and keeps its sizes.

    Raises:
        UserError: before the first step, for a scheme that does not prune, for what is not a target, for
            ``Multiplications`` or ``Latency`` as the target of a network that ``shrink`` refuses, and for what
            ``lift``, the guide and ``fit`` refuse.
        TargetError: after the training, if no threshold reaches the target; it holds the posterior and the network of
            the nearest point.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3))
        >>> x, y = torch.randn(60, 4), torch.randint(3, (60,))
        >>> from pyro_vd import compress
        >>> goal = compress.Sparsity(0.3)
        >>> _, _, report = sparsify(net, (x, y), epochs=2, target=goal, seed=0, engine="eager", progress=False)
        >>> report.sparsity >= 0.3
        True
    """
    check_target(target)
    chosen = _find_scheme(scheme)
    how = make_training(sparsify, training, options)
    like = next(net.parameters(), torch.zeros(())) if isinstance(net, nn.Module) else torch.zeros(())  # see lift
    check_read(batch, data)
    batches = make_batches(data, how.batch_size, [0], like, batch)
    number = batches.num_examples if num_data is None else num_data
    if number is None:
        raise UserError("sparsify: how many examples the data have is not known; give num_data=")
    inputs = _read_inputs(batches, number)
    model = lift(net, chosen.prior if prior is None else prior, likelihood, number, select)
    guide = chosen.Guide(model)
    _check_network(net, inputs, target, list(model.priors))
    if training is None:
        how = _with_defaults(how, options, chosen.defaults, guide)
    posterior = fit(
        model, guide, data, how, batch=batch, seed=seed, engine=engine, checkpoint=checkpoint, progress=progress
    )
    found = find_candidate(posterior, inputs, target)
    return Sparsified(found.net, posterior, found.report)


def _find_scheme(scheme: str | ModuleType) -> ModuleType:
    if isinstance(scheme, str):
        if scheme not in guides.SCHEMES:
            raise UserError(f"sparsify: there is no scheme {scheme!r}{did_you_mean(scheme, guides.SCHEMES)}")
        scheme = guides.SCHEMES[scheme]
    defaults = getattr(scheme, "defaults", None)
    if defaults is None or defaults.threshold is None:
        own = [name for name, module in guides.SCHEMES.items() if module.defaults.threshold is not None]
        name = getattr(scheme, "__name__", repr(scheme)).removeprefix("pyro_vd.guides.")
        raise UserError(f"sparsify: the scheme {name} is not for pruning; choose one of {', '.join(own)}")
    return scheme


def _with_defaults(given: Training, options: TrainingOptions, defaults: SchemeDefaults, guide: WeightGuide) -> Training:
    """The training that was given by ``options``; the other fields are the scheme's, if it has something to say."""
    epochs = given.epochs
    own: dict[str, Any] = {
        "kl_schedule": WarmUp(round(defaults.wait * epochs), max(1, round(defaults.ramp * epochs))),
        "lr_schedule": HoldThenDecay(epochs // 2, epochs),
        "lr_scale": scale_noise_lr(guide, defaults.noise_lr),
    }
    if defaults.masking and given.estimator == "local":  # only local reparameterization can mask
        own["threshold"] = defaults.threshold
    return replace(given, **{name: value for name, value in own.items() if name not in options})


def _read_inputs(batches: Batches, num_data: int) -> Tree:
    """Some inputs of the training set, in random order."""
    batches.check(num_data)
    parts: list[Tree] = []
    number = 0
    for index in batches.epoch(0, 0):
        x, y = batches.gather(*index)
        number += count_both(x, y, "; for other inputs, call fit and Posterior.mean instead of sparsify")
        parts.append(x)
        if number >= NUM_INPUTS:
            break
    if number < 2:
        raise UserError("sparsify: the training set has one example; at least two are needed")
    return take(cat(parts), slice(NUM_INPUTS))


def _check_network(net: nn.Module, inputs: Tree, target: Target | None, sites: list[str]) -> None:
    """Warns if the network cannot be shrunk; refuses it if the target is about the shrunk one.

    Measures the target once, because an error in a user's own would lose the training.
    """
    _, refusal = try_shrink(net, inputs)
    if refusal and isinstance(target, Multiplications | Latency):
        raise UserError(f"sparsify: {target} needs a network that can be shrunk: {refusal}")
    if refusal:
        warnings.warn(f"sparsify: the network is pruned, but keeps its sizes: {refusal}", stacklevel=3)
    elif target is not None:
        candidate = make_candidate(copy.deepcopy(net).eval(), sites, math.inf, inputs)
        target.is_reached(target.measure(candidate))
