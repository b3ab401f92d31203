"""Hypervolume against hand-worked cases and brute force."""

import numpy as np
import pytest

from firstlight import core, reports


def test_two_dimensions_by_hand() -> None:
    points = np.array([[1.0, 3.0], [2.0, 1.0], [3.0, 3.0], [9.0, 0.0]])
    # Against (4, 4): 3 x 1 above the second point's top, 2 x 3 beside it; the third is dominated, the fourth outside.
    assert reports.hypervolume(points, np.array([4.0, 4.0])) == pytest.approx(1 * 1 + 2 * 3)
    assert reports.hypervolume(points[3:], np.array([4.0, 4.0])) == 0.0
    assert reports.hypervolume(np.empty((0, 2)), np.array([4.0, 4.0])) == 0.0


def test_three_dimensions_by_hand() -> None:
    points = np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    # The unit-deep slab of the first is 2 x 2 x 1; the second adds 1 x 1 x 1 below it.
    assert reports.hypervolume(points, np.full(3, 2.0)) == pytest.approx(4.0 + 1.0)


@pytest.mark.parametrize("dimensions", [2, 3, 4, 5])
def test_it_agrees_with_throwing_darts(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    points = rng.uniform(0, 1, (12, dimensions)) ** 0.5
    darts = rng.uniform(0, 1, (200_000, dimensions))
    hit = np.zeros(len(darts), dtype=bool)
    for point in points:
        hit |= (point <= darts).all(axis=1)
    assert reports.hypervolume(points, np.ones(dimensions)) == pytest.approx(hit.mean(), abs=0.005)


@pytest.mark.parametrize("dimensions", [2, 3, 4])
def test_the_curve_is_the_volume_of_all_trials_so_far(dimensions: int) -> None:
    rng = np.random.default_rng(7)
    points = rng.uniform(0, 1.1, (40, dimensions))
    losses = [None if i % 7 == 0 else tuple(p) for i, p in enumerate(points)]
    curve = reports.hypervolume_curve(losses, np.zeros(dimensions), np.ones(dimensions))
    for n in (1, 2, 10, 25, 40):
        good = np.array([p for p in losses[:n] if p is not None]).reshape(-1, dimensions)
        assert curve[n - 1] == pytest.approx(reports.hypervolume(good, np.ones(dimensions)), abs=1e-12)


def test_the_box_takes_thresholds_and_else_the_worst_with_a_margin() -> None:
    goal = core.Goal(
        objectives=(
            core.Objective(observable="a", direction="maximize", threshold=1.0),
            core.Objective(observable="b", direction="minimize"),
        )
    )
    ideal, reference, given = reports.reference_box(goal, [[(-5.0, 2.0), None], [(-3.0, 12.0)]])
    assert ideal.tolist() == [-5.0, 2.0]
    assert reference.tolist() == [-1.0, 13.0]
    assert not given
