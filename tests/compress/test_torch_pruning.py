"""Torch-Pruning's dependency graph finds the same groups of coupled channels (Fang et al. 2023, arXiv:2301.12900)."""

import pytest
import torch

from pyro_vd.compress.disjoint_set import DisjointSet
from pyro_vd.compress.layers import LAYERS
from pyro_vd.compress.trace_channels import trace_channels
from tests.compress._kinds import KINDS

pruning = pytest.importorskip("torch_pruning")
SAME = [
    "multilayer perceptron", "LeNet", "VGG with batch normalization", "ResNet, basic blocks (torchvision)",
    "DenseNet (torchvision)", "U-Net, nearest upsampling", "U-Net, transposed convolutions",
    "MobileNetV2, depthwise convolutions (torchvision)", "squeeze and excitation", "Inception branches",
    "instance normalization and padding", "PReLU", "autoencoder, transposed convolutions", "autoencoder, linear",
    "segmentation, bilinear upsampling", "ConvNeXt (torchvision)", "global average pooling by a mean",
    "convolutions of sequences", "convolutions of volumes", "gated linear units", "deep sets, sum over the elements",
    "regression with a squeezed output", "several outputs", "siamese towers that share weights",
    "two towers on slices of the input", "MLP-Mixer",
]  # fmt: skip
COARSER = {
    "group normalization": "Torch-Pruning takes a channel out of a group, which changes the mean of the others",
    "BERT, plain modules": "a head stays or goes as a whole, where Torch-Pruning makes all heads narrower",
    "GPT, fixed number of heads": "as for BERT",
}
# The others are not compared: Torch-Pruning takes channels that a shuffle, a reshape or padding moved from their old
# places, counts hidden units of recurrent layers and heads in another way, and knows no EmbeddingBag.


def our_groups(net, inputs):
    """Output of a layer -> its group: all (layer, side, index) that stay or go together."""
    channels = trace_channels(net, inputs)
    sets = DisjointSet()
    sets.make(len(channels.labels))
    for one, other in set(channels.dependencies) & {(b, a) for a, b in channels.dependencies}:
        sets.union(one, other)
    groups = {}
    for side, part in (("out", channels.producers), ("in", channels.consumers), ("out", channels.norms)):
        for name, labels in part.items():
            for index, label in enumerate(labels):
                groups.setdefault(sets.find(label), set()).add((name, side, index))
    return {(name, index): group for group in groups.values() for name, side, index in group if side == "out"}


def their_group(graph, names, layer, index):
    """The same of Torch-Pruning."""
    group = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, [index])
    return {
        (names[dependency.target.module], "out" if graph.is_out_channel_pruning_fn(dependency.handler) else "in", at)
        for dependency, indices in group
        for at in indices
        if dependency.target.module in names
    }


def compared_groups(name):
    """(our group, their group) of the first and the last output of each layer.

    Without operations, which have no weights, and inputs of depthwise convolutions, which Torch-Pruning does not list.
    """
    torch.manual_seed(0)
    net, inputs = KINDS[name].make().eval(), KINDS[name].inputs()
    inputs = inputs.float() if inputs.is_floating_point() else inputs
    groups = our_groups(net, inputs)
    graph = pruning.DependencyGraph().build_dependency(net, inputs, verbose=False)
    names = {module: key for key, module in net.named_modules()}

    def listed(group):
        return {
            (key, side, index)
            for key, side, index in group
            if (key, 0) in groups and (side == "out" or getattr(net.get_submodule(key), "groups", 1) == 1)
        }

    for key, first in groups:
        layer = net.get_submodule(key)
        if first == 0 and isinstance(layer, LAYERS):
            for index in (0, graph.get_out_channels(layer) - 1):
                yield listed(groups[key, index]), listed(their_group(graph, names, layer, index))


@pytest.mark.parametrize("name", SAME)
def test_the_same_channels_are_coupled(name):
    compared = list(compared_groups(name))
    assert compared
    for ours, theirs in compared:
        assert ours == theirs


@pytest.mark.parametrize("name", COARSER)
def test_a_group_holds_that_of_torch_pruning(name):
    pairs = list(compared_groups(name))
    assert all(ours >= theirs for ours, theirs in pairs)
    assert any(ours > theirs for ours, theirs in pairs)
