"""Every query in exactly one place, once, as it came in."""

from __future__ import annotations

from collections.abc import Sequence

from routing.catalogue import Model
from streams.checks.arrivals import Arrivals
from streams.checks.landings import DEAD, DEFERRED, Arrival, Landing, frame, split_frame
from streams.checks.verdict import Verdict
from streams.dead_letters import split_dead_letter_headers
from streams.headers import HEADERS_REFUSED
from streams.topic_names import Topics


class Places:
    """Where the records of every lane's input ended.

    Parameters
    ----------
    topics : Topics
    inputs : sequence of Arrivals
        By lane, the overflow lane last.
    gone : bool
        Records may have been deleted by age: what is not there may have been.
    verdict : Verdict
    """

    def __init__(self, topics: Topics, inputs: Sequence[Arrivals], gone: bool, verdict: Verdict) -> None:
        self._topics, self._inputs, self._gone, self._verdict = topics, inputs, gone, verdict
        self.last: list[int] = [-1 for _ in inputs]
        """The last offset that each lane decided."""

    def land(self, landing: Landing) -> None:
        """Take in an output."""
        lane, offset = landing.lane, landing.offset
        known = self._inputs[lane].land(offset) if 0 <= lane < len(self._inputs) else None
        if known is None:
            if not self._gone:
                self._verdict.add("foreign", f"{landing.entry.place}: no query at {lane}@{offset}")
            return
        self.last[lane] = max(self.last[lane], offset)
        self._compare(landing, known)

    def _compare(self, landing: Landing, known: Arrival) -> None:
        entry, verdict = landing.entry, self._verdict
        where = f"{entry.place}, of {landing.lane}@{landing.offset}"
        if landing.kind == DEAD:
            headers, told = split_dead_letter_headers(entry.headers)
            if told.get("exception.message", "").startswith(HEADERS_REFUSED):
                headers = []  # those that came in no client can read: there is nothing to compare with
            if hash(entry.value) != known.whole or frame(entry.key, headers) != known.frame:
                verdict.add("altered", f"{where}: a dead letter is not what was refused, byte for byte")
            return
        if landing.id != known.id or landing.source != (None if landing.kind == DEFERRED else known.source):
            verdict.add("moved", f"{where}: is query {landing.id!r}; there it is {known.id!r}")
            return
        if landing.model is not None and entry.topic != self._topics.llm(Model(landing.model).slug):
            verdict.add("moved", f"{where}: query {landing.id!r} was routed to {landing.model}")
        plain = split_frame(entry)[0] if landing.kind == DEFERRED else entry.headers
        value = entry.value or b""
        if hash(value[: known.length]) != known.body or frame(entry.key, plain) != known.plain:
            verdict.add("altered", f"{where}: query {landing.id!r} is not what came in")

    def conclude(self, positions: Sequence[int], moving: Sequence[int], complete: bool) -> None:
        """Tell what is nowhere and what is more than once.

        Parameters
        ----------
        positions, moving : sequence of int
            By lane: `next` of its ledger before and after the topics were read. What was decided between
            is left alone.
        complete : bool
            Nothing is to come any more: a query that waits is missing.
        """
        verdict = self._verdict
        for lane, inputs in enumerate(self._inputs):
            for offset, count in inputs.counted():
                if count == 1 or (count == 0 and positions[lane] <= offset < moving[lane]):
                    continue
                query = f"query {inputs.id_at(offset)!r} at {lane}@{offset}"
                if count > 1:
                    verdict.add("twice", f"{query}: {count} times")
                elif offset < positions[lane]:
                    verdict.add("missing", f"{query}: decided, but nowhere")
                else:
                    verdict.waiting += 1
                    if complete:
                        verdict.add("missing", f"{query}: not decided")
            self._position(lane, positions[lane], moving[lane])

    def _position(self, lane: int, position: int, moved: int) -> None:
        last = self.last[lane]
        if last >= moved or (position == moved and last >= 0 and last != position - 1):
            self._verdict.add(
                "position", f"lane {lane}: the ledger goes on at {moved}, the last decision is of {last}"
            )
