"""Runs of experiments.lora_ranks: trains an adapter of a pretrained transformer, prunes its ranks, and measures."""

from __future__ import annotations

import copy
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

import pyro_vd
from pyro_vd import NonFiniteError, Posterior
from pyro_vd.data.sms_spam import LabeledTexts, SmsSpam
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.minilm import Classifier, Pretrained, add_lora
from pyro_vd.experiments.common.pairs import make_pair
from pyro_vd.experiments.common.predictive import quality
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.spec import KINDS as SPEC_KINDS
from pyro_vd.experiments.common.spec import Fit
from pyro_vd.experiments.common.store import Run, Store, reuse
from pyro_vd.lora import count_ranks, select_ranks, shrink_ranks
from pyro_vd.model.scheme_defaults import scale_noise_lr

__all__ = ["KEYS", "KINDS", "LoraSpec", "make_classifier", "make_lora_pair", "run_spec"]

KEYS = ("adapter", "draws", "ranks", "rank_parameters", "rank_parameters_before", "adapter_bytes", "diverged")
"""Numbers of a record."""
EVALUATION_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class LoraSpec:
    """What decides the numbers of a run.

    Attributes:
        rank: of the adapter before pruning.
        targets: ends of the names of the linear layers that it changes.
        fit: the scheme on the ranks and its training; ``threshold`` prunes, None prunes nothing.
        keep: so many ranks of all layers are left, those of the lowest log_alpha, instead of those below ``threshold``.
        length: tokens that a message is cut or padded to.
        validation: whether the validation part takes the place of the test set.
        num_samples: weight draws of a Monte Carlo prediction.
        seed: of the initial adapter and head, the noise and the order of the messages.
    """

    rank: int
    fit: Fit
    keep: int | None = None
    targets: tuple[str, ...] = ("query", "value")
    length: int = 32
    validation: bool = False
    num_samples: int = 5
    seed: int = 0

    @property
    def label(self) -> str:
        """For the name of the record."""
        part = "validation" if self.validation else "test"
        return f"sms_spam-minilm-{self.fit.scheme}-{self.rank}-{part}"


KINDS = {**SPEC_KINDS, LoraSpec.__name__: LoraSpec}


def run_spec(
    spec: LoraSpec, store: Store, messages: SmsSpam, pretrained: Pretrained, device: torch.device, study: str
) -> Run:
    """Trains and measures, or loads the record of the same run.

    Raises:
        UserError: for a record of other messages under the same spec.
    """
    if known := store.load(spec, KEYS):
        return reuse(known, messages.sha256)
    print(f"{store.path(spec).stem}: begins", flush=True)
    start, history = time.monotonic(), []
    try:
        pair = make_lora_pair(spec, pretrained, len(messages.train), device)
        posterior = _train(spec, pair, *_encode(messages.train, spec, pretrained, device))
        part = messages.validation if spec.validation else messages.test
        numbers = {**_measure(spec, posterior, *_encode(part, spec, pretrained, device)), "diverged": False}
        history = posterior.history
    except NonFiniteError as error:
        numbers, history = {**dict.fromkeys(KEYS), "diverged": str(error)}, error.history
    facts = {"experiment": study, "dataset": "sms_spam", "data_sha256": messages.sha256, **environment(device)}
    return store.save(spec, {**facts, **numbers, "seconds": time.monotonic() - start, "history": history})


def make_classifier(spec: LoraSpec, pretrained: Pretrained) -> Classifier:
    """The pretrained transformer with the seed's new adapter and head, in training mode."""
    torch.manual_seed(spec.seed)
    encoder = add_lora(copy.deepcopy(pretrained.encoder), spec.rank, spec.targets)
    return Classifier(encoder, pretrained.width, classes=2).train()


def make_lora_pair(spec: LoraSpec, pretrained: Pretrained, num_data: int, device: torch.device) -> Posterior:
    """The pair of the spec's scheme, with the noise on the ranks of the adapter; untrained."""
    net = make_classifier(spec, pretrained).to(device)
    return make_pair(net, replace(spec.fit, select=tuple(select_ranks(net))), num_data)


def _train(spec: LoraSpec, pair: Posterior, ids: Tensor, labels: Tensor) -> Posterior:
    rates = {**spec.fit.training.lr_scale, **scale_noise_lr(pair.guide, spec.fit.noise_lr)}
    training = replace(spec.fit.training, lr_scale=rates)
    # Compiling does not pay: the length of a batch varies, and the products of the frozen layers take the time.
    return pyro_vd.fit(pair.model, pair.guide, (ids, labels), training, seed=spec.seed, engine="eager")


@torch.no_grad()
def _measure(spec: LoraSpec, posterior: Posterior, ids: Tensor, labels: Tensor) -> Record:
    """Of the adapter that is saved, the posterior mean on the ranks that are left, and of draws on these ranks."""
    masks = posterior.masks(_choose_threshold(spec, posterior))
    pruned = posterior.mean(masks)
    is_left = any(bool(pruned.get_parameter(site).any()) for site in masks)
    small = shrink_ranks(pruned) if is_left else pruned
    ranks = {name.partition(".model.")[2]: count for name, count in count_ranks(small).items()} if is_left else {}
    draws = None
    if spec.fit.scheme != "none":
        torch.manual_seed(spec.seed)
        logits = torch.stack([_draw(posterior, masks, ids) for _ in range(spec.num_samples)])
        draws = quality(logits, labels)
    return {
        "adapter": quality(torch.cat([small(part) for part in ids.split(EVALUATION_BATCH)])[None], labels),
        "draws": draws,
        "ranks": ranks,
        "rank_parameters": _count_parameters(small) if is_left else 0,
        "rank_parameters_before": _count_parameters(pruned),
        "adapter_bytes": _count_bytes(small) if is_left else 0,
        "log_alpha": _log_alphas(posterior),
    }


def _choose_threshold(spec: LoraSpec, posterior: Posterior) -> float:
    if spec.keep is not None:
        found = torch.cat([values[0] for values in posterior.log_alpha().values()])  # a column is a rank
        return found.sort().values[spec.keep].item()  # masks keep what is below
    return float("inf") if spec.fit.threshold is None else spec.fit.threshold


def _draw(posterior: Posterior, masks: dict[str, Tensor], ids: Tensor) -> Tensor:
    weights = {site: torch.where(masks[site], weight, 0.0) for site, weight in posterior.weights().items()}
    return posterior.outputs(weights, ids, EVALUATION_BATCH)


def _count_parameters(net: nn.Module) -> int:
    """Weights of A and B in all layers."""
    return sum(parameter.numel() for name, parameter in net.named_parameters() if ".lora_" in name)


def _count_bytes(net: nn.Module) -> int:
    """Of the adapter's weights as PEFT saves them, without the head."""
    encoder = net.encoder
    with tempfile.TemporaryDirectory() as folder:
        encoder.save_pretrained(folder)  # type: ignore[operator, union-attr]
        return (Path(folder) / "adapter_model.safetensors").stat().st_size


def _log_alphas(posterior: Posterior) -> dict[str, list[float]] | None:
    """Layer -> log_alpha of its ranks; None for a scheme without."""
    try:
        found = posterior.log_alpha()
    except TypeError:
        return None
    return {site.partition(".model.")[2].partition(".lora_B")[0]: values[0].tolist() for site, values in found.items()}


def _encode(part: LabeledTexts, spec: LoraSpec, pretrained: Pretrained, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and labels, short messages first: their batches are then short in evaluation."""
    ids = pretrained.tokenize(part.texts, spec.length)
    order = (ids != 0).sum(1).argsort(stable=True)
    return ids[order].to(device), part.labels[order].to(device)
