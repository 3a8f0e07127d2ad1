"""WeightGuide: what a subclass gets without writing it."""

import pytest
import torch
from torch import nn

import pyro_vd
from pyro_vd import SiteParameters, WeightGuide, WeightNormal, guides


class Base(WeightGuide):
    def __init__(self, model, *, low=-8.0, masks=None, init=-3.0):
        super().__init__(model)
        self.low, self.masks = low, masks
        self.log_alpha = SiteParameters({site: torch.full_like(self.theta[site], init) for site in self.sites})

    def q(self, site):
        return WeightNormal(self.theta[site], log_alpha=self.log_alpha[site])

    def bounds(self):
        return self.site_bounds("log_alpha", self.low, 0.0)


class Wider(Base):
    def __init__(self, model, *, rank=2, **options):
        super().__init__(model, **options)
        self.rank = rank


class Forgetful(Base):
    def __init__(self, model, *, rank=2):
        super().__init__(model)


def model():
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    return pyro_vd.lift(net, pyro_vd.LogUniform, pyro_vd.Categorical, 20)


def test_theta_is_a_copy_of_the_weights():
    lifted = model()
    guide = Base(lifted)
    assert list(guide.theta) == list(guide.sites) == ["0.weight", "2.weight"]
    for site, weight in lifted.initial.items():
        assert torch.equal(guide.theta[site], weight)
        assert guide.theta[site].data_ptr() != weight.data_ptr()


# Mutants: init in the repr, arguments of the base class lost, tensors written out, None shown.
def test_repr_is_one_line_of_constructor_arguments_without_init():
    assert repr(Base(model(), init=-5.0)) == f"{__name__}.Base(low=-8.0)"
    assert repr(Base(model(), masks=torch.ones(2))) == f"{__name__}.Base(low=-8.0, masks=...)"
    assert repr(Wider(model(), rank=3, low=-4.0)) == f"{__name__}.Wider(rank=3, low=-4.0)"


def test_an_argument_that_is_not_kept_is_named():
    with pytest.raises(AttributeError, match="rank"):
        repr(Forgetful(model()))


def test_site_bounds_name_every_parameter_of_the_attribute():
    guide = Base(model())
    assert guide.bounds() == {"log_alpha.0.weight": (-8.0, 0.0), "log_alpha.2.weight": (-8.0, 0.0)}
    assert set(guide.bounds()) <= dict(guide.named_parameters()).keys()
    with pytest.raises(AttributeError, match="log_sigma2"):
        guide.site_bounds("log_sigma2", 0.0, 1.0)


def test_the_projection_keeps_what_is_inside_and_what_is_free():
    guide = Base(model())
    with torch.no_grad():
        guide.log_alpha["0.weight"].fill_(5.0)
        guide.theta["0.weight"].fill_(100.0)
    guide.project()
    assert (guide.log_alpha["0.weight"] == 0.0).all()
    assert (guide.log_alpha["2.weight"] == -3.0).all()
    assert (guide.theta["0.weight"] == 100.0).all()


# Mutant: a signature that two guides share: a checkpoint of one loads into the other.
def test_a_checkpoint_loads_into_a_guide_of_the_same_repr_only(tmp_path):
    lifted = model()
    pyro_vd.Posterior(lifted, Base(lifted)).save(tmp_path / "p")
    other = model()
    pyro_vd.Posterior(other, Base(other, init=-6.0)).load(tmp_path / "p")
    with pytest.raises(ValueError, match=r"of another pair: .*low=-8.0.*low=-4.0"):
        pyro_vd.Posterior(other, Base(other, low=-4.0)).load(tmp_path / "p")


def test_a_class_outside_the_library_shows_its_whole_module():
    """Two classes of one name, in files of one name, are two guides for a checkpoint."""
    model = pyro_vd.lift(nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=4)
    own = type("Guide", (guides.sparse.Guide,), {"__module__": "mine.sparse"})
    assert repr(guides.sparse.Guide(model)).startswith("sparse.Guide(")
    assert repr(own(model)).startswith("mine.sparse.Guide(")
