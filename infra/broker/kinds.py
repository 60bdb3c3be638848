"""Starting, finding and stopping a broker of any kind under a name."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from infra.broker.docker import start_docker, stop_docker
from infra.broker.embedded import start_embedded
from infra.broker.errors import BrokerError
from infra.broker.native import start_native
from infra.broker.ready import answering
from infra.broker.record import BROKERS, Record, end_processes, forget, load

KINDS = ("native", "docker", "embedded")


def up(name: str, kind: str, brokers: int = 1) -> Record:
    """Start a broker that stays until `down`, or find the one that runs under this name.

    Parameters
    ----------
    name : str
        Name among the brokers of this checkout.
    kind : str
        One of `KINDS`.
    brokers : int
        1, or 3 with kind native.

    Returns
    -------
    Record
        The broker, answering.

    Raises
    ------
    MissingToolError
        When this kind needs a program that is not here.
    BrokerError
        When it does not start, or another kind runs under the name.
    """
    if kind not in KINDS:
        raise BrokerError(f"kind {kind!r}: choose one of {', '.join(KINDS)}")
    if brokers != 1 and kind != "native":
        raise BrokerError(f"brokers {brokers}: kind {kind} has one broker; take --kind native for 3")
    with _locked():
        found = load(name)
        if found is not None:
            if running(found):
                return _same(found, kind, brokers)
            _remove(found)  # its processes have ended, or some have
        forget(name)
        if kind == "docker":
            return start_docker(name)
        if kind == "embedded":
            return start_embedded(name)
        start_native(name, brokers)
        started = load(name)
        if started is None:
            raise BrokerError(f"the record of broker {name} vanished while it started; was `down` called?")
        return started


def down(name: str) -> Record | None:
    """Stop the broker of a name and delete its data; None when there is none."""
    with _locked():
        found = load(name)
        if found is not None:
            _remove(found)
        return found


def running(record: Record) -> bool:
    """Say whether all of a broker's processes run (Docker's: whether it answers)."""
    if record.processes:
        return all(process.alive for process in record.processes)
    return answering(record.bootstrap_servers) > 0


def _same(found: Record, kind: str, brokers: int) -> Record:
    size = len(found.processes) or 1
    if (found.kind, size) != (kind, brokers):
        raise BrokerError(
            f"broker {found.name} runs already, {found.kind} with {size} broker(s): "
            f"`down --name {found.name}` first, or take another --name"
        )
    return found


def _remove(record: Record) -> None:
    if record.kind == "docker":
        stop_docker(record.name)
        return
    end_processes(record)


@contextmanager
def _locked() -> Iterator[None]:
    """Let one program at a time start or stop brokers of this checkout."""
    BROKERS.mkdir(parents=True, exist_ok=True)
    with (BROKERS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
