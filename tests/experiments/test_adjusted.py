"""Adjustments of quality: each does what its name says."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.adjusted import adjustment


@pytest.fixture(scope="module")
def estimates():
    rng = np.random.default_rng(0)
    chance = np.clip(rng.random((4000, 1)) * 0.8 + 0.1 + rng.normal(0, 0.05, (4000, 3)), 0, 1)
    truth = (rng.random((4000, 3)) < chance).astype(float)
    return chance, np.clip(0.5 + (chance - 0.5) / 2, 0, 1), truth


@pytest.mark.parametrize("how", ["isotonic", "linear"])
def test_calibration_undoes_a_squeeze(estimates, how):
    chance, squeezed, truth = estimates
    found = adjustment(how, squeezed, truth)(squeezed)
    assert np.abs(found - chance).mean() < 0.4 * np.abs(squeezed - chance).mean()


def test_difficulty_keeps_the_order_of_easy_and_hard(estimates):
    chance, squeezed, truth = estimates
    found = adjustment("difficulty", squeezed, truth)(squeezed)
    assert np.corrcoef(found.mean(1), chance.mean(1))[0, 1] > 0.95


def test_rank_shrink_and_caution_are_their_formulas(estimates):
    chance, _, truth = estimates
    np.testing.assert_allclose(adjustment("rank3", chance, truth)(chance), chance, atol=1e-12)
    assert np.linalg.matrix_rank(adjustment("rank1", chance, truth)(chance) - chance.mean(0), tol=1e-8) == 1
    np.testing.assert_allclose(adjustment("shrink1", chance, truth)(chance), chance, atol=1e-12)
    assert (adjustment("cautious0.1", chance, truth)(chance) <= chance).all()
    with pytest.raises(ValueError, match="adjust"):
        adjustment("magic", chance, truth)
