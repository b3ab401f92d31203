"""The one contract, kept by every journal."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from firstlight import core
from firstlight.journal import MemoryJournal, SqliteJournal
from firstlight.journal.postgres import PostgresJournal
from firstlight.testing.journal import JournalContract, postgres_server


class TestMemoryJournal(JournalContract):
    lasting = False

    def make(self, place: Path) -> core.Journal:
        return MemoryJournal()


class TestSqliteJournal(JournalContract):
    def make(self, place: Path) -> core.Journal:
        return SqliteJournal(place / "journal.db")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as address:
        yield address


class TestPostgresJournal(JournalContract):
    @pytest.fixture(autouse=True)
    def connect(self, server: str) -> None:
        self.server = server

    def make(self, place: Path) -> core.Journal:
        database = "j" + hashlib.sha256(str(place).encode()).hexdigest()[:16]
        with psycopg.connect(f"{self.server} dbname=postgres", autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone()
            if not known:
                connection.execute(f"CREATE DATABASE {database}".encode())
        return PostgresJournal(f"{self.server} dbname={database}")
