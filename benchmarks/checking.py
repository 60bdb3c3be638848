"""`python -m benchmarks.checking`: what `streams check` takes of memory and time, on topics that are made up.

Every query was served by one LLM of eleven and settled at what it reserved. Topics are made while they are
read, so that none of the memory is theirs.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson

from benchmarks.load import MODELS
from benchmarks.machine import describe
from benchmarks.saving import save
from routing.account import Account
from routing.catalogue import Model
from routing.money import to_usd
from streams.checker import check
from streams.checks.logs import Entry
from streams.ledger import LedgerRecord
from streams.messages import Outcome, decode_query, encode_outcome, encode_routed
from streams.reservations import Reserved, encode_reserved, id_digests
from streams.topic_names import Topics

BATCH = 500
TOPICS = Topics(prefix="made-up.")
CHARGE = 10**8
"""Picodollars that each query reserves."""


def made_up(offset: int, lane: int) -> bytes:
    """A query with an id as long as a UUID."""
    return orjson.dumps({"id": f"{lane:08d}-0000-0000-0000-{offset:012d}", "prompt": "Why is the sky blue?"})


class MadeUp:
    """The topics of a router that has served as many queries.

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
            topics.queries: self._queries, topics.reservations: self._reservations,
            topics.outcomes: self._outcomes, topics.ledger: self._ledgers,
        }  # fmt: skip
        self._llms = {topics.llm(Model(name).slug): number for number, name in enumerate(MODELS)}

    def partitions(self) -> Mapping[str, int]:
        names = [name for key, name in vars(self.topics).items() if key != "prefix"]
        return dict.fromkeys([*names, *self._llms], self.lanes)

    def first(self, topic: str) -> int:
        return 0

    def read(self, *names: str) -> Iterator[Entry]:
        for name in names:
            if name in self._llms:
                yield from self._routed(name, self._llms[name])
            elif name in self._makers:
                yield from self._makers[name](name)

    def _queries(self, topic: str) -> Iterator[Entry]:
        for offset in range(self.each):
            for lane in range(self.lanes):
                yield Entry(topic, lane, offset, b"key", made_up(offset, lane))

    def _routed(self, topic: str, model: int) -> Iterator[Entry]:
        for lane in range(self.lanes):
            for offset in range(model, self.each, len(MODELS)):
                routing = {
                    "model": MODELS[model], "cost": float(to_usd(CHARGE)), "price": 1.0, "plan": 1,
                    "period": 1, "partition": lane, "offset": offset,
                }  # fmt: skip
                query = decode_query(made_up(offset, lane), None)
                yield Entry(topic, lane, offset, b"key", encode_routed(query, routing))

    def _reservations(self, topic: str) -> Iterator[Entry]:
        for lane in range(self.lanes):
            for begin in range(0, self.each, BATCH):
                offsets = np.arange(begin, min(begin + BATCH, self.each))
                ids = [orjson.loads(made_up(offset, lane))["id"] for offset in offsets.tolist()]
                reserved = Reserved(
                    1, 1, 1, offsets, offsets % len(MODELS), np.full(len(offsets), CHARGE),
                    np.zeros(len(offsets)), id_digests(ids), 0, np.full(len(MODELS), 10**18), 0.0,
                    begin, begin + len(offsets),
                )  # fmt: skip
                yield Entry(topic, lane, begin // BATCH, None, encode_reserved(reserved))

    def _outcomes(self, topic: str) -> Iterator[Entry]:
        for lane in range(self.lanes):
            for offset in range(self.each):
                identity = orjson.loads(made_up(offset, lane))["id"]
                model = MODELS[offset % len(MODELS)]
                cost = float(to_usd(CHARGE))
                outcome = Outcome(
                    id=identity, model=model, cost=cost, partition=lane, offset=offset, quality=None
                )
                yield Entry(topic, lane, offset, None, encode_outcome(outcome))

    def _ledgers(self, topic: str) -> Iterator[Entry]:
        served = np.bincount(np.arange(self.each) % len(MODELS), minlength=len(MODELS))
        for lane in range(self.lanes):
            account = replace(
                Account.fresh(1, len(MODELS)), arrived=self.each, served=served, settlements=served,
                reserved=served * CHARGE, charged=served * CHARGE, settled=served * CHARGE,
            )  # fmt: skip
            ledger = replace(
                LedgerRecord.fresh(lane), models=MODELS, account=account, next=self.each,
                outcomes_next=self.each, outcomes={"settled": self.each},
            )  # fmt: skip
            yield Entry(topic, lane, 0, b"ledger", ledger.encode())


def resident() -> int:
    """Bytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Prints bytes and microseconds a query."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checking", description=__doc__)
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    check(MadeUp(BATCH * given.partitions, given.partitions), TOPICS)  # what is loaded once
    logs = MadeUp(given.queries, given.partitions)
    before, began = resident(), time.perf_counter()
    verdict = check(logs, logs.topics, complete=True)
    seconds = time.perf_counter() - began
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {
        "queries": verdict.queries, "fine": verdict.fine,
        "bytes_a_query": round((most - before) / verdict.queries),
        "microseconds_a_query": round(seconds / verdict.queries * 1e6, 1),
        "command": "python -m benchmarks.checking " + " ".join(sys.argv[1:]), "machine": describe(),
    }  # fmt: skip
    print(orjson.dumps(found).decode())
    save(given.json, found)
    return 0 if verdict.fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
