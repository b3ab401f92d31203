"""One run of an operation on an IOC: its puts in order, how it goes, how it ended, and whether it is still ours."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ...core import ENDED, Cause, InDoubt, NotStarted, Run, RunState, Unavailable
from ._bluesky import Key, Record, Taken, documents
from ._epics_channels import Ioc, Meta, Refused, Sample, from_text, put_surely
from ._epics_options import OperationOption
from ._epics_verdict import Course, verdict, within

PROMPT = 0.1
"""Seconds in which most puts are answered; of a longer one it is asked whether it was accepted."""
BEGIN = 2.0
"""Seconds in which a done PV shows that an operation has begun, once the put was answered."""
AGAIN = 0.5
"""Seconds between two tries to ask an IOC that has just come back."""
STOP_AGAIN = 1.0
"""Seconds after which what goes on is stopped again: a drive may miss a stop that comes as it sets off."""
KEPT = 10_000
"""Readings of a readback that a run keeps at most."""


class EpicsRun:
    """Begins, or is taken up after a crash of ours; then carries on until it has ended."""

    def __init__(self, ioc: Ioc, id: str, name: str, option: OperationOption, settings: Mapping[str, Any]) -> None:
        self.id, self.name, self.option, self.settings = id, name, option, dict(settings)
        self.handle = msgspec.json.encode([id, name, self.settings]).decode()
        self.now = Run(state="running", started=time.time())
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._ioc, self._unlisten = ioc, list[Callable[[], None]]()
        self._woken, self._began = asyncio.Event(), asyncio.Event()
        self._put: asyncio.Task[None] | None = None
        self._answered: float | None = None
        self._lost = self._judged = self._overdue = self._cancelled = False
        self._halted: float | None = None
        self._violated = self._interlock = self._refused = ""
        self._reached: float | None = None
        self._taken = list[Taken]()
        self._clear = dict[str, bool]()

    @property
    def under_way(self) -> bool:
        return not self._over()

    def _over(self) -> bool:
        return self.now.state in ENDED

    async def begin(self) -> None:
        """Put everything in order. Raises NotStarted, Unavailable and InDoubt."""
        self._listen()
        try:
            await self._put_all()
        except BaseException:
            self._close()
            raise
        self.task = asyncio.create_task(self._carry_on())

    def take_up(self) -> None:
        """Carry on with a run that an earlier process of ours began."""
        self._listen()
        self._lost = True
        self.task = asyncio.create_task(self._carry_on())

    async def cancel(self) -> None:
        """Put what ends it, if anything does. Raises Unavailable."""
        if self.under_way and self.option.stop:
            self._cancelled = True
            await self.halt()

    async def halt(self) -> None:
        """Put all of `stop`. Raises Unavailable where it did not get through."""
        for pv, value in self.option.stop.items():
            await put_surely(self._ioc, pv, value)
        self._halted = time.monotonic()
        self._woken.set()

    def stopped(self) -> None:
        """The whole instrument is being stopped."""
        self._cancelled = self._cancelled or self.under_way

    async def close(self) -> None:
        """Let go of it; it goes on."""
        for task in (self.task, self._put):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task])
        self._close()

    async def still_ours(self) -> bool:
        """Whether the IOC still has, or had, this run: asked after a lost connection or a crash. Raises Unavailable.

        EPICS has no run ids. An IOC that keeps ours can be asked; else, only of what may be repeated, and where puts
        stay as they were put, the state tells: as it was asked for, the run may as well have made it so.
        """
        option, ioc = self.option, self._ioc
        if option.run and option.run.began:
            return bool((await ioc.channels.get(option.run.began, ioc.silence)).value == self.id)
        if option.run and option.done:
            ours = (await ioc.channels.get(option.run.put, ioc.silence)).value == self.id
            done = await ioc.channels.get(option.done.pv, ioc.silence)
            return ours and not ioc.same(option.done.pv, done.value, option.done.value)
        if option.trigger or option.effect not in ("read", "reversible") or not (option.done or option.readback):
            return False
        steps = self._steps()
        now = await ioc.ask([pv for pv, _ in steps])
        self._judged = True
        return bool(steps) and all(ioc.same(pv, now[pv].value, value) for pv, value in steps)

    # -- the puts

    def _steps(self) -> list[tuple[str, Any]]:
        arguments = self.option.arguments
        steps = []
        for step in self.option.steps:
            to = arguments.get(step.argument)
            value = self.settings.get(step.argument) if to else step.value
            if to and to.json:
                value = msgspec.json.encode(value).decode()
            steps.append((step.pv or (to.pv if to else ""), value))
        return steps

    async def _put_all(self) -> None:
        option = self.option
        first = self._steps()
        if option.run:
            first.insert(len(first) if option.trigger else 0, (option.run.put, self.id))
        last = (option.trigger, option.trigger_value) if option.trigger else first.pop() if first else None
        if option.trigger and not option.put:
            # Before their trigger, arguments do nothing, and need not wait for one another.
            await self._prepare(*first)
            first = []
        before = ""
        for pv, value in [*first, *([last] if last else [])]:
            try:
                if self._cancelled or self._interlock:
                    await self._break_off(before)
                    return
                if option.trigger and pv != option.trigger:
                    await self._prepare((pv, value))
                elif (pv, value) == last:
                    await self._put_last(pv, value)
                else:
                    await self._ioc.channels.put(pv, value, self._ioc.silence)
            except Refused as error:
                if not before or option.trigger:
                    raise NotStarted(str(error)) from error
                self._end("failed", f"{error}, after {before} had been put", "refused")
                return
            except Unavailable as error:
                if before and not option.trigger:
                    raise InDoubt(f"{error}, after {before} had been put") from error
                raise
            before = pv
        if last is None:
            self._answered = time.monotonic()

    async def _break_off(self, before: str) -> None:
        """End with puts left: none of them comes. Raises NotStarted where nothing has begun, and Unavailable."""
        why = f"interlock: {self._interlock}" if self._interlock else "stopped"
        cause: Cause = "interlock" if self._interlock else "cancelled"
        if not before or self.option.trigger:
            raise NotStarted(f"{why}, before it began", cause)
        # What was put may have set something off just after the stop: that comes once more.
        await self.halt()
        self._end("failed" if self._interlock else "cancelled", f"{why}, after {before} had been put", cause)

    async def _prepare(self, *puts: tuple[str, Any]) -> None:
        """Puts that begin nothing, whatever comes of them: a trigger will. Raises NotStarted and Unavailable."""
        ioc = self._ioc
        for error in await asyncio.gather(*(ioc.channels.put(*p, ioc.silence) for p in puts), return_exceptions=True):
            if isinstance(error, Refused):
                raise NotStarted(str(error)) from error
            if isinstance(error, InDoubt | Unavailable):
                raise Unavailable(f"{error}; it was not triggered") from error
            if error is not None:
                raise error

    async def _put_last(self, pv: str, value: Any) -> None:
        # Its answer comes when the record is processed, which a motor's is when it has moved. A refusal comes at once,
        # and before the answer to anything that is asked later: what is answered then has been accepted.
        self._put = asyncio.create_task(self._ioc.channels.put(pv, value, None))
        self._put.add_done_callback(self._put_ended)
        began = asyncio.create_task(self._began.wait())
        await asyncio.wait({self._put, began}, timeout=PROMPT, return_when=asyncio.FIRST_COMPLETED)
        began.cancel()
        if not self._put.done() and not self._began.is_set():
            try:
                await self._ioc.channels.get(pv, self._ioc.silence)
            except Unavailable as error:
                self._put.cancel()
                raise InDoubt(f"{pv} was put and the IOC does not answer any more") from error
        if self._put.cancelled():
            raise InDoubt(f"the connection went while {pv} was put")
        if self._put.done():
            self._put.result()

    def _put_ended(self, put: asyncio.Task[None]) -> None:
        error = None if put.cancelled() else put.exception()
        if isinstance(error, Refused):
            self._refused = str(error)
        elif put.cancelled() or error is not None:
            self._lost = True
        else:
            self._answered = time.monotonic()
        self._woken.set()

    # -- what is heard

    def _listen(self) -> None:
        for pv in self.option.watched():
            feed = self._ioc.feeds.feed(pv)
            if pv in self.option.violation and feed.last is not None:
                self._clear[pv] = feed.last.value in (0, False)

            def heard(sample: Sample | None, pv: str = pv) -> None:
                self._heard(pv, sample)

            feed.listeners.append(heard)
            self._unlisten.append(lambda feed=feed, heard=heard: feed.listeners.remove(heard))  # type: ignore[misc]

    def _heard(self, pv: str, sample: Sample | None) -> None:
        option, ioc = self.option, self._ioc
        self._woken.set()
        if pv in option.require and (sample is None or not ioc.same(pv, sample.value, option.require[pv])):
            what = "cannot be read" if sample is None else f"is {sample.value}"
            self._interlock = self._interlock or f"{pv} {what} and not {option.require[pv]}"
        if sample is None:
            # An IOC that is only silent is still the same one when it answers again.
            if ioc.feeds.feed(pv).gone:
                self._lost = True
                if self._put is not None:
                    # A library may send it again when the IOC is back; it is never to be put twice.
                    self._put.cancel()
            return
        done, run = option.done, option.run
        named = bool(run and run.began)  # An IOC that names the run needs no guess from what may be another's.
        if done and pv == done.pv and not named and not ioc.same(pv, sample.value, done.value):
            self._began.set()
        if run and pv == run.began and sample.value == self.id:
            self._began.set()
        if pv in option.violation:
            # Some say 1 from the start: only what turns 1 during a run tells of it.
            if sample.value not in (0, False) and self._clear.get(pv) and self._began.is_set():
                self._violated = f"{pv} is {sample.value}: a limit was hit"
            self._clear[pv] = sample.value in (0, False)
        if pv == option.progress and isinstance(sample.value, int | float):
            self._tell(msgspec.structs.replace(self.now, progress=min(1.0, max(0.0, float(sample.value)))))
        if option.readback and pv == option.readback.pv and len(self._taken) < KEPT:
            self._taken.append(Taken("readback_monitor", sample.at, {"readback": (sample.value, sample.at)}))

    # -- until it has ended

    async def _carry_on(self) -> None:
        end = time.monotonic() + self.option.timeout
        try:
            while self.under_way:
                self._woken.clear()
                again = await self._look()
                if self._over():
                    return
                left = end - time.monotonic()
                try:
                    async with asyncio.timeout(max(0.0, left if again is None else min(left, again))):
                        await self._woken.wait()
                except TimeoutError:
                    if time.monotonic() >= end:
                        end = await self._late()
        finally:
            self._close()

    async def _look(self) -> float | None:
        """End it where it has ended; else seconds after which to look again even where nothing is heard."""
        option, ioc = self.option, self._ioc
        if self._refused:
            self._end("failed", self._refused, "refused")
            return None
        gone = [pv for pv in option.watched() if ioc.feeds.feed(pv).last is None]
        if gone:
            self._tell(msgspec.structs.replace(self.now, message=f"not connected: {', '.join(gone)}"))
            return None
        try:
            if self._lost:
                if not await self.still_ours():
                    self._end("unknown", "the IOC was away, and does not know this run", "lost")
                    return None
                self._lost = False
                self._began.set()
                self._answered = self._answered or time.monotonic()
                self._tell(msgspec.structs.replace(self.now, message=""))
            stopping = bool(option.stop) and (self._cancelled or self._overdue or bool(self._interlock))
            if stopping and (self._halted is None or time.monotonic() >= self._halted + STOP_AGAIN):
                await self.halt()
            if (again := self._to_wait()) is None or again > 0:
                return min(again or STOP_AGAIN, STOP_AGAIN) if stopping else again
            await self._finish()
            return None
        except Unavailable:
            return AGAIN

    def _to_wait(self) -> float | None:
        """0 where it is done, None where something will be heard, else seconds."""
        option, ioc = self.option, self._ioc
        if option.done:
            if not ioc.holds(option.done.pv, option.done.value):
                return None
            if not self._began.is_set():
                return None if self._answered is None else max(0.0, self._answered + BEGIN - time.monotonic())
            return 0.0
        if (self._interlock or self._cancelled) and self._halted is not None:
            return 0.0
        if option.readback:
            sample = ioc.feeds.feed(option.readback.pv).last
            if sample is None or not within(ioc, option, self.settings, sample.value):
                self._reached = None
                return None
            self._reached = self._reached or time.monotonic()
            return max(0.0, self._reached + option.readback.hold - time.monotonic())
        return 0.0 if self._answered is not None else None

    async def _finish(self) -> None:
        """Ask for everything anew: monitors of several PVs come in any order. Raises Unavailable."""
        option, ioc = self.option, self._ioc
        results = option.result_options
        # Whether it is done is asked first, so that all the rest is no older.
        pvs = [option.done.pv if option.done else "", *(r.pv for r in results.values())]
        pvs += [*option.alarm, *option.violation]
        pvs += [option.status.pv] if option.status else []
        pvs += [option.readback.pv] if option.readback else []
        got = await ioc.ask(pvs)
        if option.done and not ioc.same(option.done.pv, got[option.done.pv].value, option.done.value):
            return
        if option.status and not ioc.same(option.status.pv, got[option.status.pv].value, option.status.succeeded):
            got |= await ioc.ask([option.message, option.cause])
        course = Course(
            began=self._began.is_set(), cancelled=self._cancelled, judged=self._judged, overdue=self._overdue,
            interlock=self._interlock, violated=self._violated,
        )  # fmt: skip
        state, message, cause = verdict(ioc, option, self.settings, course, got)
        if results and (state == "succeeded" or not option.trigger):
            self._taken.append(Taken("primary", time.time(), {n: (got[r.pv].value, got[r.pv].at)
                                                              for n, r in results.items()}))  # fmt: skip
        values: dict[str, object] = {}
        if state == "succeeded":
            values = {n: from_text(got[r.pv].value) if r.json else got[r.pv].value for n, r in results.items()}
        self._end(state, message, cause, values)

    async def _late(self) -> float:
        """Its time is over: stop it; where that shows no end either, nobody knows. When to look again."""
        if not self._overdue:
            self._overdue = True
            try:
                await self.halt()
            except Unavailable:
                self._lost = True
            return time.monotonic() + self._ioc.silence
        said = f"not done after {self.option.timeout:g} s"
        alive = self.option.readback and self._ioc.feeds.feed(self.option.readback.pv).last is not None
        if alive and not self.option.done:
            self._end("failed", said, "timed-out")
        else:
            self._end("unknown", said, "timed-out" if alive else "lost")
        return 0.0

    # -- what is told

    def _tell(self, run: Run) -> None:
        if self.under_way and run != self.now:
            self.now, heard = run, self.changed
            self.changed = asyncio.Event()
            heard.set()

    def _end(self, state: RunState, message: str, cause: Cause, results: dict[str, object] | None = None) -> None:
        ended = time.time()
        record = Record(
            id=self.id, instrument=self._ioc.name, operation=self.name, settings=self.settings, state=state,
            started=self.now.started, ended=ended, message=message, keys=self._keys(), taken=tuple(self._taken),
        )  # fmt: skip
        kept = [[name, document] for name, document in documents(record)]
        self._tell(Run(
            state=state, progress=1.0 if state == "succeeded" else self.now.progress, message=message,
            results={**(results or {}), "documents": kept}, cause=cause, started=self.now.started, ended=ended,
        ))  # fmt: skip

    def _keys(self) -> dict[str, Key]:
        pvs = {name: r.pv for name, r in self.option.result_options.items()}
        if self.option.readback:
            pvs["readback"] = self.option.readback.pv
        found = {name: (pv, self._ioc.metas.get(pv) or Meta(type="number")) for name, pv in pvs.items()}
        return {
            name: Key(source=pv, type=m.type, unit=m.unit, precision=m.precision, low=m.low, high=m.high,
                      choices=m.choices)
            for name, (pv, m) in found.items()
        }  # fmt: skip

    def _close(self) -> None:
        unlisten, self._unlisten = self._unlisten, []
        for end in unlisten:
            end()
