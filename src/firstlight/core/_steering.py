"""What people may say to a campaign under way, folded: each word is checked at once, and refused with its reason."""

import math
from collections.abc import Iterator
from typing import NoReturn

import msgspec

from ._campaign import Campaign, InconsistentError, Requested
from ._facts import Amendment, PointRequested, TrialCorrected
from ._points import inside, region_words, violations
from ._problem import Budget, CampaignSpec, Categorical, Forbid, Ordered, Parameter, Point, Scalar
from ._validate import budget as budget_problems
from ._validate_space import constraint as constraint_problems
from ._wrong import listed

replace = msgspec.structs.replace


# ------------------------------------------------------------------ points


def request(campaign: Campaign, fact: PointRequested, seq: int, by: str) -> Campaign:
    """A person's point waits for its trial."""
    if wrong := violations(campaign.spec, fact.point):
        _refuse(f"the point cannot be tried: {'; '.join(wrong)}")
    if campaign.ending:
        _refuse(f"campaign {campaign.spec.id} is ending ({campaign.ending}): no further trial starts")
    if campaign.trials_left is not None and campaign.trials_left <= len(campaign.requested):
        _refuse(f"the budget of {campaign.spec.goal.budget.trials} trials leaves none for it: raise the budget first")
    wanted = Requested(seq=seq, point=fact.point, by=by, note=fact.note)
    return replace(campaign, requested=(*campaign.requested, wanted))


def without(requested: tuple[Requested, ...], point: Point) -> tuple[Requested, ...]:
    """The requests but the first of this point: it has its trial."""
    for i, one in enumerate(requested):
        if one.point == point:
            return requested[:i] + requested[i + 1 :]
    return requested


# ------------------------------------------------------------------ regions


def forbid(campaign: Campaign, region: Forbid) -> Campaign:
    """No point in this region from now on; requests that lie in it are dropped."""
    if region in campaign.forbidden:
        _refuse(f"the region ({region_words(region)}) is forbidden already")
    known = {p.name: p for p in campaign.spec.parameters}
    for problem in constraint_problems("region", region, known):
        _refuse(str(problem))
    left = tuple(r for r in campaign.requested if not inside(region, r.point))
    return _with_regions(replace(campaign, requested=left), (*campaign.forbidden, region))


def allow(campaign: Campaign, region: Forbid) -> Campaign:
    """The region is open again."""
    if region not in campaign.forbidden:
        there = "; ".join(map(region_words, campaign.forbidden)) or "none"
        _refuse(f"nobody forbade the region ({region_words(region)}); forbidden since the campaign began: {there}")
    return _with_regions(campaign, tuple(r for r in campaign.forbidden if r != region))


def forbidden(campaign: Campaign, point: Point) -> str:
    """Why people forbid this point, "" where they do not."""
    for region in campaign.forbidden:
        if inside(region, point):
            return f"the point is in a forbidden region ({region_words(region)})"
    return ""


def _with_regions(campaign: Campaign, regions: tuple[Forbid, ...]) -> Campaign:
    asked = campaign.spec.constraints[: len(campaign.spec.constraints) - len(campaign.forbidden)]
    spec = replace(campaign.spec, constraints=(*asked, *regions))
    return replace(campaign, spec=spec, forbidden=regions, exhausted="")


# ------------------------------------------------------------------ the budget


def spend(campaign: Campaign, budget: Budget) -> Campaign:
    """Another budget from now on. What was spent stays spent."""
    goal = campaign.spec.goal
    if goal.budget.cost_unit and budget.cost_unit != goal.budget.cost_unit:
        _refuse(f"costs are counted in {goal.budget.cost_unit}, not in {budget.cost_unit or 'plain numbers'}")
    if budget == goal.budget:
        _refuse("this is the budget already")
    spec = replace(campaign.spec, goal=replace(goal, budget=budget))
    for problem in budget_problems(spec):
        _refuse(str(problem))
    spent = campaign.time_spent and budget.seconds is not None and campaign.elapsed >= budget.seconds
    return replace(campaign, spec=spec, time_spent=spent)


# ------------------------------------------------------------------ trials that have ended


def amend(campaign: Campaign, fact: Amendment, seq: int) -> Campaign:
    """A trial that has ended is changed, and the campaign stands where the fact says.

    What only the rows can tell (that the trial has ended, that its mark changes, where all trials stand) is held
    against them by the ledger.
    """
    if fact.standing is None:
        _refuse(f"{type(fact).__name__} of {fact.trial} does not say where the trials stand after it")
    if isinstance(fact, TrialCorrected):
        for why in _slips(campaign.spec, fact):
            _refuse(why)
    # What was still to be gained was judged from what the trials said before.
    after = replace(
        campaign, met_by=fact.standing.met_by, amended={**campaign.amended, fact.trial: seq}, exhausted="", outlook=None
    )
    if campaign.spec.model and fact.trial not in campaign.fresh and fact.trial not in campaign.open:
        after = replace(after, fresh=(*campaign.fresh, fact.trial))
    if fact.standing.front == campaign.front:
        return after
    # Where the best trials are others, the rule of no improvement counts anew from here.
    front, rule = fact.standing.front, campaign.spec.goal.no_improvement
    counted = rule is not None and len(campaign.spec.goal.objectives) == 1 and front
    return replace(after, front=front, stale=0, recent=((front[0][0], campaign.cost),) if counted else ())


def revised(campaign: Campaign, trial: str, revision: int) -> Campaign:
    """The row of an amended trial is replaced in the dataset."""
    owed = campaign.amended.get(trial)
    if owed is None:
        _refuse(f"trial {trial} was not amended")
    if trial in campaign.open:
        _refuse(f"trial {trial} is not ingested yet")
    left = {id: seq for id, seq in campaign.amended.items() if id != trial or seq > revision}
    return replace(campaign, amended=left, unpublished=campaign.unpublished + 1)


def _slips(spec: CampaignSpec, fact: TrialCorrected) -> Iterator[str]:
    if not fact.as_run and not fact.observations:
        yield f"nothing is corrected in {fact.trial}: name a parameter or an observable, and its value"
    known = {p.name: p for p in spec.parameters}
    for name, value in fact.as_run.items():
        if name not in known:
            yield f"{name} is not a parameter; the parameters are {listed(known)}"
        elif why := _not_as_run(known[name], value):
            yield why
    units = {o.observable: o.unit for o in spec.goal.objectives} | {o.name: o.unit for o in spec.observables}
    for seen in fact.observations:
        if seen.observable not in units:
            yield f"{seen.observable} is not an observable; the observables are {listed(units)}"
        elif seen.unit != units[seen.observable]:
            yield f"{seen.observable} is observed in {units[seen.observable] or 'plain numbers'}, not in {seen.unit}"


def _not_as_run(parameter: Parameter, value: Scalar) -> str:
    """Why a parameter cannot have come out at this value: instruments overshoot bounds, and invent no words."""
    words = isinstance(parameter, Categorical) or (
        isinstance(parameter, Ordered) and any(isinstance(v, str) for v in parameter.values)
    )
    if words:
        values = getattr(parameter, "values", ())
        return "" if value in values else f"{parameter.name} is {value!r}, none of {listed(values)}"
    if isinstance(value, str) or not math.isfinite(value):
        return f"{parameter.name} is {value!r}, not a number"
    return ""


def _refuse(why: str) -> NoReturn:
    raise InconsistentError(why)
