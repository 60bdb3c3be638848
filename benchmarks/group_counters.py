"""A thousand groups with a limit each: a worker's speed, its ledger's bytes, and the planner's look.

    python -m benchmarks.group_counters --json docs/results/group-counters.json

The worker runs on a native Apache Kafka with a constant estimate, so the figures are those of the stream
alone. It has a budget per LLM, or one total and a limit per group, whose queries all come on one partition.
Speeds are compared by processor time per query, too, because other programs may use the machine. The look is
measured in memory: ledgers decoded, grants handed out, plan and bills encoded.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import orjson
from confluent_kafka import Producer

from benchmarks import synthetic_queries
from benchmarks.machine import describe
from benchmarks.result_file import save
from benchmarks.stream_run import Run, throughput
from infra.broker.native import native_cluster
from routing.budgets.budget import Budget
from routing.budgets.terms import QueryTerms
from routing.estimators.base import Estimates
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.policy.policy import route
from streams.kafka.clients import reader_config
from streams.kafka.reading import read_to_end
from streams.ledger.account_format import counter_of, lane_key, period_of
from streams.ledger.changes import LedgerChanges
from streams.ledger.period_summary import encode_period
from streams.ledger.record import LedgerRecord
from streams.ledger.record_log import LedgerLog
from streams.messages.plan import plan_messages
from streams.planner.bill_updates import BillUpdates

MODELS = synthetic_queries.MODELS
FIELD = "metadata.team"
WARM_LOOKS = 3
"""Looks that are not measured: they hand out most grants, once a period."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.group_counters", description=__doc__)
    parser.add_argument("--groups", default="16,1000", metavar="N,N", help="numbers of groups [%(default)s]")
    parser.add_argument("--partitions", type=int, default=16, help="[%(default)s]")
    parser.add_argument("--queries", type=int, default=20_000, help="of each run [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="the medians count [%(default)s]")
    parser.add_argument("--looks", type=int, default=10, help="measured looks [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="OUT")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    sizes = [int(size) for size in options.groups.split(",")]
    looks = [measure_look(size, options.partitions, options.looks) for size in sizes]
    for row in looks:
        print(orjson.dumps(row).decode(), file=sys.stderr, flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, native_cluster(1) as cluster:
        for _ in range(options.rounds):
            for groups in (None, *sizes):
                result = run_worker(
                    cluster.bootstrap_servers, Path(folder), options.partitions, options.queries, groups
                )
                print(orjson.dumps(result).decode(), file=sys.stderr, flush=True)
                rows.append(result)
    summary = summarised(rows)
    save(options.json, {"machine": describe(), "looks": looks, "runs": rows, "summary": summary})
    print(orjson.dumps({"looks": looks, "summary": summary}).decode())
    return 0


# ---- the worker ------------------------------------------------------------------------------------------


def catalogue_of(groups: int | None) -> dict[str, Any]:
    """Return a rich catalogue: with a budget per LLM, or with one total and a limit for each group."""
    if groups is None:
        return {"models": [{"name": name, "budget_usd": 1000.0} for name in MODELS]}
    limits = {f"group-{number}": 1000.0 for number in range(groups)}
    team = {"name": "team", "group_by": FIELD, "limits": limits}
    return {"budget_usd": 1000.0 * len(MODELS), "budgets": [team], "models": list(MODELS)}


def group_of(number: int, groups: int, partitions: int) -> int:
    """Return the group of a query: those of a partition take turns, and are on no other partition.

    Examples
    --------
    >>> [group_of(number, 5, 2) for number in range(8)]
    [0, 1, 2, 3, 4, 1, 0, 3]
    """
    partition = number % partitions
    groups_of_partition = range(partition, groups, partitions)
    return groups_of_partition[(number // partitions) % len(groups_of_partition)]


def run_worker(
    servers: str, folder: Path, partitions: int, queries: int, groups: int | None
) -> dict[str, Any]:
    """Return queries/s and processor time of a worker on a backlog, and the bytes of its ledgers."""
    run = Run(servers, folder, partitions, 10**7, catalogue=catalogue_of(groups))
    values = [
        value[:-1] + b',"metadata":{"team":"group-%d"}}' % group_of(number, groups or 1000, partitions)
        for number, value in enumerate(synthetic_queries.messages(queries))
    ]
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20})
    synthetic_queries.produce(producer, run.settings.topics.queries, values, partitions)
    rate, stages = throughput(run, "constant", 64, queries)
    spent = sum(stage["cpu_seconds"] for stage in stages.values())
    return {
        "groups": groups,
        "queries": queries,
        "queries_per_second": round(rate, 1),
        "cpu_us_per_query": round(1e6 * spent / queries, 2),
        **ledger_bytes(run),
    }


def ledger_bytes(run: Run) -> dict[str, float]:
    """Return the bytes of the ledger's topic per transaction: lanes' records, and those of groups.

    Of the second half of each lane's transactions: in the first ones, lanes give back what the period began
    with.
    """
    config, topic = reader_config(run.settings), run.settings.topics.ledger
    written: list[tuple[int, int, int]] = []
    for partition in range(run.settings.partitions):
        lane_transactions: list[tuple[int, int, int]] = []
        groups = counters = 0
        for message in read_to_end(config, topic, partition):
            size = len(message.key() or b"") + len(message.value() or b"")
            if counter_of(message.key()) is not None:
                counters, groups = counters + 1, groups + size
            elif period_of(message.key()) is None:
                lane_transactions.append((size, counters, groups))
                groups = counters = 0
        written += lane_transactions[len(lane_transactions) // 2 :]
    record, counters, groups = (sum(column) for column in zip(*written, strict=True))
    return {
        "transactions": len(written),
        "record_bytes": round(record / len(written), 1),
        "group_records": round(counters / len(written), 1),
        "bytes_of_a_group_record": round(groups / max(1, counters), 1),
        "ledger_bytes": round((record + groups) / len(written), 1),
    }


def summarised(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the medians over the rounds, and speeds relative to a budget per LLM."""
    kinds = list(dict.fromkeys(row["groups"] for row in rows))
    medians = []
    for kind in kinds:
        kind_rows = [row for row in rows if row["groups"] == kind]
        medians.append(
            {key: median(row[key] for row in kind_rows) for key in kind_rows[0] if key != "groups"}
        )
    for kind, one in zip(kinds, medians, strict=True):
        one["groups"] = kind
        one["speed"] = round(one["queries_per_second"] / medians[0]["queries_per_second"], 3)
        one["speed_by_cpu"] = round(medians[0]["cpu_us_per_query"] / one["cpu_us_per_query"], 3)
    return medians


# ---- the planner's look ----------------------------------------------------------------------------------


def measure_look(groups: int, partitions: int, looks: int, batch: int = 60) -> dict[str, Any]:
    """Return the planner's processor time of a look after a batch of queries on every partition."""
    names = [f"group-{number}" for number in range(groups)]
    budgets = (
        Budget("total", limit=1e4),
        Budget("team", group_by=FIELD, limits=dict.fromkeys(names, 100.0)),
    )
    random = np.random.default_rng(0)
    settings = PlanningSettings(horizon=10**6, warmup="history", solver="newton")
    history = some_estimates(random, 64)
    planner = Planner(settings, MODELS, budgets, lanes=partitions, overflow=True, history=history)
    plan, published, bills = planner.start_period(), None, BillUpdates()
    lanes = [Lane(number) for number in range(partitions)]
    seconds, messages = [], []
    for number in range(WARM_LOOKS + looks):
        for lane in lanes:
            traffic = [names[one] for one in random.choice(np.arange(lane.number, groups, partitions), batch)]
            lane.decide(plan, some_estimates(random, batch), traffic)
        began = time.process_time()
        ledgers = {lane.number: record for lane in lanes if (record := lane.log.record()) is not None}
        for place, record in ledgers.items():
            planner.record_account(place, record.account)
        plan = planner.update_grants()
        written = list(plan_messages(plan, published))
        due = bills.pending(plan, ledgers)
        for summary in due:
            encode_period(summary)
        if number >= WARM_LOOKS:
            seconds.append(time.process_time() - began)
            messages.append(len(written))
        bills.mark_written(due)
        published = plan
    return {
        "groups": groups,
        "partitions": partitions,
        "look_cpu_ms_median": round(1e3 * median(seconds), 2),
        "look_cpu_ms_min": round(1e3 * min(seconds), 2),
        "look_cpu_ms_max": round(1e3 * max(seconds), 2),
        "plan_messages_median": median(messages),
    }


def some_estimates(random: np.random.Generator, rows: int) -> Estimates:
    """Return random estimates, [rows, M]."""
    shape = (rows, len(MODELS))
    cost = np.exp(random.normal(0, 0.3, shape)) * np.geomspace(1e-5, 1e-3, len(MODELS))
    return Estimates(random.uniform(0, 1, shape), cost)


class Lane:
    """A lane in memory, whose ledger is encoded and read as on its topic."""

    def __init__(self, number: int) -> None:
        self.number, self.log = number, LedgerLog()
        self._record, self._changes = LedgerRecord.fresh(number), LedgerChanges(number)

    def decide(self, plan: Any, estimates: Estimates, groups: list[str]) -> None:
        """Decide a batch of queries, and append what its transaction writes to the ledger."""
        offsets = np.arange(len(estimates)) + self._record.next
        terms = QueryTerms(values={FIELD: groups})
        account = route(self._record.account, plan, self.number, estimates, offsets, terms=terms).account
        self._record = replace(
            self._record, models=MODELS, account=account, next=self._record.next + len(offsets)
        )
        for key, value in self._messages():
            self.log.append(key, value)
        self._changes.written(self._record)

    def _messages(self) -> Iterator[tuple[bytes, bytes | None]]:
        yield from self._changes.since(self._record)
        yield lane_key(self.number), self._record.encode()


if __name__ == "__main__":
    sys.exit(main())
