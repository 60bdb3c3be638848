"""Lanes apply the plan's correction, and their ledgers sum up what outcomes report beyond the estimates."""

from dataclasses import replace

import numpy as np
import orjson
import pytest

from routing.budgets.money import PICO
from routing.feedback.clusters import fit_clusters
from routing.feedback.plan_correction import absorb
from streams.ledger.reservations import decode_reservations
from tests.streams.router.memory_router import (
    ESTIMATION,
    POOL,
    MemoryRouter,
    deliver_outcomes,
    ids,
    outcome_of,
    plan_with,
)

CLUSTERS = fit_clusters(ESTIMATION.history.embeddings, 2)
RICH = np.full((3, 3), PICO, dtype=np.int64)


@pytest.fixture
def learning() -> MemoryRouter:
    """A router that knows task clusters; quality costs nothing, so that the best LLM gets each query."""
    router = MemoryRouter()
    router.clusters = CLUSTERS
    router.plans.latest = plan_with(granted=RICH, target=RICH, prices=np.zeros(3))
    return router


def corrected_plan(model: str, residual: float):
    totals = {model: ([100.0] * 2, [100 * residual] * 2)}
    fields = {"correction": absorb({}, totals, 2), "clusters": CLUSTERS.digest, "revision": 6}
    return plan_with(granted=RICH, target=RICH, prices=np.zeros(3), **fields)


def models_of(router: MemoryRouter) -> list[str]:
    return [query["routing"]["model"] for query in router.routed()]


def test_route_with_a_correction_avoids_the_llm_that_got_worse(learning):
    processor = learning.open_lane()
    learning.send(*ids(20))
    learning.deliver(processor)
    best = max(set(models_of(learning)), key=models_of(learning).count)
    learning.plans.latest = corrected_plan(best, -0.9)
    learning.send(*ids(20, 20))
    learning.deliver(processor)
    later = [query for query in learning.routed() if query["routing"]["offset"] >= 20]
    assert len(later) == 20
    assert sum(query["routing"]["model"] == best for query in later) <= 2


def test_route_with_a_correction_of_other_clusters_ignores_it(learning):
    processor = learning.open_lane()
    learning.plans.latest = replace(corrected_plan("large", -0.9), clusters="another history")
    learning.send(*ids(20))
    learning.deliver(processor)
    assert models_of(learning).count("large") > 10


def test_settle_outcomes_with_quality_sums_differences_to_uncorrected_estimates_by_cluster(learning):
    learning.plans.latest = corrected_plan("large", -0.2)
    processor = learning.open_lane()
    learning.send(*ids(30))
    learning.deliver(processor)
    reserved = decode_reservations(learning.topics.of(learning.names.reservations)[0].value())
    expected = np.zeros((3, 2, 2))
    for row, query in enumerate(sorted(learning.routed(), key=lambda q: q["routing"]["offset"])):
        body = orjson.loads(outcome_of(query, 1e-6)) | {"quality": 0.5}
        learning.topics.add(learning.names.outcomes, orjson.dumps(body), 0)
        expected[reserved.model[row], :, reserved.cluster[row]] += 1, 0.5 - reserved.uncorrected[row]
    deliver_outcomes(learning, processor)
    learning.step(processor)
    record = learning.ledger(0)
    for i, name in enumerate(record.models):
        if expected[i, 0].any():
            counted, residuals = (
                np.pad(part, (0, 2 - len(part))) for part in record.residuals[name].to_list()
            )
            assert counted.tolist() == expected[i, 0].tolist()
            assert residuals == pytest.approx(expected[i, 1], abs=1e-6)
    large = reserved.model == 2
    assert (reserved.uncorrected[large] - reserved.quality[large] > 0.05).all()


def test_defer_a_query_keeps_its_cluster_and_its_uncorrected_estimates(learning):
    poor = RICH.copy()
    poor[0] = 0
    learning.plans.latest = replace(corrected_plan("large", -0.9), granted=poor, target=poor)
    processor, pool = learning.open_lane(), learning.open_lane(POOL)
    learning.send(*ids(6))
    learning.deliver(processor)
    learning.deliver(pool)
    reserved = decode_reservations(learning.topics.of(learning.names.reservations, POOL)[0].value())
    assert len(reserved.offsets) == 6
    assert set(reserved.cluster.tolist()) <= {0, 1}
    assert "large" not in models_of(learning)
