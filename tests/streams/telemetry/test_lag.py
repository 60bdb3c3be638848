"""Lag of the router."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs

from routing.budgets.catalogue import Catalogue
from streams.config.settings import Settings
from streams.kafka.broker_watch import BrokerWatch, watch_broker
from streams.kafka.clients import client_config
from streams.kafka.topics import create_topics, existing_partitions, topic_specs
from streams.ledger.record import LedgerRecord
from streams.telemetry.lag import LagReader
from tests.conftest import ClusterStarter


class Watched:
    """A stream's topics, clients that write queries, and who asks for the lag."""

    def __init__(self, servers: str, name: str) -> None:
        self.servers = servers
        self.settings = Settings(
            bootstrap_servers=servers, topic_prefix=f"{name}.", app_id=name, partitions=2
        )
        self.admin = AdminClient(client_config(self.settings))
        catalogue = Catalogue.from_dict({"models": [{"name": "m", "budget_usd": 1.0}]})
        create_topics(self.admin, topic_specs(self.settings, catalogue))
        self.reader = LagReader(self.settings, self.admin, False, BrokerWatch(self.settings, self.admin))
        self.plain = Producer({"bootstrap.servers": servers})
        self.transactional = Producer(
            {"bootstrap.servers": servers, "transactional.id": name, "transaction.timeout.ms": 60_000}
        )
        self.transactional.init_transactions(30)

    def produce(self, producer: Producer, count: int, partition: int = 0) -> None:
        for _ in range(count):
            producer.produce(self.settings.topics.queries, b"{}", partition=partition)
        assert producer.flush(30) == 0

    def transaction(self, count: int, commit: bool = True) -> None:
        self.transactional.begin_transaction()
        self.produce(self.transactional, count)
        self.transactional.commit_transaction(30) if commit else self.transactional.abort_transaction(30)

    def lag(self, positions: Sequence[int], looks: int = 3) -> dict[int, int]:
        """Return the lag by lane after several refreshes, for lanes at these positions."""
        ledgers = {
            lane: replace(LedgerRecord.fresh(lane), next=offset) for lane, offset in enumerate(positions)
        }
        for _ in range(looks):
            self.reader.refresh(ledgers)
        return self.reader.lag(ledgers).by_lane


@pytest.fixture
def watched(bootstrap_servers: str, unique: Callable[[str], str]) -> Iterator[Watched]:
    stream = Watched(bootstrap_servers, unique("lag"))
    yield stream
    names = [
        name for name in existing_partitions(stream.admin) if name.startswith(stream.settings.topic_prefix)
    ]
    for future in stream.admin.delete_topics(names).values():
        future.result(30)


def test_lag_after_all_queries_excludes_transaction_markers(watched: Watched):
    watched.transaction(5)
    assert watched.lag([0, 0])[0] > 0
    assert watched.lag([3, 0])[0] > 0
    assert watched.lag([5, 0]) == {0: 0, 1: 0}, "offset 5 is the marker"
    watched.produce(watched.plain, 2)
    assert watched.lag([5, 0])[0] == 2, "those after the marker wait"
    assert watched.lag([8, 0]) == {0: 0, 1: 0}


def test_lag_with_aborted_transactions_excludes_them(watched: Watched):
    watched.produce(watched.plain, 4)
    for _ in range(3):
        watched.transaction(5, commit=False)
        assert watched.lag([4, 0]) == {0: 0, 1: 0}
        # not even for a moment when more of them follow
        watched.transaction(1, commit=False)
        assert watched.lag([4, 0]) == {0: 0, 1: 0}
        assert watched.lag([4, 0], looks=1) == {0: 0, 1: 0}
    watched.transaction(2)
    assert watched.lag([4, 0])[0] >= 2
    watched.produce(watched.plain, 7, partition=1)
    assert watched.lag([4, 0])[1] == 7


def test_lag_behind_an_open_transaction_includes_all_records(watched: Watched):
    watched.transactional.begin_transaction()
    watched.produce(watched.transactional, 5)
    watched.produce(watched.plain, 5)
    assert watched.lag([0, 0]) == {0: 10, 1: 0}
    watched.transactional.abort_transaction(30)
    assert watched.lag([0, 0])[0] > 0
    assert watched.lag([10, 0]) == {0: 0, 1: 0}


async def test_broker_outage_is_logged_once_at_begin_and_end(start_cluster: ClusterStarter):
    """By the worker's look at the lag, and by `watch_broker` in programs that have none."""
    cluster = start_cluster(1)
    watched = Watched(cluster.bootstrap_servers, "outage")
    watched.produce(watched.plain, 3)
    assert watched.lag([1, 0]) == {0: 2, 1: 0}
    broker = watched.reader._broker
    with capture_logs() as lines:
        watching = asyncio.create_task(watch_broker(watched.settings, pause_seconds=0.2))
        cluster.kill(1)
        await reported(lines, "broker_away")
        lines.clear()
        assert watched.lag([1, 0], looks=1) == {0: 2, 1: 0}, "what was known before"
        since = broker.away_since
        assert since is not None
        watched.lag([1, 0], looks=1)
        assert broker.away_since == since
        assert [line["event"] for line in lines] == ["broker_away"], "no `lag_not_known`"
        lines.clear()
        await asyncio.get_running_loop().run_in_executor(None, cluster.start, 1)
        await reported(lines, "broker_back")
        lines.clear()
        watched.lag([1, 0], looks=1)
        assert lines[0]["event"] == "broker_back"
        assert broker.away_since is None
        watching.cancel()


async def reported(lines: list[Any], event: str) -> None:
    """Wait until an event is logged."""
    deadline = time.monotonic() + 60
    while not any(line["event"] == event for line in lines):
        assert time.monotonic() < deadline, lines
        await asyncio.sleep(0.1)
