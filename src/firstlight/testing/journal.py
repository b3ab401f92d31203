"""The contract of a journal as a suite to subclass, one example of every fact, and a PostgreSQL server to try one on.

class TestMyJournal(JournalContract):
    def make(self, place):
        return MyJournal(place / "journal")
"""

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from firstlight import core

from ._examples import EXAMPLES

__all__ = ["EXAMPLES", "JournalContract", "entries", "entry", "postgres_server"]


def entry(seq: int, fact: core.Fact | None = None) -> core.Entry:
    """An entry to append."""
    return core.Entry(seq=seq, at=1000.5 + seq, by="anna", fact=fact or core.TimeSpent(seconds=float(seq)))


async def entries(journal: core.Journal, campaign: str, after: int = 0) -> list[core.Entry]:
    """All that a journal holds of a campaign."""
    return [entry async for entry in journal.read(campaign, after)]


def _together(journal: core.Journal) -> core.AppendsTogether:
    if not isinstance(journal, core.AppendsTogether):
        pytest.skip("this journal takes one entry at a time")
    return journal


class JournalContract:
    """What every journal keeps. `lasting` says that a second journal made at the same place sees the same facts."""

    lasting: ClassVar[bool] = True

    def make(self, place: Path) -> core.Journal:
        """A journal at this empty directory, or one more at the same."""
        raise NotImplementedError

    def run(self, place: Path, body: Callable[[core.Journal], Awaitable[None]]) -> None:
        async def main() -> None:
            journal = self.make(place)
            try:
                async with asyncio.timeout(30):
                    await body(journal)
            finally:
                await journal.close()

        asyncio.run(main())

    def run_two(self, place: Path, body: Callable[[core.Journal, core.Journal], Awaitable[None]]) -> None:
        """Two journals at one place."""
        if not self.lasting:
            pytest.skip("this journal lives in one object only")

        async def main(journal: core.Journal) -> None:
            other = self.make(place)
            try:
                await body(journal, other)
            finally:
                await other.close()

        self.run(place, main)

    # ------------------------------------------------------------- entries

    def test_every_fact_comes_back_byte_for_byte(self, tmp_path: Path) -> None:
        async def body(journal: core.Journal) -> None:
            written = [entry(seq, fact) for seq, fact in enumerate(EXAMPLES, 1)]
            lease = await journal.lease("c", "anna")
            for one in written:
                await journal.append(lease, one)
            found = await entries(journal, "c")
            assert found == written
            assert [core.encode(one) for one in found] == [core.encode(one) for one in written]

        self.run(tmp_path, body)

    def test_a_large_entry_is_kept(self, tmp_path: Path) -> None:
        async def body(journal: core.Journal) -> None:
            large = entry(1, core.CampaignPaused(reason="x" * 3_000_000))
            await journal.append(await journal.lease("c", "anna"), large)
            assert await entries(journal, "c") == [large]

        self.run(tmp_path, body)

    def test_reads_what_comes_after(self, tmp_path: Path) -> None:
        async def body(journal: core.Journal) -> None:
            lease = await journal.lease("c", "anna")
            await asyncio.gather(*(journal.append(lease, entry(seq)) for seq in range(1, 1502)))
            assert [e.seq for e in await entries(journal, "c")] == list(range(1, 1502))
            assert [e.seq for e in await entries(journal, "c", after=1499)] == [1500, 1501]
            assert await entries(journal, "c", after=1501) == []
            assert await entries(journal, "c", after=9999) == []
            assert await entries(journal, "nobody") == []

        self.run(tmp_path, body)

    def test_campaigns_the_oldest_first(self, tmp_path: Path) -> None:
        names = ["zeta", "alpha/β #1", "m" * 300, "Alpha"]

        async def body(journal: core.Journal) -> None:
            assert list(await journal.campaigns()) == []
            for name in names:
                await journal.append(await journal.lease(name, "anna"), entry(1))
            assert list(await journal.campaigns()) == names
            assert [len(await entries(journal, name)) for name in names] == [1, 1, 1, 1]

        self.run(tmp_path, body)

    @pytest.mark.parametrize("seq", [0, 1, 2, 4])
    def test_an_entry_out_of_place_is_refused_and_so_is_all_that_follows(self, tmp_path: Path, seq: int) -> None:
        async def body(journal: core.Journal) -> None:
            lease = await journal.lease("c", "anna")
            await journal.append(lease, entry(1))
            await journal.append(lease, entry(2))
            ends = await asyncio.gather(*(journal.append(lease, entry(s)) for s in (seq, 3, 4)), return_exceptions=True)
            assert [type(end) for end in ends] == [core.Conflict] * 3
            assert [e.seq for e in await entries(journal, "c")] == [1, 2]
            await lease.release()
            lease = await journal.lease("c", "anna")
            await journal.append(lease, entry(3))
            assert [e.seq for e in await entries(journal, "c")] == [1, 2, 3]

        self.run(tmp_path, body)

    def test_entries_given_together_are_those_given_one_by_one(self, tmp_path: Path) -> None:
        async def body(journal: core.Journal) -> None:
            together = _together(journal)
            lease = await journal.lease("c", "anna")
            letters = [await journal.post("c", EXAMPLES[20], by="eve") for _ in range(2)]
            await journal.append(lease, entry(1))
            await together.append_all(lease, [(entry(2), letters[0]), *((entry(s), "") for s in range(3, 200))])
            await asyncio.gather(
                together.append_all(lease, [(entry(200), ""), (entry(201), letters[1])]),
                journal.append(lease, entry(202)),
            )
            assert await entries(journal, "c") == [entry(seq) for seq in range(1, 203)]
            assert [await journal.answered(letter) for letter in letters] == ["", ""]
            assert list(await journal.mail("c")) == []

        self.run(tmp_path, body)

    @pytest.mark.parametrize("bad", [2, 4])
    def test_of_entries_given_together_none_follows_one_that_failed(self, tmp_path: Path, bad: int) -> None:
        async def body(journal: core.Journal) -> None:
            together = _together(journal)
            lease = await journal.lease("c", "anna")
            await journal.append(lease, entry(1))
            wrong = [(entry(2), ""), (entry(3), ""), (entry(bad + 1), ""), (entry(4), "")]
            ends = await asyncio.gather(
                together.append_all(lease, wrong), journal.append(lease, entry(5)), return_exceptions=True
            )
            assert [type(end) for end in ends] == [core.Conflict] * 2
            found = [e.seq for e in await entries(journal, "c")]
            assert found == [1, 2, 3][: len(found)]
            await lease.release()
            await journal.append(await journal.lease("c", "anna"), entry(len(found) + 1))

        self.run(tmp_path, body)

    def test_whoever_waits_for_a_later_entry_is_told_of_that_and_of_mail(self, tmp_path: Path) -> None:
        async def body(journal: core.Journal) -> None:
            lease = await journal.lease("c", "anna")
            later = asyncio.create_task(journal.changed("c", 3, timeout=20.0))
            mailed = asyncio.create_task(journal.changed("c", 2**62, timeout=20.0))
            for seq in (1, 2, 3):
                await journal.append(lease, entry(seq))
            await asyncio.sleep(0.05)
            assert not later.done()
            await journal.append(lease, entry(4))
            assert await later
            assert not mailed.done()
            await journal.post("c", EXAMPLES[20], by="eve")
            assert await mailed

        self.run(tmp_path, body)

    def test_many_campaigns_are_written_at_once(self, tmp_path: Path) -> None:
        async def write(journal: core.Journal, campaign: str) -> None:
            lease = await journal.lease(campaign, "anna")
            for seq in range(1, 41):
                await journal.append(lease, entry(seq, core.CampaignPaused(reason=f"{campaign} {seq}")))
                # Whoever reads meanwhile sees all that was acknowledged, and no gap.
                assert [e.seq for e in await entries(journal, campaign, seq - 1)] == [seq]

        async def body(journal: core.Journal) -> None:
            names = [f"c{number}" for number in range(20)]
            await asyncio.gather(*(write(journal, name) for name in names))
            for name in names:
                found = [e.fact for e in await entries(journal, name)]
                assert found == [core.CampaignPaused(reason=f"{name} {seq}") for seq in range(1, 41)]

        self.run(tmp_path, body)

    # ------------------------------------------------------------- the lease

    def test_a_lease_is_held_by_one(self, tmp_path: Path) -> None:
        async def body(journal: core.Journal) -> None:
            assert await journal.holder("c") == ""
            lease = await journal.lease("c", "anna@host pid 1")
            assert lease.campaign == "c"
            assert await journal.holder("c") == "anna@host pid 1"
            with pytest.raises(core.Held, match="c is being run by anna@host pid 1"):
                await journal.lease("c", "ben")
            await journal.lease("d", "ben")
            await lease.release()
            assert await journal.holder("c") == ""
            await journal.lease("c", "ben")
            assert await journal.holder("c") == "ben"

        self.run(tmp_path, body)

    def test_a_released_lease_is_good_for_nothing(self, tmp_path: Path) -> None:
        async def body(journal: core.Journal) -> None:
            old = await journal.lease("c", "anna")
            await old.release()
            new = await journal.lease("c", "ben")
            await old.release()
            assert await journal.holder("c") == "ben"
            letter = await journal.post("c", core.CampaignPaused(), by="eve")
            with pytest.raises(core.Conflict, match="released"):
                await journal.append(old, entry(1))
            with pytest.raises(core.Conflict, match="released"):
                await journal.answer(old, letter, "no")
            await journal.append(new, entry(1), mail=letter)

        self.run(tmp_path, body)

    def test_only_one_of_many_gets_the_lease(self, tmp_path: Path) -> None:
        async def body(journal: core.Journal) -> None:
            ends = await asyncio.gather(*(journal.lease("c", f"n{i}") for i in range(10)), return_exceptions=True)
            assert sum(isinstance(end, core.Held) for end in ends) == 9

        self.run(tmp_path, body)

    # ------------------------------------------------------------- mail

    def test_mail_is_answered_in_the_same_stroke(self, tmp_path: Path) -> None:
        async def body(journal: core.Journal) -> None:
            first = await journal.post("c", EXAMPLES[20], by="eve")
            second = await journal.post("c", EXAMPLES[5], by="ben")
            await journal.post("d", EXAMPLES[0], by="ben")
            assert list(await journal.mail("c")) == [
                core.Mail(id=first, fact=EXAMPLES[20], by="eve"),
                core.Mail(id=second, fact=EXAMPLES[5], by="ben"),
            ]
            assert await journal.answered(first) is None
            lease = await journal.lease("c", "anna")
            await journal.append(lease, entry(1, EXAMPLES[20]), mail=first)
            assert await journal.answered(first) == ""
            assert [letter.id for letter in await journal.mail("c")] == [second]
            await journal.answer(lease, second, "not now")
            assert await journal.answered(second) == "not now"
            assert list(await journal.mail("c")) == []
            assert len(await journal.mail("d")) == 1
            assert len(await entries(journal, "c")) == 1

        self.run(tmp_path, body)

    def test_mail_and_entry_go_together_or_not_at_all(self, tmp_path: Path) -> None:
        async def body(journal: core.Journal) -> None:
            letter = await journal.post("c", EXAMPLES[20], by="eve")
            foreign = await journal.post("d", EXAMPLES[20], by="eve")
            for seq, mail in ((2, letter), (1, foreign), (1, "999"), (1, "none")):
                lease = await journal.lease("c", "anna")
                with pytest.raises(core.Conflict):
                    await journal.append(lease, entry(seq, EXAMPLES[20]), mail=mail)
                await lease.release()
            assert await entries(journal, "c") == []
            assert [await journal.answered(mail) for mail in (letter, foreign)] == [None, None]
            lease = await journal.lease("c", "anna")
            await journal.append(lease, entry(1, EXAMPLES[20]), mail=letter)
            with pytest.raises(core.Conflict, match="answered already"):
                await journal.answer(lease, letter, "too late")
            with pytest.raises(core.Conflict, match="answered already"):
                await journal.append(lease, entry(2, EXAMPLES[20]), mail=letter)
            assert len(await entries(journal, "c")) == 1

        self.run(tmp_path, body)

    def test_an_answer_needs_a_reason_and_a_mail(self, tmp_path: Path) -> None:
        async def body(journal: core.Journal) -> None:
            letter = await journal.post("c", EXAMPLES[20], by="eve")
            lease = await journal.lease("c", "anna")
            with pytest.raises(ValueError, match="why"):
                await journal.answer(lease, letter, "")
            with pytest.raises(LookupError):
                await journal.answered("999")

        self.run(tmp_path, body)

    # ------------------------------------------------------------- changes

    def test_changed_tells_what_is_there_and_gives_up_in_time(self, tmp_path: Path) -> None:
        async def body(journal: core.Journal) -> None:
            assert not await journal.changed("c", 0, timeout=0.0)
            assert not await journal.changed("c", 0, timeout=0.05)
            await journal.append(await journal.lease("c", "anna"), entry(1))
            assert await journal.changed("c", 0, timeout=0.0)
            assert not await journal.changed("c", 1, timeout=0.05)
            assert not await journal.changed("d", 0, timeout=0.05)
            await journal.post("c", EXAMPLES[20], by="eve")
            assert await journal.changed("c", 1, timeout=0.0)

        self.run(tmp_path, body)

    def test_changed_wakes_at_once(self, tmp_path: Path) -> None:
        self.run(tmp_path, lambda journal: self._wakes(journal, journal, within=0.2))

    def test_changed_wakes_across_journals(self, tmp_path: Path) -> None:
        self.run_two(tmp_path, lambda one, other: self._wakes(one, other, within=0.4))

    async def _wakes(self, writer: core.Journal, waiter: core.Journal, within: float) -> None:
        """Wakes for entries and mail of its campaign, well before its time, and for nobody else's."""
        clock = asyncio.get_running_loop().time
        mine, other = await writer.lease("c", "anna"), await writer.lease("d", "anna")
        deaf = asyncio.create_task(waiter.changed("e", 0, timeout=20.0))
        for seq in range(1, 4):
            waiting = [asyncio.create_task(waiter.changed("c", seq - 1, timeout=20.0)) for _ in range(3)]
            await asyncio.sleep(0.15)
            await writer.append(other, entry(seq))
            await asyncio.sleep(0.15)
            assert not any(task.done() for task in waiting)
            began = clock()
            await writer.append(mine, entry(seq))
            assert await asyncio.gather(*waiting) == [True] * 3
            assert clock() - began < within
        posted = asyncio.create_task(waiter.changed("c", 3, timeout=20.0))
        await asyncio.sleep(0.15)
        began = clock()
        await writer.post("c", EXAMPLES[20], by="eve")
        assert await posted
        assert clock() - began < within
        assert not deaf.done()
        deaf.cancel()
        await asyncio.gather(deaf, return_exceptions=True)

    # ------------------------------------------------------------- several journals at one place

    def test_another_journal_sees_the_same(self, tmp_path: Path) -> None:
        async def body(one: core.Journal, other: core.Journal) -> None:
            lease = await one.lease("c", "anna")
            with pytest.raises(core.Held, match="anna"):
                await other.lease("c", "ben")
            assert await other.holder("c") == "anna"
            letter = await other.post("c", EXAMPLES[20], by="ben")
            assert [mail.id for mail in await one.mail("c")] == [letter]
            await one.append(lease, entry(1, EXAMPLES[20]), mail=letter)
            assert await other.answered(letter) == ""
            assert await entries(other, "c") == [entry(1, EXAMPLES[20])]
            with pytest.raises(core.Conflict):
                await other.append(lease, entry(2))
            await one.close()
            assert await other.holder("c") == ""
            await other.append(await other.lease("c", "ben"), entry(2))
            with pytest.raises(core.Unavailable, match="closed"):
                await one.post("c", EXAMPLES[20], by="ben")
            assert [e.seq for e in await entries(other, "c")] == [1, 2]

        self.run_two(tmp_path, body)


@contextmanager
def postgres_server(bin_directories: Sequence[Path] | None = None) -> Iterator[str]:
    """A PostgreSQL server of one's own on a local socket, fsync on: its connection string, without a database.

    Skips the test where no server is installed. Root lends it to an unprivileged user, as it refuses to be root.
    """
    places = bin_directories or [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.get_exec_path())]
    found = next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)
    if found is None:
        pytest.skip("no PostgreSQL server (initdb, pg_ctl) under /usr/lib/postgresql/*/bin or on the PATH")
    user = None if os.getuid() else next((u for u in ("postgres", "nobody") if _known(u)), None)
    place = Path(tempfile.mkdtemp(prefix="pg-"))
    if user:
        shutil.chown(place, user)

    def call(*command: str) -> None:
        done = subprocess.run(
            command, user=user, extra_groups=[] if user else None, cwd=place,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr or done.stdout}")

    control = (str(found / "pg_ctl"), "-D", str(place / "data"), "-w")
    try:
        call(str(found / "initdb"), "-D", str(place / "data"), "-U", "firstlight", "-A", "trust", "-E", "UTF8")
        call(*control, "-l", str(place / "log"), "-o", f"-k {place} -h ''", "start")
        try:
            yield f"host={place} user=firstlight"
        finally:
            call(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(place)


def _known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
