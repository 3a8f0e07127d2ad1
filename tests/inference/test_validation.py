"""Validation: the score, the best epoch, patience, held-out shares, and all of it in a run that resumes."""

import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import pyro_vd
from pyro_vd import Gaussian, NonFiniteError, Poisson, Posterior, fit_seeds
from pyro_vd.data import LabeledImages
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.inference.engine import Engine
from pyro_vd.inference.schedules import Constant, HoldThenDecay, WarmUp
from pyro_vd.inference.validation import SCORE, Validation
from tests._asserts import same, untimed, values
from tests._pairs import BATCH, STEPS, N, examples, fresh, interrupt_at, pair

HELD = tuple(part[:20] for part in examples(70))  # of other random numbers than the training set
ENGINES = ("eager", "compiled")


def scripted(monkeypatch, *scores):
    """The epochs' scores, whatever the examples are."""
    monkeypatch.setattr(Validation, "score", lambda self, posterior: scores[len(posterior.history)])


def scores(posterior):
    return [row[SCORE] for row in posterior.history]


@pytest.mark.parametrize("scheme", ["none", "sparse", "bernoulli", "hierarchical", "l0"])
def test_the_score_is_the_mean_log_likelihood_at_the_posterior_mean(scheme):
    expected = []

    def measure(epoch, posterior):
        net, (x, y) = posterior.mean(), HELD
        expected.append(-torch.nn.functional.cross_entropy(net(x), y).item())

    posterior = fresh(scheme=scheme, validation=HELD, on_epoch=measure, epochs=3)
    assert scores(posterior) == pytest.approx(expected, rel=1e-6)


def test_a_score_of_real_targets_sums_over_their_axes():
    x, y = torch.randn(5, 5), torch.randn(5, 3)
    posterior = fresh((torch.randn(N, 5), torch.randn(N, 3)), likelihood=Gaussian(0.5), validation=(x, y), epochs=1)
    density = torch.distributions.Normal(posterior.mean()(x), 0.5).log_prob(y).sum(-1).mean()
    assert scores(posterior) == pytest.approx([density.item()], rel=1e-5)


@pytest.mark.parametrize("make", [
    lambda x, y: LabeledImages(x, y),
    lambda x, y: (x.numpy(), y.numpy()),
    lambda x, y: TensorDataset(x, y),
    lambda x, y: torch.utils.data.Subset(TensorDataset(x, y), range(20)),
    lambda x, y: DataLoader(TensorDataset(x, y), batch_size=7),
    lambda x, y: DataLoader(TensorDataset(x, y), batch_size=7, shuffle=True),
])  # fmt: skip
def test_every_kind_of_data_has_the_same_score(make):
    expected = fresh(validation=HELD)
    found = fresh(validation=make(*HELD))
    assert scores(found) == pytest.approx(scores(expected), rel=1e-5)
    assert same(values(found), values(expected))


@pytest.mark.parametrize("engine", ENGINES)
def test_validation_does_not_change_the_training(engine):
    torch.manual_seed(1)
    without = fresh(engine=engine, scheme="bernoulli", seed=0)
    loader = DataLoader(TensorDataset(*HELD), batch_size=7, shuffle=True)
    for validation in (HELD, loader) if engine == "eager" else (loader,):
        found = fresh(engine=engine, scheme="bernoulli", seed=0, validation=validation, best=False)
        assert same(values(without), values(found))
        rows = [{name: value for name, value in row.items() if name != SCORE} for row in untimed(found.history)]
        assert rows == untimed(without.history)


@pytest.mark.parametrize(("engine", "best"), [("eager", True), ("eager", False), ("compiled", True)])
def test_fit_returns_the_best_epoch_or_the_last_one(engine, best, monkeypatch):
    scripted(monkeypatch, -3.0, -1.0, -2.0, -1.0)
    seen = []
    on_epoch = lambda epoch, posterior: seen.append({name: v.clone() for name, v in values(posterior).items()})  # noqa: E731
    posterior = fresh(engine=engine, validation=HELD, best=best, epochs=4, on_epoch=on_epoch)
    assert posterior.best_epoch == 1  # the first of equals
    assert same(values(posterior), seen[1 if best else 3])
    assert len(posterior.history) == 4


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_training_ends_when_patience_is_over(patience, monkeypatch):
    scripted(monkeypatch, -3.0, -1.0, -2.0, -0.5, -0.6, -0.7, -0.8, -0.9)
    posterior = fresh(validation=HELD, patience=patience, epochs=8)
    assert (len(posterior.history), posterior.best_epoch) == {1: (3, 1), 2: (6, 3), 3: (7, 3)}[patience]


@pytest.mark.parametrize("schedules", [
    {"kl_schedule": WarmUp(wait=1, ramp=2)},
    {"threshold": HoldThenDecay(1, 4), "kl_schedule": Constant()},
])  # fmt: skip
def test_epochs_of_a_warm_up_are_not_compared(schedules, monkeypatch):
    """Neither as the best one nor for patience."""
    scripted(monkeypatch, -0.1, -0.2, -0.3, -0.4, -0.9, -0.8, -0.85, -0.9)
    posterior = fresh(validation=HELD, patience=2, epochs=8, **schedules)
    first = 3 if "threshold" not in schedules else 4
    assert posterior.best_epoch == {3: 3, 4: 5}[first]
    assert len(posterior.history) == {3: 6, 4: 8}[first]


def test_a_schedule_that_is_a_function_is_refused_if_epochs_must_be_compared():
    plain = {"validation": HELD, "kl_schedule": lambda epoch: min(1.0, epoch / 2)}
    for how in ({}, {"patience": 2}, {"patience": 2, "best": False}):
        with pytest.raises(UserError, match="kl_schedule is a function, whose values are not known beforehand"):
            fresh(**plain, **how)
    assert len(scores(fresh(**plain, best=False))) == 2


def test_a_share_is_held_out_by_the_seed():
    x, y = examples(60)
    taken = []

    def keep(self, posterior):
        taken.append(self.examples.images)
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validation, "score", keep)
        for seed in (3, 3, 4):
            fresh((x, y), validation=1 / 6, seed=seed, epochs=1)
    assert torch.equal(taken[0], taken[1])
    assert not torch.equal(taken[0], taken[2])
    assert len(taken[0]) == 10
    assert all(any(torch.equal(one, each) for each in x) for one in taken[0])


@pytest.mark.parametrize("make", [lambda x, y: (x, y), TensorDataset, LabeledImages,
                                  lambda x, y: torch.utils.data.Subset(TensorDataset(x, y), range(60))])  # fmt: skip
def test_a_run_with_a_share_is_one_with_the_two_parts(make):
    x, y = examples(60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(5))
    held, left = order[:10].sort().values, order[10:].sort().values
    expected = fresh((x[left], y[left]), validation=(x[held], y[held]), seed=5)
    found = fresh(make(x, y), validation=1 / 6, seed=5)
    assert same(values(found), values(expected))
    assert scores(found) == pytest.approx(scores(expected), rel=1e-6)


def test_held_out_images_are_not_augmented():
    images, labels = torch.randint(256, (30, 1, 4, 4), dtype=torch.uint8), torch.arange(30) % 10
    whole = AugmentedImages(images, labels, pad=1, cutout=1)
    model = pyro_vd.lift(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(images[0].numel(), 10)),
                         pyro_vd.LogUniform, pyro_vd.Categorical, num_data=20)  # fmt: skip
    kinds = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validation, "score", lambda self, posterior: kinds.append(type(self.examples)) or 0.0)
        pyro_vd.fit(model, pyro_vd.guides.sparse.Guide(model), whole, epochs=1, validation=1 / 3, progress=False)
    assert kinds == [LabeledImages]


@pytest.mark.parametrize("patience", [None, 2])
@pytest.mark.parametrize("k", [2, STEPS, 2 * STEPS + 1, 3 * STEPS])
def test_an_interrupted_run_returns_the_same_best_epoch(k, patience, tmp_path, monkeypatch):
    scripted(monkeypatch, -3.0, -1.0, -2.0, -2.5)
    how = {"validation": HELD, "epochs": 4, "patience": patience}
    whole = fresh(checkpoint=tmp_path / "whole", **how)
    with monkeypatch.context() as patch:
        interrupt_at(patch, k)
        with pytest.raises(KeyboardInterrupt):
            fresh(checkpoint=tmp_path / "run", **how)
    for _ in range(2):  # once to finish, and once more when nothing is left to do
        resumed = fresh(checkpoint=tmp_path / "run", **how)
        assert (resumed.best_epoch, len(resumed.history)) == (1, 4)
        assert same(values(resumed), values(whole))
    model, guide = pair()
    assert same(values(Posterior(model, guide).load(tmp_path / "run")), values(whole))


def test_load_reads_the_last_epoch_if_that_was_returned(tmp_path, monkeypatch):
    scripted(monkeypatch, -1.0, -2.0)
    last = fresh(checkpoint=tmp_path / "run", validation=HELD, best=False)
    assert same(values(Posterior(*pair()).load(tmp_path / "run")), values(last))


def test_a_run_that_ended_goes_on_with_more_patience_and_more_epochs(tmp_path, monkeypatch):
    scripted(monkeypatch, -3.0, -1.0, -2.0, -2.5, -0.5, -0.6)
    run = tmp_path / "run"
    assert len(fresh(checkpoint=run, validation=HELD, patience=1, epochs=5).history) == 3
    assert len(fresh(checkpoint=run, validation=HELD, patience=1, epochs=6).history) == 3
    further = fresh(checkpoint=run, validation=HELD, patience=3, epochs=6)
    assert (len(further.history), further.best_epoch) == (6, 4)
    whole = fresh(validation=HELD, patience=3, epochs=6)
    assert same(values(further), values(whole))


def test_a_checkpoint_of_another_validation_set_is_refused(tmp_path):
    fresh(checkpoint=tmp_path / "run", validation=HELD)
    fresh(checkpoint=tmp_path / "without")
    other = (HELD[0] + 1, HELD[1])
    for name, validation in (("run", other), ("run", None), ("without", HELD)):
        with pytest.raises(CheckpointError, match=r"made with other arguments .*validation was"):
            fresh(checkpoint=tmp_path / name, validation=validation, epochs=3)


def make():
    return pair(seed=torch.initial_seed())


@pytest.mark.parametrize("engine", ENGINES)
def test_every_seed_has_its_best_epoch(engine, tmp_path):
    seen = {}

    def keep(epoch, posterior):
        seen[posterior.seed, epoch] = {name: value.clone() for name, value in values(posterior).items()}

    wrong = HELD[0], (HELD[1] + 1) % 3  # whose score falls while the pair learns
    how = {"validation": wrong, "epochs": 3, "batch_size": BATCH, "lr": 0.01, "engine": engine, "progress": False}
    run = {"checkpoint": tmp_path / "run", "on_epoch": keep, **how}
    together = fit_seeds(make, examples(), seeds=[0, 1], **run)
    assert min(posterior.best_epoch for posterior in together) < 2  # else the last epoch would do
    for posterior in together:
        assert posterior.best_epoch == max(range(3), key=scores(posterior).__getitem__)
        assert same(values(posterior), seen[posterior.seed, posterior.best_epoch])
    again = fit_seeds(make, examples(), seeds=[0, 1], **run)
    assert all(same(values(one), values(other)) for one, other in zip(together, again, strict=True))


def test_seeds_end_when_none_has_patience_left(monkeypatch):
    lists = {0: (-1.0, -2.0, -2.0, -2.0, -2.0, -2.0), 1: (-3.0, -2.0, -1.0, -2.0, -2.0, -2.0)}
    monkeypatch.setattr(Validation, "score", lambda self, posterior: lists[posterior.seed][len(posterior.history)])
    found = fit_seeds(make, examples(), seeds=[0, 1], epochs=6, validation=HELD, patience=2, progress=False)
    assert [(len(posterior.history), posterior.best_epoch) for posterior in found] == [(5, 0), (5, 2)]


def test_a_score_that_is_not_finite_ends_the_training(monkeypatch):
    scripted(monkeypatch, -1.0, -math.inf)
    with pytest.raises(NonFiniteError, match="non-finite log-likelihood of the validation set at epoch 1") as caught:
        fresh(validation=HELD, epochs=3)
    assert len(caught.value.history) == 1


X, Y = HELD


@pytest.fixture
def no_step(monkeypatch):
    monkeypatch.setattr(Engine, "step", None)  # a call of it would be a TypeError


@pytest.mark.parametrize(("how", "message"), [
    ({"patience": 3}, "patience needs validation="),
    ({"patience": 0, "validation": HELD}, "patience=0 must be at least 1"),
    ({"patience": 1.5, "validation": HELD}, "patience"),
    ({"validation": 0.0}, "holds out 0 of 50 examples"),
    ({"validation": 1}, "holds out 50 of 50 examples"),
    ({"validation": 1.5}, "validation"),
    ({"validation": -0.1}, "validation"),
    ({"validation": float("nan")}, "validation"),
    ({"validation": 0.2}, "num_data=50; lift it with num_data=40"),
    ({"validation": (X, Y[:5])}, "20 inputs x but 5 targets y"),
    ({"validation": (X[:, :3], Y)}, "validation set does not fit the model"),
    ({"validation": (X * torch.nan, Y)}, "does not fit the model: .*; a value does not: look for NaN in the inputs$"),
    ({"validation": (X, Y + 3)}, r"validation set does not fit the model: y\[0\] is 3"),
    ({"validation": (X, Y[:, None])}, "validation set does not fit the model: the targets y have shape"),
    ({"validation": "test"}, "the validation set is a str"),
    ({"validation": np.float32(0.2)}, "num_data=50; lift it with num_data=40"),
    ({"validation": torch.tensor(0.2)}, "num_data=50; lift it with num_data=40"),
    ({"validation": (X[:0], Y[:0])}, "the validation set has no examples"),
    ({"validation": DataLoader(TensorDataset(X, Y), batch_size=21, drop_last=True)}, "has no examples"),
    ({"validation": DataLoader(TensorDataset(X, Y, Y), batch_size=20)}, "fit the model: a batch of the validation set"),
])  # fmt: skip
def test_what_cannot_be_validated_is_refused_before_the_first_step(how, message, no_step):
    with pytest.raises(UserError, match=message):
        fresh(**how)


def test_a_share_of_a_loader_is_refused():
    loader = DataLoader(TensorDataset(*examples()), batch_size=10)
    with pytest.raises(UserError, match="cannot divide a DataLoader"):
        fresh(loader, validation=0.2)


def test_targets_of_a_later_batch_are_checked(no_step):
    loader = DataLoader(TensorDataset(X, torch.cat([Y[:19], torch.tensor([9])])), batch_size=8)
    with pytest.raises(UserError, match=r"validation set does not fit the model: y\[3\] is 9"):
        fresh(validation=loader)


def test_a_run_resumes_though_both_loaders_share_a_generator(tmp_path):
    def run(epochs, name):
        generator, data = torch.Generator().manual_seed(0), TensorDataset(*examples())
        train, held = (DataLoader(data, batch_size=10, shuffle=True, generator=generator) for _ in range(2))
        return fresh(train, validation=held, best=False, epochs=epochs, checkpoint=tmp_path / name)

    run(2, "resumed")
    assert same(values(run(4, "resumed")), values(run(4, "whole")))


def test_counts_may_be_whole_numbers():
    data = torch.randn(N, 5), torch.randint(4, (N, 3))
    assert math.isfinite(scores(fresh(data, likelihood=Poisson, validation=(data[0][:9], data[1][:9])))[0])
