"""What sharing budgets over partitions costs: rights in escrow and the overflow lane, against one lane."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from experiments.policies.port import Port
from experiments.registry import Context, make_policy
from experiments.results import write_rows
from experiments.running import Laboratory, Setting
from experiments.split import Case
from routing.planning import PlanningSettings
from routing.simulate import account_for, simulate

SUMMARY = "loss of performance with 4, 16, 64 partitions against one, and what goes through the overflow lane"
POLICY = "port:k=50:weights=similarity:cost=per-length:warmup=history:resolve=every:solver=newton"
TRAFFIC = ("even", "skewed", "changing")
SKEW = 10.0
"""Queries on the first partition for one on the last, where traffic is skewed."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One simulated stream.

    Parameters
    ----------
    queries : int
        N.
    repeated : bool
        The test set's rows come over and over, in another order each time, until there are N of them.
    partitions : int
    traffic : {"even", "skewed", "changing"}
        Over partitions: alike; from 10 to 1; or that, turned round in the middle.
    look : int
        Queries between two looks of the planner at the ledgers.
    lag : int
        Queries after which the overflow lane decides.
    seed : int
        Of the split and the partitions.
    """

    queries: int
    repeated: bool
    partitions: int
    traffic: str
    look: int
    lag: int
    seed: int


def lanes_of(point: Point) -> NDArray[np.int64] | None:
    """The partition of each query; None for one partition.

    Examples
    --------
    >>> lanes_of(Point(6, False, 2, "even", 200, 50, 0)).tolist()
    [1, 1, 0, 1, 0, 0]
    """
    if point.partitions == 1:
        return None
    random = np.random.default_rng(100 + point.seed)
    if point.traffic == "even":
        return random.integers(point.partitions, size=point.queries)
    weights = np.linspace(SKEW, 1.0, point.partitions)
    first = random.choice(point.partitions, point.queries, p=weights / weights.sum())
    if point.traffic == "changing":
        first[point.queries // 2 :] = point.partitions - 1 - first[point.queries // 2 :]
    return first


def repeated(case: Case, queries: int) -> Case:
    """The case's queries over and over, each time in another order, with budgets for all of them."""
    rounds = -(-queries // len(case))
    rows = [np.random.default_rng(number).permutation(case.rows) for number in range(rounds)]
    budgets = case.budgets * (queries / len(case))
    return replace(case, rows=np.concatenate(rows)[:queries], budgets=budgets, horizon=queries)


def run_point(case: Case, policy: Port, point: Point) -> Row:
    """Route a case over the point's partitions; outcomes come before the next decision."""
    result = simulate(
        case.estimates(policy.source),
        case.budgets,
        PlanningSettings(horizon=case.horizon, **policy.planning),  # type: ignore[arg-type]
        models=case.models,
        history=case.own(policy.source),
        true_cost=case.cost,
        settle_after=0,
        lanes=lanes_of(point),
        overflow_after=point.lag,
        tick=point.look,
        seed=case.seed,
    )
    outcome = account_for(result.choice, case.quality, case.cost, case.budgets)
    return {
        **asdict(point),
        "performance": outcome.performance,
        "cost": outcome.cost,
        "throughput": outcome.throughput,
        "spent": outcome.cost / float(case.budgets.sum()),
        "through_overflow": result.overflowed / point.queries,
    }


def add_options(one: argparse.ArgumentParser) -> None:
    """What the sub-command can be told beside the data."""
    one.add_argument("--queries", type=_numbers, default=[4000, 8000], metavar="N,N", help="test sets")
    one.add_argument("--policy", default=POLICY, help="one of the port policies [%(default)s]")
    one.add_argument("--partitions", type=_numbers, default=[4, 16, 64], metavar="P,P", help="[4,16,64]")
    one.add_argument("--traffic", type=_names, default=list(TRAFFIC), metavar="A,B", help=",".join(TRAFFIC))
    one.add_argument(
        "--looks", type=_numbers, default=[200], metavar="Q,Q",
        help="queries between two looks of the planner [200]",
    )  # fmt: skip
    one.add_argument(
        "--lag", type=int, default=50, help="queries until the overflow lane decides [%(default)s]"
    )
    one.add_argument("--repeated", type=int, metavar="N", help="also the last test set repeated to N queries")
    one.add_argument(
        "--repeated-partitions", type=_numbers, default=[16], metavar="P,P", help="for those [16]"
    )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in TRAFFIC]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(TRAFFIC)}")
    return names


def points(given: argparse.Namespace, seed: int) -> Iterator[Point]:
    """All that is asked for, one partition first in each group."""
    sizes = [(queries, False) for queries in given.queries]
    sizes += [(given.repeated, True)] if given.repeated else []
    for queries, again in sizes:
        looks = given.looks if not again else given.looks[:1]
        yield Point(queries, again, 1, "even", looks[0], given.lag, seed)
        for look in looks:
            for partitions in given.partitions if not again else given.repeated_partitions:
                for traffic in given.traffic:
                    yield Point(queries, again, partitions, traffic, look, given.lag, seed)


def run(
    given: argparse.Namespace, laboratory: Laboratory, config: dict[str, Any], seeds: Sequence[int]
) -> list[Row]:
    """Every point on every seed; each row has its loss against one partition, in per cent."""
    rows: list[Row] = []
    for seed in seeds:
        one = 0.0
        asked = list(points(given, seed))
        for point in tqdm(asked, desc=f"partitions, seed {seed}", unit="run", disable=None):
            size = given.queries[-1] if point.repeated else point.queries
            setting = Setting(x=size, queries=size, policies=())
            case = laboratory.case(setting, seed)
            policy = make_policy(given.policy, Context(len(laboratory.split(setting, seed).past)))
            if not isinstance(policy, Port):
                raise ValueError(f"policy: {given.policy!r} has no planner; give one of the port policies")
            row = run_point(repeated(case, point.queries) if point.repeated else case, policy, point)
            one = row["performance"] if point.partitions == 1 else one
            rows.append({**row, "loss": 100 * (1 - row["performance"] / one)})
            write_rows(given.json, config, rows)
    return rows


def summarised(rows: list[Row]) -> list[Row]:
    """Means over seeds, and the worst seed's loss, for each group of points that differ by seed alone."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["partitions"] > 1:
            key = tuple(row[name] for name in ("queries", "look", "partitions", "traffic"))
            groups.setdefault(key, []).append(row)
    return [
        {
            "queries": key[0],
            "look": key[1],
            "partitions": key[2],
            "traffic": key[3],
            "runs": len(found),
            "loss": float(np.mean([row["loss"] for row in found])),
            "worst": float(np.max([row["loss"] for row in found])),
            "through_overflow": float(np.mean([row["through_overflow"] for row in found])),
            "spent": float(np.mean([row["spent"] for row in found])),
        }
        for key, found in groups.items()
    ]


HEAD = (
    "N",
    "look every",
    "partitions",
    "traffic",
    "loss, %",
    "worst seed, %",
    "through overflow, %",
    "spent, %",
)


def _cells(line: Row) -> list[str]:
    return [
        f"{line['queries']:,}",
        str(line["look"]),
        str(line["partitions"]),
        line["traffic"],
        f"{line['loss']:+.2f}",
        f"{line['worst']:+.2f}",
        f"{100 * line['through_overflow']:.1f}",
        f"{100 * line['spent']:.1f}",
    ]


def print_rows(rows: list[Row], title: str) -> None:
    """Print the table."""
    table = Table(title=title)
    for name in HEAD:
        table.add_column(name, justify="right")
    for line in summarised(rows):
        table.add_row(*_cells(line))
    Console(width=140).print(table)


def markdown(rows: list[Row]) -> str:
    """The same table for a document."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(_cells(line)) + " |" for line in summarised(rows)]
    return "\n".join(lines)
