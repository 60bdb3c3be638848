"""Pages of two workers on a Kafka broker."""

import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from streams.kafka.clients import reader_config
from streams.kafka.record_probe import make_record_probe
from tests.end_to_end.router_under_test import Router
from tests.end_to_end.small_dataset import Small, make_small
from tests.end_to_end.worker_process import Worker, wait_for

TOKEN = "the page's token"
QUERIES = 160
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def router(bootstrap_servers: str, tmp_path: Path, unique: Callable[[str], str]) -> Iterator[Router]:
    small: Small = make_small(tmp_path / "small", "open_llm_v2", QUERIES, 400, models=4)
    router = Router(
        bootstrap_servers, small, tmp_path, unique("web"), partitions=2, web_port=0, web_token=TOKEN
    )
    router.variables["OTEL_TRACES_EXPORTER"] = "console"
    yield router
    router.close()
    router.delete_topics()


def address(worker: Worker) -> str:
    return str(wait_for(lambda: next(worker.events("web_listening"), None), 60, "the page listens")["url"])


def ask(url: str, path: str, token: str | None = TOKEN) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url + path, headers=headers), timeout=15
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def total(text: bytes, name: str) -> float:
    """Sum over labels."""
    pattern = rb"^" + name.encode() + rb"(?:\{[^}]*\})? ([0-9.e+-]+)$"
    return sum(float(value) for value in re.findall(pattern, text, re.MULTILINE))


def seen(url: str) -> Any:
    """The state, once it has both workers' beats and every lane."""
    state = orjson.loads(ask(url, "/api/state")[1])
    complete = len(state["workers"]) == 2 and len(state["lanes"]) == 3 and "latency" in state["percentiles"]
    return state if complete and state["lag"]["total"] <= 2 else None


def without_outcome(url: str) -> dict[str, int] | None:
    """Open reservations by LLM, once the workers' beats have their ages, too."""
    state = orjson.loads(ask(url, "/api/state")[1])
    counts = {model["name"]: model["unanswered"] for model in state["overview"]["models"]}
    complete = state["oldest_open"].keys() == {name for name, count in counts.items() if count}
    return counts if complete and state["oldest_open"] else None


def lane_counts(url: str) -> list[int]:
    """Return the number of lanes of each worker that has not left."""
    return [len(worker["lanes"]) for worker in orjson.loads(ask(url, "/api/state")[1])["workers"]]


def settle(router: Router) -> None:
    """The outcome of everything that was routed, half as dear as reserved."""
    for landings in list(router.landed.values()):
        landing = landings[0]
        if landing.kind == "served":
            fields = orjson.loads(landing.entry.value or b"")
            routing = fields["routing"]
            outcome = {
                "id": fields["id"],
                "model": routing["model"],
                "cost": routing["cost"] / 2,
                "quality": 1.0,
            }
            outcome |= {"partition": routing["partition"], "offset": routing["offset"]}
            router.producer.produce(
                router.topics.outcomes, orjson.dumps(outcome), partition=routing["partition"]
            )
    router.producer.flush(30)


@pytest.mark.browser
@pytest.mark.timeout(400)
def test_pages_of_two_workers_show_the_whole_cluster(router: Router, browse: Any):
    first, second = router.start(ready=True), router.start(ready=True)
    urls = [address(first), address(second)]
    for url in urls:
        wait_for(lambda url=url: ask(url, "/readyz")[0] == 200, 60, f"{url} is ready")
    router.send(range(QUERIES - 2))
    name, value = router.query(QUERIES - 1, "the-one-in-question")
    router.send_raw(name, value, headers=[("traceparent", TRACE)])
    router.send_raw("broken", b'{"id": "broken", "prompt": 7}', partition=1)
    router.all_landed()
    served = sum(landings[0].kind == "served" for landings in router.landed.values())
    assert served > 10
    # no query has been answered yet, and every worker shows for how long
    for url in urls:
        waiting = wait_for(lambda url=url: without_outcome(url), 60, "reservations are open")
        assert sum(waiting.values()) == served
        state = orjson.loads(ask(url, "/api/state")[1])
        assert state["oldest_open"].keys() == {name for name, count in waiting.items() if count}
        assert all(0 < state["now"] - at < 300 for at in state["oldest_open"].values())
    assert max(total(ask(url, "/metrics")[1], "port_oldest_unanswered_seconds") for url in urls) > 0
    settle(router)

    # counters are each worker's own and add up; gauges are the cluster's, the same on both
    def scraped() -> list[bytes]:
        return [ask(url, "/metrics")[1] for url in urls]

    wait_for(
        lambda: sum(total(text, "port_outcomes_total") for text in scraped()) == served, 60, "all is settled"
    )
    texts = scraped()
    deferred = sum(re.findall(rb'outcome="deferred"', text) != [] for text in texts)
    assert deferred  # there is an overflow lane
    for outcome, count in (("served", served), ("dead", 1)):
        pattern = f'port_queries_total\\{{[^}}]*outcome="{outcome}"\\}} ([0-9.]+)'.encode()
        assert sum(float(v) for text in texts for v in re.findall(pattern, text)) == count
    settled = wait_for(
        lambda: (
            len({total(text, "port_settled_dollars") for text in scraped()}) == 1
            and total(scraped()[0], "port_settled_dollars")
        ),
        30,
        "both show the same",
    )
    assert settled == pytest.approx(sum(total(t, "port_settlements_dollars_total") for t in texts))
    assert min(total(text, "port_batch_queries_count") for text in texts) > 0  # both worked
    # a query that went through the overflow lane is one query
    assert sum(total(text, "port_latency_seconds_count") for text in texts) == QUERIES

    # the state on each: all lanes, both workers, the plan
    for url in urls:
        state = wait_for(lambda url=url: seen(url), 60, "each sees both")
        overview = state["overview"]
        assert overview["served"] == served
        assert overview["served"] + overview["unserved"] + overview["dead"] == QUERIES
        for model in overview["models"]:
            assert model["settled"] + model["reserved"] + model["left"] == pytest.approx(model["budget"])
            assert model["cost_error"] is None or model["cost_error"] == pytest.approx(-0.5, abs=1e-6)
        assert state["percentiles"]["latency"]["count"] > 0
        # records, though the topic's end is beyond a marker of their transaction
        assert state["dead_letters"] == {"queries": 1, "outcomes": 0}
        assert sum(model["unanswered"] for model in overview["models"]) == 0
        wait_for(lambda url=url: orjson.loads(ask(url, "/api/state")[1])["oldest_open"] == {}, 30, "all came")
        (bill,) = orjson.loads(ask(url, "/api/periods")[1])
        assert (bill["served"], bill["overspent"]) == (served, [])
    (letter,) = orjson.loads(ask(urls[1], "/api/dead-letters")[1])
    assert letter["id"] == "broken"
    assert letter["reason"].startswith("prompt: 7 must be a text")
    assert orjson.loads(ask(urls[0], "/api/plans")[1])[-1]["learned"]

    # health without the token is yes or no
    assert ask(urls[0], "/healthz", None) == (200, b'{"live":true}')
    assert ask(urls[0], "/api/state", None)[0] == 401
    for path in ("/table/", "/router", "/stats/"):  # what Faust would serve
        assert ask(urls[0], path)[0] == 404

    # traceparent is where it was
    (landing,) = [outputs[0] for place, outputs in router.landed.items() if router.sent[place] == name]
    assert ("traceparent", TRACE) in list(landing.entry.headers)

    with browse(1280, 1000) as driver:
        driver.get(f"{urls[1]}/?token={TOKEN.replace(' ', '%20')}#query={name}")
        WebDriverWait(driver, 60).until(lambda d: name in d.find_element(By.ID, "explained").text)
        explained = driver.find_element(By.ID, "explained")
        WebDriverWait(driver, 60).until(lambda d: "lane and offset" in explained.text)
        assert "the same" in explained.text
        assert "prompt: 7 must be a text" in driver.find_element(By.ID, "letters").text
        assert not driver.find_element(By.ID, "banner").is_displayed()
        if folder := os.environ.get("PORT_SCREENSHOTS"):
            driver.save_screenshot(f"{folder}/worker.png")

    # the other worker takes over the lanes of one that leaves
    assert first.stop() == 0
    wait_for(lambda: ask(urls[1], "/readyz")[0] == 200, 60, "the other one is ready")
    wait_for(lambda: lane_counts(urls[1]) == [4], 30, "the other one has all lanes")
    assert second.stop() == 0
    # it is in a trace, too: the span goes on from who asked
    logs = first.log.read_text() + second.log.read_text()
    assert f'"trace_id": "0x{TRACE.split(b"-")[1].decode()}"' in logs
    assert f'"parent_id": "0x{TRACE.split(b"-")[2].decode()}"' in logs
    assert TOKEN not in first.log.read_text() + second.log.read_text()


def test_record_probe_ignores_markers_and_aborted_records(router: Router):
    """Markers of transactions and aborted records have offsets, and are nothing to do."""
    from confluent_kafka import Producer

    from streams.kafka.clients import transactional_config

    asks = make_record_probe(reader_config(router.settings))
    topic = router.topics.queries
    producer = Producer(transactional_config(router.settings, "aborting"))
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"never happened", partition=0)
    producer.flush(10)
    producer.abort_transaction(10)
    assert asks({(topic, 0): 0, (topic, 1): 0}) == set()
    router.send_raw("x", b"{}", partition=1)
    assert asks({(topic, 0): 0, (topic, 1): 0}) == {(topic, 1)}
    assert asks({(topic, 1): 1}) == set()
    nobody = reader_config(router.settings) | {"bootstrap.servers": "127.0.0.1:1"}
    assert make_record_probe(nobody)({(topic, 1): 0}) == set()
