"""The little in which the databases that keep an index differ: SQLite in a file, PostgreSQL for many hosts.

Both are asked in one SQL, with "?" for a parameter. One process writes at a time, and whoever reads sees one state of
all tables for as long as the transaction lasts.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

from firstlight.core import Unavailable

SCHEMA = 2
"""The schema of the tables this version writes."""
TABLES = """
CREATE TABLE IF NOT EXISTS records(
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, version INTEGER NOT NULL,
    added DOUBLE PRECISION NOT NULL, body BLOB NOT NULL, retracted TEXT NOT NULL DEFAULT '',
    by TEXT NOT NULL DEFAULT '');
CREATE UNIQUE INDEX IF NOT EXISTS records_by_name ON records(name, version);
CREATE TABLE IF NOT EXISTS terms(t INTEGER PRIMARY KEY, term TEXT NOT NULL UNIQUE, counted INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS terms_counted ON terms(t) WHERE counted = 1;
CREATE TABLE IF NOT EXISTS bits(t INTEGER, block INTEGER, content BLOB NOT NULL, PRIMARY KEY(t, block));
CREATE TABLE IF NOT EXISTS columns(t INTEGER, block INTEGER, content BLOB NOT NULL, PRIMARY KEY(t, block));
CREATE TABLE IF NOT EXISTS waiting(part INTEGER PRIMARY KEY, tags BLOB NOT NULL, ends BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS lineage(id TEXT NOT NULL, used TEXT NOT NULL, PRIMARY KEY(id, used));
CREATE INDEX IF NOT EXISTS lineage_down ON lineage(used);
CREATE TABLE IF NOT EXISTS marks(name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS stamp(
    one INTEGER PRIMARY KEY CHECK(one = 1), version INTEGER NOT NULL, records INTEGER NOT NULL, terms INTEGER NOT NULL,
    part INTEGER NOT NULL, tags INTEGER NOT NULL, merged INTEGER NOT NULL);
"""
STAMPED = f"INSERT INTO stamp VALUES(1, {SCHEMA}, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING"
_AT_ONCE = 500
"""Keys that are asked for in one statement."""
PATIENCE = 30
"""Seconds for which one process waits for another to have written."""


class Cursor(Protocol):
    """What came of a statement."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Session(Protocol):
    """A transaction under way."""

    def execute(self, sql: str, values: Sequence[object] = (), /) -> Cursor: ...
    def executemany(self, sql: str, rows: Iterable[Sequence[object]], /) -> object: ...


class Database(Protocol):
    """A database with the tables of an index. It is used by one thread at a time."""

    def transaction(self, writing: bool) -> AbstractContextManager[Session]:
        """All or nothing, and durable once it is left. Raises Unavailable where the database cannot be used, and
        ValueError for text that it cannot hold; where the end of writing raised it, what was written may be there."""
        ...

    def close(self) -> None: ...


def is_address(place: Path | str) -> bool:
    """Whether it is one of PostgreSQL, and no file."""
    return isinstance(place, str) and place.startswith(("postgresql://", "postgres://"))


def open_database(place: Path | str) -> Database:
    """That at an address of PostgreSQL, or else in a file of SQLite. Raises Unavailable."""
    if is_address(place):
        try:
            return cast("Database", import_module("._postgres", __package__).Postgres(place))
        except ImportError as error:
            raise Unavailable("an index in PostgreSQL needs psycopg: install firstlight[postgres]") from error
    return Sqlite(Path(place))


def among(db: Session, sql: str, keys: Iterable[object], *first: object, end: str = "") -> Iterator[tuple[Any, ...]]:
    """The rows of a statement that goes up to "IN", and may have an end, for any number of keys."""
    left = iter(keys)
    while some := list(islice(left, _AT_ONCE)):
        yield from db.execute(f"{sql} ({', '.join('?' * len(some))}){end}", (*first, *some)).fetchall()


def fit(name: str, version: Cursor) -> None:
    """Refuse tables of another version."""
    (found,) = version.fetchone()
    if found != SCHEMA:
        raise Unavailable(
            f"the index {name} has schema {found}, this version knows {SCHEMA}: use the firstlight that made it, or "
            "remove it, and it is made anew of what is published"
        )


class Sqlite:
    def __init__(self, file: Path) -> None:
        self._file = file
        with self._usable():
            file.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(
                file, timeout=PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=64
            )
        try:
            with self._usable():
                self._write_ahead()
                self.connection.execute("PRAGMA synchronous=FULL")
            self._prepare()
        except BaseException:
            self.connection.close()
            raise

    def _write_ahead(self) -> None:
        """Several processes may make a new file at once, and SQLite does not wait for the one that changes its log."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def _prepare(self) -> None:
        with self._usable():
            known = [row[1] for row in self.connection.execute("PRAGMA table_info(stamp)")]
        if not known:
            with self.transaction(writing=True) as db:
                for sql in (*TABLES.split(";"), STAMPED):
                    db.execute(sql)
        with self._usable():
            found = "SELECT version FROM stamp" if "version" in known or not known else "SELECT 1"
            fit(str(self._file), self.connection.execute(found))

    @contextmanager
    def transaction(self, writing: bool) -> Iterator[Session]:
        with self._usable():
            self.connection.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"the index {self._file} cannot be used: {error}") from error
