"""Points that keep every constraint, made rather than found: nothing here guesses and gives up."""

import itertools
from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
from msgspec.structs import replace

from firstlight import core

from ._encoding import Array, Encoding, Indices
from ._polytope import Polytope, polytope
from ._skeleton import TRACE, Choices, Skeleton

LISTED = 20_000
"""A space of at most this many points is listed whole, and then treated as a pool."""
BANK = 256
"""At most this many skeletons are kept where each needs a polytope of its own."""


class Space:
    """Where a specification allows points to be, as raw rows (n, d) (see Encoding).

    `rows` are all points where they can be listed, else None. `free` are the continuous parameters that
    no constraint on sums and no forbidden region touches, so that each may be moved alone.
    """

    def __init__(self, spec: core.CampaignSpec, encoding: Encoding | None = None) -> None:
        self.spec = spec
        self.encoding = encoding or Encoding(spec.parameters)
        self.choices = Choices(self.encoding, spec.constraints)
        wide = self.encoding.high > self.encoding.low
        loose = set(self.choices.loose.tolist())
        self.free: Indices = np.array(
            [j for j in range(len(wide)) if j in loose and wide[j] and not self.encoding.whole[j]], int
        )
        self._discrete = not (wide & ~self.encoding.whole).any()
        self._polytopes: dict[bytes, Polytope | None] = {}

        self._parts: dict[tuple[tuple[str, core.Scalar], ...], Space] = {}

    # ------------------------------------------------------------------ what there is

    def narrowed(self, fixed: Mapping[str, core.Scalar]) -> "Space":
        """The part of it where some parameters have these values; its rows and features are those of the whole."""
        key = tuple(sorted(fixed.items()))
        if key not in self._parts:
            self._parts[key] = Space(self.spec, self.encoding.narrowed(fixed))
        return self._parts[key]

    @cached_property
    def features(self) -> Array:
        """The features of all rows, where they are listed."""
        return self.encoding.features(np.empty((0, len(self.encoding.names))) if self.rows is None else self.rows)

    @cached_property
    def places(self) -> dict[tuple[core.Scalar, ...], int]:
        """Where each point stands in the list, by its values in order."""
        listed = [] if self.rows is None else self.encoding.points(self.rows)
        return {tuple(point.values()): i for i, point in enumerate(listed)}

    @cached_property
    def rows(self) -> Array | None:
        """Every point, where there are at most LISTED of them or a pool."""
        if self.spec.pool is not None:
            raw = self._pool(self.spec.pool)
            return raw[((raw >= self.encoding.low) & (raw <= self.encoding.high)).all(1)]
        if not self._discrete:
            return None
        d = len(self.encoding.names)
        skeletons = list(itertools.islice(self._feasible(), LISTED + 1))
        loose = [np.arange(self.encoding.low[j], self.encoding.high[j] + 1.0) for j in self.choices.loose]
        bounded = self.choices.bounded
        ways = sum(float(np.prod((s.most - s.least)[bounded] + 1.0)) for s in skeletons)
        if ways * np.prod([float(len(x)) for x in loose]) > LISTED:
            return None
        tied = [row for s in skeletons for row in self._listed(s)]
        if not tied:
            return np.empty((0, d))
        combined = list(itertools.product(*loose))  # One of nothing where all parameters are tied.
        spread = np.array(combined).reshape(len(combined), len(loose))
        base = np.array(tied)
        # A continuous parameter without width is neither tied nor loose where a sum has it.
        base[:, self.choices.block] = self.encoding.low[self.choices.block]
        out = np.repeat(base, len(spread), axis=0)
        out[:, self.choices.loose] = np.tile(spread, (len(base), 1))
        return out

    def _listed(self, s: Skeleton) -> Iterator[Array]:
        """The raw rows of a skeleton in a discrete space, with every value of what it bounds; loose ones are nan."""
        bounded = self.choices.bounded
        axes = [np.arange(s.least[j], s.most[j] + (1.0 if self.encoding.whole[j] else 0.5)) for j in bounded]
        for values in itertools.product(*axes):
            row = s.chosen[: len(self.encoding.names)].copy()
            row[bounded] = values
            yield row

    def _pool(self, pool: core.Pool) -> Array:
        alone = replace(self.spec, pool=None)
        seen: dict[tuple[core.Scalar, ...], core.Point] = {}
        for point in pool.points():
            if not core.violations(alone, point):
                seen.setdefault(tuple(point.values()), point)
        return self.encoding.raw(list(seen.values()))

    def _feasible(self, rng: np.random.Generator | None = None) -> Iterator[Skeleton]:
        return (s for s in self.choices.walk(rng) if self.polytope(s) is not None)

    def polytope(self, s: Skeleton) -> Polytope | None:
        """The room that a skeleton leaves for the summed continuous parameters, on the unit box."""
        key = s.chosen.tobytes()
        if key not in self._polytopes:
            self._polytopes[key] = self._build(s)
        return self._polytopes[key]

    def _build(self, s: Skeleton) -> Polytope | None:
        j = self.choices.block
        rows, width = self.choices.rows, (s.most - s.least)[j]
        settled = rows @ np.where(np.isin(np.arange(len(s.least)), j), 0.0, s.least) + rows[:, j] @ s.least[j]
        scaled = rows[:, j] * width
        size = np.maximum(np.abs(scaled).max(1, initial=0.0), 1e-9 * (np.abs(rows) @ np.abs(s.most)))
        size = np.where(size > 0, size, 1.0)
        scaled, lower, upper = (
            scaled / size[:, None],
            (self.choices.lower - settled) / size,
            (self.choices.upper - settled) / size,
        )
        equal = lower == upper
        above, below = np.isfinite(upper) & ~equal, np.isfinite(lower) & ~equal
        return polytope(
            np.vstack([scaled[above], -scaled[below]]),
            np.concatenate([upper[above], -lower[below]]),
            scaled[equal],
            upper[equal],
        )

    @cached_property
    def bank(self) -> list[Skeleton]:
        """The skeletons to sample from: all of them, or where there are too many BANK drawn at random."""
        if not self.choices.tied:
            return list(self._feasible())
        limit = BANK if len(self.choices.block) else LISTED
        if self.choices.size() <= 4 * limit:
            found = list(itertools.islice(self._feasible(), limit + 1))
            if len(found) <= limit:
                return found
        rng = np.random.default_rng(0)
        drawn = {}
        for _ in range(limit if len(self.choices.block) else 2048):
            s = next(self._feasible(rng), None)
            if s is None:
                return []
            drawn[s.chosen.tobytes()] = s
        return list(drawn.values())

    # ------------------------------------------------------------------ making points

    def sample(self, n: int, rng: np.random.Generator, unit: Array | None = None) -> Array:
        """n points spread over the space, with repeats where it is small; none where it is empty.

        `unit` (n, d), if given, places the parameters that no constraint ties (a low-discrepancy design).
        """
        if self.rows is not None:
            return self.rows[rng.integers(len(self.rows), size=n)] if len(self.rows) else self.rows
        if not self.bank:
            return np.empty((0, len(self.encoding.names)))
        out = self._even(rng.random((n, len(self.encoding.names))) if unit is None else unit)
        # A handful of skeletons a call: every one costs a walk of its own.
        most = 32 if len(self.choices.block) else n
        if self.choices.regions:
            few = rng.choice(len(self.bank), size=most, p=self._shares)
        else:
            few = rng.permutation(len(self.bank))[:most]
        which = few[rng.integers(len(few), size=n)]
        for b in np.unique(which) if self.choices.regions else ():
            mine = which == b
            out[mine] = self._stretched(self.bank[b], out[mine])
        wish = out.copy()
        for b in np.unique(which):
            self._place(out, np.flatnonzero(which == b), self.bank[b], rng, wish if self._logs else None)
        return self._kept(out)

    @cached_property
    def _shares(self) -> Array:
        """How large a share of the points each skeleton of the bank is to have: that of the room it bounds."""
        numbers = sorted({j for region in self.choices.regions for j in region.numbers})
        low, high = (
            np.array([getattr(s, end) for s in self.bank])[:, : self.choices.width] for end in ("least", "most")
        )
        whole = self.encoding.whole & ~self.encoding.log
        room = (
            self.encoding.unit(high) - self.encoding.unit(low) + whole / (self.encoding.high - self.encoding.low + 1.0)
        )
        shares = np.maximum(room[:, numbers], 1e-9).prod(1)
        return np.asarray(shares / shares.sum())

    def _stretched(self, s: Skeleton, rows: Array) -> Array:
        """Rows spread over the whole of what a skeleton bounds, made of rows spread over the whole space."""
        e, j = self.encoding, self.choices.bounded
        low, high = e.unit(s.least[None])[0], e.unit(s.most[None])[0]
        even = (rows - e.low + np.where(e.whole, 0.5, 0.0)) / np.where(e.whole, e.high - e.low + 1.0, 1.0)
        share = np.where(e.whole & ~e.log, even, e.unit(rows))
        number = e.from_unit(low + share * (high - low))
        count = s.least + np.floor(share * (s.most - s.least + 1.0))
        made = np.where(e.whole & ~e.log, count, number)
        out = rows.copy()
        out[:, j] = np.clip(made, s.least, s.most)[:, j]
        return out

    def near(self, centres: Array, n: int, scale: float, rng: np.random.Generator) -> Array:
        """n points around some points of the space, `scale` of its width away; for spaces that are not listed."""
        e, d = self.encoding, len(self.encoding.names)
        centres = np.clip(centres, e.low, e.high)
        which = rng.integers(len(centres), size=n)
        few = (rng.random((n, d)) < 1.0 / d) | (np.arange(d) == rng.integers(d, size=(n, 1)))
        moved = few | (rng.random((n, 1)) < 0.5)
        unit = e.unit(centres)[which]
        out = e.from_unit(unit + moved * scale * rng.standard_normal((n, d)))
        still = e.whole & moved & (out == centres[which])
        out = np.where(still, np.clip(out + rng.choice([-1.0, 1.0], size=(n, d)), e.low, e.high), out)
        named = np.array([isinstance(p, core.Categorical) for p in e.parameters])
        redrawn = e.low + np.floor(rng.random((n, d)) * (e.high - e.low + 1.0))
        out = np.where(named, np.where(few, redrawn, centres[which]), out)
        if self.choices.tied or len(self.choices.block):
            wish = out.copy()
            for c in range(len(centres)):
                mine = np.flatnonzero(which == c)
                variants = self._variants(centres[c], rng)
                pick = rng.integers(len(variants), size=len(mine))
                for v in np.unique(pick):
                    self._place(out, mine[pick == v], variants[v], rng, wish)
        return self._kept(out)

    def around(self, wish: Array, rng: np.random.Generator) -> Array:
        """Points as near to a wish (1, d), which need not be legal, as some skeletons go; for spaces not listed.

        A legal wish is among them, its sums exact. There are none where the space is empty or the wish excluded.
        """
        e = self.encoding
        wish = np.clip(np.where(e.whole, np.round(wish), wish), e.low, e.high)
        for names, _, _, total in self.choices.limits:
            wish[:, names] = np.where(np.abs(wish[:, names]) < TRACE * total, 0.0, wish[:, names])
        if not (self.choices.tied or len(self.choices.block)):
            return self._kept(wish)
        found, tries = self._like(wish), 16 if len(self.choices.block) else 1
        out = np.repeat(wish, tries * len(found), axis=0)
        target = out.copy()
        for i, s in enumerate(found):
            self._place(out, np.arange(tries * i, tries * (i + 1)), s, rng, target)
        return self._kept(out)

    def _like(self, wish: Array, most: int = 8) -> list[Skeleton]:
        """The skeleton of a wish (1, d), if there is such a one, and those that leave most of the wish as it is."""
        own, tied = self.choices.of(wish[0]), self.choices.tied
        found = [own] if self.choices.allows(own) and self.polytope(own) is not None else []
        if not tied or not self.bank:
            return found
        varied = np.repeat(wish, len(self.bank), axis=0)
        chosen = np.array([s.chosen for s in self.bank])
        for j in (j for j in tied if j < self.choices.width):
            varied[:, j] = np.where(chosen[:, j] == 0.0, 0.0, wish[0, j]) if j in self.choices.parts else chosen[:, j]
        for s, row in zip(self.bank, varied, strict=True) if len(self.choices.bounded) else ():
            self.settle(row[None], np.arange(1), s)
        apart = ((self.encoding.features(varied) - self.encoding.features(wish)) ** 2).sum(1)
        return found + [self.bank[i] for i in np.argsort(apart, kind="stable")[:most]]

    def _variants(self, row: Array, rng: np.random.Generator) -> list[Skeleton]:
        """The skeleton of a point, and a few that resemble it."""
        own = self.choices.of(row)
        if not self.choices.tied:
            return [own]
        chosen = np.array([s.chosen for s in self.bank])[:, self.choices.tied]
        alike = np.argsort((chosen != own.chosen[self.choices.tied]).sum(1) + rng.random(len(chosen)))[:3]
        varied = [self.choices.varied(row, rng) for _ in range(4)]
        found = [s for s in (own, *varied) if self.choices.allows(s) and self.polytope(s) is not None]
        return found + [self.bank[i] for i in alike]

    def _place(self, out: Array, mine: Indices, s: Skeleton, rng: np.random.Generator, wish: Array | None) -> None:
        """Give rows the choices of a skeleton, and summed parameters inside its room, near what is wished."""
        block, room = self.choices.block, self.polytope(s)
        self.settle(out, mine, s)
        if room is None or not len(block):
            return
        least, width = s.least[block], (s.most - s.least)[block]
        unit = room.sample(len(mine), rng)
        if wish is not None:
            target = (wish[np.ix_(mine, block)] - least) / np.where(width > 0, width, 1.0)
            unit = room.towards(unit, np.clip(target, 0.0, 1.0))
        out[np.ix_(mine, block)] = np.clip(least + unit * width, least, s.most[block])

    def settle(self, out: Array, mine: Indices, s: Skeleton) -> None:
        """Give rows the values that a skeleton chooses, and bring what it bounds inside; sums are another matter."""
        discrete, bounded = self.choices.discrete, self.choices.bounded
        out[np.ix_(mine, discrete)] = s.chosen[discrete]
        out[np.ix_(mine, bounded)] = np.clip(out[np.ix_(mine, bounded)], s.least[bounded], s.most[bounded])

    @property
    def _logs(self) -> bool:
        return bool(self.encoding.log[self.choices.block].any())

    def _even(self, unit: Array) -> Array:
        """Raw rows from the unit cube: whole numbers get equal shares of it, the last included."""
        e = self.encoding
        shares = np.minimum(np.floor(unit * (e.high - e.low + 1.0)), e.high - e.low)
        return np.asarray(np.where(e.whole & ~e.log, e.low + shares, e.from_unit(unit)))

    def _kept(self, out: Array) -> Array:
        """Without the rows where a continuous parameter happens on an excluded value."""
        keep = np.ones(len(out), dtype=bool)
        for exclude in self.choices.excludes:
            if any(not self.encoding.whole[j] for j in exclude):
                keep &= ~np.all([np.isin(out[:, j], list(values)) for j, values in exclude.items()], axis=0)
        return out[keep]


def infeasible(spec: core.CampaignSpec) -> str | None:
    """Why no point can keep the constraints, naming the one to blame, or None where some point does.

    Raises ValueError where a constraint cannot be read: it names what is not a parameter, or sums words.
    """
    if spec.pool is not None:
        alone = replace(spec, pool=None)
        reasons = [core.violations(alone, point) for point in spec.pool.points()]
        if reasons and all(reasons):
            return f"no row of the pool may be tried; the first: {'; '.join(reasons[0])}"
        return None if reasons else "the pool has no rows"
    if _has_point(spec, spec.constraints):
        return None
    for i, c in enumerate(spec.constraints, 1):
        if not _has_point(spec, (c,)):
            return f"constraint {i} ({_words(c)}) leaves no point within the parameters' bounds"
        if not _has_point(spec, spec.constraints[:i]):
            return f"constraint {i} ({_words(c)}) leaves no point together with those before it"
    raise AssertionError("unreachable: the last turn looks at all the constraints")


def _has_point(spec: core.CampaignSpec, constraints: tuple[core.Constraint, ...]) -> bool:
    space = Space(replace(spec, constraints=constraints))
    return any(space.polytope(s) is not None for s in space.choices.walk())


def _words(c: core.Constraint) -> str:
    match c:
        case core.Linear(terms=terms, relation=relation, bound=bound):
            return f"{' + '.join(f'{k:g} {n}' for n, k in terms.items())} {relation} {bound:g}"
        case core.Mixture(parameters=names, total=total, min_parts=fewest, max_parts=most):
            upto = len(names) if most is None else most
            return f"mixture of {fewest} to {upto} of {', '.join(names)} with total {total:g}"
        case core.Exclude(combination=combination):
            return "exclude " + " with ".join(f"{n} in {list(v)}" for n, v in combination.items())
        case core.Forbid():
            return f"forbid {core.region_words(c)}"
