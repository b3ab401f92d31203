"""The contract of a facility, and a facility that lives in memory.

A plug-in author subclasses `FacilityContract`, says how to make the facility, and pytest does the rest.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from firstlight import core

T = TypeVar("T")
Operation = tuple[str, dict[str, object]]

HERE = "firstlight.testing.facility"


# ------------------------------------------------------------------ what the contract's actions do


def value(point: core.Point, tally: str = "") -> dict[str, float]:
    """y = x squared. Leaves a line in the file `tally`, so that performances can be counted."""
    _count(tally)
    return {"y": float(point["x"]) ** 2}


def failure(point: core.Point, tally: str = "") -> dict[str, float]:
    """Does not converge."""
    _count(tally)
    raise core.Failed("did-not-converge", "too dilute")


def slow(point: core.Point, tally: str = "") -> dict[str, float]:
    """y = x squared, after as many seconds as x says."""
    _count(tally)
    time.sleep(float(point["x"]))
    return {"y": float(point["x"]) ** 2}


def _count(tally: str) -> None:
    if tally:
        with open(tally, "a") as file:
            file.write("performed\n")


# ------------------------------------------------------------------ the contract


class FacilityContract:
    """What every facility keeps. Subclass it in a test module and override `make`.

    Where the facility cannot import the functions above, override `value`, `failure` and `slow` (its operations
    and their settings) and `performed`. It needs two slots.
    """

    value: Operation = (f"{HERE}:value", {})
    failure: Operation = (f"{HERE}:failure", {})
    slow: Operation = (f"{HERE}:slow", {})
    short, long = 0.3, 60.0
    """Seconds: of a slow action that is waited for, and of one that is cancelled."""
    patience = 30.0
    """Seconds after which an outcome is overdue."""

    def make(self, root: Path) -> core.Facility:
        """The facility. Made again for the same root, it is another view of the same one."""
        raise NotImplementedError

    def unreachable(self, root: Path) -> core.Facility | None:
        """One that cannot be reached, None where that cannot be had."""
        return None

    async def end(self, facility: core.Facility) -> None:
        """After each test."""
        await facility.close()

    def performed(self, root: Path, action: str) -> int:
        """How often an action has been performed."""
        tally = root.parent / f"{action}.tally"
        return len(tally.read_text().splitlines()) if tally.exists() else 0

    def permit(self, root: Path, operation: Operation, id: str, x: float = 3.0) -> core.Permit:
        """Leave to perform one of the operations above."""
        name, settings = operation
        if name.startswith(HERE):
            settings = {**settings, "tally": str(root.parent / f"{id}.tally")}
        action = core.Action(
            id=id, trial="c1.1", facility="here", name="evaluate", operation=name, point={"x": x}, settings=settings
        )
        return core.Permit(action=action, policies=("contract@1",))

    def _run(self, tmp_path: Path, test: Callable[[core.Facility, Path], Awaitable[T]]) -> T:
        async def run() -> T:
            root = tmp_path / "facility"
            facility = self.make(root)
            try:
                return await asyncio.wait_for(test(facility, root), 4 * self.patience)
            finally:
                await self.end(facility)

        return asyncio.run(run())

    async def _outcome(self, facility: core.Facility, job: str) -> core.Outcome:
        return await asyncio.wait_for(facility.outcome(job), self.patience)

    def test_it_performs_what_is_permitted(self, tmp_path: Path) -> None:
        async def test(facility: core.Facility, root: Path) -> None:
            job = await facility.submit(self.permit(root, self.value, "c1.1.evaluate"))
            outcome = await self._outcome(facility, job)
            assert isinstance(outcome, core.Measured), outcome
            assert [(o.observable, o.value) for o in outcome.observations] == [("y", 9.0)]
            assert outcome.started <= outcome.ended

        self._run(tmp_path, test)

    def test_a_failure_has_its_cause(self, tmp_path: Path) -> None:
        async def test(facility: core.Facility, root: Path) -> None:
            job = await facility.submit(self.permit(root, self.failure, "c1.1.evaluate"))
            outcome = await self._outcome(facility, job)
            assert isinstance(outcome, core.Failure)
            assert outcome.cause == "did-not-converge"
            assert "too dilute" in outcome.message

        self._run(tmp_path, test)

    def test_an_action_submitted_again_is_not_performed_again(self, tmp_path: Path) -> None:
        async def test(facility: core.Facility, root: Path) -> None:
            permit = self.permit(root, self.slow, "c1.1.evaluate", x=self.short)
            jobs = [await facility.submit(permit), await facility.submit(permit)]
            first = await self._outcome(facility, jobs[0])
            jobs.append(await facility.submit(permit))
            assert len(set(jobs)) == 1
            assert await self._outcome(facility, jobs[2]) == first
            assert self.performed(root, "c1.1.evaluate") == 1

        self._run(tmp_path, test)

    def test_submitted_at_the_same_moment_it_is_performed_once(self, tmp_path: Path) -> None:
        async def test(facility: core.Facility, root: Path) -> None:
            permit = self.permit(root, self.slow, "c1.1.evaluate", x=self.short)
            jobs = await asyncio.gather(*(facility.submit(permit) for _ in range(5)))
            outcomes = await asyncio.gather(*(self._outcome(facility, job) for job in jobs))
            assert all(outcome == outcomes[0] for outcome in outcomes)
            assert self.performed(root, "c1.1.evaluate") == 1

        self._run(tmp_path, test)

    def test_what_was_never_submitted_is_not_found(self, tmp_path: Path) -> None:
        async def test(facility: core.Facility, root: Path) -> None:
            assert await facility.find("c1.9.evaluate") is None

        self._run(tmp_path, test)

    def test_what_runs_and_what_has_ended_is_found(self, tmp_path: Path) -> None:
        async def test(facility: core.Facility, root: Path) -> None:
            job = await facility.submit(self.permit(root, self.slow, "c1.1.evaluate", x=self.short))
            assert await facility.find("c1.1.evaluate") == job
            outcome = await self._outcome(facility, job)
            assert await facility.find("c1.1.evaluate") == job
            assert await self._outcome(facility, job) == outcome

        self._run(tmp_path, test)

    def test_a_cancelled_action_ends(self, tmp_path: Path) -> None:
        async def test(facility: core.Facility, root: Path) -> None:
            job = await facility.submit(self.permit(root, self.slow, "c1.1.evaluate", x=self.long))
            waiting = asyncio.ensure_future(self._outcome(facility, job))
            await asyncio.sleep(self.short)
            await facility.cancel(job)
            outcome = await waiting
            assert isinstance(outcome, core.Failure)
            assert outcome.cause == "cancelled"

        self._run(tmp_path, test)

    def test_cancelling_what_has_ended_changes_nothing(self, tmp_path: Path) -> None:
        async def test(facility: core.Facility, root: Path) -> None:
            job = await facility.submit(self.permit(root, self.value, "c1.1.evaluate"))
            outcome = await self._outcome(facility, job)
            await facility.cancel(job)
            assert await self._outcome(facility, job) == outcome

        self._run(tmp_path, test)

    def test_two_actions_are_performed_at_once(self, tmp_path: Path) -> None:
        async def test(facility: core.Facility, root: Path) -> None:
            assert facility.slots >= 2
            ids = ("c1.1.evaluate", "c1.2.evaluate")
            permits = [self.permit(root, self.slow, id, x=4 * self.short) for id in ids]
            jobs = [await facility.submit(permit) for permit in permits]
            a, b = await asyncio.gather(*(self._outcome(facility, job) for job in jobs))
            assert max(a.started, b.started) < min(a.ended, b.ended)

        self._run(tmp_path, test)

    def test_more_actions_than_slots_all_end(self, tmp_path: Path) -> None:
        async def test(facility: core.Facility, root: Path) -> None:
            permits = [self.permit(root, self.value, f"c1.{n}.evaluate", x=n) for n in range(3 * facility.slots)]
            jobs = await asyncio.gather(*(facility.submit(permit) for permit in permits))
            outcomes = await asyncio.gather(*(self._outcome(facility, job) for job in jobs))
            found = [o.observations[0].value for o in outcomes if isinstance(o, core.Measured)]
            assert found == [float(n**2) for n in range(3 * facility.slots)]

        self._run(tmp_path, test)

    def test_actions_go_on_when_it_is_let_go_of(self, tmp_path: Path) -> None:
        async def test(facility: core.Facility, root: Path) -> None:
            job = await facility.submit(self.permit(root, self.slow, "c1.1.evaluate", x=2 * self.short))
            await facility.close()
            again = self.make(root)
            try:
                assert await again.find("c1.1.evaluate") == job
                outcome = await self._outcome(again, job)
                assert isinstance(outcome, core.Measured), outcome
                assert self.performed(root, "c1.1.evaluate") == 1
            finally:
                await self.end(again)

        self._run(tmp_path, test)

    def test_out_of_reach_is_said_and_not_guessed(self, tmp_path: Path) -> None:
        async def test() -> list[str]:
            facility = self.unreachable(tmp_path / "facility")
            if facility is None:
                return ["nothing to reach"]
            said = []
            permit = self.permit(tmp_path / "facility", self.value, "c1.1.evaluate")
            asks: list[Awaitable[str | None]] = [facility.submit(permit), facility.find("c1.1.evaluate")]
            for ask in asks:
                try:
                    await ask
                except core.Unavailable as error:
                    said.append(str(error))
            await self.end(facility)
            return said if len(said) == 2 else []

        assert all(asyncio.run(test())) and asyncio.run(test())


# ------------------------------------------------------------------ a facility in memory


class FakeFacility:
    """A facility without processes: `perform` says what comes of an action, and everything can be made to go wrong.

    `performed` counts by action id; `delay(action)` is how many seconds it takes; the next `unavailable` requests
    raise core.Unavailable, and so do all while it is not `reachable`; `forget()` loses everything, as a facility does
    that was restored from a backup. `says` is its status.
    """

    def __init__(
        self, perform: Callable[[core.Action], core.Outcome], slots: int = 2,
        delay: Callable[[core.Action], float] = lambda action: 0.0,
    ) -> None:  # fmt: skip
        self.unavailable, self.reachable = 0, True
        self.says = core.FacilityStatus(state="up")
        self.cancelled: list[str] = []
        self.performed: Counter[str] = Counter()
        self._perform, self._slots, self._delay = perform, slots, delay
        self._free = asyncio.Semaphore(slots)
        self._tasks: dict[str, asyncio.Task[core.Outcome]] = {}

    @property
    def slots(self) -> int:
        return self._slots

    def forget(self) -> None:
        """Know nothing of any action any more, and perform none that has not ended."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def submit(self, permit: core.Permit) -> str:
        self._reach()
        action = permit.action
        if action.id not in self._tasks:
            self._tasks[action.id] = asyncio.create_task(self._take(action))
        return action.id

    async def find(self, action: str) -> str | None:
        self._reach()
        return action if action in self._tasks else None

    async def outcome(self, job: str) -> core.Outcome:
        self._reach()
        if job not in self._tasks:
            return core.Failure(cause="lost", message=f"nothing is known of {job}")
        task = self._tasks[job]
        while not task.done():
            await asyncio.wait({task}, timeout=0.02)
            self._reach()
        return core.Failure(cause="cancelled") if task.cancelled() else task.result()

    async def cancel(self, job: str) -> None:
        self._reach()
        if job in self._tasks:
            self.cancelled.append(job)
            self._tasks[job].cancel()

    async def status(self, action: core.Action | None = None) -> core.FacilityStatus:
        """What it was told to say."""
        self._reach()
        return self.says

    async def job(self, job: str) -> core.JobStatus:
        """Whether it has ended."""
        self._reach()
        if job not in self._tasks:
            return core.JobStatus(state="unknown")
        return core.JobStatus(state="ended" if self._tasks[job].done() else "active", native=f"task {job}")

    async def close(self) -> None:
        """Jobs under way go on, as long as the event loop does."""

    async def _take(self, action: core.Action) -> core.Outcome:
        async with self._free:
            started = time.time()
            await asyncio.sleep(self._delay(action))
            self.performed[action.id] += 1
            return replace(self._perform(action), started=started, ended=time.time())

    def _reach(self) -> None:
        if not self.reachable:
            raise core.Unavailable("the fake facility is out of reach")
        if self.unavailable > 0:
            self.unavailable -= 1
            raise core.Unavailable("the fake facility was told to be out of reach")
