"""Command line: `python -m infra.broker up|down|status`."""

import argparse
import os
import sys

from infra.broker.errors import BrokerError
from infra.broker.given import GIVEN, check_given, given, security
from infra.broker.kinds import KINDS, down, up
from infra.broker.ready import answering
from infra.broker.record import Record, load_all


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(
        prog="python -m infra.broker",
        description="Start, stop and find Kafka brokers on this machine.",
        epilog=f"Where {GIVEN} is set and no --kind is named, `up` checks that broker and starts none.",
    )
    commands = top.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help=f"start a broker, wait until it answers, print {GIVEN}=...")
    starting.add_argument(
        "--kind", choices=KINDS, help="native (default): Apache Kafka by Java; docker; embedded: memory only"
    )
    starting.add_argument("--brokers", type=int, choices=(1, 3), default=1, help="how many (3: native only)")
    stopping = commands.add_parser("down", help="stop a broker and delete its data")
    stopping.add_argument("--all", action="store_true", help="every broker started from this checkout")
    telling = commands.add_parser("status", help="list brokers; exit 1 when none answers")
    for command, default in ((starting, "default"), (stopping, "default"), (telling, None)):
        command.add_argument(
            "--name", default=default, help="tells several brokers apart (default: %(default)s)"
        )
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0; 1 when a broker could not be started or stopped, or `status` found none that answers.
    """
    options = parser().parse_args(arguments)
    try:
        if options.command == "up":
            return _up(options.name, options.kind, options.brokers)
        if options.command == "down":
            return _down([record.name for record in load_all()] if options.all else [options.name])
        return _status(options.name)
    except BrokerError as error:
        print(f"infra.broker: {error}", file=sys.stderr)
        return 1


def _up(name: str, kind: str | None, brokers: int) -> int:
    record = given(os.environ) if kind is None else None
    if record is not None:
        check_given(record, security(os.environ))
    else:
        record = up(name, kind or "native", brokers)
    # One line on standard output that a shell can export.
    print(f"{GIVEN}={record.bootstrap_servers}")
    return 0


def _down(names: list[str]) -> int:
    for name in names:
        stopped = down(name)
        print(f"{name}: {f'stopped ({stopped.kind})' if stopped else 'nothing to stop'}")
    return 0


def _status(name: str | None) -> int:
    records = [record for record in load_all() if name in (None, record.name)]
    outside = given(os.environ)
    if outside is not None and name is None:
        records.insert(0, outside)
    answered = 0
    for record in records:
        client = security(os.environ) if record is outside else None
        count = answering(record.bootstrap_servers, client=client)
        answered += count > 0
        print(f"{record.name:<12} {record.kind:<9} {record.bootstrap_servers:<48} {_state(record, count)}")
    if not records:
        print(
            f"no broker{f' named {name}' if name else ''} was started here; `up` starts one", file=sys.stderr
        )
    return 0 if answered else 1


def _state(record: Record, count: int) -> str:
    ended = sum(not process.alive for process in record.processes)
    if ended:
        return f"{ended} of {len(record.processes)} ended; `up` starts anew, `down` clears away"
    return f"{count} in service" if count else "does not answer"


if __name__ == "__main__":
    sys.exit(main())
