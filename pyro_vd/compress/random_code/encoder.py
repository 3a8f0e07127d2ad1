"""Encoder: the training of a posterior whose blocks are coded one after the other."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_vd.compress.adaptive_bits import BitWriter
from pyro_vd.compress.compact import pack
from pyro_vd.compress.layout import write_layout
from pyro_vd.compress.random_code.block_posterior import BlockPosterior
from pyro_vd.compress.random_code.candidates import MOST_BITS
from pyro_vd.compress.random_code.code import RandomCode, decode
from pyro_vd.errors import UserError
from pyro_vd.inference.batches import Batches
from pyro_vd.inference.engine import Objective
from pyro_vd.inference.preflight import check_later_targets, preflight
from pyro_vd.inference.user_numbers import to_number, to_whole_number
from pyro_vd.model.lift import LiftedModel
from pyro_vd.posterior import Posterior
from pyro_vd.pytree import Tree

__all__ = ["Encoder", "Plan"]

KL_SHARE = 0.92  # of an index's bits: the target of a block's KL; the others let the candidates reach the posterior
KL_WEIGHT_CHANGE = 0.5  # of the logarithm of a KL weight in an epoch, at most
NOISE_LR = 3.0  # the learning rate of log variances, as a factor
LOWEST_VARIANCE = math.exp(-20)
WORD = 4  # bytes, to which the coder may round up


@dataclass(frozen=True)
class Plan:
    """The arguments of :func:`~pyro_vd.compress.encode_posterior` that decide its file.

    Raises:
        UserError: for a number out of range.
    """

    size: int
    epochs: int
    coding_epochs: int
    lr: float
    batch_size: int
    bits: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("size", "epochs", "coding_epochs", "batch_size", "bits", "seed"):
            object.__setattr__(self, name, to_whole_number(name, getattr(self, name)))
        object.__setattr__(self, "lr", to_number("lr", self.lr, 0.0, 1.0))
        if not 0 <= self.seed < 2**64:
            raise UserError(
                f"encode_posterior: seed={self.seed} must be from 0 to 2**64 - 1, because it is in the file"
            )
        if not 0 < self.coding_epochs <= self.epochs or not 0 < self.bits <= MOST_BITS or self.batch_size < 1:
            raise UserError(
                f"encode_posterior(epochs={self.epochs}, coding_epochs={self.coding_epochs}, bits={self.bits}, "
                f"batch_size={self.batch_size}): 0 < coding_epochs <= epochs, 0 < bits <= {MOST_BITS} and batch_size "
                ">= 1 needed"
            )


class Encoder:
    """A copy of a pair, the posterior of its weights in blocks, and the optimizer of both.

    Args:
        posterior: where the training starts. It is not changed.
        plan: of the file.

    Attributes:
        model: the copy, in training mode.
        state: the posterior in blocks.
        optimizer: Adam of the posterior's parameters and of the parameters of the model that are not random.
        history: one dict of numbers for each epoch that is done.

    Raises:
        UserError: for a posterior that is not Normal, naming the site; for a size that holds no index.
    """

    def __init__(self, posterior: Posterior, plan: Plan):
        self.plan = plan
        self.model, self._guide = copy.deepcopy((posterior.model, posterior.guide))
        self.model.train()
        means, log_sigma2 = _read_normals(posterior)
        self.like = next(iter(means.values()))
        layout = write_layout(BitWriter(), self.model.network(means))
        places = {name: place for place, name in enumerate(layout.shapes)}
        self.names = {site: layout.sources[site] for site in means}  # of a tied tensor, the first one in the file
        self.sites = sorted(means, key=lambda site: places[self.names[site]])
        self.shapes = layout.shapes
        blocks = self._count_blocks(RandomCode(plan.seed, plan.bits, self._by_source(dict.fromkeys(means, 1.0))))
        means, log_sigma2 = ({site: tensors[site] for site in self.sites} for tensors in (means, log_sigma2))
        self.state = BlockPosterior(means, log_sigma2, blocks, plan.bits, plan.seed)
        self.optimizer = self._make_optimizer()
        self.history: list[dict[str, float]] = []
        self._targets: dict[str, Distribution] = {}  # by site, of the first batch, once preflight has seen it

    def train_epoch(self, batches: Batches) -> None:
        """Trains for an epoch, and codes the blocks that are due.

        Raises:
            UserError: for data that ``fit`` refuses, and for a loss that is not finite.
        """
        steps, epoch = count_steps(batches), len(self.history)
        first = (self.plan.epochs - self.plan.coding_epochs) * steps
        losses: list[float] = []
        for step, index in enumerate(batches.epoch(epoch, 0), start=epoch * steps):
            if len(losses) == steps:
                raise _refuse_length(f"more than {steps}", steps)
            x, y = batches.gather(*index)
            self._check_batch(x, y, batches)
            self._code(step + 1 - first, self.plan.coding_epochs * steps)
            self._set_lr(1 - step / (self.plan.epochs * steps))
            losses.append(self._step(x, y, KL_WEIGHT_CHANGE / steps))
        if len(losses) < steps:  # blocks would be left, and a reader assigns weights to those that are in the file
            raise _refuse_length(str(len(losses)), steps)
        nll = sum(losses) / steps
        if not math.isfinite(nll):
            raise UserError(
                f"encode_posterior: the loss is not finite in epoch {epoch}; lower lr, or look for NaN in the inputs"
            )
        self.history.append(
            {"epoch": epoch, "nll": nll, "kl_bits": self.state.kl_bits, "blocks": len(self.state.indices)}
        )

    def finish(self) -> tuple[nn.Module, bytes]:
        """The network, in eval mode, and its file."""
        code = replace(self.state.code(), scales=self._by_source(self.state.scales))
        net = self._decode(code)
        return net, pack(net, {}, code)

    def points(self) -> list[nn.Parameter]:
        """The trained parameters of the model that are not random."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def _make_optimizer(self) -> torch.optim.Adam:
        groups = [{"params": [self.state.mean, *self.points()]}, {"params": [self.state.log_sigma2]}]
        return torch.optim.Adam(groups, lr=self.plan.lr)

    def _set_lr(self, factor: float) -> None:
        for group, scale in zip(self.optimizer.param_groups, (1.0, NOISE_LR), strict=True):
            group["lr"] = self.plan.lr * scale * factor

    def _check_batch(self, x: Tree, y: Tree, batches: Batches) -> None:
        """All that ``fit`` checks before its first step; then the targets of later batches, if not all were known."""
        targets = batches.targets
        if not self._targets:
            objective = Objective(self.model, self._guide, "weights")
            self._targets = preflight(objective, x, y, y if targets is None else targets, batches.last_size)
        elif targets is None:
            check_later_targets(self._targets, y)

    def _code(self, step: int, steps: int) -> None:
        """Codes the blocks that are due at this step of the coding: step 1 is the first one."""
        if step == 1:
            self.state.fix_scales()
        while len(self.state.indices) * steps < step * self.state.blocks:
            self.state.code_block()

    def _step(self, x: Tree, y: Tree, most: float) -> float:
        """One step; returns the mean negative log likelihood of the batch."""
        kl = self.state.kl()
        nll = -_mean_log_likelihood(self.model, self.state.draw(), x, y)
        loss = nll + self.state.weighted_kl(kl) / self.model.num_data
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.state.adapt_kl_weights(kl, KL_SHARE * self.state.bits * math.log(2), most)
        return nll.item()

    def _count_blocks(self, code: RandomCode) -> int:
        """How many indices the file holds."""
        one = replace(code, indices=(0,))
        head = len(pack(self._decode(one), {}, one)) + WORD
        blocks = 8 * (self.plan.size - head) // code.bits
        if blocks < 1:
            raise UserError(
                f"encode_posterior(size={self.plan.size}): {head} bytes are the head of the file; give more"
            )
        return min(blocks, sum(math.prod(self.shapes[name]) for name in code.scales))

    def _decode(self, code: RandomCode) -> nn.Module:
        decoded = decode(code, self.shapes)
        weights = {site: decoded[name].to(self.model.initial[site]) for site, name in self.names.items()}
        return self.model.network(weights).eval()

    def _by_source(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Numbers by site as numbers by name in the file, in the file's order."""
        return {self.names[site]: numbers[site] for site in self.sites}


def count_steps(batches: Batches) -> int:
    """Batches of an epoch.

    Raises:
        UserError: for a loader that does not know it.
    """
    if batches.steps is None:
        raise UserError("encode_posterior: the loader has no length; give tensors or a Dataset")
    return batches.steps


def _refuse_length(found: str, steps: int) -> UserError:
    return UserError(
        f"encode_posterior: the loader yields {found} batches, but says that it has {steps}; its len must be their "
        "number"
    )


def _read_normals(posterior: Posterior) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Means and log variances by site."""
    normals = posterior.normals()
    means = {site: q.mean for site, q in normals.items()}
    empty = [site for site, mean in means.items() if not mean.numel()]
    if empty:
        raise UserError(f"encode_posterior: {', '.join(empty)} have no weights; leave them out of lift(select=...)")
    log_sigma2 = {site: q.variance.clamp(min=LOWEST_VARIANCE).log() for site, q in normals.items()}
    return means, log_sigma2


def _mean_log_likelihood(model: LiftedModel, weights: Mapping[str, Tensor], x: Tree, y: Tree) -> Tensor:
    """The log likelihood of a batch with these weights per example, 0-dim."""
    trace = poutine.trace(poutine.condition(model, data=dict(weights))).get_trace(x, y)
    trace.compute_log_prob(lambda name, site: site["is_observed"] and name not in weights)
    terms = [site["log_prob_sum"] for site in trace.nodes.values() if "log_prob_sum" in site]
    return torch.stack(terms).sum() / model.num_data
