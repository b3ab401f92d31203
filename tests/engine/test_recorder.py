"""How facts get to disk: together, in order, never behind a deed, and loudly where they do not."""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from firstlight import core, engine
from firstlight.journal.memory import MemoryJournal
from firstlight.testing.world import PaperJournal, Room, Shelf, a_spec, a_world, peak


class Disk(MemoryJournal):
    """A journal whose sync takes a moment, and that keeps what each of them took in."""

    def __init__(self, full_at: int = 10**9) -> None:
        super().__init__()
        self.batches: list[list[core.Fact]] = []
        self.durable: list[core.Fact] = []
        self._full_at = full_at

    async def append_all(self, lease: core.Lease, entries: Sequence[tuple[core.Entry, str]]) -> None:
        await asyncio.sleep(0.003)
        if len(self.durable) >= self._full_at:
            raise core.Unavailable("the disk is full")
        await super().append_all(lease, entries)
        self.batches.append([entry.fact for entry, _ in entries])
        self.durable += self.batches[-1]


def a_campaign(trials: int, parallel: int) -> core.CampaignSpec:
    spec = a_spec(parallel=parallel)
    goal = replace(
        spec.goal,
        objectives=(core.Objective(observable="y", direction="maximize"),), budget=core.Budget(trials=trials),
    )  # fmt: skip
    return replace(spec, goal=goal)


class High:
    """Strategy: points that no region of these tests holds."""

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        return [core.Proposal(point={"x": 0.6 + (seed + i) % 1000 / 2500}) for i in range(count)]


def perform(spec: core.CampaignSpec, ports: core.Ports) -> core.Campaign:
    async def whole() -> core.Campaign:
        await engine.create(spec, ports.journal, ports.clock, "ada")
        async with asyncio.timeout(10):
            return await engine.run(spec.id, ports, by="ada")

    return asyncio.run(whole())


def test_what_is_folded_while_the_disk_is_busy_shares_the_next_sync() -> None:
    disk = Disk()
    assert perform(a_campaign(40, parallel=20), a_world(journal=disk)).succeeded > 30
    # Six facts a trial: one sync each would be more than 240.
    assert len(disk.durable) > 240
    assert len(disk.batches) < 80


def test_no_action_is_submitted_before_all_that_leads_to_it_is_durable() -> None:
    disk = Disk()

    class Watched(Room):
        async def submit(self, permit: core.Permit) -> str:
            action = permit.action
            assert core.ActionDispatched(action=action.id) in disk.durable
            assert any(isinstance(f, core.ActionPermitted) and f.action == action.id for f in disk.durable)
            assert any(isinstance(f, core.TrialProposed) and f.trial == action.trial for f in disk.durable)
            return await super().submit(permit)

    class Careful(Shelf):
        async def ingest(self, campaign: core.Campaign, row: core.Row) -> str:
            ended = [f.action for f in disk.durable if isinstance(f, core.ActionSucceeded | core.ActionFailed)]
            assert f"{row.trial}.evaluate" in ended
            return await super().ingest(campaign, row)

    room = Watched(peak)
    assert perform(a_campaign(20, parallel=6), a_world(room, disk, catalog=Careful())).closed == "trials spent"
    assert len(room.performed) == 20


@pytest.mark.parametrize("full_at", range(1, 30, 3))
def test_a_disk_that_fails_stops_the_campaign_whatever_was_being_written(full_at: int) -> None:
    disk, room = Disk(full_at), Room(peak)
    with pytest.raises(core.Unavailable, match="the disk is full"):
        perform(a_campaign(20, parallel=4), a_world(room, disk))
    sent = {f.action for f in disk.durable if isinstance(f, core.ActionDispatched)}
    assert set(room.submitted) <= sent


def test_a_disk_that_fails_is_heard_of_while_everybody_only_waits_for_the_world() -> None:
    class Forever(Room):
        async def outcome(self, job: str) -> core.Outcome:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    class Fails(Disk):
        async def append_all(self, lease: core.Lease, entries: Sequence[tuple[core.Entry, str]]) -> None:
            if any(isinstance(entry.fact, core.ActionAccepted) for entry, _ in entries):
                raise core.Unavailable("the disk is full")
            await super().append_all(lease, entries)

    with pytest.raises(core.Unavailable, match="the disk is full"):
        perform(replace(a_campaign(1, parallel=1), ahead=0), a_world(Forever(peak), Fails()))


def test_a_campaign_is_closed_only_once_that_is_durable() -> None:
    class Ends(Disk):
        async def append_all(self, lease: core.Lease, entries: Sequence[tuple[core.Entry, str]]) -> None:
            if any(isinstance(entry.fact, core.CampaignClosed) for entry, _ in entries):
                raise core.Unavailable("the disk is full")
            await super().append_all(lease, entries)

    with pytest.raises(core.Unavailable, match="the disk is full"):
        perform(a_campaign(3, parallel=1), a_world(journal=Ends()))


def test_listeners_hear_every_fact_once_in_order_and_when_it_is_durable() -> None:
    disk, heard = Disk(), list[int]()

    def listen(entry: core.Entry, campaign: core.Campaign) -> None:
        assert disk.durable[entry.seq - 2] == entry.fact
        assert campaign.seq == entry.seq
        heard.append(entry.seq)

    async def whole() -> core.Campaign:
        ports = a_world(journal=disk)
        await engine.create(a_campaign(8, parallel=4), disk, ports.clock, "ada")
        return await engine.run("c1", ports, by="ada", listeners=[listen])

    asyncio.run(whole())
    assert heard == list(range(2, len(disk.durable) + 2))


def test_words_that_came_together_are_recorded_before_anything_is_done() -> None:
    """Whoever asks for a point and forbids a region means both, even where the engine is about to design."""
    journal = PaperJournal()
    region = core.Forbid(ranges={"x": (0.0, 0.5)})
    ports = a_world(journal=journal, strategy=High())

    async def story() -> None:
        await engine.create(a_campaign(4, parallel=2), journal, ports.clock, "ada")
        for fact in (core.PointRequested(point={"x": 0.9}), core.RegionForbidden(region=region)):
            await journal.post("c1", fact, "grace")
        await engine.run("c1", ports, by="ada")

    asyncio.run(story())
    names = [type(core.decode(line).fact).__name__ for line in journal.lines["c1"]]
    assert names.index("RegionForbidden") == names.index("PointRequested") + 1


def test_a_refusal_is_given_only_once_the_facts_it_stands_on_are_durable() -> None:
    class Answering(Disk):
        async def answer(self, lease: core.Lease, mail: str, refusal: str) -> None:
            assert any(isinstance(f, core.RegionForbidden) for f in self.durable)
            await super().answer(lease, mail, refusal)

    disk = Answering()
    fact = core.RegionForbidden(region=core.Forbid(ranges={"x": (0.2, 0.3)}))

    async def story() -> list[str | None]:
        ports = a_world(journal=disk, strategy=High())
        await engine.create(a_campaign(4, parallel=2), disk, ports.clock, "ada")
        mails = [await disk.post("c1", fact, "grace") for _ in range(2)]
        await engine.run("c1", ports, by="ada")
        return [await disk.answered(mail) for mail in mails]

    first, second = asyncio.run(story())
    assert first == ""
    assert second is not None
    assert "forbidden already" in second
