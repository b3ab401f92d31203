"""A strategy that wants to learn from earlier campaigns: they are named once, and known for ever as they were then."""

import asyncio
import contextlib
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from firstlight import core, engine
from firstlight.journal import JournalArchive
from firstlight.testing.world import Crash, PaperJournal, RandomPoints, Room, SameUnits, a_spec, a_world, peak


class Heir(RandomPoints):
    """Random points, and a note of the earlier trials it was given each time."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.given: list[dict[str, list[str]]] = []

    def earlier(self) -> Sequence[str] | None:
        return self.names

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        self.given.append({e.campaign: [r.trial for r in e.rows] for e in results.earlier})
        return super().propose(spec, results, count, seed)


class Counting(JournalArchive):
    """How often it was read."""

    reads = 0

    async def read(self, spec: core.CampaignSpec, chosen: core.EarlierCampaign) -> core.Earlier:
        self.reads += 1
        return await super().read(spec, chosen)


def aimless(id: str, trials: int = 4) -> core.CampaignSpec:
    aim = (core.Objective(observable="y", direction="maximize"),)
    return a_spec(id=id, goal=core.Goal(objectives=aim, budget=core.Budget(trials=trials)))


def world(journal: PaperJournal, strategy: core.Strategy, room: Room | None = None) -> core.Ports:
    return a_world(room, journal, strategy=strategy, archive=Counting(journal, SameUnits()))


async def ran(spec: core.CampaignSpec, ports: core.Ports) -> core.Campaign:
    await engine.create(spec, ports.journal, ports.clock, "ada")
    return await engine.run(spec.id, ports, by="ada")


async def recorded_in(journal: core.Journal, id: str = "c1") -> list[core.Fact]:
    return [entry.fact async for entry in journal.read(id)]


def past(journal: PaperJournal, *ids: str) -> None:
    """Campaigns that were run before."""
    for id in ids:
        asyncio.run(ran(aimless(id), world(journal, RandomPoints())))


def trials(journal: PaperJournal, id: str) -> list[str]:
    _, ledger = asyncio.run(engine.recover(id, journal))
    return [row.trial for row in ledger.view().rows]


def test_all_that_overlap_are_named_once_before_the_first_design_and_read_once() -> None:
    journal = PaperJournal()
    past(journal, "old", "older")
    heir = Heir()
    ports = world(journal, heir)
    campaign = asyncio.run(ran(aimless("c1", trials=9), ports))
    recorded = asyncio.run(recorded_in(journal))
    (chosen,) = [f for f in recorded if isinstance(f, core.EarlierChosen)]
    assert campaign.earlier == chosen.campaigns
    assert {c.campaign: c.entries for c in chosen.campaigns} == {i: len(journal.lines[i]) for i in ("old", "older")}
    first = next(i for i, f in enumerate(recorded) if isinstance(f, core.TrialProposed))
    assert recorded.index(chosen) < first
    expected = {id: trials(journal, id) for id in ("old", "older")}
    assert len(heir.given) > 1
    assert all(given == expected for given in heir.given)
    assert all(len(rows) == 4 for rows in expected.values())
    assert isinstance(ports.archive, Counting) and ports.archive.reads == 2


def test_only_those_named_are_known() -> None:
    journal, heir = PaperJournal(), Heir("older")
    past(journal, "old", "older")
    asyncio.run(ran(aimless("c1"), world(journal, heir)))
    assert {name for given in heir.given for name in given} == {"older"}


def test_where_there_is_nothing_to_learn_from_that_is_known_too() -> None:
    journal, heir = PaperJournal(), Heir()
    campaign = asyncio.run(ran(aimless("c1"), world(journal, heir)))
    assert campaign.earlier == ()
    assert heir.given[0] == {}


@pytest.mark.parametrize("wish", [None, "no method"])
def test_a_strategy_that_wants_none_is_asked_for_none(wish: str | None) -> None:
    class Content(RandomPoints):
        def earlier(self) -> Sequence[str] | None:
            return None

    journal = PaperJournal()
    past(journal, "old")
    campaign = asyncio.run(ran(aimless("c1"), world(journal, RandomPoints() if wish else Content())))
    assert campaign.earlier is None
    assert not [f for f in asyncio.run(recorded_in(journal)) if isinstance(f, core.EarlierChosen)]


async def _more(journal: PaperJournal, id: str) -> None:
    """The earlier campaign goes on meanwhile."""
    seen = core.Measured(observations=(core.Observation(observable="y", value=0.7),))
    fact = core.TrialAdded(trial="", point={"x": 0.3}, outcome=seen)
    await engine.request(id, fact, journal, lambda: 1.0, by="grace")


def test_after_a_crash_at_any_fact_the_same_earlier_trials_are_known() -> None:
    spec = aimless("c1", trials=9)
    whole = PaperJournal()
    running(whole)
    asyncio.run(ran(spec, world(whole, Heir())))
    resumed = 0
    for crash_after in range(1, len(whole.lines["c1"])):
        journal, room, heir = PaperJournal(), Room(peak), Heir()
        running(journal)
        ports = world(journal, heir, room)
        journal.crash_after = crash_after
        with contextlib.suppress(Crash):
            # Only the new campaign is struck: the earlier one is shorter.
            asyncio.run(ran(spec, ports))
        journal.crash_after = None
        before = trials(journal, "old")
        told = [f for f in asyncio.run(recorded_in(journal)) if isinstance(f, core.EarlierChosen)]
        asyncio.run(_more(journal, "old"))
        campaign = asyncio.run(engine.run("c1", ports, by="ada"))
        assert campaign.closed == "trials spent"
        assert set(room.performed.values()) == {1}
        after = [f for f in asyncio.run(recorded_in(journal)) if isinstance(f, core.EarlierChosen)]
        known = before if told else trials(journal, "old")
        assert len(after) == 1
        assert told in ([], after)
        assert all(given == {"old": known} for given in heir.given), crash_after
        resumed += bool(told) and len(heir.given) > 1
    assert resumed > 5


def running(journal: PaperJournal) -> None:
    """An earlier campaign of two trials that is not closed."""

    async def story() -> None:
        await engine.create(aimless("old"), journal, lambda: 1.0, "ada")
        await _more(journal, "old")
        await _more(journal, "old")

    asyncio.run(story())


def test_what_was_known_at_an_entry_is_found_again() -> None:
    journal = PaperJournal()
    running(journal)
    ports = world(journal, Heir())
    asyncio.run(ran(aimless("c1"), ports))
    before = trials(journal, "old")
    asyncio.run(_more(journal, "old"))
    proposed = [f for f in asyncio.run(recorded_in(journal)) if isinstance(f, core.TrialProposed)]
    for fact in proposed:
        assert fact.asked is not None
        campaign, ledger = asyncio.run(engine.recover("c1", journal, ports.archive, fact.asked.known))
        assert campaign.seq == fact.asked.known
        (earlier,) = ledger.view().earlier
        assert [r.trial for r in earlier.rows] == before
        again = Heir().propose(campaign.spec, ledger.view(), fact.asked.count, fact.asked.seed)
        assert again[fact.asked.place].point == fact.point


def test_a_session_knows_them_too() -> None:
    journal, heir = PaperJournal(), Heir()
    past(journal, "old")

    async def story() -> None:
        ports = world(journal, heir)
        await engine.create(aimless("c1"), journal, ports.clock, "ada")
        session = await engine.open_session("c1", ports, by="ada")
        (trial,) = await session.ask(1)
        assert trial.id == "c1.1"
        await session.close()
        session = await engine.open_session("c1", ports, by="ada")
        await session.ask(1)
        await session.close()

    asyncio.run(story())
    assert heir.given == [{"old": trials(journal, "old")}] * 2
    assert len([f for f in asyncio.run(recorded_in(journal)) if isinstance(f, core.EarlierChosen)]) == 1


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("lost", "c1 cannot learn from lost: there is no such campaign here"),
        ("c1", "c1 cannot learn from itself"),
        ("other", "c1 cannot learn from other: they share no parameter"),
        ("blind", "c1 cannot learn from blind: it did not observe y"),
        ("new", "c1 cannot learn from new: no trial of it has ended yet"),
    ],
)
def test_one_that_cannot_inform_it_is_named_with_the_reason(name: str, why: str) -> None:
    journal = PaperJournal()
    past(journal, "old")
    z = core.Goal(objectives=(core.Objective(observable="z", direction="maximize"),), budget=core.Budget(trials=1))
    w = (core.Continuous(name="w", low=0.0, high=1.0),)
    for spec in (replace(aimless("other"), parameters=w), replace(aimless("blind"), goal=z), aimless("new")):
        asyncio.run(engine.create(spec, journal, lambda: 1.0, "ada"))
    with pytest.raises(core.Unrelated, match=why):
        asyncio.run(ran(aimless("c1"), world(journal, Heir("old", name))))
    last = asyncio.run(recorded_in(journal))[-1]
    assert isinstance(last, core.RunEnded) and why in last.reason
    # Whoever asks for all that overlap is not troubled by those that do not.
    heir = Heir()
    asyncio.run(ran(aimless("c2"), world(journal, heir)))
    assert set(heir.given[0]) == {"old"}


def test_they_are_chosen_once_and_never_include_itself() -> None:
    spec, chosen = aimless("c1"), core.EarlierChosen(campaigns=())
    facts: list[core.Fact] = [core.CampaignOpened(spec=spec), chosen]
    entries = [core.Entry(seq=i, at=1.0, by="ada", fact=f) for i, f in enumerate(facts, 1)]
    campaign = core.replay(entries)
    with pytest.raises(core.InconsistentError, match="has chosen its earlier campaigns already"):
        core.reduce(campaign, core.Entry(seq=3, at=1.0, by="ada", fact=chosen))
    itself = core.EarlierChosen(campaigns=(core.EarlierCampaign(campaign="c1", entries=1),))
    with pytest.raises(core.InconsistentError, match="not earlier than itself"):
        core.reduce(core.open_campaign(entries[0]), core.Entry(seq=2, at=1.0, by="ada", fact=itself))


def test_without_an_archive_a_wish_cannot_be_met() -> None:
    with pytest.raises(LookupError, match="there is no archive"):
        asyncio.run(ran(aimless("c1"), a_world(strategy=Heir())))


def test_a_design_that_names_them_and_offers_nothing_is_exhausted() -> None:
    class Mute(Heir):
        asked = 0

        def propose(self, *_: object) -> Sequence[core.Proposal]:
            self.asked += 1
            return []

    mute = Mute()
    campaign = asyncio.run(ran(aimless("c1"), world(PaperJournal(), mute)))
    assert campaign.closed == "strategy random has no further point"
    assert mute.asked == 1
