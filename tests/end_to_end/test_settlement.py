"""Settlement: cheaper outcomes free budget, dearer ones are charged and hold queries back.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.fake_fleet import (
    available,
    outcome_count,
    outcome_of,
    rebudgeted,
    rejected_outcomes,
    report,
    reserved,
    send_outcome,
    served,
    total,
    wait_counted,
    wait_for_outcomes,
    wait_until_granted,
)
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.settlement_faults import DieInSettling
from tests.end_to_end.small_dataset import Small
from tests.end_to_end.worker_process import wait_for

LASTING = {"warmup": "history", "period_seconds": 1e6, "horizon": 100}
"""Prices from the start; the period outlasts the test."""


@pytest.fixture
def spent(router: MakeRouter, small: Small, tmp_path: Path) -> Router:
    """A router with two partitions and an overflow lane whose budgets are reserved by 200 queries."""
    stream = router(partitions=2, catalogue=rebudgeted(small, tmp_path, 0.1), **LASTING)
    stream.start()
    stream.send(range(200))
    stream.all_landed()
    return stream


def lap(stream: Router, count: int = 200) -> int:
    """Send queries again, and return how many of them are served."""
    before = len(served(stream))
    stream.send(range(count), tag=f"{len(stream.sent)}-")
    stream.all_landed()
    wait_counted(stream)
    return len(served(stream)) - before


def test_cheaper_outcomes_free_budget_and_dearer_ones_hold_queries_back(spent: Router) -> None:
    budgets = spent.plan().budgets
    first = served(spent)
    again = lap(spent)
    assert again < len(first) / 4, "the budgets are reserved"

    report(spent, first, lambda landing: reserved(landing, 0.1))
    wait_for_outcomes(spent, settled=len(first))
    wait_until_granted(spent)
    saved = lap(spent)
    assert saved > max(len(first) / 2, 4 * again), "savings of outcomes are spent again"
    assert (total(spent, "charged") <= budgets).all()
    assert (total(spent, "reserved") > budgets).any()

    rest = [landing for landing in served(spent) if landing not in first]
    report(spent, rest, lambda landing: reserved(landing, 20))
    wait_for_outcomes(spent, settled=len(first) + len(rest))
    charged = total(spent, "charged")
    dear = charged > budgets
    assert dear.any(), "a cost above the reservation is charged"
    assert (available(spent).sum(0)[dear] < 0).all(), "and the overdraft is visible"
    # The other lanes return what the overdrawn ones have spent too much.
    spent.ledgers_are(
        lambda _: (available(spent)[:, dear] <= 0).all(), "no lane holds grants of the overdrawn LLMs"
    )
    assert lap(spent) == 0 or dear.sum() < len(dear)
    assert (total(spent, "charged")[dear] == charged[dear]).all(), "no query goes to an overdrawn LLM"
    verdict = assert_whole(spent)
    assert verdict.overdrawn_pico > 0
    # With estimates reserved this breaks no promise, but is reported.
    real = total(spent, "settled") > budgets
    assert {one.model for one in verdict.overspending if one.real} == set(np.array(spent.plan().models)[real])
    assert {one.reserve for one in verdict.overspending} == {"estimate"}
    assert "reservations never exceeded the budget: holds" in verdict.text()
    assert real.any()
    (worker,) = spent.workers
    wait_for(lambda: next(worker.events("budget_overspent"), None), 30, "the planner logs it")


def test_invalid_outcomes_become_dead_letters_with_their_reasons(
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
        outcome_of(two, 0.0, id="another"): "contradictory",
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
        send_outcome(stream, value)
    wait_for_outcomes(stream, settled=1, duplicate=2, contradictory=3, unknown=3, refused=4)
    open_charge = sum(landing.charge for landing in landings[1:])
    assert total(stream, "charged").sum() == open_charge + total(stream, "settled").sum()

    # The others expire without an outcome, and stay charged.
    worker.kill()
    stream.start(settle_seconds=0.5)
    stream.ledgers_are(
        lambda ledgers: ledgers[0].account.lapsed.sum() == len(landings) - 1, "open reservations expire"
    )
    assert total(stream, "charged").sum() == open_charge + total(stream, "settled").sum()
    expected[outcome_of(late, 0.0)] = "late"
    send_outcome(stream, outcome_of(late, 0.0))
    wait_for_outcomes(stream, settled=1, late=1)
    letters = rejected_outcomes(stream)
    assert {value: reasons["exception.message"].split(":")[0] for reasons, value in letters} == expected
    assert len(letters) == len(expected)
    assert_whole(stream)


@pytest.mark.parametrize("moment", ["flushed", "after"])
def test_worker_killed_while_settling_settles_once(
    router: MakeRouter, small: Small, tmp_path: Path, moment: str
) -> None:
    stream = router(partitions=2, catalogue=rebudgeted(small, tmp_path, 50), reserve="p95", **LASTING)
    dying = stream.start(DieInSettling(2, moment))
    stream.send(range(100))
    stream.all_landed()
    landings = served(stream)
    report(stream, landings[::2], lambda landing: reserved(landing, 0.5))
    stream.ledgers_are(lambda _: outcome_count(stream, "settled") or not dying.alive, "some are settled")
    report(stream, landings[1::2], lambda landing: reserved(landing, 1.5))
    assert dying.wait(60) == -9
    stream.start()
    # Outcomes settled before the kill are duplicates: open reservations are restored from the topics.
    report(stream, landings[::2], lambda landing: reserved(landing, 0.5))
    report(stream, landings[1::2], lambda landing: reserved(landing, 1.5))
    wait_for_outcomes(stream, settled=len(landings), duplicate=len(landings))
    assert total(stream, "settlements").sum() == len(landings)
    assert (total(stream, "charged") == total(stream, "settled")).all(), "no reservation is open"
    assert not rejected_outcomes(stream)
    stream.send(range(100, 200))
    stream.all_landed()
    second = [landing for landing in served(stream) if landing not in landings]
    report(stream, second, lambda landing: reserved(landing, 2.0))
    wait_for_outcomes(stream, settled=len(landings) + len(second), duplicate=len(landings))
    # All of these answers cost more than the quantile: the same queries reserve more now.
    model, _ = Counter(landing.model for landing in second).most_common(1)[0]
    wait_for(lambda: stream.plan().reserve_offsets[model][1] > 0.1, 30, "the planner corrects the quantile")
    before = {landing.id: landing.charge for landing in second if landing.model == model}

    def reserved_again() -> float:
        known = set(stream.landed)
        tag = f"{len(stream.sent)}-"
        stream.send(range(100, 200), tag=tag)
        stream.all_landed()
        new = [stream.landed[place][0] for place in stream.landed if place not in known]
        charges = {landing.id.removeprefix(tag): landing.charge for landing in new if landing.model == model}
        both = before.keys() & charges.keys()
        return sum(charges[one] for one in both) / max(1, sum(before[one] for one in both))

    wait_for(lambda: reserved_again() > 1.05, 30, "lanes reserve by the plan's correction")
    assert_whole(stream)


def test_settlement_with_bounds_reserved_never_exceeds_budgets(
    router: MakeRouter, small: Small, tmp_path: Path
) -> None:
    """Answers cost up to their whole reservation, many times their estimate."""
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
        wait_for_outcomes(stream, settled=len(reported))
        assert (total(stream, "charged") <= stream.plan().budgets).all()
    assert (total(stream, "reserved") > stream.plan().budgets).any(), "the budget was spent more than once"
    verdict = assert_whole(stream)
    assert verdict.overdrawn_pico == 0
    assert verdict.overspending == []
    # An endpoint that bills more than the bound breaks the promise, and the audit reports it.
    stream.send(range(600, 700))
    stream.all_landed()
    wait_counted(stream)
    fresh = [landing for landing in served(stream) if landing.id not in reported]
    assert fresh
    report(stream, fresh[:1], lambda landing: float(stream.plan().budgets.max()) / 1e12 * 2)
    wait_for_outcomes(stream, settled=len(reported) + 1)
    broken = stream.check_at_rest()
    assert broken.counts == {"beyond_bound": 1}
    assert [(one.model, one.reserve) for one in broken.overspending] == [(fresh[0].model, "bound")]
