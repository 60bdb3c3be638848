"""The budgets' Faust tables: their stores load themselves from the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import faust
from faust.stores import memory
from faust.types import TP

Assign = Callable[[set[TP], set[TP]], Awaitable[None]]
End = Callable[[str, int], int]


class LedgerStore(memory.Store):
    """Holds the records of the lanes that this worker owns; lanes fill it, Faust's recovery does not."""

    ends: dict[TP, int]
    assign: Assign | None = None
    end: End

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Open lanes (one of the tables does), then tell Faust that the changelog is recovered to its end."""
        if self.assign is not None:
            await self.assign(assigned, newly_assigned)
        topic = self.table.changelog_topic.get_topic_name()
        mine = [tp for tp in assigned if tp.topic == topic]
        for lane in [lane for lane in self.data if (topic, self.data[lane]["_partition"]) not in assigned]:
            del self.data[lane]
        loop = asyncio.get_running_loop()
        ends = await asyncio.gather(*(loop.run_in_executor(None, self.end, *tp) for tp in mine))
        self.ends = {tp: end - 1 for tp, end in zip(mine, ends, strict=True)}

    def persisted_offset(self, tp: TP) -> int | None:
        """The changelog's end."""
        return getattr(self, "ends", {}).get(tp)


class LedgerTable(faust.Table):
    """A table of ledger records by lane.

    Set `assign` before the worker starts on exactly one table of the app.
    """

    assign: Assign | None = None
    end: End

    def _new_store(self) -> Any:
        store = LedgerStore("memory://", self.app, self, table_name=self.name, loop=self.loop)
        store.assign, store.end = self.assign, self.end
        return store

    def put(self, lane: int, partition: int, record: dict[str, Any]) -> None:
        """Hold a record that is committed already; nothing is sent to the changelog."""
        self.data.data[lane] = {**record, "_partition": partition}
