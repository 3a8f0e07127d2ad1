"""The caller's random state: untouched by fit, and where a seed comes from that nobody gave."""

import random
import threading

import numpy as np
import pytest
import torch
from torch import nn

import pyro_vd
from pyro_vd import Categorical, LogUniform, diagnostics, guides

N = 30
X, Y = torch.randn(N, 3, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 2


def pair():
    model = pyro_vd.lift(nn.Linear(3, 2), LogUniform, Categorical, num_data=N)
    return model, guides.sparse.Guide(model)


def fit(**options):
    return pyro_vd.fit(*pair(), (X, Y), epochs=1, progress=False, **options)


def theta(posterior):
    return posterior.guide.theta["weight"].detach().clone()


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_fit_leaves_the_callers_generators_alone(engine, quick_compiler):
    model, guide = pair()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    pyro_vd.fit(model, guide, (X, Y), epochs=1, batch_size=N, seed=5, engine=engine, progress=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_fit_leaves_the_callers_generator_alone_if_it_fails():
    model, guide = pair()
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        pyro_vd.fit(model, guide, (X, Y), epochs=1, seed=5, on_epoch=lambda *_: torch.ones(2).item(), progress=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_fit_seeds_leaves_it_alone():
    before = torch.get_rng_state()
    pyro_vd.fit_seeds(pair, (X, Y), seeds=[0, 1], epochs=1, progress=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_members_of_the_obvious_ensemble_loop_differ():
    """Noise, order and start: with equal starts too."""
    torch.manual_seed(0)
    model, guide = pair()
    state = guide.state_dict()
    members = []
    for _ in range(3):
        guide.load_state_dict({name: value.clone() for name, value in state.items()})
        members.append(theta(pyro_vd.fit(model, guide, (X, Y), epochs=1, batch_size=10, progress=False)))
        guide.load_state_dict({**state, "theta.weight": model.initial["weight"].clone()})
    assert not torch.equal(members[0], members[1])
    assert not torch.equal(members[1], members[2])


def test_a_seed_that_is_not_given_is_the_callers():
    found = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        found.append(fit())
    assert torch.equal(theta(found[0]), theta(found[1]))
    assert not torch.equal(theta(found[0]), theta(found[2]))
    assert found[0].seed == found[1].seed != found[2].seed


def test_the_seed_is_recorded_and_makes_the_run_again():
    torch.manual_seed(3)
    model, guide = pair()
    drawn = pyro_vd.fit(model, guide, (X, Y), epochs=1, progress=False)
    torch.manual_seed(3)
    model, guide = pair()
    again = pyro_vd.fit(model, guide, (X, Y), epochs=1, seed=drawn.seed, progress=False)
    assert torch.equal(theta(drawn), theta(again))


def test_predictions_follow_the_global_generator_and_diagnostics_their_seed():
    posterior = fit(seed=0)
    torch.manual_seed(1)
    first = posterior.predict(X, 2)
    assert not torch.equal(first, posterior.predict(X, 2))
    torch.manual_seed(1)
    assert torch.equal(first, posterior.predict(X, 2))
    before = torch.get_rng_state()
    diagnostics.to_arviz(posterior, (X, Y), num_samples=2, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def twins():
    """Two pairs with the same parameters."""
    torch.manual_seed(0)
    first, second = pair(), pair()
    for one, other in zip(first, second, strict=True):
        other.load_state_dict(one.state_dict())
    return first, second


def test_a_prediction_in_another_thread_changes_no_fit():
    """The network and its mode are the fit's until an epoch ends; then the prediction has its turn."""
    first, second = twins()
    arguments = {"epochs": 20, "batch_size": 5, "seed": 0, "progress": False}
    alone = theta(pyro_vd.fit(*first, (X, Y), **arguments))
    posterior, stop, failed = pyro_vd.Posterior(*second), threading.Event(), []

    def predict():
        while not stop.is_set():
            try:
                posterior.outputs({"weight": torch.zeros(2, 3)}, X)
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=predict) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        beside = theta(pyro_vd.fit(*second, (X, Y), **arguments))
    finally:
        stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert torch.equal(beside, alone)


def test_on_epoch_may_wait_for_a_thread_that_predicts():
    found = []

    def look(epoch, posterior):
        thread = threading.Thread(target=lambda: found.append(posterior.predict(X, 1)))
        thread.start()
        thread.join(timeout=60)

    fit(on_epoch=look)
    assert len(found) == 1


def test_fits_in_threads_of_one_process_give_what_they_give_alone():
    """Pyro's stack of handlers is global: 15 of 20 failed, once."""
    pairs = {}
    for seed in range(4):
        torch.manual_seed(seed)
        pairs[seed] = pair(), pair()
        pairs[seed][1][1].load_state_dict(pairs[seed][0][1].state_dict())
        pairs[seed][1][0].load_state_dict(pairs[seed][0][0].state_dict())
    alone = {
        seed: theta(pyro_vd.fit(*both[0], (X, Y), epochs=3, batch_size=5, seed=seed, progress=False))
        for seed, both in pairs.items()
    }
    together, failed = {}, []

    def run(seed):
        try:
            posterior = pyro_vd.fit(*pairs[seed][1], (X, Y), epochs=3, batch_size=5, seed=seed, progress=False)
            together[seed] = theta(posterior)
            posterior.predict(X, 2)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert all(torch.equal(together[seed], alone[seed]) for seed in pairs)
