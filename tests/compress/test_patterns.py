"""Masks of n:m groups and of blocks: the pattern holds, no other mask of it keeps more, and sparse kernels take it."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

import pyro_vd
from pyro_vd import guides
from pyro_vd.compress import block_masks, log_snr, prune, semi_structured_masks, top_k_masks
from pyro_vd.errors import UserError

BETA = "ignore:Sparse BSR tensor support is in beta:UserWarning"


def scores_of(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4), (3, 6)])
def test_each_group_keeps_the_best_of_all_choices(n, m):
    score = scores_of(3, 2 * m)
    mask = semi_structured_masks({"w": score}, n, m)["w"]
    for values, kept in zip(score.reshape(-1, m), mask.reshape(-1, m), strict=True):
        choices = [list(chosen) for chosen in itertools.combinations(range(m), n)]
        best = max(choices, key=lambda chosen: float(values[chosen].sum()))
        assert kept.nonzero().flatten().tolist() == best


def test_groups_of_a_convolution_are_of_its_input_channels():
    score = scores_of(5, 8, 3, 2)
    mask = semi_structured_masks({"w": score})["w"]
    assert mask.shape == score.shape
    for i, j in itertools.product(range(3), range(2)):
        assert torch.equal(mask[:, :, i, j], semi_structured_masks({"w": score[:, :, i, j]})["w"])


def test_of_equal_scores_the_first_stay_and_weights_without_signal_go_first():
    scores = {"a": torch.zeros(1, 4), "b": torch.tensor([[-torch.inf, 1.0, -torch.inf, -torch.inf]])}
    masks = semi_structured_masks(scores)
    assert masks["a"].tolist() == [[True, True, False, False]]
    assert masks["b"].tolist() == [[True, True, False, False]]


def test_inputs_of_a_group_scheme_stay_or_go_as_a_whole():
    mask = semi_structured_masks({"w": scores_of(8).expand(5, 8)})["w"]
    assert bool((mask == mask[:1]).all())


@pytest.mark.parametrize("seed", range(3))
def test_pytorch_compresses_the_pattern_without_loss(seed):
    """By the reference of the format that its kernels for the GPU read, which runs on a CPU."""
    weight = scores_of(32, 64, seed=seed).half()
    mask = semi_structured_masks({"w": weight.abs().float()})["w"]
    for candidate, exact in ((weight * mask, True), (weight, False)):
        compressed, meta = sparse_semi_structured_from_dense_cutlass(candidate)
        assert compressed.shape == (32, 32)
        assert torch.equal(sparse_semi_structured_to_dense_cutlass(compressed, meta), candidate) == exact


@pytest.mark.parametrize("sparsity", [0, 0.25, 0.5, 0.8, 1])
def test_the_blocks_that_stay_are_the_best_of_all_choices(sparsity):
    """Among all masks of as many blocks, it keeps the largest sum of theta^2 / sigma^2, over both weights."""
    scores = {"a": scores_of(4, 6), "b": scores_of(2, 6, seed=1)}
    masks = block_masks(scores, sparsity, (2, 3))
    places = [(site, r, c) for site, score in scores.items() for r in range(0, len(score), 2) for c in (0, 3)]

    def saliency(places):
        return sum(float(scores[site][r : r + 2, c : c + 3].exp().sum()) for site, r, c in places)

    blocks = {place: masks[place[0]][place[1] : place[1] + 2, place[2] : place[2] + 3] for place in places}
    assert all(bool(block.all()) or not bool(block.any()) for block in blocks.values())
    kept = [place for place, block in blocks.items() if bool(block.all())]
    assert len(kept) == len(places) - round(sparsity * len(places))
    best = max(saliency(chosen) for chosen in itertools.combinations(places, len(kept)))
    assert saliency(kept) == pytest.approx(best)


def test_blocks_of_one_weight_are_single_weights():
    scores = {"a": scores_of(4, 6), "b": scores_of(2, 5, 3, seed=1)}
    for per_layer in (False, True):
        masks, single = block_masks(scores, 0.6, (1, 1), per_layer), top_k_masks(scores, 0.6, per_layer)
        assert all(torch.equal(masks[site], single[site]) for site in scores)


def test_a_weight_without_signal_does_not_take_its_block_along():
    score = torch.zeros(2, 4)
    score[:, :2] = torch.tensor([[-torch.inf, 3.0], [3.0, 3.0]])
    assert block_masks({"w": score}, 0.5, (2, 2))["w"].tolist() == [[True, True, False, False]] * 2
    assert block_masks({"w": torch.full((2, 4), -torch.inf)}, 0.5, (2, 2))["w"].sum() == 4


def test_blocks_of_a_convolution_are_of_channels_at_a_position():
    score = torch.zeros(4, 4, 3)
    score[2:, :2, 1] = 1
    mask = block_masks({"w": score}, 11 / 12, (2, 2))["w"]
    assert torch.equal(mask, score > 0)


@pytest.mark.filterwarnings(BETA)
@pytest.mark.parametrize("block", [(4, 4), (2, 2), (2, 8), (8, 1)])
def test_a_block_sparse_matrix_gives_the_same_product(block):
    layer, x = nn.Linear(16, 8), torch.randn(5, 16)
    scores = {"weight": layer.weight.detach().abs()}
    pruned = prune(layer, block_masks(scores, 0.5, block))
    sparse = pruned.weight.detach().to_sparse_bsr(block)
    assert sparse.values().shape == (64 // (block[0] * block[1]), *block)
    assert torch.equal(sparse.to_dense(), pruned.weight)
    if block[0] == block[1]:  # MKL multiplies by square blocks alone
        torch.testing.assert_close(F.linear(x, sparse, pruned.bias), pruned(x))


def test_the_weights_of_lowest_log_alpha_of_a_posterior():
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    model = pyro_vd.lift(net, pyro_vd.LogUniform, pyro_vd.Categorical, num_data=64)
    guide = guides.sparse.Guide(model)
    with torch.no_grad():
        for log_sigma2 in guide.log_sigma2.parameters():
            log_sigma2.uniform_(-8, 0)
    posterior = pyro_vd.Posterior(model, guide)
    masks = semi_structured_masks(log_snr(posterior))
    log_alpha = posterior.log_alpha()
    for site, mask in masks.items():
        groups, kept = log_alpha[site].reshape(-1, 4), mask.reshape(-1, 4)
        assert torch.equal(kept, groups <= groups.sort(1).values[:, 1:2])
    pruned = posterior.mean(masks)
    assert pruned[0].weight.count_nonzero() == 32
    blocks = block_masks(log_snr(posterior), 0.5)
    assert torch.equal(posterior.mean(blocks)[2].weight != 0, blocks["2.weight"])


@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 4), (5, 4), (-1, 2), (2.0, 4), (1, 4.0)])
def test_another_pattern_is_refused(n, m):
    with pytest.raises(UserError, match=f"n={n}, m={m}: both must be whole numbers, and 0 < n < m"):
        semi_structured_masks({"w": scores_of(4, 4)}, n, m)


@pytest.mark.parametrize("block", [(0, 4), (4,), (2, 2, 2), (1.0, 2), (-1, 1)])
def test_another_block_is_refused(block):
    with pytest.raises(UserError, match="must be two whole numbers above 0, of outputs and of inputs"):
        block_masks({"w": scores_of(4, 4)}, 0.5, block)


def test_weights_that_no_pattern_divides_are_named():
    scores = {"fits": scores_of(4, 8), "conv": scores_of(4, 3, 2, 2), "bias": scores_of(8)}
    named = r"conv of shape \(4, 3, 2, 2\), bias of shape \(8,\); leave these sites out of scores"
    with pytest.raises(UserError, match=r"multiples of \(1, 4\): not those of " + named):
        semi_structured_masks(scores)
    with pytest.raises(UserError, match=r"multiples of \(4, 4\): not those of " + named):
        block_masks(scores, 0.5)
    with pytest.raises(UserError, match=r"not those of rows of shape \(3, 4\)"):
        block_masks({"rows": scores_of(3, 4)}, 0.5, (2, 2))


@pytest.mark.parametrize("masks", [semi_structured_masks, lambda scores: block_masks(scores, 0.5)])
def test_scores_that_cannot_be_ordered_are_refused(masks):
    with pytest.raises(UserError, match="scores of b hold NaN"):
        masks({"a": scores_of(4, 4), "b": torch.full((4, 4), torch.nan)})
    with pytest.raises(UserError, match=r"sparsity=1\.5"):
        block_masks({"a": scores_of(4, 4)}, 1.5)
