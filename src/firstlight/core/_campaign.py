"""A campaign as it stands: the fold of its facts, as small as the next decision allows."""

import math
from collections.abc import Iterator
from typing import Literal

from ._nouns import Action, EarlierCampaign, Failure, Observation, Outlook, Permit, Placement
from ._problem import Asset, CampaignSpec, Forbid, Point, Value
from ._sources import target_cost

ActionStatus = Literal[
    "proposed", "permitted", "refused", "escalated",
    "dispatched", "lost", "accepted", "succeeded", "failed",
]  # fmt: skip

WAITING = ("proposed", "permitted", "escalated")
"""Nothing has been done yet."""
UNDERWAY = ("dispatched", "lost", "accepted")
"""The world may be being touched."""
BEGUN = (*UNDERWAY, "succeeded", "failed")
"""It was sent to a facility."""


class InconsistentError(Exception):
    """A fact that cannot follow this history."""


class ActionState(Value, frozen=True):
    """One action of an open trial, and how far it has come.

    `placement` is how its facility was chosen, None where the specification names it. `left` are facilities to which
    it was sent and that went away, which may still perform it: whatever comes of that counts for nothing. `recalled`
    are those of them that have been asked to end it. `sent` is when it was last dispatched (seconds since 1970 UTC),
    `approved` the number of the fact by which a person last approved it.
    """

    action: Action
    status: ActionStatus = "proposed"
    policies: tuple[str, ...] = ()
    agreement: str = ""
    job: str = ""
    question: str = ""
    cancelling: bool = False
    placement: Placement | None = None
    left: tuple[str, ...] = ()
    recalled: tuple[str, ...] = ()
    sent: float = 0.0
    approved: int = 0

    @property
    def permit(self) -> Permit:
        """Leave to perform it. Raises ValueError where policy has not given it."""
        if self.status not in ("permitted", *UNDERWAY):
            raise ValueError(f"action {self.action.id} is {self.status}, not permitted")
        return Permit(
            action=self.action, policies=self.policies, agreement=self.agreement, approved=self.approved
        )  # fmt: skip

    @property
    def settling(self) -> bool:
        """Whether it has been given a facility and is about to begin there."""
        return self.placement is not None and self.status in ("proposed", "permitted")


class Trial(Value, frozen=True):
    """A point being tried. Once ingested it leaves the campaign and lives in the results."""

    id: str
    point: Point
    actions: dict[str, ActionState]
    as_run: Point = {}
    observations: tuple[Observation, ...] = ()
    assets: tuple[Asset, ...] = ()
    failure: Failure | None = None
    cost: float = 0.0
    source: str = ""

    @property
    def started(self) -> bool:
        """Whether any of its actions has been sent to a facility."""
        # Loops, here and below: these are asked of every open trial at every step.
        for a in self.actions.values():  # noqa: SIM110
            if a.status in BEGUN or a.left:
                return True
        return False

    @property
    def settled(self) -> bool:
        """Whether nothing of it runs or will run: all succeeded, or one failed and none is under way."""
        sound = self.failure is None
        for a in self.actions.values():  # noqa: SIM110
            if a.status != "succeeded" if sound else a.status in UNDERWAY:
                return False
        return True

    @property
    def failed(self) -> bool:
        return self.failure is not None

    def ready(self, action: ActionState) -> bool:
        """Whether it is sound, and all predecessors of this action of it have succeeded."""
        return self.failure is None and all(self.actions[b].status == "succeeded" for b in action.action.after)


class Requested(Value, frozen=True):
    """A point that a person wants tried, until its trial is proposed; `seq` is the number of the request."""

    seq: int
    point: Point
    by: str
    note: str = ""


class Campaign(Value, frozen=True):
    """What decides the next step, and no more: its size does not grow with the trials behind it.

    `spec` is what holds now: the specification as asked, with the budget as changed since and the regions forbidden
    since (`forbidden`) as its last constraints. It is another object only once it has changed.
    """

    spec: CampaignSpec
    seq: int = 1
    parallel: int = 1
    open: dict[str, Trial] = {}
    numbered: int = 0
    """Trials ever numbered, proposed or added."""
    counted: int = 0
    """Trials that count against the budget: proposed and not withdrawn."""
    succeeded: int = 0
    failed: int = 0
    cost: float = 0.0
    used: dict[str, float] = {}
    """What its own actions took of facilities, by unit ("node-hours" ...), as far as those told."""
    front: tuple[tuple[float, ...], ...] = ()
    """Losses of the best trials: one where there is one objective."""
    recent: tuple[tuple[float, float], ...] = ()
    """(best loss, cost) after each of the last trials, as far back as the stop rule looks."""
    stale: int = 0
    """Trials since the front last advanced, of those that count towards the goal."""
    outlook: Outlook | None = None
    """What the strategy last said is still to be gained."""
    met_by: str = ""
    earlier: tuple[EarlierCampaign, ...] | None = None
    models: dict[str, str] | None = None
    """The campaigns that inform this one; None until its strategy has been asked for its wish."""
    exhausted: str = ""
    stopped: str = ""
    cancel: bool = False
    paused: bool = False
    time_spent: bool = False
    runner: str = ""
    ran: float = 0.0
    run_started: float = 0.0
    last: float = 0.0
    fresh: tuple[str, ...] = ()
    """Trials from which the campaign's model has not been trained yet."""
    training: str = ""
    """The campaign that trains the model now, from `learning`."""
    learning: tuple[str, ...] = ()
    model: str = ""
    unpublished: int = 0
    dataset: str = ""
    closed: str = ""
    requested: tuple[Requested, ...] = ()
    forbidden: tuple[Forbid, ...] = ()
    amended: dict[str, int] = {}
    """Trials changed after they had ended, whose rows are to be replaced, by the number of the last such fact."""

    @property
    def elapsed(self) -> float:
        """Seconds this campaign has been run, up to its last fact."""
        return self.ran + (self.last - self.run_started if self.runner else 0.0)

    @property
    def unsettled(self) -> int:
        """Trials that hold a place: proposed, and neither succeeded, failed nor withdrawn."""
        return len([t for t in self.open.values() if not t.settled])

    @property
    def started(self) -> int:
        """Trials that hold a slot."""
        return len([t for t in self.open.values() if t.started and not t.settled])

    @property
    def trials_left(self) -> int | None:
        limit = self.spec.goal.budget.trials
        return None if limit is None else max(0, limit - self.counted)

    @property
    def committed(self) -> float:
        """The estimated cost of what is permitted or under way and not yet paid."""
        return sum(
            a.action.cost
            for t in self.open.values()
            for a in t.actions.values()
            if a.status in ("permitted", *UNDERWAY)
        )

    @property
    def ending(self) -> str:
        """Why no new trial may start, or "" while they may. Trials used up are no reason to drop those queued."""
        if self.stopped:
            return self.stopped
        if self.met_by:
            return "goal met"
        if self.time_spent:
            return "time spent"
        limit = self.spec.goal.budget.cost
        if limit is not None and (self.cost >= limit or self._targets(limit - self.cost) == 0):
            return "cost spent"
        if self._stalled:
            return "no further improvement"
        if self._little_to_gain:
            return "little left to gain"
        return ""

    @property
    def _stalled(self) -> bool:
        rule = self.spec.goal.no_improvement
        if rule is None:
            return False
        if len(self.spec.goal.objectives) > 1:
            return self.stale >= rule.trials
        if len(self.recent) <= rule.trials:
            return False
        (before, paid_before), (now, paid) = self.recent[0], self.recent[-1]
        gained = before - now
        return gained <= rule.gain or (rule.price is not None and gained * rule.price < paid - paid_before)

    def _targets(self, cost: float) -> int | None:
        """How many trials by the target this much buys; None where there are no sources. By others it buys no goal."""
        fidelity = self.spec.fidelity
        return None if fidelity is None else math.floor(max(0.0, cost) / target_cost(fidelity) + 1e-9)

    @property
    def affordable(self) -> int | None:
        """How many more trials by the target may begin, once all that are open are paid; None where nothing bounds it.

        Policy would refuse whatever is beyond, again and again while the open ones run.
        """
        limit = self.spec.goal.budget.cost
        if limit is None or self.spec.fidelity is None:
            return None
        unpaid = sum(
            a.action.cost
            for t in self.open.values()
            for a in t.actions.values()
            if a.status in UNDERWAY or (a.status in WAITING and not t.failed)
        )
        return self._targets(limit - self.cost - unpaid)

    @property
    def _little_to_gain(self) -> bool:
        rule, seen = self.spec.goal.regret, self.outlook
        # A chance of gaining more than something else says nothing of what the rule asks.
        return rule is not None and seen is not None and seen.gain == rule.gain and seen.chance <= rule.chance

    @property
    def learns(self) -> bool:
        """Whether its model is being trained, or is to be: a training that has begun is brought to its end."""
        enough = bool(self.spec.model) and len(self.fresh) >= self.spec.retrain_after
        return bool(self.training) or (enough and not self.stopped)

    @property
    def _free(self) -> int:
        """Places for trials, those designed ahead of need included, that no trial holds."""
        ahead = self.spec.ahead
        if ahead is None:
            ahead = -(-self.parallel // 4) if self.parallel > 1 and self.spec.batch == 1 else 0
        return max(0, self.parallel + ahead - self.unsettled)

    @property
    def _left(self) -> int | None:
        """How many more trials the budget allows; None where nothing bounds them."""
        bounds = [n for n in (self.trials_left, self.affordable) if n is not None]
        return min(bounds) if bounds else None

    @property
    def designable(self) -> int:
        """How many points to design now: whole batches for the free places, within the budget.

        Points that people requested come first.
        """
        batch, asked = self.spec.batch, len(self.requested)
        whole = max(0, self._free - asked) // batch * batch
        if not whole:
            return 0
        left = self._left
        return whole if left is None else min(whole, max(0, left - asked))

    @property
    def due(self) -> tuple[Requested, ...]:
        """The points requested by people for which there is a place now."""
        if not self.requested:
            return ()
        left = self._left
        return self.requested[: self._free if left is None else min(self._free, left)]

    def actions(self, *status: ActionStatus) -> Iterator[ActionState]:
        """All actions of open trials with one of these statuses."""
        return (a for t in self.open.values() for a in t.actions.values() if a.status in status)

    def ready(self, *status: ActionStatus) -> Iterator[tuple[Trial, ActionState]]:
        """Actions with one of these statuses in sound trials, all of whose predecessors have succeeded."""
        for trial in self.open.values():
            for a in trial.actions.values():
                if a.status in status and trial.ready(a):
                    yield trial, a

    @property
    def placeable(self) -> Iterator[ActionState]:
        """The actions that are to get a facility now: of started trials, and of new ones as far as there are slots.

        Later is better: the choice is made with what is known of the facilities when an action is about to begin.
        """
        slots = self.parallel - self.started
        slots -= sum(not t.started and any(a.settling for a in t.actions.values()) for t in self.open.values())
        begun = dict[str, bool]()
        for trial, a in self.ready("proposed"):
            if a.action.facility:
                continue
            if not trial.started and not begun.setdefault(trial.id, len(begun) < slots):
                continue
            yield a

    def wanted(self, facility: str) -> int:
        """How many slots of a facility its actions hold, or would if they could."""
        waiting = sum(a.action.facility == facility for _, a in self.ready("proposed", "permitted"))
        return waiting + sum(a.action.facility == facility for a in self.actions("dispatched", "accepted"))

    def movable(self, id: str) -> bool:
        """Whether another facility may take an action now: one that was chosen for it, and that is not to end.

        What may not be repeated stays where it has been sent.
        """
        a = self.action(id)
        if a is None or a.placement is None or a.cancelling or self.cancel:
            return False
        return a.status == "permitted" or (a.status in ("dispatched", "accepted") and a.action.repeatable)

    def action(self, id: str) -> ActionState | None:
        """The action of an open trial with this id."""
        trial = self.open.get(id.rpartition(".")[0])
        return trial.actions.get(id) if trial else None
