"""Certificates: bounds that hold on problems of known risk, the terms they are made of, and what is refused."""

import dataclasses
import math
from statistics import NormalDist

import pyro
import pytest
import torch
from scipy.stats import binom
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pyro_vd
from pyro_vd import Posterior, fit, guides
from pyro_vd.data import LabeledImages
from pyro_vd.diagnostics import Certificate, certificate
from pyro_vd.diagnostics.pac_bayes import bound_gibbs_risk, bound_mean
from pyro_vd.errors import UserError

PROBLEMS, DELTA = 200, 0.05
ALLOWED = binom.ppf(0.999, PROBLEMS, DELTA)  # bounds that may fail
Phi = NormalDist().cdf


def make_pair(mean, scale, net=None, scheme=guides.sparse):
    """A classifier by the larger of two linear outputs whose weights are Normal."""
    net = net or nn.Linear(mean.shape[1], 2, bias=False)
    model = pyro_vd.lift(net, scheme.prior, pyro_vd.Categorical, num_data=10)
    guide = scheme.Guide(model)
    with torch.no_grad():
        guide.theta["weight"].copy_(mean)
        guide.noise_param["weight"].fill_(2 * math.log(scale))
    return Posterior(model, guide)


def test_200_bounds_hold_on_problems_of_known_risk():
    """Few examples, few draws of weights that disagree, or a posterior that overfits labels without any signal."""
    torch.manual_seed(0)
    problems = [_few_examples] * 60 + [_few_draws] * 80 + [_overfitted] * 60
    failures = [bound < risk for make in problems for bound, risk in (make(),)]
    assert len(failures) == PROBLEMS
    assert sum(failures) <= ALLOWED


def _few_examples():
    """Labels are flipped with probability 0.3, and every draw finds them otherwise."""
    pair = make_pair(torch.tensor([[-1.0], [1.0]]), 0.05)
    found = certificate(pair, _flipped(12, 0.3), pair, DELTA, num_samples=400, independent=True)
    return found.risk, 0.3


def _few_draws():
    """One input: every draw of the weights is right or wrong on all examples."""
    mean = torch.rand(()).item()
    pair = make_pair(torch.tensor([[-mean], [mean]]), 1.0)
    settings = {"num_samples": 40, "batch_size": 10, "independent": True}
    found = certificate(pair, _flipped(2000, 0.05), pair, DELTA, **settings)
    return found.risk, 0.05 + 0.9 * Phi(-2 * mean / math.sqrt(2))


def _flipped(n, share):
    x = torch.randn(n, 1)
    return x, ((x[:, 0] > 0) ^ (torch.rand(n) < share)).long()


def _overfitted():
    """As many weights as examples of random labels, so that every classifier has the risk 1/2."""
    x, y = torch.randn(60, 60), torch.randint(2, (60,))
    direction = torch.linalg.lstsq(x, 2.0 * y - 1).solution
    length = torch.rand(()).item() * 40 / direction.norm()
    prior, posterior = (make_pair(m * length * torch.stack([-direction, direction]), 1.0) for m in (0, 1))
    found = certificate(posterior, (x, y), prior, DELTA, num_samples=100, independent=True)
    return found.risk, 0.5


@pytest.fixture(scope="module")
def trained():
    """Data, and a prior that was trained on the first half of it."""
    torch.manual_seed(0)
    x = torch.randn(2000, 5)
    y = (x[:, 0] + x[:, 1] ** 2 > 0.5).long()
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2))
    model = pyro_vd.lift(net, pyro_vd.LogUniform, pyro_vd.Categorical, num_data=1000)
    how = {"epochs": 40, "lr": 1e-2, "engine": "eager", "progress": False, "seed": 0}
    prior = fit(model, guides.sparse.Guide(model), (x[:1000], y[:1000]), kl_schedule=lambda epoch: 0.05, **how)
    return x, y, prior


@pytest.fixture(scope="module")
def second(trained):
    """The posterior of the second half under the learned prior; biases are frozen."""
    x, y, prior = trained
    model = pyro_vd.lift(prior.mean(), prior.as_prior(), pyro_vd.Categorical, num_data=1000)
    model.requires_grad_(False)
    guide = guides.sparse.Guide(model)
    guide.load_state_dict(prior.guide.state_dict())
    how = {"epochs": 5, "lr": 1e-3, "engine": "eager", "progress": False, "seed": 0}
    return fit(model, guide, (x[1000:], y[1000:]), **how)


def certify(trained, posterior, **options):
    x, y, prior = trained
    return certificate(posterior, (x[1000:], y[1000:]), prior, DELTA, **{"num_samples": 2000, **options})


def test_a_trained_network_has_a_useful_bound(trained, second):
    """Its error on many new examples lies below the bound, which lies below that of a guess."""
    found = certify(trained, second)
    torch.manual_seed(5)
    x = torch.randn(20_000, 5)
    y = (x[:, 0] + x[:, 1] ** 2 > 0.5).long()
    error = (second.predict(x, 50).argmax(-1) != y).double().mean().item()
    assert error < found.risk < 0.25
    assert 0 < found.kl < 50


def test_the_bound_is_made_of_its_attributes(trained, second):
    found = certify(trained, second)
    assert (found.num_examples, found.num_samples, found.delta) == (1000, 2000, DELTA)
    assert (found.kept, found.weights) == (112, 112)
    assert found.risk == bound_gibbs_risk(found.empirical_risk_bound, found.kl, 1000, DELTA / 2)
    assert bound_mean(found.empirical_risk, 0.0, 2000, DELTA / 2) < found.empirical_risk_bound
    assert found.empirical_risk_bound < bound_mean(found.empirical_risk, 0.01, 2000, DELTA / 2)


def test_the_kl_is_that_of_the_model(trained, second):
    """To the prior that the second model was lifted with, by the closed form of training."""
    assert certify(trained, second).kl == pytest.approx(sum(second.kl().values()), abs=1e-2)
    assert certify(trained, trained[2]).kl == 0


def test_pruned_weights_are_zero_and_have_no_kl(trained, second):
    """The masks are the prior's."""
    x, y, prior = trained
    masks = prior.masks(0.0)
    kept = sum(int(mask.sum()) for mask in masks.values())
    found = certify(trained, second, threshold=0.0)
    assert 0 < kept < 112
    assert found.kept == kept
    q, p = second.normals(), prior.normals()
    terms = [torch.distributions.kl_divergence(q[site], p[site])[masks[site]].sum().item() for site in q]
    assert found.kl == pytest.approx(sum(terms), abs=1e-3)
    all_gone = certify(trained, second, threshold=-math.inf)
    constant = second.mean(second.masks(-math.inf))(x[1000:]).argmax(-1)
    assert (all_gone.kl, all_gone.kept) == (0.0, 0)
    assert all_gone.empirical_risk == pytest.approx((constant != y[1000:]).double().mean().item(), abs=0.01)


def test_the_masks_are_the_priors():
    """A mask of the posterior would depend on the examples."""
    prior, posterior = (make_pair(torch.ones(2, 3), scale) for scale in (0.1, 100.0))
    data = torch.randn(20, 3), torch.zeros(20).long()
    found = certificate(posterior, data, prior, threshold=3.0, num_samples=5, independent=True)
    assert found.kept == 6


def test_the_empirical_risk_is_that_of_weight_draws(trained, second):
    x, y, _ = trained
    torch.manual_seed(3)
    expected = (second.predict(x[1000:], 300).argmax(-1) != y[1000:]).double().mean().item()
    assert certify(trained, second).empirical_risk == pytest.approx(expected, abs=0.005)


def test_weights_are_drawn_anew_for_every_sample():
    """With one input, each draw is right or wrong on all examples: independent draws vary as a coin does."""
    pair = make_pair(torch.tensor([[0.0], [0.0]]), 1.0)
    found = certificate(pair, _flipped(100, 0.0), pair, num_samples=1000, independent=True)
    assert found.empirical_risk == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 1000))
    assert found.empirical_risk_bound == pytest.approx(bound_mean(0.5, 0.25, 1000, 0.025), abs=0.05)


def test_the_draws_are_not_those_of_a_fit_with_the_same_seed():
    pair = make_pair(torch.zeros(2, 3), 1.0)
    drawn = []
    sample = torch.randn_like
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", lambda mean: drawn.append(sample(mean)) or drawn[-1])
        x = torch.randn(20, 3)
        certificate(pair, (x, torch.zeros(20).long()), pair, num_samples=2, seed=0, independent=True)
    torch.manual_seed(0)
    stream = torch.randn(100)
    assert not torch.isin(torch.cat(drawn), stream).any()


def test_a_seed_repeats_the_draws_and_leaves_the_global_state(trained, second):
    before = torch.get_rng_state()
    found = [certify(trained, second, num_samples=50, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]
    assert found[0].empirical_risk != found[2].empirical_risk


def test_a_smaller_delta_gives_a_larger_bound(trained, second):
    x, y, prior = trained
    data = x[1000:], y[1000:]
    bounds = [certificate(second, data, prior, delta, num_samples=500).risk for delta in (0.5, 0.05, 0.001)]
    assert bounds == sorted(set(bounds))


def test_images_are_data_too():
    torch.manual_seed(0)
    images, labels = torch.randint(256, (300, 1, 2, 2), dtype=torch.uint8), torch.randint(2, (300,))
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model = pyro_vd.lift(net, pyro_vd.LogUniform, pyro_vd.Categorical, num_data=100)
    first, rest = LabeledImages(images[:100], labels[:100]), LabeledImages(images[100:], labels[100:])
    prior = fit(model, guides.sparse.Guide(model), first, epochs=1, engine="eager", progress=False)
    assert 0.4 < certificate(prior, rest, prior, num_samples=100).risk <= 1
    with pytest.raises(UserError, match="trained or validated on 100 of these 100"):
        certificate(prior, (first.images.float() / 255, first.labels), prior)


def test_repr_and_str():
    found = Certificate(0.0261, 0.021, 0.0222, 12.34, 30_000, 10_000, 0.05, 1000, 2000)
    assert str(found) == "risk at most 2.61 % with probability 95 %"
    lines = repr(found).splitlines()
    assert lines[0] == str(found)
    assert "weights kept                 1,000 of 2,000" in lines
    assert "<td>30,000</td>" in found._repr_html_()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.risk = 0.0


# --- refusals


def test_a_prior_that_saw_the_data_is_refused(trained, second):
    x, y, prior = trained
    with pytest.raises(UserError, match="the prior was trained or validated on 250 of these 1,000 examples"):
        certificate(second, (x[750:1750], y[750:1750]), prior)
    with pytest.raises(UserError, match="trained or validated on 1 of these 1,001"):
        certificate(second, (x[999:], y[999:]), prior)


def test_a_posterior_that_saw_all_is_no_prior_of_it(trained):
    x, y, _ = trained
    model = pyro_vd.lift(nn.Linear(5, 2, bias=False), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=2000)
    pair = fit(model, guides.sparse.Guide(model), (x, y), epochs=1, engine="eager", progress=False)
    with pytest.raises(UserError, match="on 1,000 of these 1,000"):
        certificate(pair, (x[1000:], y[1000:]), pair)


@pytest.mark.parametrize("how", ["loader", "nothing", "loaded"])
def test_an_unknown_past_of_the_prior_must_be_vouched_for(how, tmp_path):
    torch.manual_seed(0)
    data = torch.randn(40, 3), torch.randint(2, (40,))
    pair = make_pair(torch.zeros(2, 3), 1.0)
    if how == "loader":
        pair = make_pair(torch.zeros(2, 3), 1.0)
        pair.model.num_data = 40
        fit(pair.model, pair.guide, DataLoader(TensorDataset(*data)), epochs=1, engine="eager", progress=False)
    elif how == "loaded":
        pair.model.seen_inputs = None
        pair.save(tmp_path / "prior")
        pair = make_pair(torch.zeros(2, 3), 1.0).load(tmp_path / "prior")
    with pytest.raises(UserError, match=r"not known which examples the prior has seen; .* independent=True"):
        certificate(pair, data, pair, num_samples=5)
    assert certificate(pair, data, pair, num_samples=5, independent=True).kl == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delta": 0.0}, "delta=0 must lie between 0 and 1"),
        ({"delta": 1.0}, "delta=1 must lie between 0 and 1"),
        ({"delta": float("nan")}, "delta=nan must be a finite number"),
        ({"num_samples": 1}, "num_samples=1 must be at least 2"),
        ({"num_samples": 2.5}, "num_samples=2.5 must be a whole number"),
        ({"batch_size": 0}, "batch_size=0 at least 1"),
        ({"prior": torch.distributions.Normal(0.0, 1.0)}, "prior is a Normal; give a Posterior"),
        ({"data": (torch.zeros(0, 3), torch.zeros(0))}, "0 inputs and 0 targets"),
        ({"data": (torch.zeros(4, 3), torch.zeros(4))}, r"integers of shape \(4,\) are needed"),
        ({"data": (torch.zeros(4, 3), torch.tensor([0, 1, 2, 1]))}, "labels from 0 to 2, but the classes are 0 to 1"),
        ({"data": (torch.zeros(4, 3), {"a": torch.zeros(4).long()})}, "the labels are a dict"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(changes, message):
    pair = make_pair(torch.zeros(2, 3), 1.0)
    given = {"prior": pair, "data": (torch.zeros(4, 3), torch.zeros(4).long()), "num_samples": 5, **changes}
    with pytest.raises(UserError, match=message) as caught:
        certificate(pair, independent=True, **given)
    assert "\n" not in str(caught.value)


def test_one_score_per_example_is_refused():
    model = pyro_vd.lift(nn.Linear(3, 1), pyro_vd.LogUniform, pyro_vd.Bernoulli, num_data=4)
    pair = Posterior(model, guides.sparse.Guide(model))
    with pytest.raises(UserError, match="needs at least two classes"):
        certificate(pair, (torch.zeros(4, 3), torch.zeros(4).long()), pair, num_samples=5, independent=True)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("net", "select", "message"),
    [
        (nn.Linear(3, 2), ["weight", "bias"], "the random weights bias of posterior and prior differ"),
        (nn.Linear(4, 2), None, "the random weights weight of posterior and prior differ"),
        (nn.Linear(3, 2), None, "bias without a distribution differs"),
        (nn.Linear(3, 2, bias=False), None, "bias without a distribution differs"),
        (Doubled(3, 2), None, "over different networks"),
    ],
)
def test_another_network_is_refused(net, select, message):
    torch.manual_seed(0)
    own = pyro_vd.lift(nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=4)
    other = pyro_vd.lift(net, pyro_vd.LogUniform, pyro_vd.Categorical, num_data=4, select=select)
    pairs = [Posterior(model, guides.sparse.Guide(model)) for model in (own, other)]
    with pytest.raises(UserError, match=message):
        certificate(pairs[0], (torch.zeros(4, 3), torch.zeros(4).long()), pairs[1], independent=True)


def test_running_averages_that_differ_are_refused():
    def make():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        model = pyro_vd.lift(net, pyro_vd.LogUniform, pyro_vd.Categorical, num_data=4)
        return Posterior(model, guides.sparse.Guide(model))

    posterior, prior = make(), make()
    data = torch.zeros(4, 3), torch.zeros(4).long()
    assert certificate(posterior, data, prior, num_samples=5, independent=True).kl == 0
    posterior.model.net[1].running_mean += 0.5
    with pytest.raises(UserError, match=r"1\.running_mean without a distribution differs"):
        certificate(posterior, data, prior, independent=True)


@pytest.mark.parametrize("scheme", ["none", "bernoulli", "variational_a", "group_normal_jeffreys"])
def test_weights_that_are_not_independent_normals_are_refused(scheme):
    module = guides.SCHEMES[scheme]
    model = pyro_vd.lift(nn.Linear(3, 2), module.prior, pyro_vd.Categorical, num_data=4)
    pair = Posterior(model, module.Guide(model))
    with pytest.raises(UserError, match=rf"{scheme}.*'weight' are not independent Normals"):
        certificate(pair, (torch.zeros(4, 3), torch.zeros(4).long()), pair, independent=True)
    with pytest.raises(UserError, match="are not independent Normals"):
        pair.as_prior()


@pytest.mark.parametrize("scheme", ["gaussian_wang", "variational_b", "sparse", "hierarchical"])
def test_schemes_of_independent_normals_are_certified(scheme):
    module = guides.SCHEMES[scheme]
    model = pyro_vd.lift(nn.Linear(3, 2), module.prior, pyro_vd.Categorical, num_data=4)
    pair = Posterior(model, module.Guide(model))
    found = certificate(pair, (torch.randn(50, 3), torch.zeros(50).long()), pair, num_samples=5, independent=True)
    assert found.kl == 0


def test_an_autoguide_is_refused():
    model = pyro_vd.lift(nn.Linear(3, 2), torch.distributions.Normal(0.0, 1.0), pyro_vd.Categorical, num_data=4)
    pair = Posterior(model, pyro.infer.autoguide.AutoNormal(model))
    with pytest.raises(UserError, match="AutoNormal has no q"):
        certificate(pair, (torch.zeros(4, 3), torch.zeros(4).long()), pair, independent=True)


def test_a_point_mass_is_refused_unless_it_is_pruned():
    model = pyro_vd.lift(nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=4)
    pair = Posterior(model, guides.variational_b.Guide(model))
    with torch.no_grad():
        pair.guide.theta["weight"][0, 0] = 0.0
    data = torch.randn(50, 3), torch.zeros(50).long()
    with pytest.raises(UserError, match="'weight' has a standard deviation of 0"):
        certificate(pair, data, pair, num_samples=5, independent=True)
