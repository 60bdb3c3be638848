"""What is known of a running broker on disk, so that `down` and `status` find what `up` started."""

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
class Record:
    """One running broker or cluster.

    Parameters
    ----------
    name : str
        Its name among those of this checkout; also that of its folder.
    kind : str
        `native`, `docker` or `embedded`.
    bootstrap_servers : str
        Where clients connect, `host:port` separated by commas.
    processes : tuple of ProcessId
        The broker processes; empty for Docker, which has its own.
    owner : ProcessId or None
        The program that the broker must not outlive; None for a broker that stays until `down`.
    """

    name: str
    kind: str
    bootstrap_servers: str
    processes: tuple[ProcessId, ...] = ()
    owner: ProcessId | None = None

    @property
    def folder(self) -> Path:
        """Where its data, settings and logs are."""
        return folder_of(self.name)

    @property
    def abandoned(self) -> bool:
        """Whether the program that it belonged to has ended without stopping it."""
        return self.owner is not None and not self.owner.alive

    def save(self) -> None:
        """Write the record, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / "state.json.part"
        part.write_text(json.dumps(asdict(self), indent=2))
        part.replace(self.folder / "state.json")


def folder_of(name: str) -> Path:
    """Give the folder of a broker's name.

    Raises
    ------
    BrokerError
        When the name could not be a folder's.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise BrokerError(f"name {name!r}: use lower-case letters, digits, - and _")
    return BROKERS / name


def forget(name: str) -> None:
    """Delete the record of a name, and all of that broker's files."""
    shutil.rmtree(folder_of(name), ignore_errors=True)


def end_processes(record: Record) -> None:
    """Kill a broker's processes and delete its files.

    The data go with them, so there is nothing that an orderly shutdown, which takes seconds, could save.
    """
    for process in record.processes:
        process.kill()
    forget(record.name)


def load(name: str) -> Record | None:
    """Read the record of a name; None when there is none."""
    try:
        fields = json.loads((folder_of(name) / "state.json").read_text())
    except FileNotFoundError:
        return None
    fields["processes"] = tuple(ProcessId(**process) for process in fields["processes"])
    fields["owner"] = ProcessId(**fields["owner"]) if fields["owner"] else None
    return Record(**fields)


def load_all() -> Iterator[Record]:
    """Read every record of this checkout, by name."""
    for state in sorted(BROKERS.glob("*/state.json")):
        record = load(state.parent.name)
        if record is not None:
            yield record
