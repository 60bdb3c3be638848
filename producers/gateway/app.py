"""The HTTP application: authentication, limits, errors and metrics of every request."""

from __future__ import annotations

import time

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from producers.gateway.api_errors import SERVER_ERROR, ApiError
from producers.gateway.batch_routes import BatchRoutes
from producers.gateway.batch_runner import BatchRunner
from producers.gateway.chat_routes import ChatRoutes
from producers.gateway.file_routes import FileRoutes
from producers.gateway.file_store import FileStore
from producers.gateway.gateway_metrics import CONTENT_TYPE, GatewayMetrics
from producers.gateway.limits import InFlight
from producers.gateway.parts import ApiRoute, GatewayParts, Handler, json_response
from producers.gateway.response_routes import ResponseRoutes

ABANDONED = 499
"""Status in metrics of a request whose caller went away."""

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]

log = structlog.get_logger(__name__)


class GatewayApp:
    """All routes, and health and metrics.

    Parameters
    ----------
    parts : GatewayParts
    files : FileStore
    runner : BatchRunner
    """

    def __init__(self, parts: GatewayParts, files: FileStore, runner: BatchRunner) -> None:
        self._parts, self._files, self._runner = parts, files, runner
        self._in_flight = InFlight(parts.limits.in_flight)
        self._metrics = GatewayMetrics(lambda: self._in_flight.count)

    def application(self) -> Starlette:
        """Return the ASGI application."""
        parts = self._parts
        served = [
            *ChatRoutes(parts).routes(),
            *ResponseRoutes(parts).routes(),
            *FileRoutes(parts, self._files).routes(),
            *BatchRoutes(parts, self._runner).routes(),
        ]
        return Starlette(
            routes=[
                *map(self._route, served),
                Route("/healthz", self._health),
                Route("/readyz", self._ready),
                Route("/metrics", self._metrics_text),
                Route("/{path:path}", self._unknown, methods=METHODS),
            ]
        )

    def _route(self, route: ApiRoute) -> Route:
        """Return a route whose requests are authenticated, limited, counted and answered with JSON errors."""

        async def endpoint(request: Request) -> Response:
            began = time.monotonic()
            try:
                response = await self._respond(request, route.handler)
            except ApiError as error:
                response = json_response(error.body, error.status, error.headers)
            except ClientDisconnect:
                response = Response(status_code=ABANDONED)
            except Exception:
                log.exception("request_failed", path=route.path)
                failure = ApiError(500, "The gateway failed; its log says why.", SERVER_ERROR)
                response = json_response(failure.body, failure.status)
            name = f"{route.method} {route.path}"
            self._metrics.count(name, response.status_code, time.monotonic() - began)
            return response

        return Route(route.path, endpoint, methods=[route.method])

    async def _respond(self, request: Request, handler: Handler) -> Response:
        caller = self._parts.keys.caller(request.headers.get("authorization"))
        with self._in_flight.slot():
            return await handler(request, caller)

    async def _unknown(self, request: Request) -> Response:
        error = ApiError(404, f"{request.method} {request.url.path} is not served.", code="unknown_url")
        return json_response(error.body, 404)

    async def _health(self, request: Request) -> Response:
        problem = self._parts.exchange.problem
        return json_response({"live": problem is None, "problem": problem}, 200 if problem is None else 503)

    async def _ready(self, request: Request) -> Response:
        problem = self._parts.exchange.problem
        return json_response({"ready": problem is None, "problem": problem}, 200 if problem is None else 503)

    async def _metrics_text(self, request: Request) -> Response:
        return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})
