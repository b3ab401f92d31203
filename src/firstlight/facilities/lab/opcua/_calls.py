"""Methods of plain servers under way: they are answered when they are done, and nothing else is known of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from firstlight.core import InDoubt, NotStarted, Run, Unavailable

from ._link import OF_THE_LINE, Connection, Link, Refused
from ._plain import Method, Setting, given
from ._programs import CERTAIN, cause_of
from ._space import plain, variant

AT_ONCE = 0.25
"""Seconds within which a refusal comes: what takes longer has begun."""


class Calls:
    """The methods that were called, each until it is answered."""

    def __init__(self, link: Link, patience: float) -> None:
        self._link, self._patience = link, patience
        self._under_way = dict[str, asyncio.Task[Run]]()

    async def call(
        self, handle: str, method: Method, settings: Mapping[str, object], unless_stopped: Callable[[], None]
    ) -> None:
        """Call a method. Raises as `Instrument.start` does, where that shows at once, and as `unless_stopped` does
        before anything is sent."""
        try:
            arguments = [variant(settings[name], builtin, array) for name, builtin, array in method.inputs]
        except (ValueError, KeyError) as error:
            raise NotStarted(f"{method.operation.name}: {error}", "invalid-input") from error
        connection = await self._link.connection()
        unless_stopped()

        async def answered() -> dict[str, object]:
            outputs = await connection.call(method.target, method.method, arguments, self._patience)
            return given(method, [plain(o) for o in outputs])

        await self._begin(handle, method.operation.name, answered())

    async def write(self, handle: str, setting: Setting, value: object, connection: Connection, wait: float) -> None:
        """Write a variable. Raises as `Instrument.start` does."""
        variable = setting.variable
        number = variable.choices.index(value) if isinstance(value, str) and value in variable.choices else value
        try:
            written = variant(number, variable.builtin, variable.array)
        except ValueError as error:
            raise NotStarted(f"{setting.operation.name}: {error}", "invalid-input") from error

        async def answered() -> dict[str, object]:
            await connection.write(variable.node, written, wait)
            return {}

        await self._begin(handle, setting.operation.name, answered())

    async def _begin(self, handle: str, what: str, answer: Awaitable[dict[str, object]]) -> None:
        task = asyncio.ensure_future(self._run(what, answer))
        self._under_way[handle] = task
        try:
            async with asyncio.timeout(AT_ONCE):
                await asyncio.shield(task)
        except TimeoutError:
            return
        except (NotStarted, InDoubt, Unavailable):
            del self._under_way[handle]
            raise

    async def _run(self, what: str, answer: Awaitable[dict[str, object]]) -> Run:
        try:
            return Run("succeeded", progress=1.0, results=await answer)
        except Refused as error:
            if error.code in OF_THE_LINE:
                raise InDoubt(f"{what}: {error}") from error
            if error.code in CERTAIN:
                raise NotStarted(f"{what} was refused: {error}", cause_of(error.code)) from error
            return Run("failed", message=str(error), cause="instrument-fault")

    def knows(self, handle: str) -> bool:
        """Whether it was called from here."""
        return handle in self._under_way

    def ended(self, handle: str) -> bool:
        """Whether it was answered, or never called from here."""
        return handle not in self._under_way or self._under_way[handle].done()

    def standing(self, handle: str) -> Run:
        """How far a call has come."""
        task = self._under_way.get(handle)
        if task is None:
            return Run("unknown", message="its answer went to a connection that is gone", cause="lost")
        return _outcome(task) if task.done() else Run("running")

    async def follow(self, handle: str) -> AsyncIterator[Run]:
        """A call until it is answered."""
        run = self.standing(handle)
        yield run
        if run.state == "running":
            await asyncio.wait([self._under_way[handle]])
            yield self.standing(handle)

    async def close(self) -> None:
        """Await nothing any more."""
        for task in self._under_way.values():
            task.cancel()
        with contextlib.suppress(ValueError):
            await asyncio.wait(self._under_way.values())
        await self._link.close()


def _outcome(task: asyncio.Task[Run]) -> Run:
    error: Any = None if task.cancelled() else task.exception()
    if isinstance(error, NotStarted):
        return Run("failed", message=str(error), cause=error.cause)
    if error is not None or task.cancelled():
        return Run("unknown", message=str(error or "nobody waits for its answer"), cause="lost")
    return task.result()
