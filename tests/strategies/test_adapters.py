"""Other people's optimisers behind our port keep its contract. Those that are not installed here are skipped."""

import importlib.util
import os
from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest

from firstlight import core
from firstlight.strategies._common import Taken, generator, space_of
from firstlight.strategies.adapters._peers import nearest, vendor
from firstlight.strategies.adapters.ax import Ax
from firstlight.strategies.adapters.baybe import BayBE
from firstlight.strategies.adapters.botorch import BoTorch
from firstlight.strategies.adapters.optuna import Optuna
from firstlight.testing.strategy import SPECS, StrategyContract, check_point, pend, tried

BY_NAME = {s.id: s for s in SPECS}
MADE = [s for s in SPECS if space_of(s).rows is None]
Direction = Literal["maximize", "minimize", "match"]


def hill(point: core.Point) -> float:
    """Highest, at 0, in one corner of the middle."""
    return -((float(point["a"]) - 0.3) ** 2) - (float(point["b"]) - 0.6) ** 2 - (point["kind"] == "bad")


def pool(direction: Direction) -> core.CampaignSpec:
    """242 rows of two numbers and a name."""
    parameters: tuple[core.Parameter, ...] = (*(core.Continuous(name=n, low=0.0, high=1.0) for n in "ab"),
                  core.Categorical(name="kind", values=("bad", "good")))  # fmt: skip
    rows = tuple((i / 10, j / 10, kind) for i in range(11) for j in range(11) for kind in ("bad", "good"))
    objective = core.Objective(observable="y", direction=direction, target=0.0 if direction == "match" else None)
    return core.CampaignSpec(
        id="hill",
        parameters=parameters,
        pool=core.Pool(columns=("a", "b", "kind"), rows=rows),
        goal=core.Goal(objectives=(objective,)),
        procedure=core.ProcedureSpec(steps=()),
    )


# Three suggestions of each of them for every kind of space take minutes: FIRSTLIGHT_HEAVY=1 asks for all.
HEAVY = bool(os.environ.get("FIRSTLIGHT_HEAVY"))
SOME = [s for s in SPECS if HEAVY or s.id in ("mixed", "mixture", "pool", "several goals")]


class PeerContract(StrategyContract):
    """The contract, and that what it is told moves it the right way."""

    conditions = StrategyContract.conditions if HEAVY else ((0.1, 3),)
    several = StrategyContract.several if HEAVY else 1

    @pytest.mark.parametrize("spec", SOME, ids=lambda s: s.id)
    def test_the_same_arguments_give_the_same_points(self, spec: core.CampaignSpec) -> None:
        super().test_the_same_arguments_give_the_same_points(spec)

    @pytest.mark.parametrize("direction", ["maximize", "minimize", "match"])
    def test_it_goes_where_it_is_better(self, direction: Direction) -> None:
        spec, strategy = pool(direction), self.make()
        rows: list[core.Row] = []
        sign = -1.0 if direction == "minimize" else 1.0
        for i in range(20):
            (chosen,) = strategy.propose(spec, core.Results(rows=tuple(rows)), 1, i)
            seen = core.Observation(observable="y", value=sign * hill(chosen.point))
            rows.append(core.Row(trial=f"t{i}", point=chosen.point, observations=(seen,)))
        assert spec.pool is not None
        good = np.quantile([hill(p) for p in spec.pool.points()], 0.75)
        assert np.mean([hill(r.point) for r in rows[-5:]]) > good


class Hasty(PeerContract):
    """Of those that are built on BoTorch: its own aid for tests ends fits and searches after two steps.

    What they find need not be good to be legal, new and the same again. Whether it is good is asked of them in earnest.
    Nor need points under sums be drawn evenly: ten thousand steps of a random walk go before each of them.
    """

    @pytest.fixture(autouse=True)
    def hasty(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        if HEAVY or request.function.__name__ == "test_it_goes_where_it_is_better":
            yield
            return
        sampling = vendor("botorch.utils.sampling", "botorch")
        walk = sampling.sample_polytope
        monkeypatch.setattr(sampling, "sample_polytope", lambda *args, n0, **more: walk(*args, n0=min(n0, 100), **more))
        with vendor("botorch.test_utils.mock", "botorch").mock_optimize_context_manager(force=True):
            yield


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed here")


@needs("optuna")
class TestOptuna(PeerContract):
    def make(self) -> core.Strategy:
        return Optuna(initial=4)


# The others learn from the twelve trials of the contract and choose the first twelve without a model, from few starts:
# an honest suggestion takes seconds where there are names and constraints.
@needs("baybe")
class TestBayBE(Hasty):
    def make(self) -> core.Strategy:
        return BayBE(initial=12, restarts=1, samples=4, configurations=2, subsets=1)


@needs("botorch")
class TestBoTorch(Hasty):
    def make(self) -> core.Strategy:
        return BoTorch(initial=12, restarts=1, samples=8, draws=8, steps=50)


@needs("ax")
class TestAx(Hasty):
    def make(self) -> core.Strategy:
        return Ax(initial=12, restarts=1, samples=8)


@pytest.mark.parametrize("spec", MADE, ids=lambda s: s.id)
def test_a_legal_suggestion_is_kept_and_any_other_becomes_legal(spec: core.CampaignSpec) -> None:
    space, rng = space_of(spec), generator(1)
    taken = Taken(space, core.Results())
    for wish in space.sample(20, rng):
        found = nearest(space, taken, wish[None], rng)
        assert found is not None
        np.testing.assert_allclose(space.encoding.features(found), space.encoding.features(wish[None]), atol=1e-6)
    low, high = space.encoding.low, space.encoding.high
    for _ in range(20):
        found = nearest(space, taken, (low + (high - low) * rng.uniform(-0.2, 1.2, len(low)))[None], rng)
        assert found is not None
        check_point(spec, space.encoding.points(found)[0])


def test_of_a_pool_the_nearest_free_row_is_taken() -> None:
    spec = pool("maximize")
    space, rng = space_of(spec), generator(0)
    wish = np.array([[0.52, 0.71, 1.0]])
    first = nearest(space, Taken(space, core.Results()), wish, rng)
    assert first is not None
    assert space.encoding.points(first) == [{"a": 0.5, "b": 0.7, "kind": "good"}]
    next_best = nearest(space, Taken(space, tried(spec, space.encoding.points(first))), wish, rng)
    assert next_best is not None
    assert space.encoding.points(next_best) == [{"a": 0.6, "b": 0.7, "kind": "good"}]


def test_an_absent_vendor_is_named_with_what_to_install() -> None:
    with pytest.raises(ValueError, match=r"no module no_such_optimiser: pip install 'firstlight\[baybe\]'"):
        vendor("no_such_optimiser", "baybe")


@needs("optuna")
def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ValueError, match="strategy optuna has no option 'sampler'; it has: initial"):
        Optuna(sampler="gp")


@needs("optuna")
def test_optuna_forgets_what_is_no_longer_under_way() -> None:
    for name in ("log", "categorical", "mixed"):
        spec, strategy = BY_NAME[name], Optuna(initial=4)
        points = space_of(spec).encoding.points(space_of(spec).sample(20, generator(0)))
        results = tried(spec, points[:16])
        for seed in range(3):
            strategy.propose(spec, pend(results, points[16:]), 3, seed)
        assert strategy.propose(spec, results, 3, 5) == Optuna(initial=4).propose(spec, results, 3, 5)


@needs("ax")
def test_ax_is_where_it_would_be_had_it_made_all_trials_itself() -> None:
    spec, strategy = BY_NAME["log"], Ax(initial=6, restarts=1, samples=8)
    points = space_of(spec).encoding.points(space_of(spec).sample(9, generator(0)))
    found = [strategy.propose(spec, tried(spec, points[:n]), 1, 0)[0].reason for n in (0, 1, 5, 6, 9)]
    assert found == ["Ax: CenterOfSearchSpace", "Ax: Sobol", "Ax: Sobol", "Ax: BoTorch", "Ax: BoTorch"]
    assert len(strategy.propose(spec, pend(core.Results(), points), 2, 0)) == 2
