"""What is measured of a trained spec: the numbers of its record. Errors are fractions of the test set."""

from __future__ import annotations

from functools import partial

import torch

from pyro_vd import CompressionReport, Posterior, compress, compression_report
from pyro_vd.data import DataSplits
from pyro_vd.experiments.common.deployment import measure_files, shrink_pruned, try_deploy
from pyro_vd.experiments.common.phases import averaged_inputs, measure_error
from pyro_vd.experiments.common.pictures import draw_run
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.runner import Trained
from pyro_vd.experiments.common.spec import Fit
from pyro_vd.metrics import error_rate, predictive_probabilities

__all__ = ["ACCURACY_KEYS", "COMPRESSION_KEYS", "THRESHOLDS", "count", "measure_accuracy",
           "measure_compression"]  # fmt: skip

COMPRESSION_KEYS = (
    "test_error", "test_error_unpruned", "test_error_mc", "sparsity_per_layer", "weights", "nonzero", "compression",
    "curve",
)  # fmt: skip
"""Numbers of ``measure_compression`` that every record has."""
ACCURACY_KEYS = ("test_error", "test_error_best", "test_error_mc")
"""Numbers of ``measure_accuracy`` that every record has."""
THRESHOLDS = (-2.0, -1.0, 0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)
THRESHOLD = 3.0  # of log_alpha, one for all schemes that are compared (Molchanov et al. 2017)
LOG_ALPHA_RANGE, NUM_BINS = (-15.0, 15.0), 60


def measure_compression(trained: Trained) -> Record:
    """Error, counts, the curve over thresholds, and the cost of deployment; draws pictures beside the record.

    ``test_error`` is that of the pruned network, the others and the curve are those of the posterior.
    """
    state, split, spec = trained.state, trained.split, trained.spec
    posterior = state.posterior
    assert posterior is not None
    counted = compression_report(state.net, posterior.model.priors)
    phase = spec.main
    of_posterior = _measure_posterior(trained, posterior) if isinstance(phase, Fit) else {}
    threshold = (phase.threshold or 0.0) if isinstance(phase, Fit) else 0.0
    file, fresh = trained.stem.with_name(f"{trained.stem.name}.safetensors.xz"), partial(trained.make, split.classes)
    record = {
        **count(trained, counted),
        **of_posterior,
        **try_deploy(lambda: measure_files(posterior, shrink_pruned(state.net, split), split, threshold, fresh, file)),
    }
    if isinstance(phase, Fit):
        draw_run(posterior, spec, state.history, trained.stem)
    return record


def count(trained: Trained, counted: CompressionReport) -> Record:
    """Error and counts of the pruned network; the numbers of the posterior are None."""
    before = trained.state.error_before_tuning
    return {
        **dict.fromkeys(COMPRESSION_KEYS),
        "test_error": measure_error(trained.state.net, trained.split.test),
        "sparsity_per_layer": counted.sparsity_per_layer,
        "weights": counted.weights,
        "nonzero": counted.nonzero,
        "compression": _finite(counted.compression),
        "curve": [],
        **({} if before is None else {"test_error_pruned": before}),
    }


def _measure_posterior(trained: Trained, posterior: Posterior) -> Record:
    test, inputs = trained.split.test, averaged_inputs(trained.split)
    draws = posterior.predict(test.images, trained.spec.num_samples)
    points = compress.pruning_curve(posterior, THRESHOLDS, partial(measure_error, examples=test), inputs)
    return {
        "test_error_unpruned": measure_error(posterior.mean(inputs=inputs), test),
        "test_error_mc": error_rate(predictive_probabilities(draws), test.labels),
        "curve": [
            {"threshold": point.threshold, "error": point.metric, "compression": _finite(point.report.compression)}
            for point in points
        ],
    }


def measure_accuracy(trained: Trained) -> Record:
    """Errors of the posterior mean after the last and the best epoch and of weight draws, of the mean on the training
    set, and, for schemes with a log_alpha, sparsity and error at the published threshold."""
    state, split, spec = trained.state, trained.split, trained.spec
    posterior = state.posterior
    assert posterior is not None
    draws, inputs = posterior.predict(split.test.images, spec.num_samples), averaged_inputs(split)
    errors = [row["error"] for row in state.history if row["phase"] == "fit" and "error" in row]
    return {
        "test_error": errors[-1],
        "test_error_best": min(errors),
        "test_error_mc": error_rate(predictive_probabilities(draws), split.test.labels),
        "train_error": measure_error(posterior.mean(inputs=inputs), split.train),
        "weights": trained.weights,
        **_measure_log_alpha(posterior, split),
    }


def _measure_log_alpha(posterior: Posterior, split: DataSplits) -> Record:
    """Sparsity and error at the threshold, and the distribution of log_alpha; empty without a log_alpha."""
    try:
        log_alpha = torch.cat([values.flatten() for values in posterior.log_alpha().values()]).clamp(*LOG_ALPHA_RANGE)
    except TypeError:
        return {}
    pruned = posterior.mean(posterior.masks(THRESHOLD), averaged_inputs(split))
    counts = torch.histc(log_alpha.float().cpu(), NUM_BINS, *LOG_ALPHA_RANGE)
    ranked = log_alpha.sort().values
    return {
        "sparsity": (log_alpha >= THRESHOLD).double().mean().item(),
        "test_error_pruned": measure_error(pruned, split.test),
        "log_alpha": {
            "range": list(LOG_ALPHA_RANGE),
            "counts": counts.long().tolist(),
            "quantiles": {str(q): ranked[int(q * (len(ranked) - 1))].item() for q in (0.05, 0.25, 0.5, 0.75, 0.95)},
        },
    }


def _finite(ratio: float) -> float | None:
    return ratio if ratio != float("inf") else None
