"""Metrics against hand-counted values."""

import pytest
import torch
from torch import nn

from pyro_vd.data import Examples
from pyro_vd.metrics import error_rate, logits_of, mean_probabilities


def test_error_rate_is_a_fraction():
    scores = torch.tensor([[2.0, 1.0], [0.0, 5.0], [3.0, -1.0], [0.0, 1.0]])
    assert error_rate(scores, torch.tensor([0, 1, 1, 0])) == 0.5
    assert error_rate(scores, torch.tensor([0, 1, 0, 1])) == 0.0
    assert error_rate(scores, torch.tensor([1, 0, 1, 0])) == 1.0
    assert isinstance(error_rate(scores, torch.zeros(4, dtype=torch.int64)), float)


def test_error_rate_is_exact_for_many_examples():
    """Kills a float32 mean: 1 in 3 has to come out as the nearest double."""
    scores = torch.zeros(60_000, 2)
    scores[:, 0] = 1
    labels = (torch.arange(60_000) % 3 == 0).long()
    assert error_rate(scores, labels) == 20_000 / 60_000


def test_mean_probabilities_average_probabilities_not_logits():
    """Two sure and opposite draws are one unsure prediction; 2:1 in logits does not outvote."""
    logits = torch.tensor([[[100.0, 0.0]], [[0.0, 50.0]], [[0.0, 30.0]]])
    probabilities = mean_probabilities(logits)
    assert probabilities.shape == (1, 2)
    assert torch.allclose(probabilities, torch.tensor([[1 / 3, 2 / 3]]))


def test_mean_probabilities_sum_to_one_without_overflow():
    logits = 1000 * torch.randn(7, 5, 3)
    probabilities = mean_probabilities(logits)
    assert probabilities.isfinite().all()
    assert torch.allclose(probabilities.sum(-1), torch.ones(5))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 8, 1000])
def test_logits_do_not_depend_on_the_batch_size(batch_size):
    """And images are scaled as in training: bytes to [0, 1]."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double().float()
    images = torch.arange(28, dtype=torch.uint8).reshape(7, 1, 2, 2) * 9
    logits = logits_of(net, Examples(images, torch.zeros(7, dtype=torch.int64)), batch_size)
    assert logits.shape == (7, 3)
    assert not logits.requires_grad
    assert torch.allclose(logits, net(images.float() / 255), atol=1e-6)
