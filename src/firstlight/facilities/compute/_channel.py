"""One end of a connection: whole messages in, whole messages out, many in one call of the system."""

import asyncio
import struct
from collections.abc import Callable

_HEAD = struct.Struct("!I")


class Channel(asyncio.Protocol):
    """Gives every message that arrives to `heard`, and calls `lost` once when there will be no more."""

    def __init__(self, heard: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._heard, self._lost = heard, lost
        self._transport: asyncio.WriteTransport | None = None
        self._arrived = bytearray()
        self._leaving: list[bytes] = []
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open = False

    def send(self, body: bytes) -> None:
        """Send a message, together with the others of this turn of the loop. Nothing happens once it is closed."""
        if not self.open:
            return
        if not self._leaving:
            asyncio.get_running_loop().call_soon(self._flush)
        self._leaving += (_HEAD.pack(len(body)), body)

    async def close(self) -> None:
        """Send what is still to be sent, and close."""
        self._flush()
        if self._transport:
            self._transport.close()
            await asyncio.shield(self._closed)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport, self.open = transport, True

    def data_received(self, data: bytes) -> None:
        arrived, at = self._arrived, 0
        arrived += data
        while len(arrived) - at >= _HEAD.size:
            (length,) = _HEAD.unpack_from(arrived, at)
            end = at + _HEAD.size + length
            if len(arrived) < end:
                break
            self._heard(bytes(arrived[at + _HEAD.size : end]))
            at = end
        del arrived[:at]

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        self._closed.set_result(None)
        self._lost()

    def _flush(self) -> None:
        if self._transport and self._leaving and not self._transport.is_closing():
            self._transport.write(b"".join(self._leaving))
        self._leaving.clear()
