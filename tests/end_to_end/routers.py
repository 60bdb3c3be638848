"""A router under test: topics and settings of its own, workers, queries in, everything that comes out."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from producers.producing import encode_query
from routing.money import to_usd
from streams.checker import Verdict, check
from streams.checks.landings import DEFERRED, SERVED, Landing, read_landing
from streams.checks.logs import Entry, KafkaLogs
from streams.cluster import LedgerView
from streams.headers import headers_of
from streams.kafka import client_config, producer_config, reader_config
from streams.ledger import LedgerRecord
from streams.plan_messages import PLAN_KEY, decode_plan
from streams.settings import Settings
from streams.topics import create_topics, existing_partitions, topic_specs
from tests.end_to_end.data import Small
from tests.end_to_end.workers import Fault, Worker, wait_for

Headers = Sequence[tuple[str, bytes]]


class Observer:
    """What a consumer has that reads committed: every query where it landed, as it comes.

    Parameters
    ----------
    settings : Settings
    names : sequence of str
        The topics where queries end.
    """

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        self.settings = settings
        self.landed: defaultdict[tuple[int, int], list[Landing]] = defaultdict(list)
        """By the query's partition and offset."""
        self._overflow: dict[int, tuple[int, int]] = {}
        self._consumer = Consumer(reader_config(settings, f"{settings.app_id}-observer"))
        self._consumer.assign(self._places(names))
        self._wanted: queue.SimpleQueue[list[TopicPartition]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def follow(self, names: Sequence[str]) -> None:
        """More topics: of LLMs that were added."""
        places = self._places(names)
        # in the consumer's own thread: from another it would wait for the consumer for ever
        self._wanted.put(places)

    def _places(self, names: Sequence[str]) -> list[TopicPartition]:
        partitions = existing_partitions(AdminClient(client_config(self.settings)))
        return [TopicPartition(name, p, 0) for name in names for p in range(partitions[name])]

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            while not self._wanted.empty():
                self._consumer.incremental_assign(self._wanted.get())
            for message in self._consumer.consume(1000, 0.05):
                if message.error() is None:
                    self._take(
                        Entry(
                            message.topic() or "", message.partition() or 0, message.offset() or 0,
                            message.key(), message.value(), headers_of(message),
                        )
                    )  # fmt: skip

    def _take(self, entry: Entry) -> None:
        landing = read_landing(entry, self.settings.topics, self.settings.partitions)
        if landing is None or landing.kind == DEFERRED:
            return
        self.landed[landing.source or (landing.lane, landing.offset)].append(landing)


class Router:
    """A router with topics of its own.

    Parameters
    ----------
    servers : str
    small : Small
        Data set, history and catalogue.
    folder : Path
        For logs.
    name : str
        Nobody else's: prefix of topics, and group.
    settings
        Of the worker, over those of the prepared folder.
    """

    def __init__(self, servers: str, small: Small, folder: Path, name: str, **settings: Any) -> None:
        self.small, self.folder, self.name = small, folder, name
        told = {
            "partitions": 1, "session_timeout_seconds": 3, "transaction_timeout_seconds": 5,
            "log_level": "info", "log_format": "json", "data_dir": folder / "data",
            "embedder_loads": "first",  # queries carry their embeddings
        } | settings  # fmt: skip
        self.variables = {
            **small.variables,
            "KAFKA_BOOTSTRAP_SERVERS": servers,
            "PORT_TOPIC_PREFIX": f"{name}.",
            "PORT_APP_ID": name,
            **{f"PORT_{key.upper()}": str(value) for key, value in told.items()},
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
        """By partition and offset: the id under which it was sent."""

    # ---- workers -----------------------------------------------------------------------------------------

    def start(self, *faults: Fault, ready: bool = False, **settings: Any) -> Worker:
        """Start a worker, and wait until its lanes are assigned where `ready` is set."""
        told = {f"PORT_{key.upper()}": str(value) for key, value in settings.items()}
        log = self.folder / f"{self.name}-{len(self.workers)}.log"
        worker = Worker({**self.variables, **told}, log, faults)
        self.workers.append(worker)
        if ready:
            wait_for(lambda: worker.logged("lanes_assigned"), 60, f"lanes of {log} are assigned")
        return worker

    def close(self) -> None:
        """End everything."""
        for worker in self.workers:
            worker.end()
        self.observer.stop()
        self.view.stop()

    def delete_topics(self) -> None:
        made = [name for name in existing_partitions(self.admin) if name.startswith(f"{self.name}.")]
        for future in self.admin.delete_topics(made).values():
            future.result(30)

    # ---- queries -----------------------------------------------------------------------------------------

    def query(self, row: int, identity: str | None = None) -> tuple[str, bytes]:
        """A prepared query as a message, with its embedding."""
        data, vectors = self.small.prepared.queries, self.small.prepared.embeddings
        assert vectors is not None
        row %= len(data)
        identity = identity or data.ids[row]
        return identity, encode_query(identity, data.prompts[row], vectors[row])

    def send(self, rows: Iterable[int], partitions: Sequence[int] | None = None, tag: str = "") -> None:
        """Put prepared queries on the stream; they take turns over the partitions."""
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
        """Put anything on the stream."""

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

    def answer(self, landing: Landing, cost: float | None = None, **changes: Any) -> None:
        """An outcome of a query that was routed; by default it cost what was reserved."""
        cost = float(to_usd(landing.charge)) if cost is None else cost
        fields = {
            "id": landing.id, "model": landing.model, "cost": cost,
            "partition": landing.lane, "offset": landing.offset,
        } | changes  # fmt: skip
        self.producer.produce(self.topics.outcomes, orjson.dumps(fields), partition=landing.lane)
        self.producer.poll(0)

    def served(self) -> list[Landing]:
        """Routed queries, in the order of their places."""
        return [
            landing
            for place in sorted(self.landed)
            for landing in self.landed[place]
            if landing.kind == SERVED
        ]

    def settled(self, count: int) -> None:
        """Wait until lanes have taken in so many outcomes, of whatever kind."""
        self.producer.flush(30)
        self.ledgers_are(
            lambda ledgers: sum(sum(ledger.outcomes.values()) for ledger in ledgers.values()) >= count,
            f"{count} outcomes are taken in",
        )

    # ---- what came of them -------------------------------------------------------------------------------

    @property
    def landed(self) -> Mapping[tuple[int, int], list[Landing]]:
        return self.observer.landed

    def landed_at_least(self, count: int, seconds: float = 60.0) -> None:
        """Wait until so many queries have landed."""
        wait_for(lambda: len(self.landed) >= count, seconds, f"{count} landed; {self.told()}")

    def all_landed(self, seconds: float = 90.0) -> None:
        """Wait until everything that was sent has landed."""
        wait_for(
            lambda: len(self.landed) >= len(self.sent) and set(self.sent) <= set(self.landed),
            seconds,
            f"all {len(self.sent)} landed; {self.told()}",
        )

    def told(self) -> str:
        """What helps to understand a wait that was in vain."""
        logs = ", ".join(str(worker.log) for worker in self.workers)
        return f"{len(self.landed)} have at the start of waiting; logs {logs}"

    def ledgers(self) -> dict[int, LedgerRecord]:
        """The lanes' records, as they are now or were a moment ago."""
        return self.view.records()

    def ledgers_are(self, condition: Callable[[dict[int, LedgerRecord]], Any], what: str) -> Any:
        """Wait until the ledgers are so."""
        return wait_for(lambda: condition(self.ledgers()), 60, what)

    def logs(self) -> KafkaLogs:
        """All topics, for the checker."""
        return KafkaLogs(reader_config(self.settings, f"{self.name}-check"))

    def check(self, complete: bool = True) -> Verdict:
        """The checker's findings."""
        with self.logs() as logs:
            return check(logs, self.topics, complete=complete)

    def check_at_rest(self, seconds: float = 20.0) -> Verdict:
        """The checker's findings, once the planner has billed what lanes did last or should have."""
        deadline = time.monotonic() + seconds
        while (verdict := self.check(complete=True)).counts["bill"] and time.monotonic() < deadline:
            time.sleep(0.2)
        return verdict

    def plans(self) -> list[Any]:
        """Every plan of the log of plans, oldest first."""
        with self.logs() as logs:
            entries = list(logs.read(self.topics.plan_log))
        return [decode_plan(entry.value) for entry in entries if entry.value]

    def plan(self) -> Any:
        """The plan in force."""
        with self.logs() as logs:
            entries = [e for e in logs.read(self.topics.plans) if e.key == PLAN_KEY and e.value]
        return decode_plan(entries[-1].value) if entries else None  # type: ignore[arg-type]


def settings_of(variables: Mapping[str, str]) -> Settings:
    """Settings out of variables that are not this process's."""
    given = {
        name.removeprefix("PORT_").lower(): value
        for name, value in variables.items()
        if name.startswith("PORT_")
    }
    return Settings(bootstrap_servers=variables["KAFKA_BOOTSTRAP_SERVERS"], **given)


def assert_whole(router: Router) -> Verdict:
    """Every invariant holds and nothing waits."""
    verdict = router.check_at_rest()
    assert verdict.fine, verdict.text()
    assert verdict.queries == len(router.sent)
    return verdict
