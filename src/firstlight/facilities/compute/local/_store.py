"""The run directories: what was asked, what runs, and the one result that decides.

    actions/<name>/spec.json        the permit
    actions/<name>/attempt-<n>.log  what one performance printed; it is there as soon as one has begun
    actions/<name>/attempt-<n>/     for a command: its working directory, and attempt-<n>.stdout beside it
    actions/<name>/result.json      the outcome; a hard link, so that there is one commit and never two
    running/<name>                  who performs it now

Only result.json decides: an action without one is neither a success nor a failure.
"""

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ....core import Outcome, Permit

TAIL_LINES, TAIL_BYTES = 20, 8192

_permit = msgspec.json.Decoder(Permit)
_outcome: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)


class Claim(msgspec.Struct, frozen=True):
    """Who performs an action: a process is known by its id, when it started, and the boot of the machine."""

    action: str
    attempt: str
    pid: int
    started: int
    boot: str
    at: float


def safe_name(action: str) -> str:
    """A file name of its own for every action id."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,119}", action):
        return action
    digest = hashlib.sha256(action.encode()).hexdigest()[:16]
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', action[:60])}~{digest}"


class Store:
    """The run directories below one root."""

    def __init__(self, root: Path) -> None:
        self._actions, self._running = root / "actions", root / "running"

    def prepare(self) -> None:
        """Make the folders. Raises OSError."""
        self._actions.mkdir(parents=True, exist_ok=True)
        self._running.mkdir(exist_ok=True)

    def directory(self, action: str) -> Path:
        return self._actions / safe_name(action)

    def write_spec(self, permit: Permit) -> None:
        """Remember the permit, through any crash of a process.

        Not synced to the disk: after a power cut nothing performs the action any more, and whether it was asked
        for is in the campaign's journal.
        """
        directory = self.directory(permit.action.id)
        directory.mkdir(exist_ok=True)
        _replace(directory / "spec.json", msgspec.json.encode(permit))

    def spec(self, action: str) -> Permit | None:
        try:
            return _permit.decode((self.directory(action) / "spec.json").read_bytes())
        except FileNotFoundError:
            return None

    def result(self, action: str) -> Outcome | None:
        return read_result(self.directory(action))

    def attempts(self, action: str) -> int:
        """How often its performance was begun."""
        try:
            return sum(name.endswith(".log") for name in os.listdir(self.directory(action)))
        except FileNotFoundError:
            return 0

    def begin(self, action: str) -> Path:
        """A new attempt: the path its files begin with."""
        attempt = self.last(action, self.attempts(action) + 1)
        attempt.with_suffix(".log").touch(exist_ok=False)
        return attempt

    def last(self, action: str, attempts: int) -> Path:
        return self.directory(action) / f"attempt-{attempts}"

    def claim(self, claim: Claim) -> None:
        _replace(self._running / safe_name(claim.action), msgspec.json.encode(claim))

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


def read_result(directory: Path) -> Outcome | None:
    """The committed outcome of an action, None where there is none."""
    try:
        return _outcome.decode((directory / "result.json").read_bytes())
    except FileNotFoundError:
        return None


def commit(directory: Path, outcome: Outcome, fsync: bool) -> Outcome:
    """Make this the outcome unless there is one already; return the one that holds. Raises OSError."""
    private = directory / f".out-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with open(private, "xb") as file:
            file.write(msgspec.json.encode(outcome))
            file.flush()
            if fsync:
                os.fsync(file.fileno())
        os.link(private, directory / "result.json")
    except FileExistsError:
        return read_result(directory) or outcome
    finally:
        with contextlib.suppress(OSError):
            private.unlink()
    if fsync:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return outcome


def commit_patiently(directory: Path, outcome: Outcome, fsync: bool) -> Outcome:
    """Commit, trying for ten minutes where the disk refuses: a full disk must not cost a finished computation."""
    for delay in (0.1, 1.0, 5.0, 30.0, 60.0, 120.0, 384.0):
        try:
            return commit(directory, outcome, fsync)
        except OSError as error:
            print(f"{directory.name}: the result cannot be written ({error}); again in {delay:g} s", flush=True)
            time.sleep(delay)
    return commit(directory, outcome, fsync)


def tail(attempt: Path) -> str:
    """The last lines of what an attempt printed."""
    parts = []
    for kind in (".stdout", ".log"):
        try:
            with open(attempt.with_suffix(kind), "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
        except FileNotFoundError:
            continue
        parts.append("\n".join(lines))
    return "\n".join(part for part in parts if part)


def _replace(path: Path, content: bytes) -> None:
    private = path.with_name(f".{path.name}.{os.getpid()}")
    private.write_bytes(content)
    private.replace(path)
