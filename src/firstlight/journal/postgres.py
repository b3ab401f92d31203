"""The journal shared by many hosts: PostgreSQL 12 or later, by psycopg 3.

Leases are advisory locks of the session that also writes: when the holder dies, or its connection does, the
server frees them, and nothing more can be written under them. So it needs real sessions: connect directly,
or through a pooler in session mode.
"""

import contextlib
import hashlib
import math
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict

from firstlight import core

from ._bell import Bell
from ._chain import Finding, Head
from ._database import SCHEMA, Cursor, Session
from ._filesystem import Unfit
from ._log import LogJournal
from ._verify import Anchors, examine

_SPACE = "firstlight_journal"
"""The schema of the tables, and the channel on which changes are told."""
_LOCK = int.from_bytes(hashlib.sha256(_SPACE.encode()).digest()[:4], signed=True)
"""The lock under which the tables are made."""
_PAUSE = 1.0
"""Seconds between attempts to reach a server that was lost."""
_TABLES = f"""
CREATE SCHEMA {_SPACE};
CREATE TABLE {_SPACE}.version (number INTEGER NOT NULL);
CREATE TABLE {_SPACE}.heads (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign TEXT NOT NULL UNIQUE, seq BIGINT NOT NULL, digest BYTEA NOT NULL
);
CREATE TABLE {_SPACE}.entries (
    campaign TEXT NOT NULL, seq BIGINT NOT NULL, line BYTEA NOT NULL, digest BYTEA NOT NULL,
    PRIMARY KEY (campaign, seq)
);
CREATE TABLE {_SPACE}.mail (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign TEXT NOT NULL, line BYTEA NOT NULL, answer TEXT
);
CREATE INDEX mail_waiting ON {_SPACE}.mail (campaign) WHERE answer IS NULL;
CREATE TABLE {_SPACE}.leases (campaign TEXT PRIMARY KEY, holder TEXT NOT NULL);
INSERT INTO {_SPACE}.version VALUES ({SCHEMA});
"""
_HOLDER = """
SELECT holder FROM leases WHERE campaign = ? AND EXISTS (
    SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted
    AND classid::bigint = ? AND objid::bigint = ?
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
"""


class _Session:
    """A connection that takes "?" for a parameter."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.connection = connection

    def execute(self, sql: str, values: Sequence[object] = (), /) -> Cursor:
        return self.connection.execute(sql.replace("?", "%s").encode(), values)

    def close(self) -> None:
        self.connection.close()


class _Token(NamedTuple):
    key: int
    session: _Session


class _Postgres:
    errors: tuple[type[Exception], ...] = (psycopg.Error,)
    poll: float | None = None

    def __init__(self, dsn: str) -> None:
        info = conninfo_to_dict(dsn)
        self.name = f"postgresql://{info.get('host') or ''}/{info.get('dbname') or ''}"
        self._dsn = dsn
        self._writer: _Session | None = None
        self._leases: dict[str, _Token] = {}
        self._listener: threading.Thread | None = None
        self._ended = threading.Event()

    def session(self) -> _Session:
        connection = psycopg.connect(self._dsn, autocommit=True, client_encoding="utf8", application_name="firstlight")
        try:
            _prepare(connection, self.name)
        except BaseException:
            connection.close()
            raise
        return _Session(connection)

    def _connected(self) -> _Session:
        """The one session that writes and holds the leases; a new one, without any, where the last was lost."""
        if self._writer is None or self._writer.connection.closed:
            self._leases.clear()
            self._writer = self.session()
            # So that the server soon notices a holder whose host or network has gone (no effect on local sockets).
            for setting, seconds in (("idle", 10), ("interval", 5), ("count", 3)):
                self._writer.execute(f"SET tcp_keepalives_{setting} = {seconds}")
        return self._writer

    # ------------------------------------------------------------- transactions

    def begin(self) -> Session:
        writer = self._connected()
        writer.execute("BEGIN")
        return writer

    def commit(self, changed: Iterable[str]) -> None:
        writer = self._writer
        if writer is None:
            raise psycopg.OperationalError("nothing was begun")
        writer.execute("SELECT pg_notify(?, campaign) FROM unnest(?::text[]) AS campaign", (_SPACE, list(changed)))
        writer.execute("COMMIT")

    def rollback(self) -> None:
        # Where this fails the connection is gone, and the transaction with it.
        with contextlib.suppress(psycopg.Error):
            if self._writer is not None and not self._writer.connection.closed:
                self._writer.execute("ROLLBACK")

    def changes(self) -> Iterable[str]:
        return ()

    # ------------------------------------------------------------- leases

    def lock(self, campaign: str, holder: str) -> _Token:
        writer, key = self._connected(), _key(campaign)
        # A session may take its own advisory lock twice: that it has it already must be known here.
        if campaign in self._leases or not _one(writer.execute("SELECT pg_try_advisory_lock(?)", (key,))):
            raise core.Held(campaign, self.holder(writer, campaign) or "another process")
        token = self._leases[campaign] = _Token(key, writer)
        try:
            sql = "INSERT INTO leases VALUES (?, ?) ON CONFLICT (campaign) DO UPDATE SET holder = EXCLUDED.holder"
            writer.execute(sql, (campaign, holder))
        except BaseException:
            self.unlock(campaign, token)
            raise
        return token

    def holds(self, token: object) -> bool:
        assert isinstance(token, _Token)
        return token.session is self._writer and not token.session.connection.closed

    def unlock(self, campaign: str, token: object) -> None:
        assert isinstance(token, _Token)
        if not self.holds(token):
            return
        del self._leases[campaign]
        # Where this fails the connection is gone, and the lock with it.
        with contextlib.suppress(psycopg.OperationalError):
            token.session.execute("DELETE FROM leases WHERE campaign = ?", (campaign,))
            token.session.execute("SELECT pg_advisory_unlock(?)", (token.key,))

    def holder(self, session: Session, campaign: str) -> str:
        key = _key(campaign) & (2**64 - 1)
        found = session.execute(_HOLDER, (campaign, key >> 32, key & (2**32 - 1))).fetchone()
        return str(found[0]) if found else ""

    # ------------------------------------------------------------- the rest

    def anchor(self, campaign: str, head: Head) -> None:
        """Nothing: there is no place for them apart from the server that all its hosts would share."""

    def verify(self, anchors: Anchors) -> Sequence[Finding]:
        try:
            session = self.session()
            try:
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                return examine(session, anchors)
            finally:
                session.close()
        except (psycopg.Error, Unfit) as error:
            return [Finding(campaign="", seq=0, problem=f"{self.name} cannot be read: {error}".strip())]

    def listen(self, bell: Bell) -> None:
        """From now on, ring for every change that any process makes."""
        if self._listener is None:
            self._listener = threading.Thread(target=self._listen, args=(bell,), name="journal listener", daemon=True)
            self._listener.start()

    def _listen(self, bell: Bell) -> None:
        while not self._ended.is_set():
            try:
                session = self.session()
            except (psycopg.Error, Unfit):
                # Whoever waits asks the database itself, and hears of the trouble there.
                self._ended.wait(_PAUSE)
                bell.ring_all()
                continue
            with contextlib.suppress(psycopg.Error), contextlib.closing(session):
                session.execute(f"LISTEN {_SPACE}")
                # What was written before this moment was not heard.
                bell.ring_all()
                while not self._ended.is_set():
                    for notice in session.connection.notifies(timeout=_PAUSE):
                        bell.ring({notice.payload: math.inf})
                        if self._ended.is_set():
                            break

    def close(self) -> None:
        self._ended.set()
        if self._listener is not None:
            # A word to itself, so that it need not wait for the next pause.
            with contextlib.suppress(psycopg.Error):
                self._connected().execute(f"NOTIFY {_SPACE}")
            self._listener.join()
        if self._writer is not None:
            self._writer.close()


def _prepare(connection: psycopg.Connection[tuple[Any, ...]], name: str) -> None:
    """Make the tables where there are none, and refuse newer ones."""
    found = "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = 'version')"
    if not _one(connection.execute(found, (_SPACE,))):
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            if not _one(connection.execute(found, (_SPACE,))):
                connection.execute(_TABLES.encode())
    connection.execute(f"SET search_path = {_SPACE}".encode())
    version = _one(connection.execute("SELECT number FROM version"))
    if version > SCHEMA:
        raise Unfit(f"the journal {name} has schema {version}, this version knows {SCHEMA}: install a newer firstlight")


def _one(cursor: Cursor) -> Any:
    return cursor.fetchone()[0]


def _key(campaign: str) -> int:
    """The advisory lock of a campaign: 64 bits of a digest."""
    return int.from_bytes(hashlib.sha256(f"{_SPACE}\n{campaign}".encode()).digest()[:8], signed=True)


class PostgresJournal(LogJournal):
    """A journal in a PostgreSQL database, for any number of hosts. Connects when it is first used.

    `dsn` is a libpq connection string or URL. The tables are made in a schema of their own,
    `firstlight_journal`. Raises Unavailable where the server cannot be reached, and Unfit where the
    tables were made by a newer version.
    """

    def __init__(self, dsn: str) -> None:
        self._postgres = _Postgres(dsn)
        super().__init__(self._postgres)

    async def changed(self, campaign: str, after: int, timeout: float) -> bool:
        self._postgres.listen(self._bell)
        return await super().changed(campaign, after, timeout)
