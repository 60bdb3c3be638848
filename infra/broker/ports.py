"""Free TCP ports for brokers."""

import random
import socket

from infra.broker.errors import BrokerError

# Below Linux's range for outgoing connections (32768 on): a port from there could be taken by somebody's
# outgoing connection while its broker is down, and the broker could not come back.
FIRST, LAST = 20_000, 32_000


def is_free(port: int) -> bool:
    """Say whether a listener could take this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Pick distinct ports of 127.0.0.1 that nobody listens on.

    Parameters
    ----------
    count : int
        How many.

    Returns
    -------
    list of int
        The ports, in no order. Nothing reserves them: take them soon.

    Raises
    ------
    BrokerError
        When fewer are free in the range that brokers use.
    """
    found: list[int] = []
    for port in random.sample(range(FIRST, LAST), LAST - FIRST):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    if len(found) < count:
        raise BrokerError(
            f"no {count} free ports between {FIRST} and {LAST} on 127.0.0.1; stop some listeners"
        )
    return found
