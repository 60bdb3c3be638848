"""The planner's worker dies at the worst moments: one plan, the same prices, no sample lost or counted twice.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

import time
from collections.abc import Sequence

import numpy as np

from routing.plan import Plan
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.faults import DieInPlanner
from tests.end_to_end.routers import Router, assert_whole
from tests.end_to_end.settling_faults import SlowLinearProgramme
from tests.end_to_end.test_decisions import simulated
from tests.end_to_end.workers import Worker, wait_for


def learned(plans: Sequence[Plan]) -> dict[int, Plan]:
    """The first plan of each version that has prices: the one that was solved, not the next period's."""
    return {plan.version: plan for plan in reversed(plans) if plan.learned}


def assert_as_if_undisturbed(stream: Router, versions: int) -> None:
    """So many versions of the prices, each with those that the simulation in memory learns of all queries."""
    assert_whole(stream)
    found, expected = learned(stream.plans()), learned(simulated(stream).plans)
    assert sorted(found) == list(range(1, versions + 1))
    for version, plan in found.items():
        undisturbed = expected[version]
        np.testing.assert_allclose(plan.prices, undisturbed.prices, rtol=1e-6, err_msg=f"version {version}")
        for name in ("observed", "rows", "base"):
            assert plan.solved_from[name] == undisturbed.solved_from[name]


def kill_while_solving(stream: Router, worker: Worker, version: int) -> None:
    """kill -9 of a worker whose linear programme for a version has begun and does not end."""
    wait_for(lambda: worker.logged("solving"), 60, f"solve {version} begins; {stream.told()}")
    assert max(learned(stream.plans()), default=0) == version - 1
    worker.kill()
    assert version not in learned(stream.plans())


def test_samples_come_in_and_prices_are_solved_for(router: MakeRouter) -> None:
    """Death in both; the linear programme also takes longer than a session of the group."""
    stream = router(horizon=250, eps=0.4, batch_max=20)
    dying = stream.start(DieInPlanner("sampling"))
    stream.send(range(250))
    assert dying.wait(60) == -9
    slow = stream.start(SlowLinearProgramme(600))
    wait_for(lambda: slow.logged("solving"), 60, f"the first solve begins; {stream.told()}")
    time.sleep(1.5 * stream.settings.session_timeout_seconds)
    assert len(list(slow.events("lanes_assigned"))) == 1, "the group has not missed the worker"
    kill_while_solving(stream, slow, 1)
    assert not stream.landed
    stream.start()
    stream.all_landed()
    assert_as_if_undisturbed(stream, 1)


def test_prices_are_published_and_learned_again(router: MakeRouter) -> None:
    """Death after the one and in the other; in lockstep, so that each solve has what the simulation has."""
    stream = router(horizon=1000, eps=0.05, resolve="geometric", lockstep=True)
    dying = stream.start(DieInPlanner("published"))
    stream.send(range(500))
    assert dying.wait(60) == -9
    before = stream.plan()
    assert before.version == 1
    kill_while_solving(stream, stream.start(SlowLinearProgramme(600, solve=2)), 3)
    stream.start()
    stream.all_landed()
    (kept,) = {tuple(plan.prices) for plan in stream.plans() if plan.version == 1}
    assert kept == tuple(before.prices), "what was published is in force, and is not solved again"
    assert_as_if_undisturbed(stream, 4)
