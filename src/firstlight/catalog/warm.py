"""Earlier data for a new campaign: rows of datasets as trials that it need not perform again."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from arro3.io import read_parquet

from firstlight import core
from firstlight.core import (
    CampaignSpec,
    Categorical,
    Failure,
    Measured,
    Observation,
    Parameter,
    Scalar,
    TrialAdded,
    Value,
)

from ._records import Record, cited
from .index import Found
from .library import Library

Convert = Callable[[float, str, str], float]


class Earlier(Value, frozen=True):
    """What a campaign gets from earlier data: trials, the datasets they are from, and what was left out, by why."""

    trials: tuple[TrialAdded, ...] = ()
    used: tuple[str, ...] = ()
    left_out: dict[str, int] = {}


class _LeftOut(Exception):
    """A row says nothing to this campaign; the message says why."""


def earlier_trials(library: Library, found: Sequence[Found], spec: CampaignSpec, convert: Convert) -> Earlier:
    """The rows of these datasets that tell of the parameters and observables of a campaign, in its units.

    No observation counts twice: of several versions of a dataset the newest is read, a trial that several datasets have
    is taken from the first of them, and so is a row that is the same in several. Each keeps where it is from, as
    "<dataset>#<trial or number of the row>". What is left out: rows without a value for every parameter, or beyond its
    bounds; without anything observed; those that a person rejected; what cannot be converted.

    Raises ValueError where nothing remains, LookupError or OSError where data are not here.
    """
    taken = dict[str, TrialAdded]()
    seen, left_out, used = set[object](), dict[str, int](), dict[str, None]()
    if bad := next((f for f in found if f.retracted), None):
        raise ValueError(f"{bad.record.id} is retracted: {bad.retracted} ({bad.by})")
    for record in _newest(found):
        here = list[object]()
        for key, row, fit in _rows(record, library.tables(record), partial(_Fit, spec, convert)):
            source = str(row.get("source") or "")
            known = cited(source)
            trial = f"{known[0].rpartition('@')[0]}#{known[1]}" if known else f"{record.name}#{key}"
            try:
                if trial in taken:
                    raise _LeftOut("they are in several datasets")
                fact = fit.trial(row, f"{record.id}#{key}")
                same = (tuple(sorted(fact.point.items())), _seen(fact))
                if same in seen:
                    raise _LeftOut("they are in several datasets")
            except _LeftOut as why:
                left_out[str(why)] = left_out.get(str(why), 0) + 1
                continue
            taken[trial] = fact
            here.append(same)
            used[record.id] = None
        seen.update(here)
    if not taken:
        where = ", ".join(f.record.id for f in found) or "nothing that was found"
        reasons = "; ".join(f"{count}: {said}" for said, count in left_out.items()) or "there is none"
        raise ValueError(f"no row of {where} tells {spec.id} anything ({reasons})")
    return Earlier(tuple(taken.values()), tuple(used), left_out)


class _Fit:
    """Reads rows as trials of a campaign."""

    def __init__(self, spec: CampaignSpec, convert: Convert, theirs: Mapping[str, str]) -> None:
        self._spec, self._theirs, self._convert = spec, theirs, convert
        self._units = {o.name: o.unit for o in spec.observables} | {o.observable: o.unit for o in spec.goal.objectives}
        self._units |= {c.observable: c.unit for c in spec.goal.outcome_constraints if c.observable not in self._units}

    def trial(self, row: Mapping[str, Any], source: str) -> TrialAdded:
        if row.get("rejected"):
            raise _LeftOut("a person rejected them")
        point = {p.name: self._value(p, row) for p in self._spec.parameters}
        if core.violations(self._spec, point):
            raise _LeftOut("they break a constraint")
        if row.get("failed") is True:
            cause = row.get("cause")
            known: Any = cause if cause in get_args(core.Cause) else "crashed"
            return TrialAdded("", point, Failure(cause=known, message=str(row.get("message") or "")), source)
        seen = tuple(self._observed(row))
        if not seen:
            raise _LeftOut(f"nothing of {', '.join(self._units)} was observed")
        return TrialAdded("", point, Measured(observations=seen), source)

    def _value(self, parameter: Parameter, row: Mapping[str, Any]) -> Scalar:
        name = parameter.name
        value = row.get(f"{name}.as_run")
        value = row.get(name) if value is None else value
        if value is None:
            raise _LeftOut(f"they have no {name}")
        if isinstance(parameter, Categorical):
            if value not in parameter.values:
                raise _LeftOut(f"their {name} is none of this campaign's")
            found: Scalar = value
            return found
        if isinstance(value, str | bool):
            raise _LeftOut(f"their {name} is no number")
        number = self._in(float(value), self._theirs.get(name, ""), parameter.unit, name)
        if isinstance(parameter, core.Ordered):
            alike = [v for v in parameter.values if not isinstance(v, str) and _same(number, float(v))]
            if not alike:
                raise _LeftOut(f"their {name} is none of this campaign's")
            return alike[0]
        if not parameter.low <= number <= parameter.high:
            raise _LeftOut(f"their {name} is beyond the bounds")
        if isinstance(parameter, core.Integer):
            if not _same(number, round(number)):
                raise _LeftOut(f"their {name} is not whole")
            return round(number)
        return number

    def _observed(self, row: Mapping[str, Any]) -> Iterator[Observation]:
        for name, unit in self._units.items():
            value = row.get(name)
            if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
                continue
            theirs = row.get(f"{name}.unit") or self._theirs.get(name, "")
            number = self._in(float(value), theirs, unit, name)
            sigma = row.get(f"{name}.sigma") or 0.0
            spread = abs(self._in(float(value) + float(sigma), theirs, unit, name) - number) if sigma else 0.0
            yield Observation(name, number, unit, spread)

    def _in(self, value: float, unit: str, to: str, name: str) -> float:
        if unit == to or not unit or not to:
            # What says no unit is taken to be in that of the campaign only where both say none.
            if unit != to:
                raise _LeftOut(f"their {name} is in {unit or 'no unit'}, and here it is in {to or 'no unit'}")
            return value
        try:
            return self._convert(value, unit, to)
        except ValueError as error:
            raise _LeftOut(f"their {name} is in {unit}, and here it is in {to}") from error


def _same(value: float, other: float) -> bool:
    """Whether they differ by no more than a conversion of units does."""
    return abs(value - other) <= 1e-9 * max(1.0, abs(value))


def _newest(found: Iterable[Found]) -> list[Record]:
    """The newest version of each name."""
    return list({f.record.name: f.record for f in sorted(found, key=lambda f: f.version)}.values())


def _rows(
    record: Record, tables: Sequence[Path], fit_to: Callable[[Mapping[str, str]], _Fit]
) -> Iterator[tuple[str, dict[str, Any], _Fit]]:  # fmt: skip
    """Every row by its trial, or its number among all rows, and what reads it: each table has units of its own."""
    number = 0
    for path in tables:
        reader = read_parquet(path)
        fields = {name: reader.schema.field(name).metadata_str.get("unit") for name in reader.schema.names}
        said = {variable.name: variable.unit for variable in record.variables}
        fit = fit_to({name: said.get(name, "") if unit is None else unit for name, unit in fields.items()})
        for batch in reader:
            columns = [batch.column(i).to_pylist() for i in range(batch.num_columns)]
            for values in zip(*columns, strict=True):
                number += 1
                row = dict(zip(fields, values, strict=True))
                trial = row.get("trial")
                yield str(trial) if record.campaign and trial else str(number), row, fit


def _seen(fact: TrialAdded) -> object:
    if isinstance(fact.outcome, Failure):
        return fact.outcome.cause
    return tuple((o.observable, o.value) for o in fact.outcome.observations)
