"""A device of the twin laboratory as a SECoP node of one module, made from its description.

Operations are commands `_Name` whose argument is a struct, with an optional member `_id`: the id under which the run is
remembered, and performed only once. They answer at once; `_run` tells how the run that changed last has come, `_find`
gives any run by its id, `_cancel` ends one, and `stop` all. The module is busy while anything runs.
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any, get_args

from ....core import Argument, InstrumentDescription, RunState, Scalar
from ._device import Device, Fault

_EVERY = 0.02
"""Seconds between two looks at a signal, and so the age that a pushed value can have."""
_STRING = {"type": "string"}
_RUN = {
    "type": "struct",
    "members": {
        "id": _STRING, "operation": _STRING, "state": _STRING,
        "progress": {"type": "double", "min": 0, "max": 1}, "message": _STRING, "results": _STRING, "cause": _STRING,
        "started": {"type": "double", "unit": "s"}, "ended": {"type": "double", "unit": "s"},
    },
}  # fmt: skip
_NO_RUN: dict[str, Any] = {
    "id": "", "operation": "", "state": "queued", "progress": 0.0, "message": "", "results": "{}", "cause": "",
    "started": 0.0, "ended": 0.0,
}  # fmt: skip


class Wrong(Exception):
    """What the client gets as an error report of class `kind`."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def datainfo(argument: Argument) -> dict[str, Any]:
    """An argument as a SECoP data type. Raises ValueError for what has none."""
    bounds = {k: v for k, v in (("min", argument.low), ("max", argument.high)) if v is not None}
    unit = {"unit": argument.unit} if argument.unit else {}
    if argument.type == "string" and argument.choices:
        return {"type": "enum", "members": {str(choice): n for n, choice in enumerate(argument.choices)}}
    match argument.type:
        case "number":
            return {"type": "double", **bounds, **unit}
        case "integer":
            return {"type": "int", "min": -(2**31), "max": 2**31} | {k: int(v) for k, v in bounds.items()} | unit
        case "boolean":
            return {"type": "bool"}
        case "string":
            return {"type": "string", "isUTF8": True}
        case "array":
            items = argument.schema.get("items", {"type": "number"})
            kind: Any = items.get("type", "number") if isinstance(items, dict) else "number"
            return {"type": "array", "maxlen": 2**16, "members": datainfo(Argument(name="", type=kind))}
        case "object":
            members = argument.schema.get("properties")
            if not isinstance(members, dict) or not members:
                raise ValueError(f"{argument.name}: an object needs properties to be a struct of SECoP")
            made = {name: datainfo(Argument(name="", type=m.get("type", "number"))) for name, m in members.items()}
            return {"type": "struct", "members": made, "optional": []}


def structure(description: InstrumentDescription) -> dict[str, Any]:
    """The structure report of a node with this one module."""
    found: dict[str, Any] = {
        "status": _parameter("state", {"type": "tuple", "members": [
            {"type": "enum", "members": {"IDLE": 100, "BUSY": 300, "ERROR": 400}}, _STRING]}),
        "stop": {"description": "Come to a safe stop.", "datainfo": {"type": "command"}},
        "_run": _parameter("the run that changed last", _RUN),
        "_find": _private("a run by its id", _STRING, _RUN),
        "_cancel": _private("end a run by its id", _STRING, None),
    }  # fmt: skip
    for operation in description.operations:
        members = {a.name: datainfo(a) for a in operation.arguments}
        optional = [a.name for a in operation.arguments if a.default is not None]
        said: dict[str, Any] = {
            "description": operation.description,
            "datainfo": {"type": "command", "argument": {
                "type": "struct", "members": members | {"_id": _STRING}, "optional": [*optional, "_id"]}},
            "_effect": operation.effect,
            "_defaults": {a.name: a.default for a in operation.arguments if a.default is not None},
        }  # fmt: skip
        if operation.results:
            said["_results"] = {"type": "struct", "members": {r.name: datainfo(r) for r in operation.results}}
        if operation.seconds is not None:
            said["_seconds"] = operation.seconds
        found[f"_{operation.name}"] = said
    for s in description.signals:
        told = Argument(name=s.name, type=s.type, unit=s.unit, low=s.low, high=s.high)
        found[f"_{s.name}"] = _parameter(s.description, datainfo(told))
    module = {
        "accessibles": found, "interface_classes": [], "features": [], "description": description.description,
        "implementor": description.vendor, "implementation": description.model, "_slots": description.slots,
    }  # fmt: skip
    return {
        "equipment_id": description.serial or description.name, "firmware": description.version,
        "description": description.description or description.name, "modules": {description.name: module},
    }  # fmt: skip


def _parameter(description: str, datainfo: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "datainfo": dict(datainfo), "readonly": True}


def _private(description: str, takes: Mapping[str, Any], gives: Mapping[str, Any] | None) -> dict[str, Any]:
    made = {"type": "command", "argument": dict(takes)} | ({"result": dict(gives)} if gives else {})
    return {"description": description, "datainfo": made, "_private": True}


class Node:
    """The device, its runs, and those who listen."""

    def __init__(self, device: Device) -> None:
        self.device, self.description = device, device.describe()
        self.structure, self.module = structure(self.description), self.description.name
        self.listeners = set[asyncio.StreamWriter]()
        self.values = dict[str, Any]()
        self.runs, self.tasks, self.last = dict[str, dict[str, Any]](), dict[str, asyncio.Task[None]](), _NO_RUN

    async def look(self) -> None:
        """Tell changes of signals, for ever."""
        while True:
            if self.listeners:
                for signal in self.description.signals:
                    await self.signal(signal.name)
            await asyncio.sleep(_EVERY)

    async def signal(self, name: str) -> Any:
        """A signal as it is now; a change is told."""
        kind = self.structure["modules"][self.module]["accessibles"][f"_{name}"]["datainfo"]
        value = _wire(kind, await self.device.read(name))
        self.tell(f"_{name}", value)
        return value

    def tell(self, name: str, value: Any, always: bool = False) -> None:
        """A value to all who listen, if it is another one."""
        if not always and name in self.values and self.values[name] == value:
            return
        self.values[name] = value
        line = f"update {self.module}:{name} {_report(value)}\n".encode()
        for writer in self.listeners:
            writer.write(line)

    def status(self) -> list[Any]:
        return [300, "busy"] if self.tasks else [100, ""]

    def moved(self, id: str, **what: Any) -> None:
        """A run has come further."""
        self.runs[id] = self.last = self.runs[id] | what
        self.tell("_run", self.last, True)
        self.tell("status", self.status())

    def start(self, name: str, given: Any) -> None:
        operation = self.description.operation(name)
        if operation is None:
            raise Wrong("NoSuchCommand", name)
        if not isinstance(given, dict):
            raise Wrong("WrongType", f"{name} takes a struct")
        id = str(given.get("_id") or uuid.uuid4())
        if id in self.runs:
            return
        takes = self.structure["modules"][self.module]["accessibles"][f"_{name}"]["datainfo"]["argument"]["members"]
        if unknown := given.keys() - takes.keys():
            raise Wrong("WrongType", f"{name} has no {', '.join(sorted(unknown))}")
        settings = dict[str, object]()
        for a in operation.arguments:
            value = given.get(a.name)
            if value is None and a.default is None:
                raise Wrong("WrongType", f"{a.name} is missing")
            settings[a.name] = a.default if value is None else _ours(a.name, takes[a.name], value)
        if len(self.tasks) >= self.description.slots:
            raise Wrong("IsBusy", f"{self.module} is busy")
        self.runs[id] = _NO_RUN | {"id": id, "operation": f"_{name}", "state": "running", "started": time.time()}
        self.tasks[id] = asyncio.create_task(self.perform(id, name, settings))
        self.moved(id)

    async def perform(self, id: str, name: str, settings: Mapping[str, object]) -> None:
        def progress(done: float) -> None:
            self.moved(id, progress=done)

        try:
            results = await self.device.perform(name, settings, progress)
        except Fault as fault:
            self._over(id, "failed", message=str(fault), cause=fault.cause)
        except asyncio.CancelledError:
            self._over(id, "cancelled")
            raise
        else:
            self._over(id, "succeeded", results=json.dumps(results), progress=1.0)

    def _over(self, id: str, state: RunState, **what: Any) -> None:
        assert state in get_args(RunState)
        self.tasks.pop(id, None)
        self.moved(id, state=state, ended=time.time(), **what)

    async def cancel(self, *ids: str) -> None:
        tasks = [(id, self.tasks[id]) for id in ids if id in self.tasks]
        for _, task in tasks:
            task.cancel()
        await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
        for id, _ in tasks:
            if id in self.tasks:
                # It was cancelled before it had taken its first step.
                self._over(id, "cancelled")

    async def value(self, name: str) -> Any:
        if name == "status":
            return self.status()
        if name == "_run":
            return self.last
        if any(f"_{s.name}" == name for s in self.description.signals):
            return await self.signal(name[1:])
        raise Wrong("NoSuchParameter", name)

    async def do(self, name: str, given: Any) -> Any:
        match name:
            case "stop":
                await self.cancel(*self.tasks)
                await self.device.stop()
            case "_cancel":
                await self.cancel(str(given))
            case "_find":
                if str(given) not in self.runs:
                    raise Wrong("Impossible", f"there is no run {given}")
                return self.runs[str(given)]
            case _:
                self.start(name.removeprefix("_"), given)
        return None

    async def answer(self, line: str, writer: asyncio.StreamWriter) -> str:
        verb, _, rest = line.partition(" ")
        what, _, text = rest.partition(" ")
        module, _, name = what.partition(":")
        try:
            data = json.loads(text) if text and verb != "ping" else None
        except ValueError:
            raise Wrong("BadJSON", text) from None
        if verb in ("read", "change", "do") and module != self.module:
            raise Wrong("NoSuchModule", module)
        match verb:
            case "*IDN?":
                return "ISSE,SECoP,V2019-09-16,v1.0"
            case "describe":
                return f"describing . {json.dumps(self.structure)}"
            case "activate":
                self.listeners.add(writer)
                names = ["status", "_run", *(f"_{s.name}" for s in self.description.signals)]
                told = [f"update {self.module}:{n} {_report(await self.value(n))}\n" for n in names]
                return "".join(told) + "active"
            case "deactivate":
                self.listeners.discard(writer)
                return "inactive"
            case "ping":
                return f"pong {what} {_report(None)}"
            case "read":
                return f"reply {what} {_report(await self.value(name))}"
            case "do":
                return f"done {what} {_report(await self.do(name, data))}"
            case "change":
                raise Wrong("ReadOnly", what)
        raise Wrong("ProtocolError", f"there is no {verb}")

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """All requests of one client, one after the other."""
        try:
            while raw := await reader.readline():
                line = raw.decode(errors="replace").strip()
                verb, _, rest = line.partition(" ")
                try:
                    said = await self.answer(line, writer)
                except Wrong as wrong:
                    said = f"error_{verb} {rest.partition(' ')[0] or '.'} {json.dumps([wrong.kind, str(wrong), {}])}"
                writer.write(said.encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            # A client that goes leaves its runs behind.
            pass
        finally:
            self.listeners.discard(writer)
            writer.close()


async def serve(device: Device, port: int) -> None:
    """Serve a device on this port of the loopback interface until cancelled."""
    node = Node(device)
    server = await asyncio.start_server(node.talk, "127.0.0.1", port, limit=2**24)
    look = asyncio.create_task(node.look())
    try:
        async with server:
            await server.serve_forever()
    finally:
        look.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await look
        await node.cancel(*node.tasks)


def _report(value: Any) -> str:
    return json.dumps([value, {"t": time.time()}])


def _wire(kind: Mapping[str, Any], value: Scalar) -> Any:
    match kind["type"]:
        case "bool":
            return bool(value)
        case "enum":
            return kind["members"][str(value)]
        case "double":
            return float(value)
    return value


def _ours(name: str, kind: Mapping[str, Any], value: Any) -> object:
    """A value that came, as the device takes it. Only its type is looked at, as most nodes do."""
    wanted: dict[str, tuple[type, ...]] = {
        "double": (int, float), "int": (int,), "bool": (bool,), "string": (str,), "array": (list,), "struct": (dict,),
    }  # fmt: skip
    if kind["type"] == "enum":
        for text, number in kind["members"].items():
            if value in (number, text) and not isinstance(value, bool):
                return str(text)
        raise Wrong("RangeError", f"{name}: {value!r} is none of {', '.join(kind['members'])}")
    if not isinstance(value, wanted[kind["type"]]) or (isinstance(value, bool) and kind["type"] != "bool"):
        raise Wrong("WrongType", f"{name}: {value!r} is no {kind['type']}")
    return value
