"""Objects of gateways as one gateway reads them."""

import time
from typing import Any, cast

import orjson
import pytest
from structlog.testing import capture_logs

from producers.gateway.object_store import ObjectStore
from producers.gateway.query_sender import QuerySender
from streams.config.settings import Settings
from streams.messages.gateway_object import DELETION
from tests.producers.gateway.made_messages import MadeMessage

CLAIM: dict[str, Any] = {"kind": "claim", "owner": "ads", "fingerprint": "f", "claim": "c"}


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore(Settings(bootstrap_servers="localhost:9"), cast(QuerySender, None))


def read(store: ObjectStore, offset: int, value: bytes | None) -> None:
    message = MadeMessage("gateway.objects", b"id", value, own_offset=offset)
    store._read(message)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [b"{", b"", b"[]", b'{"kind":"claim"}', b'{"kind":"batch","owner":"ads","created_at":7.5}'],
)
def test_foreign_record_is_logged_and_changes_nothing(store: ObjectStore, value: bytes):
    held = CLAIM | {"created_at": time.time()}
    read(store, 0, orjson.dumps(held))
    with capture_logs() as logs:
        read(store, 1, value)
    assert [(entry["event"], entry["offset"]) for entry in logs] == [("gateway_object_not_read", 1)]
    assert store.get("id") == held
    read(store, 2, DELETION)
    assert store.get("id") is None
