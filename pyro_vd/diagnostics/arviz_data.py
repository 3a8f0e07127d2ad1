"""Posteriors as ArviZ data: draws, predictions and log likelihoods with the units' numbers, thinned to what fits."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_vd.data import LabeledImages
from pyro_vd.diagnostics._arviz import Groups, arviz, from_groups
from pyro_vd.diagnostics._draws import inputs_and_targets, seeded, target_of
from pyro_vd.errors import UserError
from pyro_vd.model.lift import OBSERVED
from pyro_vd.model.pair import signature
from pyro_vd.posterior import Posterior

__all__ = ["load", "save", "to_arviz"]

Index = slice | Sequence[int]
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
POSITIONS = {1: ("position",), 2: ("row", "column"), 3: ("depth", "row", "column")}
LOG_ALPHA = "log_alpha."
GIB = 2**30


@torch.no_grad()
def to_arviz(
    posteriors: Posterior | Sequence[Posterior],
    data: LabeledImages | tuple[Tensor, Tensor],
    *,
    draws: int = 200,
    weights: Mapping[str, Sequence[Index]] | Sequence[str] | None = None,
    prior_draws: int = 0,
    seed: int = 0,
    memory_gib: float = 2.0,
) -> Any:
    """Draws from one posterior, or from several restarts of it, with everything ArviZ asks of a model.

    R-hat and effective sample sizes of one posterior say nothing: its draws are independent by construction. Between
    restarts (chains) they compare optima: that of a single weight is large because units may trade places, that of a
    log likelihood or a prediction says something. ``log_alpha`` is one number a chain and has none: choose by
    ``var_names``, and give ``az.loo`` its ``reff=1``.

    Args:
        posteriors: a trained pair, or several that differ in their seed alone: one chain each.
        data: inputs and targets that predictions and log likelihoods are of, LabeledImages or an (x, y) pair.
        draws: of the weights, per chain.
        weights: what the posterior group holds: names of sites; or name -> a slice or indices per axis, to thin a large
            one, as in ``{"fc1.weight": (slice(10), slice(None, None, 50))}``; by default all.
        prior_draws: of the weights, into the groups prior and prior_predictive; needs priors that can be drawn from.
        seed: of all draws. Global random state stays as it was.
        memory_gib: refuse to hold more than that.

    Returns:
        ``arviz.InferenceData`` (ArviZ 0.23) or ``xarray.DataTree`` (1.x) with the groups

        - posterior: weights by site, dimensions (chain, draw, axes of the weight) with the units' own numbers as
          coordinates, and ``log_alpha.<site>``, the same in every draw, where the scheme has one;
        - posterior_predictive: ``y``, (chain, draw, observation);
        - log_likelihood: ``y``, nats per observation, not scaled to the training set;
        - prior and prior_predictive, where asked for, with one chain;
        - observed_data: ``y``; constant_data: ``x``.

        Targets (n, 1) are held as (n,): ArviZ pairs each with its log likelihood, which is one number an observation.
        For the same reason ``az.plot_loo_pit`` has no answer for targets of several numbers, (n, 2) for one.

    Raises:
        UserError: for posteriors that are not of one kind, a site or index that is not there, a prior that cannot be
            drawn from, more numbers than the memory asked for, data of different lengths or targets of another shape
            than the likelihood's, and an ArviZ that this file does not know.

    Example:
        >>> import pyro_vd
        >>> from pyro_vd import guides
        >>> model = pyro_vd.lift(nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=20)
        >>> posterior = pyro_vd.Posterior(model, guides.sparse.Guide(model))
        >>> found = to_arviz(posterior, (torch.randn(20, 3), torch.randint(2, (20,))), draws=50)
        >>> found["posterior"]["weight"].dims
        ('chain', 'draw', 'weight_unit', 'weight_input')
    """
    arviz()  # that it is there is known now, not after the draws
    chains = [posteriors] if isinstance(posteriors, Posterior) else list(posteriors)
    _check_alike(chains)
    if draws < 1 or prior_draws < 0:
        raise UserError(f"to_arviz: draws={draws} has to be at least 1 and prior_draws={prior_draws} at least 0")
    axes = _axes_of(chains[0], weights)
    x, y = inputs_and_targets(data)
    _check_memory(len(chains) * draws + prior_draws, axes, y, memory_gib)
    with seeded(seed):
        groups = _filled((_drawn(chain, x, y, axes) for chain in chains for _ in range(draws)), (len(chains), draws))
        groups["posterior"] |= _log_alphas(chains, axes, draws)
        if prior_draws:
            groups |= _filled((_prior_drawn(chains[0], x, y, axes) for _ in range(prior_draws)), (1, prior_draws))
    groups |= {"observed_data": {OBSERVED: _targets(y)}, "constant_data": {"x": x.cpu().numpy()}}
    dims = {f"{prefix}{site}": [axis.name for axis in a] for site, a in axes.items() for prefix in ("", LOG_ALPHA)}
    rank = groups["observed_data"][OBSERVED].ndim
    dims |= {OBSERVED: ["observation", *(f"target_{i}" for i in range(1, rank))]}
    dims |= {"x": ["observation", *(f"feature_{i}" for i in range(1, x.ndim))]}
    coords = {axis.name: axis.numbers for a in axes.values() for axis in a} | {"observation": np.arange(len(x))}
    return from_groups(groups, dims, coords)


@dataclass(frozen=True)
class Axis:
    """An axis of a weight in the posterior group, and which of its units are held."""

    name: str
    numbers: np.ndarray


def save(data: Any, path: str | Path) -> None:
    """Writes ArviZ data as netCDF, or leaves what was there.

    Raises:
        OSError: where the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished = Path(folder) / "data.nc"
        data.to_netcdf(str(unfinished), engine="h5netcdf")
        os.replace(unfinished, path)


def load(path: str | Path) -> Any:
    """ArviZ data from a file of :func:`save`.

    Raises:
        UserError: where the file cannot be read.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; diagnostics.save writes one")
    try:
        return arviz().from_netcdf(str(path), engine="h5netcdf")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as netCDF of ArviZ data ({error})") from None


def _check_alike(chains: Sequence[Posterior]) -> None:
    if not chains:
        raise UserError("to_arviz: no posterior was given")
    kinds = [(signature(one.model, one.guide), {s: w.shape for s, w in one.model.initial.items()}) for one in chains]
    if any(kind != kinds[0] for kind in kinds[1:]):
        raise UserError("to_arviz: the posteriors differ in scheme, prior or sites; chains are restarts of one pair")


def _axes_of(
    posterior: Posterior, weights: Mapping[str, Sequence[Index]] | Sequence[str] | None
) -> dict[str, list[Axis]]:
    """Site -> the axes of what is held of its weight."""
    if isinstance(weights, str):
        raise UserError(f"to_arviz: weights={weights!r} is one name; give a list of names, or name -> indices")
    chosen = list(posterior.model.priors) if weights is None else weights
    if not chosen:
        raise UserError("to_arviz: weights names no site, and a posterior group of nothing is none; name one at least")
    indices = chosen if isinstance(chosen, Mapping) else dict.fromkeys(chosen, ())
    unknown = sorted(indices.keys() - posterior.model.priors.keys())
    if unknown:
        known = ", ".join(posterior.model.priors)
        raise UserError(f"to_arviz: the posterior has no site {', '.join(unknown)}; it has {known}")
    return {site: _axes(posterior, site, index) for site, index in indices.items()}


def _axes(posterior: Posterior, site: str, index: Sequence[Index]) -> list[Axis]:
    shape = posterior.model.initial[site].shape
    if len(index) > len(shape):
        raise UserError(f"to_arviz: {len(index)} indices for {site!r}, which has {len(shape)} axes")
    names = _axis_names(posterior.model.net.get_submodule(site.rpartition(".")[0]), len(shape))
    everything = [slice(None)] * (len(shape) - len(index))
    axes = []
    for name, size, part in zip(names, shape, [*index, *everything], strict=True):
        try:
            numbers = np.arange(size)[part if isinstance(part, slice) else list(part)]
        except (IndexError, TypeError) as error:
            raise UserError(f"to_arviz: {part!r} does not index the {name} axis of {site!r}: {error}") from None
        axes.append(Axis(f"{site}_{name}", numbers))
    return axes


def _axis_names(module: nn.Module, rank: int) -> tuple[str, ...]:
    """What a weight's axes are: (unit, input, row, column) of a convolution; numbered where the layer is not known."""
    if isinstance(module, nn.Embedding):
        return ("item", "feature")
    if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        ends = ("input", "unit") if isinstance(module, TRANSPOSED) else ("unit", "input")
        names = (*ends, *POSITIONS.get(rank - 2, ()))
        if len(names) == rank:
            return names
    return tuple(f"axis_{number}" for number in range(rank))


def _check_memory(samples: int, axes: dict[str, list[Axis]], y: Tensor, memory_gib: float) -> None:
    held = {site: int(np.prod([len(axis.numbers) for axis in a])) for site, a in axes.items()}
    needed = 8 * samples * (sum(held.values()) + y.numel() + len(y)) / GIB  # at 8 bytes, the most that there are
    if needed > memory_gib:
        largest = max(held, key=held.__getitem__, default="")
        advice = f"thin {largest!r} by weights={{{largest!r}: (slice(10),)}}, " if largest else ""
        raise UserError(
            f"to_arviz: {samples} draws of {sum(held.values()):,} weights and {y.numel():,} targets take {needed:.1f} "
            f"GiB, and memory_gib={memory_gib:g}; {advice}take fewer draws or less data"
        )


def _filled(draws: Iterable[Groups], shape: tuple[int, int]) -> Groups:
    """One array (chains, draws, ...) for each of the draws' arrays, filled as they come."""
    filled: Groups = {}
    for number, draw in enumerate(draws):
        for group, arrays in draw.items():
            for name, values in arrays.items():
                whole = filled.setdefault(group, {}).setdefault(name, np.empty((*shape, *values.shape), values.dtype))
                whole[divmod(number, shape[1])] = values
    return filled


def _drawn(posterior: Posterior, x: Tensor, y: Tensor, axes: dict[str, list[Axis]]) -> Groups:
    """What one draw of the weights gives."""
    weights = posterior.weights()
    target = target_of(posterior, weights, x, y)
    return {
        "posterior": {site: _picked(weights[site], chosen) for site, chosen in axes.items()},
        "posterior_predictive": {OBSERVED: _targets(target.sample())},
        "log_likelihood": {OBSERVED: target.log_prob(y).cpu().numpy()},
    }


def _prior_drawn(posterior: Posterior, x: Tensor, y: Tensor, axes: dict[str, list[Axis]]) -> Groups:
    weights = {site: _prior_draw(site, prior) for site, prior in posterior.model.priors.items()}
    return {
        "prior": {site: _picked(weights[site], chosen) for site, chosen in axes.items()},
        "prior_predictive": {OBSERVED: _targets(target_of(posterior, weights, x, y).sample())},
    }


def _prior_draw(site: str, prior: Distribution) -> Tensor:
    try:
        return prior.sample()
    except NotImplementedError as error:
        reason = f"the prior of {site!r} cannot be drawn from, leave prior_draws at 0: {error}"
        raise UserError(f"to_arviz: {reason}") from None


def _targets(y: Tensor) -> np.ndarray:
    """Without axes of one number."""
    return (y.reshape(len(y)) if y.numel() == len(y) else y).cpu().numpy()


def _picked(weight: Tensor, axes: list[Axis]) -> np.ndarray:
    return weight.detach().cpu().numpy()[np.ix_(*(axis.numbers for axis in axes))]


def _log_alphas(chains: Sequence[Posterior], axes: dict[str, list[Axis]], draws: int) -> dict[str, np.ndarray]:
    """The same for every draw, which costs no memory; nothing for a scheme without log_alpha."""
    try:
        log_alphas = [chain.log_alpha() for chain in chains]
    except TypeError:
        return {}
    found = {}
    for site, chosen in axes.items():
        values = np.stack([_picked(log_alpha[site], chosen) for log_alpha in log_alphas])[:, None]
        found[f"{LOG_ALPHA}{site}"] = np.broadcast_to(values, (len(chains), draws, *values.shape[2:]))
    return found
