"""The channels of a network: which layers produce each of them, and which consume it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from pyro_vd.compress.disjoint_set import DisjointSet
from pyro_vd.compress.rules.labels import OUTSIDE

__all__ = ["Channels"]


@dataclass
class Channels:
    """Labels of channels. Labels in the same set of ``labels`` are one channel: they stay or go together.

    The label ``OUTSIDE`` stands for all that is no channel of a layer.

    Attributes:
        producers: layer -> labels of its outputs.
        consumers: layer -> labels of its inputs. After flattening, a channel's label is repeated for each position.
        selectable: layer that selects its inputs -> labels of all inputs that it selects from.
        norms: module with a value for each channel, as normalization or PReLU -> labels of its channels.
        protected: labels of channels that must stay: of the network's outputs, and those that others depend on.
        mixed: labels of channels whose values depend on more than the layers that produce them.
        followers: labels of channels that are read as long as a channel coupled to them is.
        dependencies: pairs of labels; if the first one stays, the second one stays.
        equal: lists of lists of labels; of each list, equally many must stay.
        weights: weights of the layers found so far, by layer.
        labels: all labels.
    """

    producers: dict[str, list[int]] = field(default_factory=dict)
    consumers: dict[str, list[int]] = field(default_factory=dict)
    selectable: dict[str, list[int]] = field(default_factory=dict)
    norms: dict[str, list[int]] = field(default_factory=dict)
    protected: set[int] = field(default_factory=lambda: {OUTSIDE})
    mixed: set[int] = field(default_factory=set)
    followers: set[int] = field(default_factory=set)
    dependencies: list[tuple[int, int]] = field(default_factory=list)
    equal: list[list[list[int]]] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    labels: DisjointSet = field(default_factory=DisjointSet)

    def __post_init__(self) -> None:
        if not len(self.labels):
            self.labels.make(1)  # OUTSIDE

    def union(self, one: list[int], other: list[int]) -> None:
        """Merges the channels of two terms of an addition, one by one; what is merged with the outside must stay."""
        for a, b in zip(one, other, strict=True):
            if OUTSIDE in (a, b):
                self.protected |= {a, b}
            else:
                self.labels.union(a, b)

    def protect(self, labels: Tensor) -> None:
        """Lets the channels stay."""
        self.protected.update(labels.flatten().tolist())

    def couple(self, labels: list[int]) -> None:
        """Lets these channels stay or go as one group; each remains a channel of its own."""
        (hub,) = self.labels.make(1)
        self.dependencies += [pair for label in labels for pair in ((label, hub), (hub, label))]

    def replace_by_representatives(self) -> None:
        """Replaces every label by the one that represents its channel."""
        find = self.labels.find
        for part in (self.producers, self.consumers, self.selectable, self.norms):
            for name, labels in part.items():
                part[name] = [find(label) for label in labels]
        self.protected = {find(label) for label in self.protected}
        self.mixed = {find(label) for label in self.mixed}
        self.followers = {find(label) for label in self.followers}
        self.dependencies = [(find(a), find(b)) for a, b in self.dependencies]
        self.equal = [[[find(label) for label in labels] for labels in lists] for lists in self.equal]
