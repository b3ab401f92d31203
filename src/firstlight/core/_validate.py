"""Everything that can be wrong with a specification and seen without asking anybody. Pure."""

import math
import re
from collections.abc import Mapping, Sequence

import msgspec

from ._problem import (
    CALLER,
    Budget,
    CampaignSpec,
    Goal,
    NoImprovement,
    Objective,
    Observable,
    OutcomeConstraint,
    Regret,
    StepSpec,
)
from ._validate_space import constraint, fidelity, parameters, pool, room
from ._validate_steps import files, resources
from ._wrong import LARGEST, Problem, Problems, listed, named

SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
STEP_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def problems(spec: CampaignSpec) -> tuple[Problem, ...]:
    """Every problem of a specification whose fields have the right types, in the order of its fields.

    A specification made in Python may hold anything: `msgspec.convert` it first, so that its types are right.
    """
    by_name = {p.name: p for p in spec.parameters}
    found = [*_identity(spec), *parameters(spec)]
    for i, wanted in enumerate(spec.constraints):
        found += constraint(f"constraints[{i}]", wanted, by_name)
    if spec.pool is not None:
        found += pool(spec.pool, by_name)
    found += [*_goal(spec), *_budget(spec.goal.budget), *_stops(spec), *_procedure(spec), *_running(spec)]
    found += _shared(spec)
    if spec.fidelity is not None:
        found += [*fidelity(spec.fidelity, by_name, spec.constraints), *_costs(spec)]
    if not found:
        found += room(spec)
    if not found:
        found += _recordable(spec)
    return tuple(found)


def _identity(spec: CampaignSpec) -> Problems:
    if not SLUG.fullmatch(spec.id):
        yield Problem(
            "id",
            f"{spec.id!r} is not a campaign id",
            "Use small letters, digits and hyphens (at most 63), as in my-campaign.",
        )
    if not spec.parameters:
        yield Problem("parameters", "there are none", "Name at least one parameter to vary.")


# ------------------------------------------------------------------ the goal


def _goal(spec: CampaignSpec) -> Problems:
    goal = spec.goal
    if not goal.objectives:
        yield Problem("goal.objectives", "there are none", "Say what to maximize, minimize or match.")
    units: dict[str, str] = {}
    for i, objective in enumerate(goal.objectives):
        at = f"goal.objectives[{i}]"
        yield from named(f"{at}.observable", objective.observable)
        if objective.observable in units:
            yield Problem(
                f"{at}.observable", f"{objective.observable!r} is there twice", "Pursue every observable in one way."
            )
        units.setdefault(objective.observable, objective.unit)
        yield from _objective(at, objective)
    yield from _observables(spec.observables, units)
    for i, bound in enumerate(goal.outcome_constraints):
        yield from _outcome_constraint(f"goal.outcome_constraints[{i}]", bound, units)


def _objective(at: str, o: Objective) -> Problems:
    for side, value in (("target", o.target), ("tolerance", o.tolerance), ("threshold", o.threshold)):
        if value is not None and not math.isfinite(value):
            yield Problem(f"{at}.{side}", f"{value} is not a finite number", f"Give {side} a finite number.")
    if o.tolerance < 0:
        yield Problem(f"{at}.tolerance", f"{o.tolerance:g} is below 0", "Give a tolerance of 0 or more.")
    if o.direction == "match":
        if o.target is None:
            yield Problem(f"{at}.target", "there is nothing to match", "Give the target to be matched.")
    elif o.target is not None and o.threshold is not None:
        sign = 1 if o.direction == "maximize" else -1
        if sign * o.threshold > sign * o.target:
            message = f"{o.threshold:g} lies beyond the target {o.target:g}"
            yield Problem(f"{at}.threshold", message, "The threshold is the worst value worth having.")


def _observables(observables: Sequence[Observable], units: dict[str, str]) -> Problems:
    """Checks them, and adds them to the observables known."""
    wanted = dict(units)
    seen: set[str] = set()
    for i, observable in enumerate(observables):
        at, name = f"observables[{i}]", observable.name
        yield from named(f"{at}.name", name)
        if name in seen:
            yield Problem(f"{at}.name", f"{name!r} is there twice", "Declare every observable once.")
        if wanted.get(name, observable.unit) != observable.unit:
            message = f"{name!r} is in {wanted[name]!r} as an objective and in {observable.unit!r} here"
            yield Problem(f"{at}.unit", message, "Give it one unit.")
        seen.add(name)
        units.setdefault(name, observable.unit)


def _outcome_constraint(at: str, bound: OutcomeConstraint, units: Mapping[str, str]) -> Problems:
    name = bound.observable
    if name not in units:
        known = f"The observables are {listed(units)}; add it to observables if trials report it."
        yield Problem(f"{at}.observable", f"{name!r} is not an observable", known)
    elif bound.unit and bound.unit != units[name]:
        message = f"the bound is in {bound.unit!r} and {name!r} in {units[name]!r}"
        yield Problem(f"{at}.unit", message, "Give the bound in the unit of the observable.")
    if not math.isfinite(bound.bound):
        yield Problem(f"{at}.bound", f"{bound.bound} is not a finite number", "Give a finite number.")


def _budget(budget: Budget) -> Problems:
    if budget.trials is not None and not 1 <= budget.trials <= LARGEST:
        yield Problem("goal.budget.trials", f"{budget.trials} trials are no budget", "Give 1 or more.")
    for side, value in (("cost", budget.cost), ("seconds", budget.seconds)):
        if value is not None and not (math.isfinite(value) and value > 0):
            yield Problem(f"goal.budget.{side}", f"{value:g} is no budget", "Give a finite number above 0.")


def budget(spec: CampaignSpec) -> tuple[Problem, ...]:
    """What is wrong with the budget: its numbers, and that a campaign without an end has to have one."""
    return (*_budget(spec.goal.budget), *_stops(spec))


def _stops(spec: CampaignSpec) -> Problems:
    goal = spec.goal
    if goal.regret is not None:
        yield from _regret(goal, goal.regret)
    # What is left to gain is for the strategy to say, and it may never be little: that rule alone ends nothing.
    if goal.no_improvement is not None:
        yield from _no_improvement(goal, goal.no_improvement)
    elif (
        goal.budget.trials is goal.budget.cost is goal.budget.seconds is None
        and spec.pool is None
        and not any(o.target is not None for o in goal.objectives)
    ):
        yield Problem("goal.budget", "this campaign would never end", "Give a budget, or a target, or no_improvement.")


def _no_improvement(goal: Goal, rule: NoImprovement) -> Problems:
    at = "goal.no_improvement"
    if rule.trials < 1:
        yield Problem(f"{at}.trials", f"{rule.trials} is too few", "Give 1 or more.")
    if not (math.isfinite(rule.gain) and rule.gain >= 0):
        yield Problem(f"{at}.gain", f"{rule.gain:g} is no gain", "Give a finite number, 0 or more.")
    if rule.price is None:
        return
    if not (math.isfinite(rule.price) and rule.price > 0):
        yield Problem(f"{at}.price", f"{rule.price:g} is no price", "Give a finite number above 0.")
    if len(goal.objectives) > 1:
        yield Problem(f"{at}.price", "a price needs exactly one objective", "Leave the price out.")
    if not goal.budget.cost_unit:
        yield Problem(f"{at}.price", "a price needs the budget's cost unit", "Give budget.cost_unit.")


def _regret(goal: Goal, rule: Regret) -> Problems:
    at = "goal.regret"
    if not (math.isfinite(rule.gain) and rule.gain > 0):
        yield Problem(f"{at}.gain", f"{rule.gain:g} is no gain", "Give what is worth going on for, a number above 0.")
    if not 0 < rule.chance < 1:
        yield Problem(f"{at}.chance", f"{rule.chance:g} is no chance", "Give a number between 0 and 1, such as 0.05.")
    if len(goal.objectives) != 1:
        yield Problem(at, "a regret needs exactly one objective", "Leave it out, or use no_improvement.")


# ------------------------------------------------------------------ procedure and running


def _procedure(spec: CampaignSpec) -> Problems:
    if not spec.procedure.steps:
        yield Problem("procedure.steps", "there are none", "Say how a point is tried, in one step at least.")
    names: set[str] = set()
    for i, step in enumerate(spec.procedure.steps):
        at = f"procedure.steps[{i}]"
        if not STEP_SLUG.fullmatch(step.name):
            remedy = "Use letters, digits, hyphens and underscores: an action is called <campaign>.<n>.<step>."
            yield Problem(f"{at}.name", f"{step.name!r} is not a step name", remedy)
        if step.name in names:
            yield Problem(f"{at}.name", f"{step.name!r} is there twice", "Give every step a name of its own.")
        names.add(step.name)
        yield from _step(at, step)
        for clash in sorted({p.name for p in spec.parameters} & step.inputs.keys()):
            yield Problem(f"{at}.inputs.{clash}", "a parameter has the same name", "Give one of them another name.")
    yield from _plain("procedure.options", spec.procedure.options)
    yield from _plain("strategy.options", spec.strategy.options)
    for at, name in (("procedure.name", spec.procedure.name), ("strategy.name", spec.strategy.name)):
        if not name:
            yield Problem(at, "it is empty", "Give a name, or leave it out.")


def _step(at: str, step: StepSpec) -> Problems:
    if not step.operation:
        yield Problem(f"{at}.operation", "it is empty", "Name a function as package.module:function, or a command.")
    yield from _facilities(at, step)
    if not (math.isfinite(step.cost) and step.cost >= 0):
        yield Problem(f"{at}.cost", f"{step.cost:g} is no cost", "Give a finite number, 0 or more.")
    for side, value in (("seconds", step.limits.seconds), ("memory", step.limits.memory)):
        if value is not None and not (math.isfinite(value) and 0 < value <= LARGEST):
            yield Problem(f"{at}.limits.{side}", f"{value:g} is no limit", "Give a number above 0, or leave it out.")
    yield from _plain(f"{at}.settings", step.settings)
    yield from resources(f"{at}.resources", step.resources)
    yield from files(at, step)


def _facilities(at: str, step: StepSpec) -> Problems:
    """Either one is named, or there are some to choose among, or none for all."""
    if step.facility and step.facilities:
        remedy = "Name one as its facility, or leave that empty and name those to choose among."
        yield Problem(f"{at}.facilities", f"it is to be performed at {step.facility}", remedy)
    for i, name in enumerate(step.facilities):
        if not name:
            yield Problem(f"{at}.facilities[{i}]", "it is empty", "Name a facility.")
        elif name == CALLER:
            yield Problem(f"{at}.facilities[{i}]", "whoever asks and tells cannot be chosen", "Leave it out.")
        elif name in step.facilities[:i]:
            yield Problem(f"{at}.facilities[{i}]", f"{name!r} is there twice", "Name every facility once.")


def _plain(at: str, value: object) -> Problems:
    """What a journal can keep: text, finite numbers, true, false, null, and lists and tables of these."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                yield Problem(at, f"the key {key!r} is not text", "Put quotes around it.")
            yield from _plain(f"{at}.{key}", item)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _plain(f"{at}[{i}]", item)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(at, f"{value} cannot be recorded", "Give a finite number, or a text.")
    elif value is not None and not isinstance(value, str | int | float):
        yield Problem(at, f"a {type(value).__name__} cannot be recorded", "Use text, numbers, lists and tables.")


def _running(spec: CampaignSpec) -> Problems:
    if spec.parallel < 1:
        yield Problem("parallel", f"{spec.parallel} trials at once is too few", "Give 1 or more.")
    if spec.batch < 1:
        yield Problem("batch", f"{spec.batch} points at a time is too few", "Give 1 or more.")
    elif spec.batch > max(spec.parallel, 1):
        message = f"batches of {spec.batch} never fit {spec.parallel} trials at once"
        yield Problem("batch", message, "Raise parallel to the batch, or lower the batch.")
    if spec.ahead is not None and spec.ahead < 0:
        yield Problem("ahead", f"{spec.ahead} is below 0", "Give 0 or more.")
    if spec.retrain_after < 1:
        yield Problem("retrain_after", f"{spec.retrain_after} new trials are too few", "Give 1 or more.")
    if not 0 <= spec.seed <= LARGEST:
        yield Problem("seed", f"{spec.seed} cannot be a seed", "Give a whole number from 0 to 2**53.")


def _costs(spec: CampaignSpec) -> Problems:
    """With sources, the cost of a trial is said in one place, and the budget buys one that counts."""
    for i, step in enumerate(spec.procedure.steps):
        if step.cost:
            remedy = "Leave it out, or change the cost of the source."
            yield Problem(f"procedure.steps[{i}].cost", "a trial costs what its source does", remedy)
    limit, fidelity = spec.goal.budget.cost, spec.fidelity
    price = next((s.cost for s in fidelity.sources if s.value == fidelity.target), 0.0) if fidelity else 0.0
    if limit is not None and 0 < limit < price:
        message = f"{limit:g} does not buy one trial by the target, which costs {price:g}"
        yield Problem("goal.budget.cost", message, "Raise it, or correct the cost of the target.")


def _shared(spec: CampaignSpec) -> Problems:
    known = [p.name for p in spec.parameters]
    for i, name in enumerate(spec.shared):
        if name not in known:
            yield Problem(f"shared[{i}]", f"{name!r} is not a parameter", f"The parameters are {listed(known)}.")
        elif name in spec.shared[:i]:
            yield Problem(f"shared[{i}]", f"{name!r} is there twice", "Name every parameter once.")
    if spec.shared and spec.batch == 1:
        yield Problem("shared", "batches of 1 point share nothing", "Raise batch, or leave shared out.")


def _recordable(spec: CampaignSpec) -> Problems:
    try:
        msgspec.json.encode(spec)
    except (UnicodeEncodeError, TypeError, OverflowError, RecursionError) as error:
        yield Problem("", f"the specification cannot be recorded: {error}", "Use ordinary text and numbers.")
