"""What a phase Fit may measure after every epoch: numbers of the history, by the names in ``MONITORS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_vd import Posterior
from pyro_vd.data import DataSplits, LabeledImages
from pyro_vd.data.labeled_images import to_float
from pyro_vd.metrics import compute_logits, error_rate
from pyro_vd.posteriors import HardConcrete, MultiplicativeNoise

__all__ = ["MONITORS", "Monitor", "drop_rate", "measure_activations", "measure_gradients", "measure_rates",
           "measure_training"]  # fmt: skip

Monitor = Callable[[Posterior, DataSplits], Mapping[str, float]]
NUM_IMAGES = 2_000  # of the test set, for the variance of activations
NUM_BATCHES, BATCH_SIZE = 10, 256  # of the training set, for the norm of the gradient
NUM_TRAIN = 10_000  # of the training set, for its error


@torch.no_grad()
def measure_activations(posterior: Posterior, split: DataSplits) -> dict[str, float]:
    """Variance of the inputs of every linear layer after the first, over test images and units.

    ``variance_<layer>`` is that of the network without noise. For a layer with noise of mean 1 on its inputs,
    ``noisy_variance_<layer>`` is that of the inputs times the noise: with alpha the variance of the noise,
    E[h^2] (1 + alpha) - E[h]^2.
    """
    net = posterior.mean()
    _, *layers = (name for name, module in net.named_modules() if isinstance(module, nn.Linear))
    noises = _find_noises(posterior)
    numbers = {}
    for name, h in _record_inputs(net, layers, to_float(split.test.images[:NUM_IMAGES])).items():
        square, mean = h.square().mean(0), h.mean()
        numbers[f"variance_{name}"] = (square.mean() - mean.square()).item()
        q = noises.get(f"{name}.weight")
        if q is not None and not isinstance(q.noise, HardConcrete):
            noisy = square * (1 + q.on_inputs(q.noise.variance))
            numbers[f"noisy_variance_{name}"] = (noisy.mean() - mean.square()).item()
    return numbers


def measure_gradients(posterior: Posterior, split: DataSplits) -> dict[str, float]:
    """Norm of the gradient of the mean cross-entropy at the posterior mean, without noise: the mean and the largest of
    the first batches of the training set."""
    net = posterior.mean()
    parameters = [parameter.requires_grad_() for parameter in net.parameters()]
    indices = torch.arange(len(split.train), device=split.train.labels.device).split(BATCH_SIZE)[:NUM_BATCHES]
    norms = []
    for index in indices:
        x, y = split.train.batch(index)
        gradients = torch.autograd.grad(F.cross_entropy(net(x), y), parameters)
        norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm())
    return {"gradient_norm": torch.stack(norms).mean().item(), "largest_gradient_norm": max(norms).item()}


@torch.no_grad()
def measure_rates(posterior: Posterior, split: DataSplits) -> dict[str, float]:
    """``rate_<layer>``: the drop probability of the layer's inputs, a mean over its noise variables."""
    noises = _find_noises(posterior)
    return {f"rate_{site.removesuffix('.weight')}": drop_rate(q.noise).mean().item() for site, q in noises.items()}


def measure_training(posterior: Posterior, split: DataSplits) -> dict[str, float]:
    """``train_error``: that of the posterior mean on the first 10,000 training images."""
    some = LabeledImages(split.train.images[:NUM_TRAIN], split.train.labels[:NUM_TRAIN])
    return {"train_error": error_rate(compute_logits(posterior.mean(), some), some.labels)}


def drop_rate(noise: Distribution) -> Tensor:
    """Drop probability by noise variable, the shape of ``noise``: of a hard-concrete gate, that it is 0; of noise with
    mean 1, that of the dropout with the same variance alpha, alpha / (1 + alpha).

    Example:
        >>> from pyro_vd.posteriors import ScaledBernoulli
        >>> drop_rate(ScaledBernoulli(torch.tensor([0.25])))
        tensor([0.2500])
    """
    if isinstance(noise, HardConcrete):
        return 1 - noise.active
    return noise.variance / (1 + noise.variance)


MONITORS: dict[str, Monitor] = {
    "activations": measure_activations,
    "gradients": measure_gradients,
    "rates": measure_rates,
    "training": measure_training,
}
"""Name -> what it measures of the pair after an epoch, on the spec's data."""


def _find_noises(posterior: Posterior) -> dict[str, MultiplicativeNoise]:
    """Site -> its posterior, for the sites with noise on their inputs."""
    found = {site: posterior.guide.q(site) for site in posterior.model.priors}
    return {site: q for site, q in found.items() if isinstance(q, MultiplicativeNoise)}


def _record_inputs(net: nn.Module, layers: list[str], x: Tensor) -> dict[str, Tensor]:
    """Layer -> its inputs when the network is called on ``x``."""
    inputs: dict[str, Tensor] = {}

    def record(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs[names[layer]] = given[0]

    names = {net.get_submodule(name): name for name in layers}
    hooks = [layer.register_forward_pre_hook(record) for layer in names]
    net(x)
    for hook in hooks:
        hook.remove()
    return inputs
