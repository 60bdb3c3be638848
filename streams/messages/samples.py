"""Samples: the estimates of a batch of queries, sent to the planner."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np
import orjson
from numpy.typing import NDArray

from routing.arrays import IntArray
from routing.budgets.terms import QueryTerms
from streams.messages.fields import MAX_VALUE_BYTES, ORJSON_NUMPY, decode_object, to_base64
from streams.messages.rejection import RejectedMessage, RejectionReason

NO_TERMS = QueryTerms()
SAMPLE_TYPES = ("<f4", "<f8")
"""Types of the numbers of quality and cost before base64."""

TERM_TYPES = {"weight": "<f8", "eligible": "u1", "tokens": "<i8"}
"""Types of the columns of terms before base64."""

_KINDS: dict[str, Any] = {"weight": np.float64, "eligible": np.bool_, "tokens": np.int64}


def encode_samples(
    header: Mapping[str, Any],
    quality: NDArray[np.floating],
    cost: NDArray[np.floating],
    dtype: str = "<f4",
    terms: QueryTerms = NO_TERMS,
) -> bytes:
    """Encode the estimates of a batch of queries as one message.

    Parameters
    ----------
    header : mapping
        Plain data sent along, such as period, partition and offsets.
    quality, cost : ndarray, shape [n, M]
        Cost in USD.
    dtype : str
        Type of the numbers on the wire: "<f4", or "<f8" to keep every digit.
    terms : QueryTerms
        Weights, eligible LLMs, tokens and values of groups.
    """
    if quality.ndim != 2 or quality.shape != cost.shape:
        raise ValueError(f"quality {quality.shape} and cost {cost.shape} must both be [n, M]")
    body = {
        **header,
        "shape": quality.shape,
        "dtype": dtype,
        "quality": to_base64(quality, dtype),
        "cost": to_base64(cost, dtype),
    }
    if not terms.empty:
        body["terms"] = _terms_to_dict(terms)
    return orjson.dumps(body, option=ORJSON_NUMPY)


def decode_terms(header: Mapping[str, Any], shape: tuple[int, int]) -> QueryTerms:
    """Return the terms of decoded samples.

    Parameters
    ----------
    header : mapping
        From `decode_samples`.
    shape : (int, int)
        n and M.

    Raises
    ------
    ValueError, KeyError, TypeError
        The terms are damaged.
    """
    terms = header.get("terms")
    if terms is None:
        return NO_TERMS
    arrays: dict[str, Any] = {}
    for name, dtype in TERM_TYPES.items():
        if name in terms:
            numbers = np.frombuffer(binascii.a2b_base64(terms[name], strict_mode=True), dtype)
            arrays[name] = numbers.reshape(shape[:1] if name == "weight" else shape).astype(_KINDS[name])
    values = {field: list(texts) for field, texts in terms.get("values", {}).items()}
    if any(len(texts) != shape[0] for texts in values.values()):
        raise ValueError(f"values: must have {shape[0]} texts for each field")
    return QueryTerms(**arrays, values=values)


def decode_clusters(header: Mapping[str, Any], count: int) -> IntArray | None:
    """Return the task clusters of decoded samples, shape [n]; None if they have none.

    Raises
    ------
    ValueError, TypeError, OverflowError
        The clusters are damaged.
    """
    clusters = header.get("clusters")
    return None if clusters is None else np.array(clusters, dtype=np.int64).reshape(count)


def _terms_to_dict(terms: QueryTerms) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, dtype in TERM_TYPES.items():
        if (numbers := getattr(terms, name)) is not None:
            data[name] = binascii.b2a_base64(
                np.ascontiguousarray(numbers, dtype).data, newline=False
            ).decode()
    if terms.values:
        data["values"] = {field: list(values) for field, values in terms.values.items()}
    return data


def _is_shape(shape: object) -> TypeGuard[list[int]]:
    """Return whether a value is two whole numbers that a message can have rows and columns of."""
    return (
        isinstance(shape, list)
        and len(shape) == 2
        and all(type(size) is int and 0 <= size <= MAX_VALUE_BYTES for size in shape)
    )


def decode_samples(value: bytes | None) -> tuple[dict[str, Any], NDArray[np.float64], NDArray[np.float64]]:
    """Decode samples into header, quality [n, M] and cost [n, M] in USD; see `decode_terms` for the rest.

    Raises
    ------
    RejectedMessage
        The message was not written by `encode_samples`.
    """
    fields = decode_object(value)
    shape, dtype = fields.pop("shape", None), fields.pop("dtype", None)
    texts = fields.pop("quality", None), fields.pop("cost", None)
    if dtype not in SAMPLE_TYPES or not _is_shape(shape):
        raise RejectedMessage(RejectionReason.INVALID_SAMPLE_SHAPE, "shape", shape=shape, dtype=dtype)
    try:
        quality, cost = (
            np.frombuffer(binascii.a2b_base64(text, strict_mode=True), dtype)
            .reshape(shape)
            .astype(np.float64)
            for text in texts
        )
    except (TypeError, ValueError) as error:
        raise RejectedMessage(
            RejectionReason.INVALID_SAMPLES, "quality, cost", shape=shape, error=error
        ) from None
    return fields, quality, cost
