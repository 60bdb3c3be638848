"""Reading where queries went, with what anybody may have put on the topics among it."""

from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from producers.result_collector import DEAD, ResultCollector
from streams.kafka.clients import producer_config
from tests.producers.conftest import RouterStarter
from tests.producers.fleet.fleet_process import wait_until


def test_collector_unusual_ids_are_read_and_foreign_messages_reported(
    stream: RouterStarter, admin: AdminClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [small, large]\n")
    monkeypatch.setenv("PORT_CATALOGUE", str(tmp_path / "catalogue.yaml"))
    router = stream()
    topics = router.settings.topics
    producer = Producer(producer_config(router.settings))
    collector = ResultCollector(router.settings, router.catalogue, admin, {})
    try:
        deep = b"[" * 1010 + b"]" * 1010  # more than Python 3.11 writes as text
        producer.produce(topics.queries, b'{"id": %s, "prompt": "Why?"}' % deep, partition=0)
        producer.flush()
        wait_until(lambda: collector.count == 1, "the letter is read")
        assert [(one.destination, one.id) for one in collector.results] == [(DEAD, "[[[[[[[...]]]]]]]")]

        producer.produce(topics.llm("small"), b"by hand")
        producer.flush()
        wait_until(lambda: not collector.running, "it stops")
        assert "JSONDecodeError" in (collector.failure or "")
    finally:
        collector.stop()
