"""The one list of layer types, and the dimension of their inputs."""

import pytest
from torch import nn

from pyro_vd.model.layers import WEIGHT_LAYERS, input_dim_of


@pytest.mark.parametrize(
    ("layer", "dim"),
    [
        (nn.Linear(3, 2), 1),
        (nn.Conv1d(4, 2, 1), 1),
        (nn.Conv2d(4, 2, 1, groups=2), None),
        (nn.Conv3d(4, 2, 1), 1),
        (nn.ConvTranspose1d(4, 2, 1), 0),
        (nn.ConvTranspose2d(4, 2, 1, groups=2), 0),
        (nn.ConvTranspose3d(4, 2, 1), 0),
        (nn.Embedding(3, 2), None),
        (nn.ReLU(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_input_dim(layer, dim):
    assert input_dim_of(layer) == dim


def test_every_layer_of_the_list_has_a_weight():
    assert all("weight" in kind(2, 2, *[1] * (kind is not nn.Linear))._parameters for kind in WEIGHT_LAYERS)
