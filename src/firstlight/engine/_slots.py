"""Fair shares: the slots of a facility among the campaigns that want them."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class FairSlots:
    """The slots of one facility. A free one goes to the waiting campaign that holds the fewest."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def acquire(self, campaign: str) -> None:
        """Wait for a slot."""
        if self.held.total() < self.slots and not self._waiting:
            self.held[campaign] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(campaign, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(campaign)
            else:
                self._drop(campaign, turn)
            raise

    def wanted(self, campaign: str) -> int:
        """How many slots a campaign holds or waits for."""
        return self.held[campaign] + len(self._waiting.get(campaign, ()))

    def take(self, campaign: str) -> None:
        """Hold a slot at once: the action runs already, whatever the number of slots."""
        self.held[campaign] += 1

    def release(self, campaign: str) -> None:
        """Give a slot back, to whoever waits with the fewest."""
        self.held[campaign] -= 1
        if self.held[campaign] <= 0:
            del self.held[campaign]
        while self._waiting and self.held.total() < self.slots:
            poorest = min(self._waiting, key=lambda c: self.held[c])
            turn = self._waiting[poorest].popleft()
            if not self._waiting[poorest]:
                del self._waiting[poorest]
            # Whoever gave up waiting a moment ago may still stand in the queue.
            if not turn.done():
                self.held[poorest] += 1
                turn.set_result(None)

    def _drop(self, campaign: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(campaign)
        if queue and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[campaign]


class Slots:
    """The slots of every facility, shared by the campaigns that run side by side."""

    def __init__(self) -> None:
        self.pools: dict[str, FairSlots] = {}
        self._wanted: dict[str, Callable[[str], int]] = {}

    def pool(self, facility: str, slots: int) -> FairSlots:
        """Those of one facility, which has so many."""
        if facility not in self.pools:
            self.pools[facility] = FairSlots(slots)
        return self.pools[facility]

    @contextmanager
    def shared_by(self, campaign: str, wanted: Callable[[str], int]) -> Iterator[None]:
        """Count what a campaign wants of each facility for as long as it runs."""
        self._wanted[campaign] = wanted
        try:
            yield
        finally:
            del self._wanted[campaign]

    def load(self, campaign: str, facility: str) -> int:
        """How many actions have a slot of a facility, or get one by fair shares before another one of this campaign."""
        mine = self._wanted[campaign](facility)
        theirs = sum(min(wanted(facility), mine + 1) for c, wanted in self._wanted.items() if c != campaign)
        held = self.pools[facility].held.total() if facility in self.pools else 0
        return max(mine + theirs, held)

    def forget(self, facility: str) -> None:
        """It is another one under the same name from now on."""
        self.pools.pop(facility, None)
