"""ResNet9: its layers, its fixed first layer, and refusals."""

import pytest
import torch
import torch.nn.functional as F

from pyro_vd import Categorical, guides, lift
from pyro_vd.errors import UserError
from pyro_vd.models import ResNet9
from tests.models._counts import count_weights


def test_widths_scale():
    net = ResNet9(scale=0.125)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert [module.out_channels for module in net.modules() if hasattr(module, "out_channels")] == [
        24, 16, 16, 16, 32, 64, 64, 64
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"kernel": 2}, {"kernel": -1}])
def test_what_leaves_no_network_is_refused(wrong):
    with pytest.raises(UserError, match="ResNet9"):
        ResNet9(**wrong)


@pytest.mark.parametrize("kernel", [3, 5])
def test_it_has_seven_convolutions_and_a_linear_layer_after_the_fixed_one(kernel):
    net = ResNet9(scale=0.5, kernel=kernel)
    widths = [(24, 64), (64, 64), (64, 64), (64, 128), (128, 256), (256, 256), (256, 256)]
    assert count_weights(net) == 3 * 2 * 2 * 24 + sum(kernel**2 * a * b for a, b in widths) + 256 * 10
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def correlated_images(n=400):
    """Whose neighbors and colors are correlated, as those of photographs."""
    noise = torch.randn(n, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    color = torch.tensor([1.0, 0.8, 0.5]).view(3, 1, 1)
    return F.avg_pool2d(noise * color + 0.5 * torch.randn(n, 3, 10, 10), 3, stride=1)


def test_the_first_layer_whitens():
    images, layer = 20 * correlated_images(), ResNet9(scale=0.125).whiten
    layer.fit_images(images)
    outputs = F.conv2d(images, layer.conv.weight)
    covariance = outputs.movedim(1, -1).flatten(0, 2).T.cov()
    torch.testing.assert_close(covariance[:12, :12], torch.eye(12), atol=0.01, rtol=0)
    torch.testing.assert_close(layer.conv.weight[12:], -layer.conv.weight[:12])


def test_bytes_are_read_as_pixels():
    images = torch.randint(256, (50, 3, 8, 8), dtype=torch.uint8)
    layers = [ResNet9(scale=0.125).whiten for _ in range(2)]
    layers[0].fit_images(images)
    layers[1].fit_images(images / 255)
    assert layers[0].conv.weight.equal(layers[1].conv.weight)


def test_the_first_layer_is_no_random_weight_and_is_not_trained():
    net = ResNet9(scale=0.125)
    model = lift(net, guides.none.prior, Categorical, num_data=4)
    assert "layer1.conv.weight" in model.priors
    assert len(model.priors) == 8
    assert "whiten.conv.weight" not in model.priors
    assert not net.whiten.conv.weight.requires_grad


def test_convolutions_start_as_the_identity_on_their_first_channels():
    block = ResNet9(scale=0.125).layer2
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(block.conv(x)[:, :16], x)
    assert block.conv.weight[16:].std() > 0
    assert not block.norm.weight.requires_grad
    assert block.norm.bias.requires_grad


def test_the_mirror_image_counts_in_eval_mode_only():
    torch.manual_seed(0)
    plain, flipping = ResNet9(scale=0.125), ResNet9(scale=0.125, flip=True)
    flipping.load_state_dict(plain.state_dict())
    x = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(flipping(x), plain(x))  # in training mode
    plain.eval(), flipping.eval()
    torch.testing.assert_close(flipping(x), (plain(x) + plain(x.flip(-1))) / 2)
    assert not torch.allclose(flipping(x), plain(x))


def test_it_is_channels_last():
    net = ResNet9(scale=0.125)
    assert net.layer1(net.whiten(torch.rand(2, 3, 32, 32))).is_contiguous(memory_format=torch.channels_last)
