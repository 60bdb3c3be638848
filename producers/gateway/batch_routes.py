"""Handlers of the Batch API."""

from __future__ import annotations

import time
import uuid

from starlette.requests import Request
from starlette.responses import Response

from producers.chat_api import shown
from producers.gateway.api_errors import invalid_field
from producers.gateway.batch_object import CANCEL, ENDED, ENDPOINT, WINDOW, batch_object
from producers.gateway.batch_runner import BatchRunner
from producers.gateway.chat import decode_body
from producers.gateway.file_routes import find_object, page
from producers.gateway.keys import Caller
from producers.gateway.limits import read_body
from producers.gateway.object_store import StoredObject
from producers.gateway.parts import ApiRoute, GatewayParts, json_response


class BatchRoutes:
    """Handlers of `/v1/batches`.

    Parameters
    ----------
    parts : GatewayParts
    runner : BatchRunner
    """

    def __init__(self, parts: GatewayParts, runner: BatchRunner) -> None:
        self._limits, self._store, self._runner = parts.limits, parts.exchange.store, runner

    def routes(self) -> list[ApiRoute]:
        """Return the routes."""
        return [
            ApiRoute("/v1/batches", "POST", self._create),
            ApiRoute("/v1/batches", "GET", self._list),
            ApiRoute("/v1/batches/{id}", "GET", self._retrieve),
            ApiRoute("/v1/batches/{id}/cancel", "POST", self._cancel),
        ]

    async def _create(self, request: Request, caller: Caller) -> Response:
        body = decode_body(await read_body(request, self._limits.body_bytes))
        for name, expected in (("endpoint", ENDPOINT), ("completion_window", WINDOW)):
            if body.get(name) != expected:
                raise invalid_field(name, f"{shown(body.get(name))} must be '{expected}'")
        file = body.get("input_file_id")
        if not isinstance(file, str):
            raise invalid_field("input_file_id", f"{shown(file)} must be the id of a file")
        find_object(self._store, file, "file", caller)
        metadata = body.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            raise invalid_field("metadata", f"{shown(metadata)} must be an object")
        identity = f"batch_{uuid.uuid4().hex}"
        fields: StoredObject = {
            "kind": "batch",
            "owner": caller.name,
            "owner_metadata": dict(caller.metadata),
            "created_at": time.time(),
            "status": "validating",
            "input_file_id": file,
            "metadata": metadata,
            "heartbeat": time.time(),
            "runner": self._runner.name,
        }
        await self._store.put(identity, fields)
        self._runner.begin(identity)
        return self._shown(identity, fields)

    async def _list(self, request: Request, caller: Caller) -> Response:
        batches = self._store.select(lambda item: item["kind"] == "batch" and item["owner"] == caller.name)
        items = [batch_object(name, item, self._store.get(CANCEL + name)) for name, item in batches.items()]
        return json_response(page(request, items))

    async def _retrieve(self, request: Request, caller: Caller) -> Response:
        identity = request.path_params["id"]
        return self._shown(identity, find_object(self._store, identity, "batch", caller))

    async def _cancel(self, request: Request, caller: Caller) -> Response:
        identity = request.path_params["id"]
        fields = find_object(self._store, identity, "batch", caller)
        if fields["status"] not in ENDED and self._store.get(CANCEL + identity) is None:
            cancel = {"kind": "cancel", "owner": caller.name, "created_at": time.time()}
            await self._store.put(CANCEL + identity, cancel)
        return self._shown(identity, find_object(self._store, identity, "batch", caller))

    def _shown(self, identity: str, fields: StoredObject) -> Response:
        return json_response(batch_object(identity, fields, self._store.get(CANCEL + identity)))
