"""A Gaussian process whose mean and kernel were learned before: what a pre-trained model brings to a campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from firstlight import core

from ._common import Memo, digest
from ._encoding import Array, Encoding, Indices, numbers_of
from ._gp import JITTER, LENGTH, NOISE, Belief, Hyper, Predictor, distances, matern

Columns = Mapping[str, Any]
DRAWS = 96
"""Of so many draws of hyper-parameters is the evidence of knowing nothing of the points the mean."""
FREE = 1.0
"""Deviation of the log signal variance in these draws: wider than what is fitted with, for nothing is fitted here."""


@runtime_checkable
class Prior(Protocol):
    """What a model expects of one observable of one campaign before any reading, in the observable's unit."""

    @property
    def level(self) -> float:
        """What is read on average."""
        ...

    @property
    def spread(self) -> float:
        """By how much readings differ."""
        ...

    @property
    def noise(self) -> float:
        """The deviation of one reading from the quantity."""
        ...

    def mean(self, columns: Columns) -> Array:
        """What is expected at points, (n,); they are given by parameter, (n,) values each."""
        ...

    def covariance(self, a: Columns, b: Columns) -> Array:
        """The covariance (n, m) of the quantity at some points with that at others."""
        ...

    def variance(self, columns: Columns) -> Array:
        """The variance of the quantity at points, (n,)."""
        ...


class Informed(Protocol):
    """What a model that learns in context expects once it was told some readings."""

    @property
    def evidence(self) -> Array:
        """The log density (n,) of the first reading, the first two, and so on."""
        ...

    def at(self, columns: Columns) -> tuple[Array, Array]:
        """Mean and deviation of the quantity at points, (n,) each."""
        ...


@runtime_checkable
class InContext(Protocol):
    """What a model that learns in context expects of one observable of one campaign, in the observable's unit: no
    covariance, but an answer to any readings. What it is told are data of the campaign, and stay with it."""

    @property
    def level(self) -> float:
        """What is read on average."""
        ...

    @property
    def spread(self) -> float:
        """By how much readings differ."""
        ...

    @property
    def noise(self) -> float:
        """The deviation of one reading from the quantity."""
        ...

    def given(self, columns: Columns, values: Array, variances: Array) -> Informed:
        """What it expects after readings (n,) at points with known noise variances (n,), which may be none."""
        ...


class Expectation(Predictor, Protocol):
    """What a prior and some readings make of a campaign."""

    @property
    def evidence(self) -> Array:
        """The log density (n,) of the first reading, the first two, and so on, which has chosen nothing by them."""
        ...


@runtime_checkable
class Experienced(Protocol):
    """A model that has learned from earlier campaigns what to expect of others."""

    def covers(self, spec: core.CampaignSpec, observable: str) -> str:
        """Why it says nothing of an observable of a campaign; "" where it does."""
        ...

    def prior(self, spec: core.CampaignSpec, observable: str) -> Prior | InContext:
        """What it expects of an observable of a campaign. Raises ValueError where it does not cover that."""
        ...


class Expected(Protocol):
    """A prior of either kind over features (n, D) in place of points."""

    @property
    def prior(self) -> Prior | InContext:
        """The prior itself."""
        ...

    def given(self, x: Array, y: Array, extra: Array) -> Expectation:
        """What it makes of readings (n,) at features (n, D) with known noise variances (n,)."""
        ...


def expected(prior: Prior | InContext, encoding: Encoding) -> Expected:
    """A prior over features."""
    return Placed(prior, encoding) if isinstance(prior, Prior) else Asked(prior, encoding)


class Placed:
    """A Gaussian process before any reading, over features (n, D) in place of points."""

    def __init__(self, prior: Prior, encoding: Encoding) -> None:
        self.prior, self._encoding = prior, encoding
        self._columns: Memo[dict[str, Any]] = Memo(16)

    def mean(self, x: Array) -> Array:
        """What is expected, (n,)."""
        return self.prior.mean(self._points(x)) if len(x) else np.empty(0)

    def covariance(self, a: Array, b: Array) -> Array:
        """The covariance (n, m)."""
        if not len(a) or not len(b):
            return np.empty((len(a), len(b)))
        return self.prior.covariance(self._points(a), self._points(b))

    def variance(self, x: Array) -> Array:
        """The variance, (n,)."""
        return self.prior.variance(self._points(x)) if len(x) else np.empty(0)

    def given(self, x: Array, y: Array, extra: Array) -> PriorGP:
        """Its posterior."""
        return PriorGP(self, x, y, extra)

    def _points(self, x: Array) -> dict[str, Any]:
        # The same object for the same points: a model that has just placed them need not do so again.
        return self._columns.get(digest(x), lambda: columns_at(self._encoding, x))


class Asked:
    """A model that learns in context, over features (n, D) in place of points."""

    def __init__(self, prior: InContext, encoding: Encoding) -> None:
        self.prior, self.encoding = prior, encoding

    def given(self, x: Array, y: Array, extra: Array) -> Answering:
        """What it answers after some readings."""
        return Answering(self, x, y, extra)


def columns_at(e: Encoding, x: Array) -> dict[str, Any]:
    """Features (n, D) as points by parameter, (n,) values each."""
    return {name: _values(e, j, x[:, e.owner == j]) for j, name in enumerate(e.names)}


def _values(e: Encoding, j: int, features: Array) -> Any:
    """The values of one parameter from its features (n, k): of words the nearest."""
    p, table = e.parameters[j], e.tables[j]
    numbers = numbers_of(p)
    if numbers is not None:
        return numbers[0] + features[:, 0] * (numbers[-1] - numbers[0])
    if table is None:
        return e.value(j, features[:, 0])
    assert isinstance(p, core.Categorical | core.Ordered)
    return np.array(p.values, dtype=object)[cdist(features, table, "sqeuclidean").argmin(1)]


class OfArchive:
    """What was learned of an archive has its noise and its unit, whatever was read since."""

    def __init__(self, archive: Prior | InContext) -> None:
        self._archive = archive

    @property
    def hyper(self) -> Hyper:
        """Noise and signal variance in spreads of the archive; there is no length-scale a parameter."""
        return Hyper(np.empty(0), (self.noise / self.unit) ** 2, 1.0)

    @property
    def noise(self) -> float:
        """The deviation of readings, besides what is known."""
        return self._archive.noise

    @property
    def unit(self) -> float:
        """The spread of the archive."""
        return self._archive.spread


class PriorGP(OfArchive):
    """The posterior of a prior given readings `y` (n,) at features `x` (n, D) with known noise variances (n,)."""

    def __init__(self, prior: Placed, x: Array, y: Array, extra: Array) -> None:
        super().__init__(prior.prior)
        self._prior, self._x, self._y, self._extra = prior, x, y, extra
        self._factor, self._alpha = np.empty((0, 0)), np.empty(0)
        self.evidence = np.empty(0)
        """The log density (n,) of the first reading, the first two, and so on, which has chosen nothing by them."""
        if not len(y):
            return
        covariance = prior.covariance(x, x)
        covariance[np.diag_indices(len(y))] += self.noise**2 + extra + JITTER * self.unit**2
        self._factor = cholesky(covariance, lower=True, check_finite=False)
        residual = y - prior.mean(x)
        self._alpha = cho_solve((self._factor, True), residual, check_finite=False)
        white = solve_triangular(self._factor, residual, lower=True, check_finite=False)
        self.evidence = -np.cumsum(0.5 * white**2 + np.log(np.diag(self._factor)) + 0.5 * np.log(2.0 * np.pi))

    def predict(self, x: Array) -> Belief:
        """The belief at features (m, D)."""
        mean, variance = self._prior.mean(x), self._prior.variance(x)
        if len(self._y):
            cross = self._prior.covariance(x, self._x)
            mean = mean + cross @ self._alpha
            variance = variance - (self._white(cross) ** 2).sum(0)
        return Belief(mean, np.sqrt(np.maximum(variance, 1e-12 * self.unit**2)))

    def joint(self, x: Array) -> tuple[Array, Array]:
        """The mean (m,) and the covariance (m, m) at features (m, D)."""
        mean, covariance = self._prior.mean(x), self._prior.covariance(x, x)
        if len(self._y):
            cross = self._prior.covariance(x, self._x)
            white = self._white(cross)
            mean, covariance = mean + cross @ self._alpha, covariance - white.T @ white
        return mean, covariance

    def between(self, a: Array, b: Array) -> Array:
        """The covariance (m,) of each of some features (m, D) with its counterpart (m, D)."""
        found = np.array([self._prior.covariance(a[[i]], b[[i]])[0, 0] for i in range(len(a))])
        if len(self._y):
            white = [self._white(self._prior.covariance(x, self._x)) for x in (a, b)]
            found = found - (white[0] * white[1]).sum(0)
        return found

    def believing(self, x: Array) -> PriorGP:
        """As if what is expected at features (m, D) had been read there."""
        if not len(x):
            return self
        y, extra = np.r_[self._y, self.predict(x).mean], np.r_[self._extra, np.zeros(len(x))]
        return PriorGP(self._prior, np.vstack([self._x, x]), y, extra)

    def watching(self, x: Array) -> PriorGP:
        """The same."""
        return self

    def _white(self, cross: Array) -> Array:
        return np.asarray(solve_triangular(self._factor, cross.T, lower=True, check_finite=False))


class Answering(OfArchive):
    """What a model that learns in context expects, given readings `y` (n,) at features `x` (n, D).

    It says what to expect of each point and not how two go together: they are taken to as in a Gaussian process of the
    usual length-scales. That counts in what is left to gain, and in what one source tells of another.
    """

    def __init__(self, asked: Asked, x: Array, y: Array, extra: Array) -> None:
        super().__init__(asked.prior)
        self._asked, self._x, self._y, self._extra = asked, x, y, extra
        self._told = asked.prior.given(columns_at(asked.encoding, x), y, extra)
        self._rates = np.exp(-LENGTH[0])

    @property
    def evidence(self) -> Array:
        """The log density (n,) of the first reading, the first two, and so on."""
        return self._told.evidence

    def predict(self, x: Array) -> Belief:
        """The belief at features (m, D)."""
        if not len(x):
            return Belief(np.empty(0), np.empty(0))
        return Belief(*self._told.at(columns_at(self._asked.encoding, x)))

    def joint(self, x: Array) -> tuple[Array, Array]:
        """The mean (m,) and the covariance (m, m) at features (m, D)."""
        belief = self.predict(x)
        return belief.mean, self._usual(x, x) * np.outer(belief.deviation, belief.deviation)

    def between(self, a: Array, b: Array) -> Array:
        """The covariance (m,) of each of some features (m, D) with its counterpart (m, D)."""
        usual = matern((((a - b) * self._rates) ** 2).sum(1))
        return usual * self.predict(a).deviation * self.predict(b).deviation

    def believing(self, x: Array) -> Answering:
        """As if what is expected at features (m, D) had been read there."""
        if not len(x):
            return self
        y, extra = np.r_[self._y, self.predict(x).mean], np.r_[self._extra, np.zeros(len(x))]
        return Answering(self._asked, np.vstack([self._x, x]), y, extra)

    def watching(self, x: Array) -> Answering:
        """The same."""
        return self

    def _usual(self, a: Array, b: Array) -> Array:
        return matern(cdist(a * self._rates, b * self._rates, "sqeuclidean"))


def cold_evidence(x: Array, y: Array, extra: Array, owner: Indices, level: float, spread: float) -> Array:
    """The log density (n,) of the first reading, the first two, and so on, by a Gaussian process that knows the usual
    level and spread and no more.

    It is the mean over hyper-parameters drawn from what they are expected to be, so that nothing is chosen by the
    readings and it compares with that of a prior, which chooses nothing either.
    """
    n, d = len(y), int(owner.max(initial=-1)) + 1
    if not n:
        return np.empty(0)
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((DRAWS, d + 2))
    weights = np.exp(-2.0 * (LENGTH[0] + LENGTH[1] * drawn[:, :d]))
    noise, signal = np.exp(NOISE[0] + NOISE[1] * drawn[:, d]), np.exp(FREE * drawn[:, d + 1])
    apart = distances(x, owner).reshape(d, n * n)
    covariance = signal[:, None, None] * matern((weights @ apart).reshape(DRAWS, n, n)) + 1.0
    covariance[:, np.arange(n), np.arange(n)] += noise[:, None] + extra / spread**2 + JITTER
    factor = np.linalg.cholesky(covariance)
    z = (y - level) / spread
    white = np.stack([solve_triangular(f, z, lower=True, check_finite=False) for f in factor])
    parts = np.cumsum(-0.5 * white**2 - np.log(np.diagonal(factor, axis1=1, axis2=2)), 1)
    usual = 0.5 * np.log(2.0 * np.pi) + np.log(spread)
    return np.asarray(logsumexp(parts, 0) - np.log(DRAWS) - usual * np.arange(1, n + 1))


def experienced(models: Mapping[str, core.LoadedModel], name: str) -> tuple[Experienced | None, str]:
    """The model of this name, or why there is none."""
    loaded = models.get(name)
    if loaded is None:
        there: Sequence[str] = sorted(models)
        return None, f"the model {name} is not here" + (f" (here: {', '.join(there)})" if there else "")
    if not isinstance(loaded.of, Experienced):
        return None, f"the model {name} says nothing of campaigns: it is a {type(loaded.of).__name__}"
    return loaded.of, ""
