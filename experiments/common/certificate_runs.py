"""Runs of experiments.certificate: learns a prior on one half of the training images, a posterior on the other half,
and certifies both on that half."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pyro_vd
from pyro_vd import Categorical, NonFiniteError, Posterior, Training, lift
from pyro_vd.data import DataSplits, LabeledImages
from pyro_vd.diagnostics import certificate
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.pairs import SCHEMES, make_pair
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.spec import KINDS as SPEC_KINDS
from pyro_vd.experiments.common.spec import Data, Fit
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.inference.engine import EngineName
from pyro_vd.metrics import error_rate
from pyro_vd.models import NETWORKS

__all__ = ["KEYS", "KINDS", "NETWORKS_CERTIFIED", "CertificateSpec", "divide", "learn_posterior", "run_spec"]

KEYS = ("prior", "posterior", "diverged")
"""Numbers of a record."""
NETWORKS_CERTIFIED = ("all weights", "pruned")
HALVES_SEED = 0  # of the division into halves, the same in every run


@dataclass(frozen=True, kw_only=True)
class CertificateSpec:
    """What decides the numbers of a run.

    Attributes:
        data: of both halves; an augmentation is for training.
        network: a key of ``pyro_vd.models.NETWORKS``.
        prior: the scheme and its training on the first half; its threshold prunes.
        posterior: the training on the second half, with the learned prior; KL and learning rate have its schedules.
        delta: of every certificate.
        num_samples: weight draws of a certificate.
        test_samples: weight draws of the test error.
        seed: of the initial weights, the noise and the order of the images.
    """

    data: Data
    network: str
    prior: Fit
    posterior: Training
    delta: float = 0.05
    num_samples: int = 10_000
    test_samples: int = 20
    seed: int = 0

    @property
    def label(self) -> str:
        """A short name for files: data, network, scheme."""
        return f"{Path(self.data.name).name}-{self.network}-{self.prior.scheme}"


KINDS = {**SPEC_KINDS, CertificateSpec.__name__: CertificateSpec}


def divide(images: LabeledImages) -> tuple[LabeledImages, LabeledImages]:
    """Two halves at random, the same in every run. The certificates are computed on the second one."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(HALVES_SEED)).to(images.labels.device)
    first, second = (
        replace(images, images=images.images[part], labels=images.labels[part]) for part in order.tensor_split(2)
    )
    return first, second


def run_spec(
    spec: CertificateSpec, store: Store, split: DataSplits, device: torch.device, engine: EngineName, study: str
) -> Run:
    """Trains and certifies."""
    print(f"{store.path(spec).stem}: begins", flush=True)
    start, split = time.monotonic(), split.to(device)
    first, second = divide(split.train)
    try:
        prior = learn_prior(spec, first, split.classes, engine)
        posterior = learn_posterior(spec, prior, second, engine)
        numbers = {
            "prior": measure(spec, prior, prior, second, split.test),
            "posterior": measure(spec, posterior, prior, second, split.test),
            "diverged": False,
        }
        phases = {"prior": prior.history, "posterior": posterior.history}
        history: list[Record] = [{"phase": phase, **row} for phase, rows in phases.items() for row in rows]
    except NonFiniteError as error:
        numbers, history = {**dict.fromkeys(KEYS), "diverged": str(error)}, [dict(row) for row in error.history]
    facts = {"experiment": study, "dataset": split.name, "data_sha256": split.sha256, **environment(device)}
    return store.save(spec, {**facts, **numbers, "seconds": time.monotonic() - start, "history": history})


def learn_prior(spec: CertificateSpec, first: LabeledImages, classes: int, engine: EngineName) -> Posterior:
    """The pair of the scheme, trained on the first half."""
    torch.manual_seed(spec.seed)
    net = NETWORKS[spec.network](classes).to(first.labels.device)
    pair = make_pair(net, spec.prior, len(first))
    return pyro_vd.fit(pair.model, pair.guide, first, spec.prior.training, seed=spec.seed, engine=engine)


def learn_posterior(spec: CertificateSpec, prior: Posterior, second: LabeledImages, engine: EngineName) -> Posterior:
    """A pair that starts at the prior, trained on the second half. What has no distribution is frozen: biases."""
    model = lift(prior.mean(), prior.as_prior(), Categorical, num_data=len(second), select=list(prior.model.priors))
    model.requires_grad_(False)
    guide = SCHEMES[spec.prior.scheme].Guide(model, **spec.prior.options.plain())
    guide.load_state_dict(prior.guide.state_dict())
    return pyro_vd.fit(model, guide, second, spec.posterior, seed=spec.seed, engine=engine)


def measure(
    spec: CertificateSpec, posterior: Posterior, prior: Posterior, second: LabeledImages, test: LabeledImages
) -> Record:
    """The certificates on the second half, and the errors on the test set, of all weights and of the pruned network."""
    images = LabeledImages(second.images, second.labels)  # not augmented
    found: Record = {}
    for name, threshold in zip(NETWORKS_CERTIFIED, (None, spec.prior.threshold), strict=True):
        how: dict[str, Any] = {"threshold": threshold, "num_samples": spec.num_samples, "seed": spec.seed}
        bound = certificate(posterior, images, prior, spec.delta, **how)
        masks = None if threshold is None else prior.masks(threshold)
        found[name] = {**asdict(bound), "test_error": _test_error(spec, posterior, masks, test)}
    return found


def _test_error(
    spec: CertificateSpec, posterior: Posterior, masks: Mapping[str, Tensor] | None, test: LabeledImages
) -> float:
    """The mean error of weight draws. No certificate uses it."""
    torch.manual_seed(spec.seed)
    errors = []
    for _ in range(spec.test_samples):
        weights = posterior.weights()
        if masks is not None:
            weights = {site: torch.where(masks[site], weight, 0.0) for site, weight in weights.items()}
        errors.append(error_rate(posterior.outputs(weights, test.images), test.labels))
    return sum(errors) / len(errors)
