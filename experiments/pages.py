"""Writes the pages of the results from the committed records: experiments/results/<table>/README.md.

``python -m experiments.pages`` draws the pictures and rewrites what stands below the marker of every page, and the
blocks of the README. ``--check`` changes nothing and fails if a page differs from the records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyro_vd.errors import UserError
from pyro_vd.experiments import (
    ablation,
    certificate,
    cifar_accuracy,
    cifar_basics,
    cifar_reference,
    dessilbi,
    digit_recognizer,
    dropout_exercises,
    gradient_variance,
    landscape,
    linear_relevance,
    lora_ranks,
    mixed_precision,
    mnist_accuracy,
    mnist_compress,
    prior_swap,
    pruning_baselines,
    random_labels,
    resnet9,
    torchvision_network,
    tuning,
    uci,
    uncertainty,
)
from pyro_vd.experiments.benchmarks import compact, inference
from pyro_vd.experiments.benchmarks.page import draw as draw_benchmarks
from pyro_vd.experiments.benchmarks.page import make_page_parts
from pyro_vd.experiments.benchmarks.published_pictures import draw_bytes, draw_weights
from pyro_vd.experiments.common import cli, dropout_pictures, dropout_tables, path_pictures, path_tables
from pyro_vd.experiments.common.accuracy import Columns
from pyro_vd.experiments.common.accuracy_pictures import draw_errors, draw_log_alphas
from pyro_vd.experiments.common.accuracy_tables import accuracy_tables
from pyro_vd.experiments.common.certificate_runs import KINDS as CERTIFICATE_KINDS
from pyro_vd.experiments.common.certificate_tables import make_table as make_certificate_table
from pyro_vd.experiments.common.cifar_basics_tables import draw_rows, make_loss_table, make_table
from pyro_vd.experiments.common.compression_tables import architecture_table, compression_tables
from pyro_vd.experiments.common.curve_pictures import draw_curves
from pyro_vd.experiments.common.landscape_tables import make_tables as make_landscape_tables
from pyro_vd.experiments.common.lora_pictures import draw_ranks
from pyro_vd.experiments.common.lora_rows import make_rows as make_lora_rows
from pyro_vd.experiments.common.lora_runs import KINDS as LORA_KINDS
from pyro_vd.experiments.common.lora_tables import make_tables as make_lora_tables
from pyro_vd.experiments.common.measures import COMPRESSION_KEYS
from pyro_vd.experiments.common.pictures import draw_kept
from pyro_vd.experiments.common.protocols import compression_spec
from pyro_vd.experiments.common.recognizer import KINDS as RECOGNIZER_KINDS
from pyro_vd.experiments.common.records import read_records
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.store import RESULTS, Store
from pyro_vd.experiments.common.tables import Table
from pyro_vd.experiments.common.uci_tables import make_tables as make_uci_tables
from pyro_vd.experiments.readme import README, fill_readme
from pyro_vd.files import write_atomically

BENCHMARKS = Path(inference.__file__).parent / "results"
MARKER = "<!-- Below this line: python -m experiments.pages -->"
NOTES = "notes.md"
MNIST = Data(name="mnist")


@dataclass(frozen=True)
class Args:
    """Rewrites the pages."""

    check: bool = False
    """Change nothing; fail if a page differs from the records."""


@dataclass(frozen=True)
class Page:
    """A page of results.

    Attributes:
        store: the records.
        make_tables: the tables.
        draw: draws the pictures beside the records.
        pictures: name -> what it shows, in a sentence.
    """

    store: Store
    make_tables: Callable[[Store], Sequence[Table]]
    draw: Callable[[Store], object] = lambda store: None
    pictures: Mapping[str, str] = field(default_factory=dict)


def main(args: Args) -> None:
    for page in PAGES:
        if not args.check:
            page.draw(page.store)
        path = page.store.folder / "README.md"
        _write(path, fill(path, page), args.check)
    if not args.check:
        draw_benchmarks()
    path = BENCHMARKS / "README.md"
    _write(path, join_page(path, make_page_parts()), args.check)
    _write(README, fill_readme(README.read_text(encoding="utf-8")), args.check)


def _write(path: Path, text: str, check: bool) -> None:
    if not check:
        write_atomically(path, text.encode())
    elif text != path.read_text(encoding="utf-8"):
        raise UserError(f"{path} differs from the records; run python -m experiments.pages")


def fill(path: Path, page: Page) -> str:
    """The text of the page: what stands above the marker, then pictures, tables and notes."""
    parts = [
        *(f"![{text}]({name})" for name, text in page.pictures.items()),
        *(table.markdown() for table in page.make_tables(page.store)),
    ]
    return join_page(path, parts)


def join_page(path: Path, parts: Sequence[str]) -> str:
    """What stands above the marker of the page at ``path``, then the parts, then the notes beside it.

    Raises:
        UserError: if the page has no marker.
    """
    head, marker, _ = path.read_text(encoding="utf-8").partition(MARKER)
    if not marker:
        raise UserError(f"{path} has no line {MARKER}")
    notes = path.with_name(NOTES)
    end = [notes.read_text(encoding="utf-8").strip()] if notes.is_file() else []
    return "\n\n".join([head + marker, *parts, *end]) + "\n"


def _timed_tables(store: Store) -> list[Table]:
    """Tables of runs in compression, with the times of the compressed networks."""
    timed = read_records(BENCHMARKS / "inference", inference.REQUIRED)
    return compression_tables(store.runs(COMPRESSION_KEYS), timed)


def _draw_curves(store: Store) -> None:
    draw_curves(store.runs(COMPRESSION_KEYS), store.folder / "curves.png")


def _draw_compression(store: Store) -> None:
    _draw_curves(store)
    draw_weights(store.runs(COMPRESSION_KEYS), store.folder / "published_weights.png")
    draw_bytes(read_records(BENCHMARKS / "compact", compact.REQUIRED), store.folder / "published_bytes.png")
    kept = store.load(compression_spec(mnist_compress.MOLCHANOV, "sparse", MNIST, "lenet300"))
    assert kept is not None
    draw_kept(kept, store.folder / "kept.png")


CURVES = {"curves.png": "Error of the pruned network against compression"}


def _accuracy(study: str, columns: Columns, protocol: str, published, **drawn) -> Page:
    return Page(Store(RESULTS / study), lambda store: accuracy_tables(columns, store, protocol, published), **drawn)


def _own(study: str, make_tables: Callable[[Store], Sequence[Table]], kinds=None, **drawn) -> Page:
    return Page(Store(RESULTS / study, kinds) if kinds else Store(RESULTS / study), make_tables, **drawn)


def _has_records(page: Page) -> bool:
    """A study without records has no page yet."""
    return any(page.store.folder.glob("*.json"))


WIDTHS = mnist_accuracy.make_columns(MNIST, (100, 250))
RESNET9 = resnet9.make_columns(resnet9.DATA)
PRIORS = prior_swap.make_columns(MNIST)
SHARES, WEIGHTS = random_labels.make_shares("mnist"), random_labels.make_weights("mnist")
UNCERTAINTY = {
    **uncertainty.make_columns(MNIST, "lenet300"),
    **uncertainty.make_columns(Data(name="fashion_mnist"), "lenet300"),
}
PATHS = {
    **dessilbi.make_columns(MNIST, "lenet1998"),
    **dessilbi.make_columns(Data(name="cifar10"), "vgg"),
}
LINEAR = linear_relevance.Args()
EXERCISES = dropout_exercises.make_columns(Data(name="fashion_mnist"))
REFERENCE = cifar_reference.make_columns(Data(name="cifar10"))
BASICS = cifar_basics.make_columns(Data(name="cifar10"))
LANDSCAPE = landscape.make_rows(Data(name="cifar10"))
LORA = make_lora_rows()
CERTIFICATE = certificate.make_spec("mnist", certificate.Args())
PLANNED = (
    _own(
        mnist_compress.STUDY,
        lambda store: [*_timed_tables(store), architecture_table(store.runs(COMPRESSION_KEYS))],
        draw=_draw_compression,
        pictures={
            "kept.png": "What sparse variational dropout keeps of LeNet-300-100",
            **CURVES,
            "published_weights.png": "Error against weights / non-zero weights, ours and published",
            "published_bytes.png": "Error against the bytes of the compact file, ours and published",
        },
    ),
    _own(pruning_baselines.STUDY, _timed_tables, draw=_draw_curves, pictures=CURVES),
    _own(
        ablation.STUDY,
        lambda store: [
            ablation.make_table(ablation.make_specs("mnist", network, epochs), store, network, epochs)
            for network, epochs in (("lenet300", 60), ("lenet5", 30))
        ],
    ),
    _own(tuning.STUDY, lambda store: [tuning.make_table(Data(name="mnist", validation=10_000), store)]),
    _accuracy(
        mnist_accuracy.STUDY,
        WIDTHS,
        mnist_accuracy.PROTOCOL.name,
        mnist_accuracy.find_published,
        draw=lambda store: draw_errors(WIDTHS, store, store.folder / "errors.png", mnist_accuracy.find_published),
        pictures={"errors.png": "Test error against the number of hidden units, ours and the published figure"},
    ),
    _accuracy(
        cifar_accuracy.STUDY, cifar_accuracy.make_columns("cifar10", cifar_accuracy.SHORT), "short", published=None
    ),
    _own(
        cifar_reference.STUDY,
        lambda store: cifar_reference.make_tables(REFERENCE, store, published=cifar_reference.find_published),
    ),
    _own(
        dropout_exercises.STUDY,
        lambda store: dropout_tables.make_tables(EXERCISES, store),
        draw=lambda store: dropout_pictures.draw(EXERCISES, store),
        pictures=dropout_pictures.PICTURES,
    ),
    _own(mixed_precision.STUDY, lambda store: [mixed_precision.make_table(mixed_precision.make_columns(MNIST), store)]),
    _own(
        prior_swap.STUDY,
        lambda store: [prior_swap.make_table(PRIORS, store)],
        draw=lambda store: draw_log_alphas(PRIORS[prior_swap.NAME], store, store.folder / "log_alpha.png"),
        pictures={"log_alpha.png": "Histograms of log_alpha under every prior"},
    ),
    _own(
        random_labels.STUDY,
        lambda store: [
            random_labels.make_table("labels shuffled", SHARES, store),
            random_labels.make_table("KL weight", WEIGHTS, store),
        ],
        draw=lambda store: random_labels.draw(SHARES, WEIGHTS, store),
        pictures={
            "shares.png": "Errors and sparsity against the share of shuffled labels",
            "weights.png": "Errors and sparsity against the weight of the KL, all labels shuffled",
        },
    ),
    _own(
        uncertainty.STUDY,
        lambda store: uncertainty.make_tables(UNCERTAINTY, store, uncertainty.KEYS),
        draw=lambda store: uncertainty.draw(UNCERTAINTY, store),
        pictures={
            "lenet300-reliability.png": "Accuracy minus confidence against confidence, a panel per scheme",
            "lenet300-rotation.png": "Error and uncertainty against the rotation of the test images",
            "lenet300-risk_coverage.png": "Error among the least uncertain images against their share",
            "lenet300-fashion_mnist-reliability.png": "Accuracy minus confidence on Fashion-MNIST",
            "lenet300-fashion_mnist-rotation.png": "Error and uncertainty against the rotation, Fashion-MNIST",
            "lenet300-fashion_mnist-risk_coverage.png": "Error among the least uncertain images of Fashion-MNIST",
        },
    ),
    _own(
        gradient_variance.STUDY,
        lambda store: [gradient_variance.make_table(gradient_variance.make_specs(MNIST), store)],
    ),
    _own(
        linear_relevance.STUDY,
        lambda store: linear_relevance.make_tables(store, LINEAR),
        linear_relevance.KINDS,
        draw=lambda store: linear_relevance.draw_shrinkage(
            store.load(linear_relevance.make_specs(LINEAR)[0]), store.folder / "shrinkage.png"
        ),
        pictures={"shrinkage.png": "Posterior mean and log_alpha against the least-squares estimate"},
    ),
    _own(
        certificate.STUDY,
        lambda store: [make_certificate_table(CERTIFICATE, store)],
        CERTIFICATE_KINDS,
    ),
    _own(
        uci.STUDY,
        lambda store: make_uci_tables(store, uci.ROWS),
        uci.KINDS,
        draw=uci.draw,
        pictures={"likelihoods.png": "Log likelihood of every scheme minus that of Monte Carlo dropout"},
    ),
    _own(
        digit_recognizer.STUDY,
        lambda store: [digit_recognizer.make_table(store)],
        RECOGNIZER_KINDS,
    ),
    _own(
        torchvision_network.STUDY,
        lambda store: [torchvision_network.make_table(store)],
        torchvision_network.KINDS,
    ),
    _own(
        dessilbi.STUDY,
        lambda store: path_tables.make_tables(PATHS, store),
        draw=lambda store: path_pictures.draw(PATHS, store),
        pictures=path_pictures.PICTURES,
    ),
    _own(
        cifar_basics.STUDY,
        lambda store: [make_table(BASICS, store), *make_loss_table(BASICS, store)],
        draw=lambda store: draw_rows(BASICS, store, store.folder / "rows.png"),
        pictures={"rows.png": "Test error of every row, and the range of the original's rows"},
    ),
    _own(
        landscape.STUDY,
        lambda store: make_landscape_tables(LANDSCAPE, store),
        landscape.KINDS,
        draw=lambda store: landscape.draw(LANDSCAPE, store),
        pictures={
            "bands.png": "Ranges of the three measures with and without batch normalization",
            "schemes.png": "The three measures of every scheme, by training step",
        },
    ),
    _own(
        lora_ranks.STUDY,
        lambda store: make_lora_tables(LORA, store),
        LORA_KINDS,
        draw=lambda store: draw_ranks(LORA, store, store.folder / "ranks.png"),
        pictures={"ranks.png": "Ranks of every layer after pruning, a panel per prior"},
    ),
    _own(
        resnet9.STUDY,
        lambda store: resnet9.make_tables(RESNET9, store),
        draw=lambda store: resnet9.draw(RESNET9, store),
        pictures={
            "steps.png": "Accuracy of every step of the recipe, ours and the original's",
            "curves.png": "Error of the pruned network against compression",
        },
    ),
)
"""Every page, also of studies whose records are still to be made."""
PAGES = tuple(filter(_has_records, PLANNED))


if __name__ == "__main__":
    cli.run(Args, main)
