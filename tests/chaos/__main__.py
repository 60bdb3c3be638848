"""`python -m tests.chaos`: random faults on native brokers, and one JSON line about what they left behind.

A campaign is made of rounds, each a router of its own; what a round came to is kept in the folder, so that
`--resume` goes on with the next round of a campaign that was interrupted.
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
from infra.broker import native_cluster
from streams.logs import configure_logs
from tests.chaos.campaign import Result, add, one_round, say
from tests.end_to_end.data import make_small
from tests.end_to_end.workers import ROOT

KINDS = ("kill", "kill", "stop", "freeze", "broker", "broker", "kill_all", "broker_and_worker")
ROUNDS = "rounds.jsonl"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    top.add_argument("--faults", type=int, default=100)
    top.add_argument("--per-round", type=int, default=10, help="faults on one router [%(default)s]")
    top.add_argument("--brokers", type=int, choices=[1, 3], default=3)
    top.add_argument("--workers", type=int, default=2)
    top.add_argument("--partitions", type=int, default=4)
    top.add_argument("--rate", type=float, default=200.0, help="queries a second [%(default)s]")
    top.add_argument("--seed", type=int, default=0)
    top.add_argument("--seconds", type=float, default=float("inf"), help="begin no other round after so many")
    top.add_argument("--kinds", default=",".join(KINDS), help="faults to choose from [%(default)s]")
    top.add_argument("--json", type=Path, metavar="FILE", help="write the line there too")
    top.add_argument("--folder", type=Path, default=ROOT / "build" / "chaos", help="for logs [%(default)s]")
    top.add_argument("--resume", action="store_true", help="go on with the campaign in the folder")
    return top


def main() -> int:
    """Run it; 1 when anything is broken, or a phase was hardly met."""
    given = parser().parse_args()
    configure_logs("error", "console")
    total = read_rounds(given.folder) if given.resume else Result()
    if not given.resume:
        shutil.rmtree(given.folder, ignore_errors=True)
        given.folder.mkdir(parents=True)
    if total.faults < given.faults:
        campaign(given, total)
    # what was not asked for by the line's readers is told to people
    for text in total.broken:
        say(text)
    say(orjson.dumps(total.details()).decode())
    # each of the five is met in a fifth of the faults, but for warm-up: once a round
    seldom = total.seldom(total.faults // 20)
    if seldom:
        say(f"met too seldom to say anything of them: {', '.join(seldom)}")
    line = {**total.to_dict(), "command": "python -m tests.chaos " + " ".join(sys.argv[1:])}
    line["machine"] = describe()
    print(orjson.dumps(line).decode())
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_bytes(orjson.dumps(line, option=orjson.OPT_INDENT_2) + b"\n")
    return 0 if total.fine and not seldom else 1


def campaign(given: argparse.Namespace, total: Result) -> None:
    """Rounds until there are as many faults as wanted, or time is up."""
    data = given.folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    small = make_small(data, "open_llm_v2", 1000, 1500, factor=4.0, models=8)
    began = time.monotonic()
    with native_cluster(given.brokers) as cluster:
        while total.faults < given.faults and time.monotonic() - began < given.seconds:
            number = len(total.rounds) + 1
            folder = given.folder / f"round-{number}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with one_round(
                cluster, small, folder, random.Random(f"{given.seed}-{number}"),
                kinds=tuple(given.kinds.split(",")), workers=given.workers, rate=given.rate, say=say,
                partitions=given.partitions, horizon=2000, eps=0.2, resolve="geometric",
            ) as this:  # fmt: skip
                left = given.seconds - (time.monotonic() - began)
                result = this.run(min(given.per_round, given.faults - total.faults), left)
                this.router.delete_topics()
            with (given.folder / ROUNDS).open("ab") as file:
                file.write(orjson.dumps(result.details()) + b"\n")
            add(total, result)


def read_rounds(folder: Path) -> Result:
    """What the rounds in a folder came to together."""
    total = Result()
    path = folder / ROUNDS
    for line in path.read_bytes().splitlines() if path.exists() else []:
        add(total, Result.of(orjson.loads(line)))
    return total


if __name__ == "__main__":
    raise SystemExit(main())
