"""`python -m tests.chaos`: random faults on native brokers with budgets of all kinds, and one JSON line.

A campaign consists of rounds, each with a new router. The folder keeps the result of each round, so that
`--resume` continues an interrupted campaign with the next round.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from pathlib import Path

import orjson

from benchmarks.machine import describe
from infra.broker.native import native_cluster
from streams.config.log_setup import configure_logs
from tests.chaos.budgets import add_all_kinds
from tests.chaos.campaign import one_round, say
from tests.chaos.result import Result, add
from tests.end_to_end.small_dataset import make_small
from tests.end_to_end.worker_process import ROOT

IN_ROUND = ("kill_in_round", "freeze_in_round", "rebalance_in_round")
"""Faults between the offsets of a transaction and its commit."""

KINDS = (
    "kill",
    "kill",
    "stop",
    "freeze",
    "broker",
    "broker",
    "kill_all",
    "broker_and_worker",
    "server",
    "operator",
    *IN_ROUND,
)
ROUNDS_FILE = "rounds.jsonl"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    top.add_argument("--faults", type=int, default=100)
    top.add_argument("--per-round", type=int, default=10, help="faults on one router [%(default)s]")
    top.add_argument("--brokers", type=int, choices=[1, 3], default=3)
    top.add_argument("--workers", type=int, default=2)
    top.add_argument("--partitions", type=int, default=4)
    top.add_argument("--rate", type=float, default=200.0, help="queries a second [%(default)s]")
    top.add_argument("--seed", type=int, default=0)
    top.add_argument("--seconds", type=float, default=float("inf"), help="start no round after this time")
    top.add_argument("--kinds", default=",".join(KINDS), help="faults to choose from [%(default)s]")
    top.add_argument("--json", type=Path, metavar="FILE", help="also write the line to this file")
    top.add_argument(
        "--folder", type=Path, default=ROOT / "build" / "chaos", help="folder of logs [%(default)s]"
    )
    top.add_argument("--resume", action="store_true", help="continue the campaign in the folder")
    return top


def main() -> int:
    """Run the campaign; return 1 if an invariant is broken or a phase was rarely met."""
    options = parser().parse_args()
    configure_logs("error", "console")
    total = read_rounds(options.folder) if options.resume else Result()
    if not options.resume:
        shutil.rmtree(options.folder, ignore_errors=True)
        options.folder.mkdir(parents=True)
    if total.faults < options.faults:
        campaign(options, total)
    # Details go to standard error, the JSON line to standard output.
    for text in total.broken:
        say(text)
    say(orjson.dumps(total.details()).decode())
    # Each of the five phases is met by a fifth of the faults, except warm-up: once a round.
    rarely_met = total.phases_below(total.faults // 20)
    if rarely_met:
        say(f"met by too few faults: {', '.join(rarely_met)}")
    line = {**total.to_dict(), "command": "python -m tests.chaos " + " ".join(sys.argv[1:])}
    line["machine"] = describe()
    print(orjson.dumps(line).decode())
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_bytes(orjson.dumps(line, option=orjson.OPT_INDENT_2) + b"\n")
    return 0 if total.fine and not rarely_met else 1


def campaign(options: argparse.Namespace, total: Result) -> None:
    """Run rounds until the number of faults is reached or the time is up."""
    data = options.folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    small = make_small(data, "open_llm_v2", 1000, 1500, factor=4.0, models=8)
    add_all_kinds(small)
    started_at = time.monotonic()
    with native_cluster(options.brokers) as cluster:
        while total.faults < options.faults and time.monotonic() - started_at < options.seconds:
            number = len(total.rounds) + 1
            folder = options.folder / f"round-{number}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with one_round(
                cluster,
                small,
                folder,
                random.Random(f"{options.seed}-{number}"),
                kinds=tuple(options.kinds.split(",")),
                workers=options.workers,
                rate=options.rate,
                say=say,
                partitions=options.partitions,
                horizon=2000,
                eps=0.2,
                resolve="geometric",
            ) as current_round:
                remaining = options.seconds - (time.monotonic() - started_at)
                result = current_round.run(min(options.per_round, options.faults - total.faults), remaining)
                current_round.router.delete_topics()
            with (options.folder / ROUNDS_FILE).open("ab") as file:
                file.write(orjson.dumps(result.details()) + b"\n")
            add(total, result)


def read_rounds(folder: Path) -> Result:
    """Return the sum of the rounds in a folder."""
    total = Result()
    path = folder / ROUNDS_FILE
    for line in path.read_bytes().splitlines() if path.exists() else []:
        add(total, Result.of(orjson.loads(line)))
    return total


if __name__ == "__main__":
    raise SystemExit(main())
