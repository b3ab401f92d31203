"""Why a point was tried, and whether the strategy says so again."""

import asyncio
import contextlib
import random
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from firstlight import core, engine
from firstlight.testing.world import Crash, PaperJournal, Room, a_spec, a_world, peak


class Keen:
    """Looks at everything it is given, in its order: whatever a replay gets wrong changes its points."""

    def __init__(self, drift: float = 0.0, most: int = 100) -> None:
        self.drift, self.most = drift, most

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> list[core.Proposal]:
        known = [(r.trial, r.point, r.observations, r.failure, r.cost, r.proposed, r.ended) for r in results.rows]
        under_way = [(r.trial, r.point, r.observations, r.proposed) for r in results.pending.values()]
        told = repr((spec, known, under_way, count, seed))
        rng = random.Random(told)
        made = []
        for place in range(min(count, self.most)):
            x = min(1.0, rng.random() + self.drift)
            seen = core.Observation(observable="y", value=rng.random(), sigma=0.1)
            rival = core.Alternative(point={"x": rng.random()}, score=rng.random(), predicted=(seen,))
            why = core.Decision(
                criterion="whim", score=rng.random(), trials=len(known), runners_up=(rival,),
                learned={"y": {"x": rng.random()}}, model=f"m{len(told)}",
            )  # fmt: skip
            made.append(core.Proposal(point={"x": x}, predicted=(seen,), reason=f"whim {place}", decision=why))
        return made


class Dawdling(Room):
    """A room whose actions end in another order than they began."""

    async def outcome(self, job: str) -> core.Outcome:
        for _ in range(1 + 5 * sum(job.encode()) % 7):
            await asyncio.sleep(0)
        return await super().outcome(job)


STEPS = core.ProcedureSpec(
    steps=(
        core.StepSpec(name="mix", operation="mix", facility="room", cost=0.5),
        core.StepSpec(name="read", operation="look", facility="room"),
    )
)
ENDLESS = core.Goal(objectives=(core.Objective(observable="y", direction="maximize"),), budget=core.Budget(trials=12))
SPEC = a_spec(goal=ENDLESS)
SPECS = {
    "one after the other": replace(SPEC, parallel=1),
    "at once": replace(SPEC, parallel=4, ahead=2),
    "in batches": replace(SPEC, parallel=6, batch=3),
    "in two steps": replace(SPEC, procedure=STEPS),
    "ended by its goal": a_spec(),
}


def run(spec: core.CampaignSpec, journal: core.Journal, strategy: core.Strategy, room: Room | None = None) -> None:
    async def whole() -> None:
        ports = a_world(room or Dawdling(peak), journal, strategy=strategy)
        if spec.id not in await journal.campaigns():
            await engine.create(spec, journal, ports.clock, "ada")
        await engine.run(spec.id, ports, by="ada", versions={"keen": "1.0"})

    asyncio.run(whole())


async def every_replay(journal: core.Journal, strategy: core.Strategy) -> Sequence[engine.Replay]:
    chosen = [e.fact.trial async for e in journal.read("c1") if isinstance(e.fact, core.TrialProposed)]
    return [
        await engine.ask_again(await engine.explain("c1", trial, journal), journal, strategy) for trial in chosen
    ]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_trial_is_chosen_again(spec: core.CampaignSpec) -> None:
    journal = PaperJournal()
    run(spec, journal, Keen())
    replays = asyncio.run(every_replay(journal, Keen()))
    assert len(replays) == 12 or spec.goal != ENDLESS
    assert all(r.same for r in replays), [r.differences for r in replays]
    assert all(r.then.decision and r.then.decision.model for r in replays)


def test_every_trial_is_chosen_again_after_any_crash() -> None:
    spec = replace(SPEC, goal=replace(ENDLESS, budget=core.Budget(trials=6)))
    journal = PaperJournal()
    run(spec, journal, Keen())
    for crash_after in range(1, len(journal.lines["c1"]), 3):
        journal, room = PaperJournal(crash_after), Dawdling(peak)
        with contextlib.suppress(Crash):
            run(spec, journal, Keen(), room)
        journal.crash_after = None
        run(spec, journal, Keen(), room)
        assert all(r.same for r in asyncio.run(every_replay(journal, Keen()))), crash_after


def test_what_is_told_by_hand_in_between_is_known_to_a_replay() -> None:
    journal = PaperJournal()
    seen = core.Measured(observations=(core.Observation(observable="y", value=0.1),))

    async def story() -> Sequence[engine.Replay]:
        ports = a_world(journal=journal, strategy=Keen())
        await engine.create(a_spec(), journal, ports.clock, "ada")
        for _ in range(2):
            session = await engine.open_session("c1", ports, by="ada")
            first, second = await session.ask(2)
            await session.add({"x": 0.3}, seen, "grace")
            await session.tell(second.id, seen)
            await session.ask(1)
            await session.tell(first.id, core.Failure(cause="instrument-fault"))
            await session.close()
        return await every_replay(journal, Keen())

    replays = asyncio.run(story())
    assert len(replays) == 6
    assert all(r.same for r in replays)


def test_a_strategy_that_has_changed_its_mind_is_told_apart_field_by_field() -> None:
    journal = PaperJournal()
    run(a_spec(), journal, Keen())
    moved = asyncio.run(every_replay(journal, Keen(drift=1e-9)))
    for replay in moved:
        (moved_to,) = replay.differences
        assert (moved_to.field, moved_to.then) == ("point.x", replay.then.point["x"])
        assert moved_to.now == pytest.approx(moved_to.then + 1e-9, abs=1e-12)
        assert not replay.same
    silent = asyncio.run(every_replay(journal, Keen(most=0)))
    assert all(r.now is None and not r.same and [d.field for d in r.differences] == [""] for r in silent)


def test_it_says_what_was_decided_and_what_came_of_it() -> None:
    journal = PaperJournal()
    run(SPEC, journal, Keen())

    async def story() -> None:
        ledger = (await engine.recover("c1", journal))[1].view()
        found = await engine.explain("c1", "c1.2", journal)
        assert (found.trial, found.status, found.versions, found.unasked) == ("c1.2", "ended", {"keen": "1.0"}, "")
        assert found.row == next(r for r in ledger.rows if r.trial == "c1.2")
        assert found.row.decision and found.row.decision.runners_up
        assert found.asked and found.asked.place == 1
        latest = await engine.explain("c1", "", journal)
        assert latest.trial == f"c1.{len(ledger.rows)}"
        with pytest.raises(LookupError, match=r"c1 has no trial c1\.99"):
            await engine.explain("c1", "c1.99", journal)
        with pytest.raises(LookupError, match="there is no campaign c9"):
            await engine.explain("c9", "", journal)

    asyncio.run(story())


def test_what_has_not_ended_or_was_never_started_is_explained_too() -> None:
    journal = PaperJournal()

    async def story() -> None:
        ports = a_world(journal=journal, strategy=Keen())
        await engine.create(a_spec(), journal, ports.clock, "ada")
        with pytest.raises(LookupError, match="has no trial yet"):
            await engine.explain("c1", "", journal)
        session = await engine.open_session("c1", ports, by="ada")
        (asked,) = await session.ask(1)
        pending = await engine.explain("c1", asked.id, journal)
        assert (pending.status, pending.row.seen) == ("pending", {})
        assert pending.row.decision
        await session.close()
        lease = await journal.lease("c1", "ada")
        campaign, _ = await engine.recover("c1", journal)
        actions = tuple(ports.procedure.actions(campaign.spec, "c1.2", {"x": 0.5}))
        facts: list[core.Fact] = [
            core.TrialProposed(trial="c1.2", point={"x": 0.5}, actions=actions, source="random"),
            core.TrialWithdrawn(trial="c1.2", reason="no more time"),
        ]
        for seq, fact in enumerate(facts, campaign.seq + 1):
            await journal.append(lease, core.Entry(seq=seq, at=campaign.last, by="ada", fact=fact))
        withdrawn = await engine.explain("c1", "c1.2", journal)
        assert (withdrawn.status, withdrawn.withdrawn, withdrawn.row.point) == (
            "withdrawn", "no more time", {"x": 0.5},
        )  # fmt: skip
        assert "an older version wrote it" in withdrawn.unasked

    asyncio.run(story())


def test_a_trial_half_way_shows_what_was_seen_so_far() -> None:
    journal = PaperJournal()
    seen = core.Measured(observations=(core.Observation(observable="y", value=0.1),))

    async def story() -> None:
        ports = a_world(journal=journal, strategy=Keen())
        await engine.create(a_spec(procedure=STEPS), journal, ports.clock, "ada")
        session = await engine.open_session("c1", ports, by="ada")
        (asked,) = await session.ask(1)
        await session.tell(asked.id, seen)
        half = await engine.explain("c1", asked.id, journal)
        assert (half.status, half.row.observations) == ("pending", seen.observations)

    asyncio.run(story())


def test_what_nobody_chose_cannot_be_asked_again() -> None:
    journal = PaperJournal()
    seen = core.Measured(observations=(core.Observation(observable="y", value=0.1),))

    async def story() -> None:
        ports = a_world(journal=journal, strategy=Keen())
        await engine.create(a_spec(), journal, ports.clock, "ada")
        session = await engine.open_session("c1", ports, by="ada")
        await session.add({"x": 0.3}, seen, "grace")
        added = await engine.explain("c1", "c1.1", journal)
        assert added.status == "ended"
        with pytest.raises(ValueError, match=r"no strategy chose trial c1\.1: it came from grace"):
            await engine.ask_again(added, journal, Keen())

    asyncio.run(story())
