"""Medians, acceleration factors and ratios over seeds, where some runs never got there: these give bounds.

A run that did not reach its target within t trials would have needed t + 1 or more. An interval is one of 95 %, by
the bootstrap over seeds, and holds whatever those runs would have needed; with fewer than LEAST runs there is none.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from firstlight import core

from ._pool import Floats
from ._random import ROUNDING

RESAMPLED = 1000
LEAST = 5
INTERVAL = (0.025, 0.975)
MATERIAL = 0.02
"""Runs that did not get there make an acceleration a bound where they could move it by more than this share."""
Side = Literal["", "≥", "≤", "~"]
Indices = npt.NDArray[np.intp]


class Estimate(core.Value, frozen=True):
    """A number and its 95 % interval (None: without end, or unknown).

    `side` says that the number is only known to be at least or at most this, "~" that runs on both sides of a ratio
    never got there.
    """

    value: float
    low: float | None = None
    high: float | None = None
    side: Side = ""

    def __str__(self) -> str:
        return f"{self.side} {digits(self.value)}".strip()

    @property
    def interval(self) -> str:
        """In words: "0.6 to 1.2", "" where neither end is known."""
        if self.low is None and self.high is None:
            return ""
        if self.high is None:
            return f"{digits(self.low or 0.0)} or more"
        return f"{digits(self.low)} to {digits(self.high)}" if self.low else f"{digits(self.high)} or less"


def said(found: Estimate) -> str:
    """In words: "3.2 (95 %: 2.6 to 4.1)"."""
    return f"{found} (95 %: {found.interval})" if found.interval else str(found)


def inverse(found: Estimate) -> Estimate:
    """One over it."""
    turned: dict[Side, Side] = {"≥": "≤", "≤": "≥", "": "", "~": "~"}
    return Estimate(
        value=1 / found.value, side=turned[found.side],
        low=None if found.high is None else 1 / found.high,
        high=None if not found.low else 1 / found.low,
    )  # fmt: skip


def digits(value: float) -> str:
    """Two or three digits, as far as they mean something."""
    return (
        f"{value:.0f}"
        if abs(value) >= 100 or value == int(value)
        else f"{value:.3g}"
        if value >= 10
        else f"{value:.2g}"
    )


class Times(core.Value, frozen=True):
    """The trials that each run of one contender took to a target, and which of them are only bounds from below."""

    trials: tuple[float, ...]
    censored: tuple[bool, ...]

    @property
    def least(self) -> Floats:
        """As if the runs that did not get there would have with their next trial."""
        return np.array(self.trials)

    @property
    def most(self) -> Floats:
        """As if those runs never would."""
        return np.where(self.censored, math.inf, self.trials)

    @property
    def found(self) -> float:
        """The share of runs that got there."""
        return 1.0 - float(np.mean(self.censored))


def times(needed: Sequence[int | None], made: Sequence[int]) -> Times:
    """From the trials that runs needed (None: not reached) and the trials they made."""
    return Times(
        trials=tuple(float(m + 1 if n is None else n) for n, m in zip(needed, made, strict=True)),
        censored=tuple(n is None for n in needed),
    )


def draws(count: int, seed: int = 0) -> Indices:
    """Which of `count` runs are in each resample, (RESAMPLED, count)."""
    return np.random.default_rng([seed, count]).integers(count, size=(RESAMPLED, count))


def mean(values: Floats) -> Estimate:
    """The mean over runs."""
    boot = values[draws(len(values))].mean(axis=1)
    return _estimate(float(values.mean()), len(values), boot, boot)


def median_trials(taken: Times) -> Estimate:
    """The median number of trials to a target: at least this where too many runs did not get there."""
    which = draws(len(taken.trials))
    least, most = _median(taken.least), _median(taken.most)
    side: Side = "≥" if most > least else ""
    return _estimate(least, len(taken.trials), _medians(taken.least[which]), _medians(taken.most[which]), side)


def acceleration(random: Floats, taken: Times) -> tuple[Estimate, Floats]:
    """The acceleration factor over random search: the median of n_random / n over all pairs of runs; and resamples.

    `random` (runs, n + 1) is the chance that random search has reached the target of each run after 0, 1, ..., n
    trials; with it every run is compared with every possible run of random search. It is at most this where too many
    runs did not get there.
    """
    which, all_once = draws(len(taken.trials)), np.arange(len(taken.trials))[None]
    least, most = (float(_accelerations(random, t, all_once)[0]) for t in (taken.most, taken.least))
    side: Side = "≤" if most > least * (1 + MATERIAL) else ""
    high = _accelerations(random, taken.least, which)
    low = _accelerations(random, taken.most, which) if any(taken.censored) else high
    return _estimate(most, len(taken.trials), low, high, side), high


def within(random: Floats, budget: int, taken: Times) -> tuple[Estimate, Floats]:
    """The acceleration factor where random search, too, counts as budget + 1 trials when it takes more; and resamples.

    Both sides are treated alike, so that random search against itself comes out as 1, which the plain factor of runs
    that did not get there does not: it is a bound from above. This one is one from below for whoever is faster.
    """
    capped = random.copy()
    capped[:, budget + 1 :] = 1.0
    all_once = np.arange(len(taken.trials))[None]
    plain, _ = acceleration(random, taken)
    value = float(_accelerations(capped, taken.least, all_once)[0])
    boot = _accelerations(capped, taken.least, draws(len(taken.trials)))
    side: Side = "~" if plain.side else "≥" if value < plain.value * (1 - MATERIAL) else ""
    return _estimate(value, len(taken.trials), boot, boot, side), boot


def _accelerations(random: Floats, trials: Floats, which: Indices) -> Floats:
    """The median of n_random / n in every resample, by halving: the chance of a ratio of at most x is known."""
    runs, last = np.arange(len(trials)), random.shape[1] - 1
    # Where a run never gets there its ratio is 0, which is at most anything.
    never = np.isinf(trials)
    finite = np.where(never, 1.0, trials)
    weights = np.zeros((len(which), len(trials)))
    np.add.at(weights, (np.arange(len(which))[:, None], which), 1.0 / which.shape[1])
    low, high = np.zeros(len(which)), np.full(len(which), float(last))
    for _ in range(40):
        x = (low + high) / 2
        at = np.minimum(x[:, None] * finite + ROUNDING, last).astype(np.intp)
        chance = (weights * np.where(never, 1.0, random[runs[None], at])).sum(axis=1)
        enough = chance >= 0.5 - ROUNDING
        low, high = np.where(enough, low, x), np.where(enough, x, high)
    # The true value is a ratio of whole numbers just below.
    return np.where(high < 1e-6, 0.0, np.round(high, 8))


def ratio(a: Times, b: Times) -> tuple[Estimate, Floats]:
    """The median of n_a / n_b over all pairs of runs, below 1 where a is faster; and resamples of it."""
    which_a, which_b = draws(len(a.trials), 1), draws(len(b.trials), 2)
    all_once = np.arange(len(a.trials))[None], np.arange(len(b.trials))[None]
    bounds = ((a.least, b.least), (a.least, b.most), (a.most, b.least))
    middle, least, most = (float(_pairs(x, y, *all_once)[0]) for x, y in bounds)
    boot = _pairs(a.least, b.least, which_a, which_b)
    low = _pairs(a.least, b.most, which_a, which_b) if any(b.censored) else boot
    high = _pairs(a.most, b.least, which_a, which_b) if any(a.censored) else boot
    side: Side = "" if least == most else "≥" if least == middle else "≤" if most == middle else "~"
    return _estimate(middle, min(len(a.trials), len(b.trials)), low, high, side), boot


def _pairs(a: Floats, b: Floats, which_a: Indices, which_b: Indices) -> Floats:
    """The median of a / b over all pairs in every resample."""
    return _medians((a[which_a][:, :, None] / b[which_b][:, None, :]).reshape(len(which_a), -1))


def over_pools(estimates: Sequence[Estimate], resamples: Sequence[Floats]) -> tuple[Estimate, Floats]:
    """The geometric mean of a factor over pools, and resamples of it: of the pools and, within each, of the runs."""
    logs = np.log(resamples)
    boot = np.array([np.exp(logs[pools, i].mean()) for i, pools in enumerate(draws(len(estimates), 3))])
    bounds: set[Side] = {e.side for e in estimates if e.side}
    side: Side = "" if not bounds else bounds.pop() if len(bounds) == 1 else "~"
    value = float(np.exp(np.mean([np.log(e.value) for e in estimates])))
    runs = LEAST if all(e.low is not None or e.high is not None for e in estimates) else 0
    return _estimate(value, runs, boot, boot, side), boot


def _estimate(value: float, runs: int, low: Floats, high: Floats, side: Side = "") -> Estimate:
    """With the interval from the resamples of the lowest and of the highest that it may be."""
    if runs < LEAST:
        return Estimate(value=value, side=side)
    return Estimate(value=value, low=_end(low, INTERVAL[0]), high=_end(high, INTERVAL[1]), side=side)


def _median(values: Floats) -> float:
    return float(_medians(values[None])[0])


def _medians(values: Floats) -> Floats:
    """The median of each row, infinite values allowed."""
    n = values.shape[1]
    ordered = np.partition(values, ((n - 1) // 2, n // 2), axis=1)
    below, above = ordered[:, (n - 1) // 2], ordered[:, n // 2]
    return np.where(below == above, below, (below + above) / 2)


def _end(values: Floats, q: float) -> float | None:
    """The q-quantile of resamples, the next one outwards; None where it is without end."""
    ordered = np.sort(values)
    place = q * (len(ordered) - 1)
    found = float(ordered[math.floor(place) if q < 0.5 else math.ceil(place)])
    return found if math.isfinite(found) else None
