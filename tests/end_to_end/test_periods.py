"""A period ends by itself, the next begins with fresh grants, and the bill of the closed one is kept.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import yaml

from routing.money import to_usd
from streams.checks.landings import Landing
from streams.periods import PeriodSummary, decode_period
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.fleet import command, report, reserved, served, total, wait_told
from tests.end_to_end.routers import Router, assert_whole
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


def test_a_period_ends_after_its_time_and_an_outcome_is_too_late_two_periods_later(
    router: MakeRouter,
) -> None:
    stream = router(period_seconds=3, warmup="history")
    stream.start()
    stream.send(range(50))
    stream.all_landed()
    (period,) = {one.period for group in stream.landed.values() for one in group}
    wait_for(
        lambda: (stream.plan().period or 0) >= (period or 0) + 2, 60, "two more periods, without a query"
    )
    late = served(stream)[:3]
    report(stream, late)
    wait_told(stream, late=3)
    stream.send(range(50, 100))
    stream.all_landed()
    plans = [plan for plan in stream.plans() if plan.period > 1]
    began = {plan.period: plan.began_at for plan in plans}
    lengths = [after - before for before, after in pairwise(began.values())]
    assert min(lengths) >= 3
    assert total(stream, "charged").sum() <= stream.plan().budgets.sum()
    assert_whole(stream)
