"""What `--json` says: one stable shape for a campaign, one for a fact."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from .. import core
from . import _words as words
from ._board import Board

if TYPE_CHECKING:
    from .. import engine


class Seen(core.Value, frozen=True):
    """An observation of a trial."""

    value: float
    unit: str
    sigma: float


class TrialDocument(core.Value, frozen=True):
    """A trial that has ended: the point as run, what was observed, and why it failed (null: it did not)."""

    trial: str
    point: core.Point
    observed: dict[str, Seen]
    cost: float
    failure: str | None
    message: str


class OpenTrial(core.Value, frozen=True):
    """A trial that has not ended; `status` is that of the action it stands at, `age` seconds since it was sent."""

    trial: str
    point: core.Point
    action: str
    status: str
    facility: str
    age: float


class JobDocument(core.Value, frozen=True):
    """An action that a facility has, or that waits for one (`facility` is "" then), as its facility sees it now.

    `state` is "queued", "held", "active", "ended" or "unknown", `message` more of it, or why nobody can tell. `reason`
    is why the coordinator chose that facility, "" where it did not. `native` is what its scheduler calls it.
    """

    action: str
    facility: str
    state: str
    message: str
    reason: str
    native: str
    expected_start: float
    node_hours: float


class Waiting(core.Value, frozen=True):
    """An action that waits for a person; `status` is "escalated" or "lost"."""

    campaign: str
    action: str
    status: str
    question: str
    facility: str
    point: core.Point


class RequestedPoint(core.Value, frozen=True):
    """A point that a person wants tried and that has no trial yet."""

    point: core.Point
    by: str
    note: str


class Rejected(core.Value, frozen=True):
    """A trial whose outcome is marked as bad, and why."""

    trial: str
    reason: str


class Spent(core.Value, frozen=True):
    """The budget and what of it is spent; a limit is null where there is none."""

    trials: int
    trials_limit: int | None
    cost: float
    cost_limit: float | None
    cost_unit: str
    seconds: float
    seconds_limit: float | None


class OutlookDocument(core.Value, frozen=True):
    """The chance that more than `gain` is still to be gained; `stops_at` is null where that ends nothing."""

    gain: float
    chance: float
    stops_at: float | None


class CampaignDocument(core.Value, frozen=True):
    """A campaign as it stands."""

    id: str
    title: str
    state: str
    reason: str
    strategy: str
    seed: int
    parallel: int
    runner: str
    seq: int
    opened: float
    last: float
    trials: int
    succeeded: int
    failed: int
    failures: dict[str, int]
    spent: Spent
    sources: dict[str, int]
    earlier: tuple[core.EarlierCampaign, ...]
    best: tuple[TrialDocument, ...]
    outlook: OutlookDocument | None
    open: tuple[OpenTrial, ...]
    waiting: tuple[Waiting, ...]
    dataset: str
    model: str
    requested: tuple[RequestedPoint, ...] = ()
    forbidden: tuple[core.Forbid, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    used: dict[str, float] = {}
    jobs: tuple[JobDocument, ...] = ()


class ReplayDocument(core.Value, frozen=True):
    """The strategy asked again; `point` is null where it has none to offer any more."""

    same: bool
    point: core.Point | None
    predicted: dict[str, Seen]
    reason: str
    decision: core.Decision | None
    differences: tuple[dict[str, Any], ...]
    versions: dict[str, str]


class ExplanationDocument(core.Value, frozen=True):
    """Why a trial's point was chosen, and what came of it."""

    trial: str
    status: str
    point: core.Point
    as_run: core.Point
    source: str
    reason: str
    by: str
    proposed: float
    ended: float
    predicted: dict[str, Seen]
    observed: dict[str, Seen]
    z: dict[str, float]
    failure: str | None
    message: str
    decision: core.Decision | None
    asked: core.Asked | None
    versions: dict[str, str]
    replay: ReplayDocument | None


def campaign_document(board: Board, holder: str, now: float, jobs: tuple[JobDocument, ...] = ()) -> CampaignDocument:
    """A campaign as it stands, for `show`, `list` and the end of `run`; only `show` asks facilities for `jobs`."""
    c, budget = board.campaign, board.spec.goal.budget
    spent = Spent(
        trials=board.spent(), trials_limit=budget.trials, cost=c.cost, cost_limit=budget.cost,
        cost_unit=budget.cost_unit, seconds=board.elapsed(now, holder), seconds_limit=budget.seconds,
    )  # fmt: skip
    return CampaignDocument(
        id=c.spec.id, title=c.spec.title, state=board.standing(holder), reason=c.closed or c.ending,
        strategy=c.spec.strategy.name, seed=c.spec.seed, parallel=c.parallel, runner=holder, seq=c.seq,
        opened=board.opened, last=c.last, trials=board.ended, succeeded=c.succeeded, failed=c.failed,
        failures=dict(board.failures), spent=spent,
        sources={str(source): board.by_source[source] for source in words.sources(c.spec)}, earlier=c.earlier or (),
        best=tuple(trial_document(r) for r in board.best), outlook=_outlook(c),
        open=tuple(_open(board, t, now) for t in c.open.values()), waiting=waiting_documents(board),
        dataset=c.dataset, model=c.model,
        requested=tuple(RequestedPoint(point=r.point, by=r.by, note=r.note) for r in c.requested),
        forbidden=c.forbidden,
        rejected=tuple(Rejected(trial=r.trial, reason=r.rejected) for r in board.results.rejected),
        used=c.used, jobs=jobs,
    )  # fmt: skip


def _outlook(c: core.Campaign) -> OutlookDocument | None:
    if c.outlook is None:
        return None
    rule = c.spec.goal.regret
    return OutlookDocument(gain=c.outlook.gain, chance=c.outlook.chance, stops_at=rule.chance if rule else None)


def trial_document(row: core.Row) -> TrialDocument:
    """A trial that has ended."""
    return TrialDocument(
        trial=row.trial, point=row.ran, observed=_seen(row.observations), cost=row.cost,
        failure=row.failure.cause if row.failure else None, message=row.failure.message if row.failure else "",
    )  # fmt: skip


def _seen(observations: Iterable[core.Observation]) -> dict[str, Seen]:
    return {o.observable: Seen(value=o.value, unit=o.unit, sigma=o.sigma) for o in observations}


def explanation_document(
    why: "engine.Explanation", again: "engine.Replay | None", now: dict[str, str]
) -> ExplanationDocument:
    """Why a trial's point was chosen; with the strategy asked again, by these versions."""
    row, failure = why.row, why.row.failure
    replay = None
    if again is not None:
        said = again.now or core.Proposal(point={})
        replay = ReplayDocument(
            same=again.same, point=said.point if again.now else None, predicted=_seen(said.predicted),
            reason=said.reason, decision=said.decision, versions=now,
            differences=tuple(map(msgspec.to_builtins, again.differences)),
        )  # fmt: skip
    return ExplanationDocument(
        trial=row.trial, status=why.status, point=row.point, as_run=row.as_run, source=row.source, reason=row.reason,
        by=why.by, proposed=row.proposed, ended=row.ended, predicted=_seen(row.predicted),
        observed=_seen(row.observations), z=row.surprise, failure=failure.cause if failure else None,
        message=failure.message if failure else why.withdrawn, decision=row.decision, asked=why.asked,
        versions=why.versions, replay=replay,
    )  # fmt: skip


def waiting_documents(board: Board) -> tuple[Waiting, ...]:
    """The actions that wait for a person."""
    return tuple(
        Waiting(
            campaign=board.spec.id, action=a.action.id, status=a.status, question=a.question,
            facility=a.action.facility, point=a.action.point,
        )
        for a in board.waiting()
    )  # fmt: skip


def _open(board: Board, trial: core.Trial, now: float) -> OpenTrial:
    unfinished = [a for a in trial.actions.values() if a.status != "succeeded"] or list(trial.actions.values())
    at = unfinished[0] if unfinished else None
    sent = board.sent.get(at.action.id) if at else None
    return OpenTrial(
        trial=trial.id, point=trial.point, action=at.action.id if at else "", status=at.status if at else "ended",
        facility=at.action.facility if at else "", age=max(0.0, now - sent) if sent else 0.0,
    )  # fmt: skip


def fact_document(campaign: str, entry: core.Entry) -> dict[str, Any]:
    """A fact in a line: what kind, of which campaign, where, when and by whom, and the fact's own fields."""
    fields = msgspec.to_builtins(entry.fact)
    kind = fields.pop("type")
    return {"kind": kind, "campaign": campaign, "seq": entry.seq, "at": entry.at, "by": entry.by, **fields}
