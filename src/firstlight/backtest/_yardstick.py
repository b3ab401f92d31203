"""What a run is measured by: how good every row of its pool is, and how random search fares there."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from msgspec import Struct

from . import _random as random
from ._hypervolume import hypervolume, shares
from ._pool import Flags, Floats, Pool, hidden
from ._run import Run, Settings

Target = Literal["best 5 %", "best 1 %", "best"]
LEVELS: dict[Target, float] = {"best 5 %": 0.05, "best 1 %": 0.01, "best": 0.0}
"""What is to be reached. The best 1 % are ceil(0.01 n) of the n rows that do not fail, and all that tie with them;
with several objectives it is 99 % of the hypervolume of the whole pool."""
TOP: Target = "best 5 %"
"""The top candidates of Liang et al. (2021), of which Top% counts the share found."""
SHUFFLES = 200
"""With several objectives random search has no formula: so many shuffles of the pool stand for it."""


class Yardstick(Struct, frozen=True, kw_only=True, dict=True):
    """A pool, the rows of it that fail, and the number of trials that curves have."""

    pool: Pool
    fails: Flags
    budget: int

    @cached_property
    def losses(self) -> Floats:
        """(rows, objectives); nan where the trial fails."""
        return np.where(self.fails[:, None], np.nan, self.pool.losses)

    @property
    def several(self) -> bool:
        """Whether there are several objectives."""
        return len(self.pool.spec.goal.objectives) > 1

    def good(self, target: Target) -> Flags:
        """The rows that reach a target (one objective)."""
        working = np.sort(self.losses[~np.isnan(self.losses[:, 0]), 0])
        count = max(1, int(np.ceil(LEVELS[target] * len(working) - 1e-9)))
        return np.asarray(self.losses[:, 0] <= working[count - 1])

    def needed(self, run: Run, target: Target) -> int | None:
        """The trials that a run took to reach a target; None where it did not."""
        if self.several:
            reached = np.flatnonzero(self.share(run.rows) >= _share_of(target))
        else:
            reached = np.flatnonzero(self.good(target)[list(run.rows)])
        return int(reached[0]) + 1 if len(reached) else None

    def random(self, target: Target) -> Floats:
        """The chance that random search reached a target after 0, 1, ..., n trials, (n + 1,)."""
        n = len(self.pool)
        if not self.several:
            return random.chance_found(n, int(self.good(target).sum()))
        first = np.argmax(self._shuffled >= _share_of(target), axis=1) + 1
        return np.asarray((first[:, None] <= np.arange(n + 1)).mean(axis=0))

    def quality(self, run: Run) -> Floats:
        """How far a run had come after each trial of the budget, 0 to 1: the rank of its best row among the pool's.

        With several objectives the share of the pool's hypervolume. A run that ended stays where it was.
        """
        if self.several:
            curve = self.share(run.rows)
        else:
            curve = np.maximum.accumulate(random.ranks(self.losses[:, 0])[list(run.rows)]) if run.rows else np.zeros(0)
        return stretched(curve, self.budget, 0.0)

    def random_quality(self) -> Floats:
        """The expected quality of random search after each trial of the budget."""
        if self.several:
            return stretched(self._shuffled.mean(axis=0)[: self.budget], self.budget, 0.0)
        return stretched(random.expected_rank(self.losses[:, 0], self.budget), self.budget, 0.0)

    def top(self, run: Run) -> Floats:
        """Top%: the share of the top candidates found after each trial that the run made (Liang et al. 2021)."""
        top = self.good(TOP)
        new = np.zeros(len(run.rows))
        seen = set[int]()
        for t, i in enumerate(run.rows):
            new[t] = top[i] and i not in seen
            seen.add(i)
        return np.asarray(np.cumsum(new) / top.sum())

    def best(self, run: Run) -> Floats:
        """The best loss after each trial of the budget (one objective); inf until one succeeded."""
        found = [np.inf if np.isnan(self.losses[i, 0]) else self.losses[i, 0] for i in run.rows]
        return stretched(np.minimum.accumulate(found) if found else np.zeros(0), self.budget, np.inf)

    def share(self, rows: Sequence[int]) -> Floats:
        """The share of the pool's hypervolume after each of these rows."""
        known, rows = self._shares, tuple(rows)
        if rows not in known:
            scaled, reference, whole = self._box
            known[rows] = shares(scaled[list(rows)], reference) / whole
        return known[rows]

    @cached_property
    def _shares(self) -> dict[tuple[int, ...], Floats]:
        """What was worked out: every run is looked at several times."""
        return {}

    @cached_property
    def _box(self) -> tuple[Floats, Floats, float]:
        """Losses scaled to their range in the pool, the reference point, and the hypervolume of the whole pool.

        The reference is the threshold of an objective where it has one, else the worst loss and a tenth of the range.
        """
        goal = self.pool.spec.goal
        least, most = np.nanmin(self.losses, axis=0), np.nanmax(self.losses, axis=0)
        width = np.where(most > least, most - least, 1.0)
        scaled = (self.losses - least) / width
        reference = np.full(len(least), 1.1)
        for j, objective in enumerate(goal.objectives):
            if objective.threshold is not None:
                sign = -1.0 if objective.direction == "maximize" else 1.0
                reference[j] = (sign * objective.threshold - least[j]) / width[j]
        working = scaled[~np.isnan(scaled).any(axis=1)]
        return scaled, reference, hypervolume(working, reference) or 1.0

    @cached_property
    def _shuffled(self) -> Floats:
        """The share after each row of SHUFFLES shuffles of the pool, (shuffles, n)."""
        rng = np.random.default_rng(0)
        return np.array([self.share(rng.permutation(len(self.pool)).tolist()) for _ in range(SHUFFLES)])


def yardstick(pool: Pool, settings: Settings, seed: int) -> Yardstick:
    """The yardstick of the runs with this seed: one for all seeds where nothing is hidden."""
    return _yardstick(pool, settings.budget, settings.hide, seed if settings.hide else 0)


@lru_cache(maxsize=1024)
def _yardstick(pool: Pool, budget: int, hide: float, seed: int) -> Yardstick:
    fails = hidden(pool, hide, seed) if hide else np.zeros(len(pool), dtype=bool)
    return Yardstick(pool=pool, fails=fails, budget=budget)


def stretched(curve: Floats, length: int, empty: float) -> Floats:
    """A curve cut or continued to a length by its last value, `empty` where it has none."""
    last = curve[-1] if len(curve) else empty
    return np.concatenate([curve[:length], np.full(max(0, length - len(curve)), last)])


def _share_of(target: Target) -> float:
    return 1.0 - max(LEVELS[target], 1e-9)
