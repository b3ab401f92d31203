"""Facilities on the Slurm of the tests, and short words for what they are told."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from firstlight import core
from firstlight.facilities.compute.slurm import SlurmFacility
from firstlight.testing.slurm import SlurmBox

HERE = "firstlight.testing.facility"
SUBJECTS = str(Path(__file__).parent)
T = TypeVar("T")


class Bench:
    """A root of the test's own."""

    def __init__(self, place: Path, box: SlurmBox) -> None:
        self.place, self.box, self.root = place, box, place / "root"

    def facility(self, **more: Any) -> SlurmFacility:
        return SlurmFacility(self.root, 4, **{"poll": 0.1, "grace": 1.0, **more})

    def run(self, test: Callable[[SlurmFacility], Awaitable[T]], seconds: float = 200.0, **more: Any) -> T:
        async def run() -> T:
            facility = self.facility(**more)
            try:
                return await asyncio.wait_for(test(facility), seconds)
            finally:
                await facility.close()

        return asyncio.run(run())

    def permit(self, operation: str = "value", id: str = "c1.1.evaluate", x: float = 3.0, **more: Any) -> core.Permit:
        settings = more.pop("settings", {"tally": str(self.place / f"{id}.tally")})
        known = operation if operation == "command" or ":" in operation else f"{HERE}:{operation}"
        action = core.Action(
            id=id, trial="c1.1", facility="slurm", name="evaluate", operation=known, point={"x": x},
            settings=settings, **more,
        )  # fmt: skip
        return core.Permit(action=action, policies=("test@1",))

    def outcome(self, permit: core.Permit, **more: Any) -> core.Outcome:
        async def test(facility: SlurmFacility) -> core.Outcome:
            return await facility.outcome(await facility.submit(permit))

        return self.run(test, **more)

    def failure(self, permit: core.Permit, **more: Any) -> core.Failure:
        outcome = self.outcome(permit, **more)
        assert isinstance(outcome, core.Failure), outcome
        return outcome

    def performed(self, id: str = "c1.1.evaluate") -> int:
        tally = self.place / f"{id}.tally"
        return len(tally.read_text().splitlines()) if tally.exists() else 0

    def run_directory(self, id: str = "c1.1.evaluate") -> Path:
        return self.root / "actions" / id

    def jobs(self) -> list[list[str]]:
        """The id, name and state of the jobs of this root."""
        ours = {path.name for path in (self.root / "batches").glob("*")}
        return [job for job in self.box.jobs() if job[1] in ours]


async def until(true: Callable[[], bool], seconds: float = 90.0) -> None:
    """Wait for something in another process."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.05)


def value(outcome: core.Outcome) -> float:
    """The one value that was measured."""
    assert isinstance(outcome, core.Measured), outcome
    return outcome.observations[0].value
