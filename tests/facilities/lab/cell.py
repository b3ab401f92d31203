"""A laboratory on paper: instruments in this process that do what a test tells them to."""

import asyncio
import copy
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from firstlight import core
from firstlight.facilities.lab.facility import LabFacility
from firstlight.units import PintUnits, split_quantity

CELL: dict[str, Any] = {
    "name": "cell",
    "instruments": {
        "handler": {
            "protocol": "paper",
            "operations": {
                "Dispense": {"effect": "consuming", "draws": [{"from": "Reagent", "to": "Well", "amount": "Volume"}]}
            },
        },
        "heater": {
            "protocol": "paper",
            "operations": {"Heat": {"effect": "reversible", "labware": ["Plate"], "at": "block"}},
        },
        "mover": {
            "protocol": "paper",
            "operations": {
                "Transfer": {
                    "effect": "reversible", "moves": {"what": "Plate", "from": "From", "to": "To"}
                }
            },
        },
        "reader": {
            "protocol": "paper",
            "operations": {
                "Measure": {"effect": "read", "samples": ["Well"], "at": "reader", "observe": {"Signal": "yield"}}
            },
        },
    },
    "places": {"deck": 2, "block": 1, "reader": 1, "hotel": 4},
    "labware": {"plate-1": {"wells": 8, "columns": 4, "place": "deck"},
                "plate-2": {"wells": 8, "columns": 4, "place": "deck"}},
    "materials": {"acid": {"amount": "5 mL", "reserve": "0.1 mL"}, "base": {"amount": "5 mL"}},
    "interlocks": [{"instrument": "heater", "signal": "Temperature", "high": 150.0, "unit": "degC", "blind": 1.0},
                   {"instrument": "heater", "signal": "Door", "equals": 0, "message": "the door of heater is open"}],
}  # fmt: skip

UNITS = PintUnits()
OPERATIONS: dict[str, tuple[core.Operation, ...]] = {
    "handler": (
        core.Operation(
            name="Dispense", seconds=0.02,
            arguments=(
                core.Argument(name="Reagent", type="string"), core.Argument(name="Well", type="string"),
                core.Argument(name="Volume", unit="uL", low=1.0, high=1000.0),
                core.Argument(name="Speed", type="string", choices=("slow", "fast"), default="slow"),
                core.Argument(name="Times", type="integer", low=1, high=9, default=1),
            ),
            results=(core.Argument(name="Delivered", unit="uL"),),
        ),
    ),
    "heater": (
        core.Operation(
            name="Heat", seconds=0.05,
            arguments=(
                core.Argument(name="Plate", type="string"),
                core.Argument(name="Temperature", unit="degC", low=20.0, high=140.0),
                core.Argument(name="Duration", unit="s", low=0.0, high=3600.0),
            ),
            results=(core.Argument(name="Reached", unit="degC"),),
        ),
    ),
    "mover": (
        core.Operation(
            name="Transfer", seconds=0.02,
            arguments=(
                core.Argument(name="Plate", type="string"),
                core.Argument(name="From", type="string", choices=("deck", "block", "reader", "hotel")),
                core.Argument(name="To", type="string"),
            ),
        ),
    ),
    "reader": (
        core.Operation(
            name="Measure", seconds=0.02,
            arguments=(core.Argument(name="Well", type="string"),
                       core.Argument(name="Reference", default=1.0)),
            results=(core.Argument(name="Signal"), core.Argument(name="Spectrum", type="array")),
        ),
    ),
}  # fmt: skip
SIGNALS = {
    "heater": (core.Signal(name="Temperature", unit="degC"), core.Signal(name="Door", type="integer")),
}


class Rig:
    """An instrument, and whatever may go wrong with it. It outlives the facility, as a real one does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.performed = Counter[str]()
        self.sent: list[tuple[str, str, dict[str, object]]] = []
        self.runs: dict[str, core.Run] = {}
        self.stops = 0
        self.at_once, self.most_at_once = 0, 0
        self.lose_reply = 0
        """Replies to be lost of the next starts that arrive."""
        self.unreachable = False
        self.hangs = 0
        self.deaf = False
        """Whether it does not heed being asked to end a run."""
        self.faults = 0
        self.seconds: float | None = None
        self.values: dict[str, core.Scalar | None] = {"Temperature": 25.0, "Door": 0}
        self.changed = asyncio.Event()
        self.at = dict[str, tuple[float, float]]()

    async def describe(self) -> core.InstrumentDescription:
        if self.unreachable:
            raise core.Unavailable(f"{self.name} is switched off")
        return core.InstrumentDescription(
            name=self.name, protocol="paper", operations=OPERATIONS[self.name], signals=SIGNALS.get(self.name, ())
        )

    async def start(self, permit: core.Permit) -> str:
        action = permit.action
        if self.unreachable:
            raise core.Unavailable(f"{self.name} is switched off")
        self.sent.append((action.id, action.operation, dict(action.settings)))
        if action.id in self.runs:
            raise core.NotStarted(f"{action.id} was started before")
        self.runs[action.id] = core.Run(state="running", progress=0.0, started=time.time())
        asyncio.get_running_loop().create_task(self._perform(action))
        if self.lose_reply > 0:
            self.lose_reply -= 1
            raise core.InDoubt("the reply was lost")
        return action.id

    async def _perform(self, action: core.Action) -> None:
        operation = next(o for o in OPERATIONS[self.name] if o.name == action.operation)
        self.performed[f"{action.operation} {sorted(action.settings.items())}"] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        begun = time.monotonic()
        try:
            if self.hangs > 0:
                self.hangs -= 1
                return
            await asyncio.sleep(operation.seconds if self.seconds is None else self.seconds or 0.0)  # type: ignore[arg-type]
        finally:
            self.at_once -= 1
            self.at[action.id] = (begun, time.monotonic())
        if self.runs[action.id].state != "running":
            return
        if self.faults > 0:
            self.faults -= 1
            self.end(action.id, core.Run(state="failed", message="the needle is clogged", ended=time.time()))
            return
        results: dict[str, object] = {
            "Delivered": action.settings.get("Volume", 0.0), "Reached": action.settings.get("Temperature", 0.0),
            "Signal": 0.5, "Spectrum": [0.1, 0.2],
        }  # fmt: skip
        mine = {r.name: results[r.name] for r in operation.results}
        self.end(action.id, core.Run(state="succeeded", progress=1.0, results=mine, ended=time.time()))

    def end(self, id: str, run: core.Run) -> None:
        self.runs[id] = run
        self.notify()

    def notify(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def reattach(self, action: str, handle: str) -> str | None:
        if self.unreachable:
            raise core.Unavailable("switched off")
        if handle or action in self.runs:
            return handle or action
        return None

    async def status(self, handle: str) -> core.Run:
        return self.runs.get(handle, core.Run(state="unknown", message="it was restarted"))

    async def follow(self, handle: str) -> AsyncIterator[core.Run]:
        while True:
            changed, run = self.changed, await self.status(handle)
            yield run
            if run.state in core.ENDED:
                return
            await changed.wait()

    async def watch(self, signals: Sequence[str]) -> AsyncIterator[core.Reading]:
        seen: dict[str, object] = {}
        while True:
            changed = self.changed
            for signal in signals:
                value = None if self.unreachable else self.values[signal]
                if signal not in seen or seen[signal] != value:
                    seen[signal] = value
                    yield core.Reading(signal=signal, value=value, at=time.time())
            await changed.wait()

    def set(self, signal: str, value: core.Scalar | None) -> None:
        self.values[signal] = value
        self.notify()

    async def cancel(self, handle: str) -> None:
        if self.runs[handle].state == "running" and not self.deaf:
            self.end(handle, core.Run(state="cancelled", ended=time.time()))

    async def safe_stop(self) -> None:
        self.stops += 1
        for id, run in list(self.runs.items()):
            if run.state == "running":
                self.end(id, core.Run(state="cancelled", message="safe stop", ended=time.time()))

    async def close(self) -> None:
        pass


class Cell:
    """The laboratory: instruments that stay, and facilities that come and go as processes do."""

    def __init__(self, root: Path, change: Callable[[dict[str, Any]], None] = lambda layout: None) -> None:
        layout = copy.deepcopy(CELL)
        change(layout)
        self.root = root
        self.file = root / "lab.yaml"
        self.file.write_text(yaml.safe_dump(layout, sort_keys=False))
        self.rigs = {name: Rig(name) for name in layout["instruments"]}

    def facility(self) -> LabFacility:
        return LabFacility(
            self.root / "facility", file=self.file, quantity=split_quantity, convert=UNITS.convert,
            instruments=self.rigs,
        )  # fmt: skip


def forgetful(cell: Cell, name: str) -> None:
    """The instrument forgets: it was switched off and on again."""
    rig = cell.rigs[name]

    async def reattach(action: str, handle: str) -> str | None:
        if action in rig.performed or action in rig.runs:
            raise core.InDoubt(f"{name} was restarted")
        return None

    rig.reattach = reattach  # type: ignore[method-assign]


def permit(id: str, operation: str, after: Sequence[str] = (), **settings: Any) -> core.Permit:
    """Leave to perform one action, as a recipe would make it."""
    trial, _, name = id.rpartition(".")
    action = core.Action(
        id=id, trial=trial, facility="cell", name=name, operation=operation, point={}, settings=dict(settings),
        after=tuple(after), repeatable=False,
    )  # fmt: skip
    return core.Permit(action=action, policies=("test@1",))


def chain(trial: str, volume: str = "100 uL", temperature: float = 80.0) -> list[core.Permit]:
    """What a trial of the cell consists of: dispense, bring to the block, heat, bring to the reader, measure."""

    def id(name: str) -> str:
        return f"{trial}.{name}"

    return [
        permit(id("dispense"), "handler.Dispense", Reagent="acid", Well=trial, Volume=volume),
        permit(id("to-block"), "mover.Transfer", [id("dispense")], Plate=trial, To="block"),
        permit(id("heat"), "heater.Heat", [id("to-block")], Plate=trial, Temperature=temperature, Duration="1 s"),
        permit(id("to-reader"), "mover.Transfer", [id("heat")], Plate=trial, To="reader"),
        permit(id("measure"), "reader.Measure", [id("to-reader")], Well=trial, Reference="{dispense.Delivered}"),
        permit(id("away"), "mover.Transfer", [id("measure")], Plate=trial, To="hotel"),
    ]  # fmt: skip


async def perform(facility: LabFacility, permits: Sequence[core.Permit]) -> list[core.Outcome]:
    """One trial as the engine performs it: told before, each action once those before it have succeeded."""
    trial = permits[0].action.trial
    await facility.expect(trial, [p.action for p in permits])
    outcomes: list[core.Outcome] = []
    for one in permits:
        job = await facility.submit(one)
        outcomes.append(await facility.outcome(job))
        if isinstance(outcomes[-1], core.Failure):
            break
    performed = [p.action.id for p, o in zip(permits, outcomes, strict=False) if isinstance(o, core.Measured)]
    await facility.ended(trial, performed)
    return outcomes
