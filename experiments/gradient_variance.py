"""Variance of the gradient under four gradient estimators: table 1 of Kingma et al. 2015.

``python -m experiments.gradient_variance`` trains the network of ``experiments.mnist_accuracy`` by variational dropout
B and measures at two epochs: with the local reparameterization, with separate weights for every example, with one
weight draw for the minibatch, and without noise. Every seed writes one JSON record.
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

import pyro_vd
from pyro_vd import Posterior, Training
from pyro_vd.data import DataSplits
from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_accuracy
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.images import choose_dataset, load_images
from pyro_vd.experiments.common.phases import make_pair
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.records import read_record, write_record
from pyro_vd.experiments.common.spec import Data, Fit, key_of
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, summary
from pyro_vd.inference.engine import Objective
from pyro_vd.models import MLP

STUDY = "gradient_variance"
KEYS = ("variances",)
"""Numbers of a record."""
CHUNK = 50  # examples whose weights are in memory at once
TOP, BOTTOM = f"fc{mnist_accuracy.LAYERS + 1}.weight", "fc1.weight"


@dataclass(frozen=True)
class Args(cli.Setup):
    """Trains, measures, and prints the table."""

    dataset: str = "auto"
    """mnist, fashion_mnist, digits, an image folder, or auto: MNIST if it can be loaded, else digits."""
    hidden: int = 250
    """Units of each of the three hidden layers."""
    after: tuple[int, ...] = (10, 60)
    """Epochs after which to measure; training ends after the last."""
    minibatch: int = 1000
    """Examples per measured gradient, as in the paper; training uses the protocol's batch size."""
    draws: int = 20
    """Gradients per variance, each with its own minibatch."""
    seeds: int = 1
    """Seeds 0 .. n-1, one run each."""
    out: Path = Path("runs/gradient_variance")
    """Folder of records and table."""


@dataclass(frozen=True, kw_only=True)
class GradientSpec:
    """What decides the numbers of a run.

    Attributes:
        hidden: units of each of the three hidden layers.
        data: the images.
        training: of variational dropout B, to the last measurement.
        after: epochs after which to measure.
        minibatch: examples per gradient.
        draws: gradients per variance.
        seed: of the run.
    """

    hidden: int
    data: Data
    training: Training
    after: tuple[int, ...]
    minibatch: int
    draws: int
    seed: int = 0

    @property
    def label(self) -> str:
        """For the name of the record."""
        return f"{self.data.name.rpartition('/')[2]}-{self.hidden}-units"


KINDS = {kind.__name__: kind for kind in (GradientSpec, Data, Training)}


def main(args: Args) -> None:
    _check(args)
    device = cli.begin(args)
    data = Data(name=choose_dataset(args.dataset, args.data))
    split = load_images(data, MLP(), args.data).to(device)
    if args.minibatch > len(split.train):
        raise UserError(f"--minibatch must be at most {len(split.train)}, the number of training examples")
    store = Store(args.out, KINDS)
    spec = make_spec(data, args.hidden, args.after, args.minibatch, args.draws)
    for seed in range(args.seeds):
        run_spec(replace(spec, seed=seed), store, split, args)
    publish([make_table(store.seeds(spec, KEYS))], args.out)


def make_spec(
    data: Data, hidden: int = 250, after: tuple[int, ...] = (10, 60), minibatch: int = 1000, draws: int = 20
) -> GradientSpec:
    """The spec of these arguments."""
    protocol = mnist_accuracy.PROTOCOL
    training = Training(epochs=after[-1], batch_size=protocol.batch_size, lr=protocol.lr)
    return GradientSpec(hidden=hidden, data=data, training=training, after=after, minibatch=minibatch, draws=draws)


def run_spec(spec: GradientSpec, store: Store, split: DataSplits, args: Args) -> Run:
    """Trains by variational dropout B and measures after the given epochs, or loads the record of the same run."""
    checkpoint = store.folder / "checkpoints" / f"{key_of(spec)}-s{spec.seed}"
    if not args.resume:
        store.delete(spec)
        for old in checkpoint.parent.glob(f"{checkpoint.name}[.-]*"):
            old.unlink()
    if known := store.load(spec, KEYS):
        print(f"{known.path}: already finished")
        return known
    device = split.test.labels.device
    torch.manual_seed(spec.seed)
    net = MLP(split.classes, hidden=(spec.hidden,) * mnist_accuracy.LAYERS).to(device)
    pair = make_pair(net, Fit(scheme="variational_b", training=spec.training), len(split.train))
    stops = {epochs: checkpoint.with_name(f"{checkpoint.name}-after-{epochs}.json") for epochs in spec.after}

    def measure_epoch(epoch: int, current: Posterior) -> dict[str, float]:
        if epoch + 1 in stops:  # written now: an interrupted run resumes after this epoch
            measured = measure(current, split, spec.minibatch, spec.draws, spec.seed)
            write_record(stops[epoch + 1], measured)
        return {}

    pyro_vd.fit(
        pair.model, pair.guide, split.train, spec.training, engine=args.engine, seed=spec.seed, checkpoint=checkpoint,
        resume="any", on_epoch=measure_epoch,
    )  # fmt: skip
    found = {str(epochs): read_record(stop, ESTIMATORS) for epochs, stop in stops.items()}
    variances = {epochs: {name: measured[name] for name in ESTIMATORS} for epochs, measured in found.items()}
    facts = {"experiment": STUDY, "dataset": split.name, "data_sha256": split.sha256, **environment(device)}
    return store.save(spec, {**facts, "variances": variances})


def measure(pair: Posterior, split: DataSplits, minibatch: int, draws: int, seed: int) -> dict[str, dict[str, float]]:
    """Estimator -> layer -> variance of the gradient in theta over minibatches and noise, mean over the weights.

    The gradient is that of N/B times the summed log likelihood, in nats per unit of weight; the KL adds a constant.
    """
    found = {}
    for name, loss in ESTIMATORS.items():
        generator = torch.Generator().manual_seed(seed)  # the same minibatches for every estimator
        torch.manual_seed(seed)
        moments = {"top": _RunningVariance(), "bottom": _RunningVariance()}
        thetas = [pair.guide.theta[site] for site in (TOP, BOTTOM)]
        for _ in tqdm(range(draws), desc=name, leave=False):
            index = torch.randperm(len(split.train), generator=generator)[:minibatch].to(split.train.labels.device)
            gradients = torch.autograd.grad(loss(pair, *split.train.batch(index)), thetas)
            for moment, gradient in zip(moments.values(), gradients, strict=True):
                moment.add(gradient)
        found[name] = {layer: moment.variance().mean().item() for layer, moment in moments.items()}
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


class _RunningVariance:
    """Running mean and variance (Welford 1962); storing all gradients would exceed the memory."""

    def __init__(self) -> None:
        self.n = 0
        self.mean: Tensor = torch.zeros(())
        self.squares: Tensor = torch.zeros(())

    def add(self, value: Tensor) -> None:
        value = value.double().cpu()
        self.n += 1
        before = value - self.mean
        self.mean = self.mean + before / self.n
        self.squares = self.squares + before * (value - self.mean)

    def variance(self) -> Tensor:
        return self.squares / (self.n - 1)


def make_table(runs: Sequence[Run]) -> Table:
    """Estimators by layer and epoch; mean and standard deviation over seeds."""
    epochs = sorted(runs[0]["variances"], key=int)
    columns = [(layer, epoch) for layer in ("top", "bottom") for epoch in epochs]
    header = ("estimator", *(f"{layer}, {epoch} epochs" for layer, epoch in columns), "n")
    rows = []
    for name in ESTIMATORS:
        cells = (summary([run["variances"][epoch][name][layer] for run in runs], "{:.2g}") for layer, epoch in columns)
        rows.append((name, *cells, str(len(runs))))
    return Table(
        f"Variance of the gradient in the top and the bottom layer, {runs[0].spec.hidden} units, {runs[0]['dataset']}",
        header,
        tuple(rows),
    )


def _check(args: Args) -> None:
    if min(args.hidden, args.minibatch, args.seeds, *args.after) < 1 or not args.after:
        raise UserError("--hidden, --minibatch, --seeds and --after must be at least 1")
    if args.draws < 2:
        raise UserError("--draws must be at least 2: one gradient has no variance")
    if list(args.after) != sorted(set(args.after)):
        raise UserError("--after must increase: each measurement continues from the one before")


if __name__ == "__main__":
    cli.run(Args, main)
