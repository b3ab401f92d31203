"""Strategies that do not learn: random, Sobol and grid. The reference that others are measured against."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from firstlight import core

from ._common import Taken, generator, no_plates, room, space_of, spread, unknown_options, whole_option
from ._encoding import Array, Encoding
from ._space import Space


class Random:
    """Points at random: uniform over a pool or a box, near enough uniform where constraints cut."""

    plates = True

    def __init__(self, **options: object) -> None:
        unknown_options("random", options, ())

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        # With the number of trials in it, one seed gives other points once some are under way.
        space, rng = space_of(spec), generator(seed, len(results.rows) + len(results.pending))
        taken = Taken(space, results)
        points: list[core.Point] = []
        while len(points) < count:
            part = room(space, points)
            # On a plate one by one, for all but the first share its settings.
            found = self._some(part, taken, 1 if spec.shared else count, rng)
            if not len(found):
                break
            if spec.shared:
                taken.take(found)
            points += space.encoding.points(found)
            if not spec.shared:
                break
        return [core.Proposal(point=p, reason="at random") for p in points]

    def _some(self, space: Space, taken: Taken, count: int, rng: np.random.Generator) -> Array:
        if space.rows is not None:
            free = taken.listed(space)
            return np.asarray(space.rows[free[rng.permutation(len(free))[:count]]])
        # In a space too large to list a repeat is next to impossible; looking for one would cost more and more.
        return np.asarray(space.sample(count + 4, rng)[:count])


class Sobol:
    """A scrambled Sobol sequence (Owen 1998) on a box; elsewhere points spread out, the farthest first.

    On a box without constraints the sequence goes on from design to design of one campaign.
    """

    plates = True

    def __init__(self, **options: object) -> None:
        unknown_options("sobol", options, ())

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        space = space_of(spec)
        taken = Taken(space, results)
        if spec.shared:
            points = self._plates(space, taken, count, seed)
        else:
            chosen = self._plain(space, taken, results, count)
            points = space.encoding.points(spread(space, taken, count, generator(seed)) if chosen is None else chosen)
        return [core.Proposal(point=p, reason="space-filling") for p in points]

    def _plates(self, space: Space, taken: Taken, count: int, seed: int) -> list[core.Point]:
        points, rng = list[core.Point](), generator(seed)
        while len(points) < count:
            found = space.encoding.points(spread(room(space, points), taken, 1, rng))
            if not found:
                break
            points += found
        return points

    def _plain(self, space: Space, taken: Taken, results: core.Results, count: int) -> Array | None:
        if space.spec.constraints or space.rows is not None:
            return None
        # Every point taken may have come from the sequence: those after it are surely enough.
        n = len(results.rows) + len(results.pending) + count
        unit = sobol(len(space.encoding.names), n, space.spec.seed)
        free = taken.free(space.sample(n, generator(space.spec.seed), unit))
        return free[:count] if len(free) >= count else None


def sobol(d: int, n: int, seed: int) -> Array:
    """The first n points of the sequence that a seed scrambles, (n, d)."""
    from scipy.stats import qmc  # noqa: PLC0415  scipy.stats takes as long to load as all else here.

    whole = 2 ** math.ceil(math.log2(max(n, 1)))
    return np.asarray(qmc.Sobol(d, scramble=True, rng=generator(seed, 1)).random(whole))[:n]


class Grid:
    """Every combination of `levels` values a number and of all other values; in order, the last parameter fastest.

    Only points that keep the constraints; of a pool every row. Numbers that constraints on sums tie
    together rarely meet on a grid: give them few levels, or use sobol.
    """

    def __init__(self, *, levels: int = 5, **options: object) -> None:
        unknown_options("grid", options, ("levels",))
        self.levels = whole_option("grid", "levels", levels, 1)

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        no_plates("grid", spec)
        space = space_of(spec)
        tried = [*results.rows, *results.pending.values()]
        taken = {tuple(row.point.get(n) for n in space.encoding.names) for row in tried}
        fresh = (p for p in self._points(spec, space) if tuple(p[n] for n in space.encoding.names) not in taken)
        return [core.Proposal(point=p, reason="next on the grid") for p in itertools.islice(fresh, count)]

    def _points(self, spec: core.CampaignSpec, space: Space) -> Iterator[core.Point]:
        if spec.pool is not None:
            yield from space.encoding.points(np.empty((0, 0)) if space.rows is None else space.rows)
            return
        axes = [_levels(space.encoding, j, self.levels) for j in range(len(space.encoding.names))]
        for row in itertools.product(*axes):
            point = space.encoding.points(np.array([row]))[0]
            if not core.violations(spec, point):
                yield point


def _levels(encoding: Encoding, j: int, levels: int) -> list[float]:
    """The raw values of one parameter on the grid, ascending."""
    p, d = encoding.parameters[j], len(encoding.names)
    if isinstance(p, core.Ordered | core.Categorical):
        return [float(i) for i in range(len(p.values))]
    unit = np.zeros((levels, d))
    unit[:, j] = np.linspace(0.0, 1.0, levels) if levels > 1 else 0.5
    return [float(v) for v in np.unique(encoding.from_unit(unit)[:, j])]
