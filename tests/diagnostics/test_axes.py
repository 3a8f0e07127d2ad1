"""Axes of weights: named after what they count."""

import pytest
from torch import nn

from pyro_vd import Categorical, LogUniform, Posterior, guides, lift
from pyro_vd.diagnostics.axes import select_axes


@pytest.mark.parametrize(
    ("net", "site", "names"),
    [
        (nn.ConvTranspose2d(2, 3, 3), "weight", ["input", "unit", "row", "column"]),
        (nn.Conv1d(2, 3, 3), "weight", ["unit", "input", "position"]),
        (nn.Sequential(nn.Embedding(5, 4)), "0.weight", ["item", "feature"]),
        (nn.Bilinear(2, 3, 4), "weight", ["axis_0", "axis_1", "axis_2"]),
        (nn.Linear(2, 3), "bias", ["axis_0"]),
    ],
)
def test_axes_are_named_after_what_they_count(net, site, names):
    model = lift(net, LogUniform, Categorical, num_data=5, select=[site])
    posterior = Posterior(model, guides.sparse.Guide(model))
    assert [axis.name for axis in select_axes(posterior, None)[site]] == [f"{site}_{name}" for name in names]
