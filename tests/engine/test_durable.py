"""Fact before deed, where the disk is slower than everything else; and many facts in one write."""

import asyncio
from collections.abc import Sequence

import pytest

from firstlight import core, engine
from firstlight.testing.world import PaperJournal, Room, Shelf, a_spec, a_world, peak


class SlowDisk(PaperJournal):
    """What is appended is durable only a moment later; `batches` are how many entries were written together."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.fails_after: int | None = None

    async def append_all(self, lease: core.Lease, entries: Sequence[tuple[core.Entry, str]]) -> None:
        await asyncio.sleep(0.005)
        self.batches.append(len(entries))
        for entry, mail in entries:
            if self.fails_after is not None and entry.seq > self.fails_after:
                raise core.Unavailable("the disk is gone")
            await super().append(lease, entry, mail)

    def durable(self, kind: type) -> set[str]:
        """The actions of which a fact of this kind is durable."""
        facts = [core.decode(line).fact for line in self.lines["c1"]]
        return {getattr(fact, "action", "") for fact in facts if isinstance(fact, kind)}


class Watchful(Room):
    """A room that is asked for nothing of which the journal does not know durably."""

    def __init__(self, journal: SlowDisk) -> None:
        super().__init__(peak)
        self.journal, self.early = journal, list[str]()

    async def submit(self, permit: core.Permit) -> str:
        if permit.action.id not in self.journal.durable(core.ActionDispatched):
            self.early.append(f"submit {permit.action.id}")
        return await super().submit(permit)

    async def cancel(self, job: str) -> None:
        if job not in self.journal.durable(core.CancelRequested):
            self.early.append(f"cancel {job}")
        await super().cancel(job)


class WatchfulShelf(Shelf):
    """A catalog that is given nothing whose outcome the journal does not know durably."""

    def __init__(self, journal: SlowDisk) -> None:
        super().__init__()
        self.journal, self.early = journal, list[str]()

    async def ingest(self, campaign: core.Campaign, row: core.Row) -> str:
        known = {action.rpartition(".")[0] for action in self.journal.durable(core.ActionSucceeded)}
        if row.trial not in known:
            self.early.append(row.trial)
        return await super().ingest(campaign, row)


GOAL = core.Goal(
    objectives=(core.Objective(observable="y", direction="maximize"),), budget=core.Budget(trials=12)
)  # fmt: skip


def run(journal: SlowDisk, room: Room, shelf: Shelf) -> core.Campaign:
    async def go() -> core.Campaign:
        ports = a_world(room, journal, catalog=shelf)
        await engine.create(a_spec(goal=GOAL, parallel=4), journal, ports.clock, "ada")
        return await asyncio.wait_for(engine.run("c1", ports, by="ada"), 20)

    return asyncio.run(go())


def test_no_deed_before_its_fact_is_durable() -> None:
    journal = SlowDisk()
    room, shelf = Watchful(journal), WatchfulShelf(journal)
    assert run(journal, room, shelf).succeeded == 12
    assert room.early == []
    assert shelf.early == []


def test_facts_that_come_together_are_written_together_and_in_order() -> None:
    journal = SlowDisk()
    run(journal, Room(peak), Shelf())
    entries = [core.decode(line) for line in journal.lines["c1"]]
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert sum(journal.batches) == len(entries) - 1  # The first is written when the campaign is opened.
    assert max(journal.batches) > 4
    assert len(journal.batches) < len(entries) / 2


def test_a_disk_that_fails_ends_the_run_with_what_it_said_and_loses_no_durable_fact() -> None:
    journal = SlowDisk()
    journal.fails_after = 15
    room = Watchful(journal)
    with pytest.raises(core.Unavailable, match="the disk is gone"):
        run(journal, room, Shelf())
    assert room.early == []
    assert len(journal.lines["c1"]) == 15
    assert journal.leases == {}
    journal.fails_after = None

    async def again() -> core.Campaign:
        return await asyncio.wait_for(engine.run("c1", a_world(room, journal), by="ada"), 20)

    assert asyncio.run(again()).succeeded == 12
    assert set(room.performed.values()) == {1}


def test_what_is_said_while_a_row_waits_for_the_disk_is_not_in_the_catalog_before_it_is_durable() -> None:
    journal = SlowDisk()

    class Dated(Shelf):
        async def ingest(self, campaign: core.Campaign, row: core.Row) -> str:
            assert row.revision <= len(journal.lines["c1"]), "a row stands on a word that a crash would lose"
            return await super().ingest(campaign, row)

    shelf = Dated()
    ports = a_world(journal=journal, catalog=shelf)

    async def story() -> None:
        await engine.create(a_spec(goal=GOAL), journal, ports.clock, "ada")
        session = await engine.open_session("c1", ports, by="ada")

        def speak(entry: core.Entry, campaign: core.Campaign) -> None:
            if isinstance(entry.fact, core.ActionSucceeded):
                session.recorder.fold(core.OutcomeRejected(trial="c1.1", reason="a bubble"), by="grace")

        session.recorder.listeners.append(speak)
        (trial,) = await session.ask(1)
        seen = core.Measured(observations=(core.Observation(observable="y", value=1.0),))
        await session.tell(trial.id, seen)
        await session.close()

    asyncio.run(asyncio.wait_for(story(), 20))
    assert shelf.rows["c1.1"].rejected == "a bubble"
