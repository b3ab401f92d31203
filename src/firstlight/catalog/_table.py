"""Rows as typed columns, each with its unit."""

import json
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from firstlight.core import CampaignSpec, Categorical, Continuous, Integer, Ordered, Parameter, Row, Value

Kind = Literal["int64", "float64", "string", "bool", "time"]
"""What a column holds; "time" is seconds since 1970 UTC."""


_OF_THE_CAMPAIGN = ("parameter", "parameter as run", "observable", "sigma", "unit", "observations")
"""Roles of columns that a campaign's own words name."""


class Column(Value, frozen=True):
    """One column, with a value or None for every row."""

    name: str
    kind: Kind
    values: list[object]
    unit: str = ""
    role: str = ""


def columns(spec: CampaignSpec, rows: Sequence[Row]) -> list[Column]:
    """The trials of a campaign as columns; names are unique, roles say where a column comes from.

    A parameter has its requested values, and `<parameter>.as_run` where some trial came out otherwise.
    An observable has its value (the mean of replicates) and `<observable>.sigma`, besides `<observable>.all` (a JSON
    list) where a trial observed it several times, and `<observable>.unit` where trials disagree on the unit.
    """
    found = [
        Column(name="trial", kind="string", values=[r.trial for r in rows], role="trial"),
        Column(name="source", kind="string", values=[r.source for r in rows], role="trial"),
    ]
    for parameter in spec.parameters:
        found += _of_parameter(parameter, rows)
    for name, unit in _units(spec, rows).items():
        found += _of_observable(name, unit, rows)
    return _with_unique_names([*found, *_of_trial(spec, rows)])


def _of_parameter(parameter: Parameter, rows: Sequence[Row]) -> Iterable[Column]:
    name, kind = parameter.name, _kind_of(parameter)
    unit = "" if isinstance(parameter, Categorical) else parameter.unit
    yield _fitted(name, kind, [r.point.get(name) for r in rows], unit, "parameter")
    if any(name in r.as_run and r.as_run[name] != r.point.get(name) for r in rows):
        yield _fitted(f"{name}.as_run", kind, [r.ran.get(name) for r in rows], unit, "parameter as run")


def _of_observable(name: str, unit: str, rows: Sequence[Row]) -> Iterable[Column]:
    seen = [r.seen.get(name) for r in rows]
    units = {o.unit or unit for o in seen if o}
    shared = unit if not units else units.pop() if len(units) == 1 else ""
    yield Column(
        name=name, kind="float64", values=[o.value if o else None for o in seen], unit=shared, role="observable"
    )
    yield Column(
        name=f"{name}.sigma", kind="float64", values=[o.sigma if o else None for o in seen], unit=shared, role="sigma"
    )
    if units:
        values: list[object] = [(o.unit or unit) if o else None for o in seen]
        yield Column(name=f"{name}.unit", kind="string", values=values, role="unit")
    everything = [[o.value for o in r.observations if o.observable == name] for r in rows]
    if any(len(values) > 1 for values in everything):
        listed: list[object] = [json.dumps(values) for values in everything]
        yield Column(name=f"{name}.all", kind="string", values=listed, unit=shared, role="observations")


def _of_trial(spec: CampaignSpec, rows: Sequence[Row]) -> Iterable[Column]:
    failures = [r.failure for r in rows]
    unit = spec.goal.budget.cost_unit
    yield Column(name="cost", kind="float64", values=[float(r.cost) for r in rows], unit=unit, role="cost")
    yield Column(name="proposed", kind="time", values=[r.proposed or None for r in rows], role="time")
    yield Column(name="started", kind="time", values=[_started(r) for r in rows], role="time")
    yield Column(name="ended", kind="time", values=[r.ended or None for r in rows], role="time")
    yield Column(name="failed", kind="bool", values=[f is not None for f in failures], role="failure")
    yield Column(name="cause", kind="string", values=[f.cause if f else None for f in failures], role="failure")
    yield Column(name="message", kind="string", values=[f.message if f else None for f in failures], role="failure")
    if any(r.rejected for r in rows):
        yield Column(name="rejected", kind="string", values=[r.rejected or None for r in rows], role="failure")
    if any(r.assets for r in rows):
        listed: list[object] = [
            json.dumps([{"uri": a.uri, "digest": a.digest, "media_type": a.media_type} for a in r.assets]) for r in rows
        ]
        yield Column(name="assets", kind="string", values=listed, role="assets")


def _started(row: Row) -> float | None:
    """When its first action began, by the facility's clock or else when it was sent."""
    return min((s.started or s.dispatched for s in row.spans), default=None)


def _units(spec: CampaignSpec, rows: Sequence[Row]) -> dict[str, str]:
    """Every observable, declared ones first, and its unit."""
    units: dict[str, str] = {}
    for objective in spec.goal.objectives:
        units[objective.observable] = objective.unit
    for bound in spec.goal.outcome_constraints:
        units[bound.observable] = units.get(bound.observable) or bound.unit
    for observable in spec.observables:
        units[observable.name] = units.get(observable.name) or observable.unit
    for row in rows:
        for seen in row.observations:
            units.setdefault(seen.observable, seen.unit)
    return units


def _kind_of(parameter: Parameter) -> Kind:
    match parameter:
        case Continuous():
            return "float64"
        case Integer():
            return "int64"
        case Ordered(values=values):
            if any(isinstance(v, str) for v in values):
                return "string"
            return "int64" if all(isinstance(v, int) for v in values) else "float64"
        case Categorical():
            return "string"


def _fitted(name: str, kind: Kind, values: Sequence[object], unit: str, role: str) -> Column:
    """The values in a column of the parameter's kind, or of a wider one where one of them does not fit."""
    if any(isinstance(v, str) for v in values):
        kind = "string"
    elif kind == "int64" and any(isinstance(v, float) and not v.is_integer() for v in values):
        kind = "float64"
    make = {"int64": int, "float64": float}.get(kind, str)
    return Column(name=name, kind=kind, values=[None if v is None else make(v) for v in values], unit=unit, role=role)


def _with_unique_names(found: Sequence[Column]) -> list[Column]:
    """A parameter or observable whose name is taken already, by a column of every table first, adds its role."""
    taken = {c.name for c in found if c.role not in _OF_THE_CAMPAIGN}
    renamed: list[Column] = []
    for column in found:
        name = column.name
        if column.role in _OF_THE_CAMPAIGN:
            while name in taken:
                name = f"{name} ({column.role})"
            taken.add(name)
        renamed.append(msgspec.structs.replace(column, name=name))
    return renamed
