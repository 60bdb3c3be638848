"""Handlers of the Files API, and lists of objects in pages."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import iterate_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from producers.gateway.api_errors import ApiError, invalid_field
from producers.gateway.file_store import FileStore, file_object
from producers.gateway.keys import Caller
from producers.gateway.object_store import ObjectStore, StoredObject
from producers.gateway.parts import ApiRoute, GatewayParts, json_response

PURPOSE = "batch"
FORM_BYTES = 2**16
"""Size of a form without its file."""

MAX_PAGE = 100


class FileRoutes:
    """Handlers of `/v1/files`.

    Parameters
    ----------
    parts : GatewayParts
    files : FileStore
    """

    def __init__(self, parts: GatewayParts, files: FileStore) -> None:
        self._limits, self._store, self._files = parts.limits, parts.exchange.store, files

    def routes(self) -> list[ApiRoute]:
        """Return the routes."""
        return [
            ApiRoute("/v1/files", "POST", self._create),
            ApiRoute("/v1/files", "GET", self._list),
            ApiRoute("/v1/files/{id}", "GET", self._retrieve),
            ApiRoute("/v1/files/{id}", "DELETE", self._delete),
            ApiRoute("/v1/files/{id}/content", "GET", self._content),
        ]

    async def _create(self, request: Request, caller: Caller) -> Response:
        maximum = self._limits.file_bytes
        declared = request.headers.get("content-length", "")
        # a form that does not declare its size would fill the disk before it could be measured
        if not declared.isdigit():
            raise ApiError(411, "The request has no Content-Length; send it.", code="length_required")
        if int(declared) > maximum + FORM_BYTES:
            raise ApiError(413, f"The file has more than {maximum} bytes.", code="file_too_large")
        async with request.form() as form:
            file, purpose = form.get("file"), form.get("purpose")
            if purpose != PURPOSE:
                raise invalid_field("purpose", f"must be '{PURPOSE}'; the gateway stores files of batches")
            if not isinstance(file, UploadFile):
                raise invalid_field("file", "is missing; send a file in a form")
            name = file.filename or "file.jsonl"
            identity = await self._files.write(caller, name, purpose, file.file)
        return json_response(file_object(identity, find_object(self._store, identity, "file", caller)))

    async def _list(self, request: Request, caller: Caller) -> Response:
        purpose = request.query_params.get("purpose")
        files = self._store.select(
            lambda item: (
                item["kind"] == "file" and item["owner"] == caller.name and purpose in (None, item["purpose"])
            )
        )
        return json_response(page(request, [file_object(*pair) for pair in files.items()]))

    async def _retrieve(self, request: Request, caller: Caller) -> Response:
        identity = request.path_params["id"]
        return json_response(file_object(identity, find_object(self._store, identity, "file", caller)))

    async def _delete(self, request: Request, caller: Caller) -> Response:
        identity = request.path_params["id"]
        find_object(self._store, identity, "file", caller)
        await self._store.put(identity, None)
        return json_response({"id": identity, "object": "file", "deleted": True})

    async def _content(self, request: Request, caller: Caller) -> Response:
        identity = request.path_params["id"]
        fields = find_object(self._store, identity, "file", caller)
        pieces = iterate_in_threadpool(self._files.read(identity, fields))
        # the first piece is read now, so that missing content is an error of the response
        first = await anext(pieces, b"")

        async def content() -> Any:
            yield first
            async for piece in pieces:
                yield piece

        return StreamingResponse(content(), media_type="application/octet-stream")


def find_object(store: ObjectStore, identity: str, kind: str, caller: Caller) -> StoredObject:
    """Return an object of a caller.

    Raises
    ------
    ApiError
        Status 404: it is missing, expired, or of another owner.
    """
    stored = store.get(identity)
    if stored is None or stored["kind"] != kind or stored["owner"] != caller.name:
        raise ApiError(404, f"The {kind} `{identity}` does not exist.", code="not_found", param="id")
    return stored


def page(request: Request, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a page of a list, as `after` and `limit` of the request ask for."""
    text = request.query_params.get("limit", str(MAX_PAGE))
    limit = min(int(text), 10_000) if text.isdigit() else 0
    if not limit:
        raise invalid_field("limit", f"{text[:40]!r} must be a whole number above 0")
    after = request.query_params.get("after")
    start = next((n + 1 for n, item in enumerate(items) if item["id"] == after), 0)
    shown = items[start : start + limit]
    ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {}
    return {"object": "list", "data": shown, "has_more": start + limit < len(items), **ends}
