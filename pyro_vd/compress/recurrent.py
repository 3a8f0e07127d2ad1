"""Recurrent networks as linear layers, one for each weight, so that shrink can take hidden units out of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pyro_vd.compress.layers import linear_of, set_parameters

__all__ = ["GATES", "SplitRecurrent", "resize_recurrent"]

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


class SplitRecurrent(nn.Module):
    """The same function as an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` that starts at zero, in eval mode.

    The linear layers ``ih_l0``, ``hh_l0``, ``ih_l0_reverse``, ... hold its weights, which are those of ``net``.

    Args:
        net: a recurrent network without projections.
    """

    def __init__(self, net: nn.RNNBase):
        super().__init__()
        self.mode, self.batch_first = net.mode, net.batch_first
        self.num_layers, self.hidden_size = net.num_layers, net.hidden_size
        self.gates, self.bidirectional = GATES[net.mode], net.bidirectional
        for level in range(net.num_layers):
            for suffix in self.suffixes(level):
                for part in ("ih", "hh"):
                    bias = getattr(net, f"bias_{part}_{suffix}") if net.bias else None
                    self.add_module(f"{part}_{suffix}", linear_of(getattr(net, f"weight_{part}_{suffix}"), bias))

    def _get_name(self) -> str:
        return self.mode.partition("_")[0]  # in messages, as the layer in whose place it is

    def suffixes(self, level: int) -> list[str]:
        """The names of the directions of a layer."""
        return [f"l{level}", f"l{level}_reverse"][: 1 + self.bidirectional]

    def forward(self, x: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """What ``net`` gives. The rule for channels refuses ``hx``, an initial state."""
        x = x.transpose(0, 1) if self.batch_first else x
        states: list[tuple[Tensor, Tensor]] = []
        for level in range(self.num_layers):
            outputs = []
            for suffix in self.suffixes(level):
                output, state = self._run(suffix, x)
                outputs.append(output)
                states.append(state)
            x = torch.cat(outputs, -1)
        last, cells = (torch.stack(each) for each in zip(*states, strict=True))
        return x.transpose(0, 1) if self.batch_first else x, (last, cells) if self.mode == "LSTM" else last

    def _run(self, suffix: str, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One direction of one layer: (time, batch, inputs) -> (time, batch, units), and the last state."""
        entering = self.get_submodule(f"ih_{suffix}")(x)
        hidden = cell = entering.new_zeros(entering.shape[1], self.hidden_size)
        outputs = []
        for step in reversed(entering) if suffix.endswith("reverse") else entering:
            hidden, cell = self._step(step, self.get_submodule(f"hh_{suffix}")(hidden), hidden, cell)
            outputs.append(hidden)
        return torch.stack(outputs[::-1] if suffix.endswith("reverse") else outputs), (hidden, cell)

    def _step(self, entering: Tensor, recurring: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        if self.mode == "LSTM":
            i, f, g, o = (entering + recurring).chunk(4, -1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            return o.sigmoid() * cell.tanh(), cell
        if self.mode == "GRU":
            (r, z, n), (r2, z2, n2) = entering.chunk(3, -1), recurring.chunk(3, -1)
            update = (z + z2).sigmoid()
            return (1 - update) * (n + (r + r2).sigmoid() * n2).tanh() + update * hidden, cell
        summed = entering + recurring
        return summed.tanh() if self.mode == "RNN_TANH" else summed.relu(), cell

    def merge_into(self, net: nn.RNNBase) -> nn.RNNBase:
        """Gives ``net`` the weights, and the sizes, of the linear layers."""
        layers: dict[str, Any] = dict(self.named_children())
        biased = any(layer.bias is not None for layer in layers.values())
        for name, layer in layers.items():
            values = {f"weight_{name}": layer.weight}
            if biased:
                values[f"bias_{name}"] = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
            set_parameters(net, values)
        resize_recurrent(net)
        return net


def resize_recurrent(net: Any) -> None:
    """Sets the sizes of a recurrent network to those of its tensors, after these were replaced."""
    net.bias = "bias_ih_l0" in net._parameters
    net.input_size, net.hidden_size = net.weight_ih_l0.shape[1], net.weight_hh_l0.shape[1]
    suffixes = [name.removeprefix("weight_ih_") for name in net._parameters if name.startswith("weight_ih_")]
    kinds = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"][: 4 if net.bias else 2]
    net._all_weights = [[f"{kind}_{suffix}" for kind in kinds] for suffix in suffixes]
    net._flat_weights_names = [name for names in net._all_weights for name in names]
    net._init_flat_weights()
