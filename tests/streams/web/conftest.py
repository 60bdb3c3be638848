"""A page with sample data, and a browser."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pytest

from streams.config.settings import Settings
from streams.telemetry.cluster_summary import summarise_cluster
from streams.telemetry.health import HealthCheck, HealthReport
from streams.telemetry.lag import Lag
from streams.telemetry.metrics import Metrics, Sources
from streams.telemetry.timeline import point
from streams.web.server import WebServer
from tests.exclusive import alone
from tests.streams.sample_cluster import (
    make_figures,
    make_ledgers,
    make_plan,
)

NOW = 1_800_000_000.0
PACKAGES = ("chromium", "chromium-driver")


class MadeUpHealth:
    ok = True

    async def live(self) -> HealthReport:
        return HealthReport((HealthCheck("progress", self.ok, "secret detail"),))

    def ready(self) -> HealthReport:
        return HealthReport((HealthCheck("plan", self.ok, "in force"),))


def made_up_state() -> dict[str, Any]:
    overview = summarise_cluster(make_plan(began_at=NOW - 600, created_at=NOW - 5), make_ledgers(), NOW)
    beat = {
        "host": "a",
        "pid": 1,
        "at": NOW,
        "started_at": NOW - 4000,
        "ready": True,
        "lanes": ["queries:0"],
        "pending": 3,
        "queries_per_second": 12.5,
        "cpu_ratio": 0.4,
        "memory_bytes": 5e8,
    }
    return {
        "now": NOW,
        "worker": "w1",
        "settings": {
            "app_id": "made-up",
            "preset": "paper",
            "horizon": 100,
            "period_seconds": None,
            "warmup": "buffer",
            "resolve": "once",
            "reserve": "estimate",
        },
        "overview": asdict(overview),
        "lanes": [
            {
                "lane": 0,
                "name": "0",
                "lag": 7,
                "next": 32,
                "period": 3,
                "arrived": 30,
                "version": 7,
                "written_at": NOW - 2,
            }
        ],
        "lag": {"total": 7, "worst": 7},
        "dead_letters": {"queries": 1, "outcomes": 0},
        "oldest_open": {"small": NOW - 420},
        "workers": [
            {**beat, "worker": "w1", "silent": False},
            {**beat, "worker": "w2", "host": "b", "silent": True, "at": NOW - 90},
        ],
        "percentiles": {
            "latency": {"p50": 0.02, "p95": 0.05, "p99": 0.09, "count": 99},
            "commit": {"p50": 0.004, "p95": 0.006, "p99": 0.01, "count": 9},
        },
        "ready": {"ok": True, "checks": []},
        "broker_away_since": None,
    }


def made_up_timeline() -> list[dict[str, Any]]:
    overview = summarise_cluster(make_plan(), make_ledgers(), NOW)
    last = point(overview, NOW - 10, 7)
    steps = []
    for i in range(20):
        share = (i + 1) / 20
        scaled = {name: [share * v for v in last[name]] for name in ("charged", "settled", "served")}
        steps.append(
            {
                **last,
                **scaled,
                "at": NOW - 10 * (20 - i),
                "progress": 0.41 * share,
                "arrived": int(41 * share),
                "unserved": int(3 * share),
            }
        )
    return steps


def made_up_explanation(query_id: str) -> dict[str, Any]:
    if query_id != "q-1":
        raise LookupError(f"query_id: {query_id!r} is on no topic")
    chosen = {
        "name": "small",
        "chosen": True,
        "active": True,
        "price": 0.5,
        "quality": 0.6,
        "cost": 0.2,
        "charge": 0.2,
        "score": 0.5,
        "worth": True,
        "comparable": True,
        "available_before": 1.0,
        "available_after": 0.8,
        "can_pay": True,
    }
    other = {**chosen, "name": "vendor/large", "score": -0.1, "worth": False, "chosen": False}
    near = {
        "id": "h7",
        "similarity": 0.91,
        "task": "law",
        "prompt": "Near",
        "quality": {"small": 1.0},
        "cost": {"small": 0.1},
    }
    decision = {
        "stage": "routed",
        "at": NOW,
        "lane": 1,
        "offset": 5,
        "pool": False,
        "found": "llm.small[0]@3",
        "model": "small",
        "reason": None,
        "recorded": {"quality": 0.6, "cost": 0.2, "price": 0.5},
        "plan": {"version": 7, "period": 3, "learned": True, "created_at": NOW, "solved_from": {}},
        "transaction": None,
        "estimated_by": "history abc",
        "explored": False,
        "agrees": True,
        "models": [chosen, other],
        "neighbours": [near],
        "outcome": {"cost": 0.25, "quality": 1.0, "model": "small", "at": NOW},
    }
    prompt = "<script>document.title='broken'</script>"
    # a lane passed it to the overflow lane, which took it
    before = {
        **decision,
        "stage": "deferred",
        "model": None,
        "reason": "the lane could not pay",
        "outcome": None,
        "models": [{**chosen, "chosen": False, "can_pay": False, "cannot_pay": ["team=search"]}, other],
        "budgets": [{"name": "team=search", "unit": "usd", "price": 0.25, "available_before": 0.125}],
    }
    after = {**decision, "pool": True, "neighbours": []}
    return {"id": query_id, "prompt": prompt, "max_tokens": None, "decisions": [before, after]}


def made_up_values(budget: str, text: str) -> list[dict[str, Any]]:
    return [asdict(one) for one in make_figures().search(budget, text)]


LETTERS = [
    {
        "topic": "queries.dlq",
        "offset": 4,
        "at": NOW - 60,
        "from": "queries:1:17",
        "stage": "decode",
        "reason": "prompt: missing; <b>send a text</b>",
        "id": None,
        "bytes": 12,
        "preview": "{}",
    }
]
PLANS = [
    {
        "period": 3,
        "version": version,
        "learned": version > 0,
        "at": NOW - 500 + 60 * version,
        "models": ["small", "vendor/large"],
        "prices": [0.5 * version, 0.25],
        "solved_from": {"rows": 25, "observed": 25, "solver": "exact"},
    }
    for version in range(4)
]


@pytest.fixture
def health() -> MadeUpHealth:
    return MadeUpHealth()


@pytest.fixture
async def serve(health: MadeUpHealth) -> AsyncIterator[Callable[..., Any]]:
    """Start servers: `await serve(web_token=...)` gives one that listens, with some answers replaced."""
    servers = []

    async def start(
        replaced: dict[str, Callable[[], Any]] | None = None,
        state: Callable[[], dict[str, Any]] = made_up_state,
        **settings: Any,
    ) -> WebServer:
        metrics = Metrics(
            Sources(
                lambda: summarise_cluster(make_plan(), make_ledgers(), NOW),
                lambda: Lag({0: 7}),
                lambda: None,
                lambda: True,
                lambda: NOW,
                dead_letters=lambda: {"queries": 1},
            )
        )
        answers: dict[str, Callable[[], Any]] = {
            "state": state,
            "timeline": made_up_timeline,
            "plans": lambda: PLANS,
            "dead-letters": lambda: LETTERS,
            "periods": list,
            **(replaced or {}),
        }
        server = WebServer(
            Settings(web_port=0, **settings),
            health,  # type: ignore[arg-type]
            metrics,
            answers,
            made_up_explanation,
            made_up_values,
        )
        await server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()


def _install() -> str | None:
    """Debian's Chromium and its driver; why not, where they cannot be had."""
    if all(shutil.which(name) for name in ("chromium", "chromedriver")):
        return None
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"{' and '.join(PACKAGES)} are not installed, and only root with apt-get could install them"
    quiet = {"DEBIAN_FRONTEND": "noninteractive", **os.environ}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", *command], env=quiet, capture_output=True, text=True, timeout=280)
        if done.returncode != 0:
            return f"apt-get {command[0]} for {' and '.join(PACKAGES)} failed: {done.stderr.strip()[-300:]}"
    return None


Browse = Callable[..., Any]


@pytest.fixture(scope="session")
def browse() -> Browse:
    """Open a headless Chromium: `with browse(width, height, dark=False) as driver`."""
    with alone("packages"):
        problem = _install()
    if problem is not None:
        pytest.skip(f"no browser: {problem}")
    from selenium import webdriver

    @contextmanager
    def opened(width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Any]:
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.binary_location = str(shutil.which("chromium"))
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(str(shutil.which("chromedriver")))
        driver = webdriver.Chrome(options, service)
        try:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            yield driver
        finally:
            driver.quit()

    return opened
