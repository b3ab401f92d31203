"""Bayesian optimisation with Gaussian processes: the default strategy."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from firstlight import core

from ._common import Memo, Taken, generator, room, space_of, spread, unknown_options, whole_option
from ._encoding import Array
from ._gp import MANY, Hyper
from ._learn import COLD, Hypothesis, learn
from ._search import Choice, Stock, choose, stock
from ._space import Space
from ._surrogate import Surrogate, Weighing, far_apart

RUNNERS_UP = 2
"""How many points that were nearly chosen a decision names."""
PROMISING = 256
"""At so many of the candidates held for a design one looks for what is left to gain."""
HURRIED = 1_500
"""Points wanted at once times trials to choose them by, beyond which a design takes about as long however many."""
LITTLE = 0.01
"""What is little left to gain, where no stop rule says so: this part of the span of all readings."""


@cache
def _libraries() -> ThreadpoolController:
    """The numeric libraries this process has loaded: looking for them takes longer than a suggestion."""
    return ThreadpoolController()


class Bayes:
    """Fills the space first, then goes where the expected improvement is greatest.

    One Gaussian process an objective and an outcome constraint, with inferred and known noise. It learns
    from the points as run; points pending count as if they had turned out as expected (so that a batch
    spreads). Failed trials count as bad as the worst, and lower the chance of success around them, a cause each.
    Of several objectives it expects the improvement of the hypervolume up to their thresholds (Yang et al.
    2019), or, where one is to be matched, of a trade-off drawn anew for every point (ParEGO, Knowles 2006).
    Of several sources it takes the one that tells most for its cost (after Huang et al. 2006), and the target
    where the others do not tell. `initial` is the number of space-filling points: 2 on a pool, else twice the
    number of parameters and two, at most 20; at least a batch.
    """

    plates = True

    def __init__(self, *, initial: int | None = None, **options: object) -> None:
        unknown_options("bayes", options, ("initial",))
        self.initial = None if initial is None else whole_option("bayes", "initial", initial, 1)
        self._fits: Memo[Hyper] = Memo(64)

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        # The matrices are small: more BLAS threads only fight with the trials, and make this several times slower.
        with _libraries().limit(limits=1, user_api="blas"):
            return self._propose(spec, results, count, seed)

    def _learned(self, space: Space, results: core.Results, pending: Sequence[core.Point]) -> Surrogate | None:
        """What is known before this design; None where nothing was observed."""
        surrogate = learn(space.spec, space.encoding, results, self._fits, self._hypotheses(space, results))
        return surrogate and believing(surrogate, space, pending)

    def _hypotheses(self, space: Space, results: core.Results) -> Sequence[Hypothesis]:
        """What readings may follow: here nothing that was known before."""
        return (COLD,)

    def _starts(self, space: Space, results: core.Results) -> int:
        """How many space-filling points come first."""
        return self.initial or _initial(space)

    def _propose(
        self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int
    ) -> Sequence[core.Proposal]:
        space, rng = space_of(spec), generator(seed)
        taken = Taken(space, results)
        proposals: list[core.Proposal] = []
        done, starts = len(results.rows) + len(results.pending), self._starts(space, results)
        while len(proposals) < count and done + len(proposals) < starts:
            if not self._fill(space, taken, proposals, rng, f"{done + len(proposals) + 1} of {starts}"):
                return proposals
        if len(proposals) == count:
            return proposals
        pending = [row.point for row in results.pending.values()] + [p.point for p in proposals]
        surrogate = self._learned(space, results, pending)
        centres = np.empty((0, len(space.encoding.names))) if surrogate is None else _centres(space, surrogate, results)
        held = self._held(space, surrogate, centres, count - len(proposals), rng)
        if surrogate is not None and held is not None:
            surrogate = surrogate.watching(held.features)
        outlook: core.Outlook | None = None
        while len(proposals) < count:
            if surrogate is None:
                number = done + len(proposals) + 1
                if not self._fill(space, taken, proposals, rng, f"{number} until a trial succeeds"):
                    break
                continue
            weighing = surrogate.weighed(rng)
            choice = choose(room(space, [p.point for p in proposals]), weighing, taken, centres, rng, held)
            if choice is None:
                break
            if outlook is None:
                # It looks at the most promising: judging all again would take as long as several points.
                some = slice(None) if held is None else np.argsort(-choice.scores, kind="stable")[:PROMISING]
                outlook = _outlook(spec.goal, surrogate, choice.features[some], seed)
            taken.take(choice.row)
            point = space.encoding.points(choice.row)[0]
            features = space.encoding.features(choice.row)
            proposals.append(
                core.Proposal(
                    point=point, predicted=surrogate.predicted(features),
                    reason=weighing.reason(space.encoding.by_source(features, spec.fidelity)),
                    decision=_decision(space, weighing, choice, outlook),
                )
            )  # fmt: skip
            if len(proposals) < count:
                surrogate = believing(surrogate, space, [point])
        return proposals

    def _held(
        self, space: Space, surrogate: Surrogate | None, centres: Array, wanted: int, rng: np.random.Generator
    ) -> Stock | None:
        """Candidates for all points of a design, where looking for each of them anew would keep slots waiting.

        Where trials end faster than points are chosen, many are wanted at once. Then, and after many trials, each point
        is looked for less thoroughly. A batch is as large as it is for other reasons.
        """
        spec = space.spec
        if surrogate is None or surrogate.trials <= MANY or wanted < 2 or spec.batch > 1 or spec.fidelity is not None:
            return None
        effort = HURRIED / (wanted * surrogate.trials)
        return stock(space, centres, effort, rng) if effort < 1.0 else None

    def _fill(
        self, space: Space, taken: Taken, proposals: list[core.Proposal], rng: np.random.Generator, which: str
    ) -> bool:
        """Add one point far from all others; False where there is none."""
        part = _first_source(room(space, [p.point for p in proposals]), len(taken.features), taken.refusing)
        rows = spread(part, taken, 1, rng)
        points = space.encoding.points(rows)
        proposals += [core.Proposal(point=p, reason=f"space-filling {which}") for p in points]
        return bool(points)


def _initial(space: Space) -> int:
    """Few on a pool, more in a box; and at least a whole batch, which nothing could tell apart."""
    if space.spec.pool is not None:
        return max(2, space.spec.batch)
    width = int((space.encoding.high > space.encoding.low).sum())
    return max(min(2 * (width + 1), 20), space.spec.batch)


def _first_source(space: Space, number: int, refusing: frozenset[core.Scalar]) -> Space:
    """Of several sources, three points in a row by the cheapest that is not refused and then one by the target."""
    fidelity = space.spec.fidelity
    if fidelity is None:
        return space
    cheapest = min((s for s in fidelity.sources if s.value not in refusing), key=lambda s: s.cost).value
    return space.narrowed({fidelity.parameter: fidelity.target if number % 4 == 3 else cheapest})


def believing(surrogate: Surrogate, space: Space, points: Sequence[core.Point]) -> Surrogate:
    """As if some points had turned out as expected; only those by the target source count as known."""
    counts = np.array([core.counts(space.spec, p) for p in points], dtype=bool)
    return surrogate.believing(space.encoding.features_as_run(points), counts)


def _outlook(goal: core.Goal, surrogate: Surrogate, features: Array, seed: int) -> core.Outlook | None:
    """What is still to be gained, by the stop rule's measure or by a part of what was seen so far."""
    if goal.regret is not None:
        return surrogate.outlook(features, goal.regret.gain, seed)
    span = float(np.ptp(surrogate.known)) if len(surrogate.known) > 1 else 0.0
    return surrogate.outlook(features, LITTLE * span, seed) if span > 0 else None


def _decision(space: Space, weighing: Weighing, choice: Choice, outlook: core.Outlook | None) -> core.Decision:
    surrogate, encoding = weighing.surrogate, space.encoding
    features = choice.features
    order = np.argsort(-choice.scores, kind="stable")
    others = far_apart(features, order, encoding.features(choice.row), RUNNERS_UP)
    return core.Decision(
        criterion=weighing.criterion,
        score=float(np.exp(choice.score)),
        trials=surrogate.trials,
        runners_up=tuple(
            core.Alternative(
                point=encoding.points(choice.candidates[[i]])[0],
                score=float(np.exp(choice.scores[i])),
                predicted=surrogate.predicted(features[[i]]),
            )
            for i in others
        ),
        informed_by=surrogate.informed_by,
        learned=surrogate.learned(),
        outlook=outlook,
    )


def _centres(space: Space, surrogate: Surrogate, results: core.Results) -> Array:
    """The most promising legal points tried or pending, as raw rows: the search looks around them."""
    if space.rows is not None:
        return np.empty((0, len(space.encoding.names)))
    scored = []
    for row in results.rows:
        found = core.losses_of(space.spec, row)
        if found is not None:
            scored.append((found, row.point))
    best = [scored[i][1] for k in range(len(surrogate.goal.objectives)) for i in _lowest([s[0][k] for s in scored])]
    best += [row.point for row in results.pending.values()][-4:]
    legal = [p for p in best if not core.violations(space.spec, p)]
    return space.encoding.raw(legal)


def _lowest(losses: Sequence[float], most: int = 4) -> Sequence[int]:
    return sorted(range(len(losses)), key=losses.__getitem__)[:most]
