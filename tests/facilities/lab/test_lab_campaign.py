"""Campaigns in a laboratory: the loop and the instruments together, through crashes, doubts and interlocks."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.facilities.lab.cell import Cell, forgetful

from firstlight import core, engine
from firstlight.procedures import Recipe
from firstlight.testing.world import Crash, PaperJournal, Shelf, a_world

STEPS = (
    core.StepSpec(name="dispense", operation="handler.Dispense", facility="cell", repeatable=False,
                  settings={"Reagent": "acid", "Well": "{sample}", "Volume": "{volume}"}),
    core.StepSpec(name="to-block", operation="mover.Transfer", facility="cell", repeatable=False,
                  settings={"Plate": "{sample}", "To": "block"}),
    core.StepSpec(name="heat", operation="heater.Heat", facility="cell", repeatable=False,
                  settings={"Plate": "{sample}", "Temperature": 80.0, "Duration": "1 s"}),
    core.StepSpec(name="to-reader", operation="mover.Transfer", facility="cell", repeatable=False,
                  settings={"Plate": "{sample}", "To": "reader"}),
    core.StepSpec(name="measure", operation="reader.Measure", facility="cell", repeatable=False,
                  settings={"Well": "{sample}", "Reference": "{dispense.Delivered}"}),
    core.StepSpec(name="away", operation="mover.Transfer", facility="cell", repeatable=False,
                  settings={"Plate": "{sample}", "To": "hotel"}),
)  # fmt: skip


def a_campaign(trials: int = 4, replicates: int = 1) -> core.CampaignSpec:
    return core.CampaignSpec(
        id="c1", parallel=trials, parameters=(core.Continuous(name="volume", low=50.0, high=200.0, unit="uL"),),
        goal=core.Goal(
            objectives=(core.Objective(observable="yield", direction="maximize"),), budget=core.Budget(trials=trials)
        ),
        procedure=core.ProcedureSpec(steps=STEPS, name="recipe", options={"replicates": replicates}),
    )  # fmt: skip


class Points:
    """Points at equal distances."""

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        done = len(results.rows) + len(results.pending)
        return [core.Proposal(point={"volume": 50.0 + 10.0 * (done + i)}) for i in range(count)]


async def go_on(cell: Cell, journal: PaperJournal, shelf: Shelf, replicates: int = 1) -> core.Campaign:
    """One process: a facility of its own, the campaign run as far as it goes."""
    facility = cell.facility()
    try:
        ports = replace(
            a_world(journal=journal, strategy=Points(), catalog=shelf), facilities={"cell": facility},
            procedure=Recipe(replicates),
        )  # fmt: skip
        return await asyncio.wait_for(engine.run("c1", ports, by="ada"), 30)
    finally:
        await facility.close()


async def begin(journal: PaperJournal, spec: core.CampaignSpec) -> None:
    await engine.create(spec, journal, a_world().clock, "ada")


def facts(journal: PaperJournal) -> list[core.Fact]:
    return [core.decode(line).fact for line in journal.lines["c1"]]


def test_a_campaign_of_plates_with_replicates_ends_with_every_sample_accounted_for(tmp_path: Path) -> None:
    journal, shelf = PaperJournal(), Shelf()

    async def story() -> Cell:
        cell = Cell(tmp_path)
        await begin(journal, a_campaign(4, replicates=2))
        assert (await go_on(cell, journal, shelf, 2)).closed == "trials spent"
        return cell

    cell = asyncio.run(story())
    assert len(shelf.rows) == 4
    samples = [s for row in shelf.rows.values() for s in row.samples]
    assert sorted(s.id for s in samples) == [f"c1.{n}-{k}" for n in range(1, 5) for k in (1, 2)]
    assert len({s.location for s in samples}) == 8
    assert len(cell.rigs["handler"].sent) == 8
    assert len(cell.rigs["mover"].sent) == 3
    for row in shelf.rows.values():
        assert [(o.observable, o.value) for o in row.observations if o.observable == "yield"] == [("yield", 0.5)] * 2


def test_a_crash_after_any_fact_of_a_campaign_loses_no_sample_and_doses_none_twice(tmp_path: Path) -> None:
    async def whole() -> int:
        journal = PaperJournal()
        (tmp_path / "whole").mkdir()
        await begin(journal, a_campaign(2))
        await go_on(Cell(tmp_path / "whole"), journal, Shelf())
        return len(journal.lines["c1"])

    async def crashed(crash_after: int) -> None:
        root = tmp_path / str(crash_after)
        root.mkdir()
        cell, journal, shelf = Cell(root), PaperJournal(crash_after), Shelf()
        await begin(journal, a_campaign(2))
        with contextlib.suppress(Crash):
            await go_on(cell, journal, shelf)
        journal.crash_after = None
        running = asyncio.create_task(go_on(cell, journal, shelf))
        while not running.done():
            # A person looks at what was sent shortly before the crash: here it was never performed.
            campaign = core.replay([core.decode(line) for line in journal.lines["c1"]])
            for lost in campaign.actions("lost"):
                done = any(i.startswith(lost.action.id) for rig in cell.rigs.values() for i, _, _ in rig.sent)
                word: core.Fact = core.ActionApproved(action=lost.action.id)
                assert not done, (crash_after, lost)
                await journal.post("c1", word, "grace")
            await asyncio.sleep(0.01)
        assert (await running).closed == "trials spent", crash_after
        assert set(cell.rigs["handler"].performed.values()) == {1}, crash_after
        assert len(cell.rigs["handler"].sent) == 2, crash_after
        assert {row.failure for row in shelf.rows.values()} == {None}, crash_after
        assert len(shelf.rows) == 2

    async def all_of_them() -> None:
        last = await whole()
        for first in range(1, last, 12):
            # They are laboratories of their own, and mostly wait.
            await asyncio.gather(*(crashed(n) for n in range(first, min(first + 12, last))))

    asyncio.run(all_of_them())


@pytest.mark.parametrize("word", ["done", "again", "discard"])
def test_what_a_person_says_of_an_action_in_doubt_decides(word: str, tmp_path: Path) -> None:
    journal, shelf = PaperJournal(), Shelf()

    async def story() -> Cell:
        cell = Cell(tmp_path)
        rig = cell.rigs["handler"]
        forgetful(cell, "handler")
        rig.lose_reply = 1
        spec = a_campaign(2)
        # What a step brought that a person has attested, nobody knows: later ones may not build on it.
        free = tuple(replace(s, settings={"Well": "{sample}"}) if s.name == "measure" else s for s in STEPS)
        await begin(journal, replace(spec, procedure=replace(spec.procedure, steps=free)))
        running = asyncio.create_task(go_on(cell, journal, shelf))
        while not (lost := [f for f in facts(journal) if isinstance(f, core.ActionLost)]):
            await asyncio.sleep(0.01)
        action = lost[0].action
        assert "nobody knows what came of it: the reply was lost" in lost[0].reason
        said: core.Fact
        match word:
            case "done":
                said = core.ActionAttested(action=action, note="the well is full")
            case "again":
                said = core.ActionApproved(action=action)
            case _:
                said = core.ActionRefused(action=action, reasons=("given up",))
        await journal.post("c1", said, "grace")
        assert (await running).closed == "trials spent"
        return cell

    cell = asyncio.run(story())
    assert len(cell.rigs["handler"].sent) == (3 if word == "again" else 2)
    states = sorted(s.state for row in shelf.rows.values() for s in row.samples)
    failures = [row.failure.cause for row in shelf.rows.values() if row.failure]
    assert failures == (["lost"] if word == "discard" else [])
    assert states == (["discarded", "measured"] if word == "discard" else ["measured", "measured"])
    store = cell.facility().store
    assert sorted(s.state for s, _, _ in store.samples()) == (
        ["discarded", "measured"] if word == "discard" else ["measured", "measured"]
    )
    assert store.held() == {}
    if word == "discard":
        # Whether it was drawn nobody knows: the laboratory reckons with less.
        (given_up,) = [s for row in shelf.rows.values() for s in row.samples if s.state == "discarded"]
        known = next(s for s, _, _ in store.samples() if s.id == given_up.id)
        assert known.uses[0].material == "acid (perhaps)"
        assert store.materials()["acid"].promised == 0.0
    if word == "done":
        assert any(u.material == "acid" for s, _, _ in store.samples("c1.1") for u in s.uses)


def test_the_last_action_of_a_trial_that_a_person_attests_was_performed(tmp_path: Path) -> None:
    """No later action comes that would tell the laboratory so: that its trial has ended does."""
    journal, shelf = PaperJournal(), Shelf()

    async def story() -> Cell:
        cell = Cell(tmp_path)
        mover = cell.rigs["mover"]
        forgetful(cell, "mover")
        await begin(journal, a_campaign(1))
        running = asyncio.create_task(go_on(cell, journal, shelf))
        while len(mover.sent) < 2:
            await asyncio.sleep(0)
        mover.lose_reply = 1
        while not (lost := [f for f in facts(journal) if isinstance(f, core.ActionLost)]):
            await asyncio.sleep(0.01)
        assert lost[0].action == "c1.1.away"
        await journal.post("c1", core.ActionAttested(action="c1.1.away", note="it is there"), "grace")
        assert (await running).closed == "trials spent"
        return cell

    store = asyncio.run(story()).facility().store
    assert [s.state for s, _, _ in store.samples()] == ["measured"]
    assert [p.place for p in store.plates()] == ["hotel", "deck"]
    assert store.held() == {}
    assert store.runs("doubt") == []


def test_a_replicate_that_is_discarded_keeps_nobody_waiting(tmp_path: Path) -> None:
    """The other replicate waits for its plate, and the plate for the one that does not come any more."""
    journal, shelf = PaperJournal(), Shelf()

    async def story() -> Cell:
        cell = Cell(tmp_path)
        rig = cell.rigs["handler"]
        forgetful(cell, "handler")
        rig.lose_reply = 1
        await begin(journal, a_campaign(2, replicates=2))
        running = asyncio.create_task(go_on(cell, journal, shelf, 2))
        while not (lost := [f for f in facts(journal) if isinstance(f, core.ActionLost)]):
            await asyncio.sleep(0.01)
        action = lost[0].action
        sibling = action[:-1] + ("2" if action.endswith("1") else "1")
        waits = sibling.replace("dispense", "to-block")
        while not any(isinstance(f, core.ActionAccepted) and f.action == waits for f in facts(journal)):
            await asyncio.sleep(0.01)
        await journal.post("c1", core.ActionRefused(action=action, reasons=("given up",)), "grace")
        assert (await running).closed == "trials spent"
        assert core.CancelRequested(action=waits) in facts(journal)
        return cell

    cell = asyncio.run(story())
    assert sorted(s.state for row in shelf.rows.values() for s in row.samples) == ["discarded"] * 2 + ["measured"] * 2
    assert cell.facility().store.held() == {}


def test_an_interlock_pauses_the_campaign_until_a_person_resumes_it(tmp_path: Path) -> None:
    journal, shelf = PaperJournal(), Shelf()

    async def story() -> None:
        cell = Cell(tmp_path)
        heater = cell.rigs["heater"]
        heater.seconds = 10.0
        await begin(journal, a_campaign(2))
        running = asyncio.create_task(go_on(cell, journal, shelf))
        while not heater.sent:
            await asyncio.sleep(0.01)
        heater.set("Temperature", 170.0)
        while not any(isinstance(f, core.CampaignPaused) for f in facts(journal)):
            await asyncio.sleep(0.01)
        paused = next(f for f in facts(journal) if isinstance(f, core.CampaignPaused))
        assert paused.reason == "interlock: heater.Temperature is 170 degC, above 150 degC; safe stop of heater"
        heater.set("Temperature", 30.0)
        await journal.post("c1", core.CampaignResumed(), "grace")
        assert (await running).closed == "trials spent"

    asyncio.run(story())
    assert [row.failure.cause for row in shelf.rows.values() if row.failure] == ["interlock", "interlock"]
