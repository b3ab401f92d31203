"""A facility in this very process: one function, some threads."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from msgspec.structs import replace

from ...core import Action, Failure, Outcome, Permit
from ._call import call


class ThreadFacility:
    """Performs every action by calling `evaluate(point, **settings)` in a thread of this process.

    It remembers as long as it lives. A thread cannot be stopped: limits are not enforced, and a cancelled action
    counts as ended at once while its thread runs on, unheeded.
    """

    def __init__(self, evaluate: Callable[..., Any], slots: int = 1) -> None:
        if slots < 1:
            raise ValueError(f"slots must be at least 1, not {slots}")
        self._evaluate, self._slots = evaluate, slots
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="firstlight-action")
        self._jobs: dict[str, Future[Outcome]] = {}
        self._cancelled: dict[str, asyncio.Event] = {}

    @property
    def slots(self) -> int:
        return self._slots

    async def submit(self, permit: Permit) -> str:
        action = permit.action
        if action.id not in self._jobs:
            self._cancelled[action.id] = asyncio.Event()
            self._jobs[action.id] = self._pool.submit(self._perform, action)
        return action.id

    async def find(self, action: str) -> str | None:
        return action if action in self._jobs else None

    async def outcome(self, job: str) -> Outcome:
        if job not in self._jobs:
            return Failure(cause="lost", message=f"{job} was not submitted to this process")
        ended = asyncio.wrap_future(self._jobs[job])
        cancelled = asyncio.ensure_future(self._cancelled[job].wait())
        try:
            first: list[asyncio.Future[Any]] = [ended, cancelled]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if self._cancelled[job].is_set():
                return Failure(cause="cancelled")
            return ended.result()
        finally:
            cancelled.cancel()

    async def cancel(self, job: str) -> None:
        if job in self._jobs and not self._jobs[job].done():
            self._cancelled[job].set()
            self._jobs[job].cancel()

    async def close(self) -> None:
        self._pool.shutdown(wait=False)

    def _perform(self, action: Action) -> Outcome:
        started = time.time()
        outcome = call(self._evaluate, action)
        if outcome is None:
            outcome = Failure(cause="crashed", message="it exited in order to be continued, and a thread is not")
        return replace(outcome, started=started, ended=time.time())
