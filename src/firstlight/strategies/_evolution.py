"""Points as populations: ranked by what came of them, varied, and made legal again."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.spatial.distance import cdist

from firstlight import core

from ._encoding import Array, Indices
from ._space import Space

STEPS = (0.4, 0.9)
"""The range of differential evolution's weight F, drawn anew for every point (dither)."""
CROSSED = (0.9, 0.3)
"""Its crossover rates: high where coordinates depend on each other, low where they do not."""
GREED = 0.5
"""How often a point starts from the best member, and not from any."""
HOPS = (0.02, 0.5)
"""The least and the greatest step of a hop, on the unit box."""
ASIDE = 0.02
"""How far a hop moves the coordinates that it leaves alone, as a share of its step."""


@dataclass(frozen=True)
class Group:
    """Points and what came of them: `raw` (n, d), `loss` (n, objectives), `excess` (n, 1 + outcome constraints).

    The excess is by how much each bound is broken; the first column is infinite for trials that say nothing of the
    objectives (failed, not observed), else zero.
    """

    raw: Array
    loss: Array
    excess: Array

    def __len__(self) -> int:
        return len(self.raw)

    def take(self, which: Indices) -> "Group":
        return Group(*(getattr(self, f.name)[which] for f in fields(self)))

    def plus(self, other: "Group") -> "Group":
        return Group(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


def empty(spec: core.CampaignSpec) -> Group:
    """A group of none."""
    goal = spec.goal
    width = (len(spec.parameters), len(goal.objectives), 1 + len(goal.outcome_constraints))
    return Group(*(np.empty((0, w)) for w in width))


def group(goal: core.Goal, raw: Array, rows: Sequence[core.Row | None]) -> Group:
    """What came of the points, one a raw row; None where nothing is to be known."""
    told = [_told(goal, row) for row in rows]
    return Group(raw, np.array([loss for loss, _ in told]), np.array([excess for _, excess in told]))


def _told(goal: core.Goal, row: core.Row | None) -> tuple[list[float], list[float]]:
    seen = {} if row is None or row.failure is not None else row.seen
    names = [o.observable for o in goal.objectives] + [c.observable for c in goal.outcome_constraints]
    if any(name not in seen for name in names):
        return [np.inf] * len(goal.objectives), [np.inf] + [0.0] * len(goal.outcome_constraints)
    over = [seen[c.observable].value - c.bound for c in goal.outcome_constraints]
    signs = [1.0 if c.relation == "<=" else -1.0 for c in goal.outcome_constraints]
    loss = [core.loss(o, seen[o.observable].value) for o in goal.objectives]
    return loss, [0.0, *(max(0.0, sign * x) for sign, x in zip(signs, over, strict=True))]


def marks(some: Group, weights: Array) -> tuple[Array, Array]:
    """Two marks a point, the first to count first, low ones good: what it breaks, and what it is worth.

    Bounds count by the most that any of the group breaks them by. Several objectives are scaled by what the group
    spans, and the worst counts (Chebyshev), with a little of the sum so that no point counts that another dominates.
    """
    finite = np.where(np.isfinite(some.excess), some.excess, 0.0)
    most = finite.max(0, initial=0.0)
    broken = (some.excess / np.where(most > 0, most, 1.0)).sum(1)
    if some.loss.shape[1] == 1:
        return broken, some.loss[:, 0]
    told = some.loss[np.isfinite(some.excess[:, 0])]
    low = told.min(0) if len(told) else np.zeros(len(weights))
    span = np.ptp(told, axis=0) if len(told) else np.ones(len(weights))
    share = weights * (some.loss - low) / np.where(span > 0, span, 1.0)
    return broken, share.max(1) + 0.05 * share.sum(1)


def ranked(some: Group, weights: Array) -> Indices:
    """The indices of a group, the best first."""
    broken, worth = marks(some, weights)
    return np.lexsort((worth, broken))


def winners(old: Group, new: Group, weights: Array) -> Group:
    """Of two groups of the same length, member by member the better; the new one where they are as good."""
    broken, worth = marks(old.plus(new), weights)
    n = len(old)
    better = (broken[n:] < broken[:n]) | ((broken[n:] == broken[:n]) & (worth[n:] <= worth[:n]))
    return old.plus(new).take(np.where(better, n, 0) + np.arange(n))


def elite(some: Group, most: int) -> Group:
    """At most so many of the best: with several objectives front by front, of the last those with most room."""
    if some.loss.shape[1] == 1:
        return some.take(ranked(some, np.ones(1))[:most])
    broken, _ = marks(some, np.ones(some.loss.shape[1]))
    left = np.lexsort((np.arange(len(some)), broken))
    left, rest = left[broken[left] == 0], left[broken[left] > 0]
    chosen: list[int] = []
    while len(left) and len(chosen) < most:
        loss = some.loss[left]
        worse = (loss[:, None] >= loss[None]).all(2) & (loss[:, None] > loss[None]).any(2)
        front = left[~worse.any(1)]
        front = front[np.argsort(-_room(some.loss[front]), kind="stable")]
        chosen += front[: most - len(chosen)].tolist()
        left = left[worse.any(1)]
    return some.take(np.array([*chosen, *rest[: most - len(chosen)]], dtype=np.intp))


def _room(loss: Array) -> Array:
    """The crowding distance of points of one front (n, objectives): infinite at its ends."""
    room = np.zeros(len(loss))
    for column in loss.T:
        order = np.argsort(column, kind="stable")
        gaps = np.diff(column[order]) / (np.ptp(column) or 1.0)
        room[order] += np.concatenate([[np.inf], gaps[1:] + gaps[:-1], [np.inf]]) if len(loss) > 1 else np.inf
    return room


# ------------------------------------------------------------------ new points


def crossed(members: Array, best: int, targets: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Differential evolution: a new point for every target, and which members they start from.

    All on the unit box. Base and difference are of different members; numbers leaving the box come back inside.
    """
    (n, d), k = targets.shape, len(members)
    three = np.argsort(rng.random((n, k)), axis=1)[:, :3] % k if k >= 3 else rng.integers(k, size=(n, 3))
    base = np.where(rng.random(n) < GREED, best, three[:, 0])
    moved = members[base] + rng.uniform(*STEPS, size=(n, 1)) * (members[three[:, 1]] - members[three[:, 2]])
    rate = rng.choice(CROSSED, p=(0.75, 0.25), size=(n, 1))
    mixed = (rng.random((n, d)) < rate) | (np.arange(d) == rng.integers(d, size=(n, 1)))
    return reflected(np.where(mixed, moved, targets)), base


def reflected(unit: Array) -> Array:
    """Numbers off the unit box by less than its width, mirrored back into it."""
    inside = np.abs(unit)
    return np.asarray(np.clip(np.where(inside > 1.0, 2.0 - inside, inside), 0.0, 1.0))


def scattered(centre: Array, n: int, hop: tuple[Array, float], rng: np.random.Generator) -> Array:
    """n points about one, on the unit box: by `step` in the coordinates that are `moved`, by far less in the others.

    What would leave the box is drawn anew, over all of its width.
    """
    moved, step = hop
    unit = centre + np.where(moved, step, ASIDE * step) * rng.standard_normal((n, len(centre)))
    return np.where((unit < 0.0) | (unit > 1.0), rng.random((n, len(centre))), unit)


def hop_of(d: int, rng: np.random.Generator) -> tuple[Array, float]:
    """Which of d coordinates a hop moves (one, some or all of them), and by what step on the unit box."""
    moved = rng.random(d) < rng.choice([1.0 / d, 0.4, 1.0])
    moved[rng.integers(d)] = True
    low, high = np.log(HOPS)
    return moved, float(np.exp(rng.uniform(low, high)))


def realised(space: Space, unit: Array, parents: Array, others: Array, rng: np.random.Generator) -> Array:
    """Raw rows near wishes on the unit box (n, d), every one legal where its parents (raw rows) are.

    Names come from either parent, now and then from neither. What constraints tie together is chosen as in the first
    parent, or varied; sums are kept by going from inside the room they leave as far towards the wish as it goes.
    """
    encoding, choices = space.encoding, space.choices
    raw = encoding.from_unit(unit)
    named = np.array([isinstance(p, core.Categorical) for p in encoding.parameters])
    inherited = np.where(rng.random(raw.shape) < 0.5, parents, others)
    redrawn = np.floor(rng.random(raw.shape) * (encoding.high + 1.0))
    anew = rng.random(raw.shape) < REDRAWN / raw.shape[1]
    raw = np.where(named, np.where(anew, redrawn, inherited), raw)
    if space.rows is not None or not (choices.tied or len(choices.block)):
        return raw
    for row, parent in zip(raw, parents, strict=True):
        _keep_sums(space, row, parent, rng)
    return raw


REDRAWN = 0.5
"""How many names of a point are drawn anew, on average."""


def _keep_sums(space: Space, row: Array, parent: Array, rng: np.random.Generator) -> None:
    choices, block = space.choices, space.choices.block
    skeleton = choices.of(parent)
    if choices.tied and rng.random() < REDRAWN:
        varied = choices.varied(parent, rng)
        if choices.allows(varied) and space.polytope(varied) is not None:
            skeleton = varied
    space.settle(row[None], np.zeros(1, dtype=np.intp), skeleton)
    room = space.polytope(skeleton)
    if room is None or not len(block):
        return
    least, width = skeleton.least[block], (skeleton.most - skeleton.least)[block]
    wish = np.clip((row[block] - least) / np.where(width > 0, width, 1.0), 0.0, 1.0)
    row[block] = np.clip(least + room.towards(room.sample(1, rng), wish[None])[0] * width, least, skeleton.most[block])


def nearest(space: Space, row: Array, free: Array) -> int | None:
    """The index of the listed point most like a raw row (d,), of those that are free; None where none is."""
    assert space.rows is not None
    left = np.flatnonzero(free)
    if not len(left):
        return None
    away = cdist(space.encoding.features(row[None]), space.encoding.features(space.rows[left]), "sqeuclidean")
    return int(left[np.argmin(away[0])])
