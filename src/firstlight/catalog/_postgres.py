"""An index in PostgreSQL 12 or later, by psycopg 3."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from firstlight.core import Unavailable

from ._database import PATIENCE, STAMPED, TABLES, Cursor, Session, fit

_SPACE = "firstlight_catalog"
"""The schema of the tables."""
_LOCK = int.from_bytes(hashlib.sha256(_SPACE.encode()).digest()[:8], signed=True)
"""The advisory lock under which the tables are made."""
_Connection = psycopg.Connection[tuple[Any, ...]]


class _Session:
    """A connection to PostgreSQL that takes "?" for a parameter, and answers in binary: blobs are not spelled out."""

    def __init__(self, connection: _Connection) -> None:
        self._cursor = connection.cursor(binary=True)

    def execute(self, sql: str, values: Sequence[object] = (), /) -> Cursor:
        return self._cursor.execute(sql.replace("?", "%s").encode(), values)

    def executemany(self, sql: str, rows: Iterable[Sequence[object]], /) -> None:
        self._cursor.executemany(sql.replace("?", "%s").encode(), rows)


class Postgres:
    """A connection that is made anew where it was lost."""

    def __init__(self, address: str) -> None:
        self._address = address
        try:
            said = conninfo_to_dict(address)
        except psycopg.Error:  # What it says may have part of a password in it.
            raise Unavailable(
                "the address of the index is none of PostgreSQL: postgresql://user@host:port/database is one; "
                "write what is special in a password as %XX"
            ) from None
        self._name = f"postgresql://{said.get('host') or ''}/{said.get('dbname') or ''}"
        self._connection: _Connection | None = None
        with self._usable():
            self._connected()

    def _connected(self) -> _Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        made = psycopg.connect(
            self._address, autocommit=True, client_encoding="utf8", application_name="firstlight", connect_timeout=10
        )
        try:
            self._prepare(made)
        except BaseException:
            made.close()
            raise
        self._connection = made
        return made

    def _prepare(self, made: _Connection) -> None:
        # The server is to notice soon that the host of a writer has gone (no effect on local sockets).
        made.execute(
            f"SET search_path = {_SPACE}; SET lock_timeout = '{PATIENCE}s'; SET tcp_keepalives_idle = 10; "
            "SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3".encode()
        )
        found = "SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = 'stamp'"
        if not made.execute(found, (_SPACE,)).fetchone():
            tables = TABLES.replace("INTEGER", "BIGINT").replace("BLOB", "BYTEA").replace("TEXT", 'TEXT COLLATE "C"')
            with made.transaction():
                made.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                if not made.execute(found, (_SPACE,)).fetchone():
                    made.execute(f"CREATE SCHEMA IF NOT EXISTS {_SPACE}; {tables} {STAMPED}".encode())
        fit(self._name, made.execute("SELECT version FROM stamp"))

    def _begun(self, how: str) -> _Connection:
        """Where the connection has been lost since it was used last, nothing is lost with it."""
        try:
            connection = self._connected()
            connection.execute(how.encode())
        except psycopg.OperationalError:
            if self._connection is None or not self._connection.closed:
                raise
            connection = self._connected()
            connection.execute(how.encode())
        return connection

    @contextmanager
    def transaction(self, writing: bool) -> Iterator[Session]:
        # A writer takes the stamp first and then sees all that was written before it: READ COMMITTED.
        how = "READ COMMITTED READ WRITE" if writing else "REPEATABLE READ READ ONLY"
        with self._usable():
            connection = self._begun(f"BEGIN ISOLATION LEVEL {how}")
            try:
                yield _Session(connection)
                connection.execute("COMMIT")
            except BaseException:
                # Where this fails the connection is gone, and the transaction with it.
                with suppress(psycopg.Error):
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except psycopg.DataError as error:
            raise ValueError(f"the index {self._name} cannot hold that: {error}".strip()) from error
        except psycopg.Error as error:
            raise Unavailable(f"the index {self._name} cannot be used: {str(error).strip()}") from None
