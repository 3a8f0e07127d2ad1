"""The line ``{command-line}`` becomes the help of every experiment of ``pyro-vd``."""

import contextlib
import importlib
import io
import os
import sys
import textwrap
from unittest import mock

from sphinx.application import Sphinx

from pyro_vd.experiments import command

MARKER = "{command-line}\n"
COLUMNS = 84  # fit into the text of a page


def help_of(name: str) -> str:
    """What ``pyro-vd NAME --help`` prints."""
    printed = io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS=str(COLUMNS)),
        mock.patch.object(sys, "argv", ["pyro-vd"]),
        mock.patch.object(sys, "path", [*sys.path]),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        command.main([name, "--help"])
    return "\n".join(
        fold(line.rstrip()) for line in printed.getvalue().strip().splitlines()
    )


def fold(line: str) -> str:
    """The line, folded if it is too long: tyro does not fold the usage."""
    return (
        line
        if len(line) <= COLUMNS
        else textwrap.fill(line, COLUMNS, subsequent_indent=" " * 7)
    )


def purpose_of(name: str) -> str:
    """The first line of the experiment's docstring."""
    module = importlib.import_module(f"pyro_vd.experiments.{name}")
    return (module.__doc__ or "").partition("\n")[0]


def describe() -> str:
    """A table of the experiments and a section for each, as Markdown."""
    rows = [
        f"| [{name}](#command-{name}) | {purpose_of(name)} |"
        for name in command.SUBCOMMANDS
    ]
    sections = [
        f"(command-{name})=\n## {name}\n\n{purpose_of(name)}\n\n"
        f"```text\n{help_of(name)}\n```"
        for name in command.SUBCOMMANDS
    ]
    return "\n".join(
        ["| experiment | purpose |", "| --- | --- |", *rows, "", *sections]
    )


def add_help(app: Sphinx, docname: str, source: list[str]) -> None:
    if MARKER in source[0]:
        source[0] = source[0].replace(MARKER, describe())


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_help)
    return {"parallel_read_safe": True}
