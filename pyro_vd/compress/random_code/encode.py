"""encode_posterior: trains a posterior to so many bits, and codes it block by block while the rest goes on training."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_vd.compress.adaptive_bits import BitWriter
from pyro_vd.compress.compact import pack
from pyro_vd.compress.layout import write_layout
from pyro_vd.compress.random_code.block_posterior import BlockPosterior
from pyro_vd.compress.random_code.candidates import MOST_BITS
from pyro_vd.compress.random_code.code import RandomCode, decode
from pyro_vd.errors import UserError
from pyro_vd.files import write_atomically
from pyro_vd.inference.batches import Batches, make_batches
from pyro_vd.inference.examples import Data
from pyro_vd.inference.progress import progress_bar
from pyro_vd.inference.user_numbers import to_number, to_whole_number
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.param_store import param_store_disabled
from pyro_vd.posterior import Posterior
from pyro_vd.process_state import PYRO_LOCK, fork_rng
from pyro_vd.pytree import Tree

__all__ = ["CodedPosterior", "encode_posterior"]

KL_SHARE = 0.9  # of an index's bits: the target of a block's KL; the others let the candidates reach the posterior
KL_WEIGHT_CHANGE = 0.5  # of the logarithm of a KL weight in an epoch, at most
NOISE_LR = 3.0  # the learning rate of log variances, as a factor
LOWEST_VARIANCE = math.exp(-20)
WORD = 4  # bytes, to which the coder may round up


@dataclass(frozen=True)
class CodedPosterior:
    """A network whose weights are draws from their priors, and its file.

    Attributes:
        net: the network, in eval mode; :func:`pyro_vd.compress.load` gives the same one, bit for bit.
        content: of the file.
        kl_bits: KL(q || p) of all weights in bits, each block's just before it was coded: what no code of a draw from
            q can be much shorter than on average (Harsha et al. 2010).
        history: one dict of numbers per epoch.
    """

    net: nn.Module
    content: bytes
    kl_bits: float
    history: tuple[dict[str, float], ...]

    @property
    def overhead(self) -> float:
        """What the file has above the KL, header included, as a fraction of the KL."""
        return 8 * len(self.content) / self.kl_bits - 1

    def save(self, path: str | Path) -> int:
        """Writes the file, which :func:`pyro_vd.compress.load` reads; returns its size in bytes.

        Raises:
            OSError: if the file cannot be written; a file that was there is untouched.
        """
        write_atomically(Path(path), self.content)
        return len(self.content)


def encode_posterior(
    posterior: Posterior,
    train: Data,
    size: int,
    *,
    epochs: int = 40,
    coding_epochs: int = 20,
    lr: float = 1e-3,
    batch_size: int = 100,
    bits: int = 16,
    seed: int = 0,
    progress: bool = True,
) -> CodedPosterior:
    r"""A file of at most ``size`` bytes that holds a draw from the posterior.

    Sender and receiver draw the same :math:`2^{bits}` candidates of a block of weights from the prior. The sender
    chooses one that looks like a draw from the posterior and writes its number. That takes about as many bits as the
    KL between posterior and prior, the same KL as in the ELBO (minimal random code learning, Havasi et al. 2019,
    algorithm 2).

    The weights are assigned to blocks at random, as many blocks as ``size`` has indices. First all weights are
    trained. Each block has a KL weight of its own, which brings the block's KL to 0.9 ``bits``. Then the blocks are
    coded one after the other. A coded block is fixed, and the others learn to compensate it. The learning rate falls
    to 0 linearly. The prior of each tensor is a zero-mean Normal with a standard deviation of its own, which is learned
    and is in the file; the model's priors are not used.

    Args:
        posterior: where the training starts. It is not changed. Select all parameters in ``lift``, biases too:
            parameters that are not random are trained, but take four bytes each.
        train: training data, as ``fit`` takes them.
        size: of the file in bytes.
        epochs: passes over the training set.
        coding_epochs: how many of them, the last ones, code.
        lr: learning rate of Adam.
        batch_size: examples of a batch.
        bits: of an index, 24 at most. More bits take longer, and less of the file is overhead.
        seed: of the candidates, the batches and the noise.
        progress: whether to show a bar of the epochs.

    Warns:
        UserWarning: if the KL did not come down to the bits of the indices, so that the file's weights are not draws
            from the posterior; more epochs help, or a larger size. If tensors that are not random make the file larger
            than ``size``.

    Raises:
        UserError: for a posterior that is not Normal, naming the site; for a size that holds no index; for arguments
            out of range; for a loss that is not finite; without constriction; and for data that ``fit`` refuses.

    Example:
        >>> import pyro_vd
        >>> from pyro_vd import compress, guides
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(200, 10)
        >>> y = (x[:, 0] > 0).long()
        >>> model = pyro_vd.lift(
        ...     nn.Linear(10, 2), pyro_vd.EmpiricalBayes("layer"), pyro_vd.Categorical, 200, lambda *_: True
        ... )
        >>> posterior = pyro_vd.Posterior(model, guides.hierarchical.Guide(model))
        >>> coded = encode_posterior(posterior, (x, y), size=50, lr=0.05, bits=10, progress=False)
        >>> len(coded.content) <= 50
        True
    """
    epochs, coding_epochs = to_whole_number("epochs", epochs), to_whole_number("coding_epochs", coding_epochs)
    size, bits = to_whole_number("size", size), to_whole_number("bits", bits)
    lr = to_number("lr", lr, 0.0, 1.0)
    if not 0 < coding_epochs <= epochs or not 0 < bits <= MOST_BITS:
        raise UserError(
            f"encode_posterior(epochs={epochs}, coding_epochs={coding_epochs}, bits={bits}): 0 < coding_epochs <= "
            f"epochs and 0 < bits <= {MOST_BITS} needed"
        )
    like = next(iter(posterior.model.initial.values()))
    with PYRO_LOCK, param_store_disabled(), fork_rng(like), pyro.validation_enabled(False):
        torch.manual_seed(seed)
        encoder = _Encoder(posterior, size, bits, seed)
        batches = make_batches(train, batch_size, [seed], encoder.like)
        history = list(encoder.run(batches, epochs, coding_epochs, lr, progress))
        return encoder.finish(history)


class _Encoder:
    """A copy of the model, and the posterior of its weights."""

    def __init__(self, posterior: Posterior, size: int, bits: int, seed: int):
        self.model = copy.deepcopy(posterior.model).train()
        means, log_sigma2 = _read_normals(posterior)
        self.like = next(iter(means.values()))
        layout = write_layout(BitWriter(), self.model.network(means))
        places = {name: place for place, name in enumerate(layout.shapes)}
        self.names = {site: layout.sources[site] for site in means}  # of a tied tensor, the first one in the file
        self.sites = sorted(means, key=lambda site: places[self.names[site]])
        self.shapes = layout.shapes
        self.size = size
        blocks = self._count_blocks(RandomCode(seed, bits, self._by_source(dict.fromkeys(means, 1.0))))
        means, log_sigma2 = ({site: tensors[site] for site in self.sites} for tensors in (means, log_sigma2))
        self.state = BlockPosterior(means, log_sigma2, blocks, bits, seed)

    def run(
        self, batches: Batches, epochs: int, coding_epochs: int, lr: float, progress: bool
    ) -> Iterator[dict[str, float]]:
        """Trains and codes; yields the numbers of each epoch."""
        batches.check(self.model.num_data)
        steps = batches.steps
        if steps is None:
            raise UserError("encode_posterior: the loader has no length; give tensors or a Dataset")
        optimizer, schedule = self._make_optimizer(lr, epochs * steps)
        first = (epochs - coding_epochs) * steps
        with progress_bar(epochs, 0, progress) as bar:
            for epoch in range(epochs):
                losses = []
                for step, index in enumerate(batches.epoch(epoch, 0), start=epoch * steps + 1):
                    self._code(step - first, coding_epochs * steps)
                    losses.append(self._train(*batches.gather(*index), optimizer, KL_WEIGHT_CHANGE / steps))
                    schedule.step()
                numbers = self._summarize(epoch, losses)
                bar.set_postfix(numbers, refresh=False)
                bar.update()
                yield numbers

    def finish(self, history: Sequence[dict[str, float]]) -> CodedPosterior:
        """The network and its file."""
        state = self.state
        code = replace(state.code(), scales=self._by_source(state.scales))
        net = self._decode(code)
        content, own_bits = pack(net, {}, code), state.bits * len(state.indices)
        if state.kl_bits > own_bits:
            warnings.warn(
                f"encode_posterior: the KL of {state.kl_bits:.0f} bits is above the {own_bits} bits of the indices; "
                "train for more epochs, or allow a larger file",
                stacklevel=3,
            )
        if len(content) > self.size:
            warnings.warn(
                f"encode_posterior: the file has {len(content)} bytes and not {self.size}: tensors that are not random "
                "take more bytes than before the training; select all parameters in lift",
                stacklevel=3,
            )
        return CodedPosterior(net, content, state.kl_bits, tuple(history))

    def _make_optimizer(self, lr: float, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LinearLR]:
        points = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [self.state.mean, *points], "lr": lr},
            {"params": [self.state.log_sigma2], "lr": NOISE_LR * lr},
        ]
        optimizer = torch.optim.Adam(groups)
        return optimizer, torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)

    def _code(self, step: int, steps: int) -> None:
        """Codes the blocks that are due at this step of the coding: step 1 is the first one."""
        if step == 1:
            self.state.fix_scales()
        while len(self.state.indices) * steps < step * self.state.blocks:
            self.state.code_block()

    def _train(self, x: Tree, y: Tree, optimizer: torch.optim.Optimizer, most: float) -> float:
        """One step; returns the mean negative log likelihood of the batch."""
        kl = self.state.kl()
        nll = -_mean_log_likelihood(self.model, self.state.draw(), x, y)
        loss = nll + self.state.weighted_kl(kl) / self.model.num_data
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.state.adapt_kl_weights(kl, KL_SHARE * self.state.bits * math.log(2), most)
        return nll.item()

    def _summarize(self, epoch: int, losses: Sequence[float]) -> dict[str, float]:
        nll = sum(losses) / len(losses)
        if not math.isfinite(nll):
            raise UserError(f"encode_posterior: the loss is not finite in epoch {epoch}; lower lr")
        return {"epoch": epoch, "nll": nll, "kl_bits": self.state.kl_bits, "blocks": len(self.state.indices)}

    def _count_blocks(self, code: RandomCode) -> int:
        """How many indices the file holds."""
        one = replace(code, indices=(0,))
        head = len(pack(self._decode(one), {}, one)) + WORD
        blocks = 8 * (self.size - head) // code.bits
        if blocks < 1:
            raise UserError(f"encode_posterior(size={self.size}): {head} bytes are the head of the file; give more")
        return min(blocks, sum(math.prod(self.shapes[name]) for name in code.scales))

    def _decode(self, code: RandomCode) -> nn.Module:
        decoded = decode(code, self.shapes)
        weights = {site: decoded[name].to(self.model.initial[site]) for site, name in self.names.items()}
        return self.model.network(weights).eval()

    def _by_source(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Numbers by site as numbers by name in the file, in the file's order."""
        return {self.names[site]: numbers[site] for site in self.sites}


def _read_normals(posterior: Posterior) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Means and log variances by site."""
    normals = posterior.normals()
    means = {site: q.mean for site, q in normals.items()}
    log_sigma2 = {site: q.variance.clamp(min=LOWEST_VARIANCE).log() for site, q in normals.items()}
    return means, log_sigma2


def _mean_log_likelihood(model: LiftedModel, weights: Mapping[str, Tensor], x: Tree, y: Tree) -> Tensor:
    """The log likelihood of a batch with these weights per example, 0-dim."""
    trace = poutine.trace(poutine.condition(model, data=dict(weights))).get_trace(x, y)
    trace.compute_log_prob(lambda name, site: site["is_observed"] and name not in weights)
    terms = [site["log_prob_sum"] for site in trace.nodes.values() if "log_prob_sum" in site]
    return torch.stack(terms).sum() / model.num_data
