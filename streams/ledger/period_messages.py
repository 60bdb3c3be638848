"""Bills as messages on their compacted topic: one for each period, and one for each value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace

import orjson

from streams.ledger.period_summary import CounterTotal, PeriodSummary, decode_period, encode_period

SEPARATOR = b"/"
"""Between the period and the counter's name in the key of a counter."""


def period_of_key(key: bytes) -> int:
    """Return the period of a message's key.

    Examples
    --------
    >>> period_of_key(b"3"), period_of_key(b"3/team=a/b")
    (3, 3)
    """
    return int(key.split(SEPARATOR, 1)[0])


def is_counter_key(key: bytes | None) -> bool:
    """Return True if the message has one counter, and False if it has the rest of a period's bill."""
    return key is not None and SEPARATOR in key


def period_messages(summary: PeriodSummary, before: PeriodSummary | None) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of the messages of a bill: the values that changed, then the rest of the bill.

    The size of the rest does not depend on the number of values.

    Parameters
    ----------
    summary : PeriodSummary
    before : PeriodSummary or None
        The bill on the topic; None to write all of it.
    """
    period = b"%d" % summary.period
    known = {} if before is None else {one.name: one for one in before.counters}
    for counter in summary.counters:
        if counter.value is None:
            continue
        alerts = summary.alerts.get(counter.name, [])
        if known.get(counter.name) != counter or (before and before.alerts.get(counter.name, []) != alerts):
            key = period + SEPARATOR + counter.name.encode()
            yield key, orjson.dumps({"period": summary.period, **asdict(counter), "alerts": alerts})
    values = {counter.name for counter in summary.counters if counter.value is not None}
    fixed = [counter for counter in summary.counters if counter.value is None]
    alerts_of_fixed = {name: alerts for name, alerts in summary.alerts.items() if name not in values}
    yield period, encode_period(replace(summary, counters=fixed, alerts=alerts_of_fixed))


class PeriodAssembler:
    """Assembles bills from the messages of the compacted topic, in order.

    The rest of a bill is the last message of its transaction.
    """

    def __init__(self) -> None:
        self._counters: defaultdict[int, dict[bytes, CounterTotal]] = defaultdict(dict)
        self._alerts: defaultdict[int, dict[str, list[str]]] = defaultdict(dict)

    def append(self, key: bytes | None, value: bytes | None) -> PeriodSummary | None:
        """Append a message; return the bill that it completes, or None."""
        if value is None:
            return None
        if key is not None and is_counter_key(key):
            data = orjson.loads(value)
            period, alerts = data["period"], data["alerts"]
            counter = self._counters[period][key] = CounterTotal.of(data)
            if alerts:
                self._alerts[period][counter.name] = alerts
            return None
        summary = decode_period(value)
        values = self._counters.get(summary.period, {})
        return replace(
            summary,
            counters=[*summary.counters, *values.values()],
            alerts=summary.alerts | self._alerts.get(summary.period, {}),
        )


def newest_periods(messages: Iterable[tuple[bytes | None, bytes | None]]) -> dict[int, PeriodSummary]:
    """Return the newest bill of each period, the oldest period first, from keys and values of the topic."""
    assembler, newest = PeriodAssembler(), dict[int, PeriodSummary]()
    for key, value in messages:
        if (summary := assembler.append(key, value)) is not None:
            newest[summary.period] = summary
    return {period: newest[period] for period in sorted(newest)}
