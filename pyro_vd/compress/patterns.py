"""Masks with a pattern that sparse kernels need: n of m consecutive weights, or whole blocks of weights.

Both take scores, as :func:`pyro_vd.compress.top_k_masks` does. Outputs are dimension 0 of a weight and inputs are
dimension 1, as in linear layers and convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_vd.compress.prune import check_scores, top_k_masks
from pyro_vd.errors import UserError

__all__ = ["block_masks", "semi_structured_masks"]


def semi_structured_masks(scores: Mapping[str, Tensor], n: int = 2, m: int = 4) -> dict[str, Tensor]:
    """Bool masks that keep the ``n`` weights with the largest scores of each ``m`` consecutive inputs of an output.

    Of a convolution, the inputs are the input channels; each position of the kernel has groups of its own. Among equal
    scores, the first ones stay. Kernels for semi-structured sparsity multiply by the 2:4 pattern (Mishra et al. 2021,
    "Accelerating Sparse Deep Neural Networks"); ``torch.sparse.to_sparse_semi_structured`` converts a weight for them.

    Args:
        scores: site -> a score for each weight, of the weight's shape (outputs, inputs, ...); weights with larger
            scores stay. ``log_snr(posterior)`` keeps the weights with the lowest log_alpha.
        n: number of weights that stay in each group.
        m: number of consecutive inputs in a group.

    Raises:
        UserError: unless 0 < n < m, both whole; for a site whose number of inputs is not a multiple of m, naming it;
            for a score that is NaN, naming the site.

    Example:
        >>> semi_structured_masks({"w": torch.tensor([[3.0, 1.0, 2.0, 0.0]])})
        {'w': tensor([[ True, False,  True, False]])}
    """
    if not (isinstance(n, int) and isinstance(m, int) and 0 < n < m):
        raise UserError(f"n={n}, m={m}: both must be whole numbers, and 0 < n < m")
    check_scores(scores)
    _check_multiples(scores, (1, m))
    return {site: _keep_in_groups(score, n, m) for site, score in scores.items()}


def _keep_in_groups(score: Tensor, n: int, m: int) -> Tensor:
    groups = score.movedim(1, -1).unflatten(-1, (-1, m))
    best = groups.argsort(dim=-1, descending=True, stable=True)[..., :n]
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, best, True).flatten(-2).movedim(-1, 1).contiguous()


def block_masks(
    scores: Mapping[str, Tensor], sparsity: float, block: tuple[int, int] = (4, 4), per_layer: bool = False
) -> dict[str, Tensor]:
    """Bool masks of blocks of weights, of which those with the largest scores stay.

    Scores are logarithms, and the score of a block is the log of the sum of ``exp(score)`` of its weights. For
    ``log_snr(posterior)`` this sum is that of ``theta^2 / sigma^2``. Setting the block to 0 raises the negative log
    likelihood by half of it, if ``1 / sigma^2`` is the curvature of the likelihood: the saliency of LeCun et al. 1989,
    "Optimal Brain Damage". Blocks are ranked by :func:`top_k_masks`. A convolution has blocks of (output, input)
    channels at each position of the kernel. ``Tensor.to_sparse_bsr(block)`` stores the blocks that stay; on a CPU,
    PyTorch multiplies by square blocks only.

    Args:
        scores: site -> a score for each weight, of the weight's shape (outputs, inputs, ...).
        sparsity: share of the blocks that go, from 0 to 1.
        block: numbers of outputs and of inputs of a block.
        per_layer: remove that share from every site, instead of ranking all blocks together.

    Raises:
        UserError: for another sparsity or block; for a site whose outputs or inputs are not multiples of the block's,
            naming it; for a score that is NaN, naming the site.

    Example:
        >>> block_masks({"w": torch.tensor([[3.0, 1.0, 2.0, 2.0]])}, sparsity=0.5, block=(1, 2))
        {'w': tensor([[ True,  True, False, False]])}
    """
    if len(block) != 2 or not all(isinstance(size, int) and size > 0 for size in block):
        raise UserError(f"block={block}: must be two whole numbers above 0, of outputs and of inputs")
    _check_multiples(scores, block)
    blocks = top_k_masks({site: _sum_blocks(score, block) for site, score in scores.items()}, sparsity, per_layer)
    rows, columns = block
    return {site: kept.repeat_interleave(rows, 0).repeat_interleave(columns, 1) for site, kept in blocks.items()}


def _sum_blocks(score: Tensor, block: tuple[int, int]) -> Tensor:
    """Scores of blocks, (outputs / rows, inputs / columns, ...)."""
    rows, columns = block
    blocks: Tensor = score.unflatten(1, (-1, columns)).unflatten(0, (-1, rows))
    return blocks.logsumexp((1, 3))


def _check_multiples(scores: Mapping[str, Tensor], block: tuple[int, int]) -> None:
    wrong = [
        f"{site} of shape {tuple(score.shape)}"
        for site, score in scores.items()
        if score.ndim < 2 or score.shape[0] % block[0] or score.shape[1] % block[1]
    ]
    if wrong:
        raise UserError(
            f"outputs and inputs must be multiples of {block}: not those of {', '.join(wrong)}; leave these sites out "
            "of scores, and compress.prune keeps them dense"
        )
