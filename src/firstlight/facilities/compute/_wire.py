"""What a facility says to the process that outlives it, and how: JSON behind its length in four bytes."""

import asyncio
import hashlib
import os
import socket
import struct
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

from ...core import Outcome, Permit

LONGEST_ADDRESS = 100
T = TypeVar("T")


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    id: int
    permit: Permit


class Find(msgspec.Struct, frozen=True, tag="find"):
    id: int
    action: str


class Await(msgspec.Struct, frozen=True, tag="await"):
    id: int
    job: str


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    id: int
    job: str


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    """End everything now."""

    id: int


class Reply(msgspec.Struct, frozen=True):
    """To the request of the same id. `unavailable` says why nothing came of it.

    `attempts` is how often the action was begun, 0 where whoever replies has not counted.
    """

    id: int
    job: str | None = None
    outcome: Outcome | None = None
    attempts: int = 0
    unavailable: str = ""


def pack(message: msgspec.Struct) -> bytes:
    body = msgspec.json.encode(message)
    return struct.pack("!I", len(body)) + body


async def receive(reader: asyncio.StreamReader, decoder: msgspec.json.Decoder[T]) -> T | None:
    """The next message, None at the end."""
    try:
        (length,) = struct.unpack("!I", await reader.readexactly(4))
        return decoder.decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def receive_blocking(channel: socket.socket, decoder: msgspec.json.Decoder[T]) -> T | None:
    """The next message, None at the end."""
    if len(head := _exactly(channel, 4)) < 4:
        return None
    (length,) = struct.unpack("!I", head)
    body = _exactly(channel, length)
    return decoder.decode(body) if len(body) == length else None


def address(root: Path, name: str) -> str:
    """Where a process of this name listens for a root. Raises OSError.

    In the root itself unless that path is too long for a socket (108 bytes); else in a folder of this user's.
    """
    inside = str(root / f"{name}.sock")
    if len(os.fsencode(inside)) <= LONGEST_ADDRESS:
        return inside
    folder = Path(tempfile.gettempdir(), f"firstlight-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = folder.lstat()
    if owner.st_uid != os.getuid() or owner.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone: remove it, or set TMPDIR")
    return str(folder / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}-{name}.sock")


def _exactly(channel: socket.socket, length: int) -> bytes:
    got = bytearray()
    while len(got) < length:
        try:
            piece = channel.recv(min(length - len(got), 1 << 20))
        except ConnectionError:
            break
        if not piece:
            break
        got += piece
    return bytes(got)
