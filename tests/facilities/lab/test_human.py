"""Steps done by hand: tasks are asked once, found again, and answered with a form that is checked."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.facilities.lab.cell import Cell, permit

from firstlight import core
from firstlight.facilities.lab.facility import LabFacility
from firstlight.facilities.lab.human import HumanInstrument, open_tasks

TASKS: dict[str, Any] = {
    "Weigh": {
        "instructions": "Weigh {Sample} on the fine balance.",
        "arguments": [{"name": "Sample", "type": "string"}],
        "results": [{"name": "Mass", "unit": "mg", "low": 0.0, "high": 500.0}],
    },
    "Look": {"instructions": "Look whether the hood is clean.", "effect": "read"},
}


def person(layout: dict[str, Any]) -> None:
    layout["instruments"]["person"] = {
        "protocol": "human", "options": {"tasks": TASKS}, "operations": {"Weigh": {"samples": ["Sample"]}},
    }  # fmt: skip


def run(tmp_path: Path, test: Any) -> None:
    async def go() -> None:
        cell = Cell(tmp_path, person)
        del cell.rigs["person"]
        facility = cell.facility()
        try:
            async with asyncio.timeout(20):
                await test(facility, cell)
        finally:
            await facility.close()

    asyncio.run(go())


async def asked(lab: LabFacility) -> Any:
    while not lab.tasks():
        await asyncio.sleep(0.01)
    return lab.tasks()[0]


WEIGH = permit("c1.1.weigh", "person.Weigh", Sample="plate-1/A1")


def test_a_task_is_asked_answered_and_brings_its_form(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        waiting = asyncio.create_task(lab.outcome(await lab.submit(WEIGH)))
        task = await asked(lab)
        assert task.instructions == "Weigh plate-1/A1 on the fine balance."
        lab.answer(task, {"Mass": "0.0125 g"}, "ada")
        outcome = await waiting
        assert isinstance(outcome, core.Measured)
        assert [(o.observable, o.value, o.unit) for o in outcome.observations] == [("Mass", 12.5, "mg")]
        assert lab.tasks() == []
        with pytest.raises(LookupError, match="is done"):
            lab.answer(task, {"Mass": 1.0}, "ada")

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "Mass is missing (in mg)"),
        ({"Mass": "2 g"}, "Mass: 2000 mg is above the highest, 500 mg"),
        ({"Mass": "3 degC"}, "degC cannot be turned into mg"),
        ({"Mass": 1.0, "Colour": "red"}, "Weigh has no argument 'Colour'"),
    ],
)
def test_a_form_filled_in_wrongly_leaves_the_task_open(given: dict[str, object], why: str, tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        await lab.submit(WEIGH)
        task = await asked(lab)
        with pytest.raises(ValueError, match=r".") as wrong:
            lab.answer(task, given, "ada")
        assert why in str(wrong.value)
        assert lab.tasks() == [task]

    run(tmp_path, test)


def test_what_nobody_will_do_has_failed_and_says_why(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        waiting = asyncio.create_task(lab.outcome(await lab.submit(WEIGH)))
        lab.decline(await asked(lab), "the balance is broken", "ada")
        outcome = await waiting
        assert isinstance(outcome, core.Failure)
        assert outcome.message == "ada: the balance is broken"

    run(tmp_path, test)


def test_a_task_outlives_whoever_asked_and_is_not_asked_twice(tmp_path: Path) -> None:
    async def test(lab: LabFacility, cell: Cell) -> None:
        job = await lab.submit(WEIGH)
        task = await asked(lab)
        await lab.close()
        again = cell.facility()
        try:
            waiting = asyncio.create_task(again.outcome(job))
            await asyncio.sleep(0.1)
            assert again.tasks() == [task]
            again.answer(task, {"Mass": 3.0}, "grace")
            assert isinstance(await waiting, core.Measured)
        finally:
            await again.close()

    run(tmp_path, test)


def test_a_task_that_is_cancelled_is_withdrawn(tmp_path: Path) -> None:
    async def story() -> None:
        hand = HumanInstrument("person", str(tmp_path), tasks=TASKS)
        look = core.Permit(
            action=core.Action(id="c1.1.look", trial="c1.1", facility="cell", name="look", operation="Look", point={}),
            policies=(),
        )
        handle = await hand.start(look)
        assert await hand.start(look) == handle
        assert len(open_tasks(tmp_path)) == 1
        await hand.cancel(handle)
        assert [run.state async for run in hand.follow(handle)] == ["cancelled"]
        assert (await hand.status("c9.9.look")).state == "unknown"
        assert await hand.reattach("c9.9.look", "") is None

    asyncio.run(story())


@pytest.mark.parametrize(
    ("tasks", "why"),
    [
        ({"Weigh": {"instructions": "Weigh {Dish}."}}, "name 'Dish', which is no argument"),
        ({"Weigh": {}}, "missing required field `instructions`"),
        ({"Weigh": {"instructions": "Weigh.", "colour": 1}}, "unknown field `colour`"),
    ],
)
def test_tasks_that_cannot_be_asked_are_told_when_the_laboratory_is_read(
    tasks: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r".") as wrong:
        HumanInstrument("person", str(tmp_path), tasks=tasks)
    assert why in str(wrong.value)
