"""Posterior on tiny networks: means, masks, draws, predictions, and files that fill a new pair."""

import math
from functools import partial
from itertools import pairwise

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import nn

from pyro_vd import (
    Categorical,
    Posterior,
    SchemeDefaults,
    WeightGuide,
    WeightNormal,
    checkpoint,
    compression_report,
    guides,
    lift,
)
from pyro_vd.errors import CheckpointError, UserError
from tests._asserts import same, values
from tests._pairs import CLASSES, FEATURES, N, batch_norm, examples, fresh, network, pair, train
from tests.forge import forge


@pytest.fixture(scope="module")
def trained():
    """Rates on both sides of the usual thresholds."""
    return train(*pair(init=-4.0), epochs=10, lr=0.1)


def test_mean_is_the_network_at_theta(trained):
    net = trained.mean()
    x, _ = examples()
    assert type(net) is nn.Sequential
    assert not net.training
    assert list(dict(net.named_parameters())) == [name for name, _ in network().named_parameters()]
    for site, theta in trained.guide.theta.named_parameters():
        assert torch.equal(net.get_parameter(site), theta)
    reference = network()
    reference.load_state_dict(net.state_dict())
    assert torch.equal(net(x), reference(x))


def test_a_plain_network_is_a_copy(trained):
    before = values(trained)
    net = trained.mean()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert same(before, values(trained))


@pytest.mark.parametrize("threshold", [-3.0, 0.0, 1.0, 3.0])
def test_pruned_weights_are_exactly_zero_and_the_others_untouched(trained, threshold):
    """And counting the network's zeros gives the masks back. Kills weight * mask, which leaves -0.0."""
    net, masks = trained.mean(trained.masks(threshold)), trained.masks(threshold)
    kept = 0
    for site, theta in trained.guide.theta.named_parameters():
        weight, mask = net.get_parameter(site).detach(), masks[site]
        assert mask.dtype == torch.bool
        assert torch.equal(mask, trained.log_alpha()[site] < threshold)
        assert (weight[~mask] == 0).all()
        assert not weight[~mask].signbit().any()
        assert torch.equal(weight[mask], theta[mask].detach())
        kept += int(mask.sum())
    report = compression_report(net, masks)
    assert (report.nonzero, report.weights) == (kept, FEATURES * 6 + 6 * CLASSES)
    assert torch.equal(net.get_parameter("0.bias"), trained.mean().get_parameter("0.bias"))


def test_pruning_prunes_something_and_not_everything(trained):
    """Else the test above shows nothing."""
    assert 0 < compression_report(trained.mean(trained.masks(0.0)), trained.model.priors).sparsity < 1


def test_a_nan_weight_is_refused_by_name_and_a_zero_one_is_pruned():
    pyro.enable_validation(False)  # which would refuse the NaN sooner
    model, guide = pair()
    posterior = Posterior(model, guide)
    with torch.no_grad():
        guide.theta["0.weight"][0, 1] = 0.0
    assert posterior.mean(posterior.masks(3.0)).get_parameter("0.weight")[0, 1] == 0
    with torch.no_grad():
        guide.theta["0.weight"][0, 0] = math.nan
    with pytest.raises(NotImplementedError, match=r"0\.weight.* NaN"):
        posterior.mean(posterior.masks(3.0))


@pytest.mark.parametrize("scheme", ["sparse", "hierarchical"])
def test_masks_grow_with_the_threshold(scheme):
    posterior = train(*pair(scheme, init=-4.0), epochs=5, lr=0.1)
    thresholds = [-30, -8, -2, 0, 0.5, 1, 3, 8, 30]
    for site in posterior.model.priors:
        masks = [posterior.masks(threshold)[site] for threshold in thresholds]
        assert all((low <= high).all() for low, high in pairwise(masks))
        assert not masks[0].any()
        assert masks[-1].all()


def test_every_site_may_have_a_threshold_of_its_own():
    posterior = Posterior(*pair("sparse", init=-4.0))
    first, *others = posterior.model.priors
    masks = posterior.masks({first: -2.0, **dict.fromkeys(others, math.inf)})
    assert torch.equal(masks[first], posterior.masks(-2.0)[first])
    assert all(masks[site].all() for site in others)
    assert 0 < posterior.mean(masks).get_parameter(first).count_nonzero() < masks[first].numel()


@pytest.mark.parametrize("wrong", [math.nan, {}, {"0.weight": math.nan, "2.weight": 1.0}, {"0.weight": 1.0, "9": 1.0}])
def test_thresholds_that_are_none_are_refused(wrong):
    with pytest.raises(UserError, match=r"NaN|look at .*2\.weight"):
        Posterior(*pair("sparse")).masks(wrong)


def test_log_alpha_is_that_of_the_parameters(trained):
    for site, value in trained.log_alpha().items():
        expected = trained.guide.noise_param[site] - 2 * trained.guide.theta[site].abs().log()
        assert torch.allclose(value, expected, atol=1e-5)
        assert not value.requires_grad


def test_a_scheme_without_noise_has_no_log_alpha_and_prunes_nothing():
    posterior = Posterior(*pair("none"))
    with pytest.raises(TypeError, match="none"):
        posterior.log_alpha()
    assert all(mask.all() for mask in posterior.masks(3.0).values())
    assert compression_report(posterior.mean(posterior.masks(3.0)), posterior.model.priors).sparsity == 0


def test_sample_draws_from_the_posterior():
    model, guide = pair(net=lambda: nn.Sequential(nn.Linear(100, 100)), init=-3.0)
    posterior = Posterior(model, guide)
    torch.manual_seed(1)
    first, second = posterior.sample(), posterior.sample()
    torch.manual_seed(1)
    again = posterior.sample()
    assert not first.training
    q = guide.q("0.weight")
    scores = [((net.get_parameter("0.weight") - q.mean) / q.stddev).detach() for net in (first, second, again)]
    assert torch.equal(scores[0], scores[2])
    for score in scores:  # 10,000 draws: five standard errors
        assert abs(score.mean()) < 5 / 100
        assert abs(score.std() - 1) < 5 / 140
    assert abs((scores[0] * scores[1]).mean()) < 5 / 100


def test_all_examples_of_a_prediction_share_their_draws(trained):
    """Across batches too. Kills a new draw per batch and local reparameterization in predict."""
    x, _ = examples()
    same_input = x[:1].expand(7, -1)
    outputs = trained.predict(same_input, num_samples=5, batch_size=3)
    assert outputs.shape == (5, 7, CLASSES)
    assert not outputs.requires_grad
    assert torch.allclose(outputs, outputs[:, :1].expand_as(outputs), atol=1e-5)
    firsts = outputs[:, 0]
    assert all((firsts[i] - firsts[j]).abs().max() > 1e-3 for i in range(5) for j in range(i))


def test_predictions_do_not_depend_on_the_batch_size(trained):
    x, _ = examples()
    outputs = []
    for batch_size in (1, 7, 1000):
        torch.manual_seed(5)
        outputs.append(trained.predict(x, num_samples=2, batch_size=batch_size))
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)
    assert torch.allclose(outputs[0], outputs[2], atol=1e-5)


def test_predictions_scale_bytes(trained):
    pixels = torch.randint(0, 256, (4, FEATURES), dtype=torch.uint8)
    outputs = []
    for x in (pixels, pixels.float() / 255):
        torch.manual_seed(5)
        outputs.append(trained.predict(x, num_samples=2))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("training", [True, False])
def test_predict_evaluates_and_puts_the_mode_back(training):
    model, guide = pair("none", net=lambda: nn.Sequential(network(), nn.Dropout(0.5)))
    posterior = Posterior(model, guide)
    model.train(training)
    x, _ = examples()
    outputs = posterior.predict(x, num_samples=2)
    assert torch.equal(outputs[0], outputs[1])
    assert model.training == model.net.training == model.net[1].training == training


def test_predict_puts_the_mode_back_after_an_error():
    model, guide = pair()
    model.train()
    with pytest.raises(RuntimeError):
        Posterior(model, guide).predict(torch.ones(2, FEATURES + 1), num_samples=1)
    assert model.net.training
    assert "weight" not in model.net[0].__dict__


@pytest.mark.parametrize("threshold", [None, -1.0])
def test_running_averages_can_be_those_of_the_mean(threshold):
    """Of the network without noise, pruned or not, over sorted classes; the pair keeps its own. Kills averages of the
    last batch, of batches of one class, and the unpruned network's for the pruned one."""
    posterior = train(*pair(net=batch_norm, init=-4.0), epochs=3)
    before = values(posterior)
    x = torch.cat([torch.randn(1250, FEATURES) + 5 * label for label in range(2)])
    assert 0 < (posterior.mean(posterior.masks(-1.0))[0].weight == 0).sum() < 4 * FEATURES
    masks = None if threshold is None else posterior.masks(threshold)
    net = posterior.mean(masks, inputs=x)
    with torch.no_grad():
        hidden = net[0](x)
    torch.testing.assert_close(net[1].running_mean, hidden.mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(net[1].running_var, hidden.var(0), rtol=2e-2, atol=1e-3)
    assert not net.training
    assert torch.equal(net[0].weight, posterior.mean(masks)[0].weight)
    assert not torch.allclose(posterior.mean(masks)[1].running_var, net[1].running_var, rtol=0.1)
    assert same(before, values(posterior))


def test_running_averages_of_bytes_are_those_of_the_scaled():
    posterior = train(*pair(net=batch_norm))
    pixels = torch.randint(0, 256, (1001, FEATURES), dtype=torch.uint8)  # two batches, neither of one example
    nets = [posterior.mean(inputs=x) for x in (pixels, pixels.float() / 255)]
    assert same(*(dict(net.named_buffers()) for net in nets))


def test_running_averages_are_taken_without_dropout_and_draw_nothing():
    net = partial(nn.Sequential, nn.Linear(FEATURES, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, CLASSES))
    posterior = train(*pair(net=net))
    x, _ = examples()
    generator = torch.get_rng_state()
    found = posterior.mean(inputs=x)
    assert torch.equal(generator, torch.get_rng_state())
    torch.testing.assert_close(found[2].running_var, found[0](x).var(0).detach(), rtol=1e-4, atol=1e-5)
    assert found[2].momentum == 0.1
    assert not any(module.training for module in found.modules())


@pytest.mark.parametrize("n", [0, 1])
def test_running_averages_of_no_spread_are_refused(n):
    with pytest.raises(UserError, match=f"{n} inputs have no variance"):
        Posterior(*pair(net=batch_norm)).mean(inputs=torch.zeros(n, FEATURES))


def test_a_saved_posterior_fills_a_fresh_pair(tmp_path):
    """Biases and running statistics too, and the same draws from the same seed."""
    posterior = train(*pair(net=batch_norm), epochs=3)
    posterior.save(tmp_path / "saved", note="mine")
    loaded = Posterior(*pair(net=batch_norm, seed=5)).load(tmp_path / "saved")
    x, _ = examples()
    assert torch.equal(posterior.mean()(x), loaded.mean()(x))
    assert same(values(posterior), values(loaded))
    assert loaded.history == posterior.history
    outputs = []
    for one in (posterior, loaded):
        torch.manual_seed(2)
        outputs.append(one.predict(x, num_samples=3))
    assert torch.equal(*outputs)
    assert checkpoint.load(tmp_path / "saved")[1]["note"] == "mine"


def test_a_run_of_fit_can_be_loaded(tmp_path):
    posterior = fresh(checkpoint=tmp_path / "run")
    loaded = Posterior(*pair(seed=5)).load(tmp_path / "run")
    assert same(values(posterior), values(loaded))
    assert loaded.history == posterior.history


@pytest.mark.parametrize(
    ("other", "differences"),
    [
        ({"net": lambda: network(hidden=7)}, [r"guide.theta.0.weight is (6, 5) torch.float32, expected (7, 5)"]),
        ({"net": batch_norm}, ["no model.net.1.running_mean", "unexpected guide.theta.2.weight"]),
        ({"scheme": "none"}, ["of another pair: sparse.Guide(", "this is none.Guide("]),
        (
            {"parametrization": "log_alpha"},
            ["parametrization='log_sigma2'", "parametrization='log_alpha'"],
        ),
        ({"net": lambda: network().double()}, ["torch.float32, expected", "torch.float64"]),
    ],
    ids=["shape", "layers", "scheme", "parametrization", "dtype"],
)
def test_loading_another_pair_is_refused_with_every_difference(tmp_path, other, differences):
    Posterior(*pair()).save(tmp_path / "saved")
    posterior = Posterior(*pair(seed=5, **other), history=[{"loss": 1.0}])
    before = values(posterior)
    with pytest.raises(CheckpointError) as caught:
        posterior.load(tmp_path / "saved")
    for difference in differences:
        assert difference in str(caught.value)
    assert same(before, values(posterior))
    assert posterior.history == [{"loss": 1.0}]


def test_a_posterior_that_is_not_finite_is_not_saved(tmp_path):
    posterior = Posterior(*pair())
    with torch.no_grad():
        posterior.model.net[0].bias[1] = math.nan
    with pytest.raises(UserError, match=r"saved: model\.net\.0\.bias is not finite") as caught:
        posterior.save(tmp_path / "saved")
    assert "\n" not in str(caught.value)
    assert not checkpoint.exists(tmp_path / "saved")


THETA = "guide.theta.0.weight"
FORGED_POSTERIORS = {
    "a parameter that is not finite": ({THETA: torch.full((6, 5), math.inf)}, {}),
    "an extra tensor": ({"more": torch.zeros(2)}, {}),
    "a history in words": ({}, {"history": "good"}),
    "a history of words": ({}, {"history": [{"loss": "low"}]}),
    "no history": ({}, {"history": None}),
    "no pair": ({}, {"pair": None}),
}


@pytest.mark.parametrize("name", list(FORGED_POSTERIORS))
def test_a_forged_posterior_is_not_loaded(name, tmp_path):
    Posterior(*pair()).save(tmp_path / "saved")
    tensors, meta = FORGED_POSTERIORS[name]
    forge(tmp_path / "saved", tensors=tensors, meta=meta)
    posterior = Posterior(*pair(seed=1))
    before = values(posterior)
    with pytest.raises(CheckpointError, match="saved"):
        posterior.load(tmp_path / "saved")
    assert same(before, values(posterior))
    assert posterior.history == []


@pytest.mark.parametrize("best", [3, [], {}, {"returned": True}, {"returned": 1, "epochs": [0]},
                                  {"returned": True, "epochs": ["0"]}, {"returned": True, "epochs": [True]},
                                  {"returned": True, "epochs": 0}])  # fmt: skip
def test_a_forged_best_epoch_is_not_loaded(best, tmp_path):
    fresh(epochs=1, validation=examples(), checkpoint=tmp_path / "run")
    forge(tmp_path / "run", meta={"best": best})
    with pytest.raises(CheckpointError, match="'best' in its metadata"):
        Posterior(*pair(seed=1)).load(tmp_path / "run")


def test_an_autoguide_of_pyro_predicts_too():
    """It has no bounds to project onto."""
    model = lift(network(), dist.Normal(0.0, 1.0), Categorical, num_data=N)
    guide = AutoNormal(model)
    guide(*examples())
    assert Posterior(model, guide).predict(examples()[0], num_samples=2).shape == (2, N, CLASSES)


@pytest.mark.parametrize("scheme", guides.SCHEMES)
def test_masks_without_an_argument_are_those_of_the_schemes_threshold(scheme):
    """And are refused by name for a scheme that is not for pruning."""
    posterior, own = Posterior(*pair(scheme)), guides.SCHEMES[scheme].defaults
    if own.threshold is None:
        with pytest.raises(UserError, match=rf"masks: {scheme}\.Guide\(.*\) is not for pruning"):
            posterior.masks()
    else:
        assert posterior.threshold == own.threshold
        assert same(posterior.masks(), posterior.masks(own.threshold))


class Unnamed(WeightGuide):
    def q(self, site):
        return WeightNormal(self.theta[site], log_alpha=torch.zeros(()))


def test_a_guide_of_your_own_may_have_a_threshold():
    model, _ = pair()
    with pytest.raises(UserError, match=r"Unnamed\(\) has no threshold of its own; give one, such as masks\(3.0\)"):
        Posterior(model, Unnamed(model)).masks()

    class Named(Unnamed):
        defaults = SchemeDefaults(threshold=-1.0)

    class Inherited(guides.sparse.Guide):
        pass

    assert not any(mask.any() for mask in Posterior(model, Named(model)).masks().values())
    assert Posterior(model, Inherited(model)).threshold == 3.0


def test_its_repr_is_a_table(trained):
    lines = repr(trained).splitlines()
    assert lines[0].startswith("Posterior of Sequential by sparse.Guide(")
    assert f"10 epochs, loss {trained.history[-1]['loss']:.4g}" in " ".join(lines)
    kept = {site: int(mask.sum()) for site, mask in trained.masks().items()}
    assert lines[-3:] == [
        "site      shape  weights       prior  kept at 3",
        f"0.weight    6x5       30  LogUniform  {kept['0.weight']:9}",
        f"2.weight    3x6       18  LogUniform  {kept['2.weight']:9}",
    ]
    assert max(map(len, lines)) <= 88
    assert f"<td>LogUniform</td><td>{kept['0.weight']}</td>" in trained._repr_html_()


def test_a_posterior_that_does_not_prune_has_a_repr_too():
    model, guide = pair("none")
    assert "kept" not in repr(Posterior(model, guide))
    assert "0 epochs" in repr(Posterior(model, AutoNormal(model)))


# --- the posterior as a prior


def test_normals_are_those_of_the_guide():
    model = lift(nn.Linear(3, 2), guides.sparse.prior, Categorical, num_data=4)
    posterior = Posterior(model, guides.sparse.Guide(model))
    (normal,) = posterior.normals().values()
    q = posterior.guide.q("weight")
    torch.testing.assert_close(normal.mean, q.mean)
    torch.testing.assert_close(normal.stddev, q.stddev)
    assert not normal.mean.requires_grad
    with torch.no_grad():
        posterior.guide.theta["weight"].zero_()
    assert normal.mean.all()  # a copy


def test_a_posterior_is_the_prior_of_the_next():
    model = lift(nn.Linear(3, 2), guides.sparse.prior, Categorical, num_data=4)
    first = Posterior(model, guides.sparse.Guide(model))
    second = lift(first.mean(), first.as_prior(), Categorical, num_data=4)
    guide = guides.sparse.Guide(second)
    guide.load_state_dict(first.guide.state_dict())
    assert Posterior(second, guide).kl()["weight"] == pytest.approx(0.0, abs=1e-5)


def test_as_prior_names_a_weight_without_a_distribution_of_its_shape():
    model = lift(nn.Linear(3, 2), guides.sparse.prior, Categorical, num_data=4)
    prior = Posterior(model, guides.sparse.Guide(model)).as_prior()
    with pytest.raises(UserError, match="'bias' has no distribution here; select weight"):
        lift(nn.Linear(3, 2), prior, Categorical, num_data=4, select=["weight", "bias"])
    with pytest.raises(UserError, match=r"'weight' has shape \(2, 3\) here, and not \(2, 4\); lift the same network"):
        lift(nn.Linear(4, 2), prior, Categorical, num_data=4)
