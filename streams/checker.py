"""The invariants, stated over all topics as a consumer sees them that reads committed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from streams.checks.arrivals import Arrivals
from streams.checks.bills import check_bills, check_closing, check_up_to_date, newest_bills
from streams.checks.landings import Landing, read_arrival, read_landing
from streams.checks.ledgers import (
    Budgets,
    check_grants,
    check_rights,
    check_spending,
    compare_ledgers,
    newest_ledger,
)
from streams.checks.logs import Entry, Logs
from streams.checks.places import Places
from streams.checks.plans import Prices, check_samples, read_plans
from streams.checks.sums import Books
from streams.checks.verdict import Verdict
from streams.ledger import LedgerRecord
from streams.periods import PeriodSummary
from streams.topic_names import Topics

__all__ = ["Verdict", "check"]


def check(logs: Logs, topics: Topics, *, complete: bool = False) -> Verdict:
    """Read every topic from its beginning and state the invariants.

    1. Every query is in exactly one place, once, as it came in: on one LLM's topic, unserved, or a dead
       letter. One that no lane has come to yet waits.
    2. Each ledger is the sum of the output topics, settlement included; granted - released - charged is
       never negative, granted - released sums to at most the budget, and no period's charges pass it. What
       settled above its reservation is told and taken out.
    3. A lane's `next` is where its decisions end.
    4. Bills of periods are sums of the topics too, with the budgets that the plans had: what a bill calls
       closed or final is exact, what may still change is never more than the topics have. They are closed in
       the order of periods.
    5. A version of the plan has one set of prices, and queries were routed by them; no query was sampled
       twice.

    Right while the stream runs, too: topics are summed up to the ledgers as they were at first.

    Parameters
    ----------
    logs : Logs
    topics : Topics
    complete : bool
        Nothing is to come any more: a query that waits is missing, and a bill that is behind is wrong.

    Returns
    -------
    Verdict

    Raises
    ------
    ValueError
        There is no topic of queries.
    """
    return _Check(logs, topics, Verdict()).run(complete)


class _Check:
    """One run of the checker."""

    def __init__(self, logs: Logs, topics: Topics, verdict: Verdict) -> None:
        self.logs, self.topics, self.verdict = logs, topics, verdict
        known = logs.partitions()
        if topics.queries not in known:
            raise ValueError(f"topic {topics.queries}: is not there; set PORT_TOPIC_PREFIX to the router's")
        self.lanes = known[topics.queries]
        self.llms = sorted(name for name in known if name.startswith(topics.llm("")))
        self.outputs = [*self.llms, topics.unserved, topics.dlq, topics.overflow]

    def run(self, complete: bool) -> Verdict:
        """Order matters: plan, bills, ledgers, topics, bills, ledgers, plan."""
        verdict, topics = self.verdict, self.topics
        plans = read_plans(self.logs.read(topics.plans), keyed=True)
        bills = self.bills()
        ledgers = self.ledgers(verdict)
        inputs = self.inputs()
        gone = self.gone()
        places, books = Places(topics, inputs, gone, verdict), Books(ledgers, gone, verdict)
        for entry in self.logs.read(topics.reservations):
            books.reserve(entry)
        prices = Prices(verdict)
        log = read_plans(self.logs.read(topics.plan_log), keyed=False)
        prices.follow(log)
        for landing in self.landings():
            places.land(landing)
            books.land(landing)
            prices.land(landing)
        books.settle(self.logs.read(topics.outcomes), self.logs.read(topics.outcomes_dlq), topics.outcomes)
        books.conclude()
        check_samples(self.logs.read(topics.samples), ledgers, verdict)
        bills_after = self.bills()
        after = self.ledgers(Verdict())
        places.conclude([ledger.next for ledger in ledgers], [ledger.next for ledger in after], complete)
        later = read_plans(self.logs.read(topics.plans), keyed=True)
        prices.follow(later)
        if plans:
            check_closing(bills, plans[-1], ledgers, verdict)
        if gone:
            verdict.notes.append("records have been deleted by age: sums over topics are not compared")
        elif later:
            budgets = Budgets()
            for plan in [*log, *plans, *later]:
                budgets.see(plan)
            compare_ledgers(ledgers, books, verdict)
            check_spending(books, budgets, verdict)
            check_rights(later[-1], ledgers, books, verdict)
            if plans:
                check_grants(plans[-1], ledgers, budgets, verdict)
            check_bills(bills, books, budgets, verdict)
            if complete:
                check_up_to_date(bills_after, later[-1], ledgers, books, verdict)
        return verdict

    def bills(self) -> dict[int, PeriodSummary]:
        """By period."""
        return newest_bills(entry.value for entry in self.logs.read(self.topics.periods))

    def ledgers(self, verdict: Verdict) -> list[LedgerRecord]:
        """By lane, the overflow lane last."""
        entries: defaultdict[int, list[Entry]] = defaultdict(list)
        for entry in self.logs.read(self.topics.ledger, self.topics.overflow_ledger):
            entries[self.lanes if entry.topic == self.topics.overflow_ledger else entry.partition].append(
                entry
            )
        return [newest_ledger(lane, entries[lane], verdict) for lane in range(self.lanes + 1)]

    def inputs(self) -> list[Arrivals]:
        """By lane, the overflow lane last: its input's records."""
        found = [Arrivals(lane == self.lanes) for lane in range(self.lanes + 1)]
        for entry in self.logs.read(self.topics.queries, self.topics.overflow):
            deferred = entry.topic == self.topics.overflow
            lane = self.lanes if deferred else entry.partition
            found[lane].add(entry.offset, read_arrival(entry, deferred))
        self.verdict.queries = sum(len(inputs) for inputs in found[: self.lanes])
        return found

    def landings(self) -> Iterator[Landing]:
        """Everything that lanes wrote for queries."""
        verdict = self.verdict
        for entry in self.logs.read(*self.outputs):
            landing = read_landing(entry, self.topics, self.lanes)
            if landing is None:
                verdict.add("foreign", f"{entry.place}: is not what the router writes there")
                continue
            setattr(verdict, landing.kind, getattr(verdict, landing.kind) + 1)
            yield landing

    def gone(self) -> bool:
        """Records of some topic were deleted by age."""
        topics = self.topics
        kept = [*self.outputs, topics.queries, topics.reservations, topics.outcomes, topics.outcomes_dlq]
        return any(self.logs.first(name) for name in kept if name in self.logs.partitions())
