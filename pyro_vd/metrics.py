"""Numbers of a classifier's predictions: how often wrong, how well calibrated, and in what doubt."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError

__all__ = [
    "Reliability",
    "Uncertainty",
    "auroc",
    "brier_score",
    "doubt",
    "error_rate",
    "expected_calibration_error",
    "log_score",
    "logits_of",
    "predictive_probabilities",
    "reliability",
    "risk_coverage_curve",
]  # fmt: skip

BINS = 15  # Guo et al. 2017
DRAWS = ("draws", "n", "classes")
SUM_TOLERANCE = 1e-2  # of float16 probabilities


@torch.no_grad()
def logits_of(net: Callable[[Tensor], Tensor], examples: LabeledImages, batch_size: int = 1000) -> Tensor:
    """The network's outputs over all examples, (n, classes), without holding more than one batch of activations.

    Raises:
        UserError: if there are no examples, or for a batch size below 1.
    """
    if not len(examples) or batch_size < 1:
        raise UserError(f"logits_of: {len(examples)} examples, batch_size={batch_size}; at least 1 of each is needed")
    indices = torch.arange(len(examples), device=examples.labels.device).split(batch_size)
    return torch.cat([net(examples.batch(index)[0]) for index in indices])


def error_rate(scores: Tensor, labels: Tensor) -> float:
    """Share of examples whose largest score is not their label's, a fraction.

    Args:
        scores: (n, classes), logits or probabilities; of an image of classes, (n, classes, height, width), give
            ``scores.movedim(1, -1).flatten(0, -2)`` and ``labels.flatten()``.
        labels: (n,), integers.

    Raises:
        UserError: for other shapes, no examples, a label that is no class, and NaN; so do all functions below.
    """
    _check_scores("error_rate", scores, ("n", "classes"), labels)
    return (scores.argmax(-1) != labels).double().mean().item()


def predictive_probabilities(logits: Tensor) -> Tensor:
    """Posterior predictive class probabilities (n, classes) from logits of weight draws (draws, n, classes)."""
    _check_scores("predictive_probabilities", logits, DRAWS)
    return F.softmax(logits, dim=-1).mean(0)


def log_score(logits: Tensor, labels: Tensor) -> Tensor:
    """Log probability of each label under the average over weight draws, nats, (n,).

    Its sum is the expected log predictive density of the examples (elpd), its mean's negative the NLL. The average is
    taken of logarithms, so that a label that every draw finds impossible has a finite score.

    Args:
        logits: (draws, n, classes).
        labels: (n,).

    Example:
        >>> log_score(torch.tensor([[[0.0, 0.0]], [[0.0, 1000.0]]]), torch.tensor([0]))
        tensor([-1.3863])
    """
    _check_scores("log_score", logits, DRAWS, labels)
    per_draw = F.log_softmax(logits, -1).gather(-1, labels.long().expand(len(logits), -1)[..., None])[..., 0]
    return per_draw.logsumexp(0) - torch.tensor(float(len(logits))).log()


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """Squared distance of the probabilities (n, classes) from the one-hot labels, summed over classes and averaged over
    examples (Brier 1950): from 0 to 2, and 0.9 for ten equal probabilities."""
    _check_probabilities("brier_score", probabilities, labels)
    return (probabilities - F.one_hot(labels.long(), probabilities.shape[-1])).square().sum(-1).double().mean().item()


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Expected calibration error: distance between confidence and accuracy, averaged over ``bins`` equal intervals of
    confidence by their numbers of examples (Naeini et al. 2015, Guo et al. 2017), a fraction.

    A confidence of exactly 1, which float32 has often, is in the last interval; torchmetrics gives it one of its own.
    """
    found = reliability(probabilities, labels, bins)
    gaps = (found.confidence - found.accuracy).abs() * found.examples
    return (gaps.sum() / found.examples.sum()).item()


class Reliability(NamedTuple):
    """A reliability diagram: what falls into each of equal intervals of confidence, the largest probability.

    Attributes:
        examples: how many are in the interval, (bins,), int64.
        confidence: its average, (bins,), float64; 0 in an interval without examples.
        accuracy: its average, (bins,), float64; 0 in an interval without examples.
    """

    examples: Tensor
    confidence: Tensor
    accuracy: Tensor


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """The diagram whose gaps, weighted by their examples, :func:`expected_calibration_error` adds up (Guo et al. 2017).

    Args:
        probabilities: (n, classes).
        labels: (n,).

    Example:
        >>> found = reliability(torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]]), torch.tensor([0, 1, 1]), bins=2)
        >>> found.examples.tolist(), [round(value, 3) for value in found.accuracy.tolist()]
        ([0, 3], [0.0, 0.667])
    """
    _check_probabilities("reliability", probabilities, labels)
    if bins < 1:
        raise UserError(f"reliability: bins={bins}; at least 1 is needed")
    confidence, predicted = probabilities.double().max(-1)
    place = (confidence * bins).long().clamp(max=bins - 1)
    count = place.bincount(minlength=bins)

    def average(values: Tensor) -> Tensor:
        return torch.zeros_like(count, dtype=torch.float64).index_add_(0, place, values) / count.clamp(min=1)

    return Reliability(count, average(confidence), average((predicted == labels).double()))


class Uncertainty(NamedTuple):
    """Entropy of the predictions in nats, (n,), and its parts.

    Attributes:
        total: entropy of the average over weight draws.
        aleatoric: average entropy of a draw's prediction: what is left where all draws agree.
        epistemic: total - aleatoric, the mutual information of label and weights: what more data would end.
    """

    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


def doubt(logits: Tensor) -> Uncertainty:
    """The parts of a prediction's entropy (Depeweg et al. 2018), from logits of weight draws (draws, n, classes).

    Example:
        >>> agreed, divided = torch.zeros(2, 1, 2), torch.tensor([[[40.0, 0.0]], [[0.0, 40.0]]])
        >>> [[round(float(part), 3) for part in doubt(logits)] for logits in (agreed, divided)]
        [[0.693, 0.693, 0.0], [0.693, 0.0, 0.693]]
    """
    _check_scores("doubt", logits, DRAWS)
    total = _entropy(predictive_probabilities(logits.double()))
    aleatoric = _entropy(F.softmax(logits.double(), dim=-1)).mean(0)
    return Uncertainty(total, aleatoric, (total - aleatoric).clamp(min=0.0))


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(-1)


def auroc(inside: Tensor, outside: Tensor) -> float:
    """Probability that an outsider's score is above an insider's, ties half: 1/2 for a score that knows nothing.

    Args:
        inside: doubt about examples of the kind that was trained on, (n,).
        outside: doubt about others, (m,).

    Raises:
        UserError: if one of them is empty or of another shape, or a score is NaN.
    """
    from sklearn.metrics import roc_auc_score  # not where networks are only trained

    _check_vector("auroc", inside)
    _check_vector("auroc", outside)
    is_outside = torch.cat([torch.zeros(len(inside)), torch.ones(len(outside))])
    return float(roc_auc_score(is_outside.numpy(), torch.cat([inside, outside]).cpu().numpy()))


def risk_coverage_curve(doubts: Tensor, wrong: Tensor) -> Tensor:
    """Error among the k examples with the least doubt, k = 1 .. n, as fractions; examples of equal doubt share theirs.

    Args:
        doubts: (n,), any score that grows with doubt.
        wrong: (n,), bool.

    Example:
        >>> risk_coverage_curve(torch.tensor([0.3, 0.1, 0.2]), torch.tensor([True, False, False]))
        tensor([0.0000, 0.0000, 0.3333], dtype=torch.float64)
    """
    _check_vector("risk_coverage_curve", doubts)
    if wrong.shape != doubts.shape or wrong.dtype != torch.bool:
        raise UserError(
            f"risk_coverage_curve: wrong is {_described(wrong)}; bool of shape {tuple(doubts.shape)} is needed"
        )
    values, inverse, counts = doubts.unique(return_inverse=True, return_counts=True)
    share = torch.zeros(len(values), dtype=torch.float64, device=doubts.device)
    share.index_add_(0, inverse, wrong.double())
    expected = (share / counts).repeat_interleave(counts)  # of a tie, any order
    return expected.cumsum(0) / torch.arange(1, len(doubts) + 1, device=doubts.device)


def _check_scores(name: str, scores: Tensor, axes: tuple[str, ...], labels: Tensor | None = None) -> None:
    """Refuses what would be broadcast, averaged or compared into a number that means nothing."""
    wanted = f"({', '.join(axes)})"
    if scores.ndim != len(axes) or not scores.numel() or not scores.is_floating_point():
        raise UserError(f"{name}: the scores are {_described(scores)}; floating point {wanted}, not empty, is needed")
    classes = scores.shape[-1]
    if classes < 2:
        raise UserError(f"{name}: one score an example, as of a regressor or a binary logit; {wanted} has two at least")
    if not scores.max().item() < float("inf"):  # NaN among them
        raise UserError(f"{name}: a score is NaN or infinite; the network or its inputs are broken")
    if labels is not None:
        _check_labels(name, labels, scores.shape[-2], classes)


def _check_labels(name: str, labels: Tensor, n: int, classes: int) -> None:
    if labels.shape != (n,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(f"{name}: the labels are {_described(labels)}; integers of shape ({n},) are needed")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise UserError(f"{name}: labels from {low} to {high}, but the classes are 0 to {classes - 1}")


def _check_probabilities(name: str, probabilities: Tensor, labels: Tensor) -> None:
    _check_scores(name, probabilities, ("n", "classes"), labels)
    off = (probabilities.double().sum(-1) - 1).abs().max().item()
    if probabilities.min().item() < 0 or off > SUM_TOLERANCE:
        raise UserError(f"{name}: a row is no probabilities, which are at least 0 and sum to 1; predictive_probabilities "
                        "makes them of logits")  # fmt: skip


def _check_vector(name: str, scores: Tensor) -> None:
    if scores.ndim != 1 or not len(scores) or bool(scores.isnan().any()):
        raise UserError(f"{name}: scores are {_described(scores)}; a vector is needed, not empty, none NaN")


def _described(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"
