"""Every engine on a GPU. Skipped without one, as in CI: see the first line of the module cuda_graph_step."""

import gc
import math

import pytest
import torch
from torch import nn

from pyro_vd import fit, fit_seeds, guides, lift
from pyro_vd.compress import semi_structured_masks
from pyro_vd.inference.engine import EagerStep, Engine, Ensemble, Objective
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp
from pyro_vd.model.likelihoods import Categorical
from pyro_vd.model.pair import pair_state
from tests._pairs import normalized

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

N, FEATURES, CLASSES, BATCH = 50, 5, 3, 16
OPTIONS = {"epochs": 3, "batch_size": BATCH, "lr": 0.01, "progress": False}
SCHEDULES = {"lr_schedule": HoldThenDecay(1, 4), "kl_schedule": WarmUp(0, 3)}
GRAPHS = ["compiled", "cudagraph"]


def examples():
    generator = torch.Generator().manual_seed(7)
    return torch.randn(N, FEATURES, generator=generator), torch.arange(N) % CLASSES


def dense():
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, CLASSES))


def maker(net=dense, scheme="sparse", **options):
    def make():
        model = lift(net().cuda(), guides.SCHEMES[scheme].prior, Categorical, num_data=N)
        return model, guides.SCHEMES[scheme].Guide(model, **options)

    return make


def engine_of(mode, net=dense, seeds=(0,), **options):
    pairs = []
    for seed in seeds:
        torch.manual_seed(seed)
        objective = Objective(*maker(net, **options)()).train()
        pairs.append(EagerStep(objective, 0.01))
    return Engine(pairs[0] if len(pairs) == 1 else Ensemble(pairs), mode)


def batch(seeds=1):
    x, y = (part[:BATCH].cuda() for part in examples())
    return (x, y) if seeds == 1 else (x.repeat(seeds, 1, 1), y.repeat(seeds, 1))


def state(engine):
    return [{k: v.clone() for k, v in pair.objective.state_dict().items()} for pair in engine.pair.members]


def same(first, second):
    return all(torch.equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)


@pytest.mark.parametrize("engine", GRAPHS)
@pytest.mark.parametrize("net", [dense, normalized])
def test_without_noise_a_fit_ends_where_the_eager_one_does(net, engine):
    ends = []
    for mode in ("eager", engine):
        torch.manual_seed(0)
        posterior = fit(*maker(net, "none")(), examples(), engine=mode, **OPTIONS, **SCHEDULES)
        assert posterior.engine == mode
        ends.append({name: value.detach().cpu() for name, value in pair_state(posterior.model, posterior.guide)})
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("engine", GRAPHS)
def test_without_noise_seeds_end_where_each_does_alone(engine):
    make, seeds = maker(normalized, "none"), [2, 5, 9]
    for seed, posterior in zip(
        seeds, fit_seeds(make, examples(), seeds=seeds, engine=engine, **OPTIONS, **SCHEDULES), strict=True
    ):
        torch.manual_seed(seed)
        alone = fit(*make(), examples(), seed=seed, engine="eager", **OPTIONS, **SCHEDULES)
        expected = dict(pair_state(alone.model, alone.guide))
        for name, value in pair_state(posterior.model, posterior.guide):
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (1, 1, FEATURES)), nn.Conv2d(1, 4, (1, 3)), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(12, CLASSES),
    )  # fmt: skip


@pytest.mark.parametrize("engine", GRAPHS)
@pytest.mark.parametrize("scheme", list(guides.SCHEMES))
def test_every_scheme_steps(scheme, engine):
    """Constants that only the graph holds, and numbers that go to the device, are what a capture can lose."""
    one = engine_of(engine, convolutional, seeds=(0, 1), scheme=scheme)
    x, y = batch(2)
    one.compile((x, y))
    gc.collect()
    torch.cuda.empty_cache()
    outputs = [one.step((x, y), torch.ones((), device="cuda")) for _ in range(5)]
    assert all(output.is_finite.all() for output in outputs)
    eager = engine_of("eager", convolutional, seeds=(0, 1), scheme=scheme)
    expected = eager.step((x, y), torch.ones((), device="cuda")).log_likelihood
    torch.testing.assert_close(outputs[0].log_likelihood, expected, rtol=0.3, atol=0)  # other noise


def test_constants_of_a_likelihood_stay_alive():
    def shifted(logits):
        return Categorical(logits + torch.tensor([0.3, 0.1, 0.2], device=logits.device))

    results = []
    for mode in ("eager", "cudagraph"):
        torch.manual_seed(0)
        model = lift(dense().cuda(), guides.none.prior, shifted, num_data=N)
        objective = Objective(model, guides.none.Guide(model)).train()
        one = Engine(EagerStep(objective, 0.01), mode)
        if mode == "cudagraph":
            one.compile(batch())
            gc.collect()
            spoil = [torch.full((3,), 1e9, device="cuda") for _ in range(1000)]  # takes what was freed
            assert len(spoil) == 1000
        results.append(one.step(batch(), torch.ones((), device="cuda")).log_likelihood)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("engine", GRAPHS)
def test_making_the_graph_changes_nothing(engine):
    one = engine_of(engine, normalized)
    before, generator = state(one), torch.cuda.get_rng_state()
    one.compile(batch())
    assert same(before, state(one))
    assert torch.equal(generator, torch.cuda.get_rng_state())


@pytest.mark.parametrize("engine", GRAPHS)
def test_every_step_draws_new_noise_and_reads_its_inputs_anew(engine):
    one = engine_of(engine, init=-1.0)
    x, y = batch()
    seen = [one.step((x, y), torch.tensor(0.0, device="cuda")).log_likelihood.item() for _ in range(10)]
    assert len(set(seen)) == 10
    far = one.step((1000 * x, y), torch.tensor(0.0, device="cuda")).log_likelihood.item()
    assert far < 10 * min(seen)
    before = state(one)
    one.set_lr(0.0)
    one.step((x, y), torch.tensor(1.0, device="cuda"))
    assert same(before, state(one))


@pytest.mark.parametrize("engine", GRAPHS)
def test_a_step_that_is_not_finite_changes_only_the_other_seeds(engine):
    one = engine_of(engine, normalized, seeds=(0, 1, 2))
    x, y = batch(3)
    assert one.step((x, y), torch.ones((), device="cuda")).is_finite.all()
    before = state(one)
    x[1, 3, 2] = math.nan
    assert one.step((x, y), torch.ones((), device="cuda")).is_finite.all(1).tolist() == [True, False, True]
    after = state(one)
    assert [same([a], [b]) for a, b in zip(before, after, strict=True)] == [False, True, False]


def test_the_kernel_of_semi_structured_sparsity_takes_masks_of_2_of_4():
    weight, x = torch.randn(64, 128).half().cuda(), torch.randn(32, 128).half().cuda()
    masked = weight * semi_structured_masks({"w": weight.float().abs()})["w"]
    sparse = torch.sparse.to_sparse_semi_structured(masked)
    torch.testing.assert_close(nn.functional.linear(x, sparse), nn.functional.linear(x, masked), rtol=1e-2, atol=1e-2)
