"""The path of DessiLBI: which weights and filters are in the support of Gamma, and since when, as masks for pruning.

>>> import torch
>>> from pyro_vd import compress, optim
>>> net = torch.nn.Linear(4, 3)
>>> optimizer = optim.TorchDessiLBI(net.parameters(), lr=1.0, nu=1.0)
>>> for _ in range(5):
...     net(torch.randn(8, 4)).square().mean().backward()
...     optimizer.step()
>>> parameters = dict(net.named_parameters())
>>> sparse_now = compress.prune(net, optim.support_masks(optimizer, parameters))
>>> scores = optim.path_scores(optimizer, parameters)
>>> half = compress.prune(net, optim.unit_masks(parameters, scores, sparsity=0.5))
>>> int((half.weight != 0).sum())
6
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_vd.errors import UserError
from pyro_vd.optim.dessilbi import unit_norms

__all__ = ["entry_epochs", "path_scores", "support_masks", "unit_masks"]


def support_masks(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name -> bool mask, of the parameter's shape, of the support of its Gamma.

    ``compress.prune(net, support_masks(optimizer, dict(net.named_parameters())))`` is the sparse network at this moment
    of the training: the projection of the weights on the support.

    Args:
        optimizer: a torch optimizer of DessiLBI, :class:`~pyro_vd.optim.TorchDessiLBI` for example.
        parameters: name -> parameter; those without a Gamma are left out.

    Raises:
        UserError: if none of the parameters has a Gamma.
    """
    gammas = {name: state["gamma"] for name, state in _split_states(optimizer, parameters).items()}
    return {name: (unit_norms(gamma) > 0).expand_as(gamma) for name, gamma in gammas.items()}


def entry_epochs(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], steps_per_epoch: int = 1
) -> dict[str, Tensor]:
    """Name -> the epoch, from 0, in which each unit first entered the support of Gamma; infinity if it has not.

    Args:
        optimizer, parameters: see :func:`support_masks`.
        steps_per_epoch: 1 gives the numbers of the steps, from 0.

    Returns:
        Tensors of the shape of :func:`unit_norms`.
    """
    return {
        name: torch.where(state["entry"] > 0, ((state["entry"] - 1) / steps_per_epoch).floor(), math.inf)
        for name, state in _split_states(optimizer, parameters).items()
    }


def path_scores(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], steps_per_epoch: int = 1
) -> dict[str, Tensor]:
    """Name -> the rank of each unit, from 0, for pruning along the path; a larger rank is that of a better unit.

    Units that entered the support in an earlier epoch have larger ranks. Among those of one epoch, and among those that
    never entered, larger norms have larger ranks.

    Args:
        optimizer, parameters, steps_per_epoch: see :func:`entry_epochs`.

    Returns:
        Tensors of the shape of :func:`unit_norms`.
    """
    epochs = entry_epochs(optimizer, parameters, steps_per_epoch)
    return {name: _rank(epoch, unit_norms(parameters[name].detach())) for name, epoch in epochs.items()}


def unit_masks(parameters: Mapping[str, Tensor], scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Bool masks for ``compress.prune`` that remove the same share of the units with the least scores in every weight.

    The bias of a filter is removed with it. Among equal scores, the first ones stay.

    Args:
        parameters: name -> parameter, of the network that is pruned.
        scores: name of a weight -> scores of its units, of the shape of :func:`unit_norms`.
        sparsity: share of the units that go, from 0 to 1, rounded to whole units.

    Raises:
        UserError: for another sparsity, and for scores of a wrong shape, naming the weight.

    Example:
        >>> weight = torch.tensor([[3.0, -1.0, 2.0]])
        >>> unit_masks({"w": weight}, {"w": unit_norms(weight)}, sparsity=0.34)
        {'w': tensor([[ True, False,  True]])}
    """
    if not 0 <= sparsity <= 1:
        raise UserError(f"sparsity={sparsity}: must be a share of the units, from 0 to 1")
    masks = {}
    for name, score in scores.items():
        weight = parameters[name]
        if score.shape != unit_norms(weight).shape:
            raise UserError(f"scores of {name} have shape {tuple(score.shape)}, not that of its unit norms")
        best = score.flatten().argsort(descending=True, stable=True)[: score.numel() - round(sparsity * score.numel())]
        stay = torch.zeros_like(score, dtype=torch.bool)
        stay.view(-1)[best] = True
        masks[name] = stay.expand_as(weight)
        bias = f"{name.removesuffix('weight')}bias"
        if weight.ndim > 2 and bias in parameters:
            masks[bias] = stay.flatten()
    return masks


def _split_states(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Name -> state of the parameters with a Gamma."""
    states = {name: optimizer.state[p] for name, p in parameters.items() if "gamma" in optimizer.state.get(p, {})}
    if not states:
        raise UserError(
            "none of the parameters has a Gamma; give those of two or more dimensions that DessiLBI has trained"
        )
    return states


def _rank(epoch: Tensor, norm: Tensor) -> Tensor:
    order = norm.flatten().argsort(stable=True)
    order = order[epoch.flatten()[order].argsort(descending=True, stable=True)]
    ranks = torch.empty_like(norm)
    ranks.view(-1)[order] = torch.arange(len(order), dtype=norm.dtype, device=norm.device)
    return ranks
