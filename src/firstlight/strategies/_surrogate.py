"""What was learned from the results, and what it makes of a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from firstlight import core

from ._acquisition import log_ei, log_kept, log_smooth_improvement, loss_of, normals
from ._common import Memo, digest
from ._encoding import Array, Encoding, Indices
from ._gp import GP, Belief, Hyper, fit
from ._hypervolume import boxes, log_ehvi, thinned

LEARNED: frozenset[core.Cause] = frozenset(
    {"did-not-converge", "invalid-input", "invalid-output", "timed-out", "out-of-memory", "crashed"}
)
"""Failures that tell of the point. The others tell of the world: a lost node says nothing of the point sent to it."""
EXACT, FITTED = 1_000, 200
"""At most so many readings are conditioned on, and so many are used to fit hyper-parameters."""
DRAWS = 64
SUCCESS_LENGTH = 0.5
"""Length-scale of success: too few trials fail for one to be fitted."""
HUGE = 1e100
"""Readings beyond this are taken for this, so that their squares are still numbers."""


@dataclass(frozen=True)
class Weighing:
    """What counts in one choice: weights of the objectives (m,), their least loss and its span, the best so far.

    With `boxes`, several objectives are not weighed: what counts is the hypervolume that is not dominated yet.
    """

    surrogate: Surrogate
    weights: Array
    least: Array
    span: Array
    best: float
    boxes: tuple[Array, Array] | None = None

    def score(self, features: Array) -> Array:
        """The logarithm of what each point promises, (n,). Without a good trial: of the chance to be good."""
        s = self.surrogate
        kept = np.zeros(len(features))
        for bound in s.goal.outcome_constraints:
            kept += log_kept(s.gps[bound.observable].predict(features), bound)
        if s.success is not None:
            chance = s.success.predict(features)
            kept += log_ndtr((chance.mean - 0.5) / chance.deviation)
        if not len(s.known):
            return kept
        beliefs = [s.gps[o.observable].predict(features) for o in s.goal.objectives]
        if self.boxes is not None:
            signs = [-1.0 if o.direction == "maximize" else 1.0 for o in s.goal.objectives]
            scaled = [
                Belief((sign * b.mean - low) / width, b.deviation / width)
                for sign, b, low, width in zip(signs, beliefs, self.least, self.span, strict=True)
            ]
            return log_ehvi(scaled, *self.boxes) + kept
        first = s.goal.objectives[0]
        if len(beliefs) == 1 and first.direction != "match":
            sign = -1.0 if first.direction == "maximize" else 1.0
            return log_ei(Belief(sign * beliefs[0].mean, beliefs[0].deviation), self.best) + kept
        z = normals(DRAWS, len(beliefs))
        drawn = [
            loss_of(o, b.mean + z[:, [k]] * b.deviation)
            for k, (o, b) in enumerate(zip(s.goal.objectives, beliefs, strict=True))
        ]
        return log_smooth_improvement(self.scalar(np.stack(drawn, -1)), self.best, 1e-3) + kept

    def scalar(self, losses: Array) -> Array:
        """Augmented Chebyshev (Knowles 2006) of losses (..., m): where small, all objectives do well."""
        scaled = self.weights * (losses - self.least) / self.span
        return np.asarray(scaled.max(-1) + 0.05 * scaled.sum(-1))

    def reason(self, features: Array) -> str:
        """In words, why the point with these features (1, D) was chosen."""
        goal, parts = self.surrogate.goal, []
        if not len(self.surrogate.known):
            parts.append("looking for a first trial within the bounds")
        elif len(goal.objectives) == 1:
            o = goal.objectives[0]
            kept = sum(
                log_kept(self.surrogate.gps[b.observable].predict(features), b) for b in goal.outcome_constraints
            )
            gain = float(np.exp(self.score(features) - kept)[0]) * float(self.span[0] if o.direction == "match" else 1)
            parts.append(f"expected improvement {gain:.3g} {o.unit + ' ' if o.unit else ''}{o.observable}")
        elif self.boxes is not None:
            parts.append(f"expected hypervolume improvement of {', '.join(o.observable for o in goal.objectives)}")
        else:
            names = (f"{w:.2f} {o.observable}" for w, o in zip(self.weights, goal.objectives, strict=True))
            parts.append(f"expected improvement of the trade-off {', '.join(names)}")
        for b in goal.outcome_constraints:
            chance = np.exp(log_kept(self.surrogate.gps[b.observable].predict(features), b))[0]
            parts.append(f"{b.observable} {b.relation} {b.bound:g} with chance {chance:.2f}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Surrogate:
    """A Gaussian process an observable, and one of success (1) and failure (0) where trials failed.

    `known` are the losses (n, m) of the good trials, of pending ones as expected.
    """

    goal: core.Goal
    gps: dict[str, GP]
    success: GP | None
    known: Array
    noisy: bool

    def believing(self, features: Array) -> Surrogate:
        """As if points with these features (n, D) had turned out as expected."""
        if not len(features):
            return self
        good = np.ones(len(features), dtype=bool)
        for b in self.goal.outcome_constraints:
            good &= log_kept(self.gps[b.observable].predict(features), b) > np.log(0.5)
        gps = {name: gp.believing(features) for name, gp in self.gps.items()}
        return replace(self, gps=gps, known=np.vstack([self.known, self.expected(features[good])]))

    def expected(self, features: Array) -> Array:
        """The losses (n, m) of the mean outcomes."""
        columns = [loss_of(o, self.gps[o.observable].predict(features).mean) for o in self.goal.objectives]
        return np.column_stack(columns)

    def weighed(self, rng: np.random.Generator) -> Weighing:
        """What counts in the next choice: of several objectives the hypervolume up to their thresholds.

        Where one of them is to be matched, which has no Gaussian loss, weights drawn uniformly over the simplex.
        """
        m = len(self.goal.objectives)
        weights = rng.dirichlet(np.ones(m)) if m > 1 else np.ones(1)
        if not len(self.known):
            return Weighing(self, weights, np.zeros(m), np.ones(m), 0.0)
        least, most = self.known.min(0), self.known.max(0)
        for k, o in enumerate(self.goal.objectives):
            if o.threshold is not None and m > 1:
                most[k] = max(core.loss(o, o.threshold), least[k])
        if m == 1:
            least = np.zeros(1)
            most = np.array([self.gps[self.goal.objectives[0].observable].unit])
            weights = np.ones(1)
        span = np.where(most > least, most - least, 1.0)
        first = self.goal.objectives[0]
        if m > 1 and all(o.direction != "match" for o in self.goal.objectives):
            ends = [1.1 if o.threshold is None else (core.loss(o, o.threshold) - a) / b
                    for o, a, b in zip(self.goal.objectives, least, span, strict=True)]  # fmt: skip
            room = boxes(thinned((self.known - least) / span), np.array(ends))
            return Weighing(self, weights, least, span, 0.0, room)
        if m == 1 and first.direction != "match":
            return Weighing(self, weights, least, span, float(self.known.min()))
        found = Weighing(self, weights, least, span, 0.0)
        return replace(found, best=float(found.scalar(self.known).min()))

    def predicted(self, features: Array) -> tuple[core.Observation, ...]:
        """What a reading of each objective is expected to be at the features (1, D)."""
        found = []
        for o in self.goal.objectives:
            gp = self.gps[o.observable]
            mean, deviation = gp.predict(features)
            value, sigma = float(mean[0]), float(np.hypot(deviation[0], gp.noise))
            if np.isfinite(value) and np.isfinite(sigma):
                found.append(core.Observation(observable=o.observable, value=value, unit=o.unit, sigma=sigma))
        return tuple(found)


def learn(spec: core.CampaignSpec, encoding: Encoding, results: core.Results, fits: Memo[Hyper]) -> Surrogate | None:
    """Surrogates of everything the goal asks for, or None where it was not observed yet."""
    goal, wanted = spec.goal, {o.observable for o in spec.goal.objectives}
    wanted |= {b.observable for b in goal.outcome_constraints}
    ok = [(row, seen) for row in results.rows if not row.failure and wanted <= (seen := row.seen).keys()]
    if not ok:
        return None
    bad = [row for row in results.rows if row.failure and row.failure.cause in LEARNED]
    losses = np.array([[core.loss(o, seen[o.observable].value) for o in goal.objectives] for _, seen in ok])
    losses = np.clip(losses, -HUGE, HUGE)
    good = np.array([core.feasible(goal, seen) for _, seen in ok])
    features = encoding.features_as_run([row.ran for row, _ in ok])
    failed = encoding.features_as_run([row.ran for row in bad])
    use = _informative(losses, good, EXACT)
    gps = {}
    for name in sorted(wanted):
        y = np.clip([seen[name].value for _, seen in ok], -HUGE, HUGE)
        extra = np.minimum([seen[name].sigma for _, seen in ok], HUGE) ** 2
        k = next((k for k, o in enumerate(goal.objectives) if o.observable == name), None)
        hyper = _hyper(features, y, extra, losses, good, encoding, fits)
        x, y, extra = features[use], y[use], extra[use]
        if k is not None and len(failed):
            worst = y[int(np.argmax(losses[use, k]))]
            few = failed[-EXACT // 2 :]
            x, y, extra = np.vstack([x, few]), np.r_[y, np.full(len(few), worst)], np.r_[extra, np.zeros(len(few))]
        gps[name] = GP(x, y, extra, encoding.owner, hyper, *_scaling(y))
    success = None
    if len(failed):
        few = failed[-EXACT // 2 :]
        x, y = np.vstack([features[use], few]), np.r_[np.ones(len(use)), np.zeros(len(few))]
        hyper = Hyper(np.full(len(encoding.names), SUCCESS_LENGTH), 0.01, 1.0)
        success = GP(x, y, np.zeros(len(y)), encoding.owner, hyper, *_scaling(y))
    noisy = _noisy(features, losses, [seen for _, seen in ok], wanted)
    surrogate = Surrogate(goal, gps, success, losses[good], noisy)
    if noisy and good.any():
        kept = use[good[use]]
        surrogate = replace(surrogate, known=surrogate.expected(features[kept if len(kept) else use]))
    return surrogate


def _scaling(y: Array) -> tuple[float, float]:
    """Mean and deviation of readings, safe for enormous and for equal ones."""
    size = float(np.abs(y).max()) or 1.0
    z = y / size
    deviation = float(z.std()) * size
    return float(z.mean()) * size, deviation if deviation > 1e-12 * size else size


def _hyper(
    x: Array, y: Array, extra: Array, losses: Array, good: npt.NDArray[np.bool_], encoding: Encoding, fits: Memo[Hyper]
) -> Hyper:
    """Hyper-parameters fitted to the first so many readings, a number that grows in ever larger steps.

    So most calls find them in the memo, and a call that does not works out the same ones.
    """
    n = len(y)
    step = 2 ** max(0, int(np.log2(n / 16.0))) if n > 16 else 1
    first = n - n % step
    use = _informative(losses[:first], good[:first], FITTED)
    shift, unit = _scaling(y[use])
    z, known = (y[use] - shift) / unit, extra[use] / unit / unit
    return fits.get(digest(x[use], z, known), lambda: fit(x[use], z, known, encoding.owner))


def _informative(losses: Array, good: npt.NDArray[np.bool_], most: int) -> Indices:
    """Which readings to use where there are too many: the best third, and the rest evenly over time; ascending."""
    n = len(losses)
    if n <= most:
        return np.arange(n)
    scale = np.where(np.ptp(losses, axis=0) > 0, np.ptp(losses, axis=0), 1.0)
    order = np.argsort(((losses - losses.min(0)) / scale).sum(1) + 10.0 * ~good, kind="stable")
    best, rest = order[: most // 3], np.sort(order[most // 3 :])
    even = rest[np.linspace(0, len(rest) - 1, most - len(best)).astype(int)]
    return np.unique(np.r_[best, even])


def _noisy(features: Array, losses: Array, seen: Sequence[core.Seen], wanted: set[str]) -> bool:
    """Whether readings scatter: some come with a sigma, or one point was read twice and differently."""
    if any(s[name].sigma > 0 for s in seen for name in wanted):
        return True
    first: dict[bytes, Array] = {}
    return any(not np.array_equal(first.setdefault(x.tobytes(), y), y) for x, y in zip(features, losses, strict=True))
