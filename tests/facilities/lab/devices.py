"""Small devices for tests of adapters, to be served over each protocol by the twin's servers."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from firstlight.core import InstrumentDescription, Scalar
from firstlight.facilities.lab.twin._device import Fault
from firstlight.testing.instrument import HOB as HOB


class Hob:
    """A hob that heats in equal steps, adds liquids and counts every time it does, and can break.

    Where the environment names a file HOB_LOG, it writes there what it does, for a test in another process.
    """

    def __init__(self) -> None:
        self.log = os.environ.get("HOB_LOG", "")
        self.temperature, self.door = 25.0, False
        self.performed = Counter[str]()
        self.stops = 0

    def describe(self) -> InstrumentDescription:
        return HOB

    async def perform(
        self, operation: str, arguments: Mapping[str, object], progress: Callable[[float], None]
    ) -> dict[str, object]:
        self.performed[operation] += 1
        self.note(operation)
        match operation:
            case "Heat":
                start, target = self.temperature, float(str(arguments["Target"]))
                for step in range(1, 11):
                    await asyncio.sleep(float(str(arguments["Seconds"])) / 10)
                    self.temperature = start + (target - start) * step / 10
                    progress(step / 10)
                return {"Reached": self.temperature}
            case "Add":
                await asyncio.sleep(0.05)
                return {"Added": float(str(arguments["Volume"]))}
            case _:
                await asyncio.sleep(0.05)
                raise Fault("the element is broken")

    async def read(self, signal: str) -> Scalar:
        return self.temperature if signal == "Temperature" else int(self.door)

    async def stop(self) -> None:
        self.stops += 1
        self.note("stop")

    def note(self, line: str) -> None:
        if self.log:
            with Path(self.log).open("a") as out:
                out.write(line + "\n")
