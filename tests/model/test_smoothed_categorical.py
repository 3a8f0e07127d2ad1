"""SmoothedCategorical: PyTorch's label smoothing, in training only."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pyro_vd
from pyro_vd import Categorical, SmoothedCategorical, guides
from pyro_vd.errors import CheckpointError, UserError


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.2, 0.999])
def test_log_prob_is_that_of_pytorchs_cross_entropy(smoothing):
    logits = 5 * torch.randn(7, 11, dtype=torch.float64).requires_grad_()
    labels = torch.randint(11, (7,))
    own = SmoothedCategorical(smoothing)(logits).log_prob(labels)
    torch_own = -F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(own, torch_own)
    (gradient,) = torch.autograd.grad(own.sum(), logits, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(torch_own.sum(), logits)[0])


def test_labels_may_have_more_axes():
    logits, labels = torch.randn(3, 4, 5), torch.randint(5, (3, 4))
    expected = -nn.CrossEntropyLoss(label_smoothing=0.3, reduction="none")(logits.movedim(-1, 1), labels)
    torch.testing.assert_close(SmoothedCategorical(0.3)(logits).log_prob(labels), expected)


def test_an_expanded_distribution_keeps_its_smoothing():
    smoothed = SmoothedCategorical(0.3)(torch.randn(5))
    label = torch.tensor([2, 2])
    torch.testing.assert_close(smoothed.expand((2,)).log_prob(label), smoothed.log_prob(label))


def test_probabilities_are_the_categoricals():
    logits = torch.randn(4, 3)
    assert SmoothedCategorical(0.3)(logits).probs.equal(Categorical(logits).probs)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_it_refuses_by_value(smoothing):
    with pytest.raises(UserError, match=rf"smoothing={smoothing}"):
        SmoothedCategorical(smoothing)


def fit(likelihood, engine="eager", y=None):
    torch.manual_seed(0)
    x, net = torch.randn(20, 4), nn.Linear(4, 3)
    labels = torch.arange(20) % 3 if y is None else y
    model = pyro_vd.lift(net, guides.none.prior, likelihood, num_data=20)
    return pyro_vd.fit(
        model, guides.none.Guide(model), (x, labels), epochs=2, batch_size=10, lr=0.1, seed=0, engine=engine,
        progress=False,
    )  # fmt: skip


def test_training_is_that_of_the_categorical_only_without_smoothing():
    smoothed, unsmoothed, plain = (
        fit(likelihood).history[-1]["loss"]
        for likelihood in (SmoothedCategorical(0.2), SmoothedCategorical(0), Categorical)
    )
    assert unsmoothed == plain
    assert smoothed > plain


def test_the_compiled_engine_smooths_too(quick_compiler):
    eager, compiled = fit(SmoothedCategorical(0.2)), fit(SmoothedCategorical(0.2), "compiled")
    assert compiled.engine == "compiled"
    assert compiled.history[-1]["log_likelihood"] == pytest.approx(eager.history[-1]["log_likelihood"], rel=1e-5)


def test_labels_out_of_range_are_refused_before_the_first_step():
    with pytest.raises(UserError, match="labels are whole numbers from 0 to 2"):
        fit(SmoothedCategorical(0.2), y=torch.full((20,), 3))


def test_resuming_with_another_smoothing_is_refused(tmp_path):
    net = nn.Linear(4, 3)
    for smoothing in (0.1, 0.2):
        model = pyro_vd.lift(net, guides.none.prior, SmoothedCategorical(smoothing), num_data=20)
        how = {"epochs": 1, "seed": 0, "checkpoint": tmp_path / "run", "progress": False}
        data = torch.ones(20, 4), torch.arange(20) % 3
        if smoothing == 0.1:
            pyro_vd.fit(model, guides.none.Guide(model), data, **how)
        else:
            with pytest.raises(CheckpointError, match="likelihood"):
                pyro_vd.fit(model, guides.none.Guide(model), data, **how)
