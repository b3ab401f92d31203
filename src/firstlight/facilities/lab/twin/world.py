"""The twin laboratory's one physical world, in a process of its own: its devices, faults and ledger over JSON lines.

    python -m firstlight.facilities.lab.twin.world PORT SPEED SEED < token

A line {"id": 1, "do": "perform", ...} is answered by lines with the same id. What a device has begun goes on though
its server dies, as the firmware of a real one does; the ledger says so.
"""

import asyncio
import contextlib
import ctypes
import hmac
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from . import _physics as physics
from ._device import Fault
from ._faults import FAULTS, Faults
from ._laboratory import DEAD, PLACES, Laboratory

Progress = Callable[[float], None]
ZERO = 273.15
SECONDS = {
    "Dispense": 8.0, "Mix": 6.0, "WashNeedle": 20.0, "Measure": 12.0, "MeasureStandard": 15.0, "Transfer": 30.0,
    "Heat": 900.0, "Anneal": 900.0,
}  # fmt: skip
"""How long operations take, in the laboratory's time; those that heat usually."""
_EVERY = 0.02
"""Wall seconds between two looks at the clock."""
_AT_ONCE = 0.05
"""Wall seconds of physics at once."""
_PATIENCE = 3600.0
"""Seconds after which a heated place that does not reach its target gives up."""


class World:
    """The laboratory under a clock that runs `speed` times as fast as ours, and what its devices are doing."""

    def __init__(self, laboratory: Laboratory, speed: float) -> None:
        self.laboratory, self.speed = laboratory, speed
        self.faults = Faults(laboratory)
        self.busy: dict[str, asyncio.Task[Any]] = {}
        self.doing: dict[str, dict[str, object]] = {}
        self._since = time.monotonic()

    def now(self) -> Laboratory:
        """The laboratory as it is at this moment."""
        began = time.monotonic()
        due = (began - self._since) * self.speed
        while (behind := due - self.laboratory.seconds) > 0 and time.monotonic() - began < _AT_ONCE:
            self.laboratory.advance(min(behind, 10.0))
        # A machine that cannot keep up, or stood still, has a slower laboratory: nobody waits for an hour of physics.
        self._since += max(behind, 0.0) / self.speed
        return self.laboratory

    async def run(self) -> None:
        """Let time pass."""
        while True:
            self.now()
            await asyncio.sleep(_EVERY)

    async def perform(
        self, device: str, operation: str, arguments: Mapping[str, Any], progress: Progress
    ) -> dict[str, object]:
        """One operation to its end. Raises Fault; cancelled, the device comes to rest."""
        if device in self.busy:
            raise Fault(f"{device} is still moving", "refused")
        act = _ACTS.get((device, operation))
        if act is None:
            raise Fault(f"{device} cannot {operation}", "invalid-input")
        if self._door(device):
            raise Fault(f"the door of {device} is open", "interlock")
        task = asyncio.current_task()
        assert task is not None
        self.busy[device] = task
        entry = self.doing[device] = self.now().record(device, operation, arguments)
        try:
            await self.faults.strike(device, arguments)
            if self._door(device):
                raise Fault(f"the door of {device} was opened", "interlock")
            results = await act(self, arguments, progress)
            entry["outcome"] = "done"
        except Fault as fault:
            entry["outcome"], entry["message"] = "faulted", str(fault)
            raise
        except asyncio.CancelledError:
            entry["outcome"] = "cancelled"
            raise
        finally:
            del self.busy[device]
            if device in self.laboratory.hot:
                self.laboratory.hot[device].target = None
                self.laboratory.stirring = 0.0 if device == "heater" else self.laboratory.stirring
        entry["results"] = {k: v for k, v in results.items() if not isinstance(v, list)}
        return results

    async def spend(self, seconds: float, progress: Progress, low: float = 0.0, high: float = 1.0) -> None:
        """Let an operation take its time, telling its progress from `low` to `high`."""
        began, ends = time.monotonic(), time.monotonic() + seconds / self.speed
        while (left := ends - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.1))
            progress(low + (high - low) * min((time.monotonic() - began) * self.speed / seconds, 1.0))

    def stop(self, device: str) -> None:
        """The device's safe stop: what it does ends, and what it heats with is cut off."""
        if task := self.busy.get(device):
            task.cancel()
        if hot := self.laboratory.hot.get(device):
            hot.stop()

    def _door(self, device: str) -> bool:
        hot = self.laboratory.hot.get(device)
        return hot.door if hot else self.laboratory.doors[device]

    def signals(self, device: str) -> dict[str, float | int | str]:
        """Of a device, as they are now."""
        lab = self.now()
        if hot := lab.hot.get(device):
            made: dict[str, float | int | str] = {
                "Temperature": round(hot.kelvin + hot.offset - ZERO, 2), "Power": round(hot.power, 3),
                "Door": int(hot.door), "Plate": lab.at(device) or "",
            }  # fmt: skip
            return made | ({"Stirring": lab.stirring} if device == "heater" else {})
        door = int(lab.doors[device])
        if device == "handler":
            left = {f"{name.capitalize()}Left": round(max(v - DEAD, 0.0), 2) for name, v in lab.bottles.items()}
            return {**left, "NeedleWear": round(lab.wear, 3), "Clogged": int(lab.clogged), "Door": door,
                    "Plate": lab.at("deck") or ""}  # fmt: skip
        if device == "spectrometer":
            return {"LampIntensity": round(lab.lamp, 5), "Door": door, "Plate": lab.at("reader") or ""}
        where = {f"Plate{name.rpartition('-')[2]}": place for name, place in lab.place.items()}
        return {**where, "Crashed": int(bool(lab.crashed)), "Door": door}


async def _dispense(world: World, a: Mapping[str, Any], progress: Progress) -> dict[str, object]:
    await world.spend(SECONDS["Dispense"] * 0.6, progress, 0.0, 0.6)
    given = world.now().dispense(a["Reagent"], a["Well"], float(a["Volume"]))
    await world.spend(SECONDS["Dispense"] * 0.4, progress, 0.6, 1.0)
    # A handler knows its plunger's way, not what came out: the true volume is for the ledger alone.
    world.doing["handler"]["delivered"] = round(given, 3)
    return {"Dispensed": float(a["Volume"])}


async def _mix(world: World, a: Mapping[str, Any], progress: Progress) -> dict[str, object]:
    world.now().need(a["Well"], "deck")
    await world.spend(SECONDS["Mix"], progress)
    world.now().mix(a["Well"])
    return {}


async def _wash(world: World, a: Mapping[str, Any], progress: Progress) -> dict[str, object]:
    await world.spend(SECONDS["WashNeedle"], progress)
    world.now().wash()
    return {}


async def _heat(world: World, a: Mapping[str, Any], progress: Progress, device: str = "heater") -> dict[str, object]:
    """Bring the place to a temperature, hold it, let go; it cools by itself. Whatever plate is on it is heated."""
    hot, duration = world.laboratory.hot[device], float(a["Duration"])
    plate = str(a.get("Plate", ""))
    if plate and world.now().at(device) != plate:
        raise Fault(f"{plate} is not on the {device}")
    hot.target = float(a["Temperature"]) + ZERO
    if device == "heater":
        world.laboratory.stirring = float(a.get("Stirring", 0.0))
    began, highest = world.now().seconds, hot.kelvin
    while abs(hot.kelvin + hot.offset - hot.target) > 1.0 and not hot.runaway:
        await asyncio.sleep(_EVERY)
        if world.now().seconds - began > _PATIENCE:
            raise Fault(f"{device} does not reach {a['Temperature']} degC")
    reached = world.laboratory.seconds
    while (gone := world.now().seconds - reached) < duration:
        if hot.door:
            raise Fault(f"the door of {device} was opened", "interlock")
        highest = max(highest, hot.kelvin)
        progress(gone / duration)
        await asyncio.sleep(min(_EVERY, max((duration - gone) / world.speed, 0.001)))
    return {"Reached": round(max(highest, hot.kelvin) + hot.offset - ZERO, 2), "Ramp": round(reached - began, 1)}


async def _anneal(world: World, a: Mapping[str, Any], progress: Progress) -> dict[str, object]:
    return await _heat(world, a, progress, "furnace")


async def _measure(world: World, a: Mapping[str, Any], progress: Progress) -> dict[str, object]:
    world.now().need(a["Well"], "reader")
    await world.spend(SECONDS["Measure"], progress)
    return world.now().measure(a["Well"])


async def _standard(world: World, a: Mapping[str, Any], progress: Progress) -> dict[str, object]:
    await world.spend(SECONDS["MeasureStandard"], progress)
    return world.now().measure_standard()


async def _transfer(world: World, a: Mapping[str, Any], progress: Progress) -> dict[str, object]:
    await world.spend(SECONDS["Transfer"] * 0.5, progress, 0.0, 0.5)
    world.now().transfer(a["Plate"], a["From"], a["To"])
    await world.spend(SECONDS["Transfer"] * 0.5, progress, 0.5, 1.0)
    return {"Place": a["To"]}


_ACTS: Mapping[
    tuple[str, str], Callable[[World, Mapping[str, Any], Progress], Awaitable[dict[str, object]]]
] = {
    ("handler", "Dispense"): _dispense, ("handler", "Mix"): _mix, ("handler", "WashNeedle"): _wash,
    ("heater", "Heat"): _heat, ("furnace", "Anneal"): _anneal, ("spectrometer", "Measure"): _measure,
    ("spectrometer", "MeasureStandard"): _standard, ("mover", "Transfer"): _transfer,
}  # fmt: skip


class _Link:
    """One connection: a device's server, the starter, or somebody with the control."""

    def __init__(self, world: World, writer: asyncio.StreamWriter) -> None:
        self.world, self.writer = world, writer
        self.tasks: dict[int, asyncio.Task[None]] = {}

    def tell(self, **said: object) -> None:
        """Send one line, to whoever still listens."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.writer.write(json.dumps(said).encode() + b"\n")

    async def answer(self, line: dict[str, Any]) -> None:
        """Perform what a line asks for, and say what came of it."""
        number = line["id"]
        try:
            self.tell(id=number, result=await self._do(line))
        except Fault as fault:
            self.tell(id=number, fault=str(fault), cause=fault.cause)
        except asyncio.CancelledError:
            self.tell(id=number, cancelled=True)
        except (KeyError, ValueError, TypeError) as error:
            self.tell(id=number, error=f"{type(error).__name__}: {error}")
        finally:
            self.tasks.pop(number, None)

    async def _do(self, line: dict[str, Any]) -> object:
        world, number = self.world, line["id"]
        match line["do"]:
            case "perform":
                return await world.perform(
                    line["device"], line["operation"], line["arguments"],
                    lambda share: self.tell(id=number, progress=share),
                )  # fmt: skip
            case "cancel":
                if task := self.tasks.get(line["of"]):
                    task.cancel()
                return None
            case "stop":
                world.stop(line["device"])
                return None
            case "signals":
                return world.signals(line["device"])
            case "listen":
                world.faults.listeners[line["name"]] = self.tell
                return None
            case "fault":
                world.faults.arm(**line["fault"])
                return None
            case "clear":
                world.faults.clear(line.get("device"), line.get("fault"))
                return None
            case "executions":
                return world.laboratory.executions[int(line.get("after", 0)) :]
            case "state":
                return state(world)
            case other:
                raise ValueError(f"nobody can {other}")


def state(world: World) -> dict[str, object]:
    """The world for people and benchmarks: what is where, and how much."""
    lab = world.now()
    return {
        "seconds": lab.seconds, "speed": world.speed, "places": {p: lab.at(p) for p in PLACES}, "bottles": lab.bottles,
        "matter": lab.matter(), "counts": dict(lab.counts), "busy": sorted(world.busy), "crashed": lab.crashed,
        "faults": world.faults.armed(), "possible": {k: sorted(v) for k, v in FAULTS.items()},
        "wells": {
            f"{plate}/{well}": {
                "volume": round(float(lab.volume[i]), 3), "degC": round(float(lab.kelvin[i]) - ZERO, 2),
                **{name: float(lab.umol[i, n]) for n, name in enumerate(physics.SPECIES)},
            }
            for plate, well, i in lab.filled()
        },
    }  # fmt: skip


async def serve(world: World, port: int, token: str) -> None:
    """Serve at 127.0.0.1 until cancelled, to those who begin with the token."""
    kept: set[asyncio.Task[None]] = set()

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(world, writer)
        try:
            if not hmac.compare_digest((await reader.readline()).strip(), token.encode()):
                return
            while line := await reader.readline():
                said = json.loads(line)
                task = asyncio.create_task(link.answer(said))
                link.tasks[said["id"]] = task
                kept.add(task)
                task.add_done_callback(kept.discard)
        except (ConnectionError, ValueError, asyncio.CancelledError):
            # Cancelled is what asyncio.run does to us at the end; it would be reported as an error of its own.
            return
        finally:
            world.faults.forget(link.tell)
            writer.close()

    async with await asyncio.start_server(met, "127.0.0.1", port):
        await world.run()


def end_with_parent() -> None:
    """Have the kernel kill us when our parent ends, where it can: who stands still does not see its input end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


async def _main(port: int, speed: float, seed: int) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    token = (await reader.readline()).decode().strip()
    serving = asyncio.create_task(serve(World(Laboratory(seed), speed), port, token))
    alone = asyncio.create_task(reader.read())
    await asyncio.wait([serving, alone], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    serving.cancel()


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
