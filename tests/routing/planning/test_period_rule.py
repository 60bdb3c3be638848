"""End, progress and expected remaining queries of a period."""

import pytest

from routing.planning.period_rule import PeriodRule

BY_COUNT, BY_TIME = PeriodRule(100), PeriodRule(100, seconds=60.0)


@pytest.mark.parametrize(("decided", "over"), [(99, False), (100, True), (101, True)])
def test_is_over_by_count_after_the_horizon(decided, over):
    assert BY_COUNT.is_over(decided, elapsed=1e9) == over


@pytest.mark.parametrize(("elapsed", "over"), [(0.0, False), (59.9, False), (60.0, True)])
def test_is_over_by_time_after_its_seconds(elapsed, over):
    assert BY_TIME.is_over(decided=10**6, elapsed=elapsed) == over


def test_progress_by_time_before_the_beginning_is_zero():
    assert BY_TIME.progress(arrived=50, elapsed=-5.0) == 0.0
    assert BY_TIME.progress(arrived=0, elapsed=90.0) == 1.5


@pytest.mark.parametrize("elapsed", [-1.0, 0.0, 30.0, 60.0, 99.0])
def test_expected_remaining_is_never_negative(elapsed):
    assert BY_TIME.expected_remaining(200, elapsed) >= 0
    assert BY_COUNT.expected_remaining(200, elapsed) == 0
