"""The two rules by which dead units go, and their consequences, until neither rule finds one.

What a layer uses is kept and brought up to date where its weights change, and a layer is looked at again only if a
channel that it makes or reads changed: the work grows with the size of the network, not with its depth times that.
"""

from __future__ import annotations

from collections import defaultdict, deque

import torch
from torch import Tensor, nn

from pyro_vd.compress.channels import Channels, is_depthwise

__all__ = ["DeadUnits", "columns_used"]


class DeadUnits:
    """Takes dead units out of the weights of ``net``, in place, by setting to 0 what nothing reads or moves.

    Args:
        channels: of ``net``.
        seen: layer -> the inputs that it read. What constants are does not change when they are folded.
    """

    def __init__(self, net: nn.Module, channels: Channels, seen: dict[str, Tensor]):
        self._layers = {name: net.get_submodule(name) for name in channels.makers}
        self._seen = seen
        self._outputs = {name: torch.tensor(labels) for name, labels in channels.makers.items()}
        self._inputs = {name: torch.tensor(labels) for name, labels in channels.readers.items()}
        self._rows = {name: _rows_used(layer) for name, layer in self._layers.items()}
        self._columns = {name: columns_used(layer) for name, layer in self._layers.items()}
        fixed = torch.tensor(sorted(channels.fixed), dtype=torch.long)
        self._moves = torch.zeros(channels.count, dtype=torch.long)  # rows that move a channel, by its label
        self._reads = torch.zeros(channels.count, dtype=torch.long)  # columns that read it
        self._moves[fixed] = self._reads[fixed] = 1  # from outside
        self._made = torch.zeros(channels.count, dtype=torch.bool)
        self._touching: dict[int, list[str]] = defaultdict(list)
        for name in self._layers:
            self._made[self._outputs[name]] = True
            self._moves.index_add_(0, self._outputs[name], self._rows[name].long())
            self._reads.index_add_(0, self._inputs[name], self._columns[name].long())
            for label in {*channels.makers[name], *channels.readers[name]}:
                self._touching[label].append(name)

    def remove(self) -> None:
        """Folds constants into the biases of what reads them and drops what nothing reads, from the input on."""
        waiting = dict.fromkeys(self._layers)  # in order, each once
        queue = deque(waiting)
        while queue:
            name = queue.popleft()
            del waiting[name]
            folded, dropped = self._fold_constants(name), self._drop_unread(name)
            if folded or dropped:
                others = {other: None for label in self._changed_by(name) for other in self._touching[label]}
                queue.extend(other for other in others if other not in waiting)
                waiting |= others

    def kept(self) -> set[int]:
        """Labels of what stays: what is read, one channel where a layer would be empty, and in a depthwise convolution
        the other end of what stays."""
        kept = self._reads > 0
        for labels in self._outputs.values():
            if not bool(kept[labels].any()):
                kept[labels[0]] = True
        ends = [
            (self._inputs[name], self._outputs[name]) for name, layer in self._layers.items() if is_depthwise(layer)
        ]
        while any(bool((kept[before] != kept[behind]).any()) for before, behind in ends):
            for before, behind in ends:
                kept[before] = kept[behind] = kept[before] | kept[behind]
        return set(kept.nonzero().flatten().tolist())

    def _fold_constants(self, name: str) -> bool:
        labels = self._inputs[name]
        still = self._made[labels] & (self._moves[labels] == 0)
        columns = (self._columns[name] & still).nonzero().flatten()
        return bool(len(columns)) and _fold(self._layers[name], columns, self._seen[name])

    def _drop_unread(self, name: str) -> bool:
        rows = self._rows[name] & (self._reads[self._outputs[name]] == 0)
        self._layers[name].get_parameter("weight")[rows] = 0
        return bool(rows.any())

    def _changed_by(self, name: str) -> list[int]:
        """Brings up to date what the layer uses; labels of the channels that nothing moves, or reads, any more."""
        rows, columns = _rows_used(self._layers[name]), columns_used(self._layers[name])
        moved, read = self._outputs[name][self._rows[name] & ~rows], self._inputs[name][self._columns[name] & ~columns]
        self._moves.index_add_(0, moved, -torch.ones_like(moved))
        self._reads.index_add_(0, read, -torch.ones_like(read))
        self._rows[name], self._columns[name] = rows, columns
        changed = torch.cat([moved[self._moves[moved] == 0], read[self._reads[read] == 0]])
        return changed.unique().tolist()


def columns_used(layer: nn.Module) -> Tensor:
    """Bools, (inputs,): whether any weight on the input is not 0."""
    if is_depthwise(layer):
        return _rows_used(layer)
    return layer.get_parameter("weight").transpose(0, 1).flatten(1).any(1)


def _rows_used(layer: nn.Module) -> Tensor:
    """Bools, (outputs,): whether any weight into the output is not 0."""
    return layer.get_parameter("weight").flatten(1).any(1)


def _fold(layer: nn.Module, columns: Tensor, seen: Tensor) -> bool:
    """Takes those of the columns that are constant, and that a bias can stand for, into the bias."""
    values = seen[:, columns]
    positions = values.flatten(2) if values.ndim > 2 else values[..., None]
    first = positions[:1, :, :1]
    constant = ((positions - first).abs() <= 1e-6 * first.abs()).all(0).all(-1)
    if _pads_with_zeros(layer):
        constant &= first[0, :, 0] == 0  # another constant ends at the border
    index = columns[constant]
    if not len(index):
        return False
    weight = layer.get_parameter("weight")
    if is_depthwise(layer):
        effect = torch.zeros(len(weight), len(index)).to(weight)
        effect[index, range(len(index))] = weight[index].flatten(1).sum(1)
    else:
        effect = weight[:, index].flatten(2).sum(2) if weight.ndim > 2 else weight[:, index]
    addition = effect @ first[0, constant, 0]
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros_like(addition), requires_grad=weight.requires_grad)
    layer.get_parameter("bias").add_(addition)
    if is_depthwise(layer):
        weight[index] = 0
    else:
        weight[:, index] = 0
    return True


def _pads_with_zeros(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Linear) or layer.padding_mode != "zeros" or layer.padding == "valid":
        return False
    return layer.padding == "same" or any(layer.padding)  # type: ignore[arg-type]
