"""Inputs and targets for the small network of _data."""

import pytest
import torch

from tests.diagnostics._data import SHAPE


@pytest.fixture
def data():
    return torch.randn(20, *SHAPE), torch.randint(4, (20,))
