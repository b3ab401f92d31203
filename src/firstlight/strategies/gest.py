"""The border to the CAMPA consortium's generator standard (gest-api), which Xopt, libEnsemble and Optimas share.

Outside generators drive our campaigns (`GeneratorStrategy`), and our strategies serve in outside loops
(`FirstlightGenerator`). Needs the extra "gest".
"""

import copy
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gest_api.generator import Generator
from gest_api.vocs import (
    VOCS,
    BoundsConstraint,
    ContextualVariable,
    ContinuousVariable,
    DiscreteVariable,
    ExploreObjective,
    GreaterThanConstraint,
    LessThanConstraint,
    MaximizeObjective,
)

from firstlight import core

from .bayes import Bayes

Entry = dict[str, Any]
LISTED = 10_000
"""An integer parameter of at most this many values can be a discrete variable."""


def to_vocs(spec: core.CampaignSpec) -> VOCS:
    """The specification as VOCS. Scales, units, descriptors and the order of words are lost.

    Raises ValueError for what VOCS cannot say: constraints on points, pools, and objectives to match.
    """
    if spec.pool is not None:
        raise ValueError("VOCS has no pools: use a strategy of Firstlight's own, or parameters without a pool")
    if spec.constraints:
        raise ValueError("VOCS has no constraints on points (sums, mixtures, exclusions, regions), only on outcomes")
    for o in spec.goal.objectives:
        if o.direction == "match":
            raise ValueError(f"VOCS cannot match {o.observable} to a target: report the distance and minimize it")
    bounds: dict[str, dict[str, float]] = {}
    for c in spec.goal.outcome_constraints:
        mine = bounds.setdefault(c.observable, {})
        pick = min if c.relation == "<=" else max
        mine[c.relation] = pick(mine.get(c.relation, c.bound), c.bound)
    constants = {p.name: p.low for p in spec.parameters if isinstance(p, core.Continuous) and _fixed(p)}
    return VOCS(
        variables={p.name: _variable(p) for p in spec.parameters if not _fixed(p)},
        objectives={o.observable: o.direction.upper() for o in spec.goal.objectives},
        constraints={name: _constraint(relations) for name, relations in bounds.items()},
        constants=constants,
        observables={o.name for o in spec.observables},
    )


def _fixed(p: core.Parameter) -> bool:
    return isinstance(p, core.Continuous) and p.low == p.high


def _variable(p: core.Parameter) -> Any:
    if isinstance(p, core.Continuous):
        return ContinuousVariable(domain=[p.low, p.high])
    if isinstance(p, core.Integer):
        if p.high - p.low >= LISTED:
            raise ValueError(f"VOCS has no whole numbers, and {p.name} has too many values to list")
        return DiscreteVariable(values=set(range(p.low, p.high + 1)))
    return DiscreteVariable(values=set(p.values))


def _constraint(relations: Mapping[str, float]) -> list[str | float]:
    if len(relations) == 2:
        return ["BOUNDS", relations[">="], relations["<="]]
    (relation, bound), *_ = relations.items()
    return ["LESS_THAN" if relation == "<=" else "GREATER_THAN", bound]


def from_vocs(vocs: VOCS, id: str = "vocs") -> core.CampaignSpec:
    """VOCS as a specification, without a procedure; constants are left to whoever evaluates.

    Discrete numbers become ordered, discrete words categorical. Raises ValueError for what a
    specification cannot say: contextual variables, objectives to explore, and no objective at all.
    """
    if not vocs.objectives:
        raise ValueError("VOCS without objectives: a campaign needs one at least")
    objectives = []
    for name, o in vocs.objectives.items():
        if isinstance(o, ExploreObjective):
            raise ValueError(f"objective {name} is to be explored: a campaign can maximize or minimize")
        up = isinstance(o, MaximizeObjective)
        objectives.append(core.Objective(observable=name, direction="maximize" if up else "minimize"))
    bounds = [b for name, c in vocs.constraints.items() for b in _bounds(name, c)]
    return core.CampaignSpec(
        id=id,
        parameters=tuple(_parameter(name, v) for name, v in vocs.variables.items()),
        goal=core.Goal(objectives=tuple(objectives), outcome_constraints=tuple(bounds)),
        procedure=core.ProcedureSpec(steps=()),
        observables=tuple(core.Observable(name=name) for name in vocs.observables),
    )


def _parameter(name: str, variable: Any) -> core.Parameter:
    if isinstance(variable, ContextualVariable):
        raise ValueError(f"variable {name} is contextual: a campaign chooses the value of every parameter")
    if isinstance(variable, ContinuousVariable):
        low, high = map(float, variable.domain)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"variable {name} has no finite domain: {variable.domain}")
        return core.Continuous(name=name, low=low, high=high)
    if not isinstance(variable, DiscreteVariable):
        raise ValueError(f"variable {name} is of an unknown kind: {type(variable).__name__}")
    values = list(variable.values)
    if all(isinstance(v, str) for v in values):
        return core.Categorical(name=name, values=tuple(sorted(values)))
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return core.Ordered(name=name, values=tuple(sorted(values)))
    raise ValueError(f"variable {name} must have only numbers or only words, not {values}")


def _bounds(name: str, constraint: Any) -> list[core.OutcomeConstraint]:
    if isinstance(constraint, LessThanConstraint):
        return [core.OutcomeConstraint(observable=name, relation="<=", bound=constraint.value)]
    if isinstance(constraint, GreaterThanConstraint):
        return [core.OutcomeConstraint(observable=name, relation=">=", bound=constraint.value)]
    if isinstance(constraint, BoundsConstraint):
        low, high = constraint.range
        return [
            core.OutcomeConstraint(observable=name, relation=">=", bound=low),
            core.OutcomeConstraint(observable=name, relation="<=", bound=high),
        ]
    raise ValueError(f"constraint {name} is of an unknown kind: {type(constraint).__name__}")


class FirstlightGenerator(Generator):  # type: ignore[misc]
    """One of our strategies as a generator for outside loops: suggest, evaluate, ingest.

    Points carry an "_id" that is to come back with their results. A result whose objective or
    constraint is missing or not finite counts as a failed trial, from which the strategy learns.
    """

    returns_id = True

    def __init__(self, vocs: VOCS, strategy: core.Strategy | None = None, seed: int = 0) -> None:
        super().__init__(vocs)
        self._spec, self._seed = from_vocs(vocs), seed
        self._strategy = Bayes() if strategy is None else strategy
        self._constants = {name: c.value for name, c in vocs.constants.items()}
        self._rows: list[core.Row] = []
        self._pending: dict[str, core.Row] = {}
        self._numbered = 0

    def _validate_vocs(self, vocs: VOCS) -> None:
        from_vocs(vocs)

    def suggest(self, num_points: int | None = None) -> list[Entry]:
        """Points for all variables and constants. Raises ValueError where there are not so many left."""
        wanted = 1 if num_points is None else num_points
        results = core.Results(rows=tuple(self._rows), pending=dict(self._pending))
        found = self._strategy.propose(self._spec, results, wanted, self._seed * 1_000_003 + self._numbered)
        if len(found) < wanted:
            raise ValueError(f"there are only {len(found)} points left to suggest, not {wanted}")
        out = []
        for proposal in found:
            self._numbered += 1
            id = f"t{self._numbered:06}"
            self._pending[id] = core.Row(trial=id, point=proposal.point, predicted=proposal.predicted)
            out.append({**self._constants, **proposal.point, "_id": id})
        return out

    def ingest(self, results: Iterable[Entry]) -> None:
        """Take in evaluated points. Raises ValueError for an "_id" that was never suggested or came back already."""
        rows: list[core.Row] = []
        for entry in results:
            id = entry.get("_id")
            if id is not None and (id not in self._pending or id in {row.trial for row in rows}):
                raise ValueError(f"_id {id!r} is not one of a point suggested and still awaited")
            rows.append(self._row(entry, f"given{len(self._rows) + len(rows)}" if id is None else id))
        for row in rows:
            self._pending.pop(row.trial, None)
            self._rows.append(row)

    def _row(self, entry: Entry, id: str) -> core.Row:
        ours = self._pending.get(id)
        given = {p.name: _plain(entry[p.name]) for p in self._spec.parameters if p.name in entry}
        point = given if ours is None else ours.point
        wanted = [o.observable for o in self._spec.goal.objectives]
        wanted += [c.observable for c in self._spec.goal.outcome_constraints]
        seen = {name: entry[name] for name in dict.fromkeys(wanted) if entry.get(name) is not None}
        finite = {name: float(v) for name, v in seen.items() if math.isfinite(v)}
        missing = [name for name in wanted if name not in finite]
        failure = core.Failure(cause="invalid-output", message=f"no {', '.join(missing)}") if missing else None
        observations = tuple(core.Observation(observable=name, value=v) for name, v in finite.items())
        return core.Row(trial=id, point=point, as_run=given, observations=observations, failure=failure)


def _plain(value: Any) -> core.Scalar:
    """A number or word of the standard library's own types (numpy's come with `item`)."""
    plain: core.Scalar = value.item() if hasattr(value, "item") else value
    return plain


class GeneratorStrategy:
    """An outside generator behind our port: given all rows, it is asked for points.

    `factory` makes a generator from VOCS: a callable, or "package.module:name"; further options go to
    it, and spec.seed as `seed` where it has such a parameter. The standard knows neither failures nor
    pending points: failed trials are left out, and the generator is asked for so many more points that
    those pending, which it suggests again, can be dropped. It repeats itself only if it is seeded.
    """

    def __init__(self, factory: Callable[..., Any] | str, **options: object) -> None:
        self._factory = pkgutil.resolve_name(factory) if isinstance(factory, str) else factory
        self._options = options
        self._memo: tuple[core.CampaignSpec, list[core.Row], Any] | None = None

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        pending = [row.point for row in results.pending.values()]
        generator = self._informed(spec, results.rows)
        found: list[core.Proposal] = []
        for entry in generator.suggest(count + len(pending)):
            point = _point(spec, entry)
            if point in pending:
                pending.remove(point)
            elif len(found) < count:
                found.append(core.Proposal(point=point, reason=f"suggested by {type(generator).__name__}"))
        return found

    def _informed(self, spec: core.CampaignSpec, rows: Sequence[core.Row]) -> Any:
        """A generator that has ingested the rows and nothing else has happened to."""
        known, told = self._memo, list(rows)
        self._memo = None
        if known is not None and known[0] is spec and known[1] == told[: len(known[1])]:
            generator, fresh = known[2], told[len(known[1]) :]
        else:
            generator, fresh = self._new(spec), told
        entries = [e for row in fresh if (e := _entry(spec, row)) is not None]
        if entries:
            generator.ingest(entries)
        try:
            untouched = copy.deepcopy(generator)
        except (TypeError, RecursionError):
            # One that cannot be copied (it holds a thread, a socket) is built anew at every call.
            return generator
        self._memo = (spec, told, untouched)
        return generator

    def _new(self, spec: core.CampaignSpec) -> Any:
        options = dict(self._options)
        if "seed" in inspect.signature(self._factory).parameters:
            options.setdefault("seed", spec.seed)
        return self._factory(to_vocs(spec), **options)


def _entry(spec: core.CampaignSpec, row: core.Row) -> Entry | None:
    seen = row.seen
    names = [o.observable for o in spec.goal.objectives] + [c.observable for c in spec.goal.outcome_constraints]
    if row.failure or any(name not in seen for name in names):
        return None
    extra = [o.name for o in spec.observables if o.name in seen]
    return {**row.ran, **{name: seen[name].value for name in (*names, *extra)}}


def _point(spec: core.CampaignSpec, entry: Mapping[str, Any]) -> core.Point:
    """What a generator suggested, as a point of ours."""
    point: core.Point = {}
    for p in spec.parameters:
        if p.name not in entry:
            if not _fixed(p):
                raise ValueError(f"the generator suggested no {p.name}")
            point[p.name] = float(getattr(p, "low", math.nan))
            continue
        value = _plain(entry[p.name])
        if isinstance(p, core.Integer):
            value = int(value)
        elif isinstance(p, core.Continuous):
            value = float(value)
        point[p.name] = value
    return point
