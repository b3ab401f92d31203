"""What all strategies here share: the seed, what was tried, spreading points out, and keeping what was worked out."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from firstlight import core

from ._encoding import Array, Indices
from ._space import Space

Result = TypeVar("Result")
Key = tuple[core.Scalar, ...]

APART = 1e-6
"""Two points closer than this, on the unit box, are the same point."""
DIVERSE = 0.01
"""Points under way at the same time are at least so far apart, where the space allows it."""

REFUSALS = 3
"""A source of which the last so many trials were refused is left alone: nobody lets it, or it may not be used."""


class Memo(Generic[Result]):
    """Keeps the last few results of a pure function. Forgetting one costs time and changes nothing."""

    def __init__(self, size: int) -> None:
        self._size, self._kept = size, OrderedDict[Hashable, Result]()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Result]) -> Result:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return made


_spaces: Memo[tuple[core.CampaignSpec, Space]] = Memo(8)


def space_of(spec: core.CampaignSpec) -> Space:
    """The space of a specification. Known again by identity: the memo keeps it alive, so its id is not reused."""
    return _spaces.get(id(spec), lambda: (spec, Space(spec)))[1]


def generator(seed: int, *more: int) -> np.random.Generator:
    """A generator for any whole number, negative ones included."""
    return np.random.default_rng([2 * seed if seed >= 0 else -2 * seed - 1, *more])


def asked_for(goal: core.Goal) -> list[str]:
    """The observables that a goal asks for, its bounds included, in alphabetical order."""
    return sorted({o.observable for o in goal.objectives} | {b.observable for b in goal.outcome_constraints})


def refusing(spec: core.CampaignSpec, results: core.Results) -> frozenset[core.Scalar]:
    """The sources besides the target that are to be left alone, for nothing of them is let through."""
    if spec.fidelity is None:
        return frozenset()
    last: dict[core.Scalar, list[bool]] = {}
    for row in results.rows:
        source = row.point[spec.fidelity.parameter]
        if source != spec.fidelity.target:
            last.setdefault(source, []).append(row.failure is not None and row.failure.cause == "refused")
    return frozenset(s for s, refused in last.items() if len(refused) >= REFUSALS and all(refused[-REFUSALS:]))


def digest(*arrays: Array) -> bytes:
    """A name for the content of some arrays."""
    h = hashlib.blake2b(digest_size=16)
    for a in arrays:
        h.update(str(a.shape).encode() + np.ascontiguousarray(a).tobytes())
    return h.digest()


class Taken:
    """The points tried, pending or chosen already, which are not to be chosen again."""

    def __init__(self, space: Space, results: core.Results) -> None:
        self._space, self._encoding, self._results = space, space.encoding, results

    # Worked out when first asked for: a strategy that asks for none of it costs no more after many trials.

    @cached_property
    def _points(self) -> list[core.Point]:
        return [row.point for row in (*self._results.rows, *self._results.pending.values())]

    @cached_property
    def _keys(self) -> set[Key]:
        names = set(self._encoding.names)
        return {self._key(p) for p in self._points if names <= p.keys()}

    @cached_property
    def features(self) -> Array:
        """What is taken, as far as it can be placed, (n, features)."""
        return self._encoding.features_as_run(self._points)

    @cached_property
    def refusing(self) -> frozenset[core.Scalar]:
        """The sources to be left alone."""
        return refusing(self._space.spec, self._results)

    @cached_property
    def _busy(self) -> Array:
        return self.features[len(self._results.rows) :]

    def _key(self, point: core.Point) -> Key:
        return tuple(point[name] for name in self._encoding.names)

    def listed(self, part: Space) -> Indices:
        """Which rows of a listed part of the space are not taken yet."""
        free = np.ones(len(part.places), dtype=bool)
        free[[part.places[key] for key in self._keys if key in part.places]] = False
        return np.flatnonzero(free)

    def free(self, raw: Array, diverse: bool = False) -> Array:
        """The rows (n, d) not taken yet, each once; if `diverse` only those apart from what is under way."""
        if not len(raw):
            return raw
        if self._encoding.whole.all():
            return self._unseen(raw)
        raw = raw[np.sort(np.unique(raw, axis=0, return_index=True)[1])]
        return np.asarray(raw[self.apart(self._encoding.features(raw), diverse)])

    def apart(self, features: Array, diverse: bool = True) -> npt.NDArray[np.bool_]:
        """Which of some features (n, D) are not taken; if `diverse`, and not too near to what is under way."""
        keep = np.ones(len(features), dtype=bool)
        if len(self.features):
            keep &= cdist(features, self.features, "sqeuclidean").min(1) > APART**2
        if diverse and len(self._busy):
            keep &= cdist(features, self._busy, "sqeuclidean").min(1) > DIVERSE**2
        return keep

    def _unseen(self, raw: Array) -> Array:
        seen = set(self._keys)
        keep = np.zeros(len(raw), dtype=bool)
        for i, point in enumerate(self._encoding.points(raw)):
            key = self._key(point)
            keep[i] = key not in seen
            seen.add(key)
        return np.asarray(raw[keep])

    def take(self, row: Array) -> None:
        """From now on one row, of shape (1, d), is taken."""
        self._keys.add(self._key(self._encoding.points(row)[0]))
        features = self._encoding.features(row)
        self.features, self._busy = np.vstack([self.features, features]), np.vstack([self._busy, features])


def room(space: Space, points: Sequence[core.Point]) -> Space:
    """Where the next point of a design may be: on a plate, only where it shares the settings of the plate's first."""
    shared, place = space.spec.shared, len(points) % space.spec.batch
    if not shared or not place:
        return space
    first = points[len(points) - place]
    return space.narrowed({name: first[name] for name in shared})


def no_plates(strategy: str, spec: core.CampaignSpec) -> None:
    """Refuse a campaign whose batches share settings. Raises ValueError."""
    if spec.shared:
        raise ValueError(f"strategy {strategy} does not keep shared settings: use bayes, random or sobol")


def spread(space: Space, taken: Taken, count: int, rng: np.random.Generator, unit: Array | None = None) -> Array:
    """At most `count` rows far from each other and from all taken (farthest first); they are taken thereby.

    With `unit` (n, d), the candidates are that design, as far as constraints leave it alone.
    """
    wanted = 512 if unit is None else len(unit)
    if space.rows is not None:
        free = taken.listed(space)
        candidates = space.rows[free if len(free) <= 4096 else rng.choice(free, size=4096, replace=False)]
    else:
        sampled = space.sample(wanted, rng, unit)
        candidates = taken.free(sampled, diverse=True)
        candidates = candidates if len(candidates) else taken.free(sampled)
    chosen = np.empty((0, len(space.encoding.names)))
    if not len(candidates):
        return chosen
    features = space.encoding.features(candidates)
    nearest = np.full(len(features), np.inf)
    if len(taken.features):
        nearest = cdist(features, taken.features, "sqeuclidean").min(1)
    for _ in range(min(count, len(candidates))):
        # Corners are always the farthest: choosing among a random few keeps the inside in play.
        left = np.flatnonzero(nearest > -1)
        left = rng.choice(left, size=min(len(left), 48), replace=False)
        i = int(left[np.argmax(nearest[left])])
        row = candidates[[i]]
        taken.take(row)
        chosen = np.vstack([chosen, row])
        nearest = np.minimum(nearest, ((features - features[i]) ** 2).sum(1))
        nearest[i] = -2.0
    return chosen


def unknown_options(strategy: str, options: dict[str, object], known: tuple[str, ...]) -> None:
    """Refuse options that the strategy does not have. Raises ValueError."""
    for name in options:
        raise ValueError(f"strategy {strategy} has no option {name!r}; it has: {', '.join(known) or 'none'}")


def whole_option(strategy: str, name: str, value: object, least: int) -> int:
    """A whole number of at least `least`. Raises ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"option {name} of strategy {strategy} must be a whole number from {least}, not {value!r}")
    return value
