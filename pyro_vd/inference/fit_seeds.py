"""fit_seeds: fit on a pair for every seed, all at once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from pyro_vd.errors import UserError
from pyro_vd.inference.engine import EngineName
from pyro_vd.inference.examples import Data, ReadBatch
from pyro_vd.inference.fit import check_pair, train_pairs
from pyro_vd.inference.identity import describe, describe_modules
from pyro_vd.inference.loop import OnEpoch
from pyro_vd.inference.resume import Resume
from pyro_vd.inference.training import Training, TrainingOptions, make_training
from pyro_vd.inference.user_numbers import to_seed
from pyro_vd.inference.validation import is_share, make_validation
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.pair import pair_state, signature
from pyro_vd.model.weight_guide import WeightGuide
from pyro_vd.posterior import Posterior

__all__ = ["fit_seeds"]


def fit_seeds(
    make: Callable[[], tuple[LiftedModel, WeightGuide]],
    train: Data,
    training: Training | None = None,
    *,
    seeds: Iterable[int],
    subsets: Sequence[Tensor] | None = None,
    batch: ReadBatch | None = None,
    engine: EngineName = "auto",
    checkpoint: str | Path | None = None,
    resume: Resume = "exact",
    on_epoch: OnEpoch | None = None,
    validation: Data | float | None = None,
    patience: int | None = None,
    best: bool = True,
    progress: bool = True,
    **options: Unpack[TrainingOptions],
) -> list[Posterior]:
    """Trains a pair for every seed, each with its own initialization, noise and order of the examples.

    Each is in distribution what :func:`fit` makes of ``make()`` after ``torch.manual_seed(seed)``, and with one seed it
    is that exactly. The compiled engine steps all of them in one graph (``torch.func.vmap``), which is faster if one
    pair leaves the device idle; a CPU's cores are busy with one already. Eagerly they step one after the other.

    Args:
        make: makes the pair, a lifted model and a guide over its sites; called once for every seed, in their order,
            with torch's generator at that seed. The pairs must be alike in all but the values of their tensors.
        train: as for :func:`fit`, except a DataLoader.
        training: as for :func:`fit`, or its fields as keyword arguments.
        seeds: different from each other.
        subsets: for each seed the indices of the examples that it is trained on, as in cross-validation; equally many,
            and model.num_data is their number. None for all examples.
        checkpoint: one checkpoint for all seeds.
        on_epoch: called for every seed's posterior. If it raises StopTraining for one, the training of all ends.
        validation: examples, or the share of the training set to hold out, by the first seed and for all.
        patience: of the seed that needs most; the training of all ends then.
        best: return the best epoch of every seed.

    The other arguments are :func:`fit`'s.

    Returns:
        The posteriors, in the order of the seeds. An epoch's ``seconds`` are those of all seeds together.

    Raises:
        UserError: also for no seed, a seed given twice, pairs that are not alike, a DataLoader, subsets that do not fit
            the seeds or the examples, or a share to hold out of them.
        NonFiniteError: if one of the seeds meets a NaN or infinite loss or gradient, naming it; all stop.

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
    chosen = make_training(fit_seeds, training, options)
    numbers = _check_seeds(seeds)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        posteriors = [_make_pair(make, seed) for seed in numbers]
    _check_alike(posteriors, numbers)
    if subsets is not None and is_share(validation):
        raise UserError(
            f"fit_seeds: validation={validation} cannot be held out of several subsets; give the validation set itself"
        )
    examples, held = make_validation(train, validation, patience, best, chosen, posteriors[0], numbers[0], batch)
    train_pairs(
        posteriors, numbers, examples, chosen, engine, checkpoint, resume, on_epoch, held, progress, batch, subsets
    )
    return posteriors


def _check_seeds(seeds: Iterable[int]) -> list[int]:
    try:
        numbers = [operator.index(seed) for seed in seeds]
    except TypeError:
        raise UserError(f"fit_seeds: seeds={seeds!r}: a list of whole numbers is needed") from None
    if not numbers or len(set(numbers)) < len(numbers):
        raise UserError(f"fit_seeds: seeds={numbers}: at least one is needed, and each only once")
    return [to_seed("fit_seeds: seed", number) for number in numbers]


def _make_pair(make: Callable[[], tuple[LiftedModel, WeightGuide]], seed: int) -> Posterior:
    torch.manual_seed(seed)
    model, guide = make()
    check_pair(model, guide)
    return Posterior(model, guide)


def _check_alike(posteriors: Sequence[Posterior], seeds: Sequence[int]) -> None:
    """One graph steps all pairs, so what is not a tensor of theirs must be the same, for example a prior's numbers."""
    first = _describe_pair(posteriors[0])
    owners: set[int] = set()
    for seed, posterior in zip(seeds, posteriors, strict=True):
        if _describe_pair(posterior) != first:
            raise UserError(
                f"fit_seeds: seeds {seeds[0]} and {seed} make pairs that differ in more than the values of their "
                "parameters and buffers, in likelihood, scheme, prior, shapes, num_data or a layer's settings; give "
                "every seed the same, or call fit for each"
            )
        own = {id(tensor) for _, tensor in _tensors(posterior)}
        if own & owners:
            raise UserError(f"fit_seeds: seed {seed} shares tensors with another; make must make a new pair each time")
        owners |= own


def _describe_pair(posterior: Posterior) -> tuple[Any, ...]:
    tensors = [(name, value.shape, value.dtype, value.requires_grad) for name, value in _tensors(posterior)]
    model, guide = posterior.model, posterior.guide
    settings = describe_modules(model.net), describe_modules(guide), describe(model.likelihood)
    return signature(model, guide), model.num_data, tensors, settings


def _tensors(posterior: Posterior) -> Iterator[tuple[str, Tensor]]:
    yield from pair_state(posterior.model, posterior.guide)
    if isinstance(posterior.model.likelihood, nn.Module):
        yield from posterior.model.likelihood.named_parameters("likelihood")
