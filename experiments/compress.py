"""Compresses your own trained network: sparsifies it on your data from its weights on, prunes, shrinks, and exports.

``python -m experiments.compress --factory package.module:function --checkpoint weights.safetensors --dataset FOLDER``
calls ``function()`` for the network, fills it from the checkpoint, trains the posterior, and leaves in ``--out`` the
compressed network as a small file and as ONNX beside a record, and prints the tables. An interrupted run goes on where
it stopped.

Images arrive as numbers from 0 to 1; a network that wants them normalised does that in its own ``forward``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
import shlex
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.factory import factory_of, fill_from, fitted, made
from pyro_vd.experiments.common.fine_tune import fine_tuned
from pyro_vd.experiments.common.pruning import OWN, Pruning, check_threshold, lr_scale, pruning_of
from pyro_vd.experiments.common.records import (
    Record,
    circumstances,
    course_of,
    differing,
    files_of,
    finished,
    read_record,
    start_over,
    write_record,
)
from pyro_vd.experiments.common.shipping import shipped
from pyro_vd.experiments.common.tables import both_tables
from pyro_vd.experiments.common.training import check_last_batch, fit, signature
from torch import Tensor, nn

from pyro_vd import NonFiniteError, Posterior, compression_report, guides
from pyro_vd.compress import shrink, to_onnx
from pyro_vd.compress.storage import as_safetensors
from pyro_vd.data import DataSplits, load
from pyro_vd.errors import UserError
from pyro_vd.handlers.rules.noisy_weight import NoLocalRule
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp
from pyro_vd.metrics import error_rate, logits_of

EXPERIMENT = "compress"


@dataclass(frozen=True)
class Args(cli.Training):
    """Sparsifies, prunes, shrinks and exports a network of your own."""

    factory: str
    """package.module:function, called without arguments for the network; importable from the working directory."""
    checkpoint: Path | None = None
    """Its trained weights, a safetensors file of its state_dict; without it, the weights that the factory made."""
    dataset: str = "mnist"
    """A folder with train/ and test/ of one folder of images per class, or mnist, fashion_mnist, cifar10, digits."""
    size: int | None = None
    """Resize images to so many pixels a side; by default the network's input_shape says, or they stay."""
    scheme: str = "sparse"
    """sparse and hierarchical prune weight by weight, for few bytes; group_normal_jeffreys, group_horseshoe,
    structured_log_normal and l0 whole units and channels, for speed."""
    epochs: int = 30
    batch_size: int = 100
    lr: float = 1e-3
    kl_weight: float = 1.0
    """Weight of the KL after warm-up, which is the first half of the run; below 1 buys accuracy with compression."""
    noise_lr: float | None = None
    """Factor of the learning rate for the noise; by default the scheme's: 1, of units 3, of l0's gates 10."""
    threshold: float | None = None
    """Weights with log_alpha at or above it are pruned; by default the scheme's: 3, of units 0, of group horseshoe's
    scale 3. l0's gates have none."""
    fine_tune: int = 0
    """Epochs in which the weights that pruning leaves are trained on without noise."""
    shrink: bool = True
    """Take dead units out; --no-shrink leaves them, for a network with layers that shrink refuses."""
    seed: int = 0
    out: Path = Path("runs/compress")


# What an older record that lacks an argument was made with.
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Args)} | asdict(Pruning())
SETTINGS = (
    "factory", "scheme", "epochs", "batch_size", "lr", "kl_weight", "fine_tune", "seed", "size", "shrink",
)  # fmt: skip
AFTERWARDS = ("fine_tune", "shrink")  # the posterior is the same


def main(args: Args) -> None:
    _check(args)
    make = factory_of(args.factory)
    device = cli.begin(args)
    torch.manual_seed(args.seed)
    net = made(make, args.factory)
    if args.checkpoint:
        fill_from(net, args.checkpoint)
    split = fitted(load(args.dataset, args.data), net, args.size).to(device)
    _check_outputs(net, split, args.factory)
    args = replace(args, batch_size=min(args.batch_size, len(split.train)))
    check_last_batch(net, split, args.batch_size)
    record = one_run(args, make, net.to(device), split, device)
    print(f"\nerror before {100 * record['test_error_dense']:.2f} %\n\n{both_tables([record])}\n\n{args.out}")
    if (args.out / record["file"]).with_suffix(".onnx").exists():  # else there is nothing to run in onnxruntime
        print(f"how fast it is: {_timing(args, args.out / record['file'])}")


def _timing(args: Args, record: Path) -> str:
    """The command that measures what this one has left."""
    options = {"record": record, "factory": args.factory, "dataset": args.dataset, "data": args.data}
    given = [word for name, value in options.items() if value for word in (f"--{name}", str(value))]
    return shlex.join(["python", "-m", "benchmarks.inference", *given])


def one_run(
    args: Args, make: Callable[[], nn.Module], net: nn.Module, split: DataSplits, device: torch.device
) -> Record:
    """Trains, compresses and exports, or returns the record of the same run done before."""
    settings, threshold = _settings(args, net, split), _how(args).threshold
    path, checkpoint = files_of(args.out, "network", settings | dict.fromkeys(AFTERWARDS))
    if not args.resume:
        start_over(path, checkpoint)
    if path.exists():
        different = set(differing(read_record(path), settings, DEFAULTS))
        if not different or different - set(AFTERWARDS):
            return finished(path, settings, DEFAULTS)
        print(f"{path}: another {', '.join(sorted(different))}; made again from the same posterior")
    dense = error_rate(logits_of(net.eval(), split.test), split.test.labels)
    some, _ = split.train.batch(torch.arange(min(64, len(split.train))))
    _shrunk(args, net, some)  # a layer that it refuses is known now, not after hours of training
    try:
        posterior = _train(args, net, split, checkpoint)
        pruned, tuning = fine_tuned(posterior, threshold, split, args, args.seed, checkpoint, split.train.images)
    except NonFiniteError as broken:
        raise UserError(f"diverged: {broken}; a lower --lr may not") from None
    small = _shrunk(args, pruned, some)
    counted = compression_report(pruned, posterior.model.priors, some)
    print(counted)
    error = error_rate(logits_of(pruned, split.test), split.test.labels)
    unpruned = posterior.mean(inputs=split.train.images)
    # Before the record, which says that all is there.
    path.unlink(missing_ok=True)
    try:
        to_onnx(small, some, path.with_suffix(".onnx"))
    except UserError as refusal:  # an empty network is a result too
        print(f"no ONNX: {refusal}")
    record = {
        **settings,
        **circumstances(device),
        "test_error_dense": dense,
        "test_error": error,
        "test_error_unpruned": error_rate(logits_of(unpruned, split.test), split.test.labels),
        "test_error_mc": None,
        "sparsity_per_layer": counted.sparsity_per_layer,
        "weights": counted.weights,
        "nonzero": counted.nonzero,
        "total_weights": counted.total_weights,
        "total_nonzero": counted.total_nonzero,
        "compression": counted.compression if counted.nonzero else None,
        "diverged": False,
        "curve": [],
        **tuning,
        "shipped": shipped(posterior, small, split, threshold, make, path.with_suffix(".safetensors.xz")),
        **course_of(posterior.history),
    }
    write_record(path, record)
    return {**record, "file": path.name}


def _shrunk(args: Args, net: nn.Module, images: Tensor) -> nn.Module:
    if not args.shrink:
        return net
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "shrink: ")  # the report says it
            return shrink(net, images)
    except UserError as refusal:
        raise UserError(f"{refusal}; --no-shrink leaves dead units in") from None


@contextlib.contextmanager
def _advice(scheme: str) -> Iterator[None]:
    """Refusals of layers and operations that a scheme does not know, with what this command can do about them."""
    try:
        yield
    except (UserError, NoLocalRule) as refusal:
        what, *advice = re.split(r"[;.] leave (?:it|the weight) out of lift", str(refusal), flags=re.IGNORECASE)
        if not advice:
            raise
        raise UserError(
            f"--scheme {scheme}: {what.removeprefix(f'{scheme}: ')}; --scheme sparse and --scheme hierarchical have "
            "noise on each weight and take it"
        ) from None


def _how(args: Args) -> Pruning:
    return pruning_of(args.scheme, threshold=args.threshold, noise_lr=args.noise_lr)


def _check_outputs(net: nn.Module, split: DataSplits, factory: str) -> None:
    images = split.train.images[:2].cpu()
    shape = tuple(images.shape[1:])
    try:
        with torch.no_grad():
            outputs = net.eval()(split.train.batch(torch.arange(2))[0].cpu())
    except Exception as error:  # of the network's own code
        raise UserError(f"{factory}: does not run on images of {shape}: {error}; --size resizes them") from None
    if not isinstance(outputs, Tensor):
        raise UserError(f"{factory}: gives {type(outputs).__name__}, not a tensor of logits")
    if outputs.ndim != 2 or outputs.shape[1] < split.classes:
        raise UserError(f"{factory}: outputs of shape {tuple(outputs.shape)} for {split.classes} classes")


def _train(args: Args, net: nn.Module, split: DataSplits, checkpoint: Path) -> Posterior:
    half, how = max(1, args.epochs // 2), _how(args)
    warmth = WarmUp(0, half)
    with _advice(args.scheme), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no gradient of the likelihood reaches")  # the report names what is not used
        pair = signature(net, args.scheme, split)
        return fit(
            pair.model,
            pair.guide,
            split.train,
            epochs=args.epochs,
            batch_size=args.batch_size,
            lr=args.lr,
            lr_scale=lr_scale(pair, how.noise_lr),
            lr_schedule=HoldThenDecay(min(half, args.epochs - 1), args.epochs),
            kl_schedule=lambda epoch: args.kl_weight * warmth(epoch),
            threshold=how.threshold if how.train_masking else None,
            engine=args.engine,  # type: ignore[arg-type]
            seed=args.seed,
            checkpoint=checkpoint,
        )


def _settings(args: Args, net: nn.Module, split: DataSplits) -> Record:
    return {
        "experiment": EXPERIMENT,
        "protocol": "from trained weights" if args.checkpoint else "from the factory's weights",
        "network": args.factory,
        "dataset": split.name,
        "data_sha256": split.sha256,
        "prior": guides.prior_name(guides.SCHEMES[args.scheme]),
        "weights_sha256": hashlib.sha256(as_safetensors(net)).hexdigest(),  # whoever made them
        "mc_samples": 1,
        **{name: getattr(args, name) for name in SETTINGS},
        **asdict(_how(args)),
    }


def _check(args: Args) -> None:
    cli.needs_onnx()
    cli.nearest("scheme", args.scheme, OWN)
    if min(args.epochs, args.batch_size, args.size or 1) < 1:
        raise UserError("--epochs, --batch-size and --size have to be at least 1")
    if args.fine_tune < 0:
        raise UserError("--fine-tune has to be at least 0")
    rates = [rate for rate in (args.lr, args.noise_lr) if rate is not None]
    if not all(0 < rate < float("inf") for rate in rates) or not 0 <= args.kl_weight < float("inf"):
        raise UserError("--lr and --noise-lr have to be above 0 and --kl-weight at least 0, all finite")
    check_threshold(args.threshold, (args.scheme,))


if __name__ == "__main__":
    cli.run(Args, main)
