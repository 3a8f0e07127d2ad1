"""Disjoint sets against sets of Python."""

from hypothesis import given
from hypothesis import strategies as st

from pyro_vd.compress.disjoint_set import DisjointSet


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20))
def test_unions_are_those_of_sets(pairs):
    labels = DisjointSet()
    assert labels.make(4) + labels.make(6) == list(range(10))
    sets = [{label} for label in range(10)]
    for one, other in pairs:
        labels.union(one, other)
        merged = sets[one] | sets[other]
        for label in merged:
            sets[label] = merged
    for one in range(10):
        assert labels.find(one) in sets[one]
        assert {other for other in range(10) if labels.find(other) == labels.find(one)} == sets[one]
    assert len(labels) == 10
