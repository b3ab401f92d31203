"""How much a point promises: logarithms of expected improvement and of the chance to keep a bound."""

import numpy as np
from scipy.special import erfcx, log_ndtr, logsumexp, ndtr, ndtri

from firstlight import core

from ._encoding import Array
from ._gp import Belief

LOG_SQRT_2PI = 0.5 * np.log(2.0 * np.pi)


def log_ei(belief: Belief, best: float) -> Array:
    """log E[max(best - v, 0)] for v ~ N(mean, deviation^2): expected improvement where small is good.

    Stable however small it is (Ament et al. 2023, Unexpected improvements to expected improvement).
    """
    return np.asarray(np.log(belief.deviation) + _log_h((best - belief.mean) / belief.deviation))


def _log_h(z: Array) -> Array:
    """log(phi(z) + z Phi(z))."""
    near = np.maximum(z, -1.0)
    far = np.clip(z, -1e3, -1.0)
    beyond = np.minimum(z, -1e3)
    ratio = np.sqrt(np.pi / 2.0) * -far * erfcx(-far / np.sqrt(2.0))
    return np.asarray(
        np.where(
            z > -1.0,
            np.log(np.exp(-0.5 * near**2 - LOG_SQRT_2PI) + near * ndtr(near)),
            np.where(
                z > -1e3,
                -0.5 * far**2 - LOG_SQRT_2PI + np.log1p(-ratio),
                -0.5 * beyond**2 - LOG_SQRT_2PI - 2.0 * np.log(-beyond),
            ),
        )
    )


def log_kept(belief: Belief, bound: core.OutcomeConstraint) -> Array:
    """log P[v keeps the bound]."""
    z = (bound.bound - belief.mean) / belief.deviation
    return np.asarray(log_ndtr(z if bound.relation == "<=" else -z))


def normals(count: int, d: int) -> Array:
    """A fixed low-discrepancy sample of N(0, 1)^d, (count, d); `count` a power of two."""
    from scipy.stats import qmc  # noqa: PLC0415  scipy.stats takes as long to load as all else here.

    return np.asarray(ndtri(qmc.Sobol(d, scramble=True, rng=np.random.default_rng(1)).random(count)))


def loss_of(objective: core.Objective, value: Array) -> Array:
    """core.loss of many values."""
    if objective.direction == "match":
        return np.maximum(0.0, np.abs(value - (objective.target or 0.0)) - objective.tolerance)
    return -value if objective.direction == "maximize" else value


def log_smooth_improvement(loss: Array, best: float, width: float) -> Array:
    """log of the mean over draws of a softened max(best - loss, 0), from losses (draws, n).

    Softened by `width`, so that where no draw improves it still says which point comes nearest.
    """
    x = (best - loss) / width
    # log(softplus(x)), which is x itself far below zero
    log_softplus = np.where(x < -30.0, np.minimum(x, -30.0), np.log(np.logaddexp(0.0, np.maximum(x, -30.0))))
    return np.asarray(logsumexp(log_softplus, axis=0) - np.log(len(loss)) + np.log(width))
