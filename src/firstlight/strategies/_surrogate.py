"""What was learned from the results, and what it makes of a point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtr

from firstlight import core

from ._acquisition import log_ei, log_kept, log_smooth_improvement, loss_of, normals
from ._encoding import Array, Indices
from ._gp import GP, Belief, Predictor
from ._hypervolume import boxes, log_ehvi, thinned

DRAWS = 64
WARY = 2.0
"""How often the chance to succeed counts: a trial that fails gains nothing and costs one as well."""
APART = 0.01
"""Two points whose squared distance is less are not worth naming both."""
OUTLOOK = (128, 512)
"""How many points and how many draws the outlook looks at."""


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
        return self.gain(features) + s.kept(features) + WARY * s.succeeding(features)

    def gain(self, features: Array) -> Array:
        """The logarithm of the expected improvement of each point that is good, (n,)."""
        s = self.surrogate
        if not len(s.known):
            return np.zeros(len(features))
        beliefs = [s.gps[o.observable].predict(features) for o in s.goal.objectives]
        if self.boxes is not None:
            signs = [-1.0 if o.direction == "maximize" else 1.0 for o in s.goal.objectives]
            scaled = [
                Belief((sign * b.mean - low) / width, b.deviation / width)
                for sign, b, low, width in zip(signs, beliefs, self.least, self.span, strict=True)
            ]
            return log_ehvi(scaled, *self.boxes)
        first = s.goal.objectives[0]
        if len(beliefs) == 1 and first.direction != "match":
            sign = -1.0 if first.direction == "maximize" else 1.0
            return log_ei(Belief(sign * beliefs[0].mean, beliefs[0].deviation), self.best)
        z = normals(DRAWS, len(beliefs))
        drawn = [
            loss_of(o, b.mean + z[:, [k]] * b.deviation)
            for k, (o, b) in enumerate(zip(s.goal.objectives, beliefs, strict=True))
        ]
        return log_smooth_improvement(self.scalar(np.stack(drawn, -1)), self.best, 1e-3)

    def scalar(self, losses: Array) -> Array:
        """Augmented Chebyshev (Knowles 2006) of losses (..., m): where small, all objectives do well."""
        scaled = self.weights * (losses - self.least) / self.span
        return np.asarray(scaled.max(-1) + 0.05 * scaled.sum(-1))

    @property
    def criterion(self) -> str:
        """What the score is the logarithm of, in words."""
        goal = self.surrogate.goal
        if not len(self.surrogate.known):
            return "chance to keep the bounds"
        names = ", ".join(o.observable for o in goal.objectives)
        if self.boxes is not None:
            return f"expected hypervolume improvement of {names}"
        if len(goal.objectives) == 1:
            return f"expected improvement of {names}"
        parts = (f"{w:.2f} {o.observable}" for w, o in zip(self.weights, goal.objectives, strict=True))
        return f"expected improvement of the trade-off {', '.join(parts)}"

    def reason(self, features: Array) -> str:
        """In words, why the point with these features (1, D) was chosen."""
        s, parts = self.surrogate, []
        if not len(s.known):
            parts.append("looking for a first trial within the bounds")
        elif len(s.goal.objectives) == 1:
            o = s.goal.objectives[0]
            gain = float(np.exp(self.gain(features))[0]) * float(self.span[0] if o.direction == "match" else 1)
            parts.append(f"expected improvement {gain:.3g} {o.unit + ' ' if o.unit else ''}{o.observable}")
        else:
            parts.append(self.criterion)
        for b in s.goal.outcome_constraints:
            chance = np.exp(log_kept(s.gps[b.observable].predict(features), b))[0]
            parts.append(f"{b.observable} {b.relation} {b.bound:g} with chance {chance:.2f}")
        for cause, chance in s.risks(features).items():
            if chance > 0.05:
                parts.append(f"{cause} with chance {chance:.2f}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Surrogate:
    """A predictor an observable, and a Gaussian process of success (1) and failure (0) for each cause of failure.

    `known` are the losses (n, m) of the good trials, of pending ones as expected; `names` those of the parameters.
    `answers` is the Gaussian process of other sources than the target having an answer (1) and none (0), if there were
    such; `refusing` are those to be left alone.
    """

    goal: core.Goal
    gps: Mapping[str, Predictor]
    success: Mapping[str, GP]
    known: Array
    noisy: bool
    trials: int
    names: tuple[str, ...]
    informed_by: tuple[core.Influence, ...] = ()
    answers: GP | None = None
    refusing: frozenset[core.Scalar] = frozenset()

    def knowing(self, losses: Array) -> Surrogate:
        """With these (n, m) as the losses of the good trials."""
        return replace(self, known=losses)

    def kept(self, features: Array) -> Array:
        """The logarithm of the chance that every outcome constraint is kept, (n,)."""
        total = np.zeros(len(features))
        for b in self.goal.outcome_constraints:
            total += log_kept(self.gps[b.observable].predict(features), b)
        return total

    def succeeding(self, features: Array) -> Array:
        """The logarithm of the chance that a trial fails by no cause, (n,)."""
        total = np.zeros(len(features))
        for gp in self.success.values():
            chance = gp.predict(features)
            total += log_ndtr((chance.mean - 0.5) / chance.deviation)
        return total

    def answering(self, features: Array) -> Array:
        """The logarithm of the chance that another source than the target has an answer, (n,)."""
        if self.answers is None:
            return np.zeros(len(features))
        chance = self.answers.predict(features)
        return np.asarray(log_ndtr((chance.mean - 0.5) / chance.deviation))

    def risks(self, features: Array) -> dict[str, float]:
        """The chance of each cause of failure at one point (1, D)."""
        beliefs = {cause: gp.predict(features) for cause, gp in self.success.items()}
        return {c: float(ndtr((0.5 - b.mean[0]) / b.deviation[0])) for c, b in beliefs.items()}

    def believing(self, features: Array, counts: npt.NDArray[np.bool_]) -> Surrogate:
        """As if points with these features (n, D) had turned out as expected; `counts` says which are of the goal."""
        if not len(features):
            return self
        good = counts & (self.kept(features) > np.log(0.5))
        gps = {name: gp.believing(features) for name, gp in self.gps.items()}
        return replace(self, gps=gps, known=np.vstack([self.known, self.expected(features[good])]))

    def watching(self, features: Array) -> Surrogate:
        """The same, quick to judge this very array of features (n, D), again as it comes to believe."""
        gps = {name: gp.watching(features) for name, gp in self.gps.items()}
        return replace(self, gps=gps, success={cause: gp.watching(features) for cause, gp in self.success.items()})

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

    def explained(self, features: Array, asked: Array) -> Array:
        """What part of the variance at features (n, D) a reading at those asked (n, D) would explain, (n,)."""
        parts = []
        for o in self.goal.objectives:
            gp = self.gps[o.observable]
            there, here = gp.predict(asked).deviation ** 2 + gp.noise**2, gp.predict(features).deviation ** 2
            parts.append(gp.between(features, asked) ** 2 / (there * here))
        return np.asarray(np.mean(parts, axis=0))

    def learned(self) -> dict[str, dict[str, float]]:
        """What was fitted, an observable each: the length-scale of every parameter on a unit-wide range, the noise."""
        return {name: self._fitted(gp) for name, gp in self.gps.items()}

    def _fitted(self, gp: Predictor) -> dict[str, float]:
        # A kernel that a model has learned has no length-scales to tell of.
        told = zip(self.names, gp.hyper.lengths, strict=True) if len(gp.hyper.lengths) else ()
        lengths = {f"length-scale of {n}": float(x) for n, x in told}
        return {**lengths, "noise": float(gp.noise)}

    def outlook(self, features: Array, gain: float, seed: int) -> core.Outlook | None:
        """The chance that more than `gain` is still to be gained, judged at features (n, D) that are yet to be tried.

        Draws of the whole function at the most promising of them, against the best that is known (Wilson 2024,
        Stopping Bayesian optimization with probabilistic regret bounds). For one objective only.
        """
        if len(self.goal.objectives) != 1 or not len(self.known):
            return None
        points, draws = OUTLOOK
        (o,) = self.goal.objectives
        gp, best = self.gps[o.observable], float(self.known.min())
        if not len(features):
            return core.Outlook(gain=gain, chance=0.0)
        hope = Weighing(self, np.ones(1), np.zeros(1), np.ones(1), best - gain)
        good = self.kept(features) + self.succeeding(features)
        score = (hope.gain(features) if o.direction != "match" else self._near(o, features)) + good
        top = np.argsort(-score, kind="stable")[:points]
        mean, covariance = gp.joint(features[top])
        root = _root(covariance)
        rng = np.random.default_rng(seed)
        drawn = loss_of(o, mean + rng.standard_normal((draws, len(top))) @ root.T)
        # One chance a draw, not one a point: where success is unlikely, many points do not make it likely.
        kept = rng.random((draws, 1)) < np.exp(good[top])
        better = ((drawn < best - gain) & kept).any(1)
        return core.Outlook(gain=gain, chance=float(better.mean()))

    def _near(self, o: core.Objective, features: Array) -> Array:
        belief = self.gps[o.observable].predict(features)
        return -np.maximum(loss_of(o, belief.mean) - belief.deviation, 0.0)


def _root(covariance: Array) -> Array:
    """A matrix whose product with its transpose is the covariance, as near as rounding allows."""
    try:
        return np.asarray(np.linalg.cholesky(covariance + 1e-6 * covariance.max() * np.eye(len(covariance))))
    except np.linalg.LinAlgError:  # Where next to nothing is left to learn, rounding makes variances negative.
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def far_apart(features: Array, order: Indices, chosen: Array, count: int) -> list[int]:
    """The first of an order that lie apart from what is chosen (1, D) and from each other."""
    found: list[int] = []
    apart = ((features[order] - chosen) ** 2).sum(1)
    while len(found) < count and (apart > APART).any():
        found.append(int(order[np.argmax(apart > APART)]))
        apart = np.minimum(apart, ((features[order] - features[found[-1]]) ** 2).sum(1))
    return found
