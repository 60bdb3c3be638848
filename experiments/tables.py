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
        for name in ("performance", "cost", "throughput", "relative", "efficiency", "seconds"):
            values = [row[name] for row in found if row.get(name) is not None]
            mean, half = interval(values) if values else (math.nan, math.nan)
            line[name], line[f"{name}_half"] = mean, half
        out.append(line)
    return out


def print_table(rows: Sequence[Row], title: str, axis: str | None = None) -> None:
    """Print the summary; the axis is a column when it varies."""
    table = Table(title=title)
    lines = summary(rows)
    varied = len({str(line["x"]) for line in lines}) > 1
    if varied:
        table.add_column(axis or "x")
    table.add_column("policy")
    for name in ("performance", "cost, USD", "served", "relative, %", "quality per USD", "seconds"):
        table.add_column(name, justify="right")
    for line in lines:
        cells = [str(line["x"])] if varied else []
        cells += [
            line["policy"],
            plus_minus(line, "performance", ".1f"),
            plus_minus(line, "cost", ".4g"),
            f"{line['throughput']:.0f}",
            plus_minus(line, "relative", ".1f"),
            f"{line['efficiency']:.4g}",
            f"{line['seconds']:.1f}",
        ]
        table.add_row(*cells)
    Console(width=140).print(table)


def plus_minus(line: Row, name: str, form: str) -> str:
    """Mean and half interval, the latter only where there are several seeds."""
    half = line[f"{name}_half"]
    text = format(line[name], form)
    return text if math.isnan(half) else f"{text} ± {format(half, form)}"


def markdown(rows: Sequence[Row], axis: str | None = None) -> str:
    """The same table for a document."""
    lines = summary(rows)
    varied = len({str(line["x"]) for line in lines}) > 1
    head = ([axis or "x"] if varied else []) + ["policy", "performance", "cost, USD", "served", "relative, %"]
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for line in lines:
        cells = ([str(line["x"])] if varied else []) + [
            line["policy"],
            plus_minus(line, "performance", ".1f"),
            plus_minus(line, "cost", ".4g"),
            f"{line['throughput']:.0f}",
            plus_minus(line, "relative", ".1f"),
        ]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)
