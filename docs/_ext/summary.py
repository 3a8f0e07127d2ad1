"""The line ``{summary}`` becomes a table of what its page documents.

The table has the name and the first sentence of every object. The module of a scheme
stands for its ``Guide``.
"""

import re

from sphinx.application import Sphinx

MARKER = "\n{summary}\n"
DOCUMENTED = re.compile(
    r"^\.\. auto(?:function|class|exception|data):: (\S+)", re.MULTILINE
)


def add_summary(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replaces the marker by an ``autosummary`` of the objects on the page."""
    found = DOCUMENTED.findall(source[0])
    names = "\n".join(f"   {name.removesuffix('.Guide')}" for name in found)
    table = (
        "\n```{eval-rst}\n.. currentmodule:: None\n\n"
        f".. autosummary::\n   :nosignatures:\n\n{names}\n```\n"
    )
    source[0] = source[0].replace(MARKER, table)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_summary)
    return {"parallel_read_safe": True}
