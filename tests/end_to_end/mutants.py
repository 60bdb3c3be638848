"""Messages with something wrong: every kind that has a name, and thousands made from sound ones by chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import orjson

ODD_VALUES: tuple[object, ...] = (
    None, True, -1, 0, 7, 1.5, 2**70, "", "\x00", "7", "x" * 600, "\ud800", [], {}, [1, "a"],
    {"a": {"b": []}},
)  # fmt: skip


def named_queries(sound: bytes) -> Iterator[bytes | None]:
    """One of each kind of query that is refused, out of a sound one that carries its embedding."""
    fields = orjson.loads(sound)
    text = sound.decode()
    deep = "[" * 5000 + "]" * 5000
    yield from (
        None, b"", b"null", b"[]", b'"text"', b"{", sound[:-1], b"\xff" + sound, b"\xef\xbb\xbf" + sound,
        text.encode("utf-16"), text.replace(fields["id"], "é").encode("latin-1"),
        sound[:-1] + b',"extra":NaN}', sound[:-1] + b',"extra":' + deep.encode() + b"}", b"[" * 100_000,
        orjson.dumps(fields | {"id": "x" * 2**20}), orjson.dumps(fields | {"prompt": "x" * (2**20 + 1)}),
        orjson.dumps(fields | {"extra": "x" * 2**22}),
        orjson.dumps(fields | {"embedding": fields["embedding"][:100]}),
        orjson.dumps(fields | {"embedding": [1e200] * 384}),
        orjson.dumps(fields | {"embedding": "AH4A" * 256}),
        orjson.dumps({key: value for key, value in fields.items() if key != "id"}),
        orjson.dumps({key: value for key, value in fields.items() if key != "prompt"}),
    )  # fmt: skip


def mutants(sound: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """So many messages, each a sound one with up to three changes by chance; some stay sound."""
    rng = random.Random(seed)
    for _ in range(count):
        value = rng.choice(sound)
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
    place = rng.randrange(len(value) + 1)
    return value[:place] + rng.randbytes(rng.randint(1, 40)) + value[place:]


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
