"""The circuit breaker: pauses by failures, tests, back-off, backlogs and orders of operators."""

from dataclasses import replace

import numpy as np
import pytest

from routing.policy.account import Account
from routing.policy.pause import Pause
from streams.ledger.record import LedgerRecord
from streams.messages.pause import ManualPause, pause_key
from streams.planner.circuit_breaker import CircuitBreaker
from tests.streams.memory_topics import settings_of
from tests.streams.planner.memory_cluster import MODELS

START = 1000.0


class Clocked:
    """A breaker, one lane's ledger and a clock."""

    def __init__(self, **options: object) -> None:
        self.breaker = CircuitBreaker(settings_of(**options))
        self.now, self.manual = START, dict[str, ManualPause]()
        account = Account.fresh(1, 2)
        self.ledger = replace(LedgerRecord.fresh(0), models=MODELS, account=account)
        self.pauses = self.step()

    def step(self, seconds: float = 1.0, good: int = 0, bad: int = 0) -> dict[str, Pause]:
        """Advance the clock, then count results of the first LLM."""
        self.now += seconds
        account = self.ledger.account
        self.ledger = self.ledger.with_account(
            replace(
                account,
                settlements=account.settlements + np.array([good + bad, 0]),
                failed=account.failed + np.array([bad, 0]),
            )
        )
        self.pauses = self.breaker.update(self.now, {0: self.ledger}, self.manual)
        return self.pauses


def test_llm_that_fails_is_closed_then_tested_then_resumed():
    clocked = Clocked()
    assert not clocked.step(good=10)
    assert not clocked.step(bad=4), "too few failures"
    paused = clocked.step(bad=6)["a"]
    assert (paused.share, paused.since, paused.until) == (0.0, clocked.now, clocked.now + 30)
    assert paused.reason == "10 of 20 queries failed in 60 s"
    assert clocked.step(29.5, bad=3)["a"] == paused, "late failures change nothing"
    assert clocked.step(1)["a"].share == 0.02
    assert clocked.step(1, good=4)["a"].share == 0.02
    assert not clocked.step(1, good=1)
    assert not clocked.step(1, bad=4), "earlier failures are forgotten"


def test_failed_tests_double_the_back_off_up_to_its_maximum():
    clocked = Clocked(breaker_max_backoff_seconds=100)
    clocked.step(bad=5)
    backoffs = []
    for _ in range(4):
        backoffs.append(clocked.pauses["a"].backoff)
        clocked.step(backoffs[-1])
        assert clocked.pauses["a"].share > 0
        clocked.step(bad=1)
    assert backoffs == [30, 60, 100, 100]
    assert clocked.pauses["a"].since == START + 2, "the pause began with the first failures"


def test_failures_outside_the_window_or_below_the_share_do_not_count():
    clocked = Clocked()
    for _ in range(20):
        assert not clocked.step(31, bad=2)
    assert not clocked.step(bad=3, good=12)


def test_new_planner_takes_over_pauses_and_counts_nothing_twice():
    clocked = Clocked()
    paused = clocked.step(bad=5)
    successor = CircuitBreaker(settings_of())
    successor.resume(paused)
    assert successor.update(clocked.now, {0: clocked.ledger}, {}) == paused
    fresh = CircuitBreaker(settings_of())
    fresh.resume({})
    assert not fresh.update(clocked.now, {0: clocked.ledger}, {}), "results of before are not new"


def test_results_of_a_period_that_begins_are_counted_from_zero():
    clocked = Clocked()
    clocked.step(bad=2)
    clocked.ledger = clocked.ledger.entering(Account.fresh(2, 2))
    assert "a" in clocked.step(bad=3)


def test_operator_pauses_and_resumes():
    clocked = Clocked()
    clocked.manual = {"b": ManualPause(clocked.now, clocked.now + 60)}
    assert clocked.step()["b"].reason == "paused by hand"
    assert not clocked.step(60)
    clocked.step(bad=5)
    clocked.manual = {"a": ManualPause(clocked.now - 100, clocked.now - 100)}
    assert "a" in clocked.step(), "an order of before the pause"
    clocked.manual = {"a": ManualPause(clocked.now, clocked.now)}
    assert not clocked.step()


@pytest.mark.parametrize("limit", [None, 30.0])
def test_backlog_pauses_until_the_oldest_query_is_younger(limit: float | None):
    clocked = Clocked(max_backlog_seconds=limit)
    clocked.ledger = replace(clocked.ledger, oldest_open={"b": clocked.now})
    assert not clocked.step(30)
    expected = {} if limit is None else {"b": Pause("its oldest query waits for more than 30 s", START + 32)}
    assert clocked.step(1) == expected
    assert clocked.step(9) == expected, "the pause is one, whatever its length"
    clocked.ledger = replace(clocked.ledger, oldest_open={"b": clocked.now - 5})
    assert not clocked.step()


def test_pause_message_round_trips():
    pause = ManualPause(1.5, None)
    assert ManualPause.decode(pause.encode()) == pause
    assert pause_key("a/b") == b"pause/a/b"
