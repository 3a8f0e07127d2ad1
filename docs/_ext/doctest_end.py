"""The blank line at the end of a doctest, which the test needs, is not shown."""

import re

from sphinx.application import Sphinx

BLOCK = re.compile(r"^( *```python\n(?:(?! *```).*\n)*?) *\n( *```)$", re.MULTILINE)


def trim(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = BLOCK.sub(r"\1\2", source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", trim)
    return {"parallel_read_safe": True}
