"""Free TCP ports for brokers."""

import random
import socket

from infra.broker.errors import BrokerError

# Below Linux's range for outgoing connections (from 32768). An outgoing connection could take a port of that
# range while its broker is down, and the broker could not start again.
FIRST_PORT, LAST_PORT = 20_000, 32_000


def is_free(port: int) -> bool:
    """Return whether a listener can bind this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return distinct ports of 127.0.0.1 that have no listener.

    Parameters
    ----------
    count : int
        Number of ports.

    Returns
    -------
    list of int
        The ports, in random order. They are not reserved, so bind them soon.

    Raises
    ------
    BrokerError
        Fewer ports are free in the range for brokers.
    """
    ports: list[int] = []
    for port in random.sample(range(FIRST_PORT, LAST_PORT), LAST_PORT - FIRST_PORT):
        if len(ports) == count:
            break
        if is_free(port):
            ports.append(port)
    if len(ports) < count:
        raise BrokerError(
            f"no {count} free ports between {FIRST_PORT} and {LAST_PORT} on 127.0.0.1; stop some listeners"
        )
    return ports
