"""Ask and tell: the same facts as in a campaign that runs itself."""

import asyncio

import pytest
from msgspec.structs import replace

from firstlight import core, engine
from firstlight.testing.world import Gate, PaperJournal, a_spec, a_world


def told(y: float) -> core.Measured:
    return core.Measured(observations=(core.Observation(observable="y", value=y),))


async def opened(ports: core.Ports, spec: core.CampaignSpec) -> engine.Session:
    await engine.create(spec, ports.journal, ports.clock, "ada")
    return await engine.open_session(spec.id, ports, by="ada")


def test_ask_hands_out_permitted_trials_and_tell_ends_them() -> None:
    async def story() -> None:
        ports = a_world()
        session = await opened(ports, a_spec())
        trials = await session.ask(3)
        assert [t.id for t in trials] == ["c1.1", "c1.2", "c1.3"]
        for trial in reversed(trials):
            await session.tell(trial.id, told(0.5))
        assert (session.campaign.succeeded, session.campaign.open) == (3, {})
        await session.close()
        entries = [e async for e in ports.journal.read("c1")]
        assert core.replay(entries) == session.campaign
        per_trial = [type(e.fact).__name__ for e in entries if getattr(e.fact, "action", "") == "c1.2.evaluate"]
        assert per_trial == ["ActionPermitted", "ActionDispatched", "ActionAccepted", "ActionSucceeded"]

    asyncio.run(story())


def test_ask_gives_no_more_than_the_budget_and_the_last_tell_closes() -> None:
    async def story() -> None:
        spec = a_spec()
        session = await opened(a_world(), replace(spec, goal=replace(spec.goal, budget=core.Budget(trials=2))))
        trials = await session.ask(10)
        assert len(trials) == 2
        assert await session.ask(1) == []
        for trial in trials:
            await session.tell(trial.id, told(0.1))
        assert session.campaign.closed == "trials spent"
        assert await session.ask(1) == []
        await session.close()

    asyncio.run(story())


@pytest.mark.parametrize("facilities", [(), ("polaris", "local")])
def test_whoever_asks_performs_what_names_no_facility(facilities: tuple[str, ...]) -> None:
    async def story() -> None:
        step = core.StepSpec(operation="look", facility="", facilities=facilities)
        ports, spec = a_world(), a_spec(procedure=core.ProcedureSpec(steps=(step,)))
        session = await opened(ports, spec)
        trials = await session.ask(2)
        assert {a.action.facility for t in trials for a in t.actions.values()} == {
            "polaris" if facilities else "caller"
        }
        await session.tell(trials[0].id, told(0.5))
        await session.close()
        again = await engine.open_session(spec.id, ports, by="ada")
        await again.tell(trials[1].id, told(0.5))
        assert again.campaign.succeeded == 2
        await again.close()

    asyncio.run(story())


def test_what_a_facility_went_away_with_can_be_told() -> None:
    async def story() -> None:
        ports = a_world()
        step = core.StepSpec(operation="look", facility="")
        first = await opened(ports, a_spec(procedure=core.ProcedureSpec(steps=(step,))))
        (trial,) = await first.ask(1)
        action = next(iter(trial.actions))
        await first.recorder.record(core.ActionPlaced(action=action, facility="polaris", reason="caller has gone away"))
        await first.close()
        session = await engine.open_session("c1", ports, by="ada")
        await session.tell(trial.id, told(0.5))
        assert session.campaign.succeeded == 1
        facts = [e.fact async for e in ports.journal.read("c1")]
        assert not any(isinstance(f, core.CancelRequested) for f in facts)
        await session.close()

    asyncio.run(story())


def test_a_failure_is_told_like_a_result() -> None:
    async def story() -> None:
        session = await opened(a_world(), a_spec())
        (trial,) = await session.ask(1)
        await session.tell(trial.id, core.Failure(cause="instrument-fault", message="needle clogged"))
        assert session.campaign.failed == 1
        await session.close()

    asyncio.run(story())


def test_results_nobody_asked_for_spend_no_budget_and_can_meet_the_goal() -> None:
    async def story() -> None:
        session = await opened(a_world(), a_spec())
        await session.add({"x": 0.3}, told(0.7), "last year's notebook")
        assert (session.campaign.counted, session.campaign.succeeded) == (0, 1)
        await session.add({"x": 0.6}, told(0.99), "last year's notebook")
        assert session.campaign.closed == "goal met"
        await session.close()

    asyncio.run(story())


def test_telling_what_was_not_asked_is_an_error_that_says_what_to_do() -> None:
    async def story() -> None:
        session = await opened(a_world(), a_spec())
        try:
            with pytest.raises(LookupError, match=r"trial c1\.9 is not waiting to be told: ask first"):
                await session.tell("c1.9", told(0.1))
        finally:
            await session.close()

    asyncio.run(story())


def test_what_policy_refuses_is_not_handed_out() -> None:
    async def story() -> None:
        session = await opened(a_world(policy=Gate(refuse=lambda a: float(a.point["x"]) > 0.5)), a_spec())
        trials = await session.ask(12)
        assert 0 < len(trials) < 12
        assert all(float(t.point["x"]) <= 0.5 for t in trials)
        assert session.campaign.failed == 12 - len(trials)
        await session.close()

    asyncio.run(story())


def test_what_was_asked_before_a_crash_can_be_told_after_it() -> None:
    async def story() -> None:
        journal = PaperJournal()
        ports = a_world(journal=journal)
        first = await opened(ports, a_spec())
        (trial,) = await first.ask(1)
        journal.leases.clear()  # The process died; its lease with it.
        second = await engine.open_session("c1", ports, by="ada again")
        await second.tell(trial.id, told(0.5))
        assert second.campaign.succeeded == 1
        await second.close()

    asyncio.run(story())


def test_a_free_slot_goes_to_the_campaign_that_holds_fewest() -> None:
    async def story() -> None:
        slots = engine.FairSlots(2)
        await slots.acquire("a")
        await slots.acquire("a")
        order: list[str] = []

        async def want(campaign: str) -> None:
            await slots.acquire(campaign)
            order.append(campaign)

        waiting = [asyncio.create_task(want(c)) for c in ("a", "a", "b")]
        await asyncio.sleep(0)
        slots.release("a")
        await asyncio.sleep(0)
        assert order == ["b"]
        waiting[0].cancel()
        slots.release("a")
        await asyncio.sleep(0)
        assert order == ["b", "a"]
        await asyncio.gather(*waiting, return_exceptions=True)
        slots.release("a")
        slots.release("b")
        assert slots.held.total() == 0

    asyncio.run(story())
