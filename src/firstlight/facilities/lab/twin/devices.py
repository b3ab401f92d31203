"""The devices of the twin laboratory, and the process that serves one of them over its protocol.

    python -m firstlight.facilities.lab.twin.devices NAME PORT WORLD_PORT SPEED < token

Wells are called such as "plate-1/A3": the plate, then row A to D and column 1 to 6. Places are called hotel-1 (and on),
deck (of the handler), heater, furnace and reader (of the spectrometer). Durations that are arguments are seconds of the
laboratory's time, which runs `speed` times as fast as ours; usual durations in descriptions are of ours.
"""

import asyncio
import importlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from firstlight.core import Argument, InstrumentDescription, Operation, Scalar, Signal

from ._device import Fault
from ._laboratory import BOTTLES, CAPACITY, PLACES, STARTS, WELLS
from ._physics import WAVELENGTHS
from .world import SECONDS, end_with_parent

PROTOCOLS: Mapping[str, str] = {
    "handler": "sila", "heater": "sila", "furnace": "opcua", "spectrometer": "epics", "mover": "secop",
}  # fmt: skip
SHELLS: Mapping[str, str] = {
    "sila": "serve_sila",
    "opcua": "serve_lads",
    "epics": "serve_epics",
    "secop": "serve_secop",
}
_FRESH = 0.04
"""Seconds for which signals that were asked for are new enough for all that ask."""

_WELL = Argument(name="Well", type="string", description='Such as "plate-1/A3".')
_DOOR = Signal(name="Door", type="integer", low=0, high=1, description="1 while it is open.")
_PLATE = Signal(name="Plate", type="string", description="The plate that is there, or nothing.")
_DURATION = Argument(
    name="Duration", unit="s", low=0.0, high=7200.0, description="For which it holds the temperature, laboratory time."
)
_HEATED = (
    Argument(name="Reached", unit="degC", description="The highest temperature."),
    Argument(name="Ramp", unit="s", description="How long it took to get there, laboratory time."),
)


def describe(name: str, speed: float) -> InstrumentDescription:
    """A device of the laboratory, as it says itself. Raises KeyError."""
    operations, signals, said = _DESCRIBED[name]
    timed = tuple(
        Operation(
            name=o.name, effect=o.effect, arguments=o.arguments, results=o.results, description=o.description,
            seconds=SECONDS[o.name] / speed,
        )
        for o in operations
    )  # fmt: skip
    return InstrumentDescription(
        name=name, protocol=PROTOCOLS[name], operations=timed, signals=signals, vendor="Firstlight",
        model=name.capitalize(), serial=f"twin-{name}", version="1.0", description=said,
    )  # fmt: skip


_HANDLER = (
    Operation(
        name="Dispense", effect="consuming",
        arguments=(
            Argument(name="Reagent", type="string", choices=tuple(BOTTLES)), _WELL,
            Argument(name="Volume", unit="uL", low=5.0, high=1000.0),
        ),
        results=(Argument(name="Dispensed", unit="uL", description="By the way of the plunger."),),
        description=f"Bring a reagent into a well of the plate on the deck; wells hold {CAPACITY:g} uL.",
    ),
    Operation(name="Mix", effect="reversible", arguments=(_WELL,), description="Stir a well with the needle."),
    Operation(name="WashNeedle", effect="consuming", description="Clean the needle with 200 uL of solvent."),
)  # fmt: skip
_HEATER = Operation(
    name="Heat", effect="consuming",
    arguments=(
        Argument(name="Temperature", unit="degC", low=25.0, high=140.0), _DURATION,
        Argument(name="Stirring", unit="rpm", low=0.0, high=1000.0, default=300.0),
    ),
    results=_HEATED,
    description="Heat the plate on the block, hold and let go. Chemistry goes on: heated twice is not heated once.",
)  # fmt: skip
_FURNACE = Operation(
    name="Anneal", effect="consuming",
    arguments=(Argument(name="Temperature", unit="degC", low=40.0, high=250.0), _DURATION), results=_HEATED,
    description="Anneal the plate in the furnace; it heals the traps of dots, and too much destroys them.",
)  # fmt: skip
_MEASURE = Operation(
    name="Measure", effect="read", arguments=(_WELL,),
    results=(
        Argument(name="PeakAbsorbance"), Argument(name="PeakWavelength", unit="nm"),
        Argument(name="Intensity", description="Counts of fluorescence, relative to the standard."),
        Argument(name="Saturated", type="boolean"),
        Argument(
            name="Spectrum", type="array",
            schema={"items": {"type": "number"}, "minItems": len(WAVELENGTHS), "maxItems": len(WAVELENGTHS)},
            description="Absorbance from 400 to 700 nm, every 10 nm.",
        ),
    ),
    description="Absorbance and fluorescence (405 nm) of a well of the plate in the reader.",
)  # fmt: skip
_STANDARD = Operation(
    name="MeasureStandard",
    effect="read",
    results=(Argument(name="LampIntensity", description="1 is a new lamp."), Argument(name="Counts")),
    description="Look through the standard well: later measurements are relative to it.",
)
_TRANSFER = Operation(
    name="Transfer", effect="reversible",
    arguments=(
        Argument(name="Plate", type="string", choices=tuple(STARTS)),
        Argument(name="From", type="string", choices=PLACES), Argument(name="To", type="string", choices=PLACES),
    ),
    results=(Argument(name="Place", type="string"),),
    description="Put a plate from one place to another. It does not look whether that is free.",
)  # fmt: skip


def _heat_signals(high: float) -> tuple[Signal, ...]:
    return (
        Signal(name="Temperature", unit="degC", low=15.0, high=high),
        Signal(name="Power", low=0.0, high=1.0), _DOOR, _PLATE,
    )  # fmt: skip


_DESCRIBED: Mapping[str, tuple[tuple[Operation, ...], tuple[Signal, ...], str]] = {
    "handler": (
        _HANDLER,
        (
            *(
                Signal(name=f"{name.capitalize()}Left", unit="uL", low=0.0, high=amount)
                for name, (amount, _) in BOTTLES.items()
            ),
            Signal(name="NeedleWear", low=0.0, high=1.0), Signal(name="Clogged", type="integer", low=0, high=1),
            _DOOR, _PLATE,
        ),
        "A liquid handler with one fixed needle and four bottles.",
    ),
    "heater": (
        (_HEATER,), (*_heat_signals(150.0), Signal(name="Stirring", unit="rpm", low=0.0, high=1000.0)),
        "A heated block with a stirrer, for one plate.",
    ),
    "furnace": ((_FURNACE,), _heat_signals(260.0), "A furnace for one plate."),
    "spectrometer": (
        (_MEASURE, _STANDARD), (Signal(name="LampIntensity", low=0.0, high=1.1), _DOOR, _PLATE),
        "A plate reader for absorbance and fluorescence.",
    ),
    "mover": (
        (_TRANSFER,),
        (
            *(
                Signal(name=f"Plate{plate.rpartition('-')[2]}", type="string", description=f"Where {plate} is.")
                for plate in STARTS
            ),
            Signal(name="Crashed", type="integer", low=0, high=1), _DOOR,
        ),
        f"An arm that moves plates of {len(WELLS)} wells.",
    ),
}  # fmt: skip


class WorldLink:
    """A connection to the world."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._progress: dict[int, Callable[[float], None]] = {}
        self.pushed: Callable[[dict[str, Any]], None] = lambda line: None
        self.listening = asyncio.create_task(self._listen())

    @classmethod
    async def open(cls, port: int, token: str) -> "WorldLink":
        """Connect. Raises OSError."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        writer.write(token.encode() + b"\n")
        return cls(reader, writer)

    async def ask(self, do: str, progress: Callable[[float], None] | None = None, **said: object) -> Any:
        """Ask for something to be done. Raises Fault, ConnectionError, and ValueError where it is nonsense."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        if progress is not None:
            self._progress[number] = progress
        self._send(id=number, do=do, **said)
        try:
            line = await asyncio.shield(answer)
        except asyncio.CancelledError:
            # It has come to rest once the world says so.
            self._send(id=next(self._numbers), do="cancel", of=number)
            await asyncio.wait({answer}, timeout=5.0)
            raise
        finally:
            self._waiting.pop(number, None)
            self._progress.pop(number, None)
        if line.get("cancelled"):
            raise asyncio.CancelledError
        if "fault" in line:
            raise Fault(line["fault"], line["cause"])
        if "error" in line:
            raise ValueError(line["error"])
        return line["result"]

    def close(self) -> None:
        """Let go."""
        self.listening.cancel()
        self._writer.close()

    def _send(self, **said: object) -> None:
        self._writer.write(json.dumps(said).encode() + b"\n")

    async def _listen(self) -> None:
        try:
            while text := await self._reader.readline():
                line = json.loads(text)
                number = line.get("id")
                if number is None:
                    self.pushed(line)
                elif "progress" in line:
                    if told := self._progress.get(number):
                        told(line["progress"])
                elif (waiting := self._waiting.get(number)) and not waiting.done():
                    waiting.set_result(line)
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionError("the world is gone"))


class RemoteDevice:
    """A Device whose physics are in the world."""

    def __init__(self, name: str, speed: float, world: WorldLink) -> None:
        self._name, self._world = name, world
        self._described = describe(name, speed)
        self._signals: dict[str, Scalar] = {}
        self._at, self._asking = -1.0, asyncio.Lock()

    def describe(self) -> InstrumentDescription:
        """What it can do."""
        return self._described

    async def perform(
        self, operation: str, arguments: Mapping[str, object], progress: Callable[[float], None]
    ) -> dict[str, object]:
        """Have it done in the world. Raises Fault."""
        done = await self._world.ask(
            "perform", progress, device=self._name, operation=operation, arguments=dict(arguments)
        )
        return dict(done)

    async def read(self, signal: str) -> Scalar:
        """A signal of the last moment: all are asked for together, as servers look at each many times a second."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now - self._at > _FRESH:
                self._signals = await self._world.ask("signals", device=self._name)
                self._at = now
        return self._signals[signal]

    async def stop(self) -> None:
        """Its safe stop."""
        await self._world.ask("stop", device=self._name)


async def _met(port: int, token: str, patience: float = 20.0) -> WorldLink:
    """The world, which begins when we do. Raises OSError where it does not listen in time."""
    until = time.monotonic() + patience
    while True:
        try:
            return await WorldLink.open(port, token)
        except OSError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)


async def _main(name: str, port: int, world_port: int, speed: float) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    token = (await reader.readline()).decode().strip()
    world = await _met(world_port, token)
    shell = importlib.import_module(f".{SHELLS[PROTOCOLS[name]]}", __package__)
    serving = asyncio.create_task(shell.serve(RemoteDevice(name, speed, world), port))
    # Whoever started us holds our input open: without them, or without the world, there is nothing to serve.
    alone = asyncio.create_task(reader.read())
    await asyncio.wait([serving, alone, world.listening], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    serving.cancel()
    await asyncio.wait([serving], timeout=2.0)


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
