"""Tables for people: one helper over `rich`."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from io import StringIO

GAP_CHARACTERS = 2
MAX_WIDTH_CHARACTERS = 1_000_000
"""Wider than any table, so that rich neither wraps nor truncates cells."""


def table_lines(
    headers: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    left: Collection[int] = (0,),
    indent: int = 0,
) -> list[str]:
    """Return a table as lines of text, with bold headers if standard output is a terminal.

    Parameters
    ----------
    headers : sequence of str
        Names of the columns. If all are empty, the table has no header line.
    rows : iterable of sequence
        Cells, as many in each row as there are headers.
    left : collection of int
        Columns that are aligned left; numbers belong into the others, which are aligned right.
    indent : int
        Spaces before each line.

    Examples
    --------
    >>> table_lines(["LLM", "queries"], [["small", 7], ["large", 12]])
    ['LLM    queries', 'small        7', 'large       12']
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    padding = (0, GAP_CHARACTERS, 0, 0)
    table = Table(box=None, show_header=any(headers), header_style="bold", pad_edge=False, padding=padding)
    for column, header in enumerate(headers):
        table.add_column(Text(header), justify="left" if column in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_printable(str(cell))) for cell in row))
    console = Console(file=StringIO(), width=MAX_WIDTH_CHARACTERS, force_terminal=sys.stdout.isatty())
    with console.capture() as captured:
        console.print(table, crop=False)
    return [f"{'':{indent}}{line}".rstrip() for line in captured.get().splitlines()]


def _printable(text: str) -> str:
    """Return the text with control characters escaped, so that a cell cannot break the table."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
