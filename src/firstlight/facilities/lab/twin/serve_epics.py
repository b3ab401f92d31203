"""A device as an IOC: process variables over PVAccess, made from its description. Loopback only."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from p4p.nt import NTEnum, NTScalar
from p4p.server import Server, StaticProvider
from p4p.server.asyncio import SharedPV

from firstlight.core import Argument, InstrumentDescription, Operation, Scalar, Signal

from ._device import Device, Fault

RATE = 20.0
"""How many times a second signals are sampled; they are posted when they change."""
STATES = ("idle", "running", "succeeded", "failed", "cancelled")
_CODES = {"number": "d", "integer": "l", "string": "s", "boolean": "?"}
_ZERO: dict[str, Any] = {"number": 0.0, "integer": 0, "string": "", "boolean": False}


async def serve(device: Device, port: int, rate: float = RATE, ready: Callable[[], None] | None = None) -> None:
    """Serve until cancelled, on 127.0.0.1. PVs are "<device>:<operation>:<argument>", "<device>:<signal>" and so on."""
    ioc = _Ioc(device)
    conf = {
        "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1", "EPICS_PVAS_SERVER_PORT": str(port),
        "EPICS_PVAS_BROADCAST_PORT": str(port), "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "NO",
        "EPICS_PVAS_BEACON_ADDR_LIST": "127.0.0.1",
    }  # fmt: skip
    with Server(providers=[ioc.provider], conf=conf, useenv=False):
        if ready is not None:
            ready()
        try:
            await ioc.sample(1 / rate)
        finally:
            await ioc.end()


def options_for(description: InstrumentDescription) -> dict[str, Any]:
    """The options of an EpicsInstrument that drive such an IOC."""
    name = description.name
    return {
        "provider": "pva",
        "operations": {o.name: _operation_option(f"{name}:{o.name}", o) for o in description.operations},
        "signals": {s.name: _signal_option(f"{name}:{s.name}", s) for s in description.signals},
        "stop": {f"{name}:STOP": 1}, "slots": description.slots, "vendor": description.vendor,
        "model": description.model, "serial": description.serial, "version": description.version,
        "description": description.description,
    }  # fmt: skip


def _operation_option(at: str, operation: Operation) -> dict[str, Any]:
    return {
        "effect": operation.effect, "seconds": operation.seconds, "description": operation.description,
        "arguments": {a.name: _argument_option(f"{at}:{a.name}", a) for a in operation.arguments},
        "results": {
            r.name: {"pv": f"{at}:RESULT:{r.name}", "type": r.type, "json": _code(r) == "json", "schema": r.schema,
                     "description": r.description}
            for r in operation.results
        },
        "trigger": f"{at}:START", "done": {"pv": f"{at}:DONE", "value": 1},
        "status": {"pv": f"{at}:STATUS", "failed": ["failed"], "cancelled": ["cancelled"]},
        "progress": f"{at}:PROGRESS", "message": f"{at}:MESSAGE", "cause": f"{at}:CAUSE",
        "run": {"put": f"{at}:RUN_ID", "began": f"{at}:BEGAN"}, "stop": {f"{at}:ABORT": 1},
    }  # fmt: skip


def _argument_option(pv: str, argument: Argument) -> dict[str, Any]:
    return {
        "pv": pv, "type": argument.type, "default": argument.default, "description": argument.description,
        "json": _code(argument) == "json", "schema": argument.schema,
        "choices": [] if _is_enum(argument) else list(argument.choices),
    } | ({} if argument.type in ("number", "integer") else {"unit": argument.unit})  # fmt: skip


def _signal_option(pv: str, signal: Signal) -> dict[str, Any]:
    return {
        "pv": pv, "type": signal.type, "low": signal.low, "high": signal.high, "description": signal.description,
    } | ({} if signal.type in ("number", "integer") else {"unit": signal.unit})  # fmt: skip


class _Ioc:
    def __init__(self, device: Device) -> None:
        self.device, self.description = device, device.describe()
        self.provider = StaticProvider(self.description.name)
        self.runs: dict[str, asyncio.Task[None]] = {}
        self._pvs: dict[str, SharedPV] = {}
        self._signals = dict[str, Scalar]()
        name = self.description.name
        for operation in self.description.operations:
            self._add_operation(f"{name}:{operation.name}", operation)
        for signal in self.description.signals:
            self._add(f"{name}:{signal.name}", *_scalar(signal.type, signal.unit, signal.low, signal.high))
        self._add(f"{name}:STOP", NTScalar("i"), 0, self._stop)

    def post(self, pv: str, value: Any) -> None:
        self._pvs[pv].post(value, timestamp=time.time())

    async def sample(self, every: float) -> None:
        name = self.description.name
        while True:
            for signal in self.description.signals:
                value = await self.device.read(signal.name)
                if self._signals.get(signal.name) != value:
                    self._signals[signal.name] = value
                    self.post(f"{name}:{signal.name}", bool(value) if signal.type == "boolean" else value)
            await asyncio.sleep(every)

    async def end(self) -> None:
        for run in list(self.runs.values()):
            run.cancel()
        await asyncio.gather(*self.runs.values(), return_exceptions=True)

    def _add(self, pv: str, nt: Any, initial: Any, put: Any = None) -> None:
        self._pvs[pv] = SharedPV(handler=_Handler(put), nt=nt, initial=initial, timestamp=time.time())
        self.provider.add(pv, self._pvs[pv])

    def _add_operation(self, at: str, operation: Operation) -> None:
        keep = self._keep
        for argument in operation.arguments:
            pv = f"{at}:{argument.name}"
            if _is_enum(argument):
                choices = [str(c) for c in argument.choices]
                index = choices.index(str(argument.default)) if argument.default in argument.choices else 0
                self._add(pv, NTEnum(), {"value.index": index, "value.choices": choices}, keep)
            else:
                self._add(pv, *_variable(argument), keep)
        for result in operation.results:
            self._add(f"{at}:RESULT:{result.name}", *_variable(result))
        for word in ("RUN_ID", "BEGAN", "MESSAGE", "CAUSE"):
            self._add(f"{at}:{word}", NTScalar("s"), "", keep if word == "RUN_ID" else None)
        self._add(f"{at}:STATUS", NTEnum(), {"value.index": 0, "value.choices": list(STATES)})
        self._add(f"{at}:PROGRESS", NTScalar("d"), 0.0)
        self._add(f"{at}:DONE", NTScalar("i"), 1)

        async def start(pv: SharedPV, op: Any) -> None:
            if len(self.runs) >= self.description.slots or at in self.runs:
                op.done(error=f"{self.description.name} is busy")
                return
            self._began(at, operation)
            op.done()

        async def abort(pv: SharedPV, op: Any) -> None:
            if run := self.runs.get(at):
                run.cancel()
                await asyncio.wait([run])
            op.done()

        self._add(f"{at}:START", NTScalar("i"), 0, start)
        self._add(f"{at}:ABORT", NTScalar("i"), 0, abort)

    async def _keep(self, pv: SharedPV, op: Any) -> None:
        pv.post(op.value(), timestamp=time.time())
        op.done()

    async def _stop(self, pv: SharedPV, op: Any) -> None:
        runs = list(self.runs.values())
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        await self.device.stop()
        op.done()

    def _began(self, at: str, operation: Operation) -> None:
        arguments = {a.name: self._value(f"{at}:{a.name}", a) for a in operation.arguments}
        for word, value in (("DONE", 0), ("PROGRESS", 0.0), ("MESSAGE", ""), ("CAUSE", ""), ("STATUS", 1)):
            self.post(f"{at}:{word}", value)
        self.post(f"{at}:BEGAN", self._now(f"{at}:RUN_ID"))
        self.runs[at] = asyncio.create_task(self._perform(at, operation, arguments))

    async def _perform(self, at: str, operation: Operation, arguments: Mapping[str, object]) -> None:
        state, message, cause = "succeeded", "", ""
        try:
            made = await self.device.perform(
                operation.name, arguments, lambda share: self.post(f"{at}:PROGRESS", float(share))
            )
            for result in operation.results:
                value = made[result.name]
                as_text = _code(result) == "json"
                self.post(f"{at}:RESULT:{result.name}", msgspec.json.encode(value).decode() if as_text else value)
        except Fault as fault:
            state, message, cause = "failed", str(fault), fault.cause
        except asyncio.CancelledError:
            state = "cancelled"
        finally:
            del self.runs[at]
            # DONE comes last: who sees it may read all the others.
            for word, value in (("MESSAGE", message), ("CAUSE", cause), ("STATUS", STATES.index(state)), ("DONE", 1)):
                self.post(f"{at}:{word}", value)

    def _value(self, pv: str, argument: Argument) -> object:
        now = self._now(pv)
        if _is_enum(argument):
            return argument.choices[int(now["index"])]
        if _code(argument) == "json":
            return msgspec.json.decode(now) if now else None
        return now.tolist() if hasattr(now, "tolist") else now

    def _now(self, pv: str) -> Any:
        # What unwraps a value adds its time to a text.
        return self._pvs[pv].current().raw.todict()["value"]


class _Handler:
    """What to do with a put; None refuses it."""

    def __init__(self, put: Any) -> None:
        self._put = put

    async def put(self, pv: SharedPV, op: Any) -> None:
        if self._put is None:
            op.done(error="this is read only")
        else:
            await self._put(pv, op)


def _is_enum(argument: Argument) -> bool:
    return bool(argument.choices) and argument.type == "string"


def _code(argument: Argument) -> str:
    """The PVAccess type of an argument; "json" is a text."""
    if argument.type == "array":
        items = argument.schema.get("items")
        inner = items.get("type") if isinstance(items, dict) else None
        return f"a{_CODES[str(inner)]}" if inner in ("number", "integer", "string") else "json"
    return _CODES.get(argument.type, "json")


def _variable(argument: Argument) -> tuple[Any, Any]:
    code = _code(argument)
    if code.startswith("a"):
        return NTScalar(code), []
    if code == "json":
        return NTScalar("s"), ""
    nt, initial = _scalar(argument.type, argument.unit, argument.low, argument.high)
    if argument.default is not None:
        initial["value"] = bool(argument.default) if argument.type == "boolean" else argument.default
    return nt, initial


def _scalar(kind: str, unit: str, low: float | None, high: float | None) -> tuple[Any, dict[str, Any]]:
    initial: dict[str, Any] = {"value": _ZERO[kind]}
    if kind not in ("number", "integer"):
        return NTScalar(_CODES[kind]), initial
    initial["display.units"] = unit
    if low is not None and high is not None:
        cast = int if kind == "integer" else float
        for part in ("display", "control"):
            initial |= {f"{part}.limitLow": cast(low), f"{part}.limitHigh": cast(high)}
    return NTScalar(_CODES[kind], display=True, control=True), initial
