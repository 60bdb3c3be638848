"""Plots of the experiments, legible in print: PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tables import summary

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
        Column on the other axis.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(_STYLE):
        places = len({row["policy"] for row in rows}) if kind != "lines" else 0
        figure, axes = pyplot.subplots(figsize=(6.8, max(4.0, 0.36 * places)), layout="constrained")
        {"bars": _bars, "lines": _lines, "spread": _spread}[kind](axes, rows, axis, measure)
        figure.suptitle(title, fontsize=9)
        stem.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(stem.with_suffix(".png"), metadata={"Software": None})
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
        pyplot.close(figure)


def label(measure: str) -> str:
    """What a column is called on an axis."""
    if measure == "relative":
        return "performance, % of the approximate optimum"
    return {"performance": "performance (sum of quality)", "cost": "cost, USD"}.get(measure, measure)


def _bars(axes: Any, rows: Sequence[Row], axis: str, measure: str) -> None:
    """A point and its interval a policy; what lies far beyond the others is written at the edge."""
    lines = summary(rows)[::-1]
    place = np.arange(len(lines))
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
            f"{value[at]:.4g} \u2192", (1.0, at), xycoords=("axes fraction", "data"), ha="right", va="center",
            fontsize=8, color=_COLOURS[1],
        )  # fmt: skip
    axes.set_yticks(place, [_wrapped(line["policy"]) for line in lines], fontsize=7)
    axes.set_ylim(-0.6, len(lines) - 0.4)
    axes.set_xlabel(label(measure))
    if measure == "relative":
        axes.axvline(100, color="black", linewidth=0.8, linestyle=":")


def _wrapped(policy: str, width: int = 40) -> str:
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
    lines = summary(rows)
    names = list(dict.fromkeys(_family(line["policy"]) for line in lines))
    for number, name in enumerate(names):
        own = [line for line in lines if _family(line["policy"]) == name]
        x = np.array([float(line["x"]) for line in own])
        y = np.array([line[measure] for line in own])
        half = np.nan_to_num(np.array([line[f"{measure}_half"] for line in own]))
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(x, y, marker=_MARKERS[number % len(_MARKERS)], markersize=4, color=colour, label=name)
        axes.fill_between(x, y - half, y + half, color=colour, alpha=0.15, linewidth=0)
    if len({float(line["x"]) for line in lines}) > 1:
        values = sorted(float(line["x"]) for line in lines)
        if values[0] > 0 and values[-1] / values[0] >= 20:
            axes.set_xscale("log")
    axes.set_xlabel(axis)
    axes.set_ylabel(label(measure))
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _spread(axes: Any, rows: Sequence[Row], axis: str, measure: str) -> None:
    names = list(dict.fromkeys(row["policy"] for row in rows))
    values = [[row[measure] for row in rows if row["policy"] == name] for name in names]
    axes.boxplot(
        values,
        orientation="horizontal",
        tick_labels=[_wrapped(name) for name in names],
        whis=(0, 100),
        widths=0.6,
    )
    rest = [row for row in rows if str(row["x"]) == "task"]
    for row in rest:
        axes.plot(row[measure], names.index(row["policy"]) + 1, "D", color=_COLOURS[1], markersize=5)
    if rest:
        axes.plot([], [], "D", color=_COLOURS[1], label="sorted by task")
        axes.legend(fontsize=7, frameon=False)
    axes.invert_yaxis()
    axes.set_xlabel(f"{label(measure)} over all values of {axis}")


def _family(policy: str) -> str:
    """A policy's name without the option that is varied along the axis."""
    varied = ("eps=", "alpha=", "k=")
    return ":".join(part for part in policy.split(":") if not part.startswith(varied))
