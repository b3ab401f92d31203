"""The port: a laboratory of many instruments as one facility."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...core import (
    Action,
    Argument,
    FacilityStatus,
    Failure,
    Finding,
    InDoubt,
    Instrument,
    InstrumentDescription,
    JobStatus,
    Operation,
    Outcome,
    Permit,
    Unavailable,
    check_arguments,
)
from ..assets import AssetStore
from ._adapters import make_instrument
from ._dispatch import Dispatch
from ._layout import BadLaboratory, Layout, overlaid, read_layout
from ._orders import Desk, Wrong, read_order
from ._owners import Owners
from ._store import Store
from ._things import Stock
from .human import HumanInstrument, Task, close_task, open_tasks

__all__ = ["BadLaboratory", "LabFacility", "shown"]

TAKES_OVER = 2.0
"""Seconds to ask an instrument what became of a run whose process is gone."""
MANY = 1000
"""Actions that it accepts at once: they queue here, where what else is coming is known."""


class LabFacility:
    """Performs actions on the instruments of a laboratory, described in `file` (docs/how-to/connect-an-instrument.md).

    An action's operation is "instrument.operation", and its settings are the arguments. Whatever is wrong with them is
    told before anything is sent. What it remembers is below `root`, for every process that uses the same root. An
    action that consumes and of which nobody knows what came is never repeated, whatever its step says: it is in doubt
    until a person has looked.
    """

    computes = False
    laboratory = True

    def __init__(
        self, root: Path | str, slots: int = MANY, *, file: Path | str, quantity: Callable[[str], tuple[float, str]],
        convert: Callable[[float, str, str], float], assets: Path | str | None = None,
        instruments: Mapping[str, Instrument] | None = None,
    ) -> None:  # fmt: skip
        self.root, self._slots = Path(root), max(slots, MANY)
        self.layout: Layout = read_layout(Path(file))
        self._convert = convert
        try:
            self.store = Store(self.root / "lab.db")
            self.store.stock(self.layout, quantity, convert)
        except sqlite3.DatabaseError as error:
            raise Unavailable(f"{self.root / 'lab.db'} cannot be used: {error}; bring back a copy of it") from error
        self.desk = Desk(self.layout, self.store, quantity, convert)
        made = dict(instruments or {})
        self.instruments: dict[str, Instrument] = {
            name: made[name] if name in made else make_instrument(name, said, self.root / "tasks" / name)
            for name, said in self.layout.instruments.items()
        }
        self._described: dict[str, InstrumentDescription] = {}
        self._describing, self._recalling = asyncio.Lock(), asyncio.Lock()
        self._known = set[str]()
        self.owners = Owners(self.root / "owners")
        keep = AssetStore(Path(assets) if assets else self.root / "assets")
        self._dispatch = Dispatch(
            self.layout, self.store, self.desk, self.instruments, keep, self.owners, self._described
        )

    @property
    def slots(self) -> int:
        return self._slots

    # ------------------------------------------------------------------ the port

    async def submit(self, permit: Permit) -> str:
        action = permit.action
        await self._recall()
        known = self.store.job(action.id)
        if known is None or known.state in ("queued", "doubt"):
            await self._describe(action.operation.partition(".")[0])
        if known is not None and known.vouched(permit):
            self._dispatch.books.not_performed(known)
        job = self.store.submit(permit, self.owners.here)
        if job.state == "queued" and self._dispatch.is_mine(job):
            if reasons := self.wrong(action) or self._dispatch.condemned(action.trial):
                failure = Failure(cause="refused", message="; ".join(reasons), ended=time.time())
                self.store.end(job.id, failure)
            else:
                self._dispatch.take(job)
        return action.id

    async def find(self, action: str) -> str | None:
        return action if self.store.job(action) is not None else None

    async def outcome(self, job: str) -> Outcome:
        while True:
            found = self.store.job(job)
            if found is None:
                return Failure(cause="lost", message=f"{job} was not submitted here")
            if found.outcome is not None:
                return found.outcome
            if found.state == "doubt":
                samples = tuple(sample for sample, _, _ in self.store.samples(trial=found.trial))
                raise InDoubt(found.message, samples)
            await self._recall()
            await self._describe(found.permit.action.operation.partition(".")[0])
            await self._dispatch.wait_for(found)

    async def cancel(self, job: str) -> None:
        await self._dispatch.cancel(job)

    async def expect(self, trial: str, actions: Sequence[Action]) -> None:
        self.store.expect(trial, actions)
        with contextlib.suppress(Unavailable):
            # What cannot be described now is before the first of them is submitted.
            await self._recall()

    async def ended(self, trial: str, performed: Sequence[str]) -> None:
        self._known.discard(trial)
        self._dispatch.ended(trial, performed)

    async def _recall(self) -> None:
        """Know all that is to come, whoever was told of it: a plate waits for samples of which a process before knew.

        Raises Unavailable where an instrument that will be needed cannot be reached.
        """
        async with self._recalling:
            told = self.store.expected()
            for trial in told:
                if trial not in self._known:
                    actions = self.store.expected_of(trial)
                    for action in actions:
                        await self._describe(action.operation.partition(".")[0])
                    self._dispatch.expect(trial, actions)
                    self._known.add(trial)
            for trial in self._known - set(told):
                self._known.discard(trial)
                self._dispatch.expected.drop(trial)

    async def close(self) -> None:
        await self._dispatch.close()
        await asyncio.gather(*(i.close() for i in self.instruments.values()), return_exceptions=True)
        self.store.close()
        self.owners.leave()

    # ------------------------------------------------------------------ what people ask for

    async def describe(self, name: str) -> InstrumentDescription:
        """An instrument as it and the laboratory's file say. Raises LookupError, Unavailable or BadLaboratory."""
        if name not in self.instruments:
            raise LookupError(f"there is no instrument {name!r}; there are: {', '.join(self.instruments)}")
        await self._describe(name)
        return self._described[name]

    def wrong(self, action: Action) -> tuple[str, ...]:
        """What is wrong with an action, found before anything is sent; what it may have to wait for is not."""
        try:
            return self._dispatch.wrong(read_order(action, self._described, self.layout))
        except Wrong as wrong:
            return wrong.reasons

    def busy(self, action: Action) -> str:
        """Why it could not begin at once: reserved, an interlock, or too little of something; "" where it could."""
        return self._dispatch.obstacles.of(read_order(action, self._described, self.layout))

    async def rehearse(self, trials: Sequence[Sequence[Action]], count: int) -> tuple[list[str], list[str]]:
        """A dry run of `count` trials of which these are examples, before the first motion.

        What is wrong with every one of the examples, or with some; and what there is too little of for all.
        """
        for action in (action for trial in trials for action in trial):
            await self._describe(action.operation.partition(".")[0])
        wrong = [[f"{a.name}: {why}" for a in trial for why in self.wrong(a)] for trial in trials]
        found = list(dict.fromkeys(why for each in wrong for why in each))
        drawn: dict[str, float] = {}
        sound = [trial for trial, each in zip(trials, wrong, strict=True) if not each]
        for action in (action for trial in sound for action in trial):
            for material, _, amount in self.desk.draws(read_order(action, self._described, self.layout)):
                drawn[material] = drawn.get(material, 0.0) + amount / len(sound)
        stock = self.store.materials()
        lacks = [
            f"{name}: about {amount * count:.3g} {stock[name].unit} will be needed, and {stock[name].free:.3g} are free"
            for name, amount in drawn.items()
            if amount * count > stock[name].free
        ]
        return found if not sound else [], ([] if not sound else found) + lacks

    def tasks(self) -> list[Task]:
        """What people are asked to do. Raises OSError."""
        people = [(name, it) for name, it in self.instruments.items() if isinstance(it, HumanInstrument)]
        return [task for name, it in people for task in open_tasks(it.directory) if task.instrument == name]

    def answer(self, task: Task, given: Mapping[str, object], by: str) -> Task:
        """A task was done, and this was written down. Raises ValueError with all that is wrong with it, LookupError."""
        form = Operation(name=task.operation, arguments=task.form)
        taken, wrong = check_arguments(form, given, self.desk.in_unit)
        if wrong:
            raise ValueError("; ".join(wrong))
        return close_task(self._person(task).directory, task, "done", by, results=taken)

    def decline(self, task: Task, reason: str, by: str) -> Task:
        """A task was not done, and will not be. Raises LookupError."""
        return close_task(self._person(task).directory, task, "declined", by, reason=reason)

    def _person(self, task: Task) -> HumanInstrument:
        person = self.instruments.get(task.instrument)
        if not isinstance(person, HumanInstrument):
            raise LookupError(f"nobody in this laboratory is called {task.instrument!r}")
        return person

    def refill(self, material: str, amount: float) -> Stock:
        """So much more of a material is there, in its unit. Raises LookupError, and ValueError where it cannot be."""
        now = self.store.materials()
        if material not in now:
            raise LookupError(f"there is no material {material!r}; there are: {', '.join(now) or 'none'}")
        there, unit = now[material].amount, now[material].unit
        if not 0 < amount < float("inf"):
            raise ValueError(f"{amount:g} {unit} is no amount that could be added")
        said = self.layout.materials[material].capacity if material in self.layout.materials else ""
        if said and there + amount > self.desk.in_unit(said, unit) * (1 + 1e-9):
            raise ValueError(f"{amount:g} {unit} do not fit: {material} takes {said}, and has {there:.4g} {unit}")
        return self.store.refill(material, amount)

    def troubles(self) -> list[str]:
        """What waits for a person, in words."""
        return self._dispatch.obstacles.troubles()

    async def obstacle(self, action: Action) -> str:
        """The same, once its interlocks have been read."""
        await self._dispatch.aware()
        if why := self.busy(action):
            await self.take_over(TAKES_OVER)
            why = self.busy(action)
        return why

    async def take_over(self, seconds: float) -> None:
        """Find out what became of runs whose process is gone; it takes so many seconds at most."""
        runs = [self.store.run(id) for id, _ in self.store.orphans()]
        with contextlib.suppress(Unavailable):
            for run in runs:
                await self._describe(run.instrument if run else "")
            await self._dispatch.take_over(seconds)

    def look_again(self) -> None:
        """Something has been brought or put right: see what can be started now."""
        self._dispatch.look_again()

    async def safe_stop(self, *names: str) -> dict[str, str]:
        """Bring instruments (all, where none is named) to a safe stop at once. What went wrong, by instrument.

        It asks nobody, waits for no reservation, and is always answered.
        """
        chosen = names or tuple(self.instruments)
        ends = await asyncio.gather(*(self._dispatch.stop(name) for name in chosen))
        return dict(zip(chosen, ends, strict=True))

    async def status(self, action: Action | None = None) -> FacilityStatus:
        troubles, queued, running = (
            self._dispatch.obstacles.troubles(),
            self.store.jobs("queued"),
            self.store.runs("running"),
        )
        unfit = "; ".join(self.wrong(action)) if action is not None and action.operation else ""
        return FacilityStatus(
            state="degraded" if troubles else "up", message="; ".join(troubles), unfit=unfit, nodes=None,
            queued=len(queued), running=len(running),
        )  # fmt: skip

    async def job(self, job: str) -> JobStatus:
        found = self.store.job(job)
        if found is None:
            return JobStatus(state="unknown")
        state = {"queued": "held" if found.message else "queued", "running": "active", "ended": "ended"}
        return JobStatus(state=state.get(found.state, "unknown"), message=found.message)  # type: ignore[arg-type]

    async def examine(self) -> Sequence[Finding]:
        return await asyncio.gather(*(self._examined(name) for name in self.instruments))

    async def _examined(self, name: str) -> Finding:
        said = self.layout.instruments[name]
        what = f"{name} ({said.protocol} at {said.address or 'no address'})"
        try:
            async with asyncio.timeout(15.0):
                found = await self.describe(name)
        except (TimeoutError, Unavailable, ValueError) as error:
            return Finding(what=what, right=False, seen=str(error) or "it does not answer", advice="Is it switched on?")
        kinds = ", ".join(f"{o.name} ({o.effect})" for o in found.operations)
        return Finding(what=what, right=True, seen=f"{found.vendor} {found.model} {found.version}: {kinds}".strip())

    # ------------------------------------------------------------------

    async def _describe(self, name: str) -> None:
        """Have an instrument described, once. One that is not there is for `wrong` to say."""
        if name in self._described or name not in self.instruments:
            return
        async with self._describing:
            if name not in self._described:
                said = await self.instruments[name].describe()
                forms = self.layout.instruments[name].operations
                self._described[name] = overlaid(said, forms, self._convert)


def shown(argument: Argument) -> str:
    """An argument in a line: its name, type, unit and limits."""
    bounds = (
        "" if argument.low is None and argument.high is None else f" {_bound(argument.low)} to {_bound(argument.high)}"
    )
    choices = f" one of {', '.join(map(str, argument.choices))}" if argument.choices else ""
    default = "" if argument.default in (None, "") else f" (default {argument.default})"
    return f"{argument.name}: {argument.type}{bounds} {argument.unit}{choices}{default}".rstrip()


def _bound(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"
