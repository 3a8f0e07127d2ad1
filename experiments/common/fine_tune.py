"""What pruning leaves, trained on without noise."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pyro_vd.experiments.common.records import Record, course_of
from pyro_vd.experiments.common.training import fit, masked_pair
from torch import Tensor, nn

from pyro_vd import Posterior
from pyro_vd.data import DataSplits
from pyro_vd.inference.schedules import hold_then_decay
from pyro_vd.metrics import error_rate, logits_of

__all__ = ["fine_tuned"]


class Tuning(Protocol):
    """The arguments of an experiment that fine-tunes."""

    @property
    def fine_tune(self) -> int | None: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def lr(self) -> float: ...

    @property
    def engine(self) -> str: ...


def fine_tuned(
    posterior: Posterior, threshold: float, split: DataSplits, args: Tuning, seed: int, checkpoint: Path, inputs: Tensor
) -> tuple[nn.Module, Record]:
    """The posterior's mean, pruned, and trained on for ``args.fine_tune`` epochs in which its zeros stay.

    Adam's rate falls linearly. For no epochs it is the pruned mean, and there is nothing to record.

    Args:
        threshold: that it is pruned at.
        split: on the posterior's device.
        checkpoint: of the posterior's run; fine-tuning of so many epochs has one of its own beside it.
        inputs: for batch normalisation, see ``Posterior.mean``.

    Returns:
        the network, and a record's ``test_error_pruned``, that before fine-tuning, and ``fine_tuning``, how it went.
    """
    masks = posterior.masks(threshold)
    pruned = posterior.mean(masks, inputs)
    if not args.fine_tune:
        return pruned, {}
    pair = masked_pair(pruned, split, masks)
    tuned = fit(
        pair.model,
        pair.guide,
        split.train,
        epochs=args.fine_tune,
        batch_size=args.batch_size,
        lr=args.lr,
        lr_schedule=hold_then_decay(0, args.fine_tune),
        engine=args.engine,  # type: ignore[arg-type]
        seed=seed,
        checkpoint=checkpoint.with_name(f"{checkpoint.name}-fine_tuning-{args.fine_tune}"),
    )
    before = error_rate(logits_of(pruned, split.test), split.test.labels)
    return tuned.mean(inputs=inputs), {"test_error_pruned": before, "fine_tuning": course_of(tuned.history)}
