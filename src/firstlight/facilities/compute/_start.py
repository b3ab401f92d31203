"""The process that looks after a root: reach it, start it where there is none, and become it."""

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...core import Unavailable
from ._wire import address

PATIENCE = 60.0
"""Seconds it may take to start: a few tenths, but for a machine under heavy load."""


class Process(NamedTuple):
    """A process that outlives its clients, one a root: its name, that of the facility it belongs to, and its module.

    Of its name are its socket, lock and log in the root.
    """

    name: str
    facility: str
    module: str


def reach(root: Path, process: Process) -> socket.socket:
    """A connection to the process of this root (an absolute path). Blocks. Raises Unavailable."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        where = address(root, process.name)
        if channel := _connect(where):
            return channel
        # One at a time: who comes second finds the one that the first has started.
        with open(root / "start.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if channel := _connect(where):
                return channel
            _start(root, process)
            if channel := _connect(where):
                return channel
    except OSError as error:
        raise Unavailable(f"the {process.facility} facility cannot use its directory {root}: {error}") from error
    raise Unavailable(f"the {process.name} of {root} left as soon as it was started; see {root / process.name}.log")


def gone(root: Path, process: Process) -> None:
    """Wait until the process of this root, which has been told to leave, has left. Blocks."""
    held = root / f"{process.name}.lock"
    if held.exists():
        with open(held) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)


@contextlib.contextmanager
def becoming(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Be the one process of this name of a root, detached from its starter: yields its address and its lock file."""
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lock = root / f"{name}.lock"
    with open(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # At most until one that is leaving has left.
        listening = address(root, name)
        Path(listening).unlink(missing_ok=True)
        yield listening, lock


def _connect(where: str) -> socket.socket | None:
    channel = socket.socket(socket.AF_UNIX)
    try:
        channel.connect(where)
    except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
        channel.close()
        return None
    except BaseException:
        channel.close()
        raise
    return channel


def _start(root: Path, process: Process) -> None:
    """Start it and wait until it is ready."""
    ours, theirs = os.pipe()
    with open(ours, "rb") as ready:
        with open(_log(root, process), "ab") as log, open(theirs, "wb") as said:
            before = log.tell()
            subprocess.run(
                [sys.executable, "-P", "-m", process.module, str(root)],
                cwd=root, stdin=subprocess.DEVNULL, stdout=said, stderr=log, start_new_session=True, check=False,
            )  # fmt: skip
        heard, _, _ = select.select([ready], [], [], PATIENCE)
        if heard and ready.readline() == b"ready\n":
            return
    text = _log(root, process).read_bytes()[before:].decode(errors="replace").strip()
    why = text.splitlines()[-1] if text else f"it said nothing for {PATIENCE:g} s"
    raise Unavailable(f"the {process.name} of the {process.facility} facility in {root} cannot start: {why}")


def _log(root: Path, process: Process) -> Path:
    return root / f"{process.name}.log"
