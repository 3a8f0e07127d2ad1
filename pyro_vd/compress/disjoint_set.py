"""A disjoint-set forest (union-find) over consecutive integer labels."""

__all__ = ["DisjointSet"]


class DisjointSet:
    """Sets of labels 0, 1, ...; each set is represented by one of its labels.

    Example:
        >>> labels = DisjointSet()
        >>> first, second, third = labels.make(3)
        >>> labels.union(first, third)
        >>> labels.find(first) == labels.find(third), labels.find(first) == labels.find(second), len(labels)
        (True, False, 3)
    """

    def __init__(self) -> None:
        self._parent: list[int] = []

    def __len__(self) -> int:
        """Number of labels."""
        return len(self._parent)

    def make(self, count: int) -> list[int]:
        """Makes ``count`` new labels, each in a set of its own."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return list(range(first, first + count))

    def union(self, one: int, other: int) -> None:
        """Merges the sets of two labels."""
        self._parent[self.find(one)] = self.find(other)

    def find(self, label: int) -> int:
        """The label that represents the set of ``label``."""
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = self._parent[label]
        return label
