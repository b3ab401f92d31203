"""Requests to a queue server over 0MQ, one connection each, and what it publishes of its state."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from ...core import InDoubt, Unavailable

Said = Mapping[str, Any]
"""What the server answered: `success` and `msg` are in it where it was asked to do something."""
RESTARTING = 15.0
"""Seconds that a manager may be away while its watchdog starts it again (about 5 s)."""
AGAIN = 0.1
"""Seconds between two looks at a server that is changing its state."""


class Link:
    """The server at `address`, which publishes at `info` ("" where it does not, and is asked every `poll` seconds).

    `key` names the environment variable with its public key ("" without encryption). `patience` is seconds to connect,
    and for each answer.
    """

    def __init__(self, address: str, info: str, key: str, poll: float, patience: float) -> None:
        self._address, self._info, self._key, self._poll, self._patience = address, info, key, poll, patience
        self._context: zmq.asyncio.Context | None = None

    async def ask(self, method: str, **params: Any) -> Said:
        """The answer to one request. Raises Unavailable where it was surely not sent, InDoubt where no answer came."""
        with self._socket(zmq.REQ) as link:
            link.connect(self._address)
            try:
                async with asyncio.timeout(self._patience):
                    await link.send(msgspec.json.encode({"method": method, "params": params}))
            except TimeoutError:
                raise Unavailable(f"{self._address} cannot be reached") from None
            try:
                async with asyncio.timeout(self._patience):
                    return msgspec.json.decode(await link.recv(), type=dict[str, Any])
            except TimeoutError:
                raise InDoubt(f"{method} was sent to {self._address}, and no answer came") from None
            except ValueError as error:
                raise InDoubt(f"{method} was sent to {self._address}, and the answer cannot be read: {error}") from None

    async def look(self, method: str, **params: Any) -> Said:
        """The answer to what may be asked again. Raises Unavailable."""
        try:
            return await self.ask(method, **params)
        except InDoubt as error:
            raise Unavailable(str(error)) from None

    async def look_on(self, method: str) -> Said:
        """The same, of a server that may be starting again just now."""
        until = time.monotonic() + RESTARTING
        while True:
            try:
                return await self.look(method)
            except Unavailable:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(AGAIN)

    async def act(self, method: str, **params: Any) -> Said:
        """The answer to a request of which what came is seen afterwards; one that says why where there is none."""
        try:
            return await self.ask(method, **params)
        except (InDoubt, Unavailable) as error:
            return {"success": False, "msg": str(error)}

    async def states(self) -> AsyncGenerator[Said | None, None]:
        """The server's status: now, at every change, and at times without one; None while it cannot be had."""
        with self._socket(zmq.SUB) as told:
            if self._info:
                told.subscribe(b"QS_Info")
                told.connect(self._info)
            said = await self._status()
            while True:
                yield said
                if self._info and said is not None:
                    said = await self._published(told) or await self._status()
                else:
                    await asyncio.sleep(self._poll)
                    said = await self._status()

    async def _status(self) -> Said | None:
        try:
            return await self.look("status")
        except Unavailable:
            return None

    async def _published(self, told: zmq.asyncio.Socket) -> Said | None:
        """The next status that is published, once a second at least; None where nothing comes for too long."""
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    _, message = await told.recv_multipart()
                    said = msgspec.json.decode(message, type=_Publication).msg.get("status")
                    if isinstance(said, dict):
                        return said
        except (TimeoutError, ValueError):
            return None

    def close(self) -> None:
        """Let go of it."""
        made, self._context = self._context, None
        if made is not None:
            made.destroy(linger=0)

    def _socket(self, kind: int) -> zmq.asyncio.Socket:
        """One of its own for each request: an answer that comes too late is nobody else's."""
        if self._context is None:
            self._context = zmq.asyncio.Context()
        made: zmq.asyncio.Socket = self._context.socket(kind)
        made.linger = 0
        # Nothing waits in a queue of ours for a server that is away: it would arrive when nobody expects it any more.
        made.setsockopt(zmq.IMMEDIATE, 1)
        if self._key and kind == zmq.REQ:
            try:
                made.curve_serverkey = self._public_key()
                made.curve_publickey, made.curve_secretkey = zmq.curve_keypair()
            except (Unavailable, zmq.ZMQError):
                made.close()
                raise Unavailable(f"there is no public key of 40 characters in ${self._key}: put one there") from None
        return made

    def _public_key(self) -> bytes:
        key = os.environ.get(self._key, "").strip()
        if len(key) != 40 or not key.isascii():
            raise Unavailable("there is none")
        return key.encode()


class _Publication(msgspec.Struct):
    msg: dict[str, Any] = {}


def problem(answer: Said) -> str:
    """What the server says against it, in one line."""
    return " ".join(str(answer.get("msg") or "").split())[:500]
