"""The loss from sharing budgets over partitions, with grants and the overflow lane, against one lane."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.cases import Case
from experiments.policies.port import Port
from experiments.policies.registry import Context, make_policy
from experiments.reports.tables import Cells, markdown_cells, print_cells
from experiments.runs.results import Row, write_rows
from experiments.runs.runner import ExperimentData, ExperimentPoint
from routing.budgets.splits import SHARED
from routing.planning.schedule import PlanningSettings
from routing.progress import tracked
from routing.simulation import simulate

SUMMARY = "loss of performance with 4, 16, 64 partitions against one, and share of the overflow lane"
POLICY = "port:k=50:weights=similarity:cost=per-length:warmup=history:resolve=every:solver=newton"
TRAFFIC = ("even", "skewed", "changing")
SKEW_RATIO = 10.0
"""Queries on the first partition for each query on the last, in skewed traffic."""


@dataclass(frozen=True)
class StreamPoint:
    """One simulated stream.

    Parameters
    ----------
    queries : int
        N.
    repeated : bool
        The test set is repeated, each time in another order, until there are N queries.
    partitions : int
    traffic : {"even", "skewed", "changing"}
        Distribution over partitions: equal; falling from 10 to 1; or falling, and reversed halfway.
    look : int
        Queries between two times the planner reads the ledgers.
    lag : int
        Queries after which the overflow lane decides.
    seed : int
        Seed of the split and of the partitions.
    budgets : {"split", "shared", "groups"}
        A budget per LLM, one total, or one budget per group. All queries of a group come on one partition.
    """

    queries: int
    repeated: bool
    partitions: int
    traffic: str
    look: int
    lag: int
    seed: int
    budgets: str = "split"


BUDGETS = ("split", "shared", "groups")
GROUPED_BY = "team"


def lanes_of(point: StreamPoint, groups: Sequence[str] | None = None) -> NDArray[np.int64] | None:
    """Return the partition of each query, or None for one partition; a group keeps to its partition.

    Examples
    --------
    >>> lanes_of(StreamPoint(6, False, 2, "even", 200, 50, 0)).tolist()
    [1, 1, 0, 1, 0, 0]
    """
    if point.partitions == 1:
        return None
    if groups is not None:
        names = sorted(set(groups))
        drawn = np.random.default_rng(100 + point.seed).integers(point.partitions, size=len(names))
        lane_of = dict(zip(names, drawn.tolist(), strict=True))
        return np.array([lane_of[name] for name in groups], dtype=np.int64)
    random = np.random.default_rng(100 + point.seed)
    if point.traffic == "even":
        return random.integers(point.partitions, size=point.queries)
    weights = np.linspace(SKEW_RATIO, 1.0, point.partitions)
    lanes = random.choice(point.partitions, point.queries, p=weights / weights.sum())
    if point.traffic == "changing":
        lanes[point.queries // 2 :] = point.partitions - 1 - lanes[point.queries // 2 :]
    return lanes


def repeated(case: Case, queries: int) -> Case:
    """Repeat a case's queries up to a number, in another order each time, and scale its budgets."""
    rounds = -(-queries // len(case))
    orders = [np.random.default_rng(number).permutation(len(case)) for number in range(rounds)]
    order, scale = np.concatenate(orders)[:queries], queries / len(case)
    shared = tuple(
        replace(
            budget,
            limit=None if budget.limit is None else budget.limit * scale,
            limits={value: limit * scale for value, limit in budget.limits.items()},
        )
        for budget in case.shared
    )
    return replace(
        case,
        rows=case.rows[order],
        budgets=case.budgets * scale,
        horizon=queries,
        shared=shared,
        terms=case.terms.rows(order),
    )


def run_point(case: Case, policy: Port, point: StreamPoint) -> Row:
    """Route a case over the point's partitions; outcomes arrive before the next decision."""
    groups = case.terms.values.get(f"metadata.{GROUPED_BY}")
    result = simulate(
        case.estimates(policy.source),
        case.shared or case.budgets,
        PlanningSettings(horizon=case.horizon, **policy.planning),  # type: ignore[arg-type]
        models=case.models,
        history=case.leave_one_out(policy.source),
        true_cost=case.cost,
        settle_after=0,
        lanes=lanes_of(point, groups),
        terms=case.terms,
        overflow_after=point.lag,
        tick=point.look,
        seed=case.seed,
    )
    outcome = case.account(result.choice)
    return {
        **asdict(point),
        "performance": outcome.performance,
        "cost": outcome.cost,
        "throughput": outcome.throughput,
        "spent": outcome.cost / float(case.budgets.sum()),
        "through_overflow": result.overflowed / point.queries,
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the sub-command, except those that name the data."""
    parser.add_argument(
        "--queries", type=_numbers, default=[4000, 8000], metavar="N,N", help="lengths of the test sets"
    )
    parser.add_argument("--policy", default=POLICY, help="one of the port policies [%(default)s]")
    parser.add_argument("--partitions", type=_numbers, default=[4, 16, 64], metavar="P,P", help="[4,16,64]")
    parser.add_argument(
        "--traffic", type=_names, default=list(TRAFFIC), metavar="A,B", help=",".join(TRAFFIC)
    )
    parser.add_argument(
        "--budgets",
        type=_budgets,
        default=["split"],
        metavar="A,B",
        help=f"{','.join(BUDGETS)}; groups come keyed [split]",
    )
    parser.add_argument("--groups", type=int, default=100, help="number of groups [%(default)s]")
    parser.add_argument(
        "--looks",
        type=_numbers,
        default=[200],
        metavar="Q,Q",
        help="queries between two updates of the planner [200]",
    )
    parser.add_argument(
        "--lag", type=int, default=50, help="queries until the overflow lane decides [%(default)s]"
    )
    parser.add_argument(
        "--repeated", type=int, metavar="N", help="also repeat the last test set up to N queries"
    )
    parser.add_argument(
        "--repeated-partitions",
        type=_numbers,
        default=[16],
        metavar="P,P",
        help="partitions for the repeated set [16]",
    )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _budgets(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in BUDGETS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(BUDGETS)}")
    return names


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in TRAFFIC]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(TRAFFIC)}")
    return names


def points(options: argparse.Namespace, seed: int) -> Iterator[StreamPoint]:
    """Yield the requested points, one partition first in each group."""
    sizes = [(queries, False) for queries in options.queries]
    sizes += [(options.repeated, True)] if options.repeated else []
    combinations = [(size, kind) for kind in options.budgets for size in sizes]
    for (queries, is_repeated), kind in combinations:
        looks = options.looks if not is_repeated else options.looks[:1]
        first = StreamPoint(queries, is_repeated, 1, "even", looks[0], options.lag, seed, kind)
        yield first
        for look in looks:
            for partitions in options.partitions if not is_repeated else options.repeated_partitions:
                for traffic in options.traffic if kind != "groups" else ["even"]:
                    yield replace(first, partitions=partitions, traffic=traffic, look=look)


def run(
    options: argparse.Namespace, experiment: ExperimentData, config: dict[str, Any], seeds: Sequence[int]
) -> list[Row]:
    """Run every point on every seed; each row has its loss against one partition, in per cent."""
    rows: list[Row] = []
    for seed in seeds:
        one_partition = 0.0
        for point in tracked(list(points(options, seed)), f"partitions, seed {seed}", "runs"):
            size = options.queries[-1] if point.repeated else point.queries
            test_set = ExperimentPoint(x=size, queries=size, policies=())
            if point.budgets != "split":
                test_set = replace(test_set, how=SHARED)
            if point.budgets == "groups":
                equal = ",".join(["1"] * options.groups)
                test_set = replace(test_set, group_by=GROUPED_BY, groups=equal)
            case = experiment.case(test_set, seed)
            policy = make_policy(options.policy, Context(len(experiment.split(test_set, seed).past)))
            if not isinstance(policy, Port):
                raise ValueError(f"policy: {options.policy!r} has no planner; give one of the port policies")
            row = run_point(repeated(case, point.queries) if point.repeated else case, policy, point)
            one_partition = row["performance"] if point.partitions == 1 else one_partition
            rows.append({**row, "loss": 100 * (1 - row["performance"] / one_partition)})
            write_rows(options.json, config, rows)
    return rows


def summarised(rows: list[Row]) -> list[Row]:
    """Return, for points that differ only by seed, the means and the loss of the worst seed."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["partitions"] > 1:
            key = tuple(row[name] for name in ("queries", "look", "partitions", "traffic"))
            key += (row.get("budgets", "split"),)
            groups.setdefault(key, []).append(row)
    return [
        {
            "queries": key[0],
            "look": key[1],
            "partitions": key[2],
            "traffic": key[3],
            "budgets": key[4],
            "runs": len(group),
            "loss": float(np.mean([row["loss"] for row in group])),
            "worst": float(np.max([row["loss"] for row in group])),
            "through_overflow": float(np.mean([row["through_overflow"] for row in group])),
            "spent": float(np.mean([row["spent"] for row in group])),
        }
        for key, group in groups.items()
    ]


HEAD = (
    "N",
    "budgets",
    "look every",
    "partitions",
    "traffic",
    "loss, %",
    "worst seed, %",
    "through overflow, %",
    "spent, %",
)


def _cells(line: Row) -> Cells:
    return [
        f"{line['queries']:,}",
        line["budgets"],
        str(line["look"]),
        str(line["partitions"]),
        line["traffic"],
        f"{line['loss']:+.2f}",
        f"{line['worst']:+.2f}",
        f"{100 * line['through_overflow']:.1f}",
        f"{100 * line['spent']:.1f}",
    ]


def print_rows(rows: list[Row], title: str) -> None:
    """Print the table on the terminal."""
    print_cells(HEAD, [_cells(line) for line in summarised(rows)], title)


def markdown(rows: list[Row]) -> str:
    """Return the table in Markdown."""
    return markdown_cells(HEAD, [_cells(line) for line in summarised(rows)])
