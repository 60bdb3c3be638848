"""The interface of a broker kind: how a broker is started, stopped and removed."""

from abc import ABC, abstractmethod
from typing import ClassVar

from infra.broker.processes import ProcessId
from infra.broker.state_file import BrokerState


class BrokerKind(ABC):
    """One way to run a Kafka broker on this machine.

    To add a kind, derive a class and enter an instance in `infra.broker.lifecycle.KINDS`.
    """

    name: ClassVar[str]
    """Value of `--kind`, and of `BrokerState.kind`."""

    cluster_sizes: ClassVar[tuple[int, ...]] = (1,)
    """Supported numbers of brokers."""

    keeps_data: ClassVar[bool] = True
    """True if a stopped broker can start again with its data."""

    @abstractmethod
    def start(self, name: str, brokers: int = 1, *, owner: ProcessId | None = None) -> BrokerState:
        """Start a new broker and wait until it answers.

        Parameters
        ----------
        name : str
            Name among the brokers of this checkout; none of this name exists.
        brokers : int
            One of `cluster_sizes`.
        owner : ProcessId, optional
            The program that the broker must not outlive, where the kind can ensure that. Without an owner
            the broker runs until `down`.

        Raises
        ------
        MissingToolError
            This kind needs a program that is not installed.
        BrokerError
            The broker does not start.
        """

    @abstractmethod
    def resume(self, state: BrokerState) -> None:
        """Start a stopped or ended broker on the same port and data, and wait until it answers.

        Raises
        ------
        BrokerError
            The broker does not start.
        """

    @abstractmethod
    def stop(self, state: BrokerState) -> None:
        """Shut a broker down in order and keep its data for `resume`."""

    @abstractmethod
    def remove(self, state: BrokerState) -> None:
        """Stop a broker and delete its data."""

    def running(self, state: BrokerState) -> bool:
        """Return whether all processes of a broker run."""
        return all(process.alive for process in state.processes)
