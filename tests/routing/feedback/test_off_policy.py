"""Off-line evaluation on synthetic decisions whose answer is known."""

import numpy as np
import pytest

from routing.feedback.off_policy import LoggedDecisions, doubly_robust, inverse_propensity

N, MODELS = 20_000, 3


def world(seed=0):
    """Return true qualities, target probabilities, and decisions of a policy that prefers the first LLM."""
    random = np.random.default_rng(seed)
    quality = np.clip(random.uniform(0.2, 0.8, (N, 1)) + np.array([0.1, 0.0, -0.1]), 0, 1)
    chances = np.array([0.8, 0.1, 0.1])
    choice = random.choice(MODELS, N, p=chances)
    answers = random.binomial(1, quality[np.arange(N), choice]).astype(float)
    target = np.zeros((N, MODELS))
    target[np.arange(N), np.where(quality[:, 0] > 0.6, 2, 1)] = 1.0
    return quality, target, LoggedDecisions(choice, chances[choice], answers)


def test_both_estimates_find_the_value_of_the_policy_within_their_errors():
    quality, target, logged = world()
    truth = float((target * quality).sum(1).mean())
    for value in (inverse_propensity(logged, target), doubly_robust(logged, target, quality)):
        assert abs(value.mean - truth) < 4 * value.error
    assert logged.quality.mean() > truth + 0.05


def test_doubly_robust_with_a_good_model_has_the_smaller_error_and_a_bad_one_no_bias():
    quality, target, logged = world()
    truth = float((target * quality).sum(1).mean())
    plain, good = inverse_propensity(logged, target), doubly_robust(logged, target, quality)
    bad = doubly_robust(logged, target, np.full_like(quality, 0.9))
    assert good.error < 0.8 * plain.error
    assert abs(bad.mean - truth) < 4 * bad.error


def test_doubly_robust_with_wrong_probabilities_and_a_right_model_has_no_bias():
    quality, target, logged = world()
    truth = float((target * quality).sum(1).mean())
    wrong = LoggedDecisions(logged.choice, np.full(N, 1 / 3), logged.quality)
    robust = doubly_robust(wrong, target, quality)
    assert abs(robust.mean - truth) < 4 * robust.error
    assert abs(inverse_propensity(wrong, target).mean - truth) > 0.1


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.5, np.nan])
def test_invalid_probability_is_an_error(probability):
    with pytest.raises(ValueError, match="probability"):
        LoggedDecisions(np.array([0]), np.array([probability]), np.array([1.0]))
