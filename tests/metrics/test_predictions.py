"""Logits of a data set and posterior predictive probabilities."""

import pytest
import torch
from torch import nn

from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.metrics import compute_logits, predictive_probabilities


def test_mean_probabilities_average_probabilities_not_logits():
    """Two sure and opposite draws are one unsure prediction; 2:1 in logits does not outvote."""
    logits = torch.tensor([[[100.0, 0.0]], [[0.0, 50.0]], [[0.0, 30.0]]])
    probabilities = predictive_probabilities(logits)
    assert probabilities.shape == (1, 2)
    assert torch.allclose(probabilities, torch.tensor([[1 / 3, 2 / 3]]))


def test_mean_probabilities_sum_to_one_without_overflow():
    logits = 1000 * torch.randn(7, 5, 3)
    probabilities = predictive_probabilities(logits)
    assert probabilities.isfinite().all()
    assert torch.allclose(probabilities.sum(-1), torch.ones(5))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 8, 1000])
def test_logits_do_not_depend_on_the_batch_size(batch_size):
    """And images are scaled as in training: bytes to [0, 1]."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double().float()
    images = torch.arange(28, dtype=torch.uint8).reshape(7, 1, 2, 2) * 9
    logits = compute_logits(net, LabeledImages(images, torch.zeros(7, dtype=torch.int64)), batch_size)
    assert logits.shape == (7, 3)
    assert not logits.requires_grad
    assert torch.allclose(logits, net(images.float() / 255), atol=1e-6)


@pytest.mark.parametrize(("n", "batch_size"), [(0, 10), (3, 0), (3, -1)])
def test_logits_are_of_examples(n, batch_size):
    examples = LabeledImages(torch.zeros(n, 1, 2, 2), torch.zeros(n, dtype=torch.long))
    with pytest.raises(UserError, match=f"{n} examples, batch_size={batch_size}"):
        compute_logits(nn.Flatten(), examples, batch_size)
