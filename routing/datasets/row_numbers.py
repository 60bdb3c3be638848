"""Numbers of rows as people count them in a file, for errors.

Rows count from 1. In a text table the header is row 1, as in a spreadsheet; in JSON Lines a row is a line; in
parquet, Arrow and pickles the first row is row 1. If quoted texts have line breaks, a text table's row
names its line as well, and in a folder of several files its file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FileRows:
    """Rows of one file.

    Parameters
    ----------
    count : int
        Number of rows in the table.
    numbers : sequence of int, optional
        Number of each row in the file; 1, 2, 3 ... by default.
    lines : sequence of int, optional
        The first line of each row, if it may differ from its number.
    file : str
        Name of the file; empty if there is only one.
    """

    count: int
    numbers: Sequence[int] | None = None
    lines: Sequence[int] | None = None
    file: str = ""

    def name(self, row: int) -> str:
        """Name a row, given its place in the table from 0.

        Examples
        --------
        >>> FileRows(2, [2, 3], [2, 7]).name(1)
        'row 3 (line 7)'
        """
        number = row + 1 if self.numbers is None else self.numbers[row]
        text = f"row {number}"
        if self.lines is not None and self.lines[row] != number:
            text += f" (line {self.lines[row]})"
        return f"{text} of {self.file}" if self.file else text


@dataclass(frozen=True)
class TableRows:
    """Rows of a table that one file or several were read into."""

    files: Sequence[FileRows]

    def name(self, row: int) -> str:
        """Name a row, given its place in the table from 0."""
        for part in self.files:
            if row < part.count:
                return part.name(row)
            row -= part.count
        raise IndexError(row)
