"""Who a process is, and whether another one still is.

Each holds a lock on a file of its own. The kernel lets go of it when the process ends, however it does: no number that
is used again, no restart of the machine or of a container, and no other name of the machine makes anybody look alive
who is gone, or gone who is alive.
"""

import contextlib
import fcntl
import os
import secrets
import socket
import weakref
from pathlib import Path


class Owners:
    """The processes that use a laboratory, of which this is one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.here = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(8)}"
        """This one, in words: its machine and number are for people to read, the last is the name of its file."""
        for left in folder.iterdir():
            self._is_free(left)
        while True:
            self._lock = os.open(self._file(self.here), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            # Whoever comes between the two lines above takes it for one that was left behind.
            if os.fstat(self._lock).st_nlink:
                break
            os.close(self._lock)
        self._end = weakref.finalize(self, os.close, self._lock)

    def is_gone(self, owner: str) -> bool:
        """Whether a process has ended, or has let go ("" is nobody)."""
        return owner != self.here and (not owner or self._is_free(self._file(owner)))

    def leave(self) -> None:
        """What this one begins from now on is nobody's."""
        if self._end.alive:
            self._file(self.here).unlink(missing_ok=True)
            self._end()

    def _file(self, owner: str) -> Path:
        return self._folder / owner.rpartition(" ")[2]

    @staticmethod
    def _is_free(file: Path) -> bool:
        """Whether nobody has it locked; nobody ever will again, so that it goes too."""
        try:
            found = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.unlink(missing_ok=True)
                return True
            return False
        finally:
            os.close(found)
