"""Whoever waits is woken by what they wait for, and by nothing else."""

import asyncio
import math

from firstlight.journal._bell import Bell


def test_entries_up_to_the_one_waited_for_wake_nobody() -> None:
    async def story() -> None:
        bell, asked, true = Bell(), list[int](), asyncio.Event()

        async def news() -> bool:
            asked.append(1)
            return true.is_set()

        waiting = asyncio.create_task(bell.wait("c", 7, news, timeout=20.0, began=lambda: None))
        while not asked:
            await asyncio.sleep(0)
        for rung in ({"c": 5.0}, {"c": 7.0}, {"d": math.inf}):
            bell.ring(rung)
            await asyncio.sleep(0.005)
            assert len(asked) == 1, rung
        bell.ring({"c": 8.0})
        await asyncio.sleep(0.005)
        assert len(asked) == 2
        true.set()
        bell.ring({"c": math.inf})
        assert await waiting
        assert not bell.awaited

    asyncio.run(story())
