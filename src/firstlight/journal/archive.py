"""Earlier campaigns of the same journal, and what each may teach another."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from firstlight import core
from firstlight.core import (
    CampaignSpec,
    Earlier,
    EarlierCampaign,
    Observation,
    Parameter,
    Point,
    Row,
    Scalar,
    Unrelated,
)

T = TypeVar("T")
Convert = Callable[[float], float]
"""A number in the unit of the earlier campaign to one in the unit of the campaign that learns from it."""


class JournalArchive:
    """`core.Archive`: every other campaign of a journal, those that still run included.

    Whoever may read a journal may learn from all of it. Once policy says which campaigns one may learn from, `find` is
    where it is to be asked.
    """

    def __init__(self, journal: core.Journal, units: core.Units) -> None:
        self._journal, self._units = journal, units

    async def find(self, spec: CampaignSpec, names: Sequence[str]) -> Sequence[EarlierCampaign]:
        """Those named, or all that overlap. Raises Unrelated where one that was named does not."""
        found: list[EarlierCampaign] = []
        for name in dict.fromkeys(names or await self._journal.campaigns()):
            try:
                found.append(await self._related(spec, name))
            except Unrelated:
                if names:
                    raise
        return found

    async def read(self, spec: CampaignSpec, chosen: EarlierCampaign) -> Earlier:
        """Its trials up to that entry, in the units of `spec`. Raises Unrelated."""
        _, earlier = await self._read(spec, chosen.campaign, chosen.entries)
        return earlier

    async def _related(self, spec: CampaignSpec, name: str) -> EarlierCampaign:
        if name == spec.id:
            raise Unrelated(f"campaign {name} cannot learn from itself: name earlier campaigns")
        entries, earlier = await self._read(spec, name)
        if not earlier.rows:
            raise Unrelated(f"campaign {spec.id} cannot learn from {name}: no trial of it has ended yet")
        return EarlierCampaign(campaign=name, entries=entries)

    async def _read(self, spec: CampaignSpec, name: str, upto: float = math.inf) -> tuple[int, Earlier]:
        """The number of the last entry read, and what the campaign brings as far as that."""
        ledger, border, seq = core.Ledger(), None, 0
        async for entry in self._journal.read(name):
            if entry.seq > upto:
                break
            if isinstance(entry.fact, core.CampaignOpened):
                border = _Border(spec, entry.fact.spec, self._units)
            ledger.add(entry)
            seq = entry.seq
        if border is None:
            raise Unrelated(f"campaign {spec.id} cannot learn from {name}: there is no such campaign here")
        return seq, Earlier(campaign=name, spec=border.asked(), rows=border.rows(ledger.view().rows))


class _Border:
    """Takes an earlier campaign into the units of another. Raises Unrelated where they have nothing in common.

    `inputs` and `outputs` convert the parameters and observables that both name; None where that cannot be.
    """

    def __init__(self, spec: CampaignSpec, other: CampaignSpec, units: core.Units) -> None:
        self.other = other
        mine, seen = {p.name: p for p in spec.parameters}, units_of(spec)
        self.inputs: dict[str, Convert | None] = {
            p.name: _input(p, mine[p.name], units) for p in other.parameters if p.name in mine
        }
        self.units = {name: seen.get(name, unit) for name, unit in units_of(other).items()}
        self.outputs: dict[str, Convert | None] = {
            name: _between(unit, seen[name], units) for name, unit in units_of(other).items() if name in seen
        }
        self.parameters = {p.name: mine.get(p.name, p) for p in other.parameters}
        if not any(self.inputs.values()):
            raise Unrelated(f"campaign {spec.id} cannot learn from {other.id}: they share no parameter")
        if not any(self.outputs.get(o.observable) for o in spec.goal.objectives):
            aims = ", ".join(o.observable for o in spec.goal.objectives)
            raise Unrelated(f"campaign {spec.id} cannot learn from {other.id}: it did not observe {aims}")

    def asked(self) -> CampaignSpec:
        """What the earlier campaign was asked."""
        other, goal = self.other, self.other.goal
        fidelity = other.fidelity if self._by_source else None
        if fidelity is not None:
            convert = self.inputs.get(fidelity.parameter)
            sources = tuple(replace(s, value=_scalar(s.value, convert)) for s in fidelity.sources)
            fidelity = replace(fidelity, target=_scalar(fidelity.target, convert), sources=sources)
        goal = replace(
            goal,
            objectives=tuple(map(self._objective, _kept(goal.objectives, self.outputs, lambda o: o.observable))),
            outcome_constraints=tuple(
                replace(c, bound=self._output(c.observable)(c.bound), unit=self.units[c.observable])
                for c in _kept(goal.outcome_constraints, self.outputs, lambda c: c.observable)
            ),
        )
        return replace(
            other, goal=goal, fidelity=fidelity, constraints=(), pool=None,
            parameters=tuple(map(self._parameter, _kept(other.parameters, self.inputs, lambda p: p.name))),
            observables=tuple(
                replace(o, unit=self.units[o.name]) for o in _kept(other.observables, self.outputs, lambda o: o.name)
            ),
        )  # fmt: skip

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """Its trials. Where their source cannot be told here, only those by the target."""
        told = [r for r in rows if self._by_source or core.counts(self.other, r.ran)]
        return [
            replace(
                r, point=self._point(r.point), as_run=self._point(r.as_run), observations=self._seen(r.observations),
                predicted=self._seen(r.predicted),
            )
            for r in told
        ]  # fmt: skip

    @property
    def _by_source(self) -> bool:
        fidelity = self.other.fidelity
        return fidelity is None or self.inputs.get(fidelity.parameter, float) is not None

    def _output(self, name: str) -> Convert:
        return self.outputs.get(name) or float

    def _parameter(self, p: Parameter) -> Parameter:
        convert, mine = self.inputs.get(p.name), self.parameters[p.name]
        if (
            convert is None
            or isinstance(p, core.Categorical)
            or isinstance(mine, core.Categorical)
            or p.unit == mine.unit
        ):
            return p
        if isinstance(p, core.Ordered):
            return replace(p, values=tuple(_scalar(v, convert) for v in p.values), unit=mine.unit)
        low, high = convert(p.low), convert(p.high)
        # Whole numbers of one unit are seldom whole in another, and a shift of the zero leaves no logarithm.
        return core.Continuous(
            name=p.name, low=low, high=high, unit=mine.unit, scale=p.scale if low > 0 else "linear",
            description=p.description,
        )  # fmt: skip

    def _objective(self, o: core.Objective) -> core.Objective:
        convert = self._output(o.observable)
        target, threshold = (None if v is None else convert(v) for v in (o.target, o.threshold))
        tolerance = abs(convert(o.tolerance) - convert(0.0)) if o.tolerance else 0.0
        return replace(o, unit=self.units[o.observable], target=target, threshold=threshold, tolerance=tolerance)

    def _point(self, point: Point) -> Point:
        return {
            name: _scalar(value, self.inputs.get(name))
            for name, value in point.items()
            if self.inputs.get(name, float) is not None
        }

    def _seen(self, observations: Sequence[Observation]) -> tuple[Observation, ...]:
        found = []
        for o in _kept(observations, self.outputs, lambda o: o.observable):
            convert, unit = self._output(o.observable), self.units.get(o.observable, o.unit)
            value = convert(o.value)
            spread = abs(convert(o.value + o.sigma) - value) if o.sigma else 0.0
            found.append(o if unit == o.unit else replace(o, value=value, sigma=spread, unit=unit))
        return tuple(found)


def units_of(spec: CampaignSpec) -> dict[str, str]:
    """The unit of every observable that is declared."""
    return {o.name: o.unit for o in spec.observables} | {o.observable: o.unit for o in spec.goal.objectives}


def _kept(things: Sequence[T], converts: Mapping[str, Convert | None], name: Callable[[T], str]) -> list[T]:
    return [thing for thing in things if converts.get(name(thing), float) is not None]


def _input(theirs: Parameter, mine: Parameter, units: core.Units) -> Convert | None:
    """None where values of the one mean nothing to the other: words and numbers, m and kg, no word in common."""
    ours = _words(mine)
    if (words := _words(theirs)) or ours:
        alike = set(words) & set(ours) or (words and ours and _descriptors(theirs) & _descriptors(mine))
        return float if alike else None
    unit, to = (p.unit if not isinstance(p, core.Categorical) else "" for p in (theirs, mine))
    return _between(unit, to, units)


def _words(parameter: Parameter) -> list[str]:
    values = parameter.values if isinstance(parameter, core.Ordered | core.Categorical) else ()
    return [v for v in values if isinstance(v, str)]


def _descriptors(parameter: Parameter) -> set[str]:
    described = parameter.descriptors if isinstance(parameter, core.Categorical) else {}
    return {name for numbers in described.values() for name in numbers}


def _between(unit: str, to: str, units: core.Units) -> Convert | None:
    if unit == to:
        return float
    try:
        units.convert(1.0, unit, to)
    except ValueError:
        return None
    return lambda value: units.convert(value, unit, to)


def _scalar(value: Scalar, convert: Convert | None) -> Scalar:
    # What is in the same unit stays the number it is: a whole one whole.
    return value if isinstance(value, str) or convert is None or convert is float else convert(value)
