"""What people type about points and trials of a campaign, with units, made into values of its specification."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from firstlight.core import (
    Budget,
    CampaignSpec,
    Categorical,
    Continuous,
    Forbid,
    Integer,
    Observation,
    Ordered,
    Parameter,
    Point,
    Problem,
    Scalar,
)

from ._border import split
from ._problems import BadCampaign, Checker, meant, shown

RANGE = ".."


def read_point(spec: CampaignSpec, given: Mapping[str, Any], units: Checker) -> Point:
    """A value for every parameter, each a number, a word, or a text such as "80 degC". Raises BadCampaign."""
    known = {p.name: p for p in spec.parameters}
    point, found = _values(known, given, units)
    for name in known:
        if name not in given:
            found.append(Problem(name, "it is missing", f"Give every parameter a value: {', '.join(known)}."))
    if found:
        raise BadCampaign(found)
    return {name: point[name] for name in known}


def read_region(spec: CampaignSpec, given: Mapping[str, Any], units: Checker) -> Forbid:
    """A region: ranges ("80..100 degC", "..40", (80, 100)) and values ("DMF", ["DMF", "THF"]). Raises BadCampaign."""
    region, found = region_of(spec.parameters, given, units)
    if found:
        raise BadCampaign(found)
    return region


def read_correction(
    spec: CampaignSpec, given: Mapping[str, Any], units: Checker
) -> tuple[Point, tuple[Observation, ...]]:
    """Values as run and observations, by the names of parameters and observables. Raises BadCampaign.

    An observation is a number, a text such as "0.93 %", or a pair of value and sigma, in the observable's unit.
    """
    known = {p.name: p for p in spec.parameters}
    declared = {o.observable: o.unit for o in spec.goal.objectives} | {o.name: o.unit for o in spec.observables}
    as_run, found = _values(known, {n: v for n, v in given.items() if n not in declared}, units, (*known, *declared))
    seen: list[Observation] = []
    for name in (n for n in given if n in declared):
        try:
            value, sigma = given[name] if isinstance(given[name], tuple) else (given[name], 0.0)
            number = _number(value, declared[name], units)
            seen.append(Observation(observable=name, value=number, unit=declared[name], sigma=float(sigma)))
        except (ValueError, TypeError) as error:
            found.append(Problem(name, str(error), _give(declared[name])))
    if found:
        raise BadCampaign(found)
    return as_run, tuple(seen)


def read_budget(budget: Budget, changes: Mapping[str, Any], units: Checker) -> Budget:
    """A budget with some of its limits changed: `trials`, `cost` ("500 USD"), `time` ("2 h"). Raises BadCampaign.

    None, or the text "none", is no limit; what is not among the changes stays as it is.
    """
    found: list[Problem] = []
    trials, cost, unit, seconds = budget.trials, budget.cost, budget.cost_unit, budget.seconds
    for name, given in changes.items():
        none = given is None or given == "none"
        try:
            if name == "trials":
                number = None if none else _number(given, "", units)
                if number is not None and number != int(number):
                    raise ValueError(f"{number:g} is not a whole number")
                trials = None if number is None else int(number)
            elif name == "cost":
                number, named = (math.nan, "") if none else split(str(given))
                if not none and math.isnan(number):
                    raise ValueError(f"{shown(given)} is not a cost")
                cost, unit = None if none else number, named or unit
            elif name == "time":
                seconds = None if none else _number(given, "s", units)
            else:
                found.append(Problem(name, f"a budget has no {name!r}", "It has trials, cost and time."))
        except ValueError as error:
            example = {"trials": "80", "cost": "500 USD", "time": "2 h"}[name]
            found.append(Problem(name, str(error), f"Write it as {example}, or none for no limit."))
    if found:
        raise BadCampaign(found)
    return Budget(trials=trials, cost=cost, cost_unit=unit, seconds=seconds)


def region_of(
    parameters: Iterable[Parameter], given: Mapping[str, Any], units: Checker
) -> tuple[Forbid, list[Problem]]:
    """A region as people write it, and what is wrong with it."""
    known = {p.name: p for p in parameters}
    ranges: dict[str, tuple[float, float]] = {}
    values: dict[str, tuple[Scalar, ...]] = {}
    found: list[Problem] = []
    for name, text in given.items():
        if name not in known:
            found.append(Problem(name, f"there is no parameter {name!r}", meant(name, known)))
            continue
        p = known[name]
        try:
            if (pair := _range(p, text, units)) is not None:
                ranges[name] = pair
            else:
                values[name] = tuple(_value(p, v, units) for v in _listed(p, text))
        except ValueError as error:
            example = "80..100, or one value" if _is_number(p) else "one value, or several with commas between"
            found.append(Problem(name, str(error), f"Give {example}."))
    return Forbid(ranges=ranges, values=values), found


# ------------------------------------------------------------------ one value


def _values(
    known: Mapping[str, Parameter], given: Mapping[str, Any], units: Checker, names: Sequence[str] = ()
) -> tuple[Point, list[Problem]]:
    made: Point = {}
    found: list[Problem] = []
    for name, value in given.items():
        if name not in known:
            kind = "parameter or observable" if names else "parameter"
            found.append(Problem(name, f"there is no {kind} {name!r}", meant(name, names or known)))
            continue
        p = known[name]
        try:
            made[name] = _value(p, value, units)
        except ValueError as error:
            found.append(Problem(name, str(error), _give(_unit(p)) if _is_number(p) else _choose(p)))
    return made, found


def _value(p: Parameter, given: Any, units: Checker) -> Scalar:
    if not _is_number(p):
        values = getattr(p, "values", ())
        if given not in values:
            raise ValueError(f"{shown(given)} is none of its values")
        return str(given)
    number = _number(given, _unit(p), units)
    if isinstance(p, Integer):
        if number != int(number):
            raise ValueError(f"{number:g} is not a whole number")
        return int(number)
    if isinstance(p, Ordered):
        same = [v for v in p.values if not isinstance(v, str) and math.isclose(v, number, rel_tol=1e-9)]
        if not same:
            raise ValueError(f"{number:g} is none of {', '.join(map(str, p.values))}")
        return same[0]
    return number


def _number(given: Any, unit: str, units: Checker) -> float:
    if isinstance(given, str):
        number = units.parse_quantity(given, unit)
    elif isinstance(given, int | float) and not isinstance(given, bool):
        number = float(given)
    else:
        raise ValueError(f"{shown(given)} is not a number")
    if not math.isfinite(number):
        raise ValueError(f"{number} is not a finite number")
    return number


def _range(p: Parameter, given: Any, units: Checker) -> tuple[float, float] | None:
    """A range of numbers; None where single values are meant."""
    if isinstance(given, str) and RANGE in given:
        if not _is_number(p):
            if given in getattr(p, "values", ()):
                return None
            raise ValueError(f"{p.name} has words for values, and they have no range")
        low, high = (side.strip() for side in given.split(RANGE, 1))
        # "80..100 degC": the unit is that of both.
        if low and not split(low)[1] and (unit := split(high)[1]):
            low = f"{low} {unit}"
        least, most = _bounds(p)
        pair = (_number(low, _unit(p), units) if low else least, _number(high, _unit(p), units) if high else most)
    elif not isinstance(p, Continuous | Integer):
        return None
    elif isinstance(given, list | tuple):
        if len(given) != 2:
            raise ValueError(f"{shown(given)} is not a range")
        pair = (_number(given[0], _unit(p), units), _number(given[1], _unit(p), units))
    else:
        pair = (_number(given, _unit(p), units),) * 2
    if pair[0] > pair[1]:
        raise ValueError(f"{pair[0]:g} to {pair[1]:g} is no range")
    return pair


def _listed(p: Parameter, given: Any) -> Iterator[Any]:
    """Several values of an ordered or categorical parameter: a list, or a text with commas between them."""
    if isinstance(given, list | tuple):
        yield from given
    elif isinstance(given, str) and given not in getattr(p, "values", ()):
        yield from (part.strip() for part in given.split(","))
    else:
        yield given


def _is_number(p: Parameter) -> bool:
    if isinstance(p, Ordered):
        return not any(isinstance(v, str) for v in p.values)
    return not isinstance(p, Categorical)


def _bounds(p: Parameter) -> tuple[float, float]:
    if isinstance(p, Continuous | Integer):
        return p.low, p.high
    numbers = [float(v) for v in p.values]
    return min(numbers), max(numbers)


def _unit(p: Parameter) -> str:
    return "" if isinstance(p, Categorical) else p.unit


def _give(unit: str) -> str:
    return f"Give a number in {unit}, or with a unit of its own." if unit else "Give a number."


def _choose(p: Parameter) -> str:
    return f"Choose one of {', '.join(map(str, getattr(p, 'values', ())))}."
