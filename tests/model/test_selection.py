"""Which weights are random: tied ones by any name, attention's projections, frozen ones only if they are named."""

import copy

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import pyro_vd
from pyro_vd import Categorical, LogUniform, guides, lift
from pyro_vd.errors import UserError

NORMAL = dist.Normal(0.0, 1.0)
N = 24


class Tied(nn.Module):
    """An embedding and an output layer with one matrix; the order of registration decides its first name."""

    def __init__(self, output_first):
        super().__init__()
        table, out = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.add_module("out" if output_first else "table", out if output_first else table)
        self.add_module("table" if output_first else "out", table if output_first else out)
        self.out.weight = self.table.weight

    def forward(self, x):
        return self.out(self.table(x).tanh())


def sites(model):
    return list(model.priors)


@pytest.mark.parametrize("output_first", [True, False])
def test_a_tied_matrix_is_random_whatever_is_registered_first(output_first):
    model = lift(Tied(output_first), NORMAL, Categorical, N)
    assert sites(model) == ["out.weight" if output_first else "table.weight"]
    assert {path for path, _ in model.places[sites(model)[0]]} == {"out", "table"}


@pytest.mark.parametrize("output_first", [True, False])
@pytest.mark.parametrize("name", ["out.weight", "table.weight"])
def test_a_tied_matrix_is_selected_by_any_of_its_names(output_first, name):
    net = Tied(output_first)
    by_name = lift(net, NORMAL, Categorical, N, select=[name])
    by_predicate = lift(net, NORMAL, Categorical, N, select=lambda site, _, __: site == name)
    by_owner = lift(net, NORMAL, Categorical, N, select=lambda _, module, __: isinstance(module, nn.Embedding))
    assert sites(by_name) == sites(by_predicate) == sites(by_owner)
    network = by_name.network({sites(by_name)[0]: torch.zeros(7, 4)})
    assert network.out.weight is network.table.weight


def test_a_module_under_two_names_is_one_place():
    shared = nn.Linear(3, 3)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    model = lift(net, NORMAL, Categorical, N)
    assert model.places == {"0.weight": (("0", "weight"),)}
    assert sites(lift(net, NORMAL, Categorical, N, select=["2.weight"])) == ["0.weight"]


def test_a_tied_weight_that_cannot_be_random_is_refused_by_the_owner_that_forbids_it():
    net = Tied(output_first=True)
    net.table.max_norm = 1.0
    with pytest.raises(ValueError, match=r"'table\.weight' cannot be random: max_norm"):
        lift(net, NORMAL, Categorical, N)


def test_all_of_attention_is_random_or_nothing():
    net = nn.MultiheadAttention(4, 2)
    assert sites(lift(net, NORMAL, Categorical, N)) == ["in_proj_weight", "out_proj.weight"]
    separate = nn.MultiheadAttention(4, 2, kdim=3, vdim=5)
    expected = ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]
    assert sites(lift(separate, NORMAL, Categorical, N)) == expected


def test_one_name_instead_of_a_list_is_said_to_be_one():
    with pytest.raises(ValueError, match=r"give a list of names, select=\['0\.weight'\]"):
        lift(nn.Sequential(nn.Linear(2, 2)), NORMAL, Categorical, N, select="0.weight")


def test_submodules_may_have_the_names_of_a_mappings_methods():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.items, self.keys, self.values = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.values(self.keys(self.items(x)))

    model = lift(Net(), LogUniform, Categorical, N)
    x, y = torch.randn(N, 3), torch.arange(N) % 2
    posterior = pyro_vd.fit(model, guides.sparse.Guide(model), (x, y), epochs=1, progress=False)
    assert list(posterior.masks(3.0)) == ["items.weight", "keys.weight", "values.weight"]


# --- frozen parts


class Fine(nn.Module):
    """A pretrained body, with averages and dropout, and a new head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5))
        self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.norm(self.body(x)))


def frozen():
    net = Fine()
    net.body.requires_grad_(False)
    return net


def train(net, select=None, **options):
    model = lift(net, LogUniform, Categorical, N, select=select)
    x, y = 5 + torch.randn(N, 3), torch.arange(N) % 2
    return pyro_vd.fit(model, guides.sparse.Guide(model), (x, y), epochs=2, batch_size=8, progress=False, **options)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_frozen_part_keeps_its_weights_its_averages_and_its_mode(engine, monkeypatch):
    net = frozen()
    before = copy.deepcopy(net.body.state_dict())
    modes = []
    forward = nn.Dropout.forward
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: (modes.append(self.training), forward(self, x))[1])
    posterior = train(net, engine=engine)
    assert sites(posterior.model) == ["head.weight"]
    after = posterior.mean().body.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert modes
    assert not any(modes)
    assert not torch.equal(
        posterior.mean().norm.running_mean, net.norm.running_mean
    )  # a part that is not frozen learns


def test_averages_of_a_frozen_part_are_not_estimated_anew():
    net = frozen()
    posterior = train(net)
    again = posterior.mean(inputs=5 + torch.randn(N, 3))
    assert torch.equal(again.body[1].running_mean, net.body[1].running_mean)
    assert not torch.equal(again.norm.running_mean, posterior.mean().norm.running_mean)


def test_a_part_in_eval_mode_within_a_network_in_training_mode_keeps_it():
    net = Fine()
    net.norm.eval()
    posterior = train(net)
    assert torch.equal(posterior.mean().norm.running_mean, net.norm.running_mean)
    assert not torch.equal(posterior.mean().body[1].running_mean, net.body[1].running_mean)


def test_a_network_in_eval_mode_as_a_whole_is_trained():
    """It comes from a prediction: posterior.mean() for one."""
    posterior = train(Fine().eval())
    assert posterior.mean().norm.running_mean.abs().max() > 0


def test_frozen_weights_are_random_if_they_are_named():
    posterior = train(frozen(), select=["body.0.weight", "head.weight"])
    assert sites(posterior.model) == ["body.0.weight", "head.weight"]
    assert posterior.guide.theta["body.0.weight"].requires_grad


def test_a_network_that_is_frozen_as_a_whole_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"2 weights are frozen, requires_grad=False, and do not change"):
        lift(Fine().requires_grad_(False), LogUniform, Categorical, N)


def test_modes_after_a_fit_are_those_of_evaluation():
    posterior = train(frozen())
    assert not any(module.training for module in posterior.model.modules())


# --- networks that cannot be copied


def weight_normed():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(net[0])
    return net


def pruned():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    prune.l1_unstructured(net[0], "weight", 0.5)
    return net


@pytest.mark.parametrize("make", [weight_normed, pruned])
def test_a_network_with_computed_weights_is_refused_by_name(make):
    net = make()
    net(torch.randn(1, 3))
    with pytest.raises(ValueError, match=r"holds '0\.weight', which is computed.*prune\.remove"):
        lift(net, NORMAL, Categorical, N, select=["1.weight"])


# --- predictions


def test_masks_of_another_model_are_refused():
    posterior = train(frozen())
    with pytest.raises(UserError, match=r"masks of another network: the mask of 'head\.weight'"):
        posterior.mean({"head.weight": torch.ones(3, 3, dtype=torch.bool)})
    with pytest.raises(UserError, match=r"no mask for 'head\.weight'; no weight 'fc\.weight'"):
        posterior.mean({"fc.weight": torch.ones(2, 6, dtype=torch.bool)})


@pytest.mark.parametrize(("n", "x"), [(0, torch.randn(2, 3)), (-1, torch.randn(2, 3)), (1, torch.randn(0, 3))])
def test_predictions_of_nothing_are_refused(n, x):
    posterior = train(frozen())
    for predict in (posterior.predict, posterior.predict_mean):
        with pytest.raises(UserError, match=f"num_samples={n} draws for {len(x)} inputs"):
            predict(x, n)


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_the_running_mean_is_the_mean_of_the_draws(batch_size):
    posterior = train(Fine())
    x = torch.randn(12, 3)
    softmax = lambda logits: logits.softmax(-1)  # noqa: E731
    torch.manual_seed(1)
    draws = posterior.predict(x, 7)
    torch.manual_seed(1)
    mean = posterior.predict_mean(x, 7, softmax, batch_size)
    torch.testing.assert_close(mean, draws.softmax(-1).mean(0))
    torch.manual_seed(1)
    torch.testing.assert_close(posterior.predict(x, 7, batch_size), draws)
