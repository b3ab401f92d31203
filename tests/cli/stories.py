"""Campaigns to look at: real ones, run by the engine in a world in memory."""

import asyncio
from collections.abc import Callable

from firstlight import core, engine
from firstlight.cli._board import Board
from firstlight.testing.world import PaperJournal, Room, a_spec, a_world, peak


def told(spec: core.CampaignSpec, perform: Callable[[core.Action], core.Outcome] = peak) -> list[core.Entry]:
    """The journal of this campaign, run to its end."""

    async def story() -> list[core.Entry]:
        journal = PaperJournal()
        world = a_world(room=Room(perform), journal=journal)
        await engine.create(spec, journal, world.clock, "ada")
        await engine.run(spec.id, world, by="ada@lab pid 7")
        return [entry async for entry in journal.read(spec.id)]

    return asyncio.run(story())


def board_of(entries: list[core.Entry]) -> Board:
    """A board that has read these entries."""
    board = Board()
    for entry in entries:
        board.add(entry)
    return board


class Diary:
    """A journal written by hand, a second a fact."""

    def __init__(self, spec: core.CampaignSpec | None = None) -> None:
        self.spec, self.entries, self.board = spec or a_spec(), list[core.Entry](), Board()
        self.write(core.CampaignOpened(spec=self.spec))

    def write(self, *facts: core.Fact) -> "Diary":
        """Record these facts, a second after one another."""
        for fact in facts:
            seq = len(self.entries) + 1
            self.entries.append(core.Entry(seq=seq, at=1000.0 + seq, by="ada", fact=fact))
            self.board.add(self.entries[-1])
        return self

    def propose(self, number: int, x: float = 0.5, outlook: core.Outlook | None = None) -> str:
        """A trial of one action; the action's id."""
        trial = f"{self.spec.id}.{number}"
        action = core.Action(
            id=f"{trial}.evaluate", trial=trial, facility="room", name="evaluate", operation="look", point={"x": x}
        )
        why = core.Decision(criterion="a guess", outlook=outlook)
        self.write(core.TrialProposed(trial=trial, point={"x": x}, actions=(action,), source="random", decision=why))
        return action.id

    def send(self, number: int, x: float = 0.5, outlook: core.Outlook | None = None) -> str:
        """A trial that is under way; its action's id."""
        id = self.propose(number, x, outlook)
        self.write(core.ActionPermitted(action=id, policies=("gate",)), core.ActionDispatched(action=id))
        self.write(core.ActionAccepted(action=id, job=f"job {number}"))
        return id

    def measure(self, number: int, y: float, x: float = 0.5, outlook: core.Outlook | None = None) -> None:
        """A trial that ended well."""
        id = self.send(number, x, outlook)
        seen = core.Observation(observable="y", value=y, sigma=0.02)
        self.write(core.ActionSucceeded(action=id, measured=core.Measured(observations=(seen,))))
        self.write(core.TrialIngested(trial=f"{self.spec.id}.{number}", digest="sha256:0"))

    def fail(self, number: int, cause: core.Cause, message: str) -> None:
        """A trial that failed."""
        id = self.send(number)
        self.write(core.ActionFailed(action=id, failure=core.Failure(cause=cause, message=message)))
        self.write(core.TrialIngested(trial=f"{self.spec.id}.{number}", digest="sha256:0"))
