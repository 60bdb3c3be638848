"""The Faust tables of ledger records, which lanes fill from the ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import faust
from faust.stores import memory
from faust.tables.manager import TableManager
from faust.types import TP

Assign = Callable[[set[TP], set[TP]], Awaitable[None]]


class LedgerStore(memory.Store):
    """Records of the lanes that this worker owns, filled by lanes instead of Faust's recovery."""

    assign: Assign | None = None

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Open lanes, if this is the table that does, and drop the records of other workers' lanes."""
        if self.assign is not None:
            await self.assign(assigned, newly_assigned)
        topic = self.table.changelog_topic.get_topic_name()
        for lane in [lane for lane in self.data if (topic, self.data[lane]["_partition"]) not in assigned]:
            del self.data[lane]


class LedgerTable(faust.Table):
    """A table of ledger records by lane.

    Set `assign` before the worker starts on exactly one table of the app.
    """

    assign: Assign | None = None

    def _new_store(self) -> Any:
        store = LedgerStore("memory://", self.app, self, table_name=self.name, loop=self.loop)
        store.assign = self.assign
        return store

    def put(self, lane: int, partition: int, record: dict[str, Any]) -> None:
        """Store a committed record without sending it to the changelog."""
        self.data.data[lane] = {**record, "_partition": partition}


class LedgerTables(TableManager):
    """The tables of a worker, all of which exist before it starts."""

    async def on_start(self) -> None:
        """Start at once. Faust sleeps for a second first, in which a table may still be added."""
        await self._update_channels()
        await self.recovery.start()
