"""Writes one HTML page about the runs of a folder, which opens from disk without a network.

``python -m experiments.report RUN`` takes the folder of an experiment in compression, or one of its records, and writes
tables, error against compression, training curves, filters, heat maps of the weights and of log_alpha, and the
calibration of the compressed networks whose data are available.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import jinja2
import tyro

from pyro_vd import compress
from pyro_vd.data import DataSplits
from pyro_vd.errors import CheckpointError, DataError, UserError
from pyro_vd.experiments.common import cli, pictures
from pyro_vd.experiments.common.predictive import quality
from pyro_vd.experiments.common.records import Record, read_records
from pyro_vd.experiments.common.tables import compression_table, deployment_table
from pyro_vd.experiments.common.training import load_data, network_factory
from pyro_vd.experiments.common.uncertainty_pictures import draw_diagram
from pyro_vd.files import write_atomically
from pyro_vd.metrics import compute_logits

TEMPLATE = Path(__file__).parent / "common" / "report.html.j2"
SETTINGS = ("dataset", "network", "scheme", "prior", "protocol", "epochs", "seed", "device", "torch", "revision")


@dataclass(frozen=True)
class Args:
    """Writes a report."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of records of mnist_compress or cifar_compress, or one record in it."""
    out: Path | None = None
    """The page; by default report.html in the folder, or a file beside the record with its name."""
    data: Path | None = None
    """Folder of the datasets, for calibration; by default $PYRO_VD_DATA or the user's cache."""


def main(args: Args) -> None:
    records = _records(args.run)
    folder = args.run if args.run.is_dir() else args.run.parent
    out = args.out or (folder / "report.html" if args.run.is_dir() else args.run.with_suffix(".html"))
    cli.check_folder(out.parent)
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; give the file of the page")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, page(records, folder, args.data).encode())
    print(out)


def page(records: list[Record], folder: Path, data: Path | None = None) -> str:
    """The HTML page about these records of a folder."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        title=", ".join(dict.fromkeys(f"{record['network']} {record['scheme']}" for record in records)),
        tables={"Error and compression": compression_table(records), "Deployment cost": deployment_table(records)},
        curves=_draw(partial(pictures.draw_curves, records)),
        runs=[_section(record, folder, data) for record in records],
    )  # fmt: skip


def _section(record: Record, folder: Path, data: Path | None) -> dict[str, Any]:
    """The values of the template for one run."""
    stem = folder / record["file"].removesuffix(".json")
    calibration, why = _calibration(record, stem, data)
    training = _draw(partial(pictures.draw_training, record))
    found = [
        ("Training", training),
        ("Strongest units of the first layer", _picture_uri(stem, "filters")),
        ("The first layer's weights", _picture_uri(stem, "heatmap")),
        ("Calibration of the compressed network on the test set", calibration),
    ]
    return {
        "name": f"{record['scheme']} on {record['network']}, seed {record['seed']}",
        "settings": [(key, record[key]) for key in SETTINGS],
        "diverged": record["diverged"],
        "pictures": [(name, picture) for name, picture in found if picture],
        "missing": [
            reason
            for reason in (why, _missing_pictures(stem), "" if training else "no training curves: not in the record")
            if reason
        ],
        "layers": [(site, f"{100 * share:.2f} %") for site, share in record["sparsity_per_layer"].items()],
        "record": {key: value for key, value in record.items() if not isinstance(value, list | dict)},
    }


def _calibration(record: Record, stem: Path, data: Path | None) -> tuple[str, str]:
    """The data URI of the picture and "", or "" and the reason why there is none."""
    file = stem.with_name(f"{stem.name}.safetensors.xz")
    if not file.is_file():
        return "", "no calibration: the compressed network is not beside the record"
    try:
        make = network_factory(record["network"])
        split = _data(record["dataset"].split(" ")[0], record["network"], data)
        net = compress.load(file, make(split.classes)).eval()
    except (DataError, UserError, CheckpointError) as error:
        return "", f"no calibration: {error}"
    if split.name != record["dataset"]:
        return "", f"no calibration: the run used {record['dataset']}, and {split.name} was found"
    found = quality(compute_logits(net, split.test)[None], split.test.labels)
    return _draw(partial(draw_diagram, found)), ""


@cache  # reads a dataset once, not for every run
def _data(dataset: str, network: str, folder: Path | None) -> DataSplits:
    return load_data(dataset, network_factory(network)(), folder)


def _missing_pictures(stem: Path) -> str:
    lacking = [name for name in ("filters", "heatmap") if not _picture_path(stem, name).is_file()]
    return f"no {' and no '.join(lacking)}: the pictures are not beside the record" if lacking else ""


def _picture_uri(stem: Path, name: str) -> str:
    path = _picture_path(stem, name)
    return _as_uri(path) if path.is_file() else ""


def _picture_path(stem: Path, name: str) -> Path:
    return stem.with_name(f"{stem.name}-{name}.png")


def _draw(draw: Callable[[Path], None]) -> str:
    """The data URI of the picture that ``draw`` writes; empty if it writes none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        draw(path)
        return _as_uri(path) if path.is_file() else ""


def _as_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _records(run: Path) -> list[Record]:
    """The records of a folder, or the given one.

    Raises:
        UserError: if there are none.
    """
    if not run.exists():
        raise UserError(f"{run}: no such folder or record")
    records = read_records(run if run.is_dir() else run.parent)
    chosen = records if run.is_dir() else [record for record in records if record["file"] == run.name]
    if not chosen:
        raise UserError(f"{run}: contains no records; experiments in compression such as mnist_compress write them")
    return chosen


if __name__ == "__main__":
    cli.run(Args, main)
