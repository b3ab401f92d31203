"""EPICS: an instrument of process variables, over Channel Access or PVAccess, made of options and what IOCs tell."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ...core import (
    ENDED,
    Argument,
    InDoubt,
    InstrumentDescription,
    NotStarted,
    Operation,
    Permit,
    Reading,
    Run,
    Scalar,
    Signal,
    Unavailable,
)
from ._epics_ca import ChannelAccess
from ._epics_channels import Channels, Feeds, Ioc, Meta, Sample, from_text, put_surely
from ._epics_options import ArgumentOption, OperationOption, ResultOption, SignalOption, operation_option, signal_option
from ._epics_pva import PvAccess
from ._epics_run import EpicsRun

KEPT = 50
"""Runs that have ended and are still told of; an older one is asked of the IOC again."""


class EpicsInstrument:
    """Drives PVs as operations that its options declare; units, limits and choices come from the IOC.

    `address` is where IOCs are searched for: "host:port", several apart by spaces, or "" for the environment's. For
    Channel Access it counts for the whole process (see ChannelAccess). `operations` and `signals` are tables as
    OperationOption and SignalOption (or a PV's name) describe them; `stop` is what a safe stop puts besides the
    `stop` of every operation. `silence` is after how many seconds without an answer an IOC counts as gone.

        operations:
          Move:   {motor: "lab:m1", effect: reversible}
          Heat:   {effect: reversible, arguments: {Target: {pv: "lab:sp"}},
                   readback: {pv: "lab:rbv", argument: Target, within: 0.5, hold: 10}, timeout: 900,
                   require: {"lab:door": closed}, stop: {"lab:sp": 20}}
          Expose: {effect: read, arguments: {Seconds: {pv: "det:AcquireTime"}}, trigger: "det:Acquire",
                   done: {pv: "det:Acquire", value: Done}, results: {Image: "det:Image"}}
        signals: {Temperature: "lab:rbv"}

    A run lives in this process. After a crash it is known again where the IOC keeps its id (option `run`), or where
    it may be repeated and the state is as it was asked for; else it is in doubt. Its results hold "documents", the
    run as Bluesky event documents.
    """

    def __init__(
        self, name: str, address: str = "", *, provider: Literal["ca", "pva"] = "ca",
        operations: Mapping[str, object] | None = None, signals: Mapping[str, object] | None = None,
        stop: Mapping[str, Scalar] | None = None, slots: int = 1, silence: float = 5.0, description: str = "",
        vendor: str = "", model: str = "", serial: str = "", version: str = "",
    ) -> None:  # fmt: skip
        if provider not in ("ca", "pva"):
            raise ValueError(f"provider must be ca or pva, not {provider!r}")
        if silence <= 0 or slots < 1:
            raise ValueError(f"silence must be more than 0 s and slots at least 1, not {silence:g} and {slots}")
        self._operations = {n: operation_option(n, given) for n, given in (operations or {}).items()}
        self._signals = {n: signal_option(n, given) for n, given in (signals or {}).items()}
        self._stop, self._slots = dict(stop or {}), slots
        self._said = {
            "description": description, "vendor": vendor, "model": model, "serial": serial, "version": version,
        }  # fmt: skip
        channels: Channels = ChannelAccess(address, silence) if provider == "ca" else PvAccess(address, silence)
        self._ioc = Ioc(name, channels, Feeds(channels, silence), {}, silence)
        self._protocol = f"EPICS {provider}"
        self._runs: dict[str, EpicsRun] = {}
        self._starting, self._stops = asyncio.Lock(), 0

    async def describe(self) -> InstrumentDescription:
        pvs = {pv for option in self._operations.values() for pv in option.named()}
        pvs |= {signal.pv for signal in self._signals.values()}
        await self._learn(pvs)
        operations = [await self._operation(n, option) for n, option in self._operations.items()]
        signals = tuple(_signal(n, s, self._ioc.metas[s.pv]) for n, s in self._signals.items())
        return InstrumentDescription(
            name=self._ioc.name, protocol=self._protocol, operations=tuple(operations), signals=signals,
            slots=self._slots, **self._said,
        )  # fmt: skip

    async def start(self, permit: Permit) -> str:
        action, stops = permit.action, self._stops
        option = self._operations.get(action.operation)
        if option is None:
            raise NotStarted(f"{self._ioc.name} has no operation {action.operation}", "invalid-input")
        await self._learn({pv for pv in option.named() if pv not in self._ioc.metas})
        await self._ioc.feeds.known(option.watched(), self._ioc.silence)
        settings = {name: value for name, value in action.settings.items() if name in option.arguments}
        run = EpicsRun(self._ioc, action.id, action.operation, option, settings)
        async with self._starting:
            if run.handle in self._runs:
                return run.handle
            self._forget()
            await self._free(option)
            await self._may_start(option, settings)
            if self._stops != stops:
                # Nothing begins after a stop because it was on its way.
                raise NotStarted("stopped, before it began", "cancelled")
            self._runs[run.handle] = run
            try:
                await run.begin()
            except BaseException:
                del self._runs[run.handle]
                raise
        return run.handle

    async def reattach(self, action: str, handle: str) -> str | None:
        if handle in self._runs:
            return handle
        run = self._known(handle) if handle else await self._kept(action)
        if run is None or run.id != action:
            raise InDoubt(f"{self._ioc.name} keeps no ids of runs: nobody can tell whether {action} was begun")
        await self._learn({pv for pv in run.option.named() if pv not in self._ioc.metas})
        if not await run.still_ours():
            raise InDoubt(f"{self._ioc.name} cannot tell what came of {action}: its PVs are not as it was asked for")
        self._take_up(run)
        return run.handle

    async def status(self, handle: str) -> Run:
        run = await self._followed(handle)
        if isinstance(run, Run):
            return run
        return run.now

    async def follow(self, handle: str) -> AsyncIterator[Run]:
        run = await self._followed(handle)
        if isinstance(run, Run):
            yield run
            return
        told: Run | None = None
        while told is None or told.state not in ENDED:
            changed = run.changed
            if run.now != told:
                told = run.now
                yield told
            else:
                await changed.wait()

    async def watch(self, signals: Sequence[str]) -> AsyncIterator[Reading]:
        pvs = dict[str, list[str]]()
        for name in signals:
            pvs.setdefault(self._signals[name].pv, []).append(name)
        pending: dict[str, Sample | None] = {}
        woken, ends = asyncio.Event(), []
        for pv in pvs:
            feed = self._ioc.feeds.feed(pv)

            def heard(sample: Sample | None, pv: str = pv) -> None:
                pending[pv] = sample
                woken.set()

            feed.listeners.append(heard)
            ends.append((feed, heard))
        try:
            # What is not connected is read as None, which is what follows.
            with contextlib.suppress(Unavailable):
                await self._ioc.feeds.known(list(pvs), self._ioc.silence)
            pending |= {pv: self._ioc.feeds.feed(pv).last for pv in pvs}
            while True:
                woken.clear()
                for pv in list(pending):
                    sample = pending.pop(pv)
                    for name in pvs[pv]:
                        yield Reading(signal=name, value=_scalar(sample), at=sample.at if sample else time.time())
                if not pending:
                    await woken.wait()
        finally:
            for feed, listener in ends:
                feed.listeners.remove(listener)

    async def cancel(self, handle: str) -> None:
        run = await self._followed(handle)
        if isinstance(run, EpicsRun):
            await run.cancel()

    async def safe_stop(self) -> None:
        self._stops += 1
        puts = {pv: value for option in self._operations.values() for pv, value in option.stop.items()} | self._stop
        for run in self._runs.values():
            run.stopped()
        done = await asyncio.gather(*(put_surely(self._ioc, p, v) for p, v in puts.items()), return_exceptions=True)
        for error in done:
            if isinstance(error, BaseException):
                raise error

    async def close(self) -> None:
        for run in self._runs.values():
            await run.close()
        self._runs.clear()
        await self._ioc.feeds.close()
        await self._ioc.channels.close()

    # -- before a start

    def _forget(self) -> None:
        over = [handle for handle, run in self._runs.items() if not run.under_way]
        for handle in over[: max(0, len(over) - KEPT)]:
            del self._runs[handle]

    async def _free(self, option: OperationOption) -> None:
        done = option.done
        if sum(run.under_way for run in self._runs.values()) >= self._slots:
            if done is not None:
                # One that is gone is not busy: it is to be asked again.
                await self._ioc.channels.get(done.pv, self._ioc.silence)
            raise NotStarted(f"{self._ioc.name} is busy")
        if done is None or self._ioc.holds(done.pv, done.value):
            return
        # A monitor may lag behind what another client has just seen.
        now = await self._ioc.channels.get(done.pv, self._ioc.silence)
        if not self._ioc.same(done.pv, now.value, done.value):
            raise NotStarted(f"{self._ioc.name} is busy: {done.pv} is {now.value}")

    async def _may_start(self, option: OperationOption, settings: Mapping[str, Any]) -> None:
        """Ask the IOC once more, so that a dead one is noticed before anything is sent, and look at what it said."""
        ioc = self._ioc
        pvs = [*option.require, *(pv for name in settings for pv in _pv_limits(option.arguments[name]))]
        # Where a trigger comes last, what is put before it shows as well whether the IOC is there.
        if not pvs and not (option.trigger and (option.arguments or option.put or option.run)):
            pvs = [*(a.pv for a in option.arguments.values()), *(step.pv for step in option.put), option.trigger]
            pvs = [next((pv for pv in pvs if pv), "")]
        got = await ioc.ask(pvs)
        for pv, wanted in option.require.items():
            if not ioc.same(pv, got[pv].value, wanted):
                raise NotStarted(f"interlock: {pv} is {got[pv].value} and not {wanted}", "interlock")
        for name, value in settings.items():
            low, high = ((got[b].value if isinstance(b, str) else None) for b in _both(option.arguments[name]))
            if low is not None and high is not None and not low < high:
                continue
            if (low is not None and value < low) or (high is not None and value > high):
                raise NotStarted(f"{name} {value:g} is not within the IOC's limits, {low} to {high}", "invalid-input")

    # -- runs

    def _known(self, handle: str) -> EpicsRun | None:
        try:
            id, name, settings = msgspec.json.decode(handle, type=tuple[str, str, dict[str, Any]])
        except msgspec.MsgspecError:
            return None
        option = self._operations.get(name)
        return EpicsRun(self._ioc, id, name, option, settings) if option else None

    async def _kept(self, action: str) -> EpicsRun | None:
        """The run that an IOC keeps under our id, with the arguments that it was given."""
        for name, option in self._operations.items():
            if option.run and (await self._ioc.channels.get(option.run.put, self._ioc.silence)).value == action:
                now = await self._ioc.ask(a.pv for a in option.arguments.values())
                given = {n: (a.json, now[a.pv].value) for n, a in option.arguments.items()}
                settings = {n: from_text(value) if as_json else value for n, (as_json, value) in given.items()}
                return EpicsRun(self._ioc, action, name, option, settings)
        return None

    async def _followed(self, handle: str) -> EpicsRun | Run:
        if handle not in self._runs:
            run = self._known(handle)
            if run is None:
                return Run(state="unknown", cause="lost", message=f"{self._ioc.name} knows of no such run")
            await self._learn({pv for pv in run.option.named() if pv not in self._ioc.metas})
            if handle not in self._runs:
                self._take_up(run)
        return self._runs[handle]

    def _take_up(self, run: EpicsRun) -> None:
        self._runs[run.handle] = run
        run.take_up()

    # -- what the IOC says

    async def _learn(self, pvs: set[str]) -> None:
        ordered = sorted(pvs)
        found = await asyncio.gather(*(self._ioc.channels.meta(pv, self._ioc.silence) for pv in ordered))
        self._ioc.metas.update(zip(ordered, found, strict=True))

    async def _operation(self, name: str, option: OperationOption) -> Operation:
        arguments = [await self._argument(n, a) for n, a in option.arguments.items()]
        results = [_result(n, r, self._ioc.metas[r.pv]) for n, r in option.result_options.items()]
        return Operation(
            name=name, effect=option.effect, arguments=tuple(arguments), results=tuple(results),
            seconds=option.seconds, description=option.description,
        )  # fmt: skip

    async def _argument(self, name: str, option: ArgumentOption) -> Argument:
        meta = self._ioc.metas[option.pv]
        low, high = (option.low, option.high)
        bounds = dict.fromkeys(_pv_limits(option))
        for pv in bounds:
            bounds[pv] = (await self._ioc.channels.get(pv, self._ioc.silence)).value
        low = bounds[low] if isinstance(low, str) else low
        high = bounds[high] if isinstance(high, str) else high
        if bounds and low is not None and high is not None and not low < high:
            low = high = None
        typed = option.type or ("array" if meta.array else meta.type)
        numeric = typed in ("number", "integer")
        return Argument(
            name=name, type=typed, unit=meta.unit if option.unit is None else option.unit,
            low=meta.low if low is None and numeric else low, high=meta.high if high is None and numeric else high,
            choices=tuple(option.choices) or (meta.choices if typed == "string" else ()), default=option.default,
            schema=option.schema or ({"items": {"type": meta.type}} if typed == "array" and not option.json else {}),
            description=option.description,
        )  # fmt: skip


def _result(name: str, option: ResultOption, meta: Meta) -> Argument:
    typed = option.type or ("array" if meta.array else meta.type)
    return Argument(
        name=name, type=typed, unit=meta.unit if option.unit is None else option.unit,
        choices=meta.choices if typed == "string" else (), description=option.description,
        schema=option.schema or ({"items": {"type": meta.type}} if typed == "array" and not option.json else {}),
    )  # fmt: skip


def _signal(name: str, option: SignalOption, meta: Meta) -> Signal:
    return Signal(
        name=name, type=option.type or meta.type, unit=meta.unit if option.unit is None else option.unit,
        low=option.low, high=option.high, description=option.description,
    )  # fmt: skip


def _both(option: ArgumentOption) -> tuple[float | str | None, float | str | None]:
    return option.low, option.high


def _pv_limits(option: ArgumentOption) -> list[str]:
    return [bound for bound in _both(option) if isinstance(bound, str)]


def _scalar(sample: Sample | None) -> Scalar | None:
    if sample is None:
        return None
    return int(sample.value) if isinstance(sample.value, bool) else sample.value
