"""Check of all invariants over the topics, as a `read_committed` consumer sees them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from streams.audit.bills import check_bills, check_closing, check_up_to_date, newest_bills
from streams.audit.budget_events import Alert, check_budget_events, read_alerts
from streams.audit.deleted import check_deleted
from streams.audit.findings import Findings
from streams.audit.forwarded import ForwardedCopies
from streams.audit.inputs import InputColumns
from streams.audit.ledgers import (
    Budgets,
    check_granted_budgets,
    check_lane_grants,
    check_spending,
    compare_ledgers,
    newest_ledger,
)
from streams.audit.outputs import OutputRecord, decode_input, read_output
from streams.audit.placement import Placement
from streams.audit.plans import PlanPrices, check_samples, read_plans
from streams.audit.returned import check_returns
from streams.audit.topic_records import TopicRecord, TopicSource
from streams.audit.totals import Totals
from streams.config.topic_names import Topics
from streams.ledger.period_summary import PeriodSummary
from streams.ledger.record import LedgerRecord

__all__ = ["Findings", "check"]


def check(source: TopicSource, topics: Topics, *, complete: bool = False) -> Findings:
    """Read every topic from its beginning and check the invariants.

    1. Every decided query is on exactly one topic, once and unaltered: an LLM's topic, the unserved queries
       or the dead letters; once more for each attempt that a fleet returned. Queries that no lane has reached
       count as waiting.
    2. Each ledger equals the sum of the output topics, settlement included, and so does each of its counters
       of shared and grouped budgets, by the draws that reservations name. For each lane,
       granted - released - charged is never negative. Over all lanes, granted - released is at most the
       budget, and so are a period's charges. Amounts that settled above their reservation are reported and
       excluded. Real cost above a budget is a finding; it is a violation if the queries reserved bounds.
    3. A lane's `next` is the offset after its last decision.
    4. Bills equal the sums of the topics by LLM and by counter, with the budgets of the plans. Closed and
       final amounts are exact; amounts that may still change are at most those of the topics. Bills close in
       the order of periods. Each of their alerts is one event of a budget.
    5. Each plan version has one set of prices, and queries were routed by them. No query was sampled twice.

    The check may run beside workers: it sums the topics up to the ledgers that it read first.

    Parameters
    ----------
    source : TopicSource
    topics : Topics
    complete : bool
        No more records will come: waiting queries count as missing, and bills that are behind as wrong.

    Returns
    -------
    Findings

    Raises
    ------
    ValueError
        The topic of queries does not exist.
    """
    return _Check(source, topics, Findings()).run(complete)


class _Check:
    """One run of the audit."""

    def __init__(self, source: TopicSource, topics: Topics, findings: Findings) -> None:
        self.source, self.topics, self.findings = source, topics, findings
        partitions = source.partitions()
        if topics.queries not in partitions:
            raise ValueError(f"topic {topics.queries}: does not exist; set PORT_TOPIC_PREFIX to the router's")
        self.starts: dict[str, Mapping[int, int]] = {}
        self.lanes = self.lanes_of_plan() or partitions.get(topics.ledger, partitions[topics.queries])
        self.llms = sorted(name for name in partitions if name.startswith(topics.llm("")))
        self.outputs = [*self.llms, topics.unserved, topics.dlq, topics.overflow]
        inputs = [topics.queries, topics.reservations, topics.outcomes, topics.outcomes_dlq, topics.returned]
        self.kept = [name for name in (*self.outputs, *inputs) if name in partitions]
        """Topics that keep every record; ledgers and bills are recomputed from their sums."""

    def run(self, complete: bool) -> Findings:
        """Read plan, bills, ledgers, topics, bills, ledgers and plan, in this order."""
        findings, topics = self.findings, self.topics
        starts = self.starts = {name: self.source.starts(name) for name in self.kept}
        plans = read_plans(self.source.read(topics.plans), keyed=True)
        bills = self.bills()
        ledgers = self.ledgers(findings)
        check_deleted(topics, ledgers, starts, self.source, findings)
        inputs = self.inputs(complete)
        incomplete = any(any(first.values()) for first in starts.values())
        plan_log = read_plans(self.source.read(topics.plan_log), keyed=False)
        totals = Totals(ledgers, incomplete, findings, [*plan_log, *plans])
        for entry in self.source.read(topics.reservations):
            totals.record_reservations(entry)
        placement = Placement(topics, inputs, incomplete, findings, totals.returns)
        prices = PlanPrices(findings)
        prices.record_plans(plan_log)
        for output in self.read_outputs():
            totals.record_output(output, placement.record(output))
            prices.record_output(output)
        totals.settle(
            self.source.read(topics.outcomes), self.source.read(topics.outcomes_dlq), topics.outcomes
        )
        check_returns(self.source, topics, totals, ledgers, incomplete, findings)
        totals.conclude()
        check_samples(self.source.read(topics.samples), ledgers, findings)
        events, trimmed = self.budget_alerts()
        bills_after = self.bills()
        check_budget_events(bills, events, bills_after, trimmed, findings)
        after = self.ledgers(Findings())
        placement.conclude(ledgers, after, complete)
        later = read_plans(self.source.read(topics.plans), keyed=True)
        prices.record_plans(later)
        if plans:
            check_closing(bills, plans[-1], ledgers, findings)
        if incomplete:
            findings.notes.append("records have been deleted by age: sums over topics are not compared")
        elif later:
            budgets = Budgets()
            for plan in [*plan_log, *plans, *later]:
                budgets.record(plan)
            compare_ledgers(ledgers, totals, findings)
            check_spending(totals, budgets, findings)
            check_lane_grants(later[-1], ledgers, totals, findings)
            if plans:
                check_granted_budgets(plans[-1], ledgers, budgets, findings)
            check_bills(bills, totals, budgets, findings)
            if complete:
                check_up_to_date(bills_after, later[-1], ledgers, totals, findings)
        return findings

    def bills(self) -> dict[int, PeriodSummary]:
        """Return the newest bill of each period."""
        return newest_bills(self.source.read(self.topics.periods))

    def budget_alerts(self) -> tuple[Counter[Alert], bool]:
        """Return the events of budgets, and whether old ones were deleted by age."""
        topic = self.topics.budget_events
        trimmed = any(self.source.starts(topic).values()) if topic in self.source.partitions() else False
        return read_alerts(self.source.read(topic)), trimmed

    def ledgers(self, findings: Findings) -> list[LedgerRecord]:
        """Return the records in force by lane, the overflow lane last."""
        entries: defaultdict[int, list[TopicRecord]] = defaultdict(list)
        for entry in self.source.read(self.topics.ledger, self.topics.overflow_ledger):
            entries[self.lanes if entry.topic == self.topics.overflow_ledger else entry.partition].append(
                entry
            )
        return [newest_ledger(lane, entries[lane], findings) for lane in range(self.lanes + 1)]

    def lanes_of_plan(self) -> int:
        """Return the lanes of the queries by the plan in force, 0 without a plan.

        The topic of queries may have more partitions: those that were added later have no lane.
        """
        plans = read_plans(self.source.read(self.topics.plans), keyed=True)
        return plans[-1].lanes - plans[-1].overflow if plans else 0

    def inputs(self, complete: bool) -> list[InputColumns]:
        """Return the input records of each lane, the overflow lane last."""
        by_lane = [InputColumns(lane == self.lanes) for lane in range(self.lanes + 1)]
        copies = ForwardedCopies(self.source, self.topics, self.lanes)
        for entry in self.source.read(self.topics.queries, self.topics.overflow):
            deferred = entry.topic == self.topics.overflow
            lane = self.lanes if deferred else entry.partition
            if not deferred and lane >= self.lanes:
                if copies.add(entry):
                    self.findings.forwarded += 1
                    continue
                self.findings.unread += 1
                if complete:
                    self.findings.add("missing", f"{entry.place}: is on an added partition, not forwarded")
                continue
            if deferred and entry.partition:
                continue
            by_lane[lane].append(entry.offset, decode_input(entry, deferred))
        if complete and not any(self.starts[self.topics.queries].values()):
            copies.check(by_lane[: self.lanes], self.findings)
        self.findings.queries = sum(len(inputs) for inputs in by_lane[: self.lanes])
        return by_lane

    def read_outputs(self) -> Iterator[OutputRecord]:
        """Yield the outputs of all lanes, and count them by kind."""
        findings = self.findings
        for entry in self.source.read(*self.outputs):
            output = read_output(entry, self.topics, self.lanes)
            if output is None:
                findings.add("foreign", f"{entry.place}: is not an output of the router")
                continue
            setattr(findings, output.kind, getattr(findings, output.kind) + 1)
            yield output
