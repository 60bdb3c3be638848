"""Invalid queries become dead letters byte for byte, and the next query is routed.

Needs Apache Kafka (the fixture `kafka`).
"""

import orjson

from streams.audit.outputs import DEAD
from streams.messages.dead_letter import split_dead_letter_headers
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.router_under_test import assert_whole


def test_malformed_queries_become_dead_letters_and_the_next_is_routed(router: MakeRouter) -> None:
    stream = router(eps=0.01)
    stream.start()
    good = orjson.loads(stream.query(0)[1])
    bad: dict[str, tuple[bytes | None, str]] = {
        "not JSON": (b"{not json", "value"),
        "not UTF-8": (b'{"id":"\xff","prompt":"x"}', "value"),
        "a list": (b"[1, 2]", "value"),
        "no id": (b'{"prompt":"Why?"}', "id"),
        "no prompt": (b'{"id":"a"}', "prompt"),
        "a prompt that is not text": (b'{"id":"a","prompt":7}', "prompt"),
        "a prompt of 2 MB": (orjson.dumps({"id": "a", "prompt": "x" * 2**21}), "prompt"),
        "an embedding too short": (orjson.dumps(good | {"embedding": good["embedding"][:100]}), "embedding"),
        "an embedding of NaN": (orjson.dumps(good | {"embedding": "AH4A" * 256}), "embedding"),
        "an embedding that is not base64": (orjson.dumps(good | {"embedding": "?" * 1024}), "embedding"),
        "a tombstone": (None, "value"),
    }
    headers = [
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x", b"\x00\xff"),
    ]
    for number, (name, (value, _)) in enumerate(bad.items(), 1):
        stream.send_raw(name, value, key=b"key\x00" + name.encode(), headers=headers)
        stream.send_raw(*stream.query(number))
    stream.send(range(len(bad) + 1, 300))
    stream.all_landed()
    verdict = assert_whole(stream)
    assert verdict.dead == len(bad)
    for place, name in stream.sent.items():
        (landing,) = stream.landed[place]
        assert (landing.kind == DEAD) == (name in bad), name
        if name in bad:
            value, field = bad[name]
            original, error = split_dead_letter_headers(landing.entry.headers)
            assert landing.entry.value == value
            assert landing.entry.key == b"key\x00" + name.encode()
            assert original == headers
            assert (error["topic"], error["partition"]) == (stream.topics.queries, "0")
            assert int(error["offset"]) == place[1]
            assert error["stage"] == "decode"
            assert error["exception.message"].startswith(f"{field}: "), error["exception.message"]


def test_stream_of_invalid_queries_only_gives_dead_letters_before_a_plan(router: MakeRouter) -> None:
    """With warm-up `buffer` and no query to sample, there is no learned plan."""
    stream = router(partitions=2)
    stream.start()
    for number in range(6):
        stream.send_raw(f"bad-{number}", b'{"id":"a"}', partition=number % 2)
    stream.all_landed()
    assert stream.plan() is None or not stream.plan().learned
    stream.send(range(40))
    stream.all_landed()
    assert assert_whole(stream).dead == 6


def test_unknown_fields_keys_and_headers_are_forwarded_unchanged(router: MakeRouter) -> None:
    stream = router(eps=0.01)
    stream.start()
    fields = orjson.loads(stream.query(0)[1]) | {"team": {"n": 2**53 + 1}, "routing": "mine"}
    headers = [("traceparent", b"00-1-2-01"), ("twice", b"1"), ("twice", b"2")]
    stream.send_raw("one", orjson.dumps(fields | {"id": "one"}), key=b"\x00", headers=headers)
    stream.send(range(1, 200))
    stream.all_landed()
    assert_whole(stream)
    (landing,) = stream.landed[0, 0]
    assert landing.entry.key == b"\x00"
    assert landing.entry.headers == headers
    out = orjson.loads(landing.entry.value or b"")
    assert out["team"] == fields["team"]
    assert out["routing"]["offset"] == 0, "the router's field replaces the query's field of that name"
