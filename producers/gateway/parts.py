"""The parts that all handlers share, and what handlers return."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from producers.gateway.exchange import QueryExchange
from producers.gateway.keys import ApiKeys, Caller
from producers.gateway.limits import GatewayLimits
from streams.messages import exact_json
from streams.planner.catalogue_reader import CatalogueReader

T = TypeVar("T")
Handler = Callable[[Request, Caller], Awaitable[Response]]


class ApiRoute(NamedTuple):
    """A path and method of the API with its handler."""

    path: str
    method: str
    handler: Handler


@dataclass(frozen=True)
class GatewayParts:
    """The parts that handlers share.

    Parameters
    ----------
    exchange : QueryExchange
    catalogue : CatalogueReader
    keys : ApiKeys
    limits : GatewayLimits
    """

    exchange: QueryExchange
    catalogue: CatalogueReader
    keys: ApiKeys
    limits: GatewayLimits

    @property
    def models(self) -> list[str]:
        """Names of the LLMs in the catalogue in force."""
        return [model.name for model in self.catalogue.latest.catalogue.models]


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with a JSON body, in which numbers keep their digits."""
    return Response(exact_json.encode(body), status, headers, "application/json")


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of work, or cancel the work when the caller goes away.

    Parameters
    ----------
    request : Request
        Its body was read.
    work : coroutine

    Raises
    ------
    ClientDisconnect
        The caller went away first.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, leaving):
            task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
