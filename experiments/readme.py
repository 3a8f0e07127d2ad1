"""Writes the tables and pictures of the README from the committed records and from guides.SCHEMES.

``python -m experiments.readme`` rewrites the text between the markers of the README and of the page on how the records
were made, and draws the pictures beside the records. ``--check`` changes nothing and fails if the text differs.
"""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import nn
from torch.distributions import Distribution

from pyro_vd import AnalyticELBO, Categorical, MonteCarloKL, guides, lift
from pyro_vd.errors import UserError
from pyro_vd.experiments import (
    ablation,
    cifar_accuracy,
    cifar_compress,
    gradient_variance,
    linear_relevance,
    mixed_precision,
    mnist_accuracy,
    mnist_compress,
    prior_swap,
    pruning_baselines,
    random_labels,
    tuning,
    uncertainty,
)
from pyro_vd.experiments.benchmarks import inference, kernels, scaling, step, storage
from pyro_vd.experiments.benchmarks.pictures import draw_scaling, draw_step
from pyro_vd.experiments.common import accuracy_pictures, cli, linear_pictures, pictures, uncertainty_tables
from pyro_vd.experiments.common.accuracy import REQUIRED, Cell
from pyro_vd.experiments.common.accuracy_tables import accuracy_tables
from pyro_vd.experiments.common.architectures import architecture_table
from pyro_vd.experiments.common.priors import PRIORS
from pyro_vd.experiments.common.published import UNITS as KINGMA_UNITS
from pyro_vd.experiments.common.records import Record, hardware, mismatches, read_records
from pyro_vd.experiments.common.tables import (
    compression_table,
    deployment_table,
    device_kind,
    group_by,
    linked_compression_table,
    to_markdown,
)
from pyro_vd.files import write_atomically

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
README, RESULTS_PAGE = ROOT / "README.md", RESULTS / "README.md"
BENCHMARKS = ROOT / "experiments" / "benchmarks" / "results"
SCALING, KERNELS = BENCHMARKS / "scaling", BENCHMARKS / "kernels"
COMPRESSION = RESULTS / mnist_compress.EXPERIMENT
NOT_MEASURED = "Not measured. `python -m experiments.gpu_queue --list` names the missing runs."


@dataclass(frozen=True)
class Args:
    """Rewrites the generated blocks."""

    check: bool = False
    """Change nothing; fail if a page differs from the records."""


def main(args: Args) -> None:
    made = ((README, blocks()), (RESULTS_PAGE, results_page_blocks()))
    fresh = {path: fill_blocks(path.read_text(encoding="utf-8"), tables, path) for path, tables in made}
    for path, text in fresh.items():
        if args.check and text != path.read_text(encoding="utf-8"):
            raise UserError(f"{path.relative_to(ROOT)} differs from the records; run python -m experiments.readme")
        if not args.check:
            write_atomically(path, text.encode())
    if not args.check:
        draw()


def draw() -> None:
    """Draws the pictures of several runs beside their records."""
    pruned = read_records(COMPRESSION) + read_records(RESULTS / pruning_baselines.EXPERIMENT)
    pictures.draw_curves(pruned, COMPRESSION / "curves.png")
    figure, swaps = RESULTS / mnist_accuracy.EXPERIMENT, RESULTS / prior_swap.EXPERIMENT
    accuracy_pictures.draw_errors(protocol_records(mnist_accuracy), figure / "errors.png")
    for record in read_records(BENCHMARKS, step.REQUIRED):
        draw_step(record, step.title(record), (BENCHMARKS / record["file"]).with_suffix(".png"))
    for record in read_records(SCALING, scaling.REQUIRED):
        draw_scaling(record, hardware(record), (SCALING / record["file"]).with_suffix(".png"))
    uncertainty.draw(all_records(uncertainty), RESULTS / uncertainty.EXPERIMENT)
    random_labels.draw(all_records(random_labels), RESULTS / random_labels.EXPERIMENT)
    linear = [record for record in all_records(linear_relevance) if record["part"] == linear_relevance.ORTHOGONAL]
    linear_pictures.draw_shrinkage(linear, RESULTS / linear_relevance.EXPERIMENT / "shrinkage.png")
    accuracy_pictures.draw_log_alphas(prior_swap.in_order(protocol_records(prior_swap)), swaps / "log_alpha.png")


def protocol_records(experiment: ModuleType) -> list[Record]:
    """The committed MNIST records of the experiment's protocol."""
    wanted = {"protocol": experiment.PROTOCOL.name, "dataset": "mnist"}
    required = getattr(experiment, "REQUIRED", REQUIRED)
    return [r for r in read_records(RESULTS / experiment.EXPERIMENT, required) if not mismatches(r, wanted, {})]


def blocks() -> dict[str, str]:
    """Name -> text of the generated blocks of the README."""
    return {
        "headline": headline_text(),
        "compression": compression_block(mnist_compress),
        "cifar_compress": compression_block(cifar_compress),
        "deployment": deployment_block(),
        "storage": to_markdown(storage.storage_table(read_records(BENCHMARKS / "storage", storage.REQUIRED))),
        "architectures": architectures_table(),
        "inference": inference.inference_tables(read_records(BENCHMARKS / "inference", inference.REQUIRED)),
        "ablation": ablation.ablation_table(read_records(RESULTS / ablation.EXPERIMENT)),
        "schemes": schemes_table(),
        "priors": priors_table(),
        "mnist_accuracy": accuracy_block(
            mnist_accuracy, mnist_accuracy.cells(KINGMA_UNITS), mnist_accuracy.PROTOCOL.name
        ),
        "cifar_short": accuracy_block(cifar_accuracy, cifar_accuracy.cells(cifar_accuracy.SHORT), "short"),
        "cifar_full": accuracy_block(cifar_accuracy, cifar_accuracy.cells(cifar_accuracy.FULL), "full"),
        "cifar_resnet9": accuracy_block(cifar_accuracy, cifar_accuracy.cells(cifar_accuracy.RESNET), "resnet9"),
        "gradient_variance": gradient_variance_table(),
        "prior_swap": prior_swap_table(),
        "step": step_tables(),
        "kernels": kernels.kernel_tables(read_records(KERNELS, kernels.REQUIRED)),
        "scaling": scaling_tables(),
        "mixed_precision": mixed_precision_table(),
        "uncertainty": uncertainty_block(),
        "random_labels": random_labels_table(),
        "linear_relevance": linear_relevance.tables(all_records(linear_relevance)),
    }


def results_page_blocks(where: Path = RESULTS) -> dict[str, str]:
    """Name -> text of the generated blocks of the page on how the records were made."""
    return {"tuning": tuning.tuning_table(read_records(where / tuning.EXPERIMENT)) or "Not measured."}


def fill_blocks(text: str, blocks: dict[str, str], path: Path) -> str:
    """Replaces every generated block in ``text``, the content of ``path``.

    Raises:
        UserError: if the markers of a block are missing.
    """
    for name, table in blocks.items():
        block = f"<!-- {name}: python -m experiments.readme -->\n{table}\n<!-- end -->"
        pattern = rf"<!-- {name}: [^>]*-->.*?<!-- end -->"
        if not re.search(pattern, text, flags=re.DOTALL):
            raise UserError(f"{path} has no block <!-- {name}: ... --> ... <!-- end -->")
        text = re.sub(pattern, block.replace("\\", r"\\"), text, count=1, flags=re.DOTALL)
    return text


def headline_text(where: Path = COMPRESSION) -> str:
    """The result of the README's first command, and the paper's."""
    args = mnist_compress.Args(network="lenet5", scheme=("sparse",))
    protocol = mnist_compress.protocol_of(args, "mnist").name
    wanted = {"network": args.network, "scheme": "sparse", "protocol": protocol, "dataset": "mnist"}
    found = [record for record in read_records(where) if not mismatches(record, wanted, {})]
    if not found:
        return NOT_MEASURED
    group = next(iter(group_by(found, device_kind).values()))
    row = dict(zip(*compression_table(group), strict=True))
    paper = row["published"].split(";")[0]
    seconds = statistics.mean(record["seconds"] + record["fine_tuning"]["seconds"] for record in group)
    return (
        f"`python -m experiments.mnist_compress --network lenet5 --scheme sparse --seeds {len(group)}` leaves LeNet-5\n"
        f"{row['compression']} fewer weights at {row['error %']} % error (n = {row['n']}, {device_kind(group[0])}, "
        f"{seconds / 3600:.1f} hours a seed\nafter the dense training); published: {paper}."
    )


def compression_block(experiment: ModuleType, where: Path = RESULTS) -> str:
    """The compression table of the committed records, or a line that there are none."""
    records = read_records(where / experiment.EXPERIMENT)
    if not records:
        return NOT_MEASURED
    return linked_compression_table(records, f"experiments/results/{experiment.EXPERIMENT}")


def deployment_block() -> str:
    """Deployment cost and speedup of the compressed networks, ours and the baselines."""
    timed = read_records(BENCHMARKS / "inference", inference.REQUIRED)
    return to_markdown(deployment_table(compressed_records(), timed))


def architectures_table() -> str:
    """The units of LeNet-5, ours, the baselines and the published ones."""
    return to_markdown(architecture_table(compressed_records()))


def compressed_records() -> list[Record]:
    """The committed records of compressed networks."""
    experiments = (mnist_compress, cifar_compress, pruning_baselines)
    return [record for one in experiments for record in read_records(RESULTS / one.EXPERIMENT)]


def gradient_variance_table() -> str:
    """The committed gradient variances."""
    folder = RESULTS / gradient_variance.EXPERIMENT
    return to_markdown(gradient_variance.variance_table(read_records(folder, gradient_variance.REQUIRED)))


def prior_swap_table() -> str:
    """The effect of the prior in the committed runs."""
    return to_markdown(prior_swap.prior_table(protocol_records(prior_swap)))


def step_tables() -> str:
    """The committed benchmarks of a training step."""
    return step.step_tables(read_records(BENCHMARKS, step.REQUIRED))


def scaling_tables() -> str:
    """The committed benchmarks of scaling."""
    return "\n\n".join(map(scaling.scaling_tables, read_records(SCALING, scaling.REQUIRED)))


def mixed_precision_table() -> str:
    """The effect of bfloat16 products in the committed runs."""
    return to_markdown(mixed_precision.precision_table(protocol_records(mixed_precision)))


def uncertainty_block(where: Path = RESULTS) -> str:
    """Calibration and uncertainty in the committed runs."""
    folder = where / uncertainty.EXPERIMENT
    records = all_records(uncertainty, where)
    return uncertainty_tables.tables(records, uncertainty.log_scores(records, folder)) or NOT_MEASURED


def random_labels_table(where: Path = RESULTS) -> str:
    """The memorized labels in the committed runs."""
    records = all_records(random_labels, where)
    return random_labels.tables(records) or "Not measured."


def all_records(experiment: ModuleType, where: Path = RESULTS) -> list[Record]:
    """All committed records of an experiment."""
    return read_records(where / experiment.EXPERIMENT, experiment.REQUIRED)


def schemes_table() -> str:
    """One row per scheme: link to its file, first line of its docstring, its own prior."""
    rows = [("scheme", "what it is", "its prior")]
    for name, module in guides.SCHEMES.items():
        file = module.__name__.removeprefix("pyro_vd.").replace(".", "/")
        summary = (module.__doc__ or "").strip().splitlines()[0].rstrip(".")
        if not file.endswith(f"/{name}"):
            summary = f"another name of `{file.rpartition('/')[2]}`"
        rows.append((f"[`{name}`]({file}.py)", summary, f"`{guides.prior_name(module)}`"))
    return to_markdown(rows)


def priors_table() -> str:
    """The priors that each scheme supports, found by computing the KL."""
    rows: list[tuple[str, ...]] = [("scheme", "KL in closed form", "within `MonteCarloKL(...)`")]
    for name, module in guides.SCHEMES.items():
        fitting = [label for label, prior in PRIORS.items() if _fits(module, prior)]
        sampled = [label for label in fitting if isinstance(PRIORS[label], MonteCarloKL)]
        closed = [label for label in fitting if label not in sampled]
        sampled = [label.removeprefix("MonteCarloKL(").removesuffix(")") for label in sampled]
        rows.append((f"`{name}`", *(", ".join(f"`{label}`" for label in labels) for labels in (closed, sampled))))
    return to_markdown(rows)


def accuracy_block(experiment: ModuleType, cells: list[Cell], protocol: str, where: Path = RESULTS) -> str:
    """The tables of the committed records of one protocol, or a line that there are none."""
    folder = where / experiment.EXPERIMENT
    records = [record for record in read_records(folder, REQUIRED) if record["protocol"] == protocol]
    if not records:
        return NOT_MEASURED
    return accuracy_tables(records, cells)


def _fits(scheme: ModuleType, prior: Distribution) -> bool:
    model = lift(nn.Linear(2, 2), prior, Categorical, num_data=1)
    try:
        AnalyticELBO().terms(model, scheme.Guide(model), torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))
    except NotImplementedError:
        return False
    except ValueError as error:
        if "kingma" not in str(error):
            raise
        return False
    return True


if __name__ == "__main__":
    cli.run(Args, main)
