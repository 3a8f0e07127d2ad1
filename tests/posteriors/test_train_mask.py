"""Train-time masking: a weight may be masked once it has started, and not before."""

import math

import pyro
import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

import pyro_vd
from pyro_vd import guides
from pyro_vd.data import datasets as data
from pyro_vd.elbo import AnalyticELBO
from pyro_vd.inference.engine import EagerStep, Engine, Ensemble, Objective
from pyro_vd.metrics import error_rate
from pyro_vd.posteriors.train_mask import mark_started, train_mask


def zeroed(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Residual(nn.Module):
    """A branch whose last layer starts at 0, so that the block starts as the identity."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.outer = nn.Linear(64, 32), nn.Linear(32, 32), zeroed(nn.Linear(32, 32))
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.stem(x.flatten(1)).relu()
        return self.head(x + self.outer(self.inner(x).relu()))


class LowRank(nn.Module):
    """A frozen layer with a low-rank update, B of which starts at 0 (LoRA)."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(64, 32), nn.Linear(32, 10)
        self.a, self.b = nn.Linear(64, 4, bias=False), nn.Linear(4, 32, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        x = x.flatten(1)
        return self.head((self.stem(x) + self.b(self.a(x))).relu())


ZEROS = {
    "head": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), zeroed(nn.Linear(32, 10))), "3.weight"),
    "residual branch": (Residual, "outer.weight"),
    "low-rank update": (LowRank, "b.weight"),
}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.mark.parametrize("network", ZEROS)
def test_a_weight_that_starts_at_0_is_trained_under_masking(network, digits):
    make, site = ZEROS[network]
    torch.manual_seed(0)
    model = pyro_vd.lift(make(), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=len(digits.train))
    posterior = pyro_vd.fit(
        model, guides.sparse.Guide(model), digits.train, epochs=12, batch_size=50, lr=2e-3, threshold=3.0, seed=0,
        kl_schedule=lambda epoch: epoch / 100, progress=False,
    )  # fmt: skip
    pruned = posterior.mean(posterior.masks(3.0))
    assert pruned.get_parameter(site).count_nonzero() > 0
    assert error_rate(pruned(digits.test.images), digits.test.labels) < 0.08


class Vision(nn.Module):
    """torchvision's transformer as it is built: its head is 0."""

    def __init__(self):
        super().__init__()
        self.vit = VisionTransformer(
            image_size=8, patch_size=4, num_layers=1, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=10
        )

    def forward(self, x):
        return self.vit(x.expand(-1, 3, -1, -1))


@pytest.mark.slow
def test_a_vision_transformer_is_trained_under_masking(digits):
    torch.manual_seed(0)
    model = pyro_vd.lift(Vision(), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=len(digits.train))
    posterior = pyro_vd.fit(
        model, guides.sparse.Guide(model), digits.train, epochs=15, batch_size=50, lr=3e-3, threshold=3.0, seed=0,
        kl_schedule=lambda epoch: epoch / 300, progress=False,
    )  # fmt: skip
    assert error_rate(posterior.mean(posterior.masks(3.0))(digits.test.images), digits.test.labels) < 0.08


def test_weights_of_stock_svi_start_too(digits):
    """The handler keeps the state where no fit does."""
    torch.manual_seed(0)
    net = ZEROS["head"][0]()
    model = pyro_vd.lift(net, pyro_vd.LogUniform, pyro_vd.Categorical, num_data=len(digits.train))
    guide = guides.sparse.Guide(model)
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 2e-3}), loss=AnalyticELBO())
    with pyro_vd.local_reparam(threshold=3.0), pyro_vd.kl_weight(0.01):
        for _ in range(5):
            svi.step(*digits.train.batch(torch.arange(200)))
    assert guide.started["3.weight"].float().mean() > 0.9


def gaussian(theta, log_sigma2):
    return pyro_vd.WeightNormal(torch.tensor(theta), log_sigma2=torch.tensor(log_sigma2))


def test_a_weight_is_masked_from_when_it_has_been_below_the_threshold():
    started = torch.zeros(3, dtype=torch.bool)
    alive, small, zero = 1.0, 1e-3, 0.0
    q = gaussian([alive, small, zero], [-8.0, -8.0, -8.0])
    assert train_mask(q, 3.0).tolist() == [True, False, False]
    mark_started(q, 3.0, started)
    assert started.tolist() == [True, False, False]
    assert train_mask(q, 3.0, started).tolist() == [True, True, True]
    fallen = gaussian([small, alive, zero], [-8.0, -8.0, -8.0])
    assert train_mask(fallen, 3.0, started).tolist() == [False, True, True]


def test_an_infinite_threshold_starts_nothing():
    """Masking that begins later finds the weights that are still 0 free."""
    started = torch.zeros(2, dtype=torch.bool)
    mark_started(gaussian([1.0, 0.0], [-8.0, -8.0]), math.inf, started)
    assert not started.any()


def test_the_state_is_the_guides_and_comes_back_with_it(tmp_path, digits):
    torch.manual_seed(0)
    model = pyro_vd.lift(Residual(), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=len(digits.train))
    arguments = {"epochs": 2, "threshold": 3.0, "seed": 0, "progress": False}
    posterior = pyro_vd.fit(model, guides.sparse.Guide(model), digits.train, **arguments)
    posterior.save(tmp_path / "posterior")
    other = pyro_vd.lift(Residual(), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=len(digits.train))
    loaded = pyro_vd.Posterior(other, guides.sparse.Guide(other)).load(tmp_path / "posterior")
    for site in posterior.guide.started:
        assert torch.equal(loaded.guide.started[site], posterior.guide.started[site])
    assert any(bool(posterior.guide.started[site].any()) for site in posterior.guide.started)


def test_each_pair_that_is_stepped_together_has_a_state_of_its_own(quick_compiler):
    """Mutant: the first pair's state as a constant of the graph of all."""
    pairs = []
    for start in (True, False):
        torch.manual_seed(0)
        model = pyro_vd.lift(zeroed(nn.Linear(3, 2)), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=4)
        guide = guides.sparse.Guide(model)
        guide.started["weight"].fill_(start)
        objective = Objective(model, guide, threshold=3.0)
        pairs.append(EagerStep(objective, 1e-2))
    engine = Engine(Ensemble(pairs), "compiled")
    x, y = torch.randn(4, 3).expand(2, -1, -1).contiguous(), torch.tensor([0, 1, 0, 1]).expand(2, -1).contiguous()
    engine.step((x, y), torch.tensor(0.0))
    moved = [pair.objective.guide.theta["weight"].abs().max().item() for pair in pairs]
    assert moved[0] == 0.0
    assert moved[1] > 1e-3
