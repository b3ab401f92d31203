"""The actions that a keeper has to do with, and which of them go together."""

import math
import time
from collections import deque
from pathlib import Path

from ....core import Action, Permit
from .._channel import Channel
from .._rundir import RunDirectory, run_directory

SHORT = 0.2
"""Seconds that a bundle is meant to last at most."""
AHEAD = 2
"""Bundles a worker that are out at once where they are short, so that none waits for the next to come."""
WEIGHT = 0.2
"""Of the latest duration in the average of an operation."""
OVERDUE = 1.0
"""Seconds, beside several times what was expected, after which what has not begun is handed out again."""

LEISURE = 30.0
"""Seconds at most between two looks at what is out."""

Kind = tuple[str, str, str]


class Job:
    """An action that has been asked for and has not ended."""

    __slots__ = (
        "action",
        "begun",
        "deaths",
        "delayed",
        "flights",
        "fsync",
        "kind",
        "limit",
        "name",
        "repeatable",
        "run",
        "sendings",
        "sent",
        "waiters",
    )  # fmt: skip

    def __init__(self, root: Path, permit: Permit, fsync: bool) -> None:
        action = permit.action
        self.action, self.repeatable, self.kind, self.fsync = action.id, action.repeatable, kind(action), fsync
        self.run: RunDirectory = run_directory(root, action.id)
        self.name, self.limit = self.run.path.name, action.limits.seconds
        self.waiters: list[tuple[Channel, int]] = []
        self.flights = self.sendings = self.deaths = self.begun = 0
        self.sent = 0.0
        self.delayed = False

    @property
    def attempts(self) -> int:
        """How often it was begun, once it has come back; 0 where only its run directory knows."""
        return 1 if self.sendings == 1 and not self.begun else 0


class Flight:
    """A bundle that is out."""

    __slots__ = ("expected", "handed", "jobs", "number", "open", "sent", "wait")

    def __init__(self, number: int, jobs: list[Job], expected: float) -> None:
        self.number, self.jobs, self.expected = number, jobs, expected
        self.open = set(jobs)
        """Those of which nothing is known yet."""
        self.sent, self.handed = time.monotonic(), False
        self.wait = OVERDUE + 5 * AHEAD * expected

    def due(self) -> bool:
        """Whether it is time to look what has become of it; every time it takes longer."""
        if time.monotonic() - self.sent < self.wait:
            return False
        self.wait += min(LEISURE, self.wait)
        return True


class Durations:
    """How long operations take, as far as is known."""

    def __init__(self) -> None:
        self._averages: dict[Kind, float] = {}

    def add(self, kind: Kind, seconds: float) -> None:
        """Heed one more."""
        before = self._averages.get(kind, seconds)
        self._averages[kind] = before + WEIGHT * (seconds - before)

    def of(self, kind: Kind) -> float:
        """Seconds that it will take; infinite where it has never been seen."""
        return self._averages.get(kind, math.inf)


def bundle(waiting: deque[Job], durations: Durations, workers: int, out: int) -> tuple[list[Job], float]:
    """Take what should go out next to one of so many workers, while so many bundles are out; none for now is [].

    Also how long it is expected to last. No worker is left idle for a bundle's sake, and what is not known to be short
    goes by itself.
    """
    if not waiting:
        return [], 0.0
    first = durations.of(waiting[0].kind)
    room = (AHEAD * workers if first < SHORT else workers) - out
    if room <= 0:
        return [], 0.0
    share = math.ceil(len(waiting) / room)
    taken, expected = [waiting.popleft()], first
    while waiting and len(taken) < share:
        seconds = durations.of(waiting[0].kind)
        if expected + seconds > SHORT:
            break
        taken.append(waiting.popleft())
        expected += seconds
    return taken, min(expected, SHORT)


def kind(action: Action) -> Kind:
    """What lasts alike."""
    argv = action.settings.get("argv")
    program = str(argv[0]) if isinstance(argv, list | tuple) and argv else ""
    return action.operation, action.name, program
