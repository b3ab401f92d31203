"""Many cheap trials on a deceptive landscape: restarts of differential evolution, basin hopping and polishing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from firstlight import core

from ._common import Memo, generator, no_plates, space_of, unknown_options, whole_option
from ._encoding import Array, Indices
from ._evolution import Group, crossed, elite, empty, group, hop_of, nearest, ranked, realised, scattered, winners

Key = tuple[core.Scalar | None, ...]
Kind = Literal["explore", "hop", "polish"]
CYCLE: tuple[tuple[Kind, int], ...] = (
    ("explore", 60),
    ("explore", 60),
    ("hop", 15),
    ("hop", 15),
    ("hop", 15),
    ("hop", 15),
    ("polish", 30),
)
"""The episodes of one cycle and how many generations each lasts. Explorations are short: on a deceptive landscape
most settle early in a poor basin, and starting again pays more than waiting."""
LEAST = 5
"""No episode is shorter, in generations, however few trials the budget has."""
ELITE = 32
"""How many of the best points of the cycle under way are kept."""
COLLAPSED = 1e-9
"""A population narrower than this on the unit box has nothing left to find: its episode is over."""


class Portfolio:
    """For thousands of cheap trials on a landscape with many false bottoms: evolution, basin hopping, polishing.

    Every cycle of episodes starts afresh. Two episodes explore: differential evolution (Storn and Price 1997) from
    points at random. Four hop: the same evolution from a cloud of perturbations of the best point of this cycle, which
    only a better one replaces; that is monotonic basin hopping (Wales and Doye 1997; Leary 2000) with a population in
    place of a local search. One polishes, by evolving the best points of the cycle among themselves. The mixture
    follows what works on interplanetary trajectories (Vasile, Minisci and Locatelli 2011): evolution to find a funnel,
    hopping to get down it, restarts because there are many.

    A trial that breaks outcome constraints ranks behind all that keep them, by how much it breaks them, and one that
    failed behind those (Deb 2000). Several objectives are weighed anew in every cycle (Chebyshev); kept are the points
    of the best fronts, the loneliest first (Deb and others 2002).

    Stateless: the populations are a fold over the trials in the order they ended, `members` at a time. What is folded
    is remembered, so that a proposal costs the same after 20 trials and after 20,000. `members` is by default three
    for every parameter and two more, from 12 to 60. A budget of fewer trials than a cycle takes shortens all episodes.
    """

    def __init__(self, *, members: int | None = None, **options: object) -> None:
        unknown_options("portfolio", options, ("members",))
        self.members = None if members is None else whole_option("portfolio", "members", members, 5)
        self._folds: Memo[_Fold] = Memo(8)

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        no_plates("portfolio", spec)
        # Known again by identity: the fold keeps both alive, so their ids are not reused.
        key = (id(spec), id(results.rows[0]) if results.rows else None)
        fold = self._folds.get(key, lambda: _Fold(spec, self.members))
        fold.follow(results.rows)
        # With the number of trials in it, one seed gives other points once some are under way.
        position = len(results.rows) + len(results.pending)
        return fold.proposals(results.pending, position, count, generator(seed, position))


@dataclass(frozen=True)
class _State:
    """After some whole generations: the episode under way, how many of its generations are done, and who lives.

    `cycle` are the best points of the cycle under way.
    """

    episode: int
    generation: int
    members: Group
    cycle: Group


class _Fold:
    """One ledger, folded as far as it goes. Forgetting it costs time and changes nothing."""

    def __init__(self, spec: core.CampaignSpec, members: int | None) -> None:
        self.spec, self.space = spec, space_of(spec)
        self.size = members or int(np.clip(3 * len(spec.parameters) + 2, 12, 60))
        trials, whole = spec.goal.budget.trials, self.size * sum(length for _, length in CYCLE)
        part = 1.0 if trials is None else min(1.0, trials / whole)
        self.lengths = [max(LEAST, round(part * length)) for _, length in CYCLE]
        listed = [] if self.space.rows is None else self.space.encoding.points(self.space.rows)
        self.index = {self._key(point): i for i, point in enumerate(listed)}
        self._anew()

    def _anew(self) -> None:
        none = empty(self.spec)
        self.state = _State(0, 0, none, none)
        self.first: core.Row | None = None
        self.last: core.Row | None = None
        self.known: Sequence[core.Row] = ()
        self.done = 0
        self.taken: set[Key] = set()
        self.free = np.ones(len(self.index), dtype=bool)

    def follow(self, rows: Sequence[core.Row]) -> None:
        """Take in the rows that are new; all of them where these are not those known, and more."""
        amended = isinstance(rows, core.Prefix) and isinstance(self.known, core.Prefix) and not rows.follows(self.known)
        if amended or self.done > len(rows) or (self.done and rows[self.done - 1] is not self.last):
            self._anew()
        self.known = rows
        for row in rows[self.done :]:
            self.taken.add(key := self._key(row.point))
            if key in self.index:
                self.free[self.index[key]] = False
        for start in range(self.done - self.done % self.size, len(rows) - self.size + 1, self.size):
            block = self._read(rows[start : start + self.size], generator(self.spec.seed, start))
            self.state = self._after(block)
        if len(rows):
            self.first, self.last, self.done = rows[0], rows[-1], len(rows)

    def _key(self, point: core.Point) -> Key:
        return tuple(point.get(name) for name in self.space.encoding.names)

    def _read(self, rows: Sequence[core.Row], rng: np.random.Generator) -> Group:
        """Trials by the points that were asked for; those that are not of this space count as failed somewhere."""
        points, told = [], []
        for row in rows:
            known = self._key(row.point) in self.index if self.index else not core.violations(self.spec, row.point)
            anywhere = [] if known else self.space.encoding.points(self.space.sample(8, rng)[:1])
            points += [row.point] if known else anywhere
            told.append(row if known else None)
        return group(self.spec.goal, self.space.encoding.raw(points), told)

    # ------------------------------------------------------------------ one generation

    def _after(self, block: Group) -> _State:
        s, turn = self.state, self.state.episode % len(CYCLE)
        kind, starts = CYCLE[turn][0], s.generation == 0
        cycle = elite((empty(self.spec) if starts and turn == 0 else s.cycle).plus(block), ELITE)
        survivors = block if starts or kind == "polish" else winners(s.members, block, self._weights(s))
        members = cycle if kind == "polish" else survivors
        state = _State(s.episode, s.generation + 1, members, cycle)
        width = np.ptp(self.space.encoding.unit(members.raw), axis=0).max(initial=0.0)
        if state.generation < self.lengths[turn] and width > COLLAPSED:
            return state
        return replace(state, episode=s.episode + 1, generation=0)

    def _weights(self, state: _State) -> Array:
        cycle, objectives = state.episode // len(CYCLE), len(self.spec.goal.objectives)
        if objectives == 1:
            return np.ones(1)
        return np.asarray(generator(self.spec.seed, cycle).dirichlet(np.ones(objectives)))

    # ------------------------------------------------------------------ points

    def proposals(
        self, pending: Mapping[str, core.Row], position: int, count: int, rng: np.random.Generator
    ) -> list[core.Proposal]:
        """At most `count` new points: every one for the member whose turn it is at its position."""
        raw, reason = self._children((position + np.arange(count)) % self.size, rng)
        busy = {self._key(row.point) for row in pending.values()}
        chosen = []
        for row in raw:
            point = self._fresh(row, busy, rng)
            if point is None:
                break
            busy.add(self._key(point))
            chosen.append(core.Proposal(point=point, reason=reason))
        return chosen

    def _children(self, slots: Indices, rng: np.random.Generator) -> tuple[Array, str]:
        s, n, encoding = self.state, len(slots), self.space.encoding
        kind, name = CYCLE[s.episode % len(CYCLE)][0], s.episode + 1
        if kind == "explore" and s.generation == 0:
            return self.space.sample(n, rng), f"episode {name}, exploring: at random"
        cycle = s.cycle.take(ranked(s.cycle, self._weights(s)))
        if kind == "hop" and s.generation == 0:
            step = hop_of(len(encoding.names), generator(self.spec.seed, s.episode, 1))
            wish = scattered(encoding.unit(cycle.raw[:1])[0], n, step, rng)
            parents = np.repeat(cycle.raw[:1], n, axis=0)
            why = f"episode {name}, a hop from the best of its cycle"
            return realised(self.space, wish, parents, parents, rng), why
        if kind == "polish":
            members, targets, best = cycle.raw, cycle.raw[rng.integers(len(cycle), size=n)], 0
            why = f"episode {name}, polishing the best of its cycle"
        else:
            members, targets = s.members.raw, s.members.raw[slots]
            why = f"episode {name}, {'exploring' if kind == 'explore' else 'hopping'}: generation {s.generation + 1}"
            best = int(ranked(s.members, self._weights(s))[0])
        wish, base = crossed(encoding.unit(members), best, encoding.unit(targets), rng)
        return realised(self.space, wish, members[base], targets, rng), why

    def _fresh(self, row: Array, busy: set[Key], rng: np.random.Generator) -> core.Point | None:
        """A raw row as a point, or one like it that is legal and neither tried nor under way; None if there is none."""
        if self.space.rows is not None:
            free = self.free.copy()
            free[[self.index[key] for key in busy if key in self.index]] = False
            i = nearest(self.space, row, free)
            return None if i is None else self.space.encoding.points(self.space.rows[[i]])[0]
        tries = row[None]
        for _ in range(8):
            for point in self.space.encoding.points(tries):
                new = self._key(point) not in self.taken and self._key(point) not in busy
                if new and not (self.spec.constraints and core.violations(self.spec, point)):
                    return point
            tries = np.vstack([self.space.near(row[None], 16, 0.05, rng), self.space.sample(16, rng)])
        return None
