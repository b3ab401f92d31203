"""What a safe stop and the starts that are on their way when it comes know of each other."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from ...core import NotStarted


class Stops:
    """The safe stops of one instrument. Nothing begins after one because it was on its way."""

    def __init__(self, name: str) -> None:
        self._name, self.count, self._sending = name, 0, set[asyncio.Future[None]]()

    def none_since(self, count: int) -> None:
        """Called right before anything is sent, with the count from when it was asked for. Raises NotStarted."""
        if self.count != count:
            raise NotStarted(f"{self._name}: stopped, before it began", "cancelled")

    @contextmanager
    def sending(self) -> Iterator[None]:
        """While something is on its way and not answered, a stop may overtake it."""
        sending = asyncio.get_running_loop().create_future()
        self._sending.add(sending)
        try:
            yield
        finally:
            self._sending.discard(sending)
            sending.set_result(None)

    async def stop(self, stop: Callable[[], Awaitable[None]]) -> None:
        """Stop, and once more after what was on its way: what was sent before may be handled after the first."""
        self.count += 1
        sending = [*self._sending]
        try:
            await stop()
        finally:
            if sending:
                await asyncio.wait(sending)
                await stop()
