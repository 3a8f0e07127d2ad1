"""encode_posterior: trains a posterior to so many bits, and codes it block by block while the rest goes on training."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import pyro
import torch
from torch import nn

from pyro_vd.checkpoint import exists
from pyro_vd.compress.random_code.encoder import Encoder, Plan
from pyro_vd.compress.random_code.resume import describe_run, restore, save
from pyro_vd.errors import UserError
from pyro_vd.files import write_atomically
from pyro_vd.inference.batches import Batches, make_batches
from pyro_vd.inference.examples import Data
from pyro_vd.inference.progress import progress_bar
from pyro_vd.inference.resume import hold_checkpoint
from pyro_vd.model.param_store import param_store_disabled
from pyro_vd.posterior import Posterior
from pyro_vd.process_state import PYRO_LOCK, fork_rng

__all__ = ["CodedPosterior", "encode_posterior"]


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
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> CodedPosterior:
    r"""A file of at most ``size`` bytes that holds a draw from the posterior.

    Sender and receiver draw the same :math:`2^{bits}` candidates of a block of weights from the prior. The sender
    chooses one that looks like a draw from the posterior and writes its number. That takes about as many bits as the
    KL between posterior and prior, the same KL as in the ELBO (minimal random code learning, Havasi et al. 2019,
    algorithm 2).

    The weights are assigned to blocks at random, as many blocks as ``size`` has indices. First all weights are
    trained. Each block has a KL weight of its own, which brings the block's KL to 0.92 ``bits``. Then the blocks are
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
        checkpoint: path, as ``folder/name`` without suffix, of the checkpoint to go on from if it exists, and to write
            after every epoch. A call that was interrupted gives the same file when it is made again.
        progress: whether to show a bar of the epochs.

    Warns:
        UserWarning: if the KL did not come down to the bits of the indices, so that the file's weights are not draws
            from the posterior; more epochs help, or a larger size. If tensors that are not random make the file larger
            than ``size``.

    Raises:
        UserError: for a posterior that is not Normal, or a tensor of no weights, naming the site; for a size that holds
            no index; for arguments out of range; for a loss that is not finite; for a loader whose length is not the
            number of its batches; without constriction; and, before the first step, for data that ``fit`` refuses.
        CheckpointError: if ``checkpoint`` cannot be written, is in use, is damaged, or is of another run, which
            includes another version of PyTorch and another number of threads.

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
    if not isinstance(posterior, Posterior):
        raise UserError(
            f"encode_posterior: posterior is a {type(posterior).__name__}; give a Posterior, as fit returns it"
        )
    plan = Plan(size, epochs, coding_epochs, lr, batch_size, bits, seed)
    path = Path(checkpoint) if checkpoint else None
    like = next(iter(posterior.model.initial.values()))
    with (
        hold_checkpoint(path),
        PYRO_LOCK,
        param_store_disabled(),
        fork_rng(like),
        pyro.validation_enabled(False),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        torch.manual_seed(plan.seed)
        encoder = Encoder(posterior, plan)
        batches = make_batches(train, plan.batch_size, [plan.seed], encoder.like)
        batches.check(encoder.model.num_data)
        _train(encoder, batches, path, progress)
        net, content = encoder.finish()
    _warn(encoder, content)
    return CodedPosterior(net, content, encoder.state.kl_bits, tuple(encoder.history))


def _train(encoder: Encoder, batches: Batches, checkpoint: Path | None, progress: bool) -> None:
    """Trains all epochs, or those after the checkpoint if it exists."""
    run = describe_run(encoder, batches) if checkpoint else {}  # before training changes anything
    if checkpoint and exists(checkpoint):
        restore(encoder, batches, run, checkpoint)
    done, epochs = len(encoder.history), encoder.plan.epochs
    with progress_bar(epochs, done, progress) as bar:
        for _ in range(done, epochs):
            encoder.train_epoch(batches)
            bar.set_postfix(encoder.history[-1], refresh=False)
            bar.update()
            if checkpoint:
                save(encoder, batches, run, checkpoint)


def _warn(encoder: Encoder, content: bytes) -> None:
    state, size = encoder.state, encoder.plan.size
    bits = state.bits * len(state.indices)
    if state.kl_bits > bits:
        warnings.warn(
            f"encode_posterior: the KL of {state.kl_bits:.0f} bits is above the {bits} bits of the indices; train for "
            "more epochs, or allow a larger file",
            stacklevel=3,
        )
    if len(content) > size:
        warnings.warn(
            f"encode_posterior: the file has {len(content)} bytes and not {size}: tensors that are not random take "
            "more bytes than before the training; select all parameters in lift",
            stacklevel=3,
        )
