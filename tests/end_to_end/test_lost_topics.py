"""Lost topics: those that a router continues without, those that stop it, and a new router beside it.

Tests docs/operations.md, "When something is gone" and "Moving to another cluster".
Needs Apache Kafka.
"""

from streams.kafka.topics import create_topics, existing_partitions, topic_specs
from streams.operations.period_bills import read_periods
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.router_under_test import Router
from tests.end_to_end.worker_process import wait_for


def lose(router: Router, *names: str) -> None:
    """Delete topics, and create them again as `topics create` does."""
    for future in router.admin.delete_topics(list(names)).values():
        future.result(30)
    wait_for(lambda: not set(names) & set(existing_partitions(router.admin)), 30, "they are gone")
    create_topics(router.admin, topic_specs(router.settings, router.catalogue))


def refusal(router: Router) -> str:
    """Start a worker, which must fail, and return the problems that it logs."""
    worker = router.start()
    assert worker.wait(60) == 1, f"it started; see {worker.log}"
    (event,) = worker.events("topics_lost")
    assert not worker.logged("lane_open"), "no lane was opened"
    return " ".join(event["problems"])


def billed(router: Router) -> int:
    """Return the charges of all periods on their topic, in picodollars."""
    return sum(sum(summary.charged) for summary in read_periods(router.settings))


def route_and_settle(router: Router, queries: int) -> None:
    """Route and settle queries with a worker, and stop it."""
    worker = router.start()
    router.send(range(queries))
    router.all_landed()
    for landing in router.served():
        router.answer(landing)
    router.settled(len(router.served()))
    assert worker.stop() == 0


def test_worker_on_ledgers_without_queries_outcomes_or_plan_does_not_start(router: MakeRouter) -> None:
    stream = router(partitions=2)
    route_and_settle(stream, 200)
    lose(stream, stream.topics.queries)
    problems = refusal(stream)
    assert f"topic {stream.topics.queries}: partition 0 ends at offset 0" in problems
    lose(stream, stream.topics.outcomes)
    assert stream.topics.outcomes in refusal(stream)
    lose(stream, stream.topics.plans)
    assert f"topic {stream.topics.plans}: has no plan" in refusal(stream)


def test_new_router_after_a_lost_ledger_routes_the_undecided_queries_once(
    router: MakeRouter,
) -> None:
    old = router(partitions=2)
    worker = old.start()
    old.send(range(300))
    old.all_landed()
    spent = sum(record.account.charged.sum() for record in old.ledgers().values())
    wait_for(lambda: billed(old) == spent, 30, "the bill is complete")
    assert worker.stop() == 0
    old.send(range(300, 400))  # no worker runs: these wait when the ledgers are lost
    lose(old, old.topics.ledger, old.topics.overflow_ledger)
    assert f"topic {old.topics.ledger}: is empty" in refusal(old)

    # The old topics stay; queries without an output are sent to the new router.
    ended = {landing.id for landings in old.landed.values() for landing in landings}
    undecided = [row for row in range(400) if old.query(row)[0] not in ended]
    assert len(undecided) == 100
    new = router(partitions=2)
    new.start()
    new.send(undecided)
    new.all_landed()
    again = {landing.id for landings in new.landed.values() for landing in landings}
    assert not ended & again
    assert ended | again == {old.query(row)[0] for row in range(400)}
    assert new.check(complete=True).fine
    # Both the bill and the LLMs' topics give the amount spent.
    assert billed(old) == spent == sum(landing.charge for landing in old.served())


def test_router_continues_without_samples_reservations_and_reports(router: MakeRouter) -> None:
    stream = router(partitions=2, resolve="geometric", eps=0.1, horizon=200)
    worker = stream.start()
    stream.send(range(300))
    stream.all_landed()
    wait_for(lambda: stream.plan().solved_from.samples_from > 0, 30, "the second period has begun")
    before = stream.plan()
    assert before.learned
    old = stream.served()
    for landing in old[: len(old) // 2]:
        stream.answer(landing)
    stream.settled(len(old) // 2)
    assert worker.stop() == 0
    topics = stream.topics
    lose(stream, topics.samples, topics.reservations, topics.status, topics.periods, topics.plan_log)

    other = stream.start()
    stream.send(range(300, 900))
    stream.all_landed()
    for landing in old[len(old) // 2 :]:
        stream.answer(landing)  # their reservations are lost
    known = {landing.id for landing in old}
    for landing in stream.served():
        if landing.id not in known:
            stream.answer(landing)
    stream.settled(len(stream.served()))
    after = wait_for(
        lambda: plan if (plan := stream.plan()).period > before.period else None, 30, "another period begins"
    )
    assert after.version > before.version, "prices are learned again from new samples"
    assert other.logged("samples_lost")
    ledgers = stream.ledgers().values()
    assert sum(record.outcomes.get("late", 0) + record.outcomes.get("unknown", 0) for record in ledgers) == (
        len(old) - len(old) // 2
    )
    spent = sum(record.account.charged for record in ledgers if record.account.period == after.period)
    assert (spent <= after.budgets).all()
    assert other.stop() == 0
