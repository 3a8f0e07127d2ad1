"""Comparison of models: paired differences on held-out examples, and leave-one-out cross-validation."""

import math

import arviz
import pytest
import torch

from pyro_vd.diagnostics import compare, loo
from pyro_vd.errors import UserError
from tests.diagnostics._data import conjugate_draws


def test_models_are_ranked_by_paired_differences():
    common = 10 * torch.randn(400)
    scores = {"worse": common - 0.1 + 0.01 * torch.randn(400), "better": common, "worst": common - 3.0}
    ranks = compare(scores)
    assert [rank.name for rank in ranks] == ["better", "worse", "worst"]
    assert (ranks[0].elpd_diff, ranks[0].dse) == (0, 0)
    assert ranks[1].elpd_diff == pytest.approx(40, abs=1)
    assert ranks[1].dse == pytest.approx(0.01 * 400**0.5, rel=0.15)  # and not 10 * 20: it is paired
    assert ranks[2].elpd_diff == pytest.approx(1200)
    assert ranks[1].elpd == pytest.approx(float(scores["worse"].double().sum()))


@pytest.mark.parametrize(
    "scores",
    [
        {},
        {"a": torch.zeros(3), "b": torch.zeros(4)},
        {"a": torch.zeros(1)},
        {"a": torch.zeros(3, 1), "b": torch.zeros(3, 1)},
        {"a": torch.zeros(())},
    ],
)
def test_a_ranking_needs_the_same_examples(scores):
    with pytest.raises(UserError, match="of the same examples are needed"):
        compare(scores)


def test_a_score_that_is_nan_has_no_place():
    with pytest.raises(UserError, match="a score of b is NaN"):
        compare({"a": torch.zeros(3), "b": torch.tensor([0.0, math.nan, 0.0])})


def test_leave_one_out_is_the_density_of_each_observation_given_the_others():
    x, y = torch.linspace(-1, 1, 12)[:, None], torch.randn(12, 1)
    exact = []
    for i in range(12):
        others = torch.arange(12) != i
        variance = 1 / (0.25 + x[others].square().sum())
        mean = variance * (x[others] * y[others]).sum()
        predictive = torch.distributions.Normal(x[i] * mean, (1 + x[i].square() * variance).sqrt())
        exact.append(predictive.log_prob(y[i]))
    found = loo(conjugate_draws(x, y))
    torch.testing.assert_close(found.log_scores, torch.cat(exact).double(), atol=0.02, rtol=0)
    assert found.elpd == pytest.approx(float(sum(exact)), abs=0.05)
    assert found.unreliable == 0


def test_an_observation_that_holds_the_posterior_alone_makes_leaving_it_out_unreliable():
    x, y = torch.tensor([[0.1], [0.1], [0.1], [30.0]]), torch.tensor([[0.0], [0.2], [-0.1], [60.0]])
    assert loo(conjugate_draws(x, y, num_samples=1000)).unreliable == 0.25


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # ArviZ 0.23 on pandas 3.1
def test_arviz_compares_models_as_ranking_does_by_left_out_scores():
    x = torch.randn(30, 1)
    y = x + torch.randn(30, 1)
    features = {"straight": x, "constant": torch.ones_like(x), "sine": x.sin()}
    found = {name: conjugate_draws(feature, y, num_samples=1000) for name, feature in features.items()}
    table = arviz.compare(found)
    ranks = compare({name: loo(data).log_scores for name, data in found.items()})
    assert [rank.name for rank in ranks] == list(table.index)
    for rank in ranks:
        n = len(y)  # ArviZ divides by n, ranking by n - 1
        row = table.loc[rank.name]
        assert row["elpd_diff"] == pytest.approx(rank.elpd_diff, rel=1e-6, abs=1e-6)
        assert row["dse"] == pytest.approx(rank.dse * ((n - 1) / n) ** 0.5, rel=1e-6, abs=1e-6)
