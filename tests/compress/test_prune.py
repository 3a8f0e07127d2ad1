"""Ranking, masking, the pruning_curve of one posterior, and fine-tuning with the masks kept."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pyro_vd
from pyro_vd import guides
from pyro_vd.compress import compression_report, log_snr, prune, pruning_curve, top_k_masks
from pyro_vd.errors import UserError


@pytest.fixture
def data():
    return torch.randn(64, 6), torch.randint(3, (64,))


def net_of():
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))


@pytest.fixture
def posterior(data):
    model = pyro_vd.lift(net_of(), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=64)
    guide = guides.sparse.Guide(model)
    with torch.no_grad():
        for log_sigma2 in guide.log_sigma2.parameters():
            log_sigma2.uniform_(-8, 0)
    return pyro_vd.Posterior(model, guide)


@given(st.lists(st.floats(-10, 10) | st.integers(-3, 3), min_size=1, max_size=30), st.floats(0, 1))
def test_so_many_of_the_largest_stay(values, sparsity):
    """Of those with the same score, some."""
    scores = {"a": torch.tensor(values, dtype=torch.float32), "b": torch.tensor([values], dtype=torch.float32)}
    masks = top_k_masks(scores, sparsity)
    kept = torch.cat([scores[site][masks[site]] for site in scores])
    gone = torch.cat([scores[site][~masks[site]] for site in scores])
    assert len(gone) == round(sparsity * 2 * len(values))
    assert not len(kept) or not len(gone) or kept.min() >= gone.max()


@pytest.mark.parametrize("scheme", [guides.group_normal_jeffreys, guides.structured_log_normal])
@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("sparsity", [0.1, 0.4, 0.8])
def test_inputs_of_a_group_scheme_stay_or_go_as_a_whole(scheme, per_layer, sparsity):
    torch.manual_seed(0)
    model = pyro_vd.lift(net_of(), scheme.prior, pyro_vd.Categorical, num_data=64)
    guide = scheme.Guide(model)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter += 0.1 * torch.rand_like(parameter)
    scores = log_snr(pyro_vd.Posterior(model, guide))
    masks = top_k_masks(scores, sparsity, per_layer)
    assert all(bool((mask == mask[:1]).all()) for mask in masks.values())
    for sites in [[site] for site in masks] if per_layer else [list(masks)]:
        kept = torch.cat([scores[site][masks[site]] for site in sites])
        gone = torch.cat([scores[site][~masks[site]] for site in sites])
        assert not len(kept) or not len(gone) or kept.min() >= gone.max()
        size = max(len(masks[site]) for site in sites)  # of the largest group: its weights to all outputs
        assert 0 <= round(sparsity * (len(gone) + len(kept))) - len(gone) < size


def test_all_kernels_of_an_input_channel_are_a_group():
    filters = torch.tensor([1.0, 3.0, 2.0]).view(1, 3, 1, 1).expand(4, 3, 2, 2)
    assert top_k_masks({"a": filters}, 0.6)["a"][0, :, 0, 0].tolist() == [False, True, True]
    assert top_k_masks({"a": filters}, 0.7)["a"][0, :, 0, 0].tolist() == [False, True, False]
    assert top_k_masks({"a": filters[:, :1]}, 0.9)["a"].all()  # an image of one channel
    both = top_k_masks({"a": filters, "b": torch.full((12,), 5.0)}, 20 / 60)
    assert both["a"][2, :, 1, 1].tolist() == [False, True, True]
    assert both["b"].all()


def test_inputs_of_the_same_score_are_not_one_group():
    """Units whose noise is at its bound are many."""
    mask = top_k_masks({"a": torch.zeros(5, 10)}, 0.6)["a"]
    assert mask.sum(1).tolist() == [4] * 5
    assert bool((mask == mask[:1]).all())


def test_per_layer_or_all_together():
    scores = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0, 4.0]])}
    assert top_k_masks(scores, 0.5)["a"].tolist() == [False, False]
    per_layer = top_k_masks(scores, 0.5, per_layer=True)
    assert (per_layer["a"].tolist(), per_layer["b"].tolist()) == ([False, True], [[False, True]])


def test_ties_and_ends():
    assert top_k_masks({"a": torch.zeros(10)}, 0.3)["a"].sum() == 7
    assert top_k_masks({"a": torch.zeros(3)}, 1)["a"].sum() == 0
    assert top_k_masks({"a": torch.tensor([-torch.inf, 0.0])}, 0)["a"].all()
    with pytest.raises(UserError, match=r"sparsity=1.5"):
        top_k_masks({"a": torch.zeros(3)}, 1.5)
    with pytest.raises(UserError, match="scores of b hold NaN"):
        top_k_masks({"a": torch.zeros(3), "b": torch.tensor([torch.nan])}, 0.5)


def test_relevance_ranks_as_the_threshold_does(posterior):
    threshold = 2.0
    masks = posterior.masks(threshold)
    sparsity = 1 - sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    ranked = top_k_masks(log_snr(posterior), sparsity)
    assert 0.1 < sparsity < 0.9
    assert all(torch.equal(ranked[site], masks[site]) for site in masks)
    snr = posterior.mean()[0].weight.abs() / posterior.guide.q("0.weight").stddev
    torch.testing.assert_close(log_snr(posterior)["0.weight"], 2 * snr.log())


def test_prune_is_the_mean_at_the_threshold_and_changes_no_other_network(posterior):
    net = posterior.mean()
    before = net[0].weight.clone()
    pruned = prune(net, posterior.masks(1.0))
    for name, value in posterior.mean(posterior.masks(1.0)).state_dict().items():
        assert torch.equal(pruned.state_dict()[name], value)
    assert torch.equal(net[0].weight, before)


def test_the_curve_measures_what_each_threshold_leaves(posterior):
    points = pruning_curve(posterior, [-2.0, 1.0, 9.0], lambda net: float(net[0].weight.count_nonzero()))
    assert [point.threshold for point in points] == [-2.0, 1.0, 9.0]
    for point in points:
        net = posterior.mean(posterior.masks(point.threshold))
        assert point.report == compression_report(net, posterior.model.priors)
        assert point.metric == net[0].weight.count_nonzero()
    assert points[0].metric < points[1].metric < points[2].metric


def test_the_curve_takes_running_averages_anew_at_each_threshold():
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3))
    model = pyro_vd.lift(net, pyro_vd.LogUniform, pyro_vd.Categorical, num_data=64)
    guide = guides.sparse.Guide(model)
    with torch.no_grad():
        guide.log_sigma2["0.weight"].uniform_(-8, 0)
    posterior, inputs = pyro_vd.Posterior(model, guide), torch.randn(64, 6)

    def variance(net):
        return float(net[1].running_var.sum())

    for point in pruning_curve(posterior, [-2.0, 1.0], variance, inputs):
        weight = posterior.mean(posterior.masks(point.threshold))[0].weight.detach()
        assert point.metric == pytest.approx(float((inputs @ weight.T).var(0).sum()), rel=1e-5)
    assert (
        pruning_curve(posterior, [1.0], lambda net: float(net[1].running_var.sum()))[0].metric == 8
    )  # as training left them


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_fine_tuning_keeps_the_zeros_and_moves_the_rest(posterior, data, engine, quick_compiler):
    masks = posterior.masks(1.0)
    net = posterior.mean(posterior.masks(1.0))
    model = pyro_vd.lift(net, guides.none.prior, pyro_vd.Categorical, num_data=64)
    guide = guides.none.Guide(model, masks=masks)
    tuned = pyro_vd.fit(model, guide, data, epochs=3, batch_size=16, lr=0.05, engine=engine, progress=False)
    weight = tuned.mean()[0].weight
    assert (weight[~masks["0.weight"]] == 0).all()
    moved = (weight != net[0].weight)[masks["0.weight"]]
    assert moved.float().mean() > 0.5  # all but those of units that nothing reads any more
    assert all(torch.equal(tuned.masks(3.0)[site], masks[site]) for site in masks)


def test_masks_may_change_in_a_run(data, tmp_path):
    """Gradual magnitude pruning: the engines step with the masks of the moment, and a resumed run has the same."""

    def run(epochs, folder=None):
        torch.manual_seed(0)
        model = pyro_vd.lift(net_of(), guides.none.prior, pyro_vd.Categorical, num_data=64)
        guide = guides.none.Guide(model, masks={site: torch.ones_like(w) > 0 for site, w in model.initial.items()})

        def narrow(epoch, current):
            weights = {site: current.mean().get_parameter(site).abs() for site in model.priors}
            guide.set_masks(top_k_masks(weights, 0.2 * (epoch + 1)))
            return {}

        return pyro_vd.fit(
            model,
            guide,
            data,
            epochs=epochs,
            batch_size=16,
            lr=0.05,
            checkpoint=folder,
            on_epoch=narrow,
            progress=False,
        )

    whole = run(4)
    assert sum(int(mask.sum()) for mask in whole.masks(0.0).values()) == 72 - round(0.8 * 72)
    run(2, tmp_path / "run")
    resumed = run(4, tmp_path / "run")
    for name, value in whole.mean().state_dict().items():
        assert torch.equal(resumed.mean().state_dict()[name], value)


def test_masks_of_another_model_are_refused(posterior):
    model = pyro_vd.lift(net_of(), guides.none.prior, pyro_vd.Categorical, num_data=64)
    with pytest.raises(UserError, match=r"none.Guide: masks of another network: .*no mask for '2.weight'"):
        guides.none.Guide(model, masks={"0.weight": torch.ones(8, 6, dtype=torch.bool)})
    with pytest.raises(UserError, match="without masks"):
        guides.none.Guide(model).set_masks(posterior.masks(1.0))


@pytest.mark.parametrize(
    ("masks", "named"),
    [
        ({"4.weight": torch.ones(8, 6) > 0}, "masks of another network: no weight '4.weight'"),
        ({"0.weight": torch.ones(8, 1) > 0}, r"the mask of '0.weight' is \(8, 1\) torch.bool, expected \(8, 6\)"),
        ({"0.weight": torch.ones(6, dtype=torch.bool)}, r"is \(6,\) torch.bool, expected \(8, 6\) torch.bool"),
        ({"0.weight": torch.ones(8, 6)}, r"is \(8, 6\) torch.float32, expected \(8, 6\) torch.bool"),
    ],
)  # fmt: skip
def test_prune_refuses_masks_of_another_network(masks, named):
    """A mask that broadcasts would prune whole rows."""
    net = net_of()
    with pytest.raises(UserError, match=named):
        prune(net, {"2.weight": torch.zeros(3, 8, dtype=torch.bool)} | masks)
    assert bool(net[2].weight.all())


def test_prune_takes_any_name_of_a_tied_weight():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    net[1].weight = net[0].weight
    pruned = prune(net, {"1.weight": torch.zeros(3, 3, dtype=torch.bool)})
    assert not bool(pruned[0].weight.any())
    assert pruned[0].weight is pruned[1].weight


def test_a_threshold_that_is_no_number_draws_no_curve(posterior):
    with pytest.raises(UserError, match="a threshold is NaN"):
        pruning_curve(posterior, [1.0, math.nan], lambda net: 0.0)
    with pytest.raises(UserError, match="sparsity=nan"):
        top_k_masks({"a": torch.zeros(3)}, math.nan)
