"""Size and error of a LeNet-5 whose weights are draws from their priors, and the KL that the size follows.

``python -m experiments.benchmarks.random_code`` trains LeNet-5, keeps the units with the largest weights, shrinks and
trains again, and codes the posterior of that network in files of several sizes. With ``--validation 5000`` the error is
that of held-out training images, by which the arguments were chosen.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_vd import Categorical, EmpiricalBayes, Posterior, fit, lift
from pyro_vd.compress import architecture, encode_posterior, load, shrink
from pyro_vd.data import DataSplits, LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks import timing
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.tables import Table, group_by, percent, summary
from pyro_vd.guides import hierarchical, none
from pyro_vd.inference.schedules import HoldThenDecay
from pyro_vd.metrics import compute_logits, error_rate
from pyro_vd.models import LeNet5

REQUIRED = ("benchmark", "network", "arguments", "seed", "architecture", "size", "bytes", "kl_bits", "test_error")
FIRST_LOG_SIGMA2 = -6.0
DENSE_LR = 1e-3


@dataclass(frozen=True)
class Args:
    """Measures files that code a posterior."""

    sizes: tuple[int, ...] = (1140, 1500)
    """Bytes of the files."""
    units: tuple[int, int, int] = (10, 20, 50)
    """Channels of the two convolutions and hidden units that are kept."""
    dense_epochs: int = 2
    """Epochs of LeNet-5."""
    small_epochs: int = 10
    """Epochs of the network that is left."""
    epochs: int = 40
    """Epochs of the posterior."""
    coding_epochs: int = 20
    """The last of them, in which blocks are coded."""
    lr: float = 2e-3
    """Learning rate of the posterior."""
    bits: int = 16
    """Bits of an index."""
    shift: int = 1
    """Largest random shift of training images, in pixels."""
    dataset: str = "mnist"
    validation: int = 0
    """So many training images are held out and replace the test images."""
    seed: int = 0
    threads: int = 1
    out: Path = Path("experiments/benchmarks/results/random_code")
    checkpoints: Path = Path("runs/random_code")
    """Folder of checkpoints: an interrupted measurement goes on from there."""

    def checkpoint(self, name: str) -> Path:
        """The checkpoint of a part of the measurement."""
        held = f"-{self.validation}" if self.validation else ""
        return self.checkpoints / f"{self.dataset}{held}-{name}-s{self.seed}"


@dataclass(frozen=True)
class Start:
    """The network whose posterior is coded, and what it was made of."""

    split: DataSplits
    small: nn.Module
    dense_error: float
    small_error: float


def main(args: Args) -> None:
    if len(set(args.sizes)) < max(1, len(args.sizes)):
        raise UserError("--sizes needs sizes in bytes, no two of them the same")
    cli.set_threads(args.threads)
    start = train_small(args)
    for size in args.sizes:
        timing.publish({args.out / f"lenet5-{size}-s{args.seed}": measure(size, start, args)}, make_tables)


def train_small(args: Args) -> Start:
    """LeNet-5 with its strongest units only."""
    torch.manual_seed(args.seed)
    split = load_images(Data(name=args.dataset, validation=args.validation, shift=args.shift), LeNet5(), None)
    dense = train_plain(LeNet5(), split.train, args.dense_epochs, args.seed, args.checkpoint("dense"))
    dense_error = measure_error(dense, split)
    inputs, _ = split.train.batch(torch.arange(64))
    kept = keep_strongest(dense, dict(zip(("conv1", "conv2", "fc1"), args.units, strict=True)))
    small = train_plain(shrink(kept, inputs), split.train, args.small_epochs, args.seed, args.checkpoint("small"))
    return Start(split, small, dense_error, measure_error(small, split))


def measure(size: int, start: Start, args: Args) -> Record:
    """A file of this size: its KL, and the error of the network that it decodes to."""
    began = time.perf_counter()
    model = lift(start.small, EmpiricalBayes("layer"), Categorical, len(start.split.train), select=lambda *_: True)
    posterior = Posterior(model, hierarchical.Guide(model, init=FIRST_LOG_SIGMA2))
    coded = encode_posterior(
        posterior, start.split.train, size, epochs=args.epochs, coding_epochs=args.coding_epochs, lr=args.lr,
        bits=args.bits, seed=args.seed, checkpoint=args.checkpoint(str(size)),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        written = coded.save(Path(folder) / "net")
        loaded = load(Path(folder) / "net", LeNet5())
    own = ("checkpoints", "out", "seed", "sizes", "threads")
    return {
        "benchmark": "random_code",
        "network": "lenet5",
        "arguments": {name: value for name, value in asdict(args).items() if name not in own},
        "seed": args.seed,
        "architecture": architecture(start.small),
        "dense_error": start.dense_error,
        "small_error": start.small_error,
        "size": size,
        "bytes": written,
        "kl_bits": coded.kl_bits,
        "overhead": coded.overhead,
        "test_error": measure_error(loaded, start.split),
        "seconds": time.perf_counter() - began,
        "history": list(coded.history),
        "content": coded.content.hex(),
        **environment(torch.device("cpu")),
    }


def train_plain(net: nn.Module, train: LabeledImages, epochs: int, seed: int, checkpoint: Path) -> nn.Module:
    """The network trained without noise, at a rate that falls to 0 in the second half."""
    model = lift(net, none.prior, Categorical, len(train))
    schedule = HoldThenDecay(epochs // 2, epochs)
    return fit(
        model, none.Guide(model), train, epochs=epochs, lr=DENSE_LR, lr_schedule=schedule, seed=seed,
        checkpoint=checkpoint,
    ).mean()  # fmt: skip


@torch.no_grad()
def keep_strongest(net: nn.Module, units: Mapping[str, int]) -> nn.Module:
    """Sets all weights of a unit to 0, except for so many units of each layer, those with the largest norms."""
    for name, count in units.items():
        weight = net.get_submodule(name).get_parameter("weight")
        norms: Tensor = weight.flatten(1).norm(dim=1)
        weight[norms.argsort(descending=True, stable=True)[count:]] = 0
    return net


def measure_error(net: nn.Module, split: DataSplits) -> float:
    """The error on the test images."""
    return error_rate(compute_logits(net, split.test), split.test.labels)


def make_tables(records: Sequence[Record]) -> list[Table]:
    """The files by size, as means and standard deviations over seeds."""
    groups = group_by(records, lambda record: (describe_architecture(record), record["size"]))
    header = ("LeNet-5", "bytes", "KL in bits", "overhead", "error %", "n")
    title = "Files that code a posterior, the KL that they code, and what they have above it"
    return [Table(title, header, tuple(_make_row(widths, rows) for (widths, _), rows in groups.items()))]


def describe_architecture(record: Record) -> str:
    """The widths of the layers, as in 10-20-50."""
    return "-".join(str(record["architecture"][name][1]) for name in ("conv1", "conv2", "fc1"))


def _make_row(widths: str, rows: Sequence[Record]) -> tuple[str, ...]:
    return (
        widths,
        summary([row["bytes"] for row in rows], "{:.0f}"),
        summary([row["kl_bits"] for row in rows], "{:.0f}"),
        summary([100 * row["overhead"] for row in rows], "{:.1f}") + " %",
        percent([row["test_error"] for row in rows]),
        str(len(rows)),
    )


if __name__ == "__main__":
    cli.run(Args, main)
