"""The loop: what a strategy is asked and told, and when it ends."""

import numpy as np
import pytest

from firstlight import backtest, core
from firstlight.backtest import Contender, Misbehaved, Settings, archive, hidden, key, run, siblings_of
from firstlight.strategies.designs import Random

from .made import Scripted, a_pool, two_objectives

POOL = a_pool([3, 1, 4, 1, 5, 9, 2, 6])


def test_it_ends_with_the_best_row() -> None:
    strategy = Scripted(POOL, [0, 2, 5, 7])
    found = run(POOL, strategy, 1)
    assert found.rows == (0, 2, 5)
    assert found.values == ((3.0,), (4.0,), (9.0,))
    assert found.ended == "best found"
    assert len(found.cpu) == len(found.wall) == 3
    assert all(c >= 0 for c in found.cpu)


def test_with_full_it_goes_on_to_the_budget() -> None:
    assert run(POOL, Scripted(POOL, [5, 0, 1, 2]), 1, Settings(budget=3, full=True)).rows == (5, 0, 1)


def test_any_of_several_equal_best_rows_will_do() -> None:
    pool = a_pool([7, 1, 7])
    assert run(pool, Scripted(pool, [1, 2, 0]), 1).rows == (1, 2)


def test_it_ends_where_nothing_is_proposed_or_the_budget_is_spent() -> None:
    assert run(POOL, Scripted(POOL, [0, 1]), 1).ended == "nothing proposed"
    spent = run(POOL, Scripted(POOL, [0, 1, 2, 3]), 1, Settings(budget=2))
    assert (spent.rows, spent.ended) == ((0, 1), "budget spent")


def test_minimising_and_several_objectives() -> None:
    low = a_pool([3, 1, 4], direction="minimize")
    assert run(low, Scripted(low, [0, 1, 2]), 1).rows == (0, 1)
    # The front is rows 1, 2 and 3; row 4 is as good as row 1.
    pool = two_objectives([(5, 5), (1, 4), (2, 2), (4, 1), (1, 4)])
    assert run(pool, Scripted(pool, [0, 4, 2, 3, 1]), 1).rows == (0, 4, 2, 3)


def test_the_strategy_is_asked_and_told_as_a_campaign_would() -> None:
    strategy = Scripted(POOL, [0, 1, 2, 3, 4, 7])
    run(POOL, strategy, 7, Settings(budget=5, count=2))
    assert strategy.asked == [(2, 7_000_021), (2, 7_000_023), (1, 7_000_025)]
    assert [len(r.rows) for r in strategy.heard] == [0, 2, 4]
    row = strategy.heard[-1].rows[1]
    assert row.point == {"x": 1.0}
    assert row.seen["y"].value == 1.0


def test_the_same_seed_gives_the_same_rows() -> None:
    pool = a_pool(list(np.sin(np.arange(60))))
    first, again, other = (run(pool, Random(), seed) for seed in (3, 3, 4))
    assert first.rows == again.rows != other.rows


def test_what_is_not_in_the_pool_is_refused() -> None:
    class Wild:
        def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> list[core.Proposal]:
            return [core.Proposal(point={"x": 0.5})]

    with pytest.raises(Misbehaved, match=r"\{'x': 0.5\}, which is not in the pool"):
        run(POOL, Wild(), 1)


def test_numbers_may_differ_by_rounding() -> None:
    assert POOL.find({"x": 5.0 + 1e-12}) == 5
    assert POOL.find({"x": 5.001}) is None
    assert POOL.find({"y": 5.0}) is None


# ------------------------------------------------------------------ replicates and failures


def test_the_mean_of_replicates_is_told_with_its_standard_error() -> None:
    pool = a_pool([[1, 3], [5], [10, 12, 14]])
    strategy = Scripted(pool, [0, 1, 2])
    found = run(pool, strategy, 1, Settings(full=True, budget=3))
    assert found.values == ((2.0,), (5.0,), (12.0,))
    pooled = np.sqrt((2 + 8) / (1 + 2))
    told = [row.seen["y"].sigma for row in strategy.heard[-1].rows]
    assert told == pytest.approx([pooled / np.sqrt(2), pooled])


def test_one_of_the_replicates_is_drawn() -> None:
    pool = a_pool([[1, 3], [100, 200, 300], [0]])
    heard = {run(pool, Scripted(pool, [0]), seed, Settings(noise="draw", budget=1)).values[0] for seed in range(30)}
    assert heard == {(1.0,), (3.0,)}
    strategy = Scripted(pool, [0, 0])
    run(pool, strategy, 1, Settings(noise="draw", budget=2))
    assert strategy.heard[-1].rows[0].seen["y"].sigma == pytest.approx(float(pool.sigma[0]))


def test_a_region_is_hidden_and_fails() -> None:
    pool = a_pool(list(range(40)))
    fails = hidden(pool, 0.3, 5)
    assert fails.sum() == 12
    # One piece of a line is a region of it.
    assert np.flatnonzero(fails).tolist() == list(range(fails.argmax(), fails.argmax() + 12))
    assert (hidden(pool, 0.3, 6) != fails).any()
    strategy = Scripted(pool, range(40))
    found = run(pool, strategy, 5, Settings(budget=40, hide=0.3))
    assert [v is None for v in found.values] == fails[: len(found.rows)].tolist()
    failure = strategy.heard[-1].rows[int(fails.argmax())].failure
    assert failure is not None
    assert failure.cause == "did-not-converge"


def test_a_hidden_best_is_not_looked_for() -> None:
    pool = a_pool(list(range(40)))
    seed = next(s for s in range(100) if hidden(pool, 0.3, s)[39])
    best = 39 - 12
    assert run(pool, Scripted(pool, [0, best, 1]), seed, Settings(hide=0.3)).rows == (0, best)


def test_trials_that_failed_in_the_data_fail() -> None:
    pool = a_pool([[], [1], [2]])
    assert run(pool, Scripted(pool, [0, 1, 2]), 1).values == (None, (1.0,), (2.0,))


# ------------------------------------------------------------------ earlier campaigns


def test_siblings_share_parameters_and_the_observable() -> None:
    other = a_pool([2, 7, 1], "other")
    words = two_objectives([(1, 2), (2, 1)])
    assert [s.name for s in siblings_of(POOL, [POOL, other, words])] == ["other"]


def test_the_same_experiments_are_no_sibling() -> None:
    values = [float(v) for v in np.sin(np.arange(30) * 1.7)]
    pool, copy, unlike = (
        a_pool(v, name)
        for name, v in (("a", values), ("b", [x + 0.001 * i for i, x in enumerate(values)]), ("c", values[::-1]))
    )
    assert [s.name for s in siblings_of(pool, [copy, unlike])] == ["c"]


@pytest.mark.parametrize("how", ["true", "shuffled", "inverted"])
def test_trials_of_siblings_are_told_as_they_were_or_not(how: str) -> None:
    sibling = a_pool([10, 20, 30, 45], "sibling")
    settings = Settings(earlier=3, earlier_as=how, budget=1)  # type: ignore[arg-type]
    strategy = Scripted(POOL, [0])
    run(POOL, strategy, 2, settings, siblings=[sibling])
    (earlier,) = strategy.heard[0].earlier
    assert earlier.campaign == "sibling"
    points = [sibling.places[row.point["x"],] for row in earlier.rows]
    told = [row.seen["y"].value for row in earlier.rows]
    true = [float(sibling.means[i, 0]) for i in points]
    assert len(set(points)) == 3
    assert told == {"true": true, "inverted": [55 - v for v in true]}.get(how, told)
    assert sorted(told) == sorted(true) or how == "inverted"
    if how == "shuffled":
        shuffles = {tuple(r.seen["y"].value for r in archive([sibling], settings, s)[0].rows) for s in range(20)}
        straight = {
            tuple(
                float(sibling.means[sibling.places[r.point["x"],], 0]) for r in archive([sibling], settings, s)[0].rows
            )
            for s in range(20)
        }
        assert shuffles != straight


def test_the_key_is_of_all_that_decides_a_run() -> None:
    base = (POOL, Contender(label="a", strategy="s"), 1, Settings())
    keys = [
        key(*base),
        key(a_pool([1, 2]), *base[1:]),
        key(POOL, Contender(label="a", strategy="t"), 1),
        key(POOL, Contender(label="a", strategy="s", options={"n": 1}), 1),
        key(POOL, base[1], 2),
        key(POOL, base[1], 1, Settings(budget=61)),
        key(POOL, base[1], 1, Settings(earlier=1), [a_pool([1, 2])]),
        key(POOL, base[1], 1, Settings(earlier=1), [a_pool([1, 3])]),
    ]
    assert len(set(keys)) == len(keys)
    assert key(POOL, Contender(label="other name", strategy="s"), 1) == keys[0]
    assert backtest.run(POOL, Scripted(POOL, [0]), 1, contender=base[1]).key == keys[0]
