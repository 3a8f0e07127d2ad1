"""Kinds of networks that users bring, each as small as its structure allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import BasicBlock, Bottleneck

from tests.compress._nets import Written


class Kind(NamedTuple):
    """A kind of network.

    Attributes:
        make: builds the network.
        inputs: a batch of its inputs.
        refused: a pattern of the message; empty for a network that shrinks.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]
    refused: str = ""


def floats(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(6, *shape, dtype=torch.float64)


def tokens(length: int, count: int = 12) -> Callable[[], Tensor]:
    return lambda: torch.randint(count, (6, length))


def conv_block(inputs: int, outputs: int, **options: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, **options), nn.BatchNorm2d(outputs), nn.ReLU())


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 12), nn.Tanh(), nn.Dropout(), nn.Linear(12, 3))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 16), nn.ReLU(),
        nn.Linear(16, 4),
    )  # fmt: skip


def vgg() -> nn.Module:
    return nn.Sequential(
        conv_block(3, 8), nn.MaxPool2d(2), conv_block(8, 12), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 4)
    )


def resnet() -> nn.Module:
    return torchvision.models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)


def resnext() -> nn.Module:
    return torchvision.models.ResNet(Bottleneck, [1, 1, 1, 1], num_classes=4, groups=4, width_per_group=4)


def densenet() -> nn.Module:
    return torchvision.models.DenseNet(8, (2, 2), num_init_features=16, num_classes=4)


def unet(up: Callable[[int, int], nn.Module]) -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        first = net.first(x)
        second = net.second(net.down(first))
        return net.head(net.last(torch.cat([first, net.up(second)], 1)))

    return Written(
        forward, first=conv_block(2, 8), down=nn.MaxPool2d(2), second=conv_block(8, 12), up=up(12, 8),
        last=conv_block(16, 8), head=nn.Conv2d(8, 2, 1),
    )  # fmt: skip


def unet_of_nearest_upsampling() -> nn.Module:
    return unet(lambda inputs, outputs: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 1)))


def unet_of_transposed_convolutions() -> nn.Module:
    return unet(lambda inputs, outputs: nn.ConvTranspose2d(inputs, outputs, 2, stride=2))


def mobilenet() -> nn.Module:
    return torchvision.models.mobilenet_v2(width_mult=0.25, num_classes=4)


def squeeze_excitation() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = net.stem(x)
        gate = net.excite(F.relu(net.squeeze(F.adaptive_avg_pool2d(x, 1)))).sigmoid()
        return net.head((x * gate).mean((2, 3)))

    return Written(
        forward, stem=conv_block(3, 12), squeeze=nn.Conv2d(12, 8, 1), excite=nn.Conv2d(8, 12, 1), head=nn.Linear(12, 4)
    )


def inception() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = net.stem(x)
        branches = [net.one(x), net.three(x), net.five(x), net.pool(F.avg_pool2d(x, 3, stride=1, padding=1))]
        return net.head(torch.flatten(F.adaptive_max_pool2d(torch.cat(branches, dim=1), 1), 1))

    return Written(
        forward, stem=conv_block(3, 8), one=nn.Conv2d(8, 4, 1), three=nn.Conv2d(8, 6, 3, padding=1),
        five=nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 5, padding=2)), pool=nn.Conv2d(8, 4, 1),
        head=nn.Linear(20, 4),
    )  # fmt: skip


def group_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 16, 3), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 12, 3), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip


def prelu() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 12, 3), nn.PReLU(12), nn.Flatten(), nn.Linear(192, 8), nn.PReLU(), nn.Linear(8, 2)
    )


def convolutional_autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(12, 8, 2, stride=2), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1),
    )  # fmt: skip


def super_resolution() -> nn.Module:
    return nn.Sequential(
        conv_block(1, 8), nn.Conv2d(8, 16, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(4, 1, 3, padding=1)
    )


def lstm() -> nn.Module:
    return Written(
        lambda net, x: net.head(net.lstm(net.embedding(x))[0][:, -1]),
        embedding=nn.Embedding(12, 8), lstm=nn.LSTM(8, 10, batch_first=True), head=nn.Linear(10, 3),
    )  # fmt: skip


def gru() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        _, last = net.gru(net.fc(x))
        return net.head(torch.cat([last[-2], last[-1]], dim=1))

    return Written(
        forward, fc=nn.Linear(3, 8), gru=nn.GRU(8, 12, num_layers=2, bidirectional=True, batch_first=True),
        head=nn.Linear(24, 3),
    )  # fmt: skip


def rnn() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        states, _ = net.rnn(x.transpose(0, 1))
        return net.head(states.mean(0))

    return Written(forward, rnn=nn.RNN(3, 12, nonlinearity="relu"), head=nn.Linear(12, 3))


def encoder_layer() -> nn.Module:
    return Written(
        lambda net, x: net.head(net.layer(net.fc(x)).mean(1)),
        fc=nn.Linear(3, 16), layer=nn.TransformerEncoderLayer(16, 4, 24, batch_first=True), head=nn.Linear(16, 3),
    )  # fmt: skip


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 24, activation="gelu", norm_first=True, batch_first=True)
    return Written(
        lambda net, x: net.head(net.encoder(net.embedding(x) + net.position)[:, 0]),
        embedding=nn.Embedding(12, 16), position=nn.Parameter(torch.randn(5, 16)),
        encoder=nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(16), enable_nested_tensor=False),
        head=nn.Linear(16, 3),
    )  # fmt: skip


def vision_transformer() -> nn.Module:
    net = torchvision.models.VisionTransformer(8, 4, 2, 4, hidden_dim=16, mlp_dim=24, num_classes=3)
    nn.init.normal_(net.heads.head.weight)  # torchvision sets it to 0
    return net


class SelfAttention(nn.Module):
    """As in BERT: a layer each for queries, keys and values."""

    def __init__(self, width: int, head_width: int):
        super().__init__()
        self.head_width = head_width
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)

    def heads(self, x: Tensor) -> Tensor:
        return x.view(x.size(0), x.size(1), -1, self.head_width).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.heads(self.query(x)), self.heads(self.key(x)), self.heads(self.value(x))
        scores = torch.matmul(query, key.transpose(-1, -2)) / self.head_width**0.5
        mixed = torch.matmul(self.dropout(scores.softmax(dim=-1)), value)
        return mixed.transpose(1, 2).flatten(2)


def bert() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = net.norm(net.words(x) + net.position)
        x = net.norm1(x + net.dense(net.attention(x)))
        x = net.norm2(x + net.output(F.gelu(net.intermediate(x))))
        return net.classifier(net.pooler(x[:, 0]).tanh())

    return Written(
        forward, words=nn.Embedding(12, 16), position=nn.Parameter(torch.randn(5, 16)), attention=SelfAttention(16, 4),
        dense=nn.Linear(16, 16), intermediate=nn.Linear(16, 24), output=nn.Linear(24, 16), norm=nn.LayerNorm(16),
        norm1=nn.LayerNorm(16), norm2=nn.LayerNorm(16), pooler=nn.Linear(16, 16), classifier=nn.Linear(16, 3),
    )  # fmt: skip


def gpt() -> nn.Module:
    """One layer for queries, keys and values, with a fixed number of heads, and a causal mask."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = net.words(x)
        query, key, value = net.qkv(net.norm1(x)).chunk(3, dim=-1)
        query, key, value = (part.view(x.size(0), x.size(1), 4, 4).transpose(1, 2) for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + net.dense(mixed.transpose(1, 2).reshape(x.size(0), x.size(1), 16))
        return net.head(x + net.mlp(net.norm2(x)))

    return Written(
        forward, words=nn.Embedding(12, 16), norm1=nn.LayerNorm(16), qkv=nn.Linear(16, 48), dense=nn.Linear(16, 16),
        norm2=nn.LayerNorm(16), mlp=nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)),
        head=nn.Linear(16, 12),
    )  # fmt: skip


def convnext() -> nn.Module:
    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    return torchvision.models.ConvNeXt(blocks, layer_scale=0.5, num_classes=4)


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, 16), nn.ELU(), nn.Linear(16, 6), nn.ELU(), nn.Linear(6, 16), nn.ELU(), nn.Linear(16, 12)
    )


def siamese() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        return net.head((net.tower(x[:, 0]) - net.tower(x[:, 1])).abs()).squeeze(-1)

    tower = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8))
    return Written(forward, tower=tower, head=nn.Linear(8, 1))


def two_towers() -> nn.Module:
    return Written(
        lambda net, x: (net.user(x[:, :4]) * net.item(x[:, 4:])).sum(1),
        user=nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 8)),
        item=nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8)),
    )


def several_heads() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        x = net.stem(x).relu()
        return net.classes(x), net.value(x)[:, 0]

    return Written(forward, stem=nn.Linear(6, 12), classes=nn.Linear(12, 3), value=nn.Linear(12, 1))


def temporal_convolution() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = net.first(F.pad(x, (2, 0))).relu()
        x = x + net.second(F.pad(x, (4, 0))).relu()
        return net.head(x)[..., -1]

    return Written(
        forward, first=nn.Conv1d(3, 12, 3), second=nn.Conv1d(12, 12, 3, dilation=2), head=nn.Conv1d(12, 2, 1)
    )


def volumes() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 8, 3),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(8, 6, 2),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def embedding_bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(12, 16, mode="mean"), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def global_pooling() -> nn.Module:
    return Written(
        lambda net, x: net.head(net.two(net.one(x).relu()).relu().mean([-2, -1])),
        one=nn.Conv2d(2, 8, 3), two=nn.Conv2d(8, 12, 3), head=nn.Linear(12, 3),
    )  # fmt: skip


def deep_sets() -> nn.Module:
    return Written(
        lambda net, x: net.rho(net.phi(x).sum(dim=1)),
        phi=nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU()),
        rho=nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)),
    )


def regression() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = F.silu(net.norm(net.first(torch.flatten(x, start_dim=1))))
        return net.last(x.reshape(x.shape[0], -1)).squeeze(1)

    return Written(forward, first=nn.Linear(12, 16), norm=nn.BatchNorm1d(16), last=nn.Linear(16, 1))


def segmentation() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        low = net.encode(x)
        high = F.interpolate(net.reduce(low), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return net.head(high + net.lateral(x))

    return Written(
        forward, encode=nn.Sequential(nn.Conv2d(2, 12, 3, stride=2, padding=1), nn.ReLU()), reduce=nn.Conv2d(12, 8, 1),
        lateral=nn.Conv2d(2, 8, 1), head=nn.Conv2d(8, 3, 1),
    )  # fmt: skip


def space_to_depth() -> nn.Module:
    """Patches by reshape and permutation, as einops writes them."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = net.stem(x)
        batch, channels, height, width = x.shape
        x = x.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
        x = net.patches(x.reshape(batch, height // 2 * (width // 2), channels * 4)).relu()
        return net.head(x.mean(1))

    return Written(forward, stem=nn.Conv2d(1, 6, 1), patches=nn.Linear(24, 12), head=nn.Linear(12, 3))


def tied() -> nn.Module:
    net = Written(
        lambda net, x: net.output(net.fc(net.words(x)).relu()),
        words=nn.Embedding(12, 8), fc=nn.Linear(8, 8), output=nn.Linear(8, 12, bias=False),
    )  # fmt: skip
    net.output.weight = net.words.weight
    return net


def shufflenet() -> nn.Module:
    return torchvision.models.ShuffleNetV2([1, 1, 1], [8, 16, 16, 16, 32], num_classes=4)


def mixer() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = net.patches(x).flatten(2).transpose(1, 2)
        x = x + net.tokens(net.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + net.channels(net.norm2(x))
        return net.head(x.mean(dim=1))

    return Written(
        forward, patches=nn.Conv2d(1, 12, 4, stride=4), norm1=nn.LayerNorm(12), norm2=nn.LayerNorm(12),
        tokens=nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)),
        channels=nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12)), head=nn.Linear(12, 3),
    )  # fmt: skip


def gated() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        value, gate = net.fc(x).chunk(2, dim=1)
        return net.head(value * torch.sigmoid(gate))

    return Written(forward, fc=nn.Linear(6, 24), head=nn.Linear(12, 3))


def padded_shortcut() -> nn.Module:
    """A shortcut without weights: every other position, and channels of zeros."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = net.stem(x)
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return net.head(F.relu(shortcut + net.two(F.relu(net.one(x)))).mean((2, 3)))

    return Written(
        forward, stem=conv_block(2, 8), one=nn.Conv2d(8, 12, 3, stride=2, padding=1),
        two=nn.Conv2d(12, 12, 3, padding=1), head=nn.Linear(12, 3),
    )  # fmt: skip


def style_transfer() -> nn.Module:
    return nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(1, 12, 3), nn.InstanceNorm2d(12, affine=True), nn.ReLU(),
        nn.ConstantPad2d(1, 0.5), nn.Conv2d(12, 8, 3), nn.InstanceNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 1),
    )  # fmt: skip


def early_exit() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = net.fc(x).relu()
        return net.head(x) if x.sum() > 0 else net.exit(x)

    return Written(forward, fc=nn.Linear(6, 8), head=nn.Linear(8, 3), exit=nn.Linear(8, 3))


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer([2, 2], 8, [1, 1], [2, 2], [2, 2], num_classes=3)


def einsum_attention() -> nn.Module:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        weights = torch.einsum("btc,bsc->bts", net.query(x), net.key(x)).softmax(-1)
        return net.head(torch.einsum("bts,bsc->btc", weights, net.value(x))[:, 0])

    return Written(forward, query=nn.Linear(3, 8), key=nn.Linear(3, 8), value=nn.Linear(3, 8), head=nn.Linear(8, 3))


KINDS = {
    "multilayer perceptron": Kind(mlp, floats(10)),
    "LeNet": Kind(lenet, floats(1, 12, 12)),
    "VGG with batch normalization": Kind(vgg, floats(3, 8, 8)),
    "ResNet, basic blocks (torchvision)": Kind(resnet, floats(3, 32, 32)),
    "ResNeXt, bottlenecks and grouped convolutions (torchvision)": Kind(resnext, floats(3, 32, 32)),
    "DenseNet (torchvision)": Kind(densenet, floats(3, 32, 32)),
    "U-Net, nearest upsampling": Kind(unet_of_nearest_upsampling, floats(2, 8, 8)),
    "U-Net, transposed convolutions": Kind(unet_of_transposed_convolutions, floats(2, 8, 8)),
    "MobileNetV2, depthwise convolutions (torchvision)": Kind(mobilenet, floats(3, 32, 32)),
    "squeeze and excitation": Kind(squeeze_excitation, floats(3, 6, 6)),
    "Inception branches": Kind(inception, floats(3, 6, 6)),
    "group normalization": Kind(group_norm, floats(2, 8, 8)),
    "instance normalization and padding": Kind(style_transfer, floats(1, 6, 6)),
    "PReLU": Kind(prelu, floats(2, 6, 6)),
    "autoencoder, transposed convolutions": Kind(convolutional_autoencoder, floats(1, 8, 8)),
    "autoencoder, linear": Kind(autoencoder, floats(12)),
    "super-resolution, pixel shuffle": Kind(super_resolution, floats(1, 6, 6)),
    "segmentation, bilinear upsampling": Kind(segmentation, floats(2, 8, 8)),
    "residual shortcut padded with zero channels": Kind(padded_shortcut, floats(2, 8, 8)),
    "ShuffleNetV2, channel shuffle (torchvision)": Kind(shufflenet, floats(3, 32, 32)),
    "ConvNeXt (torchvision)": Kind(convnext, floats(3, 32, 32)),
    "patches by reshape and permutation": Kind(space_to_depth, floats(1, 6, 6)),
    "global average pooling by a mean": Kind(global_pooling, floats(2, 8, 8)),
    "convolutions of sequences": Kind(temporal_convolution, floats(3, 9)),
    "convolutions of volumes": Kind(volumes, floats(1, 6, 6, 6)),
    "gated linear units": Kind(gated, floats(6)),
    "deep sets, sum over the elements": Kind(deep_sets, floats(5, 3)),
    "regression with a squeezed output": Kind(regression, floats(3, 4)),
    "several outputs": Kind(several_heads, floats(6)),
    "siamese towers that share weights": Kind(siamese, floats(2, 6)),
    "two towers on slices of the input": Kind(two_towers, floats(10)),
    "bag of embeddings": Kind(embedding_bag, tokens(5)),
    "LSTM on embeddings": Kind(lstm, tokens(5)),
    "GRU, two layers in both directions": Kind(gru, floats(5, 3)),
    "RNN, mean over time": Kind(rnn, floats(5, 3)),
    "TransformerEncoderLayer": Kind(encoder_layer, floats(5, 3)),
    "TransformerEncoder, normalization first": Kind(encoder, tokens(5)),
    "Vision Transformer (torchvision)": Kind(vision_transformer, floats(3, 8, 8)),
    "BERT, plain modules": Kind(bert, tokens(5)),
    "GPT, fixed number of heads": Kind(gpt, tokens(5)),
    "MLP-Mixer": Kind(mixer, floats(1, 8, 8)),
    "Swin Transformer (torchvision)": Kind(swin, floats(3, 16, 16), "shifted_window_attention"),
    "embedding tied to the output layer": Kind(tied, tokens(5), "weight is another layer's too"),
    "attention by einsum": Kind(einsum_attention, floats(5, 3), "operation 'einsum'"),
    "control flow that depends on the data": Kind(early_exit, floats(6), "cannot be traced by torch.fx"),
}
