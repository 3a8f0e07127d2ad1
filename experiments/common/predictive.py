"""Metrics of predictions from several weight draws: error, proper scores, calibration, uncertainty."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, rotate

from pyro_vd import metrics
from pyro_vd.errors import UserError
from pyro_vd.experiments.common.records import Record

__all__ = ["ood_auroc", "quality", "risk_coverage", "rotate_images", "scaled_quality"]

COVERAGES = tuple(range(50, 101, 2))  # percent of the examples that are predicted


def quality(logits: Tensor, labels: Tensor) -> Record:
    """Error, proper scores and calibration of the average over draws.

    Args:
        logits: (draws, n, classes); one draw for the posterior mean.
        labels: (n,).
    """
    probabilities = metrics.predictive_probabilities(logits)
    diagram = metrics.reliability(probabilities, labels)
    return {
        "error": metrics.error_rate(probabilities, labels),
        "nll": -metrics.log_score(logits, labels).double().mean().item(),
        "brier": metrics.brier_score(probabilities, labels),
        "expected_calibration_error": metrics.expected_calibration_error(probabilities, labels),
        "reliability": {key: values.tolist() for key, values in diagram._asdict().items()},
    }


def scaled_quality(logits: Tensor, labels: Tensor) -> Record | None:
    """Log score and calibration of the average over draws after temperature scaling, with the mean temperature. None if
    a half has no temperature, for example because every prediction in it is right.

    The temperature of each half of the examples is fitted on the other half (Ashukha et al. 2020, section 4.1), so no
    training image is lost to it. Examples of even index are one half.

    Args:
        logits: (draws, n, classes); one draw for the posterior mean.
        labels: (n,).
    """
    scores = metrics.predictive_probabilities(logits.double()).clamp_min(1e-30).log()  # no logit may be infinite
    halves = torch.arange(len(labels), device=labels.device) % 2 == 0
    try:
        found = [metrics.fit_temperature(scores[half], labels[half]) for half in (~halves, halves)]
    except UserError:
        return None
    scaled = torch.where(halves[:, None], found[0](scores), found[1](scores))
    return {
        "temperature": (found[0].value + found[1].value) / 2,
        "nll": -metrics.log_score(scaled[None], labels).double().mean().item(),
        "expected_calibration_error": metrics.expected_calibration_error(scaled.softmax(-1), labels),
    }


def risk_coverage(logits: Tensor, labels: Tensor) -> Record:
    """Percent of the examples, least entropy first -> error among them."""
    wrong = metrics.predictive_probabilities(logits).argmax(-1) != labels
    curve = metrics.risk_coverage_curve(metrics.predictive_uncertainty(logits).total, wrong)
    return {str(covered): curve[max(1, covered * len(labels) // 100) - 1].item() for covered in COVERAGES}


def ood_auroc(inside: metrics.Uncertainty, outside: metrics.Uncertainty) -> dict[str, float]:
    """AUROC of detecting out-of-distribution examples by their entropy, and by its epistemic part."""
    return {part: metrics.auroc(getattr(inside, part), getattr(outside, part)) for part in PARTS}


PARTS = ("total", "epistemic")


def rotate_images(images: Tensor, degrees: float) -> Tensor:
    """Rotates images counter-clockwise, with bilinear interpolation and black corners; uint8 images stay uint8."""
    if not degrees:
        return images
    rotated = rotate(images.float(), degrees, InterpolationMode.BILINEAR)
    return rotated.round().to(torch.uint8) if images.dtype == torch.uint8 else rotated
