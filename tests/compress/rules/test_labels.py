"""Labels of elements: what varies, and what broadcasts."""

import torch

from pyro_vd.compress.rules.labels import OUTSIDE, Labeled, compact, outside, pad_axes, varying_axes


def test_axes_on_which_labels_do_not_vary_have_length_1():
    full = torch.tensor([1, 2, 3]).view(1, 3, 1).expand(4, 3, 5)
    assert compact(full).shape == (1, 3, 1)
    assert varying_axes(compact(full)) == [1]
    assert torch.equal(compact(full).expand(4, 3, 5), full)


def test_labels_of_several_axes_are_kept_whole():
    full = torch.arange(6).view(1, 2, 1, 3).expand(4, 2, 5, 3)
    assert torch.equal(compact(full), torch.arange(6).view(1, 2, 1, 3))


def test_a_labeled_tensor_expands_to_a_label_for_each_element():
    labeled = Labeled((4, 3), torch.tensor([[7, 8, 9]]))
    assert torch.equal(labeled.expand(), torch.tensor([[7, 8, 9]] * 4))
    assert not labeled.is_outside
    assert Labeled((4, 3), outside(2)).is_outside
    assert outside(2).tolist() == [[OUTSIDE]]


def test_new_axes_come_first():
    assert pad_axes(torch.tensor([1, 2]), 3).shape == (1, 1, 2)
