"""Wake whoever waits for a campaign to change, on any event loop, from any thread."""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Mapping

_Waiter = tuple[asyncio.AbstractEventLoop, asyncio.Event, int]


class Bell:
    """Those who wait, by campaign, and how to wake them. Safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[_Waiter]] = {}

    @property
    def awaited(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    async def wait(
        self, campaign: str, after: int, news: Callable[[], Awaitable[bool]], timeout: float, began: Callable[[], None]
    ) -> bool:
        """Wait until `news` says yes, asking again at every ring beyond entry `after`; False after `timeout` seconds.

        `began` is called once this waiter would hear a ring, so that none is lost.
        """
        event = asyncio.Event()
        waiter = asyncio.get_running_loop(), event, after
        with self._lock:
            self._waiting.setdefault(campaign, set()).add(waiter)
        try:
            began()
            if await news():
                return True
            async with asyncio.timeout(timeout) as limit:
                while True:
                    await event.wait()
                    event.clear()
                    if await news():
                        return True
        except TimeoutError:
            if not limit.expired():
                raise
            return False
        finally:
            with self._lock:
                self._waiting[campaign].discard(waiter)
                if not self._waiting[campaign]:
                    del self._waiting[campaign]

    def ring(self, campaigns: Mapping[str, float]) -> None:
        """These campaigns have changed: they have got entries up to this one (infinite: or anything else)."""
        if not self._waiting:
            return
        with self._lock:
            waiters = [w for c, last in campaigns.items() for w in self._waiting.get(c, ()) if last > w[2]]
        for loop, event, _ in waiters:
            call(loop, event.set)

    def ring_all(self) -> None:
        """Anything may have changed."""
        with self._lock:
            campaigns = dict.fromkeys(self._waiting, math.inf)
        self.ring(campaigns)


def call(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    """Have an event loop call this soon. A loop that was closed meanwhile has nobody left to tell."""
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        if not loop.is_closed():
            raise
