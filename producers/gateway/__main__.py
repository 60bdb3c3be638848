"""`python -m producers.gateway`: serve OpenAI's API over HTTP, answered through the router."""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from routing.extras import require_extra

if __name__ == "__main__":
    require_extra("gateway")

import structlog
import uvicorn

from producers.gateway.app import GatewayApp
from producers.gateway.batch_runner import BatchRunner
from producers.gateway.exchange import QueryExchange
from producers.gateway.file_store import FileStore
from producers.gateway.keys import ApiKeys
from producers.gateway.limits import GatewayLimits
from producers.gateway.parts import GatewayParts
from routing.arguments import non_negative_float, port, positive_float, positive_int
from streams.commands.program import add_env_file, apply_env_file, program_name, run_command
from streams.config.log_setup import configure_logs
from streams.config.settings import Settings
from streams.kafka.broker_watch import watch_broker
from streams.kafka.clients import wait_for_broker
from streams.kafka.time_limits import exit_after
from streams.planner.catalogue_reader import CatalogueReader

CATALOGUE_SECONDS = 30.0
SHUTDOWN_SECONDS = 15.0
"""Maximum time from the end of the drain time to the end of the process."""

BACKLOG = 2048

log = structlog.get_logger(__name__)


class GatewayServer(uvicorn.Server):
    """A server whose process handles signals itself; uvicorn would end it with the signal's status."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the handlers of signals as they are."""
        yield


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    limits = GatewayLimits()
    parser = argparse.ArgumentParser(prog=program_name("producers.gateway"), description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on [%(default)s]")
    parser.add_argument("--port", type=port, default=8000, help="0: any free port, see the log [%(default)s]")
    parser.add_argument(
        "--keys", type=Path, metavar="FILE", help="YAML file of API keys and their teams [no keys needed]"
    )
    parser.add_argument(
        "--max-in-flight",
        type=positive_int,
        default=limits.in_flight,
        metavar="N",
        help="requests at a time; others get status 429 [%(default)s]",
    )
    parser.add_argument(
        "--max-body-bytes",
        type=positive_int,
        default=limits.body_bytes,
        metavar="N",
        help="size of a request; larger ones get status 413 [%(default)s]",
    )
    parser.add_argument(
        "--max-file-bytes",
        type=positive_int,
        default=limits.file_bytes,
        metavar="N",
        help="size of a file of a batch [%(default)s]",
    )
    parser.add_argument(
        "--request-seconds",
        type=positive_float,
        default=limits.seconds,
        metavar="S",
        help="longest wait for an answer, and deadline of the query [%(default)s]",
    )
    parser.add_argument(
        "--drain-seconds",
        type=non_negative_float,
        default=30.0,
        metavar="S",
        help="time for requests in flight at shutdown [%(default)s]",
    )
    add_env_file(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the gateway until SIGTERM or SIGINT; return 1 if an error stopped it."""
    command = parser()
    options = command.parse_args(arguments)
    apply_env_file(command, options)
    return run_command(lambda: start(options))


def start(options: argparse.Namespace) -> int:
    """Wait for the broker, and serve.

    Raises
    ------
    ValueError
        The file of keys is invalid, a topic is missing, or the port is in use.
    """
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format)
    keys = ApiKeys(options.keys)
    limits = GatewayLimits(
        options.max_body_bytes, options.max_in_flight, options.request_seconds, options.max_file_bytes
    )
    listener = _listen(options.host, options.port)
    try:
        asyncio.run(_serve(settings, keys, limits, listener, options.drain_seconds))
    finally:
        listener.close()
    return 0


def _listen(host: str, number: int) -> socket.socket:
    """Return a socket that is bound, so that a busy port is an error before anything else starts."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ValueError(
            f"--port: cannot listen on {host}:{number} ({error.strerror or error}); give a free port, or 0"
        ) from None
    return listener


async def _serve(
    settings: Settings, keys: ApiKeys, limits: GatewayLimits, listener: socket.socket, drain_seconds: float
) -> None:
    admin = await asyncio.to_thread(wait_for_broker, settings)
    catalogue = CatalogueReader(settings, lambda version: None)
    catalogue.start()
    try:
        if not await asyncio.to_thread(catalogue.wait, CATALOGUE_SECONDS):
            raise ValueError(
                f"topic {settings.topics.catalogue}: cannot be read; run `python -m streams topics create`"
            )
        exchange = QueryExchange(settings, admin)
        files = FileStore(settings, exchange.sender, exchange.store)
        runner = BatchRunner(settings, exchange.store, files, catalogue, exchange.gateway)
        app = GatewayApp(GatewayParts(exchange, catalogue, keys, limits), files, runner)
        server = GatewayServer(
            uvicorn.Config(
                app.application(),
                lifespan="off",
                log_config=None,
                access_log=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=int(drain_seconds) or 1,
                server_header=False,
            )
        )
        loop = asyncio.get_running_loop()

        def terminate() -> None:
            server.should_exit = True
            exit_after("shutdown", drain_seconds + SHUTDOWN_SECONDS)

        await exchange.start()
        watching = asyncio.gather(watch_broker(settings), runner.watch())
        # connections wait in the backlog from here on
        listener.listen(BACKLOG)
        host, number = listener.getsockname()[:2]
        log.info("gateway_listening", url=f"http://{host}:{number}/v1", gateway=exchange.gateway)
        serving = asyncio.create_task(server.serve([listener]))
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, terminate)
        try:
            await serving
        finally:
            watching.cancel()
            await asyncio.to_thread(runner.stop)
            await asyncio.to_thread(exchange.stop)
    finally:
        catalogue.stop()


if __name__ == "__main__":
    sys.exit(main())
