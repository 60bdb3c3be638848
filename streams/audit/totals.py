"""Totals of each lane and period, recomputed from output topics, reservations and outcomes."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from routing.budgets.counters import CounterKey
from routing.budgets.money import to_pico
from routing.policy.plan import Plan
from streams.audit.findings import Findings
from streams.audit.outputs import DEAD, DEFERRED, SERVED, UNSERVED, OutputRecord
from streams.audit.topic_records import TopicRecord
from streams.ledger.record import LedgerRecord
from streams.ledger.reservations import ReservationBatch, decode_reservations, id_digest
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.outcome import FAILED, decode_outcome
from streams.messages.rejection import RejectedMessage


@dataclass
class LaneTotals:
    """Totals of one lane in one period; amounts are picodollars by LLM.

    Parameters
    ----------
    reserved, served : Counter
        Amounts and number of queries on the LLMs' topics.
    bounded : Counter
        Number of those that reserved an upper bound of their cost.
    settled, settlements : Counter
        Real cost and number of settled queries.
    failed : Counter
        Number of settled queries that fleets returned or reported as failed.
    freed : Counter
        Amounts that settled queries had reserved.
    beyond : Counter
        Cost of settled queries above their reservations.
    drawn, beyond_of : Counter
        Draws on each counter, and actual draws above the reserved ones; empty with one budget per LLM.
    use : Counter
        By counter, LLM and position in `Account.use`: queries, and picodollars reserved and settled.
    unserved, deferred, dead : int
        Number of queries.
    again : int
        Number of decisions about returned queries.
    """

    reserved: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    bounded: Counter[str] = field(default_factory=Counter)
    settled: Counter[str] = field(default_factory=Counter)
    settlements: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    freed: Counter[str] = field(default_factory=Counter)
    beyond: Counter[str] = field(default_factory=Counter)
    drawn: Counter[CounterKey] = field(default_factory=Counter)
    beyond_of: Counter[CounterKey] = field(default_factory=Counter)
    use: Counter[tuple[CounterKey, str, int]] = field(default_factory=Counter)
    unserved: int = 0
    deferred: int = 0
    dead: int = 0
    again: int = 0

    def charged(self, model: str) -> int:
        """Return open reservations plus the real cost of settled queries."""
        return self.reserved[model] - self.freed[model] + self.settled[model]

    def beyond_by_counter(self, per_llm: bool) -> Counter[str]:
        """Return the settled amounts above reservations by the name of the counter, or of the LLM."""
        if per_llm:
            return self.beyond
        return Counter({counter_name(key): amount for key, amount in self.beyond_of.items()})


def counter_name(key: CounterKey) -> str:
    """Return a counter's name for people: the budget, and the value after "="."""
    name, value = key
    return name if value is None else f"{name}={value}"


@dataclass(frozen=True, slots=True)
class Reservation:
    """Reservation of one query; `draws` has counter, unit and amount of each budget that it drew on."""

    period: int
    model: str
    charge: int
    id: int
    draws: tuple[tuple[CounterKey, str, int], ...] = ()


class Totals:
    """Totals of all lanes.

    Parameters
    ----------
    ledgers : sequence of LedgerRecord
        By lane, the overflow lane last; the topics are summed up to their positions.
    incomplete : bool
        Records may have been deleted by age.
    findings : Findings
    plans : sequence of Plan
        They know the budgets of periods whose accounts lanes no longer keep.
    """

    def __init__(
        self,
        ledgers: Sequence[LedgerRecord],
        incomplete: bool,
        findings: Findings,
        plans: Sequence[Plan] = (),
    ) -> None:
        self._ledgers, self._incomplete, self._findings = ledgers, incomplete, findings
        self._planned = {plan.period: plan.counters for plan in plans if not plan.per_llm}
        self.sums: defaultdict[tuple[int, int], LaneTotals] = defaultdict(LaneTotals)
        """By lane and period."""
        self.unplaced_dead: Counter[int] = Counter()
        """Dead letters of unknown period, by lane."""
        self._open: list[dict[tuple[int, int], Reservation]] = [{} for _ in ledgers]
        self._of: list[dict[tuple[int, int], Reservation]] = [{} for _ in ledgers]
        """By offset and attempt."""
        self.returned: list[dict[tuple[int, int], int]] = [{} for _ in ledgers]
        """Picodollars that returned attempts cost, by offset and attempt."""
        self._again_in: list[dict[tuple[int, int], int]] = [{} for _ in ledgers]
        self.returns: Counter[tuple[int, int]] = Counter()
        """Number of returns by lane and offset."""
        self._batches: list[list[tuple[int, int, int]]] = [[] for _ in ledgers]

    # ---- reservations ------------------------------------------------------------------------------------

    def record_reservations(self, entry: TopicRecord) -> None:
        """Record the reservations of a transaction."""
        lane = entry.partition
        if entry.value is None or lane >= len(self._ledgers):
            return
        batch, models = decode_reservations(entry.value), self._ledgers[lane].models
        if batch.begin >= 0:
            batches = self._batches[lane]
            if batches and batch.begin < batches[-1][1]:
                self._findings.add(
                    "twice",
                    f"{entry.place}: lane {lane} decided from {batch.begin} again, after {batches[-1][1]}",
                )
            batches.append((batch.begin, batch.end, batch.period))
        if not batch.decides_input:
            if batch.returned_next > self._ledgers[lane].returned_next:
                return
            self._record_returns(entry, batch)
        spent: Counter[int] = Counter()
        drawn: Counter[CounterKey] = Counter()
        units = self._units(lane, batch.period)
        row = -1
        for offset, attempt, model, charge, identity in zip(
            batch.offsets.tolist(),
            batch.attempts.tolist(),
            batch.model.tolist(),
            batch.charge.tolist(),
            batch.ids.tolist(),
            strict=True,
        ):
            row += 1
            if offset >= self._ledgers[lane].next:
                continue
            draws = _draws(batch, row, units, models[model])
            reservation = Reservation(batch.period, models[model], charge, identity, draws)
            key = (offset, attempt)
            if len({counter[0] for counter, _, _ in draws}) < len(draws):
                self._findings.add("rights", f"{entry.place}: {lane}@{offset} drew on one budget twice")
            if key in self._of[lane]:
                self._findings.add(
                    "twice", f"{entry.place}: {lane}@{offset}, attempt {attempt} has a second reservation"
                )
            self._of[lane][key] = self._open[lane][key] = reservation
            spent[model] += charge
            for counter, _, amount in draws:
                drawn[counter] += amount
                self.sums[lane, batch.period].use[counter, models[model], 0] += 1
                self.sums[lane, batch.period].use[counter, models[model], 1] += charge
        self.sums[lane, batch.period].drawn.update(drawn)
        if batch.counters is not None:
            for counter, available in zip(batch.counters, batch.available.tolist(), strict=True):
                if drawn[counter] > max(available, 0):  # outcomes above their reservation lead below zero
                    self._findings.add(
                        "rights",
                        f"{entry.place}: {lane} charged {drawn[counter]} to {counter}, but had {available}",
                    )
            return
        for model, charge in spent.items():
            if charge > batch.available[model]:
                self._findings.add(
                    "rights",
                    f"{entry.place}: lane {lane} charged {charge} to {models[model]}, but had "
                    f"{batch.available[model]}",
                )

    def _units(self, lane: int, period: int) -> dict[str, str]:
        """Return the unit of each budget, by the lane's ledger or the period's plan."""
        account = self._ledgers[lane].account_of(period)
        counters = self._planned.get(period) if account is None else account.counters
        return {} if counters is None else {budget.name: budget.unit for budget in counters.budgets}

    def _record_returns(self, entry: TopicRecord, batch: ReservationBatch) -> None:
        """Record the reservations that a transaction settled because fleets returned their queries."""
        lane = entry.partition
        for offset, attempt, paid in batch.returns.tolist():
            key = offset, attempt
            where = f"{entry.place}: the return of {lane}@{offset}, attempt {attempt},"
            if key in self.returned[lane]:
                self._findings.add("twice", f"{where} was processed before")
                continue
            self.returned[lane][key], self._again_in[lane][key] = paid, batch.period
            self.returns[lane, offset] += 1
            self.sums[lane, batch.period].again += 1
            reservation = self._of[lane].get(key)
            if reservation is None:
                if not self._incomplete:
                    self._findings.add("settlement", f"{where} was processed although nothing was reserved")
                continue
            self._settle(lane, reservation, paid, None if paid else 0)
            self.sums[lane, reservation.period].failed[reservation.model] += 1

    def _settle(self, lane: int, reservation: Reservation, cost: int, tokens: int | None = None) -> None:
        sums, model = self.sums[lane, reservation.period], reservation.model
        sums.settled[model] += cost
        sums.settlements[model] += 1
        sums.freed[model] += reservation.charge
        for counter, unit, amount in reservation.draws:
            actual = cost if unit == "usd" else amount
            if unit == "tokens" and tokens is not None:
                actual = tokens
            sums.drawn[counter] += actual - amount
            sums.use[counter, model, 2] += cost
            sums.beyond_of[counter] += max(0, actual - amount)
        sums.beyond[model] += max(0, cost - reservation.charge)

    def _period_of(self, lane: int, offset: int, attempt: int) -> int | None:
        batches = self._batches[lane]
        at = bisect.bisect_right(batches, offset, key=lambda batch: batch[0]) - 1
        arrived_in = batches[at][2] if at >= 0 and offset < batches[at][1] else None
        return self._again_in[lane].get((offset, attempt - 1), arrived_in)

    # ---- outputs -----------------------------------------------------------------------------------------

    def record_output(self, output: OutputRecord, first: int = 1) -> None:
        """Record an output, unless it is newer than the ledgers.

        Parameters
        ----------
        output : OutputRecord
        first : int
            Number of the first decision about the input; later ones follow returns.
        """
        lane, offset = output.lane, output.offset
        if not 0 <= lane < len(self._ledgers) or offset >= self._ledgers[lane].next:
            return
        if output.attempt > first and (offset, output.attempt - 1) not in self.returned[lane]:
            return
        period = output.period if output.period is not None else self._period_of(lane, offset, output.attempt)
        if period is None:
            if output.kind == DEAD:
                self.unplaced_dead[lane] += 1
            return
        sums = self.sums[lane, period]
        if output.kind == UNSERVED:
            sums.unserved += 1
        elif output.kind == DEFERRED:
            sums.deferred += 1
        elif output.kind == DEAD:
            sums.dead += 1
            if (lane, offset) in self.returns:
                sums.again -= 1  # a returned query that cannot be decided again is not counted as decided
        elif output.kind == SERVED and output.model is not None:
            sums.reserved[output.model] += output.charge
            sums.served[output.model] += 1
            sums.bounded[output.model] += output.bounded
            self._compare_reservation(output, period)

    def _compare_reservation(self, output: OutputRecord, period: int) -> None:
        """Compare an output with its reservation."""
        key = output.offset, output.attempt
        reservation = self._open[output.lane].pop(key, None)
        where = f"{output.entry.place}: query {output.id!r} of {output.lane}@{output.offset}"
        if reservation is None:
            redeemed = key in self._of[output.lane]
            if not redeemed and not self._incomplete:
                self._findings.add("ledger_differs", f"{where} has no reservation")
            return
        if reservation.model != output.model or reservation.id != id_digest(output.id or ""):
            self._findings.add("moved", f"{where} is on {output.model}; {reservation.model} was reserved")
        elif (reservation.charge, reservation.period) != (output.charge, period):
            self._findings.add(
                "ledger_differs",
                f"{where} has charge {output.charge} in period {period}, but reserved "
                f"{reservation.charge} in period {reservation.period}",
            )

    def conclude(self) -> None:
        """Report reservations without an output."""
        for lane, remaining in enumerate(self._open):
            for (offset, attempt), reservation in remaining.items():
                if not self._incomplete:
                    self._findings.add(
                        "missing",
                        f"{lane}@{offset}, attempt {attempt}: reserved on {reservation.model}, but not there",
                    )

    # ---- settlement --------------------------------------------------------------------------------------

    def settle(self, outcomes: Iterable[TopicRecord], rejected: Iterable[TopicRecord], topic: str) -> None:
        """Settle the outcomes up to the ledgers, without the rejected ones.

        Parameters
        ----------
        outcomes, rejected : iterable of TopicRecord
            Records of the outcomes' topic, and of its dead letters.
        topic : str
            The outcomes' topic.
        """
        findings = self._findings
        rejections: Counter[tuple[int, int]] = Counter()
        for entry in rejected:
            _, error = split_dead_letter_headers(entry.headers)
            if error.get("topic") == topic:
                rejections[int(error["partition"]), int(error["offset"])] += 1
        for (lane, offset), count in rejections.items():
            if count > 1:
                findings.add("settlement", f"outcome {lane}@{offset} was rejected {count} times")
        total: Counter[int] = Counter()
        refused: Counter[int] = Counter()
        costs: list[dict[tuple[int, int], int]] = [{} for _ in self._ledgers]
        for entry in outcomes:
            lane = entry.partition
            if lane >= len(self._ledgers) or entry.offset >= self._ledgers[lane].outcomes_next:
                continue
            total[lane] += 1
            if rejections[lane, entry.offset]:
                refused[lane] += 1
            else:
                self._settle_outcome(entry, costs[lane])
        for lane, ledger in enumerate(self._ledgers):
            kinds = Counter(ledger.outcomes)
            counts = (kinds.total(), kinds["settled"], kinds.total() - kinds["settled"] - kinds["duplicate"])
            if counts != (total[lane], len(costs[lane]), refused[lane]) and not self._incomplete:
                findings.add(
                    "settlement",
                    f"lane {lane} counted {counts} outcomes (all, settling, rejected); the topic has "
                    f"{(total[lane], len(costs[lane]), refused[lane])}",
                )

    def _settle_outcome(self, entry: TopicRecord, costs: dict[tuple[int, int], int]) -> None:
        lane, findings = entry.partition, self._findings
        try:
            outcome = decode_outcome(entry.value)
        except RejectedMessage as error:
            findings.add("settlement", f"{entry.place} was settled although it is malformed: {error}")
            return
        key = outcome.offset, outcome.attempt
        reservation = self._of[lane].get(key) if outcome.partition == lane else None
        if reservation is None:
            if not self._incomplete:
                findings.add("settlement", f"{entry.place} was settled although its query reserved nothing")
            return
        if reservation.model != outcome.model or reservation.id != id_digest(outcome.id):
            findings.add("settlement", f"{entry.place} was settled although it contradicts its reservation")
            return
        if key in self.returned[lane]:
            findings.add("settlement", f"{entry.place} was settled although its query had been returned")
            return
        cost = int(to_pico(outcome.cost))
        if key in costs:
            if costs[key] != cost:
                findings.add("settlement", f"{entry.place} was settled although its query had another cost")
            return
        costs[key] = cost
        self._settle(lane, reservation, cost, outcome.tokens)
        if outcome.status == FAILED:
            self.sums[lane, reservation.period].failed[reservation.model] += 1


def _draws(
    batch: ReservationBatch, row: int, units: Mapping[str, str], model: str
) -> tuple[tuple[CounterKey, str, int], ...]:
    """Return counter, unit and amount of each budget that a query drew on.

    Without counters it drew on its LLM's budget, which is a counter if shared budgets followed in the period.
    """
    if batch.counters is None:
        return (((model, None), "usd", int(batch.charge[row])),) if model in units else ()
    tokens = int(batch.tokens[row]) if len(batch.tokens) else 0
    draws = []
    for position in batch.columns[row].tolist():
        if position >= 0:
            counter = batch.counters[position]
            unit = units.get(counter[0], "usd")
            amount = int(batch.charge[row]) if unit == "usd" else 1 if unit == "queries" else tokens
            draws.append((counter, unit, amount))
    return tuple(draws)
