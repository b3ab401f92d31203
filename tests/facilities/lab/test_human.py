"""Steps done by hand: tasks are asked once, found again, and answered with a form that is checked."""

import asyncio
import contextlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.facilities.lab.cell import Cell, permit

from firstlight import core
from firstlight.facilities.lab import human
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


def test_people_with_a_directory_of_their_own_are_listed_and_answered_too(tmp_path: Path) -> None:
    def apart(layout: dict[str, Any]) -> None:
        person(layout)
        layout["instruments"]["person"]["address"] = str(tmp_path / "apart")

    async def go() -> None:
        cell = Cell(tmp_path, apart)
        del cell.rigs["person"]
        lab = cell.facility()
        try:
            async with asyncio.timeout(20):
                waiting = asyncio.create_task(lab.outcome(await lab.submit(WEIGH)))
                lab.answer(await asked(lab), {"Mass": 1.0}, "ada")
                assert isinstance(await waiting, core.Measured)
        finally:
            await lab.close()

    asyncio.run(go())


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


def alone(tmp_path: Path, test: Any, name: str = "person") -> None:
    async def go() -> None:
        it = HumanInstrument(name, str(tmp_path / "tasks"), tasks=TASKS)
        await it.describe()
        async with asyncio.timeout(20):
            await test(it)

    asyncio.run(go())


def look(id: str) -> core.Permit:
    return permit(id, "Look")


def test_a_task_whose_file_is_damaged_is_in_doubt_and_not_asked_again(tmp_path: Path) -> None:
    async def test(it: HumanInstrument) -> None:
        handle = await it.start(look("c1.1.look"))
        file = tmp_path / "tasks" / "c1.1.look.json"
        file.write_text("{")
        for given in (handle, ""):
            with pytest.raises(core.InDoubt, match="cannot be read"):
                await it.reattach("c1.1.look", given)
        with pytest.raises(core.InDoubt, match="was asked"):
            await it.start(look("c1.1.look"))
        assert file.read_text() == "{"
        run = await it.status(handle)
        assert (run.state, run.cause) == ("unknown", "lost")

    alone(tmp_path, test)


def test_only_a_task_that_was_surely_never_asked_may_be_asked_anew(tmp_path: Path) -> None:
    async def test(it: HumanInstrument) -> None:
        assert await it.reattach("c1.1.look", "") is None
        with pytest.raises(core.InDoubt, match="may have been asked"):
            await it.reattach("c1.1.look", "c1.1.look")
        (tmp_path / "tasks").rename(tmp_path / "elsewhere")
        with pytest.raises(core.InDoubt, match="may have been asked"):
            await it.reattach("c1.1.look", "")
        (tmp_path / "tasks").touch()
        with pytest.raises(core.Unavailable, match="cannot be read"):
            await it.reattach("c1.1.look", "c1.1.look")
        with pytest.raises(core.Unavailable, match="cannot be read"):
            await it.status("c1.1.look")

    alone(tmp_path, test)


def test_what_was_answered_meanwhile_is_not_withdrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who withdraws a task and who answers it look at it first, and both may have looked before either writes."""

    async def test(it: HumanInstrument) -> None:
        handle = await it.start(look("c1.1.look"))
        (task,) = open_tasks(tmp_path / "tasks")
        read, both = human.read_task, threading.Barrier(2)

        def slowly(directory: Path, id: str) -> Any:
            found = read(directory, id)
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.5)
            return found

        monkeypatch.setattr(human, "read_task", slowly)
        ends = list[str]()

        def answer() -> None:
            try:
                human.close_task(tmp_path / "tasks", task, "done", "ada")
                ends.append("done")
            except LookupError:
                ends.append("too late")

        thread = threading.Thread(target=answer)
        thread.start()
        await it.cancel(handle)
        await asyncio.to_thread(thread.join)
        monkeypatch.undo()
        run = await it.status(handle)
        assert (ends, run.state) in ((["done"], "succeeded"), (["too late"], "cancelled"))

    alone(tmp_path, test)


def test_a_safe_stop_withdraws_all_tasks_of_its_own_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: HumanInstrument) -> None:
        other = HumanInstrument("somebody else", str(tmp_path / "tasks"), tasks=TASKS)
        await other.start(look("c2.1.look"))
        handles = [await it.start(look(f"c1.{i}.look")) for i in range(3)]
        write = human.write_task

        def failing(directory: Path, task: human.Task) -> None:
            if task.id == "c1.0.look":
                raise OSError("no space left")
            write(directory, task)

        monkeypatch.setattr(human, "write_task", failing)
        with pytest.raises(core.InDoubt, match=r"c1\.0\.look: .*no space left"):
            await it.safe_stop()
        assert [(await it.status(h)).state for h in handles] == ["running", "cancelled", "cancelled"]
        assert (await other.status("c2.1.look")).state == "running"

    alone(tmp_path, test)


@pytest.mark.parametrize("after", [False, True], ids=["before it is there", "once it is there"])
def test_a_task_that_is_there_was_asked_whatever_the_disk_says(
    tmp_path: Path, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, calls = os.fsync, list[int]()

    def failing(file: int) -> None:
        calls.append(file)
        if len(calls) == (2 if after else 1):
            raise OSError("input/output error")
        sync(file)

    async def test(it: HumanInstrument) -> None:
        monkeypatch.setattr(os, "fsync", failing)
        if after:
            assert await it.start(look("c1.1.look")) == "c1.1.look"
        else:
            with pytest.raises(core.Unavailable, match="input/output error"):
                await it.start(look("c1.1.look"))
        assert len(open_tasks(it.directory)) == int(after)

    alone(tmp_path, test)
