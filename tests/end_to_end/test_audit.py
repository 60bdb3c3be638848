"""The audit finds every corruption of a recorded history.

The history is recorded once from a broker; each test changes it in memory.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from streams.audit.check import check
from streams.messages.deferred import OVERFLOW_HEADER
from tests.end_to_end.bill_corruptions import BILL_CORRUPTIONS, bills_of
from tests.end_to_end.corruptions import CORRUPTIONS, Corruption
from tests.end_to_end.recorded_schemas import assert_records_fit_their_schemas
from tests.end_to_end.recorded_topics import Recorded
from tests.end_to_end.router_under_test import Router
from tests.end_to_end.small_dataset import make_small
from tests.end_to_end.worker_process import ROOT, wait_for


@pytest.fixture(scope="module")
def stream(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """Run a router with two partitions and the overflow lane for three periods, then stop its worker.

    The first period is settled completely, partly in the third one; the others have no outcomes. Budgets are
    such that cheap LLMs have grants in both partitions, and expensive ones only in the pool.
    """
    folder = tmp_path_factory.mktemp("checker")
    data = make_small(folder / "data", "open_llm_v2", 1000, 1500, factor=15.0, models=6)
    router = Router(
        bootstrap_servers,
        data,
        folder,
        f"check-{os.urandom(4).hex()}",
        partitions=2,
        horizon=5000,
        eps=0.01,
        period_seconds=12,
        resolve="geometric",
    )
    worker = router.start()
    try:
        own_headers(router, range(500, 510))
        router.send(range(60))
        for first in range(60, 100, 8):  # the planner looks a few times before it knows the pace
            router.all_landed()
            router.send(range(first, first + 8))
        wait_for(lambda: (plan := router.plan()) and plan.granted[0].any(), 30, "lanes have rights")
        router.send(range(100, 400))
        own_headers(router, range(510, 520))
        identity, value = router.query(520)
        router.send_raw(identity, orjson.dumps(orjson.loads(value) | {"deadline": "2020-01-01T00:00:00Z"}))
        router.send_raw("bad", b"not JSON", key=b"k", headers=[("h", b"\xff")], partition=1)
        router.all_landed()
        served = router.served()
        for number, landing in enumerate(served[:200]):
            router.answer(landing, float(landing.charge) / 1e12 * (0.5 if number % 2 else 1.2))
        router.answer(served[0], float(served[0].charge) / 1e12 * 1.2)  # a duplicate
        router.answer(served[1], 1.0)  # it cost another sum before
        router.answer(served[2], id="somebody-else")
        router.answer(served[3], offset=10**9)
        router.settled(204)
        router.ledgers_are(lambda lanes: all(r.account.period > 1 for r in lanes.values()), "all in period 2")
        router.send(range(400, 450))
        router.all_landed()
        router.ledgers_are(lambda lanes: all(r.account.period > 2 for r in lanes.values()), "all in period 3")
        for landing in served[200:]:
            router.answer(landing, float(landing.charge) / 1e12 * 1.1)
        router.settled(4 + len(served))
        router.send(range(450, 500))
        router.all_landed()
        router.check_at_rest()
        assert worker.stop() == 0
        yield router
    finally:
        router.close()
        router.delete_topics()


def own_headers(router: Router, rows: range) -> None:
    """Send queries of a client that uses a header of the router's name for its own purposes."""
    for row in rows:
        identity, value = router.query(row)
        headers = [
            (OVERFLOW_HEADER, b"mine"),
            ("x", b"y"),
            (OVERFLOW_HEADER, b'{"partition": 0, "offset": 1}'),
        ]
        router.send_raw(identity, value, headers=headers, partition=row % 2)


@pytest.fixture(scope="module")
def history(stream: Router) -> Recorded:
    with stream.logs() as logs:
        return Recorded.of(logs, stream.topics)


def test_check_of_an_unchanged_history_finds_no_violation(history: Recorded) -> None:
    verdict = history.check()
    assert verdict.fine, verdict.text()
    assert verdict.queries == 522
    assert verdict.dead == 1
    assert verdict.deferred > 0
    assert verdict.overdrawn_pico > 0
    assert verdict.served + verdict.unserved + verdict.dead == 522
    assert len(history.routed()) > 50


def test_every_recorded_message_fits_its_schema(history: Recorded) -> None:
    counts = assert_records_fit_their_schemas(history)
    assert counts["query"] == 521
    expected = {"query", "routed-query", "unserved-query", "dead-letter", "outcome", "deferred-query"}
    expected |= {"plan", "plan-head", "ledger", "ledger-account", "reservations", "samples", "period"}
    assert not expected - {*counts}, counts
    deferred = history.entries[history.topics.overflow]
    own = {sum(name == OVERFLOW_HEADER for name, _ in entry.headers) for entry in deferred}
    assert own == {1, 3}, "a client's headers of our name go along"
    newest = {
        entry.key: orjson.loads(entry.value or b"") for entry in history.entries[history.topics.periods]
    }
    states = [(newest[key]["closed"], newest[key]["settling"]) for key in (b"1", b"2", b"3")]
    assert states == [(True, False), (True, True), (False, True)]


def test_check_of_a_bill_that_is_behind_reports_it_only_if_complete(history: Recorded) -> None:
    """A planner may not have written the newest bill yet."""
    last = [bills_of(history, 3)[-1], *bills_of(history, 1)[-1:]]
    behind = history.without(last[0]).without(last[1])
    assert behind.check().counts["bill"]
    assert check(behind, history.topics).fine


@pytest.mark.parametrize(
    ("change", "kind"),
    [*CORRUPTIONS, *BILL_CORRUPTIONS],
    ids=lambda value: value.__name__ if callable(value) else value,
)
def test_check_of_a_corrupted_history_reports_the_violation(
    history: Recorded, change: Corruption, kind: str
) -> None:
    verdict = change(history).check()
    assert not verdict.fine
    assert verdict.counts[kind], verdict.text()
    assert f"BROKEN {kind}" in verdict.text()


def test_check_of_a_waiting_query_reports_it_missing_only_if_complete(history: Recorded) -> None:
    query = history.entries[history.topics.queries][-1]
    waiting = history.with_more(query)
    assert waiting.check().counts["missing"] == 1
    verdict = check(waiting, history.topics)
    assert verdict.fine, verdict.text()
    assert verdict.waiting == 1


def test_check_command_with_a_duplicate_query_exits_with_status_1(
    stream: Router, history: Recorded, tmp_path: Path
) -> None:
    """Check the topics on the broker, then again after another producer has duplicated a query."""

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "streams", "check", "--complete", *arguments],
            cwd=ROOT,
            env={**os.environ, **stream.variables},
            capture_output=True,
            text=True,
            timeout=120,
        )

    fine = command()
    assert fine.returncode == 0, fine.stdout + fine.stderr
    assert "every invariant holds" in fine.stdout
    entry = history.routed()[0]
    stream.producer.produce(
        entry.topic, entry.value, entry.key, partition=entry.partition, headers=list(entry.headers)
    )
    stream.producer.flush(30)
    broken = command("--json")
    assert broken.returncode == 1
    report = orjson.loads(broken.stdout)
    assert (report["fine"], report["twice"], report["missing"]) == (False, 1, 0)
