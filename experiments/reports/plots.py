"""Plots of results, legible in print, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.reports.tables import MIN_SEEDS_FOR_INTERVAL, grouped, kind_of_point, summary
from experiments.runs.results import Row

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "svg.fonttype": "none",
    "svg.hashsalt": "experiments",
    "figure.dpi": 150,
}
_MARKERS = "osD^vPX*<>hd"
_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#999933",
    "#882255",
)
_SORTED = "sorted by task"


def draw(
    rows: Sequence[Row], kind: str, axis: str, title: str, stem: Path, measure: str = "relative"
) -> None:
    """Draw the rows and write `stem`.png and `stem`.svg.

    Parameters
    ----------
    kind : {"bars", "lines", "spread"}
        See `experiments.studies.definitions.Study`.
    axis, title : str
        Labels.
    measure : str
        Column of the first panel; the second panel shows the cost.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(_STYLE):
        figure, panels = pyplot.subplots(layout="constrained", **_grid(rows, kind))
        for panel, shown in zip(panels, (measure, "cost"), strict=True):
            {"bars": _bars, "lines": _lines, "spread": _spread}[kind](panel, rows, axis, shown)
        if kind == "lines":
            panels[0].set_xlabel("")
            panels[0].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        figure.suptitle(title, fontsize=9)
        figure.supxlabel(caption(rows, kind, axis), fontsize=7)
        stem.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
        pyplot.close(figure)


def _grid(rows: Sequence[Row], kind: str) -> dict[str, Any]:
    """Return the figure's size and panels; the cost is beside the measure, or below it for lines."""
    if kind == "lines":
        return {
            "nrows": 2,
            "sharex": True,
            "figsize": (6.8, 5.6),
            "gridspec_kw": {"height_ratios": (2.2, 1)},
        }
    names = dict.fromkeys(row["policy"] for row in rows)
    height = 1.2 + sum(0.14 + 0.12 * (1 + _wrapped(name).count("\n")) for name in names)
    return {"ncols": 2, "sharey": True, "figsize": (6.8, height), "gridspec_kw": {"width_ratios": (2, 1)}}


def caption(rows: Sequence[Row], kind: str, axis: str) -> str:
    """Return the caption: the meaning of points, bars and boxes, and the number of seeds.

    Examples
    --------
    >>> caption([{"policy": "random", "x": 1.0, "seed": seed} for seed in (0, 1)], "bars", "factor")
    'point: mean of 2 seeds; no interval below 3 seeds'
    """
    runs = [len(group) for group in grouped(rows).values()]
    if kind == "spread":
        diamonds = [row for row in rows if kind_of_point(row["x"]) == _SORTED]
        points = len({row["x"] for row in rows} - {row["x"] for row in diamonds})
        text = f"box: quartiles, whiskers: minimum and maximum of {points} {axis}s"
        return f"{text}; diamond: {_SORTED}" if diamonds else text
    fewest, largest = min(runs), max(runs)
    seeds = f"{fewest} seed{'s' * (fewest > 1)}" if fewest == largest else f"{fewest} to {largest} seeds"
    text = f"point: mean of {seeds}" if largest > 1 else "point: one seed"
    if largest >= MIN_SEEDS_FOR_INTERVAL:
        text += "; bar: 95 % confidence interval of the mean (Student's t)"
    if fewest < MIN_SEEDS_FOR_INTERVAL:
        text += f"; no interval below {MIN_SEEDS_FOR_INTERVAL} seeds"
    if any(not row.get("reached", True) for row in rows):
        text += "; open circle: target spend not reached with every seed"
    return text


def _limits(value: Any, half: Any) -> tuple[float, float]:
    """Return axis limits that show every point; intervals longer than the points' range are cut."""
    low, high = float(np.min(value)), float(np.max(value))
    room = max(high - low, 0.1 * max(abs(low), abs(high)), 1e-12)
    half = np.nan_to_num(half)
    longest_below = min(low - float(np.min(value - half)), room)
    longest_above = min(float(np.max(value + half)) - high, room)
    return low - longest_below - 0.05 * room, high + longest_above + 0.05 * room


def label(measure: str) -> str:
    """Return the axis label of a column."""
    if measure == "relative":
        return "performance, % of the approximate optimum"
    return {"performance": "performance (sum of quality)", "cost": "cost, USD"}.get(measure, measure)


def _bars(axes: Any, rows: Sequence[Row], axis: str, measure: str) -> None:
    """Draw a point and its interval for each policy; write the values of far outliers at the edge."""
    lines = summary(rows)[::-1]
    positions = _positions([line["policy"] for line in lines])
    value = np.array([line[measure] for line in lines])
    half = np.array([line[f"{measure}_half"] for line in lines])
    edge = 1.35 * float(np.median(value))
    far = value > edge if (value > edge).sum() <= 2 and len(value) > 4 else np.zeros(len(value), bool)
    near = ~far
    axes.errorbar(
        value[near], positions[near], xerr=half[near], fmt="o", color=_COLOURS[0], markersize=4, capsize=2
    )
    for index in np.flatnonzero(far):
        axes.annotate(
            f"{value[index]:.4g} \u2192",
            (1.0, positions[index]),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="center",
            fontsize=8,
            color=_COLOURS[1],
        )
    for position, line in zip(positions, lines, strict=True):
        if line["reached"] < line["runs"]:  # equal spend: at least one seed missed the target
            axes.plot(line[measure], position, "o", mfc="white", color=_COLOURS[0], markersize=4, zorder=3)
    axes.set_yticks(positions, [_wrapped(line["policy"]) for line in lines], fontsize=7)
    axes.set_ylim(-0.8, positions[-1] + 0.8)
    _value_axis(axes, measure)
    axes.set_xlim(_limits(value[near], half[near]))


def _positions(policies: Sequence[str]) -> Any:
    """Return the policies' positions on the vertical axis, spaced by the lines of their labels."""
    lines = np.array([1 + 0.45 * _wrapped(policy).count("\n") for policy in policies])
    return np.r_[0, np.cumsum((lines[1:] + lines[:-1]) / 2)]


def _value_axis(axes: Any, measure: str) -> None:
    axes.set_xlabel(label(measure), fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.locator_params(axis="x", nbins=4 if measure == "cost" else 8)
    if measure == "relative":
        axes.axvline(100, color="black", linewidth=0.8, linestyle=":")


def _wrapped(policy: str, width: int = 30) -> str:
    """Wrap a long name at its options."""
    lines = [""]
    for part in policy.split(":"):
        joined = f"{lines[-1]}:{part}" if lines[-1] else part
        if len(joined) > width:
            lines.append(part)
        else:
            lines[-1] = joined
    return "\n".join(lines)


def _lines(axes: Any, rows: Sequence[Row], axis: str, measure: str) -> None:
    """Draw a line with intervals for each policy, shifted so that no interval hides another."""
    lines = summary(rows)
    names = list(dict.fromkeys(_family(line["policy"]) for line in lines))
    points = sorted({float(line["x"]) for line in lines})
    logarithmic = len(points) > 1 and points[0] > 0 and points[-1] / points[0] >= 20
    steps: Any = np.diff(np.log(points) if logarithmic else points)
    values: list[float] = []
    halves: list[float] = []
    spacing = float(min(0.12 * steps.min(), 0.03 * steps.sum())) if len(steps) else 0.0
    for number, name in enumerate(names):
        series = [line for line in lines if _family(line["policy"]) == name]
        shift = spacing * (number - (len(names) - 1) / 2) / max(1, (len(names) - 1) / 2)
        x = np.array([float(line["x"]) for line in series])
        x = x * np.exp(shift) if logarithmic else x + shift
        y = np.array([line[measure] for line in series])
        half = np.array([line[f"{measure}_half"] for line in series])
        values += list(y)
        halves += list(half)
        axes.errorbar(
            x,
            y,
            yerr=half,
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=3.5,
            linewidth=1,
            elinewidth=0.8,
            capsize=1.5,
            color=_COLOURS[number % len(_COLOURS)],
            label=name,
        )
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xticks(points, [_tick(point) for point in points], fontsize=7)
    axes.minorticks_off()
    axes.set_xlabel(axis)
    axes.set_ylabel(label(measure), fontsize=8)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_ylim(_limits(np.array(values), np.array(halves)))
    if measure == "cost":
        axes.set_ylim(bottom=0)


def _tick(point: float) -> str:
    return f"{point:g}" if point.is_integer() else f"{point:.3g}"


def _spread(axes: Any, rows: Sequence[Row], axis: str, measure: str) -> None:
    names = list(dict.fromkeys(row["policy"] for row in rows))[::-1]
    positions = _positions(names)
    values = [
        [row[measure] for row in rows if row["policy"] == name and kind_of_point(row["x"]) != _SORTED]
        for name in names
    ]
    axes.boxplot(
        values,
        positions=positions,
        orientation="horizontal",
        tick_labels=[_wrapped(name) for name in names],
        whis=(0, 100),
        widths=0.5,
    )
    axes.tick_params(axis="y", labelsize=7)
    diamonds = [row for row in rows if kind_of_point(row["x"]) == _SORTED]
    for row in diamonds:
        axes.plot(row[measure], positions[names.index(row["policy"])], "D", color=_COLOURS[1], markersize=4)
    axes.set_ylim(-0.8, positions[-1] + 0.8)
    _value_axis(axes, measure)


def _family(policy: str) -> str:
    """Return a policy's name without the option that varies along the axis."""
    varied = ("eps=", "alpha=", "k=")
    return ":".join(part for part in policy.split(":") if not part.startswith(varied))
