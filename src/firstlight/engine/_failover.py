"""When a facility goes away, what the coordinator had placed there goes to another."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from msgspec.structs import replace

from .. import core
from ..core import Action, Placement, Ports
from ._recorder import Recorder
from ._slots import Slots

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0
"""Seconds between two looks at whether a facility is there, at most: a quarter of the patience where that is less."""
GRACE = 30.0
"""Seconds a request may take and still come back as one that could not reach its facility."""
T = TypeVar("T")


class Failover:
    """Looks after the actions of one campaign whose facility was chosen for them.

    A facility is away while it cannot be reached or says that it is down. An action leaves it once it has been away for
    the coordinator's patience; one that the facility had accepted, only once it has been away for as long as it had had
    the action before: what an hour has gone into is not given up for a minute's silence. What it might still make of
    the action counts for nothing then, so only what may be performed again leaves a facility that it was sent to.
    """

    def __init__(self, recorder: Recorder, ports: Ports, slots: Slots) -> None:
        self._recorder, self._ports, self._slots = recorder, ports, slots
        self._silent: dict[tuple[str, str], tuple[str, float]] = {}
        """By action and facility: why the last request failed, and when one was made that is still out (0: none is)."""
        self._going: dict[str, str] = {}
        """Where actions go, until that is recorded."""

    def failed(self, action: Action, why: str) -> None:
        """A request on behalf of an action could not reach its facility."""
        self._silent[action.id, action.facility] = why, 0.0

    def asks(self, action: Action) -> None:
        """A request is made on behalf of an action."""
        if failed := self._silent.get((action.id, action.facility)):
            self._silent[action.id, action.facility] = failed[0], self._ports.clock()

    def answered(self, action: Action) -> None:
        """A request on behalf of an action has come back."""
        self._silent.pop((action.id, action.facility), None)

    async def unless_away(self, action: Action, work: Coroutine[Any, Any, T]) -> T | Placement:
        """What the work comes to; or, its facility having gone away meanwhile, where the action goes instead."""
        coordinator = self._ports.coordinator
        state = self._recorder.campaign.action(action.id)
        if coordinator is None or state is None or state.placement is None:
            return await work
        working = asyncio.ensure_future(work)
        moving = asyncio.ensure_future(self._elsewhere(action, coordinator))
        try:
            await asyncio.wait((working, moving), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else moving.result()
        finally:
            for task in (working, moving):
                task.cancel()
            # Both have ended before anything is recorded: a slot is either held then, or it is not.
            await asyncio.gather(working, moving, return_exceptions=True)
            self._going.pop(action.id, None)
            self.answered(action)

    async def _elsewhere(self, action: Action, coordinator: core.Coordinator) -> Placement:
        """Another facility for the action, once its own has been away for too long."""
        clock, since = self._ports.clock, 0.0
        while True:
            await asyncio.sleep(min(LOOK_EVERY, coordinator.patience / 4))
            why = await self._away(action, coordinator)
            if why is not None:
                since = (since or clock()) if why else 0.0
            if why and clock() - since >= self._patience(action, since, coordinator):
                chosen = await self._choose(action, coordinator, why)
                if chosen is not None and self._recorder.campaign.movable(action.id):
                    return chosen

    def load(self, facility: str) -> int:
        """How many actions have a slot of a facility, or get one before another one of this campaign would."""
        going = sum(name == facility for name in self._going.values())
        return going + self._slots.load(self._recorder.campaign.spec.id, facility)

    async def _away(self, action: Action, coordinator: core.Coordinator) -> str | None:
        """Why the facility is away, "" where it is not; None while a request is out that may tell."""
        if told := await coordinator.away(action.facility):
            return told
        why, asked = self._silent.get((action.id, action.facility), ("", 0.0))
        if not why or not asked:
            return why
        return None if self._ports.clock() - asked < min(GRACE, coordinator.patience) else ""

    def _patience(self, action: Action, since: float, coordinator: core.Coordinator) -> float:
        state = self._recorder.campaign.action(action.id)
        invested = since - state.sent if state is not None and state.status == "accepted" else 0.0
        return max(coordinator.patience, invested)

    async def _choose(self, action: Action, coordinator: core.Coordinator, why: str) -> Placement | None:
        state = self._recorder.campaign.action(action.id)
        if state is None or not self._recorder.campaign.movable(action.id):
            return None
        without = dict.fromkeys(state.left, "it was left before") | {action.facility: why}
        try:
            chosen = await coordinator.place(action, self.load, without)
        except core.Unavailable as error:
            log.info("%s stays at %s, which is away (%s): %s", action.id, action.facility, why, error)
            return None
        self._going[action.id] = chosen.facility
        log.warning("%s goes from %s, which is away (%s), to %s", action.id, action.facility, why, chosen.facility)
        return replace(chosen, reason=f"{action.facility} has gone away ({why}); {chosen.reason}")
