"""Check of every recorded message of a router against the schema of its topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import orjson

from streams.audit.topic_records import TopicRecord
from streams.config.topic_names import Topics
from streams.kafka.asyncapi_channels import CHANNELS
from streams.messages.deferred import split_overflow_header
from streams.messages.outcome import decode_outcome
from streams.messages.query import decode_query
from streams.messages.rejection import RejectedMessage
from tests.end_to_end.recorded_topics import Recorded
from tests.streams.messages.schema_strategies import validator

KEYS: dict[str, Callable[[bytes], str]] = {
    "bills": lambda key: "period-counter" if b"/" in key else "period",
    "planInForce": lambda key: "plan-counter" if b"/" in key else "plan-head",
    "catalogue": lambda key: key.partition(b"/")[0].decode(),
    "ledger": lambda key: ("ledger", "ledger-account", "ledger-counter")[min(key.count(b"/"), 2)],
    "status": lambda key: "heartbeat" if key.startswith(b"worker.") else "timeline-point",
}
"""Name of the message by its key, on topics with several."""
KEYS["overflowLedger"] = KEYS["ledger"]

INPUTS = {"query": lambda value: decode_query(value, None), "outcome": decode_outcome}
"""Messages of programs outside, which may be invalid: the router rejects those."""


def assert_records_fit_their_schemas(recorded: Recorded) -> Counter[str]:
    """Assert that every record fits its schema; return the number of records by the message's name."""
    counts: Counter[str] = Counter()
    for name in CHANNELS:
        for entry in _records(recorded, name):
            if entry.value is not None or name == "deadLetters":
                counts[_check(name, entry)] += 1
    return counts


def _records(recorded: Recorded, channel: str) -> list[TopicRecord]:
    topics: Topics = recorded.topics
    if channel == "llm":
        llms = [topic for topic in recorded.entries if topic.startswith(topics.llm(""))]
        return [entry for topic in llms for entry in recorded.entries[topic]]
    return recorded.entries.get(getattr(topics, CHANNELS[channel].topic), [])


def _check(channel: str, entry: TopicRecord) -> str:
    """Check one record, and return the name of its message."""
    names = CHANNELS[channel].messages
    name = names[0] if len(names) == 1 else KEYS[channel](entry.key or b"")
    assert name in names, entry.place
    if name == "file-piece":
        return name
    if name == "dead-letter":
        _validate("dead-letter-headers", _added(entry), entry)
        return name
    if name == "returned-query":
        _validate("returned-query-headers", _added(entry), entry)
    elif name == "deferred-query":
        _validate(
            "deferred-query-header", orjson.loads(split_overflow_header(entry.headers)[1] or b""), entry
        )
    value = {"returned-query": "routed-query", "deferred-query": "query"}.get(name, name)
    if value in INPUTS:
        try:
            INPUTS[value](entry.value)
        except RejectedMessage:
            return "invalid"
    _validate(value, orjson.loads(entry.value or b""), entry)
    return name


def _added(entry: TopicRecord) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in entry.headers if name.startswith("__router.")}


def _validate(name: str, fields: object, entry: TopicRecord) -> None:
    problems = [
        f"{list(error.absolute_path)}: {error.message}" for error in validator(name).iter_errors(fields)
    ]
    assert not problems, (entry.place, name, problems)
