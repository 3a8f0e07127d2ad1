"""Compression of your own trained network: sparsify it on your data, prune, shrink, and export.

``python -m experiments.compress --factory package.module:function --checkpoint weights.safetensors --dataset FOLDER``
calls ``function()`` for the network, loads the checkpoint, trains the posterior from these weights on, and writes to
``--out`` a record with the compressed network as a small file and as ONNX. An interrupted run resumes.

Images are given to the network as numbers from 0 to 1; a network that needs normalized images must do that in
``forward``.
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
from torch import Tensor, nn

from pyro_vd import NonFiniteError, Posterior, compression_report, guides
from pyro_vd.compress import shrink, to_onnx
from pyro_vd.compress.storage import to_safetensors_bytes
from pyro_vd.data import DataSplits, load
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.deployment import measure_files
from pyro_vd.experiments.common.factory import adapt, build, import_factory, load_weights
from pyro_vd.experiments.common.fine_tune import fine_tune_pruned
from pyro_vd.experiments.common.pruning import SCHEME_SETTINGS, Pruning, check_threshold, lr_scale, pruning_settings
from pyro_vd.experiments.common.records import (
    Record,
    delete_run,
    environment,
    load_matching,
    mismatches,
    read_record,
    run_paths,
    training_log,
    write_record,
)
from pyro_vd.experiments.common.tables import compression_tables
from pyro_vd.experiments.common.training import check_last_batch, fit, make_pair
from pyro_vd.handlers.rules.noisy_weight import NoLocalRule
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp
from pyro_vd.metrics import compute_logits, error_rate

EXPERIMENT = "compress"


@dataclass(frozen=True)
class Args(cli.Setup):
    """Sparsifies, prunes, shrinks and exports a network of your own."""

    factory: str
    """package.module:function, called without arguments for the network; importable from the working directory."""
    checkpoint: Path | None = None
    """Its trained weights, a safetensors file of its state_dict; by default, the factory's weights."""
    dataset: str = "mnist"
    """A folder with train/ and test/ of one folder of images per class, or mnist, fashion_mnist, cifar10, digits."""
    size: int | None = None
    """Resize images to so many pixels per side; by default to the network's input_shape, if it has one."""
    scheme: str = "sparse"
    """sparse and hierarchical prune single weights, for small files; group_normal_jeffreys, group_horseshoe,
    structured_log_normal and l0 prune whole units and channels, for speed."""
    epochs: int = 30
    batch_size: int = 100
    lr: float = 1e-3
    kl_weight: float = 1.0
    """Weight of the KL after warm-up, which is the first half of the run; below 1, less compression and less error."""
    noise_lr: float | None = None
    """Factor of the learning rate for the noise; by default the scheme's: 1, for noise on units 3, for l0 10."""
    threshold: float | None = None
    """Weights with log_alpha at or above it are pruned; by default the scheme's: 3, for noise on units 0, for the
    scale of group_horseshoe 3. l0 has no threshold."""
    fine_tune: int = 0
    """Epochs of training without noise after pruning."""
    shrink: bool = True
    """Remove dead units; --no-shrink keeps them, for a network with layers that shrink refuses."""
    seed: int = 0
    out: Path = Path("runs/compress")


# Values of the arguments that older records lack.
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Args)} | asdict(Pruning())
RECORDED_ARGUMENTS = (
    "factory", "scheme", "epochs", "batch_size", "lr", "kl_weight", "fine_tune", "seed", "size", "shrink",
)  # fmt: skip
POST_TRAINING_ARGUMENTS = ("fine_tune", "shrink")  # they do not affect the posterior


def main(args: Args) -> None:
    _check(args)
    make = import_factory(args.factory)
    device = cli.begin(args)
    torch.manual_seed(args.seed)
    net = build(make, args.factory)
    if args.checkpoint:
        load_weights(net, args.checkpoint)
    split = adapt(load(args.dataset, args.data), net, args.size).to(device)
    _check_outputs(net, split, args.factory)
    args = replace(args, batch_size=min(args.batch_size, len(split.train)))
    check_last_batch(net, split, args.batch_size)
    record = one_run(args, make, net.to(device), split, device)
    print(f"\nerror before {100 * record['test_error_dense']:.2f} %\n\n{compression_tables([record])}\n\n{args.out}")
    if (args.out / record["file"]).with_suffix(".onnx").exists():  # else there is nothing to time in onnxruntime
        print(f"how fast it is: {_timing(args, args.out / record['file'])}")


def _timing(args: Args, record: Path) -> str:
    """The command that times the compressed network."""
    options = {"record": record, "factory": args.factory, "dataset": args.dataset, "data": args.data}
    given = [word for name, value in options.items() if value for word in (f"--{name}", str(value))]
    return shlex.join(["python", "-m", "pyro_vd.experiments.benchmarks.inference", *given])


def one_run(
    args: Args, make: Callable[[], nn.Module], net: nn.Module, split: DataSplits, device: torch.device
) -> Record:
    """Trains, compresses and exports, or loads the record of the same run."""
    settings, threshold = _settings(args, net, split), _pruning(args).threshold
    path, checkpoint = run_paths(args.out, "network", settings | dict.fromkeys(POST_TRAINING_ARGUMENTS))
    if not args.resume:
        delete_run(path, checkpoint)
    if path.exists():
        different = set(mismatches(read_record(path), settings, DEFAULTS))
        if not different or different - set(POST_TRAINING_ARGUMENTS):
            return load_matching(path, settings, DEFAULTS)
        print(f"{path}: another {', '.join(sorted(different))}; written again from the same posterior")
    dense = error_rate(compute_logits(net.eval(), split.test), split.test.labels)
    some, _ = split.train.batch(torch.arange(min(64, len(split.train))))
    _shrink(args, net, some)  # refuses unsupported layers before the training
    try:
        posterior = _train(args, net, split, checkpoint)
        pruned, tuning = fine_tune_pruned(posterior, threshold, split, args, args.seed, checkpoint, split.train.images)
    except NonFiniteError as broken:
        raise UserError(f"diverged: {broken}; a lower --lr may help") from None
    small = _shrink(args, pruned, some)
    counted = compression_report(pruned, posterior.model.priors, some)
    print(counted)
    error = error_rate(compute_logits(pruned, split.test), split.test.labels)
    unpruned = posterior.mean(inputs=split.train.images)
    # Before the record, whose existence says that the run is complete.
    path.unlink(missing_ok=True)
    try:
        to_onnx(small, some, path.with_suffix(".onnx"))
    except UserError as refusal:  # an empty network is a result too
        print(f"no ONNX: {refusal}")
    record = {
        **settings,
        **environment(device),
        "test_error_dense": dense,
        "test_error": error,
        "test_error_unpruned": error_rate(compute_logits(unpruned, split.test), split.test.labels),
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
        "deployment": measure_files(posterior, small, split, threshold, make, path.with_suffix(".safetensors.xz")),
        **training_log(posterior.history),
    }
    write_record(path, record)
    return {**record, "file": path.name}


def _shrink(args: Args, net: nn.Module, images: Tensor) -> nn.Module:
    if not args.shrink:
        return net
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "shrink: ")  # the report has it
            return shrink(net, images)
    except UserError as refusal:
        raise UserError(f"{refusal}; --no-shrink leaves dead units in") from None


@contextlib.contextmanager
def _advice(scheme: str) -> Iterator[None]:
    """Adds to a scheme's refusal of a layer or operation which ``--scheme`` supports it."""
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


def _pruning(args: Args) -> Pruning:
    return pruning_settings(args.scheme, threshold=args.threshold, noise_lr=args.noise_lr)


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
    half, how = max(1, args.epochs // 2), _pruning(args)
    warmth = WarmUp(0, half)
    with _advice(args.scheme), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no gradient of the likelihood reaches")  # the report names unused weights
        pair = make_pair(net, args.scheme, split)
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
        "weights_sha256": hashlib.sha256(to_safetensors_bytes(net)).hexdigest(),  # from the factory or the checkpoint
        "num_samples": 1,
        **{name: getattr(args, name) for name in RECORDED_ARGUMENTS},
        **asdict(_pruning(args)),
    }


def _check(args: Args) -> None:
    cli.needs_onnx()
    cli.nearest("scheme", args.scheme, SCHEME_SETTINGS)
    if min(args.epochs, args.batch_size, args.size or 1) < 1:
        raise UserError("--epochs, --batch-size and --size must be at least 1")
    if args.fine_tune < 0:
        raise UserError("--fine-tune must be at least 0")
    rates = [rate for rate in (args.lr, args.noise_lr) if rate is not None]
    if not all(0 < rate < float("inf") for rate in rates) or not 0 <= args.kl_weight < float("inf"):
        raise UserError("--lr and --noise-lr must be above 0 and --kl-weight at least 0, all finite")
    check_threshold(args.threshold, (args.scheme,))


if __name__ == "__main__":
    cli.run(Args, main)
