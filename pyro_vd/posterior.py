"""Posterior: what fit returns. Networks, draws, predictions and masks from a trained (model, guide) pair."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_vd import checkpoint
from pyro_vd.data.labeled_images import to_float
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.handlers import posterior_mean
from pyro_vd.kl import registered_kl
from pyro_vd.model.event import base_distribution
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.param_store import param_store_disabled
from pyro_vd.process_state import PYRO_LOCK

__all__ = ["Posterior"]

OF_FIT = ("adam.", "rng.", "loader.", "log_likelihood")  # what a checkpoint of fit holds besides the pair
OVERHEAD = 64 << 20  # bytes of a tensor file besides the pair's and Adam's: names, generators


class Posterior:
    """A trained pair.

    Attributes:
        model: the pair's model.
        guide: the pair's guide.
        history: one dict of numbers per epoch.
        engine: what stepped the last ``fit``, "eager", "compiled" or "cudagraph"; empty where there was none.
        seed: of the last ``fit``; None where there was none.

    ``sample``, ``weights``, ``predict`` and ``predict_mean`` draw from torch's global generator, as
    ``pyro.infer.Predictive`` does; ``torch.manual_seed`` before them decides what they draw. The diagnostics take a
    ``seed`` instead and leave the generator alone.
    """

    def __init__(self, model: LiftedModel, guide: nn.Module, history: list[dict[str, float]] | None = None):
        self.model = model
        self.guide = guide
        self.history = history or []
        self.engine = ""
        self.seed: int | None = None

    @torch.no_grad()
    def log_alpha(self) -> dict[str, Tensor]:
        """Site -> log_alpha of its weights (the weight's shape); +inf where a mean is 0.

        Raises:
            TypeError: for a scheme without noise on the weights.
        """
        posteriors = {site: self.guide.q(site) for site in self.model.priors}  # type: ignore[operator]
        if not all(hasattr(q, "log_alpha") for q in posteriors.values()):
            raise TypeError(
                f"{type(self.guide).__module__} has no log_alpha: its noise, if any, is not Gaussian; what it prunes "
                "by is in Posterior.masks(threshold)"
            )
        return {site: q.log_alpha.detach() for site, q in posteriors.items()}

    @torch.no_grad()
    def kl(self) -> dict[str, float]:
        """Site -> KL(q || p) of all its weights in nats, before any KL weight; one draw of it under a MonteCarloKL.

        Raises:
            NotImplementedError: where a (posterior, prior) pair has no registered KL, naming the site.
        """
        pairs = {site: (self.guide.q(site), prior) for site, prior in self.model.priors.items()}  # type: ignore[operator]
        return {site: registered_kl(site, q, base_distribution(p)).sum().item() for site, (q, p) in pairs.items()}

    def masks(self, threshold: float | Mapping[str, float]) -> dict[str, Tensor]:
        """Site -> bool mask of the weights kept at this log_alpha threshold.

        Args:
            threshold: one for all sites, or one by site, as group schemes want it whose layers differ in scale.

        Raises:
            UserError: for a threshold that is NaN, and for sites that are not the model's, or lack one.
        """
        sites = list(self.model.priors)
        by_site = threshold if isinstance(threshold, Mapping) else dict.fromkeys(sites, threshold)
        if by_site.keys() != set(sites):
            named = ", ".join(sorted(by_site.keys() ^ set(sites)))
            raise UserError(f"masks: a threshold for every site and no other is needed; look at {named}")
        if any(math.isnan(number) for number in by_site.values()):
            raise UserError("masks: a threshold is NaN, which would prune everything; math.inf prunes nothing")
        return {site: self.guide.keep_mask(site, by_site[site]) for site in sites}  # type: ignore[operator]

    @torch.no_grad()
    def mean(self, threshold: float | Mapping[str, Tensor] | None = None, inputs: Tensor | None = None) -> nn.Module:
        """A plain network at the posterior mean, in eval mode; with a threshold, pruned weights are exactly 0.

        Args:
            threshold: log_alpha from which on weights are pruned, or masks of those to keep; None for no pruning.
            inputs: of the training set, (n, ...). Where given, the running averages of batch normalisation are taken
                anew over them: training averaged over activations with noise, which the mean's do not have.

        Modules that stayed in eval mode in training keep their running averages.

        Raises:
            UserError: for fewer than two inputs, and for masks of other sites or shapes than the model's.
        """
        with posterior_mean():
            weights = self.weights()
        if threshold is not None:
            masks = threshold if isinstance(threshold, Mapping) else self.masks(threshold)
            self._check_masks(masks)
            # Not weight * mask: a negative weight times 0 is -0.0, and NaN would survive the product.
            weights = {site: torch.where(masks[site], weight, 0.0) for site, weight in weights.items()}
        net = self.model.network(weights)
        if inputs is not None:
            _reestimate(net, inputs, self.model.fixed)
        return net.eval()

    def _check_masks(self, masks: Mapping[str, Tensor]) -> None:
        shapes = {site: tuple(weight.shape) for site, weight in self.model.initial.items()}
        given = {site: tuple(mask.shape) for site, mask in masks.items()}
        if given != shapes:
            different = sorted(site for site in shapes.keys() | given.keys() if shapes.get(site) != given.get(site))
            raise UserError(
                f"masks of another model: {', '.join(different)} differ; a mask for every site is needed, of its "
                "weight's shape"
            )

    @torch.no_grad()
    def sample(self) -> nn.Module:
        """A plain network with one draw of the weights, in eval mode."""
        return self.model.network(self.weights()).eval()

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """One draw of the random weights, by site."""
        with PYRO_LOCK, param_store_disabled():
            getattr(self.guide, "project", lambda: None)()  # stock SVI may have stepped since the last draw
            trace = poutine.trace(self.guide).get_trace()
        return {site: trace.nodes[site]["value"] for site in self.model.priors}

    @torch.no_grad()
    def outputs(self, weights: dict[str, Tensor], x: Tensor, batch_size: int = 1000) -> Tensor:
        """The network's outputs with these weights, in eval mode, shape (len(x), ...).

        Args:
            weights: by site.
            x: inputs, (n, ...); uint8 is taken for images and divided by 255.
            batch_size: inputs in one forward pass.
        """
        return _joined(self._parts(weights, x, batch_size), len(x))

    @torch.no_grad()
    def predict(self, x: Tensor, num_samples: int, batch_size: int = 1000) -> Tensor:
        """Outputs of ``num_samples`` weight draws, shape (num_samples, len(x), ...); every example meets the same draws.

        Weight draws, not locally reparameterized activations: those lose the covariance between positions and
        between examples that prediction needs. Beside the result, one draw's outputs are held; :meth:`predict_mean`
        holds no more than that.

        Raises:
            UserError: for num_samples < 1, or no inputs.
        """
        _check_count("predict", num_samples, x)
        first = self.outputs(self.weights(), x, batch_size)
        found = first.new_empty((num_samples, *first.shape))
        found[0] = first
        for draw in range(1, num_samples):
            found[draw] = self.outputs(self.weights(), x, batch_size)
        return found

    @torch.no_grad()
    def predict_mean(
        self,
        x: Tensor,
        num_samples: int,
        transform: Callable[[Tensor], Tensor] = lambda outputs: outputs,
        batch_size: int = 1000,
    ) -> Tensor:
        """Average of ``transform(outputs)`` over ``num_samples`` weight draws, shape (len(x), ...), in the memory of one draw.

        Args:
            transform: of the outputs of a batch; ``lambda logits: logits.softmax(-1)`` gives the predictive
                probabilities.

        Raises:
            UserError: for num_samples < 1, or no inputs.
        """
        _check_count("predict_mean", num_samples, x)

        def drawn() -> Tensor:
            return _joined((transform(part) for part in self._parts(self.weights(), x, batch_size)), len(x))

        mean = drawn()
        for draw in range(2, num_samples + 1):
            mean.lerp_(drawn(), 1 / draw)
        return mean

    def _parts(self, weights: dict[str, Tensor], x: Tensor, batch_size: int) -> Iterator[Tensor]:
        """The network's outputs, batch by batch, in eval mode."""
        for part in x.split(batch_size):
            with PYRO_LOCK:
                output = self._output(weights, part)
            yield output

    def _output(self, weights: dict[str, Tensor], x: Tensor) -> Tensor:
        was_training = self.model.training
        self.model.eval()
        try:
            with self.model.bound(weights) as net:
                output = net(to_float(x))
        finally:
            self.model.train(was_training)
        if not isinstance(output, Tensor):
            raise UserError(
                f"the network gives {type(output).__name__}, and predictions are of a tensor; lift a network whose "
                "forward returns the one that the likelihood reads"
            )
        return output

    def save(self, path: str | Path, **meta: Any) -> None:
        """Writes the pair's parameters, buffers and history as a checkpoint (see pyro_vd.checkpoint).

        Raises:
            UserError: for a parameter that is not finite, which could not be loaded.
        """
        for name, value in self._state():
            if isinstance(value, nn.Parameter) and not bool(value.isfinite().all()):
                raise UserError(f"{path}: {name} is not finite, so this posterior cannot be saved; train it again")
        checkpoint.save(
            Path(path),
            dict(self._state()),
            {"pair": signature(self.model, self.guide), "history": self.history, **meta},
        )

    def load(self, path: str | Path) -> Posterior:
        """Fills this pair, freshly made by the same calls, from a checkpoint of :meth:`save` or of ``fit``.

        Raises:
            CheckpointError: when the file is damaged, or its guide, priors or tensors are not this pair's, naming the
                differences; the pair is untouched.
        """
        own = dict(self._state())
        largest = 3 * sum(tensor.nbytes for tensor in own.values()) + OVERHEAD
        tensors, meta = checkpoint.load(Path(path), largest)
        pair = signature(self.model, self.guide)
        if meta.get("pair") != pair:
            raise CheckpointError(f"{path}: of another pair: {meta.get('pair')}, this is {pair}")
        if "settings" in meta:  # of fit: with the state of Adam, of generators and of the loader
            tensors = {name: value for name, value in tensors.items() if not name.startswith(OF_FIT)}
        if "histories" in meta:
            raise CheckpointError(f"{path}: of fit_seeds, which holds several pairs; call fit_seeds with it as run=")
        check_history(meta.get("history"), str(path))
        fill(own, tensors, str(path))
        self.history = meta["history"]
        return self

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        return pair_state(self.model, self.guide)


def _check_count(name: str, num_samples: int, x: Tensor) -> None:
    if num_samples < 1 or not len(x):
        raise UserError(f"{name}: num_samples={num_samples} draws for {len(x)} inputs; at least one of each is needed")


def _joined(parts: Iterator[Tensor], length: int) -> Tensor:
    """The parts in one tensor, filled as they come: a list of them would hold everything twice."""
    first = next(parts)
    found = first.new_empty((length, *first.shape[1:]))
    start = 0
    for part in itertools.chain([first], parts):
        found[start : start + len(part)] = part
        start += len(part)
    return found


def _reestimate(net: nn.Module, inputs: Tensor, fixed: Collection[str], batch_size: int = 1000) -> None:
    """Averages over all inputs, in batches of equal size (each counts once) and an order that mixes sorted classes."""
    if len(inputs) < 2:
        raise UserError(
            f"mean: {len(inputs)} inputs have no variance to take running averages of; give the training set"
        )
    net.eval()  # dropout would add noise
    layers = [
        module
        for name, module in net.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and name not in fixed
    ]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train().reset_running_stats()
        layer.momentum = None  # the plain average
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0)).to(inputs.device)
    for index in order.tensor_split(-(-len(inputs) // batch_size)):
        net(to_float(inputs[index]))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def signature(model: LiftedModel, guide: nn.Module) -> str:
    """Guide, its options and the priors: two schemes can have the same parameters, and a checkpoint of one is not the
    other's."""
    options = ", ".join(f"{key}={value}" for key, value in sorted(getattr(guide, "options", {}).items()))
    names = {site: describe_prior(base_distribution(prior)) for site, prior in model.priors.items()}
    alike = len(set(names.values())) == 1
    priors = next(iter(names.values())) if alike else ", ".join(f"{site}: {name}" for site, name in names.items())
    return f"{type(guide).__module__}.{type(guide).__qualname__}({options}) with {priors}"


MIXED = ("_mixture_distribution", "_component_distribution")  # what torch keeps private and a user gave


def describe_prior(prior: Distribution) -> str:
    """The prior as it would be written: its type with its numbers and the distributions that it was made of."""
    inside = []
    for key, value in sorted(vars(prior).items()):
        if isinstance(value, Distribution) and (not key.startswith("_") or key in MIXED):
            inside.append(describe_prior(value))
        elif key in prior.arg_constraints and isinstance(value, Tensor):
            if key != "logits" or "probs" not in vars(prior):  # torch derives the one from the other when asked
                inside.append(f"{key}={_written(value)}")
        elif not key.startswith("_") and isinstance(value, str | int | float):
            inside.append(f"{key}={value!r}")
    return f"{type(prior).__name__}({', '.join(inside)})"


def _written(values: Tensor) -> str:
    """One number where all are equal, else a digest."""
    first = values.flatten()[:1]
    if bool((values == first).all()):
        return f"{first.item():g}"
    return hashlib.sha256(values.detach().cpu().numpy().tobytes()).hexdigest()[:8]


def pair_state(model: nn.Module, guide: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Named parameters and buffers of a pair, as ``model.*`` and ``guide.*``; the tensors themselves, not copies."""
    for prefix, module in (("model", model), ("guide", guide)):
        for name, tensor in module.state_dict(keep_vars=True).items():
            yield f"{prefix}.{name}", tensor


def check_tensors(own: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str) -> None:
    """Compares names, shapes and dtypes, all of them, and that parameters are finite.

    Raises:
        CheckpointError: naming every difference.
    """
    wrong = [f"no {name}" for name in own.keys() - given.keys()]
    wrong += [f"unexpected {name}" for name in given.keys() - own.keys()]
    for name in own.keys() & given.keys():
        expected, found = own[name], given[name]
        if (expected.shape, expected.dtype) != (found.shape, found.dtype):
            sizes = [f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in (found, expected)]
            wrong.append(f"{name} is {sizes[0]}, expected {sizes[1]}")
        elif isinstance(expected, nn.Parameter) and not bool(found.isfinite().all()):
            wrong.append(f"{name} is not finite")
    if wrong:
        raise CheckpointError(f"{source}: of another model or guide: {'; '.join(sorted(wrong))}")


def check_history(history: Any, source: str) -> None:
    """Raises CheckpointError unless this is a list of dicts of finite numbers."""
    rows = history if isinstance(history, list) else [None]
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(value, int | float) for value in row.values()):
            raise CheckpointError(f"{source}: its history is no list of rows of numbers; not used")


@torch.no_grad()
def fill(own: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str) -> None:
    """Copies ``given`` into ``own`` after :func:`check_tensors`."""
    check_tensors(own, given, source)
    for name, tensor in own.items():
        tensor.copy_(given[name])
