"""Intake of queries: an invalid query affects no other, and no query is estimated twice."""

from base64 import b64encode
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from structlog.testing import capture_logs

from routing.embedding.query_batch import (
    QueryBatch,
)
from routing.embedding.unit_vectors import normalised
from routing.estimators.base import (
    Estimates,
)
from streams.router.query_intake import QueryIntake

DIMENSION = 4


class Embedder:
    """Embeds by length. It fails on texts with "break" in them, and on all texts while `broken` is set."""

    identity, dimension = "lengths", DIMENSION

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.broken = False

    def embed(self, prompts) -> QueryBatch:
        self.batches.append(list(prompts))
        if self.broken or any("break" in prompt for prompt in prompts):
            raise RuntimeError("out of memory")
        rows = [[len(prompt), 1, 2, 3] for prompt in prompts]
        return QueryBatch(prompts, normalised(np.array(rows, np.float32)))


class Estimator:
    """Two LLMs: the estimates are the embedding's first two numbers."""

    models = ("a", "b")

    def __init__(self) -> None:
        self.rows = 0

    def estimate(self, batch: QueryBatch) -> Estimates:
        self.rows += len(batch)
        return Estimates(np.clip(batch.embeddings[:, :2], 0, 1).astype(float), np.full((len(batch), 2), 1e-3))

    def leave_one_out(self) -> Estimates:
        raise NotImplementedError


@pytest.fixture
def intake() -> QueryIntake:
    return QueryIntake(Embedder(), DIMENSION, Estimator())


def records(*prompts: str | bytes | dict, start: int = 0) -> list[SimpleNamespace]:
    out = []
    for offset, prompt in enumerate(prompts, start):
        if isinstance(prompt, bytes):
            value = prompt
        else:
            fields = prompt if isinstance(prompt, dict) else {"prompt": prompt}
            value = orjson.dumps({"id": f"q{offset}", **fields})
        out.append(SimpleNamespace(offset=offset, value=value, headers=()))
    return out


def carried(*numbers: float) -> dict:
    return {"prompt": "p", "embedding": b64encode(np.array(numbers, "<f2").tobytes()).decode()}


def offsets(given_records) -> list[int]:
    return [record.offset for record in given_records]


def test_decode_uses_carried_embeddings_and_embeds_others(intake):
    arrivals = intake.decode(records(carried(3, 4, 0, 0), "abc", carried(0, 1, 0, 0)))
    assert offsets(arrivals.records) == [0, 1, 2]
    assert [query.id for query in arrivals.queries] == ["q0", "q1", "q2"]
    quality = arrivals.estimates.quality
    assert quality[0] == pytest.approx([0.6, 0.8])
    assert quality[2] == pytest.approx([0, 1])
    assert quality[1] == pytest.approx(normalised(np.array([[3, 1, 2, 3]], np.float32))[0, :2])
    assert intake.embedder.batches == [["abc"]]


def test_decode_query_of_messages_embeds_their_text(intake):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]

    arrivals = intake.decode(records({"messages": messages}, {"messages": [{"role": "user"}]}, "Why?"))

    assert offsets(arrivals.records) == [0, 2]
    assert intake.embedder.batches == [["Why?\n\nBe brief.", "Why?"]]
    ((refused, error),) = arrivals.refused
    assert (refused.offset, error.stage, error.field) == (1, "decode", "messages")


def test_decode_invalid_records_rejects_them_and_keeps_order(intake):
    batch = records("one", b"{", carried(np.nan, 0, 0, 0), "two", {"prompt": 7}, carried(0, 0, 0, 0), "three")
    arrivals = intake.decode(batch)
    assert offsets(arrivals.records) == [0, 3, 6]
    assert {record.offset: error.field for record, error in arrivals.refused} == {
        1: "value",
        2: "embedding",
        4: "prompt",
        5: "embedding",
    }
    assert len(arrivals.estimates) == len(arrivals.queries) == 3
    alone = intake.decode(records("three", start=6))
    assert arrivals.estimates.quality[2].tolist() == alone.estimates.quality[0].tolist()


def test_decode_with_failing_text_rejects_only_that_query(intake):
    arrivals = intake.decode(records("one", "break this", carried(1, 0, 0, 0), "two"))
    assert offsets(arrivals.records) == [0, 2, 3]
    ((refused, error),) = arrivals.refused
    assert (refused.offset, error.stage, error.field) == (1, "embed", "prompt")
    assert arrivals.estimates.quality[1] == pytest.approx([1, 0])


def test_decode_with_broken_embedder_raises(intake):
    intake.embedder.broken = True
    with pytest.raises(RuntimeError, match="out of memory"):
        intake.decode(records("one", "two"))


def test_decode_no_records_returns_empty_batch(intake):
    arrivals = intake.decode([])
    assert arrivals.estimates.quality.shape == (0, 2)
    assert intake.decode(records(b"{")).estimates.quality.shape == (0, 2)
    assert intake.embedder.batches == []


def test_decode_remembered_records_does_not_estimate_again(intake):
    batch = records("one", "break", b"{", "two")
    sampled = intake.decode(batch, remember=True)
    estimated = intake.estimator.rows
    routed = intake.decode(batch)
    assert routed.estimates.quality.tolist() == sampled.estimates.quality.tolist()
    assert offsets(routed.records) == offsets(sampled.records) == [0, 3]
    assert {record.offset for record, _ in routed.refused} == {1, 2}
    assert intake.estimator.rows == estimated + 1, "the one that was refused, and no other"
    intake.decode(batch)
    assert intake.estimator.rows == 2 * estimated + 1, "taken once, it is not kept longer"


def test_decode_partly_remembered_records_estimates_the_rest(intake):
    intake.decode(records("one", "two"), remember=True)
    arrivals = intake.decode(records("one", "two", "three", "four"))
    fresh = QueryIntake(Embedder(), DIMENSION, Estimator()).decode(records("one", "two", "three", "four"))
    assert arrivals.estimates.quality.tolist() == fresh.estimates.quality.tolist()
    assert intake.embedder.batches == [["one", "two"], ["three", "four"]]


def test_remembered_estimates_are_bounded_and_dropped_by_forget():
    intake = QueryIntake(Embedder(), DIMENSION, Estimator(), max_remembered=3)
    intake.decode(records(*"abcde"), remember=True)
    intake.decode(records(*"abcde"))
    assert intake.embedder.batches[1] == ["a", "b"]
    intake.decode(records("f", start=9), remember=True)
    intake.forget()
    intake.decode(records("f", start=9))
    assert intake.embedder.batches[2:] == [["f"], ["f"]]


def test_decode_logs_a_field_that_resembles_a_known_one_once(intake):
    with capture_logs() as logs:
        intake.decode(records({"prompt": "a", "priority": 3}, {"prompt": "b", "priority": 4, "team": "c"}))

    assert [(line["event"], line["field"], line["similar_to"], line["id"]) for line in logs] == [
        ("field_has_no_effect", "priority", "weight", "q0")
    ]
