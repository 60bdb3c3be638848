"""Who may see the pages: everyone on this machine, or who knows the token."""

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
"""Probes cannot log in; without the token these tell yes or no, nothing else. The form needs its looks."""

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
    """Checks each request.

    Parameters
    ----------
    token : SecretStr or None
        What callers must know; None: only names of this machine are answered to, so that no page of the web
        can ask through its reader's browser.
    form : bytes
        HTML that asks a person for the token.
    """

    def __init__(self, token: SecretStr | None, form: bytes) -> None:
        self._form = form
        self._token = None if token is None else token.get_secret_value()

    def knows_token(self, request: web.Request) -> bool:
        """The request may see everything."""
        if self._token is None:
            return True
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), self._token):
            return True
        return _same(request.cookies.get(COOKIE, ""), self._session())

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer, send away, or turn a token in the address into a cookie; what fails is an answer, too."""
        try:
            response = await self._answer(request, handler)
        except Exception:
            # without what was asked for: it may hold the token
            log.exception("web_failed", path=request.path)
            response = web.Response(status=500, text="cannot be answered; the worker's log says why\n")
        response.headers.update(HEADERS)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._token is None and _host_name(request.host) not in LOCAL_NAMES:
            return web.Response(status=403, text="ask by the name localhost, or set PORT_WEB_TOKEN\n")
        given = request.query.get("token")
        if self._token is not None and given is not None and request.method == "GET":
            if not _same(given, self._token):
                return self._refused(request)
            return self._with_cookie(request)
        if request.path not in OPEN_PATHS and not self.knows_token(request):
            return self._refused(request)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=f"{error.reason}\n", headers=_allowed(error))

    def _with_cookie(self, request: web.Request) -> web.Response:
        # the token leaves the address at once, so that it is in no history and no log
        fields = [(key, value) for key, value in request.query.items() if key != "token"]
        rest = urlencode(fields, errors="surrogateescape")
        # two slashes at the front, or what browsers take for them, would be the name of another host
        path = "/" + quote(request.path.lstrip("/\\"), errors="surrogateescape")
        response = web.Response(status=303, headers={"Location": path + ("?" + rest if rest else "")})
        response.set_cookie(
            COOKIE, self._session(), max_age=COOKIE_SECONDS, httponly=True, samesite="Strict",
            secure=request.headers.get("X-Forwarded-Proto", request.scheme) == "https",
        )  # fmt: skip
        return response

    def _refused(self, request: web.Request) -> web.Response:
        if "text/html" in request.headers.get("Accept", ""):
            return web.Response(status=401, body=self._form, content_type="text/html", charset="utf-8")
        text = "give the token: header `Authorization: Bearer TOKEN`, or once ?token=TOKEN in the address\n"
        return web.Response(status=401, text=text, headers={"WWW-Authenticate": "Bearer"})

    def _session(self) -> str:
        """What the cookie holds: it shows that its owner knew the token, and is not the token."""
        assert self._token is not None
        return hmac.new(_bytes(self._token), b"port web session", hashlib.sha256).hexdigest()


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(_bytes(given), _bytes(wanted))


def _bytes(text: str) -> bytes:
    # bytes of a header, or of the environment, that are not UTF-8 are surrogates in the text
    return text.encode("utf-8", "surrogatepass")


def _host_name(host: str) -> str:
    return host if host.endswith("]") else host.rsplit(":", 1)[0] if ":" in host else host


def _allowed(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
