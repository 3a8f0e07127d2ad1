"""fit and Posterior on tiny networks: what is trained, what is refused, and that an interruption changes nothing."""

import inspect
import math
import os
import signal
import threading
from functools import partial
from itertools import pairwise

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pyro_vd import AnalyticELBO, NonFiniteError, Posterior, checkpoint, compression_report, fit, guides, lift
from pyro_vd.data import LabeledImages
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.handlers import NoLocalRule
from pyro_vd.inference.engine import EagerStep, Engine
from pyro_vd.inference.schedules import hold_then_decay, warm_up
from pyro_vd.metrics import error_rate
from pyro_vd.model.likelihoods import Categorical
from pyro_vd.model.pair import pair_state
from pyro_vd.posteriors import WeightNormal

N, FEATURES, CLASSES, BATCH = 50, 5, 3, 16  # 4 steps an epoch, the last with 2 examples
STEPS = 4


def examples(n=N):
    generator = torch.Generator().manual_seed(7)
    labels = torch.arange(n) % CLASSES
    centres = 2 * torch.randn(CLASSES, FEATURES, generator=generator)
    return centres[labels] + 0.3 * torch.randn(n, FEATURES, generator=generator), labels


def network(hidden=6):
    return nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES))


def pair(scheme="sparse", net=None, seed=0, n=N, likelihood=Categorical, **options):
    torch.manual_seed(seed)
    chosen = guides.SCHEMES[scheme]
    model = lift(network() if net is None else net(), chosen.prior, likelihood, num_data=n)
    return model, chosen.Guide(model, **options)


def train(model, guide, data=None, **arguments):
    arguments = {"epochs": 2, "batch_size": BATCH, "lr": 0.01, "engine": "eager", "progress": False, **arguments}
    return fit(model, guide, examples() if data is None else data, **arguments)


def fresh(data=None, scheme="sparse", **arguments):
    return train(*pair(scheme), data, **arguments)


def values(posterior):
    return {name: value.detach().clone() for name, value in pair_state(posterior.model, posterior.guide)}


def floating(tensors):
    """Without the state of masking, which is no parameter."""
    return {name: value for name, value in tensors.items() if value.is_floating_point()}


def same(first, second):
    return first.keys() == second.keys() and all(
        first[name].numpy().tobytes() == second[name].numpy().tobytes() for name in first
    )


def untimed(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def on_disk(run):
    """Parameters, Adam's state, generator and sums; and the history without the clock."""
    tensors, meta = checkpoint.load(run)
    return tensors, {**meta, "seconds": 0, "history": untimed(meta["history"])}


# --- what is refused at once


@pytest.mark.parametrize("n", [N - 1, N + 1])
def test_another_number_of_examples_than_n_is_refused(n):
    with pytest.raises(UserError, match=rf"num_data={n}.*{N} examples"):
        train(*pair(n=n))


def test_a_loader_over_another_number_of_examples_is_refused():
    with pytest.raises(UserError, match=rf"num_data={N + 1}.*{N} examples"):
        train(*pair(n=N + 1), DataLoader(TensorDataset(*examples()), batch_size=10))


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": -1}, {"batch_size": 0}, {"batch_size": -5}])
def test_counts_below_one_are_refused_by_name(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(UserError, match=f"{name}={value}"):
        fresh(**wrong)


@pytest.mark.parametrize("word", ["log_sigma", "sigma2", "nothing"])
def test_a_rate_for_a_parameter_that_is_not_there_is_refused(word):
    """A misspelt or partial word that is ignored would train something else, silently."""
    with pytest.raises((ValueError, UserError), match=rf"\b{word}\b"):
        fresh(lr_scale={"theta": 1.0, word: 2.0})


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="auto, eager, compiled, cudagraph"):
        fresh(engine="fast")


# --- what is trained


@pytest.mark.parametrize("scheme", list(guides.SCHEMES))
@pytest.mark.parametrize("estimator", ["local", "flipout", "weights"])
def test_every_scheme_learns(scheme, estimator):
    if estimator == "flipout" and scheme.startswith("group"):
        with pytest.raises(NoLocalRule, match="GroupScale"):
            train(*pair(scheme), epochs=1, estimator=estimator)
        return
    rate = {"p": 0.1} if "p" in inspect.signature(guides.SCHEMES[scheme].Guide).parameters else {}  # few inputs to drop
    posterior = train(*pair(scheme, **rate), epochs=12, lr=0.1, estimator=estimator, kl_schedule=lambda _: 0.01)
    losses = [row["loss"] for row in posterior.history]
    assert losses[-1] < 0.5 * losses[0]
    x, y = examples()
    assert error_rate(posterior.mean()(x), y) < 0.05


@pytest.mark.parametrize("parametrization", ["log_sigma2", "log_alpha"])
def test_everything_is_trained(parametrization):
    """Means, rates and the point parameters: kills an optimiser that misses one of the pair's two modules."""
    model, guide = pair(parametrization=parametrization)
    before = values(Posterior(model, guide))
    after = values(train(model, guide, epochs=1))
    assert before.keys() == after.keys()
    assert len(floating(before)) == 6
    for name, value in floating(before).items():
        assert not torch.equal(value, after[name]), name


def test_local_draws_no_weights_and_sampling_does(monkeypatch):
    drawn = []
    rsample = WeightNormal.rsample
    monkeypatch.setattr(WeightNormal, "rsample", lambda self, *args: (drawn.append(1), rsample(self, *args))[1])
    fresh(epochs=1)
    assert drawn == []
    fresh(epochs=1, estimator="weights")
    assert len(drawn) == 2 * (STEPS + 1)  # and once before them, by preflight


def test_a_checkpoint_of_more_epochs_than_asked_for_is_refused(tmp_path):
    fresh(epochs=2, checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointError, match="holds 2 epochs, more than the 1 asked for"):
        fresh(epochs=1, checkpoint=tmp_path / "run")


def test_noise_that_does_not_exist_or_does_not_mask_is_refused():
    with pytest.raises(ValueError, match="estimator='loud': estimator is one of local, flipout, weights"):
        fresh(epochs=1, estimator="loud")
    for estimator in ("flipout", "weights"):
        with pytest.raises(
            UserError, match=f"threshold masks the means of local_reparam; with estimator='{estimator}'"
        ):
            fresh(epochs=1, estimator=estimator, threshold=3.0)


def test_the_history_has_its_fields():
    posterior = fresh(
        epochs=4, lr=0.02, lr_schedule=hold_then_decay(2, 4), kl_schedule=warm_up(1, 2), on_epoch=lambda e, _: {"e": e}
    )
    assert [set(row) for row in posterior.history] == [
        {"epoch", "loss", "log_likelihood", "kl", "beta", "lr", "seconds", "e"}
    ] * 4
    assert [row["epoch"] for row in posterior.history] == [row["e"] for row in posterior.history] == [0, 1, 2, 3]
    assert [row["beta"] for row in posterior.history] == [0.0, 0.0, 0.5, 1.0]
    assert [row["lr"] for row in posterior.history] == pytest.approx([0.02, 0.02, 0.02, 0.01])
    for row in posterior.history:
        assert row["loss"] == pytest.approx(row["beta"] * row["kl"] - row["log_likelihood"], rel=1e-5)
        assert row["log_likelihood"] < 0 < row["kl"]
        assert row["seconds"] > 0
        assert all(isinstance(value, int | float) for value in row.values())


def test_kl_is_in_nats_per_example_and_before_its_weight():
    model, guide = pair()
    expected = sum(
        torch.distributions.kl_divergence(guide.q(site).to_event(2), prior).item()
        for site, prior in model.priors.items()
    )
    (row,) = train(model, guide, epochs=1, lr=0.0, kl_schedule=lambda _: 0.25).history
    assert row["kl"] == pytest.approx(expected / N, rel=1e-5)


def test_every_batch_has_the_scale_of_the_whole_set():
    """n / B with B the batch's own size. Kills scaling the last, smaller batch like a full one."""
    model, guide = pair("none")
    x, y = examples()
    net = Posterior(model, guide).mean()
    with torch.no_grad():
        means = [
            -nn.functional.cross_entropy(net(a), b).item() for a, b in zip(x.split(BATCH), y.split(BATCH), strict=True)
        ]
    loader = DataLoader(TensorDataset(x, y), batch_size=BATCH)
    (row,) = train(model, guide, loader, epochs=1, lr=0.0).history
    assert row["log_likelihood"] == pytest.approx(sum(means) / STEPS, rel=1e-5)
    assert row["kl"] == 0


def test_every_example_is_seen_once_an_epoch_in_a_new_order(monkeypatch):
    seen = []
    step = EagerStep.step
    monkeypatch.setattr(EagerStep, "step", lambda self, x, y, beta: (seen.append(x), step(self, x, y, beta))[1])
    x, _ = examples()
    fresh(epochs=2)
    assert [len(batch) for batch in seen] == [16, 16, 16, 2] * 2
    first, second = torch.cat(seen[:4]), torch.cat(seen[4:])
    for epoch in (first, second):
        assert torch.equal(epoch.sort(dim=0).values, x.sort(dim=0).values)
        assert not torch.equal(epoch, x)
    assert not torch.equal(first, second)


def test_a_loader_with_larger_batches_than_there_are_examples_compiles(quick_compiler):
    loader = DataLoader(TensorDataset(*examples()), batch_size=2 * N)
    assert fresh(loader, engine="compiled").engine == "compiled"
    assert len(quick_compiler) == 1


def test_a_pair_of_tensors_and_examples_are_the_same_data():
    x, y = examples()
    assert same(values(fresh((x, y))), values(fresh(LabeledImages(x, y))))


def test_bytes_are_scaled():
    x, y = examples()
    pixels = (x - x.min()).mul(20).clamp(0, 255).to(torch.uint8)
    assert same(values(fresh(LabeledImages(pixels, y))), values(fresh((pixels.float() / 255, y))))


def test_bytes_that_nobody_calls_images_are_refused():
    """Tokens, and images of a network that scales by itself, were divided by 255 without a word."""
    x, y = torch.randint(0, 256, (N, FEATURES), dtype=torch.uint8), examples()[1]
    with pytest.raises(UserError, match=r"uint8; give LabeledImages\(x, y\) for images.*x\.long\(\) for tokens"):
        fresh((x, y))
    with pytest.raises(UserError, match="uint8"):
        fresh((x.numpy(), y.numpy()))


def test_a_loader_brings_its_own_batches(monkeypatch):
    sizes = []
    step = EagerStep.step
    monkeypatch.setattr(EagerStep, "step", lambda self, x, y, beta: (sizes.append(len(x)), step(self, x, y, beta))[1])
    loader = DataLoader(TensorDataset(*examples()), batch_size=20, shuffle=True)
    posterior = fresh(loader, epochs=12, lr=0.1, batch_size=7, kl_schedule=lambda _: 0.01)
    assert sizes[:3] == [20, 20, 10]
    assert posterior.history[-1]["loss"] < 0.5 * posterior.history[0]["loss"]


def test_seeds_decide_everything_whatever_the_generator_held():
    first = fresh(seed=3)
    model, guide = pair()
    torch.manual_seed(999)
    second = train(model, guide, seed=3)
    assert same(values(first), values(second))
    assert untimed(first.history) == untimed(second.history)
    assert not same(values(first), values(fresh(seed=4)))


def test_a_seed_changes_noise_and_order_alike():
    """Without noise only the order is left, and it follows the seed too."""
    assert not same(values(fresh(scheme="none", seed=0)), values(fresh(scheme="none", seed=1)))
    whole = {"batch_size": N}  # one batch: no order, only noise
    first, second = (fresh(seed=seed, **whole).history[0]["loss"] for seed in (0, 1))
    assert first != second


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


@pytest.mark.parametrize(("parametrization", "low", "high"), [("log_sigma2", -20.0, 4.0), ("log_alpha", -20.0, 20.0)])
@pytest.mark.parametrize("beta", [0.0, 100.0])
def test_rates_stay_within_their_bounds(parametrization, low, high, beta):
    """At a rate that would leave them at once; beta 0 shrinks the noise, a large beta grows it."""
    model, guide = pair(parametrization=parametrization)
    posterior = train(model, guide, epochs=5, lr_scale={parametrization: 1000.0}, kl_schedule=lambda _: beta)
    rates = torch.cat([value.flatten() for name, value in values(posterior).items() if parametrization in name])
    assert rates.min() >= low
    assert rates.max() <= high
    assert ((rates == low) | (rates == high)).any()


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


# --- what is left behind


def test_on_epoch_does_not_change_training():
    x, _ = examples()

    def look(epoch, posterior):
        posterior.predict(x, num_samples=3)
        posterior.sample()
        posterior.mean(posterior.masks(1.0))(x).sum().backward()
        torch.manual_seed(epoch)
        torch.randn(11)
        posterior.model.eval()
        return {"looked": 1.0}

    net = lambda: nn.Sequential(network(), nn.Dropout(0.5))  # noqa: E731 (training mode matters)
    undisturbed, disturbed = train(*pair(net=net), epochs=3), train(*pair(net=net), epochs=3, on_epoch=look)
    assert same(values(undisturbed), values(disturbed))
    assert [row["loss"] for row in undisturbed.history] == [row["loss"] for row in disturbed.history]
    assert [row["looked"] for row in disturbed.history] == [1.0] * 3


def test_on_epoch_sees_evaluation_mode_and_the_rows_so_far():
    modes = []

    def look(epoch, posterior):
        modes.append((posterior.model.training, posterior.model.net.training, len(posterior.history)))
        return {}

    posterior = fresh(epochs=3, on_epoch=look)
    assert [mode[:2] for mode in modes] == [(False, False)] * 3
    assert [mode[2] for mode in modes] == [0, 1, 2]
    assert not posterior.model.training


HANDLED = (signal.SIGINT, signal.SIGTERM)


def surroundings():
    return [signal.getsignal(number) for number in HANDLED], (torch.full((1,), 1e-40) * 0.5).item() != 0


def raising(epoch, posterior):
    raise RuntimeError("from on_epoch")


def test_signal_handlers_and_denormals_are_put_back(monkeypatch):
    """Also where training ends with an error. Flushing denormals for good would change the user's arithmetic."""
    before = surroundings()
    assert before[1]
    inside = []
    fresh(on_epoch=lambda *_: inside.append(surroundings()) or {})
    assert surroundings() == before
    assert inside[0][0] != before[0]
    if torch.set_flush_denormal(True):  # where the processor can
        assert not inside[0][1]
    torch.set_flush_denormal(False)
    with pytest.raises(RuntimeError, match="from on_epoch"):
        fresh(on_epoch=raising)
    assert surroundings() == before
    interrupt_at(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fresh()
    assert surroundings() == before


def test_fit_works_outside_the_main_thread():
    """Only the main thread may set signal handlers."""
    result = []
    thread = threading.Thread(target=lambda: result.append(values(fresh())))
    thread.start()
    thread.join()
    assert same(result[0], values(fresh()))


def test_progress_shows_numbers_of_on_epoch(capfd):
    fresh(progress=True, on_epoch=lambda *_: {"accuracy": 0.1234})
    shown = capfd.readouterr().err
    assert "loss=" in shown
    assert "accuracy=0.1234" in shown
    assert "eager: " in shown
    assert fresh(progress=False).engine == "eager"
    assert capfd.readouterr().err == ""


def test_the_history_has_the_kl_of_every_epochs_end():
    """Kills a KL of the epoch's start, of one site, and one per batch."""
    seen = []
    posterior = fresh(
        epochs=3, lr=0.1, on_epoch=lambda _, posterior: seen.append(sum(posterior.kl().values()) / N) or {}
    )
    assert [row["kl"] for row in posterior.history] == pytest.approx(seen)
    assert len(set(seen)) == 3
    x, y = examples()
    terms = AnalyticELBO().terms(posterior.model, posterior.guide, x, y)
    assert posterior.kl() == pytest.approx({site: kl.item() for site, kl in terms.kl.items()})


def test_a_kl_that_is_not_finite_stops_though_its_gradient_is(monkeypatch, tmp_path):
    monkeypatch.setattr(Posterior, "kl", lambda self: {"0.weight": math.inf})
    with pytest.raises(NonFiniteError, match=r"non-finite KL at epoch 0, step 3; though its gradient was finite"):
        fresh(checkpoint=tmp_path / "run")
    assert not checkpoint.exists(tmp_path / "run")


# --- interruption and resumption


def interrupt_at(monkeypatch, k, number=signal.SIGINT, times=1):
    """Sends the signal inside the k-th step, counted from 1; the step goes on if the handler lets it."""
    calls = []
    step = Engine.step

    def stepping(self, *args):
        calls.append(1)
        if len(calls) == k:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return step(self, *args)

    monkeypatch.setattr(Engine, "step", stepping)


SCHEDULES = {"lr_schedule": hold_then_decay(1, 4), "kl_schedule": warm_up(0, 3)}


def run_through(run, epochs=3, scheme="sparse", data=None, **arguments):
    return fresh(data, scheme, checkpoint=run, epochs=epochs, **SCHEDULES, **arguments)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    posterior = run_through(run)
    return on_disk(run), values(posterior), untimed(posterior.history)


def check_resumed(run, uninterrupted, **arguments):
    posterior = run_through(run, **arguments)
    (tensors, meta), parameters, history = uninterrupted
    found_tensors, found_meta = on_disk(run)
    assert same(parameters, values(posterior))
    assert same(tensors, found_tensors)
    assert found_meta == meta
    assert untimed(posterior.history) == history


@pytest.mark.parametrize("k", range(1, 3 * STEPS + 1))
def test_a_run_interrupted_in_any_step_goes_on_bit_for_bit(k, tmp_path, monkeypatch, uninterrupted):
    """Parameters, Adam, generator and history. Step 4, 8 and 12 are the last of their epochs."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, k)
        with pytest.raises(KeyboardInterrupt) as caught:
            run_through(run)
    assert str(run) in str(caught.value)
    _, meta = checkpoint.load(run)
    assert meta["epoch"] * STEPS + meta["step"] == k  # the step under way was finished, and no more
    check_resumed(run, uninterrupted)


def test_sigterm_is_an_interruption_too(tmp_path, monkeypatch, uninterrupted):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6, signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            run_through(tmp_path / "run")
    check_resumed(tmp_path / "run", uninterrupted)


def test_a_run_interrupted_many_times_goes_on_bit_for_bit(tmp_path, monkeypatch, uninterrupted):
    for k in (1, 2, 3):
        with monkeypatch.context() as patch:
            interrupt_at(patch, k)
            with pytest.raises(KeyboardInterrupt):
                run_through(tmp_path / "run")
    check_resumed(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("at", [0, 1])
def test_an_interruption_in_on_epoch_saves_the_epoch(at, tmp_path, uninterrupted):
    def look(epoch, posterior):
        if epoch == at:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    with pytest.raises(KeyboardInterrupt):
        run_through(tmp_path / "run", on_epoch=look)
    _, meta = checkpoint.load(tmp_path / "run")
    assert meta["epoch"] == at + 1
    check_resumed(tmp_path / "run", uninterrupted)


def test_an_interruption_in_the_last_on_epoch_is_not_lost(tmp_path, uninterrupted):
    """Else Ctrl-C there starts the next run of an experiment instead of ending it."""

    def look(epoch, posterior):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    with pytest.raises(KeyboardInterrupt):
        run_through(tmp_path / "run", on_epoch=look)
    check_resumed(tmp_path / "run", uninterrupted)


def test_a_second_interruption_stops_at_once(tmp_path, monkeypatch):
    """And leaves the last checkpoint as it was."""
    run = tmp_path / "run"
    interrupt_at(monkeypatch, STEPS + 2, times=2)
    with pytest.raises(KeyboardInterrupt):
        run_through(run)
    _, meta = checkpoint.load(run)
    assert (meta["epoch"], meta["step"]) == (1, 0)


def test_an_interruption_without_a_run_says_that_nothing_was_saved(monkeypatch):
    interrupt_at(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt, match="not saved"):
        fresh()


@pytest.mark.parametrize("scheme", ["none", "hierarchical"])
def test_other_schemes_resume_bit_for_bit(scheme, tmp_path, monkeypatch):
    whole = run_through(tmp_path / "whole", scheme=scheme)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            run_through(tmp_path / "run", scheme=scheme)
    check_resumed(tmp_path / "run", (on_disk(tmp_path / "whole"), values(whole), untimed(whole.history)), scheme=scheme)


def test_a_sequential_loader_resumes_bit_for_bit(tmp_path, monkeypatch):
    """Starting a loader draws from torch's generator; doing so once more must not shift the noise."""
    loader = DataLoader(TensorDataset(*examples()), batch_size=BATCH)
    whole = run_through(tmp_path / "whole", data=loader)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            run_through(tmp_path / "run", data=loader)
    check_resumed(tmp_path / "run", (on_disk(tmp_path / "whole"), values(whole), untimed(whole.history)), data=loader)


def test_a_longer_run_extends_a_finished_one(tmp_path, uninterrupted):
    run_through(tmp_path / "run", epochs=1)
    check_resumed(tmp_path / "run", uninterrupted)


def test_a_finished_run_is_only_read(tmp_path, monkeypatch, uninterrupted):
    run = tmp_path / "run"
    run_through(run)
    interrupt_at(monkeypatch, 1)  # a single step would raise
    check_resumed(run, uninterrupted)


@pytest.mark.parametrize(
    "changed",
    [
        {"batch_size": 8},
        {"lr": 0.02},
        {"lr_scale": {"log_sigma2": 2.0}},
        {"estimator": "weights"},
        {"seed": 1},
        {"threshold": 3.0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_resuming_with_other_arguments_is_refused_by_name(changed, tmp_path):
    run_through(tmp_path / "run", epochs=1)
    before = on_disk(tmp_path / "run")
    ((name, value),) = changed.items()
    with pytest.raises(CheckpointError) as caught:
        run_through(tmp_path / "run", **changed)
    assert f"{name} was" in str(caught.value)
    assert f"is {value}" in str(caught.value)
    after = on_disk(tmp_path / "run")
    assert same(before[0], after[0])
    assert before[1] == after[1]


def test_resuming_another_network_is_refused_and_leaves_the_pair_alone(tmp_path):
    run_through(tmp_path / "run", epochs=1)
    model, guide = pair(net=lambda: network(hidden=7))
    before = values(Posterior(model, guide))
    with pytest.raises(CheckpointError, match=r"network 0 was .*out_features=6\), is .*out_features=7"):
        train(model, guide, checkpoint=tmp_path / "run", **SCHEDULES)
    assert same(before, values(Posterior(model, guide)))


def test_resuming_with_another_prior_is_refused(tmp_path):
    """Sparse and hierarchical guides have parameters of the same names and shapes, and another objective."""
    run_through(tmp_path / "run", epochs=1, scheme="sparse")
    with pytest.raises(CheckpointError):
        run_through(tmp_path / "run", scheme="hierarchical")


def test_a_damaged_checkpoint_is_refused_and_leaves_the_pair_alone(tmp_path):
    run = tmp_path / "run"
    run_through(run, epochs=1)
    file = tmp_path / "run.json"
    file.write_bytes(file.read_bytes()[:-40])
    model, guide = pair()
    before = values(Posterior(model, guide))
    with pytest.raises(CheckpointError, match=r"run\.json"):
        train(model, guide, checkpoint=run)
    assert same(before, values(Posterior(model, guide)))


def test_a_posteriors_own_checkpoint_is_no_run_to_resume(tmp_path):
    """It has neither Adam's state nor a position; KeyError would be no help."""
    posterior = fresh()
    posterior.save(tmp_path / "saved")
    with pytest.raises(CheckpointError, match="saved"):
        fresh(checkpoint=tmp_path / "saved")


# --- numbers that are not finite


class Poisoned:
    """A likelihood that spoils its k-th call, counted from 1."""

    def __init__(self, k, spoil):
        self.k, self.spoil, self.calls = k, spoil, 0

    def __call__(self, logits):
        self.calls += 1
        return self.spoil(logits) if self.calls == self.k + 1 else Categorical(logits)  # preflight calls it once


class Offset(dist.Categorical):
    """A loss that is infinite while its gradient is not."""

    def log_prob(self, value):
        return super().log_prob(value) - math.inf


SPOILS = {
    "nan": (lambda logits: dist.Categorical(logits=logits * math.nan), r"gradient of .*guide\.theta\.0\.weight"),
    "inf": (lambda logits: Offset(logits=logits), "non-finite loss"),
}


@pytest.mark.parametrize("spoil", list(SPOILS))
@pytest.mark.parametrize("k", [STEPS + 1, STEPS + 3, 2 * STEPS])
def test_a_step_that_is_not_finite_stops_with_the_last_finite_state(spoil, k, tmp_path, monkeypatch):
    """Named by what, epoch and step; parameters as after step k - 1, checkpoint as after the epoch before."""
    function, culprit = SPOILS[spoil]
    snapshots = []
    model, guide = pair(likelihood=Poisoned(k, function))
    step = Engine.step

    def stepping(self, *args):
        snapshots.append(values(Posterior(model, guide)))
        return step(self, *args)

    monkeypatch.setattr(Engine, "step", stepping)
    with pytest.raises(NonFiniteError, match=rf"{culprit}.* at epoch 1, step {k - STEPS - 1}\b") as raised:
        train(model, guide, checkpoint=tmp_path / "run", epochs=3)
    assert [row["epoch"] for row in raised.value.history] == [0]
    assert same(snapshots[-1], values(Posterior(model, guide)))
    assert len(snapshots) == k
    tensors, meta = checkpoint.load(tmp_path / "run")
    assert (meta["epoch"], meta["step"], len(meta["history"])) == (1, 0, 1)
    assert all(value.isfinite().all() for value in tensors.values())
    assert same(snapshots[STEPS], {name: tensors[name] for name in snapshots[STEPS]})


def test_an_input_that_is_not_finite_names_its_parameters_and_step():
    x, y = examples()
    x[2 * BATCH + 3, 1] = math.nan
    loader = DataLoader(TensorDataset(x, y), batch_size=BATCH)
    with pytest.raises(NonFiniteError, match=r"0\.weight.* at epoch 0, step 2\b.*inputs of that batch"):
        fresh(loader)


def test_running_statistics_survive_a_batch_that_is_not_finite():
    """The pair holds the last finite state, buffers too: BatchNorm averages its inputs before any loss is known."""
    x, y = examples()
    x[2 * BATCH + 3, 1] = math.nan
    model, guide = pair(net=lambda: nn.Sequential(nn.BatchNorm1d(FEATURES), network()))
    with pytest.raises(NonFiniteError):
        train(model, guide, DataLoader(TensorDataset(x, y), batch_size=BATCH))
    for name, value in values(Posterior(model, guide)).items():
        assert value.isfinite().all(), name


def test_a_run_that_broke_goes_on_from_its_checkpoint(tmp_path, monkeypatch, uninterrupted):
    """The cause may have been mended: the checkpoint of the last whole epoch leads to the same end."""
    calls = []

    def spoiled(self, x):
        calls.append(1)
        return x * math.nan if len(calls) == STEPS + 2 else x.relu()

    with monkeypatch.context() as patch:
        patch.setattr(nn.ReLU, "forward", spoiled)
        with pytest.raises(NonFiniteError):
            run_through(tmp_path / "run")
    check_resumed(tmp_path / "run", uninterrupted)


# --- Posterior


@pytest.fixture(scope="module")
def trained():
    """Rates on both sides of the usual thresholds."""
    return train(*pair(init=-4.0), epochs=10, lr=0.1)


def test_mean_is_the_network_at_theta(trained):
    net = trained.mean()
    x, _ = examples()
    assert type(net) is nn.Sequential
    assert not net.training
    assert list(dict(net.named_parameters())) == [name for name, _ in network().named_parameters()]
    for site, theta in trained.guide.theta.named_parameters():
        assert torch.equal(net.get_parameter(site), theta)
    reference = network()
    reference.load_state_dict(net.state_dict())
    assert torch.equal(net(x), reference(x))


def test_a_plain_network_is_a_copy(trained):
    before = values(trained)
    net = trained.mean()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert same(before, values(trained))


@pytest.mark.parametrize("threshold", [-3.0, 0.0, 1.0, 3.0])
def test_pruned_weights_are_exactly_zero_and_the_others_untouched(trained, threshold):
    """And counting the network's zeros gives the masks back. Kills weight * mask, which leaves -0.0."""
    net, masks = trained.mean(trained.masks(threshold)), trained.masks(threshold)
    kept = 0
    for site, theta in trained.guide.theta.named_parameters():
        weight, mask = net.get_parameter(site).detach(), masks[site]
        assert mask.dtype == torch.bool
        assert torch.equal(mask, trained.log_alpha()[site] < threshold)
        assert (weight[~mask] == 0).all()
        assert not weight[~mask].signbit().any()
        assert torch.equal(weight[mask], theta[mask].detach())
        kept += int(mask.sum())
    report = compression_report(net, masks)
    assert (report.nonzero, report.weights) == (kept, FEATURES * 6 + 6 * CLASSES)
    assert torch.equal(net.get_parameter("0.bias"), trained.mean().get_parameter("0.bias"))


def test_pruning_prunes_something_and_not_everything(trained):
    """Else the test above shows nothing."""
    assert 0 < compression_report(trained.mean(trained.masks(0.0)), trained.model.priors).sparsity < 1


def test_a_nan_weight_is_refused_by_name_and_a_zero_one_is_pruned():
    pyro.enable_validation(False)  # which would refuse the NaN sooner
    model, guide = pair()
    with torch.no_grad():
        guide.theta["0.weight"][0, 1] = 0.0
    posterior = Posterior(model, guide)
    assert posterior.mean(posterior.masks(3.0)).get_parameter("0.weight")[0, 1] == 0
    with torch.no_grad():
        guide.theta["0.weight"][0, 0] = math.nan
    with pytest.raises(NotImplementedError, match=r"0\.weight.* NaN"):
        posterior.mean(posterior.masks(3.0))


@pytest.mark.parametrize("scheme", ["sparse", "hierarchical"])
def test_masks_grow_with_the_threshold(scheme):
    posterior = train(*pair(scheme, init=-4.0), epochs=5, lr=0.1)
    thresholds = [-30, -8, -2, 0, 0.5, 1, 3, 8, 30]
    for site in posterior.model.priors:
        masks = [posterior.masks(threshold)[site] for threshold in thresholds]
        assert all((low <= high).all() for low, high in pairwise(masks))
        assert not masks[0].any()
        assert masks[-1].all()


def test_every_site_may_have_a_threshold_of_its_own():
    posterior = Posterior(*pair("sparse", init=-4.0))
    first, *others = posterior.model.priors
    masks = posterior.masks({first: -2.0, **dict.fromkeys(others, math.inf)})
    assert torch.equal(masks[first], posterior.masks(-2.0)[first])
    assert all(masks[site].all() for site in others)
    assert 0 < posterior.mean(masks).get_parameter(first).count_nonzero() < masks[first].numel()


@pytest.mark.parametrize("wrong", [math.nan, {}, {"0.weight": math.nan, "2.weight": 1.0}, {"0.weight": 1.0, "9": 1.0}])
def test_thresholds_that_are_none_are_refused(wrong):
    with pytest.raises(UserError, match=r"NaN|look at .*2\.weight"):
        Posterior(*pair("sparse")).masks(wrong)


def test_log_alpha_is_that_of_the_parameters(trained):
    for site, value in trained.log_alpha().items():
        expected = trained.guide.noise_param[site] - 2 * trained.guide.theta[site].abs().log()
        assert torch.allclose(value, expected, atol=1e-5)
        assert not value.requires_grad


def test_a_scheme_without_noise_has_no_log_alpha_and_prunes_nothing():
    posterior = Posterior(*pair("none"))
    with pytest.raises(TypeError, match="none"):
        posterior.log_alpha()
    assert all(mask.all() for mask in posterior.masks(3.0).values())
    assert compression_report(posterior.mean(posterior.masks(3.0)), posterior.model.priors).sparsity == 0


def test_sample_draws_from_the_posterior():
    model, guide = pair(net=lambda: nn.Sequential(nn.Linear(100, 100)), init=-3.0)
    posterior = Posterior(model, guide)
    torch.manual_seed(1)
    first, second = posterior.sample(), posterior.sample()
    torch.manual_seed(1)
    again = posterior.sample()
    assert not first.training
    q = guide.q("0.weight")
    scores = [((net.get_parameter("0.weight") - q.mean) / q.stddev).detach() for net in (first, second, again)]
    assert torch.equal(scores[0], scores[2])
    for score in scores:  # 10,000 draws: five standard errors
        assert abs(score.mean()) < 5 / 100
        assert abs(score.std() - 1) < 5 / 140
    assert abs((scores[0] * scores[1]).mean()) < 5 / 100


def test_all_examples_of_a_prediction_share_their_draws(trained):
    """Across batches too. Kills a new draw per batch and local reparameterization in predict."""
    x, _ = examples()
    same_input = x[:1].expand(7, -1)
    outputs = trained.predict(same_input, num_samples=5, batch_size=3)
    assert outputs.shape == (5, 7, CLASSES)
    assert not outputs.requires_grad
    assert torch.allclose(outputs, outputs[:, :1].expand_as(outputs), atol=1e-5)
    firsts = outputs[:, 0]
    assert all((firsts[i] - firsts[j]).abs().max() > 1e-3 for i in range(5) for j in range(i))


def test_predictions_do_not_depend_on_the_batch_size(trained):
    x, _ = examples()
    outputs = []
    for batch_size in (1, 7, 1000):
        torch.manual_seed(5)
        outputs.append(trained.predict(x, num_samples=2, batch_size=batch_size))
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)
    assert torch.allclose(outputs[0], outputs[2], atol=1e-5)


def test_predictions_scale_bytes(trained):
    pixels = torch.randint(0, 256, (4, FEATURES), dtype=torch.uint8)
    outputs = []
    for x in (pixels, pixels.float() / 255):
        torch.manual_seed(5)
        outputs.append(trained.predict(x, num_samples=2))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("training", [True, False])
def test_predict_evaluates_and_puts_the_mode_back(training):
    model, guide = pair("none", net=lambda: nn.Sequential(network(), nn.Dropout(0.5)))
    posterior = Posterior(model, guide)
    model.train(training)
    x, _ = examples()
    outputs = posterior.predict(x, num_samples=2)
    assert torch.equal(outputs[0], outputs[1])
    assert model.training == model.net.training == model.net[1].training == training


def test_predict_puts_the_mode_back_after_an_error():
    model, guide = pair()
    model.train()
    with pytest.raises(RuntimeError):
        Posterior(model, guide).predict(torch.ones(2, FEATURES + 1), num_samples=1)
    assert model.net.training
    assert "weight" not in model.net[0].__dict__


def batch_norm():
    return nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, CLASSES))


@pytest.mark.parametrize("pruned", [False, True])
def test_running_averages_can_be_those_of_the_mean(pruned):
    """Of the network without noise, pruned or not, over sorted classes; the pair keeps its own. Kills averages of the
    last batch, of batches of one class, and the unpruned network's for the pruned one."""
    posterior = train(*pair(net=batch_norm, init=-4.0), epochs=3)
    before = values(posterior)
    x = torch.cat([torch.randn(1250, FEATURES) + 5 * label for label in range(2)])
    masks = posterior.masks(-1.0) if pruned else None
    assert 0 < (posterior.mean(posterior.masks(-1.0))[0].weight == 0).sum() < 4 * FEATURES
    net = posterior.mean(masks, inputs=x)
    with torch.no_grad():
        hidden = net[0](x)
    torch.testing.assert_close(net[1].running_mean, hidden.mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(net[1].running_var, hidden.var(0), rtol=2e-2, atol=1e-3)
    assert not net.training
    assert torch.equal(net[0].weight, posterior.mean(masks)[0].weight)
    assert not torch.allclose(posterior.mean(masks)[1].running_var, net[1].running_var, rtol=0.1)
    assert same(before, values(posterior))


def test_running_averages_of_bytes_are_those_of_the_scaled():
    posterior = train(*pair(net=batch_norm))
    pixels = torch.randint(0, 256, (1001, FEATURES), dtype=torch.uint8)  # two batches, neither of one example
    nets = [posterior.mean(inputs=x) for x in (pixels, pixels.float() / 255)]
    assert same(*(dict(net.named_buffers()) for net in nets))


def test_running_averages_are_taken_without_dropout_and_draw_nothing():
    net = partial(nn.Sequential, nn.Linear(FEATURES, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, CLASSES))
    posterior = train(*pair(net=net))
    x, _ = examples()
    generator = torch.get_rng_state()
    found = posterior.mean(inputs=x)
    assert torch.equal(generator, torch.get_rng_state())
    torch.testing.assert_close(found[2].running_var, found[0](x).var(0).detach(), rtol=1e-4, atol=1e-5)
    assert found[2].momentum == 0.1
    assert not any(module.training for module in found.modules())


@pytest.mark.parametrize("n", [0, 1])
def test_running_averages_of_no_spread_are_refused(n):
    with pytest.raises(UserError, match=f"{n} inputs have no variance"):
        Posterior(*pair(net=batch_norm)).mean(inputs=torch.zeros(n, FEATURES))


def test_a_saved_posterior_fills_a_fresh_pair(tmp_path):
    """Biases and running statistics too, and the same draws from the same seed."""
    posterior = train(*pair(net=batch_norm), epochs=3)
    posterior.save(tmp_path / "saved", note="mine")
    loaded = Posterior(*pair(net=batch_norm, seed=5)).load(tmp_path / "saved")
    x, _ = examples()
    assert torch.equal(posterior.mean()(x), loaded.mean()(x))
    assert same(values(posterior), values(loaded))
    assert loaded.history == posterior.history
    outputs = []
    for one in (posterior, loaded):
        torch.manual_seed(2)
        outputs.append(one.predict(x, num_samples=3))
    assert torch.equal(*outputs)
    assert checkpoint.load(tmp_path / "saved")[1]["note"] == "mine"


def test_a_run_of_fit_can_be_loaded(tmp_path):
    posterior = fresh(checkpoint=tmp_path / "run")
    loaded = Posterior(*pair(seed=5)).load(tmp_path / "run")
    assert same(values(posterior), values(loaded))
    assert loaded.history == posterior.history


@pytest.mark.parametrize(
    ("other", "differences"),
    [
        ({"net": lambda: network(hidden=7)}, [r"guide.theta.0.weight is (6, 5) torch.float32, expected (7, 5)"]),
        ({"net": batch_norm}, ["no model.net.1.running_mean", "unexpected guide.theta.2.weight"]),
        ({"scheme": "none"}, ["of another pair: sparse.Guide(", "this is none.Guide("]),
        (
            {"parametrization": "log_alpha"},
            ["parametrization='log_sigma2'", "parametrization='log_alpha'"],
        ),
        ({"net": lambda: network().double()}, ["torch.float32, expected", "torch.float64"]),
    ],
    ids=["shape", "layers", "scheme", "parametrization", "dtype"],
)
def test_loading_another_pair_is_refused_with_every_difference(tmp_path, other, differences):
    Posterior(*pair()).save(tmp_path / "saved")
    posterior = Posterior(*pair(seed=5, **other), history=[{"loss": 1.0}])
    before = values(posterior)
    with pytest.raises(CheckpointError) as caught:
        posterior.load(tmp_path / "saved")
    for difference in differences:
        assert difference in str(caught.value)
    assert same(before, values(posterior))
    assert posterior.history == [{"loss": 1.0}]


def test_models_of_one_process_do_not_share_parameters():
    """Pyro's parameter store is global and keyed by name."""
    first = fresh()
    before = values(first)
    fresh(seed=9)
    assert same(before, values(first))
