"""Periods end by themselves, begin with fresh grants, and leave a bill.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import yaml

from routing.budgets.money import to_pico, to_usd
from streams.audit.outputs import OutputRecord
from streams.ledger.period_summary import PeriodSummary, decode_period
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.fake_fleet import command, report, reserved, served, total, wait_for_outcomes
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.settlement_faults import SilentPlanner
from tests.end_to_end.worker_process import wait_for


def landings(stream: Router, period: int) -> list[OutputRecord]:
    """Return the outputs of a period, in the order of each lane's decisions."""
    outputs = [landing for group in list(stream.landed.values()) for landing in group]
    return sorted(
        (landing for landing in outputs if landing.period == period), key=lambda one: (one.lane, one.offset)
    )


def summaries(stream: Router) -> dict[int, PeriodSummary]:
    """Return the newest summary of each period from its topic."""
    with stream.logs() as logs:
        entries = list(logs.read(stream.topics.periods))
    return {one.period: one for entry in entries if entry.value for one in [decode_period(entry.value)]}


def by_model(stream: Router, of: Sequence[OutputRecord]) -> list[int]:
    """Return picodollars reserved, by LLM."""
    return [sum(one.charge for one in of if one.model == name) for name in stream.catalogue.names]


def test_period_ends_after_its_queries_and_leaves_a_final_bill(router: MakeRouter, tmp_path: Path) -> None:
    stream = router(partitions=2, horizon=200, eps=0.1, batch_max=10)
    stream.start(ready=True)
    first_llm = stream.catalogue.names[0]
    for _ in range(2):
        assert f"{first_llm}: 0.5 USD more" in command(stream, "plan", "top-up", first_llm, "0.5")
    wait_for(lambda: stream.plan().topped_up == {first_llm: 10**12}, 60, "the top-ups are in the plan")
    assert f"{first_llm}: limit raised by 1 USD" in command(stream, "plan", "show")
    stream.send(range(200))
    stream.all_landed()
    # No further query is needed.
    wait_for(lambda: stream.plan().period == 2, 60, "the second period")
    plan = stream.plan()
    (old,) = {one.version for one in stream.plans() if one.period == 1 and one.learned}
    assert (plan.version, plan.learned) == (old, True), "the last prices hold until new ones are learned"
    budgets = to_usd(plan.budgets)
    first = landings(stream, 1)
    assert len(first) == 200
    stream.ledgers_are(
        lambda ledgers: all(one.account.period == 2 for one in ledgers.values()), "lanes are in period 2"
    )
    assert not total(stream, "charged").any()
    fresh = next(one for one in stream.plans() if one.period == 2)
    assert (fresh.granted.sum(0) == plan.budgets).all(), "fresh grants"

    stream.send(range(200, 230))
    stream.all_landed()
    stream.send(range(230, 320))
    stream.all_landed()
    second = landings(stream, 2)
    assert len(second) == 120
    versions = [one.version for group in stream.landed.values() for one in group if one.period == 2]
    assert set(versions) == {old, old + 1}
    assert {one.version for one in stream.plans() if one.learned} == {old, old + 1}

    # Outcomes of the closed period still settle into its summary.
    late = [one for one in served(stream) if one.period == 1]
    report(stream, late, lambda one: reserved(one, 0.5))
    wait_for_outcomes(stream, settled=len(late))
    wait_for(lambda: sum(summaries(stream)[1].settlements) == len(late), 60, "the summary has them")
    closed, current = summaries(stream)[1], summaries(stream)[2]
    assert (closed.closed, current.closed) == (True, False)
    assert closed.budgets is not None
    assert closed.budgets[0] == plan.budgets[0] + 10**12, "topped up for the first period only"
    assert closed.budgets[1:] == plan.budgets[1:].tolist()
    assert closed.reserved == by_model(stream, first)
    assert closed.settled == [-(-amount // 2) for amount in closed.reserved]
    assert closed.charged == closed.settled
    assert closed.served == [sum(one.model == name for one in late) for name in stream.catalogue.names]
    assert closed.unserved == sum(one.kind == "unserved" for one in first)
    assert closed.arrived == 200
    assert sum(current.settled) == 0, "the current period has none of them"

    # Raising a budget now does not change the closed period.
    catalogue = stream.small.prepared.catalogue.to_dict()
    more = [{**model, "budget_usd": 2 * model["budget_usd"]} for model in catalogue["models"]]
    file = tmp_path / "more.yaml"
    file.write_text(yaml.safe_dump({**catalogue, "models": more}), encoding="utf-8")
    assert "published catalogue version 1" in command(stream, "plan", "apply", str(file), "--yes")
    wait_for(
        lambda: np.allclose(summaries(stream)[2].budgets or 0, 2 * plan.budgets),
        60,
        "the current period has the new budgets",
    )
    wait_for(
        lambda: total(stream, "charged", 2).tolist() == summaries(stream)[2].charged,
        60,
        "the topic is up to date",
    )
    assert summaries(stream)[1] == closed

    bills = {bill["period"]: bill for bill in orjson.loads(command(stream, "bill", "--json"))}
    assert (bills[1]["queries"], bills[1]["served"]) == (200, len(late))
    np.testing.assert_allclose([llm["budget"] for llm in bills[1]["llms"]], [budgets[0] + 1, *budgets[1:]])
    np.testing.assert_allclose(bills[1]["total"]["settled"], sum(closed.settled) / 1e12)
    assert "period 1 (closed): 200 queries" in command(stream, "bill", "--period", "1")
    assert_whole(stream)


def test_an_outcome_three_periods_later_is_settled_into_its_own_and_one_beyond_the_limit_is_refused(
    router: MakeRouter,
) -> None:
    stream = router(partitions=2, period_seconds=3, warmup="history")
    worker = stream.start()
    stream.send(range(50))
    stream.all_landed()
    first = served(stream)
    (period,) = {one.period for one in first}
    assert period is not None

    def periods_later(count: int) -> None:
        stream.ledgers_are(
            lambda lanes: all(one.account.period >= period + count for one in lanes.values()),
            f"{count} more periods, without a query",
        )

    periods_later(3)
    answered, late = first[:-3], first[-3:]
    report(stream, answered, lambda one: reserved(one, 1.5))
    wait_for_outcomes(stream, settled=len(answered))
    wait_for(lambda: sum(summaries(stream)[period].settlements) == len(answered), 60, "it is billed")
    bill = summaries(stream)[period]
    assert (bill.closed, bill.settling) == (True, True), "outcomes may come"
    assert f"period {period} (closed, outcomes may come)" in command(stream, "bill", "--period", str(period))
    costs = Counter[str]()
    for one in answered:
        costs[one.model or ""] += int(to_pico(reserved(one, 1.5)))
    assert bill.settled == [costs[name] for name in stream.catalogue.names]
    waiting = by_model(stream, late)
    assert bill.charged == [paid + still for paid, still in zip(bill.settled, waiting, strict=True)]
    assert not total(stream, "charged").any(), "the current period's budgets are not charged"

    # Another worker restores the open reservations; its time limit has passed already.
    worker.kill()
    worker = stream.start(settle_seconds=0.5)
    wait_for(
        lambda: sum(summaries(stream)[period].lapsed) == len(late), 60, "the rest expires on its own bill"
    )
    report(stream, late)
    report(stream, answered[:1], lambda one: reserved(one, 1.5))
    wait_for_outcomes(stream, settled=len(answered), late=len(late) + 1)
    final = summaries(stream)[period]
    assert (final.settled, final.charged) == (bill.settled, bill.charged), "expired reservations stay charged"
    assert (final.closed, final.settling) == (True, False)

    # Lanes drop accounts whose bill is final; the bill stays.
    stream.ledgers_are(
        lambda lanes: all(one.forgotten >= period and period not in one.past for one in lanes.values()),
        "accounts are dropped",
    )
    stream.send(range(50, 100))
    stream.all_landed()
    assert summaries(stream)[period] == final
    began = {plan.period: plan.began_at for plan in stream.plans() if plan.period > 1}
    assert min(after - before for before, after in pairwise(began.values())) >= 3
    assert total(stream, "charged").sum() <= stream.plan().budgets.sum()
    assert_whole(stream)


def test_planner_replaced_after_its_death_writes_the_final_bill(router: MakeRouter) -> None:
    """Outcomes of a past period arrive while no planner writes bills."""
    stream = router(partitions=2, horizon=100, warmup="history", batch_max=10)
    first = stream.start()
    stream.send(range(100))
    stream.all_landed()
    stream.ledgers_are(lambda lanes: all(one.account.period == 2 for one in lanes.values()), "period 2")
    first.kill()
    ours = served(stream)
    report(stream, ours, lambda one: reserved(one, 0.5))
    second = stream.start(SilentPlanner())
    wait_for_outcomes(stream, settled=len(ours))
    second.kill()
    assert sum(summaries(stream)[1].settlements) == 0
    stream.start()
    wait_for(lambda: not summaries(stream)[1].settling, 60, "the bill is written")
    assert sum(summaries(stream)[1].settlements) == len(ours)
    assert summaries(stream)[1].settled == summaries(stream)[1].charged
    assert_whole(stream)
