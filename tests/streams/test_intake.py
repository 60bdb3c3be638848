"""From records to queries with estimates: one bad query stops no other, and nothing is estimated twice."""

from base64 import b64encode
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from routing.estimators.base import Estimates, QueryBatch
from routing.unit import normalised
from streams import intake as module
from streams.intake import QueryIntake

DIMENSION = 4


class Embedder:
    """Embeds by length; breaks on texts with "break" in them, and altogether when told so."""

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
    """Two LLMs: what is estimated tells the embedding's first two numbers."""

    models = ("a", "b")

    def __init__(self) -> None:
        self.rows = 0

    def estimate(self, batch: QueryBatch) -> Estimates:
        self.rows += len(batch)
        return Estimates(np.clip(batch.embeddings[:, :2], 0, 1).astype(float), np.full((len(batch), 2), 1e-3))

    def leave_one_out(self) -> Estimates:
        raise NotImplementedError


@pytest.fixture
def made() -> QueryIntake:
    return QueryIntake(Embedder(), DIMENSION, Estimator())


def records(*prompts: str | bytes | dict, start: int = 0) -> list[SimpleNamespace]:
    out = []
    for offset, told in enumerate(prompts, start):
        if isinstance(told, bytes):
            value = told
        else:
            fields = told if isinstance(told, dict) else {"prompt": told}
            value = orjson.dumps({"id": f"q{offset}", **fields})
        out.append(SimpleNamespace(offset=offset, value=value, headers=()))
    return out


def carried(*numbers: float) -> dict:
    return {"prompt": "p", "embedding": b64encode(np.array(numbers, "<f2").tobytes()).decode()}


def offsets(found) -> list[int]:
    return [record.offset for record in found]


def test_embeddings_that_queries_carry_are_taken_and_the_others_made(made):
    arrivals = made.take(records(carried(3, 4, 0, 0), "abc", carried(0, 1, 0, 0)))
    assert offsets(arrivals.records) == [0, 1, 2]
    assert [query.id for query in arrivals.queries] == ["q0", "q1", "q2"]
    quality = arrivals.estimates.quality
    assert quality[0] == pytest.approx([0.6, 0.8])
    assert quality[2] == pytest.approx([0, 1])
    assert quality[1] == pytest.approx(normalised(np.array([[3, 1, 2, 3]], np.float32))[0, :2])
    assert made.embedder.batches == [["abc"]]


def test_what_cannot_be_used_is_refused_and_the_rest_keeps_its_order(made):
    given = records("one", b"{", carried(np.nan, 0, 0, 0), "two", {"prompt": 7}, carried(0, 0, 0, 0), "three")
    arrivals = made.take(given)
    assert offsets(arrivals.records) == [0, 3, 6]
    assert {record.offset: error.field for record, error in arrivals.refused} == {
        1: "value", 2: "embedding", 4: "prompt", 5: "embedding",
    }  # fmt: skip
    assert len(arrivals.estimates) == len(arrivals.queries) == 3
    alone = made.take(records("three", start=6))
    assert arrivals.estimates.quality[2].tolist() == alone.estimates.quality[0].tolist()


def test_one_text_that_breaks_the_embedder_stops_no_other(made):
    arrivals = made.take(records("one", "break this", carried(1, 0, 0, 0), "two"))
    assert offsets(arrivals.records) == [0, 2, 3]
    ((refused, error),) = arrivals.refused
    assert (refused.offset, error.stage, error.field) == (1, "embed", "prompt")
    assert arrivals.estimates.quality[1] == pytest.approx([1, 0])


def test_an_embedder_that_is_broken_stops_the_worker_not_the_queries(made):
    made.embedder.broken = True
    with pytest.raises(RuntimeError, match="out of memory"):
        made.take(records("one", "two"))


def test_nothing_is_no_batch(made):
    arrivals = made.take([])
    assert arrivals.estimates.quality.shape == (0, 2)
    assert made.take(records(b"{")).estimates.quality.shape == (0, 2)
    assert made.embedder.batches == []


def test_what_was_sampled_is_not_estimated_again_when_it_is_routed(made):
    given = records("one", "break", b"{", "two")
    sampled = made.take(given, remember=True)
    estimated = made.estimator.rows
    routed = made.take(given)
    assert routed.estimates.quality.tolist() == sampled.estimates.quality.tolist()
    assert offsets(routed.records) == offsets(sampled.records) == [0, 3]
    assert {record.offset for record, _ in routed.refused} == {1, 2}
    assert made.estimator.rows == estimated + 1, "the one that was refused, and no other"
    made.take(given)
    assert made.estimator.rows == 2 * estimated + 1, "taken once, it is not kept longer"


def test_a_part_that_is_known_and_a_part_that_is_not(made):
    made.take(records("one", "two"), remember=True)
    arrivals = made.take(records("one", "two", "three", "four"))
    fresh = QueryIntake(Embedder(), DIMENSION, Estimator()).take(records("one", "two", "three", "four"))
    assert arrivals.estimates.quality.tolist() == fresh.estimates.quality.tolist()
    assert made.embedder.batches == [["one", "two"], ["three", "four"]]


def test_what_is_remembered_is_bounded_and_forgotten_with_the_partition(made, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 3)
    made.take(records(*"abcde"), remember=True)
    made.take(records(*"abcde"))
    assert made.embedder.batches[1] == ["a", "b"]
    made.take(records("f", start=9), remember=True)
    made.forget()
    made.take(records("f", start=9))
    assert made.embedder.batches[2:] == [["f"], ["f"]]
