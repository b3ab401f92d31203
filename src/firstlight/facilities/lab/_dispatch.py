"""What is started when: queued actions become runs, once all that they need is there and reserved."""

import asyncio
import contextlib
import logging
import secrets
import sqlite3
import time
from collections.abc import Coroutine, Mapping, Sequence
from errno import EDQUOT, EIO, ENOSPC, EROFS
from typing import Any

from msgspec.structs import replace

from ...core import (
    Action,
    Failure,
    InDoubt,
    Instrument,
    InstrumentDescription,
    NotStarted,
    Outcome,
    Permit,
)
from ..assets import AssetStore
from ._books import Books, out_of_sight
from ._layout import Interlock, Layout
from ._obstacles import Obstacles
from ._orders import Desk, NotYet, Order, Wrong, read_order
from ._owners import Owners
from ._queue import USUAL, Expected
from ._runs import Ended, perform, take_up
from ._store import Job, Look, RunRow, Store
from ._watch import Watch

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between two looks at what other processes may have released."""
PATIENCE, AT_LEAST = 10.0, 30.0
"""How many times its usual duration an operation may take that has no limit, and seconds that it may take anyway."""
TRIES = 3
"""How often an operation that may be repeated is performed, in doubt of what came of it."""
AWAY = 2.0
"""Seconds before an instrument that could not be reached is tried again."""


class Dispatch:
    """The queue of a laboratory, and the runs that this process looks after."""

    def __init__(
        self, layout: Layout, store: Store, desk: Desk, instruments: Mapping[str, Instrument], assets: AssetStore,
        owners: Owners, described: Mapping[str, InstrumentDescription],
    ) -> None:  # fmt: skip
        self.layout, self.store, self.desk, self.instruments = layout, store, desk, instruments
        self.owners, self.owner, self.described = owners, owners.here, described
        self.books = Books(store, desk, assets)
        self.expected = Expected(desk)
        self._queued: dict[str, Order] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, list[asyncio.Future[None]]] = {}
        self._stopped: dict[str, str] = {}
        self._cancelled = set[str]()
        self._told: list[str] = []
        self._closed = False
        self._condemned: dict[str, tuple[str, ...]] = {}
        self._changed: asyncio.Future[None] | None = None
        self._loop: asyncio.Task[None] | None = None
        self._watch = Watch(layout.interlocks, instruments, self._trip, self.look_again)
        self.obstacles = Obstacles(layout, store, desk, self._watch, described)

    # ------------------------------------------------------------------ what comes in

    def expect(self, trial: str, actions: Sequence[Action]) -> None:
        """What is going to come of a trial."""
        orders = [o for o in map(self._order, actions) if o is not None]
        self.expected.add(trial, orders)
        # The whole of a trial is checked before the first motion: no sample is begun that cannot be ended.
        wrong = [f"{o.action.name}: {why}" for o in orders for why in self.wrong(o)]
        self._condemned[trial] = tuple(dict.fromkeys(wrong))
        self.look_again()

    def condemned(self, trial: str) -> tuple[str, ...]:
        """What is wrong with the actions of a trial, before any of them was begun."""
        return self._condemned.get(trial, ())

    def wrong(self, order: Order) -> tuple[str, ...]:
        """What is wrong with an order, found before anything is sent."""
        try:
            self.desk.draws(order)
        except Wrong as wrong:
            return (*self.desk.wrong(order), *wrong.reasons)
        return self.desk.wrong(order)

    def take(self, job: Job) -> None:
        """A job that is to be performed."""
        self._vouched(job.permit.action)
        self._queued[job.id] = read_order(job.permit.action, self.described, self.layout)
        self._begin()
        self.look_again()

    def is_mine(self, job: Job) -> bool:
        """Whether this process is to have a queued job performed: whoever was asked first knows what else is to come.

        What one that is gone was asked for is taken over.
        """
        if job.owner == self.owner:
            return True
        if not self.owners.is_gone(job.owner):
            return False
        self.store.adopt(job.id, self.owner)
        return True

    async def wait_for(self, job: Job) -> None:
        """Until something has come of a job; whoever looked after it may be gone."""
        if job.state == "queued" and job.id not in self._queued:
            if not self.is_mine(job):
                await asyncio.sleep(LOOK)
                return
            self.take(job)
        elif job.state == "running" and job.run not in self._runs:
            before = self.store.owner(job.run)
            if before not in ("", self.owner) and not self.owners.is_gone(before):
                # It may be about to send it: nobody else can tell by the instrument whether it has begun.
                await asyncio.sleep(LOOK)
                return
            if before != self.owner and not self.store.claim(job.run, before, self.owner):
                await asyncio.sleep(LOOK)
                return
            self._adopt(job.run)
        end = asyncio.get_running_loop().create_future()
        self._ends.setdefault(job.id, []).append(end)
        current = self.store.job(job.id)
        if current is not None and current.state in ("ended", "doubt"):
            return
        if self._loop is not None and self._loop.done():
            self._loop.result()
        await end

    async def cancel(self, id: str) -> None:
        job = self.store.job(id)
        if job is None or job.state in ("ended", "doubt"):
            return
        if job.state == "queued":
            self._queued.pop(id, None)
            self._end(id, Failure(cause="cancelled", ended=time.time()))
            self.look_again()
            return
        self._cancelled.add(id)
        run = self.store.run(job.run)
        order = self._order(job.permit.action)
        if run is None or order is None or not run.handle or order.form.moves:
            return  # Labware is set down where it was to go: let go of in between, nobody would know where it is.
        # What is done for several is ended only once none of them wants it any more.
        if self._unwanted(run):
            await self._call_off(run, run.handle)

    def _unwanted(self, run: RunRow) -> bool:
        return bool(run.members) and all(member in self._cancelled for member in run.members)

    async def _call_off(self, run: RunRow, handle: str) -> None:
        # What cannot be ended goes on to its end: the outcome says what came of it.
        with contextlib.suppress(NotStarted, InDoubt):
            await self.instruments[run.instrument].cancel(handle)

    def look_again(self) -> None:
        """Something has changed: see what can be started now."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def aware(self) -> None:
        """Begin to watch, and wait until every interlock has been read once, or cannot be."""
        self._begin()
        await self._watch.ready()

    async def stop(self, name: str) -> str:
        """A safe stop, at once; what went wrong, or ""."""
        try:
            await self.instruments[name].safe_stop()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the others are to be stopped
            return str(error) or type(error).__name__
        return ""

    async def close(self) -> None:
        tasks = [*self._runs.values(), *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._watch.close()
        if not self._closed:
            self.store.disown(self.owner)
        self._closed = True

    # ------------------------------------------------------------------ the loop

    def _begin(self) -> None:
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._go_on())
            self._loop.add_done_callback(self._give_up)
            self._watch.start()

    def _give_up(self, loop: asyncio.Task[None]) -> None:
        """The loop ends only by a bug: whoever waits for it hears of that, and not nothing for ever."""
        if not loop.cancelled() and (error := loop.exception()):
            for end in [end for ends in self._ends.values() for end in ends if not end.done()]:
                end.set_exception(error)
            self._ends.clear()

    async def _go_on(self) -> None:
        while True:
            self._changed = asyncio.get_running_loop().create_future()
            waiting = self._start_what_can_be()
            if waiting:
                self._look_after_orphans()
            await asyncio.wait((self._changed,), timeout=LOOK if waiting else None)

    async def take_over(self, seconds: float) -> None:
        """Look after what processes that are gone had begun, and wait for its end for so many seconds at most."""
        self._look_after_orphans()
        if self._runs:
            await asyncio.wait(list(self._runs.values()), timeout=seconds)

    def _look_after_orphans(self) -> None:
        """What a process had begun that is gone is followed to its end here: others wait for the instrument."""
        for run, owner in self.store.orphans():
            found = self.store.run(run)
            # One whose instrument has not been described here is left to whoever knows it.
            known = found is not None and found.instrument in self.described
            if (
                known
                and run not in self._runs
                and self.owners.is_gone(owner)
                and self.store.claim(run, owner, self.owner)
            ):
                log.warning("%s had been begun by a process that is gone, and is followed from here", run)
                self._adopt(run)

    def _start_what_can_be(self) -> bool:
        """Start every order that can be, in the order of the plan; whether any is left."""
        self.expected.settle(self.store)
        look, held, waiting = self.store.look(), self.store.held(), dict[str, str]()
        for group in self._groups(look):
            order = group[0]
            message = self.expected.lacks(order.action.trial) or self.obstacles.engaged(order.instrument, held)
            if not message and order.carries:
                message = self.expected.companions(group, look)
            message = message or self._start(group, look)
            waiting |= dict.fromkeys((member.action.id for member in group), message)
            if not message:
                look.states.update(dict.fromkeys((member.action.id for member in group), "running"))
                held = self.store.held()
        self.store.say({job: message for job, message in waiting.items() if message})
        troubles = self.obstacles.troubles()
        for trouble in troubles:
            if trouble not in self._told:
                log.warning("laboratory %s: %s", self.layout.name, trouble)
        self._told = troubles
        return bool(self._queued)

    def _groups(self, look: Look) -> list[list[Order]]:
        """Queued orders that would be performed together, the most urgent first."""
        groups: dict[str, list[Order]] = {}
        for order in self.expected.ordered(self._queued.values(), look):
            key = f"{order.alike} {self.expected.labware(order)}" if order.carries else order.action.id
            groups.setdefault(key, []).append(order)
        return list(groups.values())

    def _start(self, group: list[Order], look: Look) -> str:
        """Reserve all that these need, and start them as one run; or what they wait for."""
        order = group[0]
        if why := self.obstacles.of(order):
            self._make_room(order, look)
            try:
                self.desk.arguments(order)
            except NotYet:
                return why
            except Wrong as wrong:
                for member in group:
                    self._refuse(member, wrong)
                return ""
            return why
        arguments = self.desk.arguments(order)
        attempt = max((job.attempt for o in group if (job := self.store.job(o.action.id))), default=1)
        name = order.action.id if attempt == 1 else f"{order.action.id}#{attempt}"
        members = tuple(o.action.id for o in group)
        run = RunRow(name, order.instrument, order.operation.name, arguments, members, "starting", "", "", {}, 0.0, 0.0)
        with self.store.changing():
            if begun := [id for id in members if (job := self.store.job(id)) is None or job.state != "queued"]:
                # Another process was asked for the same, and was quicker: what comes of it is known there.
                for id in begun:
                    self._queued.pop(id, None)
                    self._wake(id)
                self.look_again()
                return ""
            # It is not over by itself: something may be under way from here on.
            if why := self.store.hold(self.obstacles.resources(order, arguments), name, self.owner, None):
                return why
            self.store.begin(run)
            if order.form.moves:
                self.store.place(str(arguments[order.form.moves.what]), "", name)
            elif order.carries:
                # From here on no further sample is put there: it would be half treated.
                for plate in self.desk.plates(order, arguments):
                    self.store.take_plate(plate)
        for id in members:
            self._queued.pop(id, None)
        self._look_after(run, order, self._perform(run, order))
        return ""

    def _make_room(self, order: Order, look: Look) -> None:
        """Labware of which no sample is under way any more does not keep others from a place: it is brought home.

        That is part of what was permitted, as without it nothing could be brought there.
        """
        moves = order.form.moves
        if not moves or not moves.origin:
            return
        try:
            arguments = self.desk.arguments(order)
        except (NotYet, Wrong):
            return
        for plate in self.store.plates():
            home = self.layout.labware[plate.id].place if plate.id in self.layout.labware else ""
            if plate.place != arguments[moves.to] or plate.id == arguments[moves.what] or home in ("", plate.place):
                continue
            there = sum(p.place == home for p in self.store.plates())
            if self.expected.wanted(plate.id, look) or there >= self.layout.places.get(home, 1):
                continue
            away = {**arguments, moves.what: plate.id, moves.origin: plate.place, moves.to: home}
            name = f"{order.action.id}~room-{secrets.token_hex(2)}"
            needs = {
                order.instrument: self.described[order.instrument].slots,
                plate.id: 1,
                f"place {home}": self.layout.places.get(home, 1) - there,
            }
            run = RunRow(name, order.instrument, order.operation.name, away, (), "starting", "", "", {}, 0.0, 0.0)
            with self.store.changing():
                if self.store.hold(needs, name, self.owner, None):
                    return
                self.store.begin(run)
                self.store.place(plate.id, "", name)
            self._look_after(run, order, self._perform(run, order))

    def _refuse(self, order: Order, wrong: Wrong) -> None:
        self._queued.pop(order.action.id, None)
        self._end(order.action.id, Failure(cause="refused", message=str(wrong), ended=time.time()))

    def _look_after(self, run: RunRow, order: Order, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"run {run.id}")
        self._runs[run.id] = task

        def done(ended: asyncio.Task[None]) -> None:
            self._runs.pop(run.id, None)
            if not ended.cancelled() and (error := ended.exception()):
                if _is_full(error):
                    # The instrument keeps what it knows: the end is looked at again once it can be written down.
                    log.error("how %s ended cannot be written down (%s); again in %g s", run.id, error, AWAY)
                    asyncio.get_running_loop().call_later(AWAY, self._adopt, run.id)
                    return
                log.error("run %s on %s ended badly", run.id, order.instrument, exc_info=error)
                self._doubt(run, order, f"{type(error).__name__}: {error}")
            self.look_again()

        task.add_done_callback(done)

    # ------------------------------------------------------------------ one run

    async def _perform(self, run: RunRow, order: Order) -> None:
        job = self.store.job(order.action.id)
        assert job is not None
        action = replace(order.action, id=run.id, operation=run.operation, settings=dict(run.arguments))
        permit: Permit = replace(job.permit, action=action)
        instrument = self.instruments[run.instrument]

        async def begun(handle: str) -> None:
            if self._unwanted(run) and not order.form.moves:
                await self._call_off(run, handle)

        ended = await perform(self.store, run, permit, instrument, self._longest(order), begun)
        self._settle(run, order, ended)

    def _adopt(self, id: str) -> None:
        """Look after a run that a process before this one had begun."""
        if self._closed:
            return
        run = self.store.run(id)
        # A run without members makes room for the action after which it is named.
        job = self.store.job(run.members[0] if run.members else id.partition("~")[0]) if run else None
        order = self._order(job.permit.action) if job else None
        if run is None or order is None:
            return
        found, known = run, order

        async def go_on() -> None:
            instrument = self.instruments[found.instrument]
            self._settle(found, known, await take_up(self.store, found, instrument, self._longest(known)))

        self._begin()
        self._look_after(run, order, go_on())

    def _longest(self, order: Order) -> float:
        return order.action.limits.seconds or max(AT_LEAST, PATIENCE * (order.operation.seconds or USUAL))

    def _settle(self, run: RunRow, order: Order, ended: Ended) -> None:
        interlock = self._stopped.get(run.id, "")
        now = self.store.run(run.id)
        if now is not None and now.state not in ("starting", "running"):
            # Somebody else looked after it too, and was quicker.
            self._stopped.pop(run.id, None)
            for member in run.members:
                self._wake(member)
            return
        if ended.state == "never":
            self.books.never(run, order)
            self.obstacles.away[run.instrument] = time.monotonic() + AWAY
            self._queue_again(run)
        elif ended.state == "doubt" and not interlock and self._again(run, order):
            self.books.again(run, order, ended.message, self.owner)
            self._queue_again(run)
        elif not interlock and (ended.state == "doubt" or out_of_sight(order, ended)):
            self._doubt(run, order, ended.message or f"{run.operation} {ended.state}")
        else:
            self.books.conclude(run, order, ended, interlock)
            for member in run.members:
                self._cancelled.discard(member)
                self._wake(member)
        self._stopped.pop(run.id, None)
        self.look_again()

    def _again(self, run: RunRow, order: Order) -> bool:
        """Whether a run may simply be repeated: what can be undone may, a few times, and a move is not one of them."""
        tries = max((job.attempt for m in run.members if (job := self.store.job(m))), default=1)
        return order.operation.repeatable and not order.form.moves and tries < TRIES

    def _queue_again(self, run: RunRow) -> None:
        for member in run.members:
            job = self.store.job(member)
            order = self._order(job.permit.action) if job and job.state == "queued" else None
            if member in self._cancelled:
                self._end(member, Failure(cause="cancelled", ended=time.time()))
            elif order is not None:
                self._queued[member] = order

    def _doubt(self, run: RunRow, order: Order, why: str) -> None:
        self.books.doubt(run, order, why)
        for member in run.members:
            self._wake(member)

    def _end(self, job: str, outcome: Outcome) -> None:
        self.store.end(job, outcome)
        self._cancelled.discard(job)
        self._wake(job)

    def _wake(self, job: str) -> None:
        for end in self._ends.pop(job, ()):
            if not end.done():
                end.set_result(None)

    # ------------------------------------------------------------------ people, and interlocks

    async def _trip(self, lock: Interlock, why: str) -> None:
        """Safe stop of what the interlock guards; the runs there end as stopped by it."""
        names = lock.stop or (lock.instrument,)
        message = f"interlock: {why}; safe stop of {', '.join(names)}"
        log.error("%s", message)
        try:
            for run in self.store.runs("starting", "running"):
                if run.instrument in names:
                    self._stopped[run.id] = message
        except sqlite3.Error:
            log.exception("what runs there cannot be read")
        for name, wrong in zip(names, await asyncio.gather(*map(self.stop, names)), strict=True):
            if wrong:
                log.error("safe stop of %s: %s", name, wrong)

    def _vouched(self, action: Action) -> None:
        """A person has said that earlier actions of this trial were performed: otherwise this one had not come."""
        for id in action.after:
            job = self.store.job(id)
            if job is not None and job.state == "doubt":
                self.books.attest(job, time.time())

    def ended(self, trial: str, performed: Sequence[str]) -> None:
        """Nothing more of a trial comes: nobody is asked about it any more, and what was promised to it is free."""
        self._condemned.pop(trial, None)
        self.expected.drop(trial)
        with self.store.changing():
            expected, doubted = {action.id for action in self.store.expected_of(trial)}, False
            for job in self.store.jobs_of(trial):
                if job.state == "doubt" and job.id in performed:
                    self.books.attest(job, time.time())
                elif job.state == "doubt":
                    self.books.give_up(job)
                    doubted = True
                elif job.state == "queued":
                    self._queued.pop(job.id, None)
                    self._end(job.id, Failure(cause="cancelled", ended=time.time()))
            if expected:  # Else this has been told before.
                measured = expected <= set(performed)
                self.store.mark(trial, "discarded" if doubted else "measured" if measured else "failed")
            self.store.forget(trial)
        self.look_again()

    def _order(self, action: Action) -> Order | None:
        try:
            return read_order(action, self.described, self.layout)
        except (Wrong, KeyError):
            return None


def _is_full(error: BaseException) -> bool:
    """Whether it is the disk that is wrong, and not what was to be written to it."""
    return isinstance(error, sqlite3.Error) or (
        isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT, EIO, EROFS)
    )
