"""Deployment cost of a compressed network: units, parameters, and bytes of real files with the error after loading."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_vd import Posterior
from pyro_vd.compress import (
    architecture,
    bit_widths,
    choose_step_sizes,
    dense_bytes,
    int8_step_sizes,
    load,
    posterior_step_sizes,
    quantize,
    round_to_float16,
    save,
    shrink,
)
from pyro_vd.data import DataSplits, LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.experiments.common.records import Record
from pyro_vd.metrics import compute_logits, error_rate

__all__ = ["NUM_ROUNDED", "measure_files", "shrink_pruned", "try_deploy", "write_compact"]

NUM_ROUNDED = 1000  # training images on which the grid of a compact file is chosen


def measure_files(
    posterior: Posterior,
    small: nn.Module,
    split: DataSplits,
    threshold: float,
    fresh: Callable[[], nn.Module],
    file: Path,
) -> Record:
    """Writes the compressed network to ``file`` and measures its file in every form.

    Args:
        posterior: of the network before pruning; its noise determines the posterior's quantization grids.
        small: the posterior's mean, pruned at ``threshold``, possibly fine-tuned, and shrunk.
        split: on the network's device; errors are those of its test set.
        threshold: of ``Posterior.masks``.
        fresh: makes the network that a file is loaded into.
        file: path of the compressed network.

    Returns:
        ``architecture``: layer -> [inputs, outputs]; ``parameters`` and ``dense_parameters``: number of parameters
        including biases, after and before; ``dense_bytes``: size of the unpruned network's file; ``forms``: by name,
        bytes of the file, test error of the network loaded from it, and for quantized forms bits per weight by layer.
    """
    save(small, file)
    forms: dict[str, tuple[nn.Module, dict[str, float]]] = {"float32": (small, {})}
    with contextlib.suppress(UserError):  # raised if a parameter is beyond the range of float16
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
        "forms": {name: _measure_file(net, steps, split, fresh()) for name, (net, steps) in forms.items()},
    }


def shrink_pruned(pruned: nn.Module, split: DataSplits) -> nn.Module:
    """Shrinks the pruned network; prints the warnings of ``shrink``."""
    images, _ = split.train.batch(torch.arange(min(64, len(split.train))))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "shrink: no weight is 0")  # a dense run has nothing to shrink
        small = shrink(pruned, images)
    for warning in said:
        print(warning.message)
    return small


def write_compact(small: nn.Module, inputs: Tensor, test: LabeledImages, path: Path) -> Record:
    """Writes the network as a compact file. Gives its bytes and the error of the network that it holds.

    Args:
        small: in eval mode, on the CPU.
        inputs: of the training set; the first NUM_ROUNDED choose the grids of the values.
    """
    steps = choose_step_sizes(small, inputs[:NUM_ROUNDED])
    rounded = quantize(small, steps)
    size = save(rounded, path, steps, format="compact")
    return {"bytes_compact": size, "error_compact": error_rate(compute_logits(rounded, test), test.labels)}


def try_deploy(measure: Callable[[], Record]) -> Record:
    """The entry ``deployment`` of a record.

    If the network cannot be shrunk or written, prints the reason and returns no entry: the training before must not be
    lost.
    """
    try:
        return {"deployment": measure()}
    except UserError as error:
        print(f"no deployment: {error}")
        return {}


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _posterior_steps(posterior: Posterior, threshold: float) -> dict[str, float]:
    """Step sizes by site; empty for a point estimate, for gates, and if a layer is empty: there is no noise to use."""
    try:
        return posterior_step_sizes(posterior, posterior.masks(threshold))
    except (TypeError, UserError):
        return {}


def _measure_file(net: nn.Module, steps: dict[str, float], split: DataSplits, fresh: nn.Module) -> Record:
    with tempfile.TemporaryDirectory() as folder:
        size = save(net, Path(folder) / "net", steps)
        loaded = load(Path(folder) / "net", fresh.to(split.test.labels.device))
    error = error_rate(compute_logits(loaded, split.test), split.test.labels)
    return {"bytes": size, "test_error": error, **({"bits": bit_widths(net, steps)} if steps else {})}
