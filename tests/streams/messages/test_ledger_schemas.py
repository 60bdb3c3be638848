"""Schemas of ledgers, reservations and samples accept what lanes write, and need what their decoders need."""

import base64
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.policy.account import COUNTS, LLM_VECTORS, Account
from streams.config.topic_names import Topics
from streams.ledger.account_format import account_from_dict
from streams.ledger.changes import LedgerChanges
from streams.ledger.quality_residuals import QualityResiduals
from streams.ledger.record import LedgerRecord
from streams.ledger.reservations import decode_reservations, encode_reservations
from streams.ledger.sample_batch import SampleBatch
from streams.messages.json_schemas import message_schema
from streams.messages.rejection import RejectedMessage
from streams.router.outputs import produce_samples
from tests.streams.ledger.test_period_messages import account
from tests.streams.ledger.test_record import records
from tests.streams.ledger.test_reservations import batch
from tests.streams.messages.schema_strategies import (
    assert_accepted,
    assert_fits,
    assert_need_the_same_fields,
    documents,
    refuses,
    validator,
    values_of,
)
from tests.streams.sample_cluster import MODELS, make_plan

EXAMPLES = settings(max_examples=60, deadline=None)
TEAMS = account("search", "ads")
FULL = replace(
    LedgerRecord(1, MODELS, TEAMS),
    past={2: replace(TEAMS, period=2)},
    outcomes={"settled": 4},
    returns={"late": 1},
    oldest_open={"small": 7.5},
    residuals={"small": QualityResiduals((1.0, 2.0), (0.5, -0.5))},
    exceeded={"small": [3, 1]},
    deleted={"input": [4, 9, 1000.0]},
)

triples = st.lists(st.integers(0, 2**63 - 1), min_size=3, max_size=3)


def decode_account(value: bytes) -> Account:
    data = orjson.loads(value)
    return account_from_dict(data["account"], tuple(data["models"]))


def decode_counter(value: bytes) -> Account:
    fresh = Account.fresh(1, len(MODELS), TEAMS.counters)
    return fresh.with_counter_state(1, orjson.loads(value))


@st.composite
def accounts(draw: st.DrawFn) -> dict[str, Any]:
    """Return an account of the schema, of some LLMs with one budget each."""
    schema = message_schema("ledger")["properties"]["account"]["properties"]
    amounts = values_of(schema["released"]["items"])
    size = draw(st.integers(0, 3))
    vectors = {
        vector: draw(st.lists(amounts, min_size=size, max_size=size))
        for vector in (*LLM_VECTORS, "released", "charged")
    }
    return {"period": 1, **vectors, **{count: draw(values_of(schema[count])) for count in COUNTS}}


# ---- ledgers -----------------------------------------------------------------------------------------------


@EXAMPLES
@given(records)
def test_ledger_schemas_accept_every_record(record: LedgerRecord):
    assert_fits("ledger", record.encode())
    for period in record.past:
        assert_fits("ledger-account", record.encode_account(period))


def test_ledger_schemas_accept_the_messages_of_a_transaction_and_need_the_decoders_fields():
    messages = dict(LedgerChanges(1).since(FULL))
    names = {key: "ledger-counter" if key.count(b"/") > 1 else "ledger-account" for key in messages}
    assert sorted(names.values()) == ["ledger-account"] + ["ledger-counter"] * 4
    for key, value in messages.items():
        assert_fits(names[key], value)
        decode = decode_counter if names[key] == "ledger-counter" else decode_account
        assert_need_the_same_fields(names[key], orjson.loads(value or b""), decode)
    assert_fits("ledger", FULL.encode())
    fields = orjson.loads(FULL.encode())
    assert set(fields) == set(message_schema("ledger")["properties"])
    assert_need_the_same_fields("ledger", fields, LedgerRecord.decode)
    assert_need_the_same_fields("ledger", fields, LedgerRecord.decode, ["account"])
    per_llm = orjson.loads(LedgerRecord(1, MODELS, Account.fresh(1, 2)).encode())
    assert_need_the_same_fields("ledger", per_llm, LedgerRecord.decode, ["account"])


@pytest.mark.parametrize(
    "change", [{"format": 1}, {"next": -1}, {"models": None}, {"outcomes": {"late": 0.5}}]
)
def test_ledger_schema_refuses_other_values(change: dict[str, Any]):
    assert not validator("ledger").is_valid(orjson.loads(FULL.encode()) | change)


@EXAMPLES
@given(documents("ledger", account=accounts()), documents("ledger-account", account=accounts()))
def test_ledgers_of_the_schema_are_decoded(ledger: dict[str, Any], past: dict[str, Any]):
    assert_accepted("ledger", ledger, LedgerRecord.decode)
    assert_accepted("ledger-account", past, decode_account)


@EXAMPLES
@given(documents("ledger-counter", use=st.dictionaries(st.sampled_from("01"), triples)))
def test_counters_of_the_schema_are_decoded(fields: dict[str, Any]):
    assert_accepted("ledger-counter", fields, decode_counter)


# ---- reservations ------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.lists(st.integers(0, 2**63 - 1), max_size=9), st.integers(1, 3), st.booleans())
def test_reservations_schema_accepts_every_batch_and_needs_the_decoders_fields(
    offsets: list[int], budgets: int, shared: bool
):
    count = len(offsets)
    drawn = {
        "counters": (("total", None), ("team", "search")),
        "columns": np.zeros((count, budgets), dtype=np.int32),
        "tokens": np.ones(count, dtype=np.int64),
        "returns": np.array([[7, 1, 5]], dtype=np.int64),
    }
    value = encode_reservations(batch(offsets, 7.5, **(drawn if shared else {})))
    assert_fits("reservations", value)
    assert_need_the_same_fields("reservations", orjson.loads(value), decode_reservations)


def columns_of(count: int) -> dict[str, st.SearchStrategy[str]]:
    """Return the columns of the same number of queries, with the bytes of any numbers."""
    good = orjson.loads(encode_reservations(batch(list(range(count)))))
    schema = message_schema("reservations")
    columns = [name for name in schema["required"] if "contentEncoding" in schema["properties"][name]]
    return {name: st.just(good[name]) for name in columns}


@st.composite
def reservations(draw: st.DrawFn) -> dict[str, Any]:
    """Return reservations of the schema, with columns of one length."""
    count = draw(st.integers(0, 3))
    fields = draw(documents("reservations", **columns_of(count)))
    for name in ("counters", "budgets", "columns", "tokens"):
        fields.pop(name, None)
    if draw(st.booleans()):
        pairs = [["total", None], ["team", draw(st.text(max_size=5))]]
        drawn = np.zeros((count, 2), dtype=np.int32)
        fields |= {"counters": pairs, "budgets": 2, "columns": base64.b64encode(drawn.tobytes()).decode()}
    return fields


@EXAMPLES
@given(reservations())
def test_reservations_of_the_schema_are_decoded(fields: dict[str, Any]):
    assert_accepted("reservations", fields, decode_reservations)


# ---- samples -----------------------------------------------------------------------------------------------


def written_samples(rows: int, lockstep: bool, terms: QueryTerms, clusters: bool = True) -> bytes:
    sent: list[bytes] = []
    random = np.random.default_rng(rows)
    cluster = np.arange(rows) - 1 if clusters else None
    estimates = Estimates(random.random((rows, 2)), random.random((rows, 2)), cluster)
    record = replace(FULL, next=4, sampled=9)
    topics = Topics.with_prefix("")

    def out(topic: str, value: bytes, **place: int) -> None:
        assert topic == topics.samples
        sent.append(value)

    produce_samples(out, topics, make_plan(), record, 2, estimates, terms, lockstep)  # type: ignore[arg-type]
    return sent[0]


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("lockstep", [False, True])
def test_samples_schema_accepts_what_lanes_send_and_needs_the_planners_fields(rows: int, lockstep: bool):
    terms = QueryTerms(
        weight=np.full(rows, 2.0),
        eligible=np.ones((rows, 2), dtype=bool),
        tokens=np.ones((rows, 2), dtype=np.int64),
        values={"metadata.team": ["search"] * rows},
    )
    value = written_samples(rows, lockstep, terms)
    assert_fits("samples", value)
    fields = orjson.loads(value)
    assert set(fields) == set(message_schema("samples")["properties"])
    assert (fields["account"] is None) == (not lockstep)
    assert_need_the_same_fields("samples", fields, SampleBatch.decode)
    assert_fits("samples", written_samples(rows, lockstep, QueryTerms(), clusters=False))


@EXAMPLES
@given(
    documents(
        "samples",
        account=st.none() | accounts(),
        models=st.just(["a"]),
        shape=st.just([2, 1]),
        dtype=st.just("<f4"),
        quality=st.just("AACAPwAAAD8="),
        cost=st.just("AACAPwAAAD8="),
        clusters=st.just([-1, 0]),
        terms=st.none() | st.just({"eligible": "AQA=", "values": {"header:team": ["a", "b"]}}),
    )
)
def test_samples_of_the_schema_are_decoded(fields: dict[str, Any]):
    assert_accepted("samples", fields, SampleBatch.decode)


@pytest.mark.parametrize(
    "change",
    [{"shape": [-1, 1]}, {"shape": [2**63, 1]}, {"shape": [True, 1]}, {"dtype": "<c8"}, {"cost": "AA"}],
)
def test_samples_of_another_shape_or_type_are_refused_by_both(change: dict[str, Any]):
    fields = orjson.loads(written_samples(3, False, QueryTerms())) | change
    assert refuses(SampleBatch.decode, fields)
    if change != {"shape": [2**63, 1]}:  # no column is as long
        assert not validator("samples").is_valid(fields)


@pytest.mark.parametrize(
    "change",
    [
        {"lane": "x"},
        {"period": -1},
        {"models": 7},
        {"models": ["a"]},
        {"account": {}},
        {"account": [7]},
        {"clusters": [1]},
        {"clusters": ["x", 1, 1]},
        {"clusters": [2**63, 1, 1]},
        {"terms": []},
        {"terms": {"weight": 5}},
        {"terms": {"values": {"header:team": ["a"]}}},
    ],
)
def test_damaged_samples_are_rejected_with_a_reason(change: dict[str, Any]):
    fields = orjson.loads(written_samples(3, False, QueryTerms())) | change
    with pytest.raises(RejectedMessage, match="only programs of the router"):
        SampleBatch.decode(orjson.dumps(fields))
