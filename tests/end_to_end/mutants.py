"""Invalid messages: one of each kind, and random mutants of valid ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import orjson

ODD_VALUES: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    7,
    1.5,
    2**70,
    "",
    "\x00",
    "7",
    "x" * 600,
    "\ud800",
    [],
    {},
    [1, "a"],
    {"a": {"b": []}},
)


def named_queries(valid: bytes) -> Iterator[bytes | None]:
    """Yield one query of each rejected kind, derived from a valid one with an embedding."""
    fields = orjson.loads(valid)
    text = valid.decode()
    deep = "[" * 5000 + "]" * 5000
    yield from (
        None,
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        valid[:-1],
        b"\xff" + valid,
        b"\xef\xbb\xbf" + valid,
        text.encode("utf-16"),
        text.replace(fields["id"], "é").encode("latin-1"),
        valid[:-1] + b',"extra":NaN}',
        valid[:-1] + b',"extra":' + deep.encode() + b"}",
        b"[" * 100_000,
        orjson.dumps(fields | {"id": "x" * 2**20}),
        orjson.dumps(fields | {"prompt": "x" * (2**20 + 1)}),
        orjson.dumps(fields | {"extra": "x" * 2**22}),
        orjson.dumps(fields | {"embedding": fields["embedding"][:100]}),
        orjson.dumps(fields | {"embedding": [1e200] * 384}),
        orjson.dumps(fields | {"embedding": "AH4A" * 256}),
        orjson.dumps({key: value for key, value in fields.items() if key != "id"}),
        orjson.dumps({key: value for key, value in fields.items() if key != "prompt"}),
    )


def mutants(valid: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield `count` valid messages, each with one to three random changes; some stay valid."""
    rng = random.Random(seed)
    for _ in range(count):
        value = rng.choice(valid)
        for _ in range(rng.randint(1, 3)):
            value = rng.choice(CHANGES)(value, rng)
        yield value


def _flipped(value: bytes, rng: random.Random) -> bytes:
    data = bytearray(value or b"x")
    data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _cut(value: bytes, rng: random.Random) -> bytes:
    return value[: rng.randrange(len(value) + 1)]


def _stretched(value: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(value) + 1)
    return value[:position] + rng.randbytes(rng.randint(1, 40)) + value[position:]


def _retyped(value: bytes, rng: random.Random) -> bytes:
    try:
        fields = orjson.loads(value)
        name = rng.choice([*fields, "metadata", "max_tokens", "routing", "reason"])
        return orjson.dumps(fields | {name: rng.choice(ODD_VALUES)})
    except (ValueError, TypeError):
        return value


def _dropped(value: bytes, rng: random.Random) -> bytes:
    try:
        fields = orjson.loads(value)
        fields.pop(rng.choice(list(fields)))
        return orjson.dumps(fields)
    except (ValueError, TypeError, AttributeError, IndexError):
        return value


Change = Callable[[bytes, random.Random], bytes]
CHANGES: tuple[Change, ...] = (_flipped, _cut, _stretched, _retyped, _dropped)
