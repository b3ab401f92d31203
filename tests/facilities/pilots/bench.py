"""A root with pilots that are certain to be gone after the test, and what tests say to it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from firstlight import core
from firstlight.facilities.compute.parsl import ParslFacility

T = TypeVar("T")
SUBJECTS = str(Path(__file__).parents[1])
QUICK: dict[str, Any] = {
    "workers": 2, "heartbeat": 1, "poll": 1.0, "idle": 60.0, "linger": 60.0, "lease": 4.0, "encrypted": False,
}  # fmt: skip

ORCHESTRATOR = """
import asyncio, sys, msgspec
from firstlight import core
from firstlight.facilities.compute.parsl import ParslFacility

async def main():
    facility = ParslFacility(sys.argv[1], **msgspec.json.decode(sys.argv[3]))
    jobs = [await facility.submit(p) for p in msgspec.json.decode(sys.argv[2], type=list[core.Permit])]
    print("submitted", flush=True)
    await asyncio.gather(*map(facility.outcome, jobs))
    await asyncio.sleep(60)

asyncio.run(main())
"""


class Bench:
    """One root, and short words for tests."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.root, self.options, self.tally = root, {**QUICK, **options}, root.parent / "tally"

    def facility(self, **more: Any) -> ParslFacility:
        """One more view of the same."""
        return ParslFacility(self.root, **{**self.options, **more})

    def run(self, test: Callable[[ParslFacility], Awaitable[T]], patience: float = 60.0, **more: Any) -> T:
        """The test in a loop of its own, and all pilots ended after it."""

        async def run() -> T:
            facility = self.facility(**more)
            try:
                return await asyncio.wait_for(test(facility), patience)
            finally:
                await facility.shutdown()

        return asyncio.run(run())

    def permit(self, function: str = "square", id: str = "c1.1.evaluate", x: float = 3.0, **more: Any) -> core.Permit:
        """Leave to perform one of the subjects."""
        operation = function if ":" in function or function == "command" else f"subjects:{function}"
        action = core.Action(
            id=id, trial="c1.1", facility="parsl", name=function, operation=operation, point={"x": x},
            settings={"directory": SUBJECTS, **more.pop("settings", {})}, **more,
        )  # fmt: skip
        return core.Permit(action=action, policies=("test@1",))

    def waiting(self, seconds: float, id: str = "c1.1.evaluate", **more: Any) -> core.Permit:
        """Leave to write a process id into the tally, wait, and say that it has ended."""
        return self.permit("tally_and_wait", id, settings={"tally": str(self.tally), "seconds": seconds}, **more)

    def lines(self) -> list[str]:
        """Of the tally."""
        return self.tally.read_text().split() if self.tally.exists() else []

    async def begun(self, count: int = 1) -> None:
        """Wait until so many have begun."""
        await asyncio.to_thread(wait_until, lambda: len([n for n in self.lines() if n.isdigit()]) >= count)

    @contextlib.contextmanager
    def orchestrator(self, *permits: core.Permit) -> Iterator["subprocess.Popen[bytes]"]:
        """A process that submits actions and waits; it is killed at the end."""
        words = [msgspec.json.encode(list(permits)).decode(), msgspec.json.encode(self.options).decode()]
        command = [sys.executable, "-c", ORCHESTRATOR, str(self.root), *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline()
            yield process
            process.kill()

    def processes(self, kind: str = "") -> list[int]:
        """Those of this root: it is in their command line, or their standard streams are below it."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._mine(pid, kind)]

    def kill(self, *kinds: str) -> None:
        """As a crash does: all at once, so that none of them does anything about the end of another."""
        them = [pid for kind in kinds for pid in self.processes(kind)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in them:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _mine(self, pid: int, kind: str) -> bool:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
            streams = [os.readlink(f"/proc/{pid}/fd/{n}") for n in (1, 2)]
        except OSError:
            return False
        known = f"{self.root}/" in command or command.rstrip().endswith(str(self.root))
        return kind in command and (known or any(s.startswith(f"{self.root}/") for s in streams))


KEEPER, GUARDIAN, INTERCHANGE, MANAGER = "._keeper", "._guardian", "HTEX interchange", "process_worker_pool --"


def value(outcome: core.Outcome, name: str = "") -> float:
    """The one observed, or that of this name."""
    assert isinstance(outcome, core.Measured), outcome
    return {o.observable: o.value for o in outcome.observations}[name]


def wait_until(true: Callable[[], bool], seconds: float = 40.0) -> None:
    """Wait for something in another process."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


@pytest.fixture
def pilots(tmp_path: Path) -> Iterator[Bench]:
    """A root on this machine; whatever a test does, nothing of it is there soon after."""
    made = Bench(tmp_path / "facility")
    yield made
    wait_until(lambda: made.processes() == [])
