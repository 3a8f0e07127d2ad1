"""fit_seeds: many pairs in one step are what they would have been alone, and each keeps to itself."""

import copy
import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pyro_vd import LogUniform, NonFiniteError, checkpoint, fit, fit_seeds, guides, lift, optim
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.inference.batches import make_batches
from pyro_vd.inference.engine import EagerStep, Engine, Ensemble, Objective, StepOutput
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp
from pyro_vd.model.likelihoods import Categorical
from pyro_vd.model.pair import pair_state
from tests._asserts import close, same, untimed, values
from tests._pairs import BATCH, CLASSES, FEATURES, N, examples, interrupt_at, network, normalized

SEEDS = [3, 0, 11]
OPTIONS = {"epochs": 2, "batch_size": BATCH, "lr": 0.01, "progress": False}
SCHEDULES = {"lr_schedule": HoldThenDecay(1, 4), "kl_schedule": WarmUp(0, 3)}


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (1, FEATURES)), nn.Conv1d(1, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(4, 3)
    )


def partly_frozen():
    """Another frozen bias for every seed."""
    net = network()
    net[0].bias.requires_grad_(False)
    return net


def maker(net=network, scheme="sparse", prior=None, likelihood=Categorical, **options):
    chosen = guides.SCHEMES[scheme]

    def make():
        model = lift(net(), prior or chosen.prior, likelihood, num_data=N)
        return model, chosen.Guide(model, **options)

    return make


def eager_step(seed, **options):
    torch.manual_seed(seed)
    objective = Objective(*maker(**options)()).train()
    return EagerStep(objective, 0.01)


# --- each is what it would have been alone


def alone(make, seed, **arguments):
    torch.manual_seed(seed)
    return fit(*make(), examples(), seed=seed, **{**OPTIONS, **SCHEDULES, "engine": "eager", **arguments})


def test_one_seed_is_a_fit():
    (posterior,) = fit_seeds(maker(), examples(), seeds=[5], engine="eager", **OPTIONS, **SCHEDULES)
    expected = alone(maker(), 5)
    assert same(values(posterior), values(expected))
    assert untimed(posterior.history) == untimed(expected.history)


def test_every_seed_has_an_order_of_its_own_which_it_has_alone():
    x, y = examples()

    def seen(*seeds):
        batches = make_batches((x, y), BATCH, seeds, x)
        return torch.cat([batches.gather(*index)[0] for index in batches.epoch(1, skip=0)], dim=-2)

    together = seen(*SEEDS)
    for i, seed in enumerate(SEEDS):
        assert torch.equal(together[i].sort(dim=0).values, x.sort(dim=0).values)
        assert torch.equal(together[i], seen(seed))
        assert not any(torch.equal(together[i], together[j]) for j in range(i))


# Mutants: one seed's initialization for all, the first seed's frozen parameters or running averages
# for all, moments that are shared, a last batch that steps the first seed only, rates of the first seed only.
@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("net", [network, normalized, convolutional, partly_frozen])
def test_without_noise_every_seed_ends_where_it_ends_alone(net, engine, quick_compiler):
    make = maker(net, scheme="none")
    posteriors = fit_seeds(make, examples(), seeds=SEEDS, engine=engine, **OPTIONS, **SCHEDULES)
    assert len(quick_compiler) == (engine == "compiled")
    for seed, posterior in zip(SEEDS, posteriors, strict=True):
        expected = alone(make, seed)
        assert posterior.engine == engine
        assert close(values(posterior), values(expected))
        for row, other in zip(posterior.history, expected.history, strict=True):
            assert row["log_likelihood"] == pytest.approx(other["log_likelihood"], rel=1e-4)
            assert (row["kl"], row["lr"], row["beta"]) == (other["kl"], other["lr"], other["beta"])


# Mutants: a norm over all seeds, decay of biases.
@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize(
    "optimizer",
    [
        optim.AdamW(weight_decay=0.5), optim.SGD(momentum=0.9, nesterov=True, weight_decay=0.01), optim.SGD(),
        optim.DessiLBI(kappa=0.5, nu=0.3), optim.DessiLBIAdam(kappa=0.1, nu=0.3),
    ],
)  # fmt: skip
def test_with_any_optimizer_and_clipping_every_seed_ends_where_it_ends_alone(optimizer, engine, quick_compiler):
    arguments = {"optimizer": optimizer, "clip_norm": 0.3, "lr": 0.05}
    make = maker(scheme="none")
    posteriors = fit_seeds(make, examples(), seeds=SEEDS, engine=engine, **{**OPTIONS, **SCHEDULES, **arguments})
    for seed, posterior in zip(SEEDS, posteriors, strict=True):
        assert posterior.engine == engine
        assert close(values(posterior), values(alone(make, seed, **arguments)))


@pytest.mark.parametrize("scheme", ["sparse", "variational_a"])
def test_noise_is_every_seeds_own_and_of_the_right_distribution(scheme, quick_compiler):
    """Equal pairs on equal batches: the spread of their log likelihoods is that of one pair's draws (two-sample
    Kolmogorov-Smirnov). Kills noise that the seeds share."""
    copies = 200
    options = {"scheme": scheme, "init": -1.0}
    x, y = (part[:BATCH] for part in examples())
    engine = Engine(Ensemble([eager_step(0, **options) for _ in range(copies)]), "compiled")
    torch.manual_seed(1)
    together, _ = engine.step((x.expand(copies, *x.shape), y.expand(copies, *y.shape)), torch.ones(()))
    one = eager_step(0, **options)
    with torch.no_grad():
        draws = torch.stack([one.objective(x, y, torch.ones(()))[1] for _ in range(copies)])
    assert len(together.unique()) == copies
    assert stats.ks_2samp(together.numpy(), draws.numpy()).pvalue > 0.01


def test_masks_and_bounds_hold_for_every_seed(quick_compiler):
    options = {"scheme": "variational_b", "init": -0.1}
    engine = Engine(Ensemble([eager_step(seed, **options) for seed in SEEDS]), "compiled")
    x, y = (torch.stack(3 * [part[:BATCH]]) for part in examples())
    for _ in range(30):
        engine.step((x, y), torch.zeros(()))
    for each in engine.pair.members:
        rates = torch.cat([rate.flatten() for _, rate in each.objective.guide.noise_param.named_parameters()])
        assert rates.max() <= 0.0
    engine.set_threshold(-100.0)  # no mean is left: the logits are noise of a small network
    masked, _ = engine.step((x, y), torch.zeros(()))
    engine.set_threshold(math.inf)
    assert (engine.step((x, y), torch.zeros(()))[0] - masked > 1.0).all()


# --- each keeps to itself


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_seed_that_is_not_finite_stops_alone(engine, quick_compiler):
    stepping = Engine(Ensemble([eager_step(seed) for seed in SEEDS]), engine)
    x, y = (torch.stack(3 * [part[:BATCH]]) for part in examples())
    assert stepping.step((x, y), torch.ones(())).is_finite.all()
    before = [{**each.objective.state_dict()} for each in stepping.pair.members]
    before = [{name: value.clone() for name, value in state.items()} for state in before]
    x[1, 4, 2] = math.nan
    output = stepping.step((x, y), torch.ones(()))
    assert output.is_finite.all(1).tolist() == [True, False, True]
    unchanged = [
        same(state, dict(each.objective.state_dict()))
        for state, each in zip(before, stepping.pair.members, strict=True)
    ]
    assert unchanged == [False, True, False]


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_fit_names_the_seed_that_is_not_finite(engine, quick_compiler, monkeypatch):
    step, calls = Engine.step, []

    def poisoned(self, index, beta):
        calls.append(1)
        log_likelihood, is_finite = step(self, index, beta)
        if len(calls) == 6:
            is_finite = is_finite.clone()
            is_finite[2, 1] = False
        return StepOutput(log_likelihood, is_finite)

    monkeypatch.setattr(Engine, "step", poisoned)
    with pytest.raises(NonFiniteError, match=r"gradient of .* of seed 11 at epoch 1, step 1") as raised:
        fit_seeds(maker(), examples(), seeds=SEEDS, engine=engine, **OPTIONS)
    assert [row["epoch"] for row in raised.value.history] == [0]


@pytest.mark.parametrize("net", [network, normalized])
def test_afterwards_no_posterior_holds_anothers_memory(net, quick_compiler):
    """A row of a stack would: its copy, or its file, would be all rows'."""
    how = {**OPTIONS, "optimizer": optim.DessiLBI()}  # whose state the posteriors keep
    posteriors = fit_seeds(maker(net), examples(), seeds=SEEDS, engine="compiled", **how)
    tensors = [tensor for posterior in posteriors for _, tensor in pair_state(posterior.model, posterior.guide)]
    states = [state for posterior in posteriors for state in posterior.optimizer.state.values()]
    assert all(states)
    tensors += [tensor for state in states for tensor in state.values()]
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors)
    assert same(values(copy.deepcopy(posteriors[1])), values(posteriors[1]))


def test_every_epoch_is_looked_at_for_every_seed():
    seen = []

    def look(epoch, posterior):
        seen.append((epoch, posterior))
        return {"number": float(len(seen))}

    posteriors = fit_seeds(maker(), examples(), seeds=SEEDS, engine="eager", on_epoch=look, **OPTIONS)
    assert [epoch for epoch, _ in seen] == 3 * [0] + 3 * [1]
    assert [posterior for _, posterior in seen] == 2 * posteriors
    assert [[row["number"] for row in posterior.history] for posterior in posteriors] == [[1, 4], [2, 5], [3, 6]]
    assert not any(posterior.model.training for posterior in posteriors)


# --- interruption and resumption


@pytest.mark.parametrize(("engine", "k"), [("eager", 2), ("eager", 4), ("compiled", 7)])
def test_an_interruption_changes_nothing(k, engine, tmp_path, quick_compiler, monkeypatch):
    arguments = {**OPTIONS, **SCHEDULES, "engine": engine}
    whole = fit_seeds(maker(normalized), examples(), seeds=SEEDS, **arguments)
    with monkeypatch.context() as patch:
        interrupt_at(patch, k)
        with pytest.raises(KeyboardInterrupt, match="go on"):
            fit_seeds(maker(normalized), examples(), seeds=SEEDS, checkpoint=tmp_path / "run", **arguments)
    resumed = fit_seeds(maker(normalized), examples(), seeds=SEEDS, checkpoint=tmp_path / "run", **arguments)
    for one, two in zip(whole, resumed, strict=True):
        assert same(values(one), values(two))
        assert untimed(one.history) == untimed(two.history)


def test_a_checkpoint_of_other_seeds_is_refused(tmp_path):
    fit_seeds(maker(), examples(), seeds=SEEDS, checkpoint=tmp_path / "run", engine="eager", **OPTIONS)
    before = checkpoint.load(tmp_path / "run")[1]
    with pytest.raises(CheckpointError, match=r"seeds was \[3, 0, 11\], is \[3, 0\]"):
        fit_seeds(maker(), examples(), seeds=SEEDS[:2], checkpoint=tmp_path / "run", engine="eager", **OPTIONS)
    with pytest.raises(CheckpointError, match="seed was None, is 3"):
        fit_seeds(maker(), examples(), seeds=SEEDS[:1], checkpoint=tmp_path / "run", engine="eager", **OPTIONS)
    assert checkpoint.load(tmp_path / "run")[1] == before


# --- what is refused at once


def test_seeds_that_share_their_low_bits_have_orders_of_their_own():
    """torch's generator looks at 32 bits of its seed only."""
    orders = [make_batches(examples(), BATCH, [seed], torch.zeros(())).order(0, 0) for seed in (0, 4096, 2**44, -1)]
    assert len({tuple(order.tolist()) for order in orders}) == len(orders)


@pytest.mark.parametrize("seeds", [np.arange(2), torch.arange(2), range(2), {0, 1}])
def test_seeds_are_whole_numbers_in_any_container(seeds):
    assert len(fit_seeds(maker(), examples(), seeds=seeds, engine="eager", **OPTIONS)) == 2


@pytest.mark.parametrize("seeds", [3, [0.5, 1.0], ["0"], None])
def test_other_seeds_are_refused(seeds):
    with pytest.raises(UserError, match="a list of whole numbers"):
        fit_seeds(maker(), examples(), seeds=seeds, **OPTIONS)


def test_a_seed_that_pytorch_does_not_take_is_refused():
    with pytest.raises(UserError, match=f"fit_seeds: seed={2**64} must be from"):
        fit_seeds(maker(), examples(), seeds=[0, 2**64], **OPTIONS)


def test_one_pair_for_every_seed_is_refused():
    pair = maker()()
    with pytest.raises(UserError, match="seed 0 shares tensors with another"):
        fit_seeds(lambda: pair, examples(), seeds=SEEDS, **OPTIONS)


class Features(nn.Module):
    """Random features that are no buffer: a graph holds them as a constant."""

    def __init__(self):
        super().__init__()
        self.features = torch.randn(FEATURES, 4)
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.fc(x @ self.features)


def any_dropout():
    return nn.Sequential(nn.Linear(FEATURES, 4), nn.Dropout(torch.rand(()).item()), nn.Linear(4, CLASSES))


@pytest.mark.parametrize("net", [Features, any_dropout])
def test_pairs_whose_layers_have_other_settings_are_refused(net):
    with pytest.raises(UserError, match="or a layer's settings"):
        fit_seeds(maker(net), examples(), seeds=SEEDS, **OPTIONS)


def test_pairs_of_other_numbers_of_examples_are_refused():
    counts = iter((N, N + 1))

    def make():
        model = lift(network(), LogUniform, Categorical, num_data=next(counts))
        return model, guides.sparse.Guide(model)

    with pytest.raises(UserError, match="prior, shapes, num_data or"):
        fit_seeds(make, examples(), seeds=[0, 1], **OPTIONS)


def test_pairs_of_other_likelihoods_are_refused():
    """A graph of all seeds would hold the first one's number."""
    temperatures = iter((1.0, 2.0))

    def make():
        temperature = next(temperatures)
        model = lift(network(), LogUniform, lambda logits: Categorical(logits / temperature), num_data=N)
        return model, guides.sparse.Guide(model)

    with pytest.raises(UserError, match="likelihood, scheme, prior, shapes, num_data or"):
        fit_seeds(make, examples(), seeds=[0, 1], **OPTIONS)


@pytest.mark.parametrize("seeds", [[], [1, 1], [0, 1, 0]])
def test_no_seed_or_one_twice_is_refused(seeds):
    with pytest.raises(UserError, match="each only once"):
        fit_seeds(maker(), examples(), seeds=seeds, **OPTIONS)


def test_a_loader_is_refused_for_several_seeds():
    loader = DataLoader(TensorDataset(*examples()), batch_size=10)
    with pytest.raises(UserError, match="DataLoader"):
        fit_seeds(maker(), loader, seeds=SEEDS, **OPTIONS)


@pytest.mark.parametrize(
    ("net", "prior"),
    [
        (network, lambda name, value: dist.Normal(value.detach().clone(), 1.0)),  # a prior around the initial weights
        (lambda: nn.Sequential(nn.Linear(FEATURES, int(torch.randint(4, 99, ()))), nn.ReLU(), nn.LazyLinear(3)), None),
    ],
)
def test_pairs_that_differ_in_more_than_values_are_refused(net, prior):
    """One seed's prior or shape would be everybody's."""

    def made():
        module = net()
        module(torch.zeros(1, FEATURES))
        return module

    with pytest.raises(UserError, match=r"seeds 3 and 0 .* prior, shapes"):
        fit_seeds(maker(made, prior=prior or LogUniform), examples(), seeds=SEEDS, **OPTIONS)
