"""Posteriors as ArviZ data: weight draws, predictions and log likelihoods, thinned to fit into memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd.data import LabeledImages
from pyro_vd.diagnostics._arviz import Groups, from_groups, import_arviz
from pyro_vd.diagnostics._draws import fork_seeded_rng, observe, unpack_data
from pyro_vd.diagnostics.axes import Axis, Index, select_axes
from pyro_vd.errors import UserError
from pyro_vd.model.lift import OBSERVED
from pyro_vd.model.pair import signature
from pyro_vd.posterior import Posterior
from pyro_vd.pytree import Tree, count, leaves, named_leaves

__all__ = ["to_arviz"]

LOG_ALPHA_PREFIX = "log_alpha."
GIB = 2**30


@torch.no_grad()
def to_arviz(
    posteriors: Posterior | Sequence[Posterior],
    data: LabeledImages | tuple[Any, Any],
    *,
    num_samples: int = 200,
    weights: Mapping[str, Sequence[Index]] | Sequence[str] | None = None,
    num_prior_samples: int = 0,
    seed: int = 0,
    memory_gib: float = 2.0,
) -> Any:
    """Draws from one posterior, or from several restarts of it, as ArviZ data.

    R-hat and effective sample sizes of one posterior say nothing, because its draws are independent by construction.
    Between restarts (chains) they compare optima. For a single weight they are of little use, because units may trade
    places; for a log likelihood or a prediction they are informative. ``log_alpha`` is one number per chain and has
    neither: select variables by ``var_names``. Give ``reff=1`` to ``az.loo``.

    Args:
        posteriors: a trained pair, or several that differ only in their seed, one per chain.
        data: inputs and targets for predictions and log likelihoods, LabeledImages or an (x, y) pair.
        num_samples: number of weight draws per chain.
        weights: what the posterior group contains: names of sites; or name -> a slice or indices per axis, to thin a
            large weight, as in ``{"fc1.weight": (slice(10), slice(None, None, 50))}``; by default all.
        num_prior_samples: number of weight draws for the groups prior and prior_predictive; the priors must have
            samples.
        seed: seed of all draws. The global random state is unchanged.
        memory_gib: limit of the memory that the data may take, in GiB.

    Returns:
        ``arviz.InferenceData`` (ArviZ 0.23) or ``xarray.DataTree`` (1.x) with the groups

        - posterior: weights by site, dimensions (chain, draw, axes of the weight) with the numbers of the units as
          coordinates, and ``log_alpha.<site>``, the same in every draw, if the scheme has one;
        - posterior_predictive: ``y``, (chain, draw, observation), or ``y.key`` for each of several targets;
        - log_likelihood: the same names, nats per observation, not scaled to the training set;
        - prior and prior_predictive, if requested, with one chain;
        - observed_data: ``y``, or ``y.key``; constant_data: ``x``, or ``x.key`` for each of several inputs.

        Targets (n, 1) are stored as (n,), because ArviZ pairs each with its log likelihood, which is one number per
        observation. For the same reason ``az.plot_loo_pit`` does not work for targets of several numbers, as (n, 2).

    Raises:
        UserError: for posteriors that are not of one kind, an unknown site or index, a prior without samples, more
            numbers than the memory allows, inputs and targets of different length, targets of another shape than the
            likelihood's, and an unknown version of ArviZ.

    Example:
        >>> import pyro_vd
        >>> from pyro_vd import guides
        >>> model = pyro_vd.lift(torch.nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=20)
        >>> posterior = pyro_vd.Posterior(model, guides.sparse.Guide(model))
        >>> found = to_arviz(posterior, (torch.randn(20, 3), torch.randint(2, (20,))), num_samples=50)
        >>> found["posterior"]["weight"].dims
        ('chain', 'draw', 'weight_unit', 'weight_input')
    """
    import_arviz()  # fails now if it is missing, and not after the draws
    chains = [posteriors] if isinstance(posteriors, Posterior) else list(posteriors)
    _check_alike(chains)
    if num_samples < 1 or num_prior_samples < 0:
        raise UserError(
            f"to_arviz: num_samples={num_samples} must be at least 1 and num_prior_samples={num_prior_samples} at "
            "least 0"
        )
    axes = select_axes(chains[0], weights)
    x, y = unpack_data(data)
    number = count(y, OBSERVED)
    targets = sum(leaf.numel() for leaf in leaves(y))
    _check_memory(len(chains) * num_samples + num_prior_samples, axes, targets, number, memory_gib)
    with fork_seeded_rng(seed):
        draws = (_draw(chain, x, y, axes) for chain in chains for _ in range(num_samples))
        groups = _stack(draws, (len(chains), num_samples))
        groups["posterior"] |= _log_alphas(chains, axes, num_samples)
        if num_prior_samples:
            draws = (_draw_prior(chains[0], x, y, axes) for _ in range(num_prior_samples))
            groups |= _stack(draws, (1, num_prior_samples))
    groups |= {
        "observed_data": {site: _to_array(values) for site, values in named_leaves(OBSERVED, y)},
        "constant_data": {name: values.cpu().numpy() for name, values in named_leaves("x", x)},
    }
    return from_groups(groups, _dims(axes, groups), _coords(axes, number))


def _dims(axes: dict[str, list[Axis]], groups: Groups) -> dict[str, list[str]]:
    """Variable -> names of its dimensions after (chain, draw)."""
    names = {site: [axis.name for axis in site_axes] for site, site_axes in axes.items()}
    dims = {f"{prefix}{site}": names[site] for site in axes for prefix in ("", LOG_ALPHA_PREFIX)}
    for group, root, word in (("observed_data", OBSERVED, "target"), ("constant_data", "x", "feature")):
        for name, values in groups[group].items():
            own = name.removeprefix(root).removeprefix(".")  # axes of several may differ in length
            dims[name] = ["observation", *(f"{own}_{word}_{i}".lstrip("_") for i in range(1, values.ndim))]
    return dims


def _coords(axes: dict[str, list[Axis]], n: int) -> dict[str, np.ndarray]:
    return {axis.name: axis.numbers for a in axes.values() for axis in a} | {"observation": np.arange(n)}


def _check_alike(chains: Sequence[Posterior]) -> None:
    if not chains:
        raise UserError("to_arviz: no posterior was given")
    kinds = [(signature(one.model, one.guide), {s: w.shape for s, w in one.model.initial.items()}) for one in chains]
    if any(kind != kinds[0] for kind in kinds[1:]):
        raise UserError("to_arviz: the posteriors differ in scheme, prior or sites; chains are restarts of one pair")


def _check_memory(samples: int, axes: dict[str, list[Axis]], targets: int, number: int, memory_gib: float) -> None:
    sizes = {site: int(np.prod([len(axis.numbers) for axis in a])) for site, a in axes.items()}
    needed = 8 * samples * (sum(sizes.values()) + targets + number) / GIB  # at most 8 bytes per number
    if needed > memory_gib:
        largest = max(sizes, key=sizes.__getitem__, default="")
        advice = f"thin {largest!r} by weights={{{largest!r}: (slice(10),)}}, " if largest else ""
        raise UserError(
            f"to_arviz: {samples} draws of {sum(sizes.values()):,} weights and {targets:,} targets take {needed:.1f} "
            f"GiB, and memory_gib={memory_gib:g}; {advice}take fewer draws or less data"
        )


def _stack(draws: Iterable[Groups], shape: tuple[int, int]) -> Groups:
    """Stacks the arrays of the draws into arrays (chains, draws, ...), one draw at a time to bound the memory."""
    stacked: Groups = {}
    for number, draw in enumerate(draws):
        for group, arrays in draw.items():
            for name, values in arrays.items():
                whole = stacked.setdefault(group, {}).setdefault(name, np.empty((*shape, *values.shape), values.dtype))
                whole[divmod(number, shape[1])] = values
    return stacked


def _draw(posterior: Posterior, x: Tree, y: Tree, axes: dict[str, list[Axis]]) -> Groups:
    """One draw of the weights, with its predictions and log likelihoods."""
    weights = posterior.weights()
    sites = observe(posterior, weights, x, y)
    return {
        "posterior": {site: _select(weights[site], chosen) for site, chosen in axes.items()},
        "posterior_predictive": {site: _to_array(one.target.sample()) for site, one in sites.items()},
        "log_likelihood": {site: one.target.log_prob(one.y).cpu().numpy() for site, one in sites.items()},
    }


def _draw_prior(posterior: Posterior, x: Tree, y: Tree, axes: dict[str, list[Axis]]) -> Groups:
    """One draw of the weights from their prior, with its predictions."""
    weights = {site: _sample_prior(site, prior) for site, prior in posterior.model.priors.items()}
    sites = observe(posterior, weights, x, y)
    return {
        "prior": {site: _select(weights[site], chosen) for site, chosen in axes.items()},
        "prior_predictive": {site: _to_array(one.target.sample()) for site, one in sites.items()},
    }


def _sample_prior(site: str, prior: Distribution) -> Tensor:
    try:
        return prior.sample()
    except NotImplementedError as error:
        reason = f"the prior of {site!r} has no samples, leave num_prior_samples at 0: {error}"
        raise UserError(f"to_arviz: {reason}") from None


def _to_array(y: Tensor) -> np.ndarray:
    """Targets as an array, without axes of length 1."""
    return (y.reshape(len(y)) if y.numel() == len(y) else y).cpu().numpy()


def _select(weight: Tensor, axes: list[Axis]) -> np.ndarray:
    """The part of the weight that is stored."""
    values = weight.detach().cpu().numpy()
    selected: np.ndarray = values[np.ix_(*(axis.numbers for axis in axes))]
    return selected


def _log_alphas(chains: Sequence[Posterior], axes: dict[str, list[Axis]], num_samples: int) -> dict[str, np.ndarray]:
    """log_alpha by variable, broadcast over draws without taking memory; empty for a scheme without log_alpha."""
    try:
        log_alphas = [chain.log_alpha() for chain in chains]
    except TypeError:
        return {}
    found = {}
    for site, chosen in axes.items():
        values = np.stack([_select(log_alpha[site], chosen) for log_alpha in log_alphas])[:, None]
        found[f"{LOG_ALPHA_PREFIX}{site}"] = np.broadcast_to(values, (len(chains), num_samples, *values.shape[2:]))
    return found
