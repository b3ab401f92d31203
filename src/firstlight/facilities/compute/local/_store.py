"""The run directories of this machine, and who performs what in them now.

running/<name>    the claim of whoever performs an action; the supervisor alone writes it
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from .._rundir import RunDirectory, replace_file, run_directory, safe_name


class Claim(msgspec.Struct, frozen=True):
    """Who performs an action: a process is known by its id, when it started, and the boot of the machine."""

    action: str
    attempt: str
    pid: int
    started: int
    boot: str
    at: float


class Store:
    """The run directories below one root."""

    def __init__(self, root: Path) -> None:
        self._root, self._running = root, root / "running"

    def prepare(self) -> None:
        """Make the folders. Raises OSError."""
        (self._root / "actions").mkdir(parents=True, exist_ok=True)
        self._running.mkdir(exist_ok=True)

    def run(self, action: str) -> RunDirectory:
        return run_directory(self._root, action)

    def claim(self, claim: Claim) -> None:
        replace_file(self._running / safe_name(claim.action), msgspec.json.encode(claim))

    def release(self, action: str) -> None:
        (self._running / safe_name(action)).unlink(missing_ok=True)

    def claims(self) -> Iterator[Claim]:
        """What was being performed when whoever wrote it was last alive."""
        for path in self._running.iterdir():
            # A private file is left behind by a death between writing and renaming: nothing was begun then.
            if path.name.startswith("."):
                path.unlink(missing_ok=True)
            else:
                yield msgspec.json.decode(path.read_bytes(), type=Claim)
