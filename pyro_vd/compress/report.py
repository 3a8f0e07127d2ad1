"""What pruning left: counted from the network's tensors, weights only, as the papers count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

__all__ = ["CompressionReport", "compression_report"]


@dataclass(frozen=True)
class CompressionReport:
    """Counts over the weights that could be pruned; biases are not counted, as in Molchanov et al. 2017, table 1.

    Attributes:
        weights: number of weights.
        nonzero: number of weights that are not 0.
        sparsity_per_layer: site -> share of its weights that are 0.
    """

    weights: int
    nonzero: int
    sparsity_per_layer: dict[str, float]

    @property
    def compression(self) -> float:
        """weights / nonzero; infinite where nothing is left."""
        return self.weights / self.nonzero if self.nonzero else float("inf")

    @property
    def sparsity(self) -> float:
        """Share of all weights that are 0."""
        return 1 - self.nonzero / self.weights


def compression_report(net: nn.Module, sites: Iterable[str]) -> CompressionReport:
    """Counts the zeros that the named parameters of ``net`` hold.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> _ = nn.init.zeros_(net.weight)
        >>> compression_report(net, ["weight"]).compression
        inf
    """
    tensors = {site: net.get_parameter(site).detach() for site in sites}
    nonzero = {site: int(tensor.count_nonzero()) for site, tensor in tensors.items()}
    return CompressionReport(
        weights=sum(tensor.numel() for tensor in tensors.values()),
        nonzero=sum(nonzero.values()),
        sparsity_per_layer={site: 1 - nonzero[site] / tensor.numel() for site, tensor in tensors.items()},
    )
