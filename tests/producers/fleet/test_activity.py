"""Health and metrics of a fleet worker, and what counts as progress."""

import asyncio

import httpx2
import openai
import pytest

from producers.fleet.activity import CountingHttpClient, FleetActivity
from producers.fleet.health_server import FleetHttp
from producers.fleet.messages import Tokens
from tests.producers.fleet.chat_server import chat_server

LIMIT = 100.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def activity(clock: Clock) -> FleetActivity:
    return FleetActivity("vendor/llm", LIMIT, clock)


def unwell(activity: FleetActivity) -> list[str]:
    return [check.name for check in activity.health().checks if not check.ok]


def test_health_idle_worker_that_polls_is_healthy(clock: Clock, activity: FleetActivity) -> None:
    for _ in range(5):
        clock.now += LIMIT
        activity.polled(0)
        assert activity.health().ok
    clock.now += LIMIT + 1
    assert unwell(activity) == ["poll"]


def test_health_worker_that_cannot_commit_is_unhealthy(clock: Clock, activity: FleetActivity) -> None:
    activity.uncommitted([(0, 7)])
    clock.now += LIMIT / 2
    # one was committed, another came
    activity.uncommitted([(0, 8)])
    clock.now += LIMIT
    activity.polled(2)
    assert activity.health().ok
    activity.uncommitted([(0, 8), (1, 3)])
    clock.now += 1
    assert unwell(activity) == ["commit"]
    activity.uncommitted([(1, 3)])
    assert activity.health().ok


def test_health_worker_outside_its_group_is_unhealthy(clock: Clock, activity: FleetActivity) -> None:
    activity.polled(1)
    activity.polled(None)
    clock.now += LIMIT + 1
    activity.polled(None)
    assert unwell(activity) == ["group"]
    activity.polled(0)
    assert activity.health().ok


def test_activity_exports_all_metrics(clock: Clock, activity: FleetActivity) -> None:
    activity.started((0, 1))
    clock.now += 3
    activity.started((0, 2))
    activity.ended((0, 3))
    activity.polled(2)
    activity.ended_with("answered", Tokens(11, 7), 0.25, 0.3, 1)
    activity.ended_with("failed", Tokens(1, 0), 0.5, 700.0, 4)
    activity.requested("200")
    activity.requested("429")
    lines = activity.text().decode().splitlines()
    for line in (
        'port_fleet_in_flight_queries{model="vendor/llm"} 2.0',
        'port_fleet_oldest_in_flight_seconds{model="vendor/llm"} 3.0',
        'port_fleet_assigned_partitions{model="vendor/llm"} 2.0',
        'port_fleet_queries_total{model="vendor/llm",result="answered"} 1.0',
        'port_fleet_queries_total{model="vendor/llm",result="failed"} 1.0',
        'port_fleet_tokens_total{kind="prompt",model="vendor/llm"} 12.0',
        'port_fleet_requests_total{model="vendor/llm",status="429"} 1.0',
        'port_fleet_cost_dollars_total{model="vendor/llm"} 0.75',
        'port_fleet_attempts_total{model="vendor/llm"} 5.0',
        'port_fleet_answer_seconds_bucket{le="0.25",model="vendor/llm"} 0.0',
        'port_fleet_answer_seconds_bucket{le="0.5",model="vendor/llm"} 1.0',
        'port_fleet_answer_seconds_bucket{le="+Inf",model="vendor/llm"} 2.0',
        'port_fleet_answer_seconds_count{model="vendor/llm"} 2.0',
        'port_fleet_answer_seconds_sum{model="vendor/llm"} 700.3',
    ):
        assert line in lines


async def test_http_client_counts_requests_by_status() -> None:
    ends: list[str] = []
    with chat_server() as server:
        server.faults["broken"].append("429")
        server.faults["slow"].append("hang")
        async with openai.AsyncOpenAI(
            api_key="k", base_url=server.url, max_retries=0, http_client=CountingHttpClient(ends.append)
        ) as client:

            async def ask(prompt: str, client: openai.AsyncOpenAI = client, **options: float) -> None:
                messages = [{"role": "user", "content": prompt}]
                await client.chat.completions.create(model="m", messages=messages, **options)

            await ask("fine")
            with pytest.raises(openai.RateLimitError):
                await ask("broken")
            with pytest.raises(openai.APITimeoutError):
                await ask("slow", timeout=0.2)
            server.faults["slow"].append("hang")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await ask("slow")
            with pytest.raises(openai.APIConnectionError):
                await ask("nowhere", client.with_options(base_url="http://127.0.0.1:9/v1"))
    assert ends == ["200", "429", "timeout", "cancelled", "no_response"]


async def test_fleet_http_serves_health_and_metrics(clock: Clock, activity: FleetActivity) -> None:
    http = FleetHttp(activity, "127.0.0.1", 0)
    await http.start()
    try:
        async with httpx2.AsyncClient(base_url=str(http.url)) as client:
            starting = await client.get("/readyz")
            assert (starting.status_code, starting.json()["ready"]) == (503, False)
            activity.polled(2)
            assert (await client.get("/readyz")).status_code == 200
            healthy = await client.get("/healthz")
            assert (healthy.status_code, healthy.json()["live"]) == (200, True)
            clock.now += LIMIT + 1
            stalled = await client.get("/healthz")
            assert (stalled.status_code, stalled.json()["live"]) == (503, False)
            assert "port_fleet_poll_age_seconds" in (await client.get("/metrics")).text
        second = FleetHttp(activity, "127.0.0.1", int(str(http.url).rpartition(":")[2]))
        with pytest.raises(ValueError, match="--health-port: cannot listen on"):
            await second.start()
    finally:
        await http.stop()
