"""A Gaussian process with a Matern-5/2 kernel, one length-scale a parameter (Rasmussen and Williams 2006)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from scipy.linalg import cholesky, lapack
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from ._encoding import Array, Indices

JITTER = 1e-8
MANY = 200
"""Beyond so many readings, what is worked out of them is kept and added to."""
LENGTH = (0.0, 1.0)
"""Mean and deviation of the log length-scale: maximum-likelihood fits of 27 real data sets gave 0.05 and 1.02."""
NOISE = (-3.0, 1.5)
SCALE = (0.0, 0.5)
"""The same of the log noise variance and log signal variance, for values of unit variance."""


@dataclass(frozen=True)
class Hyper:
    """Length-scales (d,), on unit-wide parameters; noise and signal variance, of values with unit variance.

    `evidence` is the log density, up to a constant, of the values they were fitted to and of these themselves.
    """

    lengths: Array
    noise: float
    signal: float
    evidence: float = 0.0

    @classmethod
    def from_log(cls, theta: Array, evidence: float = 0.0) -> Hyper:
        return cls(np.exp(theta[:-2]), float(np.exp(theta[-2])), float(np.exp(theta[-1])), evidence)


def matern(r2: Array) -> Array:
    """The kernel of squared distances."""
    r = np.sqrt(5.0 * r2)
    return np.asarray((1.0 + r + r * r / 3.0) * np.exp(-r))


def matern_slope(r2: Array) -> Array:
    """The derivative of the kernel by the squared distances."""
    r = np.sqrt(5.0 * r2)
    return np.asarray((-5.0 / 6.0) * (1.0 + r) * np.exp(-r))


def distances(x: Array, owner: Indices) -> Array:
    """Squared distances a parameter, (d, n, n), from features (n, D)."""
    d = int(owner.max(initial=-1)) + 1
    return np.stack([cdist(x[:, owner == j], x[:, owner == j], "sqeuclidean") for j in range(d)])


def negative_log_posterior(
    theta: Array, apart: Array, y: Array, extra: Array, known: Array | float = 0.0
) -> tuple[float, Array]:
    """Minus the log posterior density of (log lengths, log noise, log signal), up to a constant, and its gradient.

    `apart` (d, n, n), `y` (n,) of about unit variance, `extra` (n,) known noise variances, `known` (n, n) any further
    covariance of the values. The constant mean is the generalised least-squares one.
    """
    d, n = apart.shape[:2]
    weights, noise, signal = np.exp(-2.0 * theta[:d]), np.exp(theta[d]), np.exp(theta[d + 1])
    r2 = np.einsum("j,jab->ab", weights, apart) if d else np.zeros((n, n))
    k, dk = matern(r2), matern_slope(r2)
    covariance = signal * k + known
    covariance[np.diag_indices(n)] += noise + extra + JITTER
    factor, wrong = lapack.dpotrf(covariance, lower=1)
    if wrong:
        return 1e10, np.zeros_like(theta)
    inverse, _ = lapack.dpotri(factor, lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    ones = inverse.sum(1)
    residual = y - (ones @ y) / ones.sum()
    alpha = inverse @ residual
    value = 0.5 * residual @ alpha + np.log(np.diag(factor)).sum()
    q = inverse - np.outer(alpha, alpha)
    slope = np.empty_like(theta)
    slope[:d] = -weights * np.einsum("jab,ab->j", apart, q * dk * signal) if d else 0.0
    slope[d] = 0.5 * np.trace(q) * noise
    slope[d + 1] = 0.5 * (q * k).sum() * signal
    centre = np.r_[np.full(d, LENGTH[0]), NOISE[0], SCALE[0]]
    spread = np.r_[np.full(d, LENGTH[1]), NOISE[1], SCALE[1]]
    z = (theta - centre) / spread
    return float(value + 0.5 * z @ z), slope + z / spread


def fit(x: Array, y: Array, extra: Array, owner: Indices, known: Array | float = 0.0) -> Hyper:
    """The hyper-parameters of greatest posterior density (features (n, D), values and known noise (n,))."""
    apart = distances(x, owner)
    d = len(apart)
    bounds = [(-4.0, 6.0)] * d + [(-12.0, 1.0), (-3.0, 3.0)]
    best = None
    for length, noise in ((0.0, -4.0), (-1.0, -2.0)):
        start = np.r_[np.full(d, length), noise, 0.0]
        found = minimize(
            negative_log_posterior,
            start,
            args=(apart, y, extra, known),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 60, "ftol": 1e-6},
        )
        if best is None or found.fun < best.fun - 1e-6:
            best = found
        if len(y) > 60:
            break
    assert best is not None
    return Hyper.from_log(best.x, -float(best.fun))


class Belief(NamedTuple):
    """Mean and deviation of the quantity itself (not of another reading of it), in its own unit; (n,) each."""

    mean: Array
    deviation: Array


Trend = Callable[[Array], Array]
"""What was expected at features (m, D) before any reading, (m,), in the unit of the readings."""
TRUST = 0.25
"""Variance of the factor by which readings follow a trend: it is one, give or take a half."""


class Predictor(Protocol):
    """What makes a belief of features: a Gaussian process, or several that are weighed against each other."""

    @property
    def hyper(self) -> Hyper:
        """The hyper-parameters (of the likeliest, where there are several)."""
        ...

    @property
    def noise(self) -> float:
        """The deviation of readings that was inferred, besides what is known, in their own unit."""
        ...

    @property
    def unit(self) -> float:
        """The size of a difference between readings, in their own unit."""
        ...

    def predict(self, x: Array) -> Belief:
        """The belief at features (m, D)."""
        ...

    def joint(self, x: Array) -> tuple[Array, Array]:
        """The mean (m,) and the covariance (m, m) at features (m, D)."""
        ...

    def between(self, a: Array, b: Array) -> Array:
        """The covariance (m,) of what is at each of some features (m, D) with what is at its counterpart (m, D)."""
        ...

    def believing(self, x: Array) -> Predictor:
        """As if what is expected at features (m, D) had been read there (kriging believer, Ginsbourger et al. 2010)."""
        ...

    def watching(self, x: Array) -> Predictor:
        """The same, quick to say what it believes of this very array of features (m, D), again as it comes to believe.

        Only where there are many readings.
        """
        ...


@dataclass(frozen=True)
class Watched:
    """Features (m, D) with their kernel, in blocks (m, n_i) of the readings, and the variance explained there (m,)."""

    features: Array
    kernel: tuple[Array, ...]
    explained: Array


class GP:
    """The posterior given readings `y` (n,) at features `x` (n, D) with known noise variances `extra` (n,).

    It may have grown out of another one, by readings at the end: that one's factor is the upper part of its own.
    """

    def __init__(
        self, x: Array, y: Array, extra: Array, owner: Indices, hyper: Hyper, shift: float, unit: float,
        trend: Trend | None = None, grown: GP | None = None,
    ) -> None:  # fmt: skip
        self.x, self.y, self.extra, self.owner, self._hyper = x, y, extra, owner, hyper
        self.shift, self._unit, self.trend = shift, unit, trend
        self._inverse_lengths = 1.0 / hyper.lengths[owner]
        self._scaled = x * self._inverse_lengths
        self._before = self._expected(x)
        self._watched: Watched | None = None
        z = (y - shift) / unit - self._before
        if not len(y):
            self._whiten, self._mean, self._alpha = np.empty((0, 0)), 0.0, np.empty(0)
            return
        self._whiten = self._factored(0) if grown is None else self._grown(grown)
        ones, white = self._whiten.sum(1), self._whiten @ z
        self._mean = float(ones @ white / (ones @ ones))
        self._alpha = self._whiten.T @ (white - self._mean * ones)

    def _factored(self, first: int, known: Array | float = 0.0) -> Array:
        """The inverse of the factor of the covariance of the readings from `first` on, less what is known of it.

        The inverse once, because many small predictions follow.
        """
        scaled, before = self._scaled[first:], self._before[first:]
        covariance = self._kernel(scaled, scaled, before, before)
        covariance[np.diag_indices(len(before))] += self.hyper.noise + self.extra[first:] / self.unit**2 + JITTER
        return np.asarray(lapack.dtrtri(cholesky(covariance - known, lower=True, check_finite=False), lower=1)[0])

    def _grown(self, less: GP) -> Array:
        n = len(less.y)
        scaled, before = self._scaled[n:], self._before[n:]
        cross = less._whiten @ self._kernel(less._scaled, scaled, less._before, before)
        corner = self._factored(n, cross.T @ cross)
        whiten = np.empty((len(self.y), len(self.y)))
        whiten[:n, :n], whiten[:n, n:], whiten[n:, n:] = less._whiten, 0.0, corner
        pulled = cross.T @ less._whiten
        whiten[n:, :n] = -corner @ pulled
        if less._watched is not None:
            features, kernel = less._watched.features, less._watched.kernel
            there = self._kernel(features * self._inverse_lengths, scaled, self._expected(features), before)
            left = there - _times(kernel, pulled.T)
            explained = less._watched.explained + ((left @ corner.T) ** 2).sum(1)
            self._watched = Watched(features, (*kernel, there), explained)
        return whiten

    @property
    def hyper(self) -> Hyper:
        """The hyper-parameters, of readings with unit variance."""
        return self._hyper

    @property
    def unit(self) -> float:
        """What counts as one in the hyper-parameters, in the unit of `y`."""
        return self._unit

    def _expected(self, x: Array) -> Array:
        return np.zeros(len(x)) if self.trend is None else (self.trend(x) - self.shift) / self.unit

    def _kernel(self, a: Array, b: Array, before_a: Array, before_b: Array) -> Array:
        k = self.hyper.signal * matern(cdist(a, b, "sqeuclidean"))
        return k if self.trend is None else k + TRUST * np.outer(before_a, before_b)

    @property
    def noise(self) -> float:
        """The deviation of readings that the fit inferred, besides what is known, in the unit of `y`."""
        return float(np.sqrt(self.hyper.noise)) * self.unit

    def predict(self, x: Array) -> Belief:
        """The belief at features (m, D)."""
        before = self._expected(x)
        if self._watched is not None and x is self._watched.features:
            weighed, explained = _times(self._watched.kernel, self._alpha), self._watched.explained
        else:
            k = self._kernel(x * self._inverse_lengths, self._scaled, before, self._before)
            weighed, explained = k @ self._alpha, ((k @ self._whiten.T) ** 2).sum(1)
        mean = before + self._mean + weighed
        variance = self.hyper.signal + TRUST * before**2 - explained
        deviation = np.sqrt(np.maximum(variance, 1e-12))
        return Belief(self.shift + self.unit * mean, self.unit * deviation)

    def skill(self) -> float:
        """What part of the readings' variance it predicts of each from the others (leave-one-out Q2); 1 is all."""
        inverse = self._whiten.T @ self._whiten
        left_out = self._alpha / np.diag(inverse)
        z = (self.y - self.shift) / self.unit
        return float(1.0 - (left_out**2).sum() / max(((z - z.mean()) ** 2).sum(), 1e-12))

    def joint(self, x: Array) -> tuple[Array, Array]:
        """The mean (m,) and the covariance (m, m) at features (m, D)."""
        before, scaled = self._expected(x), x * self._inverse_lengths
        k = self._kernel(scaled, self._scaled, before, self._before)
        white = k @ self._whiten.T
        mean = before + self._mean + k @ self._alpha
        covariance = self._kernel(scaled, scaled, before, before) - white @ white.T
        return self.shift + self.unit * mean, self.unit**2 * covariance

    def between(self, a: Array, b: Array) -> Array:
        """The covariance (m,) of each of some features (m, D) with its counterpart (m, D)."""
        before_a, before_b = self._expected(a), self._expected(b)
        scaled_a, scaled_b = a * self._inverse_lengths, b * self._inverse_lengths
        k = self.hyper.signal * matern(((scaled_a - scaled_b) ** 2).sum(1))
        if self.trend is not None:
            k = k + TRUST * before_a * before_b
        white_a = self._kernel(scaled_a, self._scaled, before_a, self._before) @ self._whiten.T
        white_b = self._kernel(scaled_b, self._scaled, before_b, self._before) @ self._whiten.T
        return np.asarray(self.unit**2 * (k - (white_a * white_b).sum(1)))

    def believing(self, x: Array) -> GP:
        """As if what is expected at features (m, D) had been read there (kriging believer, Ginsbourger et al. 2010)."""
        if not len(x):
            return self
        y = np.r_[self.y, self.predict(x).mean]
        extra = np.r_[self.extra, np.zeros(len(x))]
        # Of few readings it costs next to nothing to begin anew.
        grown = self if len(self.y) > MANY else None
        return GP(np.vstack([self.x, x]), y, extra, self.owner, self.hyper, self.shift, self.unit, self.trend, grown)

    def watching(self, x: Array) -> GP:
        """The same, quick to say what it believes of this very array of features (m, D)."""
        if len(self.y) <= MANY:
            return self
        k = self._kernel(x * self._inverse_lengths, self._scaled, self._expected(x), self._before)
        watching = copy(self)
        watching._watched = Watched(x, (k,), ((k @ self._whiten.T) ** 2).sum(1))
        return watching


def _times(blocks: Sequence[Array], other: Array) -> Array:
    """The product of a matrix that is there in blocks of columns, and another one."""
    ends = np.cumsum([block.shape[1] for block in blocks])
    parts = [block @ other[end - block.shape[1] : end] for block, end in zip(blocks, ends, strict=True)]
    return np.asarray(sum(parts[1:], parts[0]))


class Mixture:
    """Several predictors, each as likely as its `weights` (k,) say: the belief has their mean and variance."""

    def __init__(self, parts: Sequence[Predictor], weights: Array) -> None:
        self.parts, self.weights = parts, weights

    @property
    def hyper(self) -> Hyper:
        """The hyper-parameters of the likeliest."""
        return self.parts[int(np.argmax(self.weights))].hyper

    @property
    def noise(self) -> float:
        """The deviation of readings that was inferred, on average."""
        return float(sum(w * p.noise for w, p in zip(self.weights, self.parts, strict=True)))

    @property
    def unit(self) -> float:
        """The size of a difference between readings."""
        return self.parts[0].unit

    def predict(self, x: Array) -> Belief:
        """The belief at features (m, D)."""
        beliefs = [p.predict(x) for p in self.parts]
        mean = self.weights @ np.array([b.mean for b in beliefs])
        square = self.weights @ np.array([b.deviation**2 + (b.mean - mean) ** 2 for b in beliefs])
        return Belief(mean, np.sqrt(square))

    def joint(self, x: Array) -> tuple[Array, Array]:
        """The mean (m,) and the covariance (m, m) at features (m, D)."""
        known = [p.joint(x) for p in self.parts]
        mean = self.weights @ np.array([m for m, _ in known])
        spread = [c + np.outer(m - mean, m - mean) for m, c in known]
        return mean, np.asarray(sum(w * c for w, c in zip(self.weights, spread, strict=True)))

    def between(self, a: Array, b: Array) -> Array:
        """The covariance (m,) of each of some features (m, D) with its counterpart (m, D)."""
        mean_a, mean_b = self.predict(a).mean, self.predict(b).mean
        apart = [(p.predict(a).mean - mean_a) * (p.predict(b).mean - mean_b) for p in self.parts]
        known = [p.between(a, b) for p in self.parts]
        return np.asarray(sum(w * (k + d) for w, k, d in zip(self.weights, known, apart, strict=True)))

    def believing(self, x: Array) -> Mixture:
        """As if what is expected had been read there."""
        return Mixture([p.believing(x) for p in self.parts], self.weights) if len(x) else self

    def watching(self, x: Array) -> Mixture:
        """The same, quick to say what it believes of this very array of features (m, D)."""
        return Mixture([p.watching(x) for p in self.parts], self.weights)
