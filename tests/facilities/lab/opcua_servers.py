"""Servers for the tests of OPC UA, each in a process of its own: `opcua_servers.py WHAT PORT`."""

import asyncio
import datetime
import sys
from pathlib import Path
from typing import Any

from asyncua import Node, Server, ua
from asyncua.common.methods import uamethod
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager

from firstlight.facilities.lab.twin.serve_lads import serve

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.facilities.lab.devices import Hob


class Slow(Hob):
    """One that takes its time to come to rest."""

    async def stop(self) -> None:
        await asyncio.sleep(0.2)
        await super().stop()


async def lads(port: int) -> None:
    """A LADS unit that behaves as its programs are called, and writes its results two steps after its states."""
    server = await made(port)
    await server.register_namespace("urn:test")
    unit = await (await (await server.nodes.objects.add_object(2, "DeviceSet")).add_object(2, "Odd")).add_object(
        2, "FunctionalUnitSet"
    )
    await Odd(server, await unit.add_object(2, "Unit")).build()
    async with server:
        await asyncio.Event().wait()


class Odd:
    """Its programs are named after what is odd about them; each counts how often it has begun."""

    PROGRAMS = ("Late", "Never", "Hidden", "Torn", "Vanish", "Undated")

    def __init__(self, server: Server, unit: Node) -> None:
        self.server, self.unit = server, unit
        self.later = set[asyncio.Task[None]]()

    async def build(self) -> None:
        manager = await self.unit.add_object(2, "ProgramManager")
        templates = await manager.add_object(2, "ProgramTemplateSet")
        for name in self.PROGRAMS:
            await templates.add_object(2, name)
        active = await manager.add_object(2, "ActiveProgram")
        self.active = await active.add_variable(2, "DeviceProgramRunId", "")
        self.results = await manager.add_object(2, "ResultSet")
        functions = await self.unit.add_object(2, "FunctionSet")
        begun = await functions.add_object(2, "Begun")
        self.begun = await begun.add_variable(2, "SensorValue", 0.0)
        machine = await self.unit.add_object(2, "FunctionalUnitState")
        self.state = await machine.add_variable(0, "CurrentState", ua.LocalizedText("Stopped"))
        text = ua.NodeId(ua.Int32(ua.ObjectIds.String))
        names = ("ProgramTemplateId", "SupervisoryJobId", "SupervisoryTaskId")
        takes = [ua.Argument(Name=name, DataType=text) for name in names]
        given = [ua.Argument(Name="DeviceProgramRunId", DataType=text)]
        await machine.add_method(2, "StartProgram", uamethod(self.start), takes, given)
        await machine.add_method(2, "Abort", uamethod(self.abort), [], [])

    async def start(self, parent: ua.NodeId, program: str, job: str, task: str) -> Any:
        await self.begun.write_value(await self.begun.read_value() + 1.0)
        run = f"run-{task}"
        await self.active.write_value(run)
        await self.state.write_value(ua.LocalizedText("Running"))
        work = asyncio.create_task(self.perform(program, run, task))
        self.later.add(work)
        work.add_done_callback(self.later.discard)
        # What it answers comes from the middle of its start.
        return ua.StatusCode(ua.UInt32(ua.StatusCodes.BadInternalError)) if program in ("Hidden", "Torn") else run

    async def perform(self, program: str, run: str, task: str) -> None:
        if program == "Hidden":
            await asyncio.sleep(60.0)
        result = await self.results.add_object(2, run)
        await result.add_property(2, "DeviceProgramRunId", run)
        await result.add_property(2, "SupervisoryTaskId", task)
        await result.add_property(2, "Started", datetime.datetime.now(datetime.UTC))
        never = ua.Variant(datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC), ua.VariantType.DateTime)
        if program != "Undated":
            stopped = await result.add_property(2, "Stopped", never)
        await asyncio.sleep(3.0)
        await self.state.write_value(ua.LocalizedText("Stopped"))
        if program == "Vanish":
            await self.active.write_value("")
        await asyncio.sleep(0.5)
        if program == "Late":
            values = await result.add_object(2, "VariableSet")
            await values.add_variable(2, "Volume", 4.5)
            now = ua.Variant(datetime.datetime.now(datetime.UTC), ua.VariantType.DateTime)
            await stopped.write_value(now)

    async def abort(self, parent: ua.NodeId) -> Any:
        for work in self.later:
            work.cancel()
        await self.state.write_value(ua.LocalizedText("Aborted"))
        await self.state.write_value(ua.LocalizedText("Stopped"))
        return []


async def made(port: int) -> Server:
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    return server


async def analog(parent: Node, name: str, value: float, unit: str, low: float, high: float) -> Node:
    variable = await parent.add_variable(2, name, value)
    await variable.add_property(0, "EngineeringUnits", ua.EUInformation(DisplayName=ua.LocalizedText(unit)))
    await variable.add_property(0, "EURange", ua.Range(ua.Double(low), ua.Double(high)))
    return variable


async def chiller(port: int) -> None:
    """A LADS device of two units: one with a control function whose state machine is strict, one with a sensor."""
    server = await made(port)
    await server.register_namespace("urn:test")
    devices = await server.nodes.objects.add_object(2, "DeviceSet")
    units = await (await devices.add_object(2, "Chiller")).add_object(2, "FunctionalUnitSet")
    bath = await (await (await units.add_object(2, "Bath")).add_object(2, "FunctionSet")).add_object(2, "Temperature")
    room = await (await (await units.add_object(2, "Room")).add_object(2, "FunctionSet")).add_object(2, "Air")
    await analog(room, "SensorValue", 21.5, "°C", -20.0, 60.0)
    current = await analog(bath, "CurrentValue", 20.0, "°C", 0.0, 100.0)
    target = await analog(bath, "TargetValue", 20.0, "°C", 5.0, 95.0)
    await target.set_writable()
    machine = await bath.add_object(2, "ControlFunctionState")
    state = await machine.add_variable(0, "CurrentState", ua.LocalizedText("Stopped"))

    async def name() -> str:
        return str((await state.read_value()).Text)

    def going(before: str, after: str) -> Any:
        async def method(parent: ua.NodeId) -> Any:
            if before not in ("", await name()):
                return ua.StatusCode(ua.UInt32(ua.StatusCodes.BadInvalidState))
            await state.write_value(ua.LocalizedText(after))
            return []

        return method

    await machine.add_method(2, "Start", going("Stopped", "Running"), [], [])
    await machine.add_method(2, "Stop", going("Running", "Stopped"), [], [])
    await machine.add_method(2, "Abort", going("", "Aborted"), [], [])
    async with server:
        while True:
            await asyncio.sleep(0.02)
            now, wanted = await current.read_value(), await target.read_value()
            if await name() == "Running":
                await current.write_value(now + max(-2.0, min(2.0, wanted - now)))


class Users(UserManager):
    """Lets one user in, with one password."""

    def get_user(
        self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
    ) -> User | None:
        return User(role=UserRole.User) if (username, password) == ("me", "geheim") else None


async def guarded(port: int, certificate: str, key: str) -> None:
    """A server that wants everything signed and encrypted, and a user with a password."""
    server = Server(user_manager=Users())
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    await server.load_certificate(certificate)
    await server.load_private_key(key)
    await server.nodes.objects.add_object(2, "Guarded")
    async with server:
        await asyncio.Event().wait()


async def bench(port: int) -> None:
    """A plain server: methods that take their time, refuse, and fail half way, and variables."""
    server = await made(port)
    await server.register_namespace("urn:test")
    pump = await server.nodes.objects.add_object(2, "Pump")
    volume = await analog(pump, "Volume", 0.0, "µL", 0.0, 1000.0)
    speed = await analog(pump, "Speed", 1.0, "mL/min", 0.0, 10.0)
    await speed.set_writable()
    stopped = asyncio.Event()

    @uamethod
    async def dispense(parent: ua.NodeId, amount: float, seconds: float) -> Any:
        if amount > 1000:
            return ua.StatusCode(ua.UInt32(ua.StatusCodes.BadOutOfRange))
        stopped.clear()
        await volume.write_value(await volume.read_value() + amount)
        try:
            async with asyncio.timeout(seconds):
                await stopped.wait()
            return ua.StatusCode(ua.UInt32(ua.StatusCodes.BadOperationAbandoned))
        except TimeoutError:
            return amount

    @uamethod
    async def halt(parent: ua.NodeId) -> Any:
        stopped.set()

    number = ua.NodeId(ua.Int32(ua.ObjectIds.Double))
    takes = [ua.Argument(Name="Amount", DataType=number), ua.Argument(Name="Seconds", DataType=number)]
    await pump.add_method(2, "Dispense", dispense, takes, [ua.Argument(Name="Dispensed", DataType=number)])
    await pump.add_method(2, "Halt", halt, [], [])
    async with server:
        await asyncio.Event().wait()


if __name__ == "__main__":
    what, at, *more = sys.argv[1:]
    servers: dict[str, Any] = {"lads": lads, "chiller": chiller, "bench": bench, "guarded": guarded}
    hob = what in ("hob", "mute")
    asyncio.run(serve(Slow(), int(at), outcome=what == "hob") if hob else servers[what](int(at), *more))
