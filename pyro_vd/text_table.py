"""Small tables as text and as HTML, for the repr of results."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["WIDTH", "html_table", "text_table"]

WIDTH = 88  # columns, as the code of the documentation
Row = Sequence[str]


def text_table(header: Row, rows: Sequence[Row]) -> str:
    """Aligned columns, the first one to the left and the others to the right. Long names lose their middle.

    Example:
        >>> print(text_table(("layer", "weights"), [("0.weight", "12"), ("head.weight", "1,024")]))
        layer        weights
        0.weight          12
        head.weight    1,024
    """
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(header) - 1))
    return "\n".join(_join(line, widths) for line in lines)


def html_table(header: Row, rows: Sequence[Row], caption: str = "") -> str:
    """The same as a ``table`` element; all text is escaped.

    Example:
        >>> html_table(("layer",), [("a<b",)])
        '<table><thead><tr><th>layer</th></tr></thead><tbody><tr><td>a&lt;b</td></tr></tbody></table>'
    """
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "".join(_row(row, "td") for row in rows)
    return f"<table>{above}<thead>{_row(header, 'th')}</thead><tbody>{body}</tbody></table>"


def _join(line: Row, widths: Sequence[int]) -> str:
    first, *others = line
    cells = [_cut(first, widths[0]).ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
    return "  ".join(cells).rstrip()


def _cut(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    left = (width - 3) // 2
    return f"{text[:left]}...{text[len(text) - (width - 3 - left) :]}"


def _row(cells: Row, kind: str) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"
