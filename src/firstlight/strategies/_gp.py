"""A Gaussian process with a Matern-5/2 kernel, one length-scale a parameter (Rasmussen and Williams 2006)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, lapack
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from ._encoding import Array, Indices

JITTER = 1e-8
LENGTH = (0.0, 1.0)
"""Mean and deviation of the log length-scale: maximum-likelihood fits of 27 real data sets gave 0.05 and 1.02."""
NOISE = (-5.0, 1.5)
SCALE = (0.0, 0.5)
"""The same of the log noise variance and log signal variance, for values of unit variance."""


@dataclass(frozen=True)
class Hyper:
    """Length-scales (d,), on unit-wide parameters; noise and signal variance, of values with unit variance."""

    lengths: Array
    noise: float
    signal: float

    @classmethod
    def from_log(cls, theta: Array) -> Hyper:
        return cls(np.exp(theta[:-2]), float(np.exp(theta[-2])), float(np.exp(theta[-1])))


def matern(r2: Array) -> tuple[Array, Array]:
    """The kernel of squared distances, and its derivative by them."""
    r = np.sqrt(5.0 * r2)
    decay = np.exp(-r)
    return (1.0 + r + r * r / 3.0) * decay, (-5.0 / 6.0) * (1.0 + r) * decay


def distances(x: Array, owner: Indices) -> Array:
    """Squared distances a parameter, (d, n, n), from features (n, D)."""
    d = int(owner.max(initial=-1)) + 1
    return np.stack([cdist(x[:, owner == j], x[:, owner == j], "sqeuclidean") for j in range(d)])


def negative_log_posterior(theta: Array, apart: Array, y: Array, extra: Array) -> tuple[float, Array]:
    """Minus the log posterior density of (log lengths, log noise, log signal), up to a constant, and its gradient.

    `apart` (d, n, n), `y` (n,) of about unit variance, `extra` (n,) known noise variances. The constant
    mean is the generalised least-squares one.
    """
    d, n = apart.shape[:2]
    weights, noise, signal = np.exp(-2.0 * theta[:d]), np.exp(theta[d]), np.exp(theta[d + 1])
    k, dk = matern(np.einsum("j,jab->ab", weights, apart) if d else np.zeros((n, n)))
    covariance = signal * k
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


def fit(x: Array, y: Array, extra: Array, owner: Indices) -> Hyper:
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
            args=(apart, y, extra),
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
    return Hyper.from_log(best.x)


class Belief(NamedTuple):
    """Mean and deviation of the quantity itself (not of another reading of it), in its own unit; (n,) each."""

    mean: Array
    deviation: Array


class GP:
    """The posterior given readings `y` (n,) at features `x` (n, D) with known noise variances `extra` (n,)."""

    def __init__(self, x: Array, y: Array, extra: Array, owner: Indices, hyper: Hyper, shift: float, unit: float):
        self.x, self.y, self.extra, self.owner, self.hyper = x, y, extra, owner, hyper
        self.shift, self.unit = shift, unit
        self._inverse_lengths = 1.0 / hyper.lengths[owner]
        self._scaled = x * self._inverse_lengths
        z = (y - shift) / unit
        covariance = self._kernel(self._scaled, self._scaled)
        covariance[np.diag_indices(len(y))] += hyper.noise + extra / unit**2 + JITTER
        # The inverse of the factor once, because many small predictions follow.
        self._whiten = np.asarray(lapack.dtrtri(cholesky(covariance, lower=True, check_finite=False), lower=1)[0])
        ones, white = self._whiten.sum(1), self._whiten @ z
        self._mean = float(ones @ white / (ones @ ones))
        self._alpha = self._whiten.T @ (white - self._mean * ones)

    def _kernel(self, a: Array, b: Array) -> Array:
        return self.hyper.signal * matern(cdist(a, b, "sqeuclidean"))[0]

    @property
    def noise(self) -> float:
        """The deviation of readings that the fit inferred, besides what is known, in the unit of `y`."""
        return float(np.sqrt(self.hyper.noise)) * self.unit

    def predict(self, x: Array) -> Belief:
        """The belief at features (m, D)."""
        k = self._kernel(x * self._inverse_lengths, self._scaled)
        mean = self._mean + k @ self._alpha
        variance = self.hyper.signal - ((k @ self._whiten.T) ** 2).sum(1)
        deviation = np.sqrt(np.maximum(variance, 1e-12))
        return Belief(self.shift + self.unit * mean, self.unit * deviation)

    def believing(self, x: Array) -> GP:
        """As if what is expected at features (m, D) had been read there (kriging believer, Ginsbourger et al. 2010)."""
        if not len(x):
            return self
        y = np.r_[self.y, self.predict(x).mean]
        extra = np.r_[self.extra, np.zeros(len(x))]
        return GP(np.vstack([self.x, x]), y, extra, self.owner, self.hyper, self.shift, self.unit)
