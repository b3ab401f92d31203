"""Whether a point may be tried at all: within every parameter, the pool and the constraints."""

import math

from ._problem import (
    CampaignSpec,
    Categorical,
    Constraint,
    Continuous,
    Exclude,
    Forbid,
    Integer,
    Linear,
    Mixture,
    Ordered,
    Parameter,
    Point,
    Scalar,
)

TOLERANCE = 1e-6
"""By how much, relative to the size of its terms, a sum may miss its bound: room for rounding only."""


def violations(spec: CampaignSpec, point: Point) -> tuple[str, ...]:
    """Every reason why this point is not one of the specification's, fit to show; empty if it is one."""
    names = {p.name for p in spec.parameters}
    wrong = [f"{name} is missing" for name in names - point.keys()]
    wrong += [f"{name} is not a parameter" for name in point.keys() - names]
    if wrong:
        return tuple(sorted(wrong))
    found = [why for p in spec.parameters if (why := _outside(p, point[p.name]))]
    if not found:
        found += [why for c in spec.constraints if (why := _broken(c, point))]
    if not found and spec.pool is not None:
        wanted = [point[c] for c in spec.pool.columns]
        if not any(_same(row, wanted) for row in spec.pool.rows):
            found.append("the point is not in the pool")
    return tuple(found)


def _outside(parameter: Parameter, value: Scalar) -> str:
    match parameter:
        case Continuous(name=name, low=low, high=high) | Integer(name=name, low=low, high=high):
            if isinstance(value, str) or not math.isfinite(value):
                return f"{name} is {value!r}, not a number"
            if isinstance(parameter, Integer) and value != int(value):
                return f"{name} is {value}, not a whole number"
            slack = TOLERANCE * max(abs(low), abs(high))
            return "" if low - slack <= value <= high + slack else f"{name} is {value}, outside {low} to {high}"
        case Ordered(name=name, values=values) | Categorical(name=name, values=values):
            return "" if value in values else f"{name} is {value!r}, none of {', '.join(map(str, values))}"


def _broken(constraint: Constraint, point: Point) -> str:
    match constraint:
        case Linear(terms=terms, relation=relation, bound=bound):
            parts = [k * _number(point[n]) for n, k in terms.items()]
            total, slack = sum(parts), TOLERANCE * (sum(map(abs, parts)) + abs(bound) + 1e-9)
            kept = (relation == ">=" or total <= bound + slack) and (relation == "<=" or total >= bound - slack)
            if kept:
                return ""
            return f"{' + '.join(f'{k:g} {n}' for n, k in terms.items())} is {total:g}, not {relation} {bound:g}"
        case Mixture(parameters=names, total=wanted, min_parts=fewest, max_parts=most):
            amounts = [_number(point[n]) for n in names]
            if abs(sum(amounts) - wanted) > TOLERANCE * max(abs(wanted), 1e-9):
                return f"{' + '.join(names)} is {sum(amounts):g}, not {wanted:g}"
            parts_used = sum(a > TOLERANCE * abs(wanted) for a in amounts)
            if not fewest <= parts_used <= (len(names) if most is None else most):
                return f"the mixture of {', '.join(names)} has {parts_used} parts"
            return ""
        case Exclude(combination=combination):
            together = all(point[n] in values for n, values in combination.items())
            return f"{', '.join(f'{n}={point[n]}' for n in combination)} are excluded together" if together else ""
        case Forbid():
            there = inside(constraint, point)
            return f"the point is in a forbidden region ({region_words(constraint)})" if there else ""


def inside(region: Forbid, point: Point) -> bool:
    """Whether a point lies in a region: its ends belong to it."""
    return all(low <= _number(point[n]) <= high for n, (low, high) in region.ranges.items()) and all(
        point[n] in values for n, values in region.values.items()
    )


def region_words(region: Forbid) -> str:
    """A region as a person reads it: "temperature 80 to 100, solvent DMF or THF"."""
    ranges = [f"{n} {low:g} to {high:g}" for n, (low, high) in region.ranges.items()]
    return ", ".join([*ranges, *(f"{n} {' or '.join(map(str, v))}" for n, v in region.values.items())])


def _number(value: Scalar) -> float:
    return float(value) if not isinstance(value, str) else math.nan


def _same(row: tuple[Scalar, ...], wanted: list[Scalar]) -> bool:
    return all(
        a == b or (not isinstance(a, str) and not isinstance(b, str) and math.isclose(a, b, rel_tol=1e-9))
        for a, b in zip(row, wanted, strict=True)
    )
