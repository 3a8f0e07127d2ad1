"""Trained posteriors as ArviZ data: what ``az.summary``, ``az.plot_forest``, ``az.loo`` and xarray read.

The one file that touches ArviZ, whose versions 0.23 (Python 3.11) and 1.x (newer Pythons) have different containers.
Every number is of weight draws, shared by all data points: under local reparameterization each data point has noise of
its own, and a log likelihood would not be that of the weights beside it.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from pyro_vd.data import Examples
from pyro_vd.distributions.event import of_one_weight
from pyro_vd.engine.step import untouched_randomness
from pyro_vd.errors import UserError
from pyro_vd.lift import OBSERVED
from pyro_vd.posterior import Posterior, pair_of

__all__ = ["load", "save", "to_arviz"]

Index = slice | Sequence[int]
OLDEST, TOO_NEW = (0, 23), (2,)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
POSITIONS = {1: ("position",), 2: ("row", "column"), 3: ("depth", "row", "column")}
LOG_ALPHA = "log_alpha."
GIB = 2**30


def to_arviz(
    posteriors: Posterior | Sequence[Posterior],
    data: Examples | tuple[Tensor, Tensor],
    *,
    draws: int = 200,
    weights: Mapping[str, Sequence[Index]] | Sequence[str] | None = None,
    prior_draws: int = 0,
    seed: int = 0,
    memory_gib: float = 2.0,
) -> Any:
    """Draws from one posterior, or from several restarts of it, with everything ArviZ asks of a model.

    R-hat and effective sample sizes of one posterior say nothing: its draws are independent by construction. Between
    restarts (chains) they compare optima; that of a single weight is large because units may trade places, and what it
    says of a prediction, or of a ``log_alpha`` in a layer whose units have a fixed meaning, is what counts.

    Args:
        posteriors: a trained pair, or several that differ in their seed alone: one chain each.
        data: inputs and targets that predictions and log likelihoods are of, Examples or an (x, y) pair.
        draws: of the weights, per chain.
        weights: what the posterior group holds: names of sites; or name -> a slice or indices per axis, to thin a large
            one, as in ``{"fc1.weight": (slice(10), slice(None, None, 50))}``; by default all. An empty one holds none.
        prior_draws: of the weights, into the groups prior and prior_predictive; needs priors that are proper.
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

    Raises:
        UserError: for posteriors that are not of one kind, a site or index that is not there, a prior that cannot be
            drawn from, more numbers than the memory asked for, data of different lengths, and an ArviZ that this
            file does not know.

    Example:
        >>> import guides, pyro_vd
        >>> model = pyro_vd.lift(nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, n=20)
        >>> posterior = pyro_vd.Posterior(model, guides.sparse.Guide(model))
        >>> found = to_arviz(posterior, (torch.randn(20, 3), torch.randint(2, (20,))), draws=50)
        >>> found["posterior"]["weight"].dims
        ('chain', 'draw', 'weight_unit', 'weight_input')
    """
    chains = [posteriors] if isinstance(posteriors, Posterior) else list(posteriors)
    _check_alike(chains)
    if draws < 1 or prior_draws < 0:
        raise UserError(f"to_arviz: draws={draws} has to be at least 1 and prior_draws={prior_draws} at least 0")
    axes = _axes_of(chains[0], weights)
    x, y = _inputs_and_targets(data)
    _check_memory(len(chains) * draws + prior_draws, axes, len(x), memory_gib)
    groups: dict[str, dict[str, np.ndarray]] = {}
    with untouched_randomness(x):
        torch.manual_seed(seed)
        sampled = [_sampled(chain, x, y, axes, draws) for chain in chains]
        for group in ("posterior", "posterior_predictive", "log_likelihood"):
            groups[group] = {name: np.stack([one[group][name] for one in sampled]) for name in sampled[0][group]}
        groups["posterior"] |= _log_alphas(chains, axes, draws)
        if prior_draws:
            groups |= _prior_groups(chains[0], x, axes, prior_draws)
    groups |= {"observed_data": {OBSERVED: y.cpu().numpy()}, "constant_data": {"x": x.cpu().numpy()}}
    dims = {f"{prefix}{site}": [axis.name for axis in a] for site, a in axes.items() for prefix in ("", LOG_ALPHA)}
    rank = groups["observed_data"][OBSERVED].ndim
    dims |= {OBSERVED: ["observation", *(f"target_{i}" for i in range(1, rank))]}
    dims |= {"x": ["observation", *(f"feature_{i}" for i in range(1, x.ndim))]}
    coords = {axis.name: axis.numbers for a in axes.values() for axis in a} | {"observation": np.arange(len(x))}
    return _from_groups(groups, dims, coords)


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
    arviz = _arviz()
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; diagnostics.save writes one")
    try:
        return arviz.from_netcdf(str(path), engine="h5netcdf")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as netCDF of ArviZ data ({error})") from None


def _arviz() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
            import arviz
    except (ImportError, OSError) as error:  # 0.23 writes a stamp into the user's cache
        raise UserError(f"diagnostics needs ArviZ, which cannot be imported here: {error}") from None
    version = tuple(int(part) for part in arviz.__version__.split(".")[:2])
    if not OLDEST <= version < TOO_NEW:
        raise UserError(f"ArviZ {arviz.__version__} is not known here: pip install 'arviz>=0.23,<2'")
    return arviz


def _from_groups(groups: dict, dims: dict, coords: dict) -> Any:
    arviz = _arviz()
    if arviz.__version__.startswith("0."):
        return arviz.from_dict(**groups, dims=dims, coords=coords)
    return arviz.from_dict(groups, dims=dims, coords=coords)


def _check_alike(chains: Sequence[Posterior]) -> None:
    if not chains:
        raise UserError("to_arviz: no posterior was given")
    kinds = [(pair_of(one.model, one.guide), {s: w.shape for s, w in one.model.initial.items()}) for one in chains]
    if any(kind != kinds[0] for kind in kinds[1:]):
        raise UserError("to_arviz: the posteriors differ in scheme, prior or sites; chains are restarts of one pair")


def _inputs_and_targets(data: Examples | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    x, y = (data.images, data.labels) if isinstance(data, Examples) else data
    if len(x) != len(y) or not len(x):
        raise UserError(f"to_arviz: {len(x)} inputs and {len(y)} targets; as many of both are needed, one at least")
    return x, y


def _axes_of(
    posterior: Posterior, weights: Mapping[str, Sequence[Index]] | Sequence[str] | None
) -> dict[str, list[Axis]]:
    """Site -> the axes of what is held of its weight."""
    chosen = list(posterior.model.priors) if weights is None else weights
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


def _check_memory(samples: int, axes: dict[str, list[Axis]], observations: int, memory_gib: float) -> None:
    held = {site: int(np.prod([len(axis.numbers) for axis in a])) for site, a in axes.items()}
    needed = 4 * samples * (sum(held.values()) + 3 * observations) / GIB  # float32 weights; float32 and int64 by target
    if needed > memory_gib:
        largest = max(held, key=held.__getitem__, default="")
        advice = f"thin {largest!r} by weights={{{largest!r}: (slice(10), ...)}}, " if largest else ""
        raise UserError(
            f"to_arviz: {samples} draws of {sum(held.values()):,} weights and {observations:,} observations take "
            f"{needed:.1f} GiB, and memory_gib={memory_gib:g}; {advice}take fewer draws or less data"
        )


def _sampled(
    posterior: Posterior, x: Tensor, y: Tensor, axes: dict[str, list[Axis]], draws: int
) -> dict[str, dict[str, np.ndarray]]:
    """The groups of one chain, each array with the draws in front."""
    held: dict[str, list[np.ndarray]] = {site: [] for site in axes}
    predicted, log_likelihood = [], []
    for _ in range(draws):
        weights = posterior.weights()
        for site, chosen in axes.items():
            held[site].append(_picked(weights[site], chosen))
        target = _target(posterior, weights, x)
        predicted.append(target.sample().cpu().numpy())
        log_likelihood.append(target.log_prob(y).cpu().numpy())
    return {
        "posterior": {site: np.stack(values) for site, values in held.items()},
        "posterior_predictive": {OBSERVED: np.stack(predicted)},
        "log_likelihood": {OBSERVED: np.stack(log_likelihood)},
    }


def _target(posterior: Posterior, weights: dict[str, Tensor], x: Tensor) -> Distribution:
    """The targets' distribution under these weights, one event per observation."""
    target = posterior.model.likelihood(posterior.outputs(weights, x))
    if target.batch_shape[:1] != (len(x),):
        raise UserError(
            f"to_arviz: the likelihood gives targets of shape {tuple(target.batch_shape)} for {len(x)} inputs; one per "
            "input is needed"
        )
    return Independent(target, len(target.batch_shape) - 1)


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


def _prior_groups(
    posterior: Posterior, x: Tensor, axes: dict[str, list[Axis]], draws: int
) -> dict[str, dict[str, np.ndarray]]:
    held: dict[str, list[np.ndarray]] = {site: [] for site in axes}
    predicted = []
    for _ in range(draws):
        weights = {site: _drawn(site, prior) for site, prior in posterior.model.priors.items()}
        for site, chosen in axes.items():
            held[site].append(_picked(weights[site], chosen))
        predicted.append(_target(posterior, weights, x).sample().cpu().numpy())
    return {
        "prior": {site: np.stack(values)[None] for site, values in held.items()},
        "prior_predictive": {OBSERVED: np.stack(predicted)[None]},
    }


def _drawn(site: str, prior: Distribution) -> Tensor:
    try:
        return prior.sample()
    except NotImplementedError:
        name = type(of_one_weight(prior)).__name__
        raise UserError(
            f"to_arviz: the prior of {site!r}, {name}, is improper and cannot be drawn from; leave prior_draws at 0"
        ) from None
