"""The registry of networks: every network of the folder, by its name in records."""

from pathlib import Path

import pytest
import torch

import pyro_vd.models
from pyro_vd.models import NETWORKS


def test_every_file_is_registered_by_its_name():
    folder = Path(pyro_vd.models.__file__).parent
    assert set(NETWORKS) == {path.stem for path in folder.glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_says_which_images_it_takes_and_has_one_logit_per_class(name):
    for classes in (10, 3):
        net = NETWORKS[name](classes).eval()
        assert net(torch.zeros(2, *net.input_shape)).shape == (2, classes)
