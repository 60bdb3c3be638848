"""The demo, `make demo`: start a broker and a worker, replay a data set, report, and stop everything."""

import argparse
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from confluent_kafka.admin import AdminClient

from infra.broker.errors import BrokerError
from infra.broker.external import (
    SERVERS_VARIABLE,
    check_external,
    external_broker,
    security_config,
    security_variables,
)
from infra.broker.lifecycle import KINDS, temporary_broker
from infra.broker.ports import free_ports
from infra.broker.processes import ProcessId, log_tail, spawn
from infra.broker.state_file import ROOT, BrokerState
from routing.arguments import positive_float, positive_int, rate_per_second
from routing.budgets.splits import SHARED, SPLITS

DEMO_DATA = "demo"
POLL_SECONDS = 0.5
SHARED_FACTOR = 8.0
"""Total of the demo over its cheapest LLM's cost for all queries; its best LLM costs 13.6 times as much."""
DEADLINE_SECONDS = 300
"""Maximum wait for the worker, and for each query: on a busy machine the model takes minutes to load."""


class StepError(RuntimeError):
    """A program of the demo failed; the message quotes the end of its log."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="python -m infra.demo", description=__doc__)
    top.add_argument(
        "--broker",
        choices=KINDS,
        help=f"kind of broker [that of {SERVERS_VARIABLE}, else embedded]",
    )
    top.add_argument(
        "--dataset", default=DEMO_DATA, metavar="PATH", help="data set of answered queries [%(default)s]"
    )
    top.add_argument(
        "--queries",
        type=positive_int,
        metavar="N",
        help="number of queries to replay; the rest of the data set is the history",
    )
    top.add_argument(
        "--folder",
        type=Path,
        default=ROOT / "build" / "demo",
        help="folder for prepared data and logs [%(default)s]",
    )
    top.add_argument(
        "--preset",
        default="auto",
        help="the router's preset; auto chooses by the size of the history [%(default)s]",
    )
    top.add_argument(
        "--split",
        choices=(SHARED, *SPLITS),
        default=SHARED,
        help="one total that all LLMs share, or a rule that splits it; weighted is the paper's [%(default)s]",
    )
    top.add_argument(
        "--budget-factor",
        type=positive_float,
        metavar="F",
        help=f"the total over what the cheapest LLM would cost [{SHARED_FACTOR:g} if shared, else 1]",
    )
    top.add_argument(
        "--rate",
        type=rate_per_second,
        default=100.0,
        help="queries per second; 0: no limit [%(default)s]",
    )
    top.add_argument(
        "--json", type=Path, default=ROOT / "build" / "demo.json", help="file for the report [%(default)s]"
    )
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run the demo.

    Returns
    -------
    int
        Exit status: that of the replay; 130 if interrupted; 1 if a step failed.
    """
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an orderly shutdown, as after ctrl-C
    try:
        with ExitStack() as stack:
            return demo(options, stack)
    except KeyboardInterrupt:
        print("demo: interrupted; everything is stopped", file=sys.stderr)
        return 130
    except (BrokerError, StepError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def demo(options: argparse.Namespace, stack: ExitStack) -> int:
    """Run every step; the stack stops everything that was started.

    Returns
    -------
    int
        Exit status of the replay: 0 if every query is accounted for and no budget is exceeded.

    Raises
    ------
    BrokerError, StepError
        A step failed.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "settings.env").unlink(missing_ok=True)  # of an earlier demo, perhaps with other data
    prepare = ["producers.prepare", "--dataset", options.dataset, "--out", str(options.folder)]
    factor = options.budget_factor or (SHARED_FACTOR if options.split == SHARED else 1.0)
    prepare += ["--preset", options.preset, "--split", options.split, "--budget-factor", str(factor)]
    if options.queries is not None:
        prepare += ["--queries", str(options.queries)]
    run("prepare", prepare, environment_of_children(os.environ))

    external = external_broker(os.environ) if options.broker is None else None
    servers = stack.enter_context(broker(options.broker, external))
    # A unique prefix, so that a second demo on the same broker does not find the ledger of the first.
    prefix = f"demo-{secrets.token_hex(3)}."
    if external is not None:
        stack.enter_context(_delete_topics_afterwards(servers, prefix))
    environment = environment_of_children(os.environ, servers, secured=external is not None) | {
        "PORT_TOPIC_PREFIX": prefix,
        "PORT_APP_ID": prefix.rstrip("."),
        "PORT_DATA_DIR": str(options.folder / "worker"),
        "PORT_WEB_PORT": str(free_ports(1)[0]),
    }
    streams = ["streams", "--env-file", str(options.folder / "settings.env")]
    run("topics", [*streams, "topics", "create"], environment, quiet=True)

    log = options.folder / "worker.log"
    log.unlink(missing_ok=True)
    worker = stack.enter_context(_worker([*streams, "worker"], log, environment))
    page = f"http://127.0.0.1:{environment['PORT_WEB_PORT']}"
    print(f"demo: worker runs; its page is {page}, its log {short_path(log)}", flush=True)
    _wait_until_ready(f"{page}/readyz", worker, log)
    options.json.unlink(missing_ok=True)
    replay = ["producers.replay", str(options.folder), "--json", str(options.json)]
    replay += ["--deadline", str(DEADLINE_SECONDS)]
    if options.rate:
        replay += ["--rate", str(options.rate)]
    if not sys.stderr.isatty():
        replay.append("--quiet")  # no progress bar in a log file
    status = _replay(replay, environment, worker, log)
    if status == 0:
        print(f"demo: the report is in {short_path(options.json)}")
    return status


def short_path(path: Path) -> Path:
    """Return the path from the current directory, if the path lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def environment_of_children(
    environment: Mapping[str, str], servers: str | None = None, *, secured: bool = False
) -> dict[str, str]:
    """Return the environment of the demo's programs, without any `PORT_` settings of the shell.

    Settings of another router in the user's shell would override the demo's settings file.

    Parameters
    ----------
    environment : mapping
        Environment of the demo itself.
    servers : str, optional
        Address of the demo's broker; set as both variables that name it.
    secured : bool
        Whether this is the external broker, to which the security settings apply.
    """
    variables = {key: value for key, value in environment.items() if not key.upper().startswith("PORT_")}
    variables.pop(SERVERS_VARIABLE, None)
    if secured:
        variables |= security_variables(environment)
    if servers is not None:
        variables |= {SERVERS_VARIABLE: servers, "PORT_BOOTSTRAP_SERVERS": servers}
    return variables


@contextmanager
def broker(kind: str | None, external: BrokerState | None) -> Iterator[str]:
    """Use the external broker if there is one; otherwise run a broker of a kind, by default embedded.

    Yields
    ------
    str
        The bootstrap servers.
    """
    if external is not None:
        check_external(external, security_config(os.environ))
        print(f"demo: broker {external.bootstrap_servers}, from {SERVERS_VARIABLE}", flush=True)
        yield external.bootstrap_servers
        return
    kind = kind or "embedded"
    with temporary_broker(kind) as started:
        print(f"demo: {kind} broker at {started.bootstrap_servers}", flush=True)
        yield started.bootstrap_servers


def run(step: str, module: Sequence[str], environment: Mapping[str, str], *, quiet: bool = False) -> None:
    """Run a program of the project to its end; with `quiet`, discard its standard output.

    Raises
    ------
    StepError
        The program failed.
    """
    finished = subprocess.run(
        [sys.executable, "-m", *module],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL if quiet else None,
        check=False,
    )
    if finished.returncode != 0:
        raise StepError(f"{step}: `python -m {' '.join(module)}` exited with status {finished.returncode}")


@contextmanager
def _worker(module: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[ProcessId]:
    process = spawn([sys.executable, "-m", *module], log, environment=environment, bound=True)
    try:
        yield process
    finally:
        process.stop(timeout=20.0)


def _wait_until_ready(address: str, worker: ProcessId, log: Path) -> None:
    """Wait until the worker is ready: it has its history, its plan and its partitions."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if not worker.alive:
            raise StepError(f"the worker has ended; the end of {log}:\n{log_tail(log)}")
        with suppress(OSError), urlopen(address, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(POLL_SECONDS)
    raise StepError(f"the worker was not ready in {DEADLINE_SECONDS} s; the end of {log}:\n{log_tail(log)}")


def _replay(module: Sequence[str], environment: Mapping[str, str], worker: ProcessId, log: Path) -> int:
    """Run the replay in the foreground; raise StepError if the worker ends first."""
    replay = subprocess.Popen([sys.executable, "-m", *module], cwd=ROOT, env=environment)
    try:
        while True:
            try:
                return replay.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if not worker.alive:
                    raise StepError(f"the worker has ended; the end of {log}:\n{log_tail(log)}") from None
    finally:
        if replay.poll() is None:
            replay.terminate()
            replay.wait()


@contextmanager
def _delete_topics_afterwards(servers: str, prefix: str) -> Iterator[None]:
    """Delete the demo's topics on the external broker when the block ends."""
    try:
        yield
    finally:
        admin = AdminClient({"bootstrap.servers": servers, **security_config(os.environ)})
        topics = [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]
        for future in admin.delete_topics(topics).values() if topics else ():
            future.result(30)


if __name__ == "__main__":
    sys.exit(main())
