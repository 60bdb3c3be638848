"""Tables for people: means and confidence intervals over seeds, cost always beside performance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

Row = dict[str, Any]
Cells = list[str]


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean, and half the width of Student's confidence interval (nan for one value).

    Examples
    --------
    >>> mean, half = interval([1.0, 2.0, 3.0])
    >>> round(mean, 3), round(half, 3)
    (2.0, 2.484)
    """
    numbers = np.asarray(values, float)
    if len(numbers) < 2:
        return float(numbers.mean()), math.nan
    half = student.ppf(0.5 + level / 2, len(numbers) - 1) * numbers.std(ddof=1) / math.sqrt(len(numbers))
    return float(numbers.mean()), float(half)


def grouped(rows: Sequence[Row]) -> dict[tuple[Any, str], list[Row]]:
    """Rows by place on the axis and policy, in order of appearance."""
    out: dict[tuple[Any, str], list[Row]] = {}
    for row in rows:
        out.setdefault((row["x"], row["policy"]), []).append(row)
    return out


def summary(rows: Sequence[Row]) -> list[Row]:
    """One row for each point and policy: means, half intervals, number of seeds."""
    out = []
    for (x, policy), found in grouped(rows).items():
        line: Row = {"x": x, "policy": policy, "runs": len(found)}
        for name in MEASURES:
            values = [row[name] for row in found if row.get(name) is not None]
            mean, half = interval(values) if values else (math.nan, math.nan)
            line[name], line[f"{name}_half"] = mean, half
        line["reached"] = sum(bool(row.get("reached", True)) for row in found)
        out.append(line)
    return out


MEASURES = (
    "performance", "cost", "throughput", "relative", "efficiency", "seconds", "budget_factor",
)  # fmt: skip


def laid_out(
    rows: Sequence[Row], axis: str | None = None, kind: str = "bars", *, wide: bool = False
) -> tuple[list[str], list[Cells]]:
    """Head and cells of the table of a study; the axis is a column when it varies.

    Parameters
    ----------
    axis : str, optional
        What is varied.
    kind : {"bars", "lines", "spread"}
        As the study is drawn: a distribution over many points is one line a policy.
    wide : bool
        Quality per USD and seconds as well.
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
        own = [str(line["x"])] if varied else []
        own += [line["policy"], plus_minus(line, "performance", ".1f"), plus_minus(line, "cost", ".4g")]
        if tuned:
            own += [plus_minus(line, "budget_factor", ".3g"), f"{line['reached']} of {line['runs']}"]
        own += [f"{line['throughput']:.0f}", plus_minus(line, "relative", ".1f")]
        own += [f"{line['efficiency']:.4g}", f"{line['seconds']:.1f}"] if wide else []
        cells.append(own)
    return head, cells


def _spread(rows: Sequence[Row]) -> tuple[list[str], list[Cells]]:
    """Least, median and most over the points of a kind: random orders, draws of a random split."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((kind_of_point(row["x"]), row["policy"]), []).append(row)
    head = ["points", "policy", "runs"]
    head += [
        f"{what}: {which}" for what in ("relative, %", "cost, USD") for which in ("least", "median", "most")
    ]
    cells = []
    for (kind, policy), found in groups.items():
        own = [kind, policy, str(len(found))]
        for name, form in (("relative", ".1f"), ("cost", ".4g")):
            values = np.array([row[name] for row in found if row.get(name) is not None] or [math.nan], float)
            own += [format(float(v), form) for v in (values.min(), np.median(values), values.max())]
        cells.append(own)
    return head, cells


def kind_of_point(x: Any) -> str:
    """What points that differ by a number alone are called together.

    Examples
    --------
    >>> [kind_of_point(x) for x in ("7", "task", "random12", "uniform")]
    ['random orders', 'sorted by task', 'random', 'uniform']
    """
    name = str(x).rstrip("0123456789")
    return {"": "random orders", "task": "sorted by task"}.get(name, name)


def print_table(rows: Sequence[Row], title: str, axis: str | None = None, kind: str = "bars") -> None:
    """Print the table."""
    head, cells = laid_out(rows, axis, kind, wide=True)
    table = Table(title=title)
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number < head.index("policy") + 1 else "right")
    for line in cells:
        table.add_row(*line)
    Console(width=140).print(table)


def plus_minus(line: Row, name: str, form: str) -> str:
    """Mean and half interval, the latter only where there are several seeds."""
    half = line[f"{name}_half"]
    text = format(line[name], form)
    return text if math.isnan(half) else f"{text} ± {format(half, form)}"


def markdown(rows: Sequence[Row], axis: str | None = None, kind: str = "bars") -> str:
    """The same table for a document."""
    head, cells = laid_out(rows, axis, kind)
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*out, *("| " + " | ".join(line) + " |" for line in cells)])
