"""Concrete dropout: a learned drop probability."""

import pyro.distributions as dist
import pytest
import torch

import pyro_vd
from pyro_vd.priors import Flat, LogUniform
from tests.guides import _properties as properties


def test_the_probability_follows_the_need_for_regularization():
    """Clear labels push the probability of the inputs down; random ones leave less to keep. The hidden units' says
    nothing: it depends on the order of the examples which way it goes."""
    x, y = properties.pruning_data()
    found = []
    for labels in (y, torch.randint(3, (len(x),), generator=torch.Generator().manual_seed(2))):
        model, guide = properties.made_dense("concrete", init=0.3)
        pyro_vd.fit(model, guide, (x, labels), epochs=200, batch_size=len(x), lr=0.03, engine="eager", progress=False)
        found.append(guide.noise("0.weight").p[0].item())
    assert found[1] > 2 * found[0]


def test_projection():
    properties.assert_projection("concrete", ["logit_p"], -12, 12)


def test_a_posterior_survives_saving(tmp_path):
    properties.assert_survives_saving("concrete", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": 0.0}, r"init=0.0 must be in \(0, 1\)"),
        ({"init": 1.0}, r"init=1.0 must be in \(0, 1\)"),
        ({"temperature": 0.0}, "temperature=0.0 above 0"),
        ({"share": "weight"}, "share='weight' is not one of unit, layer"),
        ({"prior": dist.Normal(0.1, 1.0)}, r"'conv\.weight': concrete dropout needs a prior of mean 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    properties.assert_refused("concrete", message, **options)


@pytest.mark.parametrize("prior", [LogUniform(), Flat()])
def test_other_priors_are_refused(prior):
    properties.assert_prior_refused("concrete", prior, "ScaledConcrete with Normal")
