"""Queries: decoding of incoming ones, encoding of routed and unserved ones.

This is the hot path: decoding and encoding take a few microseconds each. Outgoing messages extend the bytes
of the incoming one, so unknown fields, long numbers and spelling are passed on unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from streams.messages.fields import decode_object, shown_value, text_id, to_base64
from streams.messages.json_bytes import remove_members
from streams.messages.message_text import MessagesError, message_text
from streams.messages.query_limits import NO_LIMITS, QueryLimits, decode_limits
from streams.messages.rejection import RejectedMessage, RejectionReason
from streams.messages.routing_info import RoutingInfo
from streams.messages.unserved import UnservedReason

MAX_PROMPT_BYTES = 2**20
"""Maximum size of a prompt in UTF-8."""

RESERVED_PARAMETERS = frozenset({"model", "messages", "stream", "stream_options", "n"})
"""Parameters of a request that the router or the fleet sets, never the query."""

MAX_TOKENS = 10_000_000
ADDED_FIELDS = ("routing", "reason")
"""Fields that the router adds to a query. Fields of these names in an incoming query are replaced."""


@dataclass(slots=True)
class Query:
    """An incoming query.

    Parameters
    ----------
    id, prompt : str
        Without a prompt, the text of the messages.
    embedding : bytes or None
        Little-endian float16, one per dimension of the router's embedding; not yet of unit length.
    max_tokens : int or None
        Maximum tokens of the answer.
    fields : dict
        All fields of the message, including unknown ones.
    value : bytes
        The message's bytes, which outgoing messages extend.
    limits : QueryLimits
        Weight, LLMs, largest cost, smallest quality and deadline.
    """

    id: str
    prompt: str
    embedding: bytes | None
    max_tokens: int | None
    fields: dict[str, Any]
    value: bytes
    limits: QueryLimits = NO_LIMITS


class CarriedEmbeddings(NamedTuple):
    """The embeddings that a batch of queries carries.

    Attributes
    ----------
    matrix : ndarray of float32, shape [n, d]
        Unit rows; zeros for missing and rejected embeddings.
    missing : ndarray of bool, shape [n]
        Queries without an embedding, which the router has to embed.
    refused : dict of int to RejectedMessage
        Rows whose embedding is zero, or has NaN or infinity.
    """

    matrix: NDArray[np.float32]
    missing: NDArray[np.bool_]
    refused: dict[int, RejectedMessage]


def decode_query(value: bytes | None, dimension: int | None) -> Query:
    """Decode a query from a message's value.

    Parameters
    ----------
    value : bytes or None
        JSON, UTF-8.
    dimension : int or None
        Length d of an embedding; None to ignore embeddings.

    Raises
    ------
    RejectedMessage
        Stage "decode", with the first invalid field. `stack_embeddings` checks the numbers of embeddings for
        a whole batch.

    Examples
    --------
    >>> decode_query(b'{"id": "a", "prompt": "Why?", "team": 7}', 384).fields["team"]
    7
    """
    fields = decode_object(value)
    prompt = _prompt(fields)
    max_tokens = fields.get("max_tokens")
    if max_tokens is not None and (type(max_tokens) is not int or not 0 < max_tokens <= MAX_TOKENS):
        shown = shown_value(fields, "max_tokens")
        raise RejectedMessage(RejectionReason.INVALID_MAX_TOKENS, "max_tokens", shown=shown, limit=MAX_TOKENS)
    metadata = fields.get("metadata")
    if metadata is not None and type(metadata) is not dict:
        shown = shown_value(fields, "metadata")
        raise RejectedMessage(RejectionReason.METADATA_NOT_AN_OBJECT, "metadata", shown=shown)
    limits = decode_limits(fields)
    embedding_field = fields.get("embedding")
    embedding = (
        None
        if embedding_field is None or dimension is None
        else _decode_embedding(embedding_field, dimension)
    )
    assert value is not None
    if "routing" in fields or "reason" in fields:
        fields = {name: content for name, content in fields.items() if name not in ADDED_FIELDS}
        value = remove_members(value, ADDED_FIELDS)
    return Query(text_id(fields), prompt, embedding, max_tokens, fields, value, limits)


def stack_embeddings(queries: Sequence[Query], dimension: int) -> CarriedEmbeddings:
    """Return the embeddings of a batch as unit rows, and mark missing and invalid ones.

    Parameters
    ----------
    queries : sequence of Query, length n
    dimension : int
        Length d of an embedding.

    Returns
    -------
    CarriedEmbeddings

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
    # a sum of float16 squares cannot overflow float32, so only NaN and infinity are not finite
    valid = np.isfinite(norms) & (norms > 0)
    refused = {}
    if not np.all(valid | missing):
        for row in np.flatnonzero(~valid & ~missing):
            is_zero = norms[row] == 0
            reason = RejectionReason.EMBEDDING_ZERO if is_zero else RejectionReason.EMBEDDING_NOT_FINITE
            refused[int(row)] = RejectedMessage(reason, "embedding")
    norms[~valid] = 1
    matrix[~valid] = 0
    matrix /= norms[:, None]
    return CarriedEmbeddings(matrix, missing, refused)


def encode_routed(query: Query, routing: bytes) -> bytes:
    """Return the query's bytes with an encoded `routing` added.

    Examples
    --------
    >>> query = decode_query(b'{"id":"a","prompt":"Why?"}', None)
    >>> routing = RoutingInfo(plan=3, period=1, partition=0, routed_at=None, offset=7)
    >>> encode_routed(query, routing.encode())
    b'{"id":"a","prompt":"Why?","routing":{"plan":3,"period":1,"partition":0,"offset":7,"attempt":1}}'
    """
    return query.value.rstrip()[:-1] + b',"routing":' + routing + b"}"


def encode_unserved(query: Query, reason: UnservedReason, routing: RoutingInfo) -> bytes:
    """Return the query's bytes with `reason` and `routing` added."""
    added = b',"reason":' + orjson.dumps(reason) + b',"routing":' + routing.encode() + b"}"
    return query.value.rstrip()[:-1] + added


def encode_embedding(vector: NDArray[np.floating]) -> str:
    """Encode a vector as queries carry it: base64 of little-endian float16."""
    return to_base64(vector, "<f2")


def _prompt(fields: dict[str, Any]) -> str:
    """Return the query's prompt, or the text of its messages where it has no prompt."""
    prompt, name = fields.get("prompt"), "prompt"
    if prompt is None and fields.get("messages") is not None:
        try:
            prompt, name = message_text(fields["messages"]), "messages"
        except MessagesError as error:
            raise RejectedMessage(
                RejectionReason.INVALID_MESSAGES, error.place, problem=error.reason
            ) from None
    if type(prompt) is not str or not prompt:
        raise RejectedMessage(RejectionReason.EMPTY_TEXT, name, shown=shown_value(fields, name))
    if len(prompt) * 4 > MAX_PROMPT_BYTES and (size := len(prompt.encode())) > MAX_PROMPT_BYTES:
        raise RejectedMessage(RejectionReason.TOO_MANY_BYTES, name, size=size, limit=MAX_PROMPT_BYTES)
    return prompt


def _decode_embedding(field: object, dimension: int) -> bytes:
    size = 2 * dimension
    if type(field) is str:
        try:
            raw = pybase64.b64decode(field, validate=True)
        except ValueError as error:
            raise RejectedMessage(RejectionReason.EMBEDDING_NOT_BASE64, "embedding", error=error) from None
        if len(raw) != size:
            raise RejectedMessage(
                RejectionReason.EMBEDDING_WRONG_SIZE,
                "embedding",
                size=len(raw),
                dimension=dimension,
                expected=size,
            )
        return raw
    if type(field) is not list:
        raise RejectedMessage(RejectionReason.EMBEDDING_WRONG_TYPE, "embedding", kind=type(field).__name__)
    if len(field) != dimension:
        raise RejectedMessage(
            RejectionReason.EMBEDDING_WRONG_LENGTH, "embedding", size=len(field), dimension=dimension
        )
    if not {float, int}.issuperset(map(type, field)):
        raise RejectedMessage(RejectionReason.EMBEDDING_NOT_NUMBERS, "embedding")
    vector = np.array(field, np.float64)
    largest = float(np.max(np.abs(vector), initial=0.0))
    if not 0 < largest < 1e150:
        raise RejectedMessage(RejectionReason.EMBEDDING_OUT_OF_RANGE, "embedding")
    # scaled to length one, it fits float16
    vector /= largest
    return (vector / np.linalg.norm(vector)).astype("<f2").tobytes()
