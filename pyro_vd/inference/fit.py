"""fit: stochastic variational inference on a (model, guide) pair; fit_seeds: on one for every seed, all at once."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from pyro_vd.errors import UserError
from pyro_vd.inference.batches import Batches, Data
from pyro_vd.inference.engine import (
    EagerStep,
    Engine,
    Estimator,
    MatmulDtype,
    Mode,
    Objective,
    parameter_groups,
    separate,
)
from pyro_vd.inference.identity import describe, describe_modules
from pyro_vd.inference.loop import Loop, OnEpoch
from pyro_vd.inference.resume import Resume, check_how, seed_of
from pyro_vd.inference.schedules import Schedule, constant
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.pair import pair_state, signature
from pyro_vd.model.weight_guide import WeightGuide
from pyro_vd.posterior import Posterior
from pyro_vd.process_state import PYRO_LOCK

__all__ = ["fit", "fit_seeds"]

LARGEST_LR = 1e6  # Adam moves a parameter by about the rate: no run reaches float32's limits by this one
LARGEST_KL_WEIGHT = 1e12


def fit(
    model: LiftedModel,
    guide: WeightGuide,
    train: Data,
    *,
    epochs: int,
    batch_size: int = 100,
    lr: float = 1e-3,
    lr_scale: dict[str, float] | None = None,
    lr_schedule: Schedule | None = None,
    kl_schedule: Schedule | None = None,
    estimator: Estimator = "local",
    threshold: float | Schedule | None = None,
    matmul_dtype: MatmulDtype = "float32",
    engine: Mode = "auto",
    seed: int | None = None,
    checkpoint: str | Path | None = None,
    resume: Resume = "exact",
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
) -> Posterior:
    """Trains the pair with Adam on the analytic-KL objective.

    Args:
        model, guide: a lifted model and a guide over its sites; trained in place.
        train: LabeledImages, an (x, y) pair of tensors or NumPy arrays, a map-style Dataset of such pairs, or a DataLoader.
            One epoch must yield model.num_data examples. A loader's are counted beforehand if its length is known, and after
            every epoch. With drop_last a shuffled loader may also have model.num_data before it drops.
        epochs, batch_size: as usual; the last batch of an epoch may be smaller. A DataLoader brings its own batches.
        lr: Adam's learning rate, times ``lr_schedule(epoch)`` (default 1).
        lr_scale: factors for parameters by a word of their name, e.g. ``{"log_sigma2": 10.0}``.
        kl_schedule: KL weight by epoch (default 1).
        estimator: of the gradient, by how the noise is drawn: "local" reparameterization of every output, "flipout" (one weight draw a step, signs for
            every example), or one draw of the "weights" for the batch.
        threshold: train-time masking, see ``local_reparam``; a number, a schedule of numbers (``math.inf`` while
            there is to be none), or None for none.
        matmul_dtype: of the means' matrix products and convolutions, "float32" or, for hardware that has it, "bfloat16";
            parameters, variances, KL and likelihood are float32 in either, see ``matmul_precision``.
        engine: "auto", "eager", "compiled", or "cudagraph" for a GPU (which none has run yet), see Engine; the progress
            bar and ``Posterior.engine`` say what it was.
        seed: of the noise and of the order of the examples; by default a number drawn from torch's global generator, so
            that ``torch.manual_seed`` before it decides. The global generators are as they were afterwards, and
            ``Posterior.seed`` says what the seed was.
        checkpoint: checkpoint to resume from when it exists and to write after every epoch and when interrupted
            (``folder/name`` without suffix). One process at a time holds it. A run goes on only with the same
            arguments, data, network, likelihood and guide, and with schedules that have the same values in the epochs
            that it has; see pyro_vd.inference.resume. A DataLoader's order must come from PyTorch's generators; its contents are
            not compared.
        resume: "exact" refuses a checkpoint that was made by another PyTorch version, number of threads, engine or
            device, with which a run would not go on bit for bit; "any" goes on all the same, and does not compare the
            code of the user's functions. An engine of "auto" stays what it was.
        on_epoch: called as ``on_epoch(epoch, posterior)`` after every epoch; the numbers of the dict that it may
            return join the history and the progress bar.
        progress: show a progress bar.

    Returns:
        The posterior. Its history has one dict per epoch, of log_likelihood (mean over the epoch's steps), kl (at the
        epoch's end) and loss = beta * kl - log_likelihood in nats per example, lr, beta, seconds, and what ``on_epoch``
        gave.

    Raises:
        UserError: before the first step, when an epoch does not yield model.num_data examples, when targets do not fit the
            likelihood, when the pair cannot learn from these data (see pyro_vd.inference.preflight), for a last batch of one
            example under BatchNorm1d, or a number out of range; later, when a schedule gives such a number.
        NonFiniteError: on a NaN or infinite loss or gradient, naming parameter, epoch and step. The pair then holds
            the last finite state, unless the message says otherwise, and the last checkpoint stays.
        CheckpointError: when ``checkpoint`` cannot be written, is in use, or holds a damaged checkpoint (and so is the
            generation before it), one of another run or environment, or one of more epochs.
        KeyboardInterrupt: after the step under way, with everything saved.
    """
    _check_pair(model, guide)
    number = _seed(seed, checkpoint)
    posterior = Posterior(model, guide)
    _fit(
        [posterior], [number], train, epochs, batch_size, lr, lr_scale or {}, lr_schedule, kl_schedule, estimator,
        threshold, matmul_dtype, engine, checkpoint, resume, on_epoch, progress,
    )  # fmt: skip
    return posterior


def fit_seeds(
    make: Callable[[], tuple[LiftedModel, WeightGuide]],
    train: Data,
    *,
    seeds: Iterable[int],
    epochs: int,
    batch_size: int = 100,
    lr: float = 1e-3,
    lr_scale: dict[str, float] | None = None,
    lr_schedule: Schedule | None = None,
    kl_schedule: Schedule | None = None,
    estimator: Estimator = "local",
    threshold: float | Schedule | None = None,
    matmul_dtype: MatmulDtype = "float32",
    engine: Mode = "auto",
    checkpoint: str | Path | None = None,
    resume: Resume = "exact",
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
) -> list[Posterior]:
    """Trains a pair for every seed, each with its own initialisation, noise and order of the examples.

    Each is in distribution what :func:`fit` makes of ``make()`` after ``torch.manual_seed(seed)``, and with one seed it
    is that exactly. The compiled engine steps all of them in one graph (``torch.func.vmap``), which pays where one pair
    leaves the device idle; a CPU's cores are busy with one already. Eagerly they step one after the other.

    Args:
        make: makes the pair, a lifted model and a guide over its sites; called once for every seed, with torch's
            generator at that seed. The pairs have to be alike in all but the values of their tensors.
        train: LabeledImages or an (x, y) pair of tensors.
        seeds: different from each other.
        checkpoint: one checkpoint for all seeds.
        on_epoch: called for every seed's posterior.

    The other arguments are :func:`fit`'s.

    Returns:
        The posteriors, in the order of the seeds. An epoch's ``seconds`` are those of all seeds together.

    Raises:
        UserError: also for no seed, a seed given twice, pairs that are not alike, or a DataLoader.
        NonFiniteError: when one of the seeds meets a NaN or infinite loss or gradient, naming it; all stop.

    Example:
        >>> import pyro_vd
        >>> from pyro_vd import guides
        >>> def make():
        ...     net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        ...     model = pyro_vd.lift(net, prior=pyro_vd.LogUniform, likelihood=pyro_vd.Categorical, num_data=30)
        ...     return model, guides.sparse.Guide(model)
        >>> x, y = torch.randn(30, 4), torch.randint(3, (30,))
        >>> posteriors = fit_seeds(make, (x, y), seeds=[0, 1, 2], epochs=1, progress=False)
        >>> torch.stack([posterior.predict(x, num_samples=5) for posterior in posteriors]).shape
        torch.Size([3, 5, 30, 3])
    """
    numbers = _numbers(seeds)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        posteriors = [_made(make, seed) for seed in numbers]
    _fit(
        posteriors, numbers, train, epochs, batch_size, lr, lr_scale or {}, lr_schedule, kl_schedule, estimator, threshold,
        matmul_dtype, engine, checkpoint, resume, on_epoch, progress,
    )  # fmt: skip
    return posteriors


def _numbers(seeds: Iterable[int]) -> list[int]:
    try:
        numbers = [operator.index(seed) for seed in seeds]
    except TypeError:
        raise UserError(f"fit_seeds: seeds={seeds!r}: a list of whole numbers is needed") from None
    if not numbers or len(set(numbers)) < len(numbers):
        raise UserError(f"fit_seeds: seeds={numbers}: at least one is needed, and each only once")
    return numbers


def _made(make: Callable[[], tuple[LiftedModel, WeightGuide]], seed: int) -> Posterior:
    torch.manual_seed(seed)
    model, guide = make()
    _check_pair(model, guide)
    return Posterior(model, guide)


def _seed(given: int | None, checkpoint: str | Path | None) -> int:
    """The seed that was given; else that of the run to go on with; else one from torch's global generator, as a
    DataLoader draws its own."""
    if given is not None:
        return _whole("seed", given)
    drawn = int(torch.empty((), dtype=torch.int64).random_())
    begun = seed_of(Path(checkpoint)) if checkpoint else None
    return drawn if begun is None else begun


def _whole(name: str, value: int) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise UserError(f"fit: {name}={value!r} must be a whole number") from None


def _number(name: str, value: float, low: float, high: float) -> float:
    """The value as a Python float between the bounds, both included."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(f"fit: {name}={value!r} must be a number") from None
    if not low <= number <= high:  # NaN too
        raise UserError(f"fit: {name}={number:g} must be a finite number from {low:g} to {high:g}")
    return number


def _check_pair(model: object, guide: object) -> None:
    if not isinstance(model, LiftedModel):
        raise UserError(f"fit: model is {_kind(model)}; give the one that pyro_vd.lift makes of a network")
    if isinstance(guide, ModuleType):
        raise UserError(f"fit: guide is the module {guide.__name__}; give {guide.__name__}.Guide(model)")
    needed = ("q", "bounds", "project", "mark_started")
    if not isinstance(guide, nn.Module) or not all(hasattr(guide, name) for name in needed):
        raise UserError(
            f"fit: guide is {_kind(guide)}, not the guide of a dropout scheme; give guides.sparse.Guide(model) or "
            "another scheme's, or train it by pyro.infer.SVI"
        )


def _kind(what: object) -> str:
    return f"the class {what.__name__}, not an instance" if isinstance(what, type) else type(what).__name__


def _fit(
    posteriors: Sequence[Posterior],
    seeds: Sequence[int],
    train: Data,
    epochs: int,
    batch_size: int,
    lr: float,
    lr_scale: dict[str, float],
    lr_schedule: Schedule | None,
    kl_schedule: Schedule | None,
    estimator: Estimator,
    threshold: float | Schedule | None,
    matmul_dtype: MatmulDtype,
    engine: Mode,
    checkpoint: str | Path | None,
    resume: Resume,
    on_epoch: OnEpoch | None,
    progress: bool,
) -> None:
    epochs, batch_size = _whole("epochs", epochs), _whole("batch_size", batch_size)
    if epochs < 1 or batch_size < 1:
        raise UserError(f"fit: epochs={epochs} and batch_size={batch_size} must be at least 1")
    lr = _number("lr", lr, 0.0, LARGEST_LR)
    largest = LARGEST_LR / max(lr, 1.0)
    lr_scale = {word: _number(f"lr_scale[{word!r}]", factor, 0.0, largest) for word, factor in lr_scale.items()}
    if threshold is not None and estimator != "local":
        raise UserError(f"fit: threshold masks the means of local_reparam; with estimator={estimator!r} leave it out")
    check_how(resume)
    _check_alike(posteriors, seeds)
    num_data = int(posteriors[0].model.num_data)
    batches = Batches(train, batch_size, seeds, next(posteriors[0].guide.parameters()))
    batches.check(num_data)
    for posterior, seed in zip(posteriors, seeds, strict=True):
        posterior.seed = seed
    with _isolated(batches.device):
        torch.manual_seed(seeds[0])
        replicas = []
        for posterior in posteriors:
            objective = Objective(posterior.model, posterior.guide, estimator, matmul_dtype=matmul_dtype)
            replicas.append(EagerStep(objective, parameter_groups(objective, lr, lr_scale)))
        loop = Loop(
            engine=Engine(replicas, engine, epochs * (batches.steps or 0) * len(seeds), batches.full, batches.take),
            batches=batches,
            posteriors=posteriors,
            lr_schedule=_checked(lr_schedule or constant(), "lr_schedule", 0.0, largest),
            kl_schedule=_checked(kl_schedule or constant(), "kl_schedule", 0.0, LARGEST_KL_WEIGHT),
            mask_schedule=_checked(_mask_schedule(threshold), "threshold", -math.inf, math.inf),
            checkpoint=Path(checkpoint) if checkpoint else None,
            settings={
                "batch_size": batch_size,
                "lr": lr,
                "lr_scale": lr_scale,
                "estimator": estimator,
                "matmul_dtype": matmul_dtype,
                **({"seed": seeds[0]} if len(seeds) == 1 else {"seeds": list(seeds)}),
                "num_data": num_data,
            },
            on_epoch=on_epoch,
            automatic=engine == "auto",
            resume=resume,
        )
        for posterior in posteriors:
            posterior.model.train()
        try:
            loop.train(epochs, progress)
        finally:
            for posterior in posteriors:
                posterior.model.eval()
            if len(replicas) > 1:
                separate(replicas)


@contextmanager
def _isolated(device: torch.device) -> Iterator[None]:
    """Room for one fit of the process: Pyro's handlers and torch's generator are global. Gradients are on inside, and
    the caller's random state is as it was outside."""
    devices = [device] if device.type == "cuda" else []
    with PYRO_LOCK, torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.enable_grad():
        yield


def _checked(schedule: Schedule, name: str, low: float, high: float) -> Schedule:
    """The schedule, refusing numbers out of range, as Python floats."""
    return lambda epoch: _number(f"{name}({epoch})", schedule(epoch), low, high)


def _check_alike(posteriors: Sequence[Posterior], seeds: Sequence[int]) -> None:
    """One graph steps all pairs, so what is no tensor of theirs, a prior's numbers for one, has to be the same."""
    first = _alike(posteriors[0])
    owners: set[int] = set()
    for seed, posterior in zip(seeds, posteriors, strict=True):
        if _alike(posterior) != first:
            raise UserError(
                f"fit_seeds: seeds {seeds[0]} and {seed} make pairs that differ in more than the values of their "
                "parameters and buffers, in likelihood, scheme, prior, shapes, num_data or a layer's settings; give every "
                "seed the same, or call fit for each"
            )
        own = {id(tensor) for _, tensor in _tensors(posterior)}
        if own & owners:
            raise UserError(
                f"fit_seeds: seed {seed} shares tensors with another; make has to make a new pair each time"
            )
        owners |= own


def _alike(posterior: Posterior) -> tuple:
    tensors = [(name, value.shape, value.dtype, value.requires_grad) for name, value in _tensors(posterior)]
    model, guide = posterior.model, posterior.guide
    settings = describe_modules(model.net), describe_modules(guide), describe(model.likelihood)
    return signature(model, guide), model.num_data, tensors, settings


def _tensors(posterior: Posterior) -> Iterator[tuple[str, Tensor]]:
    yield from pair_state(posterior.model, posterior.guide)
    if isinstance(posterior.model.likelihood, nn.Module):
        yield from posterior.model.likelihood.named_parameters("likelihood")


def _mask_schedule(threshold: float | Schedule | None) -> Schedule:
    return threshold if callable(threshold) else constant(math.inf if threshold is None else threshold)
