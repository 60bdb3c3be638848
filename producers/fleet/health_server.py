"""The HTTP port of a fleet worker: `/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import structlog
from aiohttp import web

from producers.fleet.activity import FleetActivity

log = structlog.get_logger(__name__)

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class FleetHttp:
    """Serves the health and metrics of one worker in its event loop.

    Parameters
    ----------
    activity : FleetActivity
    host : str
    port : int
        0: any free port.
    """

    def __init__(self, activity: FleetActivity, host: str, port: int) -> None:
        self._activity, self._host, self._port = activity, host, port
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        self.url: str | None = None

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        ValueError
            The port is in use, or the address does not belong to this machine.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ValueError(
                f"--health-port: cannot listen on {self._host}:{self._port} ({error.strerror or error}); "
                "give a free port, or 0 for any"
            ) from error
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        log.info("fleet_health_listening", url=self.url)

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _health(self, request: web.Request) -> web.Response:
        report = self._activity.health()
        return web.json_response(
            {"live": report.ok, **report.to_dict()},
            status=200 if report.ok else 503,
        )

    async def _ready(self, request: web.Request) -> web.Response:
        report = self._activity.readiness()
        return web.json_response(
            {"ready": report.ok, **report.to_dict()},
            status=200 if report.ok else 503,
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._activity.text(), headers={"Content-Type": METRICS_TYPE})
