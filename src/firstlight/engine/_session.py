"""A campaign driven by its caller, who asks for points and tells what came of them."""

import asyncio
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

from msgspec.structs import replace

from .. import core
from ..core import Campaign, Failure, Measured, Outcome, Permit, Point, Ports, Trial, next_steps
from ._recorder import Recorder, take_up
from ._slots import Slots
from ._stages import Stages, standardise

ANY_NUMBER = 1_000_000
"""Slots of a caller, who asks for as many points as they like."""


class Caller:
    """The caller as a facility: what is submitted is handed out by `ask`, and ends when it is told."""

    slots = ANY_NUMBER

    def __init__(self) -> None:
        self._told: dict[str, Outcome] = {}

    async def submit(self, permit: Permit) -> str:
        return permit.action.id

    async def find(self, action: str) -> str | None:
        # Whatever was handed out may still be told, by whoever opens the campaign next.
        return action

    async def outcome(self, job: str) -> Outcome:
        return self._told.pop(job)

    async def cancel(self, job: str) -> None:
        self._told[job] = Failure(cause="cancelled")

    async def close(self) -> None:
        self._told.clear()

    def tell(self, job: str, outcome: Outcome) -> None:
        self._told[job] = outcome


class AtCaller:
    """The coordinator of a caller, who performs everything."""

    patience = math.inf

    async def place(
        self, action: core.Action, load: Callable[[str], int], without: Mapping[str, str] = MappingProxyType({})
    ) -> core.Placement:
        """With the caller, under the name of a facility that may perform it."""
        return core.Placement(facility=next(iter(action.facilities), core.CALLER), reason="asked for by hand")

    async def away(self, facility: str) -> str:
        """It never is."""
        return ""


class Session:
    """One caller's hold on a campaign. The same stages record the same facts as in a campaign that runs itself."""

    def __init__(self, recorder: Recorder, ports: Ports, caller: Caller) -> None:
        self.recorder, self._caller = recorder, caller
        self._thinking = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"design {recorder.campaign.spec.id}")
        campaign = recorder.campaign
        # Whatever a facility had been chosen for, by whoever ran it before, is the caller's now.
        names = {name for s in campaign.spec.procedure.steps for name in (s.facility, *s.facilities)}
        names |= {a.action.facility for t in campaign.open.values() for a in t.actions.values()}
        facilities = dict.fromkeys(names - {""} | {core.CALLER}, caller)
        ports = replace(ports, facilities=facilities, coordinator=AtCaller())
        self._stages = Stages(recorder, ports, Slots(), self._thinking)
        self._one_at_a_time = asyncio.Lock()
        self._started = False

    @property
    def campaign(self) -> Campaign:
        return self.recorder.campaign

    async def ask(self, count: int) -> list[Trial]:
        """At most `count` new trials to perform; fewer where the budget, the strategy or policy has no more."""
        async with self._one_at_a_time:
            await self.recorder.answer_mail()
            before = set(self.campaign.open)
            requests = [core.Grant(subject=f"request {r.seq}", request=r) for r in self.campaign.due[:count]]
            for step in requests:
                await self._stages.take(step)
            if count > len(requests) and not self.campaign.closed and not self.campaign.ending:
                await self._stages.keep(self._stages.design(count - len(requests)))
            await self._settle()
            return [t for id, t in self.campaign.open.items() if id not in before and not t.settled]

    async def tell(self, trial: str, outcome: Outcome) -> None:
        """What came of a trial that was asked for. Raises LookupError where it is not being waited for."""
        async with self._one_at_a_time:
            open_trial = self.campaign.open.get(trial)
            await self.recorder.answer_mail()
            waiting = [a for a in open_trial.actions.values() if a.status == "accepted"] if open_trial else []
            if not waiting:
                raise LookupError(f"trial {trial} is not waiting to be told: ask first, or add a point of your own")
            for state in waiting:
                self._caller.tell(state.action.id, outcome)
                await self._stages.take(core.Measure(subject=state.action.id, action=state.action, job=state.job))
            await self._settle()

    async def add(self, point: Point, outcome: Measured | Failure, source: str) -> None:
        """What came of a trial that nobody asked for. It spends no budget."""
        outcome = standardise(outcome, self.campaign.spec, self._stages.ports.units)
        async with self._one_at_a_time:
            await self.recorder.record(core.TrialAdded(trial="", point=point, outcome=outcome, source=source))
            await self._settle()

    async def say(self, fact: core.Fact, by: str) -> None:
        """Have a person's word recorded. Raises InconsistentError where it cannot follow."""
        async with self._one_at_a_time:
            await self.recorder.record(fact, by=by)
            await self._settle()

    async def close(self, reason: str = "laid down") -> None:
        """Let go of the campaign; it can be taken up again."""
        try:
            if self._started:
                await self.recorder.record(core.RunEnded(reason=reason))
        finally:
            self._stages.let_go_all()
            self._thinking.shutdown(wait=False, cancel_futures=True)
            await self.recorder.let_go()

    async def start(self, versions: Mapping[str, str]) -> None:
        """Take the campaign up."""
        if not self.campaign.closed:
            by = self.recorder.by
            await self.recorder.record(core.RunStarted(runner=by, versions=dict(versions), parallel=ANY_NUMBER))
            self._started = True
            await self._settle()

    async def _settle(self) -> None:
        """Whatever is owed besides new trials, which wait to be asked for, and measurement, which waits to be told.

        What facilities are to be called back from is not for the caller.
        """
        waits = core.Design | core.Grant | core.Measure | core.WatchClock | core.Recall
        while steps := [s for s in next_steps(self.campaign) if not isinstance(s, waits)]:
            for step in steps:
                await self._stages.take(step)
        await self.recorder.on_disk()


async def open_session(
    campaign_id: str, ports: Ports, *, by: str, versions: Mapping[str, str] | None = None
) -> Session:
    """Take up a campaign to drive it by hand. Raises Held or LookupError."""
    recorder = await take_up(campaign_id, ports.journal, ports.clock, by, ports.archive, ports.models)
    session = Session(recorder, ports, Caller())
    try:
        await session.start(versions or {})
    except BaseException:
        await session.close()
        raise
    return session
