"""Requests that come at nearly the same time are answered by one call of the model, in one thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Call = Callable[[Sequence[Any]], Sequence[Any]]
_log = logging.getLogger(__name__)


class Full(Exception):
    """So much is waiting already that more would only wait longer."""


class Revoked(Exception):
    """The version must not be used any more; why."""


class Untold(Exception):
    """Whether the version may still be used cannot be told now; why."""


@dataclass(frozen=True)
class Batching:
    """`rows` go to the model in one call, at most. The first of them waits for others for `wait` seconds, at most.
    `queue` rows may be waiting; a request of more than `longest` rows is refused."""

    rows: int = 256
    wait: float = 0.004
    queue: int = 16_384
    longest: int = 8_192

    def __post_init__(self) -> None:
        if self.rows < 1 or not 1 <= self.longest <= self.queue or not 0 <= self.wait <= 1:
            raise ValueError("batching: rows and longest are at least 1, longest at most queue, and wait is 0 to 1 s")


@dataclass
class _Job:
    call: Call
    rows: Sequence[Any]
    at: float
    answer: Future[list[Any]] = field(default_factory=Future)


class Worker:
    """The one thread that uses a model. It begins with the first request and ends with `close`."""

    def __init__(self, version: str, revoked: Callable[[str], str], how: Batching) -> None:
        self._version, self._revoked, self._how = version, revoked, how
        self._jobs: deque[_Job] = deque()
        self._rows, self._closed = 0, False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.calls = self.answered = 0

    def submit(self, call: Call, rows: Sequence[Any]) -> Future[list[Any]]:
        """What `call` makes of these rows, once it was their turn. Raises Full."""
        with self._changed:
            if self._closed:
                raise Full("the server is going down")
            if self._rows + len(rows) > self._how.queue:
                raise Full(f"{self._rows} rows are waiting, and at most {self._how.queue} may")
            job = _Job(call, rows, time.monotonic())
            self._jobs.append(job)
            self._rows += len(rows)
            if self._thread is None:
                # Daemon: a call of a model that hangs must not keep the process from ending.
                self._thread = threading.Thread(target=self._work, name=f"model {self._version}", daemon=True)
                self._thread.start()
            self._changed.notify()
        return job.answer

    def close(self, patience: float = 5.0) -> None:
        """Answer what is waiting, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(patience)

    def _work(self) -> None:
        while jobs := self._taken():
            # Whoever has gone away meanwhile is not worked for.
            jobs = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            if jobs:
                self._answer(jobs)
                self.answered += len(jobs)

    def _taken(self) -> list[_Job]:
        """The next jobs of one call; [] once there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if not self._jobs:
                return []
            first, taken, rows = self._jobs[0], list[_Job](), 0
            until = first.at + self._how.wait
            while rows < self._how.rows:
                if self._jobs:
                    following = self._jobs[0]
                    if taken and (following.call != first.call or rows + len(following.rows) > self._how.rows):
                        break
                    taken.append(self._jobs.popleft())
                    rows += len(following.rows)
                elif (left := until - time.monotonic()) <= 0 or self._closed or not self._changed.wait(left):
                    break
            self._rows -= rows
            return taken

    def _answer(self, jobs: list[_Job]) -> None:
        try:
            made = self._called(jobs[0].call, [row for job in jobs for row in job.rows])
        except Exception as error:  # noqa: BLE001  Whatever a model raises is told to who asked, and the thread goes on.
            if len(jobs) > 1 and not isinstance(error, Revoked | Untold):
                # One of them was wrong: each is asked alone, and only who sent it is told.
                for job in jobs:
                    self._answer([job])
                return
            for job in jobs:
                job.answer.set_exception(error)
            return
        at = 0
        for job in jobs:
            job.answer.set_result(made[at : at + len(job.rows)])
            at += len(job.rows)

    def _called(self, call: Call, rows: Sequence[Any]) -> list[Any]:
        made: list[Any] = []
        for first in range(0, len(rows), self._how.rows):
            self._check()
            part = rows[first : first + self._how.rows]
            told = list(call(part))
            self.calls += 1
            if len(told) != len(part):
                raise RuntimeError(f"the model answered {len(told)} times to {len(part)} rows")
            made += told
        return made

    def _check(self) -> None:
        try:
            why = self._revoked(self._version)
        except Exception as error:  # A model that may have been revoked is not used.
            _log.exception("whether %s was revoked cannot be told", self._version)
            raise Untold(f"whether {self._version} was revoked cannot be told now") from error
        if why:
            raise Revoked(why)
