"""A TCP proxy on loopback that breaks connections on command: cuts them, refuses new ones, or lets nothing through.

It never looks at what it carries.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

CHUNK = 64 * 1024


class Proxy:
    """Stands before one address. `port` is where it listens."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._pumps: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.refusing = False
        self.accepted = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self.accepted += 1
        try:
            inner_reader, inner_writer = await asyncio.open_connection(*self._target)
        except OSError:  # nobody is there at the moment
            writer.transport.abort()
            return
        for source, sink in ((reader, inner_writer), (inner_reader, writer)):
            self._pumps[asyncio.create_task(self._pump(source, sink))] = (writer, inner_writer)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await source.read(CHUNK):
                await self._flowing.wait()
                sink.write(chunk)
                await sink.drain()
        sink.close()

    def stall(self) -> None:
        """Carry nothing more, without a word to either side."""
        self._flowing.clear()

    def flow(self) -> None:
        """Carry on."""
        self._flowing.set()

    def cut(self, *, refuse: bool = False) -> None:
        """Reset all connections, and refuse new ones if asked to."""
        self.refusing = refuse
        for writers in self._pumps.values():
            for writer in writers:
                writer.transport.abort()

    async def close(self) -> None:
        self.cut(refuse=True)
        for task in self._pumps:
            task.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)


@asynccontextmanager
async def proxied(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy that listens while the block lasts."""
    proxy = Proxy(host, port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
