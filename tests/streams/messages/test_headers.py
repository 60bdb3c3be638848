"""Headers whose names are not UTF-8 are reported and stop no processing."""

import pytest

from streams.messages.dead_letter import dead_letter_headers, split_dead_letter_headers
from streams.messages.headers import escape_invalid_names, headers_of, validate_headers
from streams.messages.rejection import RejectedMessage, RejectionReason

ODD = b"caf\xe9".decode("utf-8", "surrogateescape")


class Message:
    def __init__(self, headers: object) -> None:
        self.kept = headers

    def headers(self) -> object:
        if isinstance(self.kept, Exception):
            raise self.kept
        return self.kept


def test_headers_of_invalid_name_returns_none():
    assert headers_of(Message([("a", b"1"), ("a", None)])) == [("a", b"1"), ("a", None)]
    assert headers_of(Message(None)) == []
    # what confluent-kafka raises for a name that is not UTF-8
    assert headers_of(Message(SystemError("returned a result with an exception set"))) == []


def test_validate_headers_invalid_name_is_rejected_with_the_name():
    validate_headers([("trace", b"1"), ("naïve", b"2"), ("名", None)])
    with pytest.raises(
        RejectedMessage, match=r"^headers: the name b'caf\\xe9' is not UTF-8; send names as UTF-8$"
    ):
        validate_headers([("trace", b"1"), (ODD, b"2")])


def test_escape_invalid_names_dead_letter_keeps_other_headers():
    refused = RejectedMessage(RejectionReason.INVALID_MESSAGES, "headers", problem="odd")
    letter = dead_letter_headers([("trace", b"1"), (ODD, b"\xff"), ("naïve", b"2")], refused, "q", 1, 2, 3)
    assert all(name.encode() for name, _ in letter)
    original, rejection = split_dead_letter_headers(letter)
    assert original == [("trace", b"1"), ("caf\\xe9", b"\xff"), ("naïve", b"2")]
    assert rejection["stage"] == "decode"
    assert escape_invalid_names([]) == []
