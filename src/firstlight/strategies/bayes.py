"""Bayesian optimisation with Gaussian processes: the default strategy."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController

from firstlight import core

from ._common import Memo, Taken, generator, space_of, spread, unknown_options, whole_option
from ._encoding import Array
from ._gp import Hyper
from ._space import Space
from ._surrogate import Surrogate, Weighing, learn

SAMPLED = 384
"""Candidates drawn over the whole space for one choice, besides those near the best points."""
SCORED = 6_000
"""At most this many listed points are scored for one choice."""
CLIMBS = ((0.1, 128), (0.03, 96), (0.01, 64))
"""Width and number of the candidates in each round around the most promising points."""


@cache
def _libraries() -> ThreadpoolController:
    """The numeric libraries this process has loaded: looking for them takes longer than a suggestion."""
    return ThreadpoolController()


class Bayes:
    """Fills the space first, then goes where the expected improvement is greatest.

    One Gaussian process an objective and an outcome constraint, with inferred and known noise. It learns
    from the points as run; points pending count as if they had turned out as expected (so that a batch
    spreads). Failed trials count as bad as the worst, and lower the chance of success around them.
    Of several objectives it expects the improvement of the hypervolume up to their thresholds (Yang et al.
    2019), or, where one is to be matched, of a trade-off drawn anew for every point (ParEGO, Knowles 2006).
    `initial` is the number of space-filling points: 5 on a pool, else twice the number of parameters and two,
    at most 20.
    """

    def __init__(self, *, initial: int | None = None, **options: object) -> None:
        unknown_options("bayes", options, ("initial",))
        self.initial = None if initial is None else whole_option("bayes", "initial", initial, 1)
        self._fits: Memo[Hyper] = Memo(64)

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        # The matrices are small: more BLAS threads only fight with the trials, and make this several times slower.
        with _libraries().limit(limits=1, user_api="blas"):
            return self._propose(spec, results, count, seed)

    def _propose(
        self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int
    ) -> Sequence[core.Proposal]:
        space, rng = space_of(spec), generator(seed)
        taken = Taken(space, results)
        done = len(results.rows) + len(results.pending)
        initial = self.initial or _initial(space)
        proposals = self._fill(space, taken, min(count, max(0, initial - done)), rng, done, initial)
        if len(proposals) == count:
            return proposals
        surrogate = learn(spec, space.encoding, results, self._fits)
        if surrogate is None:
            return proposals + self._fill(space, taken, count - len(proposals), rng, done, 0)
        pending = [row.point for row in results.pending.values()] + [p.point for p in proposals]
        surrogate = surrogate.believing(space.encoding.features_as_run(pending))
        centres = _centres(space, surrogate, results)
        while len(proposals) < count:
            weighing = surrogate.weighed(rng)
            row = _choose(space, weighing, taken, centres, rng)
            if row is None:
                break
            taken.take(row)
            features = space.encoding.features(row)
            point = space.encoding.points(row)[0]
            why = weighing.reason(features)
            proposals.append(core.Proposal(point=point, predicted=surrogate.predicted(features), reason=why))
            surrogate = surrogate.believing(features)
        return proposals

    def _fill(
        self, space: Space, taken: Taken, count: int, rng: np.random.Generator, done: int, initial: int
    ) -> list[core.Proposal]:
        if count <= 0:
            return []
        points = space.encoding.points(spread(space, taken, count, rng))
        of = f" of {initial}" if initial else " until a trial succeeds"
        return [core.Proposal(point=p, reason=f"space-filling {done + i}{of}") for i, p in enumerate(points, 1)]


def _initial(space: Space) -> int:
    if space.spec.pool is not None:
        return 5
    width = int((space.encoding.high > space.encoding.low).sum())
    return min(2 * (width + 1), 20)


def _centres(space: Space, surrogate: Surrogate, results: core.Results) -> Array:
    """The most promising legal points tried or pending, as raw rows: the search looks around them."""
    if space.rows is not None:
        return np.empty((0, len(space.encoding.names)))
    scored = []
    for row in results.rows:
        found = None if row.failure else core.losses(surrogate.goal, row.seen)
        if found is not None:
            scored.append((found, row.point))
    best = [scored[i][1] for k in range(len(surrogate.goal.objectives)) for i in _lowest([s[0][k] for s in scored])]
    best += [row.point for row in results.pending.values()][-4:]
    legal = [p for p in best if not core.violations(space.spec, p)]
    return space.encoding.raw(legal)


def _lowest(losses: Sequence[float], most: int = 4) -> Sequence[int]:
    return sorted(range(len(losses)), key=losses.__getitem__)[:most]


def _choose(space: Space, weighing: Weighing, taken: Taken, centres: Array, rng: np.random.Generator) -> Array | None:
    """The most promising row (1, d) not taken yet; None where all are, unless repeating one can still teach."""
    if space.rows is not None:
        return _choose_listed(space, weighing, taken, centres, rng)
    tries = [space.sample(SAMPLED, rng)]
    if len(centres):
        tries += [space.near(centres, 96, width, rng) for width in (0.2, 0.05)]
    raw = taken.free(np.vstack(tries))
    if not len(raw):
        return None
    score = weighing.score(space.encoding.features(raw))
    for width, number in CLIMBS:
        top = raw[np.argsort(-score, kind="stable")[:4]]
        more = taken.free(space.near(top, number, width, rng))
        raw, score = np.vstack([raw, more]), np.r_[score, weighing.score(space.encoding.features(more))]
    order = np.argsort(-score, kind="stable")
    climbed = [_climb(space, weighing, raw[[i]]) for i in order[:2]] if len(space.free) else []
    for row, gain in sorted(climbed, key=lambda c: -c[1]):
        if gain > score[order[0]] and len(taken.free(row)):
            return row
    return raw[order[:1]]


def _choose_listed(
    space: Space, weighing: Weighing, taken: Taken, centres: Array, rng: np.random.Generator
) -> Array | None:
    assert space.rows is not None
    free = taken.free(space.rows)
    if not len(free):
        # Reading the most promising point once more teaches something only where readings scatter.
        if not weighing.surrogate.noisy or not len(space.rows):
            return None
        free = space.rows
    if len(free) > SCORED:
        free = free[rng.choice(len(free), size=SCORED, replace=False)]
    score = weighing.score(space.encoding.features(free))
    return free[[int(np.argmax(score))]]


def _climb(space: Space, weighing: Weighing, row: Array) -> tuple[Array, float]:
    """Move the free continuous parameters of one row (1, d) uphill; the row reached and its score."""
    free, encoding = space.free, space.encoding
    start = encoding.unit(row)[0]
    step = 1e-5

    def downhill(u: Array) -> tuple[float, Array]:
        unit = np.tile(start, (len(free) + 1, 1))
        unit[:, free] = u
        # Forward differences, turned inwards at the upper bound.
        signs = np.where(u + step > 1.0, -1.0, 1.0)
        unit[np.arange(1, len(free) + 1), free] += signs * step
        raw = np.tile(row, (len(unit), 1))
        raw[:, free] = encoding.from_unit(unit)[:, free]
        score = weighing.score(encoding.features(raw))
        return -float(score[0]), -(score[1:] - score[0]) / (signs * step)

    found = minimize(
        downhill, start[free], jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(free), options={"maxiter": 20}
    )
    unit = start[None].copy()
    unit[0, free] = found.x
    reached = row.copy()
    reached[0, free] = encoding.from_unit(unit)[0, free]
    return reached, -float(found.fun)
