"""Check that returned queries were processed once, and that accepted ones are on their topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from routing.budgets.money import to_pico
from streams.audit.findings import Findings
from streams.audit.topic_records import TopicRecord, TopicSource
from streams.audit.totals import Totals
from streams.config.topic_names import Topics
from streams.ledger.record import LedgerRecord
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.rejection import RejectedMessage
from streams.messages.returned import decode_returned


def check_returns(
    source: TopicSource,
    topics: Topics,
    totals: Totals,
    ledgers: Sequence[LedgerRecord],
    incomplete: bool,
    findings: Findings,
) -> None:
    """Compare the returns that lanes processed with the topic of returned queries.

    Parameters
    ----------
    source : TopicSource
    topics : Topics
    totals : Totals
        After all reservations were recorded.
    ledgers : sequence of LedgerRecord
        By lane, the overflow lane last; the topic is compared up to their positions.
    incomplete : bool
        Records may have been deleted by age.
    findings : Findings
    """
    rejected: Counter[tuple[int, int]] = Counter()
    for entry in source.read(topics.outcomes_dlq):
        _, error = split_dead_letter_headers(entry.headers)
        if error.get("topic") == topics.returned:
            rejected[int(error["partition"]), int(error["offset"])] += 1
    for (lane, offset), count in rejected.items():
        if count > 1:
            findings.add("settlement", f"return {lane}@{offset} was rejected {count} times")
    counts: list[Counter[str]] = [Counter() for _ in ledgers]
    returns: list[set[tuple[int, int, int]]] = [set() for _ in ledgers]
    for entry in source.read(topics.returned):
        lane = entry.partition
        if lane >= len(ledgers) or entry.offset >= ledgers[lane].returned_next:
            continue
        counts[lane]["all"] += 1
        if rejected[lane, entry.offset]:
            counts[lane]["rejected"] += 1
        elif (named := _read_return(entry, findings)) is not None:
            returns[lane].add(named)
    if incomplete:
        return
    for lane, ledger in enumerate(ledgers):
        accepted = {(*key, paid) for key, paid in totals.returned[lane].items()}
        for offset, attempt, _ in sorted(accepted ^ returns[lane]):
            findings.add(
                "settlement",
                f"the return of {lane}@{offset}, attempt {attempt}: its record and its settlement differ",
            )
        kinds = Counter(ledger.returns)
        rejected_kinds = kinds.total() - kinds["returned"] - kinds["duplicate"]
        in_ledger = kinds.total(), kinds["returned"], rejected_kinds
        in_topics = counts[lane]["all"], len(accepted), counts[lane]["rejected"]
        if in_ledger != in_topics:
            findings.add(
                "settlement",
                f"lane {lane} counted {in_ledger} returned queries (all, accepted, rejected); the topics "
                f"have {in_topics}",
            )


def _read_return(entry: TopicRecord, findings: Findings) -> tuple[int, int, int] | None:
    """Return offset, attempt and cost in picodollars of a return that was not rejected."""
    try:
        query = decode_returned(entry.value, entry.headers)
    except RejectedMessage as error:
        findings.add("settlement", f"{entry.place} was accepted although it is malformed: {error}")
        return None
    return query.routing.offset, query.routing.attempt, int(to_pico(query.cost))
