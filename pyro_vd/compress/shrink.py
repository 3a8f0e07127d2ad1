"""Takes the dead units out of a pruned network; the smaller network gives the same logits.

A unit is dead if no layer uses its output (every weight on it is 0) or if its output does not depend on the inputs
(every weight into it is 0). A unit of the first kind is removed. A unit of the second kind is a constant: it is folded
into the biases of its consumers first. Each removal may kill other units, so both rules are applied until neither finds
one. Whether a channel is constant is measured, on the given inputs and on noise. The graph shows that no other channel
enters it between the layer that produces it and the layer that consumes it.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.copies import copy_network
from pyro_vd.compress.dead_units import DeadUnits
from pyro_vd.compress.layers import EMBEDDINGS
from pyro_vd.compress.rounding import ROUNDING_FACTOR, outputs_in_float64
from pyro_vd.compress.selected_linear import SelectedLinear
from pyro_vd.compress.slicing import keep_channels
from pyro_vd.compress.split_layers import merge_layers, split_layers
from pyro_vd.compress.trace_channels import trace_channels
from pyro_vd.errors import UserError
from pyro_vd.process_state import fork_rng
from pyro_vd.pytree import Tree, as_tree, call, check_inputs, count, first, leaves, map_leaves, move

__all__ = ["shrink"]

TOLERANCE = 1e-4  # of the logits' spread; the shrunk network sums in another order in float32


@torch.no_grad()
def shrink(net: nn.Module, inputs: Tree) -> nn.Module:
    """A smaller network of the same modules with the same logits, in eval mode; ``net`` is untouched.

    Args:
        net: a pruned network, as :meth:`Posterior.mean` returns it. The page of :mod:`pyro_vd.compress` lists the
            layers and operations that it may consist of. Linear layers, convolutions, embeddings and recurrent layers
            lose units, attention loses heads. If a linear layer reads inputs of the network or of a flattened
            convolution, and all its weights on some of them are 0, a :class:`SelectedLinear` takes its place. A
            :class:`PrunedAttention` takes the place of attention that loses heads.
        inputs: a batch of at least two inputs of the network: a tensor, a tuple of positional arguments or a dict of
            arguments by name. The network is traced on it, and the result is checked.
            The smaller network is valid for all sizes of images and lengths of sequences that ``net`` takes.

    Warns:
        UserWarning: if no weight is 0, and if all weights of a layer are 0, naming the layer.

    Raises:
        UserError: for a layer or operation that is not known to keep channels apart, naming it; for a network that
            gives other logits when it is shrunk, for example because its code contains sizes.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> _ = nn.init.zeros_(net[0].weight[1])
        >>> shrink(net, torch.randn(8, 4))[0]
        Linear(in_features=4, out_features=2, bias=True)
    """
    _refuse_parametrized(net)
    inputs = as_tree(inputs)
    check_inputs(inputs, "shrink")
    count(inputs)
    device = first(inputs).device
    inputs = move(inputs, "cpu")  # a GPU may multiply in TF32, too coarsely for the check
    small = copy_network(net, "shrink").cpu().eval()
    with fork_rng(first(inputs)):
        probe = _add_noise(inputs)
        replaced = split_layers(small)
        channels = trace_channels(small, inputs)
        expected = _expected_outputs(net, probe)
        recorded = _record_inputs(small, channels, probe)
        _warn_of_unpruned_or_empty(small, channels)
        dead = DeadUnits(small, channels, recorded)
        dead.remove()
        keep_channels(small, channels, dead.kept_labels())
        merge_layers(small, replaced)
    _check_same(net, small, probe, expected)
    return small.to(device)


def _warn_of_unpruned_or_empty(net: nn.Module, channels: Channels) -> None:
    """Warns if no weight is 0, or all weights of a layer."""
    weights = {name: net.get_submodule(name).get_parameter("weight") for name in channels.producers}
    empty = [name for name, weight in weights.items() if not bool(weight.any())]
    if empty:
        warnings.warn(
            f"shrink: nothing is left of {', '.join(empty)}; a higher threshold or a lower weight of the KL prunes "
            "less",
            stacklevel=4,
        )
    if all(bool(weight.all()) for weight in weights.values()):
        warnings.warn(
            "shrink: no weight is 0, so there is nothing to take out; give it a network that Posterior.mean prunes, at "
            "a threshold that is low enough",
            stacklevel=4,
        )


def _refuse_parametrized(net: nn.Module) -> None:
    for name, module in net.named_modules():
        computed = any(key.endswith("_orig") or key in ("weight_g", "weight_v") for key in module._parameters)
        if computed or parametrize.is_parametrized(module):
            raise UserError(
                f"shrink: a weight of {name!r} is computed from other tensors; call torch.nn.utils.prune.remove, "
                "remove_weight_norm or parametrize.remove_parametrizations first"
            )


def _add_noise(inputs: Tree) -> Tree:
    """The inputs, and as many with noise in place of all real numbers."""
    if not any(leaf.is_floating_point() for leaf in leaves(inputs)):
        return map_leaves(torch.clone, inputs)
    return map_leaves(
        lambda leaf: torch.cat([leaf, torch.randn_like(leaf) if leaf.is_floating_point() else leaf]), inputs
    )


def _expected_outputs(net: nn.Module, probe: Tree) -> list[Tensor]:
    try:
        return _outputs_of(copy_network(net, "shrink").cpu().eval(), probe)
    except UserError:
        raise
    except Exception as error:  # the network's own code may raise anything at another batch size
        raise UserError(
            f"shrink: {type(net).__name__} does not run on {count(probe)} inputs at once, the given ones and noise "
            f"({error}); let its code take batches of any size"
        ) from None


def _outputs_of(net: nn.Module, probe: Tree) -> list[Tensor]:
    """The network's outputs: one tensor, or those of a nest of tuples, lists and dicts."""
    found = call(net, map_leaves(torch.clone, probe))
    outputs = [leaf for leaf in leaves(as_tree(found)) if leaf is not None]
    other = [type(output).__name__ for output in outputs if not isinstance(output, Tensor)]
    if other or not outputs:
        raise UserError(
            f"shrink: {type(net).__name__} gives {', '.join(other) or 'nothing'} beside its tensors; let it give "
            "tensors, or tuples, lists or dicts of them"
        )
    return outputs


def _record_inputs(net: nn.Module, channels: Channels, probe: Tree) -> dict[str, Tensor]:
    """By layer the inputs that it read, (positions, inputs)."""
    recorded: dict[str, list[Tensor]] = defaultdict(list)

    def record(name: str, module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        read = (args[0] if args else kwargs["input"]).clone()  # a later operation may work in place
        read = module.read(read) if isinstance(module, SelectedLinear) else read
        last = read if isinstance(module, nn.Linear) else read.movedim(1, -1)
        recorded[name].append(last.reshape(-1, last.shape[-1]))

    layers = {name: net.get_submodule(name) for name in channels.consumers}
    hooks = [
        layer.register_forward_pre_hook(partial(record, name), with_kwargs=True)
        for name, layer in layers.items()
        if not isinstance(layer, EMBEDDINGS)
    ]
    try:
        call(net, map_leaves(torch.clone, probe))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(values) for name, values in recorded.items()}


def _check_same(net: nn.Module, small: nn.Module, probe: Tree, expected: list[Tensor]) -> None:
    """Compares the outputs on the inputs and on noise."""
    try:
        got = _outputs_of(small, probe)
    except Exception as error:  # the network's own code may raise anything at other sizes
        raise UserError(
            f"shrink: {type(small).__name__} does not run at its new sizes ({error}); are sizes fixed in its code?"
        ) from None
    if [output.shape for output in got] != [output.shape for output in expected]:
        raise UserError(
            f"shrink: the outputs of the shrunk {type(small).__name__} have other shapes; the network is untouched"
        )
    for number in range(len(got)):
        _check_output(net, small, probe, got[number], expected[number], number)


def _check_output(net: nn.Module, small: nn.Module, probe: Tree, got: Tensor, expected: Tensor, number: int) -> None:
    """Compares output ``number``; the tolerance is relative to the spread between examples."""
    if not expected.is_floating_point():
        got, expected = got.double(), expected.double()
    finite = expected.isfinite()
    if bool(finite.any()):  # noise may be outside of the network's domain
        got, expected = got.where(finite, 0), expected.where(finite, 0)
    difference = (got - expected).abs().max()
    rounding = torch.finfo(expected.dtype).eps
    spread = (expected - expected.mean(0)).abs().max()
    allowed = max(TOLERANCE, 4 * rounding) * spread + 4 * rounding * expected.abs().max()
    if not bool(difference <= allowed):  # nearly constant logits may be differences of large numbers
        exact = outputs_in_float64(net, probe)
        allowed = allowed if exact is None else allowed + ROUNDING_FACTOR * (expected - exact[number]).abs().max()
    if not bool(difference <= allowed):
        raise UserError(
            f"shrink: the shrunk {type(small).__name__}'s logits differ by {difference:.1e}, and those of the examples "
            f"differ by {spread:.1e}; the network is untouched"
        )
