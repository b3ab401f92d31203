"""Interlocks: what must hold, watched all the time, and what is done where it does not."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from ...core import Instrument, Scalar, Unavailable
from ._layout import Interlock

log = logging.getLogger(__name__)

AGAIN = 1.0
"""Seconds between two attempts to watch an instrument."""


class Watch:
    """The interlocks of a laboratory: `trip` is called when one breaks, `changed` when one breaks or holds again."""

    def __init__(
        self, interlocks: Sequence[Interlock], instruments: Mapping[str, Instrument],
        trip: Callable[[Interlock, str], Coroutine[Any, Any, None]], changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._locks, self._instruments, self._trip, self._changed = interlocks, instruments, trip, changed
        self._read: dict[tuple[str, str], Scalar | None] = {}
        self._blind: dict[tuple[str, str], float] = {}
        self._tripped = set[int]()
        self._tasks: list[asyncio.Task[None]] = []
        self._first: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Watch from now on; without interlocks there is nothing to do."""
        watched: dict[str, list[str]] = {}
        for lock in self._locks:
            watched.setdefault(lock.instrument, []).append(lock.signal)
        self._tasks = [asyncio.create_task(self._follow(name, signals)) for name, signals in watched.items()]
        if watched:
            self._tasks.append(asyncio.create_task(self._look()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ready(self) -> None:
        """Wait until every signal has been read once, or was found unreadable."""
        wanted = {(lock.instrument, lock.signal) for lock in self._locks}
        while not wanted <= set(self._read):
            self._first = asyncio.get_running_loop().create_future()
            await self._first

    def broken(self, instrument: str, read: bool = False) -> str:
        """Why nothing may be started on an instrument just now; "" where it may be. With `read`, only what was seen."""
        wrong = []
        for lock in self._locks:
            if instrument in (lock.stop or (lock.instrument,)):
                key = (lock.instrument, lock.signal)
                if key not in self._read:
                    if read:
                        continue
                    wrong.append(f"{lock.instrument}.{lock.signal} has not been read yet")
                elif why := lock.broken(self._read[key]):
                    wrong.append(why)
        return "; ".join(wrong)

    async def _follow(self, name: str, signals: list[str]) -> None:
        while True:
            try:
                async for reading in self._instruments[name].watch(signals):
                    await self._take(name, reading.signal, reading.value)
            except Unavailable as error:
                log.warning("interlocks of %s cannot be watched: %s", name, error)
                for signal in signals:
                    await self._take(name, signal, None)
            await asyncio.sleep(AGAIN)

    async def _take(self, name: str, signal: str, value: Scalar | None) -> None:
        key = (name, signal)
        before = self._read.get(key, "")
        self._read[key] = value
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        if value is None:
            self._blind.setdefault(key, time.monotonic())
        else:
            self._blind.pop(key, None)
        for number, lock in enumerate(self._locks):
            if (lock.instrument, lock.signal) == key and value is not None:
                await self._judge(number, lock, lock.broken(value))
        if (before is None) != (value is None) or before == "":
            self._changed()

    async def _judge(self, number: int, lock: Interlock, why: str) -> None:
        if why and number not in self._tripped:
            self._tripped.add(number)
            await self._trip(lock, why)
            self._changed()
        elif not why and number in self._tripped:
            self._tripped.discard(number)
            self._changed()

    async def _look(self) -> None:
        """Nobody knows for how long one may go on blind but the laboratory."""
        while True:
            await asyncio.sleep(AGAIN / 2)
            now = time.monotonic()
            for number, lock in enumerate(self._locks):
                since = self._blind.get((lock.instrument, lock.signal))
                if since is not None and now - since > lock.blind:
                    await self._judge(number, lock, f"{lock.broken(None)} for {now - since:.0f} s")
