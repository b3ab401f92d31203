"""How much of objective space some losses dominate, up to a reference point that is worse (Zitzler and Thiele 1999)."""

import numpy as np

from ._pool import Floats


def hypervolume(points: Floats, reference: Floats) -> float:
    """The volume that losses (n, m) dominate up to a reference (m,). Those not better than it count for nothing."""
    inside = points[(points < reference).all(axis=1)]
    return _volume(_front(inside), reference) if len(inside) else 0.0


def shares(losses: Floats, reference: Floats) -> Floats:
    """The volume after each row of losses (n, m); a row with nan, a trial that failed, adds nothing."""
    front, total = np.empty((0, len(reference))), 0.0
    found = np.zeros(len(losses))
    for t, point in enumerate(losses):
        if (point < reference).all() and not (front <= point).all(axis=1).any():
            # What the point adds is its own box less what the front has of that box (While, Bradstreet, Barone 2012).
            total += float(np.prod(reference - point)) - hypervolume(np.maximum(front, point), reference)
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
        found[t] = total
    return found


def _front(points: Floats) -> Floats:
    """The rows that no other dominates, each once."""
    points = np.unique(points, axis=0)
    kept = np.ones(len(points), dtype=bool)
    for i, point in enumerate(points):
        if kept[i]:
            # They are sorted, so that only one before it can dominate a row.
            kept[i + 1 :] &= ~(point <= points[i + 1 :]).all(axis=1)
    return points[kept]


def _volume(front: Floats, reference: Floats) -> float:
    """By slabs along the last objective, each of which has a volume of one dimension less."""
    if front.shape[1] == 1:
        return float(reference[0] - front[:, 0].min())
    if front.shape[1] == 2:
        # The rows are sorted by the first objective, and none dominates another: a staircase.
        steps = np.append(front[1:, 0], reference[0]) - front[:, 0]
        return float(steps @ (reference[1] - front[:, 1]))
    front = front[np.argsort(front[:, -1], kind="stable")]
    heights = np.diff(np.append(front[:, -1], reference[-1]))
    return float(
        sum(
            height * _volume(_front(front[: i + 1, :-1]), reference[:-1])
            for i, height in enumerate(heights)
            if height > 0
        )
    )  # fmt: skip
