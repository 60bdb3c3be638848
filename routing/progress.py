"""Progress of a long task: a bar on a terminal, a line every 30 seconds in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")

LINE_SECONDS = 30.0


class Progress:
    """Progress of a task with a known total.

    Parameters
    ----------
    total : int
    label : str
    unit : str
        Plural noun.
    initial : int
        Units that were done before.
    quiet : bool
        Show nothing.
    stream : file, optional
        Standard error by default.
    """

    def __init__(
        self,
        total: int,
        label: str,
        unit: str,
        *,
        initial: int = 0,
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self._total, self._label, self._unit, self._done = total, label, unit, initial
        self._stream = stream or sys.stderr
        self._writes_lines = not quiet and not self._stream.isatty()
        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=label,
            unit=unit,
            file=self._stream,
            disable=quiet or self._writes_lines,
        )
        self._note, self._shown, self._shown_at = "", -1, 0.0
        self._write_line()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._write_line()

    def move_to(self, done: int, note: str = "") -> None:
        """Show how many units are done."""
        if note:
            self._note = note
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._done)
        self._done = done
        if time.monotonic() - self._shown_at >= LINE_SECONDS:
            self._write_line()

    def advance(self, units: int, note: str = "") -> None:
        """Show that more units are done."""
        self.move_to(self._done + units, note)

    def _write_line(self) -> None:
        if self._writes_lines and self._shown != self._done:
            note = f"; {self._note}" if self._note else ""
            line = f"{self._label}: {self._done} of {self._total} {self._unit}{note}"
            print(line, file=self._stream, flush=True)
            self._shown, self._shown_at = self._done, time.monotonic()


def tracked(items: Sequence[T], label: str, unit: str) -> Iterator[T]:
    """Yield the items and show how many are done."""
    with Progress(len(items), label, unit) as progress:
        for item in items:
            yield item
            progress.advance(1)
