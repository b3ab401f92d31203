"""A whole world in memory: every port filled by the simplest thing that keeps its contract.

For tests of the engine, and for authors of plug-ins who want to see their part in a running campaign.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

from msgspec.structs import replace

from firstlight import core


class Crash(Exception):
    """The power went off."""


class RandomPoints:
    """Strategy: uniform numbers from the standard library."""

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        rng = random.Random(seed)
        return [core.Proposal(point={p.name: _any_value(p, rng) for p in spec.parameters}) for _ in range(count)]


def _any_value(parameter: core.Parameter, rng: random.Random) -> core.Scalar:
    match parameter:
        case core.Continuous(low=low, high=high):
            return rng.uniform(low, high)
        case core.Integer(low=low, high=high):
            return rng.randint(low, high)
        case core.Ordered(values=values) | core.Categorical(values=values):
            return rng.choice(values)


class StepByStep:
    """Procedure: the specification's steps, one after the other."""

    def actions(self, spec: core.CampaignSpec, trial: str, point: core.Point) -> Sequence[core.Action]:
        made: list[core.Action] = []
        for step in spec.procedure.steps:
            made.append(
                core.Action(
                    id=f"{trial}.{step.name}", trial=trial, facility=step.facility, name=step.name,
                    operation=step.operation, point=point, settings=step.settings,
                    after=tuple(a.id for a in made[-1:]), limits=step.limits, cost=step.cost,
                    repeatable=step.repeatable, approval=step.approval, facilities=step.facilities,
                    resources=step.resources,
                )
            )  # fmt: skip
        return made


class Gate:
    """Policy: asks a person where an action says so, refuses what `refuse` says to, allows the rest."""

    def __init__(self, refuse: Callable[[core.Action], bool] = lambda action: False) -> None:
        self._refuse = refuse

    async def judge(self, action: core.Action, campaign: core.Campaign) -> core.Verdict:
        if self._refuse(action):
            return core.Refused(reasons=("not here",))
        if action.approval:
            return core.Escalated(to="owner", question=action.approval)
        return core.Allowed(policies=("gate@1",))


class Room:
    """Facility: performs actions in this process, and remembers them as a real one does, through any crash."""

    def __init__(
        self, perform: Callable[[core.Action], core.Outcome], slots: int = 64, forgetful: bool = False
    ) -> None:
        self.slots, self._perform, self.forgetful = slots, perform, forgetful
        self.performed: Counter[str] = Counter()
        self.submitted: dict[str, core.Action] = {}
        self.ended: dict[str, core.Outcome] = {}
        self.most_at_once = 0
        self.unreachable = 0

    async def submit(self, permit: core.Permit) -> str:
        self._reach()
        self.submitted.setdefault(permit.action.id, permit.action)
        return permit.action.id

    async def find(self, action: str) -> str | None:
        self._reach()
        return action if action in self.submitted and not self.forgetful else None

    async def outcome(self, job: str) -> core.Outcome:
        self.most_at_once = max(self.most_at_once, len(self.submitted) - len(self.ended))
        await asyncio.sleep(0)
        if job not in self.ended:
            self.performed[job] += 1
            self.ended[job] = self._perform(self.submitted[job])
        return self.ended[job]

    async def cancel(self, job: str) -> None:
        self.ended.setdefault(job, core.Failure(cause="cancelled"))

    async def close(self) -> None:
        pass

    def _reach(self) -> None:
        if self.unreachable > 0:
            self.unreachable -= 1
            raise core.Unavailable("the door is shut")


class Shelf:
    """Catalog: rows in a dictionary."""

    def __init__(self) -> None:
        self.rows: dict[str, core.Row] = {}

    async def ingest(self, campaign: core.Campaign, row: core.Row) -> str:
        known = self.rows.setdefault(row.trial, row)
        if row.revision > known.revision:
            self.rows[row.trial] = row
        return f"sha256:{row.trial}"

    async def publish(self, campaign: core.Campaign) -> tuple[str, str, int]:
        return f"dataset-{campaign.spec.id}", f"sha256:{len(self.rows)}", len(self.rows)


class SameUnits:
    """Units: one conversion, kilo."""

    def convert(self, value: float, unit: str, to: str) -> float:
        if unit == f"k{to}":
            return value * 1000.0
        raise ValueError(f"cannot turn {unit!r} into {to!r}")


class PaperLease:
    """A lease of a PaperJournal."""

    def __init__(self, journal: "PaperJournal", campaign: str) -> None:
        self.journal, self.campaign = journal, campaign

    async def release(self) -> None:
        self.journal.leases.pop(self.campaign, None)


class PaperJournal:
    """Journal: encoded lines in a list. `crash_after` entries, the power goes off until it is None again."""

    def __init__(self, crash_after: int | None = None) -> None:
        self.lines: dict[str, list[bytes]] = {}
        self.leases: dict[str, str] = {}
        self.crash_after = crash_after
        self._mail: list[tuple[str, core.Mail]] = []
        self._answers: dict[str, str | None] = {}

    async def lease(self, campaign: str, holder: str) -> core.Lease:
        if campaign in self.leases:
            raise core.Held(campaign, self.leases[campaign])
        self.leases[campaign] = holder
        return PaperLease(self, campaign)

    async def append(self, lease: core.Lease, entry: core.Entry, mail: str = "") -> None:
        lines = self.lines.setdefault(lease.campaign, [])
        if lease.campaign not in self.leases or entry.seq != len(lines) + 1:
            raise core.Conflict(f"entry {entry.seq} cannot follow {len(lines)}")
        if self.crash_after is not None and len(lines) >= self.crash_after:
            raise Crash
        lines.append(core.encode(entry))
        if mail:
            self._answers[mail] = ""

    async def read(self, campaign: str, after: int = 0) -> AsyncIterator[core.Entry]:
        for line in self.lines.get(campaign, [])[after:]:
            yield core.decode(line)

    async def campaigns(self) -> Sequence[str]:
        return list(self.lines)

    async def holder(self, campaign: str) -> str:
        return self.leases.get(campaign, "")

    async def post(self, campaign: str, fact: core.Fact, by: str) -> str:
        id = str(len(self._answers) + 1)
        self._answers[id] = None
        self._mail.append((campaign, core.Mail(id=id, fact=fact, by=by)))
        return id

    async def mail(self, campaign: str) -> Sequence[core.Mail]:
        return [m for c, m in self._mail if c == campaign and self._answers[m.id] is None]

    async def answer(self, lease: core.Lease, mail: str, refusal: str) -> None:
        self._answers[mail] = refusal

    async def answered(self, mail: str) -> str | None:
        return self._answers[mail]

    async def changed(self, campaign: str, after: int, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if len(self.lines.get(campaign, [])) > after or await self.mail(campaign):
                return True
            await asyncio.sleep(0.001)
        return False

    async def close(self) -> None:
        pass


def a_spec(**changes: object) -> core.CampaignSpec:
    """A small campaign: one parameter x in 0..1, one objective y (its target is 0.95), twelve trials, three at once."""
    spec = core.CampaignSpec(
        id="c1",
        parameters=(core.Continuous(name="x", low=0.0, high=1.0),),
        goal=core.Goal(
            objectives=(core.Objective(observable="y", direction="maximize", target=0.95),),
            budget=core.Budget(trials=12),
        ),
        procedure=core.ProcedureSpec(steps=(core.StepSpec(operation="look", facility="room"),)),
        strategy=core.StrategySpec(name="random"),
        parallel=3,
    )
    return replace(spec, **changes)


class Story:
    """A campaign told fact by fact, one second apart, in both folds."""

    def __init__(self, spec: core.CampaignSpec) -> None:
        first = core.Entry(seq=1, at=1000.0, by="ada", fact=core.CampaignOpened(spec=spec))
        self.campaign, self.ledger = core.open_campaign(first), core.Ledger([first])
        self.entries = [first]

    def tell(self, *facts: core.Fact) -> core.Campaign:
        """Record facts as the engine does. Raises InconsistentError, and records nothing, where one cannot follow."""
        for fact in facts:
            seq = self.campaign.seq + 1
            entry = core.Entry(seq=seq, at=1000.0 + seq, by="ada", fact=self.ledger.completed(fact))
            after = core.reduce(self.campaign, entry)
            self.ledger.add(entry)
            self.campaign = after
            self.entries.append(entry)
        return self.campaign

    def propose(self, x: float = 0.5, outlook: core.Outlook | None = None) -> str:
        """A trial, by its first action."""
        trial = core.next_trial(self.campaign)
        point: core.Point = {"x": x}
        actions = tuple(StepByStep().actions(self.campaign.spec, trial, point))
        decision = core.Decision(criterion="a guess", outlook=outlook)
        self.tell(core.TrialProposed(trial=trial, point=point, actions=actions, decision=decision))
        return f"{trial}.{self.campaign.spec.procedure.steps[0].name}"

    def begin(self, x: float = 0.5) -> str:
        """A trial that is under way, by its first action."""
        action = self.propose(x)
        self.tell(
            core.ActionPermitted(action=action, policies=("p",)),
            core.ActionDispatched(action=action),
            core.ActionAccepted(action=action, job="j"),
        )
        return action

    def succeed(self, y: float, cost: float = 0.0, x: float = 0.5) -> core.Campaign:
        """A trial that came to its end."""
        seen = core.Observation(observable="y", value=y)
        return self.tell(
            core.ActionSucceeded(action=self.begin(x), measured=core.Measured(observations=(seen,), cost=cost))
        )


def peak(action: core.Action) -> core.Outcome:
    """y = 1 - |x - 0.6|; below 0.1 it does not converge."""
    x = float(action.point["x"])
    if x < 0.1:
        return core.Failure(cause="did-not-converge", message="too dilute")
    return core.Measured(observations=(core.Observation(observable="y", value=1 - abs(x - 0.6)),))


def a_world(room: Room | None = None, journal: core.Journal | None = None, **ports: object) -> core.Ports:
    """Ports filled with the parts above; any of them may be given."""
    filled = core.Ports(
        journal=journal or PaperJournal(), strategy=RandomPoints(), procedure=StepByStep(), policy=Gate(),
        facilities={"room": room or Room(peak)}, catalog=Shelf(), units=SameUnits(), clock=time.time,
    )  # fmt: skip
    return replace(filled, **ports)
