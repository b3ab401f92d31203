"""What a campaign owes the world next: the loop, read from top to bottom."""

from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

from ._campaign import ActionState, ActionStatus, Campaign, Requested, Trial
from ._nouns import Action, Permit
from ._problem import Value
from ._steering import forbidden

_STATUSES = get_args(ActionStatus)


class Due(Value, frozen=True):
    """Work due. At most one step is under way on a subject at a time."""

    subject: str


class Design(Due, frozen=True):
    count: int


class Grant(Due, frozen=True):
    """A person's point gets its trial."""

    request: Requested


class Place(Due, frozen=True):
    """An action gets its facility."""

    action: Action


class Check(Due, frozen=True):
    action: Action


class Execute(Due, frozen=True):
    permit: Permit


class Reattach(Due, frozen=True):
    permit: Permit


class Measure(Due, frozen=True):
    action: Action
    job: str


class Cancel(Due, frozen=True):
    action: Action
    job: str


class Recall(Due, frozen=True):
    """A facility that was left for another may be reached again one day: it shall not go on for nothing."""

    action: Action
    facility: str


class Abandon(Due, frozen=True):
    """An action that will not be sent any more."""

    action: str
    reason: str


class Withdraw(Due, frozen=True):
    trial: str
    reason: str


class Ingest(Due, frozen=True):
    trial: str


class Learn(Due, frozen=True):
    """Its model is trained anew: from these trials, where `training` has begun to do so, or from all that are new."""

    trials: tuple[str, ...]
    training: str = ""


class Publish(Due, frozen=True):
    pass


class WatchClock(Due, frozen=True):
    """Running time ends at `until` (seconds since 1970 UTC)."""

    until: float


class Close(Due, frozen=True):
    reason: str


Step = (
    Design | Grant | Place | Check | Execute | Reattach | Measure | Cancel | Recall | Abandon | Withdraw
    | Ingest | Learn | Publish | WatchClock | Close
)  # fmt: skip


def next_steps(campaign: Campaign) -> Iterator[Step]:
    """Pure: the same campaign owes the same steps, today and after any crash."""
    if campaign.closed:
        return
    ending, found = campaign.ending, _by_status(campaign)
    if not ending and not campaign.paused:
        for request in campaign.due:
            yield Grant(subject=f"request {request.seq}", request=request)
        if not campaign.exhausted and (count := campaign.designable) > 0:
            yield Design(subject="design", count=count)
        if not all(a.action.facility for _, a in found["proposed"]):
            for a in campaign.placeable:
                yield Place(subject=a.action.id, action=a.action)
        for trial, a in found["proposed"]:
            if a.action.facility and trial.ready(a):
                yield Check(subject=a.action.id, action=a.action)
        yield from _executions(campaign, found["permitted"])
    if ending:
        yield from _endings(campaign, ending)
    elif campaign.forbidden:
        yield from _barred(campaign)
    for _, a in found["dispatched"]:
        yield Reattach(subject=a.action.id, permit=a.permit)
    for trial, a in found["accepted"]:
        yield Measure(subject=a.action.id, action=a.action, job=a.job)
        # Nothing that is still queued or runs of a trial that has failed is of use, and others may be waiting for it.
        if (campaign.cancel or trial.failed) and not a.cancelling:
            yield Cancel(subject=f"cancel {a.action.id}", action=a.action, job=a.job)
    for trial in campaign.open.values():
        for a in trial.actions.values():
            if a.left:
                yield from _recalls(a)
        if trial.settled:
            yield Ingest(subject=trial.id, trial=trial.id)
    for id in campaign.amended:
        if id not in campaign.open:
            yield Ingest(subject=id, trial=id)
    if campaign.learns and (campaign.training or not campaign.paused):
        yield Learn(subject="learn", trials=campaign.learning, training=campaign.training)
    yield from _time(campaign)
    exhausted = "" if campaign.requested else campaign.exhausted
    done = ending or exhausted or ("trials spent" if campaign.trials_left == 0 else "")
    if done and not campaign.open and not campaign.learns and not campaign.amended:
        if campaign.unpublished:
            yield Publish(subject="publish")
        else:
            yield Close(subject="campaign", reason=done)


def _by_status(campaign: Campaign) -> Mapping[str, list[tuple[Trial, ActionState]]]:
    found: dict[str, list[tuple[Trial, ActionState]]] = {status: [] for status in _STATUSES}
    for trial in campaign.open.values():
        for a in trial.actions.values():
            found[a.status].append((trial, a))
    return found


def _executions(campaign: Campaign, permitted: Sequence[tuple[Trial, ActionState]]) -> Iterator[Step]:
    """Permitted actions: those of started trials first, then of new ones while there are slots."""
    if not permitted:
        return
    for trial, a in permitted:
        if trial.started and trial.ready(a):
            yield Execute(subject=a.action.id, permit=a.permit)
    slots = campaign.parallel - campaign.started
    for trial in {trial.id: trial for trial, _ in permitted}.values():
        if slots <= 0:
            return
        if not trial.started and trial.failure is None:
            first = [a for a in trial.actions.values() if a.status == "permitted" and not a.action.after]
            if first and forbidden(campaign, trial.point):
                continue
            for a in first:
                yield Execute(subject=a.action.id, permit=a.permit)
            slots -= bool(first)


def _endings(campaign: Campaign, reason: str) -> Iterator[Step]:
    """Once it ends, started trials are brought to their end, and the others withdrawn."""
    for trial in campaign.open.values():
        if not trial.started and not trial.settled:
            yield Withdraw(subject=f"withdraw {trial.id}", trial=trial.id, reason=reason)
    for trial, a in campaign.ready("proposed", "permitted", "escalated", "lost"):
        if not trial.started:
            continue
        if campaign.cancel:
            yield Abandon(subject=f"abandon {a.action.id}", action=a.action.id, reason=reason)
        elif a.status == "proposed" and not a.action.facility:
            yield Place(subject=a.action.id, action=a.action)
        elif a.status == "proposed":
            yield Check(subject=a.action.id, action=a.action)
        elif a.status == "permitted":
            yield Execute(subject=a.action.id, permit=a.permit)


def _recalls(a: ActionState) -> Iterator[Step]:
    for facility in a.left:
        if facility not in a.recalled:
            yield Recall(subject=f"recall {a.action.id} {facility}", action=a.action, facility=facility)


def _barred(campaign: Campaign) -> Iterator[Step]:
    """Trials queued in a region that people have forbidden since."""
    for trial in campaign.open.values():
        if not trial.started and not trial.settled and (why := forbidden(campaign, trial.point)):
            yield Withdraw(subject=f"withdraw {trial.id}", trial=trial.id, reason=why)


def _time(campaign: Campaign) -> Iterator[Step]:
    limit = campaign.spec.goal.budget.seconds
    if limit is not None and campaign.runner and not campaign.time_spent:
        # Another budget is another clock: the one that runs finds, when it rings, that it is not due any more.
        until = campaign.run_started + limit - campaign.ran
        yield WatchClock(subject=f"clock {until}", until=until)


def still_due(campaign: Campaign, step: Step) -> bool:
    """Whether the world has not overtaken a step between its being scheduled and its being taken."""
    match step:
        case Grant(request=request):
            wanted = request in campaign.requested and campaign.trials_left != 0
            return wanted and not campaign.ending and not campaign.paused
        case WatchClock():
            return not campaign.closed and step in _time(campaign)
        case Place(action=action):
            state = campaign.action(action.id)
            return state is not None and state.status == "proposed" and not state.action.facility
        case Check(action=action):
            state = campaign.action(action.id)
            return state is not None and state.status == "proposed" and state.action.facility == action.facility
        case Execute(permit=permit):
            trial = campaign.open.get(permit.action.trial)
            if trial is None or campaign.paused or _status(campaign, permit.action.id) != "permitted":
                return False
            if not trial.started and forbidden(campaign, trial.point):
                return False
            return not campaign.ending or (trial.started and not campaign.cancel)
        case Cancel(action=action):
            state = campaign.action(action.id)
            return state is not None and state.status == "accepted" and not state.cancelling
        case Recall(action=action, facility=facility):
            state = campaign.action(action.id)
            return state is not None and facility in state.left and facility not in state.recalled
        case Abandon(action=id):
            return _status(campaign, id) in ("proposed", "permitted", "escalated", "lost")
        case Withdraw(trial=id):
            return id in campaign.open and not campaign.open[id].started
        case _:
            return not campaign.closed


def _status(campaign: Campaign, action: str) -> str:
    state = campaign.action(action)
    return state.status if state else ""
