"""Access to the HTTP port: local clients only, or clients that know the token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlencode

import structlog
from aiohttp import web
from pydantic import SecretStr

log = structlog.get_logger(__name__)

COOKIE = "port_session"
OPEN_PATHS = ("/healthz", "/readyz", "/static/page.css", "/static/icon.svg")
"""Paths without a token: probes, which then only answer yes or no, and files of the login form."""

LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]", "::1")
COOKIE_SECONDS = 30 * 24 * 3600

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access:
    """Checks the access of each request.

    Parameters
    ----------
    token : SecretStr or None
        Token that clients must know. None: requests must address this machine by a local name, so that no
        foreign web page can read through a user's browser.
    form : bytes
        HTML of the login form.
    """

    def __init__(self, token: SecretStr | None, form: bytes) -> None:
        self._form = form
        self._token = None if token is None else token.get_secret_value()

    def knows_token(self, request: web.Request) -> bool:
        """Return True if the request has the token, or none is required."""
        if self._token is None:
            return True
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(token.strip(), self._token):
            return True
        return _same(request.cookies.get(COOKIE, ""), self._session())

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer or reject a request, or turn a token in the address into a cookie; errors become answers."""
        try:
            response = await self._answer(request, handler)
        except Exception:
            # without the query string, which may hold the token
            log.exception("web_failed", path=request.path)
            response = web.Response(status=500, text="cannot be answered; see the worker's log\n")
        response.headers.update(HEADERS)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._token is None and _host_name(request.host) not in LOCAL_NAMES:
            return web.Response(status=403, text="use the name localhost, or set PORT_WEB_TOKEN\n")
        token = request.query.get("token")
        if self._token is not None and token is not None and request.method == "GET":
            if not _same(token, self._token):
                return self._refused(request)
            return self._with_cookie(request)
        if request.path not in OPEN_PATHS and not self.knows_token(request):
            return self._refused(request)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=f"{error.reason}\n", headers=_allowed(error))

    def _with_cookie(self, request: web.Request) -> web.Response:
        # remove the token from the address, so that no browser history or log keeps it
        fields = [(key, value) for key, value in request.query.items() if key != "token"]
        query = urlencode(fields, errors="surrogateescape")
        # two leading slashes or backslashes would make the path the name of another host
        path = "/" + quote(request.path.lstrip("/\\"), errors="surrogateescape")
        response = web.Response(status=303, headers={"Location": path + ("?" + query if query else "")})
        response.set_cookie(
            COOKIE,
            self._session(),
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=request.headers.get("X-Forwarded-Proto", request.scheme) == "https",
        )
        return response

    def _refused(self, request: web.Request) -> web.Response:
        if "text/html" in request.headers.get("Accept", ""):
            return web.Response(status=401, body=self._form, content_type="text/html", charset="utf-8")
        text = "give the token: header `Authorization: Bearer TOKEN`, or once ?token=TOKEN in the address\n"
        return web.Response(status=401, text=text, headers={"WWW-Authenticate": "Bearer"})

    def _session(self) -> str:
        """Return the value of the cookie, which proves knowledge of the token without containing it."""
        assert self._token is not None
        return hmac.new(_bytes(self._token), b"port web session", hashlib.sha256).hexdigest()


def _same(received: str, expected: str) -> bool:
    return hmac.compare_digest(_bytes(received), _bytes(expected))


def _bytes(text: str) -> bytes:
    # bytes of headers and of the environment that are not UTF-8 are surrogates in the text
    return text.encode("utf-8", "surrogatepass")


def _host_name(host: str) -> str:
    return host if host.endswith("]") else host.rsplit(":", 1)[0] if ":" in host else host


def _allowed(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
