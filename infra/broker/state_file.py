"""State files of running brokers, by which `down` and `status` find the brokers that `up` started."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.broker.errors import BrokerError
from infra.broker.processes import ProcessId

ROOT = Path(__file__).resolve().parents[2]
BROKERS = ROOT / "build" / "brokers"


@dataclass(frozen=True)
class BrokerState:
    """One running broker or cluster. The fields are the keys of its state file.

    Parameters
    ----------
    name : str
        Name among the brokers of this checkout, and of the broker's folder.
    kind : str
        `native`, `docker` or `embedded`.
    bootstrap_servers : str
        Addresses for clients, `host:port` separated by commas.
    processes : tuple of ProcessId
        The broker processes; empty for Docker, which manages its own.
    owner : ProcessId or None
        The program that the broker must not outlive; None for a broker that runs until `down`.
    stopped : bool
        The broker is stopped and keeps its data for the next start.
    """

    name: str
    kind: str
    bootstrap_servers: str
    processes: tuple[ProcessId, ...] = ()
    owner: ProcessId | None = None
    stopped: bool = False

    @property
    def folder(self) -> Path:
        """Folder of the broker's data, settings and logs."""
        return folder_of(self.name)

    @property
    def abandoned(self) -> bool:
        """True if the owner has ended without stopping the broker."""
        return self.owner is not None and not self.owner.alive

    def save(self) -> None:
        """Write the state file atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / "state.json.part"
        part.write_text(json.dumps(asdict(self), indent=2))
        part.replace(self.folder / "state.json")


def folder_of(name: str) -> Path:
    """Return the folder of the broker of a name.

    Raises
    ------
    BrokerError
        The name is not a valid folder name.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise BrokerError(f"name {name!r}: use lower-case letters, digits, - and _")
    return BROKERS / name


def delete_files(name: str) -> None:
    """Delete the state file of a name and all other files of that broker."""
    shutil.rmtree(folder_of(name), ignore_errors=True)


def end_processes(state: BrokerState) -> None:
    """Kill a broker's processes and delete its files.

    An orderly shutdown takes seconds and saves nothing, because the data is deleted anyway.
    """
    for process in state.processes:
        process.kill()
    delete_files(state.name)


def end_abandoned() -> None:
    """End every broker whose owner has ended without stopping it, and delete its data."""
    for state in load_states():
        if state.abandoned:
            end_processes(state)


def load_state(name: str) -> BrokerState | None:
    """Read the state file of a name; return None if there is none."""
    try:
        fields = json.loads((folder_of(name) / "state.json").read_text())
    except FileNotFoundError:
        return None
    fields["processes"] = tuple(ProcessId(**process) for process in fields["processes"])
    fields["owner"] = ProcessId(**fields["owner"]) if fields["owner"] else None
    return BrokerState(**fields)


def load_states() -> Iterator[BrokerState]:
    """Read every state file of this checkout, by name."""
    for path in sorted(BROKERS.glob("*/state.json")):
        state = load_state(path.parent.name)
        if state is not None:
            yield state
