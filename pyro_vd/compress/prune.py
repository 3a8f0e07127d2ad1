"""Which weights stay: by a threshold (``Posterior.masks``), or so many of the most relevant ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_vd.compress.copies import copy_of
from pyro_vd.compress.report import CompressionReport, compression_report
from pyro_vd.model.masks import check_masks
from pyro_vd.posterior import Posterior

__all__ = ["CurvePoint", "curve", "prune", "relevance", "top_k_masks"]


def relevance(posterior: Posterior) -> dict[str, Tensor]:
    """Site -> -log_alpha of its weights: twice the logarithm of their signal-to-noise ratio ``|theta| / sigma``.

    Magnitude, the usual rival, is ``{site: posterior.mean().get_parameter(site).abs() for site in model.priors}``.

    Raises:
        TypeError: for a scheme without noise on the weights.
    """
    return {site: -log_alpha for site, log_alpha in posterior.log_alpha().items()}


def top_k_masks(scores: Mapping[str, Tensor], sparsity: float, per_layer: bool = False) -> dict[str, Tensor]:
    """Bool masks of the weights with the largest scores.

    Where all weights of an input share a score, as in group schemes, inputs stay or go as a whole. One that would be
    cut stays, so that no layer of one input is lost. Of inputs or weights with the same score, the first ones stay.

    Args:
        scores: site -> a number per weight; larger ones stay.
        sparsity: share of weights that go, from 0 to 1.
        per_layer: take that share of every site, instead of one ranking of all weights.

    Raises:
        ValueError: for another sparsity, and for a score that is NaN, naming the site.

    Example:
        >>> top_k_masks({"w": torch.tensor([3.0, 1.0, 2.0])}, sparsity=0.34)
        {'w': tensor([ True, False,  True])}
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity={sparsity}: a share of all weights, from 0 to 1")
    unordered = [site for site, score in scores.items() if bool(score.isnan().any())]
    if unordered:
        raise ValueError(f"scores of {', '.join(unordered)} hold NaN")
    if per_layer:
        return {site: _largest({site: score}, sparsity)[site] for site, score in scores.items()}
    return _largest(scores, sparsity)


def _largest(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    groups = {site: _groups(score) for site, score in scores.items()}
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
    parts = stay.split([len(size) for size in sizes])
    return {site: part[group] for (site, group), part in zip(groups.items(), parts, strict=True)}


def _groups(score: Tensor) -> Tensor:
    """The number of each weight's group: its own, or where all weights of an input have one score, the input's."""
    inputs = score.transpose(0, 1).flatten(1) if score.ndim > 1 else None
    if inputs is None or not bool((inputs == inputs[:, :1]).all()):
        return torch.arange(score.numel(), device=score.device).view_as(score)
    numbers = torch.arange(len(inputs), device=score.device)
    return numbers.view(1, -1, *[1] * (score.ndim - 2)).expand_as(score)


@torch.no_grad()
def prune(net: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``net`` in eval mode, with zeros where the masks of the named parameters are False.

    Raises:
        UserError: for masks of another network, and for those that are not bools, naming them; for a network that
            cannot be copied.
    """
    parameters = dict(net.named_parameters(remove_duplicate=False))
    check_masks(masks, parameters, "prune", partial=True)
    pruned = copy_of(net, "prune")
    for site, mask in masks.items():
        pruned.get_parameter(site).masked_fill_(~mask, 0.0)
    return pruned.eval()


class CurvePoint(NamedTuple):
    """What pruning at one threshold leaves, and what was measured on it."""

    threshold: float
    report: CompressionReport
    measured: float


def curve(
    posterior: Posterior,
    thresholds: Iterable[float],
    measure: Callable[[nn.Module], float],
    inputs: Tensor | None = None,
) -> list[CurvePoint]:
    """A whole error/compression curve from one posterior: its mean pruned at each log_alpha threshold, and measured.

    Args:
        inputs: for batch normalisation, see ``Posterior.mean``.
    """
    points = []
    for threshold in thresholds:
        net = posterior.mean(posterior.masks(threshold), inputs)
        points.append(CurvePoint(threshold, compression_report(net, posterior.model.priors), measure(net)))
    return points
