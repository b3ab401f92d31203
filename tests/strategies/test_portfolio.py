"""The portfolio on rugged landscapes, under constraints and failures, and its contract."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np
import pytest

from firstlight import core
from firstlight.strategies.designs import Random
from firstlight.strategies.portfolio import Portfolio
from firstlight.testing.strategy import StrategyContract, check_point, pend

Function = Callable[[core.Point], dict[str, float] | None]
LEAST = core.Goal(objectives=(core.Objective(observable="f", direction="minimize"),))


class TestPortfolio(StrategyContract):
    def make(self) -> core.Strategy:
        return Portfolio()


class TestPortfolioOfFew(StrategyContract):
    """Populations so small that the contract's few trials are several generations."""

    def make(self) -> core.Strategy:
        return Portfolio(members=5)


def box(
    d: int, goal: core.Goal = LEAST, seed: int = 0, constraints: tuple[core.Constraint, ...] = ()
) -> core.CampaignSpec:
    parameters = tuple(core.Continuous(name=f"x{i}", low=-5.0, high=5.0) for i in range(d))
    procedure = core.ProcedureSpec(steps=())
    return core.CampaignSpec(
        id="c", parameters=parameters, goal=goal, procedure=procedure, seed=seed, constraints=constraints
    )


def numbers(point: core.Point) -> np.ndarray:
    return np.array([float(v) for v in point.values()])


def row(i: int, proposal: core.Proposal, seen: dict[str, float] | None) -> core.Row:
    return core.Row(
        trial=f"t{i}",
        point=proposal.point,
        failure=core.Failure(cause="did-not-converge") if seen is None else None,
        observations=tuple(core.Observation(observable=k, value=v) for k, v in (seen or {}).items()),
        reason=proposal.reason,
    )


def campaign(
    strategy: core.Strategy, spec: core.CampaignSpec, f: Function, trials: int, batch: int = 1
) -> core.Results:
    rows: list[core.Row] = []
    while len(rows) < trials:
        proposals = strategy.propose(spec, core.Results(rows=rows), batch, spec.seed * 1_000_003 + len(rows))
        if not proposals:
            break
        rows += [row(len(rows) + i, p, f(p.point)) for i, p in enumerate(proposals)]
    return core.Results(rows=rows)


def best(results: core.Results, goal: core.Goal = LEAST) -> float:
    (found,) = results.best(box(1, goal))
    return found.seen["f"].value


def rastrigin(point: core.Point) -> dict[str, float]:
    x = numbers(point) - 0.7
    return {"f": float((x * x - 10 * np.cos(2 * np.pi * x) + 10).sum())}


def bowl(point: core.Point) -> dict[str, float]:
    x = numbers(point)
    return {"f": float((np.arange(1, len(x) + 1) * (x - 1.5) ** 2).sum())}


def test_it_is_far_ahead_of_random_where_there_are_many_false_bottoms() -> None:
    ours = [best(campaign(Portfolio(), box(4, seed=s), rastrigin, 2500, batch=5)) for s in range(3)]
    random = [best(campaign(Random(), box(4, seed=s), rastrigin, 2500, batch=50)) for s in range(3)]
    assert max(ours) < 0.25 * min(random)


def test_it_polishes() -> None:
    for seed in range(3):
        assert best(campaign(Portfolio(), box(4, seed=seed), bowl, 2000, batch=4)) < 1e-6


def test_a_valley_that_bends_is_followed() -> None:
    def valley(point: core.Point) -> dict[str, float]:
        x = numbers(point)
        return {"f": float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())}

    assert best(campaign(Portfolio(), box(3), valley, 3000, batch=5)) < 0.01


def test_constraints_on_points_are_kept_and_the_best_lies_on_one() -> None:
    bound = core.Linear(terms={"x0": 1.0, "x1": 1.0, "x2": 1.0}, relation="<=", bound=1.0)
    spec = box(3, constraints=(bound,))
    results = campaign(Portfolio(), spec, bowl, 1200, batch=10)
    for r in results.rows:
        check_point(spec, r.point)
    # By Lagrange's multipliers: each is 1.5 less m / (2 k), and they sum to 1.
    m = 3.5 / (1 / 2 + 1 / 4 + 1 / 6)
    assert best(results) == pytest.approx(sum(m**2 / (4 * k) for k in (1, 2, 3)), rel=1e-3)


def test_a_mixture_is_blended() -> None:
    wanted = (0.55, 0.0, 0.35, 0.0, 0.1)
    names = tuple("pqrst")
    spec = core.CampaignSpec(
        id="c",
        parameters=tuple(core.Continuous(name=n, low=0.0, high=1.0) for n in names),
        goal=LEAST,
        procedure=core.ProcedureSpec(steps=()),
        constraints=(core.Mixture(parameters=names, max_parts=3),),
    )
    off = campaign(Portfolio(), spec, lambda p: {"f": float(((numbers(p) - wanted) ** 2).sum())}, 1500, batch=10)
    assert best(off) < 1e-5


def test_numbers_names_and_steps_together() -> None:
    spec = core.CampaignSpec(
        id="c",
        parameters=(
            core.Continuous(name="c", low=1e-4, high=1.0, scale="log"),
            core.Integer(name="n", low=1, high=1000),
            core.Categorical(name="kind", values=("a", "b", "c", "d")),
            core.Ordered(name="t", values=(20, 40, 60, 80)),
        ),
        goal=LEAST,
        procedure=core.ProcedureSpec(steps=()),
    )

    def f(p: core.Point) -> dict[str, float]:
        off = {"a": 0.0, "b": 1.0, "c": 2.0, "d": 0.5}[str(p["kind"])]
        n, t = float(p["n"]), float(p["t"])
        return {"f": off + (math.log10(float(p["c"])) + 2.3) ** 2 + ((n - 700) / 100) ** 2 + ((t - 60) / 30) ** 2}

    assert best(campaign(Portfolio(), spec, f, 800, batch=4)) < 0.01


def test_failures_and_broken_bounds_are_left_behind() -> None:
    goal = core.Goal(
        objectives=LEAST.objectives,
        outcome_constraints=(core.OutcomeConstraint(observable="g", relation="<=", bound=0.0),),
    )

    def f(point: core.Point) -> dict[str, float] | None:
        x = numbers(point)
        return None if x[0] < -3.0 else bowl(point) | {"g": float(x.sum() + 9.0)}

    results = campaign(Portfolio(), box(3, goal), f, 1200, batch=10)
    late = results.rows[-300:]
    assert sum(r.failure is not None for r in late) < 60
    # Of what the sum must fall short by, x0 can take no more than down to -3; the others share the rest.
    m = 13.5 / (1 / 2 + 1 / 4 + 1 / 6)
    unbound = [1.5 - m / (2 * k) for k in (1, 2, 3)]
    assert unbound[0] < -3.0
    n = (13.5 - 4.5) / (1 / 4 + 1 / 6)
    assert best(results, goal) == pytest.approx(4.5**2 + n**2 / 8 + n**2 / 12, rel=0.01)


def test_several_objectives_spread_along_the_front() -> None:
    goal = core.Goal(
        objectives=(
            core.Objective(observable="f", direction="minimize", threshold=10.0),
            core.Objective(observable="g", direction="maximize", threshold=-10.0),
        ),
        # Few trials make short cycles, and every cycle weighs the objectives anew.
        budget=core.Budget(trials=300),
    )

    def f(point: core.Point) -> dict[str, float]:
        x = numbers(point)
        return {"f": float(((x - 1) ** 2).sum()), "g": -float(((x + 1) ** 2).sum())}

    problem = box(2, goal)
    front = campaign(Portfolio(members=8), problem, f, 1500, batch=8).best(problem)
    seen = sorted((r.seen["f"].value, -r.seen["g"].value) for r in front)
    # On the line between both optima, sqrt(f) and sqrt(-g) sum to its length.
    assert all(math.sqrt(a) + math.sqrt(b) < math.sqrt(8) + 0.3 for a, b in seen)
    assert seen[0][0] < 0.5 and seen[-1][0] > 5.0


def test_a_new_instance_and_one_that_has_followed_propose_the_same() -> None:
    spec, follower, rows = box(3), Portfolio(), list[core.Row]()
    while len(rows) < 400:
        proposals = follower.propose(spec, core.Results(rows=rows), 3, len(rows))
        if len(rows) % 60 == 0:
            assert list(Portfolio().propose(spec, core.Results(rows=tuple(rows)), 3, len(rows))) == list(proposals)
        rows += [row(len(rows) + i, p, rastrigin(p.point)) for i, p in enumerate(proposals)]


def test_another_ledger_with_the_same_first_trial_is_not_taken_for_the_one_it_knows() -> None:
    spec, strategy = box(3), Portfolio(members=5)
    results = campaign(strategy, spec, rastrigin, 40, batch=5)
    other = core.Results(rows=[results.rows[0], *campaign(Random(), spec, rastrigin, 60).rows])
    for some in (other, results, core.Results(rows=results.rows[:20]), other):
        assert strategy.propose(spec, some, 4, 0) == Portfolio(members=5).propose(spec, some, 4, 0)


def test_many_at_once_lose_little() -> None:
    spec, strategy = box(4), Portfolio()
    rows: list[core.Row] = []
    pending: list[core.Proposal] = []
    while len(rows) < 2000:
        under_way = [p.point for p in pending]
        new = strategy.propose(spec, pend(core.Results(rows=rows), under_way), 16 - len(pending), len(rows))
        assert not [p for p in new if p.point in under_way]
        pending += new
        # They end in another order than they began.
        done = pending.pop((7 * len(rows)) % len(pending))
        rows.append(row(len(rows), done, bowl(done.point)))
    assert best(core.Results(rows=rows)) < 1e-5


class Watched(Sequence[core.Row]):
    """Rows that count how many of them are looked at."""

    def __init__(self, rows: list[core.Row]) -> None:
        self.rows, self.looks = rows, 0

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> core.Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[core.Row]: ...
    def __getitem__(self, index: int | slice) -> core.Row | list[core.Row]:
        self.looks += len(range(*index.indices(len(self.rows)))) if isinstance(index, slice) else 1
        return self.rows[index]

    def __iter__(self) -> Iterator[core.Row]:
        self.looks += len(self.rows)
        return iter(self.rows)


def test_a_proposal_costs_no_more_with_thousands_of_trials_behind_it() -> None:
    spec, strategy = box(3), Portfolio(members=10)
    rows = list(campaign(strategy, spec, bowl, 3000, batch=10).rows)
    for _ in range(40):
        watched = Watched(rows)
        (proposal,) = strategy.propose(spec, core.Results(rows=watched), 1, len(rows))
        assert watched.looks <= 30
        rows.append(row(len(rows), proposal, bowl(proposal.point)))


def test_reasons_name_the_episode() -> None:
    spec = box(2)
    reasons = {r.reason.partition(":")[0] for r in campaign(Portfolio(members=5), spec, bowl, 1500, batch=5).rows}
    told = " ".join(reasons)
    assert "episode 1, exploring" in told
    assert "hop" in told and "polishing" in told


def test_its_options_are_checked() -> None:
    with pytest.raises(ValueError, match="members"):
        Portfolio(members=2)
    with pytest.raises(ValueError, match="no option 'population'"):
        Portfolio(population=3)
