"""A period ends by itself, the next begins with fresh grants, and the bill of the closed one is kept.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import yaml

from routing.money import to_pico, to_usd
from streams.checks.landings import Landing
from streams.periods import PeriodSummary, decode_period
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.fleet import command, report, reserved, served, total, wait_told
from tests.end_to_end.routers import Router, assert_whole
from tests.end_to_end.settling_faults import SilentPlanner
from tests.end_to_end.workers import wait_for


def landings(stream: Router, period: int) -> list[Landing]:
    """What was decided in a period, in the order of the decisions of each lane."""
    found = [landing for group in list(stream.landed.values()) for landing in group]
    return sorted(
        (landing for landing in found if landing.period == period), key=lambda one: (one.lane, one.offset)
    )


def summaries(stream: Router) -> dict[int, PeriodSummary]:
    """The newest summary of each period on its topic."""
    with stream.logs() as logs:
        entries = list(logs.read(stream.topics.periods))
    return {one.period: one for entry in entries if entry.value for one in [decode_period(entry.value)]}


def by_model(stream: Router, of: Sequence[Landing]) -> list[int]:
    """Picodollars reserved by LLM."""
    return [sum(one.charge for one in of if one.model == name) for name in stream.catalogue.names]


def test_after_so_many_queries_the_next_period_begins_and_the_bill_of_the_last_is_kept(
    router: MakeRouter, tmp_path: Path
) -> None:
    stream = router(partitions=2, horizon=200, eps=0.1, batch_max=10)
    stream.start()
    stream.send(range(200))
    stream.all_landed()
    # by itself: nothing more has come
    wait_for(lambda: stream.plan().period == 2, 60, "the second period")
    plan = stream.plan()
    (old,) = {one.version for one in stream.plans() if one.period == 1 and one.learned}
    assert (plan.version, plan.learned) == (old, True), "last prices until new ones are learned"
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

    # outcomes of the closed period still settle into its record
    late = [one for one in served(stream) if one.period == 1]
    report(stream, late, lambda one: reserved(one, 0.5))
    wait_told(stream, settled=len(late))
    wait_for(lambda: sum(summaries(stream)[1].settlements) == len(late), 60, "the record has late outcomes")
    closed, current = summaries(stream)[1], summaries(stream)[2]
    assert (closed.closed, current.closed) == (True, False)
    assert closed.budgets == plan.budgets.tolist()
    assert closed.reserved == by_model(stream, first)
    assert closed.settled == [-(-amount // 2) for amount in closed.reserved]
    assert closed.charged == closed.settled
    assert closed.served == [sum(one.model == name for one in late) for name in stream.catalogue.names]
    assert closed.unserved == sum(one.kind == "unserved" for one in first)
    assert closed.arrived == 200
    assert sum(current.settled) == 0, "not into that of the current one"

    # a budget that is raised now is none of the closed period's business
    catalogue = stream.small.prepared.catalogue.to_dict()
    more = [{**model, "budget_usd": 2 * model["budget_usd"]} for model in catalogue["models"]]
    file = tmp_path / "more.yaml"
    file.write_text(yaml.safe_dump({**catalogue, "models": more}), encoding="utf-8")
    assert "published catalogue version 1" in command(stream, "plan", "apply", str(file), "--yes")
    wait_for(
        lambda: np.allclose(summaries(stream)[2].budgets or 0, 2 * plan.budgets),
        60,
        "the current one's are new",
    )
    wait_for(
        lambda: total(stream, "charged", 2).tolist() == summaries(stream)[2].charged,
        60,
        "the topic is up to date",
    )
    assert summaries(stream)[1] == closed

    bills = {bill["period"]: bill for bill in orjson.loads(command(stream, "bill", "--json"))}
    assert (bills[1]["queries"], bills[1]["served"]) == (200, len(late))
    np.testing.assert_allclose([llm["budget"] for llm in bills[1]["llms"]], budgets)
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
    wait_told(stream, settled=len(answered))
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
    assert not total(stream, "charged").any(), "the present period's budgets feel nothing of it"

    # another worker knows what is open of the period; its limit is over at once
    worker.kill()
    worker = stream.start(settle_seconds=0.5)
    wait_for(
        lambda: sum(summaries(stream)[period].lapsed) == len(late), 60, "the rest lapses, on its own bill"
    )
    report(stream, late)
    report(stream, answered[:1], lambda one: reserved(one, 1.5))
    wait_told(stream, settled=len(answered), late=len(late) + 1)
    final = summaries(stream)[period]
    assert (final.settled, final.charged) == (bill.settled, bill.charged), "what lapsed stays charged"
    assert (final.closed, final.settling) == (True, False)

    # lanes forget what is billed for good, and the bill stays
    stream.ledgers_are(
        lambda lanes: all(one.forgotten >= period and period not in one.past for one in lanes.values()),
        "accounts are forgotten",
    )
    stream.send(range(50, 100))
    stream.all_landed()
    assert summaries(stream)[period] == final
    began = {plan.period: plan.began_at for plan in stream.plans() if plan.period > 1}
    assert min(after - before for before, after in pairwise(began.values())) >= 3
    assert total(stream, "charged").sum() <= stream.plan().budgets.sum()
    assert_whole(stream)


def test_a_planner_that_dies_and_is_replaced_loses_no_last_state_of_a_period(router: MakeRouter) -> None:
    """Outcomes of a period that is over come in while nobody is there to write the bill."""
    stream = router(partitions=2, horizon=100, warmup="history", batch_max=10)
    first = stream.start()
    stream.send(range(100))
    stream.all_landed()
    stream.ledgers_are(lambda lanes: all(one.account.period == 2 for one in lanes.values()), "period 2")
    first.kill()
    ours = served(stream)
    report(stream, ours, lambda one: reserved(one, 0.5))
    second = stream.start(SilentPlanner())
    wait_told(stream, settled=len(ours))
    second.kill()
    assert sum(summaries(stream)[1].settlements) == 0
    stream.start()
    wait_for(lambda: not summaries(stream)[1].settling, 60, "the bill is written")
    assert sum(summaries(stream)[1].settlements) == len(ours)
    assert summaries(stream)[1].settled == summaries(stream)[1].charged
    assert_whole(stream)
