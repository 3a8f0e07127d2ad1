"""The channels of a network: which layers produce each of them, and which consume it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from pyro_vd.compress.disjoint_set import DisjointSet

__all__ = ["Channels"]


@dataclass
class Channels:
    """Labels of channels. Labels in the same set of ``labels`` are one channel: they stay or go together.

    A channel is a unit of axis 1, which convolutions, linear layers and batch normalization call channels or features.

    Attributes:
        producers: layer -> labels of its outputs.
        consumers: layer -> labels of its inputs. After flattening, a channel's label is repeated for each position.
        selectable: layer that selects its inputs -> labels of all inputs that it selects from.
        norms: batch normalization -> labels of its channels.
        protected: labels of the network's inputs and outputs, and of channels that others depend on; they must stay.
        weights: weights of the layers found so far.
        labels: all labels.
    """

    producers: dict[str, list[int]] = field(default_factory=dict)
    consumers: dict[str, list[int]] = field(default_factory=dict)
    selectable: dict[str, list[int]] = field(default_factory=dict)
    norms: dict[str, list[int]] = field(default_factory=dict)
    protected: set[int] = field(default_factory=set)
    weights: list[Tensor] = field(default_factory=list)
    labels: DisjointSet = field(default_factory=DisjointSet)

    def union(self, one: list[int], other: list[int]) -> None:
        """Merges the channels of two terms of an addition, one by one."""
        for a, b in zip(one, other, strict=True):
            self.labels.union(a, b)

    def replace_by_representatives(self) -> None:
        """Replaces every label by the one that represents its channel."""
        for part in (self.producers, self.consumers, self.selectable, self.norms):
            for name, labels in part.items():
                part[name] = [self.labels.find(label) for label in labels]
        self.protected = {self.labels.find(label) for label in self.protected}
