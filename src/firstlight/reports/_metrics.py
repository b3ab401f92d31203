"""How much faster and how much better than random search: acceleration, enhancement, and exact random search.

Performance curves are larger-is-better, one value a trial in the order the trials ended, failures included
(they were paid for); -inf until a first good trial is seen. The acceleration factor is that of MacLeod et
al., Nat. Commun. 13, 995 (2022): AF(n_A) = n_B / n_A, where n_B is the least number of trials with which the
reference B performs at least as well as A did with n_A.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from firstlight import core

from ._hypervolume import Floats, volumes

Losses = Sequence[tuple[float, ...] | None]
ROUNDING = 1e-12
"""Relative slack in comparing performances: room for rounding only."""


class Bound(core.Value, frozen=True):
    """A number, or with `at_least` only what it cannot be less than."""

    value: float
    at_least: bool = False

    def __str__(self) -> str:
        digits = f"{self.value:.0f}" if self.value >= 100 else f"{self.value:.2g}"
        return f"≥ {digits}" if self.at_least else digits


class Factor(core.Value, frozen=True):
    """An acceleration factor over all pairs of campaigns: median and quartiles.

    `trials` is what A needed (median where there are several A), `reference` what B needed to do as well.
    In `reached` of `pairs` pairs B got there at all; the others count as one trial more than B made.
    """

    median: Bound
    low: Bound
    high: Bound
    trials: float
    reference: Bound
    reached: int
    pairs: int


def trial_losses(spec: core.CampaignSpec, rows: Iterable[core.Row]) -> list[tuple[float, ...] | None]:
    """The losses of every trial, None where it is not good, or by another source than the target."""
    return [core.losses_of(spec, row) for row in rows]


def best_curve(losses: Losses) -> Floats:
    """Performance for one objective: minus the best loss so far, in the objective's unit."""
    found = [-math.inf if loss is None else -loss[0] for loss in losses]
    return np.maximum.accumulate(np.asarray(found, dtype=float)) if found else np.empty(0)


def by_cost(curve: Floats, costs: Floats, per: float) -> Floats:
    """A performance curve after every `per` of cost, from that after each trial and what each trial cost."""
    paid = np.cumsum(costs)
    if not len(paid):
        return np.empty(0)
    marks = per * np.arange(1, math.ceil(paid[-1] / per - ROUNDING) + 1)
    ended = np.searchsorted(paid, marks * (1 + ROUNDING), side="right")
    # Where the last trial ends within a step, all of them have ended by its end.
    return np.concatenate([[-math.inf], curve])[ended]


def hypervolume_curve(losses: Losses, ideal: Floats, reference: Floats) -> Floats:
    """Performance for several objectives: the dominated share of the box from `ideal` to `reference`, 0 to 1."""
    return volumes(losses, ideal, reference)


def reference_box(goal: core.Goal, losses: Iterable[Losses]) -> tuple[Floats, Floats, bool]:
    """The best losses seen in all campaigns, the reference point, and whether the goal's thresholds give all of it.

    Where an objective has no threshold the reference is the worst loss of a good trial with a tenth of the
    range as margin.
    """
    seen = np.array([loss for campaign in losses for loss in campaign if loss is not None], dtype=float)
    if not len(seen):
        seen = np.zeros((1, len(goal.objectives)))
    ideal, worst = seen.min(axis=0), seen.max(axis=0)
    margin = np.where(worst > ideal, 0.1 * (worst - ideal), 1.0)
    given = [None if o.threshold is None else core.loss(o, o.threshold) for o in goal.objectives]
    reference = np.array([w if g is None else g for g, w in zip(given, worst + margin, strict=True)])
    return np.where(ideal < reference, ideal, reference - 1.0), reference, None not in given


def needed(curve: Floats, performance: float) -> int | None:
    """The least number of trials that perform at least so well, None where all of them do not."""
    slack = ROUNDING * abs(performance) if math.isfinite(performance) else 0.0
    reached = np.flatnonzero(curve >= performance - slack)
    return int(reached[0]) + 1 if len(reached) else None


def acceleration(campaigns: Sequence[Floats], references: Sequence[Floats], trials: int | None = None) -> Factor | None:
    """The acceleration factor of `campaigns` over `references`, every one against every one.

    With `trials`, at that many trials of each campaign (those that are shorter are left out); without, for
    each campaign's final performance and the number of trials with which it first reached it. A reference
    that never gets there gives a lower bound, as if its next trial would: so do the median and the quartiles
    that depend on it. None where there is nothing to compare.
    """
    pairs: list[tuple[float, float, bool, int]] = []
    for mine in campaigns:
        if not len(mine) or (trials is not None and trials > len(mine)):
            continue
        performance = float(mine[-1] if trials is None else mine[trials - 1])
        if performance == -math.inf:
            continue
        n = trials or needed(mine, performance) or len(mine)
        for theirs in references:
            m = needed(theirs, performance)
            pairs.append((n, len(theirs) + 1.0 if m is None else float(m), m is None, len(theirs)))
    if not pairs:
        return None
    ratios, missed = [m / n for n, m, *_ in pairs], [missing for *_, missing, _ in pairs]
    return Factor(
        median=bounded(ratios, missed, 0.5), low=bounded(ratios, missed, 0.25), high=bounded(ratios, missed, 0.75),
        trials=float(np.median([n for n, *_ in pairs])), reference=bounded([m for _, m, *_ in pairs], missed, 0.5),
        reached=len(pairs) - sum(missed), pairs=len(pairs),
    )  # fmt: skip


def bounded(values: Sequence[float], at_least: Sequence[bool], q: float) -> Bound:
    """The q-quantile of values some of which are only lower bounds: itself a bound where it depends on one.

    It is exact where the values that are bounds could all be infinite and leave it unchanged.
    """
    lower = quantile(np.array(values, dtype=float), q)
    upper = quantile(np.where(at_least, np.inf, values), q)
    return Bound(value=lower, at_least=math.isinf(upper))


def quantile(values: Floats, q: float) -> float:
    """The q-quantile by linear interpolation, infinite values allowed."""
    ordered = np.sort(values)
    place = q * (len(ordered) - 1)
    below, above = float(ordered[math.floor(place)]), float(ordered[math.ceil(place)])
    weight = place - math.floor(place)
    return below if weight == 0 or below == above else (1 - weight) * below + weight * above


def band(curves: Sequence[Floats], q: float) -> Floats:
    """The q-quantile of several curves after each trial, as far as at least half of them go."""
    lengths = sorted((len(c) for c in curves), reverse=True)
    length = lengths[(len(lengths) - 1) // 2] if lengths else 0
    return np.array([quantile(np.array([c[i] for c in curves if len(c) > i]), q) for i in range(length)])


def enhancement(goal: core.Goal, mine: float, theirs: float) -> float | None:
    """The enhancement factor P_A / P_B of two performances at equal trials, above 1 where A is better.

    A ratio needs a zero: None where a value is not positive, or where a performance is not finite. It
    changes with any offset of the objective, as the acceleration factor does not.
    """
    if not (math.isfinite(mine) and math.isfinite(theirs)):
        return None
    if len(goal.objectives) > 1 or goal.objectives[0].direction == "maximize":
        return mine / theirs if mine > 0 and theirs > 0 else None
    return theirs / mine if mine < 0 and theirs < 0 else None


# ------------------------------------------------------------------ random search on a pool, exactly


def expected_draws(size: int, good: int) -> float:
    """How many of `size` points random search tries, on average, until it meets the first of the `good` ones."""
    if not 1 <= good <= size:
        raise ValueError(f"of {size} points between 1 and {size} can be good enough, not {good}")
    return (size + 1) / (good + 1)


def quantile_draws(size: int, good: int, q: float) -> int:
    """The least number of draws without replacement that meet one of the `good` points with probability q."""
    missed, n = 1.0, 0
    while 1.0 - missed < q - ROUNDING:
        missed *= max(size - good - n, 0) / (size - n)
        n += 1
    return n


def _chances(size: int, draws: int) -> Iterator[Floats]:
    """For 1 to `draws` draws, the probability that the best of them is among the k best of the pool, k = 1 to size."""
    worse = size - np.arange(1, size + 1)
    missed = np.ones(size)
    for n in range(min(draws, size)):
        missed = missed * np.maximum(worse - n, 0) / (size - n)
        yield 1.0 - missed


def pool_expected(losses: Floats, draws: int) -> Floats:
    """The expected best loss of 1 to `draws` draws without replacement from all losses of a pool (no nan)."""
    ordered = np.sort(losses)
    return np.array([np.diff(chance, prepend=0.0) @ ordered for chance in _chances(len(ordered), draws)])


def pool_quantile(losses: Floats, draws: int, q: float) -> Floats:
    """The q-quantile of the best loss of 1 to `draws` draws; inf where it is a point that fails (nan)."""
    ordered = np.sort(np.where(np.isnan(losses), np.inf, losses))
    return np.array([ordered[np.argmax(chance >= q - ROUNDING)] for chance in _chances(len(ordered), draws)])


def pool_acceleration(losses: Floats, mine: Floats, trials: int | None = None) -> Factor | None:
    """The acceleration of one performance curve over random search on a pool of which every loss is known."""
    if not len(mine) or (trials is not None and trials > len(mine)):
        return None
    performance = float(mine[-1] if trials is None else mine[trials - 1])
    slack = ROUNDING * abs(performance) if math.isfinite(performance) else 0.0
    good = int(np.sum(losses <= -performance + slack))
    if performance == -math.inf or not good:
        return None
    n = trials or needed(mine, performance) or len(mine)
    quarter, half, most = (quantile_draws(len(losses), good, q) for q in (0.25, 0.5, 0.75))
    return Factor(
        median=Bound(value=half / n), low=Bound(value=quarter / n), high=Bound(value=most / n),
        trials=float(n), reference=Bound(value=float(half)), reached=1, pairs=1,
    )  # fmt: skip
