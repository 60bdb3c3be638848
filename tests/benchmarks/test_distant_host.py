"""A distant host's connections carry all bytes in order, in both directions, and end when one side closes."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.distant_host import Gate, _join


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(1000):
        writer.write(chunk.upper())
    writer.close()


@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_connection_through_the_gate_carries_all_bytes_in_order(tmp_path: Path, seconds: float) -> None:
    gate = Gate(tmp_path / "gate")
    sent = b"".join(b"%d," % number for number in range(50_000))

    async def through() -> bytes:
        far = await asyncio.start_server(_echo, "127.0.0.1", 0)
        port = far.sockets[0].getsockname()[1]

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ends = await asyncio.open_unix_connection(tmp_path / "gate")
            ends[1].write(f"{port}\n".encode())
            await _join((reader, writer), ends, seconds)

        near = await asyncio.start_server(carry, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*near.sockets[0].getsockname())
        writer.write(b"abc" + sent)
        writer.write_eof()
        async with asyncio.timeout(20):
            return await reader.read(-1)

    try:
        assert asyncio.run(through()) == b"ABC" + sent
    finally:
        gate.close()
