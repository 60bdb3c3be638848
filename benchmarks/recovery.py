"""Time until a killed worker's partitions are routed again, by another worker or by its own restart.

    python -m benchmarks.recovery --json docs/results/recovery.json

Two workers share the partitions of a steady stream; one is killed (SIGKILL). Either the other worker takes
over, or a process with the same `PORT_INSTANCE_ID` starts at once. The time of a partition ends when a query
that was sent after the kill has been read from its output, committed. The slowest partition counts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median

import orjson
from confluent_kafka import Producer, TopicPartition

from benchmarks import synthetic_queries
from benchmarks.result_file import report
from benchmarks.startup import ready_worker
from benchmarks.stream_run import Run
from infra.broker.native import native_cluster
from streams.kafka.bounded_clients import Consumer
from streams.kafka.clients import reader_config
from streams.kafka.follower import consume_available

LIMIT_SECONDS = 120.0


class Traffic:
    """A steady stream of queries, and the time at which each partition last had one routed.

    Parameters
    ----------
    run : Run
    rate : int
        Queries/s.
    """

    def __init__(self, run: Run, rate: int) -> None:
        self._run, self._rate = run, rate
        self._end = threading.Event()
        self._sent: list[float] = []
        self._routed: dict[int, float] = {}
        """By partition of `queries`: when the newest of its routed queries was sent."""
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._read)]

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Send and read for the length of a block."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._end.set()
            for thread in self._threads:
                thread.join()

    def seconds_until_routed(self, since: float) -> float:
        """Wait until every partition has routed a query sent after this time; return the seconds since then.

        Raises
        ------
        TimeoutError
            A partition did not within `LIMIT_SECONDS`.
        """
        while time.time() < since + LIMIT_SECONDS:
            newest = [self._routed.get(number, 0.0) for number in range(self._run.settings.partitions)]
            if min(newest) > since:
                return time.time() - since
            time.sleep(0.01)
        raise TimeoutError(f"not all partitions were routed within {LIMIT_SECONDS:.0f} s")

    def _send(self) -> None:
        settings = self._run.settings
        producer = Producer({"bootstrap.servers": settings.brokers(), "linger.ms": 0})
        messages = synthetic_queries.messages(2000)
        began = time.time()
        while not self._end.is_set():
            number = len(self._sent)
            query = orjson.loads(messages[number % len(messages)]) | {"id": str(number)}
            time.sleep(max(0.0, began + number / self._rate - time.time()))
            self._sent.append(time.time())
            producer.produce(
                settings.topics.queries, orjson.dumps(query), partition=number % settings.partitions
            )
            producer.poll(0)
        producer.flush(10)

    def _read(self) -> None:
        settings = self._run.settings
        consumer = Consumer(reader_config(settings) | {"fetch.wait.max.ms": 10})
        outputs = [settings.topics.llm(slug) for slug in settings.read_catalogue().slugs]
        consumer.assign(
            [TopicPartition(name, n, 0) for name in outputs for n in range(settings.llm_topic_partitions)]
        )
        while not self._end.is_set():
            for message in consume_available(consumer, 500, 0.05):
                if message.error() is None:
                    number = int(orjson.loads(message.value() or b"")["id"])
                    partition = number % settings.partitions
                    self._routed[partition] = max(self._routed.get(partition, 0.0), self._sent[number])
        consumer.close()


def worker(run: Run, name: str, static: bool) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Run a worker until the block ends, with `PORT_INSTANCE_ID` if it is to be a static member."""
    module = ["benchmarks.worker_process", "--estimator", "constant", "--stages", run.folder / f"{name}.json"]
    return ready_worker(run, name, module, {"PORT_INSTANCE_ID": name} if static else {})


def measured(run: Run, rate: int, *, restart: bool) -> dict[str, float]:
    """Kill one of two workers and return seconds until its partitions are routed again."""
    traffic = Traffic(run, rate)
    with traffic.flowing(), worker(run, "a", restart):
        with worker(run, "b", restart) as victim:
            traffic.seconds_until_routed(time.time() + 3)
            victim.kill()
            killed = time.time()
        if not restart:
            return {"seconds": round(traffic.seconds_until_routed(killed), 2)}
        with worker(run, "b", restart):
            ready = time.time()
            seconds = traffic.seconds_until_routed(killed)
            return {"seconds": round(seconds, 2), "after_ready": round(killed + seconds - ready, 2)}
    raise AssertionError("unreachable")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rate", type=int, default=100, help="queries/s [%(default)s]")
    parser.add_argument("--partitions", type=int, default=4, help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    arguments = parser.parse_args()
    taken: list[dict[str, float]] = []
    restarted: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, native_cluster(1) as cluster:
        for round_ in range(arguments.rounds):
            for restart, figures in ((False, taken), (True, restarted)):
                run = Run(cluster.bootstrap_servers, Path(folder), arguments.partitions, 10**7)
                figures.append(measured(run, arguments.rate, restart=restart))
                print(f"round {round_}: restart {restart}: {figures[-1]}", file=sys.stderr, flush=True)
            timeout = run.settings.session_timeout_seconds
    result = {
        "session_timeout_seconds": timeout,
        "taken_over_seconds": median(one["seconds"] for one in taken),
        "restarted_seconds": median(one["seconds"] for one in restarted),
        "restarted_seconds_after_ready": median(one["after_ready"] for one in restarted),
        "rounds": {"taken over": taken, "restarted": restarted},
    }
    report("recovery", arguments.json, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
