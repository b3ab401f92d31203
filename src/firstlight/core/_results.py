"""What has been tried and seen: the journal's second fold, large where Campaign is small."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

from msgspec.structs import replace

from . import _facts as f
from ._campaign import InconsistentError
from ._facts import Amendment, Entry, Fact
from ._goal import Seen, Standing, advance, dominates, latest, losses, met, pooled
from ._nouns import Action, Cause, Decision, Failure, Measured, Observation, Sample
from ._points import inside
from ._problem import Asset, CampaignSpec, Point, Value
from ._sources import counts


class Span(Value, frozen=True):
    """When one action was under way: dispatched and ended by the journal's clock, started by the facility's.

    `instrument` is the one that performed it, by the action's operation ("handler" of "handler.Dispense"), "" where
    that names none.
    """

    action: str
    facility: str
    dispatched: float
    started: float
    ended: float
    instrument: str = ""


class Row(Value, frozen=True):
    """One trial that has ended (or, in `Results.pending`, that has not).

    `rejected` is why a person marked its outcome as bad, "" where nobody did. `revision` is the number of the last
    fact that corrected or marked it, 0 where none did. `samples` are those it touched.
    """

    trial: str
    point: Point
    as_run: Point = {}
    observations: tuple[Observation, ...] = ()
    assets: tuple[Asset, ...] = ()
    failure: Failure | None = None
    cost: float = 0.0
    source: str = ""
    predicted: tuple[Observation, ...] = ()
    reason: str = ""
    decision: Decision | None = None
    proposed: float = 0.0
    ended: float = 0.0
    spans: tuple[Span, ...] = ()
    rejected: str = ""
    revision: int = 0
    samples: tuple[Sample, ...] = ()

    @property
    def ran(self) -> Point:
        """The point as run: the values requested, but for those that came out otherwise."""
        return {**self.point, **self.as_run}

    @property
    def seen(self) -> Seen:
        """One observation of every observable: the mean of replicates, with its standard error."""
        return pooled(self.observations)

    @property
    def surprise(self) -> dict[str, float]:
        """By how many standard deviations, predicted and measured ones together, each observable came out too high.

        Nothing of an observable that was not both predicted and seen, or of which neither has an uncertainty.
        """
        seen, found = self.seen, dict[str, float]()
        for name, expected in latest(self.predicted).items():
            sigma = math.hypot(expected.sigma, seen[name].sigma) if name in seen else 0.0
            if sigma > 0:
                found[name] = (seen[name].value - expected.value) / sigma
        return found


def losses_of(spec: CampaignSpec, row: Row) -> tuple[float, ...] | None:
    """The losses of a trial that counts towards the goal and is good by it; None of any other.

    That is one that failed, was not by the target source, was not measured, or broke an outcome constraint.
    """
    return None if row.failure or not counts(spec, row.ran) else losses(spec.goal, row.seen)


class Prefix(Sequence[Row]):
    """The first rows of a list that only grows: a snapshot that copies nothing."""

    def __init__(self, rows: list[Row], length: int) -> None:
        self._rows, self._length = rows, length

    def follows(self, earlier: "Prefix") -> bool:
        """Whether it begins with all rows of an earlier view, unchanged: no correction or mark came between."""
        return self._rows is earlier._rows and len(self) >= len(earlier)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self._rows[i] for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self._rows[index + self._length if index < 0 else index]

    def __iter__(self) -> Iterator[Row]:
        return (self._rows[i] for i in range(self._length))


class Earlier(Value, frozen=True):
    """An earlier campaign: what it was asked, and the trials of it that may inform this one.

    What both have is in the units of this one. A parameter or observable of the same name that cannot be converted is
    left out, and so are its constraints and its pool: what could not be tried there teaches nothing here.
    """

    campaign: str
    spec: CampaignSpec
    rows: Sequence[Row] = ()


class Results(Value, frozen=True):
    """A frozen view for strategies and reports: `rows` in the order they ended, `pending` in that proposed.

    Rows have the corrections made since; those whose outcome a person marked as bad are in `rejected` instead. The
    points that people requested and that have no trial yet are pending too, as "request <number>". `earlier` are the
    campaigns that a strategy may learn from besides, and `models` those in use that it asked for, by name.
    """

    rows: Sequence[Row] = ()
    pending: Mapping[str, Row] = {}
    earlier: tuple[Earlier, ...] = ()
    rejected: tuple[Row, ...] = ()
    models: Mapping[str, object] = {}

    @property
    def ended(self) -> Sequence[Row]:
        """Every trial that has ended, those marked as bad included, in the order of their ends."""
        return sorted((*self.rows, *self.rejected), key=lambda r: r.ended) if self.rejected else self.rows

    def best(self, spec: CampaignSpec) -> list[Row]:
        """The Pareto front among the good trials: one row where there is one objective, none where none is good."""
        front: list[tuple[tuple[float, ...], Row]] = []
        for row in self.rows:
            found = losses_of(spec, row)
            if found is None or any(old == found or dominates(old, found) for old, _ in front):
                continue
            front = [(old, r) for old, r in front if not dominates(found, old)] + [(found, row)]
        return [row for _, row in front]


def standing(spec: CampaignSpec, rows: Iterable[Row]) -> Standing:
    """Where these trials stand together, taken in this order."""
    front: tuple[tuple[float, ...], ...] = ()
    met_by = ""
    for row in rows:
        found = None if row.rejected else losses_of(spec, row)
        if found is not None:
            front = advance(front, found)
            met_by = met_by or (row.trial if met(spec.goal, row.seen) else "")
    return Standing(front=front, met_by=met_by)


class Ledger:
    """The fold itself: it grows by one row a trial, and gives out views that cost nothing."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._rows: list[Row] = []
        self._pending: dict[str, Row] = {}
        self._actions: dict[str, dict[str, Action]] = {}
        self._sent: dict[str, float] = {}
        self.earlier: tuple[Earlier, ...] = ()
        """What earlier campaigns bring to every view: not in this campaign's entries, which only name them."""
        self._ended: dict[str, Row] = {}
        self._rejected: tuple[Row, ...] = ()
        self._requested: dict[str, Row] = {}
        self._spec: CampaignSpec | None = None
        self.words = 0
        """How often a person changed what may be known of the trials, or which points may be tried."""
        for entry in entries:
            self.add(entry)

    def view(self) -> Results:
        """The results as they stand. Later facts do not change it."""
        pending = {**self._pending, **self._requested}
        rows = Prefix(self._rows, len(self._rows))
        return Results(rows=rows, pending=pending, earlier=self.earlier, rejected=self._rejected)

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return len(self._ended)

    def row(self, trial: str) -> Row:
        """A trial that has ended, as it stands now."""
        return self._ended[trial]

    def completed(self, fact: Fact) -> Fact:
        """A person's fact with what only the rows can tell: after an amendment, where all trials stand.

        Raises InconsistentError where the rows do not allow it.
        """
        if not isinstance(fact, Amendment):
            return fact
        return replace(fact, standing=self._standing_with(_amended(self._ended, fact)))

    def add(self, entry: Entry) -> None:
        """Take in one entry, in order. Raises InconsistentError, and takes in nothing, where it denies the rows."""
        match entry.fact:
            case f.CampaignOpened(spec=spec):
                self._spec = spec
            case f.TrialCorrected() | f.OutcomeRejected() | f.OutcomeRestored():
                self._amend(entry.fact, entry.seq)
            case f.PointRequested(point=point, note=note):
                id = f"request {entry.seq}"
                self._requested[id] = Row(trial=id, point=point, source=entry.by, reason=note, proposed=entry.at)
                self.words += 1
            case f.RegionForbidden(region=region):
                self._requested = {id: r for id, r in self._requested.items() if not inside(region, r.point)}
                self.words += 1
            case f.RegionAllowed():
                self.words += 1
            case f.TrialProposed(trial=id, point=point, actions=actions, source=source, predicted=expected, reason=why):
                self._pending[id] = Row(
                    trial=id, point=point, source=source, predicted=expected, reason=why,
                    decision=entry.fact.decision, proposed=entry.at,
                )  # fmt: skip
                self._actions[id] = {a.id: a for a in actions}
                asked = next((key for key, r in self._requested.items() if r.point == point), None)
                if asked is not None:
                    del self._requested[asked]
            case f.TrialAdded(trial=id, point=point, outcome=outcome, source=source):
                row = Row(trial=id, point=point, source=source, proposed=entry.at, ended=entry.at)
                self._end(_with_outcome(row, outcome, outcome.cost))
            case f.TrialWithdrawn(trial=id):
                del self._pending[id], self._actions[id]
            case f.ActionPlaced(action=id, facility=facility):
                of_trial = self._actions[id.rpartition(".")[0]]
                of_trial[id] = replace(of_trial[id], facility=facility)
                # What it was sent to is left behind: that was no performance of it.
                self._not_sent(id)
            case f.ActionApproved(action=id):
                # Where it was in doubt, a person has said that it was not performed.
                self._not_sent(id)
            case f.ActionDispatched(action=id):
                self._sent[id] = entry.at
            case f.ActionSucceeded(action=id, measured=outcome) | f.ActionAttested(action=id, measured=outcome):
                self._take(id, outcome, entry.at)
            case f.ActionFailed(action=id, failure=failure):
                self._take(id, failure, entry.at)
            case f.ActionLost(action=id, samples=samples):
                trial = id.rpartition(".")[0]
                row = self._pending[trial]
                self._pending[trial] = replace(row, samples=_joined(row.samples, samples))
            case f.ActionRefused(action=id, reasons=reasons):
                cause: Cause = "lost" if id in self._sent else "refused"
                self._take(id, Failure(cause=cause, message="; ".join(reasons)), entry.at)
            case _:
                pass

    def _take(self, id: str, outcome: Measured | Failure, at: float) -> None:
        trial = id.rpartition(".")[0]
        if trial not in self._pending:
            return  # It has failed, and somebody speaks of an action that was never begun.
        action = self._actions[trial].pop(id)
        row, cost = self._pending[trial], outcome.cost
        if id in self._sent:
            cost = cost or action.cost
            span = Span(
                action=id, facility=action.facility, dispatched=self._sent.pop(id),
                started=outcome.started, ended=outcome.ended or at, instrument=_instrument(action.operation),
            )  # fmt: skip
            row = replace(row, spans=(*row.spans, span))
        self._pending[trial] = _with_outcome(replace(row, ended=at), outcome, cost)
        self._end_if_over(trial)

    def _not_sent(self, id: str) -> None:
        if self._sent.pop(id, None) is not None:
            self._end_if_over(id.rpartition(".")[0])

    def _end_if_over(self, trial: str) -> None:
        """A trial is over once nothing of it runs or will run, as `Trial.settled` has it."""
        row, actions = self._pending[trial], self._actions[trial]
        if actions and not (row.failure and not any(a in self._sent for a in actions)):
            return
        del self._pending[trial], self._actions[trial]
        self._end(row)

    def _end(self, row: Row) -> None:
        row = _ended(row)
        self._rows.append(row)
        self._ended[row.trial] = row

    def _amend(self, fact: Amendment, seq: int) -> None:
        row = replace(_amended(self._ended, fact), revision=seq)
        if fact.standing != (found := self._standing_with(row)):
            raise InconsistentError(f"{type(fact).__name__} of {row.trial} says {fact.standing}, and its rows {found}")
        self._ended[row.trial] = row
        # Views given out before keep the list they were given.
        self._rows = [r for r in self._ended.values() if not r.rejected]
        self._rejected = tuple(r for r in self._ended.values() if r.rejected)
        self.words += 1

    def _standing_with(self, row: Row) -> Standing:
        if self._spec is None:
            raise InconsistentError(f"a history begins with CampaignOpened, not with a change of {row.trial}")
        return standing(self._spec, (self._ended | {row.trial: row}).values())


def _instrument(operation: str) -> str:
    # "package.module:function" is a computation; whatever else has a point in it is an instrument's.
    name, point, rest = operation.partition(".")
    return name if point and rest and not set(operation) & set(":/ ") else ""


def _amended(ended: Mapping[str, Row], fact: Amendment) -> Row:
    """The row after the fact. Raises InconsistentError where it cannot be."""
    row = ended.get(fact.trial)
    if row is None:
        raise InconsistentError(f"there is no trial {fact.trial} that has ended")
    match fact:
        case f.OutcomeRejected(reason=reason):
            if row.rejected:
                raise InconsistentError(f"the outcome of {row.trial} is marked as bad already ({row.rejected})")
            return replace(row, rejected=reason or "marked as bad")
        case f.OutcomeRestored():
            if not row.rejected:
                raise InconsistentError(f"the outcome of {row.trial} is not marked as bad")
            return replace(row, rejected="")
        case f.TrialCorrected(as_run=as_run, observations=corrected):
            if corrected and row.failure:
                raise InconsistentError(f"trial {row.trial} failed ({row.failure.cause}): nothing was observed")
            names = {o.observable for o in corrected}
            kept = tuple(o for o in row.observations if o.observable not in names)
            return replace(row, as_run={**row.as_run, **as_run}, observations=kept + corrected)


def _with_outcome(row: Row, outcome: Measured | Failure, cost: float) -> Row:
    failure = row.failure or (outcome if isinstance(outcome, Failure) else None)
    observed = outcome.observations if isinstance(outcome, Measured) else ()
    return replace(
        row,
        as_run={**row.as_run, **outcome.as_run},
        observations=row.observations + observed,
        assets=row.assets + outcome.assets,
        failure=failure,
        cost=row.cost + cost,
        samples=_joined(row.samples, outcome.samples),
    )


def _joined(before: tuple[Sample, ...], after: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """Each sample once, as it was seen last."""
    return tuple(({s.id: s for s in before} | {s.id: s for s in after}).values()) if before or after else ()


def _ended(row: Row) -> Row:
    """The row of a trial that has ended: what became of its samples is known then, if it was not before."""
    if not row.samples:
        return row
    end = "measured" if row.failure is None else "discarded" if row.failure.cause == "lost" else "failed"
    return replace(row, samples=tuple(s if s.state else replace(s, state=end) for s in row.samples))
