"""Between a client and a server: passes everything on, until it is told to swallow replies or to cut connections."""

import asyncio
import contextlib
import time


class Proxy:
    """Listens at 127.0.0.1 and passes on to a port there."""

    def __init__(self, port: int, to: int) -> None:
        self.port, self._to = port, to
        self._swallow, self._hold = 0.0, 0.0
        self._streams: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError."""
        self._server = await asyncio.start_server(self._met, "127.0.0.1", self.port)

    def hold(self, seconds: float) -> None:
        """Let each reply wait so long, so that what its request sets off in the world can still swallow it."""
        self._hold = seconds

    def drop(self, seconds: float) -> None:
        """Swallow what servers reply for some seconds; a connection that lost bytes is cut after them."""
        self._swallow, self._hold = time.monotonic() + seconds, 0.0
        asyncio.get_running_loop().call_later(seconds, self.cut)

    def cut(self) -> None:
        """Cut all connections, without a farewell."""
        for stream in list(self._streams):
            stream.transport.abort()

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for pump in self._pumps:
            pump.cancel()

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._streams |= {writer, back}
        pumps = [
            asyncio.create_task(self._pump(reader, back, False)),
            asyncio.create_task(self._pump(there, writer, True)),
        ]
        self._pumps |= set(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # It is what asyncio.run does to us at the end; it would be reported as an error of its own.
            return
        finally:
            for pump in pumps:
                pump.cancel()
            self._pumps -= set(pumps)
            for stream in (writer, back):
                stream.transport.abort()
                self._streams.discard(stream)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replies: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while said := await reader.read(1 << 16):
                if replies and self._hold:
                    await asyncio.sleep(self._hold)
                if replies and time.monotonic() < self._swallow:
                    continue
                writer.write(said)
                await writer.drain()
