"""The contract of an instrument, the small device that it is held against, and an instrument on paper.

Whoever writes an adapter serves `HOB` over its protocol (for ours, the twin's servers do), subclasses
`InstrumentContract`, says how to make the instrument, and pytest does the rest.
"""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from firstlight.core import (
    ENDED,
    Action,
    Argument,
    InDoubt,
    Instrument,
    InstrumentDescription,
    NotStarted,
    Operation,
    Permit,
    Reading,
    Run,
    RunState,
    Scalar,
    Signal,
    Unavailable,
)

T = TypeVar("T")
HOB = InstrumentDescription(
    name="hob", protocol="", vendor="Firstlight", model="Hob", serial="7", version="1",
    operations=(
        Operation(
            name="Heat", effect="reversible", seconds=0.2,
            arguments=(
                Argument(name="Target", unit="degC", low=20.0, high=200.0),
                Argument(name="Seconds", unit="s", low=0.0, high=100.0, default=0.2),
            ),
            results=(Argument(name="Reached", unit="degC"),), description="Heat and hold.",
        ),
        Operation(
            name="Add", effect="consuming", seconds=0.05,
            arguments=(
                Argument(name="Volume", unit="uL", low=1.0, high=1000.0),
                Argument(name="To", type="string"),
                Argument(name="Speed", type="string", choices=("slow", "fast"), default="slow"),
            ),
            results=(Argument(name="Added", unit="uL"),), description="Add a liquid to a vessel.",
        ),
        Operation(name="Break", effect="hazardous", seconds=0.05, description="Always faults."),
    ),
    signals=(Signal(name="Temperature", unit="degC", low=0.0, high=210.0), Signal(name="Door", type="boolean")),
)  # fmt: skip
"""What the hob says of itself: Heat takes its time and tells of progress, Add is quick, Break fails."""


class InstrumentContract:
    """What every adapter keeps. Subclass it in a test module and override `make`, and the hooks that can be had."""

    heat, add, fail = "Heat", "Add", "Break"
    """What the adapter calls the operations of the hob."""
    temperature = "Temperature"
    results = ("Reached", "Added")
    """What it calls the results of Heat and Add."""
    patience = 20.0
    """Seconds after which anything is overdue."""

    def make(self, root: Path) -> Instrument:
        """The instrument. Made again for the same root, it is another view of the same one."""
        raise NotImplementedError

    def unreachable(self, root: Path) -> Instrument | None:
        """One behind which nothing listens, None where that cannot be had."""
        return None

    def kill(self, root: Path) -> bool:
        """Have the server die in the midst of what it does, and come back; False where that cannot be had."""
        return False

    def performed(self, root: Path, operation: str) -> int | None:
        """How often the hob itself has performed an operation; None where nobody counts."""
        return None

    def _run(self, tmp_path: Path, test: Callable[[Instrument, Path], Awaitable[T]]) -> T:
        async def run() -> T:
            instrument = self.make(tmp_path)
            try:
                async with asyncio.timeout(3 * self.patience):
                    return await test(instrument, tmp_path)
            finally:
                await instrument.close()

        return asyncio.run(run())

    @cached_property
    def once(self) -> str:
        """What no other test calls its trial: a server may serve many, and performs nothing twice under one id."""
        return f"c{uuid.uuid4().hex[:8]}"

    def id(self, trial: int) -> str:
        """What an action of this test is called."""
        return f"{self.once}.{trial}.do"

    def permit(self, trial: int, operation: str, **settings: Any) -> Permit:
        """Leave to perform one of the operations, its arguments complete."""
        defaults: dict[str, dict[str, object]] = {
            self.heat: {"Target": 60.0, "Seconds": 0.2},
            self.add: {"Volume": 10.0, "To": "A1", "Speed": "slow"},
        }
        action = Action(
            id=self.id(trial), trial=f"{self.once}.{trial}", facility="lab", name="do", operation=operation, point={},
            repeatable=False, settings=defaults.get(operation, {}) | settings,
        )  # fmt: skip
        return Permit(action=action, policies=("contract@1",))

    async def _end(self, instrument: Instrument, handle: str) -> list[Run]:
        async with asyncio.timeout(self.patience):
            return [run async for run in instrument.follow(handle)]

    # ------------------------------------------------------------------ what it says of itself

    def test_it_says_what_it_can_do(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            said = await instrument.describe()
            assert said == await instrument.describe()
            assert len({o.name for o in said.operations}) == len(said.operations)
            heat, add = said.operation(self.heat), said.operation(self.add)
            assert heat is not None
            assert add is not None
            assert {a.name: a.type for a in heat.arguments} == {"Target": "number", "Seconds": "number"}
            assert {a.name for a in add.arguments} == {"Volume", "To", "Speed"}
            target = next(a for a in heat.arguments if a.name == "Target")
            assert (target.unit, target.low, target.high) == ("degC", 20.0, 200.0)
            assert self.temperature in {s.name for s in said.signals}

        self._run(tmp_path, test)

    def test_nothing_is_known_of_one_that_cannot_be_reached(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            gone = self.unreachable(root)
            if gone is None:
                return
            for ask in (gone.describe(), gone.start(self.permit(1, self.add))):
                try:
                    await ask
                except Unavailable:
                    continue
                raise AssertionError("nothing listens, and it answered")
            async for reading in gone.watch([self.temperature]):
                assert reading.value is None
                break
            await gone.close()

        self._run(tmp_path, test)

    # ------------------------------------------------------------------ runs

    def test_a_run_goes_on_to_its_end_and_brings_results(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            handle = await instrument.start(self.permit(1, self.heat, Target=70.0))
            seen = await self._end(instrument, handle)
            assert seen[-1].state == "succeeded", seen
            assert abs(float(str(seen[-1].results[self.results[0]])) - 70.0) < 0.5
            assert all(run.state in ("queued", "running", "paused") for run in seen[:-1])
            told = [run.progress for run in seen if run.progress is not None]
            assert told == sorted(told)
            assert all(0.0 <= p <= 1.0 for p in told)
            assert (await instrument.status(handle)).state == "succeeded"

        self._run(tmp_path, test)

    def test_text_and_numbers_arrive_as_they_are(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            handle = await instrument.start(self.permit(1, self.add, Volume=12.5, To="plate-1/B2", Speed="fast"))
            (*_, last) = await self._end(instrument, handle)
            assert last.state == "succeeded", last
            assert float(str(last.results[self.results[1]])) == 12.5

        self._run(tmp_path, test)

    def test_a_failure_is_one_and_says_why(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            handle = await instrument.start(self.permit(1, self.fail))
            (*_, last) = await self._end(instrument, handle)
            assert last.state == "failed", last
            assert "element is broken" in last.message
            again = await instrument.start(self.permit(2, self.add))
            (*_, last) = await self._end(instrument, again)
            assert last.state == "succeeded", "after a failure it does nothing any more"

        self._run(tmp_path, test)

    def test_two_may_follow_a_run_at_once(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            handle = await instrument.start(self.permit(1, self.heat, Seconds=0.4))
            one, two = await asyncio.gather(self._end(instrument, handle), self._end(instrument, handle))
            assert one[-1].state == two[-1].state == "succeeded"

        self._run(tmp_path, test)

    def test_a_run_that_nobody_knows_is_unknown(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            handle = await instrument.start(self.permit(1, self.add))
            await self._end(instrument, handle)
            for strange in ("00000000-0000-4000-8000-000000000000", "no such run"):
                assert (await instrument.status(strange)).state == "unknown"
                (*_, last) = await self._end(instrument, strange)
                assert last.state == "unknown"

        self._run(tmp_path, test)

    def test_a_run_can_be_asked_to_end(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            handle = await instrument.start(self.permit(1, self.heat, Seconds=30.0))
            await asyncio.sleep(0.2)
            await instrument.cancel(handle)
            (*_, last) = await self._end(instrument, handle)
            assert last.state in ("cancelled", "failed"), last

        self._run(tmp_path, test)

    # ------------------------------------------------------------------ after our own crash

    def test_a_run_is_found_again_by_its_handle(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            handle = await instrument.start(self.permit(1, self.heat, Seconds=0.8))
            await instrument.close()
            other = self.make(root)
            try:
                await self._found(other, self.id(1), handle, "succeeded")
            finally:
                await other.close()
            assert self.performed(root, "Heat") in (None, 1)

        self._run(tmp_path, test)

    async def _found(self, other: Instrument, action: str, handle: str, state: RunState) -> None:
        try:
            found = await other.reattach(action, handle)
        except InDoubt:
            return  # Honest: a protocol without runs cannot tell.
        assert found is not None, "it was begun"
        (*_, last) = await self._end(other, found)
        assert last.state in (state, "unknown"), last

    def test_a_run_whose_handle_was_lost_is_found_or_in_doubt(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            await instrument.start(self.permit(1, self.add))
            await asyncio.sleep(0.3)
            await instrument.close()
            other = self.make(root)
            try:
                await self._found(other, self.id(1), "", "succeeded")
            finally:
                await other.close()
            assert self.performed(root, "Add") in (None, 1)

        self._run(tmp_path, test)

    def test_what_dies_with_its_server_is_unknown_and_not_failed(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            handle = await instrument.start(self.permit(1, self.heat, Seconds=30.0))
            following = asyncio.create_task(self._end(instrument, handle))
            await asyncio.sleep(0.3)
            if not self.kill(root):
                following.cancel()
                return
            (*_, last) = await following
            assert last.state == "unknown", last
            said = await instrument.describe()
            assert said.operation(self.heat) is not None

        self._run(tmp_path, test)

    # ------------------------------------------------------------------ signals, stops

    def test_signals_are_told_at_once_and_when_they_change(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            readings: list[Reading] = []

            async def watch() -> None:
                async for reading in instrument.watch([self.temperature]):
                    readings.append(reading)

            watching = asyncio.create_task(watch())
            try:
                async with asyncio.timeout(self.patience):
                    while not any(r.value is not None for r in readings):
                        await asyncio.sleep(0.01)
                    await self._end(instrument, await instrument.start(self.permit(1, self.heat, Target=90.0)))
                    while not any(isinstance(r.value, int | float) and abs(r.value - 90.0) < 0.5 for r in readings):
                        await asyncio.sleep(0.01)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            assert {r.signal for r in readings} == {self.temperature}
            assert all(abs(r.at - time.time()) < 3600 for r in readings)

        self._run(tmp_path, test)

    def test_a_safe_stop_ends_what_runs_and_is_answered_soon(self, tmp_path: Path) -> None:
        async def test(instrument: Instrument, root: Path) -> None:
            async with asyncio.timeout(5.0):
                await instrument.safe_stop()
            handle = await instrument.start(self.permit(1, self.heat, Seconds=30.0))
            await asyncio.sleep(0.2)
            async with asyncio.timeout(5.0):
                await instrument.safe_stop()
            (*_, last) = await self._end(instrument, handle)
            assert last.state in ("cancelled", "failed"), last

        self._run(tmp_path, test)


# ------------------------------------------------------------------ on paper


class PaperHob:
    """The hob in memory: it keeps the contract, and outlives those who look at it."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.values: dict[str, Scalar] = {"Temperature": 25.0, "Door": 0}
        self.performed = Counter[str]()
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.changed: list[Callable[[], None]] = []

    def told(self) -> None:
        """Something has changed."""
        for wake in self.changed:
            wake()


class PaperInstrument:
    """One view of a hob in memory."""

    def __init__(self, hob: PaperHob | None) -> None:
        self._hob = hob

    @property
    def hob(self) -> PaperHob:
        if self._hob is None:
            raise Unavailable("nothing listens there")
        return self._hob

    async def describe(self) -> InstrumentDescription:
        self.hob.told()
        return replace(HOB, protocol="paper")

    async def start(self, permit: Permit) -> str:
        hob, action = self.hob, permit.action
        if action.id in hob.runs:
            raise NotStarted(f"{action.id} was begun before")
        hob.runs[action.id] = Run(state="running", progress=0.0, started=time.time())
        hob.tasks[action.id] = asyncio.create_task(self._perform(action))
        return action.id

    async def _perform(self, action: Action) -> None:
        hob = self.hob
        hob.performed[action.operation] += 1
        try:
            if action.operation == "Heat":
                start, target = float(hob.values["Temperature"]), float(str(action.settings["Target"]))
                for step in range(1, 11):
                    await asyncio.sleep(float(str(action.settings["Seconds"])) / 10)
                    hob.values["Temperature"] = start + (target - start) * step / 10
                    self._is(action.id, "running", progress=step / 10)
                self._is(action.id, "succeeded", progress=1.0, results={"Reached": target})
            elif action.operation == "Add":
                await asyncio.sleep(0.05)
                self._is(action.id, "succeeded", results={"Added": action.settings["Volume"]})
            else:
                self._is(action.id, "failed", message="the element is broken")
        except asyncio.CancelledError:
            self._is(action.id, "cancelled")

    def _is(self, id: str, state: RunState, **more: Any) -> None:
        self.hob.runs[id] = replace(
            self.hob.runs[id], state=state, ended=time.time() if state in ENDED else 0.0, **more
        )
        self.hob.told()

    async def reattach(self, action: str, handle: str) -> str | None:
        return action if action in self.hob.runs else None

    async def status(self, handle: str) -> Run:
        return self.hob.runs.get(handle, Run(state="unknown", message="there is no such run"))

    async def follow(self, handle: str) -> AsyncIterator[Run]:
        async for _ in self._changes():
            run = await self.status(handle)
            yield run
            if run.state in ENDED:
                return

    async def watch(self, signals: Sequence[str]) -> AsyncIterator[Reading]:
        if self._hob is None:
            for signal in signals:
                yield Reading(signal=signal, value=None, at=time.time())
            await asyncio.Event().wait()
        last: dict[str, Scalar] = {}
        async for _ in self._changes():
            for signal in signals:
                if last.get(signal) != self.hob.values[signal]:
                    last[signal] = self.hob.values[signal]
                    yield Reading(signal=signal, value=last[signal], at=time.time())

    async def _changes(self) -> AsyncIterator[None]:
        event = asyncio.Event()
        self.hob.changed.append(event.set)
        try:
            while True:
                event.clear()
                yield
                await event.wait()
        finally:
            self.hob.changed.remove(event.set)

    async def cancel(self, handle: str) -> None:
        if handle in self.hob.tasks:
            self.hob.tasks[handle].cancel()

    async def safe_stop(self) -> None:
        for task in self.hob.tasks.values():
            task.cancel()

    async def close(self) -> None:
        """Runs under way go on."""
