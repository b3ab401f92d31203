"""Every fact a campaign can record, in the past tense. A closed set.

The journal keeps these words for ever: a field may be added with a default, none may be renamed. A change
that old records cannot follow raises `SCHEMA` and adds an upcast in `_codec`.
"""

from ._goal import Standing
from ._nouns import Action, Asked, Decision, EarlierCampaign, Failure, Measured, Observation, Sample
from ._problem import Budget, CampaignSpec, Forbid, Point, Value

SCHEMA = 1
"""The schema of the entries this version writes."""


class Event(Value, frozen=True, tag=True):
    """A fact. It bears no time and no author: its entry in the journal bears both."""


class CampaignOpened(Event, frozen=True):
    spec: CampaignSpec


class RunStarted(Event, frozen=True):
    """A runner took the campaign up, to run this many trials at once (0: as the specification says)."""

    runner: str
    versions: dict[str, str] = {}
    parallel: int = 0


class RunEnded(Event, frozen=True):
    """The runner laid the campaign down in good order. A crash leaves none."""

    reason: str = ""


class TrialProposed(Event, frozen=True):
    """A point is to be tried, by these actions. `source` is the strategy, or the person, that chose it."""

    trial: str
    point: Point
    actions: tuple[Action, ...]
    source: str = ""
    predicted: tuple[Observation, ...] = ()
    reason: str = ""
    decision: Decision | None = None
    asked: Asked | None = None


class TrialWithdrawn(Event, frozen=True):
    """A trial of which nothing had been started is not to be performed after all."""

    trial: str
    reason: str


class TrialAdded(Event, frozen=True):
    """A trial that was performed elsewhere and is told to the campaign. It spends no budget."""

    trial: str
    point: Point
    outcome: Measured | Failure
    source: str = ""


class EarlierChosen(Event, frozen=True):
    """These campaigns inform this one, each as it stood then, whatever becomes of it later."""

    campaigns: tuple[EarlierCampaign, ...]


class ModelsChosen(Event, frozen=True):
    """From now on decisions are made with these versions of models, each by the name under which it was asked for."""

    versions: dict[str, str]


class DesignExhausted(Event, frozen=True):
    """The strategy has no further point to offer."""

    reason: str


class ActionPermitted(Event, frozen=True):
    action: str
    policies: tuple[str, ...]
    agreement: str = ""


class ActionRefused(Event, frozen=True):
    action: str
    reasons: tuple[str, ...]


class ActionEscalated(Event, frozen=True):
    action: str
    to: str
    question: str


class ActionApproved(Event, frozen=True):
    """A person allowed an escalated action, or vouches that a lost one was not performed."""

    action: str
    note: str = ""


class ActionPlaced(Event, frozen=True):
    """A facility was chosen for an action, at first or because another went away. Policy judges it (again).

    What the facility before may be doing of it counts for nothing any more. `others` says what spoke against each of
    the others.
    """

    action: str
    facility: str
    reason: str
    others: dict[str, str] = {}


class ActionDispatched(Event, frozen=True):
    """Written before the facility is called, so that no call is ever forgotten."""

    action: str


class ActionAccepted(Event, frozen=True):
    action: str
    job: str


class ActionLost(Event, frozen=True):
    """Nobody knows whether an action that may not be repeated was performed (`reason` is why): a person must look."""

    action: str
    reason: str = ""
    samples: tuple[Sample, ...] = ()


class ActionAttested(Event, frozen=True):
    """A person has looked: a lost action was performed, and this is what came of it."""

    action: str
    measured: Measured = Measured()
    note: str = ""


class ActionSucceeded(Event, frozen=True):
    action: str
    measured: Measured


class ActionFailed(Event, frozen=True):
    action: str
    failure: Failure


class CancelRequested(Event, frozen=True):
    """Written before the facility is asked to cancel a job.

    With `facility` it is another than the action is at now: one that went away, was left for it, and could be reached
    again and was asked to cancel. That is written afterwards, for it is done again where it was not written.
    """

    action: str
    facility: str = ""


class TrialIngested(Event, frozen=True):
    """A finished trial became a row of the campaign's dataset; `digest` is that row's."""

    trial: str
    digest: str


class DatasetPublished(Event, frozen=True):
    """The campaign's rows so far became a dataset that can be found, cited and exported."""

    dataset: str
    digest: str
    rows: int


class TrainingBegun(Event, frozen=True):
    """`training`, a campaign of its own, trains this one's model anew: these trials are what is new to it."""

    training: str
    trials: tuple[str, ...]


class ModelUpdated(Event, frozen=True):
    """What came of a training: `model` is the version in production now, by which decisions are made that ask for its
    name. `reason` says why it is no newer one, and then nothing has been learned from these trials.
    """

    model: str
    trials: tuple[str, ...]
    training: str = ""
    reason: str = ""


class CampaignPaused(Event, frozen=True):
    """No new trial and no new action; what runs goes on."""

    reason: str = ""


class CampaignResumed(Event, frozen=True):
    pass


class CampaignStopped(Event, frozen=True):
    """Somebody wants it to end: no new trial. With `cancel`, what runs is cancelled too."""

    reason: str = ""
    cancel: bool = False


class TimeSpent(Event, frozen=True):
    """The budget of running time is used up."""

    seconds: float


class CampaignClosed(Event, frozen=True):
    reason: str


class PointRequested(Event, frozen=True):
    """A person wants this point tried. The campaign owes it a trial, which counts against the budget like any other."""

    point: Point
    note: str = ""


class RegionForbidden(Event, frozen=True):
    """From now on no point is tried in this region; what is requested or queued there is not tried either."""

    region: Forbid
    reason: str = ""


class RegionAllowed(Event, frozen=True):
    """A region that a person had forbidden is open again."""

    region: Forbid
    reason: str = ""


class TrialCorrected(Event, frozen=True):
    """Values of a trial that has ended are put right: those as run that are given, and the observables that are.

    `standing`, here and below, is where all trials stand after it; whoever records the fact works it out.
    """

    trial: str
    as_run: Point = {}
    observations: tuple[Observation, ...] = ()
    note: str = ""
    standing: Standing | None = None


class OutcomeRejected(Event, frozen=True):
    """The outcome of a trial is bad: it no longer counts, and nothing is learned from it. Its row keeps the mark."""

    trial: str
    reason: str
    standing: Standing | None = None


class OutcomeRestored(Event, frozen=True):
    """A rejected outcome counts again."""

    trial: str
    reason: str = ""
    standing: Standing | None = None


class TrialRevised(Event, frozen=True):
    """A trial's row in the dataset was replaced, after a correction or a mark; `revision` is that fact's number."""

    trial: str
    digest: str
    revision: int


class BudgetChanged(Event, frozen=True):
    """What the campaign may spend from now on, in all; it replaces the budget of the specification."""

    budget: Budget
    reason: str = ""


Amendment = TrialCorrected | OutcomeRejected | OutcomeRestored
"""What changes a trial that has ended."""


Fact = (
    CampaignOpened
    | RunStarted
    | RunEnded
    | TrialProposed
    | TrialWithdrawn
    | TrialAdded
    | EarlierChosen
    | ModelsChosen
    | DesignExhausted
    | ActionPermitted
    | ActionRefused
    | ActionEscalated
    | ActionApproved
    | ActionDispatched
    | ActionAccepted
    | ActionLost
    | ActionSucceeded
    | ActionFailed
    | CancelRequested
    | TrialIngested
    | DatasetPublished
    | TrainingBegun
    | ModelUpdated
    | CampaignPaused
    | CampaignResumed
    | CampaignStopped
    | TimeSpent
    | CampaignClosed
    | PointRequested
    | RegionForbidden
    | RegionAllowed
    | TrialCorrected
    | OutcomeRejected
    | OutcomeRestored
    | TrialRevised
    | BudgetChanged
    | ActionPlaced
    | ActionAttested
)


BY_PERSON = (
    TrialAdded,
    ActionApproved,
    ActionRefused,
    ActionAttested,
    CampaignPaused,
    CampaignResumed,
    CampaignStopped,
    PointRequested,
    RegionForbidden,
    RegionAllowed,
    TrialCorrected,
    OutcomeRejected,
    OutcomeRestored,
    BudgetChanged,
)
"""What a person may have recorded in a campaign that somebody else runs."""


class Entry(Value, frozen=True):
    """A fact in its place in a campaign's journal.

    `seq` counts from 1 without a gap, `at` is seconds since 1970 UTC, `by` is who or what recorded it.
    """

    seq: int
    at: float
    by: str
    fact: Fact
    schema: int = SCHEMA
