"""A pool: every point that can be tried, and what came of each when it was."""

import hashlib
import math
from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from firstlight import core

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Replicates = tuple[tuple[float, ...], ...]
"""What was observed at one row: a tuple a repetition, a value an observable. None at all where the trial failed."""


class Pool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True, eq=False):
    """Points with known outcomes, as a campaign whose answers are looked up.

    `spec.pool` lists the points; `outcomes` has for each of them the replicates of the `observables`, in their order.
    `assumed` says in words what the data did not. Two pools are equal where they are one; `digest` compares content.
    """

    name: str
    spec: core.CampaignSpec
    observables: tuple[str, ...]
    outcomes: tuple[Replicates, ...]
    source: str = ""
    assumed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.outcomes)

    @cached_property
    def points(self) -> tuple[core.Point, ...]:
        """The rows as points."""
        assert self.spec.pool is not None
        return self.spec.pool.points()

    @cached_property
    def places(self) -> dict[tuple[core.Scalar, ...], int]:
        """The row of every point, by its values in the order of the pool's columns."""
        assert self.spec.pool is not None
        return {row: i for i, row in enumerate(self.spec.pool.rows)}

    @cached_property
    def means(self) -> Floats:
        """The mean of the replicates, (rows, observables); nan where the trial failed."""
        empty = (math.nan,) * len(self.observables)
        return np.array([np.mean(r, axis=0) if r else empty for r in self.outcomes]).reshape(len(self), -1)

    @cached_property
    def sigma(self) -> Floats:
        """The standard deviation of one replicate, pooled over all rows that have several, (observables,); else 0."""
        several = [np.asarray(r) for r in self.outcomes if len(r) > 1]
        if not several:
            return np.zeros(len(self.observables))
        squares = sum(((r - r.mean(axis=0)) ** 2).sum(axis=0) for r in several)
        return np.asarray(np.sqrt(squares / sum(len(r) - 1 for r in several)))

    @cached_property
    def losses(self) -> Floats:
        """The mean outcomes as losses, (rows, objectives); nan where the trial failed or broke an outcome bound."""
        found = [core.losses(self.spec.goal, self.seen(row)) for row in self.means]
        empty = (math.nan,) * len(self.spec.goal.objectives)
        return np.array([empty if loss is None else loss for loss in found]).reshape(len(self), -1)

    def seen(self, values: Floats) -> core.Seen:
        """Values of the observables as observations, without those that are nan."""
        units = _units(self.spec)
        return {
            name: core.Observation(observable=name, value=float(value), unit=units[name])
            for name, value in zip(self.observables, values, strict=True)
            if not math.isnan(value)
        }

    @cached_property
    def digest(self) -> str:
        """The same for the same points, outcomes and goal, wherever they were read."""
        goal = (self.spec.goal.objectives, self.spec.goal.outcome_constraints)
        what = (self.spec.parameters, self.spec.constraints, goal, self.spec.pool, self.observables, self.outcomes)
        return hashlib.sha256(msgspec.json.encode(what, order="sorted")).hexdigest()

    def row(self, point: core.Point) -> tuple[core.Scalar, ...]:
        """The values of a point in the order of the pool's columns; those it lacks are left out."""
        assert self.spec.pool is not None
        return tuple(point[c] for c in self.spec.pool.columns if c in point)

    def find(self, point: core.Point) -> int | None:
        """The row of a point; numbers may differ by rounding. None where it is not in the pool."""
        assert self.spec.pool is not None
        if point.keys() != set(self.spec.pool.columns):
            return None
        wanted = self.row(point)
        exact = self.places.get(wanted)
        if exact is not None:
            return exact
        for i, row in enumerate(self.spec.pool.rows):
            if all(a == b or _close(a, b) for a, b in zip(row, wanted, strict=True)):
                return i
        return None


def _close(a: core.Scalar, b: core.Scalar) -> bool:
    return not isinstance(a, str) and not isinstance(b, str) and math.isclose(a, b, rel_tol=1e-9)


def _units(spec: core.CampaignSpec) -> dict[str, str]:
    units = {o.name: o.unit for o in spec.observables}
    return units | {o.observable: o.unit for o in spec.goal.objectives}


def hidden(pool: Pool, share: float, seed: int) -> Flags:
    """Which rows a region of this share of the pool hides: those nearest a row drawn at random.

    Nearness is Euclidean, with every number scaled to its range in the pool and words at unit distance from each other.
    """
    chosen = np.zeros(len(pool), dtype=bool)
    count = round(share * len(pool))
    if not count:
        return chosen
    rng = np.random.default_rng([seed, 0x41D])
    centre = int(rng.integers(len(pool)))
    squares = np.zeros(len(pool))
    for p in pool.spec.parameters:
        values = [point[p.name] for point in pool.points]
        if any(isinstance(v, str) for v in values):
            squares += np.array([v != values[centre] for v in values], dtype=float)
        else:
            numbers = np.array(values, dtype=float)
            squares += ((numbers - numbers[centre]) / (np.ptp(numbers) or 1.0)) ** 2
    # Many rows of a grid are equally far: which of them are hidden is drawn too.
    order = np.lexsort((rng.random(len(pool)), squares))
    chosen[order[:count]] = True
    return chosen
