"""The choices that constraints tie together: which values, and which parts of a mixture are in it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from firstlight import core

from ._encoding import Array, Encoding, numbers_of

TRACE = 1e-4
"""The least share of the total that counts as a part, where the number of parts is limited."""
SLACK = 1e-9


@dataclass(frozen=True)
class Skeleton:
    """One way to settle the choices. Shape (d,): raw value chosen (nan: none), least and most amount."""

    chosen: Array
    least: Array
    most: Array


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
        whole = encoding.whole
        self.block = np.flatnonzero(summed & ~whole)
        parts = {j for names, *_ in self.limits for j in names if not whole[j]}
        self.tied = [j for j in range(d) if (whole[j] and (summed[j] or j in excluded)) or j in parts]
        self.parts = parts
        self.loose = np.array([j for j in range(d) if j not in self.tied and not (summed[j] and not whole[j])], int)

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

    def domain(self, j: int) -> Array:
        """The raw values a tied parameter may be given; for a continuous part of a mixture: out (0) or in (1)."""
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
        yield from self._descend(order, 0, self._open(), rng)

    def _open(self) -> Skeleton:
        least, most = self.encoding.low.copy(), self.encoding.high.copy()
        for j, amounts in enumerate(self.amounts):
            if amounts is not None:
                least[j], most[j] = amounts.min(), amounts.max()
        return Skeleton(np.full(len(least), np.nan), least, most)

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
        if j in self.parts:
            floor = TRACE * max(total for names, _, _, total in self.limits if j in names)
            least[j], most[j] = (0.0, 0.0) if raw == 0 else (min(max(least[j], floor), most[j]), most[j])
        elif (amounts := self.amounts[j]) is not None and self.encoding.low[j] <= raw <= self.encoding.high[j]:
            least[j] = most[j] = amounts[int(raw - self.encoding.low[j])]
        return Skeleton(chosen, least, most)

    def of(self, row: Array) -> Skeleton:
        """The skeleton of a point, given as a raw row of shape (d,)."""
        state = self._open()
        for j in self.tied:
            state = self._fixed(state, j, float(row[j] > 0) if j in self.parts else float(row[j]))
        return state

    def allows(self, s: Skeleton) -> bool:
        """Whether a complete skeleton keeps every constraint that needs no linear programme."""
        return self._possible(s)

    def varied(self, row: Array, rng: np.random.Generator) -> Skeleton:
        """A skeleton that differs from a point's in one or two choices; it may not be allowed."""
        row = row.copy()
        for j in rng.choice(self.tied, size=min(len(self.tied), 1 + int(rng.integers(2))), replace=False):
            domain = self.domain(j)
            if self.encoding.parameters[j].__class__ is core.Integer and rng.random() < 0.7:
                row[j] = np.clip(row[j] + rng.choice([-1.0, 1.0]), domain[0], domain[-1])
            else:
                row[j] = rng.choice(domain)
        return self.of(row)

    def _possible(self, s: Skeleton) -> bool:
        """Whether no constraint is already broken, whatever is chosen next."""
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


def _amounts(encoding: Encoding, j: int) -> Array | None:
    """The amount of every raw value from low to high, where a parameter takes a few numbers; None otherwise."""
    p, low, high = encoding.parameters[j], int(encoding.low[j]), int(encoding.high[j])
    if isinstance(p, core.Integer):
        return np.arange(low, high + 1, dtype=float)
    numbers = numbers_of(p)
    return None if numbers is None else numbers[low : high + 1]
