"""From runs to a table: every contender on every pool, every two contenders against each other, and whom to choose."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from msgspec.structs import replace

from firstlight import core

from ._factors import (
    LEAST,
    Estimate,
    Times,
    acceleration,
    inverse,
    mean,
    median_trials,
    over_pools,
    ratio,
    said,
    times,
    within,
)
from ._pool import Floats, Pool
from ._random import expected_found
from ._run import Contender, Run, Settings
from ._yardstick import LEVELS, Target, Yardstick, stretched, yardstick

AIM: Target = "best 1 %"
"""The target by which contenders are compared."""


class Reached(core.Value, frozen=True):
    """How a contender came to one target on one pool: the share of runs that did, median trials, and acceleration."""

    found: float
    trials: Estimate
    acceleration: Estimate
    random: float
    """The trials that random search needs, median."""


class Cell(core.Value, frozen=True):
    """One contender on one pool.

    `quality` is the mean over the trials of the budget of the rank of the best row so far, 1 for the best of the pool
    (rank AUC); with several objectives of the share of its hypervolume; `random_quality` that of random search.
    `enhancement` is the ratio of Top% to that of random search (Liang et al. 2021) after `at` trials, half the budget:
    at least this where runs ended before, with the best; None with several objectives. `wasted` is the share of trials
    that failed. `cpu` is the median seconds of computing a suggestion.
    """

    pool: str
    contender: str
    runs: int
    reached: dict[str, Reached]
    quality: Estimate
    random_quality: float
    enhancement: Estimate | None
    at: int
    wasted: float
    cpu: float


class Duel(core.Value, frozen=True):
    """`a` against `b`: the trials of a for one of b to reach the aim; below 1 where a is faster.

    Over all pools the geometric mean. A pool is won or lost where the interval of its ratio lies on one side of 1; all
    others are ties.
    """

    a: str
    b: str
    ratio: Estimate
    pools: dict[str, Estimate]
    won: int
    tied: int
    lost: int


class Comparison(core.Value, frozen=True):
    """All that a back-test found.

    `overall` is the acceleration of every contender over all its pools, the geometric mean, where random search counts
    as one trial more than the budget when it takes longer, as the contenders do.
    """

    aim: str
    settings: Settings
    cells: tuple[Cell, ...]
    overall: dict[str, Estimate]
    duels: tuple[Duel, ...]
    chosen: str
    chance: float | None
    """The share of resamples of pools and runs in which the chosen one is the fastest; None with fewer than two."""
    words: str


def compare(
    pools: Sequence[Pool], contenders: Sequence[Contender], runs: Sequence[Run], settings: Settings
) -> Comparison:
    """The comparison of runs that have ended; a contender that has none on a pool is left out there."""
    by_pair: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda r: r.seed):
        by_pair.setdefault((run.pool, run.contender), []).append(run)
    cells, taken = list[Cell](), dict[str, dict[str, Times]]()
    overall: dict[str, list[tuple[Estimate, Floats]]] = {}
    for pool in pools:
        for label in (c.label for c in contenders if (pool.name, c.label) in by_pair):
            mine = by_pair[pool.name, label]
            sticks = [yardstick(pool, settings, run.seed) for run in mine]
            needed = {target: _times(target, mine, sticks) for target in LEVELS}
            faster = {target: _acceleration(target, needed[target], sticks) for target in LEVELS}
            cells.append(_cell(pool.name, label, mine, sticks, needed, faster))
            taken.setdefault(label, {})[pool.name] = needed[AIM]
            overall.setdefault(label, []).append(within(_random(AIM, sticks), settings.budget, needed[AIM]))
    duels, resamples = _duels(list(taken), taken)
    means = {label: over_pools(*zip(*each, strict=True))[0] for label, each in overall.items()}
    chosen, chance = _choice(list(taken), resamples)
    return Comparison(
        aim=AIM, settings=settings, cells=tuple(cells), overall=means, duels=tuple(duels), chosen=chosen,
        chance=chance, words=_words(chosen, chance, means, duels),
    )  # fmt: skip


def _times(target: Target, runs: Sequence[Run], sticks: Sequence[Yardstick]) -> Times:
    needed = [stick.needed(run, target) for run, stick in zip(runs, sticks, strict=True)]
    return times(needed, [len(run.rows) for run in runs])


def _acceleration(target: Target, taken: Times, sticks: Sequence[Yardstick]) -> tuple[Estimate, Floats]:
    return acceleration(_random(target, sticks), taken)


def _random(target: Target, sticks: Sequence[Yardstick]) -> Floats:
    chance = {key: stick.random(target) for key, stick in {id(s): s for s in sticks}.items()}
    return np.array([chance[id(stick)] for stick in sticks])


def _cell(
    pool: str, label: str, runs: Sequence[Run], sticks: Sequence[Yardstick],
    needed: Mapping[Target, Times], faster: Mapping[Target, tuple[Estimate, Floats]],
) -> Cell:  # fmt: skip
    unlike = {id(stick): stick for stick in sticks}
    random = {key: stick.random_quality().mean() for key, stick in unlike.items()}
    at = (sticks[0].budget + 1) // 2
    failed = [sum(v is None for v in run.values) / max(len(run.values), 1) for run in runs]
    return Cell(
        pool=pool, contender=label, runs=len(runs),
        reached={
            target: Reached(
                found=needed[target].found, trials=median_trials(needed[target]), acceleration=faster[target][0],
                random=float(np.mean([np.argmax(s.random(target) >= 0.5 - 1e-12) for s in unlike.values()])),
            )
            for target in LEVELS
        },
        quality=mean(np.array([s.quality(r).mean() for r, s in zip(runs, sticks, strict=True)])),
        random_quality=float(np.mean([random[id(stick)] for stick in sticks])),
        enhancement=None if sticks[0].several else _enhancement(runs, sticks, at), at=at, wasted=float(np.mean(failed)),
        cpu=float(np.median([second for run in runs for second in run.cpu] or [0.0])),
    )  # fmt: skip


def top_curves(runs: Sequence[Run], sticks: Sequence[Yardstick]) -> Floats:
    """Top% after each trial of the budget, (runs, budget). A run that ended found at least this."""
    return np.array([stretched(s.top(r), s.budget, 0.0) for r, s in zip(runs, sticks, strict=True)])


def _enhancement(runs: Sequence[Run], sticks: Sequence[Yardstick], at: int) -> Estimate:
    n = len(sticks[0].pool)
    found = mean(top_curves(runs, sticks)[:, at - 1] / expected_found(n, at)[-1])
    return replace(found, side="≥") if any(len(run.rows) < at for run in runs) else found


# ------------------------------------------------------------------ against each other


def _duels(
    labels: Sequence[str], taken: Mapping[str, Mapping[str, Times]]
) -> tuple[list[Duel], dict[tuple[str, str], Floats]]:
    duels, resamples = list[Duel](), dict[tuple[str, str], Floats]()
    for a, b in combinations(labels, 2):
        common = [pool for pool in taken[a] if pool in taken[b]]
        if not common:
            continue
        each = [ratio(taken[a][pool], taken[b][pool]) for pool in common]
        overall, boot = over_pools(*zip(*each, strict=True))
        verdicts = [_verdict(estimate) for estimate, _ in each]
        duels.append(
            Duel(
                a=a, b=b, ratio=overall, pools=dict(zip(common, (e for e, _ in each), strict=True)),
                won=verdicts.count(-1), tied=verdicts.count(0), lost=verdicts.count(1),
            )
        )  # fmt: skip
        resamples[a, b], resamples[b, a] = np.log(boot), -np.log(boot)
    return duels, resamples


def _verdict(found: Estimate) -> int:
    """-1 where the interval lies below 1, 1 where above, 0 where it covers 1 or is not known."""
    if found.high is not None and found.high < 1:
        return -1
    return 1 if found.low is not None and found.low > 1 else 0


def _choice(labels: Sequence[str], resamples: Mapping[tuple[str, str], Floats]) -> tuple[str, float | None]:
    """The contender with the least ratios to all others, and in what share of resamples it is that one."""
    if len(labels) < 2 or not resamples:
        return (labels[0] if labels else ""), None
    scores = np.array([sum(resamples[pair] for pair in resamples if pair[0] == label) for label in labels])
    chosen = int(np.argmin(np.median(scores, axis=1)))
    # A draw among several is nobody's victory.
    least = scores.min(axis=0)
    ahead = (scores[chosen] <= least) & ((scores <= least).sum(axis=0) == 1)
    return labels[chosen], float(ahead.mean())


def _words(chosen: str, chance: float | None, overall: Mapping[str, Estimate], duels: Sequence[Duel]) -> str:
    if not chosen:
        return "No run has ended yet."
    factor = overall[chosen]
    beats = factor.low is not None and factor.low > 1
    against = f"{chosen} reaches the {AIM} with {said(factor)} times fewer trials than random search"
    if factor.low is not None and not beats:
        against = f"that {chosen} is faster than random search is not shown (acceleration {said(factor)})"
    mine = [
        (d.ratio, d.won, d.tied, d.lost, d.b) if d.a == chosen else _turned(d) for d in duels if chosen in (d.a, d.b)
    ]
    if not mine:
        return f"Only one strategy was tried: {against}."
    closest, won, tied, lost, other = max(mine, key=lambda m: m[0].value)
    pools = won + tied + lost
    compared = (
        f"it needs {said(closest)} times the trials of {other}, the next best, and wins on {won}, ties on {tied} and "
        f"loses on {lost} of {pools} pool{'s' if pools > 1 else ''}"
    )
    if closest.low is None and closest.high is None:
        few = f"Too few runs to choose: with {LEAST} seeds or more there are intervals."
        return f"{few} So far {chosen} leads: {compared}."
    sure = f"it is the fastest in {100 * (chance or 0.0):.0f} % of resamples of pools and runs"
    if _verdict(closest) == -1:
        return f"Choose {chosen} for pools like these: {compared}; {sure}. {_capital(against)}."
    unclear = f"No clear choice: {chosen} leads, but cannot be told apart from {other}"
    return f"{unclear}: {compared}; {sure}. {_capital(against)}."


def _turned(duel: Duel) -> tuple[Estimate, int, int, int, str]:
    """The same from the other's side."""
    return inverse(duel.ratio), duel.lost, duel.tied, duel.won, duel.a


def _capital(text: str) -> str:
    return text if text.split()[0] != "that" else f"T{text[1:]}"
