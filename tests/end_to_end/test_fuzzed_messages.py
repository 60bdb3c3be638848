"""Thousands of invalid messages: none stops the stream, and each becomes a dead letter byte for byte.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

import random
from collections import Counter

from streams.audit.outputs import DEAD
from streams.kafka.clients import reader_config
from streams.kafka.reading import read_to_end
from streams.messages.dead_letter import split_dead_letter_headers
from streams.messages.headers import headers_of
from streams.messages.outcome import decode_outcome
from streams.messages.query import (
    decode_query,
    stack_embeddings,
)
from streams.messages.rejection import RejectedMessage
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.mutants import mutants, named_queries
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.raw_header_records import send_raw

SEED = 20_261_125
DIMENSION = 384


def is_valid(value: bytes | None) -> bool:
    """Return whether the decoder accepts a query; queries without an embedding count as valid."""
    try:
        query = decode_query(value, DIMENSION)
    except RejectedMessage:
        return False
    return not stack_embeddings([query], DIMENSION).refused


def test_fuzzed_queries_are_routed_or_become_dead_letters(router: MakeRouter) -> None:
    stream = router(warmup="history", partitions=2)
    stream.start()
    rng = random.Random(SEED)
    sound = [stream.query(row)[1] for row in range(50)]
    values = [*named_queries(sound[0]), *mutants(sound, 3000, SEED)]
    # Skip queries to embed: MiniLM takes 20 ms for each, and is not under test.
    values = [value for value in values if not is_valid(value) or b'"embedding":"' in (value or b"")]
    expected: dict[tuple[str, bytes], object] = {}
    for number, value in enumerate(values):
        key, headers = (
            rng.randbytes(rng.randint(1, 9)),
            [("h", rng.randbytes(rng.randint(0, 9)))] * rng.randint(0, 3),
        )
        stream.send_raw(f"bad-{number}", value, key=key, headers=headers, partition=number % 2, flush=False)
        expected[f"bad-{number}", key] = (value, headers)
        if number % 100 == 0:
            stream.send_raw(*stream.query(number), partition=number % 2, flush=False)
    stream.producer.flush(60)
    stream.all_landed()
    verdict = assert_whole(stream)
    kinds = Counter()
    for place, name in stream.sent.items():
        (landing,) = stream.landed[place]
        content = expected.get((name, landing.entry.key or b""))
        dead = landing.kind == DEAD
        kinds[dead, content is None] += 1
        if content is None:
            assert not dead, name
            continue
        value, headers = content
        assert dead == (not is_valid(value)), value
        if dead:
            original, _ = split_dead_letter_headers(landing.entry.headers)
            assert (landing.entry.value, original) == (value, headers)
    assert verdict.dead == kinds[True, False] > 1500
    assert kinds[False, False] > 50, "some mutants are still valid"


async def test_header_name_that_is_not_utf8_becomes_a_dead_letter(router: MakeRouter) -> None:
    stream = router(warmup="history")
    stream.start()
    stream.send(range(20))
    odd, value = b"caf\xe9", stream.query(20)[1]
    first = await send_raw(
        stream.settings.brokers(),
        stream.topics.queries,
        0,
        [(stream.query(21)[1], [(b"trace", b"1")]), (value, [(b"trace", b"2"), (odd, b"\xff")])],
    )
    for number, identity in enumerate((stream.query(21)[0], stream.query(20)[0])):
        stream.sent[0, first + number] = identity
    stream.send(range(30, 50))
    stream.all_landed()
    verdict = assert_whole(stream)
    assert verdict.dead == 1
    (landing,) = stream.landed[0, first + 1]
    original, error = split_dead_letter_headers(landing.entry.headers)
    assert (landing.kind, landing.entry.value, landing.entry.key) == (DEAD, value, b"k1")
    assert original == [("trace", b"2"), ("caf\\xe9", b"\xff")]
    assert error["exception.message"] == f"headers: the name {odd!r} is not UTF-8; send names as UTF-8"


def outcome_letters(stream: Router) -> list[tuple[bytes | None, bytes | None, object]]:
    config = reader_config(stream.settings)
    return [
        (message.key(), message.value(), split_dead_letter_headers(headers_of(message))[0])
        for partition in range(stream.settings.partitions)
        for message in read_to_end(config, stream.topics.outcomes_dlq, partition)
    ]


async def test_fuzzed_outcomes_settle_or_become_dead_letters(router: MakeRouter) -> None:
    stream = router(warmup="history")
    stream.start()
    stream.send(range(100))
    stream.all_landed()
    sound = []
    for landing in stream.served():
        stream.answer(landing)
        sound.append(landing)
    stream.settled(len(sound))
    topic = stream.topics.outcomes
    values: list[bytes | None] = [None, b"", b"[]", b"\xff", b"[" * 100_000]
    outcomes = [
        b'{"id":"%s","model":"%s","cost":1e-6,"partition":0,"offset":%d}'
        % (landing.id.encode(), (landing.model or "").encode(), landing.offset)
        for landing in sound
    ]
    values += list(mutants(outcomes, 2000, SEED))
    rejected = []
    for number, value in enumerate(values):
        headers = [("h", b"%d" % number)]
        stream.producer.produce(topic, value, b"key-%d" % number, partition=0, headers=headers)
        try:
            decode_outcome(value)
        except RejectedMessage:
            rejected.append((b"key-%d" % number, value, headers))
    # Consumers return no headers at all for such a record.
    await send_raw(stream.settings.brokers(), topic, 0, [(b"no outcome", [(b"\xff", b"1")])])
    stream.settled(len(sound) + len(values) + 1)
    letters = outcome_letters(stream)
    assert (b"k0", b"no outcome", []) in letters
    assert len(rejected) > 1000
    for letter in rejected:
        assert letters.count(letter) == 1, letter
    stream.send(range(100, 120))
    stream.all_landed()
    assert_whole(stream)
