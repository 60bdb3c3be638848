"""Dead letters: the message's own headers stay, ours say what was wrong."""

import pytest

from streams.messages.dead_letter import dead_letter_headers, split_dead_letter_headers
from streams.messages.rejection import RejectedMessage, RejectionReason

OWN = [("traceparent", b"00-1"), ("x", None), ("x", b"\xff\x00")]


def test_dead_letter_headers_name_reason_position_and_time():
    refused = RejectedMessage(
        RejectionReason.INVALID_MESSAGES, "prompt", problem="is missing; send a text — é"
    )

    headers = dead_letter_headers(OWN, refused, "queries", 3, 41, 1_700_000_000_123)

    assert headers[:3] == OWN
    assert headers[3:] == [
        ("__router.errors.topic", b"queries"),
        ("__router.errors.partition", b"3"),
        ("__router.errors.offset", b"41"),
        ("__router.errors.stage", b"decode"),
        ("__router.errors.exception.class.name", b"Refused"),
        ("__router.errors.exception.message", "prompt: is missing; send a text — é".encode()),
        ("__router.errors.timestamp", b"1700000000123"),
    ]


@pytest.mark.parametrize("own", [None, [], OWN])
def test_split_dead_letter_headers_returns_original_and_errors(own: list[tuple[str, bytes | None]] | None):
    headers = dead_letter_headers(
        own, RejectedMessage(RejectionReason.INVALID_MESSAGES, "id", problem="is missing"), "queries", 0, 7, 1
    )

    original, errors = split_dead_letter_headers(headers)

    assert original == (own or [])
    assert errors["offset"] == "7"
    assert errors["exception.message"] == "id: is missing"


def test_split_dead_letter_headers_twice_rejected_keeps_the_first_rejection():
    first = dead_letter_headers(
        OWN, RejectedMessage(RejectionReason.INVALID_MESSAGES, "id", problem="one"), "queries", 0, 7, 1
    )
    second = dead_letter_headers(
        first, RejectedMessage(RejectionReason.INVALID_MESSAGES, "id", problem="two"), "queries", 0, 9, 2
    )

    original, errors = split_dead_letter_headers(second)

    assert original == first
    assert errors["exception.message"] == "id: two"


def test_split_dead_letter_headers_other_message_has_no_errors():
    assert split_dead_letter_headers(OWN) == (OWN, {})
    assert split_dead_letter_headers(None) == ([], {})
