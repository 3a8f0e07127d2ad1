"""Counts the weights that pruning left, from the network's tensors, as the papers count them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pyro_vd.model.eval_mode import eval_mode
from pyro_vd.pytree import Tree, as_tree, call, leaves, map_leaves
from pyro_vd.text_table import WIDTH, html_table, text_table

__all__ = ["CompressionReport", "compression_report", "reached_parameters"]


@dataclass(frozen=True, repr=False)
class CompressionReport:
    """Counts of the lifted weights, which could be pruned, and of all weights of the network.

    All weights are the parameters of two or more dimensions, in any module, and the lifted ones. Biases are not
    counted, as in Molchanov et al. 2017, table 1. A tied parameter counts once.

    Attributes:
        weights: number of lifted weights.
        nonzero: number of lifted weights that are not 0.
        sparsity_per_layer: site -> share of its weights that are 0.
        total_weights: number of all weights.
        total_nonzero: number of all weights that are not 0.
        dense: names of the weights that are not lifted, and so have no posterior that prunes them.
        unused: names of the weights, lifted or not, that the network did not use on the given inputs; they are not
            counted.
        weights_per_layer: site -> number of its weights.
        threshold: at which the weights were pruned, if ``find_candidate`` or ``sparsify`` did it.

    ``repr`` is a table of the layers, also in notebooks; ``str`` is one line.
    """

    weights: int
    nonzero: int
    sparsity_per_layer: dict[str, float]
    total_weights: int
    total_nonzero: int
    dense: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    weights_per_layer: dict[str, int] = field(default_factory=dict)
    threshold: float | None = None

    @property
    def compression(self) -> float:
        """weights / nonzero; infinite if nothing is left."""
        return self.weights / self.nonzero if self.nonzero else float("inf")

    @property
    def total_compression(self) -> float:
        """total_weights / total_nonzero; infinite if nothing is left."""
        return self.total_weights / self.total_nonzero if self.total_nonzero else float("inf")

    @property
    def sparsity(self) -> float:
        """Share of the lifted weights that are 0."""
        return 1 - self.nonzero / self.weights if self.weights else 0.0

    @property
    def empty(self) -> list[str]:
        """Lifted layers with no weight left."""
        return [site.removesuffix(".weight") for site, sparsity in self.sparsity_per_layer.items() if sparsity == 1]

    @property
    def advice(self) -> str:
        """What to change if nothing is pruned or a layer is empty; otherwise an empty string."""
        if self.nonzero == self.weights:
            return "nothing is above the threshold: a lower one, more epochs or a higher weight of the KL prunes more"
        if self.empty:
            subject = f"layer {self.empty[0]} is" if len(self.empty) == 1 else f"layers {', '.join(self.empty)} are"
            return f"{subject} empty: a higher threshold or a lower weight of the KL prunes less"
        return ""

    def __str__(self) -> str:
        """For example "9.5x of the 3,216 lifted weights, 2.2x of all 5,328; dense: encoder.in_proj_weight"."""
        lifted = f"{self.compression:.1f}x of the {self.weights:,} lifted weights"
        parts = [
            f"{lifted}, {self.total_compression:.1f}x of all {self.total_weights:,}",
            f"dense: {', '.join(self.dense)}" if self.dense else "",
            f"not used and not counted: {', '.join(self.unused)}" if self.unused else "",
            self.advice,
        ]
        return "; ".join(part for part in parts if part)

    def __repr__(self) -> str:
        """A table of the layers under the line of ``str``, at most 88 columns wide."""
        return "\n".join([*textwrap.wrap(self._title, WIDTH), text_table(HEADER, self._rows)])

    def _repr_html_(self) -> str:
        return html_table(HEADER, self._rows, self._title)

    @property
    def _title(self) -> str:
        at = "" if self.threshold is None else f"threshold {self.threshold:.4g}: "
        return f"{at}{self}"

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        shares = self.sparsity_per_layer
        layers = [(site, number, round(number * (1 - shares[site]))) for site, number in self.weights_per_layer.items()]
        sums = [("lifted", self.weights, self.nonzero), ("all", self.total_weights, self.total_nonzero)]
        return [_row(*each) for each in (*layers, *sums)]


HEADER = ("layer", "weights", "kept", "pruned %")


def _row(name: str, weights: int, kept: int) -> tuple[str, ...]:
    return name, f"{weights:,}", f"{kept:,}", f"{100 * (1 - kept / weights) if weights else 0:.1f}"


def compression_report(net: nn.Module, sites: Iterable[str], inputs: Tree | None = None) -> CompressionReport:
    """Counts the nonzero entries of the named parameters of ``net``, and those of all its weights.

    Args:
        net: the pruned network.
        sites: names of the lifted weights, ``posterior.model.priors``.
        inputs: a batch of inputs. If given, the network is run on it in eval mode, and weights that its outputs do not
            depend on are left out and named. Layers that are never called, or only in training, as auxiliary heads,
            have such weights; all of them would be pruned and counted as compression.

    Raises:
        AttributeError: for a name that is not a parameter.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> _ = nn.init.zeros_(net.weight)
        >>> compression_report(net, ["weight"]).compression
        inf
    """
    lifted = {site: net.get_parameter(site) for site in sites}
    owners = {id(parameter): site for site, parameter in lifted.items()}
    others = {name: p for name, p in net.named_parameters() if p.ndim > 1 and id(p) not in owners}
    reached = None if inputs is None else reached_parameters(net, inputs)
    found = {**lifted, **others}
    unused = tuple(name for name, p in found.items() if reached is not None and id(p) not in reached)
    nonzero = {name: int(p.detach().count_nonzero()) for name, p in found.items() if name not in unused}
    sizes = {name: found[name].numel() for name in nonzero}
    counted = [site for site in lifted if site in nonzero]
    return CompressionReport(
        weights=sum(sizes[site] for site in counted),
        nonzero=sum(nonzero[site] for site in counted),
        sparsity_per_layer={site: 1 - nonzero[site] / sizes[site] for site in counted},
        total_weights=sum(sizes.values()),
        total_nonzero=sum(nonzero.values()),
        dense=tuple(name for name in others if name in nonzero),
        unused=unused,
        weights_per_layer={site: sizes[site] for site in counted},
    )


@torch.enable_grad()
def reached_parameters(net: nn.Module, inputs: Tree) -> set[int]:
    """``id`` of every parameter that the outputs depend on in eval mode, from the graph that autograd records.

    The network keeps its modes and gradients.
    """
    parameters = list(net.parameters())
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with eval_mode(net):
            outputs = call(net, map_leaves(torch.clone, as_tree(inputs)))
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    waiting = [leaf.grad_fn for leaf in leaves(as_tree(outputs)) if isinstance(leaf, Tensor)]
    reached, seen = set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            reached.add(id(node.variable))
        waiting.extend(following for following, _ in node.next_functions)
    return reached
