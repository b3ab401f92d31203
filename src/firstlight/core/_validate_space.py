"""What can be wrong with the space of points: parameters, constraints and the pool. Pure."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from ._points import TOLERANCE, _broken, _outside
from ._problem import (
    CampaignSpec,
    Categorical,
    Constraint,
    Continuous,
    Exclude,
    Fidelity,
    Forbid,
    Integer,
    Linear,
    Mixture,
    Ordered,
    Parameter,
    Pool,
    Scalar,
)
from ._wrong import HUGE, LARGEST, Problem, Problems, listed, named, usable

WORDS = (math.nan, math.nan)

ENUMERABLE = 20_000
"""How many points are looked at, one by one, for one that is allowed."""


def parameters(spec: CampaignSpec) -> Problems:
    names: set[str] = set()
    measured = {o.observable for o in spec.goal.objectives} | {o.name for o in spec.observables}
    for i, parameter in enumerate(spec.parameters):
        at, name = f"parameters[{i}]", parameter.name
        yield from named(f"{at}.name", name)
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


def _bounds(at: str, parameter: Continuous | Integer) -> Problems:
    low, high, fine = parameter.low, parameter.high, True
    for side, value in (("low", low), ("high", high)):
        if not usable(value):
            message = f"{value} is not a finite number up to {HUGE:g}"
            yield Problem(f"{at}.{side}", message, f"Give {side} such a number.")
            fine = False
        elif isinstance(parameter, Integer) and abs(value) > LARGEST:
            yield Problem(f"{at}.{side}", f"{value} is too large", "Stay within 2**53, or use a continuous parameter.")
    if fine and low >= high:
        yield Problem(f"{at}.high", f"{high:g} is not above low {low:g}", "Give high a larger value than low.")
    elif fine and high - low < 1 / HUGE:
        yield Problem(f"{at}.high", "it is too close to low to tell", "Use a unit with larger numbers.")
    if fine and parameter.scale == "log" and low <= 0:
        yield Problem(f"{at}.low", f"{low:g} has no logarithm", "Give low a value above 0, or use scale: linear.")


def _ordered(at: str, parameter: Ordered) -> Problems:
    values = parameter.values
    numbers = [v for v in values if not isinstance(v, str)]
    if not values:
        yield Problem(f"{at}.values", "there are none", "Give at least one value.")
    elif numbers and len(numbers) < len(values):
        yield Problem(f"{at}.values", "numbers and words are mixed", "Give all numbers, or all words (in quotes).")
    elif not all(map(usable, numbers)):
        yield Problem(f"{at}.values", "a value is not a finite number", "Give finite numbers.")
    elif any(a >= b for a, b in itertools.pairwise(numbers)):
        yield Problem(f"{at}.values", f"{listed(numbers)} do not ascend", "List every number once, the smallest first.")
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
            yield Problem(here, f"{value!r} is not one of the values", f"The values are {listed(parameter.values)}.")
        if set(described) != wanted:
            yield Problem(
                here, f"{value!r} has {listed(described)}, others {listed(wanted)}", "Give all the same ones."
            )
        for key, number in described.items():
            if not usable(number):
                yield Problem(here, f"{key} of {value!r} is {number}", "Give finite numbers.")


def _unique(at: str, values: Sequence[Scalar]) -> Problems:
    for value in dict.fromkeys(v for v in values if values.count(v) > 1):
        yield Problem(at, f"{value!r} is there twice", "List every value once.")
    if any(isinstance(v, str) and not v.strip() for v in values):
        yield Problem(at, "one is empty", "Give every value a name.")


# ------------------------------------------------------------------ constraints and the pool


def constraint(at: str, wanted: Constraint, known: Mapping[str, Parameter]) -> Problems:
    match wanted:
        case Linear(terms=terms, bound=bound):
            if not terms:
                yield Problem(f"{at}.terms", "there are none", "Name at least one parameter and its coefficient.")
            clean = list(_numeric(f"{at}.terms", terms, known))
            yield from clean
            if not all(map(usable, [bound, *terms.values()])):
                yield Problem(
                    at, "a number in it is not finite, or too large", "Use ordinary coefficients and an ordinary bound."
                )
            elif terms and not clean:
                yield from _reach(at, wanted, known)
        case Mixture(parameters=names):
            clean = list(_numeric(f"{at}.parameters", names, known))
            if len(names) < 2 or len(set(names)) < len(names):
                clean.append(
                    Problem(f"{at}.parameters", "a mixture has two or more parts", "Name two or more parameters.")
                )
            yield from clean or _mixture(at, wanted, [_range(known[n]) for n in names])
        case Exclude(combination=combination):
            yield from _exclude(f"{at}.combination", combination, known)
        case Forbid():
            yield from _forbid(at, wanted, known)


def _numeric(at: str, names: Iterable[str], known: Mapping[str, Parameter]) -> Problems:
    for name in names:
        if name not in known:
            yield _unknown(at, name, known)
        elif _range(known[name]) == WORDS:
            yield Problem(at, f"{name!r} has words for values", "Sums take parameters whose values are numbers.")


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
    if not (usable(total) and total > 0):
        yield Problem(f"{at}.total", f"{total:g} is not an amount", "Give a finite number above 0.")
        return
    if any(low < 0 for low, _ in ranges):
        yield Problem(f"{at}.parameters", "a part may be negative", "Give every part of a mixture a low of 0 or more.")
    if fewest < 0 or fewest > n:
        yield Problem(f"{at}.min_parts", f"{fewest} of {n} parts cannot be", f"Use 0 to {n}.")
        return
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


def _forbid(at: str, region: Forbid, known: Mapping[str, Parameter]) -> Problems:
    if not region.ranges and not region.values:
        yield Problem(at, "it is empty", "Name at least one parameter, with a range or with values.")
    for name, (low, high) in region.ranges.items():
        here = f"{at}.ranges.{name}"
        if name not in known:
            yield _unknown(here, name, known)
        elif _range(known[name]) == WORDS:
            yield Problem(here, f"{name!r} has words for values", "List the forbidden ones among the values.")
        elif not (usable(low) and usable(high)) or low > high:
            yield Problem(here, f"{low:g} to {high:g} is no range", "Give two finite numbers, the smaller first.")
        elif low > _range(known[name])[1] or high < _range(known[name])[0]:
            least, most = _range(known[name])
            message = f"{low:g} to {high:g} lies outside {least:g} to {most:g}, where {name} is"
            yield Problem(here, message, "Give a range that points can lie in.")
    for name, values in region.values.items():
        here = f"{at}.values.{name}"
        if name in region.ranges:
            yield Problem(here, f"{name!r} has a range besides", "Give a range, or values.")
        elif name not in known:
            yield _unknown(here, name, known)
        elif isinstance(known[name], Continuous | Integer):
            yield Problem(here, f"{name!r} is a number between bounds", "Give a range, as in 80 to 100.")
        elif not values:
            yield Problem(here, "there are no values", "Give at least one value.")
        else:
            for value in values:
                if why := _outside(known[name], value):
                    yield Problem(here, why, "Forbid only values that the parameter can have.")


def _unknown(at: str, name: str, known: Iterable[str]) -> Problem:
    return Problem(at, f"{name!r} is not a parameter", f"The parameters are {listed(known)}.")


def pool(given: Pool, known: Mapping[str, Parameter]) -> Problems:
    columns = given.columns
    for name in columns:
        if name not in known:
            yield _unknown("pool.columns", name, known)
    for name in known:
        if name not in columns:
            yield Problem("pool.columns", f"{name!r} is missing", "Give every parameter a column.")
    if len(set(columns)) < len(columns):
        yield Problem("pool.columns", "a column is there twice", "Give every parameter one column.")
    if not given.rows:
        yield Problem("pool.rows", "the pool is empty", "Give at least one row.")
    first: dict[tuple[Scalar, ...], int] = {}
    for i, row in enumerate(given.rows):
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


def fidelity(given: Fidelity, known: Mapping[str, Parameter], constraints: Iterable[Constraint]) -> Problems:
    at, name = "fidelity.parameter", given.parameter
    if name not in known:
        yield _unknown(at, name, known)
        return
    values = _values(known[name])
    if not values:
        yield Problem(at, f"{name!r} has no values to be listed", "Let a parameter with a few values name the source.")
        return
    summed = {n for c in constraints for n in _summed(c)}
    if name in summed:
        yield Problem(at, f"{name!r} is part of a sum in constraints", "Exclude combinations instead.")
    for i, source in enumerate(given.sources):
        here = f"fidelity.sources[{i}]"
        if source.value not in values:
            yield Problem(f"{here}.value", f"{source.value!r} is none of {listed(values)}", f"Use a value of {name!r}.")
        elif source.value in [s.value for s in given.sources[:i]]:
            yield Problem(f"{here}.value", f"{source.value!r} is there twice", "Give every source one cost.")
        if not (usable(source.cost) and source.cost > 0):
            yield Problem(f"{here}.cost", f"{source.cost:g} is no cost", "Give a finite number above 0.")
    costed = [s.value for s in given.sources]
    if missing := [v for v in values if v not in costed]:
        remedy = f"Say what a trial by each value of {name!r} costs."
        yield Problem("fidelity.sources", f"{listed(missing)} has no cost", remedy)
    if given.target not in values:
        message = f"{given.target!r} is none of {listed(values)}"
        yield Problem("fidelity.target", message, "Name the source whose trials count towards the goal.")


def _summed(constraint: Constraint) -> Iterable[str]:
    match constraint:
        case Linear(terms=terms):
            return terms
        case Mixture(parameters=names):
            return names
        case Exclude() | Forbid():
            return ()


def room(spec: CampaignSpec) -> Problems:
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
