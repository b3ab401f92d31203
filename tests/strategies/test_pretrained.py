"""A model of earlier campaigns saves most experiments where it is right, and costs next to none where it is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.strategies._common import space_of
from firstlight.strategies._encoding import Encoding
from firstlight.strategies._gp import GP, Hyper, matern
from firstlight.strategies._prior import Experienced, Placed, PriorGP, cold_evidence, expected
from firstlight.strategies.bayes import Bayes
from firstlight.strategies.pretrained import Pretrained
from firstlight.testing.strategy import SPECS, check_point, tried

Array = npt.NDArray[np.float64]
SPREAD, NOISE = 1.0, 0.05
PARAMETERS = (core.Continuous(name="a", low=0, high=10), core.Continuous(name="b", low=1, high=100, scale="log"))
GOAL = core.Goal(objectives=(core.Objective(observable="y", direction="maximize"),))


def _unit(columns: Mapping[str, Any]) -> Array:
    return np.column_stack([np.asarray(columns["a"], float) / 10, np.log10(np.asarray(columns["b"], float)) / 2])


@dataclass
class Fake:
    """Expects a hill at `top` (both inputs 0 to 1), give or take a smooth function."""

    top: tuple[float, float] = (0.8, 0.3)
    why: str = ""
    level: float = 0.0
    spread: float = SPREAD
    noise: float = NOISE

    def covers(self, spec: core.CampaignSpec, observable: str) -> str:
        return self.why

    def prior(self, spec: core.CampaignSpec, observable: str) -> "Fake":
        return self

    def mean(self, columns: Mapping[str, Any]) -> Array:
        return hill(_unit(columns), self.top)

    def covariance(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> Array:
        u, v = _unit(a), _unit(b)
        return np.asarray(0.3**2 * matern(9.0 * ((u[:, None] - v[None]) ** 2).sum(-1)) + 0.2**2)

    def variance(self, columns: Mapping[str, Any]) -> Array:
        return np.full(len(columns["a"]), 0.3**2 + 0.2**2)


def hill(u: Array, top: tuple[float, float]) -> Array:
    return np.asarray(3.0 * np.exp(-8.0 * ((u - np.array(top)) ** 2).sum(1)) - 1.0)


POOL = np.random.default_rng(3).random((200, 2))


def spec(pool: bool = True) -> core.CampaignSpec:
    rows = tuple((float(10 * a), float(10 ** (2 * b))) for a, b in POOL)
    return core.CampaignSpec(
        id="c", parameters=PARAMETERS, goal=GOAL, procedure=core.ProcedureSpec(steps=()),
        pool=core.Pool(columns=("a", "b"), rows=rows) if pool else None,
    )  # fmt: skip


SPEC = spec()


def rows_of(points: Sequence[core.Point], values: Sequence[float]) -> tuple[core.Row, ...]:
    return tuple(
        core.Row(trial=str(i), point=p, observations=(core.Observation(observable="y", value=float(v)),))
        for i, (p, v) in enumerate(zip(points, values, strict=True))
    )


def actual(seed: int) -> tuple[Array, tuple[float, float]]:
    """A campaign of the family: the hill a little elsewhere, and some other slope."""
    rng = np.random.default_rng(seed)
    top = (0.8 + 0.06 * rng.standard_normal(), 0.3 + 0.06 * rng.standard_normal())
    return hill(POOL, top) + 0.3 * (POOL @ rng.standard_normal(2) - 0.3), top


def needed(strategy: core.Strategy, models: Mapping[str, core.LoadedModel], seed: int) -> int:
    """Trials until one of the three best of the pool."""
    value, _ = actual(seed)
    places = {row: i for i, row in enumerate(SPEC.pool.rows)} if SPEC.pool else {}
    points, values, bar = list[core.Point](), list[float](), np.sort(value)[-3]
    while len(points) < 40:
        results = core.Results(rows=rows_of(points, values), models=models)
        (p,) = strategy.propose(SPEC, results, 1, 100 * seed + len(points))
        points.append(p.point)
        values.append(float(value[places[p.point["a"], p.point["b"]]]))
        if values[-1] >= bar:
            break
    return len(points)


def named(model: object) -> dict[str, core.LoadedModel]:
    return {"m": core.LoadedModel(version="hill:3", of=model)}


RIGHT, WRONG = named(Fake()), named(Fake(top=(0.2, 0.9)))
SEEDS = range(5)


def test_a_right_model_saves_most_and_a_wrong_one_costs_next_to_nothing() -> None:
    cold = np.mean([needed(Bayes(), {}, s) for s in SEEDS])
    assert np.mean([needed(Pretrained(model="m"), RIGHT, s) for s in SEEDS]) < cold / 2
    assert np.mean([needed(Pretrained(model="m"), WRONG, s) for s in SEEDS]) <= 1.1 * cold + 0.5


def test_a_wrong_model_is_dismissed_after_its_first_trial_and_then_it_is_bayes() -> None:
    value, _ = actual(0)
    strategy = Pretrained(model="m")
    (first,) = strategy.propose(SPEC, core.Results(models=WRONG), 1, 0)
    assert hill(_unit({k: [v] for k, v in first.point.items()}), (0.2, 0.9))[0] > 1.5
    assert first.decision is not None and first.decision.model == "hill:3"
    place = space_of(SPEC)
    i = int(np.argmin(((place.encoding.features_as_run([first.point]) - POOL) ** 2).sum(1)))
    rows = rows_of([first.point], [value[i]])
    (second,) = strategy.propose(SPEC, core.Results(rows=rows, models=WRONG), 1, 1)
    (same,) = Bayes().propose(SPEC, core.Results(rows=rows), 1, 1)
    assert second.point == same.point
    assert (
        second.reason
        == f"{same.reason}; the model m is not heard, for it was wrong about its first trial of this campaign"
    )
    # In a box it goes back to as many space-filling points as there would have been.
    (filling,) = strategy.propose(spec(pool=False), core.Results(rows=rows, models=WRONG), 1, 1)
    assert filling.reason.startswith("space-filling 2 of 6")


def test_the_first_point_is_where_the_model_expects_most() -> None:
    (p,) = Pretrained(model="m").propose(spec(pool=False), core.Results(models=RIGHT), 1, 0)
    assert np.allclose(_unit({k: [v] for k, v in p.point.items()}), [[0.8, 0.3]], atol=0.05)
    assert p.reason.endswith("by the model m, right with chance 0.90")
    assert p.decision is not None and p.decision.learned["y"]["chance of the model"] == pytest.approx(0.9)
    several = Pretrained(model="m").propose(SPEC, core.Results(models=RIGHT), 4, 0)
    assert len({repr(q.point) for q in several}) == 4


@pytest.mark.parametrize(
    ("models", "why"),
    [({}, "the model m is not here"), (named(object()), "says nothing of campaigns"),
     (named(Fake(why="t is in K")), "the model m does not cover this campaign: t is in K")],
)  # fmt: skip
def test_without_a_model_it_is_bayes_and_says_so(models: Mapping[str, core.LoadedModel], why: str) -> None:
    value, _ = actual(1)
    for n in (0, 5):
        rows = rows_of([{"a": 10 * a, "b": 10 ** (2 * b)} for a, b in POOL[:n]], value[:n].tolist())
        ours = Pretrained(model="m").propose(SPEC, core.Results(rows=rows, models=models), 2, 4)
        bayes = Bayes().propose(SPEC, core.Results(rows=rows), 2, 4)
        assert [p.point for p in ours] == [p.point for p in bayes]
        assert [p.decision for p in ours] == [p.decision for p in bayes]
        assert all(why in p.reason for p in ours)


def test_the_same_arguments_give_the_same_points() -> None:
    value, _ = actual(2)
    rows = rows_of([{"a": 10 * a, "b": 10 ** (2 * b)} for a, b in POOL[:6]], value[:6].tolist())
    results = core.Results(rows=rows, models=RIGHT)
    assert Pretrained(model="m").propose(SPEC, results, 3, 7) == Pretrained(model="m").propose(SPEC, results, 3, 7)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="name of a registered model"):
        Pretrained()
    with pytest.raises(ValueError, match="no option 'modle'"):
        Pretrained(model="m", modle="m")
    assert Pretrained(model="m").models() == ("m",)
    assert isinstance(Fake(), Experienced)


def test_the_posterior_of_a_prior_is_that_of_a_gaussian_process() -> None:
    encoding = Encoding(PARAMETERS)
    rng = np.random.default_rng(0)
    x, y = rng.random((6, 2)), rng.standard_normal(6)

    class Plain(Fake):
        def mean(self, columns: Mapping[str, Any]) -> Array:
            return np.zeros(len(columns["a"]))

        def covariance(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> Array:
            return np.asarray(matern(((_unit(a)[:, None] - _unit(b)[None]) ** 2).sum(-1)))

        def variance(self, columns: Mapping[str, Any]) -> Array:
            return np.ones(len(columns["a"]))

    ours = PriorGP(Placed(Plain(), encoding), x, y, np.zeros(6))
    theirs = GP(
        x, y, np.zeros(6), encoding.owner, Hyper(np.ones(2), NOISE**2, 1.0), 0.0, 1.0, lambda f: np.zeros(len(f))
    )
    theirs._mean, theirs._alpha = 0.0, theirs._whiten.T @ (theirs._whiten @ y)
    new = rng.random((5, 2))
    for a, b in zip(ours.predict(new), theirs.predict(new), strict=True):
        assert np.allclose(a, b, atol=1e-6)
    mean, covariance = ours.joint(new)
    assert np.allclose(mean, ours.predict(new).mean)
    assert np.allclose(np.sqrt(np.diag(covariance)), ours.predict(new).deviation)
    assert np.allclose(ours.between(new, new), np.diag(covariance))
    believed = ours.believing(new[:2])
    assert np.allclose(believed.predict(new).mean, ours.predict(new).mean, atol=1e-6)
    assert (believed.predict(new).deviation <= ours.predict(new).deviation + 1e-9).all()


def test_evidence_compares_like_with_like() -> None:
    """Of readings that a model's own Gaussian process draws, it is likelier; of others, knowing nothing is."""
    encoding, rng = Encoding(PARAMETERS), np.random.default_rng(1)
    placed, gains, losses = Placed(Fake(), encoding), list[float](), list[float]()
    for _ in range(20):
        x = rng.random((5, 2))
        root = np.linalg.cholesky(placed.covariance(x, x) + NOISE**2 * np.eye(5))
        for mean, kept in ((placed.mean(x), gains), (-placed.mean(x), losses)):
            y = mean + root @ rng.standard_normal(5)
            cold = cold_evidence(x, y, np.zeros(5), encoding.owner, 0.0, SPREAD)
            kept.append((PriorGP(placed, x, y, np.zeros(5)).evidence - cold)[-1])
    assert np.mean(np.array(gains) > 0) > 0.8
    assert np.mean(np.array(losses) < 0) > 0.8


@dataclass
class Context:
    """The posterior of a fake, as a model that learns in context has it: point by point."""

    of: Fake
    level: float = 0.0
    spread: float = SPREAD
    noise: float = NOISE

    def given(self, columns: Mapping[str, Any], values: Array, variances: Array) -> "Told":
        return Told(self.of, columns, values, variances)


class Told:
    def __init__(self, of: Fake, columns: Mapping[str, Any], values: Array, variances: Array) -> None:
        self._of, self._columns = of, columns
        covariance = of.covariance(columns, columns) + np.diag(variances + NOISE**2)
        self._factor = np.linalg.cholesky(covariance)
        self._white = np.linalg.solve(self._factor, values - of.mean(columns))

    @property
    def evidence(self) -> Array:
        return -np.cumsum(0.5 * self._white**2 + np.log(np.diag(self._factor)) + 0.5 * np.log(2 * np.pi))

    def at(self, columns: Mapping[str, Any]) -> tuple[Array, Array]:
        cross = np.linalg.solve(self._factor, self._of.covariance(self._columns, columns))
        variance = self._of.variance(columns) - (cross**2).sum(0)
        return self._of.mean(columns) + cross.T @ self._white, np.sqrt(np.maximum(variance, 1e-12))


@dataclass
class InContextFake(Fake):
    def prior(self, spec: core.CampaignSpec, observable: str) -> Any:
        return Context(Fake(top=self.top))


def test_a_model_that_learns_in_context_is_heard_and_dismissed_as_a_gaussian_process_is() -> None:
    value, _ = actual(0)
    places = {row: i for i, row in enumerate(SPEC.pool.rows)} if SPEC.pool else {}
    for top, heard in (((0.8, 0.3), True), ((0.2, 0.9), False)):
        points, values = list[core.Point](), list[float]()
        for _ in range(4):
            rows = rows_of(points, values)
            ours, theirs = (
                Pretrained(model="m").propose(SPEC, core.Results(rows=rows, models=named(m)), 1, 0)[0]
                for m in (InContextFake(top=top), Fake(top=top))
            )
            assert ours.point == theirs.point
            assert ("right with chance" in ours.reason) == (heard or not rows)
            points.append(ours.point)
            values.append(float(value[places[ours.point["a"], ours.point["b"]]]))


def test_of_a_model_that_learns_in_context_points_go_together_as_usual() -> None:
    x, y = np.random.default_rng(0).random((4, 2)), np.zeros(4)
    answering = expected(Context(Fake()), Encoding(PARAMETERS)).given(x, y, y)
    mean, covariance = answering.joint(x)
    assert np.allclose(mean, answering.predict(x).mean)
    assert np.allclose(np.sqrt(np.diag(covariance)), answering.predict(x).deviation)
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert np.allclose(answering.between(x, x), np.diag(covariance))
    believed = answering.believing(x[:1])
    assert believed.predict(x[:1]).deviation < answering.predict(x[:1]).deviation
    assert len(answering.evidence) == 4


def test_the_evidence_of_the_first_readings_is_that_of_each_beginning() -> None:
    encoding, rng = Encoding(PARAMETERS), np.random.default_rng(1)
    x, y, extra = rng.random((5, 2)), rng.standard_normal(5), rng.random(5)
    placed = Placed(Fake(), encoding)
    cold = cold_evidence(x, y, extra, encoding.owner, 0.3, 2.0)
    for n in (1, 3):
        assert cold_evidence(x[:n], y[:n], extra[:n], encoding.owner, 0.3, 2.0)[-1] == pytest.approx(cold[n - 1])
        assert placed.given(x[:n], y[:n], extra[:n]).evidence[-1] == pytest.approx(
            placed.given(x, y, extra).evidence[n - 1]
        )


class Anything(Fake):
    """Expects nothing in particular, of any space."""

    def mean(self, columns: Mapping[str, Any]) -> Array:
        return np.zeros(len(next(iter(columns.values()))))

    def covariance(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> Array:
        same = [np.asarray(a[n])[:, None] == np.asarray(b[n])[None] for n in a]
        return np.asarray(np.mean(same, axis=0) + 0.0)

    def variance(self, columns: Mapping[str, Any]) -> Array:
        return np.ones(len(next(iter(columns.values()))))


@pytest.mark.parametrize("problem", SPECS[::3], ids=lambda s: s.id)
def test_any_space(problem: core.CampaignSpec) -> None:
    points = space_of(problem).encoding.points(space_of(problem).sample(5, np.random.default_rng(0)))
    for rows in ((), tried(problem, points).rows):
        results = core.Results(rows=rows, models=named(Anything()))
        for p in Pretrained(model="m").propose(problem, results, 2, 1):
            check_point(problem, p.point)


def test_several_objectives_and_bounds() -> None:
    goal = core.Goal(
        objectives=(*GOAL.objectives, core.Objective(observable="z", direction="minimize")),
        outcome_constraints=(core.OutcomeConstraint(observable="w", relation="<=", bound=5.0),),
    )
    problem = replace(SPEC, goal=goal)
    points: list[core.Point] = [{"a": float(10 * a), "b": float(10 ** (2 * b))} for a, b in POOL[:4]]
    rows = tuple(
        core.Row(trial=str(i), point=p, observations=tuple(
            core.Observation(observable=o, value=float(i) / 4) for o in ("y", "z", "w")))
        for i, p in enumerate(points)
    )  # fmt: skip
    for n in (0, 4):
        made = Pretrained(model="m").propose(problem, core.Results(rows=rows[:n], models=RIGHT), 2, 0)
        assert len(made) == 2
