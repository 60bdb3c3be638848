"""Plots of the experiments, legible in print: PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tables import kind_of_point, summary

Row = dict[str, Any]

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
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933", "#882255",
)  # fmt: skip


def draw(
    rows: Sequence[Row], kind: str, axis: str, title: str, stem: Path, measure: str = "relative"
) -> None:
    """Draw the rows and write `stem`.png and `stem`.svg.

    Parameters
    ----------
    kind : {"bars", "lines", "spread"}
        See `experiments.studies.Study`.
    axis, title : str
        Labels.
    measure : str
        Column on the other axis; cost has a panel beside it.
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
        stem.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
        pyplot.close(figure)


def _grid(rows: Sequence[Row], kind: str) -> dict[str, Any]:
    """The figure's size and panels: the measure, and cost beside it or below it."""
    if kind == "lines":
        return {
            "nrows": 2, "sharex": True, "figsize": (6.8, 5.6), "gridspec_kw": {"height_ratios": (2.2, 1)},
        }  # fmt: skip
    names = dict.fromkeys(row["policy"] for row in rows)
    height = 1.2 + sum(0.14 + 0.12 * (1 + _wrapped(name).count("\n")) for name in names)
    return {"ncols": 2, "sharey": True, "figsize": (6.8, height), "gridspec_kw": {"width_ratios": (2, 1)}}


def label(measure: str) -> str:
    """What a column is called on an axis."""
    if measure == "relative":
        return "performance, % of the approximate optimum"
    return {"performance": "performance (sum of quality)", "cost": "cost, USD"}.get(measure, measure)


def _bars(axes: Any, rows: Sequence[Row], axis: str, measure: str) -> None:
    """A point and its interval a policy; what lies far beyond the others is written at the edge."""
    lines = summary(rows)[::-1]
    place = _places([line["policy"] for line in lines])
    value = np.array([line[measure] for line in lines])
    half = np.nan_to_num(np.array([line[f"{measure}_half"] for line in lines]))
    edge = 1.35 * float(np.median(value))
    far = value > edge if (value > edge).sum() <= 2 and len(value) > 4 else np.zeros(len(value), bool)
    near = ~far
    axes.errorbar(
        value[near], place[near], xerr=half[near], fmt="o", color=_COLOURS[0], markersize=4, capsize=2
    )
    for at in np.flatnonzero(far):
        axes.annotate(
            f"{value[at]:.4g} \u2192", (1.0, place[at]), xycoords=("axes fraction", "data"), ha="right",
            va="center", fontsize=8, color=_COLOURS[1],
        )  # fmt: skip
    for at, line in zip(place, lines, strict=True):
        if line["reached"] < line["runs"]:  # at equal spend: the spend was not reached on every seed
            axes.plot(line[measure], at, "o", mfc="white", color=_COLOURS[0], markersize=4, zorder=3)
    axes.set_yticks(place, [_wrapped(line["policy"]) for line in lines], fontsize=7)
    axes.set_ylim(-0.8, place[-1] + 0.8)
    _value_axis(axes, measure)


def _places(policies: Sequence[str]) -> Any:
    """Where policies stand on the vertical axis, as far apart as their names have lines."""
    lines = np.array([1 + 0.45 * _wrapped(policy).count("\n") for policy in policies])
    return np.r_[0, np.cumsum((lines[1:] + lines[:-1]) / 2)]


def _value_axis(axes: Any, measure: str) -> None:
    axes.set_xlabel(label(measure), fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.locator_params(axis="x", nbins=4 if measure == "cost" else 8)
    if measure == "relative":
        axes.axvline(100, color="black", linewidth=0.8, linestyle=":")


def _wrapped(policy: str, width: int = 30) -> str:
    """A long name on several lines, broken at its options."""
    lines = [""]
    for part in policy.split(":"):
        joined = f"{lines[-1]}:{part}" if lines[-1] else part
        if len(joined) > width:
            lines.append(part)
        else:
            lines[-1] = joined
    return "\n".join(lines)


def _lines(axes: Any, rows: Sequence[Row], axis: str, measure: str) -> None:
    """A line a policy with its intervals, moved aside a little so that none hides another."""
    lines = summary(rows)
    names = list(dict.fromkeys(_family(line["policy"]) for line in lines))
    points = sorted({float(line["x"]) for line in lines})
    logarithmic = len(points) > 1 and points[0] > 0 and points[-1] / points[0] >= 20
    steps: Any = np.diff(np.log(points) if logarithmic else points)
    apart = 0.12 * float(steps.min()) if len(steps) else 0.0
    for number, name in enumerate(names):
        own = [line for line in lines if _family(line["policy"]) == name]
        aside = apart * (number - (len(names) - 1) / 2) / max(1, (len(names) - 1) / 2)
        x = np.array([float(line["x"]) for line in own])
        x = x * np.exp(aside) if logarithmic else x + aside
        y = np.array([line[measure] for line in own])
        half = np.nan_to_num(np.array([line[f"{measure}_half"] for line in own]))
        axes.errorbar(
            x, y, yerr=half, marker=_MARKERS[number % len(_MARKERS)], markersize=3.5, linewidth=1,
            elinewidth=0.8, capsize=1.5, color=_COLOURS[number % len(_COLOURS)], label=name,
        )  # fmt: skip
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xticks(points, [f"{point:g}" for point in points], fontsize=7)
    axes.minorticks_off()
    axes.set_xlabel(axis)
    axes.set_ylabel(label(measure), fontsize=8)
    axes.tick_params(axis="y", labelsize=7)
    if measure == "cost":
        axes.set_ylim(bottom=0)


def _spread(axes: Any, rows: Sequence[Row], axis: str, measure: str) -> None:
    names = list(dict.fromkeys(row["policy"] for row in rows))[::-1]
    place = _places(names)
    marked = "sorted by task"
    values = [
        [row[measure] for row in rows if row["policy"] == name and kind_of_point(row["x"]) != marked]
        for name in names
    ]
    axes.boxplot(
        values,
        positions=place,
        orientation="horizontal",
        tick_labels=[_wrapped(name) for name in names],
        whis=(0, 100),
        widths=0.5,
    )
    axes.tick_params(axis="y", labelsize=7)
    rest = [row for row in rows if kind_of_point(row["x"]) == marked]
    for row in rest:
        axes.plot(row[measure], place[names.index(row["policy"])], "D", color=_COLOURS[1], markersize=4)
    axes.set_ylim(-0.8, place[-1] + 0.8)
    _value_axis(axes, measure)
    if measure != "cost":
        told = f"box: middle half, whiskers: least and most of {len(values[0])} {axis}s"
        axes.set_title(f"{told}; diamond: {marked}" if rest else told, fontsize=7)


def _family(policy: str) -> str:
    """A policy's name without the option that is varied along the axis."""
    varied = ("eps=", "alpha=", "k=")
    return ":".join(part for part in policy.split(":") if not part.startswith(varied))
