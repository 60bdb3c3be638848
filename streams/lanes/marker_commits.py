"""Group offsets of idle lanes: past the transaction markers and aborted records behind their last query."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from confluent_kafka import KafkaException

from streams.lanes.lanes import Lane, Lanes

log = structlog.get_logger(__name__)

Place = tuple[str, int]
"""Topic and partition of a lane's input."""


class MarkerCommits:
    """Moves the group's offsets on, so that lag monitors show 0 when nothing waits.

    A lane's transaction commits the offset after its last query. What follows without being a query would
    look like waiting queries, and like lost ones once it has been deleted.

    Parameters
    ----------
    lanes : Lanes
    past_markers : callable
        Returns, for a partition and an offset, the offset up to which there are no records.
    commit : callable
        Commits the group's offset of a lane that is idle; called in a thread.
    """

    def __init__(
        self,
        lanes: Lanes,
        past_markers: Callable[[Place, int], int],
        commit: Callable[[Place, int], None],
    ) -> None:
        self._lanes, self._past_markers, self._commit = lanes, past_markers, commit
        self._committed: dict[Place, int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run in the background, unless the last run has not ended: while a broker is away it takes long."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self.run(), name="marker-commits")

    async def run(self) -> None:
        """Commit the offsets of all lanes that are idle; their commits share rounds."""
        if self._lanes.gate.is_set():
            await asyncio.gather(*(self._pass(place, lane) for place, lane in self._lanes.all.items()))

    async def _pass(self, place: Place, lane: Lane) -> None:
        if not self._is_idle(lane):
            return
        begin = lane.processor.next_offset
        end = self._past_markers(place, begin)
        if end == begin or self._committed.get(place) == end:
            return
        async with lane.lock:
            if not self._is_idle(lane) or lane.processor.next_offset != begin:
                return
            try:
                await self._lanes.call(self._commit, place, end)
            except KafkaException as error:
                log.debug("markers_not_passed", topic=place[0], partition=place[1], reason=str(error))
            else:
                self._committed[place] = end

    @staticmethod
    def _is_idle(lane: Lane) -> bool:
        return lane.open and lane.assigned and not lane.busy and not lane.pending
