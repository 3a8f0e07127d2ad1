"""fit: stochastic variational inference on a (model, guide) pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Unpack

import torch
from torch import Tensor, nn

from pyro_vd.errors import UserError
from pyro_vd.inference.batches import make_batches
from pyro_vd.inference.engine import EagerStep, Engine, EngineName, Ensemble, Objective
from pyro_vd.inference.examples import Data, ReadBatch
from pyro_vd.inference.loop import Loop, OnEpoch
from pyro_vd.inference.resume import Resume, check_resume, read_seed
from pyro_vd.inference.seen_inputs import record_seen_inputs
from pyro_vd.inference.training import Training, TrainingOptions, make_training
from pyro_vd.inference.user_numbers import to_seed
from pyro_vd.inference.validation import Validation, make_validation
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.weight_guide import WeightGuide
from pyro_vd.posterior import Posterior
from pyro_vd.process_state import PYRO_LOCK

__all__ = ["check_pair", "fit", "train_pairs"]


def fit(
    model: LiftedModel,
    guide: WeightGuide,
    train: Data,
    training: Training | None = None,
    *,
    batch: ReadBatch | None = None,
    seed: int | None = None,
    engine: EngineName = "auto",
    checkpoint: str | Path | None = None,
    resume: Resume = "exact",
    on_epoch: OnEpoch | None = None,
    validation: Data | float | None = None,
    patience: int | None = None,
    best: bool = True,
    progress: bool = True,
    **options: Unpack[TrainingOptions],
) -> Posterior:
    """Trains the pair on the analytic-KL objective.

    What decides the numbers is a :class:`~pyro_vd.Training`, given as a value, or, in the short form, by its fields:
    ``fit(model, guide, train, epochs=5, lr=1e-3)`` is ``fit(model, guide, train, Training(epochs=5, lr=1e-3))``.

    Args:
        model, guide: a lifted model and a guide over its sites; trained in place.
        train: LabeledImages, an (x, y) pair of tensors or NumPy arrays, a map-style Dataset of such pairs, or a
            DataLoader. Inputs in a tuple are positional arguments of the network, those in a dict arguments by name;
            targets have the containers of what the likelihood gives. One epoch must yield model.num_data examples. A
            loader's are counted beforehand if its length is known, and after every epoch. With drop_last a shuffled
            loader may also have model.num_data before it drops.
        training: epochs, batch sizes, learning rates, schedules, estimator, threshold, dtype of products, optimizer and
            clipping.
        batch: for a DataLoader or a Dataset that does not yield pairs: a function of what it yields to the pair (x, y).
            A Dataset's items are collated first. The first axis of y counts examples, that of x need not.
        seed: of the noise and of the order of the examples; by default a number drawn from torch's global generator, so
            that ``torch.manual_seed`` before the call decides. The global generators are as they were afterwards, and
            ``Posterior.seed`` is the seed that was used.
        engine: "auto", "eager", "compiled", or "cudagraph" for a GPU, see :class:`~pyro_vd.inference.engine.Engine`;
            the progress bar and ``Posterior.engine`` say which it was.
        checkpoint: path, as ``folder/name`` without suffix, of the checkpoint to resume from if it exists and to write
            after every epoch and on an interruption. One process at a time holds it. A run goes on only with the same
            arguments, data, network, likelihood and guide, and with schedules that give the same values in the epochs
            that it has. A longer run may have another schedule from there on. A DataLoader's order must come from
            PyTorch's generators; its contents are not compared.
        resume: "exact" refuses a checkpoint that was made by another PyTorch version, number of threads, engine or
            device, with which a run would not go on bit for bit. "any" goes on all the same, and does not compare
            schedules that are plain functions, nor the code of the user's functions. An engine of "auto" stays what it
            was.
        on_epoch: called as ``on_epoch(epoch, posterior)`` after every epoch, with the model in eval mode. The numbers
            of the dict that it may return join the history and the progress bar. It ends the training after the epoch
            by raising :class:`~pyro_vd.StopTraining`; the same run goes on if it is given more epochs.
        validation: held-out examples, as ``train``, or the share of the training set to hold out, drawn by the seed;
            model.num_data is then the number of the other examples. Their score is measured after every epoch: the mean
            log-likelihood of their targets under the network at the posterior mean. Images are not augmented.
        patience: ends the training so many epochs after the one with the highest score. Epochs of a warm-up are not
            compared: those before the KL weight and the threshold have their last value.
        best: with a validation set, return the posterior of the epoch with the highest score, instead of the last one.
        progress: show a progress bar.
        **options: the fields of Training, instead of ``training``: epochs, batch_size=100, lr=1e-3, lr_scale={},
            lr_schedule=Constant(), kl_schedule=Constant(), estimator="local", threshold=None, matmul_dtype="float32",
            optimizer=optim.Adam(), clip_norm=None, micro_batch_size=None.

    Returns:
        The posterior. Its history has one dict per epoch, of log_likelihood (mean over the epoch's steps), kl (at the
        epoch's end) and loss = beta * kl - log_likelihood in nats per example, lr, beta, seconds, with a validation set
        validation_log_likelihood, and what ``on_epoch`` returned.

    Raises:
        UserError: before the first step, if ``training`` and its fields are both given, if an epoch does not yield
            model.num_data examples, if targets do not fit the likelihood, if the pair cannot learn from these data (see
            pyro_vd.inference.preflight), for a last batch of one example under BatchNorm1d, for a validation set that
            does not fit the model, or a number out of range; later, if a schedule that is a function gives such a
            number.
        TypeError: for a keyword that is neither fit's own nor a field of Training.
        NonFiniteError: on a NaN or infinite loss or gradient, naming parameter, epoch and step. The pair then holds
            the last finite state, unless the message says otherwise, and the last checkpoint is kept.
        CheckpointError: if ``checkpoint`` cannot be written, is in use, or holds a damaged checkpoint (and so is the
            generation before it), one of another run or environment, or one of more epochs.
        KeyboardInterrupt: after the step under way, with everything saved.

    Example:
        >>> import pyro_vd
        >>> from pyro_vd import Training, guides, schedules
        >>> net = nn.Linear(4, 3)
        >>> model = pyro_vd.lift(net, prior=pyro_vd.LogUniform, likelihood=pyro_vd.Categorical, num_data=30)
        >>> data = torch.randn(30, 4), torch.randint(3, (30,))
        >>> training = Training(epochs=2, lr=1e-2, kl_schedule=schedules.WarmUp(wait=0, ramp=2))
        >>> len(fit(model, guides.sparse.Guide(model), data, training, progress=False).history)
        2
    """
    chosen = make_training(fit, training, options)
    check_pair(model, guide)
    number = _find_seed(seed, checkpoint)
    posterior = Posterior(model, guide)
    examples, held = make_validation(train, validation, patience, best, chosen, posterior, number, batch)
    train_pairs([posterior], [number], examples, chosen, engine, checkpoint, resume, on_epoch, held, progress, batch)
    return posterior


def check_pair(model: object, guide: object) -> None:
    """Raises UserError unless these are a lifted model and a guide of a dropout scheme."""
    if not isinstance(model, LiftedModel):
        raise UserError(f"fit: model is {_describe_type(model)}; give the one that pyro_vd.lift makes of a network")
    if isinstance(guide, ModuleType):
        raise UserError(f"fit: guide is the module {guide.__name__}; give {guide.__name__}.Guide(model)")
    needed = ("q", "bounds", "project", "mark_started")
    if not isinstance(guide, nn.Module) or not all(hasattr(guide, name) for name in needed):
        raise UserError(
            f"fit: guide is {_describe_type(guide)}, not the guide of a dropout scheme; give "
            "guides.sparse.Guide(model) or another scheme's, or train it by pyro.infer.SVI"
        )


def train_pairs(
    posteriors: Sequence[Posterior],
    seeds: Sequence[int],
    train: Data,
    training: Training,
    engine: EngineName,
    checkpoint: str | Path | None,
    resume: Resume,
    on_epoch: OnEpoch | None,
    validation: Validation | None,
    progress: bool,
    read: ReadBatch | None = None,
    subsets: Sequence[Tensor] | None = None,
) -> None:
    """Trains one pair, or several that are alike, one for every seed; see :func:`fit` and :func:`fit_seeds`."""
    check_resume(resume)
    training.check_schedules()
    like = next(posteriors[0].guide.parameters())
    batches = make_batches(train, training.batch_size, seeds, like, read, subsets)
    batches.check(int(posteriors[0].model.num_data))
    record_seen_inputs(posteriors, batches, validation)
    for posterior, seed in zip(posteriors, seeds, strict=True):
        posterior.seed = seed
    with _isolate(batches.device):
        torch.manual_seed(seeds[0])
        pairs = [_make_step(posterior, training) for posterior in posteriors]
        for posterior, member in zip(posteriors, pairs, strict=True):
            posterior.optimizer = member.optimizer if member.update.has_result else None
        pair = pairs[0] if len(pairs) == 1 else Ensemble(pairs)
        steps = training.epochs * (batches.steps or 0) * len(seeds)
        loop = Loop(
            Engine(pair, engine, steps, batches.batch_size, batches.gather),
            batches,
            posteriors,
            seeds,
            training,
            Path(checkpoint) if checkpoint else None,
            resume,
            on_epoch,
            validation,
        )
        for posterior in posteriors:
            posterior.model.train()
        try:
            loop.train(progress)
        finally:
            for posterior in posteriors:
                posterior.model.eval()
            if isinstance(pair, Ensemble):
                pair.unstack()
        if validation is not None:
            validation.finish(posteriors)


def _make_step(posterior: Posterior, training: Training) -> EagerStep:
    objective = Objective(
        posterior.model,
        posterior.guide,
        training.estimator,
        matmul_dtype=training.matmul_dtype,
        micro_batch_size=training.micro_batch_size,
    )
    return EagerStep(objective, training.lr, training.lr_scale, training.optimizer, training.clip_norm)


@contextmanager
def _isolate(device: torch.device) -> Iterator[None]:
    """One fit of the process at a time: Pyro's handlers and torch's generator are global. Gradients are on inside, and
    the caller's random state is restored on exit."""
    devices = [device] if device.type == "cuda" else []
    with PYRO_LOCK, torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.enable_grad():
        yield


def _find_seed(given: int | None, checkpoint: str | Path | None) -> int:
    """The seed that was given; otherwise that of the run to go on with; otherwise one drawn from torch's global
    generator, as a DataLoader draws its own."""
    if given is not None:
        return to_seed("fit: seed", given)
    drawn = int(torch.empty((), dtype=torch.int64).random_())
    saved = read_seed(Path(checkpoint)) if checkpoint else None
    return drawn if saved is None else saved


def _describe_type(value: object) -> str:
    return f"the class {value.__name__}, not an instance" if isinstance(value, type) else type(value).__name__
