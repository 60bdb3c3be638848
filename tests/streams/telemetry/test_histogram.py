"""Histograms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.telemetry.histogram import SECONDS, Histogram, quantiles, scale


@given(st.lists(st.floats(1.1e-5, 900), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_quantiles_of_any_values_are_exact_to_a_bucket(values: list[float], share: float):
    histogram = Histogram()
    histogram.observe_all(values)

    quantile = quantiles(histogram.edges, histogram.counts()[0], [share])[0]

    exact = float(np.quantile(values, share, method="inverted_cdf"))
    assert exact / 1.3 <= quantile <= exact * 1.3


def test_observe_all_equals_repeated_observe():
    one, all_ = Histogram(), Histogram()
    values = [0.001, 0.0005, 5000.0, 1e-9, 0.25]
    for value in values:
        one.observe(value)
    all_.observe_all(values)

    assert (one.counts()[0] == all_.counts()[0]).all()
    assert one.counts()[1] == pytest.approx(sum(values)) == pytest.approx(all_.counts()[1])


def test_buckets_are_cumulative_at_1_2_and_5():
    histogram = Histogram(scale(0, 1))
    histogram.observe_all([1, 1.5, 2, 4, 11])

    assert histogram.buckets() == [("1", 1), ("2", 3), ("5", 4), ("10", 4), ("+Inf", 5)]
    assert len(Histogram(SECONDS).buckets()) == 26


def test_quantiles_without_values_are_none():
    assert quantiles(SECONDS, Histogram().counts()[0], [0.5, 0.99]) == [None, None]
