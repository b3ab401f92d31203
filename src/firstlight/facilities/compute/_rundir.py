"""The run directories: what was asked, who is at it, and the one result that decides.

    actions/<name>/spec.json          the permit, there before anything is asked of an engine
    actions/<name>/submit-<n>.json    an engine may have been asked this often (batch systems only)
    actions/<name>/attempt-<n>.log    what one performance printed; it is there as soon as one has begun
    actions/<name>/attempt-<n>.lease  who performs it; it is touched as long as they live (where several might)
    actions/<name>/attempt-<n>.left   it stopped in order to be continued, after so many seconds
    actions/<name>/attempt-<n>/       its working directory, and attempt-<n>.stdout beside it (where it has one)
    actions/<name>/checkpoint/        what one attempt leaves for the next
    actions/<name>/cancel             whoever performs it shall end
    actions/<name>/result.json        the outcome; a hard link, so that there is one commit and never two

Only result.json decides: an action without one is neither a success nor a failure. An engine's own word for a job, its
number above all, is a hint: batch systems forget jobs and give their numbers to others.
"""

import contextlib
import hashlib
import os
import re
import secrets
import socket
import time
from pathlib import Path

import msgspec

from ...core import Outcome, Permit, Unavailable
from . import _processes

TAIL_LINES, TAIL_BYTES = 20, 8192
LEASE = 30.0
"""Seconds after which somebody who has not been heard of counts as dead."""

_permit = msgspec.json.Decoder(Permit)
_outcome: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)


class Performer(msgspec.Struct, frozen=True):
    """Who performs an attempt: a process of a machine, known by its number, its start and the machine's boot."""

    by: str
    host: str
    boot: str
    pid: int
    started: int
    at: float


def performer(by: str) -> Performer:
    """This process."""
    return Performer(
        by=by, host=socket.gethostname(), boot=_processes.boot(), pid=os.getpid(),
        started=_processes.started(os.getpid()), at=time.time(),
    )  # fmt: skip


class Submission(msgspec.Struct, frozen=True):
    """An engine may have been asked: written before it is. `native` is its own word for the job, once that is known.

    `name` is ours for the job, where it was chosen before the engine was asked, so that the job can be found by it.
    """

    at: float
    native: str = ""
    name: str = ""


def safe_name(action: str) -> str:
    """A file name of its own for every action id."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,119}", action):
        return action
    digest = hashlib.sha256(action.encode()).hexdigest()[:16]
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', action[:60])}~{digest}"


def run_directory(root: Path, action: str) -> "RunDirectory":
    """That of an action below the root of a facility."""
    return RunDirectory(root / "actions" / safe_name(action))


def checkpoint_of(root: Path, action: str) -> Path:
    """Where the attempts of an action leave what the next one goes on with, below the root of its facility; nothing is
    made. It is there where the facility works on a file system that is seen from here."""
    return run_directory(root, action).path / "checkpoint"


def existing(path: Path) -> Path:
    """The path, or the part of it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def unusable(root: Path) -> str:
    """Why nothing can be written below a facility's root, "" where it can."""
    there = existing(root)
    if not there.is_dir():
        return f"{there} is in the way, and is no directory"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} may not be written"


def opened(root: Path, action: str) -> "RunDirectory":
    """That of an action below the root of a facility, which is made where it is not there. Raises Unavailable."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"{root} cannot be used: {error.strerror}") from None
    return run_directory(root, action)


class RunDirectory:
    """All that is known of one action."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # ------------------------------------------------------------------ what was asked

    def write_spec(self, permit: Permit, fsync: bool = False) -> None:
        """Remember the permit, through any crash of a process; with `fsync` through a power cut too.

        Where whoever performs the action dies in the same power cut it need not be synced: whether it was asked for
        is in the campaign's journal.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        replace_file(self.path / "spec.json", msgspec.json.encode(permit), fsync)

    def spec(self) -> Permit | None:
        try:
            return _permit.decode((self.path / "spec.json").read_bytes())
        except FileNotFoundError:
            return None

    def submissions(self) -> list[Submission]:
        """How often an engine may have been asked, the oldest first."""
        found = []
        for n in range(1, self._count("submit-", ".json") + 1):
            with contextlib.suppress(FileNotFoundError):
                found.append(msgspec.json.decode((self.path / f"submit-{n}.json").read_bytes(), type=Submission))
        return found

    def submitting(self, name: str = "") -> Path:
        """Say that an engine is about to be asked. The file takes its answer: see `submitted`."""
        path = self.path / f"submit-{self._count('submit-', '.json') + 1}.json"
        replace_file(path, msgspec.json.encode(Submission(at=time.time(), name=name)), fsync=True)
        return path

    def submitted(self, path: Path, native: str) -> None:
        """Keep an engine's own word for the job."""
        asked = msgspec.json.decode(path.read_bytes(), type=Submission)
        replace_file(path, msgspec.json.encode(msgspec.structs.replace(asked, native=native)))

    def ask_to_end(self) -> None:
        """Have whoever performs it, or is about to, end it."""
        (self.path / "cancel").touch()

    @property
    def asked_to_end(self) -> bool:
        return (self.path / "cancel").exists()

    # ------------------------------------------------------------------ who is at it

    def attempts(self) -> int:
        """How often its performance was begun."""
        return self._count("attempt-", ".log")

    def begin(self) -> Path:
        """A new attempt: the path its files begin with. Raises FileExistsError where somebody was quicker."""
        attempt = self.attempt(self.attempts() + 1)
        attempt.with_suffix(".log").touch(exist_ok=False)
        return attempt

    def attempt(self, number: int) -> Path:
        return self.path / f"attempt-{number}"

    def last(self) -> Path:
        return self.attempt(self.attempts())

    def claim(self, by: str) -> Path:
        """A new attempt with a lease. Raises FileExistsError where somebody was quicker."""
        attempt = self.begin()
        replace_file(attempt.with_suffix(".lease"), msgspec.json.encode(performer(by)))
        return attempt

    def performer(self, lease: float = LEASE) -> Performer | None:
        """Whoever performs it now, as far as can be told from here; None where nobody does.

        An attempt lives while its lease is fresh by the clock of the file system, and on this very machine while its
        process does.
        """
        last = self.last()
        if last.with_suffix(".left").exists():
            return None
        try:
            claim = last.with_suffix(".lease")
            touched = claim.stat().st_mtime
            who = msgspec.json.decode(claim.read_bytes(), type=Performer)
        except FileNotFoundError:
            # Begun a moment ago, its lease is still to be written.
            with contextlib.suppress(FileNotFoundError):
                if (log := last.with_suffix(".log").stat().st_mtime) > self._now() - lease:
                    return Performer(by="", host="", boot="", pid=0, started=0, at=log)
            return None
        if touched <= 0.0 or touched < self._now() - lease:
            return None
        if who.boot == _processes.boot() and _processes.started(who.pid) != who.started:
            return None
        return who

    def leave(self, attempt: Path, seconds: float = 0.0) -> None:
        """Let go of an attempt that has not ended the action, after so many seconds: another may begin at once."""
        replace_file(attempt.with_suffix(".left"), repr(seconds).encode())
        with contextlib.suppress(FileNotFoundError):
            os.utime(attempt.with_suffix(".lease"), (0.0, 0.0))

    def spent(self) -> float:
        """Seconds that the attempts took which stopped in order to be continued."""
        return sum(float(file.read_text()) for file in self.path.glob("attempt-*.left"))

    @property
    def checkpoint(self) -> Path:
        """The directory that the attempts of an action share; it is made when it is asked for."""
        path = self.path / "checkpoint"
        path.mkdir(exist_ok=True)
        return path

    # ------------------------------------------------------------------ what came of it

    def result(self) -> Outcome | None:
        """The committed outcome, None where there is none."""
        try:
            return _outcome.decode((self.path / "result.json").read_bytes())
        except FileNotFoundError:
            return None

    def commit(self, outcome: Outcome, fsync: bool = True) -> Outcome:
        """Make this the outcome unless there is one already; return the one that holds. Raises OSError."""
        private = self.path / f".out-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            with open(private, "xb") as file:
                file.write(msgspec.json.encode(outcome))
                file.flush()
                if fsync:
                    os.fsync(file.fileno())
            os.link(private, self.path / "result.json")
        except FileExistsError:
            return self.result() or outcome
        finally:
            with contextlib.suppress(OSError):
                private.unlink()
        if fsync:
            sync_directory(self.path)
        return outcome

    def commit_patiently(self, outcome: Outcome, fsync: bool = True) -> Outcome:
        """Commit, trying for ten minutes where the disk refuses: a full disk must not cost a finished computation."""
        for delay in (0.1, 1.0, 5.0, 30.0, 60.0, 120.0, 384.0):
            try:
                return self.commit(outcome, fsync)
            except OSError as error:
                print(f"{self.path.name}: the result cannot be written ({error}); again in {delay:g} s", flush=True)
                time.sleep(delay)
        return self.commit(outcome, fsync)

    # ------------------------------------------------------------------

    def _count(self, prefix: str, suffix: str) -> int:
        try:
            return sum(n.startswith(prefix) and n.endswith(suffix) for n in os.listdir(self.path))
        except FileNotFoundError:
            return 0

    def _now(self) -> float:
        """By the clock of the file system, which is the one that leases are touched by."""
        probe = self.path / f".now-{os.getpid()}-{secrets.token_hex(4)}"
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)


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


def replace_file(path: Path, content: bytes, fsync: bool = False) -> None:
    """Write a file in one stroke. Raises OSError."""
    private = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(private, "xb") as file:
            file.write(content)
            if fsync:
                file.flush()
                os.fsync(file.fileno())
        private.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            private.unlink()
    if fsync:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make what was linked or renamed in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
