"""Death of the planner's worker: one plan, the same prices, no sample lost or duplicated.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

import time
from collections.abc import Sequence

import numpy as np

from routing.policy.plan import Plan
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.faults import DieInPlanner
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.settlement_faults import SlowLinearProgram
from tests.end_to_end.test_matches_simulation import simulated
from tests.end_to_end.worker_process import Worker, wait_for


def learned(plans: Sequence[Plan]) -> dict[int, Plan]:
    """Return the first plan of each version with prices: the solved one, not the next period's."""
    return {plan.version: plan for plan in reversed(plans) if plan.learned}


def assert_prices_of_the_simulation(stream: Router, versions: int) -> None:
    """Check that each of the `versions` prices equals the one that the simulation learns."""
    assert_whole(stream)
    plans, expected = learned(stream.plans()), learned(simulated(stream).plans)
    assert sorted(plans) == list(range(1, versions + 1))
    for version, plan in plans.items():
        undisturbed = expected[version]
        np.testing.assert_allclose(plan.prices, undisturbed.prices, rtol=1e-6, err_msg=f"version {version}")
        for name in ("observed", "rows", "base"):
            assert getattr(plan.solved_from, name) == getattr(undisturbed.solved_from, name)


def kill_while_solving(stream: Router, worker: Worker, version: int) -> None:
    """Kill a worker after it began to solve the linear program of a version."""
    wait_for(lambda: worker.logged("solving"), 60, f"solve {version} begins; {stream.progress()}")
    assert max(learned(stream.plans()), default=0) == version - 1
    worker.kill()
    assert version not in learned(stream.plans())


def test_planner_killed_while_sampling_and_solving_learns_the_same_prices(router: MakeRouter) -> None:
    """The linear program also takes longer than a session of the consumer group."""
    stream = router(horizon=250, eps=0.4, batch_max=20)
    dying = stream.start(DieInPlanner("sampling"))
    stream.send(range(250))
    assert dying.wait(60) == -9
    slow = stream.start(SlowLinearProgram(600))
    wait_for(lambda: slow.logged("solving"), 60, f"the first solve begins; {stream.progress()}")
    before = len(list(slow.events("lanes_assigned")))
    time.sleep(1.5 * stream.settings.session_timeout_seconds)
    assert len(list(slow.events("lanes_assigned"))) == before, "the group kept the worker"
    kill_while_solving(stream, slow, 1)
    assert not stream.landed
    stream.start()
    stream.all_landed()
    assert_prices_of_the_simulation(stream, 1)


def test_planner_killed_after_publishing_and_while_solving_again_keeps_prices(router: MakeRouter) -> None:
    """In lockstep, so that each solve has the samples of the simulation."""
    stream = router(horizon=1000, eps=0.05, resolve="geometric", lockstep=True)
    dying = stream.start(DieInPlanner("published"))
    stream.send(range(500))
    assert dying.wait(60) == -9
    before = stream.plan()
    assert before.version == 1
    kill_while_solving(stream, stream.start(SlowLinearProgram(600, solve=2)), 3)
    stream.start()
    stream.all_landed()
    (prices,) = {tuple(plan.prices) for plan in stream.plans() if plan.version == 1}
    assert prices == tuple(before.prices), "the published plan is in force, and is not solved again"
    assert_prices_of_the_simulation(stream, 4)
