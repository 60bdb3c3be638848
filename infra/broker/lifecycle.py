"""Start, find and stop brokers by name, whatever their kind."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from infra.broker.docker import DockerBroker
from infra.broker.embedded import EmbeddedBroker
from infra.broker.errors import BrokerError
from infra.broker.kind import BrokerKind
from infra.broker.native import NativeBroker
from infra.broker.processes import ProcessId
from infra.broker.state_file import BROKERS, BrokerState, delete_files, end_abandoned, load_state

KINDS: dict[str, BrokerKind] = {
    kind.name: kind for kind in (NativeBroker(), DockerBroker(), EmbeddedBroker())
}


def up(name: str, kind: str, brokers: int = 1) -> BrokerState:
    """Return the broker of a name; start it if it is stopped or does not exist. It runs until `down`.

    Parameters
    ----------
    name : str
        Name among the brokers of this checkout.
    kind : str
        One of `KINDS`.
    brokers : int
        Number of brokers, one of the kind's `cluster_sizes`.

    Returns
    -------
    BrokerState
        The broker, answering.

    Raises
    ------
    MissingToolError
        The kind needs a program that is not installed.
    BrokerError
        The broker does not start, or a broker of another kind runs under the name.
    """
    if kind not in KINDS:
        raise BrokerError(f"kind {kind!r}: choose one of {', '.join(KINDS)}")
    if brokers not in KINDS[kind].cluster_sizes:
        sizes = " or ".join(map(str, KINDS[kind].cluster_sizes))
        raise BrokerError(f"brokers {brokers}: kind {kind} supports {sizes}; --kind native supports 3")
    with _locked():
        existing = load_state(name)
        if existing is not None:
            if existing.stopped:
                _check_same(existing, kind, brokers)
                return _resume(existing)
            if KINDS[existing.kind].running(existing):
                _check_same(existing, kind, brokers)
                return existing
            KINDS[existing.kind].remove(existing)  # some or all of its processes have ended
        delete_files(name)
        return KINDS[kind].start(name, brokers)


def down(name: str) -> BrokerState | None:
    """Stop the broker of a name and delete its data; return None if there is none."""
    with _locked():
        state = load_state(name)
        if state is not None:
            KINDS[state.kind].remove(state)
        return state


def stop(name: str) -> BrokerState:
    """Stop the broker of a name; `start` starts it again on the same ports and with its data.

    Raises
    ------
    BrokerError
        There is no such broker, or its kind keeps data in memory only.
    """
    with _locked():
        state = _restartable(name)
        KINDS[state.kind].stop(state)
        return state


def start(name: str) -> BrokerState:
    """Start a broker that was stopped or has ended, and wait until it answers.

    Raises
    ------
    BrokerError
        There is no such broker, its kind keeps data in memory only, or it does not start.
    """
    with _locked():
        return _resume(_restartable(name))


@contextmanager
def temporary_broker(kind: str) -> Iterator[BrokerState]:
    """Run a broker of a kind for the length of a `with` block.

    Yields
    ------
    BrokerState
        The broker, answering at its `bootstrap_servers`. Native and embedded brokers end with this program
        at the latest.
    """
    end_abandoned()
    name = f"{kind}-{os.getpid()}-{secrets.token_hex(3)}"
    state = KINDS[kind].start(name, owner=ProcessId.of(os.getpid()))
    try:
        yield state
    finally:
        KINDS[kind].remove(state)


def _resume(state: BrokerState) -> BrokerState:
    KINDS[state.kind].resume(state)
    return load_state(state.name) or state


def _restartable(name: str) -> BrokerState:
    state = load_state(name)
    if state is None:
        raise BrokerError(f"no broker named {name} was started here; `up` starts one")
    if not KINDS[state.kind].keeps_data:
        raise BrokerError(
            f"broker {name} is {state.kind} and has its data in memory only, so it cannot be stopped and "
            f"started again; `down --name {name}` ends it, `up --kind native` starts one that keeps its data"
        )
    return state


def _check_same(state: BrokerState, kind: str, brokers: int) -> None:
    size = len(state.processes) or 1
    if (state.kind, size) != (kind, brokers):
        raise BrokerError(
            f"broker {state.name} runs already, {state.kind} with {size} broker(s): "
            f"run `down --name {state.name}` first, or choose another --name"
        )


@contextmanager
def _locked() -> Iterator[None]:
    """Let one program at a time start or stop brokers of this checkout."""
    BROKERS.mkdir(parents=True, exist_ok=True)
    with (BROKERS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
