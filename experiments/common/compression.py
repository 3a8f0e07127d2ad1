"""What the experiments in compression share: arguments, specs from them, and the report of a folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from pyro_vd import guides
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import cli, runner
from pyro_vd.experiments.common.compression_tables import compression_tables
from pyro_vd.experiments.common.curve_pictures import draw_curves
from pyro_vd.experiments.common.measures import COMPRESSION_KEYS, measure_compression
from pyro_vd.experiments.common.outcomes import describe_failures
from pyro_vd.experiments.common.protocols import CHANGES, Protocol, compression_spec, has_parametrization
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.runner import Runner
from pyro_vd.experiments.common.spec import Data, Options, Spec
from pyro_vd.experiments.common.store import Store
from pyro_vd.guides._gaussian import BOUNDS

__all__ = ["Args", "check", "check_threshold", "describe", "make_runner", "make_specs", "show_results"]

DIVERGED: dict[str, Any] = {
    **dict.fromkeys(COMPRESSION_KEYS),
    "sparsity_per_layer": {},
    "curve": [],
}
"""The numbers of a diverged run."""


@dataclass(frozen=True, kw_only=True)
class Args(cli.Setup):
    """Arguments of every experiment in compression."""

    dataset: str
    """A name, an image folder, or auto."""
    scheme: tuple[str, ...]
    """One or more of none, bernoulli, gaussian_srivastava, gaussian_wang, variational_a, variational_b, sparse,
    hierarchical, hierarchical_a, ard, concrete, group_normal_jeffreys, group_horseshoe, structured_log_normal, l0."""
    seeds: int = 1
    """Seeds 0 .. n-1, one run each."""
    epochs: int | None = None
    """Passes over the training set; by default the protocol's."""
    batch_size: int | None = None
    """Examples in a step; by default the protocol's."""
    lr: float | None = None
    """Learning rate; by default the protocol's."""
    noise_lr: float | None = None
    """Factor of the learning rate for the noise: log_sigma2, or the guide's other parameters. By default the
    protocol's, 3 for noise on units, 10 for the gates of L0. Below 1, means shrink before their noise has grown;
    above 1, the few parameters of a unit learn as fast as its many weights."""
    kl_weight: float | None = None
    """Weight of the KL after warm-up, by default the protocol's; below 1, less compression and less error."""
    wait: float | None = None
    """Share of the epochs without the KL; by default the protocol's."""
    ramp: float | None = None
    """Share of the epochs of the linear warm-up of the KL after those, at least an epoch; by default the protocol's."""
    hold: float | None = None
    """Share of the epochs at the full learning rate, then linear decay to 0; by default the protocol's."""
    parametrization: Literal["log_sigma2", "log_alpha"] | None = None
    """The noise parameter of schemes with noise on every weight; by default the scheme's."""
    init: float | None = None
    """Initial value of that parameter; by default -10 (log_sigma2) or -8 (log_alpha)."""
    threshold: float | None = None
    """Weights with log_alpha at or above it are pruned; by default the scheme's: 3, for noise on units 0, for the
    scale of group horseshoe 3. The gates of L0 have no threshold."""
    pretrain: int | None = None
    """Epochs of dense training with Bernoulli dropout before the run, by default the protocol's; 0 starts from
    random weights."""
    fine_tune: int | None = None
    """Epochs of training without noise after pruning, by default the protocol's."""
    train_masking: bool | None = None
    """Leave weights above the threshold out of the mean during training too; by default yes, except for schemes with
    noise on units."""
    num_samples: int = 20
    """Weight draws of test_error_mc."""
    validation: int = 0
    """Hold out this many training images and report on them instead of the test set: for tuning."""
    out: Path
    """Folder of records, checkpoints and pictures."""

    @property
    def changes(self) -> dict[str, Any]:
        """What is given of the protocol's fields."""
        given = {name: getattr(self, name, None) for name in CHANGES}
        return {name: value for name, value in given.items() if value is not None}


def make_specs(args: Args, protocol: Protocol, data: Data, network: str, options: Options | None = None) -> list[Spec]:
    """A spec for every seed and scheme."""
    return [
        compression_spec(
            protocol, scheme, data, network,
            options=options, changes=args.changes, num_samples=args.num_samples, seed=seed,
        )
        for seed in range(args.seeds)
        for scheme in args.scheme
    ]  # fmt: skip


def make_runner(args: cli.Setup, study: str, device: torch.device, notes: Callable[[Spec], Record]) -> Runner:
    """The runner of an experiment in compression.

    Args:
        args, study, device: see ``runner.make_runner``.
        notes: entries of a record that say what its run changes, see ``describe``.
    """
    return runner.make_runner(args, study, device, measure_compression, COMPRESSION_KEYS, DIVERGED, notes)


def describe(study: str, protocol: Protocol, scheme: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The notes of a record: what its run changes in the protocol."""
    return {"experiment": study, "protocol": protocol.name, "changes": protocol.differences(scheme, changes)}


def show_results(store: Store) -> None:
    """Prints the tables of every run in the folder, and draws error against compression."""
    runs = store.runs(COMPRESSION_KEYS)
    draw_curves(runs, store.folder / "curves.png")
    publish(
        compression_tables(runs),
        store.folder,
        "curves.png",
        notes=describe_failures(runs),
        next_step=f"pyro-vd report {store.folder}",
    )


def check(args: Args) -> None:
    """Refuses invalid arguments.

    Raises:
        UserError: naming the argument and its range.
    """
    if not args.scheme:
        raise UserError("--scheme needs at least one name")
    for scheme in args.scheme:
        cli.nearest("scheme", scheme, guides.SCHEMES)
    asked = (args.parametrization, args.init) != (None, None)
    if asked and not all(has_parametrization(scheme) for scheme in args.scheme if scheme != "none"):
        raise UserError("--parametrization and --init apply to schemes with noise on every weight; drop the others")
    cli.check_counts(args, "seeds", "batch_size", "num_samples", "epochs")
    if min(args.validation, args.pretrain or 0, args.fine_tune or 0) < 0:
        raise UserError("--validation, --pretrain and --fine-tune must be at least 0")
    if not all(0 <= share <= 1 for share in (args.hold or 0, args.wait or 0, args.ramp or 0)):
        raise UserError("--hold, --wait and --ramp must lie between 0 and 1: shares of the epochs")
    check_threshold(args.threshold, args.scheme)
    parametrization = args.parametrization or "log_sigma2"
    low, high = BOUNDS[parametrization]
    if args.init is not None and not low <= args.init <= high:
        raise UserError(f"--init must lie in [{low:g}, {high:g}], the bounds of {parametrization}")
    rates = [rate for rate in (args.lr, args.noise_lr) if rate is not None]
    if not all(0 < rate < float("inf") for rate in rates):
        raise UserError("--lr and --noise-lr must be above 0 and finite")
    if args.kl_weight is not None and not 0 <= args.kl_weight < float("inf"):
        raise UserError("--kl-weight must be at least 0 and finite")


def check_threshold(threshold: float | None, schemes: Sequence[str]) -> None:
    """Refuses a threshold that is not finite, and any threshold for a scheme that has none.

    Raises:
        UserError: naming the reason.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise UserError("--threshold must be finite")
    gated = [name for name in schemes if _decides_by_itself(name)]
    if threshold is not None and gated:
        raise UserError(f"--threshold is not for {gated[0]}, whose gates are open or closed by themselves")


def _decides_by_itself(scheme: str) -> bool:
    """Whether the scheme prunes without a threshold."""
    own = guides.SCHEMES[scheme].defaults
    return own.threshold is not None and not own.threshold_of
