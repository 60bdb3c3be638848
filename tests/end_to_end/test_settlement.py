"""Outcomes replace reservations: what is cheaper can be spent again, what is dearer is charged and held back.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.data import Small
from tests.end_to_end.fleet import (
    available,
    outcome_of,
    rebudgeted,
    refusals,
    report,
    reserved,
    served,
    tell,
    told,
    total,
    wait_counted,
    wait_handed_out,
    wait_told,
)
from tests.end_to_end.routers import Router, assert_whole
from tests.end_to_end.settling_faults import DieInSettling

LASTING = {"warmup": "history", "period_seconds": 1e6, "horizon": 100}
"""Prices from the start, for a tenth of the queries that budgets are for; the period outlasts the test."""


@pytest.fixture
def spent(router: MakeRouter, small: Small, tmp_path: Path) -> Router:
    """Two partitions and the overflow lane; the budgets are for 100 queries, and reserved by 200."""
    stream = router(partitions=2, catalogue=rebudgeted(small, tmp_path, 0.1), **LASTING)
    stream.start()
    stream.send(range(200))
    stream.all_landed()
    return stream


def lap(stream: Router, count: int = 200) -> int:
    """Send queries again and see how many more are served."""
    before = len(served(stream))
    stream.send(range(count), tag=f"{len(stream.sent)}-")
    stream.all_landed()
    wait_counted(stream)
    return len(served(stream)) - before


def test_what_is_saved_is_spent_again_and_what_is_dearer_is_held_back(spent: Router) -> None:
    budgets = spent.plan().budgets
    first = served(spent)
    again = lap(spent)
    assert again < len(first) / 4, "the budgets are reserved"

    report(spent, first, lambda landing: reserved(landing, 0.1))
    wait_told(spent, settled=len(first))
    wait_handed_out(spent)
    saved = lap(spent)
    assert saved > max(len(first) / 2, 4 * again), "what outcomes have saved is spent again"
    assert (total(spent, "charged") <= budgets).all()
    assert (total(spent, "reserved") > budgets).any()

    rest = [landing for landing in served(spent) if landing not in first]
    report(spent, rest, lambda landing: reserved(landing, 20))
    wait_told(spent, settled=len(first) + len(rest))
    charged = total(spent, "charged")
    dear = charged > budgets
    assert dear.any(), "what settles above its reservation is charged"
    assert (available(spent).sum(0)[dear] < 0).all(), "and shown"
    # the other lanes give back what the overdrawn ones have taken from all
    spent.ledgers_are(
        lambda _: (available(spent)[:, dear] <= 0).all(), "nobody holds rights of the overdrawn"
    )
    assert lap(spent) == 0 or dear.sum() < len(dear)
    assert (total(spent, "charged")[dear] == charged[dear]).all(), "nothing more goes to an overdrawn LLM"
    verdict = assert_whole(spent)
    assert verdict.overdrawn_pico > 0


def test_outcomes_that_cannot_be_taken_in_are_refused_with_their_reasons(
    router: MakeRouter, small: Small, tmp_path: Path
) -> None:
    stream = router(catalogue=rebudgeted(small, tmp_path, 0.03), **LASTING)
    worker = stream.start()
    stream.send(range(60))
    stream.all_landed()
    landings = served(stream)
    one, two, three, late = landings[:4]
    unserved = next(place for place in stream.landed if stream.landed[place][0].kind != "served")
    sound = outcome_of(one, reserved(one, 0.5))
    expected = {
        outcome_of(one, reserved(one, 0.6)): "contradictory",
        outcome_of(two, 0.0, id="somebody else"): "contradictory",
        outcome_of(
            three, 0.0, model=next(m for m in stream.catalogue.names if m != three.model)
        ): "contradictory",
        outcome_of(one, 0.0, offset=10**6): "unknown",
        outcome_of(one, 0.0, offset=unserved[1]): "unknown",
        outcome_of(one, 0.0, partition=7): "unknown",
        b"not JSON": "value",
        sound.replace(b'"cost":', b'"cost":-'): "cost",
        sound.replace(b'"cost"', b'"price"'): "cost",
        sound.replace(one.model.encode(), b""): "model",  # type: ignore[union-attr]
    }
    for value in (sound, sound, *expected, sound):
        tell(stream, value)
    wait_told(stream, settled=1, duplicate=2, contradictory=3, unknown=3, refused=4)
    open_charge = sum(landing.charge for landing in landings[1:])
    assert total(stream, "charged").sum() == open_charge + total(stream, "settled").sum()

    # the time of the others passes, and no outcome comes any more: they stay charged
    worker.kill()
    stream.start(settle_seconds=0.5)
    stream.ledgers_are(
        lambda ledgers: ledgers[0].account.lapsed.sum() == len(landings) - 1, "open reservations lapse"
    )
    assert total(stream, "charged").sum() == open_charge + total(stream, "settled").sum()
    expected[outcome_of(late, 0.0)] = "late"
    tell(stream, outcome_of(late, 0.0))
    wait_told(stream, settled=1, late=1)
    found = refusals(stream)
    assert {value: reasons["exception.message"].split(":")[0] for reasons, value in found} == expected
    assert len(found) == len(expected)
    assert_whole(stream)


@pytest.mark.parametrize("moment", ["flushed", "after"])
def test_a_worker_killed_while_settling_settles_once(router: MakeRouter, moment: str) -> None:
    stream = router(partitions=2, **LASTING)
    dying = stream.start(DieInSettling(2, moment))
    stream.send(range(100))
    stream.all_landed()
    landings = served(stream)
    report(stream, landings[::2], lambda landing: reserved(landing, 0.5))
    stream.ledgers_are(lambda _: told(stream, "settled") or not dying.alive, "some outcomes are in")
    report(stream, landings[1::2], lambda landing: reserved(landing, 1.5))
    assert dying.wait(60) == -9
    stream.start()
    # what was settled before the kill is known for what it is: the open reservations come from the logs
    report(stream, landings[::2], lambda landing: reserved(landing, 0.5))
    report(stream, landings[1::2], lambda landing: reserved(landing, 1.5))
    wait_told(stream, settled=len(landings), duplicate=len(landings))
    assert total(stream, "settlements").sum() == len(landings)
    assert (total(stream, "charged") == total(stream, "settled")).all(), "nothing is open"
    assert not refusals(stream)
    stream.send(range(100, 200))
    stream.all_landed()
    assert_whole(stream)


def test_with_bounds_reserved_nothing_that_settles_passes_the_budget(
    router: MakeRouter, small: Small, tmp_path: Path
) -> None:
    """Answers may cost all that was reserved for them, and are many times as dear as estimated."""
    catalogue = rebudgeted(small, tmp_path, 0.3, input_price=0.05, output_price=0.05)
    stream = router(partitions=2, catalogue=catalogue, reserve="bound", default_max_tokens=64, **LASTING)
    stream.start()
    rng = np.random.default_rng(0)
    reported: set[str | None] = set()
    for start in range(0, 600, 200):
        stream.send(range(start, start + 200))
        stream.all_landed()
        wait_counted(stream)
        fresh = [landing for landing in served(stream) if landing.id not in reported]
        report(stream, fresh, lambda landing: reserved(landing, float(rng.choice([0.01, 0.3, 1.0]))))
        reported |= {landing.id for landing in fresh}
        wait_told(stream, settled=len(reported))
        assert (total(stream, "charged") <= stream.plan().budgets).all()
    assert (total(stream, "reserved") > stream.plan().budgets).any(), "the budget was turned over"
    verdict = assert_whole(stream)
    assert verdict.overdrawn_pico == 0
