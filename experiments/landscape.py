"""What batch normalization and dropout do to the loss along the gradient (Santurkar et al. 2018, figure 4).

``python -m experiments.landscape`` trains a narrow VGG-A with and without batch normalization, without noise at four
learning rates and with dropout schemes on its linear layers, and measures at every 20th step: the range of the loss
over steps along the gradient, how far the gradient changes, and the change per distance moved. The noise is the same at
all points of a measurement. Every run writes one JSON record; finished runs are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyro_vd import Training, schedules
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.images import choose_dataset, load_images
from pyro_vd.experiments.common.landscape_pictures import draw_bands, draw_schemes
from pyro_vd.experiments.common.landscape_runs import KINDS, WITH, WITHOUT, LandscapeSpec, Rows, run_spec
from pyro_vd.experiments.common.landscape_tables import make_tables
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.spec import Data, Fit, Options
from pyro_vd.experiments.common.store import Store
from pyro_vd.models import VGGA

STUDY = "landscape"
SCALE, EPOCHS, EVERY = 0.125, 10, 20
LR, OTHER_LRS = 1e-3, (2e-3, 5e-4, 1e-4)
STEP_SIZES = (0.01, 0.02, 0.04, 0.08)  # of the gradient
FC = ("fc1.weight", "fc2.weight", "fc3.weight")
RATES = {"p": 0.2}  # of the schemes that do not learn them
SCHEMES: dict[str, dict[str, Any]] = {
    "Bernoulli": {"scheme": "bernoulli", "options": Options(RATES)},
    "Gaussian S": {"scheme": "gaussian_srivastava", "options": Options(RATES)},
    "variational A": {"scheme": "variational_a"},
    "variational B": {"scheme": "variational_b"},
    "sparse": {"scheme": "sparse"},
}
NETWORKS = {WITHOUT: False, WITH: True}


@dataclass(frozen=True)
class Args(cli.Setup):
    """Trains, measures, and prints the tables."""

    dataset: str = "auto"
    """A dataset's name, an image folder, or auto: CIFAR-10 if it can be loaded, else digits."""
    row: tuple[str, ...] = ()
    """Rows by name; all by default."""
    scale: float = SCALE
    """Factor of the network's widths."""
    epochs: int = EPOCHS
    """Passes over the training set."""
    every: int = EVERY
    """Steps from one measurement to the next."""
    seeds: int = 3
    """Seeds 0 .. n-1, one run each."""
    out: Path = Path("runs/landscape")
    """Folder of records, tables and pictures."""


def main(args: Args) -> None:
    cli.check_counts(args, "epochs", "every", "seeds")
    device = cli.begin(args)
    data = Data(name=choose_dataset(args.dataset, args.data, "cifar10"))
    rows = make_rows(data, args.scale, args.epochs, args.every)
    for name in args.row:
        cli.nearest("row", name, rows[WITH])
    split = load_images(data, VGGA(scale=args.scale), args.data).to(device)
    store = Store(args.out, KINDS)
    wanted = [spec for named in rows.values() for name, spec in named.items() if not args.row or name in args.row]
    for spec in (replace(spec, seed=seed) for seed in range(args.seeds) for spec in wanted):
        if not args.resume:
            store.delete(spec)
        run_spec(spec, store, split, STUDY)
    publish(make_tables(rows, store), args.out, *draw(rows, store))


def make_rows(data: Data, scale: float = SCALE, epochs: int = EPOCHS, every: int = EVERY) -> Rows:
    """Every row of both networks."""
    ramp = schedules.WarmUp(wait=epochs // 5, ramp=max(1, 2 * epochs // 5))

    def make(batch_norm: bool, scheme: str = "none", lr: float = LR, **fit: Any) -> LandscapeSpec:
        training = Training(epochs=epochs, batch_size=128, lr=lr, kl_schedule=ramp)
        return LandscapeSpec(
            batch_norm=batch_norm, scale=scale, data=data, fit=Fit(scheme=scheme, training=training, **fit),
            step_sizes=STEP_SIZES, every=every,
        )  # fmt: skip

    return {
        network: {
            "none": make(batch_norm),
            **{f"none, lr {lr:g}": make(batch_norm, lr=lr) for lr in OTHER_LRS},
            **{name: make(batch_norm, select=FC, **scheme) for name, scheme in SCHEMES.items()},
        }
        for network, batch_norm in NETWORKS.items()
    }


def draw(rows: Rows, store: Store) -> list[str]:
    """Draws the pictures beside the records and returns their names."""
    draw_bands(rows, store, store.folder / "bands.png")
    draw_schemes(rows, store, store.folder / "schemes.png")
    return ["bands.png", "schemes.png"]


if __name__ == "__main__":
    cli.run(Args, main)
