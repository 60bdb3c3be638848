"""The planner learns from reported quality: published corrections, restarts, other clusters, the switch."""

from dataclasses import replace

import numpy as np
import pytest

from routing.embedding.unit_vectors import normalised
from routing.feedback.clusters import fit_clusters
from routing.feedback.plan_correction import offsets_of
from streams.ledger.quality_residuals import QualityResiduals
from tests.streams.planner.memory_cluster import MODELS, MemoryCluster

VECTORS = normalised(np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
CLUSTERS = fit_clusters(VECTORS, 2)


@pytest.fixture
def learning() -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.clusters = CLUSTERS
    for lane in (0, 1, 2):
        cluster.view.write(lane)
    return cluster


def report(cluster: MemoryCluster, lane: int, model: str, answers: int, residual: float) -> None:
    """Count answers of a lane, all in the second task cluster."""
    record = cluster.view.kept[lane]
    sums = record.residuals.get(model, QualityResiduals())
    more = QualityResiduals((0.0, float(answers)), (0.0, answers * residual))
    cluster.view.kept[lane] = replace(record, residuals={**record.residuals, model: sums + more})


def offset(cluster: MemoryCluster, model: str) -> float:
    offsets = offsets_of(cluster.plan.correction, MODELS)
    return 0.0 if offsets is None else float(offsets[MODELS.index(model), 1])


def test_update_publishes_a_correction_from_the_answers_of_all_lanes(learning):
    planner = learning.open_planner()
    learning.next_round(planner)
    report(learning, 0, "a", 30, -0.5)
    report(learning, 1, "a", 30, -0.5)
    learning.next_round(planner)
    assert offset(learning, "a") < -0.2
    assert offset(learning, "b") == 0
    assert learning.plan.clusters == CLUSTERS.digest


def test_update_without_new_answers_publishes_no_plan(learning):
    planner = learning.open_planner()
    report(learning, 0, "a", 60, -0.5)
    learning.next_round(planner)
    learning.next_round(planner)
    plans = len(learning.plans)
    learning.next_round(planner)
    assert len(learning.plans) == plans


def test_update_by_another_planner_continues_and_counts_no_answer_twice(learning):
    learning.next_round(learning.open_planner())
    report(learning, 0, "a", 60, -0.5)
    learning.next_round(learning.processors[-1])
    before = learning.plan.correction
    planner = learning.open_planner()
    learning.next_round(planner)
    assert learning.plan.correction == before
    report(learning, 0, "a", 200, 0.0)
    learning.next_round(planner)
    assert offset(learning, "a") > -0.1


def test_update_after_a_change_of_clusters_starts_from_nothing(learning):
    learning.next_round(learning.open_planner())
    report(learning, 0, "a", 60, -0.5)
    learning.next_round(learning.processors[-1])
    assert offset(learning, "a") < -0.2
    learning.clusters = fit_clusters(-VECTORS, 2)
    learning.next_round(learning.open_planner())
    assert offset(learning, "a") == 0
    assert learning.plan.clusters == learning.clusters.digest


def test_update_switched_off_drops_the_correction_from_the_plan(learning):
    learning.next_round(learning.open_planner())
    report(learning, 0, "a", 60, -0.5)
    learning.next_round(learning.processors[-1])
    learning.clusters = None
    learning.next_round(learning.open_planner())
    assert (learning.plan.correction, learning.plan.clusters) == ({}, "")
