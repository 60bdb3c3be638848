"""A stream too slow for warm-up: routed after the time limit, as in the simulation. Needs Apache Kafka."""

from routing.simulation import simulate
from streams.config.planning_settings import planning_settings
from streams.router.estimation import load_estimation
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.router_under_test import assert_whole
from tests.end_to_end.test_matches_simulation import decided, estimated


def test_few_queries_are_routed_by_prices_completed_with_rows_of_the_history(router: MakeRouter) -> None:
    stream = router(preset="auto", warmup_seconds=2)
    worker = stream.start(ready=True)
    stream.send(range(3))
    stream.all_landed(60)
    assert_whole(stream)
    plan = stream.plan()
    assert (plan.solved_from.observed, plan.solved_from.rows) == (3, 60)
    assert worker.logged("few_samples"), "25 of 1,000 are too few for 6 LLMs"
    assert worker.logged("warmup_waits")
    assert worker.logged("warmup_time_limit")

    estimating = load_estimation(stream.settings, stream.catalogue)
    expected = simulate(
        estimated(stream, estimating).rows(slice(0, 3)),
        estimating.budgets(stream.catalogue),
        planning_settings(stream.settings.with_preset(estimating.planning)),
        history=estimating.leave_one_out(),
    )
    assert decided(stream).tolist() == expected.choice.tolist()
