"""Evidence in plans: totals that are absorbed once, resets, corrected estimates."""

import numpy as np
import pytest

from routing.estimators.base import Estimates
from routing.feedback.plan_correction import absorb, corrected, offsets_of, restart

BAD = {"a": ([0.0, 60.0], [0.0, -24.0])}


def test_absorb_the_same_totals_again_changes_nothing():
    evidence = absorb({}, BAD, 2)
    assert absorb(evidence, BAD, 2) is evidence
    offsets = offsets_of(evidence, ("b", "a"))
    assert offsets is not None
    assert offsets[0].tolist() == [0, 0]
    assert (offsets[1] < -0.2).all()


def test_absorb_in_two_steps_is_close_to_one():
    half = absorb({}, {"a": ([0.0, 30.0], [0.0, -12.0])}, 2)
    assert np.array(absorb(half, BAD, 2)["a"]) == pytest.approx(np.array(absorb({}, BAD, 2)["a"]), rel=0.2)


def test_absorb_totals_that_fell_takes_them_over_without_effect():
    before = absorb({}, BAD, 2)
    after = absorb(before, {"a": ([0.0, 3.0], [0.0, 3.0])}, 2)
    assert after == before
    again = absorb(before, {"a": ([0.0, 3.0], [0.0, 3.0]), "b": ([1.0, 0.0], [0.1, 0.0])}, 2)
    assert again["a"][2:] == [[0.0, 3.0], [0.0, 3.0]]
    assert again["a"][0][1] == pytest.approx(before["a"][0][1], rel=0.01)


def test_restart_leaves_out_the_answers_so_far():
    evidence = restart(BAD)
    assert offsets_of(evidence, ("a",)) is None
    assert absorb(evidence, BAD, 2) is evidence


def test_corrected_changes_queries_with_a_cluster_and_stays_within_bounds():
    estimates = Estimates(np.full((3, 2), 0.5), np.ones((3, 2)), np.array([0, 1, -1]))
    offsets = np.array([[0.1, -0.9], [0.0, 0.7]])
    assert corrected(estimates, offsets).quality.tolist() == [[0.6, 0.5], [0.0, 1.0], [0.5, 0.5]]
    assert corrected(estimates, None) is estimates
    unclustered = Estimates(estimates.quality, estimates.cost)
    assert corrected(unclustered, offsets) is unclustered
