"""The interface of a processor: the code that turns the records of one lane into transactions."""

from __future__ import annotations

from typing import Protocol, TypeVar

from streams.messages.record import Record

Result_co = TypeVar("Result_co", covariant=True)


class LaneProcessor(Protocol[Result_co]):
    """Processes the records of one lane.

    Methods run in a thread, one at a time. Properties are read from the event loop.
    """

    def open(self) -> None:
        """Fence former owners, then read what they committed."""
        ...

    def refresh_plan(self) -> None:
        """Use the newest plan from now on, in `next_offset`, `max_records` and `process`."""
        ...

    @property
    def next_offset(self) -> int:
        """Offset of the next record to process."""
        ...

    @property
    def max_records(self) -> int:
        """Number of records that the next transaction may take; 0 while there is no usable plan."""
        ...

    @property
    def has_pending_work(self) -> bool:
        """True if a transaction without records has something to do."""
        ...

    def process(self, records: list[Record]) -> Result_co:
        """Process records that no earlier transaction has processed, and report what was committed."""
        ...

    def skip_deleted(self, start: int) -> None:
        """Continue at the first offset that the log still has, and count the deleted records."""
        ...

    def close(self) -> None:
        """Roll back an open transaction and release all resources."""
        ...
