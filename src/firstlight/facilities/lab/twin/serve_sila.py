"""A device of the twin laboratory as a SiLA 2 server, its feature made from its description."""

import asyncio
import contextlib
import functools
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from queue import Queue
from typing import Any, get_args
from xml.sax.saxutils import escape

import pint
from sila2.framework import DefinedExecutionError, Feature, UndefinedExecutionError
from sila2.server import FeatureImplementationBase, SilaServer

from ....core import Argument, Cause, InstrumentDescription, Signal
from ._device import Device, Fault

_TYPES = {"number": "Real", "integer": "Integer", "boolean": "Boolean", "string": "String"}
_SI = {
    "[length]": "Meter", "[mass]": "Kilogram", "[time]": "Second", "[current]": "Ampere",
    "[temperature]": "Kelvin", "[substance]": "Mole", "[luminosity]": "Candela",
}  # fmt: skip
_HEAD = (
    'xmlns="http://www.sila-standard.org" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:schemaLocation="http://www.sila-standard.org '
    'https://gitlab.com/SiLA2/sila_base/raw/master/schema/FeatureDefinition.xsd"'
)
_UUID = "[0-9a-f]{8}\\-[0-9a-f]{4}\\-[0-9a-f]{4}\\-[0-9a-f]{4}\\-[0-9a-f]{12}"
_EVERY = 0.05
"""Seconds between two looks at a signal, and so the age that a pushed value can have."""


def identifier(words: str) -> str:
    """Words as SiLA names things: InCamelCase, of letters and digits. Raises ValueError where there are none."""
    parts = re.findall(r"[A-Za-z0-9]+", words)
    made = "".join(part[0].upper() + part[1:] for part in parts)
    if not made or not made[0].isalpha():
        raise ValueError(f"{words!r} cannot be an identifier of SiLA: begin it with a letter")
    return made


def feature_of(description: InstrumentDescription) -> str:
    """A description as a feature's XML: operations as observable commands, signals as observable properties."""
    commands = []
    for operation in description.operations:
        takes = "".join(_element("Parameter", a) for a in operation.arguments)
        gives = "".join(_element("Response", a) for a in operation.results)
        errors = "".join(f"<Identifier>{identifier(cause)}</Identifier>" for cause in get_args(Cause))
        commands.append(
            f"<Command>{_named(operation.name, operation.description)}<Observable>Yes</Observable>{takes}{gives}"
            f"<DefinedExecutionErrors>{errors}</DefinedExecutionErrors></Command>"
        )
    properties = [
        f"<Property>{_named(s.name, s.description)}<Observable>Yes</Observable>{_data_type(s)}</Property>"
        for s in description.signals
    ]
    causes = [
        f"<DefinedExecutionError>{_named(cause, f'The operation failed: {cause}.')}</DefinedExecutionError>"
        for cause in get_args(Cause)
    ]
    return (
        f'<Feature SiLA2Version="1.0" FeatureVersion="1.0" Originator="org.firstlight" Category="twin" {_HEAD}>'
        f"{_named(description.model or description.name, description.description)}"
        f"{''.join(commands + properties + causes)}</Feature>"
    )


CANCEL_CONTROLLER = (
    '<Feature SiLA2Version="1.0" FeatureVersion="1.0" MaturityLevel="Verified" Originator="org.silastandard" '
    f'Category="core.commands" {_HEAD}>'
    "<Identifier>CancelController</Identifier><DisplayName>Cancel Controller</DisplayName>"
    "<Description>Ends commands that are being executed, for good.</Description>"
    "<Command><Identifier>CancelCommand</Identifier><DisplayName>Cancel Command</DisplayName>"
    "<Description>End one execution of an observable command.</Description><Observable>No</Observable>"
    "<Parameter><Identifier>CommandExecutionUUID</Identifier><DisplayName>Command Execution UUID</DisplayName>"
    "<Description>That of the execution.</Description>"
    "<DataType><DataTypeIdentifier>UUID</DataTypeIdentifier></DataType></Parameter>"
    "<DefinedExecutionErrors><Identifier>InvalidCommandExecutionUUID</Identifier>"
    "<Identifier>OperationNotSupported</Identifier></DefinedExecutionErrors></Command>"
    "<Command><Identifier>CancelAll</Identifier><DisplayName>Cancel All</DisplayName>"
    "<Description>End all executions, and come to a safe stop.</Description><Observable>No</Observable></Command>"
    "<DataTypeDefinition><Identifier>UUID</Identifier><DisplayName>UUID</DisplayName>"
    "<Description>A UUID of an execution.</Description><DataType><Constrained><DataType><Basic>String</Basic>"
    f"</DataType><Constraints><Length>36</Length><Pattern>{_UUID}</Pattern></Constraints></Constrained></DataType>"
    "</DataTypeDefinition>"
    "<DefinedExecutionError><Identifier>InvalidCommandExecutionUUID</Identifier>"
    "<DisplayName>Invalid Command Execution UUID</DisplayName>"
    "<Description>No command is being executed under it.</Description></DefinedExecutionError>"
    "<DefinedExecutionError><Identifier>OperationNotSupported</Identifier>"
    "<DisplayName>Operation Not Supported</DisplayName>"
    "<Description>It cannot be cancelled.</Description></DefinedExecutionError></Feature>"
)
"""The standard feature org.silastandard/core.commands/CancelController/v1: its interface, in our words."""


def _named(name: str, description: str) -> str:
    said = escape(description or name)
    return (
        f"<Identifier>{identifier(name)}</Identifier><DisplayName>{escape(name)}</DisplayName>"
        f"<Description>{said}</Description>"
    )


def _element(tag: str, argument: Argument) -> str:
    return f"<{tag}>{_named(argument.name, argument.description)}{_data_type(argument)}</{tag}>"


def _data_type(value: Argument | Signal) -> str:
    """The type with its constraints. A table has no type here, so it is not served (KeyError)."""
    if value.type == "array":
        items = value.schema.get("items", {}) if isinstance(value, Argument) else {}
        kind = _TYPES[str(items.get("type", "number"))] if isinstance(items, dict) else "Real"
        return f"<DataType><List><DataType><Basic>{kind}</Basic></DataType></List></DataType>"
    basic = f"<DataType><Basic>{_TYPES[value.type]}</Basic></DataType>"
    constraints = ""
    if isinstance(value, Argument):
        if value.choices:
            constraints += f"<Set>{''.join(f'<Value>{escape(str(c))}</Value>' for c in value.choices)}</Set>"
        constraints += f"<MaximalInclusive>{value.high!r}</MaximalInclusive>" if value.high is not None else ""
        constraints += f"<MinimalInclusive>{value.low!r}</MinimalInclusive>" if value.low is not None else ""
    constraints += _unit(value.unit) if value.unit else ""
    if not constraints:
        return basic
    return f"<DataType><Constrained>{basic}<Constraints>{constraints}</Constraints></Constrained></DataType>"


@functools.cache
def _units() -> "pint.UnitRegistry[Any]":
    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True)


def _unit(unit: str) -> str:
    """A unit as SiLA says it: what to multiply with and add to get to SI's base units."""
    try:
        zero, one = (_units().Quantity(x, unit).to_base_units() for x in (0.0, 1.0))
        parts = [(_SI[kind], int(float(str(power)))) for kind, power in one.dimensionality.items()]
        offset, factor = zero.magnitude, one.magnitude - zero.magnitude
    except (pint.UndefinedUnitError, KeyError):
        parts, offset, factor = [], 0.0, 1.0
    components = "".join(
        f"<UnitComponent><SIUnit>{name}</SIUnit><Exponent>{power}</Exponent></UnitComponent>"
        for name, power in parts or [("Dimensionless", 1)]
    )
    # xs:decimal knows no exponents.
    return (
        f"<Unit><Label>{escape(unit)}</Label><Factor>{factor:.15f}</Factor><Offset>{offset:.6f}</Offset>"
        f"{components}</Unit>"
    )


class _Bridge:
    """Between the threads of gRPC and the loop of the device: runs by their UUID."""

    def __init__(self, device: Device, feature: Feature, cancelling: Feature) -> None:
        self.device, self.feature, self.cancelling = device, feature, cancelling
        self.loop = asyncio.get_running_loop()
        self._tasks: dict[uuid.UUID, asyncio.Task[Any]] = {}

    def perform(self, operation: str, arguments: Mapping[str, object], instance: Any) -> dict[str, object]:
        """Called in a thread of its own, where it waits for the device."""
        return asyncio.run_coroutine_threadsafe(self._perform(operation, arguments, instance), self.loop).result()

    async def _perform(self, operation: str, arguments: Mapping[str, object], instance: Any) -> dict[str, object]:
        def progress(share: float) -> None:
            instance.progress = min(max(share, 0.0), 1.0)

        work = asyncio.ensure_future(self.device.perform(operation, arguments, progress))
        self._tasks[instance.execution_uuid] = work
        try:
            await asyncio.wait({work})
            if work.cancelled():
                raise self._error("cancelled", "the command was cancelled")
            return work.result()
        except Fault as fault:
            raise self._error(fault.cause, str(fault)) from fault
        finally:
            del self._tasks[instance.execution_uuid]

    def _error(self, cause: str, message: str) -> DefinedExecutionError:
        return DefinedExecutionError(self.feature.defined_execution_errors[identifier(cause)], message)

    def cancel(self, execution: str) -> None:
        """End one run."""
        asyncio.run_coroutine_threadsafe(self._cancel(execution), self.loop).result()

    async def _cancel(self, execution: str) -> None:
        work = self._tasks.get(uuid.UUID(execution))
        if work is None:
            unknown = self.cancelling.defined_execution_errors["InvalidCommandExecutionUUID"]
            raise DefinedExecutionError(unknown, f"nothing is being executed under {execution}")
        work.cancel()

    def stop(self) -> None:
        """End all runs and bring the device to its safe stop; back when it is there."""
        asyncio.run_coroutine_threadsafe(self.rest(), self.loop).result()

    async def rest(self) -> None:
        """End all runs and stop, in the loop."""
        for work in self._tasks.values():
            work.cancel()
        await self.device.stop()


def _implementation(server: SilaServer, bridge: _Bridge, description: InstrumentDescription) -> Any:
    """What sila2 calls for each command and property."""
    made = FeatureImplementationBase(server)

    def command(operation: Any) -> Callable[..., Any]:
        given = [identifier(a.name) for a in operation.results]
        names = [a.name for a in operation.arguments]

        def run(*values: Any, metadata: Any, instance: Any) -> Any:
            instance.begin_execution()
            if operation.seconds is not None:
                instance.estimated_remaining_time = timedelta(seconds=operation.seconds)
            results = bridge.perform(operation.name, dict(zip(names, values, strict=True)), instance)
            answer = {identifier(name): value for name, value in results.items()}
            values = tuple(_cast(a, answer[name]) for a, name in zip(operation.results, given, strict=True))
            return values[0] if len(values) == 1 else values

        return run

    for operation in description.operations:
        setattr(made, identifier(operation.name), command(operation))
    for signal in description.signals:
        setattr(made, f"_{identifier(signal.name)}_producer_queue", Queue())
        setattr(made, f"{identifier(signal.name)}_on_subscription", lambda *, metadata: None)
    return made


def _cast(value: Argument | Signal, given: Any) -> Any:
    match value.type:
        case "number":
            return float(given)
        case "integer":
            return int(given)
        case "boolean":
            return bool(given)
        case _:
            return given


async def _publish(device: Device, signal: Signal, queue: "Queue[Any]") -> None:
    last: object = None
    while True:
        try:
            value = _cast(signal, await device.read(signal.name))
        except Fault as fault:
            value = str(fault)
            if last != (value,):
                queue.put(UndefinedExecutionError(value))  # whoever listens is told so, and not the last value
            last = (value,)
        else:
            if last is None or last != value:
                queue.put(value)
            last = value
        await asyncio.sleep(_EVERY)


async def serve(
    device: Device, port: int, *, certificate: bytes | None = None, key: bytes | None = None, announce: bool = False
) -> None:
    """Serve a device at 127.0.0.1 until cancelled, encrypted where a certificate and its key (PEM) are given.

    `announce` makes it known by multicast DNS. Its UUID follows from the device's name, so it outlasts a restart.
    """
    description = device.describe()
    feature, cancelling = Feature(feature_of(description)), Feature(CANCEL_CONTROLLER)
    bridge = _Bridge(device, feature, cancelling)
    version = description.version if re.fullmatch(r"\d+\.\d+(\.\d+)?", description.version) else "1.0"
    server = SilaServer(
        server_name=description.name, server_type=identifier(description.model or description.name),
        server_description=description.description or description.name, server_version=version,
        server_vendor_url="https://localhost", server_uuid=uuid.uuid5(uuid.NAMESPACE_DNS, f"{description.name}.twin"),
    )  # fmt: skip
    controller: Any = FeatureImplementationBase(server)
    controller.CancelCommand = lambda execution, *, metadata: bridge.cancel(execution)
    controller.CancelAll = lambda *, metadata: bridge.stop()
    implementation = _implementation(server, bridge, description)
    server.set_feature_implementation(feature, implementation)
    server.set_feature_implementation(cancelling, controller)
    # In a thread, as its multicast DNS would take our loop for its own and then wait for itself.
    if certificate is None:
        await asyncio.to_thread(server.start_insecure, "127.0.0.1", port, enable_discovery=announce)
    else:
        await asyncio.to_thread(server.start, "127.0.0.1", port, key, certificate, enable_discovery=announce)
    try:
        async with asyncio.TaskGroup() as group:
            for signal in description.signals:
                queue = getattr(implementation, f"_{identifier(signal.name)}_producer_queue")
                group.create_task(_publish(device, signal, queue))
            await asyncio.Event().wait()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await bridge.rest()
        # It waits for its threads, so it may not be waited for in the loop that they wait for.
        await asyncio.to_thread(server.stop, 0.2)
