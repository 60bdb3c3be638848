"""`python -m producers.batch`: a file of requests in OpenAI's Batch format, routed and answered."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from tqdm import tqdm

from producers.batch_answers import AnswersFile, Collector, Tally
from producers.batch_requests import Batch, look_through
from producers.batch_sending import Sender
from routing.arguments import positive
from streams.command_line import add_env_file, take_env_file, told_in_a_line
from streams.kafka import reach_broker
from streams.logs import configure_logs
from streams.settings import Settings


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = argparse.ArgumentParser(prog="python -m producers.batch", description=__doc__)
    parser.add_argument("requests", type=Path, metavar="FILE", help="one request a line, as JSON")
    parser.add_argument(
        "--answers",
        type=Path,
        required=True,
        metavar="FILE",
        help="where the answers go, in the order they come",
    )
    parser.add_argument(
        "--run", default="", metavar="NAME", help="to ask the same file anew, and pay for it: a new name"
    )
    parser.add_argument(
        "--patience",
        type=positive,
        metavar="S",
        help="stop when nothing came for S seconds, to go on later; default: wait for ever",
    )
    parser.add_argument("--no-wait", action="store_true", help="only send; run again to fetch the answers")
    parser.add_argument("--check", action="store_true", help="only look through the file")
    add_env_file(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; 0 when every request has its line, 1 when not, 130 when interrupted."""
    command = parser()
    given = command.parse_args(arguments)
    take_env_file(command, given)
    status = told_in_a_line(lambda: run(given))
    if status == 130:
        print("interrupted; the same command goes on from here", file=sys.stderr)
    return status


def run(given: argparse.Namespace) -> int:
    """Looks the file through, sends what is not sent, and writes what comes.

    Raises
    ------
    ValueError
        What is wrong with the files, or that the broker went away.
    """
    batch = look_through(given.requests, given.run)
    if given.check:
        print(f"{given.requests}: {batch.count} requests, all fine")
        return 0
    settings = Settings()
    configure_logs("warning", settings.log_format)
    file = AnswersFile(given.answers, batch)
    if len(file.done) == batch.count:
        file.close(complete=True)
        print(f"{given.answers}: all {batch.count} requests have their line already")
        return 0
    try:
        collector = _send(settings, batch, file, given)
        if not given.no_wait:
            _collect(collector, batch, given)
    except KafkaException as error:
        reason = error.args[0].str()
        raise ValueError(
            f"bootstrap_servers: the broker failed ({reason}); the same command goes on from here"
        ) from None
    finally:
        file.close(complete=len(file.done) >= batch.count)
    print(told(batch, collector.tally, given.answers))
    return 0 if collector.complete or given.no_wait else 1


def _send(settings: Settings, batch: Batch, file: AnswersFile, given: argparse.Namespace) -> Collector:
    """Sends what is not sent; the collector knows where its answers may begin."""
    sender = Sender(settings, batch, reach_broker(settings))
    try:
        with tqdm(total=batch.count, initial=sender.note.sent, desc="sent", unit="request",
                  disable=given.quiet) as bar:  # fmt: skip
            sender.run(lambda sent: _advance(bar, sent))
    finally:
        sender.close()
    return Collector(settings, batch, file, sender.note.since)


def _collect(collector: Collector, batch: Batch, given: argparse.Namespace) -> None:
    done, heard = len(collector.tally.done), time.monotonic()
    with tqdm(total=batch.count, initial=done, desc="answered", unit="request", disable=given.quiet) as bar:

        def tick(tally: Tally) -> bool:
            nonlocal done, heard
            if len(tally.done) > done:
                done, heard = len(tally.done), time.monotonic()
                errors = tally.kinds.total() - tally.kinds["answered"]
                bar.set_postfix_str(f"{errors} errors, {tally.usd:.6f} USD", refresh=False)
                _advance(bar, done)
            return given.patience is None or time.monotonic() - heard < given.patience

        collector.run(tick)


def _advance(bar: Any, count: int) -> None:
    bar.update(count - bar.n)


def told(batch: Batch, tally: Tally, path: Path) -> str:
    """What came of it, for people."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in tally.kinds.most_common()) or "nothing new"
    left = batch.count - len(tally.done)
    rest = f"; {left} are not answered yet, the same command goes on" if left else ""
    return (
        f"{path}: {len(tally.done)} of {batch.count} requests; in this run {kinds}, {tally.usd:.6f} USD{rest}"
    )


if __name__ == "__main__":
    sys.exit(main())
