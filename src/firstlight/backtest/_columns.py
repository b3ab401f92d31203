"""From columns of a table to parameters, points and outcomes; what nobody declared is told from the values."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from firstlight import core

from ._pool import Pool, Replicates
from ._sheet import Cell, Fault, Sheet, blank, number

FEW, EACH = 16, 4
"""A column of at most FEW different numbers, each there at least EACH times, is a grid: an ordered parameter."""
MOSTLY = 0.9
"""A column is one of numbers where at least this share of its cells are: the others are slips of the pen."""
ROUNDED = 0.02
"""Parts of a mixture may miss its total by this share where they were rounded when they were written down."""


def sniffed(cells: Sequence[Cell], smooth: bool = False) -> dict[str, Any]:
    """A parameter without its name, as a campaign file has it: ordered, continuous or categorical.

    With `smooth`, numbers are continuous however few they are.
    """
    told = [c for c in cells if not blank(c)]
    numbers = [n for c in told if (n := number(c)) is not None]
    if not told:
        return {"type": "categorical", "values": []}
    if len(numbers) < MOSTLY * len(told):
        return {"type": "categorical", "values": list(dict.fromkeys(str(c) for c in told))}
    counts = Counter(numbers)
    distinct = sorted(counts)
    if not smooth and len(distinct) <= FEW and min(counts.values()) >= EACH:
        return {"type": "ordered", "values": distinct}
    return {"type": "continuous", "low": distinct[0], "high": distinct[-1]}


def kind(body: Mapping[str, Any]) -> str:
    """A sniffed parameter in words."""
    if body["type"] == "continuous":
        return f"continuous from {body['low']:g} to {body['high']:g}"
    return f"{body['type']} with {len(body['values'])} values"


def constant(cells: Sequence[Cell]) -> bool:
    """Whether a column has one value only, or none, and so tells nothing."""
    return len({c if (n := number(c)) is None else n for c in cells if not blank(c)}) < 2


def assembled(
    name: str, spec: core.CampaignSpec, sheet: Sheet, headers: Mapping[str, str], source: str,
    assumed: Sequence[str] = (), failed: Sequence[bool] = (),
) -> tuple[Pool | None, list[Fault]]:  # fmt: skip
    """The pool of a table whose problem is known, and the rows that could not be used.

    `headers` are the columns of parameters and observables where they have other names. Rows of the same point are
    replicates. `failed` marks trials that failed.
    """
    observables = tuple(dict.fromkeys([o.observable for o in spec.goal.objectives] + _bounded(spec)))
    columns = {n: sheet.columns[headers.get(n, n)] for n in (*(p.name for p in spec.parameters), *observables)}
    notes, faults, alone = list(assumed), list(sheet.faults), replace(spec, pool=None)
    points: list[core.Point | None] = []
    for i, line in enumerate(sheet.lines):
        point, wrong = _point(spec.parameters, columns, i)
        points.append(point)
        faults += [Fault(file=source, line=line, message=message) for message in wrong]
    if closed := _closed(spec.constraints, points):
        notes.append(closed)
        spec = replace(spec, parameters=tuple(_wide_enough(p, points) for p in spec.parameters))
        alone = replace(spec, pool=None)
    found: dict[tuple[core.Scalar, ...], list[tuple[float, ...]]] = {}
    for i, (point, line) in enumerate(zip(points, sheet.lines, strict=True)):
        if point is None:
            continue
        values = [number(columns[o][i]) for o in observables]
        lacking = [f"{o} is {_shown(columns[o][i])}" for o, v in zip(observables, values, strict=True) if v is None]
        fails = bool(failed) and failed[i]
        if why := core.violations(alone, point) or (() if fails else lacking):
            faults.append(Fault(file=source, line=line, message="; ".join(why)))
            continue
        replicates = found.setdefault(tuple(point.values()), [])
        if not fails:
            replicates.append(tuple(v for v in values if v is not None))
    if not any(found.values()):
        faults.append(Fault(file=source, line=0, message="no row of it can be used"))
        return None, faults
    pool = core.Pool(columns=tuple(p.name for p in spec.parameters), rows=tuple(found))
    outcomes: tuple[Replicates, ...] = tuple(map(tuple, found.values()))
    spec = replace(spec, pool=pool)
    return Pool(
        name=name, spec=spec, observables=observables, outcomes=outcomes, source=source, assumed=tuple(notes)
    ), faults  # fmt: skip


def _bounded(spec: core.CampaignSpec) -> list[str]:
    return [c.observable for c in spec.goal.outcome_constraints]


def _point(
    parameters: Sequence[core.Parameter], columns: Mapping[str, Sequence[Cell]], i: int
) -> tuple[core.Point | None, list[str]]:
    point, wrong = core.Point(), []
    for p in parameters:
        value = _value(p, columns[p.name][i])
        if value is None:
            wrong.append(f"{p.name} is {_shown(columns[p.name][i])}, not a value it can have")
        else:
            point[p.name] = value
    return (None if wrong else point), wrong


def _value(parameter: core.Parameter, cell: Cell) -> core.Scalar | None:
    """A cell as its parameter has it; None where it cannot be."""
    if blank(cell):
        return None
    value = number(cell)
    match parameter:
        case core.Continuous(low=low, high=high):
            if value is None:
                return None
            # Bounds that were rounded when they were written down are still the bounds.
            inside = min(max(value, low), high)
            return inside if math.isclose(inside, value, rel_tol=1e-6) else value
        case core.Integer():
            return int(value) if value is not None and value.is_integer() else None
        case core.Ordered(values=values) | core.Categorical(values=values):
            text = str(cell).strip()
            for allowed in values:
                if allowed == text or (
                    value is not None and not isinstance(allowed, str) and math.isclose(allowed, value, rel_tol=1e-9)
                ):
                    return allowed
            return None


def _wide_enough(parameter: core.Parameter, points: Sequence[core.Point | None]) -> core.Parameter:
    """A part of a mixture with room for what scaling made of it."""
    if not isinstance(parameter, core.Continuous):
        return parameter
    values = [float(point[parameter.name]) for point in points if point]
    return replace(parameter, low=min([parameter.low, *values]), high=max([parameter.high, *values]))


def _closed(constraints: Sequence[core.Constraint], points: list[core.Point | None]) -> str:
    """Scale the parts of mixtures that miss their total by rounding, in place; what was done, in words."""
    done = []
    for mixture in constraints:
        if not isinstance(mixture, core.Mixture):
            continue
        scaled = 0
        for point in points:
            total = sum(float(point[p]) for p in mixture.parameters) if point else mixture.total
            off = abs(total - mixture.total) / mixture.total
            if point and 1e-9 < off <= ROUNDED:
                for part in mixture.parameters:
                    point[part] = float(point[part]) * mixture.total / total
                scaled += 1
        if scaled:
            done.append(f"{scaled} rows are scaled so that {', '.join(mixture.parameters)} sum to {mixture.total:g}")
    return "; ".join(done)


def _shown(cell: Cell) -> str:
    return "missing" if blank(cell) else repr(cell)[:40]


def converted(body: Mapping[str, Any]) -> core.Parameter:
    """A strict parameter. Raises msgspec.ValidationError."""
    parameter: core.Parameter = msgspec.convert(body, core.Parameter)
    return parameter
