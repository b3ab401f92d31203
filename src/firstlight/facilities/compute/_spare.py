"""What a process that performs many short actions keeps for the next: making a file is what costs most on a disk.

    spare/<process>/log         the log of the next attempt, as long as none has printed anything into it
    spare/<process>/lease       its lease, which is that of all its attempts: they live as long as the process does
    spare/<process>/empty       what becomes the log of an attempt that printed nothing
    spare/<process>/checkpoint  the next checkpoint directory, as long as none has left anything in it

A run directory looks the same as without, but that an empty checkpoint directory does not stay in it.
"""

import contextlib
import os
import platform
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ._rundir import RunDirectory, performer, replace_file

MOST = 30_000
"""Names of one file: file systems allow some 65,000."""


class Spare:
    """The spare files of this process, in a folder on the file system of the run directories."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "spare" / f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._log, self._lease, self._empty, self._checkpoint = (
            str(self.folder / name) for name in ("log", "lease", "empty", "checkpoint")
        )
        self._uses = MOST

    @contextlib.contextmanager
    def lent(self, run: RunDirectory, by: str) -> Iterator[Path]:
        """The first attempt of an action, claimed by this process. Raises FileExistsError where somebody was quicker.

        An attempt that ends without a result is let go of.
        """
        if self._uses >= MOST:
            self._renew(by)
        self._uses += 1
        attempt = run.attempt(1)
        log, lease, checkpoint = f"{attempt}.log", f"{attempt}.lease", f"{run.path}/checkpoint"
        # Fresh by the clock of the file system, as whoever finds the log without the lease takes it for just begun.
        os.utime(self._log)
        os.utime(self._lease)
        os.link(self._log, log)
        os.link(self._lease, lease)
        with contextlib.suppress(OSError):
            os.rename(self._checkpoint, checkpoint)
        done = False
        try:
            yield attempt
            done = True
        finally:
            self._back(log, checkpoint)
            if not done:
                replace_file(Path(lease), msgspec.json.encode(performer(by)))
                os.utime(lease, (0.0, 0.0))

    def _back(self, log: str, checkpoint: str) -> None:
        """Take back what was not used."""
        if os.stat(self._log).st_size == 0:
            private = f"{log}~"
            os.link(self._empty, private)
            os.rename(private, log)
        else:
            os.unlink(self._log)
            _make(self._log)
        with contextlib.suppress(OSError):
            if not os.listdir(checkpoint):
                os.rename(checkpoint, self._checkpoint)
        if not os.path.exists(self._checkpoint):
            os.mkdir(self._checkpoint)

    def _renew(self, by: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (self._log, self._empty):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            _make(name)
        replace_file(Path(self._lease), msgspec.json.encode(performer(by)))
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._checkpoint)
        self._uses = 0


def _make(name: str) -> None:
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
