"""Expected improvement of the dominated hypervolume: how much a point promises where objectives are several."""

from itertools import pairwise

import numpy as np

from ._acquisition import log_ei
from ._encoding import Array
from ._gp import Belief

MOST = 4_000
"""At most so many boxes: a longer front is thinned to its extremes and those far from each other."""


def boxes(front: Array, reference: Array) -> tuple[Array, Array]:
    """Disjoint boxes (lower and upper corners, (k, m) each) that fill what no row of `front` (n, m) dominates.

    Losses: small is good. The boxes reach down without end and up to the reference; together they are all that a new
    point could still add (Lacour, Klamroth and Fonseca 2017 cut it more sparingly; a front of trials is short).
    """
    m = len(reference)
    inside = front[np.all(front < reference, axis=1)] if len(front) else np.empty((0, m))
    if m == 1:
        top = np.array([[min(inside.min(initial=np.inf), reference[0])]])
        return np.array([[-np.inf]]), top
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    edges = np.r_[-np.inf, inside[:, -1], reference[-1]]
    lower, upper = [], []
    for i, (low, high) in enumerate(pairwise(edges)):
        if high <= low:
            continue
        # Within a slab of the last objective, whatever lies below the slab decides in the others.
        below_low, below_high = boxes(_front(inside[:i, :-1]), reference[:-1])
        lower.append(np.column_stack([below_low, np.full(len(below_low), low)]))
        upper.append(np.column_stack([below_high, np.full(len(below_high), high)]))
    return np.vstack(lower), np.vstack(upper)


def _front(losses: Array) -> Array:
    """The rows that no other dominates, each once."""
    if not len(losses):
        return losses
    losses = np.unique(losses, axis=0)
    worse = np.all(losses[:, None] >= losses[None], axis=-1) & np.any(losses[:, None] > losses[None], axis=-1)
    return np.asarray(losses[~np.any(worse, axis=1)])


def thinned(losses: Array) -> Array:
    """The front of some losses (n, m), short enough for its boxes to be few."""
    front, m = _front(losses), losses.shape[1]
    most = int(MOST ** (1.0 / max(m - 1, 1)))
    if len(front) <= most:
        return front
    scaled = (front - front.min(0)) / np.where(np.ptp(front, axis=0) > 0, np.ptp(front, axis=0), 1.0)
    chosen = list(dict.fromkeys(int(i) for i in scaled.argmin(0)))
    apart = np.linalg.norm(scaled[:, None] - scaled[chosen], axis=-1).min(1)
    while len(chosen) < most:
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, np.linalg.norm(scaled - scaled[chosen[-1]], axis=1))
    return front[chosen]


def log_ehvi(beliefs: list[Belief], lower: Array, upper: Array) -> Array:
    """The logarithm of the expected hypervolume improvement of losses believed independent, (n,).

    Over a box the improvement is a product of max(u - y, 0) - max(l - y, 0), one factor an objective, and so is its
    expectation (Emmerich, Deutz and Klinkenberg 2011; Yang et al. 2019).
    """
    product = np.ones((len(beliefs[0].mean), len(lower)))
    for k, belief in enumerate(beliefs):
        product *= _expected(belief, upper[:, k]) - _expected(belief, lower[:, k])
    return np.asarray(np.log(np.maximum(product, 0.0).sum(1) + 1e-300))


def _expected(belief: Belief, edges: Array) -> Array:
    """E[max(edge - y, 0)], (n, k); 0 for an edge at minus infinity."""
    known, where = np.unique(edges, return_inverse=True)
    out = np.zeros((len(belief.mean), len(known)))
    for i, edge in enumerate(known):
        if np.isfinite(edge):
            out[:, i] = np.exp(log_ei(belief, float(edge)))
    return out[:, where]
