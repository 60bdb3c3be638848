"""ParetoBandit's scenarios of change: the order of its queries, and the change in the middle phase."""

import numpy as np

from experiments.studies.paretobandit_phases import by_phase, phase_rows, scenario_of
from routing.history.history import History


def test_phase_rows_repeat_the_first_pool_in_the_third_phase():
    pools = np.arange(10, 14), np.arange(20, 24)
    rows = phase_rows(50, pools, seed=7)
    assert set(rows[:4]) == set(rows[8:]) == set(pools[0])
    assert set(rows[4:8]) == set(pools[1])
    assert phase_rows(50, pools, seed=7).tolist() == rows.tolist()


def test_scenario_changes_one_llm_in_the_second_phase_only():
    quality, cost = np.full((6, 2), 0.9), np.full((6, 2), 4.0)
    data = History([*"abcdef"], [*"abcdef"], ["t"] * 6, ["x", "y"], quality, cost)
    changes = ("y", 0.3), ("x", 0.5)
    worse = scenario_of("quality", data, np.arange(6), *changes)
    assert by_phase(worse.quality[:, 1]) == [0.9, 0.3, 0.9]
    assert (worse.quality[:, 0] == 0.9).all()
    assert (worse.cost == 4).all()
    cheaper = scenario_of("price", data, np.arange(6), *changes)
    assert by_phase(cheaper.cost[:, 0]) == [4.0, 2.0, 4.0]
    assert by_phase(cheaper.price[:, 1]) == [1.0, 1.0, 1.0]
    assert (cheaper.quality == 0.9).all()
