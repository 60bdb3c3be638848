"""Limits of requests."""

import pytest

from producers.gateway.api_errors import ApiError
from producers.gateway.idempotency import fingerprint, query_identity
from producers.gateway.keys import Caller
from producers.gateway.limits import InFlight, request_seconds
from producers.gateway.object_store import replaces


def test_requests_beyond_the_maximum_get_429_with_retry_after():
    slots = InFlight(1)
    with slots.slot():
        with pytest.raises(ApiError) as caught, slots.slot():
            pass
        assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})
    with slots.slot():
        assert slots.count == 1
    assert slots.count == 0


def test_time_limit_is_the_shorter_one():
    assert request_seconds({}, 600) == 600
    assert request_seconds({"x-stainless-read-timeout": "12.5"}, 600) == 12.5
    assert request_seconds({"x-stainless-timeout": "900"}, 600) == 600
    for text in ("soon", "0", "-1", "nan"):
        with pytest.raises(ApiError, match="seconds"):
            request_seconds({"x-stainless-timeout": text}, 600)


def test_identity_depends_on_caller_and_key():
    one, two = Caller("search"), Caller("ads")
    first, repeatable = query_identity("chatcmpl-", one, {"idempotency-key": "k"})
    assert repeatable
    assert first == query_identity("chatcmpl-", one, {"idempotency-key": "k"})[0]
    assert first != query_identity("chatcmpl-", two, {"idempotency-key": "k"})[0]
    assert query_identity("chatcmpl-", one, {})[0] != query_identity("chatcmpl-", one, {})[0]
    with pytest.raises(ApiError, match="255"):
        query_identity("chatcmpl-", one, {"idempotency-key": "k" * 256})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_first_claim_holds_until_a_later_one_names_it():
    first = {"claim": "a", "created_at": 1.0}
    assert replaces(None, first)
    assert not replaces(first, {"claim": "b", "created_at": 2.0})
    assert replaces(first, {"claim": "b", "created_at": 2.0, "after": "a"})
    assert not replaces({"claim": "b"}, {"claim": "c", "after": "a"})
    assert replaces({"kind": "file"}, {"kind": "file", "deleted": True})
