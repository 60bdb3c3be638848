"""Routed and unserved queries keep the bytes of the query."""

import json

from hypothesis import given
from hypothesis import strategies as st

from streams.messages.query import decode_query, encode_routed, encode_unserved
from tests.streams.messages.query_values import DIMENSION, JSON_VALUES, ROUTING, encoded, slow_to_draw


def test_encode_routed_appends_routing_to_the_original_bytes():
    value = b' { "id" : "a", "prompt": "\\u00e9", "n": 123456789012345678901234567890, "n": 1.0 } \n'

    routed = encode_routed(decode_query(value, DIMENSION), ROUTING.encode())

    assert routed == value.rstrip()[:-1] + b',"routing":{"partition":0,"offset":3,"attempt":1}}'
    assert json.loads(routed)["n"] == 1.0


def test_encode_unserved_adds_reason_and_routing():
    query = decode_query(encoded(x=1), DIMENSION)

    fields = json.loads(encode_unserved(query, "budget", ROUTING))

    routing = {"partition": 0, "offset": 3, "attempt": 1}
    assert fields == {"id": "q1", "prompt": "Why?", "x": 1, "reason": "budget", "routing": routing}


def test_encode_routed_replaces_fields_named_like_added_ones():
    value = b'{"id":"a","routing":1,"prompt":"b","reason":2,"routing":3,"x":4}'

    routed = encode_routed(decode_query(value, DIMENSION), ROUTING.encode())

    assert routed == b'{"id":"a","prompt":"b","x":4,"routing":{"partition":0,"offset":3,"attempt":1}}'


def test_decode_query_removing_added_fields_keeps_the_other_bytes():
    value = (
        b' {"id":"a" , "re\\u0061son":"}\\",{", "n":123456789012345678901234567890,"prompt":"b, \\u00e9",'
        b'"routing":{"reason":[1,{"x":"\\\\"}]},"f":1.10e+2,"f":0.1000000000000000055511151231257827 } '
    )

    query = decode_query(value, DIMENSION)

    assert query.value == (
        b'{"id":"a" , "n":123456789012345678901234567890,"prompt":"b, \\u00e9",'
        b'"f":1.10e+2,"f":0.1000000000000000055511151231257827 }'
    )
    assert "reason" not in query.fields


MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(["reason", "routing", "n", "", "rou\\ting", '"reason"']) | st.text(max_size=5),
        JSON_VALUES | st.integers() | st.integers().map(lambda number: {"deep": [number]}),
    ),
    max_size=8,
)


@slow_to_draw
@given(MEMBERS, st.booleans(), st.sampled_from([(",", ":"), (" ,\n", "\t: ")]))
def test_decode_query_any_members_keep_their_bytes(
    members: list[tuple[str, object]], ascii_only: bool, separators: tuple[str, str]
):
    def member(name: str, content: object) -> str:
        spelled = json.dumps(content, ensure_ascii=ascii_only, separators=separators)
        return json.dumps(name, ensure_ascii=ascii_only) + separators[1] + spelled

    def written(members: list[tuple[str, object]]) -> bytes:
        ours = [("id", "a"), ("prompt", "b")]
        return ("{" + ",".join(member(*pair) for pair in [*members, *ours]) + "}").encode()

    members = [pair for pair in members if pair[0] not in ("id", "prompt", "max_tokens", "metadata")]
    left = [(name, content) for name, content in members if name not in ("reason", "routing")]

    assert decode_query(written(members), None).value == written(left)
