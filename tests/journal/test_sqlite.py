"""SQLite: several processes, kill -9, and every way in which a disk can fail."""

import asyncio
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from firstlight import core
from firstlight.journal import SqliteJournal, Unfit, verify
from firstlight.testing.journal import entries, entry

_CHILD = Path(__file__).parent / "child.py"


@contextmanager
def child(path: Path, campaigns: int) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that appends for ever to campaigns c0, c1, ..."""
    with subprocess.Popen([sys.executable, str(_CHILD), str(path), str(campaigns)], stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged(process: subprocess.Popen[bytes], seconds: float) -> dict[str, int]:
    """Let it run for so long from its first word, kill it, and return what it said was durable."""
    assert process.stdout
    lines = [process.stdout.readline()]
    time.sleep(seconds)
    process.kill()
    lines += process.stdout.read().splitlines(keepends=True)
    said = [line.split() for line in lines if line.endswith(b"\n")]
    return {campaign.decode(): int(seq) for campaign, seq in said}


def test_kill_minus_nine_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"

    async def stored() -> dict[str, int]:
        journal = SqliteJournal(path)
        found = {campaign: len(await entries(journal, campaign)) for campaign in await journal.campaigns()}
        await journal.close()
        return found

    before = 0
    for number in range(4):
        with child(path, campaigns=8) as process:
            said = acknowledged(process, 0.2 + 0.05 * number)
        assert sum(said.values()) > before
        before = sum(said.values())
        found = asyncio.run(stored())
        assert all(found.get(campaign, 0) >= seq for campaign, seq in said.items())
        assert verify(path) == []


def test_a_lease_is_held_across_processes_and_freed_by_death(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"

    async def main() -> None:
        journal = SqliteJournal(path)
        with child(path, campaigns=1) as process:
            assert process.stdout
            process.stdout.readline()
            with pytest.raises(core.Held, match=f"being run by child pid {process.pid}"):
                await journal.lease("c0", "anna")
            assert await journal.holder("c0") == f"child pid {process.pid}"
            mine = await journal.lease("mine", "anna")
            await journal.append(mine, entry(1))
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert await journal.holder("c0") == ""
            lease = await journal.lease("c0", "anna")
            assert await journal.holder("c0") == "anna"
            await journal.append(lease, entry(len(await entries(journal, "c0")) + 1))
        await journal.close()

    asyncio.run(main())


def test_another_process_is_heard_and_does_not_starve_this_one(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"

    async def main() -> None:
        journal = SqliteJournal(path)
        lease = await journal.lease("mine", "anna")
        with child(path, campaigns=8) as process, child(tmp_path / "other.db", campaigns=1):
            assert process.stdout
            process.stdout.readline()
            after = len(await entries(journal, "c0"))
            assert await journal.changed("c0", after, timeout=5.0)
            waits = []
            for seq in range(1, 101):
                began = time.monotonic()
                await journal.append(lease, entry(seq))
                waits.append(time.monotonic() - began)
            assert max(waits) < 2.0
            assert sorted(waits)[50] < 0.2
            process.kill()
            process.stdout.read()
        await journal.close()

    asyncio.run(main())


def test_a_forked_child_does_not_keep_its_parents_lease(tmp_path: Path) -> None:
    """A worker that outlives its runner must not keep the campaign from the next one."""
    path = tmp_path / "journal.db"
    script = f"""
import asyncio, os, time
from firstlight.journal import SqliteJournal
async def main():
    journal = SqliteJournal({str(path)!r})
    await journal.lease("c", "runner")
    if os.fork() == 0:
        os.close(1)
        time.sleep(20)
        os._exit(0)
    os.write(1, b"held\\n")
    time.sleep(20)
asyncio.run(main())
"""

    async def main() -> None:
        journal = SqliteJournal(path)
        with pytest.raises(core.Held):
            await journal.lease("c", "anna")
        process.kill()
        process.wait()
        await journal.lease("c", "anna")
        await journal.close()

    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        try:
            asyncio.run(main())
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_lease_whose_lock_file_was_deleted_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        journal = SqliteJournal(tmp_path / "journal.db")
        lease = await journal.lease("c", "anna")
        await journal.append(lease, entry(1))
        for file in (tmp_path / "journal.db.locks").iterdir():
            file.unlink()
        other = await journal.lease("c", "ben")
        with pytest.raises(core.Conflict, match="lost"):
            await journal.append(lease, entry(2))
        await journal.append(other, entry(2))
        await journal.close()

    asyncio.run(main())


def test_a_taker_who_gives_up_leaves_no_lease_behind(tmp_path: Path) -> None:
    async def main() -> None:
        journal = SqliteJournal(tmp_path / "journal.db")
        for _ in range(20):
            taking = asyncio.create_task(journal.lease("c", "anna"))
            await asyncio.sleep(0)
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
        # What was asked for is still taken, and given back at once: soon nobody holds it.
        deadline = time.monotonic() + 5.0
        lease = None
        while lease is None and time.monotonic() < deadline:
            try:
                lease = await journal.lease("c", "ben")
            except core.Held:
                await asyncio.sleep(0.01)
        assert lease is not None
        await asyncio.sleep(0.05)
        assert await journal.holder("c") == "ben"
        await journal.close()

    asyncio.run(main())


def test_a_full_disk_is_said_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    script = f"""
import asyncio, resource
from firstlight import core
from firstlight.journal import SqliteJournal
from firstlight.testing.journal import entry
async def main():
    journal = SqliteJournal({str(path)!r})
    lease = await journal.lease("c", "anna")
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    seq = 0
    try:
        while seq < 1000:
            await journal.append(lease, entry(seq + 1, core.CampaignPaused(reason="x" * 2000)))
            seq += 1
    except core.Unavailable as error:
        print(seq, error)
    try:
        await journal.append(lease, entry(seq + 1))
    except core.Conflict as error:
        print(error)
    await journal.close()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    acknowledged = int(first.split()[0])
    assert 10 < acknowledged < 1000
    assert str(path) in first
    assert "no longer good: an append failed" in second

    async def main() -> None:
        journal = SqliteJournal(path)
        assert len(await entries(journal, "c")) == acknowledged
        await journal.append(await journal.lease("c", "anna"), entry(acknowledged + 1))
        await journal.close()

    asyncio.run(main())
    assert verify(path) == []


def test_a_file_that_was_removed_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        journal = SqliteJournal(tmp_path / "journal.db")
        lease = await journal.lease("c", "anna")
        await journal.append(lease, entry(1))
        (tmp_path / "journal.db").rename(tmp_path / "elsewhere.db")
        with pytest.raises(core.Unavailable, match="removed or replaced"):
            await journal.append(lease, entry(2))
        await journal.close()

    asyncio.run(main())


def test_an_anchor_that_cannot_be_written_is_said_and_keeps_nothing_open(tmp_path: Path) -> None:
    async def main() -> None:
        journal = SqliteJournal(tmp_path / "journal.db")
        for campaign in ("c", "d"):
            await journal.append(await journal.lease(campaign, "anna"), entry(1))
        (tmp_path / "journal.heads").mkdir()
        with pytest.raises(core.Unavailable, match=r"journal\.heads"):
            await journal.close()
        (tmp_path / "journal.heads").rmdir()
        again = SqliteJournal(tmp_path / "journal.db")
        for campaign in ("c", "d"):
            await again.append(await again.lease(campaign, "ben"), entry(2))
        await again.close()

    asyncio.run(main())


def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    asyncio.run(SqliteJournal(path).close())
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Unfit, match=r"schema 99.*install a newer firstlight"):
        SqliteJournal(path)


def test_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "photos.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE photos (name TEXT)")
    connection.close()
    before = foreign.read_bytes()
    with pytest.raises(Unfit, match="not a journal"):
        SqliteJournal(foreign)
    assert foreign.read_bytes() == before
    text = tmp_path / "notes.txt"
    text.write_text("no database at all\n" * 100)
    with pytest.raises(Unfit, match="cannot be opened: file is not a database"):
        SqliteJournal(text)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unfit, match=f"cannot be kept there.*{os.strerror(errno.ENOTDIR)}"):
        SqliteJournal(tmp_path / "file" / "journal.db")


def test_what_another_version_wrote_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        journal = SqliteJournal(tmp_path / "journal.db")
        await journal.append(await journal.lease("c", "anna"), entry(1))
        connection = sqlite3.connect(tmp_path / "journal.db")
        connection.execute("UPDATE entries SET line = ?", (core.encode(entry(1)).replace(b'a":1', b'a":9'),))
        connection.commit()
        connection.close()
        with pytest.raises(core.UnreadableEntry, match="campaign c, entry 1: entry has schema 9"):
            await entries(journal, "c")
        await journal.close()

    asyncio.run(main())


def test_reading_does_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    async def main() -> None:
        journal = SqliteJournal(tmp_path / "journal.db")
        lease = await journal.lease("c", "anna")
        await asyncio.gather(*(journal.append(lease, entry(seq)) for seq in range(1, 20_001)))
        beats, done = 0, False

        async def beat() -> None:
            nonlocal beats
            while not done:
                await asyncio.sleep(0.001)
                beats += 1

        beating = asyncio.create_task(beat())
        assert len(await entries(journal, "c")) == 20_000
        done = True
        await beating
        assert beats > 20  # Forty chunks are read, however busy the machine is.
        await journal.close()

    asyncio.run(main())


def test_a_journal_may_be_used_from_several_event_loops(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")

    async def write(campaign: str) -> None:
        lease = await journal.lease(campaign, "anna")
        for seq in range(1, 51):
            await journal.append(lease, entry(seq))
        await lease.release()

    async def main() -> None:
        other = asyncio.to_thread(lambda: asyncio.run(write("a")))
        waiting = asyncio.create_task(journal.changed("a", 49, timeout=20.0))
        await asyncio.gather(other, write("b"))
        assert await waiting
        assert [len(await entries(journal, c)) for c in ("a", "b")] == [50, 50]
        await journal.close()

    asyncio.run(main())


def test_waiting_costs_next_to_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        journal = SqliteJournal(tmp_path / "journal.db")
        began = time.process_time()
        assert await asyncio.gather(*(journal.changed(f"c{n}", 0, timeout=1.0) for n in range(50))) == [False] * 50
        assert time.process_time() - began < 0.2
        await journal.close()

    asyncio.run(main())
