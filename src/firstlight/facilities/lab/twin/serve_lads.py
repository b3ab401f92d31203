"""Serve a device as a laboratory device of OPC 30500 (LADS) over OPC UA.

The address space has the browse names of LADS 1.0, made by hand: the official nodesets are not part of the client
library. What LADS has no place for is said beside it: the properties of one program template (LADS has those of a
whole functional unit), what its results will be, its effect; and the outcome of a run, in its result's properties.
"""

import asyncio
import contextlib
import datetime
import json
import math
import struct
import uuid
from collections.abc import Mapping
from typing import Any

from asyncua import Node, Server, ua
from asyncua.common.methods import uamethod

from firstlight.core import Argument, Operation, Scalar, Signal

from ._device import Device, Fault

DI, LADS, OWN = "http://opcfoundation.org/UA/DI/", "http://opcfoundation.org/UA/LADS/", "urn:firstlight:twin"

UNITS = {"degC": "°C", "kelvin": "K", "uL": "µL", "um": "µm", "ug": "µg", "percent": "%", "ohm": "Ω"}
"""As OPC UA displays units (UNECE recommendation 20), where ours differ."""

TYPES = {
    "number": ua.VariantType.Double, "integer": ua.VariantType.Int64, "string": ua.VariantType.String,
    "boolean": ua.VariantType.Boolean, "array": ua.VariantType.String, "object": ua.VariantType.ExtensionObject,
}  # fmt: skip


async def serve(device: Device, port: int, *, every: float = 0.02, outcome: bool = True) -> None:
    """Serve a device at 127.0.0.1 until cancelled; its signals are read `every` so many seconds.

    Without `outcome` a result says what LADS 1.0 has a place for, and no more: only the states tell how it ended.
    """
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_server_name(device.describe().name)
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    shell = _Shell(device, server, outcome)
    await shell.build()
    async with server:
        try:
            while True:
                await shell.refresh()
                await asyncio.sleep(every)
        finally:
            await shell.close()


class _Machine:
    """A state machine of LADS, and the one of its Running state."""

    def __init__(self, state: Node, running: Node) -> None:
        self.state, self.running, self.name = state, running, "Stopped"

    async def to(self, name: str, running: str = "Idle") -> None:
        self.name = name
        await self.running.write_value(ua.LocalizedText(running))
        await self.state.write_value(ua.LocalizedText(name))


class _Shell:
    """The address space of a device, and the one program that may run."""

    def __init__(self, device: Device, server: Server, outcome: bool) -> None:
        self.device, self.server, self.outcome = device, server, outcome
        self.description = device.describe()
        self.operations = {o.name: o for o in self.description.operations}
        self.sensors = dict[str, tuple[Node, ua.VariantType]]()
        self.last = dict[str, Scalar | None]()
        self.run: asyncio.Task[None] | None = None
        self.ending = "Stopped"
        self.later = set[asyncio.Task[None]]()

    async def build(self) -> None:
        """Make the address space."""
        add = self.server.register_namespace
        self.di, self.lads, self.own = await add(DI), await add(LADS), await add(OWN)
        self.key_value = await self._structure("KeyValueType", 3003, 5042)
        self.sample = await self._structure("SampleInfoType", 3002, 5045)
        objects = self.server.nodes.objects
        d = self.description
        device = await (await objects.add_object(self.di, "DeviceSet")).add_object(self.own, d.name)
        identity = await device.add_object(self.lads, "Identification")
        for name, value in (("Manufacturer", d.vendor), ("Model", d.model)):
            await identity.add_property(self.di, name, ua.LocalizedText(value))
        for name, value in (("SerialNumber", d.serial), ("SoftwareRevision", d.version)):
            await identity.add_property(self.di, name, value)
        units = await device.add_object(self.lads, "FunctionalUnitSet")
        unit = await units.add_object(self.own, d.name)
        functions = await unit.add_object(self.lads, "FunctionSet")
        for signal in d.signals:
            await self._sensor(functions, signal)
        await self._program_manager(unit)
        await self._state_machine(unit)

    async def _structure(self, name: str, number: int, encoding: int) -> ua.NodeId:
        structure = self.server.get_node(ua.ObjectIds.Structure)
        made = await structure.add_data_type(_id(number, self.lads), f"{self.lads}:{name}")
        binary = await made.add_object(_id(encoding, self.lads), "0:Default Binary")
        await made.add_reference(binary, ua.ObjectIds.HasEncoding)
        return made.nodeid

    async def _sensor(self, functions: Node, signal: Signal) -> None:
        function = await functions.add_object(self.own, signal.name)
        await function.add_property(self.lads, "IsEnabled", True)
        self.sensors[signal.name] = (await self._variable(function, "SensorValue", signal), TYPES[signal.type])

    async def _variable(self, parent: Node, name: str, said: Argument | Signal) -> Node:
        """An analog, discrete or text variable, with unit and range as OPC UA says them."""
        choices = said.choices if isinstance(said, Argument) and said.type == "string" else ()
        kind = ua.VariantType.UInt32 if choices else TYPES[said.type]
        if said.type == "object":
            made = await parent.add_variable(self.lads, name, None, kind, _id(ua.ObjectIds.Structure))
        elif said.type == "array":
            made = await parent.add_variable(self.lads, name, ua.Variant([], kind, is_array=True))
        else:
            empty = {"number": 0.0, "boolean": False, "string": ""}.get(said.type, 0)
            made = await parent.add_variable(self.lads, name, ua.Variant(0 if choices else empty, kind))
        if said.description:
            text = ua.DataValue(ua.Variant(ua.LocalizedText(said.description)))
            await made.write_attribute(ua.AttributeIds.Description, text)
        if choices:
            texts = [ua.LocalizedText(str(c)) for c in choices]
            await made.add_property(0, "EnumStrings", ua.Variant(texts, ua.VariantType.LocalizedText, is_array=True))
        if said.unit:
            shown = UNITS.get(said.unit, said.unit)
            unit = ua.EUInformation(NamespaceUri=OWN, DisplayName=ua.LocalizedText(shown))
            await made.add_property(0, "EngineeringUnits", unit)
        if said.low is not None or said.high is not None:
            low = -math.inf if said.low is None else said.low
            await made.add_property(0, "EURange", ua.Range(low, math.inf if said.high is None else said.high))
        return made

    async def _program_manager(self, unit: Node) -> None:
        manager = await unit.add_object(self.lads, "ProgramManager")
        templates = await manager.add_object(self.lads, "ProgramTemplateSet")
        for operation in self.operations.values():
            await self._template(await templates.add_object(self.own, operation.name), operation)
        active = await manager.add_object(self.lads, "ActiveProgram")
        self.active = {
            "DeviceProgramRunId": await active.add_variable(self.lads, "DeviceProgramRunId", ""),
            "CurrentRuntime": await active.add_variable(self.lads, "CurrentRuntime", 0.0),
            "EstimatedRuntime": await active.add_variable(self.lads, "EstimatedRuntime", 0.0),
            "CurrentStepName": await active.add_variable(self.lads, "CurrentStepName", ua.LocalizedText("")),
        }
        self.results = await manager.add_object(self.lads, "ResultSet")
        self.version = await self.results.add_property(self.lads, "NodeVersion", "0")

    async def _template(self, template: Node, operation: Operation) -> None:
        await template.add_property(self.lads, "DeviceTemplateId", operation.name)
        await template.add_property(self.lads, "Description", ua.LocalizedText(operation.description))
        await template.add_property(self.own, "Effect", operation.effect)
        if operation.seconds is not None:
            await template.add_property(self.own, "EstimatedRuntime", operation.seconds * 1000)
        properties = await template.add_object(self.lads, "SupportedPropertiesSet")
        for argument in operation.arguments:
            alias = await properties.add_object(self.own, argument.name)
            await self._variable(alias, argument.name, argument)
            if argument.default is not None:
                await alias.add_property(self.own, "DefaultValue", argument.default)
        outcome = await template.add_object(self.lads, "VariableSet")
        for result in operation.results:
            await self._variable(outcome, result.name, result)

    async def _state_machine(self, unit: Node) -> None:
        machine = await unit.add_object(self.lads, "FunctionalUnitState")
        state = await machine.add_variable(0, "CurrentState", ua.LocalizedText("Stopped"))
        below = await machine.add_object(self.lads, "RunningStateMachine")
        running = await below.add_variable(0, "CurrentState", ua.LocalizedText("Idle"))
        self.machine = _Machine(state, running)
        text = _id(ua.ObjectIds.String)
        takes = [
            _argument("ProgramTemplateId", text), _argument("Properties", self.key_value, 1),
            _argument("SupervisoryJobId", text), _argument("SupervisoryTaskId", text),
            _argument("Samples", self.sample, 1),
        ]  # fmt: skip
        await machine.add_method(
            self.lads, "StartProgram", uamethod(self._start), takes, [_argument("DeviceProgramRunId", text)]
        )
        for name, method in (("Stop", self._stop), ("Abort", self._abort), ("Clear", self._clear)):
            await machine.add_method(self.lads, name, uamethod(method), [], [])

    async def _start(self, _: Any, template: str, properties: Any, job: str, task: str, samples: Any) -> Any:
        if self.run is not None or self.machine.name not in ("Stopped", "Aborted"):
            return _bad(ua.StatusCodes.BadInvalidState)
        operation = self.operations.get(template)
        if operation is None:
            return _bad(ua.StatusCodes.BadNotFound)
        try:
            arguments = _arguments(operation, _pairs(properties))
        except ValueError:
            return _bad(ua.StatusCodes.BadInvalidArgument)
        run = f"{template}-{uuid.uuid4().hex[:12]}"
        result = await self._result(run, operation, properties, job, task)
        whole = 1000 * (operation.seconds or 1.0)
        await self.active["EstimatedRuntime"].write_value(whole)
        await self.active["CurrentRuntime"].write_value(0.0)
        await self.active["CurrentStepName"].write_value(ua.LocalizedText(template))
        await self.active["DeviceProgramRunId"].write_value(run)
        await self.machine.to("Running", "Execute")
        self.ending = ""
        self.run = asyncio.create_task(self._perform(operation, arguments, result, whole))
        return run

    async def _result(self, run: str, operation: Operation, properties: Any, job: str, task: str) -> Node:
        result = await self.results.add_object(self.lads, run)
        await result.add_property(self.lads, "DeviceProgramRunId", run)
        await result.add_property(self.lads, "SupervisoryJobId", job or "")
        await result.add_property(self.lads, "SupervisoryTaskId", task or "")
        await result.add_property(self.lads, "Started", datetime.datetime.now(datetime.UTC))
        never = ua.Variant(datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC), ua.VariantType.DateTime)
        await result.add_property(self.lads, "Stopped", never)
        given = ua.Variant(properties or [], ua.VariantType.ExtensionObject, is_array=True)
        await result.add_property(self.lads, "Properties", given, None, self.key_value)
        await result.add_object(self.lads, "VariableSet")
        return result

    async def _perform(self, operation: Operation, arguments: Mapping[str, object], result: Node, whole: float) -> None:
        """Perform an operation to its end, whatever that is, and write it down before the state tells of it."""

        def progress(part: float) -> None:
            self._soon(self.active["CurrentRuntime"].write_value(float(part) * whole))

        said = dict[str, str]()
        after = "Stopped"
        try:
            values = await self.device.perform(operation.name, arguments, progress)
            await self.machine.to("Running", "Completing")
            of = await result.get_child(f"{self.lads}:VariableSet")
            for r in operation.results:
                await of.add_variable(self.lads, r.name, _plain(values.get(r.name), r))
            said["Outcome"] = "Completed"
            await self.machine.to("Running", "Complete")
        except Fault as fault:
            said = {"Outcome": "Failed", "Cause": fault.cause, "Message": str(fault)}
            await self.machine.to("Aborting")
            after = "Aborted"
        except asyncio.CancelledError:
            said = {"Outcome": "Cancelled", "Message": f"it was {self.ending.lower() or 'stopped'}"}
            after = self.ending or "Stopped"
        await self._write_down(result, said if self.outcome else {})
        self.run = None
        if after != "Aborted" or self.ending != "Aborted":
            await self.machine.to(after)

    async def _write_down(self, result: Node, said: Mapping[str, str]) -> None:
        node = await result.get_child(f"{self.lads}:Properties")
        encoding = _id(5042, self.lads)
        given = list(await node.read_value() or [])
        given += [ua.ExtensionObject(TypeId=encoding, Body=ua.ByteString(_text(k) + _text(v))) for k, v in said.items()]
        await node.write_value(ua.Variant(given, ua.VariantType.ExtensionObject, is_array=True))
        now = ua.Variant(datetime.datetime.now(datetime.UTC), ua.VariantType.DateTime)
        await (await result.get_child(f"{self.lads}:Stopped")).write_value(now)
        version = int(await self.version.read_value()) + 1
        await self.version.write_value(str(version))

    async def _stop(self, _: Any) -> Any:
        if self.run is None:
            return _bad(ua.StatusCodes.BadInvalidState)
        self.ending = "Stopped"
        await self.machine.to("Stopping")
        self.run.cancel()
        return None

    async def _abort(self, _: Any) -> Any:
        self.ending = "Aborted"
        await self.machine.to("Aborting")
        self._soon(self._aborting(self.run))
        return None

    async def _aborting(self, run: asyncio.Task[None] | None) -> None:
        await self.device.stop()
        if run is not None:
            run.cancel()
            await asyncio.wait([run])
        await self.machine.to("Aborted")

    async def _clear(self, _: Any) -> Any:
        if self.machine.name != "Aborted":
            return _bad(ua.StatusCodes.BadInvalidState)
        await self.machine.to("Clearing")
        await self.machine.to("Stopped")
        return None

    def _soon(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.later.add(task)
        task.add_done_callback(self.later.discard)

    async def refresh(self) -> None:
        """Bring the sensors up to date, where they have changed."""
        for name, (node, kind) in self.sensors.items():
            value: Scalar | None
            try:
                value = await self.device.read(name)
            except Fault:
                value = None
            if name in self.last and value == self.last[name]:
                continue
            self.last[name] = value
            if value is None:
                code = _bad(ua.StatusCodes.BadSensorFailure)
                await node.write_value(ua.DataValue(ua.Variant(None, ua.VariantType.Null), StatusCode=code))
            else:
                await node.write_value(ua.Variant(_cast(value, kind), kind))

    async def close(self) -> None:
        """Stop what runs."""
        if self.run is not None:
            self.run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.run


def _id(number: int, namespace: int = 0) -> ua.NodeId:
    return ua.NodeId(ua.Int32(number), ua.Int16(namespace))


def _bad(code: int) -> ua.StatusCode:
    return ua.StatusCode(ua.UInt32(code))


def _argument(name: str, kind: ua.NodeId, rank: int = -1) -> ua.Argument:
    return ua.Argument(Name=name, DataType=kind, ValueRank=rank, ArrayDimensions=[0] if rank > 0 else [])


def _text(text: str) -> bytes:
    return struct.pack("<i", len(text.encode())) + text.encode()


def _pairs(properties: Any) -> dict[str, str]:
    """Keys and values of KeyValueType: two strings each."""
    found = dict[str, str]()
    for item in properties or ():
        rest, texts = item.Body or b"", list[str]()
        while len(rest) >= 4 and len(texts) < 2:
            length = max(0, struct.unpack_from("<i", rest)[0])
            texts.append(rest[4 : 4 + length].decode())
            rest = rest[4 + length :]
        if len(texts) != 2:
            raise ValueError("that is no KeyValueType")
        found[texts[0]] = texts[1]
    return found


def _arguments(operation: Operation, given: Mapping[str, str]) -> dict[str, object]:
    """Arguments of their types, from texts. Raises ValueError where one is missing, unknown or of another type."""
    known = {a.name: a for a in operation.arguments}
    if unknown := set(given) - set(known):
        raise ValueError(f"{operation.name} has no {', '.join(unknown)}")
    found = dict[str, object]()
    for name, argument in known.items():
        if name not in given and argument.default is None:
            raise ValueError(f"{name} is missing")
        found[name] = _typed(given[name], argument) if name in given else argument.default
    return found


def _typed(text: str, argument: Argument) -> object:
    match argument.type:
        case "number":
            return float(text)
        case "integer":
            return int(text)
        case "boolean":
            return text.lower() in ("true", "1")
        case "string":
            return text
        case "array" | "object":
            return json.loads(text)


def _cast(value: Any, kind: ua.VariantType) -> Any:
    match kind:
        case ua.VariantType.Double:
            return float(value)
        case ua.VariantType.Boolean:
            return bool(value)
        case ua.VariantType.Int64:
            return int(value)
    return str(value)


def _plain(value: Any, result: Argument) -> ua.Variant:
    """A result's value: numbers as they are, lists of numbers too, anything else as JSON."""
    if result.type == "array":
        items = list(value or ())
        if all(isinstance(v, int | float) for v in items):
            return ua.Variant([float(v) for v in items], ua.VariantType.Double, is_array=True)
        return ua.Variant([json.dumps(v) for v in items], ua.VariantType.String, is_array=True)
    if result.type == "object":
        return ua.Variant(json.dumps(value), ua.VariantType.String)
    kind = TYPES[result.type]
    return ua.Variant(_cast(value, kind), kind)
