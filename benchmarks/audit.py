"""`python -m benchmarks.audit`: memory and time of `streams check` on synthetic topics.

Every query was served by one LLM of eleven and settled at what it reserved. Topics are made while they are
read, so that none of the memory is theirs.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson

from benchmarks.machine import describe
from benchmarks.result_file import save
from benchmarks.synthetic_queries import MODELS
from routing.budgets.model import Model
from routing.budgets.money import to_usd
from routing.policy.account import Account
from streams.audit.check import check
from streams.audit.topic_records import TopicRecord
from streams.config.topic_names import Topics
from streams.ledger.record import LedgerRecord
from streams.ledger.reservations import ReservationBatch, encode_reservations, id_digests
from streams.messages.outcome import (
    Outcome,
    encode_outcome,
)
from streams.messages.query import (
    decode_query,
    encode_routed,
)
from streams.messages.routing_info import RoutingInfo

BATCH = 500
TOPICS = Topics(prefix="made-up.")
CHARGE = 10**8
"""Picodollars that each query reserves."""


def made_up(offset: int, lane: int) -> bytes:
    """Return a query with an id of the length of a UUID."""
    return orjson.dumps({"id": f"{lane:08d}-0000-0000-0000-{offset:012d}", "prompt": "Why is the sky blue?"})


class MadeUp:
    """Return the topics of a router that has served this number of queries.

    Parameters
    ----------
    queries : int
        A multiple of lanes times the batch.
    lanes : int
    """

    def __init__(self, queries: int, lanes: int) -> None:
        self.topics, self.lanes, self.each = TOPICS, lanes, queries // lanes
        topics = self.topics
        self._makers = {
            topics.queries: self._queries,
            topics.reservations: self._reservations,
            topics.outcomes: self._outcomes,
            topics.ledger: self._ledgers,
        }
        self._llms = {topics.llm(Model(name).slug): number for number, name in enumerate(MODELS)}

    def partitions(self) -> Mapping[str, int]:
        names = [name for key, name in vars(self.topics).items() if key != "prefix"]
        return dict.fromkeys([*names, *self._llms], self.lanes)

    def starts(self, topic: str) -> Mapping[int, int]:
        return {}

    def forwarded(self, topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        return {}

    def passed(self, topic: str, partitions: Iterable[int]) -> Mapping[int, int]:
        return {}

    def read(self, *names: str) -> Iterator[TopicRecord]:
        for name in names:
            if name in self._llms:
                yield from self._routed(name, self._llms[name])
            elif name in self._makers:
                yield from self._makers[name](name)

    def _queries(self, topic: str) -> Iterator[TopicRecord]:
        for offset in range(self.each):
            for lane in range(self.lanes):
                yield TopicRecord(topic, lane, offset, b"key", made_up(offset, lane))

    def _routed(self, topic: str, model: int) -> Iterator[TopicRecord]:
        for lane in range(self.lanes):
            for offset in range(model, self.each, len(MODELS)):
                routing = RoutingInfo(
                    plan=1,
                    period=1,
                    partition=lane,
                    routed_at=None,
                    offset=offset,
                    model=MODELS[model],
                    cost=float(to_usd(CHARGE)),
                    price=1.0,
                )
                query = decode_query(made_up(offset, lane), None)
                yield TopicRecord(topic, lane, offset, b"key", encode_routed(query, routing.encode()))

    def _reservations(self, topic: str) -> Iterator[TopicRecord]:
        for lane in range(self.lanes):
            for begin in range(0, self.each, BATCH):
                offsets = np.arange(begin, min(begin + BATCH, self.each))
                ids = [orjson.loads(made_up(offset, lane))["id"] for offset in offsets.tolist()]
                reserved = ReservationBatch(
                    1,
                    1,
                    1,
                    offsets,
                    offsets % len(MODELS),
                    np.full(len(offsets), CHARGE),
                    np.zeros(len(offsets)),
                    id_digests(ids),
                    0,
                    np.full(len(MODELS), 10**18),
                    0.0,
                    begin,
                    begin + len(offsets),
                )
                yield TopicRecord(topic, lane, begin // BATCH, None, encode_reservations(reserved))

    def _outcomes(self, topic: str) -> Iterator[TopicRecord]:
        for lane in range(self.lanes):
            for offset in range(self.each):
                identity = orjson.loads(made_up(offset, lane))["id"]
                model = MODELS[offset % len(MODELS)]
                cost = float(to_usd(CHARGE))
                outcome = Outcome(
                    id=identity, model=model, cost=cost, partition=lane, offset=offset, quality=None
                )
                yield TopicRecord(topic, lane, offset, None, encode_outcome(outcome))

    def _ledgers(self, topic: str) -> Iterator[TopicRecord]:
        served = np.bincount(np.arange(self.each) % len(MODELS), minlength=len(MODELS))
        for lane in range(self.lanes):
            account = replace(
                Account.fresh(1, len(MODELS)),
                arrived=self.each,
                served=served,
                settlements=served,
                reserved=served * CHARGE,
                charged=served * CHARGE,
                settled=served * CHARGE,
            )
            ledger = replace(
                LedgerRecord.fresh(lane),
                models=MODELS,
                account=account,
                next=self.each,
                outcomes_next=self.each,
                outcomes={"settled": self.each},
            )
            yield TopicRecord(topic, lane, 0, b"ledger", ledger.encode())


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Print bytes and microseconds per query."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    check(MadeUp(BATCH * options.partitions, options.partitions), TOPICS)  # what is loaded once
    logs = MadeUp(options.queries, options.partitions)
    before, began = resident(), time.perf_counter()
    verdict = check(logs, logs.topics, complete=True)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = {
        "queries": verdict.queries,
        "fine": verdict.fine,
        "bytes_a_query": round((peak - before) / verdict.queries),
        "microseconds_a_query": round(seconds / verdict.queries * 1e6, 1),
        "command": "python -m benchmarks.audit " + " ".join(sys.argv[1:]),
        "machine": describe(),
    }
    print(orjson.dumps(result).decode())
    save(options.json, result)
    return 0 if verdict.fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
