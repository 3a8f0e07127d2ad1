"""The command ``pyro-vd``, whose subcommands are the experiments: ``pyro-vd mnist_compress --help``."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pyro_vd.errors import did_you_mean

__all__ = ["SUBCOMMANDS", "main"]

SUBCOMMANDS = (
    "mnist_compress", "cifar_compress", "compress", "pruning_baselines", "ablation", "tuning", "report", "sweep",
    "mnist_accuracy", "cifar_accuracy", "cifar_reference", "cifar_basics", "dropout_exercises", "resnet9",
    "mixed_precision", "prior_swap", "gradient_variance", "uncertainty", "random_labels", "dessilbi", "certificate",
    "uci", "linear_relevance", "landscape", "lora_ranks", "digit_recognizer", "torchvision_network",
    "benchmarks.inference", "benchmarks.storage",
)  # fmt: skip
USAGE_ERROR, MISSING_PACKAGE = 2, 1  # exit codes; the first is argparse's


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the experiment that the first argument names with the arguments that follow.

    Args:
        arguments: of the command line; by default those of the process.

    Raises:
        SystemExit: with a line on standard error for an unknown name and for a missing package.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return
    if name not in SUBCOMMANDS:
        _fail(f"unknown experiment {name!r}{did_you_mean(name, SUBCOMMANDS)} (pyro-vd --help lists them)", USAGE_ERROR)
    try:
        from pyro_vd.experiments.common import cli

        module = importlib.import_module(f"pyro_vd.experiments.{name}")
    except ModuleNotFoundError as error:
        _fail(str(error), MISSING_PACKAGE)
    sys.path.insert(0, "")  # as python -m does: --factory names a module of the working directory
    sys.argv = [f"pyro-vd {name}", *rest]  # the name of the program in help and error messages
    cli.run(module.Args, module.main)


def usage() -> str:
    """The subcommands, each with the first line of its module's docstring. Imports none of them."""
    width = max(map(len, SUBCOMMANDS))
    rows = [f"  {name:{width}}  {_summary(name)}" for name in SUBCOMMANDS]
    head, end = "usage: pyro-vd EXPERIMENT [arguments]", "pyro-vd EXPERIMENT --help shows the arguments."
    return "\n".join([head, "", *rows, "", end])


def _fail(message: str, code: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)


def _summary(name: str) -> str:
    spec = importlib.util.find_spec(f"pyro_vd.experiments.{name}")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


if __name__ == "__main__":
    main()
