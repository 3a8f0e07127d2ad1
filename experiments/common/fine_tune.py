"""Fine-tuning of a pruned network, without noise."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from pyro_vd import Posterior
from pyro_vd.data import DataSplits
from pyro_vd.experiments.common.records import Record, training_log
from pyro_vd.experiments.common.training import fit, make_masked_pair
from pyro_vd.inference.schedules import HoldThenDecay
from pyro_vd.metrics import compute_logits, error_rate

__all__ = ["fine_tune_pruned"]


class Tuning(Protocol):
    """Arguments of an experiment that fine-tunes."""

    @property
    def fine_tune(self) -> int | None: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def lr(self) -> float: ...

    @property
    def engine(self) -> str: ...


def fine_tune_pruned(
    posterior: Posterior, threshold: float, split: DataSplits, args: Tuning, seed: int, checkpoint: Path, inputs: Tensor
) -> tuple[nn.Module, Record]:
    """Prunes the posterior mean and trains it for ``args.fine_tune`` epochs, in which pruned weights stay zero.

    The learning rate of Adam decays linearly. For 0 epochs the result is the pruned mean.

    Args:
        posterior: trained.
        threshold: of ``Posterior.masks``.
        split: on the posterior's device.
        args: of the experiment.
        seed: of the order of the examples.
        checkpoint: of the posterior's run; fine-tuning has its own beside it, one per number of epochs.
        inputs: for batch normalization, see ``Posterior.mean``.

    Returns:
        the network, and entries of the record: ``test_error_pruned``, the error before fine-tuning, and
        ``fine_tuning``, its training log; no entries for 0 epochs.
    """
    masks = posterior.masks(threshold)
    pruned = posterior.mean(masks, inputs)
    if not args.fine_tune:
        return pruned, {}
    pair = make_masked_pair(pruned, split, masks)
    tuned = fit(
        pair.model,
        pair.guide,
        split.train,
        epochs=args.fine_tune,
        batch_size=args.batch_size,
        lr=args.lr,
        lr_schedule=HoldThenDecay(0, args.fine_tune),
        engine=args.engine,  # type: ignore[arg-type]
        seed=seed,
        checkpoint=checkpoint.with_name(f"{checkpoint.name}-fine_tuning-{args.fine_tune}"),
    )
    before = error_rate(compute_logits(pruned, split.test), split.test.labels)
    return tuned.mean(inputs=inputs), {"test_error_pruned": before, "fine_tuning": training_log(tuned.history)}
