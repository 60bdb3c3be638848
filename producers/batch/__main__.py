"""`python -m producers.batch`: route and answer a file of requests in OpenAI's Batch format."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from confluent_kafka import KafkaException

from producers.batch.answers import AnswerCollector, AnswersFile, Tally
from producers.batch.requests import Batch, validate_file
from producers.batch.sender import BatchSender
from routing.arguments import duration, positive_float
from routing.progress import Progress
from streams.commands.program import add_env_file, apply_env_file, program_name, run_command
from streams.config.log_setup import configure_logs
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog=program_name("producers.batch"), description=__doc__)
    parser.add_argument(
        "requests", type=Path, metavar="FILE", help="one JSON request per line; -: standard input"
    )
    parser.add_argument(
        "--answers",
        type=Path,
        required=True,
        metavar="FILE",
        help="file for the answers, in the order they arrive",
    )
    parser.add_argument(
        "--run", default="", metavar="NAME", help="a new name sends the same file again, at new cost"
    )
    parser.add_argument(
        "--patience",
        type=positive_float,
        metavar="S",
        help="stop after S seconds without an answer; run again to continue [no limit]",
    )
    parser.add_argument(
        "--completion-window",
        type=duration,
        metavar="T",
        help="time from the first run until the requests expire unanswered, such as 24h or 90m [no limit]",
    )
    parser.add_argument("--no-wait", action="store_true", help="only send; run again to fetch the answers")
    parser.add_argument("--check", action="store_true", help="only validate the file")
    add_env_file(parser)
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0 if every request has its line, 1 if not, 130 if interrupted."""
    command = parser()
    options = command.parse_args(arguments)
    apply_env_file(command, options)
    status = run_command(lambda: run(options))
    if status == 130:
        print("interrupted; run the same command to continue", file=sys.stderr)
    return status


def run(options: argparse.Namespace) -> int:
    """Validate the file, send the requests not sent yet, and write the answers.

    Raises
    ------
    ValueError
        A file is invalid, or the broker failed.
    """
    batch = validate_file(options.requests, options.run)
    if options.check:
        print(f"{options.requests}: {batch.count} requests, all valid")
        return 0
    settings = Settings()
    configure_logs("warning", settings.log_format)
    file = AnswersFile(options.answers, batch)
    if len(file.done) == batch.count:
        file.close(complete=True)
        print(f"{options.answers}: all {batch.count} requests have their line already")
        return 0
    try:
        collector = _send(settings, batch, file, options)
        if not options.no_wait:
            _collect(collector, batch, options)
    except KafkaException as error:
        reason = error.args[0].str()
        raise ValueError(
            f"bootstrap_servers: the broker failed ({reason}); run the same command to continue"
        ) from None
    finally:
        file.close(complete=len(file.done) >= batch.count)
    print(summarise(batch, collector.tally, options.answers))
    return 0 if collector.complete or options.no_wait else 1


def _send(
    settings: Settings, batch: Batch, file: AnswersFile, options: argparse.Namespace
) -> AnswerCollector:
    """Send the requests not sent yet; return a collector that reads from where answers can begin."""
    sender = BatchSender(settings, batch, reach_broker(settings), options.completion_window)
    try:
        sent = sender.progress.sent
        with Progress(batch.count, "sent", "requests", initial=sent, quiet=options.quiet) as progress:
            sender.run(progress.move_to)
    finally:
        sender.close()
    return AnswerCollector(settings, batch, file, sender.progress.since)


def _collect(collector: AnswerCollector, batch: Batch, options: argparse.Namespace) -> None:
    done, progressed_at = len(collector.tally.done), time.monotonic()
    with Progress(batch.count, "answered", "requests", initial=done, quiet=options.quiet) as progress:

        def tick(tally: Tally) -> bool:
            nonlocal done, progressed_at
            if len(tally.done) > done:
                done, progressed_at = len(tally.done), time.monotonic()
                errors = tally.kinds.total() - tally.kinds["answered"]
                progress.move_to(done, f"{errors} errors, {tally.usd:.6f} USD")
            return options.patience is None or time.monotonic() - progressed_at < options.patience

        collector.run(tick)


def summarise(batch: Batch, tally: Tally, path: Path) -> str:
    """Return a line with the result of this run."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in tally.kinds.most_common()) or "nothing new"
    unanswered = batch.count - len(tally.done)
    hint = f"; {unanswered} are not answered yet, run the same command to continue" if unanswered else ""
    return (
        f"{path}: {len(tally.done)} of {batch.count} requests; in this run {kinds}, {tally.usd:.6f} USD{hint}"
    )


if __name__ == "__main__":
    sys.exit(main())
