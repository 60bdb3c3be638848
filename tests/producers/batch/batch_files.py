"""Batch files of tests."""

from collections import Counter
from pathlib import Path

import orjson

from streams.config.settings import Settings
from tests.conftest import TopicReader


def request(custom_id: str, prompt: str, **body: object) -> dict:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": prompt}]
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "ignored", "messages": messages, **body},
    }


def with_messages(*messages: object) -> dict:
    return request("h", "x") | {"body": {"messages": messages}}


def write_requests(path: Path, requests: list) -> Path:
    path.write_bytes(
        b"".join(line if isinstance(line, bytes) else orjson.dumps(line) + b"\n" for line in requests)
    )
    return path


def read_lines(path: Path) -> list[dict]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def sent_ids(read_topics: TopicReader) -> Counter:
    return Counter(orjson.loads(m.value())["id"] for m in read_topics([Settings().topics.queries]))
