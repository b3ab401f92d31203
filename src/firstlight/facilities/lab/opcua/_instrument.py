"""One instrument behind OPC UA, and how it is found."""

import asyncio
import contextlib
import datetime
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlparse

from asyncua import Client, ua

from firstlight.core import ENDED, Action, InDoubt, InstrumentDescription, NotStarted, Permit, Reading, Run, Unavailable

from .._remembered import remember
from .._stops import Stops
from . import _functions, _programs
from ._calls import Calls
from ._lads import STILL, Machine, Model, Wishes, model, state_name, stop
from ._link import Access, Connection, Link, Refused, Seen, asking, on_loopback, words
from ._plain import Choice, Plain, offer
from ._space import Variable, scalar

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Handle:
    """What is kept of a run: its kind, where it is, its own id (or target), our action, and the server's start."""

    kind: str
    where: str
    run: Any
    action: str
    began: str

    def __str__(self) -> str:
        return json.dumps([self.kind, self.where, self.run, self.action, self.began])

    @classmethod
    def of(cls, handle: str) -> "_Handle":
        """What a handle says; of the kind "strange" where it is none of ours."""
        try:
            return cls(*json.loads(handle))
        except (ValueError, TypeError):
            return cls("strange", handle, "", "", "")

    @property
    def lost(self) -> Run:
        """What is known of a run that cannot be looked at."""
        return Run("unknown", message=f"{self.where!r} is no run of this instrument", cause="lost")


class OpcuaInstrument:
    """A device of a LADS server (OPC 30500), or a plain OPC UA server.

    Every program template of a LADS device's functional units is an operation, which runs under our action's id as
    SupervisoryTaskId; every control function one that sets it and waits until it is within `tolerance` (a fraction of
    its range; `tolerances` by its name, in its unit). Of a plain server, methods and writable variables under `root`
    are operations: `operations` says which, and their effects, `stop` names the method for a safe stop.

    Times are in seconds: an answer is awaited for `timeout`, that of a plain server's method for `patience`; a silent
    server is noticed within `keepalive`; changes are published every `sampling`. `results_outlast_restarts` says that
    a run which is not among the server's results has never begun. Secrets are in files of mode 0600.
    """

    def __init__(
        self, name: str, address: str = "opc.tcp://127.0.0.1:4840", *, device: str = "", root: str = "",
        operations: Mapping[str, Mapping[str, object]] | None = None, signals: Sequence[str] = (), stop: str = "",
        tolerance: float = 0.01, tolerances: Mapping[str, float] | None = None, timeout: float = 5.0,
        keepalive: float = 5.0, patience: float = 600.0, sampling: float = 0.01,
        results_outlast_restarts: bool = False, user: str = "", password_file: str = "", certificate: str = "",
        key: str = "", server_certificate: str = "", policy: str = "Basic256Sha256", mode: str = "SignAndEncrypt",
    ) -> None:  # fmt: skip
        parts = urlparse(address)
        if parts.scheme != "opc.tcp" or "@" in parts.netloc:
            raise ValueError(f"{name}: the address is opc.tcp://HOST:PORT, and holds no user and no password")
        if password_file and not certificate and not on_loopback(address):
            raise ValueError(f"{name}: the password would travel in the clear: give a certificate and its key")
        access = Access(user, password_file, certificate, key, server_certificate, policy, mode)
        self.name = name
        self._timeout, self._outlast = timeout, results_outlast_restarts
        self._link = Link(name, address, access, timeout, keepalive, sampling)
        # A method may take its time, and many servers answer nothing else on its connection meanwhile.
        self._calls = Calls(Link(name, address, access, timeout, 2 * patience, sampling, answer=patience), patience)
        self._wishes = Wishes(device, tolerance, tolerances or {})
        self._choice = Choice(root, operations or {}, signals, stop)
        self._known: tuple[Connection, Model | Plain] | None = None
        self._asking = asyncio.Lock()
        self._tracks = dict[str, _programs.Track]()
        self._begun, self._doubted = dict[str, str](), set[str]()
        self._cancelled = set[str]()
        self._stops = Stops(name)

    async def describe(self) -> InstrumentDescription:
        """What it can do, as the server's address space says."""
        return (await self._what(await self._link.connection())).description

    async def _what(self, connection: Connection) -> Model | Plain:
        async with self._asking:
            if self._known is None or self._known[0] is not connection:
                try:
                    found = await model(connection, self.name, self._wishes)
                    self._known = connection, found or await offer(connection, self.name, self._choice)
                except LookupError as error:
                    raise Unavailable(str(error)) from error
            return self._known[1]

    async def start(self, permit: Permit) -> str:
        """Begin a program, set a control function, call a method or write a variable."""
        action = permit.action
        if action.id in self._begun:
            return self._begun[action.id]
        try:
            with self._stops.sending():
                handle = str(await self._start(action))
        except (InDoubt, asyncio.CancelledError):
            # A result that is not there yet may still come.
            self._doubted.add(action.id)
            raise
        return remember(self._begun, action.id, handle)

    async def _start(self, action: Action) -> _Handle:
        unless_stopped = partial(self._stops.none_since, self._stops.count)
        connection = await self._link.connection()
        what = await self._what(connection)
        if isinstance(what, Model):
            if (program := what.programs.get(action.operation)) is not None:
                run = await _programs.begin(connection, program, action, self._timeout, unless_stopped)
                handle = _Handle("program", program.unit.name, run, action.id, connection.began)
                self._tracks[str(handle)] = _programs.Track(run, action.id)
                return handle
            if (function := what.functions.get(action.operation)) is not None:
                target = action.settings["Target"]
                await _functions.begin(connection, function, target, self._timeout, unless_stopped)
                return _Handle("function", action.operation, target, action.id, connection.began)
        elif (method := what.methods.get(action.operation)) is not None:
            handle = _Handle("call", action.operation, "", action.id, connection.began)
            await self._calls.call(str(handle), method, action.settings, unless_stopped)
            return handle
        elif (setting := what.settings.get(action.operation)) is not None:
            handle = _Handle("call", action.operation, "", action.id, connection.began)
            unless_stopped()
            await self._calls.write(str(handle), setting, action.settings["Value"], connection, self._timeout)
            return handle
        there = ", ".join(o.name for o in what.description.operations) or "none"
        raise NotStarted(f"{self.name} has no operation {action.operation!r}; it has: {there}", "invalid-input")

    async def reattach(self, action: str, handle: str) -> str | None:
        """The run by its handle, or by our action's id among the results of the functional units."""
        if handle:
            of = _Handle.of(handle)
            if of.kind == "strange":
                raise InDoubt(f"{self.name}: {of.lost.message}")
            if of.kind == "call" and not self._calls.knows(handle):
                raise InDoubt(f"{self.name}: the answer of the method went to a connection that is gone")
            return handle
        connection = await self._link.connection()
        what = await self._what(connection)
        if not isinstance(what, Model):
            raise InDoubt(f"{self.name} keeps nothing of what it was told to do")
        units, until = list(what.units.values()), time.monotonic() + _programs.SHOWN_WITHIN
        while True:
            for unit in units:
                if (run := await _programs.find(connection, unit, action)) is not None:
                    return str(_Handle("program", unit.name, run, action, connection.began))
            if time.monotonic() > until:
                break
            await asyncio.sleep(AGAIN)
        if action in self._doubted:
            raise InDoubt(f"{self.name} has no result of {action}, and did not say that it was not begun")
        if what.functions or not units:
            raise InDoubt(f"{self.name} keeps nothing of what its control functions were set to: one may be {action}")
        for unit in units:
            if not await _programs.runs_other(connection, unit, action):
                raise InDoubt(f"{self.name} has no result of {action}, and {unit.name} runs: it may be that")
            if not self._outlast and not await _programs.outlasts(connection, unit):
                raise InDoubt(f"{self.name} has no result of {action}, and may have lost it when it was started anew")
        return None

    async def status(self, handle: str) -> Run:
        """How far a run has come."""
        of = _Handle.of(handle)
        if of.kind == "strange":
            return of.lost
        if of.kind == "call":
            return self._calls.standing(handle)
        connection = await self._link.connection()
        watched, judge = self._judge(await self._what(connection), of, connection)
        async with connection.observe(watched) as feed:
            seen = await feed.get()
        if seen is None:
            raise Unavailable(f"{self.name}: the connection is lost")
        return await judge({n: _value(v) for n, v in seen.items()})

    def _judge(
        self, what: Model | Plain, of: _Handle, connection: Connection
    ) -> tuple[list[ua.NodeId], Callable[[Mapping[ua.NodeId, Any]], Awaitable[Run]]]:
        """What to look at to tell how far a run has come, and what tells it from that."""
        handle, same = str(of), of.began == connection.began
        if isinstance(what, Model) and of.kind == "program" and (unit := what.units.get(of.where)) is not None:
            track = self._tracks.get(handle)
            if track is None:
                track = self._tracks[handle] = _programs.Track(str(of.run), of.action, gap=True)
            track.gap = track.gap or not same

            async def program(now: Mapping[ua.NodeId, Any]) -> Run:
                return await _programs.standing(connection, unit, track, now)

            return unit.watched, program
        if isinstance(what, Model) and of.kind == "function" and (made := what.functions.get(of.where)) is not None:
            first = list[float]()

            async def function(now: Mapping[ua.NodeId, Any]) -> Run:
                current = now.get(made.current.node)
                if isinstance(current, int | float) and not first:
                    first.append(float(current))
                return _functions.standing(
                    made, of.run, now, same, handle in self._cancelled, first[0] if first else None
                )

            return [*made.machine.states, made.target.node, made.current.node], function

        async def lost(now: Mapping[ua.NodeId, Any]) -> Run:
            return Run("unknown", message=f"{self.name} has no {of.where} any more", cause="lost")

        return [], lost

    async def follow(self, handle: str) -> AsyncIterator[Run]:
        """How far a run has come, at every change that the server publishes."""
        of, last = _Handle.of(handle), Run("queued")
        if of.kind == "strange":
            yield of.lost
            return
        if of.kind == "call":
            async for run in self._calls.follow(handle):
                yield run
            return
        async with contextlib.aclosing(self._link.connections()) as connections:
            async for connection in connections:
                if connection is not None:
                    async with contextlib.aclosing(self._following(connection, of)) as runs:
                        async for run in runs:
                            if run != last:
                                yield run
                            last = run
                            if run.state in ENDED:
                                return
                if handle in self._tracks:
                    self._tracks[handle].gap = True
                away = Run("running", last.progress, "not connected")
                if away != last:
                    yield away
                last = away

    async def _following(self, connection: Connection, of: _Handle) -> AsyncGenerator[Run, None]:
        now = dict[ua.NodeId, Any]()
        with contextlib.suppress(Unavailable):
            watched, judge = self._judge(await self._what(connection), of, connection)
            track = self._tracks.get(str(of))
            async with connection.observe(watched) as feed:
                lost = False
                while not lost:
                    changes = list[Seen]()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(track.patience if track else None):
                            changes.append(await feed.get())
                    while not feed.empty():
                        changes.append(feed.get_nowait())
                    lost = None in changes
                    now |= {n: _value(v) for seen in changes if seen is not None for n, v in seen.items()}
                    yield await judge(now)

    async def watch(self, signals: Sequence[str]) -> AsyncIterator[Reading]:
        """Readings of sensors and variables, at every change that the server publishes."""
        last = dict[str, Reading]()
        async with contextlib.aclosing(self._link.connections()) as connections:
            async for connection in connections:
                if connection is not None:
                    async with contextlib.aclosing(self._watching(connection, signals)) as readings:
                        async for reading in readings:
                            before = last.get(reading.signal)
                            # What is read at first is published as well, and maybe what it was before.
                            if (
                                before is None
                                or before.value is None
                                or (reading != before and reading.at >= before.at)
                            ):
                                last[reading.signal] = reading
                                yield reading
                for name in signals:
                    if name not in last or last[name].value is not None:
                        last[name] = Reading(name, None, time.time())
                        yield last[name]

    async def _watching(self, connection: Connection, signals: Sequence[str]) -> AsyncGenerator[Reading, None]:
        with contextlib.suppress(Unavailable):
            what = await self._what(connection)
            missing = [n for n in signals if n not in what.signals]
            if missing:
                there = ", ".join(what.signals) or "none"
                raise LookupError(f"{self.name} has no signal {', '.join(missing)}; it has: {there}")
            names = {what.signals[n].node: (n, what.signals[n]) for n in signals}
            async with connection.observe(names) as feed:
                while (seen := await feed.get()) is not None:
                    for node, value in seen.items():
                        yield _reading(*names[node], value)

    async def cancel(self, handle: str) -> None:
        """Stop the functional unit or the control function while it is this run's; call the stop of a plain server."""
        of = _Handle.of(handle)
        if of.kind == "strange":
            return
        connection = await self._link.connection()
        what = await self._what(connection)
        self._cancelled.add(handle)
        if isinstance(what, Plain):
            if what.stop is not None and not self._calls.ended(handle):
                await self._stop_plain(connection, what)
            return
        machine: Machine | None = None
        if of.kind == "program" and (unit := what.units.get(of.where)) is not None:
            active = unit.active.get("DeviceProgramRunId")
            if active is None or (await connection.read([active]))[0] == of.run:
                machine = unit.machine
                if handle in self._tracks:
                    self._tracks[handle].cancelled = True
        elif of.kind == "function" and (function := what.functions.get(of.where)) is not None:
            machine = function.machine
        if machine is not None:
            try:
                await stop(connection, machine, self._timeout)
            except Refused as error:
                LOG.warning("%s does not cancel: %s", self.name, error)

    async def safe_stop(self) -> None:
        """Stop every functional unit and control function, and wait until they are still."""
        await self._stops.stop(self._stop_all)

    async def _stop_all(self) -> None:
        connection = await self._link.connection()
        what = await self._what(connection)
        if isinstance(what, Plain):
            await self._stop_plain(connection, what)
            return
        # Abort is the way that does not wait for anything; whoever goes on after it has to clear the unit first.
        self._cancelled |= {*self._tracks, *self._begun.values()}
        for track in self._tracks.values():
            track.cancelled = True
        done = await asyncio.gather(
            *(stop(connection, m, self._timeout, ("Abort", "Stop")) for m in what.machines), return_exceptions=True
        )
        for error in done:
            if isinstance(error, Refused):
                raise InDoubt(f"{self.name} does not stop: {error}") from error
            if isinstance(error, BaseException):
                raise error
        async with connection.observe([m.state for m in what.machines]) as feed:
            now = dict[ua.NodeId, str]()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    while (seen := await feed.get()) is not None:
                        now |= {n: state_name(_value(v)) for n, v in seen.items()}
                        if all(state in AT_REST for state in now.values()):
                            return
        moving = ", ".join(sorted({state for state in now.values() if state not in AT_REST}))
        raise InDoubt(f"{self.name} was told to stop, and is not seen to be still: {moving or 'not connected'}")

    async def _stop_plain(self, connection: Connection, what: Plain) -> None:
        if what.stop is None:
            raise NotStarted(f"{self.name} has no method to stop it that we know: name it in the option stop")
        try:
            await connection.call(what.stop.target, what.stop.method, (), self._timeout)
        except Refused as error:
            raise InDoubt(f"{self.name} does not stop: {error}") from error

    async def close(self) -> None:
        """Let go of it."""
        await self._calls.close()
        await self._link.close()


def _value(said: ua.DataValue) -> Any:
    good = said.StatusCode is None or said.StatusCode.is_good()
    return said.Value.Value if good and said.Value is not None else None


def _reading(name: str, variable: Variable, said: ua.DataValue) -> Reading:
    at = said.SourceTimestamp or said.ServerTimestamp
    value = scalar(_value(said), variable.choices)
    return Reading(name, value, at.replace(tzinfo=at.tzinfo or datetime.UTC).timestamp() if at else time.time())


async def discover(addresses: Sequence[str], timeout: float = 5.0) -> dict[str, str]:
    """The servers that given ones know of (FindServers), by their address: what they are called.

    Raises Unavailable, naming those that did not answer, where none did.
    """
    found, silent = dict[str, str](), list[str]()
    for address in addresses:
        client = Client(address, timeout=timeout)
        try:
            async with asyncio.timeout(timeout):
                with asking(address):
                    for server in await client.connect_and_find_servers():
                        found |= {
                            u: server.ApplicationName.Text or server.ApplicationUri for u in server.DiscoveryUrls or ()
                        }
        except (Unavailable, TimeoutError) as error:
            silent.append(f"{address}: {words(error)}")
    if silent and not found:
        raise Unavailable("; ".join(silent))
    return found


AGAIN = 0.2
"""Seconds between two looks for the result of what may have begun."""

AT_REST = (*(s for s in STILL if not s.endswith("ing")), "Idle", "Clearing")
