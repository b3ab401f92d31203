"""Every seam a plug-in may fill, on one page."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from ._campaign import Campaign
from ._facts import Entry, Fact
from ._instruments import InstrumentDescription, Reading, Run
from ._nouns import (
    Action,
    Cause,
    EarlierCampaign,
    FacilityStatus,
    Finding,
    JobStatus,
    Outcome,
    Permit,
    Placement,
    Proposal,
    Sample,
    Verdict,
)  # fmt: skip
from ._problem import CampaignSpec, Point, Value
from ._results import Earlier, LoadedModel, Results, Row


class Strategy(Protocol):
    """Design: choose what to try next. Stateless: everything it may know is in the arguments."""

    def propose(self, spec: CampaignSpec, results: Results, count: int, seed: int) -> Sequence[Proposal]:
        """At most `count` points, every one within the parameters, the pool and the constraints.

        Called off the event loop, never twice at once for one campaign. The same arguments give the same
        points. Fewer than `count` (even none) means that there are no more for now: it is asked again once
        another trial has ended, and is exhausted if it offers none while none is pending.
        """
        ...


@runtime_checkable
class LearnsFromEarlier(Protocol):
    """What a strategy has besides if it can use `Results.earlier`."""

    def earlier(self) -> Sequence[str] | None:
        """The campaigns it wants to learn from, by name; () for every one that overlaps; None for none at all."""
        ...


@runtime_checkable
class UsesModels(Protocol):
    """What a strategy has besides if it can use `Results.models`."""

    def models(self) -> Sequence[str]:
        """The names of the models it asks ("reactions", "reactions:3", "reactions@production")."""
        ...


class Unusable(LookupError):
    """A model that there is not, or that may not be used (it was revoked, say); the message says why."""


class Models(Protocol):
    """The models that decisions may be made with: versions that are registered, and may be used."""

    async def choose(self, name: str) -> str:
        """The version that a name means now. Raises Unusable."""
        ...

    async def load(self, version: str) -> LoadedModel:
        """That version for use; whether it may be used is looked up now. Raises Unusable."""
        ...


class Unrelated(LookupError):
    """A campaign that was named cannot inform this one; the message says why."""


class Archive(Protocol):
    """Remember across campaigns: those that may teach another. It shows what its owner may see, and no more."""

    async def find(self, spec: CampaignSpec, names: Sequence[str]) -> Sequence[EarlierCampaign]:
        """Those named; without names all that overlap, the oldest first. Each as it stands now, never itself.

        Campaigns overlap where they share a parameter, something observed that is an objective of `spec`, and at least
        one trial has ended. Raises Unrelated where one that was named does not.
        """
        ...

    async def read(self, spec: CampaignSpec, chosen: EarlierCampaign) -> Earlier:
        """Its trials up to that entry, in the units of `spec`: the same ones for ever. Raises Unrelated."""
        ...


class Procedure(Protocol):
    """Turn one point into the actions that try it."""

    def actions(self, spec: CampaignSpec, trial: str, point: Point) -> Sequence[Action]:
        """The actions of one trial; ids are "<trial>.<name>". Deterministic."""
        ...


class Policy(Protocol):
    """Check: judge one action before it touches the world."""

    async def judge(self, action: Action, campaign: Campaign) -> Verdict: ...


class Unavailable(Exception):
    """A facility, journal or catalog cannot be reached just now. Nothing is known; ask again later."""


class InDoubt(Exception):
    """It was sent, or was under way, and nobody can tell what came of it, now or later: a person must look.

    `samples` are those that it may have touched.
    """

    def __init__(self, message: str = "", samples: tuple[Sample, ...] = ()) -> None:
        super().__init__(message)
        self.samples = samples


class NotStarted(Exception):
    """An instrument refused to begin, and nothing has happened; `cause` is that of the failure."""

    def __init__(self, message: str, cause: Cause = "refused") -> None:
        super().__init__(message)
        self.cause: Cause = cause


class Facility(Protocol):
    """Execute and measure: a machine room or a laboratory.

    The action id is the idempotency key: submitting it again never performs it a second time while the
    first is under way or has ended. Raises Unavailable where it cannot be reached.
    """

    @property
    def slots(self) -> int:
        """How many actions it performs at once."""
        ...

    async def submit(self, permit: Permit) -> str:
        """Begin the permitted action and return its job, once the facility will remember it."""
        ...

    async def find(self, action: str) -> str | None:
        """The job of an action submitted earlier, whether it runs or has ended; None if it is not known."""
        ...

    async def outcome(self, job: str) -> Outcome:
        """Wait for the job to end. What the world may do is an outcome, never an exception.

        Raises InDoubt where nobody knows what came of an action that may not be repeated.
        """
        ...

    async def cancel(self, job: str) -> None:
        """Ask for an end; `outcome` then tells what came of it."""
        ...

    async def close(self) -> None:
        """Let go of it. Jobs under way go on."""
        ...


@runtime_checkable
class ReportsStatus(Protocol):
    """What a facility has besides if it can say how it is. Both are for choosing and for looking, never for deciding
    what came of an action. They raise Unavailable."""

    async def status(self, action: Action | None = None) -> FacilityStatus:
        """How it is now, for an action like this one."""
        ...

    async def job(self, job: str) -> JobStatus:
        """How far a job has come."""
        ...


@runtime_checkable
class Examinable(Protocol):
    """What a facility has besides if it can look for what is wrong with it."""

    async def examine(self) -> Sequence[Finding]:
        """Everything that has to be right before an action can be performed there, the most basic first.

        It performs nothing and changes nothing. It raises nothing: what cannot be looked at is a finding too.
        """
        ...


@runtime_checkable
class Foresees(Protocol):
    """What a facility has besides if it plans ahead."""

    async def expect(self, trial: str, actions: Sequence[Action]) -> None:
        """These actions of a trial are going to be submitted here, each once those that it follows have succeeded.

        Told before the first of them, and again after a crash. It performs nothing and raises nothing.
        """
        ...

    async def ended(self, trial: str, performed: Sequence[str]) -> None:
        """Nothing of a trial will be submitted any more; these of its actions were performed.

        Those of which only a person knows it are among them. May be told again after a crash. Raises nothing.
        """
        ...


class Instrument(Protocol):
    """One instrument of a laboratory behind its own protocol. What is checked is checked before it is called.

    A run is known by the permit's action id, and by the handle that `start` returns. Every method may raise
    Unavailable: nothing was sent, ask again.
    """

    async def describe(self) -> InstrumentDescription:
        """What it can do, as it says itself."""
        ...

    async def start(self, permit: Permit) -> str:
        """Begin `permit.action.operation` with the arguments `permit.action.settings`; a handle of the run.

        The arguments are typed, complete and in the units of its description. Raises NotStarted where it refused,
        and InDoubt where it was sent and no answer came. It is never sent twice.
        """
        ...

    async def reattach(self, action: str, handle: str) -> str | None:
        """The handle of a run begun before our own crash; None where the instrument is sure never to have begun it.

        `handle` is "" where the crash came before it was kept. Raises InDoubt where it cannot be told.
        """
        ...

    async def status(self, handle: str) -> Run:
        """How far a run has come. A run that it does not know, or lost, is "unknown", and never "failed"."""
        ...

    def follow(self, handle: str) -> AsyncIterator[Run]:
        """How far a run has come, now and at every change, up to and including its end. It outlasts lost connections.

        Where the protocol can push, nothing is polled.
        """
        ...

    def watch(self, signals: Sequence[str]) -> AsyncIterator[Reading]:
        """Readings of signals, first as they are and then at every change, until closed. It outlasts lost connections:
        while there is none, each signal is read as None."""
        ...

    async def cancel(self, handle: str) -> None:
        """Ask a run to end; `follow` then tells what came of it."""
        ...

    async def safe_stop(self) -> None:
        """Bring the instrument to a stop that is safe, at once, whatever runs. Never gated. Returns once it is done."""
        ...

    async def close(self) -> None:
        """Let go of it. Runs under way go on."""
        ...


class Coordinator(Protocol):
    """Choose which facility performs an action that names none."""

    @property
    def patience(self) -> float:
        """Seconds for which a facility may be away before what was placed there goes to another."""
        ...

    async def place(
        self, action: Action, load: Callable[[str], int], without: Mapping[str, str] = MappingProxyType({})
    ) -> Placement:
        """The facility to perform it, none of `without`, each with what speaks against it.

        `load(name)` is how many actions have a slot of a facility, or get one before this one would. Ask it last, when
        nothing is awaited any more: what is chosen counts from then on. Raises Unavailable, with what speaks against
        each, where none can take it just now.
        """
        ...

    async def away(self, facility: str) -> str:
        """Why a facility cannot go on with what it was sent: it cannot be reached, or says that it is down. Else ""."""
        ...


class Catalog(Protocol):
    """Ingest: make finished trials into a dataset that can be found and traced."""

    async def ingest(self, campaign: Campaign, row: Row) -> str:
        """Keep one finished trial for good and return its digest. Doing it again changes nothing.

        Only a row of the same trial with a higher `revision` takes its place.
        """
        ...

    async def publish(self, campaign: Campaign) -> tuple[str, str, int]:
        """Make the rows kept so far a dataset: its id, its digest and its number of rows."""
        ...


class Learned(Value, frozen=True):
    """What came of a training: the version that is in production now, and why it is no newer one, "" where it is."""

    version: str
    reason: str = ""


class Learner(Protocol):
    """Learn: train a campaign's model anew, in a campaign of its own, which passes the gate as any other does."""

    async def prepare(self, campaign: CampaignSpec, dataset: str) -> str:
        """Open the campaign that is to train its model, with this dataset of its trials among the data; its id.

        Nothing is performed yet. Again, it is the same one. Raises Unusable, saying why nothing can be trained.
        """
        ...

    async def train(self, training: str) -> Learned:
        """Bring a training to its end, judge what came of it, and promote it where it is better."""
        ...

    async def stop(self, training: str) -> None:
        """Have a training end without a result. `train` returns then."""
        ...


class Lease(Protocol):
    """The right to append to one campaign. While it is held, nobody else appends."""

    @property
    def campaign(self) -> str: ...

    async def release(self) -> None: ...


class Held(Exception):
    """Somebody else holds the lease; the message says who."""

    def __init__(self, campaign: str, holder: str) -> None:
        super().__init__(f"campaign {campaign} is being run by {holder}")
        self.campaign, self.holder = campaign, holder


class Conflict(Exception):
    """The entry does not follow the last one, or the lease is no longer held. Nothing was written."""


class Mail(Value, frozen=True):
    """A fact that somebody without the lease wants recorded, for the holder of the lease to judge."""

    id: str
    fact: Fact
    by: str


class Journal(Protocol):
    """Remember: an append-only log of facts a campaign, its lease, and the mail for whoever holds it."""

    async def lease(self, campaign: str, holder: str) -> Lease:
        """Take the lease. Raises Held. The lease of a holder that has died is free again."""
        ...

    async def append(self, lease: Lease, entry: Entry, mail: str = "") -> None:
        """Make one entry durable, and in the same stroke mark the mail it came from as answered.

        Returns once it is durable. Calls made in order are written in order, and none is written after
        one that failed. Raises Conflict.
        """
        ...

    def read(self, campaign: str, after: int = 0) -> AsyncIterator[Entry]:
        """The entries after this sequence number, in order; none for an unknown campaign."""
        ...

    async def campaigns(self) -> Sequence[str]:
        """The ids of all campaigns, the oldest first."""
        ...

    async def holder(self, campaign: str) -> str:
        """Who holds the lease, "" if nobody."""
        ...

    async def post(self, campaign: str, fact: Fact, by: str) -> str:
        """Leave mail for the holder of the lease, durably; its id."""
        ...

    async def mail(self, campaign: str) -> Sequence[Mail]:
        """Mail not yet answered, the oldest first."""
        ...

    async def answer(self, lease: Lease, mail: str, refusal: str) -> None:
        """Refuse a mail, saying why."""
        ...

    async def answered(self, mail: str) -> str | None:
        """None while it waits, "" once its fact is recorded, else why it was refused."""
        ...

    async def changed(self, campaign: str, after: int, timeout: float) -> bool:
        """Wait until there is an entry after this sequence number or any mail; False after `timeout` seconds."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class AppendsTogether(Protocol):
    """What a journal has besides if many entries cost it little more than one."""

    async def append_all(self, lease: Lease, entries: Sequence[tuple[Entry, str]]) -> None:
        """Append these entries, each with its mail, as calls of `append` in this order would.

        Returns once all are durable. Where it raises, the first few of them may be durable, and the others are not.
        """
        ...


class Units(Protocol):
    """The border where a number with one unit becomes a number with another."""

    def convert(self, value: float, unit: str, to: str) -> float:
        """The value in the other unit. Raises ValueError, with a reason fit to show, where it cannot be."""
        ...


class Ports(Value, frozen=True):
    """One filled seam of each kind: all that the engine is given."""

    journal: Journal
    strategy: Strategy
    procedure: Procedure
    policy: Policy
    facilities: Mapping[str, Facility]
    catalog: Catalog
    units: Units
    clock: Callable[[], float]
    learner: Learner | None = None
    archive: Archive | None = None
    coordinator: Coordinator | None = None
    models: Models | None = None
