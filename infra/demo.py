"""The demo, `make demo`: a broker, topics, a worker and a replay, and everything stopped again at the end."""

import argparse
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from confluent_kafka.admin import AdminClient

from infra.broker import BrokerError, docker_broker, embedded_broker, native_cluster
from infra.broker.given import GIVEN, check_given, given, security, security_variables
from infra.broker.kinds import KINDS
from infra.broker.ports import free_ports
from infra.broker.processes import ProcessId, log_tail, spawn
from infra.broker.record import ROOT, Record
from routing.arguments import count, rate

DEMO_DATA = "demo"
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 300
"""How long the replay waits for a query: on a busy machine the model alone takes minutes to load."""


class StepError(RuntimeError):
    """A program that the demo needs has ended with an error; the message has what it said last."""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="python -m infra.demo", description=__doc__)
    top.add_argument(
        "--broker", choices=KINDS, help=f"default: the one that {GIVEN} names, else embedded (memory only)"
    )
    top.add_argument(
        "--dataset", default=DEMO_DATA, metavar="PATH", help="answered queries (default: the demo's)"
    )
    top.add_argument(
        "--queries", type=count, metavar="N", help="how many of them are replayed; the rest is the history"
    )
    top.add_argument(
        "--folder", type=Path, default=ROOT / "build" / "demo", help="for what is prepared, and logs"
    )
    top.add_argument(
        "--preset", default="auto", help="of the router; auto: what the history's size allows [%(default)s]"
    )
    top.add_argument(
        "--rate", type=rate, default=100.0, help="queries a second; 0: as fast as it goes [%(default)s]"
    )
    top.add_argument("--json", type=Path, default=ROOT / "build" / "demo.json", help="where the report goes")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run the demo.

    Returns
    -------
    int
        Exit status: the replay's; 130 when interrupted; 1 when something could not start.
    """
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as ctrl-C does: in order
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
    """Run every step; what must be stopped goes on the stack.

    Returns
    -------
    int
        Exit status of the replay: 0 when every query is accounted for and no budget is exceeded.

    Raises
    ------
    BrokerError, StepError
        When a step cannot be done.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "settings.env").unlink(missing_ok=True)  # of an earlier demo, perhaps on other data
    prepare = ["producers.prepare", "--dataset", options.dataset, "--out", str(options.folder)]
    prepare += ["--preset", options.preset]
    if options.queries is not None:
        prepare += ["--queries", str(options.queries)]
    run("prepare", prepare, environment_of_children(os.environ))

    outside = given(os.environ) if options.broker is None else None
    servers = stack.enter_context(broker(options.broker, outside))
    # A name of its own, so that a second demo on the same broker does not find the first one's ledger.
    prefix = f"demo-{secrets.token_hex(3)}."
    if outside is not None:
        stack.enter_context(_topics_deleted(servers, prefix))
    environment = environment_of_children(os.environ, servers, secured=outside is not None) | {
        "PORT_TOPIC_PREFIX": prefix,
        "PORT_APP_ID": prefix.rstrip("."),
        "PORT_DATA_DIR": str(options.folder / "worker"),
        "PORT_WEB_PORT": str(free_ports(1)[0]),
    }
    streams = ["streams", "--env-file", str(options.folder / "settings.env")]
    run("topics", [*streams, "topics", "create"], environment, told=False)

    log = options.folder / "worker.log"
    log.unlink(missing_ok=True)
    worker = stack.enter_context(_worker([*streams, "worker"], log, environment))
    page = f"http://127.0.0.1:{environment['PORT_WEB_PORT']}"
    print(f"demo: worker runs; its page is {page}, its log {log}", flush=True)
    _wait_until_ready(f"{page}/readyz", worker, log)
    options.json.unlink(missing_ok=True)
    replay = ["producers.replay", str(options.folder), "--json", str(options.json)]
    replay += ["--deadline", str(PATIENCE_SECONDS)]
    if options.rate:
        replay += ["--rate", str(options.rate)]
    if not sys.stderr.isatty():
        replay.append("--quiet")  # a progress bar is for eyes, not for a log file
    status = _replay(replay, environment, worker, log)
    if status == 0:
        print(f"demo: the report is in {options.json}")
    return status


def environment_of_children(
    environment: Mapping[str, str], servers: str | None = None, *, secured: bool = False
) -> dict[str, str]:
    """Give the variables of the demo's programs: no settings but the demo's own.

    Whoever tries the demo may have a router's settings in the shell; they would go before the demo's file.

    Parameters
    ----------
    environment : mapping
        Of the demo itself.
    servers : str, optional
        The demo's broker, under both names that there are for it.
    secured : bool
        Whether it is the given one, which the security settings are for.
    """
    kept = {key: value for key, value in environment.items() if not key.upper().startswith("PORT_")}
    kept.pop(GIVEN, None)
    if secured:
        kept |= security_variables(environment)
    return kept if servers is None else kept | {GIVEN: servers, "PORT_BOOTSTRAP_SERVERS": servers}


@contextmanager
def broker(kind: str | None, outside: Record | None) -> Iterator[str]:
    """Provide a broker of a kind, or the given one, else the embedded one.

    Yields
    ------
    str
        Its bootstrap servers.
    """
    if outside is not None:
        check_given(outside, security(os.environ))
        print(f"demo: broker {outside.bootstrap_servers}, as {GIVEN} says", flush=True)
        yield outside.bootstrap_servers
        return
    kind = kind or "embedded"
    start: dict[str, Callable] = {
        "native": native_cluster,
        "docker": docker_broker,
        "embedded": embedded_broker,
    }
    with start[kind]() as started:
        print(f"demo: {kind} broker at {started.bootstrap_servers}", flush=True)
        yield started.bootstrap_servers


def run(step: str, module: Sequence[str], environment: Mapping[str, str], *, told: bool = True) -> None:
    """Run a program of the project to its end; its standard output is left out unless `told`.

    Raises
    ------
    StepError
        When it ends with an error.
    """
    done = subprocess.run(
        [sys.executable, "-m", *module],
        cwd=ROOT,
        env=environment,
        stdout=None if told else subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        raise StepError(f"{step}: `python -m {' '.join(module)}` ended with exit status {done.returncode}")


@contextmanager
def _worker(module: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[ProcessId]:
    process = spawn([sys.executable, "-m", *module], log, environment=environment, bound=True)
    try:
        yield process
    finally:
        process.stop(patience=20.0)


def _wait_until_ready(address: str, worker: ProcessId, log: Path) -> None:
    """Wait until the worker has its history, its plan and its partitions."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if not worker.alive:
            raise StepError(f"the worker has ended; the end of {log}:\n{log_tail(log)}")
        with suppress(OSError), urlopen(address, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(POLL_SECONDS)
    raise StepError(f"the worker was not ready in {PATIENCE_SECONDS} s; the end of {log}:\n{log_tail(log)}")


def _replay(module: Sequence[str], environment: Mapping[str, str], worker: ProcessId, log: Path) -> int:
    """Run the replay in the foreground for as long as the worker runs."""
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
def _topics_deleted(servers: str, prefix: str) -> Iterator[None]:
    """Leave nothing of the demo on a given broker, which goes on without it."""
    try:
        yield
    finally:
        admin = AdminClient({"bootstrap.servers": servers, **security(os.environ)})
        ours = [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]
        for future in admin.delete_topics(ours).values() if ours else ():
            future.result(30)


if __name__ == "__main__":
    sys.exit(main())
