"""Instruments that speak SECoP, the Sample Environment Communication Protocol (`SecopInstrument`)."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, get_args

from ...core import (
    ENDED,
    Action,
    Cause,
    InDoubt,
    InstrumentDescription,
    NotStarted,
    Permit,
    Reading,
    Run,
    RunState,
    Scalar,
    Signal,
    Unavailable,
)
from ._secop_link import Link, Lost, Refusal
from ._secop_types import ID, Route, from_wire, packed, routes, signals, unpacked
from ._stops import Stops

_INVALID = ("RangeError", "WrongType", "BadJSON", "BadValue")
_CERTAIN = (*_INVALID, "ProtocolError", "NoSuchModule", "NoSuchParameter", "NoSuchCommand", "ReadOnly",
            "NotImplemented", "Disabled", "Impossible", "IsBusy", "IsError", "CommandRunning")  # fmt: skip
"""Classes of errors of a node that has begun nothing; another may come from the middle of what it did."""
_BEGUN = ("HardwareError", "CommandFailed")
_RUN = {"id", "operation", "state", "progress", "message", "results", "cause", "started", "ended"}
REMEMBERED = 1000
"""Runs that are remembered after their end."""


class SecopInstrument:
    """A SECoP node at `address` (host:port), or the one `module` of it; then names have no "module." before them.

    Every Drivable can `move`, every other settable parameter can be `set`, values can be `read`, and commands are
    operations of their own. SECoP knows no runs: a module that is moved, or busy after a command, is followed by its
    status, and after a lost connection judged by its target and value. A node that remembers runs by the action's id
    (the parameter `_run`, the command `_find`: see the twin's server) is asked for them instead.
    `patience` is seconds for an answer; `heartbeat` seconds of silence before a ping, and as long again before the node
    counts as gone. `stop` names the modules that `safe_stop` stops, all that can where it is None.
    """

    def __init__(
        self, name: str, address: str = "127.0.0.1:10767", module: str = "", *, patience: float = 5.0,
        heartbeat: float = 2.0, stop: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        if min(patience, heartbeat) <= 0:
            raise ValueError("patience and heartbeat must be more than 0 seconds")
        self._name, self._module, self._only_stop = name, module, stop
        self._link = Link(address, patience, heartbeat, self._hear, self._meet)
        self._structure: dict[str, Any] | None = None
        self._routes, self._signals = dict[str, Route](), dict[str, tuple[Signal, str, dict[str, Any]]]()
        self._values = dict[str, Any]()
        self._began, self._epochs = dict[str, str](), dict[str, int]()
        self._ended, self._told = dict[str, Run](), dict[str, Run]()
        self._called, self._to_end = dict[str, str](), set[str]()
        self._stale = set[str]()
        """Modules whose status may be from before what they were last told."""
        self._stops = Stops(name)

    async def describe(self) -> InstrumentDescription:
        await self._link.ready()
        said = self._structure or {}
        return InstrumentDescription(
            name=self._name, protocol="secop", operations=tuple(r.operation for r in self._routes.values()),
            signals=tuple(signal for signal, *_ in self._signals.values()), serial=str(said.get("equipment_id", "")),
            version=str(said.get("firmware", "")), slots=self._slots(), description=str(said.get("description", "")),
            vendor=self._said("implementor"), model=self._said("implementation"),
        )  # fmt: skip

    async def start(self, permit: Permit) -> str:
        action = permit.action
        if action.id in self._began:
            return self._began[action.id]
        with self._stops.sending():
            return await self._start(action)

    async def _start(self, action: Action) -> str:
        stops = self._stops.count
        await self._link.ready()
        route = self._routes.get(action.operation)
        if route is None:
            raise NotStarted(f"{self._name} has no operation {action.operation}", "invalid-input")
        try:
            data = packed(route, action.settings, action.id)
        except (KeyError, TypeError, ValueError) as error:
            raise NotStarted(f"{route.what} cannot be given {action.settings}: {error!r}", "invalid-input") from None
        self._stops.none_since(stops)
        verb = {"read": "read", "command": "do"}.get(route.kind, "change")
        began, epoch = time.time(), self._link.epoch
        try:
            answer = (await self._link.ask(verb, route.what, *data))[0]
        except Refusal as error:
            return self._refused(action.id, route, error, epoch)
        except Lost as error:
            raise InDoubt(f"{action.operation} was sent: {error}") from None
        if self._remembers(route):
            return self._remember(action.id, [action.id, route.operation.name, None], epoch)
        words = [action.id, route.operation.name, answer if route.kind == "move" else None]
        handle = self._remember(action.id, words, epoch)
        if self._stops.count != stops:
            self._to_end.add(handle)
        if route.kind != "read" and self._has(route.module, "status"):
            # Its update may come after the answer: what it is now is what the node says when asked. It has begun in any
            # case, and where the node does not say, it counts as busy until it does.
            self._stale.add(route.module)
            with contextlib.suppress(Refusal, Lost, Unavailable):
                await self._link.ask("read", f"{route.module}:status")
        if route.kind != "move":
            done = Run(state="succeeded", results=unpacked(route, answer), started=began, ended=time.time())
            code, _ = self._status(route.module)
            self._told[handle] = done
            if route.kind == "read" or not (code < 0 or 300 <= code < 400):
                self._end(handle, self._commanded(route, handle) if handle in self._to_end else done)
        return handle

    async def reattach(self, action: str, handle: str) -> str | None:
        await self._link.ready()
        if not handle:
            for module in self._modules():
                if self._has(module, "_find") and await self._find(module, action) is not None:
                    what = f"{module}:{self._called[action]}"
                    name = next((r.operation.name for r in self._routes.values() if r.what == what), "")
                    return self._remember(action, [action, name, None], self._link.epoch)
            raise InDoubt(f"{self._name} cannot say whether it began {action}: SECoP knows no runs")
        run = await self.status(handle)
        if run.state == "unknown":
            raise InDoubt(f"{self._name}: {run.message}")
        self._began[action] = handle
        return handle

    async def status(self, handle: str) -> Run:
        if handle in self._ended:
            return self._ended[handle]
        try:
            action, operation, target = json.loads(handle)
        except (ValueError, TypeError):
            return Run(state="unknown", message=f"{handle!r} is no run of {self._name}", cause="lost")
        await self._link.ready()
        route = self._routes.get(operation)
        if route is None:
            return Run(state="unknown", message=f"{self._name} has no {operation} any more", cause="lost")
        if self._remembers(route):
            run = await self._remembered(route, action)
        elif route.kind == "move":
            run = self._moved(route, handle, target)
        else:
            run = self._commanded(route, handle)
        if run.state in ENDED:
            self._end(handle, run)
        return run

    async def follow(self, handle: str) -> AsyncIterator[Run]:
        last: Run | None = None
        while True:
            changed = self._link.changed()
            try:
                run = await self.status(handle)
            except Unavailable as error:
                run = Run(state="running", message=str(error))
            if run != last:
                yield run
                last = run
            if run.state in ENDED:
                return
            await changed.wait()

    async def watch(self, signals: Sequence[str]) -> AsyncIterator[Reading]:
        last = dict[str, Scalar | None]()
        # Once asked for, the connection comes back by itself, and `changed` tells; until then each is read as None.
        with contextlib.suppress(Unavailable):
            await self._link.ready()
        while True:
            changed = self._link.changed()
            for name in signals:
                value = self._reading(name)
                if name not in last or last[name] != value:
                    last[name] = value
                    yield Reading(signal=name, value=value, at=time.time())
            await changed.wait()

    async def cancel(self, handle: str) -> None:
        if handle in self._ended:
            return
        action, operation, _ = json.loads(handle)
        await self._link.ready()
        route = self._routes.get(operation)
        if route is None or (not self._remembers(route) and not self._has(route.module, "stop")):
            raise InDoubt(f"{operation} of {self._name} cannot be stopped: its module has no command stop")
        try:
            if self._remembers(route) and self._has(route.module, "_cancel"):
                await self._link.ask("do", f"{route.module}:_cancel", action)
                return
            await self._stop(route.module)
        except Refusal as error:
            raise InDoubt(f"{self._name} would not stop {operation}: {error}") from None
        except Lost as error:
            raise InDoubt(str(error)) from None

    async def safe_stop(self) -> None:
        await self._stops.stop(self._stop_all)

    async def _stop_all(self) -> None:
        await self._link.ready()
        wanted = self._modules() if self._only_stop is None else self._only_stop
        modules = [module for module in wanted if self._has(module, "stop")]
        said = await asyncio.gather(*(self._stop(module) for module in modules), return_exceptions=True)
        wrong = [f"{m}: {e}" for m, e in zip(modules, said, strict=True) if isinstance(e, BaseException)]
        if wrong:
            raise InDoubt(f"{self._name} did not stop: {'; '.join(wrong)}")

    async def close(self) -> None:
        await self._link.close()

    async def _stop(self, module: str) -> None:
        """Have a module stop, which ends its runs. Raises Unavailable, Refusal and Lost: then they end as they will."""
        ours = {handle for handle in self._began.values() if self._runs_on(handle, module)}
        self._to_end |= ours
        try:
            await self._link.ask("do", f"{module}:stop")
        except (Refusal, Lost, Unavailable):
            self._to_end -= ours
            raise
        if self._has(module, "status"):
            await self._link.ask("read", f"{module}:status")

    def _runs_on(self, handle: str, module: str) -> bool:
        route = self._routes.get(json.loads(handle)[1])
        return handle not in self._ended and route is not None and route.module == module

    def _refused(self, action: str, route: Route, error: Refusal, epoch: int) -> str:
        words = f"{route.what}: {error}"
        if error.kind in _BEGUN and route.kind == "command":
            handle = self._remember(action, [action, route.operation.name, None], epoch)
            self._end(handle, Run(state="failed", message=words, ended=time.time()))
            return handle
        if error.kind not in _CERTAIN and route.kind != "read":
            raise InDoubt(f"{words}, after it was sent")
        cause: Cause = "invalid-input" if error.kind in _INVALID else "refused"
        raise NotStarted(words, "instrument-fault" if error.kind == "HardwareError" else cause)

    async def _find(self, module: str, action: str) -> Run | None:
        try:
            data = await self._link.ask("do", f"{module}:_find", action)
        except Refusal:
            return None
        except Lost as error:
            raise Unavailable(str(error)) from None
        self._hear(f"{module}:_run", data[0])
        return self._told.get(action)

    async def _remembered(self, route: Route, action: str) -> Run:
        run = self._told.get(action)
        if run is None or self._epochs.get(action) != self._link.epoch:
            self._told.pop(action, None)
            run = await self._find(route.module, action)
            self._epochs[action] = self._link.epoch
        if run is None:
            self._epochs.pop(action, None)
            return Run(state="unknown", cause="lost", message=f"{self._name} does not know the run {action} any more")
        return run

    def _moved(self, route: Route, handle: str, target: Any) -> Run:
        """How far a module has come on its way to a target, by its status, target and value."""
        code, text = self._status(route.module)
        now, value = self._values.get(route.what), self._values.get(f"{route.module}:value")
        mine = now == target
        if code < 0:
            return Run(state="running", message="its status is not known")
        if 300 <= code < 400 and mine:
            return Run(state="running", message=text)
        results = unpacked(route, value)
        lost = self._epochs.get(handle) != self._link.epoch
        if handle in self._to_end:
            return Run(state="running" if 300 <= code < 400 else "cancelled", message=text)
        if code >= 400 and not lost:
            return Run(state="failed", message=text or f"status {code}", ended=time.time())
        if not mine:
            words = f"the target of {route.module} became {now} from elsewhere"
            return Run(state="unknown" if lost else "cancelled", message=words, cause="lost")
        if code < 100 and not lost:
            return Run(state="failed", message=f"{route.module} is disabled {text}".strip(), ended=time.time())
        if lost and not (100 <= code < 300 and self._near(route.module, target, value)):
            words = (
                f"the connection was lost, and {route.module} is not where it was sent: {value}, status {code} {text}"
            )
            return Run(state="unknown", message=words, cause="lost")
        return Run(state="succeeded", message=text, results=results, ended=time.time())

    def _commanded(self, route: Route, handle: str) -> Run:
        """How far a module has come that was busy after its answer."""
        done = self._told.get(handle)
        code, text = self._status(route.module)
        if done is None or self._epochs.get(handle) != self._link.epoch:
            return Run(state="unknown", cause="lost", message=f"the connection was lost while {route.what} ran")
        if handle in self._to_end and not 300 <= code < 400:
            return Run(state="cancelled", message=text, ended=time.time())
        if code < 0 or 300 <= code < 400:
            return Run(state="running", message=text, started=done.started)
        if code >= 400 or code < 100:
            return Run(state="failed", message=text or f"status {code}", started=done.started, ended=time.time())
        return done

    def _near(self, module: str, target: Any, value: Any) -> bool:
        if not isinstance(target, int | float) or not isinstance(value, int | float):
            return bool(target == value)
        tolerance = self._values.get(f"{module}:tolerance")
        return abs(value - target) <= (tolerance if isinstance(tolerance, int | float) else 1e-3 * max(1, abs(target)))

    def _hear(self, what: str, value: Any) -> None:
        self._values[what] = value
        module, _, name = what.partition(":")
        if name == "status":
            self._stale.discard(module)
        if what.endswith(":_run") and isinstance(value, dict) and value.get("id") and value.keys() >= _RUN:
            self._told[value["id"]], self._called[value["id"]] = _run(value), value["operation"]

    def _meet(self, structure: dict[str, Any]) -> None:
        if self._module and self._module not in structure["modules"]:
            raise ValueError(f"it has no module {self._module}, but {', '.join(structure['modules'])}")
        self._structure, self._values = structure, {}
        self._stale.clear()
        self._routes, self._signals = routes(structure, self._module), signals(structure, self._module)

    def _remember(self, action: str, words: list[Any], epoch: int) -> str:
        handle = json.dumps(words, separators=(",", ":"))
        self._began[action] = handle
        self._epochs[handle] = self._epochs[action] = epoch
        for kept in (self._began, self._epochs, self._ended, self._told, self._called):
            while len(kept) > 2 * REMEMBERED:
                kept.pop(next(iter(kept)))
        return handle

    def _end(self, handle: str, run: Run) -> None:
        self._ended[handle] = run
        self._to_end.discard(handle)

    def _modules(self) -> list[str]:
        return [self._module] if self._module else list((self._structure or {}).get("modules", ()))

    def _has(self, module: str, accessible: str) -> bool:
        told = (self._structure or {}).get("modules", {}).get(module, {})
        return accessible in told.get("accessibles", {})

    def _remembers(self, route: Route) -> bool:
        """Whether its node remembers the run: the command takes the action's id, and runs are found by it."""
        takes = (route.takes or {}).get("members", {}) if route.kind == "command" else {}
        return ID in takes and self._has(route.module, "_run") and self._has(route.module, "_find")

    def _slots(self) -> int:
        modules = (self._structure or {}).get("modules", {})
        return max(1, sum(int(modules[m].get("_slots", 1)) for m in self._modules() if self._has(m, "status")))

    def _said(self, word: str) -> str:
        told = (self._structure or {}).get("modules", {}).get(self._module, {})
        return str(told.get(word, ""))

    def _status(self, module: str) -> tuple[int, str]:
        """Code and text; 100 where a module has no status, -1 where it is not known."""
        if not self._has(module, "status"):
            return 100, ""
        status = None if module in self._stale else self._values.get(f"{module}:status")
        return (int(status[0]), str(status[1])) if status else (-1, "")

    def _reading(self, name: str) -> Scalar | None:
        if not self._link.online or name not in self._signals:
            return None
        _, what, datainfo = self._signals[name]
        value = self._values.get(what)
        if what.endswith(":status"):
            return int(value[0]) if value else None
        scalar: Scalar | None = from_wire(datainfo, value)
        return scalar


def _run(value: dict[str, Any]) -> Run:
    """A node's record of a run (`_run`, and what `_find` gives)."""
    state: Any = value["state"] if value["state"] in get_args(RunState) else "unknown"
    return Run(
        state=state, progress=value["progress"], message=value["message"], results=json.loads(value["results"]),
        cause=value["cause"] or "instrument-fault", started=value["started"], ended=value["ended"],
    )  # fmt: skip
