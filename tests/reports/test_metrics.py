"""Acceleration and enhancement against cases worked out by hand."""

import itertools
import math
from math import inf

import numpy as np
import pytest

from firstlight import core, reports
from firstlight.reports import Bound

from .builder import spec

MAXIMIZE = core.Goal(objectives=(core.Objective(observable="y", direction="maximize"),))
MINIMIZE = core.Goal(objectives=(core.Objective(observable="y", direction="minimize"),))


def performance(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)


def test_best_curve_carries_the_best_over_failures_and_starts_at_nothing() -> None:
    assert reports.best_curve([None, (3.0,), None, (5.0,), (1.0,)]).tolist() == [-inf, -3.0, -3.0, -3.0, -1.0]
    assert len(reports.best_curve([])) == 0


def test_a_trial_that_broke_a_bound_or_failed_has_no_losses() -> None:
    goal = core.Goal(
        objectives=MAXIMIZE.objectives,
        outcome_constraints=(core.OutcomeConstraint(observable="heat", relation="<=", bound=5.0),),
    )
    seen = tuple(core.Observation(observable=o, value=v) for o, v in (("y", 2.0), ("heat", 6.0)))
    cool = (seen[0], core.Observation(observable="heat", value=5.0))
    rows = [
        core.Row(trial="a", point={}, observations=seen),
        core.Row(trial="b", point={}, observations=cool),
        core.Row(trial="c", point={}, observations=cool, failure=core.Failure(cause="crashed")),
    ]
    assert reports.trial_losses(spec(goal=goal), rows) == [None, (-2.0,), None]


def test_needed_is_the_first_trial_that_does_as_well() -> None:
    curve = performance(-inf, 1, 1, 4, 4)
    assert [reports.needed(curve, p) for p in (0.5, 1, 2, 4, 5)] == [2, 2, 4, 4, None]
    assert reports.needed(performance(0.1 + 0.2), 0.3) == 1, "rounding is no difference"


def test_acceleration_is_the_ratio_of_trials_over_all_pairs() -> None:
    mine = [performance(1, 4, 4, 4)]  # reaches 4 with 2 trials
    theirs = [performance(1, 1, 4), performance(0, 1, 2, 3, 4, 4), performance(0, 0, 0, 0, 0, 0, 0, 9)]
    found = reports.acceleration(mine, theirs)
    assert found is not None
    assert (found.low.value, found.median.value, found.high.value) == (2.0, 2.5, 3.25)  # of 3/2, 5/2, 8/2
    assert (found.trials, found.reference, found.reached, found.pairs) == (2.0, Bound(value=5.0), 3, 3)
    assert not any(b.at_least for b in (found.low, found.median, found.high))


def test_acceleration_at_equal_trials_divides_by_them() -> None:
    found = reports.acceleration([performance(1, 4, 4, 4)], [performance(0, 1, 2, 3, 4, 4)], trials=4)
    assert found is not None
    assert found.median == Bound(value=5 / 4)
    assert reports.acceleration([performance(1, 2)], [performance(1, 2)], trials=3) is None, "it made only two"


def test_a_slower_campaign_has_a_factor_below_one() -> None:
    found = reports.acceleration([performance(0, 0, 0, 4)], [performance(4, 4)])
    assert found is not None
    assert found.median == Bound(value=0.25)


def test_what_was_never_reached_is_a_lower_bound_of_one_trial_more() -> None:
    mine = [performance(5, 5)]
    found = reports.acceleration(mine, [performance(0, 0, 0), performance(1, 5), performance(0, 5)])
    assert found is not None
    assert found.median == Bound(value=2.0), "two of three reached it: the median does not depend on the third"
    assert found.high == Bound(value=3.0, at_least=True)
    assert (found.reached, found.pairs) == (2, 3)
    none = reports.acceleration(mine, [performance(0, 0, 0), performance(1)])
    assert none is not None
    assert none.median == Bound(value=3.0, at_least=True)
    assert str(none.median) == "≥ 3"


def test_no_good_trial_or_nothing_to_compare_gives_no_factor() -> None:
    assert reports.acceleration([performance(-inf, -inf)], [performance(1)]) is None
    assert reports.acceleration([performance()], [performance(1)]) is None
    assert reports.acceleration([performance(1)], []) is None


def test_a_reference_without_a_good_trial_is_a_bound() -> None:
    found = reports.acceleration([performance(1)], [performance(-inf, -inf, -inf)])
    assert found is not None
    assert found.median == Bound(value=4.0, at_least=True)


def test_enhancement_needs_a_zero() -> None:
    assert reports.enhancement(MAXIMIZE, 6.0, 2.0) == 3.0
    assert reports.enhancement(MINIMIZE, -2.0, -6.0) == 3.0
    assert reports.enhancement(MAXIMIZE, 6.0, -2.0) is None
    assert reports.enhancement(MAXIMIZE, 6.0, -inf) is None


def test_random_search_on_a_pool_agrees_with_every_order_of_it() -> None:
    losses = np.array([3.0, 1.0, 4.0, 1.5, 9.0])
    orders = list(itertools.permutations(losses))
    expected = [np.mean([min(order[:n]) for order in orders]) for n in range(1, 6)]
    assert reports.pool_expected(losses, 5) == pytest.approx(expected)
    medians = [np.quantile([min(o[:n]) for o in orders], 0.5, method="inverted_cdf") for n in range(1, 6)]
    assert reports.pool_quantile(losses, 5, 0.5) == pytest.approx(medians)


@pytest.mark.parametrize(("size", "good"), [(5, 1), (5, 2), (6, 3), (4, 4)])
def test_expected_draws_agrees_with_every_order(size: int, good: int) -> None:
    firsts = [min(order.index(k) for k in range(good)) + 1 for order in itertools.permutations(range(size))]
    assert reports.expected_draws(size, good) == pytest.approx(np.mean(firsts))


def test_expected_draws_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="between 1 and 5"):
        reports.expected_draws(5, 0)


def test_acceleration_on_a_pool_by_hand() -> None:
    # 9 points, one as good as what was found: P(met within n) = n / 9, so half at 5, quarters at 3 and 7.
    losses = np.arange(9.0)
    found = reports.pool_acceleration(losses, performance(-4, -0.0, -0.0))
    assert found is not None
    assert (found.low.value, found.median.value, found.high.value) == (1.5, 2.5, 3.5)
    assert found.reference == Bound(value=5.0)
    failing = np.array([0.0, math.nan, math.nan])
    assert reports.pool_quantile(failing, 3, 0.5).tolist() == [inf, 0.0, 0.0]
