"""Tables of results: means and confidence intervals over seeds, cost always beside performance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from experiments.runs.results import Row

Cells = list[str]

MIN_SEEDS_FOR_INTERVAL = 3
"""Two values give an interval of thirteen standard errors, too wide to be of use."""

MEASURES = (
    "performance",
    "cost",
    "throughput",
    "relative",
    "efficiency",
    "seconds",
    "budget_factor",
)

_CONSOLE_WIDTH = 140


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return the mean and half the width of Student's confidence interval (nan below three values).

    Examples
    --------
    >>> mean, half = interval([1.0, 2.0, 3.0])
    >>> round(mean, 3), round(half, 3)
    (2.0, 2.484)
    """
    numbers = np.asarray(values, float)
    if len(numbers) < MIN_SEEDS_FOR_INTERVAL:
        return float(numbers.mean()), math.nan
    half = student.ppf(0.5 + level / 2, len(numbers) - 1) * numbers.std(ddof=1) / math.sqrt(len(numbers))
    return float(numbers.mean()), float(half)


def grouped(rows: Sequence[Row]) -> dict[tuple[Any, str], list[Row]]:
    """Group rows by point of the axis and policy, in order of appearance."""
    groups: dict[tuple[Any, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["x"], row["policy"]), []).append(row)
    return groups


def summary(rows: Sequence[Row]) -> list[Row]:
    """Return one row for each point and policy: means, half intervals, number of seeds."""
    lines = []
    for (x, policy), group in grouped(rows).items():
        line: Row = {"x": x, "policy": policy, "runs": len(group)}
        for name in MEASURES:
            values = [row[name] for row in group if row.get(name) is not None]
            mean, half = interval(values) if values else (math.nan, math.nan)
            line[name], line[f"{name}_half"] = mean, half
        line["reached"] = sum(bool(row.get("reached", True)) for row in group)
        lines.append(line)
    return lines


def laid_out(
    rows: Sequence[Row], axis: str | None = None, kind: str = "bars", *, wide: bool = False
) -> tuple[list[str], list[Cells]]:
    """Return the head and the cells of a study's table; the axis is a column only if it varies.

    Parameters
    ----------
    axis : str, optional
        Name of the varied quantity.
    kind : {"bars", "lines", "spread"}
        Plot of the study. For "spread" the table has one line for each policy and kind of point.
    wide : bool
        Include quality per USD and seconds.
    """
    if kind == "spread":
        return _spread(rows)
    lines = summary(rows)
    varied = len({str(line["x"]) for line in lines}) > 1
    tuned = any("budget_factor" in row for row in rows)
    head = ([axis or "x"] if varied else []) + ["policy", "performance", "cost, USD"]
    head += ["budget factor", "spend reached"] if tuned else []
    head += ["served", "relative, %"]
    head += ["quality per USD", "seconds"] if wide else []
    cells = []
    for line in lines:
        cells_of_line = [str(line["x"])] if varied else []
        cells_of_line += [
            line["policy"],
            plus_minus(line, "performance", ".1f"),
            plus_minus(line, "cost", ".4g"),
        ]
        if tuned:
            cells_of_line += [
                plus_minus(line, "budget_factor", ".3g"),
                f"{line['reached']} of {line['runs']}",
            ]
        cells_of_line += [f"{line['throughput']:.0f}", plus_minus(line, "relative", ".1f")]
        cells_of_line += [f"{line['efficiency']:.4g}", f"{line['seconds']:.1f}"] if wide else []
        cells.append(cells_of_line)
    return head, cells


def _spread(rows: Sequence[Row]) -> tuple[list[str], list[Cells]]:
    """Return minimum, median and maximum over the points of one kind, such as all random orders."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((kind_of_point(row["x"]), row["policy"]), []).append(row)
    head = ["points", "policy", "runs"]
    head += [
        f"{measure}: {statistic}"
        for measure in ("relative, %", "cost, USD")
        for statistic in ("minimum", "median", "maximum")
    ]
    cells = []
    for (kind, policy), group in groups.items():
        line = [kind, policy, str(len(group))]
        for name, form in (("relative", ".1f"), ("cost", ".4g")):
            values = np.array([row[name] for row in group if row.get(name) is not None] or [math.nan], float)
            line += [format(float(value), form) for value in (values.min(), np.median(values), values.max())]
        cells.append(line)
    return head, cells


def kind_of_point(x: Any) -> str:
    """Return the common name of points that differ only by a number.

    Examples
    --------
    >>> [kind_of_point(x) for x in ("7", "task", "random12", "uniform")]
    ['random orders', 'sorted by task', 'random', 'uniform']
    """
    name = str(x).rstrip("0123456789")
    return {"": "random orders", "task": "sorted by task"}.get(name, name)


def print_table(rows: Sequence[Row], title: str, axis: str | None = None, kind: str = "bars") -> None:
    """Print a study's table on the terminal."""
    head, cells = laid_out(rows, axis, kind, wide=True)
    print_cells(head, cells, title, left_columns=head.index("policy") + 1)


def print_cells(head: Sequence[str], cells: Sequence[Cells], title: str, left_columns: int = 0) -> None:
    """Print a table on the terminal; the first `left_columns` columns are aligned to the left."""
    table = Table(title=title)
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number < left_columns else "right")
    for line in cells:
        table.add_row(*line)
    Console(width=_CONSOLE_WIDTH).print(table)


def plus_minus(line: Row, name: str, form: str) -> str:
    """Format a mean, with its half interval if there are enough seeds for one."""
    half = line[f"{name}_half"]
    text = format(line[name], form)
    return text if math.isnan(half) else f"{text} ± {format(half, form)}"


def markdown(rows: Sequence[Row], axis: str | None = None, kind: str = "bars") -> str:
    """Return a study's table in Markdown."""
    return markdown_cells(*laid_out(rows, axis, kind))


def markdown_cells(head: Sequence[str], cells: Sequence[Cells]) -> str:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(line) + " |" for line in cells)])
