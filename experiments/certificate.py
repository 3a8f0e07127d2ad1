"""PAC-Bayes certificates of LeNet-300-100: upper bounds on its error on images that nobody has seen.

``python -m experiments.certificate`` learns a prior on one half of the training images and a posterior on the other
half, and certifies both on that other half, with all weights and pruned. Every run writes one JSON record; finished
runs are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pyro_vd import Training, schedules
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.certificate_runs import KEYS, KINDS, CertificateSpec, run_spec
from pyro_vd.experiments.common.certificate_tables import make_table
from pyro_vd.experiments.common.images import choose_dataset, load_images
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.spec import Data, Fit
from pyro_vd.experiments.common.store import Store
from pyro_vd.models import NETWORKS

STUDY = "certificate"
NETWORK = "lenet300"
THRESHOLD = 3.0  # of log_alpha, as in Molchanov et al. 2017
PRIOR_KL_WEIGHT, POSTERIOR_KL_WEIGHT = 0.05, 20.0


@dataclass(frozen=True)
class Args(cli.Setup):
    """Trains, certifies, and prints the table."""

    dataset: str = "auto"
    """A dataset, a folder of images, or auto: MNIST if it is there, else digits."""
    epochs: int = 20
    """Passes over the first half."""
    posterior_epochs: int = 4
    """Passes over the second half."""
    delta: float = 0.05
    """Probability that a bound does not hold, at most."""
    num_samples: int = CertificateSpec.num_samples
    """Weight draws of a certificate."""
    seeds: int = 3
    """Seeds 0 .. n-1 of the network, the noise and the order, one run each."""
    out: Path = Path("runs/certificate")
    """Folder of records, checkpoints and table."""


def make_spec(dataset: str, args: Args) -> CertificateSpec:
    """The run of seed 0."""
    training = Training(
        epochs=args.epochs,
        lr=2e-3,
        lr_schedule=schedules.HoldThenDecay(args.epochs // 2, args.epochs),
        kl_schedule=schedules.WarmUp(wait=0, ramp=max(1, args.epochs // 2), weight=PRIOR_KL_WEIGHT),
        threshold=THRESHOLD,
    )
    posterior = Training(
        epochs=args.posterior_epochs,
        lr=1e-4,
        lr_schedule=schedules.HoldThenDecay(args.posterior_epochs // 2, args.posterior_epochs),
        kl_schedule=schedules.Constant(POSTERIOR_KL_WEIGHT),
        threshold=THRESHOLD,
    )
    return CertificateSpec(
        data=Data(name=dataset, shift=1),
        network=NETWORK,
        prior=Fit(scheme="sparse", training=training, threshold=THRESHOLD),
        posterior=posterior,
        delta=args.delta,
        num_samples=args.num_samples,
    )


def main(args: Args) -> None:
    cli.check_counts(args, "epochs", "posterior_epochs", "num_samples", "seeds")
    device = cli.begin(args)
    spec = make_spec(choose_dataset(args.dataset, args.data), args)
    split, store = load_images(spec.data, NETWORKS[NETWORK](), args.data), Store(args.out, KINDS)
    specs = [replace(spec, seed=seed) for seed in range(args.seeds)]
    for one in store.unfinished(specs, KEYS, args.resume, split.sha256):
        run_spec(one, store, split, device, args.engine, STUDY)
    publish([make_table(spec, store)], args.out)


if __name__ == "__main__":
    cli.run(Args, main)
