"""Access to the HTTP port."""

import asyncio
import os
import re
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from streams.config.settings import Settings

TOKEN = "a-token-that-nobody-guesses"
PATHS = ("/", "/metrics", "/api/state", "/api/explain?id=q-1", "/static/page.js")


async def status(url: str, **options: Any) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, allow_redirects=False, **options) as answer,
    ):
        await answer.read()
        return answer.status


@pytest.mark.parametrize("path", PATHS)
async def test_request_without_the_token_is_rejected(serve: Any, path: str):
    url = (await serve(web_token=TOKEN)).url + path

    assert await status(url) == 401
    assert await status(url, headers={"Authorization": "Bearer wrong"}) == 401
    assert await status(url, headers={"Authorization": f"Basic {TOKEN}"}) == 401
    assert await status(url, headers={"Cookie": f"port_session={TOKEN}"}) == 401
    assert await status(url, headers={"Authorization": f"Bearer {TOKEN}"}) == 200


async def test_token_in_the_address_becomes_a_cookie_without_the_token(serve: Any):
    url = (await serve(web_token=TOKEN)).url
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        async with session.get(f"{url}/?token={TOKEN}&x=1", allow_redirects=False) as answer:
            cookie = answer.headers["Set-Cookie"]
            assert answer.status == 303
            assert answer.headers["Location"] == "/?x=1"
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert TOKEN not in cookie
        async with session.get(f"{url}/api/state") as answer:
            assert answer.status == 200
    assert await status(f"{url}/?token=wrong") == 401


@pytest.mark.parametrize(
    "path", ["//evil.example/", "/%5Cevil.example/", "/%2Fevil.example/", "///evil.example"]
)
async def test_redirect_stays_on_the_site(serve: Any, path: str):
    server = await serve(web_token=TOKEN)
    response = await raw(server.url, f"GET {path}?token={TOKEN} HTTP/1.1")
    assert response.startswith(b"HTTP/1.1 303 ")
    assert re.search(rb"^Location: /[^/\\\r]*evil.example/?\r$", response, re.MULTILINE), response


@pytest.mark.parametrize("header", [b"Authorization: Bearer \xff\xfe", b"Cookie: port_session=\xff\xfe"])
async def test_header_with_invalid_bytes_is_rejected(serve: Any, header: bytes):
    server = await serve(web_token=TOKEN)
    for path, status in (("/healthz", b"200"), ("/readyz", b"200"), ("/api/state", b"401"), ("/", b"401")):
        response = await raw(server.url, f"GET {path} HTTP/1.1", header)
        assert response.startswith(b"HTTP/1.1 " + status), (path, response)
        assert b"X-Content-Type-Options: nosniff" in response


async def test_token_of_any_bytes_is_accepted(serve: Any):
    """The environment may hold bytes that are not UTF-8: Python keeps them as surrogates."""
    odd = os.fsdecode(b"tok\xffen")
    server = await serve(web_token=odd)
    response = await raw(server.url, "GET /api/state HTTP/1.1", b"Authorization: Bearer tok\xffen")
    assert response.startswith(b"HTTP/1.1 200 ")


async def test_failed_request_is_answered_and_its_query_string_is_not_logged(
    serve: Any, monkeypatch: pytest.MonkeyPatch
):
    server = await serve(web_token=TOKEN)

    def fails(*_: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(server._metrics, "text", fails)
    with capture_logs() as logs:
        response = await raw(
            server.url, "GET /metrics?q=1 HTTP/1.1", f"Authorization: Bearer {TOKEN}".encode()
        )
    assert response.startswith(b"HTTP/1.1 500 ")
    assert b"default-src 'none'" in response
    assert b"secret detail" not in response
    (line,) = [line for line in logs if line["event"] == "web_failed"]
    assert line["path"] == "/metrics"


async def raw(url: str, *lines: str | bytes) -> bytes:
    """Return the server's response to bytes that no client would send."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    sent = [line.encode() if isinstance(line, str) else line for line in lines]
    writer.write(b"\r\n".join([*sent, b"Host: localhost", b"Connection: close", b"", b""]))
    response = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return response


async def test_probes_without_the_token_answer_only_yes_or_no(serve: Any, health: Any):
    url = (await serve(web_token=TOKEN)).url
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/healthz") as answer:
            assert (answer.status, await answer.json()) == (200, {"live": True})
        health.ok = False
        async with session.get(f"{url}/readyz") as answer:
            assert (answer.status, await answer.json()) == (503, {"ready": False})
        async with session.get(f"{url}/healthz", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 503
            assert "secret detail" in await answer.text()


async def test_requests_without_a_configured_token_need_a_local_host_name(serve: Any):
    url = (await serve()).url

    assert await status(url) == 200
    for name in ("localhost:80", "127.0.0.1", "[::1]:8000"):
        assert await status(url, headers={"Host": name}) == 200
    for name in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80"):
        assert await status(url, headers={"Host": name}) == 403


async def test_server_rejects_methods_other_than_get(serve: Any):
    url = (await serve()).url
    async with aiohttp.ClientSession() as session:
        for method in ("post", "put", "delete", "patch"):
            for path in (*PATHS, "/healthz"):
                async with getattr(session, method)(url + path) as answer:
                    assert answer.status == 405, (method, path)


async def test_answers_have_restrictive_headers(serve: Any):
    url = (await serve()).url
    async with aiohttp.ClientSession() as session:
        for path in (*PATHS, "/nowhere", "/table/ledger", "/static/../server.py"):
            async with session.get(url + path) as answer:
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cache-Control"] == "no-store"
                assert (answer.status == 200) == (path in PATHS)


async def test_start_with_a_port_in_use_raises(serve: Any):
    url = (await serve()).url
    port = int(url.rsplit(":", 1)[1])

    with pytest.raises(ValueError, match=f"web_port: 127.0.0.1:{port} cannot be listened on"):
        await serve_at(serve, port)


async def serve_at(serve: Any, port: int) -> None:
    settings = Settings(web_port=port)
    server = await serve()
    server._settings = settings
    await server.stop()
    await server.start()


def test_settings_with_an_open_address_and_no_token_are_rejected():
    for host in ("0.0.0.0", "::", "192.168.1.5", "router.example"):
        with pytest.raises(ValueError, match="web_token: not set"):
            Settings(web_host=host, web_port=8000)
    Settings(web_host="0.0.0.0", web_port=8000, web_token=TOKEN)  # type: ignore[arg-type]
