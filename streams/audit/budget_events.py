"""Check that each alert of a bill is one event on the topic of budget events, and no event is repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import orjson

from streams.audit.findings import Findings
from streams.audit.topic_records import TopicRecord
from streams.ledger.period_summary import PeriodSummary
from streams.messages.budget_event import EXHAUSTION

Alert = tuple[int, str, str]
"""Period, name of the counter, and alert as bills record it."""


def read_alerts(entries: Iterable[TopicRecord]) -> Counter[Alert]:
    """Count the events of each alert."""
    counts: Counter[Alert] = Counter()
    for entry in entries:
        if entry.value is not None:
            event = orjson.loads(entry.value)
            used = event["event"] != EXHAUSTION
            alert = f"{100 * event['threshold']:.0f}" if used else EXHAUSTION
            name = event["budget"] if event["value"] is None else f"{event['budget']}={event['value']}"
            counts[event["period"], name, alert] += 1
    return counts


def check_budget_events(
    before: Mapping[int, PeriodSummary],
    events: Counter[Alert],
    after: Mapping[int, PeriodSummary],
    trimmed: bool,
    findings: Findings,
) -> None:
    """Compare events with the alerts that bills record.

    Parameters
    ----------
    before : mapping of int to PeriodSummary
        Bills that were read before the events.
    events : Counter of Alert
    after : mapping of int to PeriodSummary
        Bills that were read after the events.
    trimmed : bool
        Old events were deleted by age.
    findings : Findings
    """
    for (period, name, alert), count in sorted(events.items()):
        where = f"period {period}, budget {name}: the event {alert}"
        if count > 1:
            findings.add("bill", f"{where} is on its topic {count} times")
        if period not in after or alert not in after[period].alerts.get(name, ()):
            findings.add("bill", f"{where} is not in the bill")
    for period, bill in before.items():
        for name, alerts in bill.alerts.items():
            for alert in alerts:
                if not events[period, name, alert] and not trimmed:
                    findings.add("bill", f"period {period}, budget {name}: the event {alert} is missing")
