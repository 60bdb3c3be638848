"""Files of callers, in pieces on a topic."""

from __future__ import annotations

import asyncio
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from confluent_kafka import KafkaException, TopicPartition

from producers.gateway.api_errors import SERVER_ERROR, ApiError
from producers.gateway.keys import Caller
from producers.gateway.object_store import ObjectStore, StoredObject
from producers.gateway.query_sender import QuerySender
from streams.config.settings import Settings
from streams.kafka.clients import reader_config
from streams.kafka.scanner import Scanner

PIECE_BYTES = 2**20
PIECES_AT_ONCE = 16
PREFIX = "file-"


class FileStore:
    """Writes and reads files.

    Parameters
    ----------
    settings : Settings
    sender : QuerySender
    store : ObjectStore
        Has the places of the pieces.
    """

    def __init__(self, settings: Settings, sender: QuerySender, store: ObjectStore) -> None:
        self._topic, self._partitions = settings.topics.gateway_files, settings.partitions
        self._config = reader_config(settings, f"{settings.app_id}-gateway")
        self._sender, self._store = sender, store

    async def write(self, caller: Caller, name: str, purpose: str, content: BinaryIO) -> str:
        """Store a file and return its id.

        Parameters
        ----------
        caller : Caller
            Its owner.
        name, purpose : str
        content : binary file

        Raises
        ------
        ApiError
            Status 503: it was not delivered.
        """
        identity = f"{PREFIX}{uuid.uuid4().hex}"
        partition = zlib.crc32(identity.encode()) % self._partitions
        offsets: list[int] = []
        size = 0
        while True:
            pieces = [piece for _ in range(PIECES_AT_ONCE) if (piece := content.read(PIECE_BYTES))]
            if not pieces:
                break
            size += sum(map(len, pieces))
            sending = (
                self._sender.send(self._topic, identity, piece, partition=partition) for piece in pieces
            )
            offsets += [offset for _, offset in await asyncio.gather(*sending)]
        fields: StoredObject = {
            "kind": "file",
            "owner": caller.name,
            "created_at": time.time(),
            "filename": name,
            "purpose": purpose,
            "bytes": size,
            "partition": partition,
            "first": min(offsets, default=0),
            "end": max(offsets, default=-1) + 1,
        }
        await self._store.put(identity, fields)
        return identity

    def read(self, identity: str, fields: StoredObject) -> Iterator[bytes]:
        """Yield the pieces of a file. The calls block.

        Raises
        ------
        ApiError
            Status 404: pieces are deleted. Status 503: Kafka is not available.
        """
        key, size = identity.encode(), 0
        place = TopicPartition(self._topic, fields["partition"], fields["first"])
        try:
            with Scanner(self._config) as scanner:
                if fields["bytes"]:
                    for message in scanner.read([place]):
                        if (message.offset() or 0) >= fields["end"]:
                            break
                        if message.key() == key:
                            piece = message.value() or b""
                            size += len(piece)
                            yield piece
        except (KafkaException, TimeoutError) as error:
            raise ApiError(503, f"Kafka cannot be read ({error}).", SERVER_ERROR) from None
        if size != fields["bytes"]:
            raise ApiError(
                404, f"The content of `{identity}` was deleted.", code="not_found", param="file_id"
            )

    def save(self, identity: str, fields: StoredObject, path: Path) -> None:
        """Write the content of a file to a path. The call blocks."""
        with open(path, "wb") as target:
            for piece in self.read(identity, fields):
                target.write(piece)


def file_object(identity: str, fields: StoredObject) -> dict[str, Any]:
    """Return a file as the API shows it."""
    shown = {name: fields[name] for name in ("bytes", "filename", "purpose")}
    return {
        "id": identity,
        "object": "file",
        "created_at": int(fields["created_at"]),
        "status": "processed",
        "expires_at": None,
        **shown,
    }
