"""Handlers of chat completions and models."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from producers.gateway.api_errors import ApiError
from producers.gateway.chat import decode_body, model_list, read_chat_request, stream_events
from producers.gateway.idempotency import fingerprint, query_identity
from producers.gateway.keys import Caller
from producers.gateway.limits import read_body, request_seconds
from producers.gateway.parts import ApiRoute, GatewayParts, json_response, while_connected


class ChatRoutes:
    """Handlers of `/v1/chat/completions` and `/v1/models`.

    Parameters
    ----------
    parts : GatewayParts
    """

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts

    def routes(self) -> list[ApiRoute]:
        """Return the routes."""
        return [
            ApiRoute("/v1/chat/completions", "POST", self._complete),
            ApiRoute("/v1/models", "GET", self._models),
            ApiRoute("/v1/models/{name:path}", "GET", self._model),
        ]

    async def _complete(self, request: Request, caller: Caller) -> Response:
        limits = self._parts.limits
        body = decode_body(await read_body(request, limits.body_bytes))
        chat = read_chat_request(body, self._parts.models, caller.metadata)
        seconds = request_seconds(request.headers, limits.seconds)
        identity, repeatable = query_identity("chatcmpl-", caller, request.headers)
        claim = {"kind": "claim", "owner": caller.name, "fingerprint": fingerprint(body)}
        value = chat.encode(identity, int((time.time() + seconds) * 1000))
        asking = self._parts.exchange.send_and_wait(identity, value, seconds, claim if repeatable else None)
        answer = await while_connected(request, asking)
        headers = {"x-request-id": identity, **answer.headers}
        if chat.stream:
            events = stream_events(answer.body, chat.include_usage)
            return StreamingResponse(_as_async(events), media_type="text/event-stream", headers=headers)
        return json_response(answer.body, 200, headers)

    async def _models(self, request: Request, caller: Caller) -> Response:
        return json_response(model_list(self._parts.models))

    async def _model(self, request: Request, caller: Caller) -> Response:
        name = request.path_params["name"]
        for model in model_list(self._parts.models)["data"]:
            if model["id"] == name:
                return json_response(model)
        raise ApiError(404, f"The model `{name}` does not exist.", code="model_not_found", param="model")


async def _as_async(events: Iterable[bytes]) -> AsyncIterator[bytes]:
    for event in events:
        yield event
