"""PostgreSQL: leases die with their session, and what is wrong is said."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from firstlight import core
from firstlight.journal import Unfit, verify
from firstlight.journal.postgres import PostgresJournal
from firstlight.testing.journal import entries, entry, postgres_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as address:
        yield address


@pytest.fixture
def dsn(server: str, tmp_path: Path) -> str:
    name = "j" + str(abs(hash(tmp_path)))
    query(f"{server} dbname=postgres", f"CREATE DATABASE {name}")
    return f"{server} dbname={name}"


def query(dsn: str, sql: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.encode())


def test_a_session_that_dies_frees_its_leases_and_writes_no_more(dsn: str) -> None:
    async def main() -> None:
        one, other = PostgresJournal(dsn), PostgresJournal(dsn)
        lease = await one.lease("c", "anna")
        await one.append(lease, entry(1))
        kill = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        await asyncio.to_thread(query, dsn, kill)
        async with asyncio.timeout(5):
            while await other.holder("c"):
                await asyncio.sleep(0.01)
        theirs = await other.lease("c", "ben")
        await other.append(theirs, entry(2))
        with pytest.raises((core.Unavailable, core.Conflict)):
            await one.append(lease, entry(2))
        with pytest.raises(core.Conflict, match="no longer good"):
            await one.append(lease, entry(3))
        with pytest.raises(core.Held, match="ben"):
            await one.lease("c", "anna")
        await other.close()
        again = await one.lease("c", "anna")
        await one.append(again, entry(3))
        assert [e.seq for e in await entries(one, "c")] == [1, 2, 3]
        await one.close()

    asyncio.run(main())


def test_a_listener_that_was_cut_off_listens_again(dsn: str) -> None:
    async def main() -> None:
        one, other = PostgresJournal(dsn), PostgresJournal(dsn)
        lease = await one.lease("c", "anna")
        waiting = asyncio.create_task(other.changed("c", 0, timeout=20.0))
        await asyncio.sleep(0.3)
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        await asyncio.to_thread(query, dsn, kill)
        await one.append(lease, entry(1))
        assert await waiting
        await one.close()
        await other.close()

    asyncio.run(main())


def test_tampering_is_found(dsn: str) -> None:
    async def main() -> None:
        journal = PostgresJournal(dsn)
        for campaign in ("c", "d", "e"):
            lease = await journal.lease(campaign, "anna")
            for seq in range(1, 11):
                await journal.append(lease, entry(seq))
        assert await asyncio.to_thread(verify, journal) == []
        table = "firstlight_journal.entries"
        query(dsn, f"UPDATE {table} SET line = overlay(line placing 'X' from 9) WHERE campaign = 'c' AND seq = 4")
        query(dsn, f"DELETE FROM {table} WHERE campaign = 'd' AND seq = 5")
        query(dsn, f"DELETE FROM {table} WHERE campaign = 'e' AND seq > 8")
        found = [(f.campaign, f.seq, f.problem) for f in await asyncio.to_thread(verify, journal)]
        assert found == [
            ("c", 4, "entry 4 or its digest was altered"),
            ("d", 5, "entry 5 is missing"),
            ("e", 9, "entries 9 to 10 are cut off the end"),
        ]
        await journal.close()

    asyncio.run(main())


def test_a_newer_journal_is_refused(dsn: str) -> None:
    async def main() -> None:
        journal = PostgresJournal(dsn)
        assert await journal.campaigns() == []
        query(dsn, "UPDATE firstlight_journal.version SET number = 99")
        other = PostgresJournal(dsn)
        with pytest.raises(Unfit, match=r"schema 99.*install a newer firstlight"):
            await other.campaigns()
        await other.close()
        await journal.close()

    asyncio.run(main())


def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    async def main() -> None:
        journal = PostgresJournal(f"host={tmp_path} dbname=lab password=secret")
        for attempt in (journal.campaigns(), journal.lease("c", "anna"), journal.post("c", core.RunEnded(), "eve")):
            with pytest.raises(core.Unavailable, match=f"{tmp_path}/lab") as caught:
                await attempt
            assert "secret" not in str(caught.value)
        assert "cannot be read" in verify(journal)[0].problem
        await journal.close()

    asyncio.run(main())
