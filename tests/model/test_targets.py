"""Targets and their likelihood: nothing broadcasts, and a value that cannot be is named before the first step."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_vd
from pyro_vd import Bernoulli, Categorical, Gaussian, guides
from pyro_vd.elbo import AnalyticELBO
from pyro_vd.errors import UserError
from pyro_vd.model.targets import check_target_values

N = 12


class Last(nn.Module):
    """A network whose output has one axis fewer: the usual repair."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 1)

    def forward(self, x):
        return self.fc(x).squeeze(-1)


def pair(net, likelihood, n=N):
    model = pyro_vd.lift(net, pyro_vd.LogUniform, likelihood, num_data=n)
    return model, guides.sparse.Guide(model)


def by_fit(net, likelihood, x, y, **options):
    return pyro_vd.fit(*pair(net, likelihood), (x, y), epochs=1, progress=False, **options)


def by_compiled_fit(net, likelihood, x, y):
    return by_fit(net, likelihood, x, y, engine="compiled", batch_size=N)


def by_seeds(net, likelihood, x, y):
    return pyro_vd.fit_seeds(lambda: pair(net, likelihood), (x, y), seeds=[0], epochs=1, progress=False)


def by_svi(net, likelihood, x, y):
    svi = pyro.infer.SVI(*pair(net, likelihood), pyro.optim.Adam({"lr": 1e-3}), loss=pyro.infer.TraceMeanField_ELBO())
    return svi.step(x, y)


def by_elbo(net, likelihood, x, y):
    return AnalyticELBO()(*pair(net, likelihood))(x, y)


WAYS = {way.__name__: way for way in (by_fit, by_compiled_fit, by_seeds, by_svi, by_elbo)}
CASES = {
    "regression, (n,) for (n, 1)": (nn.Linear(3, 1), Gaussian(0.1), torch.randn(N), r"unsqueeze\(-1\).*squeeze\(-1\)"),
    "regression, (n, 1) for (n, 3)": (nn.Linear(3, 3), Gaussian(0.1), torch.randn(N, 1), "targets are not broadcast"),
    "binary, (n,) for (n, 1)": (nn.Linear(3, 1), Bernoulli, torch.ones(N), r"unsqueeze\(-1\)"),
    "labels, (n, 1) for (n,)": (nn.Linear(3, 2), Categorical, torch.ones(N, 1).long(), r"give y.squeeze\(-1\)"),
    "one-hot labels": (nn.Linear(3, 2), Categorical, torch.eye(2)[torch.arange(N) % 2], r"labels, y.argmax\(-1\)"),
    "one-hot, as many classes as examples": (nn.Linear(3, N), Categorical, torch.eye(N), r"labels, y.argmax\(-1\)"),
    "squeezed output, (n, 1) targets": (Last(), Gaussian(0.1), torch.randn(N, 1), r"give y.squeeze\(-1\)"),
    "a likelihood of one's own": (
        nn.Linear(3, 1), lambda mean: dist.StudentT(4.0, mean, 1.0), torch.randn(N), r"unsqueeze\(-1\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_targets_of_another_shape_are_refused_with_the_repair(case, way):
    net, likelihood, y, repair = CASES[case]
    with pytest.raises(UserError, match=rf"\({', '.join(map(str, y.shape))},?\).*{repair}"):
        WAYS[way](net, likelihood, torch.randn(N, 3), y)


SEQUENCE = nn.Sequential(nn.Linear(3, 4))  # (n, 5, 3) -> (n, 5, 4)


@pytest.mark.parametrize("y", [torch.zeros(N), torch.zeros(N, 1)], ids=["(n,)", "(n, 1)"])
def test_sequences_of_logits_need_sequences_of_labels(y):
    with pytest.raises(UserError, match=r"targets of shape \(12, 5\)"):
        by_fit(SEQUENCE, Categorical, torch.randn(N, 5, 3), y.long())
    by_fit(SEQUENCE, Categorical, torch.randn(N, 5, 3), torch.zeros(N, 5).long())


def test_logits_of_images_have_their_classes_last():
    x, y = torch.randn(N, 1, 5, 6), torch.zeros(N, 5, 6).long()
    with pytest.raises(UserError, match=r"counts classes; end the network's forward with \.movedim\(1, -1\)"):
        by_fit(nn.Conv2d(1, 4, 1), Categorical, x, y)
    moved = lambda logits: Categorical(logits.movedim(1, -1))  # noqa: E731
    by_fit(nn.Conv2d(1, 4, 1), moved, x, y)


def test_logits_that_do_not_say_which_axis_counts_classes_are_refused():
    """As many classes as rows and columns: the shapes agree either way, and one of the two is garbage."""
    x, y = torch.randn(N, 1, 4, 4), torch.zeros(N, 4, 4).long()
    with pytest.raises(UserError, match="do not say which axis counts classes"):
        by_fit(nn.Conv2d(1, 4, 1), Categorical, x, y)
    said = lambda logits: dist.Categorical(logits=logits.movedim(1, -1)).to_event(2)  # noqa: E731
    by_fit(nn.Conv2d(1, 4, 1), said, x, y)


def test_regression_of_the_repaired_network_learns():
    """RMSE 8.5 where 1.97 is right, once, without a squeeze."""
    torch.manual_seed(0)
    x = torch.randn(200, 3)
    y = x @ torch.tensor([1.0, -2.0, 3.0])
    model, guide = pair(Last(), Gaussian(0.1), n=200)
    posterior = pyro_vd.fit(model, guide, (x, y), epochs=60, lr=0.05, seed=0, progress=False)
    assert (posterior.mean()(x) - y).square().mean().sqrt() < 0.1
    repaired = pyro_vd.fit(
        *pair(nn.Linear(3, 1), Gaussian(0.1), n=200), (x, y[:, None]), epochs=60, lr=0.05, seed=0, progress=False
    )
    assert (repaired.mean()(x)[:, 0] - y).square().mean().sqrt() < 0.1


LABELS = torch.arange(N) % 3
VALUES = {
    "from 1": (Categorical, LABELS + 1, r"y\[2\] is 3.*from 0 to 2; these start at 1, give y - 1"),
    "out of range": (Categorical, LABELS + 5 * (LABELS == 2), r"y\[2\] is 7.*the network has 3 outputs"),
    "negative": (Categorical, LABELS - 100 * (LABELS == 0), r"y\[0\] is -100.*leave out the examples without a label"),
    "fractions": (Categorical, LABELS + 0.5, r"y\[0\] is 0.5.*whole numbers"),
    "bytes": (Bernoulli, 255 * (torch.arange(N * 3) % 2).reshape(N, 3), "give y / 255"),
    "signs": (Bernoulli, 2.0 * (torch.arange(N * 3) % 2).reshape(N, 3) - 1, r"give \(y \+ 1\) / 2"),
    "NaN": (Gaussian(0.1), torch.zeros(N, 3).index_fill(0, torch.tensor([4]), torch.nan), r"y\[4, 0\] is nan"),
    "infinite": (Gaussian(0.1), torch.zeros(N, 3).index_fill(0, torch.tensor([4]), torch.inf), r"y\[4, 0\] is inf"),
    "counts": (lambda rate: dist.Poisson(rate.exp()), -torch.ones(N, 3), r"y\[0, 0\] is -1, which Poisson cannot give"),
}


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("case", VALUES)
def test_values_that_the_likelihood_cannot_give_are_named_before_the_first_step(case, engine):
    likelihood, y, message = VALUES[case]
    model, guide = pair(nn.Linear(3, 3), likelihood)
    before = guide.theta["weight"].detach().clone()
    with pytest.raises(UserError, match=message):
        pyro_vd.fit(model, guide, (torch.randn(N, 3), y), epochs=1, batch_size=N, engine=engine, progress=False)
    assert torch.equal(guide.theta["weight"], before)


def test_a_value_in_a_later_batch_is_found_before_the_first_step():
    y = LABELS.clone()
    y[-1] = 3
    with pytest.raises(UserError, match=r"y\[11\] is 3"):
        by_fit(nn.Linear(3, 3), Categorical, torch.randn(N, 3), y, batch_size=4)


def test_a_loaders_later_batches_are_looked_at_too():
    y = LABELS.clone()
    y[-1] = 3
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(N, 3), y), batch_size=4)
    with pytest.raises(UserError, match=r"y\[3\] is 3"):
        pyro_vd.fit(*pair(nn.Linear(3, 3), Categorical), loader, epochs=1, progress=False)


def test_what_users_expect_to_be_converted_is():
    """Whole labels in a floating-point dtype, whole or Boolean targets of Bernoulli."""
    x, net = torch.randn(N, 3), nn.Linear(3, 3)
    binary = (torch.arange(3 * N) % 2).reshape(N, 3)
    for likelihood, targets in (
        (Categorical, (LABELS, LABELS.float())),
        (Bernoulli, (binary.float(), binary, binary > 0)),
    ):
        found = {by_fit(net, likelihood, x, y, seed=0).history[0]["log_likelihood"] for y in targets}
        assert len(found) == 1


def test_a_support_that_differs_from_example_to_example_is_compared_example_by_example():
    target = dist.Uniform(torch.zeros(3), torch.tensor([1.0, 2.0, 3.0]))
    check_target_values(target, torch.tensor([0.5, 1.5, 2.5]))
    with pytest.raises(UserError, match=r"y\[0\] is 1.5, which Uniform cannot give for that example$"):
        check_target_values(target, torch.tensor([1.5, 1.5, 2.5]))


class Trials(nn.Module):
    """Logits beside the number of trials, which each example has its own of."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1, 1)

    def forward(self, x):
        return torch.stack([self.fc(x[:, :1])[:, 0], x[:, 1]], dim=1)


def binomial(output):
    return dist.Binomial(output[:, 1], logits=output[:, 0])


@pytest.mark.parametrize("source", ["tensors", "loader", "Dataset"])
def test_each_example_meets_the_support_of_its_own_distribution(source):
    """Batches are shuffled, and the first examples are others than those of the first batch."""
    trials = torch.arange(1.0, N + 1)
    x, y = torch.stack([torch.randn(N), trials], dim=1), trials.clone()
    dataset = torch.utils.data.TensorDataset(x, y)
    data = {"tensors": (x, y), "loader": torch.utils.data.DataLoader(dataset, 5), "Dataset": Pairs(dataset)}[source]
    pyro_vd.fit(*pair(Trials(), binomial), data, epochs=2, batch_size=5, progress=False)


class Pairs(torch.utils.data.Dataset):
    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index]


def test_a_datasets_later_items_are_looked_at_too():
    y = LABELS.clone()
    y[-1] = 3
    data = Pairs(torch.utils.data.TensorDataset(torch.randn(N, 3), y))
    with pytest.raises(UserError, match=r"is 3, which Categorical"):
        pyro_vd.fit(*pair(nn.Linear(3, 3), Categorical), data, epochs=1, batch_size=4, progress=False)


class Unsupported(dist.TorchDistribution):
    """A distribution of the user's that says nothing of its support."""

    arg_constraints = {}

    def __init__(self, mean):
        self.mean_ = mean
        super().__init__(mean.shape, validate_args=False)

    def log_prob(self, value):
        return -(value - self.mean_).square()


def test_a_distribution_without_a_support_is_trained():
    by_fit(nn.Linear(3, 1), lambda mean: Unsupported(mean), torch.randn(N, 3), torch.randn(N, 1))


def test_a_likelihood_that_is_told_not_to_validate_takes_soft_targets():
    x, y = torch.randn(N, 3), torch.rand(N, 3)
    with pytest.raises(UserError, match=r"for soft targets give .*validate_args=False"):
        by_fit(nn.Linear(3, 3), Bernoulli, x, y)
    by_fit(nn.Linear(3, 3), lambda logits: dist.Bernoulli(logits=logits, validate_args=False), x, y)


def test_targets_of_whole_vectors_are_checked_as_vectors():
    target = dist.MultivariateNormal(torch.zeros(2, 3), torch.eye(3))
    check_target_values(target, torch.zeros(2, 3))
    with pytest.raises(UserError, match=r"y\[1\] is a vector of shape \(3,\)"):
        check_target_values(target, torch.tensor([[0.0] * 3, [0.0, torch.nan, 0.0]]))


# --- labels that mean that there is none


@pytest.mark.parametrize("ignored", [-100, 0, 2, 7])
def test_an_ignored_label_adds_what_cross_entropy_says(ignored):
    """The value and the gradient, also if the ignored label is one of the classes."""
    logits = torch.randn(4, 6, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(3, (4, 6)).masked_fill(torch.rand(4, 6) < 0.4, ignored)
    labels[0], labels[1] = ignored, 1
    found = Categorical(logits, ignore_index=ignored).log_prob(labels)
    expected = -nn.functional.cross_entropy(logits.movedim(-1, 1), labels, ignore_index=ignored, reduction="none")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), logits)[0], torch.autograd.grad(expected.sum(), logits)[0]
    )


def test_an_ignored_label_is_in_the_support_and_never_drawn():
    target = Categorical(torch.zeros(500, 3), ignore_index=-100)
    assert target.support.check(torch.tensor([-100, 0, 2])).all()
    assert not target.support.check(torch.tensor([-1, 3, -99])).any()
    assert set(target.sample().tolist()) == {0, 1, 2}
    event = target.expand((2, 500)).to_event(2)
    assert event.log_prob(torch.full((2, 500), -100)).item() == 0.0
    check_target_values(event, torch.tensor([-100, 1]).repeat(2, 250))
    with pytest.raises(UserError, match=r"which .* cannot give: labels are whole numbers from 0 to 2"):
        check_target_values(event, torch.full((2, 500), 3))


def test_without_an_ignored_label_it_is_pyros():
    assert type(Categorical(torch.zeros(2, 3))) is dist.Categorical
