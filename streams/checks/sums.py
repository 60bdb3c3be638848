"""What lanes charged, recomputed from the output topics, reservations and outcomes."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from routing.money import to_pico
from streams.checks.landings import DEAD, DEFERRED, SERVED, UNSERVED, Landing
from streams.checks.logs import Entry
from streams.checks.verdict import Verdict
from streams.dead_letters import split_dead_letter_headers
from streams.ledger import LedgerRecord
from streams.messages import Refused, decode_outcome
from streams.reservations import decode_reserved, id_digest


@dataclass
class Sums:
    """Of one lane in one period; amounts are picodollars by LLM.

    Parameters
    ----------
    reserved, served : Counter
        Of queries on the LLMs' topics.
    settled, settlements : Counter
        What settled queries really cost, and how many they are.
    freed : Counter
        What had been reserved for those.
    beyond : Counter
        What they cost beyond their reservations.
    unserved, deferred, dead : int
        Queries.
    """

    reserved: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    settled: Counter[str] = field(default_factory=Counter)
    settlements: Counter[str] = field(default_factory=Counter)
    freed: Counter[str] = field(default_factory=Counter)
    beyond: Counter[str] = field(default_factory=Counter)
    unserved: int = 0
    deferred: int = 0
    dead: int = 0

    def charged(self, model: str) -> int:
        """Open reservations and what settled queries really cost."""
        return self.reserved[model] - self.freed[model] + self.settled[model]


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one query reserved."""

    period: int
    model: str
    charge: int
    id: int


class Books:
    """All lanes' sums.

    Parameters
    ----------
    ledgers : sequence of LedgerRecord
        By lane, the overflow lane last: up to where the topics are summed.
    gone : bool
        Records may have been deleted by age.
    verdict : Verdict
    """

    def __init__(self, ledgers: Sequence[LedgerRecord], gone: bool, verdict: Verdict) -> None:
        self._ledgers, self._gone, self._verdict = ledgers, gone, verdict
        self.sums: defaultdict[tuple[int, int], Sums] = defaultdict(Sums)
        """By lane and period."""
        self.unplaced_dead: Counter[int] = Counter()
        """Dead letters by lane whose period nothing tells."""
        self._open: list[dict[int, Reservation]] = [{} for _ in ledgers]
        self._of: list[dict[int, Reservation]] = [{} for _ in ledgers]
        self._stretches: list[list[tuple[int, int, int]]] = [[] for _ in ledgers]

    # ---- reservations ------------------------------------------------------------------------------------

    def reserve(self, entry: Entry) -> None:
        """Take in the reservations of a transaction."""
        lane = entry.partition
        if entry.value is None or lane >= len(self._ledgers):
            return
        batch, models = decode_reserved(entry.value), self._ledgers[lane].models
        if batch.begin >= 0:
            stretches = self._stretches[lane]
            if stretches and batch.begin < stretches[-1][1]:
                self._verdict.add(
                    "twice", f"{entry.place}: lane {lane} decided from {batch.begin} again, after "
                    f"{stretches[-1][1]}",
                )  # fmt: skip
            stretches.append((batch.begin, batch.end, batch.period))
        spent: Counter[int] = Counter()
        for offset, model, charge, identity in zip(
            batch.offsets.tolist(), batch.model.tolist(), batch.charge.tolist(), batch.ids.tolist(),
            strict=True,
        ):  # fmt: skip
            if offset >= self._ledgers[lane].next:
                continue
            found = Reservation(batch.period, models[model], charge, identity)
            if offset in self._of[lane]:
                self._verdict.add("twice", f"{entry.place}: {lane}@{offset} is reserved for again")
            self._of[lane][offset] = self._open[lane][offset] = found
            spent[model] += charge
        for model, charge in spent.items():
            if charge > batch.available[model]:
                self._verdict.add(
                    "rights", f"{entry.place}: lane {lane} charged {charge} to {models[model]} and had "
                    f"{batch.available[model]}",
                )  # fmt: skip

    def _period_of(self, lane: int, offset: int) -> int | None:
        stretches = self._stretches[lane]
        at = bisect.bisect_right(stretches, offset, key=lambda stretch: stretch[0]) - 1
        return stretches[at][2] if at >= 0 and offset < stretches[at][1] else None

    # ---- outputs -----------------------------------------------------------------------------------------

    def land(self, landing: Landing) -> None:
        """Take in an output of the time up to the ledgers."""
        lane, offset = landing.lane, landing.offset
        if not 0 <= lane < len(self._ledgers) or offset >= self._ledgers[lane].next:
            return
        period = landing.period if landing.period is not None else self._period_of(lane, offset)
        if period is None:
            if landing.kind == DEAD:
                self.unplaced_dead[lane] += 1
            return
        sums = self.sums[lane, period]
        if landing.kind == UNSERVED:
            sums.unserved += 1
        elif landing.kind == DEFERRED:
            sums.deferred += 1
        elif landing.kind == DEAD:
            sums.dead += 1
        elif landing.kind == SERVED and landing.model is not None:
            sums.reserved[landing.model] += landing.charge
            sums.served[landing.model] += 1
            self._redeem(landing, period)

    def _redeem(self, landing: Landing, period: int) -> None:
        """An output and its reservation say the same."""
        reservation = self._open[landing.lane].pop(landing.offset, None)
        where = f"{landing.entry.place}: query {landing.id!r} of {landing.lane}@{landing.offset}"
        if reservation is None:
            known = landing.offset in self._of[landing.lane]
            if not known and not self._gone:
                self._verdict.add("ledger_differs", f"{where} has no reservation")
            return
        if reservation.model != landing.model or reservation.id != id_digest(landing.id or ""):
            self._verdict.add("moved", f"{where} is on {landing.model}; {reservation.model} was reserved")
        elif (reservation.charge, reservation.period) != (landing.charge, period):
            self._verdict.add(
                "ledger_differs", f"{where} says {landing.charge} in period {period}; reserved were "
                f"{reservation.charge} in period {reservation.period}",
            )  # fmt: skip

    def conclude(self) -> None:
        """Tell of reservations whose query is nowhere."""
        for lane, left in enumerate(self._open):
            for offset, reservation in left.items():
                if not self._gone:
                    self._verdict.add(
                        "missing", f"{lane}@{offset}: reserved on {reservation.model}, but not on its topic"
                    )

    # ---- settlement --------------------------------------------------------------------------------------

    def settle(self, outcomes: Iterable[Entry], refused: Iterable[Entry], topic: str) -> None:
        """Take in the outcomes up to the ledgers, but for those that were refused.

        Parameters
        ----------
        outcomes, refused : iterable of Entry
            Of the outcomes' topic, and of its dead letters.
        topic : str
            The outcomes' topic.
        """
        verdict = self._verdict
        turned_away: Counter[tuple[int, int]] = Counter()
        for entry in refused:
            _, told = split_dead_letter_headers(entry.headers)
            if told.get("topic") == topic:
                turned_away[int(told["partition"]), int(told["offset"])] += 1
        for (lane, offset), count in turned_away.items():
            if count > 1:
                verdict.add("settlement", f"outcome {lane}@{offset} was refused {count} times")
        taken: Counter[int] = Counter()
        rejected: Counter[int] = Counter()
        costs: list[dict[int, int]] = [{} for _ in self._ledgers]
        for entry in outcomes:
            lane = entry.partition
            if lane >= len(self._ledgers) or entry.offset >= self._ledgers[lane].outcomes_next:
                continue
            taken[lane] += 1
            if turned_away[lane, entry.offset]:
                rejected[lane] += 1
            else:
                self._accept(entry, costs[lane])
        for lane, ledger in enumerate(self._ledgers):
            kinds = Counter(ledger.outcomes)
            counted = (kinds.total(), kinds["settled"], kinds.total() - kinds["settled"] - kinds["duplicate"])
            if counted != (taken[lane], len(costs[lane]), rejected[lane]) and not self._gone:
                verdict.add(
                    "settlement", f"lane {lane} counted {counted} outcomes in all, settling, refused; there "
                    f"are {(taken[lane], len(costs[lane]), rejected[lane])}",
                )  # fmt: skip

    def _accept(self, entry: Entry, costs: dict[int, int]) -> None:
        lane, verdict = entry.partition, self._verdict
        try:
            outcome = decode_outcome(entry.value)
        except Refused as error:
            verdict.add("settlement", f"{entry.place} was taken in, though it is malformed: {error}")
            return
        reservation = self._of[lane].get(outcome.offset) if outcome.partition == lane else None
        if reservation is None:
            if not self._gone:
                verdict.add("settlement", f"{entry.place} was taken in; nothing was reserved for its query")
            return
        if reservation.model != outcome.model or reservation.id != id_digest(outcome.id):
            verdict.add("settlement", f"{entry.place} was taken in, though it contradicts its reservation")
            return
        cost, model = int(to_pico(outcome.cost)), reservation.model
        if outcome.offset in costs:
            if costs[outcome.offset] != cost:
                verdict.add("settlement", f"{entry.place} was taken in, though its query cost another sum")
            return
        costs[outcome.offset] = cost
        sums = self.sums[lane, reservation.period]
        sums.settled[model] += cost
        sums.settlements[model] += 1
        sums.freed[model] += reservation.charge
        sums.beyond[model] += max(0, cost - reservation.charge)
