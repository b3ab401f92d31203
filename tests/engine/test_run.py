"""The loop against a world in memory: reaches its goal, survives any crash, obeys the gate and its people."""

import asyncio
import contextlib

import pytest
from msgspec.structs import replace

from firstlight import core, engine
from firstlight.testing.world import Crash, Gate, PaperJournal, RandomPoints, Room, Shelf, a_spec, a_world, peak


async def history(journal: core.Journal, id: str = "c1") -> list[core.Entry]:
    return [entry async for entry in journal.read(id)]


def perform(spec: core.CampaignSpec, ports: core.Ports) -> core.Campaign:
    async def whole() -> core.Campaign:
        await engine.create(spec, ports.journal, ports.clock, "ada")
        return await engine.run(spec.id, ports, by="ada")

    return asyncio.run(whole())


def goal(spec: core.CampaignSpec, **changes: object) -> core.CampaignSpec:
    return replace(spec, goal=replace(spec.goal, **changes))


def test_reaches_its_goal_and_replays_to_the_same_campaign() -> None:
    ports = a_world()
    campaign = perform(goal(a_spec(), budget=core.Budget(trials=200)), ports)
    assert campaign.closed == "goal met"
    assert campaign.met_by
    assert core.replay(asyncio.run(history(ports.journal))) == campaign


def test_spends_its_trials_and_publishes_every_one_of_them() -> None:
    room = Room(peak)
    spec = goal(a_spec(), objectives=(core.Objective(observable="y", direction="maximize"),))
    ports = a_world(room)
    campaign = perform(spec, ports)
    assert campaign.closed == "trials spent"
    assert campaign.succeeded + campaign.failed == len(room.performed) == 12
    facts = [e.fact for e in asyncio.run(history(ports.journal))]
    assert [f.rows for f in facts if isinstance(f, core.DatasetPublished)] == [12]


def test_never_more_at_once_than_parallel() -> None:
    room = Room(peak)
    perform(goal(a_spec(parallel=3), budget=core.Budget(trials=30)), a_world(room))
    assert 2 <= room.most_at_once <= 3


def test_what_is_refused_never_reaches_the_facility() -> None:
    room = Room(peak)
    campaign = perform(a_spec(), a_world(room, policy=Gate(refuse=lambda action: True)))
    assert not room.submitted
    assert (campaign.closed, campaign.failed) == ("trials spent", 12)


def test_a_strategy_that_proposes_an_impossible_point_stops_the_campaign_loudly() -> None:
    class Wild:
        def propose(self, *_: object) -> list[core.Proposal]:
            return [core.Proposal(point={"x": 7.0})]

    ports = a_world(strategy=Wild())
    with pytest.raises(ValueError, match=r"impossible point: x is 7.0, outside 0.0 to 1.0"):
        perform(a_spec(), ports)
    last = asyncio.run(history(ports.journal))[-1].fact
    assert isinstance(last, core.RunEnded)
    assert "impossible" in last.reason


def test_an_unreachable_facility_is_asked_again() -> None:
    room = Room(peak)
    room.unreachable = 2
    campaign = perform(a_spec(), a_world(room))
    assert campaign.closed
    assert max(room.performed.values()) == 1


def test_a_strategy_with_no_more_points_ends_the_campaign() -> None:
    class Two:
        def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> list[core.Proposal]:
            tried = len(results.rows) + len(results.pending)
            return [core.Proposal(point={"x": 0.2})] if tried < 2 else []

    campaign = perform(a_spec(), a_world(strategy=Two()))
    assert campaign.closed == "strategy random has no further point"
    assert campaign.succeeded == 2


def test_observations_come_in_declared_units() -> None:
    def in_kilo(action: core.Action) -> core.Outcome:
        return core.Measured(observations=(core.Observation(observable="", value=0.002, sigma=0.001, unit="kPa"),))

    spec = goal(a_spec(), objectives=(core.Objective(observable="y", direction="maximize", unit="Pa"),))
    ports = a_world(Room(in_kilo))
    perform(spec, ports)
    _, ledger = asyncio.run(engine.recover("c1", ports.journal))
    seen = ledger.view().rows[0].seen["y"]
    assert (seen.value, seen.unit, round(seen.sigma, 9)) == (2.0, "Pa", 1.0)


def test_a_unit_that_cannot_be_converted_is_a_failed_trial() -> None:
    def in_furlongs(action: core.Action) -> core.Outcome:
        seen = core.Observation(observable="y", value=1.0, unit="furlong")
        return core.Measured(observations=(seen,), used={"node-hours": 0.5})

    spec = goal(a_spec(), objectives=(core.Objective(observable="y", direction="maximize", unit="Pa"),))
    ports = a_world(Room(in_furlongs))
    campaign = perform(spec, ports)
    assert (campaign.failed, campaign.used) == (12, {"node-hours": 6.0})
    _, ledger = asyncio.run(engine.recover("c1", ports.journal))
    failure = ledger.view().rows[0].failure
    assert failure is not None
    assert failure.cause == "invalid-output"


TWO_STEPS = core.ProcedureSpec(
    steps=(
        core.StepSpec(name="mix", operation="mix", facility="room"),
        core.StepSpec(name="read", operation="look", facility="room"),
    )
)


def _entries_of_a_whole_campaign(spec: core.CampaignSpec) -> int:
    journal = PaperJournal()
    perform(spec, a_world(journal=journal))
    return len(journal.lines["c1"])


@pytest.mark.parametrize("repeatable", [True, False])
def test_survives_a_crash_after_every_single_fact(repeatable: bool) -> None:
    steps = tuple(replace(s, repeatable=repeatable) for s in TWO_STEPS.steps)
    spec = a_spec(procedure=core.ProcedureSpec(steps=steps))
    for crash_after in range(1, _entries_of_a_whole_campaign(spec)):
        journal, room = PaperJournal(crash_after), Room(peak)
        ports = a_world(room, journal)
        # How many facts a campaign takes depends a little on timing: at the very end it may get through.
        with contextlib.suppress(Crash):
            perform(spec, ports)
        assert len(journal.lines["c1"]) <= crash_after
        journal.crash_after = None
        if not repeatable:
            # What was sent and is not known any more is matter in doubt: a person says what became of it.
            room.forgetful = True
        campaign = asyncio.run(_to_the_end(ports))
        assert campaign.closed in ("goal met", "trials spent"), crash_after
        assert not campaign.open
        assert set(room.performed.values()) <= {1}, f"performed twice after a crash at {crash_after}"
        entries = asyncio.run(history(journal))
        assert core.replay(entries) == campaign
        ended = [e.fact.action for e in entries if isinstance(e.fact, core.ActionSucceeded | core.ActionFailed)]
        assert len(ended) == len(set(ended)), "an action ended twice"


async def _to_the_end(ports: core.Ports) -> core.Campaign:
    """Run, and write off whatever is lost."""
    running = asyncio.create_task(engine.run("c1", ports, by="ada"))
    while not running.done():
        await asyncio.sleep(0.002)
        campaign, _ = await engine.recover("c1", ports.journal)
        for state in campaign.actions("lost"):
            fact = core.ActionRefused(action=state.action.id, reasons=("not found on the bench",))
            await engine.request("c1", fact, ports.journal, ports.clock, by="grace")
    return await running


def test_a_campaign_killed_at_every_fact_in_turn_still_ends_once() -> None:
    """The worst case: every run records that it started and one fact more, and the power goes off again."""
    journal, room = PaperJournal(1), Room(peak)
    ports, spec = a_world(room, journal), a_spec()
    asyncio.run(engine.create(spec, journal, ports.clock, "ada"))
    campaign = None
    for _ in range(600):
        journal.crash_after = len(journal.lines["c1"]) + 2
        try:
            campaign = asyncio.run(engine.run("c1", ports, by="ada"))
            break
        except Crash:
            continue
    assert campaign is not None
    assert campaign.closed
    assert set(room.performed.values()) == {1}


class Sated:
    """Points at random, each with the chance that more than the rule's gain is left: less with every trial ended."""

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> list[core.Proposal]:
        assert spec.goal.regret is not None
        outlook = core.Outlook(gain=spec.goal.regret.gain, chance=1 / (1 + len(results.rows)))
        decision = core.Decision(criterion="whim", trials=len(results.rows), outlook=outlook)
        points = RandomPoints().propose(spec, results, count, seed)
        return [replace(p, decision=decision) for p in points]


def sated(**changes: object) -> core.CampaignSpec:
    wanted = (core.Objective(observable="y", direction="maximize"),)
    budget = core.Budget(trials=100)
    return goal(a_spec(**changes), objectives=wanted, budget=budget, regret=core.Regret(gain=0.1, chance=0.1))


@pytest.mark.parametrize("parallel", [1, 5])
def test_it_stops_once_the_strategy_sees_little_left_to_gain(parallel: int) -> None:
    ports = a_world(strategy=Sated())
    campaign = perform(sated(parallel=parallel), ports)
    assert campaign.closed == "little left to gain"
    entries = asyncio.run(history(ports.journal))
    assert core.replay(entries) == campaign
    said = [e.fact.decision.outlook.chance for e in entries
            if isinstance(e.fact, core.TrialProposed) and e.fact.decision and e.fact.decision.outlook]  # fmt: skip
    assert said[-1] <= 0.1 < min(said[:-1]), "it went on designing after the rule was met"
    withdrawn = [e.fact.trial for e in entries if isinstance(e.fact, core.TrialWithdrawn)]
    assert f"c1.{len(said)}" in withdrawn, "the point that would bring little is not tried"
    assert campaign.counted == campaign.succeeded + campaign.failed == len(said) - len(withdrawn) < 20


def test_whoever_asks_is_told_of_nothing_once_little_is_left_to_gain() -> None:
    ports = a_world(strategy=Sated())
    asked = list[core.Trial]()

    async def story() -> core.Campaign:
        await engine.create(sated(), ports.journal, ports.clock, "ada")
        session = await engine.open_session("c1", ports, by="ada")
        while more := await session.ask(1):
            asked.extend(more)
            seen = core.Observation(observable="y", value=0.5)
            await session.tell(more[0].id, core.Measured(observations=(seen,)))
        await session.close()
        return session.campaign

    campaign = asyncio.run(story())
    assert campaign.closed == "little left to gain"
    assert campaign.counted == campaign.succeeded == len(asked) == 9


def test_a_campaign_that_stops_for_lack_of_gain_survives_a_crash_after_every_fact() -> None:
    spec = sated(procedure=TWO_STEPS)
    journal = PaperJournal()
    perform(spec, a_world(journal=journal, strategy=Sated()))
    for crash_after in range(1, len(journal.lines["c1"])):
        journal, room = PaperJournal(crash_after), Room(peak)
        ports = a_world(room, journal, strategy=Sated())
        with contextlib.suppress(Crash):
            perform(spec, ports)
        journal.crash_after = None
        campaign = asyncio.run(_to_the_end(ports))
        assert campaign.closed == "little left to gain", crash_after
        assert not campaign.open
        assert set(room.performed.values()) == {1}
        assert core.replay(asyncio.run(history(journal))) == campaign


def test_an_approval_wakes_the_waiting_loop() -> None:
    steps = (core.StepSpec(operation="heat", facility="room", approval="Is the hood closed?"),)
    spec = goal(a_spec(procedure=core.ProcedureSpec(steps=steps), parallel=1), budget=core.Budget(trials=2))
    ports = a_world()

    async def story() -> core.Campaign:
        await engine.create(spec, ports.journal, ports.clock, "ada")
        running = asyncio.create_task(engine.run("c1", ports, by="ada"))
        answers = iter(["approve", "refuse"])
        while not running.done():
            campaign, _ = await engine.recover("c1", ports.journal)
            for state in campaign.actions("escalated"):
                assert state.question == "Is the hood closed?"
                if next(answers) == "approve":
                    fact: core.Fact = core.ActionApproved(action=state.action.id)
                else:
                    fact = core.ActionRefused(action=state.action.id, reasons=("it is not",))
                await engine.request("c1", fact, ports.journal, ports.clock, by="grace")
            await asyncio.sleep(0.002)
        return await running

    campaign = asyncio.run(asyncio.wait_for(story(), 20))
    assert (campaign.succeeded + campaign.failed, campaign.closed) == (2, "trials spent")
    approved = [e for e in asyncio.run(history(ports.journal)) if isinstance(e.fact, core.ActionApproved)]
    assert [e.by for e in approved] == ["grace"]


def test_a_request_that_cannot_follow_is_refused_with_its_reason() -> None:
    ports = a_world()

    async def story() -> None:
        await engine.create(a_spec(), ports.journal, ports.clock, "ada")
        await engine.request("c1", core.CampaignResumed(), ports.journal, ports.clock, by="grace")

    with pytest.raises(core.InconsistentError, match="not paused"):
        asyncio.run(story())


def test_what_is_not_a_persons_to_say_is_refused() -> None:
    ports = a_world()

    async def story() -> None:
        await engine.create(a_spec(), ports.journal, ports.clock, "ada")
        await engine.request("c1", core.CampaignClosed(reason="done"), ports.journal, ports.clock, by="mallory")

    with pytest.raises(core.InconsistentError, match="not for a person"):
        asyncio.run(story())


def test_pause_lets_what_runs_go_on_and_starts_nothing_new() -> None:
    gate_open = asyncio.Event()

    class Slow(Room):
        async def outcome(self, job: str) -> core.Outcome:
            await gate_open.wait()
            return await super().outcome(job)

    room = Slow(peak)
    spec = goal(a_spec(), objectives=(core.Objective(observable="y", direction="maximize"),))
    ports = a_world(room)

    async def story() -> tuple[int, core.Campaign]:
        await engine.create(spec, ports.journal, ports.clock, "ada")
        running = asyncio.create_task(engine.run("c1", ports, by="ada"))
        while len(room.submitted) < 3:
            await asyncio.sleep(0.001)
        await engine.request("c1", core.CampaignPaused(), ports.journal, ports.clock, by="ada")
        gate_open.set()
        await asyncio.sleep(0.05)
        paused_at = len(room.submitted)
        await engine.request("c1", core.CampaignResumed(), ports.journal, ports.clock, by="ada")
        return paused_at, await running

    paused_at, campaign = asyncio.run(asyncio.wait_for(story(), 20))
    assert paused_at == 3
    assert campaign.closed == "trials spent"


@pytest.mark.parametrize("cancel", [False, True])
def test_stop_ends_it_and_cancel_does_not_wait(cancel: bool) -> None:
    class Slow(Room):
        async def outcome(self, job: str) -> core.Outcome:
            for _ in range(100):
                if job in self.ended:
                    break
                await asyncio.sleep(0.002)
            return await super().outcome(job)

    room = Slow(peak)
    ports = a_world(room)

    async def story() -> core.Campaign:
        await engine.create(a_spec(), ports.journal, ports.clock, "ada")
        running = asyncio.create_task(engine.run("c1", ports, by="ada"))
        while len(room.submitted) < 3:
            await asyncio.sleep(0.001)
        fact = core.CampaignStopped(reason="enough", cancel=cancel)
        await engine.request("c1", fact, ports.journal, ports.clock, by="ada")
        return await running

    campaign = asyncio.run(asyncio.wait_for(story(), 20))
    assert campaign.closed == "enough"
    assert campaign.counted == len(room.submitted) == 3
    assert (campaign.failed == 3) is cancel


def test_interrupting_lays_it_down_and_it_goes_on_later() -> None:
    room = Room(peak)
    spec = goal(
        a_spec(), budget=core.Budget(trials=300), objectives=(core.Objective(observable="y", direction="maximize"),)
    )
    ports = a_world(room)

    async def story() -> core.Campaign:
        await engine.create(spec, ports.journal, ports.clock, "ada")
        running = asyncio.create_task(engine.run("c1", ports, by="ada"))
        while len(room.ended) < 20:
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await ports.journal.holder("c1") == ""
        return await engine.run("c1", ports, by="ada")

    campaign = asyncio.run(story())
    assert campaign.counted == 300
    assert set(room.performed.values()) == {1}
    reasons = [e.fact.reason for e in asyncio.run(history(ports.journal)) if isinstance(e.fact, core.RunEnded)]
    assert reasons == ["interrupted", "closed"]


def test_a_second_runner_is_told_who_holds_it() -> None:
    ports = a_world()

    async def story() -> None:
        await engine.create(a_spec(), ports.journal, ports.clock, "ada")
        await ports.journal.lease("c1", "ada@lab pid 7")
        await engine.run("c1", ports, by="grace")

    with pytest.raises(core.Held, match="ada@lab pid 7"):
        asyncio.run(story())


def test_running_time_is_a_budget() -> None:
    class Slow(Room):
        async def outcome(self, job: str) -> core.Outcome:
            await asyncio.sleep(0.02)
            return await super().outcome(job)

    objectives = (core.Objective(observable="y", direction="maximize"),)
    spec = goal(a_spec(), budget=core.Budget(seconds=0.2), objectives=objectives)
    ports = a_world(Slow(peak))
    campaign = perform(spec, ports)
    assert campaign.closed == "time spent"
    assert 0.2 <= campaign.elapsed < 2
    assert not campaign.open


def test_campaigns_side_by_side_share_a_facility_fairly() -> None:
    served: list[str] = []
    slots = engine.Slots()

    class Slow(Room):
        async def outcome(self, job: str) -> core.Outcome:
            campaign = job.split(".")[0]
            # Fairness is between those that want a slot: on a busy machine the modest one takes its time to want one.
            while campaign == "greedy" and served.count("modest") < 20 and not slots.pools["room"].wanted("modest"):
                await asyncio.sleep(0.001)
            served.append(campaign)
            await asyncio.sleep(0.001)
            return await super().outcome(job)

    room = Slow(peak, slots=2)
    ports = a_world(room)
    objectives = (core.Objective(observable="y", direction="maximize"),)
    greedy = goal(a_spec(id="greedy", parallel=20), budget=core.Budget(trials=60), objectives=objectives)
    modest = goal(a_spec(id="modest", parallel=2), budget=core.Budget(trials=20), objectives=objectives)

    async def story() -> None:
        for spec in (greedy, modest):
            await engine.create(spec, ports.journal, ports.clock, "ada")
        async with asyncio.TaskGroup() as group:
            for spec in (greedy, modest):
                group.create_task(engine.run(spec.id, ports, by="ada", slots=slots))

    asyncio.run(story())
    assert room.most_at_once <= 2
    # While both have work, each gets about half of the slots: the modest one ends long before the greedy one.
    assert max(i for i, c in enumerate(served) if c == "modest") < 50


def test_nothing_is_ingested_or_published_before_its_facts_are_durable() -> None:
    """A row that outlives the fact it was made of would differ from the one made after the crash."""

    class SlowDisk(PaperJournal):
        def __init__(self) -> None:
            super().__init__()
            self._turn = asyncio.Lock()

        async def append(self, lease: core.Lease, entry: core.Entry, mail: str = "") -> None:
            async with self._turn:
                await asyncio.sleep(0.002)
                await super().append(lease, entry, mail)

    journal = SlowDisk()

    def durable() -> list[core.Fact]:
        return [core.decode(line).fact for line in journal.lines["c1"]]

    class Careful(Shelf):
        async def ingest(self, campaign: core.Campaign, row: core.Row) -> str:
            ended = [f.action for f in durable() if isinstance(f, core.ActionSucceeded | core.ActionFailed)]
            assert f"{row.trial}.evaluate" in ended
            return await super().ingest(campaign, row)

        async def publish(self, campaign: core.Campaign) -> tuple[str, str, int]:
            assert sum(isinstance(f, core.TrialIngested) for f in durable()) == len(self.rows)
            return await super().publish(campaign)

    assert perform(a_spec(), a_world(journal=journal, catalog=Careful())).closed
