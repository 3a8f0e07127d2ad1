"""Compression of your own trained network: sparsify it on your data, prune, shrink, and export.

``python -m experiments.compress --factory package.module:function --checkpoint weights.safetensors --dataset FOLDER``
calls ``function()`` for the network, loads the checkpoint, trains the posterior from these weights on, and writes to
``--out`` a record with the compressed network as a small file and as ONNX. An interrupted run resumes.

Images are given to the network as numbers from 0 to 1; a network that needs normalized images must do that in
``forward``.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shlex
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pyro_vd import compression_report, guides
from pyro_vd.compress import shrink, to_onnx
from pyro_vd.compress.storage import to_safetensors_bytes
from pyro_vd.data import DataSplits
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import cli, compression
from pyro_vd.experiments.common.clock import Clock
from pyro_vd.experiments.common.compression import DIVERGED, check_threshold
from pyro_vd.experiments.common.compression_tables import compression_tables
from pyro_vd.experiments.common.deployment import measure_files, try_deploy
from pyro_vd.experiments.common.factory import build, import_factory, load_weights
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.measures import COMPRESSION_KEYS, count
from pyro_vd.experiments.common.outcomes import describe_failures
from pyro_vd.experiments.common.phases import averaged_inputs, measure_error
from pyro_vd.experiments.common.protocols import Protocol, compression_spec
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.runner import Trained, make_runner
from pyro_vd.experiments.common.spec import Data, Fit, Spec
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.handlers.rules.noisy_weight import NoLocalRule

STUDY = "compress"
# The KL warms up during the first half of the run, and the learning rate decays during the second.
CHECKPOINT = Protocol(name="from trained weights", epochs=30, ramp=guides.sparse.defaults.ramp, hold=0.5)
FACTORY = replace(CHECKPOINT, name="from the factory's weights")
REQUIRED = (*COMPRESSION_KEYS, "test_error_dense", "deployment")
NUM_IMAGES = 64  # that the network is traced with


@dataclass(frozen=True)
class Args(cli.Setup):
    """Sparsifies, prunes, shrinks and exports a network of your own."""

    factory: str
    """package.module:function, called without arguments for the network; importable from the working directory."""
    checkpoint: Path | None = None
    """Its trained weights: its state_dict in a file of safetensors or of torch.save (.pt, .pth); by default, the
    factory's weights."""
    dataset: str = "mnist"
    """A folder with train/ and test/ of one folder of images per class, or mnist, fashion_mnist, cifar10, digits."""
    size: int | None = None
    """Resize images to so many pixels per side; by default to the network's input_shape, if it has one."""
    scheme: Literal[
        "sparse", "hierarchical", "group_normal_jeffreys", "group_horseshoe", "structured_log_normal", "l0"
    ] = "sparse"
    """sparse and hierarchical prune single weights, for small files; group_normal_jeffreys, group_horseshoe,
    structured_log_normal and l0 prune whole units and channels, for speed."""
    epochs: int = CHECKPOINT.epochs
    batch_size: int = CHECKPOINT.batch_size
    lr: float = CHECKPOINT.lr
    kl_weight: float = CHECKPOINT.kl_weight
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

    @property
    def changes(self) -> dict[str, Any]:
        """What is given of the protocol's fields."""
        names = ("epochs", "batch_size", "lr", "kl_weight", "noise_lr", "threshold", "fine_tune")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def main(args: Args) -> None:
    _check(args)
    make = import_factory(args.factory)
    device = cli.begin(args)
    torch.manual_seed(args.seed)
    net = build(make, args.factory)
    if args.checkpoint:
        load_weights(net, args.checkpoint)
    data = Data(name=args.dataset, size=args.size)
    split = load_images(data, net, args.data)
    _check_outputs(net, split, args.factory)
    args = replace(args, batch_size=min(args.batch_size, len(split.train)))
    spec, net, split = make_spec(args, net, data), net.to(device), split.to(device)
    _shrink(spec, net.eval(), _some_images(split))  # refuses unsupported layers before the training
    notes = partial(describe, args, net, split)
    runner = make_runner(args, STUDY, device, measure, COMPRESSION_KEYS, DIVERGED, notes)
    runner.clock = Clock([spec])
    with _advice(args.scheme), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no gradient of the likelihood reaches")  # the report names unused weights
        run = runner.run_on(spec, split, lambda classes: build(make, args.factory), net)
    if run.diverged:
        raise UserError(f"diverged: {run['diverged']}; a lower --lr may help")
    _show_results(args, run, runner.store)


def make_spec(args: Args, net: nn.Module, data: Data) -> Spec:
    """The posterior from the network's weights, pruning, and fine-tuning."""
    spec = compression_spec(
        CHECKPOINT, args.scheme, data, args.factory, changes=args.changes, num_samples=1, seed=args.seed
    )
    return replace(spec, weights=hashlib.sha256(to_safetensors_bytes(net)).hexdigest(), shrink=args.shrink)


def describe(args: Args, net: nn.Module, split: DataSplits, spec: Spec) -> Record:
    """The notes of a record, with the error of the network before."""
    notes = compression.describe(STUDY, CHECKPOINT if args.checkpoint else FACTORY, spec.method, args.changes)
    return {**notes, "test_error_dense": measure_error(net, split.test)}


def measure(trained: Trained) -> Record:
    """Writes the compressed network as a small file and as ONNX. Gives errors, counts, and sizes of files."""
    state, split, spec = trained.state, trained.split, trained.spec
    phase = spec.main
    assert state.posterior is not None
    assert isinstance(phase, Fit)
    assert phase.threshold is not None
    images = _some_images(split)
    small = _shrink(spec, state.net, images)
    counted = compression_report(state.net, state.posterior.model.priors, images)
    print(counted)
    try:
        to_onnx(small, images, trained.stem.with_name(f"{trained.stem.name}.onnx"))
    except UserError as refusal:  # an empty network is a result too
        print(f"no ONNX: {refusal}")
    posterior, threshold = state.posterior, phase.threshold
    file, fresh = trained.stem.with_name(f"{trained.stem.name}.safetensors.xz"), partial(trained.make, split.classes)
    return {
        **count(trained, counted),
        "test_error_unpruned": measure_error(state.posterior.mean(inputs=averaged_inputs(split)), split.test),
        "total_weights": counted.total_weights,
        "total_nonzero": counted.total_nonzero,
        **try_deploy(lambda: measure_files(posterior, small, split, threshold, fresh, file)),
    }


def _some_images(split: DataSplits) -> Tensor:
    return split.train.batch(torch.arange(min(NUM_IMAGES, len(split.train))))[0]


def _shrink(spec: Spec, net: nn.Module, images: Tensor) -> nn.Module:
    if not spec.shrink:
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


def _show_results(args: Args, run: Run, store: Store) -> None:
    """Prints the tables of every run in the folder, and what to do next with this one."""
    print(f"error before {100 * run['test_error_dense']:.2f} %")
    runs = store.runs(COMPRESSION_KEYS)
    files = [run.beside(suffix) for suffix in (".safetensors.xz", ".onnx")]
    publish(
        compression_tables(runs),
        args.out,
        *(file.name for file in files),
        notes=describe_failures(runs),
        next_step=f"pyro-vd report {run.path}",
    )
    if files[-1].is_file():  # else there is nothing to time in onnxruntime
        print(f"how fast it is: {_timing(args, run.path)}")


def _timing(args: Args, record: Path) -> str:
    """The command that times the compressed network."""
    options = {"record": record, "factory": args.factory, "dataset": args.dataset, "data": args.data}
    given = [word for name, value in options.items() if value for word in (f"--{name}", str(value))]
    return shlex.join(["python", "-m", "pyro_vd.experiments.benchmarks.inference", *given])


def _check_outputs(net: nn.Module, split: DataSplits, factory: str) -> None:
    shape = tuple(split.train.images.shape[1:])
    try:
        with torch.no_grad():
            outputs = net.eval()(split.train.batch(torch.arange(2))[0])
    except Exception as error:  # of the network's own code
        raise UserError(f"{factory}: does not run on images of {shape}: {error}; --size resizes them") from None
    if not isinstance(outputs, Tensor):
        raise UserError(f"{factory}: gives {type(outputs).__name__}, not a tensor of logits")
    if outputs.ndim != 2 or outputs.shape[1] < split.classes:
        raise UserError(f"{factory}: outputs of shape {tuple(outputs.shape)} for {split.classes} classes")


def _check(args: Args) -> None:
    cli.needs_onnx()
    cli.check_counts(args, "epochs", "batch_size", "size")
    if args.fine_tune < 0:
        raise UserError("--fine-tune must be at least 0")
    rates = [rate for rate in (args.lr, args.noise_lr) if rate is not None]
    if not all(0 < rate < float("inf") for rate in rates) or not 0 <= args.kl_weight < float("inf"):
        raise UserError("--lr and --noise-lr must be above 0 and --kl-weight at least 0, all finite")
    check_threshold(args.threshold, (args.scheme,))


if __name__ == "__main__":
    cli.run(Args, main)
