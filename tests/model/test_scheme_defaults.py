"""SchemeDefaults: what each scheme says of its own use, and the rates of a guide's noise."""

import dataclasses

import pytest
from torch import nn

import pyro_vd
from pyro_vd import SchemeDefaults, guides
from pyro_vd.model.scheme_defaults import scale_noise_lr

# Threshold, what it is compared with, masking, rate of the noise: written out, because results depend on them.
PRUNING = {
    "sparse": (3.0, "log_alpha", True, 1.0),
    "hierarchical": (3.0, "log_alpha", True, 1.0),
    "ard": (3.0, "log_alpha", True, 1.0),
    "group_normal_jeffreys": (0.0, "log_alpha of the scale", False, 3.0),
    "group_horseshoe": (3.0, "-log of the mode of the scale", False, 3.0),
    "structured_log_normal": (0.0, "log_alpha of the unit", False, 3.0),
    "l0": (0.0, "", False, 10.0),
}


@pytest.mark.parametrize("name", guides.SCHEMES)
def test_a_scheme_says_how_it_is_used(name):
    own = guides.SCHEMES[name].defaults
    assert (own.threshold, own.threshold_of, own.masking, own.noise_lr) == PRUNING.get(name, (None, "", False, 1.0))
    assert (own.wait, own.ramp) == (0.0, 0.5)
    assert guides.SCHEMES[name].Guide.defaults is own


def test_they_are_a_value():
    assert SchemeDefaults() == SchemeDefaults()
    with pytest.raises(dataclasses.FrozenInstanceError):
        guides.sparse.defaults.threshold = 1.0


@pytest.mark.parametrize("name", guides.SCHEMES)
def test_all_parameters_but_the_means_have_the_rate(name):
    scheme = guides.SCHEMES[name]
    guide = scheme.Guide(pyro_vd.lift(nn.Linear(3, 2), scheme.prior, pyro_vd.Categorical, num_data=8))
    scaled = scale_noise_lr(guide, 3.0)
    names = [parameter for parameter, _ in guide.named_parameters()]
    assert {parameter.split(".")[0] for parameter in names} == {"theta", *scaled}
    assert "theta" not in scaled
    assert set(scaled.values()) <= {3.0}
    assert scale_noise_lr(guide, 1.0) == {}
