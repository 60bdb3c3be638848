"""Whether asking works at all: a plain request, made like any other, that never leaves this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
import orjson

ANSWER = {
    "id": "rehearsal",
    "object": "chat.completion",
    "created": 0,
    "model": "rehearsal",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def plain_request(model: str) -> dict[str, Any]:
    """A request that nothing can be wrong with, for the LLM of this name."""
    return {"model": model, "messages": [{"role": "user", "content": "Does asking work?"}], "max_tokens": 1}


@asynccontextmanager
async def rehearsing(client: openai.AsyncOpenAI) -> AsyncIterator[openai.AsyncOpenAI]:
    """The client with its key, headers and address, whose requests are answered here, and cost nothing."""
    async with httpx2.AsyncClient(transport=_Here()) as here:
        yield client.with_options(http_client=here)


class _Here(httpx2.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        return httpx2.Response(
            200, content=orjson.dumps(ANSWER), headers={"content-type": "application/json"}
        )
