"""Exact random search, factors with bounds, targets and hypervolumes, each against brute force."""

import math
from itertools import permutations

import numpy as np
import pytest

from firstlight import backtest
from firstlight.backtest import (
    Contender,
    Run,
    Settings,
    Times,
    acceleration,
    best_quantile,
    chance_found,
    compare,
    expected_best,
    expected_draws,
    expected_found,
    expected_rank,
    median_trials,
    quantile_draws,
    ratio,
    within,
    yardstick,
)

from .made import a_pool, two_objectives

LOSSES = np.array([3.0, 1.0, math.nan, 4.0, 1.5, 9.0])
ORDERS = list(permutations(range(6)))


def a_run(rows: list[int], pool: backtest.Pool, label: str = "a", seed: int = 0) -> Run:
    values = tuple(tuple(map(float, pool.means[i])) if pool.outcomes[i] else None for i in rows)
    zeros = (0.0,) * len(rows)
    return Run(
        key=f"{pool.name}{label}{seed}", pool=pool.name, contender=label, seed=seed, rows=tuple(rows), values=values,
        cpu=zeros, wall=zeros, ended="budget spent",
    )  # fmt: skip


def times(*trials: float | None, made: int = 60) -> Times:
    """None: not reached within `made` trials."""
    return Times(
        trials=tuple(made + 1.0 if t is None else float(t) for t in trials), censored=tuple(t is None for t in trials)
    )


# ------------------------------------------------------------------ random search, by all orders of six rows


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_draws_to_the_first_good_row(k: int) -> None:
    first = np.array([min(order.index(i) for i in range(k)) + 1 for order in ORDERS])
    assert chance_found(6, k) == pytest.approx([(first <= t).mean() for t in range(7)])
    assert expected_draws(6, k) == pytest.approx(first.mean())
    for q in (0.1, 0.5, 0.9):
        assert quantile_draws(6, k, q) == np.sort(first)[math.ceil(q * len(first)) - 1]


def test_the_published_medians_of_random_search() -> None:
    assert quantile_draws(600, 6, 0.5) == 66
    assert quantile_draws(1728, 18, 0.5) == 65
    assert quantile_draws(164, 2, 0.5) == 48


def test_the_best_of_some_draws() -> None:
    best = np.array([np.fmin.accumulate(LOSSES[list(order)]) for order in ORDERS])
    succeeded = [np.nanmean(best[:, t]) for t in range(6)]
    assert expected_best(LOSSES, 6) == pytest.approx(succeeded)
    filled = np.sort(np.where(np.isnan(best), np.inf, best), axis=0)
    for q in (0.1, 0.5, 0.9):
        assert best_quantile(LOSSES, 6, q) == pytest.approx(filled[math.ceil(q * len(ORDERS)) - 1])


def test_ranks_and_what_random_search_expects_of_them() -> None:
    ranks = backtest.ranks(LOSSES)
    assert ranks.tolist() == [0.5, 1.0, 0.0, 0.25, 0.75, 0.0]
    curves = [np.maximum.accumulate(ranks[list(order)]) for order in ORDERS]
    assert expected_rank(LOSSES, 6) == pytest.approx(np.mean(curves, axis=0))


def test_the_share_found_by_random_search() -> None:
    found = np.mean([[sum(i in order[:t] for i in (1, 4)) / 2 for t in range(1, 7)] for order in ORDERS], axis=0)
    assert expected_found(6, 6) == pytest.approx(found)


# ------------------------------------------------------------------ acceleration


def test_acceleration_is_the_median_over_all_pairs() -> None:
    taken = times(1, 2, 2, 5, 3)
    first = [min(order.index(i) for i in range(2)) + 1 for order in ORDERS]
    pairs = np.sort([m / n for n in taken.trials for m in first])
    found, boot = acceleration(np.array([chance_found(6, 2)] * 5), taken)
    assert found.value == pytest.approx(pairs[math.ceil(0.5 * len(pairs)) - 1], abs=1e-6)
    assert found.side == ""
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    assert np.quantile(boot, 0.025) == pytest.approx(found.low, rel=0.1)


def test_runs_that_did_not_get_there_make_bounds_only_where_they_matter() -> None:
    random = np.array([chance_found(100, 1)] * 5)
    certain = np.array([chance_found(100, 100)] * 5)
    exact, _ = acceleration(certain, times(10, 10, 10, 10, None, made=20))
    bound, _ = acceleration(random, times(10, None, None, None, None, made=20))
    assert (exact.side, bound.side) == ("", "≤")
    # The bound is the factor as if all of them had found it with their next trial.
    assert bound.value == pytest.approx(acceleration(random, times(10, 21, 21, 21, 21))[0].value)
    assert bound.low == 0
    assert median_trials(times(10, None, None, made=20)) == backtest.Estimate(value=21, side="≥")
    assert median_trials(times(10, 11, None, made=20)) == backtest.Estimate(value=11)


def test_within_the_budget_random_search_is_as_fast_as_itself() -> None:
    rng = np.random.default_rng(1)
    first = np.searchsorted(chance_found(100, 1), rng.random(400))
    taken = Times(trials=tuple(float(min(t, 21)) for t in first), censored=tuple(bool(t > 20) for t in first))
    random = np.array([chance_found(100, 1)] * 400)
    fair, _ = within(random, 20, taken)
    unfair, _ = acceleration(random, taken)
    assert (fair.side, unfair.side) == ("~", "≤")
    assert fair.value == pytest.approx(1.0, abs=0.05)
    assert unfair.value > 2


def test_few_runs_have_no_interval() -> None:
    assert median_trials(times(1, 2, 3, 4)).interval == ""
    assert median_trials(times(1, 2, 3, 4, 5)).interval != ""


def test_a_ratio_of_two_contenders_and_its_bounds() -> None:
    a, b = times(2, 4, 4, 8, 6), times(8, 8, 16, 12, 10)
    found, boot = ratio(a, b)
    assert found.value == np.median([m / n for m in a.trials for n in b.trials])
    assert found.high is not None
    assert found.high < 1
    turned, _ = ratio(b, a)
    assert turned.value == pytest.approx(np.median([n / m for m in a.trials for n in b.trials]))
    assert np.median(boot) == pytest.approx(found.value, rel=0.2)
    assert ratio(times(None, None, None, 5, 5), b)[0].side == "≥"
    assert ratio(b, times(None, None, None, 5, 5))[0].side == "≤"
    assert ratio(times(None, None, None, 5, 5), times(None, None, None, 5, 5))[0].side == "~"
    # One run in five does not move the median, but the interval has no end.
    assert ratio(times(5, 5, 5, 5, None), b)[0].side == ""
    assert ratio(times(5, 5, None, None, 5), b)[0].high is None


def test_geometric_mean_over_pools() -> None:
    each = [ratio(times(*[2] * 5), times(*[8] * 5)), ratio(times(*[4] * 5), times(*[4] * 5))]
    found, _ = backtest.over_pools(*zip(*each, strict=True))
    assert found.value == pytest.approx(0.5)
    assert found.low == pytest.approx(0.25)
    assert found.high == pytest.approx(1.0)


# ------------------------------------------------------------------ targets and quality


def test_the_best_one_per_cent() -> None:
    pool = a_pool([float(v) for v in range(250)])
    stick = yardstick(pool, Settings(), 1)
    assert [int(stick.good(t).sum()) for t in backtest.LEVELS] == [13, 3, 1]
    found = a_run([0, 237, 100, 247, 249], pool)
    assert [stick.needed(found, t) for t in backtest.LEVELS] == [2, 4, 5]
    assert stick.needed(a_run([0, 1], pool), "best") is None
    assert stick.random("best 1 %") == pytest.approx(chance_found(250, 3))


def test_rows_that_tie_with_the_last_good_one_are_good() -> None:
    stick = yardstick(a_pool([5, 5, 5, 1, 0]), Settings(), 1)
    assert stick.good("best").tolist() == [True, True, True, False, False]


def test_quality_is_the_rank_of_the_best_so_far() -> None:
    pool = a_pool([[], [1], [2], [3], [4], [5]])
    stick = yardstick(pool, Settings(budget=6), 1)
    assert stick.quality(a_run([0, 2, 1, 5], pool)).tolist() == [0.0, 0.25, 0.25, 1.0, 1.0, 1.0]
    every = [stick.quality(a_run(list(order), pool)) for order in ORDERS]
    assert stick.random_quality() == pytest.approx(np.mean(every, axis=0))


def test_top_per_cent_counts_each_row_once() -> None:
    pool = a_pool([float(v) for v in range(40)])
    stick = yardstick(pool, Settings(budget=5), 1)
    assert stick.top(a_run([39, 39, 5, 38], pool)).tolist() == [0.5, 0.5, 0.5, 1.0]


def test_several_objectives_are_measured_by_their_hypervolume() -> None:
    pool = two_objectives([(0, 10), (10, 0), (5, 5), (9, 9), (10, 10)])
    stick = yardstick(pool, Settings(budget=4), 1)
    # Losses scaled to 0..1, the reference at 1.1: the whole front dominates 0.11 + 0.11 - 0.01 + ... by hand.
    whole = 0.36 + 2 * 0.6 * 0.0 + 0.1 * 1.1 * 2 - 2 * 0.1 * 0.6
    assert whole == pytest.approx(0.46)
    shares = stick.share([3, 2, 0, 1])
    assert shares == pytest.approx([0.04 / 0.46, 0.36 / 0.46, (0.36 + 0.11 - 0.06) / 0.46, 1.0])
    assert stick.needed(a_run([3, 2, 0, 1], pool), "best") == 4
    orders = list(permutations(range(5)))
    true = np.mean([stick.quality(a_run(list(order), pool)) for order in orders], axis=0)
    assert stick.random_quality() == pytest.approx(true, abs=0.06)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_hypervolume_against_counting(m: int) -> None:
    rng = np.random.default_rng(m)
    points, reference = rng.random((8, m)), np.ones(m)
    darts = rng.random((200_000, m))
    counted = np.any(np.all(darts[:, None] >= points[None], axis=2), axis=1).mean()
    assert backtest.hypervolume(points, reference) == pytest.approx(counted, abs=0.006)
    assert backtest.shares(points, reference)[-1] == pytest.approx(backtest.hypervolume(points, reference))


# ------------------------------------------------------------------ the comparison


def runs_of(pool: backtest.Pool, label: str, needed: list[int | None], budget: int = 30) -> list[Run]:
    """Runs that meet the best row, the last, after so many trials."""
    best, found = len(pool) - 1, []
    for seed, n in enumerate(needed):
        rows = list(range(budget if n is None else n - 1)) + ([] if n is None else [best])
        found.append(a_run(rows, pool, label, seed))
    return found


POOLS = [a_pool([float(v) for v in range(90)], f"p{i}") for i in range(6)]
PAIR = [Contender(label=label, strategy=label) for label in ("fast", "slow")]


def test_a_clear_winner_is_named_with_how_sure_that_is() -> None:
    runs = [r for p in POOLS for r in runs_of(p, "fast", [4, 5, 6, 5, 5]) + runs_of(p, "slow", [10, 9, 11, 12, 8])]
    found = compare(POOLS, PAIR, runs, Settings(budget=30))
    (duel,) = found.duels
    assert (found.chosen, found.chance) == ("fast", 1.0)
    assert (duel.won, duel.tied, duel.lost) == (6, 0, 0)
    assert duel.ratio.value == pytest.approx(0.5)
    assert found.words.startswith("Choose fast for pools like these: it needs 0.5 (95 %:")
    assert found.overall["fast"].value > found.overall["slow"].value > 1


def test_a_tie_is_called_a_tie() -> None:
    runs = [r for p in POOLS for r in runs_of(p, "fast", [4, 9, 6, 7, 5]) + runs_of(p, "slow", [9, 5, 6, 4, 7])]
    found = compare(POOLS, PAIR, runs, Settings(budget=30))
    assert (found.duels[0].won, found.duels[0].tied, found.duels[0].lost) == (0, 6, 0)
    assert found.words.startswith("No clear choice")


def test_the_last_named_can_win_too() -> None:
    runs = [r for p in POOLS for r in runs_of(p, "slow", [4, 5, 6, 5, 5]) + runs_of(p, "fast", [10, 9, 11, 12, 8])]
    found = compare(POOLS, PAIR, runs, Settings(budget=30))
    assert found.words.startswith("Choose slow for pools like these: it needs 0.5 (95 %:")
    assert "wins on 6, ties on 0 and loses on 0 of 6 pools" in found.words


def test_two_seeds_are_too_few_to_choose() -> None:
    runs = [r for p in POOLS for r in runs_of(p, "fast", [4, 5]) + runs_of(p, "slow", [10, 9])]
    found = compare(POOLS, PAIR, runs, Settings(budget=30))
    assert found.words.startswith("Too few runs to choose")
    assert found.duels[0].tied == 6


def test_one_contender_is_held_against_random_search_alone() -> None:
    slow = compare(POOLS[:1], PAIR[:1], runs_of(POOLS[0], "fast", [None] * 5, budget=30), Settings(budget=30))
    assert "is not shown" in slow.words
    fast = compare(POOLS, PAIR[:1], [r for p in POOLS for r in runs_of(p, "fast", [3] * 5)], Settings(budget=30))
    assert "times fewer trials than random search" in fast.words


def test_a_cell_has_what_the_runs_say() -> None:
    pool = a_pool([[]] + [[float(v)] for v in range(89)], "p")
    found = compare([pool], PAIR[:1], runs_of(pool, "fast", [4, 5, 6, 7, None]), Settings(budget=30))
    (cell,) = found.cells
    best = cell.reached["best"]
    assert (best.found, best.trials.value, best.random) == (0.8, 6, 45)
    assert cell.wasted == pytest.approx(np.mean([1 / 4, 1 / 5, 1 / 6, 1 / 7, 1 / 30]))
    # Half the budget is 15 trials: four of five runs found one of the five top rows, random search 15 of 90.
    assert cell.at == 15
    assert cell.enhancement is not None
    assert cell.enhancement.value == pytest.approx(0.8 / 5 / (15 / 90))
    assert cell.enhancement.side == "≥"


def test_runs_with_hidden_regions_are_measured_by_what_was_left() -> None:
    pool = a_pool([float(v) for v in range(40)], "p")
    settings = Settings(budget=10, hide=0.3)
    sticks = [yardstick(pool, settings, seed) for seed in range(5)]
    best = [int(np.nanargmin(s.losses[:, 0])) for s in sticks]
    assert len(set(best)) > 1
    runs = [a_run([0, 1, b], pool, "fast", seed) for seed, b in enumerate(best)]
    (cell,) = compare([pool], PAIR[:1], runs, settings).cells
    assert cell.reached["best"].found == 1.0
    assert cell.quality.value > 0.5
