"""With one partition, the stream makes the same decisions as the simulation, query by query.

Needs Apache Kafka (the fixture `kafka`); uses open_llm_v2 if it is available, and the demo's data otherwise.
"""

import shutil

import numpy as np
import pytest

from producers.evaluation.prepared_data import HISTORY
from routing.embedding.query_batch import QueryBatch
from routing.estimators.base import Estimates
from routing.fitting.fit import fit
from routing.fitting.presets import choose_preset
from routing.fitting.saved_fit import (
    FitFacts,
    save_fitted,
)
from routing.policy.decision import UNSERVED
from routing.simulation import Simulation, simulate
from streams.audit.outputs import SERVED
from streams.config.planning_settings import planning_settings
from streams.messages.query import decode_query, stack_embeddings
from streams.router.estimation import Estimation, load_estimation
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.small_dataset import Small, make_small
from tests.end_to_end.worker_process import Worker, wait_for


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """2,000 queries, all LLMs, a history of 4,000 rows."""
    return make_small(tmp_path_factory.mktemp("large"), "open_llm_v2", 2000, 4000)


def simulated(router: Router) -> Simulation:
    """Simulate the same queries with the same settings in memory."""
    catalogue = router.catalogue
    estimating = load_estimation(router.settings, catalogue)
    settings = router.settings.with_preset(estimating.planning)
    planning = planning_settings(settings)
    return simulate(
        estimated(router, estimating),
        estimating.budgets(catalogue),
        planning,
        models=catalogue.names,
        history=estimating.leave_one_out() if planning.uses_history else None,
    )


def estimated(router: Router, estimating: Estimation) -> Estimates:
    """Return the estimates of all queries, decoded as the stream decodes them."""
    count = len(router.small.prepared.queries)
    queries = [decode_query(router.query(row)[1], estimating.dimension) for row in range(count)]
    matrix = stack_embeddings(queries, estimating.dimension).matrix
    return estimating.estimator.estimate(QueryBatch([query.prompt for query in queries], matrix))


def decided(router: Router) -> np.ndarray:
    """Return the decisions of the stream in the order of the offsets, [n]."""
    models = {name: number for number, name in enumerate(router.catalogue.names)}
    choice = []
    for place in sorted(router.sent):
        (landing,) = router.landed[place]
        choice.append(models[landing.model] if landing.kind == SERVED else UNSERVED)
    return np.array(choice)


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """1,000 queries and a history of 1,500 rows that preset `best` is fitted to."""
    small = make_small(tmp_path_factory.mktemp("best"), "open_llm_v2", 1000, 1500)
    known = small.prepared.history
    preset, reason = choose_preset(len(known), "best")
    fitted = fit(known.history, preset, embeddings=known.embeddings)
    shutil.rmtree(small.folder / HISTORY)
    save_fitted(small.folder / HISTORY, fitted, FitFacts("best", reason, fitted.history.digest()))
    return small


def test_stream_with_preset_best_decides_as_the_simulation(router: MakeRouter, best: Small) -> None:
    stream = router(best, preset="best", lockstep="true")
    assert_same_decisions(stream)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="once"),
        pytest.param({"preset": "auto"}, id="once-topped-up"),
        pytest.param({"lockstep": "true", "resolve": "geometric"}, id="geometric-in-lockstep"),
        pytest.param(
            {"lockstep": "true", "resolve": "every", "solver": "newton", "warmup": "history"},
            id="every-in-lockstep-from-history",
        ),
    ],
)
def test_stream_decides_as_the_simulation(router: MakeRouter, large: Small, settings: dict[str, str]) -> None:
    assert_same_decisions(router(large, **settings))


def assert_same_decisions(stream: Router) -> None:
    """Send all queries, and compare each decision with the simulation's."""
    stream.start()
    stream.send(range(len(stream.small.prepared.queries)))
    expected = simulated(stream)
    stream.all_landed(150)
    assert_whole(stream)
    choice = decided(stream)
    different = np.flatnonzero(choice != expected.choice)
    # Ties also go to the same LLM, the first of the catalogue.
    assert not len(different), {int(row): (int(choice[row]), expected.score[row]) for row in different[:3]}
    assert len(expected.plans) > 1
    assert (choice >= 0).sum() > len(choice) // 10


def test_two_workers_on_four_partitions_route_at_full_speed(
    router: MakeRouter, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Uses the other data set, RouterBench, with all LLMs."""
    data = make_small(tmp_path_factory.mktemp("routerbench"), "routerbench_subset", 1500, 1500)
    stream = router(data, partitions=4)
    workers = [stream.start(ready=True), stream.start(ready=True)]
    wait_for(lambda: lanes_are_shared(workers), 60, "both have lanes")
    stream.send(range(len(data.prepared.queries)))
    stream.all_landed(120)
    verdict = assert_whole(stream)
    assert verdict.served > 0
    assert lanes_are_shared(workers), "both have routed, because no lane has moved"


def lanes_are_shared(workers: list[Worker]) -> bool:
    """Return whether each worker has lanes, and the last assignments give each of the four lanes once."""
    shares = []
    for worker in workers:
        assigned = [event["lanes"] for event in worker.events("lanes_assigned")]
        shares.append([lane for lane in (assigned[-1] if assigned else ()) if ".queries:" in lane])
    return all(shares) and len({lane for share in shares for lane in share}) == sum(map(len, shares)) == 4
