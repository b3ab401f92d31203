"""Plates with shared settings, several sources, replicates, causes of failure, and what is still to be gained."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.strategies._common import space_of
from firstlight.strategies.bayes import Bayes
from firstlight.strategies.designs import Grid, Random, Sobol
from firstlight.strategies.portfolio import Portfolio
from firstlight.testing.strategy import SPECS, check_point, outcome

from .test_bayes import BRANIN, branin, campaign, numbers, spec

LESS = core.Goal(objectives=(core.Objective(observable="f", direction="minimize"),))


def row(trial: object, point: core.Point, *values: float, sigma: float = 0.0) -> core.Row:
    seen = tuple(core.Observation(observable="f", value=v, sigma=sigma) for v in values)
    return core.Row(trial=str(trial), point=point, observations=seen)


# ------------------------------------------------------------------ plates

PLATE = spec(
    core.Continuous(name="t", low=20, high=120),
    core.Categorical(name="gas", values=("N2", "Ar")),
    core.Continuous(name="c", low=1e-3, high=1.0, scale="log"),
    core.Integer(name="n", low=1, high=9),
    batch=4,
    parallel=4,
    shared=("t", "gas"),
)


@pytest.mark.parametrize("make", [Bayes, Random, Sobol], ids=lambda m: m.__name__)
def test_the_points_of_a_plate_share_its_settings(make: type[core.Strategy]) -> None:
    def f(p: core.Point) -> dict[str, float]:
        t, c, n = numbers(p, "t", "c", "n")
        return {"f": ((t - 70) / 40) ** 2 + math.log10(c / 0.1) ** 2 + ((n - 6) / 4) ** 2 + (p["gas"] == "N2")}

    results = campaign(make(), PLATE, f, 40, batch=4)
    plates = [results.rows[i : i + 4] for i in range(0, 40, 4)]
    for plate in plates:
        assert len({(r.point["t"], r.point["gas"]) for r in plate}) == 1
        assert len({(r.point["c"], r.point["n"]) for r in plate}) == 4
    assert len({p[0].point["t"] for p in plates}) > 5
    if make is Bayes:
        assert min(r.seen["f"].value for r in results.rows) < 0.1


@pytest.mark.parametrize("problem", [s for s in SPECS if len(s.parameters) > 1], ids=lambda s: s.id)
def test_plates_keep_every_kind_of_constraint(problem: core.CampaignSpec) -> None:
    shared = (problem.parameters[-1].name,)
    plated = replace(problem, batch=3, parallel=3, shared=shared)
    rows: list[core.Row] = []
    for i in range(4):
        proposals = Bayes(initial=6).propose(plated, core.Results(rows=tuple(rows)), 3, i)
        assert len({p.point[shared[0]] for p in proposals}) <= 1
        for p in proposals:
            check_point(problem, p.point)
            rows.append(core.Row(trial=str(len(rows)), point=p.point, observations=outcome(problem, p.point)))
    assert len({repr(r.point) for r in rows}) == len(rows)


@pytest.mark.parametrize("make", [Grid, Portfolio], ids=lambda m: m.__name__)
def test_a_strategy_without_plates_says_so(make: type[core.Strategy]) -> None:
    with pytest.raises(ValueError, match=r"shared .*bayes, random or sobol"):
        make().propose(PLATE, core.Results(), 4, 0)


# ------------------------------------------------------------------ sources

SOURCES = core.Fidelity(
    parameter="by", target="lab", sources=(core.Source(value="model", cost=0.1), core.Source(value="lab", cost=1.0))
)
TWO = spec(*BRANIN.parameters, core.Categorical(name="by", values=("model", "lab")), goal=LESS, fidelity=SOURCES)


def cost_to_target(informs: bool, seed: int, most: float = 50.0) -> float:
    """What is spent until the laboratory sees a value within 0.2 of the least."""
    rows: list[core.Row] = []
    cost = 0.0
    while cost < most:
        (p,) = Bayes().propose(TWO, core.Results(rows=tuple(rows)), 1, 1000 * seed + len(rows))
        check_point(TWO, p.point)
        x, y = numbers(p.point, "x", "y")
        value, lab = branin(p.point)["f"], p.point["by"] == "lab"
        cost += 1.0 if lab else 0.1
        if not lab:
            value = value + 2 * math.sin(x) if informs else 60 * math.sin(7 * x) * math.cos(5 * y)
        rows.append(row(len(rows), p.point, value))
        if lab and value < 0.398 + 0.2:
            break
    return cost


def alone(seed: int) -> int:
    values = [r.seen["f"].value for r in campaign(Bayes(), BRANIN, branin, 40, seed).rows]
    return next((i for i, v in enumerate(values, 1) if v < 0.398 + 0.2), 41)


def test_a_source_that_informs_saves_and_one_that_does_not_costs_little() -> None:
    target_only = np.mean([alone(s) for s in range(4)])
    assert np.mean([cost_to_target(True, s) for s in range(4)]) < 0.75 * target_only
    assert np.mean([cost_to_target(False, s) for s in range(4)]) < 1.4 * target_only


def test_only_the_target_is_what_is_to_be_beaten() -> None:
    """A cheap reading far below all others is no incumbent: the expected improvement is over the target's best."""
    points = [
        {"x": float(i), "y": float(j), "by": by}
        for i, j in ((0, 5), (4, 9), (8, 2), (-3, 12))
        for by in ("lab", "model")
    ]
    rows = tuple(row(i, p, (50.0 if p["by"] == "lab" else 0.0) + i) for i, p in enumerate(points))
    (p,) = Bayes(initial=1).propose(TWO, core.Results(rows=rows), 1, 0)
    assert p.decision is not None and p.decision.score is not None and p.decision.score > 1e-3


# ------------------------------------------------------------------ replicates and noise


def test_replicates_are_pooled_and_those_that_scatter_are_trusted_less() -> None:
    line = spec(core.Continuous(name="t", low=0, high=10), goal=LESS)
    steady = [row(i, {"t": float(i)}, i - 0.1, i + 0.1) for i in (0, 2, 4, 6, 8, 10)]
    found = []
    for scatter in (0.1, 8.0):
        odd = row("odd", {"t": 5.0}, 1.0 - scatter, 1.0 + scatter)
        assert odd.seen["f"].sigma == pytest.approx(scatter)
        surrogate = Bayes()._learned(space_of(line), core.Results(rows=(*steady, odd)), [])
        assert surrogate is not None
        found.append(float(surrogate.gps["f"].predict(np.array([[0.5]])).mean[0]))
    # As steady as the others, the odd one pulls the line towards 1; scattering, it hardly does.
    assert found[0] < 4.2 < 4.7 < found[1]


def test_pooled_is_the_mean_weighed_by_sigma() -> None:
    def of(value: float, sigma: float = 0.0) -> core.Observation:
        return core.Observation(observable="f", value=value, sigma=sigma, unit="g")

    assert core.pooled([of(1.0, 0.5)]) == {"f": of(1.0, 0.5)}
    bare = core.pooled([of(1.0), of(2.0), of(3.0)])["f"]
    assert (bare.value, bare.unit) == (2.0, "g")
    assert bare.sigma == pytest.approx(1.0 / math.sqrt(3))
    told = core.pooled([of(1.0, 0.1), of(1.3, 0.2)])["f"]
    assert told.value == pytest.approx((1.0 / 0.01 + 1.3 / 0.04) / (1 / 0.01 + 1 / 0.04))
    assert told.sigma >= (1 / 0.01 + 1 / 0.04) ** -0.5 - 1e-12
    assert core.pooled([of(-1e300), of(1e300)])["f"].value == pytest.approx(0.0)


# ------------------------------------------------------------------ failures and what is left


def test_the_cause_of_a_failure_is_named_where_it_threatens() -> None:
    good: list[core.Point] = [{"x": -4.0, "y": 2.0}, {"x": 0.0, "y": 3.0}, {"x": -2.0, "y": 8.0}]
    rows = [row(i, p, branin(p)["f"]) for i, p in enumerate(good)]
    bad: Sequence[tuple[float, float, core.Cause]] = (
        (7, 12, "did-not-converge"), (9, 9, "did-not-converge"), (8, 3, "timed-out"), (9, 1, "lost"),
    )  # fmt: skip
    rows += [
        core.Row(trial=f"b{i}", point={"x": x, "y": y}, failure=core.Failure(cause=c))
        for i, (x, y, c) in enumerate(bad)
    ]
    strategy = Bayes(initial=1)
    surrogate = strategy._learned(space_of(BRANIN), core.Results(rows=tuple(rows)), [])
    assert surrogate is not None
    # What was lost says nothing of the point.
    assert set(surrogate.success) == {"did-not-converge", "timed-out"}
    features = space_of(BRANIN).encoding.features(np.array([[8.0, 11.0], [8.2, 2.8], [-3.0, 4.0]]))
    risks = [surrogate.risks(features[[i]]) for i in range(3)]
    assert risks[0]["did-not-converge"] > 0.5 > risks[2]["did-not-converge"]
    assert risks[1]["timed-out"] > 0.5 > risks[0]["timed-out"]


def test_little_is_left_once_the_least_is_known_and_much_before() -> None:
    problem = replace(BRANIN, goal=replace(BRANIN.goal, regret=core.Regret(gain=1.0, chance=0.05)))
    rows = campaign(Bayes(), problem, branin, 40, 1).rows

    def chance(known: int) -> float:
        (p,) = Bayes().propose(problem, core.Results(rows=tuple(rows[:known])), 1, 5)
        assert p.decision is not None and p.decision.outlook is not None
        assert p.decision.outlook.gain == 1.0
        return p.decision.outlook.chance

    early, late = chance(7), chance(40)
    assert early > 0.2
    assert late < 0.05
    assert min(r.seen["f"].value for r in rows) < 0.398 + 1.0


def test_the_chance_of_a_gain_is_about_as_often_true() -> None:
    """Calibration: over functions drawn from the surrogate's own kind, what is said with p comes true p of the time."""
    rng = np.random.default_rng(3)
    grid = np.linspace(0.0, 1.0, 41)
    k = np.exp(-0.5 * ((grid[:, None] - grid[None]) / 0.25) ** 2) + 1e-8 * np.eye(41)
    pool = core.Pool(columns=("x",), rows=tuple((float(x),) for x in grid))
    problem = spec(core.Continuous(name="x", low=0, high=1), goal=LESS, pool=pool)
    problem = replace(problem, goal=replace(problem.goal, regret=core.Regret(gain=0.1)))
    said, true = [], []
    for s in range(30):
        f = np.linalg.cholesky(k) @ rng.standard_normal(41)
        rows = [row(i, {"x": float(grid[i])}, float(f[i])) for i in rng.choice(41, size=6, replace=False)]
        (p,) = Bayes(initial=1).propose(problem, core.Results(rows=tuple(rows)), 1, s)
        assert p.decision is not None and p.decision.outlook is not None
        said.append(p.decision.outlook.chance)
        true.append(f.min() < min(r.seen["f"].value for r in rows) - 0.1)
    assert abs(np.mean(said) - np.mean(true)) < 0.25


def test_a_decision_names_what_was_nearly_chosen_and_what_was_learned() -> None:
    rows = campaign(Bayes(), BRANIN, branin, 12).rows
    (p,) = Bayes().propose(BRANIN, core.Results(rows=tuple(rows)), 1, 3)
    d = p.decision
    assert d is not None and d.score is not None
    assert d.criterion == "expected improvement of f"
    assert d.trials == 12
    assert len(d.runners_up) == 2
    assert all(r.score is not None and r.score <= d.score + 1e-12 for r in d.runners_up)
    assert {"length-scale of x", "length-scale of y", "noise"} == set(d.learned["f"])
