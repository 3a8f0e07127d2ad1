"""Dense training with Bernoulli dropout, from which sparsification can start."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch.nn.functional as F
from torch import nn

from pyro_vd import Categorical, Posterior, guides, lift
from pyro_vd import checkpoint as checkpoints
from pyro_vd.data import LabeledImages
from pyro_vd.experiments.common.training import fit
from pyro_vd.inference.schedules import HoldThenDecay

__all__ = ["pretrain"]


def pretrain(
    net: nn.Module,
    train: LabeledImages,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
    dropout: tuple[float, float],
    checkpoint: Path,
    shared: Path | None = None,
) -> None:
    """Trains ``net`` in place by Adam, with a linearly decaying rate and dropout before every linear and conv layer.

    Does nothing for 0 epochs, and if the run that follows has a checkpoint.

    Args:
        net: on the device of the examples.
        train, epochs, batch_size, lr: as for ``fit``.
        seed: of the order and of the dropout masks; seeds torch's global generator.
        dropout: rates on the input of the network and on that of every other layer.
        checkpoint: of the run that follows. Pretraining has its own beside it, and resumes from that.
        shared: checkpoint of the finished pretraining, for other runs with the same one; loaded if it exists.
    """
    if not epochs or checkpoints.exists(checkpoint):
        return
    own = checkpoint.with_name(f"{checkpoint.name}-pretraining")
    layers = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    rates = [dropout[0]] + [dropout[1]] * (len(layers) - 1)
    hooks = [layer.register_forward_pre_hook(partial(_drop, rate)) for layer, rate in zip(layers, rates, strict=True)]
    model = lift(net, guides.none.prior, Categorical, num_data=len(train))  # the lifted copy keeps the hooks
    for hook in hooks:
        hook.remove()
    guide = guides.none.Guide(model)
    if shared and checkpoints.exists(shared):  # loaded without a lock: other processes may read it too
        posterior = Posterior(model, guide).load(shared)
    else:
        posterior = fit(
            model,
            guide,
            train,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            lr_schedule=HoldThenDecay(0, epochs),
            engine="eager",
            seed=seed,
            checkpoint=own,
        )
        if shared:
            checkpoints.save(shared, *checkpoints.load(own))
    net.load_state_dict(posterior.mean().state_dict())


def _drop(rate: float, layer: nn.Module, inputs: tuple) -> tuple:
    return (F.dropout(inputs[0], rate), *inputs[1:])
