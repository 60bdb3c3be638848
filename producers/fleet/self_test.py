"""Self-test: send a minimal request through the client without touching the network."""

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


PLAIN_TOKENS = 16
"""Token limit of the plain request. Reasoning LLMs answer a limit of one token with an error."""


def plain_request(model: str, limit: int = PLAIN_TOKENS) -> dict[str, Any]:
    """Return a minimal request for an LLM.

    Parameters
    ----------
    model : str
    limit : int
        Maximum tokens of the answer; at most `PLAIN_TOKENS` are used.
    """
    limit = min(limit, PLAIN_TOKENS)
    return {
        "model": model,
        "messages": [{"role": "user", "content": "Does asking work?"}],
        "max_tokens": limit,
    }


@asynccontextmanager
async def self_testing(client: openai.AsyncOpenAI) -> AsyncIterator[openai.AsyncOpenAI]:
    """Yield the client with its key, headers and address, but a transport that answers locally."""
    async with httpx2.AsyncClient(transport=_LocalTransport()) as local:
        yield client.with_options(http_client=local)


class _LocalTransport(httpx2.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        return httpx2.Response(
            200, content=orjson.dumps(ANSWER), headers={"content-type": "application/json"}
        )
