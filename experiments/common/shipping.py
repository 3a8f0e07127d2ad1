"""What a compressed network costs to ship: units, parameters, and bytes of real files, with the errors they load to."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from pyro_vd.experiments.common.records import Record
from torch import nn

from pyro_vd import Posterior
from pyro_vd.compress import (
    architecture,
    bit_widths,
    dense_bytes,
    int8_step_sizes,
    load,
    posterior_step_sizes,
    round_to_float16,
    save,
    shrink,
)
from pyro_vd.compress import (
    quantize as quantize,
)
from pyro_vd.data import DataSplits
from pyro_vd.errors import UserError
from pyro_vd.metrics import compute_logits, error_rate

__all__ = ["if_it_can_be_shipped", "shipped", "small_one"]


def shipped(
    posterior: Posterior,
    small: nn.Module,
    split: DataSplits,
    threshold: float,
    fresh: Callable[[], nn.Module],
    file: Path,
) -> Record:
    """Writes the compressed network to ``file`` and measures it in every form.

    Args:
        small: the posterior's mean, pruned at ``threshold``, perhaps fine-tuned, and shrunk.
        fresh: makes the network that the file is loaded into.

    Returns:
        ``architecture``: layer -> [inputs, outputs]; ``parameters``, ``dense_parameters``: their number, biases too,
        after and before; ``dense_bytes``: the unpruned network's file; ``forms``: by name, bytes of the file, the test
        error of the network loaded from it, and for grids the bits per weight of each layer.
    """
    save(small, file)
    forms: dict[str, tuple[nn.Module, dict[str, float]]] = {"float32": (small, {})}
    with contextlib.suppress(UserError):  # a parameter may be beyond float16
        forms["float16"] = (round_to_float16(small), {})
    wide = _posterior_steps(posterior, threshold)
    fine = {site: step / 2 for site, step in wide.items()}
    for name, steps in {"int8": int8_step_sizes(small), "posterior + 1 bit": fine, "posterior": wide}.items():
        if steps:
            forms[name] = (quantize(small, steps), steps)
    dense = fresh()
    return {
        "architecture": architecture(small),
        "parameters": _parameters(small),
        "dense_parameters": _parameters(dense),
        "dense_bytes": dense_bytes(dense),
        "forms": {name: _measured(net, steps, split, fresh()) for name, (net, steps) in forms.items()},
    }


def small_one(pruned: nn.Module, split: DataSplits) -> nn.Module:
    """The pruned network, shrunk."""
    images, _ = split.train.batch(torch.arange(min(64, len(split.train))))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        small = shrink(pruned, images)
    for warning in said:
        print(warning.message)
    return small


def if_it_can_be_shipped(measure: Callable[[], Record]) -> Record:
    """``measure()`` as a record's entry; none, and a line that says why, where the network cannot be shrunk or written,
    for that must not cost the hours before."""
    try:
        return {"shipped": measure()}
    except UserError as error:
        print(f"not shipped: {error}")
        return {}


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _posterior_steps(posterior: Posterior, threshold: float) -> dict[str, float]:
    """None for a point estimate, for gates, and where a layer is empty: there is no noise to take a grid from."""
    try:
        return posterior_step_sizes(posterior, posterior.masks(threshold))
    except (TypeError, UserError):
        return {}


def _measured(net: nn.Module, steps: dict[str, float], split: DataSplits, fresh: nn.Module) -> Record:
    with tempfile.TemporaryDirectory() as folder:
        size = save(net, Path(folder) / "net", steps)
        loaded = load(Path(folder) / "net", fresh.to(split.test.labels.device))
    error = error_rate(compute_logits(loaded, split.test), split.test.labels)
    return {"bytes": size, "test_error": error, **({"bits": bit_widths(net, steps)} if steps else {})}
