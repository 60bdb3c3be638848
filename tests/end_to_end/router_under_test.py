"""A router under test: its own topics and settings, workers, queries, and everything that it produces."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from producers.query_producer import encode_query
from routing.budgets.money import to_usd
from streams.audit.check import Findings, check
from streams.audit.outputs import DEFERRED, SERVED, OutputRecord, read_output
from streams.audit.topic_records import KafkaTopicSource, TopicRecord
from streams.config.settings import Settings
from streams.kafka.clients import client_config, producer_config, reader_config
from streams.kafka.scanner import Scanner
from streams.kafka.topics import create_topics, existing_partitions, topic_specs
from streams.ledger.record import LedgerRecord
from streams.ledger.view import LedgerView
from streams.messages.headers import headers_of
from streams.messages.plan import PLAN_KEY, decode_plan
from tests.end_to_end.faults import frequent_heartbeats
from tests.end_to_end.small_dataset import Small
from tests.end_to_end.worker_process import Fault, Worker, wait_for

Headers = Sequence[tuple[str, bytes]]


class Observer:
    """Consumer that reads committed records and collects the outputs of each query.

    Parameters
    ----------
    settings : Settings
    names : sequence of str
        Output topics.
    """

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        self.settings = settings
        self.landed: defaultdict[tuple[int, int], list[OutputRecord]] = defaultdict(list)
        """Outputs by the query's partition and offset."""
        self._overflow: dict[int, tuple[int, int]] = {}
        self._consumer = Consumer(reader_config(settings, f"{settings.app_id}-observer"))
        self._consumer.assign(self._places(names))
        self._new_topics: queue.SimpleQueue[list[TopicPartition]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def follow(self, names: Sequence[str]) -> None:
        """Consume more topics, such as those of added LLMs."""
        places = self._places(names)
        # The consumer's own thread assigns them; in another thread the call would block indefinitely.
        self._new_topics.put(places)

    def _places(self, names: Sequence[str]) -> list[TopicPartition]:
        partitions = existing_partitions(AdminClient(client_config(self.settings)))
        return [TopicPartition(name, p, 0) for name in names for p in range(partitions[name])]

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            while not self._new_topics.empty():
                self._consumer.incremental_assign(self._new_topics.get())
            for message in self._consumer.consume(1000, 0.05):
                if message.error() is None:
                    self._record(
                        TopicRecord(
                            message.topic() or "",
                            message.partition() or 0,
                            message.offset() or 0,
                            message.key(),
                            message.value(),
                            headers_of(message),
                        )
                    )

    def _record(self, entry: TopicRecord) -> None:
        landing = read_output(entry, self.settings.topics, self.settings.partitions)
        if landing is None or landing.kind == DEFERRED:
            return
        self.landed[landing.source or (landing.lane, landing.offset)].append(landing)


class Router:
    """A router with its own topics.

    Parameters
    ----------
    servers : str
    small : Small
        Data set, history and catalogue.
    folder : Path
        Folder of logs.
    name : str
        Unique name: prefix of topics, and consumer group.
    settings
        Settings of the worker; they override those of the prepared folder.
    """

    def __init__(self, servers: str, small: Small, folder: Path, name: str, **settings: Any) -> None:
        self.small, self.folder, self.name = small, folder, name
        worker_settings = {
            "partitions": 1,
            "session_timeout_seconds": 3,
            "transaction_timeout_seconds": 5,
            "log_level": "info",
            "log_format": "json",
            "data_dir": folder / "data",
            "embedder_loads": "first",  # queries carry their embeddings
            "warmup_seconds": 60,  # a busy machine must not look like a slow stream
        } | settings
        self.variables = {
            **small.variables,
            "KAFKA_BOOTSTRAP_SERVERS": servers,
            "PORT_TOPIC_PREFIX": f"{name}.",
            "PORT_APP_ID": name,
            **{f"PORT_{key.upper()}": str(value) for key, value in worker_settings.items()},
        }
        self.settings = settings_of(self.variables)
        self.topics = self.settings.topics
        self.catalogue = self.settings.read_catalogue()
        self.admin = AdminClient(client_config(self.settings))
        specs = topic_specs(self.settings, self.catalogue)
        create_topics(self.admin, specs, self.settings.replication_factor)
        self.workers: list[Worker] = []
        llms = [self.topics.llm(slug) for slug in self.catalogue.slugs]
        self.observer = Observer(self.settings, [*llms, self.topics.unserved, self.topics.dlq])
        overflow = self.settings.partitions > 1
        self.view = LedgerView(self.settings, overflow)
        self.view.start()
        self.producer = Producer(producer_config(self.settings) | {"linger.ms": 5})
        self.sent: dict[tuple[int, int], str] = {}
        """Ids of the sent queries by partition and offset."""

    # ---- workers -----------------------------------------------------------------------------------------

    def start(
        self, *faults: Fault, ready: bool = False, options: tuple[str, ...] = (), **settings: Any
    ) -> Worker:
        """Start a worker; with `ready`, wait until its lanes are assigned.

        A worker with an HTTP port publishes its state often, because tests wait for what it shows.
        """
        if self.settings.web_port is not None:
            faults = (frequent_heartbeats, *faults)
        variables = {f"PORT_{key.upper()}": str(value) for key, value in settings.items()}
        log = self.folder / f"{self.name}-{len(self.workers)}.log"
        worker = Worker({**self.variables, **variables}, log, faults, options)
        self.workers.append(worker)
        if ready:
            wait_for(lambda: worker.logged("lanes_assigned"), 60, f"lanes of {log} are assigned")
        return worker

    def close(self) -> None:
        """Stop all workers and consumers."""
        for worker in self.workers:
            worker.end()
        self.observer.stop()
        self.view.stop()

    def delete_topics(self) -> None:
        names = [name for name in existing_partitions(self.admin) if name.startswith(f"{self.name}.")]
        for future in self.admin.delete_topics(names).values():
            future.result(30)

    # ---- queries -----------------------------------------------------------------------------------------

    def query(self, row: int, identity: str | None = None) -> tuple[str, bytes]:
        """Return a prepared query as id and message, with its embedding."""
        data, vectors = self.small.prepared.queries, self.small.prepared.embeddings
        assert vectors is not None
        row %= len(data)
        identity = identity or data.ids[row]
        return identity, encode_query(identity, data.prompts[row], vectors[row])

    def send(self, rows: Iterable[int], partitions: Sequence[int] | None = None, tag: str = "") -> None:
        """Send prepared queries, round-robin over the partitions by default."""
        count = self.settings.partitions
        for number, row in enumerate(rows):
            partition = number % count if partitions is None else partitions[number]
            data = self.small.prepared.queries
            identity, value = self.query(row, f"{tag}{data.ids[row % len(data)]}" if tag else None)
            self.send_raw(identity, value, partition=partition, flush=False)
        self.producer.flush(60)

    def send_raw(
        self,
        identity: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers = (),
        partition: int = 0,
        flush: bool = True,
    ) -> None:
        """Send any record to the topic of queries."""

        def delivered(error: Any, message: Any) -> None:
            assert error is None, error
            self.sent[message.partition(), message.offset()] = identity

        topic = self.topics.queries
        self.producer.produce(
            topic, value, key, partition=partition, headers=list(headers), on_delivery=delivered
        )
        self.producer.poll(0)
        if flush:
            self.producer.flush(30)

    def answer(self, landing: OutputRecord, cost: float | None = None, **changes: Any) -> None:
        """Send the outcome of a routed query; the cost is the reservation by default."""
        cost = float(to_usd(landing.charge)) if cost is None else cost
        fields = {
            "id": landing.id,
            "model": landing.model,
            "cost": cost,
            "partition": landing.lane,
            "offset": landing.offset,
        } | changes
        self.producer.produce(self.topics.outcomes, orjson.dumps(fields), partition=landing.lane)
        self.producer.poll(0)

    def served(self) -> list[OutputRecord]:
        """Return the routed queries in the order of partition and offset."""
        return [
            landing
            for place in sorted(self.landed)
            for landing in self.landed[place]
            if landing.kind == SERVED
        ]

    def settled(self, count: int) -> None:
        """Wait until lanes have processed `count` outcomes of any kind."""
        self.producer.flush(30)
        self.ledgers_are(
            lambda ledgers: sum(sum(ledger.outcomes.values()) for ledger in ledgers.values()) >= count,
            f"{count} outcomes are processed",
        )

    # ---- outputs -------------------------------------------------------------------------------

    @property
    def landed(self) -> Mapping[tuple[int, int], list[OutputRecord]]:
        return self.observer.landed

    def landed_at_least(self, count: int, seconds: float = 60.0) -> None:
        """Wait until `count` queries have outputs."""
        wait_for(lambda: len(self.landed) >= count, seconds, f"{count} landed; {self.progress()}")

    def all_landed(self, seconds: float = 90.0) -> None:
        """Wait until every query that was sent has an output."""
        wait_for(
            lambda: len(self.landed) >= len(self.sent) and set(self.sent) <= set(self.landed),
            seconds,
            f"all {len(self.sent)} landed; {self.progress()}",
        )

    def progress(self) -> str:
        """Describe the state for the message of a wait that times out."""
        logs = ", ".join(str(worker.log) for worker in self.workers)
        return f"{len(self.landed)} when the wait began; logs {logs}"

    def ledgers(self) -> dict[int, LedgerRecord]:
        """Return the lanes' current ledger records, which may lag by a moment."""
        return self.view.records()

    def ledgers_are(self, condition: Callable[[dict[int, LedgerRecord]], Any], what: str) -> Any:
        """Wait until the ledgers fulfil a condition, and return its value."""
        return wait_for(lambda: condition(self.ledgers()), 60, what)

    @contextmanager
    def logs(self) -> Iterator[KafkaTopicSource]:
        """Open all topics for the audit."""
        with Scanner(reader_config(self.settings, f"{self.name}-check")) as scanner:
            yield KafkaTopicSource(scanner, self.name)

    def check(self, complete: bool = True) -> Findings:
        """Return the findings of the audit."""
        with self.logs() as logs:
            return check(logs, self.topics, complete=complete)

    def check_at_rest(self, seconds: float = 20.0) -> Findings:
        """Return the findings of the audit once the bills are up to date, or after a time limit."""
        deadline = time.monotonic() + seconds
        while (verdict := self.check(complete=True)).counts["bill"] and time.monotonic() < deadline:
            time.sleep(0.4)
        return verdict

    def plans(self) -> list[Any]:
        """Return every plan of the plan log, oldest first."""
        with self.logs() as logs:
            entries = list(logs.read(self.topics.plan_log))
        return [decode_plan(entry.value) for entry in entries if entry.value]

    def plan(self) -> Any:
        """Return the plan in force, or None."""
        with self.logs() as logs:
            entries = [e for e in logs.read(self.topics.plans) if e.key == PLAN_KEY and e.value]
        return decode_plan(entries[-1].value) if entries else None  # type: ignore[arg-type]


def settings_of(variables: Mapping[str, str]) -> Settings:
    """Read settings from variables instead of the environment."""
    settings = {
        name.removeprefix("PORT_").lower(): value
        for name, value in variables.items()
        if name.startswith("PORT_")
    }
    return Settings(bootstrap_servers=variables["KAFKA_BOOTSTRAP_SERVERS"], **settings)


def assert_whole(router: Router) -> Findings:
    """Check that every invariant holds and no query is left, and return the findings."""
    verdict = router.check_at_rest()
    assert verdict.fine, verdict.text()
    assert verdict.queries == len(router.sent)
    return verdict
