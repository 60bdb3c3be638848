"""HTTP server: routes, start and stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

import orjson
import structlog
from aiohttp import web

from streams.config.settings import Settings
from streams.telemetry.health import Health, HealthReport
from streams.telemetry.metrics import Metrics
from streams.web.access import Access

log = structlog.get_logger(__name__)

STATIC = {
    "page.html": "text/html",
    "login.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "panels.js": "text/javascript",
    "past.js": "text/javascript",
    "burn.js": "text/javascript",
    "periods.js": "text/javascript",
    "budgets.js": "text/javascript",
    "charts.js": "text/javascript",
    "colors.js": "text/javascript",
    "format.js": "text/javascript",
    "explain.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Answer = Callable[[], Any]
Explain = Callable[[str], dict[str, Any]]
Values = Callable[[str, str], list[dict[str, Any]]]


class WebServer:
    """Serves health, metrics and the page of a worker. All requests are read-only.

    Parameters
    ----------
    settings : Settings
        `web_host`, `web_port` and `web_token`.
    health : Health
    metrics : Metrics
    answers : dict of str to callable
        Return the answers of `/api/NAME` as plain data; called in a thread.
    explain : callable
        Explains the decisions about a query, by its id; raises LookupError if there are none.
    values : callable
        Returns the values of a budget that contain a text.
    """

    def __init__(
        self,
        settings: Settings,
        health: Health,
        metrics: Metrics,
        answers: dict[str, Answer],
        explain: Explain,
        values: Values,
    ) -> None:
        self._settings, self._health, self._metrics = settings, health, metrics
        self._answers, self._explain, self._values = answers, explain, values
        self._explaining = threading.Lock()
        self._runner: web.AppRunner | None = None
        self._files = {name: files("streams.web").joinpath("static", name).read_bytes() for name in STATIC}
        self._access = Access(settings.web_token, self._files["login.html"])
        self.url: str | None = None

    async def start(self) -> None:
        """Start listening.

        Raises
        ------
        ValueError
            The port is in use, or the address does not belong to this machine.
        """
        settings = self._settings
        # no access log: an address may hold a token
        self._runner = web.AppRunner(self._app(), access_log=None, handle_signals=False, shutdown_timeout=2.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, settings.web_host, settings.web_port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ValueError(
                f"web_port: {settings.web_host}:{settings.web_port} cannot be listened on "
                f"({error.strerror or error}); set PORT_WEB_PORT to a free port, or 0 for any"
            ) from error
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        log.info("web_listening", url=self.url, asks_token=settings.web_token is not None)

    async def stop(self) -> None:
        """Stop listening; requests in progress have two seconds to finish."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._access.middleware])
        app.router.add_get("/", self._file("page.html"))
        for name in STATIC:
            app.router.add_get(f"/static/{name}", self._file(name))
        app.router.add_get("/healthz", self._live)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._scrape)
        app.router.add_get("/api/explain", self._explained)
        app.router.add_get("/api/values", self._search_values)
        for name, answer in self._answers.items():
            app.router.add_get(f"/api/{name}", self._api(answer))
        return app

    def _file(self, name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            return web.Response(body=self._files[name], content_type=STATIC[name], charset="utf-8")

        return serve

    async def _live(self, request: web.Request) -> web.Response:
        return self._probe(request, await self._health.live(), "live")

    async def _ready(self, request: web.Request) -> web.Response:
        return self._probe(request, self._health.ready(), "ready")

    def _probe(self, request: web.Request, report: HealthReport, word: str) -> web.Response:
        """Return yes or no, and all checks if the client knows the token."""
        status = 200 if report.ok else 503
        if self._access.knows_token(request):
            return _json({word: report.ok, **report.to_dict()}, status)
        return _json({word: report.ok}, status)

    async def _scrape(self, request: web.Request) -> web.Response:
        text = await _in_thread(self._metrics.text)
        return web.Response(body=text, headers={"Content-Type": METRICS_TYPE})

    def _api(self, answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            return web.Response(
                body=await _in_thread(lambda: _encode(answer())), content_type="application/json"
            )

        return serve

    async def _search_values(self, request: web.Request) -> web.Response:
        budget, text = request.query.get("budget", ""), request.query.get("text", "").strip()
        body = await _in_thread(lambda: _encode(self._values(budget, text)))
        return web.Response(body=body, content_type="application/json")

    async def _explained(self, request: web.Request) -> web.Response:
        query_id = request.query.get("id", "").strip()
        if not query_id:
            return _json({"error": "id: give the id of a query"}, 400)
        try:
            return web.Response(
                body=await _in_thread(lambda: self._explain_alone(query_id)), content_type="application/json"
            )
        except LookupError as error:
            return _json({"error": str(error.args[0]) if error.args else "not found"}, 404)
        except BlockingIOError:
            return _json({"error": "another query is being looked up; try again in a moment"}, 429)
        except Exception as error:
            log.exception("explain_failed", query_id=query_id)
            return _json({"error": f"cannot be explained: {error}"}, 500)

    def _explain_alone(self, query_id: str) -> bytes:
        """Explain one query at a time, because an explanation may read whole topics."""
        if not self._explaining.acquire(blocking=False):
            raise BlockingIOError
        try:
            return _encode(self._explain(query_id))
        finally:
            self._explaining.release()


def _encode(data: Any) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _json(data: Any, status: int = 200) -> web.Response:
    return web.Response(body=_encode(data), status=status, content_type="application/json")


async def _in_thread(function: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function)
