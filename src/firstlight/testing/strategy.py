"""What every strategy must keep. Subclass StrategyContract, give `make`, and let pytest collect it."""

import math
from collections.abc import Sequence

import msgspec
import pytest
from msgspec.structs import replace

from firstlight import core

ONE = core.Goal(objectives=(core.Objective(observable="y", direction="maximize", unit="g"),))
SEVERAL = core.Goal(
    objectives=(
        core.Objective(observable="y", direction="maximize"),
        core.Objective(observable="cost", direction="minimize", threshold=10.0),
        core.Objective(observable="ph", direction="match", target=7.0, tolerance=0.1),
    ),
    outcome_constraints=(core.OutcomeConstraint(observable="heat", relation="<=", bound=1.0),),
)


def _spec(
    id: str,
    *parameters: core.Parameter,
    constraints: tuple[core.Constraint, ...] = (),
    pool: core.Pool | None = None,
    goal: core.Goal = ONE,
) -> core.CampaignSpec:
    procedure = core.ProcedureSpec(steps=(core.StepSpec(operation="firstlight:none"),))
    return core.CampaignSpec(
        id=id, parameters=parameters, goal=goal, procedure=procedure, constraints=constraints, pool=pool
    )


def _parts(*names: str, high: float = 1.0) -> tuple[core.Continuous, ...]:
    return tuple(core.Continuous(name=n, low=0.0, high=high) for n in names)


_solvent = core.Categorical(
    name="solvent",
    values=("water", "DMF", "THF", "hexane"),
    descriptors={v: {"polarity": p} for v, p in (("water", 10.2), ("DMF", 6.4), ("THF", 4.0), ("hexane", 0.1))},
)
_base = core.Categorical(name="base", values=("KOH", "NEt3", "none"))
_t = core.Continuous(name="t", low=20.0, high=120.0, unit="degC")
_count = core.Integer(name="n", low=1, high=9)
_stir = core.Ordered(name="stir", values=("low", "mid", "high"))
_loading = core.Ordered(name="loading", values=(0.5, 1.0, 2.5, 5.0))

SPECS: tuple[core.CampaignSpec, ...] = (
    _spec("log", core.Continuous(name="c", low=1e-6, high=1e-1, scale="log"), _t),
    _spec("integer", _count, core.Integer(name="big", low=1, high=100_000, scale="log"), _t),
    _spec("ordered", _stir, _loading, _t),
    _spec("categorical", _solvent, _base, _t),
    _spec(
        "pool",
        _solvent,
        _count,
        pool=core.Pool(columns=("n", "solvent"), rows=tuple((n, s) for n in range(1, 7) for s in _solvent.values[:3])),
        constraints=(core.Linear(terms={"n": 1.0}, relation="<=", bound=5.0),),
    ),
    _spec(
        "inequality",
        *_parts("a", "b", "c"),
        _count,
        constraints=(
            core.Linear(terms={"a": 1.0, "b": 2.0, "n": 0.1}, relation="<=", bound=0.8),
            core.Linear(terms={"c": 1.0, "b": -1.0}, relation=">=", bound=0.5),
        ),
    ),
    _spec(
        "equality",
        core.Continuous(name="p", low=0.001, high=10.0, scale="log"),
        *_parts("a", "b", high=100.0),
        constraints=(core.Linear(terms={"p": 3.0, "a": 1.0, "b": 1.0}, relation="==", bound=42.0),),
    ),
    _spec(
        "mixture",
        *_parts("m1", "m2", "m3", "m4", "m5", "m6", "m7", high=60.0),
        _t,
        constraints=(
            core.Mixture(parameters=("m1", "m2", "m3", "m4", "m5", "m6", "m7"), total=100.0, min_parts=2, max_parts=3),
            core.Linear(terms={"m1": 1.0, "m2": 1.0}, relation="<=", bound=50.0),
        ),
    ),
    _spec("simplex", *_parts("u", "v", "w"), constraints=(core.Mixture(parameters=("u", "v", "w")),)),
    _spec(
        "atoms",
        *(core.Integer(name=n, low=0, high=8) for n in ("Fe", "Ni", "Co", "Mn")),
        _t,
        constraints=(core.Mixture(parameters=("Fe", "Ni", "Co", "Mn"), total=12.0, max_parts=3),),
    ),
    _spec(
        "exclude",
        _solvent,
        _base,
        _stir,
        _t,
        constraints=(
            core.Exclude(combination={"solvent": ("water", "DMF"), "base": ("KOH", "none")}),
            core.Exclude(combination={"base": ("NEt3",), "stir": ("high",), "solvent": ("water", "THF")}),
        ),
    ),
    _spec(
        "mixed",
        _solvent,
        _count,
        _loading,
        *_parts("a", "b"),
        constraints=(
            core.Exclude(combination={"solvent": ("hexane",), "loading": (2.5, 5.0)}),
            core.Linear(terms={"loading": 1.0, "a": 10.0, "n": -1.0}, relation="<=", bound=2.0),
        ),
    ),
    _spec("one value", core.Continuous(name="fixed", low=3.0, high=3.0), core.Integer(name="k", low=2, high=2), _t),
    _spec(
        "forbidden box",
        core.Continuous(name="c", low=1e-6, high=1e-1, scale="log"),
        _t,
        constraints=(core.Forbid(ranges={"c": (1e-5, 1e-2), "t": (30.0, 110.0)}),),
    ),
    _spec(
        "overlapping boxes",
        *_parts("a", "b", "c"),
        constraints=(
            core.Forbid(ranges={"a": (0.0, 0.7), "b": (0.2, 1.0)}),
            core.Forbid(ranges={"a": (0.5, 0.9), "b": (0.0, 0.6), "c": (0.1, 1.0)}),
            core.Forbid(ranges={"c": (0.4, 0.6)}),
        ),
    ),
    _spec(
        "forbidden mixture",
        *_parts("m1", "m2", "m3", "m4", high=60.0),
        _t,
        constraints=(
            core.Mixture(parameters=("m1", "m2", "m3", "m4"), total=100.0, min_parts=2, max_parts=3),
            core.Forbid(ranges={"m1": (0.0, 40.0), "t": (50.0, 120.0)}),
            core.Forbid(ranges={"m2": (10.0, 55.0), "m3": (5.0, 60.0)}),
            core.Linear(terms={"m4": 1.0, "t": 0.5}, relation="<=", bound=50.0),
        ),
    ),
    _spec(
        "forbidden names",
        _solvent,
        _stir,
        _loading,
        _t,
        constraints=(
            core.Forbid(ranges={"t": (60.0, 120.0)}, values={"solvent": ("THF", "hexane")}),
            core.Forbid(ranges={"loading": (1.0, 3.0), "t": (0.0, 40.0)}, values={"stir": ("low",)}),
            core.Forbid(ranges={"loading": (5.0, 9.0)}, values={"solvent": ("water",)}),
        ),
    ),
    _spec(
        "forbidden whole numbers",
        core.Integer(name="big", low=1, high=100_000, scale="log"),
        _count,
        _base,
        constraints=(
            core.Forbid(ranges={"big": (10.5, 9_999.5), "n": (2.0, 9.0)}),
            core.Forbid(ranges={"big": (1.0, 3.0)}, values={"base": ("KOH",)}),
        ),
    ),
    _spec("several goals", _t, _base, *_parts("a"), goal=SEVERAL),
)
"""Awkward specifications: every kind of parameter and constraint, alone and together."""

FINITE = _spec("finite", _stir, core.Integer(name="k", low=1, high=4))
"""Twelve points."""


def check_point(spec: core.CampaignSpec, point: core.Point) -> None:
    """Assert that a point is legal, its types are those declared, and sums of mixtures are exact to 1e-9."""
    assert core.violations(spec, point) == (), (spec.id, point)
    for p in spec.parameters:
        value = point[p.name]
        kind = {core.Continuous: float, core.Integer: int}.get(type(p))
        assert kind is None or type(value) is kind, f"{p.name} is {value!r}, which is not a {kind}"
        if isinstance(p, core.Continuous | core.Integer):
            assert p.low <= float(value) <= p.high, f"{p.name} is {value!r}, outside {p.low} to {p.high}"
    for c in spec.constraints:
        if isinstance(c, core.Mixture):
            amounts = [float(point[n]) for n in c.parameters]
            assert abs(math.fsum(amounts) - c.total) <= 1e-9 * abs(c.total), (spec.id, amounts)
            if c.max_parts is not None:
                assert sum(a != 0.0 for a in amounts) <= c.max_parts, (spec.id, amounts)


def outcome(spec: core.CampaignSpec, point: core.Point, sigma: float = 0.0) -> tuple[core.Observation, ...]:
    """A smooth made-up measurement of everything the goal asks for."""
    size = sum(float(len(v)) if isinstance(v, str) else math.log1p(abs(v)) for v in point.values())
    names = {o.observable for o in spec.goal.objectives} | {c.observable for c in spec.goal.outcome_constraints}
    return tuple(
        core.Observation(observable=n, value=math.sin(size + i) + 7.0 * (n == "ph"), sigma=sigma)
        for i, n in enumerate(sorted(names))
    )


def tried(spec: core.CampaignSpec, points: Sequence[core.Point], sigma: float = 0.0, fail: int = 0) -> core.Results:
    """Results in which the points were tried; every `fail`-th failed."""
    crash = core.Failure(cause="did-not-converge", message="no root")
    return core.Results(
        rows=tuple(
            core.Row(trial=f"t{i}", point=p, failure=crash)
            if fail and i % fail == 0
            else core.Row(trial=f"t{i}", point=p, observations=outcome(spec, p, sigma))
            for i, p in enumerate(points)
        )
    )


def pend(results: core.Results, points: Sequence[core.Point]) -> core.Results:
    """The same results, with points under way."""
    rows = {f"p{i}": core.Row(trial=f"p{i}", point=p) for i, p in enumerate(points)}
    return core.Results(rows=results.rows, pending=rows)


_histories: dict[tuple[type, str, int], tuple[core.Point, ...]] = {}


class StrategyContract:
    """Give `make`, a new instance of the strategy: the same one in every test of a class.

    `stochastic = False` where its seed is not used; `covers = False` where it may have no point to offer
    in a space that has some (a grid that a constraint slips through).
    """

    stochastic = True
    covers = True
    conditions: tuple[tuple[float, int], ...] = ((0.0, 0), (0.1, 0), (0.0, 3))
    """Under which a suggestion is asked for in every kind of space: how noisy outcomes are, and which of them fail."""
    several = 3
    """How many points are asked for at once, again and again, to see whether they are the same."""

    def make(self) -> core.Strategy:
        raise NotImplementedError("give the strategy to be tested")

    def points(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> list[core.Point]:
        return [p.point for p in self.make().propose(spec, results, count, seed)]

    def history(self, spec: core.CampaignSpec, length: int = 12) -> list[core.Point]:
        """Points that the strategy itself proposes, a few at a time: worked out once for all tests of a class."""
        asked = (type(self), repr(spec), length)
        if asked not in _histories:
            points: list[core.Point] = []
            while len(points) < length:
                more = self.points(spec, tried(spec, points), min(4, length - len(points)), len(points))
                if not more:
                    break
                points += more
            _histories[asked] = tuple(points)
        return list(_histories[asked])

    @pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.id)
    def test_points_are_legal_new_and_no_more_than_asked(self, spec: core.CampaignSpec) -> None:
        points = self.history(spec)
        assert points or not self.covers
        for sigma, fail in self.conditions:
            proposals = self.make().propose(spec, tried(spec, points, sigma, fail), 3, 7)
            assert len(proposals) <= 3
            for p in proposals:
                check_point(spec, p.point)
                assert p.reason
                assert p.point not in points
            assert len({repr(p.point) for p in proposals}) == len(proposals)
        for point in points:
            check_point(spec, point)
        assert len({repr(p) for p in points}) == len(points)

    @pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.id)
    def test_the_same_arguments_give_the_same_points(self, spec: core.CampaignSpec) -> None:
        results = tried(spec, self.history(spec))
        strategy = self.make()
        first = list(strategy.propose(spec, results, self.several, 5))
        again = list(strategy.propose(replace(spec), results, self.several, 5))
        assert first == again == list(self.make().propose(spec, results, self.several, 5))
        for p in first:
            check_point(spec, p.point)

    def test_what_is_said_of_a_point_can_be_recorded(self) -> None:
        for spec in (SPECS[3], SPECS[-1]):
            for p in self.make().propose(spec, tried(spec, self.history(spec)), 3, 5):
                assert msgspec.json.decode(msgspec.json.encode(p), type=core.Proposal) == p
                if p.decision is not None:
                    assert p.decision.criterion
                    for rival in p.decision.runners_up:
                        check_point(spec, rival.point)
                        assert rival.point != p.point

    def test_an_instance_that_remembers_follows_what_people_put_right(self) -> None:
        """A correction or a mark in the middle of the history: as one that has never seen another history."""
        spec = SPECS[0]
        history = self.history(spec, 16)
        facts: list[core.Fact] = [core.CampaignOpened(spec=spec)]
        facts += [
            core.TrialAdded(trial=f"log.{i}", point=p, outcome=core.Measured(observations=outcome(spec, p)))
            for i, p in enumerate(history, 1)
        ]
        ledger = core.Ledger(core.Entry(seq=i, at=float(i), by="ada", fact=f) for i, f in enumerate(facts, 1))
        strategy = self.make()
        strategy.propose(spec, ledger.view(), 3, 5)
        words: list[core.Fact] = [
            core.TrialCorrected(
                trial=f"log.{i}", observations=(core.Observation(observable="y", value=9.0 + i, unit="g"),)
            )
            for i in range(2, 6)
        ]
        words += [core.OutcomeRejected(trial="log.3", reason="a bubble"), core.OutcomeRestored(trial="log.3")]
        for i, word in enumerate(words, len(facts) + 1):
            ledger.add(core.Entry(seq=i, at=float(i), by="ada", fact=ledger.completed(word)))
            results = ledger.view()
            assert list(strategy.propose(spec, results, 3, 5)) == list(self.make().propose(spec, results, 3, 5))

    def test_other_seeds_give_other_points(self) -> None:
        if not self.stochastic:
            pytest.skip("this strategy does not use its seed")
        spec = SPECS[0]
        found = {repr(self.points(replace(spec, seed=seed), core.Results(), 2, seed)) for seed in range(4)}
        assert len(found) == 4

    @pytest.mark.parametrize("length", [0, 6])
    def test_pending_points_are_not_proposed_again(self, length: int) -> None:
        for spec in (SPECS[0], SPECS[4], FINITE):
            points = self.history(spec, length)
            results = tried(spec, points)
            under_way = self.points(spec, results, 3, 3)
            more = self.points(spec, pend(results, under_way), 3, 3)
            assert more
            assert not [p for p in more if p in under_way or p in points]

    @pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.id)
    def test_failures_are_survived(self, spec: core.CampaignSpec) -> None:
        points = self.history(spec)[:8]
        for point in self.points(spec, tried(spec, points, fail=1), 2, 1):
            check_point(spec, point)
            assert point not in points

    def test_a_finite_space_is_tried_once_and_then_exhausted(self) -> None:
        for spec, size in ((FINITE, 12), (SPECS[4], 15)):
            points = self.history(spec, 40)
            assert len(points) == size
            assert len({repr(p) for p in points}) == size
            assert self.points(spec, tried(spec, points[:-2]), 5, 0) != []
            assert len(self.points(spec, tried(spec, points[:-2]), 5, 0)) == 2
            assert self.points(spec, pend(tried(spec, points[2:]), points[:2]), 5, 0) == []

    def test_odd_results_are_survived(self) -> None:
        spec = SPECS[3]
        points = self.history(spec, 6)
        same = core.Row(trial="t", point=points[0], observations=(core.Observation(observable="y", value=2.0),))
        huge = replace(same, observations=(core.Observation(observable="y", value=1e300),))
        mute = replace(same, observations=())
        strange = replace(same, point={"t": 1e9, "solvent": "tar"}, as_run={"base": "sand"})
        off = replace(same, as_run={"t": 140.0})
        for rows in ((same,), (same,) * 9, (same, huge) * 5, (mute,) * 9, (same, strange, off) * 4):
            for point in self.points(spec, core.Results(rows=rows), 2, 0):
                check_point(spec, point)
