"""Trees of tensors: names, parts, counts, and how a network is called."""

import dataclasses
from collections import UserDict, namedtuple

import pytest
import torch
from torch import nn

from pyro_vd import pytree
from pyro_vd.errors import UserError

Point = namedtuple("Point", "a b")


@dataclasses.dataclass
class Output:
    """A dataclass that nobody registered."""

    logits: torch.Tensor
    hidden: torch.Tensor | None = None


def tree(n=5):
    x = torch.arange(2.0 * n).reshape(n, 2)
    return {"left": x, "right": (x[:, 0], [x + 1])}


def equal(one, other):
    return pytree.describe_structure(one) == pytree.describe_structure(other) and all(
        map(torch.equal, pytree.leaves(one), pytree.leaves(other))
    )


def test_leaves_are_named_by_their_path():
    assert [name for name, _ in pytree.named_leaves("x", tree())] == ["x.left", "x.right.0", "x.right.1.0"]
    assert pytree.named_leaves("x", 3) == [("x", 3)]
    assert [name for name, _ in pytree.named_leaves("x", Point(1, (2, 3)))] == ["x.a", "x.b.0", "x.b.1"]


def test_a_container_without_keys_numbers_its_leaves():
    class Bag:
        def __init__(self, *parts):
            self.parts = list(parts)

    torch.utils._pytree.register_pytree_node(Bag, lambda bag: (bag.parts, None), lambda parts, _: Bag(*parts))
    assert pytree.named_leaves("x", Bag(1, 2)) == [("x.0", 1), ("x.1", 2)]


def test_mappings_become_dicts_at_any_depth():
    found = pytree.as_tree([UserDict(a=UserDict(b=1))])
    assert found == [{"a": {"b": 1}}]
    assert type(found[0]) is type(found[0]["a"]) is dict


def test_a_dataclass_is_walked_and_stays_one():
    found = pytree.map_leaves(lambda leaf: leaf + 1, pytree.as_tree({"a": Output(torch.zeros(2))}))
    assert torch.equal(found["a"].logits, torch.ones(2))
    assert found["a"].hidden is None
    assert [name for name, _ in pytree.named_leaves("y", found)] == ["y.a.logits"]


def test_none_stays():
    assert pytree.map_leaves(torch.neg, (torch.ones(1), None))[1] is None


@pytest.mark.parametrize("size", [1, 2, 5, 9, None])
def test_parts_of_a_size_are_the_whole(size):
    whole = tree()
    parts = pytree.split(whole, size)
    assert equal(pytree.cat(parts), whole)
    assert [pytree.count(part) for part in parts] == [len(part) for part in torch.arange(5).split(size or 5)]


@pytest.mark.parametrize("number", [1, 2, 5])
def test_even_parts_are_those_of_tensors(number):
    whole = tree()
    parts = pytree.divide(whole, number)
    assert equal(pytree.cat(parts), whole)
    assert all(map(torch.equal, (part["left"] for part in parts), whole["left"].tensor_split(number)))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_concatenate_fills_one_tree(size):
    whole = tree()
    found = pytree.concatenate(iter(pytree.split(whole, size)), 5)
    assert equal(found, whole)
    assert found["left"].data_ptr() != whole["left"].data_ptr()


def test_take_indexes_every_leaf():
    index = torch.tensor([3, 0])
    assert torch.equal(pytree.take(tree(), index)["right"][1][0], tree()["right"][1][0][index])


def test_count_names_the_leaf_that_is_uneven():
    assert pytree.count(tree()) == 5
    with pytest.raises(UserError, match=r"that of x\.a is 3, and the shape of x\.b is \(2, 7\); cure") as caught:
        pytree.count({"a": torch.zeros(3), "b": torch.zeros(2, 7)}, "x", "; cure")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"must count examples: the shape of x\.0 is \(\)"):
        pytree.count((torch.tensor(1), torch.zeros(2)))


@pytest.mark.parametrize(("value", "reason"), [
    ({}, "x of the set is empty"),
    (((), []), "x of the set is empty"),
    ((torch.zeros(2), 3), r"x\.1 of the set is a int"),
    ({"mask": None}, r"x\.mask of the set is a NoneType"),
    ({"text": ["a", "b"]}, r"x\.text\.0 of the set is a str"),
    ((torch.zeros(2, dtype=torch.uint8),), r"x\.0 of the set is uint8; give numbers by \.float\(\)"),
])  # fmt: skip
def test_inputs_that_are_no_tensors_are_named(value, reason):
    with pytest.raises(UserError, match=reason):
        pytree.check_inputs(value, "the set")


def test_bytes_alone_are_pixels():
    pytree.check_inputs(torch.zeros(2, dtype=torch.uint8), "the set")


class Two(nn.Module):
    def forward(self, left, right, scale=None):
        return left - right if scale is None else scale * (left - right)


def test_a_tuple_is_positional_and_a_dict_by_name():
    a, b = torch.tensor([3.0]), torch.tensor([1.0])
    net = Two()
    for x in ((a, b), [a, b], Point(a, b), {"right": b, "left": a}):
        assert pytree.call(net, x).item() == 2
    assert pytree.call(net, {"right": b, "left": a, "scale": a}).item() == 6
    assert pytree.call(nn.Identity(), a) is a
    assert pytree.call(nn.Identity(), (a,)) is a
    assert pytree.call(nn.Identity(), ({"a": a},)) == {"a": a}
    output = Output(a)
    assert pytree.call(nn.Identity(), output) is output


@pytest.mark.parametrize(("x", "reason"), [
    ((1.0,), "1 positional arguments: missing a required argument: 'right'"),
    ((1.0, 2.0, 3.0, 4.0), "4 positional arguments: too many positional arguments"),
    ({"left": 1.0, "wrong": 2.0}, "a dict with the keys left, wrong: missing a required argument: 'right'"),
    ({"left": 1.0, "right": 1.0, "mask": 2.0}, "got an unexpected keyword argument 'mask'"),
])  # fmt: skip
def test_arguments_that_forward_does_not_have_show_its_signature(x, reason):
    with pytest.raises(UserError, match=r"forward\(left, right, scale=None\) of Two does not take x, .*") as caught:
        pytree.call(Two(), x)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tensor_is_checked_too():
    with pytest.raises(UserError, match=r"forward\(left, right, scale=None\).* missing a required argument: 'right'"):
        pytree.call(Two(), torch.zeros(2))


def test_another_type_error_of_the_network_is_its_own():
    class Broken(nn.Module):
        def forward(self, x):
            return len(3)

    with pytest.raises(TypeError, match="has no len"):
        pytree.call(Broken(), (1,))
