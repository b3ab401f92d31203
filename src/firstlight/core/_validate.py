"""Everything that can be wrong with a specification and seen without asking anybody. Pure."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from ._points import TOLERANCE, _broken, _outside
from ._problem import (
    Budget,
    CampaignSpec,
    Categorical,
    Constraint,
    Continuous,
    Exclude,
    Goal,
    Integer,
    Linear,
    Mixture,
    NoImprovement,
    Objective,
    Observable,
    Ordered,
    OutcomeConstraint,
    Parameter,
    Pool,
    Scalar,
    StepSpec,
    Value,
)

SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
STEP_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
RESERVED = ("trial", "as_run", "cost", "directory")
"""Names with a meaning of their own in results, in datasets and in commands."""

LARGEST = 2**53
"""Whole numbers beyond it are no longer told apart as floating-point numbers."""

ENUMERABLE = 20_000
"""How many points are looked at, one by one, for one that is allowed."""


class Problem(Value, frozen=True):
    """One thing wrong: the field ("parameters[2].high"), what is wrong with it, and what to do about it."""

    field: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}. {self.remedy}" if self.field else f"{self.message}. {self.remedy}"


Problems = Iterator[Problem]


def problems(spec: CampaignSpec) -> tuple[Problem, ...]:
    """Every problem of a specification whose fields have the right types, in the order of its fields.

    A specification made in Python may hold anything: `msgspec.convert` it first, so that its types are right.
    """
    by_name = {p.name: p for p in spec.parameters}
    found = [*_identity(spec), *_parameters(spec)]
    for i, constraint in enumerate(spec.constraints):
        found += _constraint(f"constraints[{i}]", constraint, by_name)
    if spec.pool is not None:
        found += _pool(spec.pool, by_name)
    found += [*_goal(spec), *_budget(spec.goal.budget), *_stops(spec), *_procedure(spec), *_running(spec)]
    if not found:
        found += _room(spec)
    if not found:
        found += _recordable(spec)
    return tuple(found)


# ------------------------------------------------------------------ names and parameters


def _identity(spec: CampaignSpec) -> Problems:
    if not SLUG.fullmatch(spec.id):
        yield Problem(
            "id",
            f"{spec.id!r} is not a campaign id",
            "Use small letters, digits and hyphens (at most 63), as in my-campaign.",
        )
    if not spec.parameters:
        yield Problem("parameters", "there are none", "Name at least one parameter to vary.")


def _parameters(spec: CampaignSpec) -> Problems:
    names: set[str] = set()
    measured = {o.observable for o in spec.goal.objectives} | {o.name for o in spec.observables}
    for i, parameter in enumerate(spec.parameters):
        at, name = f"parameters[{i}]", parameter.name
        yield from _name(f"{at}.name", name)
        if name in names:
            yield Problem(f"{at}.name", f"{name!r} is there twice", "Give every parameter a name of its own.")
        if name in measured:
            yield Problem(
                f"{at}.name", f"{name!r} is also an observable", "Name what is varied and what is observed differently."
            )
        names.add(name)
        match parameter:
            case Continuous() | Integer():
                yield from _bounds(at, parameter)
            case Ordered():
                yield from _ordered(at, parameter)
            case Categorical():
                yield from _categorical(at, parameter)


def _name(at: str, name: str) -> Problems:
    if not name or name != name.strip() or not name.isprintable():
        yield Problem(at, f"{name!r} is not a name", "Use visible characters, without blanks around them.")
    elif name in RESERVED:
        yield Problem(at, f"{name!r} has a meaning of its own in results", f"Use another name than {_list(RESERVED)}.")


def _bounds(at: str, parameter: Continuous | Integer) -> Problems:
    low, high, fine = parameter.low, parameter.high, True
    for side, value in (("low", low), ("high", high)):
        if not math.isfinite(value):
            yield Problem(f"{at}.{side}", f"{value} is not a finite number", f"Give {side} a finite number.")
            fine = False
        elif isinstance(parameter, Integer) and abs(value) > LARGEST:
            yield Problem(f"{at}.{side}", f"{value} is too large", "Stay within 2**53, or use a continuous parameter.")
    if fine and low >= high:
        yield Problem(f"{at}.high", f"{high:g} is not above low {low:g}", "Give high a larger value than low.")
    elif fine and not math.isfinite(float(high) - float(low)):
        yield Problem(f"{at}.high", "the distance to low is not a finite number", "Use a unit with smaller numbers.")
    if fine and parameter.scale == "log" and low <= 0:
        yield Problem(f"{at}.low", f"{low:g} has no logarithm", "Give low a value above 0, or use scale: linear.")


def _ordered(at: str, parameter: Ordered) -> Problems:
    values = parameter.values
    numbers = [v for v in values if not isinstance(v, str)]
    if not values:
        yield Problem(f"{at}.values", "there are none", "Give at least one value.")
    elif numbers and len(numbers) < len(values):
        yield Problem(f"{at}.values", "numbers and words are mixed", "Give all numbers, or all words (in quotes).")
    elif not all(map(math.isfinite, numbers)):
        yield Problem(f"{at}.values", "a value is not a finite number", "Give finite numbers.")
    elif any(a >= b for a, b in itertools.pairwise(numbers)):
        yield Problem(f"{at}.values", f"{_list(numbers)} do not ascend", "List every number once, the smallest first.")
    elif not numbers:
        yield from _unique(f"{at}.values", values)


def _categorical(at: str, parameter: Categorical) -> Problems:
    if not parameter.values:
        yield Problem(f"{at}.values", "there are none", "Give at least one value.")
    yield from _unique(f"{at}.values", parameter.values)
    if not parameter.descriptors:
        return
    here = f"{at}.descriptors"
    for value in parameter.values:
        if value not in parameter.descriptors:
            yield Problem(here, f"{value!r} has none", "Describe every value, or none.")
    wanted = set(next(iter(parameter.descriptors.values())))
    for value, described in parameter.descriptors.items():
        if value not in parameter.values:
            yield Problem(here, f"{value!r} is not one of the values", f"The values are {_list(parameter.values)}.")
        if set(described) != wanted:
            yield Problem(here, f"{value!r} has {_list(described)}, others {_list(wanted)}", "Give all the same ones.")
        for key, number in described.items():
            if not math.isfinite(number):
                yield Problem(here, f"{key} of {value!r} is {number}", "Give finite numbers.")


def _unique(at: str, values: Sequence[Scalar]) -> Problems:
    for value in dict.fromkeys(v for v in values if values.count(v) > 1):
        yield Problem(at, f"{value!r} is there twice", "List every value once.")
    if any(isinstance(v, str) and not v.strip() for v in values):
        yield Problem(at, "one is empty", "Give every value a name.")


# ------------------------------------------------------------------ constraints and the pool


def _constraint(at: str, constraint: Constraint, known: Mapping[str, Parameter]) -> Problems:
    match constraint:
        case Linear(terms=terms, bound=bound):
            if not terms:
                yield Problem(f"{at}.terms", "there are none", "Name at least one parameter and its coefficient.")
            clean = list(_numeric(f"{at}.terms", terms, known))
            yield from clean
            if not all(map(math.isfinite, [bound, *terms.values()])):
                yield Problem(at, "a number in it is not finite", "Use finite coefficients and a finite bound.")
            elif terms and not clean:
                yield from _reach(at, constraint, known)
        case Mixture(parameters=names):
            clean = list(_numeric(f"{at}.parameters", names, known))
            if len(names) < 2 or len(set(names)) < len(names):
                clean.append(
                    Problem(f"{at}.parameters", "a mixture has two or more parts", "Name two or more parameters.")
                )
            yield from clean or _mixture(at, constraint, [_range(known[n]) for n in names])
        case Exclude(combination=combination):
            yield from _exclude(f"{at}.combination", combination, known)


def _numeric(at: str, names: Iterable[str], known: Mapping[str, Parameter]) -> Problems:
    for name in names:
        if name not in known:
            yield _unknown(at, name, known)
        elif _range(known[name]) == WORDS:
            yield Problem(at, f"{name!r} has words for values", "Sums take parameters whose values are numbers.")


WORDS = (math.nan, math.nan)


def _range(parameter: Parameter) -> tuple[float, float]:
    """The least and the greatest number; `WORDS` itself where the values are no numbers."""
    match parameter:
        case Continuous(low=low, high=high) | Integer(low=low, high=high):
            return low, high
        case Ordered(values=values):
            numbers = [v for v in values if not isinstance(v, str)]
            return (min(numbers), max(numbers)) if numbers and len(numbers) == len(values) else WORDS
        case Categorical():
            return WORDS


def _reach(at: str, linear: Linear, known: Mapping[str, Parameter]) -> Problems:
    ends = [sorted((k * low, k * high)) for n, k in linear.terms.items() for low, high in [_range(known[n])]]
    least, most = sum(e[0] for e in ends), sum(e[1] for e in ends)
    slack = TOLERANCE * (sum(max(map(abs, e)) for e in ends) + abs(linear.bound))
    if (linear.relation != ">=" and least > linear.bound + slack) or (
        linear.relation != "<=" and most < linear.bound - slack
    ):
        yield Problem(
            f"{at}.bound",
            f"the sum runs from {least:g} to {most:g}, never {linear.relation} {linear.bound:g}",
            "Widen the parameters or change the bound.",
        )


def _mixture(at: str, mixture: Mixture, ranges: list[tuple[float, float]]) -> Problems:
    total, n = mixture.total, len(ranges)
    fewest, most = mixture.min_parts, n if mixture.max_parts is None else mixture.max_parts
    if not (math.isfinite(total) and total > 0):
        yield Problem(f"{at}.total", f"{total:g} is not an amount", "Give a finite number above 0.")
        return
    if any(low < 0 for low, _ in ranges):
        yield Problem(f"{at}.parameters", "a part may be negative", "Give every part of a mixture a low of 0 or more.")
    if fewest < 0 or fewest > n:
        yield Problem(f"{at}.min_parts", f"{fewest} of {n} parts cannot be", f"Use 0 to {n}.")
    if most < 1 or most < fewest:
        yield Problem(f"{at}.max_parts", f"{most} is too few", f"Use at least {max(1, fewest)}, or leave it out.")
        return
    slack = TOLERANCE * total
    lows, highs = sum(low for low, _ in ranges), sum(high for _, high in ranges)
    if lows > total + slack or highs < total - slack:
        message = f"{total:g} is out of reach: the parts add up to between {lows:g} and {highs:g}"
        yield Problem(f"{at}.total", message, "Change the total, or the bounds of the parts.")
        return
    forced = [high for low, high in ranges if low > slack]
    free = sorted((high for low, high in ranges if low <= slack), reverse=True)
    if len(forced) > most:
        message = f"{len(forced)} parts can never be 0, and at most {most} may be used"
        yield Problem(f"{at}.max_parts", message, "Give some parts a low of 0, or allow more parts.")
    elif sum(forced) + sum(free[: most - len(forced)]) < total - slack:
        yield Problem(f"{at}.max_parts", f"{most} parts never add up to {total:g}", "Allow more parts, or larger ones.")


def _exclude(at: str, combination: Mapping[str, Sequence[Scalar]], known: Mapping[str, Parameter]) -> Problems:
    if not combination:
        yield Problem(at, "it is empty", "Name at least one parameter and the values not to combine.")
    for name, values in combination.items():
        if name not in known:
            yield _unknown(at, name, known)
            continue
        if not values:
            yield Problem(f"{at}.{name}", "there are no values", "Give at least one value.")
        for value in values:
            if why := _outside(known[name], value):
                yield Problem(f"{at}.{name}", why, "Exclude only values that the parameter can have.")


def _unknown(at: str, name: str, known: Iterable[str]) -> Problem:
    return Problem(at, f"{name!r} is not a parameter", f"The parameters are {_list(known)}.")


def _pool(pool: Pool, known: Mapping[str, Parameter]) -> Problems:
    columns = pool.columns
    for name in columns:
        if name not in known:
            yield _unknown("pool.columns", name, known)
    for name in known:
        if name not in columns:
            yield Problem("pool.columns", f"{name!r} is missing", "Give every parameter a column.")
    if len(set(columns)) < len(columns):
        yield Problem("pool.columns", "a column is there twice", "Give every parameter one column.")
    if not pool.rows:
        yield Problem("pool.rows", "the pool is empty", "Give at least one row.")
    first: dict[tuple[Scalar, ...], int] = {}
    for i, row in enumerate(pool.rows):
        at = f"pool.rows[{i}]"
        if len(row) != len(columns):
            yield Problem(at, f"it has {len(row)} values for {len(columns)} columns", "Give one value a column.")
            continue
        for name, value in zip(columns, row, strict=True):
            if name in known and (why := _outside(known[name], value)):
                yield Problem(at, why, "Correct the row, or widen the parameter.")
        if row in first:
            yield Problem(at, f"it is the same as row {first[row]}", "List every point once.")
        first.setdefault(row, i)


def _room(spec: CampaignSpec) -> Problems:
    """Whether any point is left, where they can be counted."""
    if not spec.constraints:
        return
    if spec.pool is not None:
        if all(any(_broken(c, point) for c in spec.constraints) for point in spec.pool.points()):
            yield Problem("constraints", "no row of the pool keeps them", "Relax a constraint, or add rows.")
        return
    axes = [(p.name, _values(p)) for p in spec.parameters]
    if not all(values for _, values in axes) or math.prod(len(values) for _, values in axes) > ENUMERABLE:
        return
    for row in itertools.product(*(values for _, values in axes)):
        point = {name: value for (name, _), value in zip(axes, row, strict=True)}
        if not any(_broken(c, point) for c in spec.constraints):
            return
    yield Problem("constraints", "no point keeps them: they exclude everything", "Relax a constraint.")


def _values(parameter: Parameter) -> Sequence[Scalar]:
    """All values, or none where they are too many to be looked at."""
    match parameter:
        case Integer(low=low, high=high):
            return range(low, high + 1) if high - low < ENUMERABLE else ()
        case Ordered(values=values) | Categorical(values=values):
            return values
        case Continuous():
            return ()


# ------------------------------------------------------------------ the goal


def _goal(spec: CampaignSpec) -> Problems:
    goal = spec.goal
    if not goal.objectives:
        yield Problem("goal.objectives", "there are none", "Say what to maximize, minimize or match.")
    units: dict[str, str] = {}
    for i, objective in enumerate(goal.objectives):
        at = f"goal.objectives[{i}]"
        yield from _name(f"{at}.observable", objective.observable)
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
        yield from _name(f"{at}.name", name)
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
        known = f"The observables are {_list(units)}; add it to observables if trials report it."
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


def _stops(spec: CampaignSpec) -> Problems:
    goal = spec.goal
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
    yield from _plain("procedure.options", spec.procedure.options)
    yield from _plain("strategy.options", spec.strategy.options)
    for at, name in (("procedure.name", spec.procedure.name), ("strategy.name", spec.strategy.name)):
        if not name:
            yield Problem(at, "it is empty", "Give a name, or leave it out.")


def _step(at: str, step: StepSpec) -> Problems:
    if not step.operation:
        yield Problem(f"{at}.operation", "it is empty", "Name a function as package.module:function, or a command.")
    if not step.facility:
        yield Problem(f"{at}.facility", "it is empty", "Name a facility, or leave it out for the local one.")
    if not (math.isfinite(step.cost) and step.cost >= 0):
        yield Problem(f"{at}.cost", f"{step.cost:g} is no cost", "Give a finite number, 0 or more.")
    for side, value in (("seconds", step.limits.seconds), ("memory", step.limits.memory)):
        if value is not None and not (math.isfinite(value) and 0 < value <= LARGEST):
            yield Problem(f"{at}.limits.{side}", f"{value:g} is no limit", "Give a number above 0, or leave it out.")
    yield from _plain(f"{at}.settings", step.settings)


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
    if not 0 <= spec.seed <= LARGEST:
        yield Problem("seed", f"{spec.seed} cannot be a seed", "Give a whole number from 0 to 2**53.")


def _recordable(spec: CampaignSpec) -> Problems:
    try:
        msgspec.json.encode(spec)
    except (UnicodeEncodeError, TypeError, OverflowError, RecursionError) as error:
        yield Problem("", f"the specification cannot be recorded: {error}", "Use ordinary text and numbers.")


def _list(names: Iterable[object]) -> str:
    shown = [str(n) for n in itertools.islice(names, 13)]
    return ", ".join([*shown[:12], "..."] if len(shown) > 12 else shown) or "none"
