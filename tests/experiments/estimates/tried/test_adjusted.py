"""Adjustments of quality."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.estimates.tried.adjusted import adjustment


@pytest.fixture(scope="module")
def estimates():
    rng = np.random.default_rng(0)
    chance = np.clip(rng.random((4000, 1)) * 0.8 + 0.1 + rng.normal(0, 0.05, (4000, 3)), 0, 1)
    truth = (rng.random((4000, 3)) < chance).astype(float)
    return chance, np.clip(0.5 + (chance - 0.5) / 2, 0, 1), truth


@pytest.mark.parametrize("how", ["isotonic", "linear"])
def test_calibration_of_compressed_estimates_restores_them(estimates, how):
    chance, compressed, truth = estimates
    adjusted = adjustment(how, compressed, truth)(compressed)
    assert np.abs(adjusted - chance).mean() < 0.4 * np.abs(compressed - chance).mean()


def test_difficulty_keeps_the_order_of_easy_and_hard_queries(estimates):
    chance, compressed, truth = estimates
    adjusted = adjustment("difficulty", compressed, truth)(compressed)
    assert np.corrcoef(adjusted.mean(1), chance.mean(1))[0, 1] > 0.95


def test_rank_shrink_and_cautious_follow_their_formulas(estimates):
    chance, _, truth = estimates
    np.testing.assert_allclose(adjustment("rank3", chance, truth)(chance), chance, atol=1e-12)
    assert np.linalg.matrix_rank(adjustment("rank1", chance, truth)(chance) - chance.mean(0), tol=1e-8) == 1
    np.testing.assert_allclose(adjustment("shrink1", chance, truth)(chance), chance, atol=1e-12)
    assert (adjustment("cautious0.1", chance, truth)(chance) <= chance).all()
    with pytest.raises(ValueError, match="adjust"):
        adjustment("magic", chance, truth)
