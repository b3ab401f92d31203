"""A connection to the process that looks after a root: it is made when it is needed, and made again when it breaks."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec

from ...core import Unavailable
from ._channel import Channel
from ._start import Process, gone, reach
from ._wire import Reply, Shutdown

TRIES = 3
"""How often a request is sent anew when the process dies or is just leaving."""

_reply = msgspec.json.Decoder(Reply)
Request = msgspec.Struct


class Client:
    """Asks the process of a root, which `hello` tells first how it shall do what is asked."""

    def __init__(self, root: Path, process: Process, hello: Callable[[], msgspec.Struct]) -> None:
        self._root, self._process, self._hello = root, process, hello
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    async def ask(self, request: Callable[[int], Request]) -> Reply:
        """The reply to a request, which is made with a number. Raises Unavailable."""
        for _ in range(TRIES):
            link = await self._connected()
            with contextlib.suppress(ConnectionError):
                reply = await link.ask(request)
                if reply.unavailable:
                    facility = f"the {self._process.facility} facility in {self._root}"
                    raise Unavailable(f"{facility} cannot do it: {reply.unavailable}")
                return reply
        log = self._root / f"{self._process.name}.log"
        raise Unavailable(f"the {self._process.name} of {self._root} keeps dying; see {log}")

    async def close(self, last: msgspec.Struct | None = None) -> None:
        """Let go of it, with a last word that waits for no reply."""
        self._closed = True
        if self._link:
            await self._link.close(last)
            self._link = None

    async def shutdown(self) -> None:
        """Have it end all it does, for whomever, and close."""
        with contextlib.suppress(Unavailable):
            await self.ask(lambda id: Shutdown(id=id))
        await self.close()
        await asyncio.to_thread(gone, self._root, self._process)

    async def _connected(self) -> "_Link":
        if self._link and self._link.open:
            return self._link
        async with self._connecting:
            if self._closed:
                raise Unavailable("this facility has been closed")
            if not (self._link and self._link.open):
                channel = await asyncio.to_thread(reach, self._root, self._process)
                link = _Link()
                await asyncio.get_running_loop().create_unix_connection(lambda: link.channel, sock=channel)
                link.channel.send(msgspec.json.encode(self._hello()))
                self._link = link
            return self._link


class _Link:
    """One connection: requests go out as they come, replies come back in any order."""

    def __init__(self) -> None:
        self.channel = Channel(self._heard, self._lost)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}

    @property
    def open(self) -> bool:
        return self.channel.open

    async def ask(self, request: Callable[[int], Request]) -> Reply:
        """Send it and wait for the reply. Raises ConnectionError where the other end is gone."""
        if not self.open:
            raise ConnectionError
        id = next(self._numbers)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[id] = reply
        try:
            self.channel.send(msgspec.json.encode(request(id)))
            return await reply
        finally:
            self._waiting.pop(id, None)

    async def close(self, last: msgspec.Struct | None) -> None:
        if last is not None:
            self.channel.send(msgspec.json.encode(last))
        await self.channel.close()

    def _heard(self, body: bytes) -> None:
        reply = _reply.decode(body)
        if (waiting := self._waiting.get(reply.id)) and not waiting.done():
            waiting.set_result(reply)

    def _lost(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError())
