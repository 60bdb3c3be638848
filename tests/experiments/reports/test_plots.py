import numpy as np
import pytest

from experiments.reports.plots import draw


def of_seeds(*relative: float, policy: str = "p") -> list[dict]:
    return [
        {
            "x": 1.0,
            "policy": policy,
            "seed": seed,
            "performance": 1.0,
            "cost": 1.0,
            "throughput": 3,
            "relative": value,
            "efficiency": None,
            "seconds": 0.1,
        }
        for seed, value in enumerate(relative)
    ]


@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_draw_of_two_seeds_omits_intervals_and_scales_to_the_points(kind, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.pyplot.close", drawn.append)
    two = of_seeds(90.0, 100.0) + of_seeds(60.0, 70.0, policy="q")
    three = of_seeds(90.0, 95.0, 100.0) + of_seeds(60.0, 65.0, 70.0, policy="q")
    for rows in (two, three, of_seeds(1.0, 2.0, 300.0) + of_seeds(1.0, 2.0, 300.5, policy="q")):
        draw(rows, kind, "x", "title", tmp_path / "plot")

    limits = [figure.axes[0].get_xlim() if kind == "bars" else figure.axes[0].get_ylim() for figure in drawn]
    assert all(50 < low < 65 and 95 < high < 110 for low, high in limits[:2])
    # The half interval is about 400, far longer than the distance of the points.
    assert all(low > 0 and high < 250 for low, high in limits[2:])
    segments = [
        [bar for axes in f.axes for found in axes.collections for bar in found.get_segments()] for f in drawn
    ]
    bars = [sum(len(bar) == 2 and bool(np.isfinite(bar).all()) for bar in found) for found in segments]
    assert bars[0] == 0 < bars[1]
    notes = [figure._supxlabel.get_text() for figure in drawn]
    assert notes[0] == "point: mean of 2 seeds; no interval below 3 seeds"
    assert notes[1].startswith("point: mean of 3 seeds; bar: 95 % confidence interval")
    assert "95 % confidence interval" in (tmp_path / "plot.svg").read_text()
