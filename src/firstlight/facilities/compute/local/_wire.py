"""What is said between the facility, its supervisor and the workers: JSON behind its length in four bytes."""

import asyncio
import hashlib
import os
import socket
import struct
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

from ....core import Outcome, Permit

LONGEST_ADDRESS = 100
T = TypeVar("T")


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First words of a client: how its workers shall be started, and how many actions it may have at once."""

    session: str
    python: str
    directory: str
    environment: dict[str, str]
    slots: int
    fsync: bool
    launcher: tuple[str, ...] = ()


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
    id: int


Request = Hello | Submit | Find | Await | Cancel | Shutdown


class Reply(msgspec.Struct, frozen=True):
    """To the request of the same id. `unavailable` says why nothing came of it."""

    id: int
    job: str | None = None
    outcome: Outcome | None = None
    unavailable: str = ""


class Work(msgspec.Struct, frozen=True):
    """For a worker: perform this in that directory, and commit."""

    permit: Permit
    attempt: str
    fsync: bool
    launcher: tuple[str, ...] = ()


class Done(msgspec.Struct, frozen=True):
    """From a worker: it is ready (no outcome), or the action has ended and its outcome is committed."""

    outcome: Outcome | None = None


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


def address(root: Path) -> str:
    """Where the supervisor of a root listens. Raises OSError.

    In the root itself unless that path is too long for a socket (108 bytes); else in a folder of this user's.
    """
    inside = str(root / "supervisor.sock")
    if len(os.fsencode(inside)) <= LONGEST_ADDRESS:
        return inside
    folder = Path(tempfile.gettempdir(), f"firstlight-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = folder.lstat()
    if owner.st_uid != os.getuid() or owner.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone: remove it, or set TMPDIR")
    return str(folder / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.sock")


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
