"""A small server that speaks the chat completions API, and fails in the ways that real ones do."""

import asyncio
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from aiohttp import web

from producers.fleet.messages import Tokens

PROMPT_TOKENS, COMPLETION_TOKENS = 11, 7
ANSWER_TOKENS = Tokens(PROMPT_TOKENS, COMPLETION_TOKENS)
PLAIN_PROMPT = "Does asking work?"
"""Prompt of the plain request that a fleet sends to find out whether the endpoint works."""

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

Response = tuple[int, dict[str, str], bytes]
"""Status, headers and content."""


class ChatServer:
    """Answers every prompt with its upper case, in a thread of its own.

    `faults[prompt]` is what goes wrong with the next requests for it: "500", "429", "400", "401", "404",
    "hang", "cut" (the connection ends within the body), "broken" (half a JSON), "unfinished" (no
    text and no finish_reason, though tokens are counted), "uncounted" (no usage), "deep" (deeper than JSON
    is written), "large" (9 MiB). `respond` takes the place of all that: it makes status, headers and content
    of a request.
    """

    def __init__(self) -> None:
        self.faults: defaultdict[str, deque[str]] = defaultdict(deque)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.retry_after = "0"
        self.record: Callable[[bytes], object] | None = None
        """Gets what each request says, as it is written."""
        self.respond: Callable[[dict[str, Any]], Response | None] | None = None
        self.held: set[str] = set()
        self.hold_all = False
        """Prompts that wait until `release`."""
        self.most_at_once = 0
        self._at_once = 0
        self._released = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(10)

    def hold(self, prompt: str) -> None:
        """Hold a prompt until the next `release`, also after a former one."""
        self.held.add(prompt)
        self._loop.call_soon_threadsafe(self._released.clear)

    def release(self) -> None:
        """Answer what is held, and hold no more."""
        self.hold_all = False
        self.held.clear()
        self._loop.call_soon_threadsafe(self._released.set)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._released.set)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"  # type: ignore[union-attr]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            content = await request.read()
            if self.record is not None:
                self.record(content)
            return await self._reply(request, orjson.loads(content))
        finally:
            self._at_once -= 1

    async def _reply(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        prompt = body["messages"][-1]["content"]
        self.requests.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.asked[prompt] += 1
        if self.respond is not None and (response := self.respond(body)) is not None:
            status, headers, content = response
            return web.Response(
                status=status, headers={"Content-Type": "application/json"} | headers, body=content
            )
        fault = self.faults[prompt].popleft() if self.faults[prompt] else None
        if fault is None and (self.hold_all or prompt in self.held):
            await self._released.wait()
        if fault == "hang":
            await self._released.wait()
        if fault is not None and fault.isdigit():
            error = {"error": {"message": f"refused with {fault}", "type": "test", "code": None}}
            headers = {"Retry-After": self.retry_after} if fault == "429" else {}
            return web.json_response(error, status=int(fault), headers=headers)
        answer = completion(prompt, body["model"], fault)
        if fault in ("cut", "broken"):
            return await self._half(request, answer, cut=fault == "cut")
        self.answered[prompt] += 1
        return web.Response(body=answer, content_type="application/json")

    async def _half(self, request: web.Request, answer: bytes, cut: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        half = answer[: len(answer) // 2]
        response.content_length = len(answer) if cut else len(half)
        await response.prepare(request)
        await response.write(half)
        if cut and request.transport is not None:
            request.transport.close()
        return response


def completion(prompt: str, model: str, fault: str | None = None) -> bytes:
    finish = None if fault == "unfinished" else "stop"
    message = {"role": "assistant", "content": prompt.upper() if fault != "large" else "x" * 9 * 2**20}
    if fault == "unfinished":
        message["content"] = ""
    body: dict[str, Any] = {
        "id": f"chatcmpl-{len(prompt)}",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if fault != "uncounted":
        body["usage"] = {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": COMPLETION_TOKENS,
            "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
        }
    if fault == "deep":
        return orjson.dumps(body)[:-1] + b',"own":' + b"[" * 500 + b"]" * 500 + b"}"
    return orjson.dumps(body)


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    server = ChatServer()
    try:
        yield server
    finally:
        server.stop()


def request(prompt: str) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": 5, "top_p": 0.5}
