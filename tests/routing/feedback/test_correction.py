"""Correction of estimates: noise, changes, fading, clusters, batches."""

import numpy as np
import pytest

from routing.feedback.correction import QualityCorrection


def answers(correction, model, cluster, residuals):
    """Add answers one by one."""
    for residual in residuals:
        count, total = np.zeros_like(correction.weight), np.zeros_like(correction.weight)
        count[model, cluster], total[model, cluster] = 1, residual
        correction = correction.with_answers(count, total)
    return correction


def test_offsets_without_answers_are_zero():
    assert not QualityCorrection.empty(2, 3).offsets().any()


def test_offsets_of_noise_are_zero_most_of_the_time():
    random, correction = np.random.default_rng(0), QualityCorrection.empty(1, 1)
    closed = 0
    for _ in range(2000):
        correction = answers(correction, 0, 0, [random.choice([-0.5, 0.5])])
        closed += bool(abs(correction.offsets()[0, 0]) > 0.05)
    assert closed < 100


def test_offsets_after_a_loss_of_quality_are_two_thirds_of_it_in_forty_answers():
    correction = answers(QualityCorrection.empty(2, 2), 0, 1, [-0.4] * 40)
    assert correction.offsets()[0] == pytest.approx([-0.27, -0.27], abs=0.03)
    assert not correction.offsets()[1].any()


def test_with_answers_of_other_llms_only_lets_evidence_fade_until_the_llm_is_tried_again():
    bad = answers(QualityCorrection.empty(2, 1), 0, 0, [-0.4] * 40)
    later = answers(bad, 1, 0, [0.0] * 1500)
    assert later.offsets()[0, 0] == 0
    still_bad = answers(later, 0, 0, [-0.4] * 12)
    assert still_bad.offsets()[0, 0] < -0.1


def test_offsets_of_one_bad_cluster_leave_the_others_almost_alone():
    correction = QualityCorrection.empty(1, 4)
    for _ in range(60):
        correction = answers(correction, 0, 0, [-0.6])
        for cluster in (1, 2, 3):
            correction = answers(correction, 0, cluster, [0.05])
    offsets = correction.offsets()[0]
    assert offsets[0] < -0.1
    assert np.abs(offsets[1:]).max() < 0.05


def test_with_answers_in_one_batch_is_close_to_one_by_one():
    one_by_one = answers(QualityCorrection.empty(1, 1), 0, 0, [-0.3] * 400)
    batch = QualityCorrection.empty(1, 1).with_answers(np.array([[400.0]]), np.array([[-120.0]]))
    assert batch.weight == pytest.approx(one_by_one.weight, rel=0.02)
    assert batch.offsets() == pytest.approx(one_by_one.offsets(), rel=0.02)
