"""A local facility that is certain to be gone after the test, and what tests say to it."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from firstlight import core
from firstlight.facilities.compute import LocalFacility

T = TypeVar("T")
SUBJECTS = str(Path(__file__).parent)


class Bench:
    """One root, and short words for tests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.wait_until = wait_until

    def run(self, test: Callable[[LocalFacility], Awaitable[T]], slots: int = 2) -> T:
        """The test in a loop of its own, and all workers ended after it."""

        async def run() -> T:
            facility = LocalFacility(self.root, slots)
            try:
                return await asyncio.wait_for(test(facility), 20)
            finally:
                await facility.shutdown()

        return asyncio.run(run())

    def permit(
        self, function: str, id: str = "c1.1.evaluate", point: core.Point | None = None, **more: Any
    ) -> core.Permit:
        """Leave to perform one of the subjects, or any other operation."""
        known = function if ":" in function or function == "command" else f"subjects:{function}"
        settings = {"directory": SUBJECTS, **more.pop("settings", {})}
        action = core.Action(
            id=id, trial="c1.1", facility="local", name="evaluate", operation=known,
            point={"x": 3.0} if point is None else point, settings=settings, **more,
        )  # fmt: skip
        return core.Permit(action=action, policies=("test@1",))

    def outcome(self, *permits: core.Permit) -> core.Outcome:
        """What comes of the last of these actions, performed one after the other by one worker."""

        async def test(facility: LocalFacility) -> core.Outcome:
            for permit in permits:
                last = await facility.outcome(await facility.submit(permit))
            return last

        return self.run(test, slots=1)

    def failure(self, function: str, **more: Any) -> core.Failure:
        """The failure it is, after which the next action must succeed."""
        after = self.permit("square", id="c1.2.evaluate")
        kept: list[core.Outcome] = []

        async def test(facility: LocalFacility) -> None:
            for permit in (self.permit(function, **more), after):
                kept.append(await facility.outcome(await facility.submit(permit)))

        self.run(test, slots=1)
        assert isinstance(kept[1], core.Measured), kept[1]
        assert isinstance(kept[0], core.Failure), kept[0]
        assert 0 < kept[0].started <= kept[0].ended
        return kept[0]

    def processes(self) -> list[int]:
        """Those that have the root in their command line."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if str(self.root) in _command(pid)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something in another process."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made = Bench(tmp_path / "facility")
    yield made
    wait_until(lambda: made.processes() == [])
