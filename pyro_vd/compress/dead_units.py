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
from pyro_vd.compress.layers import as_groups
from pyro_vd.compress.rules.constants import CONSTANT_TOLERANCE
from pyro_vd.model.layers import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS

__all__ = ["DeadUnits", "used_columns"]


class DeadUnits:
    """Takes dead units out of the weights of ``net``, in place: weights that no output depends on become 0.

    A row of a weight is the weights into one output of its layer, a column those on one input.

    Args:
        net: the network.
        channels: its channels.
        inputs: layer -> the inputs that it read, (positions, inputs). Folding a constant into a bias does not change
            the constants.
    """

    def __init__(self, net: nn.Module, channels: Channels, inputs: Mapping[str, Tensor]):
        self._layers = {name: net.get_submodule(name) for name in channels.producers}
        self._inputs = inputs
        self._produced = {name: torch.tensor(labels) for name, labels in channels.producers.items()}
        self._consumed = {name: torch.tensor(labels) for name, labels in channels.consumers.items()}
        self._rows = {name: _used_rows(layer) for name, layer in self._layers.items()}
        self._columns = {name: used_columns(layer) for name, layer in self._layers.items()}
        count = len(channels.labels)
        self._channels = channels
        # By label: rows that are not 0 and produce the channel, and columns that are not 0 and consume it. What is
        # read or written outside of the layers counts too.
        self._num_rows = _count_labels(channels.protected | channels.mixed, count)
        self._num_columns = _count_labels(channels.protected, count)
        self._followed = _count_labels(channels.followers, count)
        self._num_columns += self._followed
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

        These are all that a layer consumes, one channel of a layer that would be empty, and what depends on them.
        """
        kept = self._num_columns - self._followed > 0
        for labels in self._produced.values():
            if not bool(kept[labels].any()):
                kept[labels[0]] = True
        before = 0
        while before < (before := int(kept.sum())):
            self._keep_coupled(kept)
        return set(kept.nonzero().flatten().tolist())

    def _keep_coupled(self, kept: Tensor) -> None:
        """Keeps what kept channels depend on, and equally many where there must be."""
        pairs = torch.tensor(self._channels.dependencies, dtype=torch.long).view(-1, 2)
        kept[pairs[kept[pairs[:, 0]], 1]] = True
        for lists in map(torch.tensor, self._channels.equal):
            most = int(kept[lists].sum(1).max())
            for labels in lists:
                gone = labels[~kept[labels]]
                kept[gone[: most - (len(labels) - len(gone))]] = True

    def _fold_constants(self, name: str) -> bool:
        labels = self._consumed[name]
        constant = self._is_produced[labels] & (self._num_rows[labels] == 0)
        columns = (self._columns[name] & constant).nonzero().flatten()
        return bool(len(columns)) and _fold_into_bias(self._layers[name], columns, self._inputs[name])

    def _drop_unread(self, name: str) -> bool:
        labels = self._produced[name]
        rows = self._rows[name] & ~self._is_read(name, labels)
        as_groups(self._layers[name]).flatten(0, 1)[rows] = 0
        return bool(rows.any())

    def _is_read(self, name: str, labels: Tensor) -> Tensor:
        """Whether each output is read. What a layer reads of its own outputs counts only if it leads to others."""
        consumed = self._consumed[name]
        is_read = self._num_columns > 0
        if not bool(torch.isin(consumed, labels).any()):
            return is_read[labels]
        is_read = self._num_columns > torch.zeros_like(self._num_columns).index_add_(
            0, consumed, self._columns[name].long()
        )
        weight = as_groups(self._layers[name])
        used = weight.flatten(3).any(3) if weight.ndim > 3 else weight != 0
        before = -1
        while before < (before := int(is_read.sum())):
            rows = is_read[labels].view(weight.shape[:2])
            is_read[consumed[(used & rows[..., None]).any(1).flatten()]] = True
        return is_read[labels]

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


def _count_labels(labels: set[int], count: int) -> Tensor:
    counts = torch.zeros(count, dtype=torch.long)
    counts[torch.tensor(sorted(labels), dtype=torch.long)] = 1
    return counts


def used_columns(layer: nn.Module) -> Tensor:
    """Bools, (inputs,): whether any weight on the input is not 0."""
    return as_groups(layer).transpose(1, 2).flatten(0, 1).flatten(1).any(1)


def _used_rows(layer: nn.Module) -> Tensor:
    """Bools, (outputs,): whether any weight into the output is not 0."""
    return as_groups(layer).flatten(0, 1).flatten(1).any(1)


def _fold_into_bias(layer: nn.Module, columns: Tensor, inputs: Tensor) -> bool:
    """Moves the effect of those columns whose inputs are constant into the bias; whether there were any."""
    index, values = _constant_columns(layer, columns, inputs)
    if not len(index):
        return False
    weight = as_groups(layer)
    group, column = index // weight.shape[2], index % weight.shape[2]
    effects = weight[group, :, column].flatten(2).sum(2) if weight.ndim > 3 else weight[group, :, column]
    addition = torch.zeros(weight.shape[:2]).to(weight).index_add_(0, group, effects * values[:, None]).flatten()
    bias = layer._parameters.get("bias")
    if bias is None and bool(addition.any()):
        layer.bias = nn.Parameter(addition, requires_grad=weight.requires_grad)
    elif bias is not None:
        bias.add_(addition)
    weight[group, :, column] = 0
    return True


def _constant_columns(layer: nn.Module, columns: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the columns whose inputs are one number that a bias can stand for, and these numbers."""
    values = inputs[:, columns]
    first = values[0]
    constant = ((values - first).abs() <= CONSTANT_TOLERANCE * first.abs()).all(0)
    if _is_uneven_at_borders(layer):
        constant &= first == 0  # any other number is not constant at the border
    return columns[constant], first[constant]


def _is_uneven_at_borders(layer: nn.Module) -> bool:
    """Whether the layer makes of a constant something that differs by position."""
    if isinstance(layer, TRANSPOSED_CONVOLUTIONS):
        return True
    if not isinstance(layer, CONVOLUTIONS) or layer.padding_mode != "zeros" or layer.padding == "valid":
        return False
    return layer.padding == "same" or any(layer.padding)
