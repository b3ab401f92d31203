"""What can honestly be said of a campaign: its curve, random search beside it, and how the two compare."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from firstlight import core

from ._hypervolume import Floats
from ._metrics import (
    Factor,
    Losses,
    acceleration,
    band,
    best_curve,
    by_cost,
    enhancement,
    hypervolume_curve,
    pool_acceleration,
    pool_quantile,
    reference_box,
    trial_losses,
)
from ._subject import Subject

FINEST = 20_000
"""Curves over cost have at most so many points."""
ENOUGH = 8
"""Fewer unlearned trials than this say nothing of random search."""
RESAMPLED = 200
ADVICE = "run random campaigns beside it: firstlight run ... --baseline 5"
Kind = Literal["campaigns", "pool", "estimate", "none"]


class Random(core.Value, frozen=True):
    """Random search on the same problem, as far as it is known; where there are sources, by the target alone.

    `median`, `low` and `high` are its performance after each trial; `factor` is the acceleration to the
    campaign's final performance, `along` at given numbers of trials. All of it counts steps of `Analysis.curve`.
    """

    kind: Kind
    words: str
    median: Floats
    low: Floats
    high: Floats
    factor: Factor | None = None
    along: tuple[tuple[int, Factor], ...] = ()
    enhancement: float | None = None
    advantage: float | None = None
    at: int = 0
    """The number of steps at which enhancement and advantage are taken."""


class Analysis(core.Value, frozen=True):
    """A campaign's own trials in figures. `steps` is performance after each trial, larger is better.

    `curve` is the same; but where trials come from sources of different cost, it is performance after every `per` of
    cost, and trials are not compared in number. `paid` is what had been spent after each trial.
    """

    rows: Sequence[core.Row]
    losses: Losses
    steps: Floats
    curve: Floats
    paid: Floats
    random: Random
    box: tuple[Floats, Floats, bool] | None = None
    """With several objectives: ideal and reference losses, and whether thresholds give the reference."""
    nothing: str = ""
    """Why no acceleration factor can be stated; empty where one is."""
    per: float = 0.0
    """What a step of `curve` is worth in the budget's cost unit; 0 where it is a trial."""
    cost_unit: str = ""

    @property
    def places(self) -> Floats:
        """Where each trial stands along the axis: its number, or what had been spent after it."""
        return self.paid if self.per else np.arange(1.0, len(self.rows) + 1)


def analyse(subject: Subject, baselines: Sequence[core.Results]) -> Analysis:
    """Compare a campaign with random search: exactly on a known pool, else campaigns, else its own first trials."""
    spec, goal = subject.spec, subject.spec.goal
    rows = subject.own
    losses = trial_losses(spec, rows)
    # Random points do not depend on each other: without those by other sources they are random search by the target.
    chosen = [[r for r in results.rows if core.counts(spec, r.ran)] for results in baselines]
    others = [trial_losses(spec, theirs) for theirs in chosen]
    box = reference_box(goal, [losses, *others]) if len(goal.objectives) > 1 else None
    per = _per(spec, [rows, *chosen])

    def steps(of: Losses) -> Floats:
        return best_curve(of) if box is None else hypervolume_curve(of, box[0], box[1])

    def curve(of: Losses, costs: Floats) -> Floats:
        return by_cost(steps(of), costs, per) if per else steps(of)

    mine = curve(losses, _costs(rows))
    pool = _pool_losses(subject, baselines)
    if pool is not None:
        random = _on_pool(goal, mine, pool)
    elif any(len(o) for o in others):
        theirs = [(curve(o, _costs(r)), len(o)) for o, r in zip(others, chosen, strict=True) if len(o)]
        total = f"{sum(n for _, n in theirs):,} trials"
        by = "" if spec.fidelity is None else f" by {spec.fidelity.target}, the others left out"
        words = f"{len(theirs)} random campaign{'s' * (len(theirs) > 1)} ({total}{by}) on the same problem"
        random = _beside(goal, mine, [c for c, _ in theirs], "campaigns", words)
    else:
        random = _from_its_own(subject, mine, curve)
    return Analysis(
        rows=rows, losses=losses, steps=steps(losses), curve=mine, paid=np.cumsum(_costs(rows)), random=random, box=box,
        nothing=_nothing(losses, random), per=per, cost_unit=goal.budget.cost_unit,
    )  # fmt: skip


def _costs(rows: Sequence[core.Row]) -> Floats:
    return np.array([row.cost for row in rows], dtype=float)


def _per(spec: core.CampaignSpec, campaigns: Sequence[Sequence[core.Row]]) -> float:
    """A step of cost: what the cheapest source costs, or as much more as keeps curves short; 0 to count trials."""
    if spec.fidelity is None:
        return 0.0
    most = max(float(_costs(rows).sum()) for rows in campaigns)
    return max(min(s.cost for s in spec.fidelity.sources), most / FINEST)


def _nothing(losses: Losses, random: Random) -> str:
    if not losses:
        return "no trial has ended yet"
    if not any(loss is not None for loss in losses):
        return "no trial was good"
    if random.kind == "none":
        return f"there is nothing to compare with; {ADVICE}"
    if random.factor is None:
        return "there is nothing to compare with"
    if _idle(random.factor):
        if random.kind == "campaigns":
            return "the random campaigns beside it never did as well and are too short to tell; give them more trials"
        return f"its own unlearned trials are too few to say how long random search would take; {ADVICE}"
    return ""


def _idle(factor: Factor) -> bool:
    """Whether it says nothing: "at least half as fast" only tells that the reference was cut short."""
    return factor.median.at_least and factor.median.value <= 1


def milestones(trials: int) -> list[int]:
    """The numbers of trials at which acceleration is tabulated: 5, 10, 20, 50, 100 ... and all."""
    round_ones = [m * 10**e for e in range(6) for m in (1, 2, 5)]
    return [*(n for n in round_ones if 5 <= n < trials), trials] if trials else []


def _beside(goal: core.Goal, mine: Floats, theirs: Sequence[Floats], kind: Kind, words: str) -> Random:
    median, low, high = (band(theirs, q) for q in (0.5, 0.25, 0.75))
    at = min(len(mine), len(median))
    along = ((n, acceleration([mine], theirs, n)) for n in milestones(len(mine)))
    return Random(
        kind=kind, words=words, median=median, low=low, high=high,
        factor=acceleration([mine], theirs), along=tuple((n, f) for n, f in along if f and not _idle(f)),
        enhancement=enhancement(goal, mine[at - 1], median[at - 1]) if at else None,
        advantage=_difference(mine, median, at), at=at,
    )  # fmt: skip


def _on_pool(goal: core.Goal, mine: Floats, losses: Floats) -> Random:
    draws = min(len(losses), max(len(mine), _far(mine, losses)))
    median, low, high = (-pool_quantile(losses, draws, q) for q in (0.5, 0.75, 0.25))
    at = min(len(mine), len(median))
    along = ((n, pool_acceleration(losses, mine, n)) for n in milestones(len(mine)))
    return Random(
        kind="pool", words=f"exact for random search on all {len(losses):,} points of the pool",
        median=median, low=low, high=high, factor=pool_acceleration(losses, mine),
        along=tuple((n, f) for n, f in along if f and not _idle(f)),
        enhancement=enhancement(goal, mine[at - 1], median[at - 1]) if at else None,
        advantage=_difference(mine, median, at), at=at,
    )  # fmt: skip


def _far(mine: Floats, losses: Floats) -> int:
    factor = pool_acceleration(losses, mine)
    return min(2000, int(factor.reference.value * 1.2)) if factor else 0


def _from_its_own(subject: Subject, mine: Floats, curve: Callable[[Losses, Floats], Floats]) -> Random:
    rows = [row for row in subject.unlearned if core.counts(subject.spec, row.ran)]
    nothing = np.empty(0)
    if len(rows) < ENOUGH:
        return Random(kind="none", words="nothing", median=nothing, low=nothing, high=nothing)
    losses, costs = trial_losses(subject.spec, rows), _costs(rows)
    rng = np.random.default_rng(subject.spec.seed)
    draws = rng.integers(len(losses), size=(RESAMPLED, len(losses)))
    theirs = [curve([losses[i] for i in row], costs[row]) for row in draws]
    words = (
        f"an estimate from {RESAMPLED} random campaigns resampled from its own {len(rows)} trials "
        "that were chosen without learning"
    )
    return _beside(subject.spec.goal, mine, theirs, "estimate", words)


def _difference(mine: Floats, theirs: Floats, at: int) -> float | None:
    if not at or not (math.isfinite(mine[at - 1]) and math.isfinite(theirs[at - 1])):
        return None
    return float(mine[at - 1] - theirs[at - 1])


def _pool_losses(subject: Subject, baselines: Sequence[core.Results]) -> Floats | None:
    """The loss of every point of the pool: as given, or where all of them have been tried; None otherwise."""
    spec = subject.spec
    if spec.pool is None or len(spec.goal.objectives) > 1 or spec.fidelity is not None:
        return None
    if subject.pool_values:
        objective = spec.goal.objectives[0]
        return np.array([math.nan if math.isnan(v) else core.loss(objective, v) for v in subject.pool_values])
    found: dict[tuple[core.Scalar, ...], float] = {}
    for results in (subject.results, *baselines):
        for row, loss in zip(results.rows, trial_losses(spec, results.rows), strict=True):
            found.setdefault(tuple(row.point[c] for c in spec.pool.columns), math.nan if loss is None else loss[0])
    if not all(row in found for row in spec.pool.rows):
        return None
    return np.array([found[row] for row in spec.pool.rows])
