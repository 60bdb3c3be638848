"""Headers whose names are not UTF-8: told, and never in anybody's way."""

import pytest

from streams.dead_letters import dead_letter_headers, split_dead_letter_headers
from streams.headers import admit_headers, headers_of, sendable
from streams.messages import Refused

ODD = b"caf\xe9".decode("utf-8", "surrogateescape")


class Message:
    def __init__(self, headers: object) -> None:
        self.kept = headers

    def headers(self) -> object:
        if isinstance(self.kept, Exception):
            raise self.kept
        return self.kept


def test_headers_are_those_of_the_message_or_none():
    assert headers_of(Message([("a", b"1"), ("a", None)])) == [("a", b"1"), ("a", None)]
    assert headers_of(Message(None)) == []
    # what confluent-kafka raises for a name that is not UTF-8
    assert headers_of(Message(SystemError("returned a result with an exception set"))) == []


def test_a_query_with_such_a_name_is_refused_and_the_name_is_told():
    admit_headers([("trace", b"1"), ("naïve", b"2"), ("名", None)])
    with pytest.raises(Refused, match=r"^headers: the name b'caf\\xe9' is not UTF-8; send names as UTF-8$"):
        admit_headers([("trace", b"1"), (ODD, b"2")])


def test_its_dead_letter_can_be_sent_and_keeps_the_other_headers():
    refused = Refused("decode", "headers", "odd")
    letter = dead_letter_headers([("trace", b"1"), (ODD, b"\xff"), ("naïve", b"2")], refused, "q", 1, 2, 3)
    assert all(name.encode() for name, _ in letter)
    original, told = split_dead_letter_headers(letter)
    assert original == [("trace", b"1"), ("caf\\xe9", b"\xff"), ("naïve", b"2")]
    assert told["stage"] == "decode"
    assert sendable([]) == []
