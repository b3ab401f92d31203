"""One thread that writes: what is queued becomes durable a batch at a time, with one sync to disk for all of it."""

import asyncio
import functools
import math
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from firstlight import core

from ._bell import Bell, call
from ._database import Database, Session

_BATCH = 512
_PATIENCE = 0.0005
"""Seconds to wait for those whose last append was just answered to come back with the next."""

T = TypeVar("T")
_END = object()
Refusal = (core.Conflict, core.Held)


@dataclass(slots=True, eq=False)
class _Job:
    """Something to do on the writer's thread. `work` gets the session of a transaction, or None where `alone`."""

    campaign: str
    work: Callable[[Any], object]
    alone: bool
    failed: Callable[[Exception], None]
    last: float
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: object = None
    error: Exception | None = None

    def settle(self) -> None:
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Writer:
    """The queue, and the thread that writes it down."""

    def __init__(self, database: Database, bell: Bell) -> None:
        self._database, self._bell = database, bell
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._looked = -math.inf
        self._thread = threading.Thread(target=self._work, name=f"journal {database.name}", daemon=True)
        self._thread.start()

    async def write(
        self,
        campaign: str,
        work: Callable[[Session], T],
        failed: Callable[[Exception], None] = lambda _: None,
        last: float = math.inf,
    ) -> T:
        """Do this in a transaction, together with what else is queued, and return once it is durable.

        `work` raises Conflict before it writes anything, or not at all. `failed` is called on the writer's
        thread, before anything queued later, where the work was refused or did not become durable. `last` is the
        last entry written, for whoever waits for entries after another; infinite where it is more than entries.
        """
        return await self._submit(campaign, work, False, failed, last)

    async def alone(self, work: Callable[[], T]) -> T:
        """Do this on the writer's thread, after all that is queued, outside any transaction."""
        return await self._submit("", lambda _: work(), True, lambda _: None, 0)

    def poke(self) -> None:
        """Look for changes made by other processes, and go on looking while anybody waits."""
        self._queue.put(None)

    async def close(self) -> None:
        """Write what is queued, and end."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(_END)
        # Not by an executor: at the end of the interpreter, when a journal may be closed last, none takes work.
        while self._thread.is_alive():  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def _submit(
        self, campaign: str, work: Callable[[Any], T], alone: bool, failed: Callable[[Exception], None], last: float
    ) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._lock:
            if self._closed:
                raise core.Unavailable(f"the journal {self._database.name} is closed")
            self._queue.put(_Job(campaign, work, alone, failed, last, loop, future))
        return cast("T", await future)

    # ------------------------------------------------------------- on the writer's thread

    def _work(self) -> None:
        expected = 1
        last: object = None
        while last is not _END:
            batch, last = self._gather(expected)
            if batch:
                self._write(batch)
                expected = len(batch)
            if isinstance(last, _Job):
                self._do(last)
            self._look(busy=bool(batch))
        self._bell.ring_all()

    def _gather(self, expected: int) -> tuple[list[_Job], object]:
        """The next batch, and what comes after it: a job to be done alone, the end, or nothing."""
        batch: list[_Job] = []
        wait = self._database.poll if self._bell.awaited else None
        patience = 0.0
        while len(batch) < _BATCH:
            try:
                if len(batch) >= expected:
                    job = self._queue.get_nowait()
                else:
                    job = self._queue.get(timeout=max(0.0, patience - time.monotonic()) if batch else wait)
            except queue.Empty:
                break
            if not isinstance(job, _Job) or job.alone:
                return batch, job
            if not batch:
                patience = time.monotonic() + _PATIENCE
            batch.append(job)
        return batch, None

    def _write(self, batch: list[_Job]) -> None:
        try:
            session = self._database.begin()
            for job in batch:
                try:
                    job.result = job.work(session)
                except Refusal as error:
                    self._fail(job, error)
            self._database.commit({job.campaign for job in batch if job.error is None})
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            self._database.rollback()
            for job in batch:
                self._fail(job, self._explain(error))
        self._settle(batch)

    def _do(self, job: _Job) -> None:
        try:
            job.result = job.work(None)
        except Refusal as error:
            job.error = error
        except Exception as error:  # noqa: BLE001 - as above
            job.error = self._explain(error)
        self._settle([job])

    def _fail(self, job: _Job, error: Exception) -> None:
        job.error = error
        job.failed(error)

    def _explain(self, error: Exception) -> Exception:
        if isinstance(error, (*self._database.errors, OSError)):
            unavailable = core.Unavailable(f"journal {self._database.name}: {error}".strip())
            unavailable.__cause__ = error
            return unavailable
        return error

    def _settle(self, jobs: list[_Job]) -> None:
        """Answer those who wait, with one call an event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = defaultdict(list)
        for job in jobs:
            by_loop[job.loop].append(job)
        for loop, mine in by_loop.items():
            call(loop, functools.partial(_settle_all, mine))
        if self._bell.awaited:
            reached: dict[str, float] = {}
            for job in jobs:
                if job.error is None:
                    reached[job.campaign] = max(job.last, reached.get(job.campaign, 0))
            self._bell.ring(reached)

    def _look(self, busy: bool) -> None:
        """See what other processes changed, while busy no more often than while idle."""
        if self._database.poll is None or not self._bell.awaited:
            return
        now = time.monotonic()
        if busy and now - self._looked < self._database.poll:
            return
        self._looked = now
        try:
            self._bell.ring(dict.fromkeys(self._database.changes(), math.inf))
        except self._database.errors:
            # Whoever waits asks the database itself, and hears of the trouble there.
            self._bell.ring_all()


def _settle_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.settle()
