"""Variance of the gradient under four gradient estimators: table 1 of Kingma et al. 2015.

``python -m experiments.gradient_variance`` trains the network of ``experiments.mnist_accuracy`` by variational dropout
B for each number of epochs and measures: with the local reparameterization, with separate weights for every example,
with one weight draw for the minibatch, and without noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, vmap
from tqdm import tqdm

from pyro_vd import Posterior, Training
from pyro_vd.data import DataSplits
from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_accuracy
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.runner import Trained, make_runner
from pyro_vd.experiments.common.spec import Data, Fit, Options, Spec
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import Table, count_runs, summary
from pyro_vd.inference.engine import Objective
from pyro_vd.models import MLP

STUDY = "gradient_variance"
KEYS = ("variances",)
"""Numbers of a record."""
AFTER = (10, 60)
"""Epochs of training before a measurement."""
MINIBATCH = 1000  # examples per measured gradient, as in the paper; training uses the protocol's batch size
CHUNK = 50  # examples whose weights are in memory at once
LAYERS = {"top": f"fc{mnist_accuracy.LAYERS + 1}.weight", "bottom": "fc1.weight"}


@dataclass(frozen=True)
class Args(cli.Setup):
    """Trains, measures, and prints the table."""

    dataset: str = "auto"
    """mnist, fashion_mnist, digits, an image folder, or auto: MNIST if it can be loaded, else digits."""
    hidden: int = 250
    """Units of each of the three hidden layers."""
    after: tuple[int, ...] = AFTER
    """Epochs after which to measure, a training each."""
    draws: int = 20
    """Gradients per variance, each with its own minibatch of 1,000 examples."""
    seeds: int = 1
    """Seeds 0 .. n-1, one run each."""
    out: Path = Path("runs/gradient_variance")
    """Folder of records and table."""


def main(args: Args) -> None:
    if min(args.hidden, args.seeds, *args.after) < 1 or not args.after:
        raise UserError("--hidden, --seeds and --after must be at least 1")
    if args.draws < 2:
        raise UserError("--draws must be at least 2: one gradient has no variance")
    device = cli.begin(args)
    data = Data(name=choose_dataset(args.dataset, args.data))
    specs = make_specs(data, args.hidden, args.after, args.draws)
    runner = make_runner(args, STUDY, device, measure, KEYS, dict.fromkeys(KEYS))
    examples = len(runner.load(data, MLP()).train)
    if examples < MINIBATCH:
        raise UserError(f"--dataset {args.dataset}: has {examples} training examples, a minibatch has {MINIBATCH}")
    runner.run_all([replace(spec, seed=seed) for seed in range(args.seeds) for spec in specs])
    publish([make_table(specs, runner.store)], args.out)


def make_specs(data: Data, hidden: int = 250, after: Sequence[int] = AFTER, draws: int = 20) -> list[Spec]:
    """A spec for every number of epochs before the measurement. ``num_samples`` are the gradients per variance."""
    protocol = mnist_accuracy.PROTOCOL
    trainings = [Training(epochs=epochs, batch_size=protocol.batch_size, lr=protocol.lr) for epochs in sorted(after)]
    return [
        Spec(
            network="mlp",
            options=Options(hidden=(hidden,) * mnist_accuracy.LAYERS),
            data=data,
            phases=(Fit(scheme="variational_b", training=training),),
            num_samples=draws,
        )
        for training in trainings
    ]


def measure(trained: Trained) -> Record:
    """The numbers of a record."""
    posterior, spec = trained.state.posterior, trained.spec
    assert posterior is not None
    return {"variances": measure_variances(posterior, trained.split, spec.num_samples, spec.seed)}


def measure_variances(pair: Posterior, split: DataSplits, draws: int, seed: int) -> dict[str, dict[str, float]]:
    """Estimator -> layer -> variance of the gradient in theta over minibatches and noise, mean over the weights.

    The gradient is that of N/B times the summed log likelihood, in nats per unit of weight; the KL adds a constant.
    """
    found = {}
    for name, loss in ESTIMATORS.items():
        generator = torch.Generator().manual_seed(seed)  # the same minibatches for every estimator
        torch.manual_seed(seed)
        thetas = [pair.guide.theta[site] for site in LAYERS.values()]
        gradients = []
        for _ in tqdm(range(draws), desc=name, leave=False):
            index = torch.randperm(len(split.train), generator=generator)[:MINIBATCH].to(split.train.labels.device)
            gradients.append(torch.autograd.grad(loss(pair, *split.train.batch(index)), thetas))
        variances = [torch.stack(of_layer).double().var(0) for of_layer in zip(*gradients, strict=True)]
        found[name] = {layer: each.mean().item() for layer, each in zip(LAYERS, variances, strict=True)}
    return found


def _local(pair: Posterior, x: Tensor, y: Tensor) -> Tensor:
    return -Objective(pair.model, pair.guide)(x, y, torch.zeros((), device=x.device))[1]


def _one_draw(pair: Posterior, x: Tensor, y: Tensor) -> Tensor:
    return -Objective(pair.model, pair.guide, estimator="weights")(x, y, torch.zeros((), device=x.device))[1]


def _no_noise(pair: Posterior, x: Tensor, y: Tensor) -> Tensor:
    theta = dict(pair.guide.theta.named_parameters())
    with pair.model.bound(theta) as net:
        return F.cross_entropy(net(x), y, reduction="sum") * pair.model.num_data / len(y)


def _separate(pair: Posterior, x: Tensor, y: Tensor) -> Tensor:
    """One weight draw per example, in chunks: all at once would not fit into memory."""
    net = pair.mean()
    biases = {name: value for name, value in pair.model.net.named_parameters() if name not in pair.model.priors}
    output = vmap(lambda weights, one: functional_call(net, {**weights, **biases}, (one[None],))[0])
    total = torch.zeros((), device=x.device)
    for some_x, some_y in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
        weights = {site: pair.guide.q(site).rsample(some_y.shape) for site in pair.model.priors}
        total = total + F.cross_entropy(output(weights, some_x), some_y, reduction="sum")
    return total * pair.model.num_data / len(y)


ESTIMATORS: dict[str, Callable[[Posterior, Tensor, Tensor], Tensor]] = {
    "local reparameterization": _local,
    "separate weight samples": _separate,
    "single weight sample": _one_draw,
    "no dropout noise": _no_noise,
}


def make_table(specs: Sequence[Spec], store: Store) -> Table:
    """Estimators by layer and epoch; mean and standard deviation over seeds."""
    found = {spec.main.training.epochs: store.seeds(spec, KEYS) for spec in specs}
    good = {epochs: [run for run in runs if not run.diverged] for epochs, runs in found.items()}
    columns = [(layer, epochs) for layer in LAYERS for epochs in good]
    rows = []
    for name in ESTIMATORS:
        values = [[run["variances"][name][layer] for run in good[epochs]] for layer, epochs in columns]
        rows.append((name, *(summary(each, "{:.2g}") for each in values), count_runs(next(iter(found.values())))))
    dataset = next(run["dataset"] for runs in found.values() for run in runs)
    units = specs[0].options["hidden"][0]
    return Table(
        f"Variance of the gradient in the top and the bottom layer, {units} units, {dataset}",
        ("estimator", *(f"{layer}, {epochs} epochs" for layer, epochs in columns), "n"),
        tuple(rows),
    )


if __name__ == "__main__":
    cli.run(Args, main)
