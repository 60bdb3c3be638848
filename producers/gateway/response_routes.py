"""Handlers of the Responses API: answers that are waited for, or fetched later from any gateway."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from producers.gateway.api_errors import ApiError
from producers.gateway.chat import decode_body, read_chat_request
from producers.gateway.exchange import LAPSE_SECONDS
from producers.gateway.idempotency import fingerprint, query_identity
from producers.gateway.keys import Caller
from producers.gateway.limits import read_body, request_seconds
from producers.gateway.object_store import StoredObject
from producers.gateway.parts import ApiRoute, GatewayParts, json_response, while_connected
from producers.gateway.responses import ECHOED, chat_body, response_object

PREFIX = "resp_"
BACKGROUND_SECONDS = 24 * 3600.0
"""Deadline of a query that is answered in the background."""


class ResponseRoutes:
    """Handlers of `/v1/responses`.

    Parameters
    ----------
    parts : GatewayParts
    """

    def __init__(self, parts: GatewayParts) -> None:
        self._parts, self._exchange = parts, parts.exchange

    def routes(self) -> list[ApiRoute]:
        """Return the routes."""
        return [
            ApiRoute("/v1/responses", "POST", self._create),
            ApiRoute("/v1/responses/{id}", "GET", self._retrieve),
        ]

    async def _create(self, request: Request, caller: Caller) -> Response:
        limits = self._parts.limits
        body = decode_body(await read_body(request, limits.body_bytes))
        chat = read_chat_request(chat_body(body), self._parts.models, caller.metadata)
        background = bool(body.get("background"))
        seconds = BACKGROUND_SECONDS if background else request_seconds(request.headers, limits.seconds)
        identity, _ = query_identity(PREFIX, caller, request.headers)
        echo = {name: body[name] for name in ("background", "model", *ECHOED) if body.get(name) is not None}
        deadline = time.time() + seconds
        claim: StoredObject = {
            "kind": "response",
            "owner": caller.name,
            "fingerprint": fingerprint(body),
            "request": echo,
            "deadline": deadline,
        }
        value = chat.encode(identity, int(deadline * 1000))
        if background:
            standing = await while_connected(request, self._exchange.send_once(identity, value, claim))
            queued = response_object(identity, echo, standing["created_at"], None) | {"status": "queued"}
            return json_response(queued, 200, {"x-request-id": identity})
        began = time.time()
        answer = await while_connected(request, self._exchange.send_and_wait(identity, value, seconds, claim))
        response = response_object(identity, echo, began, answer)
        return json_response(response, 200, {"x-request-id": identity, **answer.headers})

    async def _retrieve(self, request: Request, caller: Caller) -> Response:
        identity = request.path_params["id"]
        stored = self._exchange.store.get(identity)
        # the response of another owner does not exist for this caller
        if stored is None or stored.get("kind") != "response" or stored["owner"] != caller.name:
            raise ApiError(404, f"The response `{identity}` does not exist.", code="not_found", param="id")
        return json_response(await self._response(identity, stored))

    async def _response(self, identity: str, stored: StoredObject) -> dict[str, Any]:
        created, echo = stored["created_at"], stored["request"]
        try:
            completion = await self._exchange.find(identity, created)
            if completion is not None:
                return response_object(identity, echo, created, completion)
        except ApiError as error:
            if error.code == "broker_unavailable":
                raise
            return response_object(identity, echo, created, error)
        if time.time() > stored["deadline"]:
            late = ApiError(504, "The query has no answer, and its deadline has passed.")
            return response_object(identity, echo, created, late)
        if time.time() - created > LAPSE_SECONDS and not await self._exchange.was_sent(identity, created):
            unsent = ApiError(503, "The gateway ended before it sent the query; repeat the request.")
            return response_object(identity, echo, created, unsent)
        return response_object(identity, echo, created, None)
