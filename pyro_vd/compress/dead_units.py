"""Removes dead units by two rules, which are applied until neither finds another one.

The numbers of nonzero weights on each channel are kept up to date, and a layer is looked at again only if a channel
that it produces or consumes changed. So the work grows with the size of the network, not with its size times its depth.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.layers import is_depthwise
from pyro_vd.model.layers import CONVOLUTIONS

__all__ = ["DeadUnits", "used_columns"]

TOLERANCE = 1e-6  # of a constant channel's value


class DeadUnits:
    """Takes dead units out of the weights of ``net``, in place: weights that no output depends on become 0.

    A row of a weight is the weights into one output of its layer, a column those on one input.

    Args:
        net: the network.
        channels: its channels.
        inputs: layer -> the inputs that it read. Folding a constant into a bias does not change the constants.
    """

    def __init__(self, net: nn.Module, channels: Channels, inputs: Mapping[str, Tensor]):
        self._layers = {name: net.get_submodule(name) for name in channels.producers}
        self._inputs = inputs
        self._produced = {name: torch.tensor(labels) for name, labels in channels.producers.items()}
        self._consumed = {name: torch.tensor(labels) for name, labels in channels.consumers.items()}
        self._rows = {name: _used_rows(layer) for name, layer in self._layers.items()}
        self._columns = {name: used_columns(layer) for name, layer in self._layers.items()}
        count = len(channels.labels)
        protected = torch.tensor(sorted(channels.protected), dtype=torch.long)
        self._num_rows = torch.zeros(count, dtype=torch.long)  # by label: rows that are not 0 and produce the channel
        self._num_columns = torch.zeros(count, dtype=torch.long)  # by label: columns that are not 0 and consume it
        self._num_rows[protected] = self._num_columns[protected] = 1  # from outside of the network
        self._is_produced = torch.zeros(count, dtype=torch.bool)
        self._neighbors: dict[int, list[str]] = defaultdict(list)  # label -> layers that produce or consume it
        for name in self._layers:
            self._is_produced[self._produced[name]] = True
            self._num_rows.index_add_(0, self._produced[name], self._rows[name].long())
            self._num_columns.index_add_(0, self._consumed[name], self._columns[name].long())
            for label in {*channels.producers[name], *channels.consumers[name]}:
                self._neighbors[label].append(name)

    def remove(self) -> None:
        """Folds constants into the biases of their consumers, and drops units that no layer consumes."""
        waiting = dict.fromkeys(self._layers)  # in order, each once
        queue = deque(waiting)
        while queue:
            name = queue.popleft()
            del waiting[name]
            folded, dropped = self._fold_constants(name), self._drop_unread(name)
            if folded or dropped:
                others = {other: None for label in self._update_counts(name) for other in self._neighbors[label]}
                queue.extend(other for other in others if other not in waiting)
                waiting |= others

    def kept_labels(self) -> set[int]:
        """Labels of the channels that stay.

        These are all that a layer consumes, one channel of a layer that would be empty, and for a channel that enters
        or leaves a depthwise convolution and stays, the one at its other end.
        """
        kept = self._num_columns > 0
        for labels in self._produced.values():
            if not bool(kept[labels].any()):
                kept[labels[0]] = True
        ends = [
            (self._consumed[name], self._produced[name]) for name, layer in self._layers.items() if is_depthwise(layer)
        ]
        while any(bool((kept[before] != kept[behind]).any()) for before, behind in ends):
            for before, behind in ends:
                kept[before] = kept[behind] = kept[before] | kept[behind]
        return set(kept.nonzero().flatten().tolist())

    def _fold_constants(self, name: str) -> bool:
        labels = self._consumed[name]
        constant = self._is_produced[labels] & (self._num_rows[labels] == 0)
        columns = (self._columns[name] & constant).nonzero().flatten()
        return bool(len(columns)) and _fold_into_bias(self._layers[name], columns, self._inputs[name])

    def _drop_unread(self, name: str) -> bool:
        rows = self._rows[name] & (self._num_columns[self._produced[name]] == 0)
        self._layers[name].get_parameter("weight")[rows] = 0
        return bool(rows.any())

    def _update_counts(self, name: str) -> list[int]:
        """Updates the counts after a change of the layer; labels of channels without producer or consumer since."""
        rows, columns = _used_rows(self._layers[name]), used_columns(self._layers[name])
        produced = self._produced[name][self._rows[name] & ~rows]
        consumed = self._consumed[name][self._columns[name] & ~columns]
        self._num_rows.index_add_(0, produced, -torch.ones_like(produced))
        self._num_columns.index_add_(0, consumed, -torch.ones_like(consumed))
        self._rows[name], self._columns[name] = rows, columns
        changed = [produced[self._num_rows[produced] == 0], consumed[self._num_columns[consumed] == 0]]
        return sorted(set(torch.cat(changed).tolist()))


def used_columns(layer: nn.Module) -> Tensor:
    """Bools, (inputs,): whether any weight on the input is not 0."""
    if is_depthwise(layer):
        return _used_rows(layer)
    return layer.get_parameter("weight").transpose(0, 1).flatten(1).any(1)


def _used_rows(layer: nn.Module) -> Tensor:
    """Bools, (outputs,): whether any weight into the output is not 0."""
    return layer.get_parameter("weight").flatten(1).any(1)


def _fold_into_bias(layer: nn.Module, columns: Tensor, inputs: Tensor) -> bool:
    """Moves the effect of those columns whose inputs are constant into the bias; whether there were any."""
    index, values = _constant_columns(layer, columns, inputs)
    if not len(index):
        return False
    weight = layer.get_parameter("weight")
    if is_depthwise(layer):
        effect = torch.zeros(len(weight), len(index)).to(weight)
        effect[index, range(len(index))] = weight[index].flatten(1).sum(1)
    else:
        effect = weight[:, index].flatten(2).sum(2) if weight.ndim > 2 else weight[:, index]
    addition = effect @ values
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros_like(addition), requires_grad=weight.requires_grad)
    layer.get_parameter("bias").add_(addition)
    if is_depthwise(layer):
        weight[index] = 0
    else:
        weight[:, index] = 0
    return True


def _constant_columns(layer: nn.Module, columns: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the columns whose inputs are one number that a bias can stand for, and these numbers."""
    values = inputs[:, columns]
    positions = values.flatten(2) if values.ndim > 2 else values[..., None]
    first = positions[:1, :, :1]
    constant = ((positions - first).abs() <= TOLERANCE * first.abs()).all(0).all(-1)
    if _pads_with_zeros(layer):
        constant &= first[0, :, 0] == 0  # any other number is not constant at the border
    return columns[constant], first[0, constant, 0]


def _pads_with_zeros(layer: nn.Module) -> bool:
    if not isinstance(layer, CONVOLUTIONS) or layer.padding_mode != "zeros" or layer.padding == "valid":
        return False
    return layer.padding == "same" or any(layer.padding)
