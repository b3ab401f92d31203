"""Actions that name no facility: where they go, and where else when that goes away."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from firstlight import core, engine
from firstlight.facilities.coordinator import Coordinator
from firstlight.testing.facility import FakeFacility
from firstlight.testing.world import Crash, Gate, PaperJournal, a_spec, a_world, peak

PATIENCE = 0.2
MAXIMIZE = (core.Objective(observable="y", direction="maximize"),)


def fake(slots: int = 2, seconds: float = 0.0) -> FakeFacility:
    return FakeFacility(peak, slots, lambda action: seconds)


def anywhere(trials: int = 6, steps: int = 1, **step: object) -> core.CampaignSpec:
    """A campaign whose steps name no facility."""
    spec = a_spec()
    made = tuple(
        replace(core.StepSpec(name=f"look-{n}", operation="look", facility=""), **step) for n in range(1, steps + 1)
    )
    goal = replace(spec.goal, objectives=MAXIMIZE, budget=core.Budget(trials=trials))
    return replace(spec, goal=goal, procedure=core.ProcedureSpec(steps=made))


def world(journal: core.Journal | None = None, patience: float = PATIENCE, **facilities: FakeFacility) -> core.Ports:
    """Ports with these facilities, the preferred ones first."""
    # A hurried clock: what facilities say of themselves is not remembered for longer than a test takes.
    coordinator = Coordinator(facilities, patience=patience, clock=lambda: 1000 * time.monotonic())
    return a_world(journal=journal, facilities=facilities, coordinator=coordinator)


async def perform(
    spec: core.CampaignSpec, ports: core.Ports, meanwhile: Callable[[core.Campaign], bool] | None = None,
    fact: core.Fact | None = None,
) -> core.Campaign:  # fmt: skip
    """Run it; once `meanwhile` is true of it, record a person's fact."""
    await engine.create(spec, ports.journal, ports.clock, "ada")
    running = asyncio.create_task(engine.run(spec.id, ports, by="ada"))
    while meanwhile is not None and not running.done():
        campaign, _ = await engine.recover(spec.id, ports.journal)
        if meanwhile(campaign):
            if fact is not None:
                await engine.request(spec.id, fact, ports.journal, ports.clock, by="grace")
            break
        await asyncio.sleep(0.005)
    return await asyncio.wait_for(running, 30)


async def facts(ports: core.Ports, id: str = "c1") -> list[core.Fact]:
    return [entry.fact async for entry in ports.journal.read(id)]


def placed(history: list[core.Fact], action: str = "") -> list[core.ActionPlaced]:
    return [f for f in history if isinstance(f, core.ActionPlaced) and action in ("", f.action)]


def accepted(campaign: core.Campaign) -> bool:
    return any(campaign.actions("accepted"))


def sound(ports: core.Ports, campaign: core.Campaign) -> None:
    """Both folds of its journal agree with it, and every trial ended once."""

    async def check() -> None:
        again, ledger = await engine.recover(campaign.spec.id, ports.journal)
        assert again == campaign
        assert ledger.ended == campaign.succeeded + campaign.failed == campaign.counted
        ended = [f.action for f in await facts(ports) if isinstance(f, core.ActionSucceeded | core.ActionFailed)]
        assert len(ended) == len(set(ended))

    asyncio.run(check())


def test_every_action_gets_a_facility_before_policy_judges_it() -> None:
    judged: list[str] = []

    def watch(action: core.Action) -> bool:
        judged.append(action.facility)
        return False

    a, b = fake(slots=2), fake(slots=1)
    ports = replace(world(a=a, b=b), policy=Gate(refuse=watch))
    campaign = asyncio.run(perform(anywhere(trials=9), ports))
    sound(ports, campaign)
    assert set(judged) == {"a", "b"}, "three at once do not fit the two slots of a"
    assert a.performed.total() + b.performed.total() == 9
    assert all(p.reason.startswith("free now") and len(p.others) == 1 for p in placed(asyncio.run(facts(ports))))


def test_a_refusal_where_it_was_placed_is_a_refusal() -> None:
    a = fake()
    ports = replace(world(a=a), policy=Gate(refuse=lambda action: action.facility == "a"))
    campaign = asyncio.run(perform(anywhere(), ports))
    sound(ports, campaign)
    assert (campaign.failed, a.performed.total()) == (6, 0)


def test_without_a_coordinator_it_stops_and_says_what_is_missing() -> None:
    with pytest.raises(LookupError, match="names no facility, and there is no coordinator"):
        asyncio.run(perform(anywhere(), replace(world(a=fake()), coordinator=None)))


def test_it_waits_until_somebody_can_take_it(caplog: pytest.LogCaptureFixture) -> None:
    a = fake()
    a.says = core.FacilityStatus(state="down", message="maintenance")

    async def story() -> tuple[bool, core.Campaign]:
        ports = world(a=a)
        await engine.create(anywhere(), ports.journal, ports.clock, "ada")
        running = asyncio.create_task(engine.run("c1", ports, by="ada"))
        await asyncio.sleep(0.15)
        early = bool(placed(await facts(ports)))
        a.says = core.FacilityStatus(state="up")
        return early, await asyncio.wait_for(running, 10)

    early, campaign = asyncio.run(story())
    assert not early
    assert campaign.succeeded + campaign.failed == 6
    assert "waits for a facility: nobody can take it now: a is down (maintenance)" in caplog.text


@pytest.mark.parametrize("cancel", [False, True])
def test_what_waits_for_a_facility_can_be_stopped(cancel: bool) -> None:
    a = fake()
    a.says = core.FacilityStatus(state="down")
    ports = world(a=a)
    stop = core.CampaignStopped(reason="enough", cancel=cancel)
    campaign = asyncio.run(perform(anywhere(), ports, lambda c: bool(c.open), stop))
    assert (campaign.closed, campaign.counted) == ("enough", 0)


def test_paused_nothing_is_placed() -> None:
    a = fake()
    ports = world(a=a)

    async def story() -> tuple[int, core.Campaign]:
        await engine.create(anywhere(), ports.journal, ports.clock, "ada")
        await engine.request("c1", core.CampaignPaused(), ports.journal, ports.clock, by="ada")
        running = asyncio.create_task(engine.run("c1", ports, by="ada"))
        await asyncio.sleep(0.1)
        before = len(placed(await facts(ports)))
        await engine.request("c1", core.CampaignResumed(), ports.journal, ports.clock, by="ada")
        return before, await asyncio.wait_for(running, 10)

    before, campaign = asyncio.run(story())
    assert before == 0
    assert campaign.succeeded + campaign.failed == 6


async def begun(ports: core.Ports, spec: core.CampaignSpec, actions: int = 1) -> "asyncio.Task[core.Campaign]":
    """Run it; the task, once so many actions have been accepted."""
    await engine.create(spec, ports.journal, ports.clock, "ada")
    running = asyncio.create_task(engine.run(spec.id, ports, by="ada"))
    while len(list((await engine.recover(spec.id, ports.journal))[0].actions("accepted"))) < actions:
        await asyncio.sleep(0.005)
    return running


async def away(a: FakeFacility, ports: core.Ports, spec: core.CampaignSpec, back: float = 0.0) -> core.Campaign:
    """Run it; a goes away once something has been accepted there, for good or for some seconds."""
    running = await begun(ports, spec)
    a.reachable = False
    if back:
        await asyncio.sleep(back)
        a.reachable = True
    return await asyncio.wait_for(running, 30)


def test_what_was_accepted_goes_elsewhere_and_is_called_back() -> None:
    a, b = fake(seconds=60), fake(seconds=1.0)
    spec = replace(anywhere(trials=2, facilities=("a", "b")), parallel=2, ahead=0)

    async def story() -> tuple[core.Campaign, core.Ports]:
        ports = world(a=a, b=b)
        campaign = await away(a, ports, spec, back=0.6)
        return campaign, ports

    campaign, ports = asyncio.run(story())
    sound(ports, campaign)
    history = asyncio.run(facts(ports))
    moved = [p for p in placed(history) if "has gone away" in p.reason]
    assert [p.facility for p in moved] == ["b", "b"]
    assert "a has gone away (cannot be reached" in moved[0].reason
    recalled = [f for f in history if isinstance(f, core.CancelRequested)]
    assert {(f.action, f.facility) for f in recalled} == {(p.action, "a") for p in moved}
    assert sorted(a.cancelled) == sorted(p.action for p in moved)
    assert set(b.performed.values()) == {1}
    assert campaign.failed + campaign.succeeded == 2


def test_while_the_one_left_stays_away_it_does_not_go_further() -> None:
    a, b, c = fake(seconds=60), fake(seconds=1.5), fake()
    spec = replace(anywhere(trials=1, facilities=("a", "b", "c")), parallel=1)

    async def story() -> core.Ports:
        ports = world(a=a, b=b, c=c, patience=0.1)
        await away(a, ports, spec)
        return ports

    history = asyncio.run(facts(asyncio.run(story())))
    assert [p.facility for p in placed(history)] == ["a", "b"]
    assert (b.performed.total(), c.performed.total()) == (1, 0)


def test_what_leaves_together_is_spread_over_those_that_are_left() -> None:
    a, b, c = fake(slots=4, seconds=60), fake(slots=2, seconds=0.3), fake(slots=2, seconds=0.3)
    spec = replace(anywhere(trials=4, facilities=("a", "b", "c")), parallel=4, ahead=0)

    async def story() -> core.Ports:
        ports = world(a=a, b=b, c=c)
        running = await begun(ports, spec, actions=4)
        a.reachable = False
        await asyncio.wait_for(running, 10)
        return ports

    asyncio.run(story())
    assert (b.performed.total(), c.performed.total()) == (2, 2)


def test_a_short_silence_moves_nothing() -> None:
    a, b = fake(seconds=0.5), fake()
    spec = replace(anywhere(trials=2, facilities=("a", "b")), parallel=2, ahead=0)
    ports = world(a=a, b=b, patience=5.0)
    campaign = asyncio.run(away(a, ports, spec, back=0.1))
    sound(ports, campaign)
    assert (a.performed.total(), b.performed.total()) == (2, 0)


def test_what_much_has_gone_into_waits_for_as_long() -> None:
    a, b = fake(seconds=0.9), fake()
    spec = replace(anywhere(trials=1, facilities=("a", "b")), parallel=1)

    async def story() -> core.Ports:
        ports = world(a=a, b=b, patience=0.1)
        await engine.create(spec, ports.journal, ports.clock, "ada")
        running = asyncio.create_task(engine.run("c1", ports, by="ada"))
        await asyncio.sleep(0.6)
        a.reachable = False
        await asyncio.sleep(0.25)
        a.reachable = True
        await asyncio.wait_for(running, 10)
        return ports

    asyncio.run(story())
    assert (a.performed.total(), b.performed.total()) == (1, 0)


def test_down_by_its_own_word_is_away_too() -> None:
    a, b = fake(seconds=60), fake()
    spec = replace(anywhere(trials=2, facilities=("a", "b")), parallel=2, ahead=0)

    async def story() -> core.Ports:
        ports = world(a=a, b=b)
        running = await begun(ports, spec)
        a.says = core.FacilityStatus(state="down", message="power cut")
        await asyncio.wait_for(running, 10)
        return ports

    moved = placed(asyncio.run(facts(asyncio.run(story()))))[2:]
    assert [p.facility for p in moved] == ["b", "b"]
    assert moved[0].others == {"a": "is down (power cut)"}


def test_what_was_never_accepted_goes_elsewhere() -> None:
    class Deaf(FakeFacility):
        async def submit(self, permit: core.Permit) -> str:
            raise core.Unavailable("no answer to a submission")

    a, b = Deaf(peak, 2), fake()
    spec = replace(anywhere(trials=3, facilities=("a", "b")), parallel=1, ahead=0)
    ports = world(a=a, b=b)
    campaign = asyncio.run(perform(spec, ports))
    sound(ports, campaign)
    assert b.performed.total() == 3
    assert "no answer to a submission" in placed(asyncio.run(facts(ports)))[1].reason


def test_what_waits_for_a_slot_goes_elsewhere_and_may_come_back() -> None:
    a, b = fake(slots=1, seconds=60), fake(slots=1, seconds=0.05)
    spec = replace(anywhere(trials=3, facilities=("a", "b")), parallel=3, ahead=0)

    async def story() -> tuple[core.Campaign, core.Ports]:
        ports = world(a=a, b=b)
        return await away(a, ports, spec), ports

    campaign, ports = asyncio.run(story())
    sound(ports, campaign)
    assert b.performed.total() == 3
    left = [f.action for f in asyncio.run(facts(ports)) if isinstance(f, core.ActionDispatched)]
    assert Counter(Counter(left).values()) == {1: 2, 2: 1}, "one had been sent to a, and only that one was sent twice"


def test_what_may_not_be_repeated_stays_where_it_was_sent() -> None:
    a, b = fake(seconds=0.3), fake()
    spec = replace(anywhere(trials=2, facilities=("a", "b"), repeatable=False), parallel=2, ahead=0)
    ports = world(a=a, b=b)
    campaign = asyncio.run(away(a, ports, spec, back=1.0))
    sound(ports, campaign)
    assert (a.performed.total(), b.performed.total()) == (2, 0)
    assert set(a.performed.values()) == {1}


def test_what_its_specification_places_stays_there() -> None:
    a, b = fake(seconds=0.3), fake()
    spec = replace(anywhere(trials=2, facility="a"), parallel=2, ahead=0)
    ports = world(a=a, b=b)
    campaign = asyncio.run(away(a, ports, spec, back=1.0))
    sound(ports, campaign)
    assert (a.performed.total(), b.performed.total()) == (2, 0)


def test_cancelled_it_goes_nowhere() -> None:
    a, b = fake(seconds=60), fake()
    spec = replace(anywhere(trials=2, facilities=("a", "b")), parallel=2, ahead=0)
    ports = world(a=a, b=b)

    async def story() -> core.Campaign:
        running = await begun(ports, spec)
        a.reachable = False
        stop = core.CampaignStopped(reason="enough", cancel=True)
        await engine.request("c1", stop, ports.journal, ports.clock, by="ada")
        await asyncio.sleep(4 * PATIENCE)
        assert b.performed.total() == 0
        a.reachable = True
        return await asyncio.wait_for(running, 10)

    campaign = asyncio.run(story())
    sound(ports, campaign)
    assert (campaign.closed, campaign.failed) == ("enough", 2)


def test_stopped_it_is_brought_to_its_end_elsewhere() -> None:
    a, b = fake(seconds=60), fake()
    spec = replace(anywhere(trials=8, facilities=("a", "b")), parallel=2, ahead=0)
    ports = world(a=a, b=b)

    async def story() -> core.Campaign:
        running = await begun(ports, spec)
        await engine.request("c1", core.CampaignStopped(reason="enough"), ports.journal, ports.clock, by="ada")
        a.reachable = False
        return await asyncio.wait_for(running, 10)

    campaign = asyncio.run(story())
    sound(ports, campaign)
    assert campaign.closed == "enough"
    assert b.performed.total() == campaign.counted <= 2


async def crashed(spec: core.CampaignSpec, ports: core.Ports, journal: PaperJournal) -> core.Campaign:
    """Run it until the power goes off, and then to its end."""
    with contextlib.suppress(Crash):
        await perform(spec, ports)
    assert len(journal.lines["c1"]) <= (journal.crash_after or 0)
    journal.crash_after = None
    return await asyncio.wait_for(engine.run("c1", ports, by="ada"), 10)


@pytest.mark.parametrize("gone", [False, True])
def test_it_survives_a_crash_after_every_single_fact(gone: bool) -> None:
    """With `gone`, facility a loses its link for good as soon as it has something, so that moving is crashed too."""

    class Leaves(FakeFacility):
        async def outcome(self, job: str) -> core.Outcome:
            self.reachable = False
            raise core.Unavailable("the link has been cut")

    def facilities() -> dict[str, FakeFacility]:
        return {"a": Leaves(peak, 4) if gone else fake(4), "b": fake(4)}

    spec = replace(anywhere(trials=3, steps=2, facilities=("a", "b")), parallel=2)
    whole = PaperJournal()
    asyncio.run(perform(spec, world(whole, 0.02, **facilities())))
    for crash_after in range(1, len(whole.lines["c1"])):
        journal, made = PaperJournal(crash_after), facilities()
        ports = world(journal, 0.02, **made)

        campaign = asyncio.run(crashed(spec, ports, journal))
        assert campaign.closed == "trials spent", crash_after
        sound(ports, campaign)
        assert all(set(f.performed.values()) <= {1} for f in made.values()), crash_after
        if not gone:
            both = made["a"].performed + made["b"].performed
            assert set(both.values()) == {1}, f"performed at two facilities after a crash at {crash_after}"


def test_two_campaigns_share_two_facilities_fairly() -> None:
    served: list[tuple[str, str]] = []

    def seen(name: str) -> Callable[[core.Action], core.Outcome]:
        def performs(action: core.Action) -> core.Outcome:
            served.append((action.id.split(".")[0], name))
            return peak(action)

        return performs

    facilities = {name: FakeFacility(seen(name), 2, lambda action: 0.02) for name in ("a", "b")}
    greedy = replace(anywhere(trials=60), id="greedy", parallel=20)
    modest = replace(anywhere(trials=20), id="modest", parallel=4)
    ports = world(None, PATIENCE, **facilities)

    async def story() -> None:
        slots = engine.Slots()
        for spec in (greedy, modest):
            await engine.create(spec, ports.journal, ports.clock, "ada")
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for spec in (modest, greedy):
                group.create_task(engine.run(spec.id, ports, by="ada", slots=slots))

    asyncio.run(story())
    at = Counter(name for _, name in served)
    assert abs(at["a"] - at["b"]) <= 16, "both facilities have as many slots, and about as many actions"
    last = max(i for i, (campaign, _) in enumerate(served) if campaign == "modest")
    assert last < 55, "while both have work, each gets about half of the slots"


def test_of_other_campaigns_only_what_goes_first_by_fair_shares_is_in_the_way() -> None:
    wanted = {"greedy": {"a": 10, "b": 10}, "modest": {"a": 0, "b": 2}}
    slots = engine.Slots()
    with (
        slots.shared_by("greedy", lambda f: wanted["greedy"][f]),
        slots.shared_by("modest", lambda f: wanted["modest"][f]),
    ):
        assert (slots.load("modest", "a"), slots.load("modest", "b")) == (1, 5)
        assert (slots.load("greedy", "a"), slots.load("greedy", "b")) == (10, 12)
        pool = slots.pool("a", 4)
        for _ in range(3):
            pool.take("greedy")
        assert slots.load("modest", "a") == 3, "what runs is in the way too"
    with pytest.raises(KeyError):
        slots.load("modest", "a")
