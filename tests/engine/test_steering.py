"""What people say to a running campaign: every word a fact, honoured by the next suggestion, and by any run after."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from firstlight import core, engine
from firstlight.testing.world import Crash, PaperJournal, RandomPoints, Room, Shelf, a_spec, a_world, peak

Tell = Callable[[core.Fact], Awaitable[None]]
Speaker = Callable[[int, Tell], Coroutine[Any, Any, None]]
MIDDLE = core.Forbid(ranges={"x": (0.2, 0.8)})


class Careful(RandomPoints):
    """Random points that keep the constraints; it writes down what it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[core.CampaignSpec, core.Results]] = []

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        self.shown.append((spec, results))
        found: list[core.Proposal] = []
        while len(found) < count:
            more = super().propose(spec, results, count, seed + 7919 * len(self.shown))
            found += [p for p in more if not core.violations(spec, p.point)]
            seed += 1
        return found[:count]


def spec_of(trials: int, **changes: object) -> core.CampaignSpec:
    spec = a_spec(**{"parallel": 1, **changes})
    objectives = (core.Objective(observable="y", direction="maximize"),)
    return replace(spec, goal=replace(spec.goal, budget=core.Budget(trials=trials), objectives=objectives))


def steered(
    spec: core.CampaignSpec,
    ports: core.Ports,
    say: Speaker,
) -> tuple[core.Campaign, core.Ledger, list[core.Entry]]:
    """Run a campaign whose person speaks after each trial that is ingested: `say(how many, how)`."""
    ingested = [0]

    async def whole() -> tuple[core.Campaign, core.Ledger, list[core.Entry]]:
        await engine.create(spec, ports.journal, ports.clock, "ada")
        waiting: list[asyncio.Future[None]] = []

        async def tell(fact: core.Fact) -> None:
            await engine.request(spec.id, fact, ports.journal, ports.clock, by="grace")

        def listen(entry: core.Entry, campaign: core.Campaign) -> None:
            if isinstance(entry.fact, core.TrialIngested):
                ingested[0] += 1
                waiting.append(asyncio.ensure_future(say(ingested[0], tell)))

        campaign = await engine.run(spec.id, ports, by="ada", listeners=[listen])
        for task in waiting:
            await task
        _, ledger = await engine.recover(spec.id, ports.journal)
        return campaign, ledger, [e async for e in ports.journal.read(spec.id)]

    return asyncio.run(asyncio.wait_for(whole(), 30))


def after(entries: Sequence[core.Entry], kind: type) -> list[core.TrialProposed]:
    """The trials proposed since the first fact of a kind."""
    first = next(i for i, e in enumerate(entries) if isinstance(e.fact, kind))
    return [e.fact for e in entries[first:] if isinstance(e.fact, core.TrialProposed)]


class Patient(Room):
    """A room in which every trial takes a moment, so that people can get a word in."""

    async def outcome(self, job: str) -> core.Outcome:
        await asyncio.sleep(0.05)
        return await super().outcome(job)


def test_a_requested_point_is_the_next_trial_and_its_source_is_the_person() -> None:
    async def say(ended: int, tell: Tell) -> None:
        if ended == 2:
            await tell(core.PointRequested(point={"x": 0.61}, note="a hunch"))

    strategy = Careful()
    campaign, ledger, entries = steered(spec_of(6), a_world(Patient(peak), strategy=strategy), say)
    # One trial was under way or being chosen when the person spoke; the next suggestion is theirs.
    asked = [t for t in after(entries, core.PointRequested) if t.source == "grace"]
    assert [(t.point, t.reason) for t in asked] == [({"x": 0.61}, "a hunch")]
    assert after(entries, core.PointRequested)[0] == asked[0]
    assert (campaign.counted, campaign.closed, campaign.requested) == (6, "trials spent", ())
    assert ledger.ended == 6


def test_no_suggestion_after_the_word_lies_in_a_forbidden_region() -> None:
    async def say(ended: int, tell: Tell) -> None:
        if ended == 3:
            await tell(core.RegionForbidden(region=MIDDLE, reason="it foams"))
        if ended == 10:
            await tell(core.RegionAllowed(region=MIDDLE))

    strategy = Careful()
    _, _, entries = steered(spec_of(30, parallel=4), a_world(Patient(peak), strategy=strategy), say)
    allowed = next(i for i, e in enumerate(entries) if isinstance(e.fact, core.RegionAllowed))
    forbidden = [float(t.point["x"]) for t in after(entries[:allowed], core.RegionForbidden)]
    assert forbidden
    assert not [x for x in forbidden if 0.2 <= x <= 0.8]
    assert [t for t in after(entries, core.RegionAllowed) if 0.2 <= float(t.point["x"]) <= 0.8]
    # Trials that were queued in the region were withdrawn, and none of them was sent.
    withdrawn = {e.fact.trial for e in entries if isinstance(e.fact, core.TrialWithdrawn)}
    sent = {e.fact.action.rpartition(".")[0] for e in entries if isinstance(e.fact, core.ActionDispatched)}
    assert not withdrawn & sent


def test_a_design_that_a_word_overtakes_is_made_anew() -> None:
    """The strategy is thinking while the person forbids what it thinks of."""
    journal, rooms = PaperJournal(), Room(peak)
    gate: dict[str, Callable[[], None]] = {}

    class Slow(Careful):
        def propose(
            self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int
        ) -> Sequence[core.Proposal]:
            self.shown.append((spec, results))
            if not spec.constraints:
                gate["speak"]()
                return [core.Proposal(point={"x": 0.5})]
            return [core.Proposal(point={"x": 0.9})]

    strategy = Slow()
    ports = a_world(rooms, journal, strategy=strategy)

    async def story() -> core.Campaign:
        await engine.create(spec_of(1), journal, ports.clock, "ada")
        loop = asyncio.get_running_loop()

        def speak() -> None:
            fact = core.RegionForbidden(region=MIDDLE)
            asyncio.run_coroutine_threadsafe(engine.request("c1", fact, journal, ports.clock, by="grace"), loop).result(
                10
            )

        gate["speak"] = speak
        return await engine.run("c1", ports, by="ada")

    assert asyncio.run(asyncio.wait_for(story(), 20)).closed == "trials spent"
    entries = [core.decode(line) for line in journal.lines["c1"]]
    assert [t.point for t in after(entries, core.RegionForbidden)] == [{"x": 0.9}]
    assert len(strategy.shown) == 2


def test_a_design_under_way_when_an_outcome_is_rejected_is_made_anew() -> None:
    journal = PaperJournal()
    speak: dict[str, Callable[[], None]] = {}

    class Slow(Careful):
        def propose(
            self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int
        ) -> Sequence[core.Proposal]:
            if len(results.rows) == 1 and not results.rejected:
                speak["now"]()
            return super().propose(spec, results, count, seed)

    ports = a_world(journal=journal, strategy=Slow())

    async def story() -> None:
        await engine.create(spec_of(3), journal, ports.clock, "ada")
        loop, fact = asyncio.get_running_loop(), core.OutcomeRejected(trial="c1.1", reason="a bubble")
        speak["now"] = lambda: asyncio.run_coroutine_threadsafe(
            engine.request("c1", fact, journal, ports.clock, by="grace"), loop
        ).result(10)
        await engine.run("c1", ports, by="ada")

    asyncio.run(asyncio.wait_for(story(), 20))
    entries = entries_of(journal)
    rejected = next(e.seq for e in entries if isinstance(e.fact, core.OutcomeRejected))
    later = after(entries, core.OutcomeRejected)
    assert len(later) == 2
    assert all(t.asked is not None and t.asked.known >= rejected for t in later)


def test_strategies_do_not_see_rejected_outcomes_and_see_corrections() -> None:
    async def say(ended: int, tell: Tell) -> None:
        if ended == 2:
            await tell(core.OutcomeRejected(trial="c1.1", reason="a bubble"))
            await tell(core.TrialCorrected(trial="c1.2", as_run={"x": 0.123}))
        if ended == 6:
            await tell(core.OutcomeRestored(trial="c1.1"))

    strategy, shelf = Careful(), Shelf()
    campaign, ledger, entries = steered(spec_of(9), a_world(Patient(peak), strategy=strategy, catalog=shelf), say)

    def at(kind: type) -> int:
        return next(e.seq for e in entries if isinstance(e.fact, kind))

    rejected, corrected, restored = at(core.OutcomeRejected), at(core.TrialCorrected), at(core.OutcomeRestored)
    for fact in (e.fact for e in entries if isinstance(e.fact, core.TrialProposed)):
        assert fact.asked is not None
        known = fact.asked.known
        rows = {r.trial: r for r in core.Ledger(entries[:known]).view().rows}
        if rejected <= known < restored:
            assert "c1.1" not in rows
        if known >= restored:
            assert "c1.1" in rows
        if known >= corrected:
            assert rows["c1.2"].ran == {"x": 0.123}
    shown = [{r.trial for r in results.rows} for _, results in strategy.shown]
    assert any("c1.1" not in s and "c1.2" in s for s in shown)
    assert "c1.1" in shown[-1]
    assert campaign.closed == "trials spent"
    # The dataset has every row as it stands.
    assert shelf.rows == {r.trial: r for r in ledger.view().ended}
    assert shelf.rows["c1.2"].as_run == {"x": 0.123}


def test_the_best_trial_rejected_in_time_is_no_reason_to_end() -> None:
    class Bent(Patient):
        async def outcome(self, job: str) -> core.Outcome:
            found = await super().outcome(job)
            if job.startswith("c1.2."):
                return core.Measured(observations=(core.Observation(observable="y", value=9.0),))
            return found

    async def say(ended: int, tell: Tell) -> None:
        if ended == 2:
            await tell(core.OutcomeRejected(trial="c1.2", reason="the needle was bent"))

    class Climber:
        """Every point is better than the last."""

        def propose(
            self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int
        ) -> Sequence[core.Proposal]:
            tried = len(results.ended) + len(results.pending)
            return [core.Proposal(point={"x": 0.2 + 0.01 * (tried + i)}) for i in range(count)]

    rule = core.NoImprovement(trials=5)
    spec = spec_of(12)
    spec = replace(spec, goal=replace(spec.goal, no_improvement=rule))
    campaign, ledger, _ = steered(spec, a_world(Bent(peak), strategy=Climber()), say)
    assert (campaign.closed, ledger.ended) == ("trials spent", 12)
    assert max(-front[0] for front in campaign.front) <= 1.0


def test_a_budget_changed_in_time_is_the_budget() -> None:
    async def more(ended: int, tell: Tell) -> None:
        if ended == 2:
            await tell(core.BudgetChanged(budget=core.Budget(trials=7)))

    async def less(ended: int, tell: Tell) -> None:
        if ended == 2:
            await tell(core.BudgetChanged(budget=core.Budget(trials=3)))

    for say, trials in ((more, 7), (less, 3)):
        campaign, _, _ = steered(spec_of(4), a_world(Patient(peak), strategy=Careful()), say)
        assert (campaign.counted, campaign.closed) == (trials, "trials spent")
        assert campaign.spec.goal.budget.trials == trials


def test_time_given_while_it_runs_sets_the_clock_anew() -> None:
    async def say(ended: int, tell: Tell) -> None:
        if ended == 1:
            await tell(core.BudgetChanged(budget=core.Budget(seconds=0.8)))

    spec = spec_of(1)
    spec = replace(spec, goal=replace(spec.goal, budget=core.Budget(seconds=0.3)))
    campaign, _, entries = steered(spec, a_world(Patient(peak), strategy=Careful()), say)
    assert campaign.closed == "time spent"
    assert campaign.elapsed >= 0.8
    assert sum(isinstance(e.fact, core.TimeSpent) for e in entries) == 1


def test_a_word_while_the_dataset_is_published_is_in_the_dataset_all_the_same() -> None:
    journal = PaperJournal()

    class Slow(Shelf):
        def __init__(self) -> None:
            super().__init__()
            self.published: list[dict[str, core.Row]] = []

        async def publish(self, campaign: core.Campaign) -> tuple[str, str, int]:
            rows = dict(self.rows)
            if not self.published:
                await journal.post("c1", core.OutcomeRejected(trial="c1.1", reason="a bubble"), "grace")
                while not any(isinstance(core.decode(line).fact, core.TrialRevised) for line in journal.lines["c1"]):
                    await asyncio.sleep(0.001)
            self.published.append(rows)
            return await super().publish(campaign)

    shelf = Slow()
    ports = a_world(journal=journal, strategy=Careful(), catalog=shelf)

    async def story() -> core.Campaign:
        await engine.create(spec_of(2), journal, ports.clock, "ada")
        return await engine.run("c1", ports, by="ada")

    assert asyncio.run(asyncio.wait_for(story(), 20)).closed
    assert shelf.published[-1]["c1.1"].rejected == "a bubble"


def test_a_word_to_a_closed_campaign_is_refused_and_says_so() -> None:
    ports = a_world(strategy=Careful())

    async def story() -> None:
        await engine.create(spec_of(1), ports.journal, ports.clock, "ada")
        await engine.run("c1", ports, by="ada")
        fact = core.BudgetChanged(budget=core.Budget(trials=5))
        await engine.request("c1", fact, ports.journal, ports.clock, by="grace")

    with pytest.raises(core.InconsistentError, match=r"c1 is closed \(trials spent\): no BudgetChanged can follow"):
        asyncio.run(story())


# ------------------------------------------------------------------ any crash


WORDS: dict[int, list[core.Fact]] = {
    0: [core.PointRequested(point={"x": 0.11}), core.RegionForbidden(region=MIDDLE)],
    2: [core.OutcomeRejected(trial="c1.1", reason="a bubble"), core.TrialCorrected(trial="c1.2", as_run={"x": 0.19})],
    3: [
        core.OutcomeRestored(trial="c1.1"),
        core.BudgetChanged(budget=core.Budget(trials=7)),
        core.PointRequested(point={"x": 0.9}, note="again"),
        core.RegionAllowed(region=MIDDLE),
    ],
}


def words(ended: int) -> list[core.Fact]:
    """What the person says once so many trials have ended."""
    return [fact for n, said in WORDS.items() if n <= ended for fact in said]


async def spoken_to(ports: core.Ports, journal: PaperJournal) -> core.Campaign:
    """Run to the end, and say whatever is to be said and was not said before.

    Nothing is forbidden before the first two trials are under way: that might keep them from it.
    """
    running = asyncio.create_task(engine.run("c1", ports, by="ada"))
    while not running.done():
        entries = entries_of(journal)
        under_way = sum(isinstance(entry.fact, core.ActionDispatched) for entry in entries) >= 2
        for fact in words(core.Ledger(entries).ended):
            if (under_way or not isinstance(fact, core.RegionForbidden)) and fact not in [
                mail.fact for _, mail in journal._mail
            ]:
                await journal.post("c1", fact, "grace")
        await asyncio.sleep(0.001)
    return await running


def entries_of(journal: PaperJournal) -> list[core.Entry]:
    return [core.decode(line) for line in journal.lines["c1"]]


class Hearing(Room):
    """A room that performs the third trial and those after it once what was to be said by then is recorded."""

    def __init__(self, journal: PaperJournal) -> None:
        super().__init__(peak)
        self._journal = journal

    async def outcome(self, job: str) -> core.Outcome:
        while job.split(".")[1] not in "12" and not self._heard():
            await asyncio.sleep(0.001)
        return await super().outcome(job)

    def _heard(self) -> bool:
        ended = core.Ledger(entries_of(self._journal)).ended
        answers = self._journal._answers
        said = [mail.fact for _, mail in self._journal._mail if answers[mail.id] is not None]
        return all(fact in said for fact in words(ended))


def test_survives_a_crash_after_every_single_fact_of_a_campaign_that_people_steer() -> None:
    async def begin(ports: core.Ports, journal: PaperJournal) -> core.Campaign:
        await engine.create(spec_of(5, parallel=2), journal, ports.clock, "ada")
        return await spoken_to(ports, journal)

    whole = PaperJournal()
    asyncio.run(begin(a_world(Hearing(whole), whole, strategy=Careful()), whole))
    assert {type(f) for f in words(9)} | {core.TrialRevised} <= {type(e.fact) for e in entries_of(whole)}
    for crash_after in range(1, len(whole.lines["c1"])):
        journal, shelf = PaperJournal(crash_after), Shelf()
        room = Hearing(journal)
        ports = a_world(room, journal, strategy=Careful(), catalog=shelf)
        with contextlib.suppress(Crash):
            asyncio.run(begin(ports, journal))
        journal.crash_after = None
        campaign = asyncio.run(spoken_to(ports, journal))
        assert (campaign.closed, campaign.counted) == ("trials spent", 7), crash_after
        assert set(room.performed.values()) <= {1}, f"performed twice after a crash at {crash_after}"
        assert set(journal._answers.values()) == {""}, f"a word was refused after a crash at {crash_after}"
        entries = entries_of(journal)
        assert [e.fact for e in entries if e.by == "grace" and isinstance(e.fact, core.PointRequested)] == [
            f for f in words(9) if isinstance(f, core.PointRequested)
        ], f"a word was recorded twice, or not at all, after a crash at {crash_after}"
        assert core.replay(entries) == campaign
        assert shelf.rows == {r.trial: r for r in core.Ledger(entries).view().ended}, crash_after
        allowed = next(i for i, e in enumerate(entries) if isinstance(e.fact, core.RegionAllowed))
        held = after(entries[:allowed], core.RegionForbidden)
        assert not [t for t in held if core.inside(MIDDLE, t.point)], crash_after
