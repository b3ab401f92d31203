"""A laboratory as a facility: what it refuses, what waits, what is done together, and what survives."""

import asyncio
import errno
import os
import socket
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.facilities.lab.cell import Cell, chain, forgetful, perform, permit

from firstlight import core
from firstlight.facilities.lab import _dispatch
from firstlight.facilities.lab._layout import BadLaboratory
from firstlight.facilities.lab._store import RunRow
from firstlight.facilities.lab.facility import LabFacility

Test = Callable[[LabFacility, Cell], Awaitable[None]]


def run(tmp_path: Path, test: Test, change: Callable[[dict[str, Any]], None] = lambda layout: None) -> None:
    async def go() -> None:
        cell = Cell(tmp_path, change)
        facility = cell.facility()
        try:
            await asyncio.wait_for(test(facility, cell), 20)
        finally:
            await facility.close()

    asyncio.run(go())


async def both_dosed(lab: LabFacility) -> list[list[core.Permit]]:
    """Two trials on one plate, all of them told, each after its dose."""
    trials = [chain("c1.1"), chain("c1.2")]
    for trial in trials:
        await lab.expect(trial[0].action.trial, [p.action for p in trial])
    for trial in trials:
        assert isinstance(await lab.outcome(await lab.submit(trial[0])), core.Measured)
    return trials


def test_a_trial_goes_through_all_instruments_and_its_history_comes_back(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        outcomes = await perform(lab, chain("c1.1"))
        assert [type(o) for o in outcomes] == [core.Measured] * 6, outcomes
        measured = outcomes[4]
        assert isinstance(measured, core.Measured)
        assert [(o.observable, o.value) for o in measured.observations] == [("yield", 0.5)]
        assert len(measured.assets) == 1
        assert cell.rigs["reader"].sent[0][2] == {"Well": "plate-1/A1", "Reference": 100.0}
        assert [s[2] for s in cell.rigs["mover"].sent] == [
            {"Plate": "plate-1", "From": "deck", "To": "block"},
            {"Plate": "plate-1", "From": "block", "To": "reader"},
            {"Plate": "plate-1", "From": "reader", "To": "hotel"},
        ]
        ((sample, _, _),) = lab.store.samples("c1.1")
        assert (sample.location, sample.state) == ("plate-1/A1", "measured")
        assert [(u.material, u.amount, u.unit) for u in sample.uses] == [
            ("acid", 0.1, "mL"), ("mover.Transfer", 0.0, ""), ("heater.Heat", 0.0, ""), ("mover.Transfer", 0.0, ""),
            ("reader.Measure", 0.0, ""), ("mover.Transfer", 0.0, ""),
        ]  # fmt: skip
        assert lab.store.materials()["acid"].amount == pytest.approx(4.9)
        assert lab.store.held() == {}

    run(tmp_path, test)


def test_what_is_asked_of_a_whole_plate_is_done_once_for_all_its_samples(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        trials = await asyncio.gather(*(perform(lab, chain(f"c1.{n}")) for n in range(1, 7)))
        assert all(isinstance(o, core.Measured) for outcomes in trials for o in outcomes)
        assert [s[2]["To"] for s in cell.rigs["mover"].sent] == ["block", "reader", "hotel"]
        assert len(cell.rigs["heater"].sent) == 1
        assert len(cell.rigs["handler"].sent) == len(cell.rigs["reader"].sent) == 6
        assert {rig.most_at_once for rig in cell.rigs.values()} == {1}

    run(tmp_path, test)


def test_samples_that_want_different_things_of_their_plate_stand_on_different_plates(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        hot, cold = [chain(f"c1.{n}", temperature=90.0) for n in (1, 2)], [chain(f"c1.{n}") for n in (3, 4)]
        await asyncio.gather(*(perform(lab, permits) for permits in (*hot, *cold)))
        assert {s[2]["Plate"]: s[2]["Temperature"] for s in cell.rigs["heater"].sent} == {
            "plate-1": 90.0,
            "plate-2": 80.0,
        }

    run(tmp_path, test)


def test_a_plate_does_not_wait_for_a_sample_that_has_failed(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        cell.rigs["handler"].faults = 1
        trials = await asyncio.gather(*(perform(lab, chain(f"c1.{n}")) for n in range(1, 4)))
        ends = [outcomes[-1] for outcomes in trials]
        assert [isinstance(o, core.Failure) for o in ends] == [True, False, False]
        assert isinstance(ends[0], core.Failure)
        assert (ends[0].cause, ends[0].message) == ("instrument-fault", "the needle is clogged")
        assert [s.state for s, _, _ in lab.store.samples()] == ["failed", "measured", "measured"]

    run(tmp_path, test)


def test_a_bottle_that_runs_out_stops_the_queue_before_the_robot_finds_out(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        permits = [chain(f"c1.{n}", volume="900 uL") for n in range(1, 7)]
        tasks = [asyncio.create_task(perform(lab, p)) for p in permits]
        while "refill" not in (troubles := (await lab.status()).message):
            await asyncio.sleep(0.01)
        assert "acid runs out: c1.6 needs 0.9 mL, and 0.4 mL of" in troubles
        assert (await lab.status()).state == "degraded"
        await asyncio.gather(*tasks[:5])
        assert sum(cell.rigs["handler"].performed.values()) == 5
        lab.store.refill("acid", 10.0)
        lab.look_again()
        assert isinstance((await tasks[5])[-1], core.Measured)

    run(tmp_path, test)


WRONG = [
    ("handler.Dispense", {"Volume": "100 degC"}, "Volume: degC cannot be turned into uL"),
    ("handler.Dispense", {"Volume": 0.5}, "Volume: 0.5 uL is below the lowest, 1 uL"),
    ("handler.Dispense", {"Volume": "2 mL"}, "Volume: 2000 uL is above the highest, 1000 uL"),
    ("handler.Dispense", {"Volume": True}, "Volume: True is not a number"),
    ("handler.Dispense", {"Volume": None}, "Volume is missing (in uL)"),
    ("handler.Dispense", {"Volume": "much"}, "'much' is not a number with a unit"),
    ("handler.Dispense", {"Volume": float("nan")}, "nan is not a number"),
    ("handler.Dispense", {"Volume": float("inf")}, "inf is not a number"),
    ("handler.Dispense", {"Volume": "100 furlongz"}, "'furlongz' is not a unit that is known"),
    ("handler.Dispense", {"Times": 1.5}, "Times: 1.5 is not a whole number"),
    ("handler.Dispense", {"Times": 10}, "Times: 10 is above the highest, 9"),
    ("handler.Dispense", {"Times": 0}, "Times: 0 is below the lowest, 1"),
    ("handler.Dispense", {"Speed": "furious"}, "Speed: 'furious' is none of slow, fast"),
    ("handler.Dispense", {"Speed": 3}, "Speed: 3 is not a text"),
    ("handler.Dispense", {"Colour": "red"}, "Dispense has no argument 'Colour'; it has: Reagent, Well, Volume"),
    ("handler.Dispense", {"Reagent": "gold"}, "there is no material 'gold'; there are: acid, base"),
    ("handler.Dispense", {"Reagent": 7}, "Reagent: 7 is not a text"),
    ("handler.Dispense", {"Well": 5}, "Well: 5 is not a text"),
    ("handler.Dispense", {"Well": "c9.9"}, "there is no sample 'c9.9'"),
    ("handler.Dispense", {"Well": "plate-1/Z9"}, "there is no well 'plate-1/Z9'"),
    ("handler.Dispense", {"Well": "plate-7/A1"}, "there is no well 'plate-7/A1'"),
    ("handler.Pour", {}, "handler has no operation 'Pour'; it has: Dispense"),
    ("robot.Dispense", {}, "there is no instrument 'robot'; there are: handler, heater, mover, reader"),
    ("handler", {}, "handler has no operation ''"),
    ("heater.Heat", {"Temperature": "200 degC"}, "Temperature: 200 degC is above the highest, 140 degC"),
    ("heater.Heat", {"Temperature": "200 K"}, "is below the lowest, 20 degC"),
    ("heater.Heat", {"Plate": "plate-9"}, "there is no labware or sample 'plate-9'"),
    ("heater.Heat", {"Duration": "2 h"}, "Duration: 7200 s is above the highest, 3600 s"),
    ("heater.Heat", {"Duration": [1]}, "Duration: [1] is not a number"),
    ("mover.Transfer", {"To": "moon"}, "there is no place 'moon'; there are: deck, block, reader, hotel"),
    ("reader.Measure", {"Reference": "{weigh.Mass}"}, "Reference: step weigh brought no 'Mass'"),
]  # fmt: skip
SOUND: dict[str, dict[str, Any]] = {
    "handler": {"Reagent": "acid", "Well": "plate-1/A1", "Volume": "100 uL"},
    "heater": {"Plate": "plate-1", "Temperature": 80.0, "Duration": "1 s"},
    "mover": {"Plate": "plate-1", "To": "reader"},
    "reader": {"Well": "plate-1/A1"},
    "robot": {},
}


@pytest.mark.parametrize(("operation", "changes", "reason"), WRONG, ids=lambda x: str(x)[:40])
def test_a_wrong_command_is_refused_before_the_wire(
    operation: str, changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        settings = {k: v for k, v in (SOUND[operation.partition(".")[0]] | changes).items() if v is not None}
        outcome = await lab.outcome(await lab.submit(permit("c1.1.do", operation, **settings)))
        assert isinstance(outcome, core.Failure), outcome
        assert outcome.cause == "refused"
        assert reason in outcome.message
        assert [rig.sent for rig in cell.rigs.values()] == [[]] * 4

    run(tmp_path, test)


def test_a_command_is_refused_while_a_door_is_open_or_the_instrument_is_reserved(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        await lab.describe("heater")
        await lab.describe("handler")
        heat = permit("c1.1.heat", "heater.Heat", **SOUND["heater"]).action
        await lab.submit(permit("c1.2.dispense", "handler.Dispense", **SOUND["handler"]))
        while not lab.store.held():
            await asyncio.sleep(0)
        busy = permit("c1.3.dispense", "handler.Dispense", **SOUND["handler"]).action
        assert "handler is reserved by c1.2.dispense" in lab.busy(busy)
        while lab.busy(heat).endswith("has not been read yet"):
            await asyncio.sleep(0.01)
        assert lab.busy(heat) == "plate-1 is at deck, and heater works at block"
        lab.store.place("plate-1", "block")
        assert lab.busy(heat) == "plate-1 is reserved by c1.2.dispense"
        cell.rigs["heater"].set("Door", 1)
        while lab.busy(heat) != "the door of heater is open":
            await asyncio.sleep(0.01)

    run(tmp_path, test)


def test_an_action_waits_while_its_interlock_is_broken_and_goes_on_afterwards(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        cell.rigs["heater"].values["Door"] = 1
        cell.rigs["heater"].hangs = 0
        going = asyncio.create_task(perform(lab, chain("c1.1")))
        while (await lab.job("c1.1.heat")).message != "the door of heater is open":
            await asyncio.sleep(0.01)
        assert cell.rigs["heater"].sent == []
        assert (await lab.job("c1.1.heat")).state == "held"
        cell.rigs["heater"].set("Door", 0)
        assert isinstance((await going)[-1], core.Measured)

    run(tmp_path, test)


def test_an_interlock_that_breaks_stops_its_instrument_and_says_so(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        heater = cell.rigs["heater"]
        heater.seconds = 5.0
        going = asyncio.create_task(perform(lab, chain("c1.1")))
        while not heater.sent:
            await asyncio.sleep(0.01)
        heater.set("Temperature", 161.0)
        outcome = (await going)[-1]
        assert isinstance(outcome, core.Failure)
        assert outcome.cause == "interlock"
        assert outcome.message == "interlock: heater.Temperature is 161 degC, above 150 degC; safe stop of heater"
        assert heater.stops == 1

    run(tmp_path, test)


def test_a_safe_stop_is_answered_whatever_runs(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        cell.rigs["heater"].seconds = 30.0
        going = asyncio.create_task(perform(lab, chain("c1.1")))
        while not cell.rigs["heater"].sent:
            await asyncio.sleep(0.01)
        assert await lab.safe_stop() == dict.fromkeys(cell.rigs, "")
        outcome = (await going)[-1]
        assert isinstance(outcome, core.Failure)
        assert outcome.cause == "cancelled"

    run(tmp_path, test)


# ------------------------------------------------------------------ doubt, crashes


def lost(job: str) -> core.Permit:
    """A dispense into a well of the plate, of which the reply is lost."""
    return permit(job, "handler.Dispense", **SOUND["handler"])


def test_a_lost_reply_is_made_up_for_by_an_instrument_that_knows_its_runs(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        cell.rigs["handler"].lose_reply = 1
        assert isinstance(await lab.outcome(await lab.submit(lost("c1.1.dispense"))), core.Measured)
        assert sum(cell.rigs["handler"].performed.values()) == 1

    run(tmp_path, test)


def test_what_consumes_and_is_in_doubt_is_never_repeated_until_a_person_has_looked(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        rig = cell.rigs["handler"]
        forgetful(cell, "handler")
        rig.lose_reply = 1
        one = lost("c1.1.dispense")
        with pytest.raises(core.InDoubt, match=r"handler.Dispense \(c1.1.dispense\) was sent, and nobody knows"):
            await lab.outcome(await lab.submit(one))
        await asyncio.sleep(0.1)
        assert sum(rig.performed.values()) == 1
        assert "in doubt" in (await lab.status()).message
        # A request that comes twice says nothing; one that a person has approved since says that it was not performed.
        with pytest.raises(core.InDoubt):
            await lab.outcome(await lab.submit(one))
        assert isinstance(await lab.outcome(await lab.submit(replace(one, approved=7))), core.Measured)
        assert [s[0] for s in rig.sent] == ["c1.1.dispense", "c1.1.dispense#2"]
        assert (await lab.status()).state == "up"

    run(tmp_path, test)


def test_what_can_be_undone_is_repeated_in_doubt_a_few_times(tmp_path: Path) -> None:
    def there(layout: dict[str, Any]) -> None:
        layout["labware"]["plate-1"]["place"] = "reader"

    async def test(lab: LabFacility, cell: Cell) -> None:
        rig = cell.rigs["reader"]
        forgetful(cell, "reader")
        rig.lose_reply = 2
        read = permit("c1.1.measure", "reader.Measure", **SOUND["reader"])
        assert isinstance(await lab.outcome(await lab.submit(read)), core.Measured)
        assert sum(rig.performed.values()) == 3

    run(tmp_path, test, there)


def test_a_move_in_doubt_leaves_its_plate_where_nobody_knows(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        forgetful(cell, "mover")
        cell.rigs["mover"].lose_reply = 1
        move = permit("c1.1.go", "mover.Transfer", **SOUND["mover"])
        with pytest.raises(core.InDoubt):
            await lab.outcome(await lab.submit(move))
        plate = lab.store.plate("plate-1")
        assert plate is not None
        assert plate.place == ""
        other = permit("c1.2.go", "mover.Transfer", **SOUND["mover"]).action
        assert lab.busy(other) == "nobody knows where plate-1 is: find it, and say so"
        # A later action of the trial comes only if a person has attested the move.
        read = permit("c1.1.measure", "reader.Measure", ["c1.1.go"], **SOUND["reader"])
        assert isinstance(await lab.outcome(await lab.submit(read)), core.Measured)
        assert lab.store.held() == {}

    run(tmp_path, test)


def test_where_a_plate_is_whose_move_failed_only_a_person_can_tell(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        cell.rigs["mover"].faults = 1
        move = permit("c1.1.go", "mover.Transfer", **SOUND["mover"])
        with pytest.raises(core.InDoubt, match="the needle is clogged"):
            await lab.outcome(await lab.submit(move))
        assert [p.place for p in lab.store.plates()] == ["", "deck"]
        # The person says that it did not leave: it goes once more, and nothing that is on it is lost.
        assert isinstance(await lab.outcome(await lab.submit(replace(move, approved=7))), core.Measured)
        assert [p.place for p in lab.store.plates()] == ["reader", "deck"]
        assert lab.store.held() == {}

    run(tmp_path, test)


def test_where_an_interlock_stopped_a_plate_nothing_else_is_brought(tmp_path: Path) -> None:
    def guarded(layout: dict[str, Any]) -> None:
        layout["interlocks"].append({"instrument": "heater", "signal": "Door", "equals": 0, "stop": ["mover"]})

    async def test(lab: LabFacility, cell: Cell) -> None:
        await lab.describe("mover")
        cell.rigs["mover"].seconds = 5.0
        going = await lab.submit(permit("c1.1.go", "mover.Transfer", **SOUND["mover"]))
        while not cell.rigs["mover"].sent:
            await asyncio.sleep(0.01)
        cell.rigs["heater"].set("Door", 1)
        outcome = await lab.outcome(going)
        assert isinstance(outcome, core.Failure)
        assert outcome.cause == "interlock"
        await lab.ended("c1.1", ())
        cell.rigs["heater"].set("Door", 0)
        cell.rigs["mover"].seconds = None
        other = permit("c1.2.go", "mover.Transfer", **SOUND["mover"] | {"Plate": "plate-2"})
        waits = await lab.submit(other)
        await asyncio.sleep(0.2)
        assert len(cell.rigs["mover"].sent) == 1
        assert "place reader is reserved by c1.1.go" in lab.busy(other.action)
        lab.store.found("plate-1", "deck")
        lab.look_again()
        assert isinstance(await lab.outcome(waits), core.Measured)
        assert lab.store.held() == {}

    run(tmp_path, test, guarded)


def test_a_motion_that_hangs_is_in_doubt_after_its_time(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        cell.rigs["handler"].hangs, cell.rigs["handler"].deaf = 2, True
        one = lost("c1.1.dispense")
        one = replace(one, action=replace(one.action, limits=core.Limits(seconds=0.1)))
        with pytest.raises(core.InDoubt, match=r"has not ended within 0.1 s, and does not end when asked to"):
            await lab.outcome(await lab.submit(one))
        cell.rigs["handler"].deaf = False
        outcome = await lab.outcome(await lab.submit(replace(one, action=replace(one.action, id="c1.2.dispense"))))
        assert isinstance(outcome, core.Failure)
        assert (outcome.cause, outcome.message) == ("timed-out", "it had not ended within 0.1 s and was cancelled")

    run(tmp_path, test)


def test_a_joint_run_ends_for_all_its_actions_or_for_none(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        trials = await both_dosed(lab)
        end, ended = lab.store.end, list[str]()

        def crash(job: str, outcome: core.Outcome) -> None:
            ended.append(job)
            if len(ended) == 2:
                raise OSError("the disk is full")
            end(job, outcome)

        lab.store.end = crash  # type: ignore[method-assign]
        for move in [await lab.submit(trial[1]) for trial in trials]:
            with pytest.raises(core.InDoubt, match="the disk is full"):
                await lab.outcome(move)
        assert len(ended) == 2

    run(tmp_path, test)


def test_one_that_cannot_be_stopped_keeps_no_other_from_its_stop(tmp_path: Path) -> None:
    def guarded(layout: dict[str, Any]) -> None:
        layout["interlocks"][0]["stop"] = ["mover", "heater"]

    async def test(lab: LabFacility, cell: Cell) -> None:
        async def refuse() -> None:
            raise core.NotStarted("it has no stop")

        cell.rigs["mover"].safe_stop = refuse  # type: ignore[method-assign]
        await lab.describe("heater")
        await lab.obstacle(permit("c1.1.heat", "heater.Heat", **SOUND["heater"]).action)
        for times in (1, 2):
            cell.rigs["heater"].set("Temperature", 400.0)
            while cell.rigs["heater"].stops < times:
                await asyncio.sleep(0.01)
            cell.rigs["heater"].set("Temperature", 30.0)
            await asyncio.sleep(0.05)
        assert (await lab.safe_stop()) == {"handler": "", "heater": "", "mover": "it has no stop", "reader": ""}

    run(tmp_path, test, guarded)


@pytest.mark.parametrize("where", ["on its way", "at the heater", "in the heater"])
def test_who_comes_after_a_plate_has_left_gets_another_one(tmp_path: Path, where: str) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        mover, heater = cell.rigs["mover"], cell.rigs["heater"]
        mover.seconds = 0.3 if where == "on its way" else 0.0
        heater.seconds = 0.5
        heater.set("Door", int(where == "at the heater"))
        first = asyncio.create_task(perform(lab, chain("c1.1")))
        while not (heater if where == "in the heater" else mover).sent:
            await asyncio.sleep(0.01)
        if where == "at the heater":
            await asyncio.sleep(0.1)
        second = asyncio.create_task(perform(lab, chain("c1.2")))
        await asyncio.sleep(0.1)
        heater.set("Door", 0)
        assert all(isinstance(o, core.Measured) for o in [*await first, *await second])
        assert len({s.location.partition("/")[0] for s, _, _ in lab.store.samples()}) == 2

    run(tmp_path, test)


def test_a_plate_of_a_trial_that_is_over_takes_no_more_samples(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        for trial in ("c1.1", "c1.2"):
            assert all(isinstance(o, core.Measured) for o in await perform(lab, chain(trial)))
        assert [s.location for s, _, _ in lab.store.samples()] == ["plate-1/A1", "plate-2/A1"]

    run(tmp_path, test)


def test_what_was_cancelled_before_it_could_be_sent_is_not_sent_later(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        rig = cell.rigs["handler"]
        await lab.describe("handler")
        asked = asyncio.Event()
        start = rig.start

        async def away(given: core.Permit) -> str:
            asked.set()
            await asyncio.sleep(0.2)
            raise core.Unavailable("switched off")

        rig.start = away  # type: ignore[method-assign, assignment]
        job = await lab.submit(lost("c1.1.dispense"))
        await asked.wait()
        await lab.cancel(job)
        rig.start = start  # type: ignore[method-assign]
        outcome = await lab.outcome(job)
        assert isinstance(outcome, core.Failure)
        assert outcome.cause == "cancelled"
        await asyncio.sleep(2.5)
        assert rig.sent == []

    run(tmp_path, test)


def test_a_plate_whose_mover_does_not_say_from_where_is_where_it_was(tmp_path: Path) -> None:
    def blind(layout: dict[str, Any]) -> None:
        del layout["instruments"]["mover"]["operations"]["Transfer"]["moves"]["from"]

    async def test(lab: LabFacility, cell: Cell) -> None:
        there = SOUND["mover"] | {"From": "deck"}
        await lab.outcome(await lab.submit(permit("c1.1.go", "mover.Transfer", **there)))
        cell.rigs["mover"].unreachable = True
        await lab.submit(permit("c1.2.go", "mover.Transfer", **there | {"To": "hotel"}))
        await asyncio.sleep(0.1)
        assert [p.place for p in lab.store.plates()] == [there["To"], "deck"]

    run(tmp_path, test, blind)


def test_a_well_that_was_filled_by_hand_is_no_longer_free(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        for trial in ("hand.1", "hand.2"):
            dose = {"Reagent": "base", "Well": "plate-1/A1", "Volume": "50 uL"}
            await perform(lab, [permit(f"{trial}.do", "handler.Dispense", **dose)])
        outcomes = await perform(lab, chain("c1.1"))
        assert isinstance(outcomes[-1], core.Measured)
        assert [s[2]["Well"] for s in cell.rigs["handler"].sent] == ["plate-1/A1", "plate-1/A1", "plate-1/A2"]
        found = {s.id: [u.material for u in s.uses if u.amount] for s, _, _ in lab.store.samples()}
        assert found == {"hand.1-1": ["base", "base"], "c1.1": ["acid"]}

    run(tmp_path, test)


def test_a_motion_of_which_nobody_knows_whether_it_was_ended_is_in_doubt(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        async def cancel(handle: str) -> None:
            raise core.InDoubt("its worker does not answer")

        cell.rigs["handler"].hangs = 1
        cell.rigs["handler"].cancel = cancel  # type: ignore[method-assign]
        one = lost("c1.1.dispense")
        one = replace(one, action=replace(one.action, limits=core.Limits(seconds=0.1)))
        with pytest.raises(core.InDoubt, match=r"has not ended within 0.1 s, and does not end when asked to"):
            await lab.outcome(await lab.submit(one))

    run(tmp_path, test)


def test_a_facility_that_comes_after_a_crash_finds_what_is_under_way(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        cell.rigs["handler"].seconds = 0.3
        job = await lab.submit(lost("c1.1.dispense"))
        while not cell.rigs["handler"].sent:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        await lab.close()
        again = cell.facility()
        try:
            assert await again.find("c1.1.dispense") == job
            assert isinstance(await again.outcome(job), core.Measured)
            assert await again.find("c1.2.dispense") is None
        finally:
            await again.close()
        assert sum(cell.rigs["handler"].performed.values()) == 1

    run(tmp_path, test)


def test_a_run_that_was_never_sent_is_sent_after_the_crash(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        cell.rigs["handler"].unreachable = True
        lab._described["handler"] = await Cell(tmp_path).rigs["handler"].describe()
        one = lost("c1.1.dispense")
        job = await lab.submit(one)
        await asyncio.sleep(0.1)
        await lab.close()
        assert cell.rigs["handler"].sent == []
        cell.rigs["handler"].unreachable = False
        again = cell.facility()
        try:
            assert isinstance(await again.outcome(job), core.Measured)
        finally:
            await again.close()

    run(tmp_path, test)


def test_two_processes_never_use_an_instrument_at_once(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        other = cell.facility()
        cell.rigs["handler"].seconds = 0.1
        try:
            mine = [permit(f"c1.{n}.do", "handler.Dispense", **SOUND["handler"]) for n in range(3)]
            theirs = [permit(f"c2.{n}.do", "handler.Dispense", **SOUND["handler"]) for n in range(3)]

            async def do(facility: LabFacility, one: core.Permit) -> core.Outcome:
                return await facility.outcome(await facility.submit(one))

            ends = await asyncio.gather(*(do(lab, p) for p in mine), *(do(other, p) for p in theirs))
            assert all(isinstance(end, core.Measured) for end in ends)
            assert cell.rigs["handler"].most_at_once == 1
        finally:
            await other.close()

    run(tmp_path, test)


def test_what_a_process_had_begun_that_is_gone_does_not_keep_its_instrument_for_ever(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        cell.rigs["handler"].seconds = 0.2
        job = await lab.submit(lost("c1.1.dispense"))
        while not cell.rigs["handler"].sent:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
        await lab.close()
        other = cell.facility()
        try:
            with other.store.changing() as db:
                db.execute("UPDATE holds SET owner=?", (f"{socket.gethostname()} {os.getpid()} of-another-boot",))
            mine = await other.submit(lost("c2.1.dispense"))
            assert isinstance(await other.outcome(mine), core.Measured)
            # Its own campaign finds what came of it when it goes on.
            assert isinstance(await other.outcome(job), core.Measured)
            assert other.store.held() == {}
        finally:
            await other.close()
        assert [s[0] for s in cell.rigs["handler"].sent] == ["c1.1.dispense", "c2.1.dispense"]
        assert cell.rigs["handler"].most_at_once == 1

    run(tmp_path, test)


@pytest.mark.parametrize(
    "full",
    [OSError(errno.ENOSPC, "No space left on device"), sqlite3.OperationalError("database or disk is full")],
    ids=["file", "database"],
)
@pytest.mark.parametrize("stopped", [False, True], ids=["measured", "stopped"])
def test_what_cannot_be_written_on_a_full_disk_is_written_once_there_is_room(
    tmp_path: Path, full: Exception, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dispatch, "AWAY", 0.05)

    async def test(lab: LabFacility, cell: Cell) -> None:
        books, tries = lab._dispatch.books, [full, full]
        plainly = books.conclude

        def conclude(*args: Any) -> None:
            if tries:
                raise tries.pop()
            plainly(*args)

        monkeypatch.setattr(books, "conclude", conclude)
        if stopped:
            cell.rigs["heater"].seconds = 30.0
            job = await lab.submit(permit("c1.1.heat", "heater.Heat", Plate="plate-1", Temperature=80.0, Duration=1.0))
            while not cell.rigs["heater"].sent:
                await asyncio.sleep(0.01)
            cell.rigs["heater"].set("Temperature", 170.0)
        else:
            job = await lab.submit(lost("c1.1.dispense"))
        outcome = await lab.outcome(job)
        assert tries == []
        if stopped:
            assert isinstance(outcome, core.Failure)
            assert outcome.cause == "interlock"
        else:
            assert isinstance(outcome, core.Measured)
            assert sum(cell.rigs["handler"].performed.values()) == 1
        assert lab.store.held() == {}

    run(tmp_path, test, lambda layout: layout["labware"]["plate-1"].update(place="block"))


@pytest.mark.parametrize(
    ("said", "why"),
    [({"reserve": "1 g"}, "material acid: .*g cannot be turned into mL"), ({"capacity": "2 K"}, "material acid: ")],
)
def test_a_bottle_in_another_unit_is_converted_and_in_another_dimension_refused(
    tmp_path: Path, said: dict[str, str], why: str
) -> None:
    given = {"amount": "5 mL", "reserve": "500 uL", "capacity": "0.01 L"} | said

    def change(layout: dict[str, Any]) -> None:
        layout["materials"]["acid"] = given

    with pytest.raises(BadLaboratory, match=why):
        Cell(tmp_path, change).facility()

    async def test(lab: LabFacility, cell: Cell) -> None:
        assert lab.store.materials()["acid"].free == pytest.approx(4.5)
        assert lab.refill("acid", 5.0).amount == pytest.approx(10.0)
        with pytest.raises(ValueError, match=r"1 mL do not fit: acid takes 0.01 L, and has 10 mL"):
            lab.refill("acid", 1.0)

    given |= {"reserve": "500 uL", "capacity": "0.01 L"}
    run(tmp_path, test, change)


# ------------------------------------------------------------------ plans, and what stands in the way


def test_a_plate_that_nobody_waits_for_any_more_makes_room(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        cell.rigs["heater"].faults = 1
        (*_, failed) = await perform(lab, chain("c1.1", temperature=90.0))
        assert isinstance(failed, core.Failure)
        plate = lab.store.plate("plate-1")
        assert plate is not None
        assert plate.place == "block"
        (*_, last) = await perform(lab, chain("c1.2"))
        assert isinstance(last, core.Measured)
        plate = lab.store.plate("plate-1")
        assert plate is not None
        assert plate.place == "deck"
        assert [(s[2]["Plate"], s[2]["To"]) for s in cell.rigs["mover"].sent] == [
            ("plate-1", "block"), ("plate-1", "deck"),
            ("plate-2", "block"), ("plate-2", "reader"), ("plate-2", "hotel"),
        ]  # fmt: skip
        assert lab.store.held() == {}

    run(tmp_path, test)


def test_a_trial_that_cannot_be_ended_is_not_begun(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        permits = chain("c1.1")
        last = permits[4].action
        bad = replace(permits[4], action=replace(last, settings={**last.settings, "Reference": "much"}))
        (refused,) = await perform(lab, [*permits[:4], bad, permits[5]])
        assert isinstance(refused, core.Failure)
        assert refused.cause == "refused"
        assert refused.message.startswith("measure: Reference: 'much' is not a number")
        assert [rig.sent for rig in cell.rigs.values()] == [[]] * 4

    run(tmp_path, test)


def test_what_has_more_to_come_goes_first(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        for name in cell.rigs:
            await lab.describe(name)
        short, long = chain("c1.1")[:1], chain("c1.2")
        trials = await asyncio.gather(perform(lab, short), perform(lab, long))
        assert all(isinstance(o, core.Measured) for outcomes in trials for o in outcomes)
        assert [s[0] for s in cell.rigs["handler"].sent] == ["c1.2.dispense", "c1.1.dispense"]

    run(tmp_path, test)


def test_what_was_promised_to_a_trial_that_ended_early_is_free_again(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        # What consumes comes last here: the trial fails before.
        late = chain("c1.1")
        permits = [
            *late[1:3],
            permit("c1.1.top-up", "handler.Dispense", ["c1.1.heat"], Reagent="acid", Well="c1.1", Volume="1 mL"),
        ]
        cell.rigs["heater"].faults = 1
        await perform(lab, permits)
        assert lab.store.materials()["acid"].promised == 0.0
        assert lab.store.materials()["acid"].amount == 5.0

    run(tmp_path, test)


def test_a_plate_that_was_never_fetched_is_where_it_was(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        await lab.describe("mover")
        cell.rigs["mover"].unreachable = True
        going = await lab.submit(permit("c1.1.go", "mover.Transfer", **SOUND["mover"]))
        await asyncio.sleep(0.1)
        plate = lab.store.plate("plate-1")
        assert plate is not None
        assert plate.place == "deck"
        assert lab.store.held() == {}
        cell.rigs["mover"].unreachable = False
        assert isinstance(await lab.outcome(going), core.Measured)

    run(tmp_path, test)


def test_what_two_processes_have_been_asked_for_is_started_once(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        other = cell.facility()
        cell.rigs["handler"].seconds = 0.3
        try:
            # It waits for the first in both of them, and each would start it then.
            first = await lab.submit(lost("c1.1.dispense"))
            mine = await lab.submit(lost("c1.2.dispense"))
            assert await other.submit(lost("c1.2.dispense")) == mine
            ends = await asyncio.gather(lab.outcome(first), lab.outcome(mine), other.outcome(mine))
            assert all(isinstance(end, core.Measured) for end in ends)
            await asyncio.sleep(1.5)
        finally:
            await other.close()
        assert sorted(s[0] for s in cell.rigs["handler"].sent) == ["c1.1.dispense", "c1.2.dispense"]
        assert lab.store.held() == {}

    run(tmp_path, test)


def test_what_another_process_is_about_to_send_is_left_to_it(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        other, rig = cell.facility(), cell.rigs["handler"]
        start, sending = rig.start, asyncio.Event()

        async def slowly(permit: core.Permit) -> str:
            sending.set()
            await asyncio.sleep(0.5)
            return await start(permit)

        rig.start = slowly  # type: ignore[method-assign]
        try:
            job = await lab.submit(lost("c1.1.dispense"))
            await sending.wait()
            # The instrument does not know it yet, which is no reason to begin it again.
            ends = await asyncio.gather(lab.outcome(job), other.outcome(await other.submit(lost("c1.1.dispense"))))
            assert all(isinstance(end, core.Measured) for end in ends)
        finally:
            await other.close()
        assert [s[0] for s in rig.sent] == ["c1.1.dispense"]

    run(tmp_path, test)


def test_what_was_asked_of_a_process_that_knows_what_is_to_come_is_left_to_it(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        other = cell.facility()
        try:
            trials = await both_dosed(lab)
            # The plate is not to be moved without the second sample, of which the other process knows nothing.
            moved = await lab.submit(trials[0][1])
            await other.submit(trials[0][1])
            await asyncio.sleep(0.7)
            assert cell.rigs["mover"].sent == []
            assert isinstance(await lab.outcome(await lab.submit(trials[1][1])), core.Measured)
            assert isinstance(await other.outcome(moved), core.Measured)
        finally:
            await other.close()
        assert len(cell.rigs["mover"].sent) == 1

    run(tmp_path, test)


def test_a_run_that_its_instrument_no_longer_knows_is_in_doubt_and_has_not_failed(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        rig = cell.rigs["handler"]
        rig.seconds = 30.0
        job = await lab.submit(lost("c1.1.dispense"))
        while not rig.sent:
            await asyncio.sleep(0.01)
        rig.end("c1.1.dispense", core.Run(state="unknown", message="it was switched off and on"))
        with pytest.raises(core.InDoubt, match="it was switched off and on"):
            await lab.outcome(job)


def test_who_says_where_labware_is_that_made_room_frees_it(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        where = {"Plate": "plate-2", "From": "deck", "To": "hotel"}
        made = RunRow("c1.1.x~room-1", "mover", "Transfer", where, (), "starting", "", "", {}, 0.0, 0.0)
        lab.store.begin(made)
        assert lab.store.hold({"plate-2": 1, "place hotel": 4}, made.id, lab.owners.here, None) == ""
        lab.store.place("plate-2", "", made.id)
        lab.store.settle(made.id, "doubt", "nobody knows")
        assert any("doubt" in trouble for trouble in lab.troubles())
        lab.store.found("plate-2", "hotel")
        assert lab.troubles() == []
        assert lab.store.held() == {}

    run(tmp_path, test)


def test_after_a_crash_a_plate_still_waits_for_samples_of_which_nobody_has_told_again(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        trials = await both_dosed(lab)
        await lab.close()
        again = cell.facility()
        try:
            moved = await again.submit(trials[0][1])
            await asyncio.sleep(0.3)
            assert cell.rigs["mover"].sent == []
            assert isinstance(await again.outcome(await again.submit(trials[1][1])), core.Measured)
            assert isinstance(await again.outcome(moved), core.Measured)
            assert len(cell.rigs["mover"].sent) == 1
            for id in ("c1.1", "c1.2"):
                await again.ended(id, ())
            assert again.store.expected() == []
        finally:
            await again.close()

    run(tmp_path, test)


def test_what_is_to_come_on_an_instrument_that_is_switched_off_is_waited_for(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        cell.rigs["heater"].unreachable = True
        trials = [chain("c1.1"), chain("c1.2")]
        for trial in trials:
            await lab.expect(trial[0].action.trial, [p.action for p in trial])
        with pytest.raises(core.Unavailable, match="heater is switched off"):
            await lab.submit(trials[0][0])
        cell.rigs["heater"].unreachable = False
        ends = await asyncio.gather(*(perform(lab, trial) for trial in trials))
        assert all(isinstance(o, core.Measured) for outcomes in ends for o in outcomes)
        assert len(cell.rigs["heater"].sent) == 1

    run(tmp_path, test)


def test_a_bug_in_the_queue_is_heard_of_by_whoever_waits(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        class Broken:
            def __getattr__(self, name: str) -> object:
                raise RuntimeError("a bug")

        await lab.describe("handler")
        lab._dispatch.expected = Broken()  # type: ignore[assignment]
        with pytest.raises(RuntimeError, match="a bug"):
            await lab.outcome(await lab.submit(lost("c1.1.dispense")))

    run(tmp_path, test)
