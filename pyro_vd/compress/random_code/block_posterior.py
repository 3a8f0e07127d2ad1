"""The posterior while it is coded: a Normal for every weight, a KL weight for every block, blocks that are fixed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pyro_vd.compress.random_code.candidates import choose, draw_candidates
from pyro_vd.compress.random_code.code import RandomCode, members, round_scale

__all__ = ["BlockPosterior"]

FIRST_KL_WEIGHT = 0.1
GAIN = 5.0  # a block that is a fifth from its target or more gets the largest change of its KL weight


class BlockPosterior:
    """Normal posteriors of all weights, in blocks, and zero-mean Normal priors, one for each tensor.

    The variance of a prior is the mean of ``mean**2 + stddev**2`` over its tensor, which makes the KL smallest (as that
    of :class:`~pyro_vd.EmpiricalBayes` with ``share="layer"``), until :meth:`fix_scales`.

    Args:
        means, log_sigma2: tensors by name, in the order in which the file numbers their weights.
        blocks: number of blocks.
        bits: of an index.
        seed: of the code.

    Attributes:
        mean, log_sigma2: of all weights, (weights,), the parameters to train.
        log_kl_weight: of each block, (blocks,).
        scales: name -> standard deviation of the prior, once it is fixed.
        indices: of the candidates of the blocks that are coded.
        kl_when_coded: KL of each of them in nats, just before it was coded.
    """

    def __init__(
        self, means: Mapping[str, Tensor], log_sigma2: Mapping[str, Tensor], blocks: int, bits: int, seed: int
    ):
        self.like = dict(means)
        self.sizes = [mean.numel() for mean in means.values()]
        self.mean = _flatten(means).requires_grad_()
        self.log_sigma2 = _flatten(log_sigma2).requires_grad_()
        self.bits, self.seed = bits, seed
        self.members = members(seed, len(self.mean), blocks)
        self.block_of = torch.empty(len(self.mean), dtype=torch.int64)
        for block, own in enumerate(self.members):
            self.block_of[own] = block
        self.log_kl_weight = torch.full((blocks,), math.log(FIRST_KL_WEIGHT))
        self.scales: dict[str, float] = {}
        self.indices: list[int] = []
        self.kl_when_coded: list[float] = []
        self._tensor_of = torch.arange(len(self.sizes)).repeat_interleave(torch.tensor(self.sizes))
        self._is_fixed = torch.zeros(len(self.mean), dtype=torch.bool)
        self._value = torch.zeros(len(self.mean))

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.members)

    @property
    def kl_bits(self) -> float:
        """KL of all blocks in bits; that of a coded block is the one before it was coded."""
        with torch.no_grad():
            left = float(self.kl()[len(self.indices) :].sum())
        return (sum(self.kl_when_coded) + left) / math.log(2)

    def draw(self) -> dict[str, Tensor]:
        """One draw of the weights by name; the fixed ones have their values."""
        drawn = self.mean + (0.5 * self.log_sigma2).exp() * torch.randn_like(self.mean)
        return self._by_name(torch.where(self._is_fixed, self._value, drawn))

    def kl(self) -> Tensor:
        """KL(q || p) of every block in nats, (blocks,)."""
        variance = self._prior_variance()
        ratio = (self.mean.square() + self.log_sigma2.exp()) / variance
        each = 0.5 * (ratio - 1 + variance.log() - self.log_sigma2)
        return torch.zeros_like(self.log_kl_weight).index_add(0, self.block_of, each)

    def weighted_kl(self, kl: Tensor) -> Tensor:
        """Sum of the KLs of the blocks, each with its KL weight, 0-dim."""
        return (self.log_kl_weight.exp() * kl).sum()

    def adapt_kl_weights(self, kl: Tensor, target: float, most: float) -> None:
        """Raises the KL weights of the blocks above the target, and lowers the others.

        Args:
            kl: of the blocks, see :meth:`kl`.
            target: in nats.
            most: the largest change of the logarithm of a KL weight.
        """
        self.log_kl_weight += most * (GAIN * (kl.detach() / target - 1)).clamp(-1, 1)

    @torch.no_grad()
    def fix_scales(self) -> None:
        """Fixes the priors, rounded as the file has them."""
        variances = [float(part[0]) for part in self._prior_variance().split(self.sizes)]
        self.scales = {name: round_scale(math.sqrt(own)) for name, own in zip(self.like, variances, strict=True)}

    @torch.no_grad()
    def code_block(self) -> None:
        """Codes the next block, and fixes its weights."""
        block = len(self.indices)
        own = self.members[block]
        self.kl_when_coded.append(float(self.kl()[block]))
        stddev, scale = (0.5 * self.log_sigma2[own]).exp(), self._prior_variance()[own].sqrt()
        self._fix(choose(self.seed, self.bits, block, self.mean[own], stddev, scale))

    def restore(self, scales: Mapping[str, float], indices: Sequence[int], kl_when_coded: Sequence[float]) -> None:
        """Goes on from blocks that were coded before."""
        self.scales, self.kl_when_coded = dict(scales), list(kl_when_coded)
        for index in indices:
            self._fix(index)

    def code(self) -> RandomCode:
        """The code of the blocks that are coded."""
        return RandomCode(self.seed, self.bits, self.scales, tuple(self.indices))

    @torch.no_grad()
    def _fix(self, index: int) -> None:
        """Gives the weights of the next block the values of its candidate."""
        block = len(self.indices)
        own = self.members[block]
        drawn = torch.from_numpy(draw_candidates(self.seed, self.bits, block, [index], len(own))[0])
        self._value[own] = self._prior_variance()[own].sqrt() * drawn
        self._is_fixed[own] = True
        self.indices.append(index)

    def _prior_variance(self) -> Tensor:
        """The variance of the prior of every weight, (weights,)."""
        if self.scales:
            variances = torch.tensor(list(self.scales.values())).square()
        else:
            squares = self.mean.square() + self.log_sigma2.exp()
            variances = torch.stack([part.mean() for part in squares.split(self.sizes)])
        return variances[self._tensor_of]

    def _by_name(self, flat: Tensor) -> dict[str, Tensor]:
        """All weights as tensors with the shapes, types and memory formats of the network."""
        parts = zip(self.like.items(), flat.split(self.sizes), strict=True)
        return {name: torch.empty_like(like).copy_(part.view(like.shape)) for (name, like), part in parts}


def _flatten(tensors: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors.values()]).float().cpu().clone()
