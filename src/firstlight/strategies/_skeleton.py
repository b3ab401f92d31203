"""The choices that constraints tie together: values, which parts are in a mixture, how a region is kept out of."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from firstlight import core

from ._encoding import Array, Encoding, numbers_of

TRACE = 1e-4
"""The least share of the total that counts as a part, where the number of parts is limited."""
SLACK = 1e-9
FEW = 64
"""An integer of at most this many values, which a forbidden region bounds, is chosen value by value."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Skeleton:
    """One way to settle the choices: what is chosen (nan: nothing), and the least and the most amount, shape (d,).

    The first d of `chosen` are raw values; then follows, for each forbidden region with numbers in it, which way it is
    kept out of (see `Region`).
    """

    chosen: Array
    least: Array
    most: Array


@dataclass(frozen=True)
class Region:
    """A forbidden region as ways to keep out of it, no two of which have a point in common.

    Way 0: by the values that are chosen (`values`: those inside, by parameter). Way 1 and on: by a number. The k-th
    way bounds some numbers: that one to below or above its range, and those before it to inside theirs.
    """

    values: dict[int, set[float]]
    ways: tuple[dict[int, Interval], ...]

    @property
    def numbers(self) -> set[int]:
        """The parameters that some way bounds."""
        return {j for way in self.ways for j in way}


class Choices:
    """All skeletons of a specification, walked depth first; a branch that no constraint allows is never entered.

    Every constraint on sums is a row of `rows`: lower <= rows @ amounts <= upper, where an amount is a
    number or the value of an ordered parameter.
    """

    def __init__(self, encoding: Encoding, constraints: tuple[core.Constraint, ...]) -> None:
        self.encoding, d = encoding, len(encoding.names)
        self.index = {name: j for j, name in enumerate(encoding.names)}
        self.amounts = [_amounts(encoding, j) for j in range(d)]
        sums: list[tuple[dict[str, float], float, float]] = []
        self.excludes: list[dict[int, set[float]]] = []
        self.limits: list[tuple[list[int], int, int, float]] = []
        forbidden = [c for c in constraints if isinstance(c, core.Forbid)]
        for c in constraints:
            match c:
                case core.Linear(terms=terms, relation=relation, bound=bound):
                    sums.append((terms, -np.inf if relation == "<=" else bound, np.inf if relation == ">=" else bound))
                case core.Mixture(parameters=names, total=total, min_parts=fewest, max_parts=most):
                    sums.append((dict.fromkeys(names, 1.0), total, total))
                    upto = len(names) if most is None else most
                    if fewest > 1 or upto < len(names):
                        self.limits.append(([self._of(n) for n in names], fewest, upto, abs(total)))
                case core.Exclude(combination=combination):
                    self.excludes.append({self._of(n): self._raw(n, values) for n, values in combination.items()})
        self.rows = np.zeros((len(sums), d))
        for i, (terms, _, _) in enumerate(sums):
            for name, k in terms.items():
                if self.amounts[self._of(name)] is None and not isinstance(self._parameter(name), core.Continuous):
                    raise ValueError(f"{name} is not a number: a sum cannot have it as a term")
                self.rows[i, self.index[name]] += k
        self.lower, self.upper = np.array([s[1] for s in sums]), np.array([s[2] for s in sums])
        summed = (self.rows != 0).any(0)
        excluded = {j for e in self.excludes for j in e}
        excluded |= {j for c in forbidden for j in map(self._of, (*c.ranges, *c.values)) if self._listed(j)}
        whole = encoding.whole
        self.block = np.flatnonzero(summed & ~whole)
        parts = {j for names, *_ in self.limits for j in names if not whole[j]}
        self.tied = [j for j in range(d) if (whole[j] and (summed[j] or j in excluded)) or j in parts]
        self.parts = parts
        self.regions: list[Region] = []
        for c in forbidden:
            region = self._region(c)
            if region.ways:
                self.tied.append(d + len(self.regions))
                self.regions.append(region)
            else:
                self.excludes.append(region.values)
        self.width = d
        self.discrete = np.array([j for j in self.tied if j < d and j not in parts], dtype=np.intp)
        """The parameters whose raw value is chosen."""
        bounded = {j for region in self.regions for j in region.numbers}
        self.bounded = np.array(sorted(bounded - set(self.block.tolist()) - set(self.tied)), int)
        """Numbers that nothing ties but a way to keep out of a region: they are anywhere between least and most."""
        settled = {*self.tied, *self.block.tolist(), *self.bounded.tolist()}
        self.loose = np.array([j for j in range(d) if j not in settled], int)

    def _of(self, name: str) -> int:
        if name not in self.index:
            raise ValueError(f"a constraint names {name!r}, which is not a parameter")
        return self.index[name]

    def _parameter(self, name: str) -> core.Parameter:
        return self.encoding.parameters[self.index[name]]

    def _raw(self, name: str, values: tuple[core.Scalar, ...]) -> set[float]:
        p = self._parameter(name)
        if isinstance(p, core.Continuous | core.Integer):
            return {float(v) for v in values if not isinstance(v, str)}
        return {float(p.values.index(v)) for v in values if v in p.values}

    def _listed(self, j: int) -> bool:
        p = self.encoding.parameters[j]
        return bool(self.encoding.whole[j]) and (not isinstance(p, core.Integer) or p.high - p.low < FEW)

    def _region(self, c: core.Forbid) -> Region:
        """Numbers that are not chosen one by one bound the ways; all else is a set of values inside."""
        values = {self._of(n): self._raw(n, inside) for n, inside in c.values.items()}
        ways, before = list[dict[int, Interval]](), dict[int, Interval]()
        for name, (low, high) in c.ranges.items():
            j = self._of(name)
            p, amounts = self.encoding.parameters[j], self.amounts[j]
            if self.encoding.whole[j] and j in self.tied:
                if amounts is None:
                    raise ValueError(f"{name} is not a number: it has no range")
                values[j] = {
                    float(i) + self.encoding.low[j] for i in np.flatnonzero((amounts >= low) & (amounts <= high))
                }
                continue
            if not isinstance(p, core.Continuous | core.Integer):
                raise ValueError(f"{name} is not a number: it has no range")
            below, inside, above = _cut(p, low, high)
            ways += [{**before, j: side} for side in (below, above) if side is not None]
            before[j] = inside
        # Where nothing chosen and no number leads out, the one way there is leads nowhere.
        return Region(values, tuple(ways) or (({j: (np.inf, -np.inf) for j in before},) if before else ()))

    def domain(self, j: int) -> Array:
        """What a tied choice may be: raw values; for a continuous part of a mixture out (0) or in (1); ways."""
        if j >= self.width:
            region = self.regions[j - self.width]
            return np.arange(0.0 if region.values else 1.0, len(region.ways) + 1.0)
        if j in self.parts:
            low, high = self.encoding.low[j], self.encoding.high[j]
            return np.array([v for v in (0.0, 1.0) if (v == 0.0 and low <= 0.0 <= high) or (v == 1.0 and high > 0.0)])
        return np.arange(self.encoding.low[j], self.encoding.high[j] + 1.0)

    def size(self) -> float:
        """How many skeletons there would be if nothing forbade any."""
        return float(np.prod([float(len(self.domain(j))) for j in self.tied]))

    def walk(self, rng: np.random.Generator | None = None) -> Iterator[Skeleton]:
        """Every skeleton the constraints allow, in order; from a random corner in random order with `rng`."""
        order = list(self.tied) if rng is None else [int(j) for j in rng.permutation(self.tied)]
        # Whether a region is kept out of by values is known once they are chosen.
        order.sort(key=lambda j: j >= self.width)
        yield from self._descend(order, 0, self._open(), rng)

    def _open(self) -> Skeleton:
        least, most = self.encoding.low.copy(), self.encoding.high.copy()
        for j, amounts in enumerate(self.amounts):
            if amounts is not None:
                least[j], most[j] = amounts.min(), amounts.max()
        return Skeleton(np.full(len(least) + len(self.regions), np.nan), least, most)

    def _descend(
        self, order: list[int], depth: int, state: Skeleton, rng: np.random.Generator | None
    ) -> Iterator[Skeleton]:
        if not self._possible(state):
            return
        if depth == len(order):
            yield state
            return
        j = order[depth]
        domain = self.domain(j)
        for raw in domain if rng is None else rng.permutation(domain):
            yield from self._descend(order, depth + 1, self._fixed(state, j, float(raw)), rng)

    def _fixed(self, state: Skeleton, j: int, raw: float) -> Skeleton:
        chosen, least, most = state.chosen.copy(), state.least.copy(), state.most.copy()
        chosen[j] = raw
        if j >= self.width:
            for i, (low, high) in self.regions[j - self.width].ways[int(raw) - 1].items() if raw > 0 else ():
                least[i], most[i] = max(least[i], low), min(most[i], high)
        elif j in self.parts:
            floor = TRACE * max(total for names, _, _, total in self.limits if j in names)
            least[j], most[j] = (0.0, 0.0) if raw == 0 else (min(max(least[j], floor), most[j]), most[j])
        elif (amounts := self.amounts[j]) is not None and self.encoding.low[j] <= raw <= self.encoding.high[j]:
            least[j] = most[j] = amounts[int(raw - self.encoding.low[j])]
        return Skeleton(chosen, least, most)

    def of(self, row: Array) -> Skeleton:
        """The skeleton of a point, given as a raw row of shape (d,). That of a forbidden point is not allowed."""
        return self._settled(self._taken(row))

    def _taken(self, row: Array) -> dict[int, float]:
        """What a point chooses."""
        taken = {j: float(row[j] > 0) if j in self.parts else float(row[j]) for j in self.tied if j < self.width}
        for k, region in enumerate(self.regions):
            inside = all(taken[j] in values for j, values in region.values.items())
            ways = (i for i, way in enumerate(region.ways, 1) if _keeps(row, way))
            taken[self.width + k] = float(next(ways, 0)) if inside else 0.0
        return taken

    def _settled(self, taken: dict[int, float]) -> Skeleton:
        state = self._open()
        for j, raw in taken.items():
            state = self._fixed(state, j, raw)
        return state

    def allows(self, s: Skeleton) -> bool:
        """Whether a complete skeleton keeps every constraint that needs no linear programme."""
        return self._possible(s)

    def varied(self, row: Array, rng: np.random.Generator) -> Skeleton:
        """A skeleton that differs from a point's in one or two choices; it may not be allowed."""
        taken = self._taken(row)
        for j in rng.choice(self.tied, size=min(len(self.tied), 1 + int(rng.integers(2))), replace=False):
            domain, integer = self.domain(j), j < self.width and isinstance(self.encoding.parameters[j], core.Integer)
            if integer and rng.random() < 0.7:
                taken[j] = float(np.clip(taken[j] + rng.choice([-1.0, 1.0]), domain[0], domain[-1]))
            else:
                taken[j] = float(rng.choice(domain))
        for k, region in enumerate(self.regions):
            inside = all(taken[j] in values for j, values in region.values.items())
            way = taken[self.width + k]
            # Values that have moved into the region need a way out of it, and those that have left it none.
            taken[self.width + k] = way or float(rng.integers(len(region.ways)) + 1) if inside else 0.0
        return self._settled(taken)

    def _possible(self, s: Skeleton) -> bool:
        """Whether no constraint is already broken, whatever is chosen next."""
        if (s.least > s.most).any():
            return False
        for k, region in enumerate(self.regions):
            way = s.chosen[self.width + k]
            outside = not all(self._is(s, j, values) for j, values in region.values.items())
            if not np.isnan(way) and (way == 0.0) != outside:
                return False
        if len(self.rows):
            a, b = self.rows * s.least, self.rows * s.most
            smallest, largest = np.minimum(a, b).sum(1), np.maximum(a, b).sum(1)
            slack = SLACK * (np.abs(a).sum(1) + np.abs(b).sum(1) + 1.0)
            if (smallest > self.upper + slack).any() or (largest < self.lower - slack).any():
                return False
        for e in self.excludes:
            if all(self._is(s, j, values) for j, values in e.items()):
                return False
        for names, fewest, most, total in self.limits:
            surely = sum(s.least[j] > 1e-6 * total for j in names)
            perhaps = sum(s.most[j] > 1e-6 * total for j in names)
            if surely > most or perhaps < fewest:
                return False
        return True

    def _is(self, s: Skeleton, j: int, values: set[float]) -> bool:
        if j in self.parts:
            return bool(s.chosen[j] == 0.0) and 0.0 in values
        return float(s.chosen[j]) in values


def _cut(
    p: core.Continuous | core.Integer, low: float, high: float
) -> tuple[Interval | None, Interval, Interval | None]:
    """The numbers below a forbidden range (None: there are none), those inside it, and those above."""
    if isinstance(p, core.Integer):
        first, last = float(max(p.low, math.ceil(low))), float(min(p.high, math.floor(high)))
        # Where no whole number lies in the range, all lie below or above.
        last_below, first_above = (first - 1.0, last + 1.0) if first <= last else (last, first)
        below = (float(p.low), last_below) if p.low <= last_below else None
        return below, (first, last), (first_above, float(p.high)) if first_above <= p.high else None
    # The ends belong to the range: the next number there is lies outside.
    return (
        (p.low, max(p.low, math.nextafter(low, -math.inf))) if p.low < low else None,
        (max(p.low, low), min(p.high, high)),
        (min(p.high, math.nextafter(high, math.inf)), p.high) if p.high > high else None,
    )


def _keeps(row: Array, way: dict[int, Interval]) -> bool:
    """Whether a row goes this way."""
    return all(low <= row[j] <= high for j, (low, high) in way.items())


def _amounts(encoding: Encoding, j: int) -> Array | None:
    """The amount of every raw value from low to high, where a parameter takes a few numbers; None otherwise."""
    p, low, high = encoding.parameters[j], int(encoding.low[j]), int(encoding.high[j])
    if isinstance(p, core.Integer):
        return np.arange(low, high + 1, dtype=float)
    numbers = numbers_of(p)
    return None if numbers is None else numbers[low : high + 1]
