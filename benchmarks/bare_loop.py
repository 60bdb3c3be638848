"""Baseline: a bare confluent-kafka loop that consumes, produces and commits as the router does."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

BATCH = 1000
WARM = 2000
"""Messages that are not timed: connections and caches are warm after them."""


def _loop(
    servers: str,
    topics: dict[str, str],
    partitions: list[int],
    name: str,
    total: int,
    times: list[Any],
    options: Mapping[str, Any],
) -> None:
    """Consume batches of up to `BATCH` messages, partition by partition, with one transaction per batch."""
    producer = Producer(
        {"bootstrap.servers": servers, "transactional.id": f"floor-{name}", "linger.ms": 0}
        | {"queue.buffering.max.messages": 1_000_000, "transaction.timeout.ms": 30000}
        | dict(options)
    )
    producer.init_transactions(30)
    config = {
        "bootstrap.servers": servers,
        "group.id": f"floor-{name}",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 10,
    }
    done = 0
    with closing(Consumer(config)) as consumer:
        consumer.assign([TopicPartition(topics["queries"], p, 0) for p in partitions])
        while done < total:
            batch: list[Any] = [m for m in consumer.consume(BATCH, 0.05) if _usable(m)]
            if not batch:
                continue
            producer.begin_transaction()
            ends: dict[int, int] = {}
            for message in batch:
                value = message.value()
                query = orjson.loads(value)
                routing = {
                    "model": "llm-00",
                    "quality": 0.5,
                    "cost": 0.001,
                    "price": 1.0,
                    "plan": 1,
                    "period": 1,
                    "partition": message.partition(),
                    "offset": message.offset(),
                    "id": query["id"],
                }
                out = value[:-1] + b',"routing":' + orjson.dumps(routing) + b"}"
                producer.produce(topics["out"], out)
                ends[message.partition()] = message.offset() + 1
            for partition, end in ends.items():
                record = orjson.dumps({"next": end})
                producer.produce(topics["ledger"], record, key=b"%d" % partition, partition=partition)
                producer.produce(topics["reservations"], record, partition=partition)
            producer.commit_transaction(30)
            done += len(batch)
            times.append((time.perf_counter(), len(batch)))


def _usable(message: Any) -> bool:
    error = message.error()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:
        raise RuntimeError(error.str())
    return error is None


def measure(
    servers: str,
    topics: dict[str, str],
    partitions: int,
    total: int,
    *,
    threads: bool = False,
    options: Mapping[str, Any] | None = None,
) -> float:
    """Return queries/s of the bare loop, sequential or with one thread per partition.

    Parameters
    ----------
    servers : str
    topics : dict of str to str
        Topics `queries`, `out`, `ledger` and `reservations`.
    partitions, total : int
    threads : bool
    options : mapping, optional
        Of the producer, such as `streams.kafka.clients.ONE_REQUEST`; by default, the client's own.
    """
    times: list[Any] = []
    groups = [[p] for p in range(partitions)] if threads else [list(range(partitions))]
    share = total // len(groups)
    name = uuid.uuid4().hex[:8]
    workers = [
        threading.Thread(
            target=_loop, args=(servers, topics, group, f"{name}-{i}", share, times, options or {})
        )
        for i, group in enumerate(groups)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return rate(times)


def rate(times: list[tuple[float, int]]) -> float:
    """Return queries/s, without the first `WARM` queries."""
    times = sorted(times)
    warmed = start = 0
    warm = min(WARM, sum(count for _, count in times) // 4)
    while start < len(times) - 2 and warmed < warm:
        warmed += times[start][1]
        start += 1
    began, ended = times[start - 1][0], times[-1][0]
    return float(sum(count for _, count in times[start:]) / max(ended - began, 1e-9))
