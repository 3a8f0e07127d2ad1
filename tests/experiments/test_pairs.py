"""The pair of a phase has the scheme, prior and likelihood that the spec names."""

import pytest
import torch
from torch import nn

from pyro_vd import SmoothedCategorical, Training
from pyro_vd.errors import UserError
from pyro_vd.experiments.common.pairs import SCHEMES, make_likelihood, make_masked_pair, make_pair
from pyro_vd.experiments.common.priors import PRIORS
from pyro_vd.experiments.common.spec import Fit, Options


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def phase(scheme="sparse", **how):
    return Fit(scheme=scheme, training=Training(epochs=1), **how)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_a_pair_starts_at_the_weights_of_the_network(scheme):
    net = network()
    pair = make_pair(net, phase(scheme), 20)
    assert isinstance(pair.guide, SCHEMES[scheme].Guide)
    assert pair.model.num_data == 20
    for site, weight in pair.model.initial.items():
        torch.testing.assert_close(weight, net.get_parameter(site).detach())


def bases(pair):
    return [getattr(prior, "base_dist", prior) for prior in pair.model.priors.values()]


@pytest.mark.parametrize("prior", sorted(PRIORS))
def test_a_prior_replaces_that_of_the_scheme(prior):
    pair = make_pair(network(), phase("variational_b", prior=prior), 20)
    for of_site in bases(pair):
        assert repr(of_site) == repr(PRIORS[prior].expand(of_site.batch_shape))


def test_only_the_selected_weights_are_random():
    assert make_pair(network(), phase(select=("2.weight",)), 20).model.priors.keys() == {"2.weight"}


def test_labels_are_smoothed_as_the_phase_says():
    logits, labels = torch.tensor([[2.0, 0.0], [0.5, 1.0]]), torch.tensor([0, 1])
    for smoothing in (0.0, 0.2):
        log_prob = make_likelihood(phase(smoothing=smoothing))(logits=logits).log_prob(labels)
        expected = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        torch.testing.assert_close(log_prob, -expected)
    assert isinstance(make_likelihood(phase(smoothing=0.2)), SmoothedCategorical)


@pytest.mark.parametrize(
    ("how", "message"),
    [({"options": Options(init=99.0)}, "sparse: init=99.0"), ({"select": ("9.weight",)}, "sparse: .*9.weight")],
)
def test_what_lift_or_the_guide_refuses_names_the_scheme(how, message):
    with pytest.raises(UserError, match=message):
        make_pair(network(), phase(**how), 20)


def test_a_masked_pair_has_all_weights_or_those_of_the_masks():
    net = network()
    masks = {"0.weight": torch.zeros(4, 3, dtype=torch.bool), "2.weight": torch.ones(2, 4, dtype=torch.bool)}
    for given, kept in ((None, True), (masks, False)):
        mean = make_masked_pair(net, 20, given).mean()
        assert bool(mean.get_parameter("0.weight").any()) is kept
        assert mean.get_parameter("2.weight").all()
