"""Parts of a batch: the update is that of the whole batch, in every engine, and the memory that of a part."""

import pytest
import torch
from torch import nn

import pyro_vd
from pyro_vd import Training, fit_seeds
from pyro_vd.errors import UserError
from pyro_vd.inference.engine.objective import Objective
from tests._asserts import same, untimed, values
from tests._pairs import BATCH, FEATURES, N, batch_norm, examples, fresh, interrupt_at, network, pair

ENGINES = ("eager", "compiled")


def close(one, other, rtol=2e-5):
    for name, value in values(other).items():
        torch.testing.assert_close(values(one)[name], value, rtol=rtol, atol=2e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("micro", [1, 5, 7, 15])
def test_the_update_is_that_of_the_whole_batch(engine, micro):
    """Of a pair without noise, for batches of 16 and the last one of 2."""
    if engine == "compiled" and micro != 5:
        return
    optimizer = pyro_vd.optim.SGD(momentum=0.9, weight_decay=0.1)  # Adam would hide a factor of the gradient
    how = {"scheme": "none", "optimizer": optimizer, "lr": 0.1, "engine": engine}
    whole, parts = fresh(**how | {"engine": "eager"}), fresh(micro_batch_size=micro, **how)
    close(parts, whole)
    for one, other in zip(parts.history, whole.history, strict=True):
        assert one["log_likelihood"] == pytest.approx(other["log_likelihood"], rel=1e-5)


def test_a_batch_of_one_part_is_the_whole_batch():
    assert same(values(fresh()), values(fresh(micro_batch_size=BATCH)))


def test_the_parts_are_even_and_weighted_by_their_examples():
    objective = Objective(*pair(), micro_batch_size=4)
    x, y = examples(10)
    shares, xs, ys = zip(*objective.parts(x, y), strict=True)
    assert [len(part) for part in xs] == [4, 3, 3]
    assert shares == (0.4, 0.3, 0.3)
    assert torch.equal(torch.cat(xs), x)
    assert torch.equal(torch.cat(ys), y)


def test_the_objective_is_the_sum_over_the_parts():
    """The KL counts once, whatever the number of parts."""
    model, guide = pair("none")
    x, y = examples(10)
    whole = Objective(model, guide)(x, y, torch.tensor(0.7))[0]
    objective = Objective(model, guide, micro_batch_size=3)
    parts = sum(share * objective(*part, torch.tensor(0.7))[0] for share, *part in objective.parts(x, y))
    torch.testing.assert_close(parts, whole)


def test_no_part_is_larger_than_asked_for():
    """Neither in a step nor in the check before the first one."""
    sizes = []

    class Watch(nn.Module):
        def forward(self, x):
            sizes.append(len(x))
            return x

    fresh(net=lambda: nn.Sequential(Watch(), *network()), micro_batch_size=6)
    assert max(sizes) == 6


def test_noise_is_drawn_for_every_part():
    one, other = fresh(seed=0), fresh(seed=0, micro_batch_size=4)
    assert not same(values(one), values(other))


def test_clipping_sees_the_gradient_of_the_whole_batch():
    how = {"scheme": "none", "optimizer": pyro_vd.optim.SGD(), "lr": 0.1, "clip_norm": 0.05}
    close(fresh(micro_batch_size=3, **how), fresh(**how))


def test_a_part_that_is_not_finite_changes_nothing():
    x, y = examples()
    x[3] = torch.nan
    model, guide = pair()
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    with pytest.raises(pyro_vd.NonFiniteError, match="the parameters were not updated"):
        pyro_vd.fit(model, guide, (x, y), epochs=1, batch_size=N, micro_batch_size=10, engine="eager", progress=False)
    assert same(guide.state_dict(), before)


@pytest.mark.parametrize("engine", ENGINES)
def test_seeds_have_parts_too(engine):
    def make():
        return pair("none", seed=torch.initial_seed())

    how = {"seeds": [0, 1], "epochs": 2, "batch_size": BATCH, "lr": 0.1, "progress": False,
           "optimizer": pyro_vd.optim.SGD()}  # fmt: skip
    parts = fit_seeds(make, examples(), engine=engine, micro_batch_size=5, **how)
    for one, other in zip(parts, fit_seeds(make, examples(), engine="eager", **how), strict=True):
        close(one, other)


def test_a_run_resumes_with_its_parts(tmp_path, monkeypatch):
    whole = fresh(micro_batch_size=5, epochs=3)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            fresh(micro_batch_size=5, epochs=3, checkpoint=tmp_path / "run")
    with pytest.raises(UserError, match="micro_batch_size was 5, is None"):
        fresh(epochs=3, checkpoint=tmp_path / "run")
    resumed = fresh(micro_batch_size=5, epochs=3, checkpoint=tmp_path / "run")
    assert same(values(whole), values(resumed))
    assert untimed(whole.history) == untimed(resumed.history)


@pytest.mark.parametrize("micro", [1, 15])
def test_a_part_of_one_example_is_refused_under_batch_norm(micro):
    """15: a batch of 16 has parts of 8, and the last batch is one of 2, in one part."""
    x, y = examples()
    if micro == 15:
        assert len(fresh((x, y), net=batch_norm, micro_batch_size=micro).history) == 2
        return
    with pytest.raises(UserError, match="or a part of one, is of one example"):
        fresh((x, y), net=batch_norm, micro_batch_size=micro)


def test_the_smallest_part_may_be_in_the_last_batch():
    """Batches of 4 have parts of 2, and the last one of 3 examples has parts of 2 and 1."""
    x, y = torch.randn(N + 1, FEATURES), torch.arange(N + 1) % 3
    model, guide = pair(net=batch_norm, n=N + 1)
    with pytest.raises(UserError, match="or a part of one, is of one example"):
        pyro_vd.fit(model, guide, (x, y), epochs=1, batch_size=4, micro_batch_size=2, engine="eager", progress=False)


@pytest.mark.parametrize("micro", [0, -1, 1.5, "8"])
def test_a_size_that_is_no_count_is_refused(micro):
    with pytest.raises((UserError, TypeError), match="micro_batch_size"):
        Training(epochs=1, micro_batch_size=micro)
