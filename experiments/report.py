"""Writes one HTML page about the runs of a folder, which opens from disk without a network.

``python -m experiments.report RUN`` takes the folder of an experiment in compression, or one of its records. The page
says what came out, then shows tables, error against compression, and of every run its training curves, filters, heat
maps of the weights and of log_alpha, and the calibration of the compressed network if its data are available.
"""

from __future__ import annotations

import base64
import datetime
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import jinja2
import tyro

from pyro_vd import compress
from pyro_vd.data import DataSplits
from pyro_vd.errors import CheckpointError, DataError, UserError
from pyro_vd.experiments import cifar_compress, mnist_compress
from pyro_vd.experiments.common import cli, pictures
from pyro_vd.experiments.common.clock import describe_duration
from pyro_vd.experiments.common.compression_tables import (
    compression_tables,
    describe_training,
    group_panels,
    group_runs,
)
from pyro_vd.experiments.common.curve_pictures import draw_curves
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.measures import COMPRESSION_KEYS
from pyro_vd.experiments.common.outcomes import headlines
from pyro_vd.experiments.common.plotting import color_of
from pyro_vd.experiments.common.predictive import quality
from pyro_vd.experiments.common.runner import network_maker
from pyro_vd.experiments.common.spec import Spec
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.uncertainty_pictures import draw_diagram
from pyro_vd.files import write_atomically
from pyro_vd.metrics import compute_logits

TEMPLATE = Path(__file__).parent / "common" / "report.html.j2"
PICTURES = {"filters": "Strongest units of the first layer", "heatmap": "The first layer's weights"}
"""Pictures that a run has beside its record -> what they show."""


@dataclass(frozen=True)
class Args:
    """Writes a report."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of records of an experiment in compression, or one record in it."""
    out: Path | None = None
    """The page; by default report.html in the folder, or a file beside the record with its name."""
    data: Path | None = None
    """Folder of the datasets, for calibration; by default $PYRO_VD_DATA or the user's cache."""


def main(args: Args) -> None:
    runs = _read_runs(args.run)
    out = args.out or (args.run / "report.html" if args.run.is_dir() else args.run.with_suffix(".html"))
    cli.check_folder(out.parent)
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; give the file of the page")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, page(runs, shlex.join(["pyro-vd", "report", str(args.run)]), args.data).encode())
    for headline in headlines(runs):
        print(headline.sentence)
    print(f"written: {out}; open it in a browser")


def page(runs: Sequence[Run], command: str, data: Path | None = None) -> str:
    """The HTML page about these runs.

    Args:
        command: that makes the page.
        data: folder of the datasets; None for the default.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.globals["color_of"] = color_of
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        headlines=[(headline, command_of(headline.runs)) for headline in headlines(runs)],
        date=datetime.date.today().isoformat(),
        command=command,
        tables=compression_tables(runs),
        curves=_draw(partial(draw_curves, runs)),
        runs=[_section(run, name, data) for name, run in _name_runs(runs).items()],
    )


def command_of(runs: Sequence[Run]) -> str:
    """The command that makes these runs, which differ in their seeds 0 .. n-1; empty if it is not known."""
    run, seeds = runs[0], [run.spec.seed for run in runs]
    study, spec = run.record.get("experiment"), run.spec
    options = {"dataset": spec.data.name, "scheme": spec.method, "protocol": run.record.get("protocol")}
    if study == mnist_compress.STUDY:
        options["network"] = spec.network
    elif study == cifar_compress.STUDY:
        options["scale"] = spec.options["scale"]
    else:
        return ""
    options |= {"validation": spec.data.validation} if spec.data.validation else {}
    options |= {**run.record.get("changes", {}), "seeds": max(seeds) + 1}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return shlex.join(["pyro-vd", study, *words, *(["--augment"] if spec.data.augment else [])])


def _name_runs(runs: Sequence[Run]) -> dict[str, Run]:
    """The runs by a name with the row of the table, in the order of the tables."""
    return {
        f"{network} on {dataset}, row {row}: {run.spec.method}, seed {run.spec.seed}": run
        for (network, dataset), those in group_panels(runs).items()
        for row, group in enumerate(group_runs(those), start=1)
        for run in group
    }


def _section(run: Run, name: str, data: Path | None) -> dict[str, Any]:
    """The values of the template for one run."""
    calibration, reason = _calibration(run, data)
    found = [
        ("Training", _draw(partial(pictures.draw_training, run.spec, run["history"]))),
        *((title, _picture_uri(run.beside(f"-{name}.png"))) for name, title in PICTURES.items()),
        ("Calibration of the compressed network on the test set", calibration),
    ]
    return {
        "name": name,
        "method": run.spec.method,
        "result": _result(run),
        "diverged": run["diverged"],
        "settings": _settings(run),
        "pictures": [(title, picture) for title, picture in found if picture],
        "reason": reason,
        "layers": [(site, f"{100 * share:.2f} %") for site, share in run["sparsity_per_layer"].items()],
        "record": {key: value for key, value in run.record.items() if not isinstance(value, list | dict)},
    }


def _result(run: Run) -> str:
    if run.diverged:
        return "diverged"
    ratio = "empty network" if run["compression"] is None else f"{run['compression']:.1f}x"
    return f"{100 * run['test_error']:.2f} %, {ratio}"


def _settings(run: Run) -> list[tuple[str, str]]:
    phases = [f"{type(phase).__name__} {phase.training.epochs}" for phase in run.spec.phases]
    return [
        ("dataset", run["dataset"]),
        ("training", describe_training(run)),
        ("phases, epochs", ", ".join(phases)),
        ("took", f"{describe_duration(run['seconds'])} on {run['device']}"),
        ("made with", f"torch {run['torch']}, revision {run['revision']}"),
    ]


def _calibration(run: Run, data: Path | None) -> tuple[str, str]:
    """The data URI of the picture and "", or "" and the reason why there is none."""
    file = run.beside(".safetensors.xz")
    if not file.is_file():
        return "", "no calibration: the compressed network is not beside the record"
    try:
        split = _load_data(replace(run.spec, phases=(), seed=0), data)
        net = compress.load(file, network_maker(run.spec)(split.classes)).eval()
    except (DataError, UserError, CheckpointError) as error:
        return "", f"no calibration: {error}"
    if split.sha256 != run["data_sha256"]:
        return "", f"no calibration: the run used {run['dataset']}, and {split.name} with other images was found"
    found = quality(compute_logits(net, split.test)[None], split.test.labels)
    return _draw(partial(draw_diagram, found, color_of(run.spec.method))), ""


@cache  # reads a dataset once, not for every run
def _load_data(spec: Spec, folder: Path | None) -> DataSplits:
    return load_images(replace(spec.data, shuffled=0.0), network_maker(spec)(10), folder)


def _picture_uri(path: Path) -> str:
    return _as_uri(path) if path.is_file() else ""


def _draw(draw: Callable[[Path], None]) -> str:
    """The data URI of the picture that ``draw`` writes; empty if it writes none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        draw(path)
        return _picture_uri(path)


def _as_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _read_runs(path: Path) -> list[Run]:
    """The runs of a folder, or the one whose record is given.

    Raises:
        UserError: if there are none.
    """
    if not path.exists():
        raise UserError(f"{path}: no such folder or record")
    if path.is_file():
        return [Store(path.parent).read(path, COMPRESSION_KEYS)]
    runs = Store(path).runs(COMPRESSION_KEYS)
    if not runs:
        raise UserError(f"{path}: contains no records; experiments in compression such as mnist_compress write them")
    return runs


if __name__ == "__main__":
    cli.run(Args, main)
