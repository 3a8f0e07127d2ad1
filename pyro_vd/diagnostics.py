"""Trained posteriors as ArviZ data, how well a guide fits, and which of several models predicts best.

The one file that touches ArviZ, whose versions 0.23 (Python 3.11) and 1.x (newer Pythons) have different containers.
Every number is of weight draws, shared by all data points: under local reparameterization each data point has noise of
its own, and a log likelihood would not be that of the weights beside it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro.distributions import Delta
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from pyro_vd.data import Examples
from pyro_vd.distributions.event import of_one_weight
from pyro_vd.errors import UserError
from pyro_vd.lift import OBSERVED
from pyro_vd.posterior import Posterior, pair_of

__all__ = ["Fit", "Rank", "fit_of_guide", "load", "ranking", "save", "to_arviz"]

Index = slice | Sequence[int]
OLDEST, TOO_NEW = (0, 23), (2,)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
POSITIONS = {1: ("position",), 2: ("row", "column"), 3: ("depth", "row", "column")}
LOG_ALPHA = "log_alpha."
Groups = dict[str, dict[str, np.ndarray]]  # group -> variable -> values
GIB = 2**30


@torch.no_grad()
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
    restarts (chains) they compare optima: that of a single weight is large because units may trade places, that of a
    log likelihood or a prediction says something. ``log_alpha`` is one number a chain and has none: choose by
    ``var_names``, and give ``az.loo`` its ``reff=1``.

    Args:
        posteriors: a trained pair, or several that differ in their seed alone: one chain each.
        data: inputs and targets that predictions and log likelihoods are of, Examples or an (x, y) pair.
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

    Raises:
        UserError: for posteriors that are not of one kind, a site or index that is not there, a prior that cannot be
            drawn from, more numbers than the memory asked for, data of different lengths or targets of another shape
            than the likelihood's, and an ArviZ that this file does not know.

    Example:
        >>> import guides, pyro_vd
        >>> model = pyro_vd.lift(nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, n=20)
        >>> posterior = pyro_vd.Posterior(model, guides.sparse.Guide(model))
        >>> found = to_arviz(posterior, (torch.randn(20, 3), torch.randint(2, (20,))), draws=50)
        >>> found["posterior"]["weight"].dims
        ('chain', 'draw', 'weight_unit', 'weight_input')
    """
    _arviz()  # that it is there is known now, not after the draws
    chains = [posteriors] if isinstance(posteriors, Posterior) else list(posteriors)
    _check_alike(chains)
    if draws < 1 or prior_draws < 0:
        raise UserError(f"to_arviz: draws={draws} has to be at least 1 and prior_draws={prior_draws} at least 0")
    axes = _axes_of(chains[0], weights)
    x, y = _inputs_and_targets(data)
    _check_memory(len(chains) * draws + prior_draws, axes, y, memory_gib)
    with _seeded(seed):
        groups = _filled((_drawn(chain, x, y, axes) for chain in chains for _ in range(draws)), (len(chains), draws))
        groups["posterior"] |= _log_alphas(chains, axes, draws)
        if prior_draws:
            groups |= _filled((_prior_drawn(chains[0], x, y, axes) for _ in range(prior_draws)), (1, prior_draws))
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


class Fit(NamedTuple):
    """How well a guide covers the posterior.

    Attributes:
        pareto_k: shape of the importance weights' tail. Below 0.5 they have a variance, below 0.7 reweighting draws
            would mend the guide; above, the guide is far from the posterior, which is the normal case for independent
            noise on the weights of a network.
        effective_draws: how many draws of the posterior the reweighted draws are worth.
        log_weights: (draws,), log p(y, w) - log q(w) up to a constant, nats.
    """

    pareto_k: float
    effective_draws: float
    log_weights: np.ndarray


def fit_of_guide(
    posterior: Posterior, train: Examples | tuple[Tensor, Tensor], *, draws: int = 1000, seed: int = 0
) -> Fit:
    """Pareto-smoothed importance sampling of the posterior by the guide (Yao et al. 2018, algorithm 1).

    Args:
        train: what it was trained on; every draw goes over all of it.

    Raises:
        UserError: for a scheme or prior without a density over weights, a point estimate among them, or fewer than 25
            draws, which show no tail.

    Example:
        >>> import guides, pyro_vd
        >>> model = pyro_vd.lift(nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, n=20)
        >>> posterior = pyro_vd.Posterior(model, guides.sparse.Guide(model))
        >>> fit_of_guide(posterior, (torch.randn(20, 3), torch.randint(2, (20,))), draws=100).pareto_k < 2
        True
    """
    x, y = _inputs_and_targets(train)
    if draws < 25:
        raise UserError(f"fit_of_guide: {draws} draws show no tail; 25 at least")
    with _seeded(seed):
        log_weights = np.array([_log_weight(posterior, x, y) for _ in range(draws)])
    smoothed, pareto_k = _psis(log_weights - log_weights.max())
    weights = np.exp(smoothed - smoothed.max())
    return Fit(float(pareto_k), float(weights.sum() ** 2 / np.square(weights).sum()), log_weights)


@torch.no_grad()
def _log_weight(posterior: Posterior, x: Tensor, y: Tensor) -> float:
    weights = posterior.weights()
    log_weight = float(_target(posterior, weights, x, y).log_prob(y).double().sum())
    try:
        for site, value in weights.items():
            q = posterior.guide.q(site)  # type: ignore[operator]
            if isinstance(q, Delta):
                raise NotImplementedError
            p = of_one_weight(posterior.model.priors[site])
            log_weight += float((p.log_prob(value).double() - q.log_prob(value).double()).sum())
    except (AttributeError, NotImplementedError):  # a NoDensity becomes no number
        raise UserError(
            f"fit_of_guide: {site!r} has no density over weights under this scheme or prior, and so no importance "
            "weights"
        ) from None
    return log_weight


def _psis(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Smoothed log weights and the shape of their tail; ArviZ 1.x negates what it is given."""
    if _arviz().__version__.startswith("0."):
        return _arviz().psislw(log_weights)
    from arviz_stats.base import array_stats

    return array_stats.psislw(-log_weights)


class Rank(NamedTuple):
    """A model's place by held-out examples.

    Attributes:
        elpd: sum of its log scores, nats.
        behind: the best model's elpd less its own.
        standard_error: of ``behind``, by the differences at each example: the models saw the same ones.
    """

    name: str
    elpd: float
    behind: float
    standard_error: float


def ranking(log_scores: Mapping[str, Tensor]) -> list[Rank]:
    """Models by their expected log predictive density on held-out examples, the best first.

    Args:
        log_scores: by model, ``metrics.log_score`` of the same held-out examples, (n,).

    Raises:
        UserError: where the scores are not of equally many examples, two at least.

    Example:
        >>> scores = {"a": torch.tensor([-1.0, -2.0]), "b": torch.tensor([-1.5, -1.0])}
        >>> [(rank.name, rank.elpd, rank.behind, round(rank.standard_error, 3)) for rank in ranking(scores)]
        [('b', -2.5, 0.0, 0.0), ('a', -3.0, 0.5, 1.5)]
    """
    if len({len(score) for score in log_scores.values()}) != 1 or min(map(len, log_scores.values())) < 2:
        sizes = ", ".join(f"{name} {len(score)}" for name, score in log_scores.items()) or "none"
        raise UserError(f"ranking: scores of the same examples are needed, two at least; there are {sizes}")
    scores = {name: score.double().cpu() for name, score in log_scores.items()}
    best = max(scores.values(), key=lambda score: float(score.sum()))
    ranks = []
    for name, score in scores.items():
        difference = best - score
        error = float(difference.std() * len(difference) ** 0.5)
        ranks.append(Rank(name, float(score.sum()), float(difference.sum()), error))
    return sorted(ranks, key=lambda rank: -rank.elpd)


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


def _from_groups(groups: Groups, dims: dict, coords: dict) -> Any:
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


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds every device's generator, inside."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


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
    target = _target(posterior, weights, x, y)
    return {
        "posterior": {site: _picked(weights[site], chosen) for site, chosen in axes.items()},
        "posterior_predictive": {OBSERVED: target.sample().cpu().numpy()},
        "log_likelihood": {OBSERVED: target.log_prob(y).cpu().numpy()},
    }


def _prior_drawn(posterior: Posterior, x: Tensor, y: Tensor, axes: dict[str, list[Axis]]) -> Groups:
    weights = {site: _prior_draw(site, prior) for site, prior in posterior.model.priors.items()}
    return {
        "prior": {site: _picked(weights[site], chosen) for site, chosen in axes.items()},
        "prior_predictive": {OBSERVED: _target(posterior, weights, x, y).sample().cpu().numpy()},
    }


def _prior_draw(site: str, prior: Distribution) -> Tensor:
    try:
        return prior.sample()
    except NotImplementedError as error:
        reason = f"the prior of {site!r} cannot be drawn from, leave prior_draws at 0: {error}"
        raise UserError(f"to_arviz: {reason}") from None


def _target(posterior: Posterior, weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Distribution:
    """The targets' distribution under these weights, one event per observation."""
    target = posterior.model.likelihood(posterior.outputs(weights, x))
    shape = target.batch_shape + target.event_shape
    if shape != y.shape or not target.batch_shape:
        raise UserError(
            f"the targets have shape {tuple(y.shape)}, the likelihood is of {tuple(shape)} "
            f"({len(target.batch_shape)} axes of it independent); they have to agree, and the first counts examples"
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
