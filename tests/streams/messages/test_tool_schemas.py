"""Schemas of the status topic, replays, batches and gateways agree with the programs that write and read."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.batch.sender import BatchProgress
from producers.gateway.batch_object import ENDED, TIMES, batch_object
from producers.gateway.object_store import StoredObject, is_expired
from streams.messages.gateway_object import OBJECT_FIELDS, decode_gateway_object
from streams.messages.json_schemas import message_schema
from streams.messages.status import decode_heartbeat, decode_point
from streams.messages.tool_schemas import BATCH_STATUSES, BATCH_TIMES
from streams.operations.dead_letters import DeadLetter, ReplayMarkers, encode_mark
from streams.telemetry.cluster_summary import summarise_cluster
from streams.telemetry.timeline import point
from tests.streams.messages.schema_strategies import (
    OTHER,
    assert_accepted,
    assert_agree,
    assert_fits,
    assert_need_the_same_fields,
    documents,
    refuses,
    validator,
    values_of,
)
from tests.streams.sample_cluster import make_ledgers, make_plan

EXAMPLES = settings(max_examples=80, deadline=None)
counts = st.integers(0, 2**63 - 1)
HEARTBEAT = {"worker": "a-1", "at": 7.5, "started_at": 1.0, "seconds": {"latency": [[3, 9]]}}


@EXAMPLES
@given(documents("heartbeat"), documents("timeline-point"))
def test_status_of_the_schemas_is_decoded(heartbeat: dict[str, Any], timeline_point: dict[str, Any]):
    assert_accepted("heartbeat", heartbeat, decode_heartbeat)
    assert_accepted("timeline-point", timeline_point, decode_point)
    assert_need_the_same_fields("heartbeat", heartbeat, decode_heartbeat)
    assert_need_the_same_fields("timeline-point", timeline_point, decode_point)


def test_timeline_point_schema_accepts_what_the_planner_writes():
    found = point(summarise_cluster(make_plan(), make_ledgers(), 1100.0), 1100.0, lag=5)
    value = orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY)
    assert_fits("timeline-point", value)
    assert set(orjson.loads(value)) == set(message_schema("timeline-point")["properties"])


@pytest.mark.parametrize(
    "change",
    [{"at": "now"}, {"worker": 7}, {"started_at": None}, {"seconds": []}, {"seconds": {"a": [[1]]}}],
)
def test_invalid_heartbeat_is_refused_by_both(change: dict[str, Any]):
    assert not validator("heartbeat").is_valid(HEARTBEAT | change)
    assert refuses(decode_heartbeat, HEARTBEAT | change)


def decode_mark(value: bytes) -> ReplayMarkers:
    marks = ReplayMarkers()
    marks.add(b"queries.dlq:0:5:7.000", value)
    return marks


@given(st.binary(max_size=9), st.floats(0, 1e12), documents("replay-marker"))
def test_replay_marker_schema_and_decoder_accept_the_same(content: bytes, at: float, fields: dict[str, Any]):
    letter = DeadLetter("queries.dlq", 0, 5, 7.0, b"k", content, [], {})
    assert_fits("replay-marker", encode_mark(letter, at))
    assert_need_the_same_fields("replay-marker", orjson.loads(encode_mark(letter, at)), decode_mark)
    assert_accepted("replay-marker", fields, decode_mark)


@EXAMPLES
@given(st.sampled_from(["at", "content"]), OTHER)
def test_replay_marker_schema_agrees_with_the_decoder_on_each_field(name: str, value: Any):
    assert_agree("replay-marker", {"at": 1.5, "content": "ab", name: value}, decode_mark)


positions = st.dictionaries(st.text(max_size=9), st.dictionaries(st.integers(0, 99), counts, max_size=3))


@given(st.builds(BatchProgress, counts, counts, positions, st.floats(0, 1e12)), documents("batch-progress"))
def test_batch_progress_schema_and_decoder_accept_the_same(progress: BatchProgress, fields: dict[str, Any]):
    assert_fits("batch-progress", progress.encode())
    assert BatchProgress.decode(progress.encode()) == progress
    assert_need_the_same_fields("batch-progress", orjson.loads(progress.encode()), BatchProgress.decode)
    assert_accepted("batch-progress", fields, BatchProgress.decode)


@EXAMPLES
@given(st.sampled_from(["requests", "sent", "since", "begun_at"]), OTHER)
def test_batch_progress_schema_agrees_with_the_decoder_on_each_field(name: str, value: Any):
    good = {"requests": 9, "sent": 3, "since": {"answers": {"0": 5}}, "begun_at": 7.5}
    assert_agree("batch-progress", good | {name: value}, BatchProgress.decode)


# ---- objects of gateways -----------------------------------------------------------------------------------


def kind_schema(kind: str) -> dict[str, Any]:
    kinds = message_schema("gateway-object")["anyOf"]
    return next(schema for schema in kinds if schema.get("title") == kind)


@EXAMPLES
@given(values_of(message_schema("gateway-object")))
def test_gateway_objects_of_the_schema_are_decoded_and_shown(fields: StoredObject | None):
    assert_accepted("gateway-object", fields, decode_gateway_object)
    if fields is not None:
        is_expired(fields, 0.0)
        if fields["kind"] == "batch":
            batch_object("b", fields, None)


@pytest.mark.parametrize("kind", OBJECT_FIELDS)
@given(st.data())
@settings(max_examples=20, deadline=None)
def test_gateway_object_schema_needs_the_decoders_fields(kind: str, data: st.DataObject):
    assert_need_the_same_fields(
        "gateway-object", data.draw(values_of(kind_schema(kind))), decode_gateway_object
    )


def test_states_and_times_of_batches_are_those_of_the_gateway():
    assert set(BATCH_STATUSES) >= ENDED
    # the object that cancels a batch has the time of the cancellation
    assert set(BATCH_TIMES) == set(TIMES) - {"cancelling_at"}
