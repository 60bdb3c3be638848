from experiments.reports.tables import interval, markdown, summary


def test_markdown_shows_intervals_from_three_seeds_on():
    mean, half = interval([1.0, 2.0, 3.0])
    assert (round(mean, 3), round(half, 3)) == (2.0, 2.484)
    rows = [
        {
            "x": 1.0,
            "policy": "p",
            "performance": v,
            "cost": 1.0,
            "throughput": 3,
            "relative": 50.0,
            "efficiency": None,
            "seconds": 0.1,
        }
        for v in (1.0, 3.0)
    ]
    assert summary(rows)[0]["performance"] == 2.0
    assert "| p | 2.0 | " in markdown(rows)
    assert "| p | 2.0 ± 2.5 | " in markdown([*rows, rows[0] | {"performance": 2.0}])


def test_markdown_of_equal_spend_shows_factor_and_reached_seeds():
    row = {
        "x": 1.0,
        "policy": "p",
        "performance": 2.0,
        "cost": 1.0,
        "throughput": 3,
        "relative": 50.0,
        "efficiency": 2.0,
        "seconds": 0.1,
        "budget_factor": 1.5,
        "reached": True,
    }
    lines = markdown([row, {**row, "reached": False}, {**row, "policy": "q"}]).splitlines()
    assert lines[0].split("|")[3:6] == [" cost, USD ", " budget factor ", " spend reached "]
    assert lines[2].split("|")[5] == " 1 of 2 "
    assert lines[3].split("|")[5] == " 1 of 1 "
