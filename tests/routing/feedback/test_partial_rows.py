"""Rows that know one LLM: what the error of one estimate says about the others."""

import numpy as np
import pytest

from routing.estimators.base import Estimates
from routing.feedback.partial_rows import ResidualSlopes


def test_fit_finds_how_errors_move_together_and_independent_ones():
    random = np.random.default_rng(0)
    difficulty = random.normal(0, 0.2, (4000, 1))
    error = np.hstack([difficulty, 0.5 * difficulty, random.normal(0, 0.2, (4000, 1))])
    own = Estimates(np.full((4000, 3), 0.5), np.ones((4000, 3)))
    slopes = ResidualSlopes.fit(0.5 + error, own).slopes
    assert slopes[0] == pytest.approx([1, 0.5, 0], abs=0.04)
    assert slopes[1, 0] == pytest.approx(2, abs=0.05)


def test_filled_keeps_the_reported_quality_and_stays_within_bounds():
    slopes = ResidualSlopes(np.array([[1.0, 3.0], [0.0, 1.0]]))
    filled = slopes.filled(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([0, 1]), np.array([1.0, 0.2]))
    assert filled.tolist() == [[1.0, 1.0], [0.5, 0.2]]
