"""Reach the supervisor of a root, starting it where there is none."""

import fcntl
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

from ....core import Unavailable
from ._wire import address

PATIENCE = 60.0
"""Seconds a supervisor may take to start: a few tenths, but for a machine under heavy load."""


def reach(root: Path) -> socket.socket:
    """A connection to the supervisor of this root (an absolute path). Blocks. Raises Unavailable."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        where = address(root)
        if channel := _connect(where):
            return channel
        # One at a time: who comes second finds the supervisor that the first has started.
        with open(root / "start.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if channel := _connect(where):
                return channel
            _start(root)
            if channel := _connect(where):
                return channel
    except OSError as error:
        raise Unavailable(f"the local facility cannot use its directory {root}: {error}") from error
    raise Unavailable(f"the supervisor of {root} left as soon as it was started; see {root / 'supervisor.log'}")


def gone(root: Path) -> None:
    """Wait until the supervisor of this root, which has been told to leave, has left. Blocks."""
    if (root / "supervisor.lock").exists():
        with open(root / "supervisor.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)


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


def _start(root: Path) -> None:
    """Start it and wait until it is ready."""
    ours, theirs = os.pipe()
    with open(ours, "rb") as ready:
        with open(root / "supervisor.log", "ab") as log, open(theirs, "wb") as said:
            before = log.tell()
            subprocess.run(
                [sys.executable, "-P", "-m", f"{__package__}._supervisor", str(root)],
                cwd=root, stdin=subprocess.DEVNULL, stdout=said, stderr=log, start_new_session=True, check=False,
            )  # fmt: skip
        heard, _, _ = select.select([ready], [], [], PATIENCE)
        if heard and ready.readline() == b"ready\n":
            return
    text = (root / "supervisor.log").read_bytes()[before:].decode(errors="replace").strip()
    why = text.splitlines()[-1] if text else f"it said nothing for {PATIENCE:g} s"
    raise Unavailable(f"the supervisor of the local facility in {root} cannot start: {why}")
