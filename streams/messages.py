"""The wire formats: queries and outcomes in, routed and unserved queries and samples out.

This is the hot path: a decode and an encode are a few microseconds. A message that goes on is not written
again but extended: its own bytes stay as they came, so unknown fields, large numbers and spelling travel on
untouched.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from streams.json_members import without_members

MAX_VALUE_BYTES = 4 * 2**20
"""A message may have so many bytes, all fields together and however they are spelled."""
MAX_PROMPT_BYTES = 2**20
"""Of a prompt as UTF-8."""
MAX_ID_CHARACTERS = 512
MAX_TOKENS = 10_000_000
MAX_OUTCOME_USD = 1000.0
"""Of one answer. Thousands of these still fit a ledger's integers; tokens reported as dollars would not."""
ADDED_FIELDS = ("routing", "reason")
"""What the router adds to a query. An incoming query's own fields of these names are replaced."""


class Refused(Exception):  # noqa: N818 - not a fault of the program: data that is told to its sender
    """A message that cannot be used.

    Parameters
    ----------
    stage : str
        Where it was refused: "decode" or "embed".
    field : str
        The field that is wrong; "value" is the whole message.
    reason : str
        What is wrong and what would be right.
    """

    def __init__(self, stage: str, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.stage = stage
        self.field = field
        self.reason = reason


@dataclass(slots=True)
class Query:
    """A query as it came.

    Parameters
    ----------
    id, prompt : str
    embedding : bytes or None
        Little-endian float16, as many as the router's embedding has dimensions; not yet of unit length.
    max_tokens : int or None
        Most tokens that the answer may have.
    fields : dict
        All fields of the message, unknown ones too.
    value : bytes
        The message's bytes; what goes on is this, extended.
    """

    id: str
    prompt: str
    embedding: bytes | None
    max_tokens: int | None
    fields: dict[str, Any]
    value: bytes


@dataclass(slots=True)
class Outcome:
    """What answering a query really cost, in USD, and how good the answer was (0 to 1, if known)."""

    id: str
    model: str
    cost: float
    quality: float | None
    partition: int
    offset: int


class Embedded(NamedTuple):
    """The embeddings that a batch of queries carries.

    Parameters
    ----------
    matrix : ndarray of float32, shape [n, d]
        Unit rows; zero for a query that is missing or refused.
    missing : ndarray of bool, shape [n]
        The queries without an embedding: to be embedded.
    refused : dict of int to Refused
        Rows whose embedding has no direction: NaN, infinite or zero.
    """

    matrix: NDArray[np.float32]
    missing: NDArray[np.bool_]
    refused: dict[int, Refused]


def decode_query(value: bytes | None, dimension: int | None) -> Query:
    """A query out of a message's value.

    Parameters
    ----------
    value : bytes or None
        JSON, UTF-8.
    dimension : int or None
        Length d of an embedding; None: embeddings are not looked at.

    Raises
    ------
    Refused
        Stage "decode", with the first field that is wrong. Whether the numbers of an embedding make sense is
        looked at for a whole batch, by `stack_embeddings`.

    Examples
    --------
    >>> decode_query(b'{"id": "a", "prompt": "Why?", "team": 7}', 384).fields["team"]
    7
    """
    fields = _decode_object(value)
    prompt = fields.get("prompt")
    if type(prompt) is not str or not prompt:
        raise Refused("decode", "prompt", f"{_shown(fields, 'prompt')} must be a text that is not empty")
    if len(prompt) * 4 > MAX_PROMPT_BYTES and (size := len(prompt.encode())) > MAX_PROMPT_BYTES:
        raise Refused("decode", "prompt", f"has {size} bytes; at most {MAX_PROMPT_BYTES} are taken")
    max_tokens = fields.get("max_tokens")
    if max_tokens is not None and (type(max_tokens) is not int or not 0 < max_tokens <= MAX_TOKENS):
        raise Refused(
            "decode",
            "max_tokens",
            f"{_shown(fields, 'max_tokens')} must be a whole number from 1 to {MAX_TOKENS}",
        )
    metadata = fields.get("metadata")
    if metadata is not None and type(metadata) is not dict:
        raise Refused("decode", "metadata", f"{_shown(fields, 'metadata')} must be an object")
    given = fields.get("embedding")
    embedding = None if given is None or dimension is None else _decode_embedding(given, dimension)
    assert value is not None
    if "routing" in fields or "reason" in fields:
        fields = {name: content for name, content in fields.items() if name not in ADDED_FIELDS}
        value = without_members(value, ADDED_FIELDS)
    return Query(_text_id(fields), prompt, embedding, max_tokens, fields, value)


def stack_embeddings(queries: Sequence[Query], dimension: int) -> Embedded:
    """The embeddings of a batch as unit rows, with those that are missing or useless marked.

    Parameters
    ----------
    queries : sequence of Query, length n
    dimension : int
        Length d of an embedding.

    Returns
    -------
    Embedded

    Examples
    --------
    >>> from base64 import b64encode
    >>> carried = b64encode(np.array([3, 4], "<f2")).decode()
    >>> value = orjson.dumps({"id": "a", "prompt": "Why?", "embedding": carried})
    >>> stack_embeddings([decode_query(value, 2)], 2).matrix.round(4).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    blank = bytes(2 * dimension)
    raw = b"".join([blank if query.embedding is None else query.embedding for query in queries])
    matrix = np.frombuffer(raw, "<f2").reshape(len(queries), dimension).astype(np.float32)
    missing = np.fromiter((query.embedding is None for query in queries), bool, len(queries))
    norms = np.sqrt(np.einsum("nd,nd->n", matrix, matrix))
    # a sum of float16 squares cannot overflow float32, so only NaN and infinity make this false
    fine = np.isfinite(norms) & (norms > 0)
    refused = {}
    if not np.all(fine | missing):
        for row in np.flatnonzero(~fine & ~missing):
            reason = (
                "is zero in every dimension" if norms[row] == 0 else "has a number that is NaN or infinite"
            )
            refused[int(row)] = Refused("decode", "embedding", f"{reason}; send a vector with a direction")
    norms[~fine] = 1
    matrix[~fine] = 0
    matrix /= norms[:, None]
    return Embedded(matrix, missing, refused)


def encode_routed(query: Query, routing: Mapping[str, Any]) -> bytes:
    """The query with `"routing"` added: model, quality, cost (USD), price, plan, partition, offset and so on.

    Examples
    --------
    >>> encode_routed(decode_query(b'{"id":"a","prompt":"Why?"}', None), {"model": "gpt-4"})
    b'{"id":"a","prompt":"Why?","routing":{"model":"gpt-4"}}'
    """
    return query.value.rstrip()[:-1] + b',"routing":' + orjson.dumps(routing, option=_NUMPY) + b"}"


def encode_unserved(query: Query, reason: str, routing: Mapping[str, Any]) -> bytes:
    """The query with `"reason"` (why no LLM gets it) and `"routing"` added."""
    added = orjson.dumps({"reason": reason, "routing": routing}, option=_NUMPY)
    return query.value.rstrip()[:-1] + b"," + added[1:]


def decode_outcome(value: bytes | None) -> Outcome:
    """An outcome out of a message's value.

    Raises
    ------
    Refused
        Stage "decode", with the first field that is wrong.

    Examples
    --------
    >>> decode_outcome(b'{"id": "a", "model": "gpt-4", "cost": 0.01, "partition": 0, "offset": 7}').cost
    0.01
    """
    fields = _decode_object(value)
    model = fields.get("model")
    if type(model) is not str or not model:
        raise Refused("decode", "model", f"{_shown(fields, 'model')} must be the name of an LLM")
    cost = _number(fields, "cost", MAX_OUTCOME_USD)
    if cost is None:
        raise Refused("decode", "cost", "is missing; send USD")
    quality = _number(fields, "quality", 1.0)
    places = []
    for name in ("partition", "offset"):
        place = fields.get(name)
        if type(place) is not int or not 0 <= place < 2**63:
            raise Refused(
                "decode", name, f"{_shown(fields, name)} must be the whole number that `routing` has"
            )
        places.append(place)
    return Outcome(_text_id(fields), model, cost, quality, *places)


def encode_outcome(outcome: Outcome) -> bytes:
    """An outcome as a message's value."""
    fields = {
        "id": outcome.id,
        "model": outcome.model,
        "cost": outcome.cost,
        "partition": outcome.partition,
        "offset": outcome.offset,
    }
    if outcome.quality is not None:
        fields["quality"] = outcome.quality
    return orjson.dumps(fields)


def encode_samples(
    header: Mapping[str, Any], quality: NDArray[np.floating], cost: NDArray[np.floating], dtype: str = "<f4"
) -> bytes:
    """Estimates of a batch of queries, in one message.

    Parameters
    ----------
    header : mapping
        Plain data that goes with them, such as period, partition and offsets.
    quality, cost : ndarray, shape [n, M]
        Cost in USD.
    dtype : str
        What the numbers are sent as: "<f4", or "<f8" for every digit.
    """
    if quality.ndim != 2 or quality.shape != cost.shape:
        raise ValueError(f"quality {quality.shape} and cost {cost.shape} must both be [n, M]")
    body = {
        **header,
        "shape": quality.shape,
        "dtype": dtype,
        "quality": _to_base64(quality, dtype),
        "cost": _to_base64(cost, dtype),
    }
    return orjson.dumps(body, option=_NUMPY)


def decode_samples(value: bytes | None) -> tuple[dict[str, Any], NDArray[np.float64], NDArray[np.float64]]:
    """What `encode_samples` wrote: header, quality [n, M] and cost [n, M] in USD.

    Raises
    ------
    Refused
        The message is none of ours.
    """
    fields = _decode_object(value)
    shape, dtype = fields.pop("shape", None), fields.pop("dtype", None)
    texts = fields.pop("quality", None), fields.pop("cost", None)
    if dtype not in ("<f4", "<f8") or not isinstance(shape, list) or len(shape) != 2:
        raise Refused("decode", "shape", f"{shape} of {dtype} must be [n, M] of <f4 or <f8")
    try:
        quality, cost = (
            np.frombuffer(binascii.a2b_base64(text, strict_mode=True), dtype)
            .reshape(shape)
            .astype(np.float64)
            for text in texts
        )
    except (TypeError, ValueError) as error:
        raise Refused("decode", "quality, cost", f"are not base64 of {shape} numbers ({error})") from None
    return fields, quality, cost


def encode_embedding(vector: NDArray[np.floating]) -> str:
    """A vector as queries carry it: base64 of little-endian float16."""
    return _to_base64(vector, "<f2")


_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def _decode_object(value: bytes | None) -> dict[str, Any]:
    if value is None:
        raise Refused("decode", "value", "is null; send a JSON object")
    if len(value) > MAX_VALUE_BYTES:
        raise Refused("decode", "value", f"has {len(value)} bytes; at most {MAX_VALUE_BYTES} are taken")
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Refused("decode", "value", f"is not JSON in UTF-8 ({error})") from None
    if type(fields) is not dict:
        raise Refused("decode", "value", f"is JSON, but a {type(fields).__name__}; send an object")
    return fields


def _text_id(fields: dict[str, Any]) -> str:
    text = fields.get("id")
    if type(text) is not str or not text:
        raise Refused("decode", "id", f"{_shown(fields, 'id')} must be a text that is not empty")
    if len(text) > MAX_ID_CHARACTERS:
        raise Refused("decode", "id", f"has {len(text)} characters; at most {MAX_ID_CHARACTERS} are taken")
    return text


def _decode_embedding(given: object, dimension: int) -> bytes:
    size = 2 * dimension
    if type(given) is str:
        try:
            raw = pybase64.b64decode(given, validate=True)
        except ValueError as error:
            raise Refused("decode", "embedding", f"is not base64 ({error})") from None
        if len(raw) != size:
            raise Refused(
                "decode",
                "embedding",
                f"has {len(raw)} bytes; {dimension} numbers of float16 are {size} bytes",
            )
        return raw
    if type(given) is not list:
        raise Refused("decode", "embedding", f"is a {type(given).__name__}; send base64 or a list of numbers")
    if len(given) != dimension:
        raise Refused("decode", "embedding", f"has {len(given)} numbers; the router's have {dimension}")
    if not {float, int}.issuperset(map(type, given)):
        raise Refused("decode", "embedding", "has an element that is not a number")
    vector = np.array(given, np.float64)
    longest = float(np.max(np.abs(vector), initial=0.0))
    if not 0 < longest < 1e150:
        raise Refused("decode", "embedding", "is zero in every dimension or beyond 1e150; send a unit vector")
    # of length one it fits float16 whatever its length was
    vector /= longest
    return (vector / np.linalg.norm(vector)).astype("<f2").tobytes()


def _number(fields: dict[str, Any], name: str, most: float) -> float | None:
    number = fields.get(name)
    if number is None:
        return None
    if type(number) not in (int, float) or not (math.isfinite(number) and 0 <= number <= most):
        raise Refused("decode", name, f"{_shown(fields, name)} must be a number from 0 to {most:g}")
    return float(number)


def _to_base64(numbers: NDArray[np.floating], dtype: str) -> str:
    return binascii.b2a_base64(np.ascontiguousarray(numbers, dtype).data, newline=False).decode("ascii")


def _shown(fields: dict[str, Any], name: str) -> str:
    if name not in fields:
        return "is missing;"
    text = repr(fields[name]) if not isinstance(fields[name], dict | list) else type(fields[name]).__name__
    return text if len(text) <= 60 else text[:57] + "..."
