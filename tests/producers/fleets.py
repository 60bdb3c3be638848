"""A fleet worker in a thread of the test's own."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import openai

from producers.fleet_calls import Caller, Limits
from producers.fleet_messages import Pricing
from producers.fleet_worker import Fleet, Llm
from streams.settings import Settings
from tests.producers.chat_server import ChatServer

DEADLINE = 60.0
PRICING = Pricing(2.0, 10.0)


@contextmanager
def fleet(
    settings: Settings, server: ChatServer, request_seconds: float = 1.0, concurrency: int = 16
) -> Iterator[Fleet]:
    """A worker in a thread; at the end it is told to stop, and must have."""
    workers: list[Fleet] = []
    failures: list[BaseException] = []
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def work() -> None:
        limits = Limits(attempts=3, request_seconds=request_seconds, first_pause=0.01)
        async with openai.AsyncOpenAI(api_key="k", base_url=server.url, max_retries=0) as client:
            llm = Llm("vendor/llm", "served-as", lambda: PRICING)
            workers.append(Fleet(settings, llm, Caller(client, limits), concurrency))
            ready.set()
            await workers[0].run()

    def run() -> None:
        try:
            loop.run_until_complete(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(DEADLINE)
        yield workers[0]
    finally:
        loop.call_soon_threadsafe(workers[0].stop)
        thread.join(DEADLINE)
    assert not thread.is_alive()
    assert not failures, failures


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
