"""Check that every query is on exactly one topic, once and unaltered, and once more for each return."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from routing.budgets.model import Model
from streams.audit.findings import Findings
from streams.audit.inputs import InputColumns
from streams.audit.outputs import DEAD, DEFERRED, InputRecord, OutputRecord, frame, split_frame
from streams.config.topic_names import Topics
from streams.ledger.record import LedgerRecord
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.headers import HEADERS_REFUSED


class Placement:
    """Final topics of the input records of all lanes.

    Parameters
    ----------
    topics : Topics
    inputs : sequence of InputColumns
        By lane, the overflow lane last.
    incomplete : bool
        Records may have been deleted by age, so that missing ones are no violation.
    findings : Findings
    returns : mapping of (lane, offset) to int
        Number of times that fleets returned each query and its lane decided it again.
    """

    def __init__(
        self,
        topics: Topics,
        inputs: Sequence[InputColumns],
        incomplete: bool,
        findings: Findings,
        returns: Mapping[tuple[int, int], int],
    ) -> None:
        self._topics, self._inputs, self._incomplete, self._findings = topics, inputs, incomplete, findings
        self._returns = returns
        self._attempts: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        """Attempts on the topics, for queries with more than one."""
        self.last: list[int] = [-1 for _ in inputs]
        """The last offset that each lane decided."""

    def record(self, output: OutputRecord) -> int:
        """Record an output, compare it with its input, and return the first attempt of that input."""
        lane, offset = output.lane, output.offset
        source = self._inputs[lane].count_output(offset) if 0 <= lane < len(self._inputs) else None
        if source is None:
            if not self._incomplete:
                self._findings.add("foreign", f"{output.entry.place}: no query at {lane}@{offset}")
            return 1
        if output.attempt > source.attempt or (lane, offset) in self._returns:
            self._attempts[lane, offset].add(output.attempt)
        self.last[lane] = max(self.last[lane], offset)
        self._compare(output, source)
        return source.attempt

    def _compare(self, output: OutputRecord, source: InputRecord) -> None:
        entry, findings = output.entry, self._findings
        where = f"{entry.place}, of {output.lane}@{output.offset}"
        if output.kind == DEAD:
            headers, error = split_dead_letter_headers(entry.headers)
            if error.get("exception.message", "").startswith(HEADERS_REFUSED):
                headers = []  # no client can read the original headers, so there is nothing to compare
            if hash(entry.value) != source.value_digest or frame(entry.key, headers) != source.frame:
                findings.add("altered", f"{where}: the dead letter differs from the rejected message")
            return
        if output.id != source.id or output.source != (None if output.kind == DEFERRED else source.source):
            findings.add("moved", f"{where}: is query {output.id!r}, but the input is {source.id!r}")
            return
        if output.model is not None and entry.topic != self._topics.llm(Model(output.model).slug):
            findings.add("moved", f"{where}: query {output.id!r} was routed to {output.model}")
        plain = split_frame(entry)[0] if output.kind == DEFERRED else entry.headers
        value = entry.value or b""
        if hash(value[: source.length]) != source.body or frame(entry.key, plain) != source.plain:
            findings.add("altered", f"{where}: query {output.id!r} differs from the input")

    def conclude(
        self, ledgers: Sequence[LedgerRecord], moving: Sequence[LedgerRecord], complete: bool
    ) -> None:
        """Report missing and duplicate queries.

        Parameters
        ----------
        ledgers, moving : sequence of LedgerRecord
            By lane, before and after the topics were read. Queries decided in between are not checked.
        complete : bool
            No more records will come: waiting queries are missing.
        """
        findings = self._findings
        for lane, inputs in enumerate(self._inputs):
            position, moved = ledgers[lane].next, moving[lane].next
            returning = ledgers[lane].returned_next < moving[lane].returned_next
            for offset, count in inputs.counted():
                expected = 1 + self._returns.get((lane, offset), 0)
                distinct = len(self._attempts[lane, offset]) if expected > 1 else count
                if count == expected == distinct or (count == 0 and position <= offset < moved):
                    continue
                recorded = count if expected > 1 else count - 1
                if count > expected and returning and len(self._attempts[lane, offset]) == recorded:
                    continue  # returned after the reservations were read
                query = f"query {inputs.id_at(offset)!r} at {lane}@{offset}"
                if count > expected or distinct < count:
                    findings.add("twice", f"{query}: {count} times, returned {expected - 1} times")
                elif count and offset < position:
                    findings.add("missing", f"{query}: returned {expected - 1} times, decided {count} times")
                elif offset < position:
                    findings.add("missing", f"{query}: decided, but on no topic")
                else:
                    findings.waiting += 1
                    if complete:
                        findings.add("missing", f"{query}: not decided")
            if moving[lane].deleted.get("input", (0, -1))[1] != moved:
                self._position(lane, position, moved)

    def _position(self, lane: int, position: int, moved: int) -> None:
        last = self.last[lane]
        if last >= moved or (position == moved and last >= 0 and last != position - 1):
            self._findings.add(
                "position",
                f"lane {lane}: the ledger continues at {moved}, but the last decision is at {last}",
            )
