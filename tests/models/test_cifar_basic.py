"""The two-convolution network: sizes, options, refusals, and outputs that are log probabilities."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyro_vd.errors import UserError
from pyro_vd.models import NETWORKS, CifarBasic
from pyro_vd.models.cifar_basic import ACTIVATIONS
from tests.models._counts import count_weights

X = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 3, 2, 3])


def make(**options):
    torch.manual_seed(0)
    return CifarBasic(**options)


def test_sizes():
    net = NETWORKS["cifar_basic"](10)
    assert count_weights(net) == 3 * 32 * 25 + 32 * 64 * 25 + 64 * 25 * 120 + 120 * 10
    for kernel, side in ((1, 8), (3, 6), (5, 5), (7, 3), (10, 1)):
        assert make(kernel=kernel, hidden=30).fc1.weight.shape == (30, 64 * side * side)
        assert make(kernel=kernel)(X).shape == (4, 10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_that_of_its_name(activation):
    ours = make(activation=activation)
    words = {"relu": "ReLU", "leaky_relu": "LeakyReLU", "elu": "ELU", "tanh": "Tanh", "sigmoid": "Sigmoid"}
    act = getattr(nn, words[activation])()
    layers = (ours.conv1, act, nn.MaxPool2d(2), ours.conv2, act, nn.MaxPool2d(2), nn.Flatten(), ours.fc1, act, ours.fc2)
    torch.testing.assert_close(ours(X), nn.Sequential(*layers)(X))


def test_batch_norm_normalizes_the_inputs_of_both_activations():
    seen = []
    net = make(batch_norm=True)
    net.activation = lambda x: seen.append(x) or x
    net(X)
    for x in seen[:2]:
        assert x.mean((0, 2, 3)).abs().max() < 1e-5
        torch.testing.assert_close(x.var((0, 2, 3), unbiased=False), torch.ones(x.shape[1]), atol=1e-2, rtol=0)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in make().modules())


def test_nll_of_log_softmax_is_cross_entropy_with_the_same_gradients():
    """And cross-entropy does not change log probabilities: they are logits of the same probabilities."""
    logits, log_p = make(), make(log_softmax=True)
    losses = F.cross_entropy(logits(X), Y), F.nll_loss(log_p(X), Y), F.cross_entropy(log_p(X), Y)
    for loss, net in zip(losses[1:], (log_p, log_p), strict=True):
        torch.testing.assert_close(loss, losses[0])
        expected = torch.autograd.grad(losses[0], list(logits.parameters()), retain_graph=True)
        torch.testing.assert_close(torch.autograd.grad(loss, list(net.parameters())), expected)
    torch.testing.assert_close(log_p(X).exp().sum(1), torch.ones(4))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kernel": 11}, "kernel must be 1 to 10"),
        ({"kernel": 0}, "kernel must be 1 to 10"),
        ({"hidden": 0}, "hidden at least 1"),
        ({"activation": "rellu"}, "did you mean 'relu'"),
    ],
)
def test_bad_options_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        CifarBasic(**wrong)
