"""Results that live at the same time never share memory, and dead ones leave theirs."""

import random

from pyro_vd.compress.c.scratch import Use, place


def overlaps(one, other, starts, uses):
    return starts[one] < starts[other] + uses[other].size and starts[other] < starts[one] + uses[one].size


def test_results_that_live_at_the_same_time_are_apart():
    choose = random.Random(0)  # noqa: S311
    for _ in range(300):
        uses = {}
        for step in range(choose.randint(1, 12)):
            over = choose.choice([None, *uses])
            uses[str(step)] = Use(choose.randint(1, 4), step, step + choose.randint(1, 4), over)
        starts, size = place(uses)
        assert size == max(starts[name] + use.size for name, use in uses.items())
        for name, use in uses.items():
            for other, earlier in uses.items():
                if earlier.first < use.first <= earlier.last and overlaps(name, other, starts, uses):
                    assert use.over == other
                    assert (starts[other], earlier.size, earlier.last) == (starts[name], use.size, use.first)


def test_a_chain_needs_its_two_largest_neighbors():
    uses = {str(i): Use(size, i, i + 1) for i, size in enumerate([7, 5, 3, 6, 2])}
    assert place(uses)[1] == 12


def test_a_result_takes_the_place_of_what_dies_as_it_is_written():
    uses = {"a": Use(5, 0, 1), "b": Use(5, 1, 2, "a"), "c": Use(4, 2, 3, "b"), "d": Use(5, 3, 4, "a")}
    starts, size = place(uses)
    assert (starts["a"], starts["b"], starts["c"]) == (0, 0, 5)
    assert size == 9


def test_what_is_read_again_keeps_its_place():
    starts, size = place({"a": Use(5, 0, 2), "b": Use(5, 1, 2, "a")})
    assert starts == {"a": 0, "b": 5}
    assert size == 10


def test_nothing_needs_nothing():
    assert place({}) == ({}, 0)
