"""Command line: `python -m infra.broker up|stop|start|restart|down|status`."""

import argparse
import os
import sys
import time

from infra.broker import lifecycle
from infra.broker.errors import BrokerError
from infra.broker.external import SERVERS_VARIABLE, check_external, external_broker, security_config
from infra.broker.lifecycle import KINDS
from infra.broker.readiness import count_brokers
from infra.broker.state_file import BrokerState, load_states
from routing.arguments import non_negative_float


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m infra.broker",
        description="Start, stop and find Kafka brokers on this machine.",
        epilog=f"If {SERVERS_VARIABLE} is set, `up` without --kind checks that broker and starts none.",
    )
    commands = top.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help=f"start a broker and print {SERVERS_VARIABLE}=... once it answers")
    up.add_argument(
        "--kind",
        choices=KINDS,
        help="native: Apache Kafka on Java; docker: Docker Compose; embedded: in memory only [native]",
    )
    up.add_argument(
        "--brokers",
        type=int,
        choices=(1, 3),
        default=1,
        help="number of brokers (3: native only) [%(default)s]",
    )
    stop = commands.add_parser("stop", help="stop a broker and keep its data")
    start = commands.add_parser("start", help="start a stopped broker on the same ports and data")
    restart = commands.add_parser("restart", help="stop a broker, then start it again: an outage")
    restart.add_argument(
        "--pause",
        type=non_negative_float,
        default=0.0,
        metavar="S",
        help="seconds between stop and start [%(default)g]",
    )
    down = commands.add_parser("down", help="stop a broker and delete its data")
    down.add_argument("--all", action="store_true", help="every broker started from this checkout")
    status = commands.add_parser("status", help="list brokers; exit with 1 if none answers")
    for command in (up, stop, start, restart, down):
        command.add_argument("--name", default="default", help="name of the broker [%(default)s]")
    status.add_argument("--name", help="name of the broker [all]")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        Exit status: 0; 1 if a broker could not be started or stopped, or `status` found none that answers.
    """
    options = parser().parse_args(arguments)
    try:
        if options.command == "up":
            return _up(options.name, options.kind, options.brokers)
        if options.command == "down":
            return _down([state.name for state in load_states()] if options.all else [options.name])
        if options.command == "status":
            return _status(options.name)
        return _stop_start(options.command, options.name, getattr(options, "pause", 0.0))
    except BrokerError as error:
        print(f"infra.broker: {error}", file=sys.stderr)
        return 1


def _up(name: str, kind: str | None, brokers: int) -> int:
    state = external_broker(os.environ) if kind is None else None
    if state is not None:
        check_external(state, security_config(os.environ))
    else:
        state = lifecycle.up(name, kind or "native", brokers)
    # One line on standard output that a shell can export.
    print(f"{SERVERS_VARIABLE}={state.bootstrap_servers}")
    return 0


def _stop_start(command: str, name: str, pause: float) -> int:
    """Stop a broker, start it, or both."""
    if command != "start":
        stopped = lifecycle.stop(name)
        print(f"{name}: stopped ({stopped.kind}); its data is kept", flush=True)
    if command == "restart":
        time.sleep(pause)
    if command != "stop":
        started = lifecycle.start(name)
        print(f"{name}: in service ({started.kind}) at {started.bootstrap_servers}")
    return 0


def _down(names: list[str]) -> int:
    for name in names:
        stopped = lifecycle.down(name)
        print(f"{name}: {f'stopped ({stopped.kind})' if stopped else 'nothing to stop'}")
    return 0


def _status(name: str | None) -> int:
    states = [state for state in load_states() if name in (None, state.name)]
    external = external_broker(os.environ)
    if external is not None and name is None:
        states.insert(0, external)
    answering = 0
    for state in states:
        client = security_config(os.environ) if state is external else None
        count = count_brokers(state.bootstrap_servers, client=client)
        answering += count > 0
        print(f"{state.name:<12} {state.kind:<9} {state.bootstrap_servers:<48} {_describe(state, count)}")
    if not states:
        print(
            f"no broker{f' named {name}' if name else ''} was started here; `up` starts one", file=sys.stderr
        )
    return 0 if answering else 1


def _describe(state: BrokerState, count: int) -> str:
    if state.stopped:
        return "stopped; `start` starts it with its data, `down` deletes it"
    ended = sum(not process.alive for process in state.processes)
    if ended:
        return (
            f"{ended} of {len(state.processes)} ended; `start` starts it with its data, "
            "`up` without, `down` deletes it"
        )
    return f"{count} in service" if count else "does not answer"


if __name__ == "__main__":
    sys.exit(main())
