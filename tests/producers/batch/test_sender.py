"""Sending a batch in transactions."""

from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from producers.batch import sender
from producers.batch.requests import validate_file
from streams.config.settings import Settings
from streams.messages.query import decode_query
from tests.conftest import TopicReader
from tests.producers.batch.batch_files import request, sent_ids, write_requests
from tests.producers.conftest import RouterStarter


def test_sender_second_run_fences_the_first(
    tmp_path: Path, start_router: RouterStarter, read_topics: TopicReader, admin: AdminClient
):
    start_router()
    settings = Settings()
    file = write_requests(tmp_path / "requests.jsonl", [request(f"r{i}", f"p{i}") for i in range(6)])
    batch = validate_file(file)
    first = sender.BatchSender(settings, batch, admin)
    second = sender.BatchSender(settings, batch, admin)

    with pytest.raises(ValueError, match="another run of"):
        first.run()
    second.run()
    first.close()
    second.close()

    assert set(sent_ids(read_topics).values()) == {1}


def test_sender_with_a_window_gives_all_runs_the_same_deadline(
    tmp_path: Path,
    start_router: RouterStarter,
    read_topics: TopicReader,
    admin: AdminClient,
    monkeypatch: pytest.MonkeyPatch,
):
    start_router()
    settings = Settings()
    file = write_requests(tmp_path / "requests.jsonl", [request(f"r{i}", f"p{i}") for i in range(4)])
    batch = validate_file(file)
    monkeypatch.setattr(sender, "CHUNK_REQUESTS", 2)
    first = sender.BatchSender(settings, batch, admin, window=3600.0)
    begun_at = first.progress.begun_at
    chunks = first._chunks()
    first._transact(next(chunks), replace(first.progress, sent=2))
    second = sender.BatchSender(settings, batch, admin, window=3600.0)
    second.run()
    second.close()

    queries = [decode_query(message.value(), None) for message in read_topics([settings.topics.queries])]
    assert len(queries) == 4
    assert {query.limits.deadline for query in queries} == {int(1000 * (begun_at + 3600))}
