"""Training: a value that refuses what no fit can use, and what its fields do to a fit."""

import copy
import dataclasses
import math
import pickle
import re
import typing

import numpy as np
import pytest
import torch

from pyro_vd import Posterior, Training, fit, fit_seeds
from pyro_vd.errors import UserError
from pyro_vd.inference.schedules import Constant, WarmUp
from pyro_vd.inference.training import TrainingOptions
from tests._asserts import floating, same, values
from tests._pairs import N, examples, fresh, pair, train


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": -1}, {"batch_size": 0}, {"batch_size": -5}])
def test_counts_below_one_are_refused_by_name(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(UserError, match=f"{name}={value}"):
        fresh(**wrong)


@pytest.mark.parametrize("word", ["log_sigma", "sigma2", "nothing"])
def test_a_rate_for_a_parameter_that_is_not_there_is_refused(word):
    """A misspelt or partial word that is ignored would train something else, silently."""
    with pytest.raises(UserError, match=rf"\b{word}\b"):
        fresh(lr_scale={"theta": 1.0, word: 2.0})


def test_noise_that_does_not_exist_or_does_not_mask_is_refused():
    with pytest.raises(UserError, match="estimator='loud': estimator is one of local, flipout, weights"):
        fresh(epochs=1, estimator="loud")
    for estimator in ("flipout", "weights"):
        with pytest.raises(
            UserError, match=f"threshold masks the means of local_reparam; with estimator='{estimator}'"
        ):
            fresh(epochs=1, estimator=estimator, threshold=3.0)


@pytest.mark.parametrize("factor", [0.0, 0.1, 10.0])
def test_lr_scale_multiplies_the_rate_of_the_named_parameters(factor):
    """Adam's first step has the length of the rate, whatever the gradient."""
    model, guide = pair()
    before = values(Posterior(model, guide))
    after = values(train(model, guide, epochs=1, batch_size=N, lr=1e-3, lr_scale={"log_sigma2": factor}))
    for name, value in floating(before).items():
        moved = (after[name] - value).abs()
        rate = 1e-3 * (factor if "log_sigma2" in name else 1.0)
        assert moved.max().item() == pytest.approx(rate, rel=2e-2, abs=1e-7), name


def test_the_schedule_multiplies_every_group():
    model, guide = pair()
    before = values(Posterior(model, guide))
    after = values(
        train(model, guide, epochs=1, batch_size=N, lr=1e-3, lr_scale={"theta": 2.0}, lr_schedule=lambda _: 0.5)
    )
    for name, value in floating(before).items():
        rate = 1e-3 if "theta" in name else 5e-4
        assert (after[name] - value).abs().max().item() == pytest.approx(rate, rel=2e-2), name


def test_threshold_masks_the_mean_during_training():
    """With all weights above it only the biases reach the loss; the means' gradient is the KL's alone."""
    model, guide = pair(init=4.0)
    for started in guide.started.buffers():
        started.fill_(True)
    before = values(Posterior(model, guide))
    after = values(train(model, guide, epochs=1, threshold=-50.0, kl_schedule=lambda _: 0.0))
    for name, value in before.items():
        if "theta" in name:
            assert torch.equal(value, after[name]), name
    assert not torch.equal(before["model.net.2.bias"], after["model.net.2.bias"])


# --- a value


def test_a_training_is_the_same_fit_as_its_fields():
    fields = {"epochs": 2, "batch_size": 7, "lr": 0.02, "kl_schedule": WarmUp(0, 2), "lr_scale": {"theta": 2.0}}
    expected = values(fresh(**fields))
    training = Training(**fields)
    assert same(values(fresh(training=training)), expected)
    x, y = examples()
    assert same(values(fit(*pair(), (x, y), training, engine="eager", progress=False)), expected)
    torch.manual_seed(0)
    posterior, _ = fit_seeds(pair, (x, y), training, seeds=[0, 1], engine="eager", progress=False)
    other, _ = fit_seeds(pair, (x, y), **fields, seeds=[0, 1], engine="eager", progress=False)
    assert same(values(posterior), values(other))


@pytest.mark.parametrize("call", [fit, lambda *args, **options: fit_seeds(pair, *args[2:], seeds=[0], **options)])
def test_a_training_and_its_fields_are_not_both_taken(call):
    with pytest.raises(UserError, match="a Training and lr, epochs are given") as caught:
        call(*pair(), examples(), Training(epochs=1), lr=0.1, epochs=2)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="give epochs=, or a Training"):
        call(*pair(), examples())
    with pytest.raises(UserError, match=r"training is of type int; give a pyro_vd\.Training"):
        call(*pair(), examples(), 5)


@pytest.mark.parametrize("call", [fit, lambda *args, **options: fit_seeds(pair, *args[2:], seeds=[0], **options)])
def test_an_unknown_keyword_is_refused_with_the_known_ones(call):
    with pytest.raises(TypeError, match="keyword argument 'epoch'; a Training has epochs, batch_size") as caught:
        call(*pair(), examples(), epoch=5)
    own = r"itself .*batch, .*engine, checkpoint, resume, on_epoch, validation, patience, best, progress; did you mean"
    assert re.search(own, str(caught.value))
    with pytest.raises(TypeError, match="did you mean 'checkpoint'"):
        call(*pair(), examples(), epochs=1, checkpiont="run")


def test_the_short_form_has_the_fields_of_a_training():
    hints, options = (typing.get_type_hints(what) for what in (Training, TrainingOptions))
    assert options == hints
    assert [field.name for field in dataclasses.fields(Training)] == list(options)


def test_equal_trainings_are_equal():
    first = Training(epochs=np.int64(3), lr=np.float64(0.01), kl_schedule=WarmUp(1, 2), threshold=torch.tensor(3))
    assert first == Training(epochs=3, lr=0.01, kl_schedule=WarmUp(1, 2), threshold=3.0)
    assert first != dataclasses.replace(first, kl_schedule=WarmUp(1, 3))
    assert repr(first) == repr(dataclasses.replace(first))
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.lr = 1.0


def test_a_training_keeps_its_factors():
    factors = {"theta": 2.0}
    training = Training(epochs=1, lr_scale=factors)
    factors["theta"] = 3.0
    assert training.lr_scale == {"theta": 2.0}
    with pytest.raises(TypeError, match="item assignment"):
        training.lr_scale["theta"] = 3.0


@pytest.mark.parametrize("factors", [{}, {"theta": 2.0, "log_sigma2": 10.0}])
def test_a_training_is_a_value_that_can_be_hashed_copied_and_stored(factors):
    training = Training(epochs=2, lr_scale=factors, kl_schedule=WarmUp(0, 2))
    reordered = dataclasses.replace(training, lr_scale=dict(reversed(factors.items())))
    stored = pickle.loads(pickle.dumps(training))  # noqa: S301 (its own bytes)
    for other in (reordered, stored, copy.deepcopy(training), dataclasses.replace(training)):
        assert other == training
        assert hash(other) == hash(training)
        assert repr(other) == repr(training)
    assert f"lr_scale={dict(sorted(factors.items()))!r}" in repr(training)
    assert dataclasses.replace(training, lr_scale={"theta": 3.0}) != training


def test_none_is_the_default_of_schedules_and_factors():
    assert Training(epochs=1, lr_scale=None, lr_schedule=None, kl_schedule=None) == Training(epochs=1)
    assert len(fresh(epochs=1, lr_scale=None, kl_schedule=None).history) == 1


WRONG = {
    "no epoch": ({"epochs": 0}, "epochs=0 must be at least 1"),
    "half a batch": ({"batch_size": 0.5}, "batch_size=0.5 must be a whole number"),
    "a negative rate": ({"lr": -1.0}, "lr=-1 must be a finite number from 0"),
    "no rate": ({"lr": math.nan}, "lr=nan must be a finite number"),
    "a factor that overflows": ({"lr": 1e3, "lr_scale": {"theta": 1e4}}, r"lr_scale\['theta'\]=10000 must be"),
    "no schedule": ({"kl_schedule": 0.5}, "kl_schedule=0.5 must be a function of the epoch"),
    "no mapping": ({"lr_scale": [("theta", 1.0)]}, "lr_scale=.* must be a mapping of words to numbers"),
    "no word": ({"lr_scale": {1: 2.0}}, "lr_scale=.* must be a mapping of words to numbers"),
    "no threshold": ({"threshold": "high"}, "threshold='high' must be a number"),
    "no product": ({"matmul_dtype": "float16"}, "matmul_dtype='float16': matmul_dtype is one of float32, bfloat16"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_training_refuses_what_no_fit_can_use(name):
    fields, reason = WRONG[name]
    with pytest.raises(UserError, match=reason) as caught:
        Training(**{"epochs": 1, **fields})
    assert "\n" not in str(caught.value)


def test_schedules_are_evaluated_as_numbers_in_range():
    training = Training(epochs=1, threshold=lambda epoch: np.float32(epoch), kl_schedule=lambda epoch: -epoch)
    assert type(training.evaluate("threshold", 2)) is float
    assert training.evaluate("lr_schedule", 5) == 1.0
    with pytest.raises(UserError, match=r"kl_schedule\(1\)=-1 must be a finite number from 0"):
        training.evaluate("kl_schedule", 1)
    assert Training(epochs=1).schedules["threshold"] == Constant(math.inf)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf, "short"])
def test_a_norm_that_is_not_positive_is_refused(wrong):
    with pytest.raises(UserError, match="clip_norm="):
        Training(epochs=1, clip_norm=wrong)
    assert Training(epochs=1, clip_norm=np.float32(2)).clip_norm == 2.0
