"""A host at a distance: runs a program whose connections to the brokers take longer.

    unshare -r -n python -m benchmarks.distant_host --socket S --ports 9092 --delay-ms 10 -- python -m ...

It runs in a network namespace of its own, where the brokers' ports on 127.0.0.1 are its. Every connection
goes through a Unix socket to `Gate`, which runs beside the brokers, and each direction takes the delay.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

CHUNK_BYTES = 256 * 1024


class Gate:
    """Connects distant hosts with ports of this host, in a thread of its own.

    Parameters
    ----------
    socket : Path
        A Unix socket; the first line of each connection is the port.
    """

    def __init__(self, socket: Path) -> None:
        self._socket, self._ready = socket, threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="gate", daemon=True)
        self._thread.start()
        self._ready.wait(10)

    def close(self) -> None:
        """End all connections."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_unix_server(self._connect, self._socket)
        self._ready.set()
        await self._end.wait()
        server.close()

    @staticmethod
    async def _connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # cancelled when the gate closes
        with suppress(asyncio.CancelledError):
            port = int(await reader.readline())
            await _join((reader, writer), await asyncio.open_connection("127.0.0.1", port), 0.0)


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(one: Ends, other: Ends, seconds: float) -> None:
    """Pass on what comes from each end to the other, after a delay, until both have ended or one breaks."""
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_pass_on(one[0], other[1], seconds))
            both.create_task(_pass_on(other[0], one[1], seconds))
    except* OSError:
        pass
    finally:
        one[1].close()
        other[1].close()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, seconds: float) -> None:
    clock = asyncio.get_running_loop().time
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while (item := await waiting.get())[1]:
            await asyncio.sleep(max(0.0, item[0] - clock()))
            target.write(item[1])
            await target.drain()

    delivery = asyncio.create_task(deliver())
    try:
        while chunk := await source.read(CHUNK_BYTES):
            waiting.put_nowait((clock() + seconds, chunk))
        waiting.put_nowait((0.0, b""))
        await delivery
        target.write_eof()
    finally:
        delivery.cancel()


async def _serve(ports: list[int], socket: str, seconds: float, program: list[str]) -> int:
    """Carry connections until the program ends; return its exit status."""

    async def carry(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gate = await asyncio.open_unix_connection(socket)
        gate[1].write(f"{port}\n".encode())
        await _join((reader, writer), gate, seconds)

    servers = [await asyncio.start_server(partial(carry, port), "127.0.0.1", port) for port in ports]
    process = await asyncio.create_subprocess_exec(*program)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, process.terminate)
    status = await process.wait()
    for server in servers:
        server.close()
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--ports", required=True, help="of the brokers, separated by commas")
    parser.add_argument("--delay-ms", type=float, required=True, help="of each direction")
    parser.add_argument("program", nargs="+")
    arguments = parser.parse_args()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    ports = [int(port) for port in arguments.ports.split(",")]
    return asyncio.run(_serve(ports, arguments.socket, arguments.delay_ms / 1000, arguments.program))


if __name__ == "__main__":
    raise SystemExit(main())
