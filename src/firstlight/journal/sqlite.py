"""The journal on a disk of this node: SQLite, shared by any number of processes of one host."""

import contextlib
import fcntl
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from firstlight import core

from ._anchors import write_anchor
from ._chain import Finding, Head
from ._database import SCHEMA, Session
from ._filesystem import MOUNTINFO, Unfit, refuse_shared
from ._log import LogJournal
from ._verify import Anchors, verify_file

_APPLICATION = 0x464C4A4C
"""Marks the file as a Firstlight journal ("FLJL"), where SQLite keeps such marks."""
_PATIENCE = 30.0
"""Seconds to wait for another process to end its transaction; they take milliseconds."""
_TABLES = """
CREATE TABLE heads (
    number INTEGER PRIMARY KEY, campaign TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL, digest BLOB NOT NULL
) STRICT;
CREATE TABLE entries (
    campaign TEXT NOT NULL, seq INTEGER NOT NULL, line BLOB NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (campaign, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE mail (
    number INTEGER PRIMARY KEY AUTOINCREMENT, campaign TEXT NOT NULL, line BLOB NOT NULL, answer TEXT
) STRICT;
CREATE INDEX mail_waiting ON mail (campaign) WHERE answer IS NULL;
"""

_held: set[int] = set()
"""File descriptors of the locks this process holds."""


def _drop_locks() -> None:
    """A forked child must not keep its parent's leases alive when the parent dies."""
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_drop_locks)


class _Lock(NamedTuple):
    file: int
    path: Path


class _Sqlite:
    """SQLite with one lock file a lease, and one more (`turn`) in which writers of several processes queue.

    Locks are flock's: the kernel frees them the moment their holder dies, kill -9 included. SQLite's own
    lock has no queue, so that a busy process can starve the others; whoever waits for it holds `turn`.
    """

    errors: tuple[type[Exception], ...] = (sqlite3.Error,)
    poll: float | None = 0.05

    def __init__(self, path: Path, mountinfo: Path) -> None:
        self.name = str(path)
        self._path, self._locks, self._anchors = path, Path(f"{path}.locks"), path.with_suffix(".heads")
        self._version, self._seen = -1, dict[str, int]()
        refuse_shared(path, mountinfo)
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
            self._turn = os.open(self._locks / "turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise Unfit(f"the journal {path} cannot be kept there: {error}") from error
        _held.add(self._turn)
        try:
            self._writer = self._open()
            self._file = path.stat()
        except BaseException:
            self._drop(self._turn)
            raise

    def _open(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            connection = self.session()
            _prepare(connection, self._path)
            return connection
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise Unfit(f"the journal {self._path} cannot be opened: {error}") from error
            raise
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def session(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)

    # ------------------------------------------------------------- transactions

    def begin(self) -> Session:
        if not (self._path.exists() and os.path.samestat(self._path.stat(), self._file)):
            raise OSError("its file was removed or replaced while it was open: restart on the right one")
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        return self._writer

    def commit(self, changed: Iterable[str]) -> None:
        self._writer.execute("COMMIT")

    def rollback(self) -> None:
        # Where even this fails the next BEGIN says so.
        with contextlib.suppress(sqlite3.Error):
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

    def changes(self) -> Iterable[str]:
        (version,) = self._writer.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return ()
        self._version = version
        before, self._seen = self._seen, dict(self._writer.execute("SELECT campaign, seq FROM heads").fetchall())
        mailed = self._writer.execute("SELECT DISTINCT campaign FROM mail WHERE answer IS NULL").fetchall()
        return {c for c, seq in self._seen.items() if before.get(c) != seq} | {c for (c,) in mailed}

    # ------------------------------------------------------------- leases

    def lock(self, campaign: str, holder: str) -> _Lock:
        path = self._lock_path(campaign)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        _held.add(file)
        try:
            if not _take(file):
                raise core.Held(campaign, os.pread(file, 4096, 0).decode(errors="replace") or "another process")
            os.ftruncate(file, 0)
            os.pwrite(file, holder.encode(), 0)
        except BaseException:
            self._drop(file)
            raise
        return _Lock(file, path)

    def holds(self, token: object) -> bool:
        """Somebody who deletes the lock file lets another in: then it is ours no longer."""
        assert isinstance(token, _Lock)
        try:
            return os.path.samestat(os.stat(token.path), os.fstat(token.file))
        except FileNotFoundError:
            return False

    def unlock(self, campaign: str, token: object) -> None:
        assert isinstance(token, _Lock)
        os.ftruncate(token.file, 0)
        self._drop(token.file)

    def holder(self, session: Session, campaign: str) -> str:
        try:
            file = os.open(self._lock_path(campaign), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return ""
        try:
            text = os.pread(file, 4096, 0).decode(errors="replace")
            # Nobody's name, nobody's lease: only where a name was left is it asked whether its bearer lives.
            if not text or _is_free(file):
                return ""
            return text
        finally:
            os.close(file)

    def _lock_path(self, campaign: str) -> Path:
        return self._locks / hashlib.sha256(campaign.encode()).hexdigest()

    def _drop(self, file: int) -> None:
        _held.discard(file)
        os.close(file)

    # ------------------------------------------------------------- the rest

    def verify(self, anchors: Anchors) -> Sequence[Finding]:
        return verify_file(self._path, anchors)

    def anchor(self, campaign: str, head: Head) -> None:
        write_anchor(self._anchors, campaign, head)

    def close(self) -> None:
        self._writer.close()
        self._drop(self._turn)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make a new file a journal, and refuse one that is something else or newer."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != _APPLICATION:
        raise Unfit(f"{path} is a database, but not a journal: name another file")
    if version > SCHEMA:
        raise Unfit(f"the journal {path} has schema {version}, this version knows {SCHEMA}: install a newer firstlight")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise Unfit(f"the journal {path} cannot have a write-ahead log there (it stays {mode!r}): choose another disk")
    connection.execute("PRAGMA synchronous = FULL")
    if not tables:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute("COMMIT")


def _take(file: int) -> bool:
    """Lock it, unless somebody holds it; whoever only looks (`_is_free`) holds it for an instant."""
    for pause in (0.001, 0.005, 0.0):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(pause)
    return False


def _is_free(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


class SqliteJournal(LogJournal):
    """A journal in one SQLite file (write-ahead log, synchronous FULL), for many campaigns and processes of one host.

    Beside `journal.db` lie `journal.db.locks/` (leases) and `journal.heads` (anchors, see `verify`). Raises
    Unfit where the file cannot be a journal: on a shared file system, written by a newer version, damaged.
    """

    def __init__(self, path: Path | str, mountinfo: Path = MOUNTINFO) -> None:
        self.path = Path(path)
        super().__init__(_Sqlite(self.path, mountinfo))
