"""Run a fleet worker in a thread."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import openai
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from producers.fleet.endpoint import EndpointClient, Limits
from producers.fleet.grader import Grader
from producers.fleet.messages import Pricing
from producers.fleet.worker import Fleet, FleetModel
from streams.config.settings import Settings
from tests.producers.fleet.chat_server import ChatServer

DEADLINE = 60.0
PRICING = Pricing(2.0, 10.0)


@contextmanager
def fleet(
    settings: Settings,
    server: ChatServer,
    request_seconds: float = 1.0,
    concurrency: int = 16,
    model: str = "vendor/llm",
    served_as: str = "served-as",
    returns: bool = False,
    max_wait: float = 1.0,
    grader: Grader | None = None,
) -> Iterator[Fleet]:
    """Run a worker in a thread for the length of a block; check that it stops."""
    workers: list[Fleet] = []
    failures: list[BaseException] = []
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def work() -> None:
        limits = Limits(attempts=3, request_seconds=request_seconds, first_pause=0.01, max_wait=max_wait)
        async with openai.AsyncOpenAI(api_key="k", base_url=server.url, max_retries=0) as client:
            llm = FleetModel(model, served_as, lambda: PRICING)
            endpoint = EndpointClient(client, limits, returns=returns)
            workers.append(Fleet(settings, llm, endpoint, concurrency, returns=returns, grader=grader))
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


def group_members(settings: Settings) -> list[int]:
    """Return the number of partitions of each worker; empty during a rebalance."""
    # a client of its own: one that has lost its broker asks the former coordinator for a while
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers, "log_level": 0})
    name = f"{settings.app_id}-fleet-vendor-llm"
    try:
        description = admin.describe_consumer_groups([name])[name].result(10)
    except KafkaException:  # its coordinator is not there yet
        return []
    stable = description.state.name == "STABLE"
    return [len(member.assignment.topic_partitions) for member in description.members] if stable else []
