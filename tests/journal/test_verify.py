"""Whatever is altered, taken away or moved is found."""

import asyncio
import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from firstlight import core
from firstlight.journal import Finding, MemoryJournal, SqliteJournal, verify
from firstlight.testing.journal import entry


def write(
    path: Path, campaigns: Sequence[str] = ("c", "d"), entries: int = 20, first: int = 1, by: str = "anna"
) -> Path:
    async def main() -> None:
        journal = SqliteJournal(path)
        for campaign in campaigns:
            lease = await journal.lease(campaign, "anna")
            for seq in range(first, first + entries):
                await journal.append(lease, msgspec.structs.replace(entry(seq), by=by))
            await lease.release()
        await journal.close()

    asyncio.run(main())
    return path


def tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def problems(path: Path, anchors: Path | None = None) -> list[tuple[str, int, str]]:
    return [(f.campaign, f.seq, f.problem) for f in verify(path, anchors)]


def test_a_sound_journal_has_no_findings(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db")
    assert verify(path) == []
    assert verify(str(path)) == []
    write(path, first=21)
    assert verify(path) == []


def test_the_chain_is_as_documented(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db", campaigns=["c"], entries=2)
    connection = sqlite3.connect(path)
    (digest,) = connection.execute("SELECT digest FROM entries WHERE seq = 2").fetchone()
    connection.close()
    genesis = hashlib.sha256(b"firstlight journal\nc").digest()
    first = hashlib.sha256(genesis + core.encode(entry(1))).digest()
    assert digest == hashlib.sha256(first + core.encode(entry(2))).digest()


@pytest.mark.parametrize("seq", [1, 7, 20])
def test_a_flipped_byte_is_found(tmp_path: Path, seq: int) -> None:
    path = write(tmp_path / "journal.db")
    tamper(
        path,
        "UPDATE entries SET line = CAST(replace(CAST(line AS TEXT), 'anna', 'anne') AS BLOB) "
        f"WHERE campaign = 'c' AND seq = {seq}",
    )
    assert problems(path) == [("c", seq, f"entry {seq} or its digest was altered")]


def test_a_flipped_byte_in_the_file_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db")
    data = path.read_bytes()
    at = data.index(b'"by":"anna"')
    path.write_bytes(data[:at] + b'"by":"anne"' + data[at + 11 :])
    assert len(problems(path)) == 1


def test_a_line_rewritten_with_its_digest_is_found_by_the_next(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db")
    tamper(path, f"UPDATE entries SET digest = x'{'ab' * 32}' WHERE campaign = 'c' AND seq = 5")
    assert [(c, s) for c, s, _ in problems(path)] == [("c", 5), ("c", 6)]


def test_missing_rows_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db")
    tamper(path, "DELETE FROM entries WHERE campaign = 'c' AND seq IN (7, 8)")
    tamper(path, "DELETE FROM entries WHERE campaign = 'd' AND seq = 1")
    assert problems(path) == [("c", 7, "entries 7 to 8 are missing"), ("d", 1, "entry 1 is missing")]


def test_rows_that_changed_places_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db")
    swap = "UPDATE entries SET seq = {to} WHERE campaign = 'c' AND seq = {seq}"
    tamper(path, *(swap.format(seq=seq, to=to) for seq, to in ((3, 99), (4, 3), (99, 4))))
    assert {(c, s) for c, s, _ in problems(path)} >= {("c", 3), ("c", 4)}


def test_a_row_moved_to_another_campaign_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db")
    tamper(
        path, "DELETE FROM entries WHERE campaign = 'd' AND seq = 3",
        "UPDATE entries SET campaign = 'd' WHERE campaign = 'c' AND seq = 3",
    )  # fmt: skip
    assert {(c, s) for c, s, _ in problems(path)} >= {("c", 3), ("d", 3)}


def test_a_cut_tail_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db")
    tamper(path, "DELETE FROM entries WHERE campaign = 'c' AND seq > 18")
    assert problems(path) == [("c", 19, "entries 19 to 20 are cut off the end")]


def test_a_cut_tail_is_found_though_the_head_was_cut_too(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db")
    tamper(
        path, "DELETE FROM entries WHERE campaign = 'c' AND seq > 18",
        "UPDATE heads SET seq = 18, digest = (SELECT digest FROM entries WHERE campaign = 'c' AND seq = 18) "
        "WHERE campaign = 'c'",
    )  # fmt: skip
    assert problems(path) == [("c", 19, "entries 19 to 20 are cut off the end")]


def test_a_campaign_that_was_removed_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db")
    tamper(path, "DELETE FROM entries WHERE campaign = 'd'", "DELETE FROM heads WHERE campaign = 'd'")
    assert problems(path) == [("d", 1, "entries 1 to 20 are cut off the end")]


def test_entries_without_a_head_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db")
    tamper(path, "DELETE FROM heads WHERE campaign = 'd'")
    assert problems(path) == [("d", 0, "there is no record of where its entries end")]


def test_a_history_written_anew_is_found_by_anchors_kept_elsewhere(tmp_path: Path) -> None:
    """With database and anchors in one hand nothing is found: a copy of the anchors in another hand tells."""
    write(tmp_path / "journal.db", campaigns=["c"])
    kept = (tmp_path / "journal.heads").rename(tmp_path / "kept.heads")
    assert problems(tmp_path / "journal.db", kept) == []
    path = write(tmp_path / "false.db", campaigns=["c"], entries=19)
    write(path, campaigns=["c"], first=20, entries=5)
    assert problems(path, kept) == []
    tamper(path, "DELETE FROM entries WHERE seq >= 20", "DELETE FROM heads")
    tamper(path, "INSERT INTO heads SELECT 1, 'c', 19, digest FROM entries WHERE seq = 19")
    (tmp_path / "false.heads").unlink()
    assert problems(path) == []
    assert problems(path, kept) == [("c", 20, "entry 20 is cut off the end")]
    path = write(tmp_path / "other.db", campaigns=["c"], first=1, by="eve")
    assert problems(path) == []
    assert problems(path, kept) == [("c", 20, "the chain up to entry 20 is not the one recorded")]


def forge(path: Path, line: bytes) -> None:
    """Add a line after the last entry of "c", with a digest that fits."""
    connection = sqlite3.connect(path)
    (digest,) = connection.execute("SELECT digest FROM entries WHERE campaign = 'c' AND seq = 20").fetchone()
    forged = line, hashlib.sha256(digest + line).digest()
    connection.execute("INSERT INTO entries VALUES ('c', 21, ?, ?)", forged)
    connection.commit()
    connection.close()


def test_an_entry_added_behind_its_back_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db")
    forge(path, core.encode(entry(21)))
    assert problems(path) == [("c", 21, "entry 21 is beyond the recorded end")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [(core.encode(entry(5)), "entry 5 stands in the place of entry 21"), (b"{}", "entry 21 cannot be read")],
)
def test_an_entry_that_fits_the_chain_and_makes_no_sense_is_found(tmp_path: Path, line: bytes, problem: str) -> None:
    path = write(tmp_path / "journal.db")
    forge(path, line)
    tamper(path, "UPDATE heads SET seq = 21, digest = (SELECT digest FROM entries WHERE seq = 21) WHERE campaign = 'c'")
    ((campaign, seq, found),) = problems(path)
    assert (campaign, seq) == ("c", 21)
    assert found.startswith(problem)


def test_a_torn_anchor_loses_no_other(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db", campaigns=["c"])
    anchors = tmp_path / "journal.heads"
    anchors.write_bytes(anchors.read_bytes() + b'{"campaign":"c","se')
    write(path, campaigns=["c"], first=21)
    assert [(c, p.partition("line 2")[1]) for c, _, p in problems(path)] == [("", "line 2")]
    tamper(path, "DELETE FROM entries WHERE seq > 30", "DELETE FROM heads")
    assert ("c", 31, "entries 31 to 40 are cut off the end") in problems(path)


def test_anchors_are_written_on_the_way(tmp_path: Path) -> None:
    """A long run is anchored before its lease is released: a holder killed meanwhile leaves them."""

    async def main() -> None:
        journal = SqliteJournal(tmp_path / "journal.db")
        lease = await journal.lease("c", "anna")
        await asyncio.gather(*(journal.append(lease, entry(seq)) for seq in range(1, 2101)))
        assert (tmp_path / "journal.heads").read_bytes().count(b"\n") >= 1
        await journal.close()
        assert b'"seq":2100,' in (tmp_path / "journal.heads").read_bytes()

    asyncio.run(main())


@pytest.mark.parametrize("keep", [0, 10, 100, 5000, 20000])
def test_a_damaged_file_is_reported(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path / "journal.db", entries=200)
    data = path.read_bytes()
    path.write_bytes(data[:keep] + b"\xff" * (len(data) - keep))
    found = verify(path)
    assert found
    assert all(isinstance(finding, Finding) and finding.problem for finding in found)


def test_a_file_cut_short_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.db", entries=200)
    path.write_bytes(path.read_bytes()[:20000])
    assert verify(path)


def test_no_file_and_no_anchors_are_reported(tmp_path: Path) -> None:
    assert "there is no file" in verify(tmp_path / "none.db")[0].problem
    path = write(tmp_path / "journal.db")
    assert "anchors cannot be read" in verify(path, tmp_path / "none.heads")[0].problem


def test_a_journal_in_use_is_verified(tmp_path: Path) -> None:
    async def main() -> None:
        journal = SqliteJournal(tmp_path / "journal.db")
        lease = await journal.lease("c", "anna")
        for seq in range(1, 30):
            await journal.append(lease, entry(seq))
            assert await asyncio.to_thread(verify, journal) == []
        await journal.close()

    asyncio.run(main())


def test_memory_has_nothing_to_alter() -> None:
    assert list(verify(MemoryJournal())) == []
