"""Chooses which weights stay by rank, and prunes. ``Posterior.masks`` chooses them by a threshold of log alpha."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_vd.compress.copies import copy_network
from pyro_vd.compress.report import CompressionReport, compression_report
from pyro_vd.errors import UserError
from pyro_vd.model.masks import check_masks
from pyro_vd.posterior import Posterior
from pyro_vd.pytree import Tree

__all__ = ["CurvePoint", "check_scores", "log_snr", "prune", "pruning_curve", "top_k_masks"]


def log_snr(posterior: Posterior) -> dict[str, Tensor]:
    """Site -> log of the signal-to-noise ratio ``theta^2 / sigma^2`` of its weights, which is ``-log_alpha``.

    The ratio is of powers; its logarithm is twice that of ``|theta| / sigma``. The usual alternative is the magnitude,
    ``{site: posterior.mean().get_parameter(site).abs() for site in model.priors}``.

    Raises:
        TypeError: for a scheme without noise on the weights.
    """
    return {site: -log_alpha for site, log_alpha in posterior.log_alpha().items()}


def top_k_masks(scores: Mapping[str, Tensor], sparsity: float, per_layer: bool = False) -> dict[str, Tensor]:
    """Bool masks of the weights with the largest scores.

    If all weights on an input share a score, as in group schemes, inputs stay or go as a whole. An input that the limit
    would cut stays, so that a layer of one input is never lost. Among equal scores, the first ones stay.

    Args:
        scores: site -> a score for each weight, of the weight's shape; weights with larger scores stay.
        sparsity: share of the weights that go, from 0 to 1.
        per_layer: remove that share from every site, instead of ranking all weights together.

    Raises:
        UserError: for another sparsity, and for a score that is NaN, naming the site.

    Example:
        >>> top_k_masks({"w": torch.tensor([3.0, 1.0, 2.0])}, sparsity=0.34)
        {'w': tensor([ True, False,  True])}
    """
    if not 0 <= sparsity <= 1:
        raise UserError(f"sparsity={sparsity}: must be a share of all weights, from 0 to 1")
    check_scores(scores)
    if per_layer:
        return {site: _mask_largest({site: score}, sparsity)[site] for site, score in scores.items()}
    return _mask_largest(scores, sparsity)


def check_scores(scores: Mapping[str, Tensor]) -> None:
    """Refuses scores that cannot be ordered.

    Raises:
        UserError: for a score that is NaN, naming the site.
    """
    unordered = [site for site, score in scores.items() if bool(score.isnan().any())]
    if unordered:
        raise UserError(f"scores of {', '.join(unordered)} hold NaN")


def _mask_largest(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    groups = {site: _group_numbers(score) for site, score in scores.items()}
    sizes = [group.flatten().bincount() for group in groups.values()]
    values = [
        score.new_empty(len(size)).scatter_(0, group.flatten(), score.flatten())
        for score, size, group in zip(scores.values(), sizes, groups.values(), strict=True)
    ]
    order = torch.cat(values).argsort(descending=True, stable=True)
    size = torch.cat(sizes)[order]
    left = int(size.sum()) - round(sparsity * int(size.sum()))
    stay = torch.empty_like(order, dtype=torch.bool)
    stay[order] = size.cumsum(0) - size < left
    parts = torch.split_with_sizes(stay, [len(size) for size in sizes])
    return {site: part[group] for (site, group), part in zip(groups.items(), parts, strict=True)}


def _group_numbers(score: Tensor) -> Tensor:
    """The group of each weight: its input if all weights on each input share a score, else a group of its own."""
    inputs = score.transpose(0, 1).flatten(1) if score.ndim > 1 else None
    if inputs is None or not bool((inputs == inputs[:, :1]).all()):
        return torch.arange(score.numel(), device=score.device).view_as(score)
    numbers = torch.arange(len(inputs), device=score.device)
    return numbers.view(1, -1, *[1] * (score.ndim - 2)).expand_as(score)


@torch.no_grad()
def prune(net: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``net`` in eval mode, with zeros where the masks of the named parameters are False.

    Raises:
        UserError: for masks of another network, and for masks that are not bools, naming them; for a network that
            cannot be copied.
    """
    parameters = dict(net.named_parameters(remove_duplicate=False))
    check_masks(masks, parameters, "prune", partial=True)
    pruned = copy_network(net, "prune")
    for site, mask in masks.items():
        pruned.get_parameter(site).masked_fill_(~mask, 0.0)
    return pruned.eval()


class CurvePoint(NamedTuple):
    """One point of a pruning curve.

    Attributes:
        threshold: weights with log_alpha above it are 0.
        report: counts of the weights that are left.
        metric: the metric of the pruned network.
    """

    threshold: float
    report: CompressionReport
    metric: float


def pruning_curve(
    posterior: Posterior,
    thresholds: Iterable[float],
    metric: Callable[[nn.Module], float],
    inputs: Tree | None = None,
) -> list[CurvePoint]:
    """Compression and error at several thresholds from one posterior: its mean is pruned at each of them.

    Args:
        posterior: a trained pair.
        thresholds: thresholds of log_alpha.
        metric: a number of the pruned network, its test error for example.
        inputs: for batch normalization, see ``Posterior.mean``.
    """
    points = []
    for threshold in thresholds:
        net = posterior.mean(posterior.masks(threshold), inputs)
        points.append(CurvePoint(threshold, compression_report(net, posterior.model.priors), metric(net)))
    return points
