"""With one partition the stream decides what the simulation in memory decides, query for query.

Needs Apache Kafka (the fixture `kafka`); takes open_llm_v2 where it is there, else the demo's data.
"""

import shutil

import numpy as np
import pytest

from producers.prepared import HISTORY
from routing.decision import UNSERVED
from routing.estimators.base import QueryBatch
from routing.fitting import FitFacts, fit, save_fitted
from routing.presets import choose_preset
from routing.simulate import Simulation, simulate
from streams.checks.landings import SERVED
from streams.estimating import load_estimating
from streams.messages import decode_query, stack_embeddings
from streams.worker import planning_settings
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.data import Small, make_small
from tests.end_to_end.routers import Router, assert_whole
from tests.end_to_end.workers import Worker, wait_for


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """2,000 queries, all LLMs, a history of 4,000 rows."""
    return make_small(tmp_path_factory.mktemp("large"), "open_llm_v2", 2000, 4000)


def simulated(router: Router) -> Simulation:
    """The same queries with the same settings in memory."""
    catalogue = router.catalogue
    estimating = load_estimating(router.settings, catalogue)
    settings = router.settings.with_preset(estimating.planning)
    count = len(router.small.prepared.queries)
    queries = [decode_query(router.query(row)[1], estimating.dimension) for row in range(count)]
    matrix = stack_embeddings(queries, estimating.dimension).matrix
    estimates = estimating.estimator.estimate(QueryBatch([query.prompt for query in queries], matrix))
    needs_history = settings.warmup == "history" or settings.resolve == "every"
    return simulate(
        estimates,
        estimating.budgets(catalogue),
        planning_settings(settings),
        models=catalogue.names,
        history=estimating.leave_one_out() if needs_history else None,
    )


def decided(router: Router) -> np.ndarray:
    """What the stream decided, in the order of the offsets; [n]."""
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


def test_the_stream_with_preset_best_decides_what_the_simulation_decides(
    router: MakeRouter, best: Small
) -> None:
    stream = router(best, preset="best", lockstep="true")
    assert_same_decisions(stream)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="once"),
        pytest.param({"lockstep": "true", "resolve": "geometric"}, id="geometric-in-lockstep"),
        pytest.param(
            {"lockstep": "true", "resolve": "every", "solver": "newton", "warmup": "history"},
            id="every-in-lockstep-from-history",
        ),
    ],
)
def test_the_stream_decides_what_the_simulation_decides(
    router: MakeRouter, large: Small, settings: dict[str, str]
) -> None:
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
    # ties, too, fall to the same LLM: the first of the catalogue
    assert not len(different), {int(row): (int(choice[row]), expected.score[row]) for row in different[:3]}
    assert len(expected.plans) > 1
    assert (choice >= 0).sum() > len(choice) // 10


def test_two_workers_on_four_partitions_at_full_speed(
    router: MakeRouter, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The other data set: RouterBench's own rows, all LLMs."""
    data = make_small(tmp_path_factory.mktemp("routerbench"), "routerbench_subset", 1500, 1500)
    stream = router(data, partitions=4)
    workers = [stream.start(ready=True), stream.start(ready=True)]
    wait_for(lambda: shared(workers), 60, "both have lanes")
    stream.send(range(len(data.prepared.queries)))
    stream.all_landed(120)
    verdict = assert_whole(stream)
    assert verdict.served > 0
    assert shared(workers), "both have routed, for nobody took lanes from anybody"


def shared(workers: list[Worker]) -> bool:
    """Whether every worker has lanes, and all have each of the four once, by what they were assigned last."""
    shares = []
    for worker in workers:
        told = [event["lanes"] for event in worker.events("lanes_assigned")]
        shares.append([lane for lane in (told[-1] if told else ()) if ".queries:" in lane])
    return all(shares) and len({lane for share in shares for lane in share}) == sum(map(len, shares)) == 4
