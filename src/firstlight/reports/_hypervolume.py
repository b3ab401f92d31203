"""Exact hypervolume: how much of objective space a Pareto front dominates (Zitzler and Thiele, 1999).

Losses are made small, so the volume lies between the front and a reference point that is worse than it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def hypervolume(points: Floats, reference: Floats) -> float:
    """The volume dominated by `points` (n, d) and bounded by `reference` (d,), in the product of their units.

    Points that are not better than the reference in every objective count for nothing.
    """
    inside = points[(points < reference).all(axis=1)]
    return _volume(nondominated(inside), reference) if len(inside) else 0.0


def contribution(point: Floats, front: Floats, reference: Floats) -> float:
    """By how much the volume of `front` (n, d) grows with `point` (d,) in it (While, Bradstreet, Barone 2012)."""
    if not (point < reference).all():
        return 0.0
    own = float(np.prod(reference - point))
    return own - hypervolume(np.maximum(front, point), reference) if len(front) else own


def volumes(losses: Sequence[tuple[float, ...] | None], ideal: Floats, reference: Floats) -> Floats:
    """The hypervolume after each trial as a share of the box from `ideal` to `reference`; None adds nothing."""
    front = np.empty((0, len(reference)))
    total, found = 0.0, np.zeros(len(losses))
    for i, loss in enumerate(losses):
        if loss is not None:
            point = np.maximum(np.asarray(loss, dtype=float), ideal)
            if not (front <= point).all(axis=1).any():
                total += contribution(point, front, reference)
                front = np.vstack([front[~(point <= front).all(axis=1)], point])
        found[i] = total
    return np.minimum(found / float(np.prod(reference - ideal)), 1.0)


def nondominated(points: Floats) -> Floats:
    """The points (n, d) that no other point dominates, each once."""
    points = np.unique(points, axis=0)
    kept = np.ones(len(points), dtype=bool)
    for i, point in enumerate(points):
        if kept[i]:
            # Rows are sorted, so a point can only be dominated by one before it.
            kept[i + 1 :] &= ~(point <= points[i + 1 :]).all(axis=1)
    return points[kept]


def _volume(front: Floats, reference: Floats) -> float:
    if front.shape[1] == 1:
        return float(reference[0] - front[:, 0].min())
    if front.shape[1] == 2:
        front = front[np.argsort(front[:, 0])]
        floors = np.minimum.accumulate(np.concatenate([reference[1:], front[:, 1]]))
        return float(np.sum((reference[0] - front[:, 0]) * (floors[:-1] - floors[1:])))
    # Slabs along the last objective: in each, the points at or below it dominate a volume of one dimension less.
    front = front[np.argsort(front[:, -1], kind="stable")]
    heights = np.diff(np.append(front[:, -1], reference[-1]))
    return sum(
        float(height) * _volume(nondominated(front[: i + 1, :-1]), reference[:-1])
        for i, height in enumerate(heights)
        if height > 0
    )
