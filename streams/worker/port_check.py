"""Check of the page's address before a worker listens there."""

from __future__ import annotations

import errno
import socket
import urllib.request
from contextlib import closing

import orjson

from streams.config.settings import Settings

PROBE_SECONDS = 2.0
WILDCARD_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def port_problem(settings: Settings) -> tuple[str, bool] | None:
    """Return the reason why a worker could not listen at its page's address, or None.

    Returns
    -------
    (str, bool) or None
        Text for people, and True if it is a mistake. A worker that already listens there is not a mistake.
    """
    host, port = settings.web_host, settings.web_port
    if not port:
        return None
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with closing(socket.socket(family, kind, number)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and _is_worker(host, port):
            return f"web_port: {port} is in use by a worker; a second worker here needs another", False
        reason = error.strerror or error
        return (
            f"web_port: {host}:{port} cannot be listened on ({reason}); "
            "set PORT_WEB_PORT to a free port, or 0 for any, and PORT_WEB_HOST to an address of this machine"
        ), True
    return None


def _is_worker(host: str, port: int) -> bool:
    host = WILDCARD_ADDRESSES.get(host, host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/healthz"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _AnyStatus())
    try:
        with opener.open(url, timeout=PROBE_SECONDS) as response:
            fields = orjson.loads(response.read(10_000))
    except (OSError, ValueError):
        return False
    return isinstance(fields, dict) and "live" in fields


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """Accept every status: an unhealthy worker answers 503."""

    def http_response(self, request: object, response: object) -> object:
        return response
