"""The fold: one campaign and one entry make the next campaign. Pure, and strict."""

from collections.abc import Iterable
from typing import Any, NoReturn, assert_never

import msgspec

from . import _facts as f
from . import _steering as steering
from ._campaign import UNDERWAY, WAITING, ActionState, Campaign, InconsistentError, Trial
from ._facts import Entry
from ._goal import advance, losses, met, pooled
from ._nouns import Cause, Failure, Measured, Outcome, Placement
from ._sources import counts

replace = msgspec.structs.replace


def open_campaign(entry: Entry) -> Campaign:
    """The campaign that its first entry opens."""
    if not isinstance(entry.fact, f.CampaignOpened) or entry.seq != 1:
        raise InconsistentError(f"a history begins with CampaignOpened at 1, not {_name(entry.fact)} at {entry.seq}")
    return Campaign(spec=entry.fact.spec, parallel=entry.fact.spec.parallel, last=entry.at)


def replay(entries: Iterable[Entry]) -> Campaign:
    """Fold a whole history, whose first fact is a CampaignOpened."""
    rest = iter(entries)
    first = next(rest, None)
    if first is None:
        raise InconsistentError("an empty history is no campaign")
    campaign = open_campaign(first)
    for entry in rest:
        campaign = reduce(campaign, entry)
    return campaign


def reduce(campaign: Campaign, entry: Entry) -> Campaign:
    """The campaign after this entry. Raises InconsistentError where the entry cannot follow."""
    if entry.seq != campaign.seq + 1:
        raise InconsistentError(f"entry {entry.seq} cannot follow entry {campaign.seq}")
    fact = entry.fact
    if campaign.closed and not isinstance(fact, f.RunEnded):
        raise InconsistentError(
            f"campaign {campaign.spec.id} is closed ({campaign.closed}): no {_name(fact)} can follow"
        )
    after = _apply(campaign, entry)
    return replace(after, seq=entry.seq, last=max(campaign.last, entry.at))


def _apply(campaign: Campaign, entry: Entry) -> Campaign:
    fact = entry.fact
    match fact:
        case f.CampaignOpened():
            raise InconsistentError(f"campaign {campaign.spec.id} is open already")
        case f.RunStarted(runner=runner, parallel=parallel):
            # A runner that crashed left no RunEnded: what it recorded last is when it stopped.
            ran, slots = campaign.elapsed, parallel or campaign.spec.parallel
            return replace(campaign, runner=runner, parallel=slots, ran=ran, run_started=entry.at)
        case f.RunEnded():
            return replace(campaign, runner="", ran=campaign.elapsed + _since(campaign, entry), run_started=0.0)
        case f.TrialProposed():
            return _propose(campaign, fact)
        case f.TrialWithdrawn(trial=id):
            trial = campaign.open.get(id) or _refuse(f"no open trial {id}")
            if trial.started:
                _refuse(f"trial {id} has been started and cannot be withdrawn")
            return replace(_without(campaign, id), counted=campaign.counted - 1)
        case f.TrialAdded():
            return _add(campaign, fact)
        case f.EarlierChosen(campaigns=chosen):
            if campaign.earlier is not None:
                _refuse(f"campaign {campaign.spec.id} has chosen its earlier campaigns already")
            if campaign.spec.id in {c.campaign for c in chosen}:
                _refuse(f"campaign {campaign.spec.id} is not earlier than itself")
            return replace(campaign, earlier=chosen)
        case f.ModelsChosen(versions=versions):
            return replace(campaign, models=versions)
        case f.DesignExhausted(reason=reason):
            return replace(campaign, exhausted=reason or "no further point")
        case f.ActionPermitted(action=id, policies=policies, agreement=agreement):
            return _move(campaign, id, ("proposed",), status="permitted", policies=policies, agreement=agreement)
        case f.ActionEscalated(action=id, question=question):
            return _move(campaign, id, ("proposed",), status="escalated", question=question)
        case f.ActionApproved(action=id):
            approval = f"approved by {entry.by}"
            return _move(
                campaign, id, ("escalated", "lost"), status="permitted", policies=(approval,), question="",
                approved=entry.seq,
            )  # fmt: skip
        case f.ActionRefused(action=id, reasons=reasons):
            cause: Cause = "lost" if _action(campaign, id).status == "lost" else "refused"
            failure = Failure(cause=cause, message="; ".join(reasons))
            return _fail(_move(campaign, id, ("proposed", "escalated", "lost"), status="refused"), id, failure, 0.0)
        case f.ActionPlaced():
            return _place(campaign, fact)
        case f.ActionDispatched(action=id):
            return _move(campaign, id, ("permitted",), status="dispatched", sent=entry.at)
        case f.ActionAccepted(action=id, job=job):
            return _move(campaign, id, ("dispatched",), status="accepted", job=job)
        case f.ActionLost(action=id, reason=reason):
            found = reason or "it was sent and its facility knows nothing of it"
            question = f"{id}: {found}. Was it performed (attest), shall it be again (approve), or never (refuse)?"
            return _move(campaign, id, ("dispatched", "accepted"), status="lost", question=question, job="")
        case f.CancelRequested(action=id, facility=facility) if facility:
            return _recall(campaign, id, facility)
        case f.CancelRequested(action=id):
            return _move(campaign, id, ("accepted",), cancelling=True)
        case f.ActionSucceeded(action=id, measured=measured):
            return _succeed(_move(campaign, id, ("accepted",), status="succeeded"), id, measured)
        case f.ActionAttested(action=id, measured=measured):
            return _succeed(_move(campaign, id, ("lost",), status="succeeded"), id, measured)
        case f.ActionFailed(action=id, failure=failure):
            before = _action(campaign, id)
            paid = 0.0 if before.status in WAITING else before.action.cost
            moved = _move(campaign, id, ("accepted", "dispatched", "lost", *WAITING), status="failed")
            return _fail(moved, id, failure, failure.cost or paid)
        case f.TrialIngested(trial=id):
            trial = campaign.open.get(id) or _refuse(f"no open trial {id}")
            if not trial.settled:
                _refuse(f"trial {id} has not ended")
            fresh = (*campaign.fresh, id) if campaign.spec.model and not trial.failed else campaign.fresh
            return replace(_without(campaign, id), fresh=fresh, unpublished=campaign.unpublished + 1)
        case f.DatasetPublished(dataset=dataset):
            return replace(campaign, dataset=dataset, unpublished=0)
        case f.TrainingBegun(training=training, trials=used):
            if campaign.training:
                _refuse(f"{campaign.training} trains the model of {campaign.spec.id} already")
            if not campaign.spec.model or not set(used) <= set(campaign.fresh):
                _refuse(f"campaign {campaign.spec.id} has no model to train from {', '.join(used)}")
            return replace(campaign, training=training, learning=used, fresh=_without_those(campaign.fresh, used))
        case f.ModelUpdated(model=model, trials=used, training=training):
            if training != campaign.training:
                _refuse(f"{training or 'nobody'} does not train the model of {campaign.spec.id}")
            return replace(
                campaign, model=model, models=_updated(campaign, model), training="", learning=(),
                fresh=_without_those(campaign.fresh, used),
            )  # fmt: skip
        case f.CampaignPaused():
            return replace(campaign, paused=True)
        case f.CampaignResumed():
            if not campaign.paused:
                _refuse(f"campaign {campaign.spec.id} is not paused")
            return replace(campaign, paused=False)
        case f.CampaignStopped(reason=reason, cancel=cancel):
            return replace(campaign, stopped=reason or "stopped", cancel=campaign.cancel or cancel, paused=False)
        case f.TimeSpent():
            return replace(campaign, time_spent=True)
        case f.CampaignClosed(reason=reason):
            if campaign.open:
                _refuse(f"campaign {campaign.spec.id} has {len(campaign.open)} open trials and cannot close")
            return replace(campaign, closed=reason)
        case f.PointRequested():
            return steering.request(campaign, fact, entry.seq, entry.by)
        case f.RegionForbidden(region=region):
            return steering.forbid(campaign, region)
        case f.RegionAllowed(region=region):
            return steering.allow(campaign, region)
        case f.BudgetChanged(budget=budget):
            return steering.spend(campaign, budget)
        case f.TrialCorrected() | f.OutcomeRejected() | f.OutcomeRestored():
            return steering.amend(campaign, fact, entry.seq)
        case f.TrialRevised(trial=id, revision=revision):
            return steering.revised(campaign, id, revision)
        case _:
            assert_never(fact)


def _propose(campaign: Campaign, fact: f.TrialProposed) -> Campaign:
    _expect_next(campaign, fact.trial)
    if campaign.trials_left == 0:
        _refuse(f"trial {fact.trial} exceeds the budget of {campaign.spec.goal.budget.trials} trials")
    ids = [a.id for a in fact.actions]
    if not ids or len(set(ids)) != len(ids):
        _refuse(f"trial {fact.trial} needs actions with ids of their own, not {ids}")
    for action in fact.actions:
        if action.id.rpartition(".")[0] != fact.trial or not set(action.after) <= set(ids):
            _refuse(f"action {action.id} does not belong to trial {fact.trial}")
    states = {a.id: ActionState(action=a) for a in fact.actions}
    if why := steering.forbidden(campaign, fact.point):
        _refuse(f"trial {fact.trial} cannot follow: {why}")
    trial = Trial(id=fact.trial, point=fact.point, actions=states, source=fact.source)
    outlook = fact.decision.outlook if fact.decision else None
    return replace(
        campaign,
        outlook=outlook or campaign.outlook,
        requested=steering.without(campaign.requested, fact.point),
        open={**campaign.open, trial.id: trial},
        numbered=campaign.numbered + 1,
        counted=campaign.counted + 1,
    )


def _add(campaign: Campaign, fact: f.TrialAdded) -> Campaign:
    _expect_next(campaign, fact.trial)
    failure = fact.outcome if isinstance(fact.outcome, Failure) else None
    observed = fact.outcome.observations if isinstance(fact.outcome, Measured) else ()
    trial = Trial(
        id=fact.trial, point=fact.point, actions={}, as_run=fact.outcome.as_run, observations=observed,
        assets=fact.outcome.assets, failure=failure, source=fact.source,
    )  # fmt: skip
    campaign = replace(campaign, open={**campaign.open, trial.id: trial}, numbered=campaign.numbered + 1)
    return _settle(campaign, trial)


def _succeed(campaign: Campaign, id: str, measured: Measured) -> Campaign:
    trial = _trial(campaign, id)
    paid = measured.cost or trial.actions[id].action.cost
    trial = replace(
        trial,
        observations=trial.observations + measured.observations,
        assets=trial.assets + measured.assets,
        as_run={**trial.as_run, **measured.as_run},
        cost=trial.cost + paid,
    )
    campaign = _with(_charge(campaign, paid, measured), trial)
    return _settle(campaign, trial) if trial.settled else campaign


def _charge(campaign: Campaign, paid: float, outcome: Outcome) -> Campaign:
    used = campaign.used
    for unit, amount in outcome.used.items():
        used = {**used, unit: used.get(unit, 0.0) + amount}
    return replace(campaign, cost=campaign.cost + paid, used=used)


def _fail(campaign: Campaign, id: str, failure: Failure, paid: float) -> Campaign:
    trial = _trial(campaign, id)
    trial = replace(
        trial,
        failure=trial.failure or failure,
        assets=trial.assets + failure.assets,
        as_run={**trial.as_run, **failure.as_run},
        cost=trial.cost + paid,
    )
    campaign = _with(_charge(campaign, paid, failure), trial)
    return _settle(campaign, trial) if trial.settled else campaign


def _settle(campaign: Campaign, trial: Trial) -> Campaign:
    """Count a trial that has just ended, and see what it did for the goal."""
    campaign = replace(
        campaign, succeeded=campaign.succeeded + (not trial.failed), failed=campaign.failed + trial.failed
    )
    if not counts(campaign.spec, {**trial.point, **trial.as_run}):
        return campaign
    goal = campaign.spec.goal
    seen = pooled(trial.observations)
    found = None if trial.failed else losses(goal, seen)
    front = campaign.front if found is None else advance(campaign.front, found)
    recent = campaign.recent
    if goal.no_improvement and len(goal.objectives) == 1 and front:
        recent = (*recent, (front[0][0], campaign.cost))[-goal.no_improvement.trials - 1 :]
    return replace(
        campaign,
        front=front,
        stale=0 if front is not campaign.front else campaign.stale + 1,
        recent=recent,
        met_by=campaign.met_by or (trial.id if not trial.failed and met(goal, seen) else ""),
    )


def _place(campaign: Campaign, fact: f.ActionPlaced) -> Campaign:
    """An action gets a facility, or another one. What another facility may be doing counts for nothing any more."""
    id, facility, state = fact.action, fact.facility, _action(campaign, fact.action)
    action = state.action
    origins = ("proposed", "permitted", "escalated", *(("dispatched", "accepted") if action.repeatable else ()))
    if action.facility and state.placement is None:
        _refuse(f"action {id} is to be performed at {action.facility}, as its specification says")
    if not facility or facility == action.facility:
        _refuse(f"action {id} cannot be placed at {facility or 'no facility'}: it is at {action.facility or 'none'}")
    if action.facilities and facility not in action.facilities:
        _refuse(f"action {id} may be performed at {', '.join(action.facilities)}, not at {facility}")
    # There it may have been asked to end, and would be told as cancelled.
    if facility in state.left:
        _refuse(f"action {id} has left {facility} and cannot be placed there again")
    sent = state.status in UNDERWAY
    return _move(
        campaign, id, origins, action=replace(action, facility=facility), status="proposed",
        policies=(), agreement="", job="", question="", cancelling=False, sent=0.0,
        placement=Placement(facility=facility, reason=fact.reason, others=fact.others),
        left=(*state.left, action.facility) if sent else state.left,
    )  # fmt: skip


def _recall(campaign: Campaign, id: str, facility: str) -> Campaign:
    trial, state = _trial(campaign, id), _action(campaign, id)
    if facility not in state.left or facility in state.recalled:
        _refuse(f"action {id} has nothing at {facility} that could be asked to end")
    state = replace(state, recalled=(*state.recalled, facility))
    return _with(campaign, replace(trial, actions={**trial.actions, id: state}))


def _expect_next(campaign: Campaign, trial: str) -> None:
    if trial != next_trial(campaign):
        _refuse(f"trial {trial} cannot follow: the next trial is {next_trial(campaign)}")


def next_trial(campaign: Campaign) -> str:
    """The id of the next trial, the campaign's id and a number."""
    return f"{campaign.spec.id}.{campaign.numbered + 1}"


def _trial(campaign: Campaign, action: str) -> Trial:
    trial = campaign.open.get(action.rpartition(".")[0])
    if trial is None or action not in trial.actions:
        raise InconsistentError(f"no open trial has action {action}")
    return trial


def _action(campaign: Campaign, id: str) -> ActionState:
    return _trial(campaign, id).actions[id]


def _move(campaign: Campaign, id: str, origins: tuple[str, ...], **changes: Any) -> Campaign:
    trial = _trial(campaign, id)
    state = trial.actions[id]
    if state.status not in origins:
        _refuse(f"action {id} is {state.status}: it cannot become {changes.get('status', 'cancelled')}")
    return _with(campaign, replace(trial, actions={**trial.actions, id: replace(state, **changes)}))


def _with(campaign: Campaign, trial: Trial) -> Campaign:
    return replace(campaign, open={**campaign.open, trial.id: trial})


def _without(campaign: Campaign, trial: str) -> Campaign:
    return replace(campaign, open={id: t for id, t in campaign.open.items() if id != trial})


def _since(campaign: Campaign, entry: Entry) -> float:
    return max(0.0, entry.at - campaign.last) if campaign.runner else 0.0


def _name(fact: object) -> str:
    return type(fact).__name__


def _refuse(why: str) -> NoReturn:
    raise InconsistentError(why)


def _without_those(trials: tuple[str, ...], used: tuple[str, ...]) -> tuple[str, ...]:
    gone = set(used)
    return tuple(t for t in trials if t not in gone)


def _updated(campaign: Campaign, model: str) -> dict[str, str] | None:
    """The versions that decisions are made with, where those of the campaign's own model are another now."""
    named = (campaign.spec.model, f"{campaign.spec.model}@production")
    if not model or not campaign.models or not set(named) & set(campaign.models):
        return campaign.models
    return {name: model if name in named else version for name, version in campaign.models.items()}
