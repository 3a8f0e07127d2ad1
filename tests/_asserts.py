"""What tests compare: the values of a trained pair, its history and its checkpoint."""

import torch

from pyro_vd import checkpoint
from pyro_vd.model.pair import pair_state


def values(posterior):
    """Copies of the pair's parameters and buffers, by name."""
    return {name: value.detach().clone() for name, value in pair_state(posterior.model, posterior.guide)}


def floating(tensors):
    """Those of floating-point numbers: without the state of masking, which is no parameter."""
    return {name: value for name, value in tensors.items() if value.is_floating_point()}


def same(first, second):
    """Whether two dicts of tensors have the same names and the same bytes."""
    return first.keys() == second.keys() and all(
        first[name].numpy().tobytes() == second[name].numpy().tobytes() for name in first
    )


def close(first, second, rtol=1e-3, atol=1e-5):
    """Whether two dicts of tensors have the same names and nearly the same values."""
    return first.keys() == second.keys() and all(
        torch.allclose(first[name], second[name], rtol=rtol, atol=atol) for name in first
    )


def untimed(history):
    """The history without the clock."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def on_disk(run):
    """The tensors of a checkpoint of fit, and its metadata without the clock."""
    tensors, meta = checkpoint.load(run)
    return tensors, {**meta, "seconds": 0, "history": untimed(meta["history"])}
