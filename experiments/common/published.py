"""Published results. Compression: fractions, weights / non-zero weights, biases not counted."""

from __future__ import annotations

from dataclasses import dataclass

from pyro_vd.experiments.common.records import Record

__all__ = ["KINGMA_FIGURE", "PUBLISHED", "REFERENCE_CIFAR", "Published", "published_error", "published_for"]

PAPER = "paper"
FIGURE = "paper, read off a plot"
REFERENCE = "reference repository"


@dataclass(frozen=True)
class Published:
    """One published result; ``source`` is the publication."""

    network: str
    scheme: str
    kind: str
    error: float
    compression: float
    source: str


MOLCHANOV = "Molchanov et al. 2017, arXiv:1701.05369"
FORERUNNER = "lumosity4tpj/a-series-of-dropout"
PUBLISHED = (
    Published("lenet300", "none", PAPER, 0.0164, 1.0, MOLCHANOV),
    Published("lenet300", "sparse", PAPER, 0.0192, 68.0, MOLCHANOV),
    Published("lenet300", "sparse", REFERENCE, 0.0170, 46.25, FORERUNNER),
    Published("lenet300", "hierarchical", REFERENCE, 0.0173, 45.58, FORERUNNER),
    Published("lenet5", "none", PAPER, 0.0080, 1.0, MOLCHANOV),
    Published("lenet5", "sparse", PAPER, 0.0075, 280.0, MOLCHANOV),
    Published("lenet5", "sparse", REFERENCE, 0.0070, 61.39, FORERUNNER),
    Published("vgg x 0.25", "none", FIGURE, 0.131, 1.0, MOLCHANOV),
    Published("vgg x 0.25", "sparse", FIGURE, 0.135, 5.6, MOLCHANOV),
    Published("vgg x 0.5", "none", FIGURE, 0.082, 1.0, MOLCHANOV),
    Published("vgg x 0.5", "sparse", FIGURE, 0.085, 13.7, MOLCHANOV),
    Published("vgg x 1", "none", FIGURE, 0.073, 1.0, MOLCHANOV),
    Published("vgg x 1", "sparse", FIGURE, 0.073, 48.0, MOLCHANOV),
)


@dataclass(frozen=True)
class Architecture:
    """A published LeNet-5. ``units``: filters of both convolutions, inputs and outputs of the hidden layer."""

    method: str
    units: tuple[int, int, int, int]
    error: float
    source: str


NEKLYUDOV = "Neklyudov et al. 2017, arXiv:1705.07283"
TANG = "Tang et al. 2018, arXiv:1811.03060"
LENET5_UNITS = (
    Architecture("sparse variational dropout", (17, 32, 329, 75), 0.0075, NEKLYUDOV),
    Architecture("structured sparsity learning", (3, 12, 800, 500), 0.0100, NEKLYUDOV),
    Architecture("structured log-normal", (3, 18, 284, 283), 0.0086, NEKLYUDOV),
    Architecture("group normal-Jeffreys", (8, 13, 88, 13), 0.010, f"in {TANG}"),
    Architecture("group horseshoe", (5, 10, 76, 16), 0.010, f"in {TANG}"),
    Architecture("L0", (20, 25, 45, 462), 0.009, f"in {TANG}"),
    Architecture("L0, a penalty per layer", (9, 18, 65, 25), 0.010, f"in {TANG}"),
    Architecture("multiplications as the objective", (7, 13, 208, 16), 0.011, TANG),
)
CIFAR = ("cifar10", "cifar10 (JPEG)")  # the JPEG files are the same images with lossy compression; captions say so


def published_for(record: Record) -> list[Published]:
    """The published results of the record's network on its dataset."""
    theirs = CIFAR if record["network"].startswith("vgg") else ("mnist",)
    return [p for p in PUBLISHED if record["dataset"] in theirs and p.network == record["network"]]


# Test error in percent by units in each hidden layer, read off figure 1 of Kingma et al. 2015, +- 0.02.
UNITS = (100, 250, 500, 750, 1000, 1250)
KINGMA_FIGURE: dict[str, dict[int, float]] = {
    row: dict(zip(UNITS, errors, strict=True))
    for row, errors in {
        "none": (1.44, 1.30, 1.22, 1.17, 1.18, 1.17),
        "binary": (2.17, 1.39, 1.22, 1.10, 1.02, 1.06),
        "Gaussian A": (2.40, 1.43, 1.17, 1.10, 1.03, 0.98),
        "variational A": (1.42, 1.27, 1.12, 1.06, 1.02, 1.00),
        "variational A2": (1.51, 1.21, 1.07, 0.95, 0.95, 0.93),
        "Gaussian B": (2.01, 1.46, 1.27, 1.26, 1.19, 1.26),
        "variational B": (1.58, 1.37, 1.29, 1.22, 1.17, 1.21),
    }.items()
}
# Accuracy in percent at widths x 1.0, 1.5 and 2.0 in the tables of the reference repository: one run; the best epoch if
# there are two numbers. Its network is not published.
SCALES = (1.0, 1.5, 2.0)
REFERENCE_CIFAR: dict[str, dict[float, float]] = {
    row: dict(zip(SCALES, accuracies, strict=True))
    for row, accuracies in {
        "none": (58.53, 58.49, 59.61),
        "Bernoulli": (56.32, 57.22, 58.05),
        "Gaussian S": (56.06, 57.24, 57.87),
        "Gaussian W": (56.57, 58.34, 58.52),
        "variational A, before fc": (55.42, 54.32, 55.41),
        "variational A, after conv": (58.34, 55.94, 55.03),
        "variational B, per weight": (56.45, 57.98, 58.30),
        "variational B, per unit": (59.80, 62.10, 61.88),
        "hierarchical A, before fc": (59.78, 60.59, 61.22),
        "hierarchical B, per weight": (61.60, 62.90, 62.38),
        "hierarchical B, per weight, on W": (55.41, 56.62, 55.85),
        "hierarchical B, per unit": (61.77, 62.14, 62.71),
        "sparse B, per weight": (62.38, 62.56, 63.28),
    }.items()
}


def published_error(record: Record) -> str:
    """The published error for a row of an accuracy table; "-" if the dataset or the protocol differs."""
    column = record["column"]
    if (record["experiment"], record["protocol"], record["dataset"]) == ("mnist_accuracy", "figure", "mnist"):
        value = KINGMA_FIGURE.get(record["row"], {}).get(int(column.split()[0]))
        return f"{value:.2f}" if value else "-"
    if record["experiment"] == "cifar_accuracy" and record["protocol"] == "full" and record["dataset"] in CIFAR:
        accuracy = REFERENCE_CIFAR.get(record["row"], {}).get(float(column.split()[-1]))
        return f"{100 - accuracy:.2f} (reference, one run)" if accuracy else "-"
    return "-"
