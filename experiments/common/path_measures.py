"""What is measured of a run of experiments.dessilbi: accuracy, pruning by several rankings, support and filters."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pyro_vd import Posterior, compress
from pyro_vd.experiments.common.accuracy import DIVERGED as DIVERGED_ACCURACY
from pyro_vd.experiments.common.measures import ACCURACY_KEYS, measure_accuracy
from pyro_vd.experiments.common.phases import measure_error
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.runner import Trained
from pyro_vd.optim import path_scores, support_masks, unit_masks
from pyro_vd.optim.dessilbi import unit_norms

__all__ = ["DIVERGED", "LAYERS", "PATH_KEYS", "SHARES", "measure_path"]

PATH_KEYS = (*ACCURACY_KEYS, "pruned", "support", "filters")
"""Numbers of ``measure_path`` that every record has."""
DIVERGED: Record = {**DIVERGED_ACCURACY, "pruned": {}, "support": None, "filters": {}}
"""The numbers of a diverged run."""
LAYERS = {
    "lenet1998": {"conv3": ("conv3.weight",), "conv3 and fc1": ("conv3.weight", "fc1.weight")},
}
"""Network -> name -> the weights that are pruned together."""
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Shares of the filters of a convolution, and of the weights of a linear layer, that are pruned."""


def measure_path(trained: Trained) -> Record:
    """Those of ``measure_accuracy``, and

    - ``pruned``: ranking -> layers -> error at every share;
    - ``support``: of DessiLBI's Gamma, the share of every weight matrix, and the error of the weights projected on it;
    - ``filters``: those of a first convolution with one input channel, and DessiLBI's Gamma of them.
    """
    state, split = trained.state, trained.split
    posterior = state.posterior
    assert posterior is not None
    steps = math.ceil(len(split.train) / trained.spec.main.training.batch_size)
    rankings = make_rankings(posterior, steps)
    return {
        **measure_accuracy(trained),
        "pruned": {ranking: _measure_pruned(scores, trained) for ranking, scores in rankings.items()},
        "support": _measure_support(posterior, state.net, trained),
        "filters": _first_filters(posterior, state.net),
    }


def make_rankings(posterior: Posterior, steps_per_epoch: int) -> dict[str, dict[str, Tensor]]:
    """Ranking -> weight -> scores of its units: the magnitude, the order of entry if DessiLBI trained the network, and
    minus log_alpha, up to a factor, if the posterior has one.

    The log_alpha of a filter is the logarithm of its summed variance over its summed squared mean.
    """
    means = {site: theta.detach() for site, theta in posterior.guide.theta.named_parameters()}
    rankings = {"magnitude": {site: unit_norms(mean) for site, mean in means.items()}}
    if _has_path(posterior):
        theta = dict(posterior.guide.theta.named_parameters())
        rankings["path"] = path_scores(posterior.optimizer, theta, steps_per_epoch)  # type: ignore[arg-type]
    if _has_log_alpha(posterior):
        noise = {site: unit_norms(posterior.guide.q(site).variance.detach().sqrt()) for site in means}
        rankings["log_alpha"] = {site: unit_norms(mean).log() - noise[site].log() for site, mean in means.items()}
    return rankings


def _has_path(posterior: Posterior) -> bool:
    optimizer = posterior.optimizer
    return optimizer is not None and any("gamma" in state for state in optimizer.state.values())


def _has_log_alpha(posterior: Posterior) -> bool:
    try:
        return bool(posterior.log_alpha())
    except TypeError:
        return False


def _measure_pruned(scores: Mapping[str, Tensor], trained: Trained) -> dict[str, list[float]]:
    net = trained.state.net
    parameters = dict(net.named_parameters())
    found = {}
    for layers, sites in LAYERS.get(trained.spec.network, {}).items():
        masks = [unit_masks(parameters, {site: scores[site] for site in sites}, share) for share in SHARES]
        found[layers] = [measure_error(compress.prune(net, one), trained.split.test) for one in masks]
    return found


def _measure_support(posterior: Posterior, net: nn.Module, trained: Trained) -> Record | None:
    if not _has_path(posterior):
        return None
    theta = dict(posterior.guide.theta.named_parameters())
    masks = support_masks(posterior.optimizer, theta)  # type: ignore[arg-type]
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    return {
        "per_layer": {site: mask.double().mean().item() for site, mask in masks.items()},
        "share": kept.double().mean().item(),
        "error": measure_error(compress.prune(net, masks), trained.split.test),
    }


def _first_filters(posterior: Posterior, net: nn.Module) -> Record:
    site, weight = next(iter(posterior.guide.theta.named_parameters()))
    if weight.ndim != 4 or weight.shape[1] != 1:
        return {}
    found = {"weight": net.get_parameter(site)}
    if _has_path(posterior):
        assert posterior.optimizer is not None
        found["gamma"] = posterior.optimizer.state[weight]["gamma"]
    return {name: _round(values[:, 0]) for name, values in found.items()}


def _round(values: Tensor) -> list[list[list[float]]]:
    return [[[round(x, 4) for x in row] for row in one] for one in values.detach().tolist()]
