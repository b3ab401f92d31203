"""What a campaign does and sees: actions, permits and verdicts, observations, assets and outcomes."""

import math
from typing import Literal, get_args

from ._problem import Asset, Limits, Point, Resources, Value

Cause = Literal[
    "did-not-converge",
    "invalid-input",
    "invalid-output",
    "instrument-fault",
    "interlock",
    "timed-out",
    "out-of-memory",
    "crashed",
    "lost",
    "refused",
    "cancelled",
]
"""Why an action failed. A closed set, because strategies learn from it."""


class Failed(Exception):
    """What a user's function raises to say why a trial failed, so that strategies can learn from it."""

    def __init__(self, cause: Cause, message: str = "") -> None:
        super().__init__(f"{cause}: {message}" if message else cause)
        if cause not in get_args(Cause):
            raise ValueError(f"unknown cause {cause!r}: use one of {', '.join(get_args(Cause))}")
        self.cause: Cause = cause
        self.message = message


class Action(Value, frozen=True):
    """The smallest thing that touches the world, and the unit that policy judges.

    `id` is the idempotency key every facility honours; `after` names the actions of the same trial that
    must have succeeded first. `repeatable` says whether it may be performed again under the same id
    when nobody knows whether it was (a computation may, a robot's motion may not). While `facility` is "", nobody
    has chosen one yet; `facilities` are those to choose among, () for all.
    """

    id: str
    trial: str
    facility: str
    name: str
    operation: str
    point: Point
    settings: dict[str, object] = {}
    after: tuple[str, ...] = ()
    limits: Limits = Limits()
    cost: float = 0.0
    repeatable: bool = True
    approval: str = ""
    facilities: tuple[str, ...] = ()
    resources: Resources = Resources()
    inputs: dict[str, Asset] = {}
    outputs: tuple[str, ...] = ()


class Permit(Value, frozen=True):
    """Leave to perform exactly one action. A facility accepts nothing else.

    `approved` is the number of the fact by which a person last approved it, 0 where none did. Of an action in doubt, a
    later one says that it was not performed; the same one is no more than a request that comes twice.
    """

    action: Action
    policies: tuple[str, ...]
    agreement: str = ""
    approved: int = 0


class Allowed(Value, frozen=True, tag="allowed"):
    """Policy's yes, and the policies that said so."""

    policies: tuple[str, ...]


class Refused(Value, frozen=True, tag="refused"):
    """Policy's no, with its reasons."""

    reasons: tuple[str, ...]


class Escalated(Value, frozen=True, tag="escalated"):
    """Policy's "ask a person": who, and what to ask."""

    to: str
    question: str


Verdict = Allowed | Refused | Escalated


class Observation(Value, frozen=True):
    """A measured value with its unit and standard uncertainty (`sigma`, 0 where noiseless)."""

    observable: str
    value: float
    unit: str = ""
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"observation {self.observable!r} must be a finite number, not {self.value}")
        if not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise ValueError(f"sigma of observation {self.observable!r} must be zero or more, not {self.sigma}")


class Use(Value, frozen=True):
    """What went into a sample, or what it was taken from: an amount of a material, and by which action."""

    material: str
    amount: float = 0.0
    unit: str = ""
    action: str = ""
    at: float = 0.0


class Sample(Value, frozen=True):
    """A piece of matter with an identity, where it is, and all that went into it and was done to it, in order."""

    id: str
    kind: str = ""
    location: str = ""
    uses: tuple[Use, ...] = ()
    state: str = ""
    """What became of it: "measured", "failed", "discarded"; "" while nothing has."""


class Measured(Value, frozen=True, tag="measured"):
    """An action that succeeded. `as_run` gives the point's values where they differ from those requested.

    `started` and `ended` are the facility's own clock (seconds since 1970 UTC, 0 where unknown). `used` is what it
    took of the facility, by unit ("node-hours", "attempts" ...). `samples` are those that it touched, as they are now.
    """

    observations: tuple[Observation, ...] = ()
    assets: tuple[Asset, ...] = ()
    as_run: Point = {}
    cost: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    used: dict[str, float] = {}
    samples: tuple[Sample, ...] = ()


class Failure(Value, frozen=True, tag="failure"):
    """An action that failed, with its typed cause and the last lines of its log."""

    cause: Cause
    message: str = ""
    log: str = ""
    assets: tuple[Asset, ...] = ()
    as_run: Point = {}
    cost: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    used: dict[str, float] = {}
    samples: tuple[Sample, ...] = ()


Outcome = Measured | Failure
"""What a facility says came of an action."""


class FacilityStatus(Value, frozen=True):
    """A facility as it is now, and the largest action it can take; None where that is not known.

    `unfit` is why it can never perform the action asked about ("runs no containers"), "" where it could.
    `nodes` in all; `cores` (per node), `gpus` (per node), `memory` (bytes per node), `seconds` (of one action).
    `wait` is when (in seconds from now) an action like the one asked about would begin. `price` is what a node-hour
    costs, in the unit of whoever runs the facility.
    """

    state: Literal["up", "degraded", "down", "unknown"]
    message: str = ""
    unfit: str = ""
    nodes: int | None = None
    cores: int | None = None
    gpus: int | None = None
    memory: int | None = None
    seconds: float | None = None
    queued: int = 0
    running: int = 0
    wait: float | None = None
    price: float | None = None


class JobStatus(Value, frozen=True):
    """How far a job has come, as its facility sees it. It is for people to look at; only an outcome decides.

    `native` is what the scheduler calls it. `expected_start` is in seconds since 1970 UTC, 0 where unknown.
    """

    state: Literal["queued", "held", "active", "ended", "unknown"]
    message: str = ""
    native: str = ""
    expected_start: float = 0.0
    node_hours: float = 0.0


class Finding(Value, frozen=True):
    """One thing that was looked at in a facility: whether it is right, what was seen, and what to do if it is not."""

    what: str
    right: bool
    seen: str = ""
    advice: str = ""


class Placement(Value, frozen=True):
    """The facility chosen for an action, why, and what spoke against each of the others."""

    facility: str
    reason: str
    others: dict[str, str] = {}


class Alternative(Value, frozen=True):
    """A point that was not chosen, with what it promised (`score`, as in the Decision) and what was expected there."""

    point: Point
    score: float | None = None
    predicted: tuple[Observation, ...] = ()

    def __post_init__(self) -> None:
        _finite("the score of a runner-up", self.score)


class EarlierCampaign(Value, frozen=True):
    """An earlier campaign, as far as its journal went: up to the entry with this sequence number."""

    campaign: str
    entries: int


class Influence(Value, frozen=True):
    """An earlier campaign that informed a decision, its share in the prediction (0 to 1), and of how many trials."""

    campaign: str
    share: float
    trials: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"the share of {self.campaign} must lie between 0 and 1, not be {self.share}")


class Outlook(Value, frozen=True):
    """The chance that more than `gain` (in the objective's unit) is still to be gained, as the strategy sees it."""

    gain: float
    chance: float

    def __post_init__(self) -> None:
        _finite("the gain of an outlook", self.gain)
        if not 0.0 <= self.chance <= 1.0:
            raise ValueError(f"a chance must lie between 0 and 1, not be {self.chance}")


class Decision(Value, frozen=True):
    """How a point was chosen: what a person needs to follow it. All numbers are finite.

    `criterion` says in words what `score` measures (greater is better). `trials` is how many trials it was learned
    from. `learned` is what the surrogate had made of them, a table of numbers for each observable (length-scales by
    parameter, noise ...). `model` is the version of the model that was asked, "" where none was.
    """

    criterion: str
    score: float | None = None
    trials: int = 0
    runners_up: tuple[Alternative, ...] = ()
    informed_by: tuple[Influence, ...] = ()
    learned: dict[str, dict[str, float]] = {}
    model: str = ""
    outlook: Outlook | None = None

    def __post_init__(self) -> None:
        _finite("the score of a decision", self.score)
        for observable, numbers in self.learned.items():
            for name, number in numbers.items():
                _finite(f"what was learned of {observable}, {name},", number)


def _finite(what: str, number: float | None) -> None:
    # A journal has no word for the others, and could not be read again.
    if number is not None and not math.isfinite(number):
        raise ValueError(f"{what} must be a finite number, not {number}")


class Proposal(Value, frozen=True):
    """A point that a strategy chose, what it expects there, and why it chose it."""

    point: Point
    predicted: tuple[Observation, ...] = ()
    reason: str = ""
    decision: Decision | None = None


class Asked(Value, frozen=True):
    """What a strategy was asked when it chose a point, so that anybody can ask it again.

    `known` is the sequence number of the last entry that it knew, `count` the points asked for, `place` this one's
    place among those it gave (from 0).
    """

    known: int
    count: int
    seed: int
    place: int
