"""Expected hypervolume improvement against counting points."""

import numpy as np
import numpy.typing as npt
import pytest

from firstlight.strategies._encoding import Array
from firstlight.strategies._gp import Belief
from firstlight.strategies._hypervolume import boxes, log_ehvi, thinned


def undominated(points: Array, front: Array) -> npt.NDArray[np.bool_]:
    dominated = np.all(front[None] <= points[:, None], axis=-1)
    return np.asarray(~np.any(dominated, axis=1))


@pytest.mark.parametrize(("m", "n"), [(1, 3), (2, 0), (2, 1), (2, 12), (3, 15), (4, 8)])
def test_boxes_are_disjoint_and_fill_what_is_not_dominated(m: int, n: int) -> None:
    rng = np.random.default_rng(m * 100 + n)
    front = rng.random((n, m)) * 1.2  # Some lie beyond the reference.
    front = np.vstack([front, front[:1]]) if n else front  # And one stands there twice.
    lower, upper = boxes(front, np.ones(m))
    points = rng.random((4_000, m))
    within = ((points[:, None] > lower) & (points[:, None] <= upper)).all(-1).sum(1)
    assert within.max() == 1
    assert (within == undominated(points, front)).all()


@pytest.mark.parametrize("m", [2, 3])
def test_expectation_agrees_with_draws(m: int) -> None:
    rng = np.random.default_rng(m)
    front = rng.random((6, m)) * 0.8
    mean, deviation = rng.random((3, m)) * 0.6, 0.05 + 0.2 * rng.random((3, m))
    beliefs = [Belief(mean[:, k], deviation[:, k]) for k in range(m)]
    found = np.exp(log_ehvi(beliefs, *boxes(front, np.ones(m))))
    cells = rng.random((20_000, m)) * 1.5 - 0.5  # The volume down to -0.5 in every objective.
    cells = cells[undominated(cells, front)]
    for i in range(3):
        draws = mean[i] + deviation[i] * rng.standard_normal((400, m))
        gains = [(draw <= cells).all(1).sum() / 20_000 * 1.5**m for draw in draws]
        assert found[i] == pytest.approx(np.mean(gains), rel=0.2, abs=3 * np.std(gains) / 20)


def test_what_lies_beyond_the_reference_promises_next_to_nothing() -> None:
    beliefs = [Belief(np.array([0.5, 3.0]), np.array([0.1, 0.1])) for _ in range(2)]
    inside, outside = log_ehvi(beliefs, *boxes(np.empty((0, 2)), np.ones(2)))
    assert inside == pytest.approx(np.log(0.25), abs=0.05)
    assert outside < -100


def test_a_long_front_is_thinned_to_its_ends_and_between() -> None:
    x = np.linspace(0, 1, 400)
    front = np.column_stack([x, 1 - x, np.abs(x - 0.5)])
    kept = thinned(front)
    assert len(kept) == 63
    assert kept[:, 0].min() == 0
    assert kept[:, 0].max() == 1
    assert np.diff(np.sort(kept[:, 0])).max() < 0.05
