"""Time from production to committed read, and the worker's processor time, at several rates of queries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import orjson
from confluent_kafka import Producer, TopicPartition

from benchmarks import synthetic_queries
from benchmarks.stream_run import Run
from streams.kafka.bounded_clients import Consumer
from streams.kafka.clients import reader_config
from streams.kafka.follower import consume_available

WARM_RATE, WARM_SECONDS = 500, 60
"""Queries/s and seconds that come before latencies are measured: the broker's compiler takes a third of a
processor at first."""

Messages = Callable[[int, int], list[bytes]]
"""Returns a number of messages, by a seed; their ids are `q<seed>-<number>`."""


def latency(
    run: Run, estimator: str, rows: int, rates: Sequence[int], seconds: float, messages: Messages
) -> dict[str, dict[str, float]]:
    """Return milliseconds from production to committed read, by rate, and `worker_cpu_us` of a query.

    Parameters
    ----------
    run : Run
    estimator : str
        As of `benchmarks.worker_process`; without effect if the run has a history.
    rows : int
        Rows of a synthetic history.
    rates : sequence of int
        Queries/s.
    seconds : float
        Of each rate.
    messages : callable
    """
    settings = run.settings
    producer = Producer({"bootstrap.servers": settings.brokers(), "linger.ms": 0})
    first = messages(200, 7)
    with run.worker(estimator, rows):
        synthetic_queries.produce(producer, settings.topics.queries, first, settings.partitions)
        run.wait_until_decided(len(first), 300)
        paced(run, producer, WARM_RATE, messages(WARM_RATE * WARM_SECONDS, 99), 99)
        figures = {}
        for number, rate in enumerate(rates):
            count, before = int(rate * seconds), run.cpu_seconds()
            waits = paced(run, producer, rate, messages(count, 100 + number), 100 + number)
            figures[str(rate)] = waits | {"worker_cpu_us": round(1e6 * (run.cpu_seconds() - before) / count)}
        return figures


def paced(run: Run, producer: Producer, rate: int, values: list[bytes], seed: int) -> dict[str, float]:
    """Return percentiles at one rate, without the first second.

    Parameters
    ----------
    run : Run
    producer : Producer
    rate : int
        Queries/s.
    values : list of bytes
        The messages.
    seed : int
        That of the messages: their ids begin with it.

    Raises
    ------
    TimeoutError
        A query had no output a minute after the last was due.
    """
    settings, count = run.settings, len(values)
    outputs = {
        settings.topics.llm(slug): settings.llm_topic_partitions for slug in settings.read_catalogue().slugs
    }
    outputs[settings.topics.unserved] = settings.partitions
    consumer = Consumer(reader_config(settings) | {"fetch.wait.max.ms": 25, "enable.partition.eof": False})
    ends = []
    for name, partitions in outputs.items():
        for partition in range(partitions):
            end = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=10)[1]
            ends.append(TopicPartition(name, partition, end))
    consumer.assign(ends)
    sent: dict[str, float] = {}
    arrived: dict[str, float] = {}

    def collect() -> None:
        deadline = time.monotonic() + count / rate + 60
        while len(arrived) < count and time.monotonic() < deadline:
            for message in consume_available(consumer, 500, 0.1):
                if message.error() is None:
                    arrived[orjson.loads(message.value() or b"")["id"]] = time.time()

    collector = threading.Thread(target=collect, name="collect")
    collector.start()
    began = time.time()
    for i, moment in enumerate(
        synthetic_queries.paced(producer, settings.topics.queries, values, settings.partitions, rate)
    ):
        sent[f"q{seed}-{i}"] = moment
    collector.join()
    consumer.close()
    if len(arrived) < count:
        raise TimeoutError(f"{len(arrived)} of {count} queries at {rate}/s came within 60 s")
    waits = [1000 * (arrived[key] - moment) for key, moment in sent.items() if moment > began + 1]
    return {f"p{q}": round(float(np.percentile(waits, q)), 1) for q in (50, 95, 99)}
