"""The core against its benchmark, against itself, and the best pattern against all that rod as many assemblies."""

import math
import random
import time

import numpy as np
import pytest

from firstlight import core
from firstlight.app import check_spec
from firstlight.domains import fission
from firstlight.procedures import Chain

pytest.importorskip("openndm")

K_EFF = 1.02959
POWER = {
    (0, 0): 0.7456, (1, 0): 1.3097, (2, 0): 1.4537, (3, 0): 1.2108, (4, 0): 0.6100, (5, 0): 0.9351, (6, 0): 0.9343,
    (7, 0): 0.7549, (1, 1): 1.4351, (2, 1): 1.4799, (3, 1): 1.3149, (4, 1): 1.0697, (5, 1): 1.0361, (6, 1): 0.9503,
    (7, 1): 0.7357, (2, 2): 1.4694, (3, 2): 1.3451, (4, 2): 1.1792, (5, 2): 1.0705, (6, 2): 0.9750, (7, 2): 0.6922,
    (3, 3): 1.1928, (4, 3): 0.9670, (5, 3): 0.9064, (6, 3): 0.8462, (4, 4): 0.4706, (5, 4): 0.6855, (6, 4): 0.5972,
    (5, 5): 0.5850,
}  # fmt: skip
"""Of the benchmark, ANL-7416 supplement 2, problem 11-A2, by row and column."""


@pytest.mark.parametrize(("nodes", "pcm", "percent"), [(1, 5.0, 0.5), (2, 1.5, 0.3), (4, 0.3, 0.08)])
def test_the_benchmark_ever_closer_with_more_nodes(nodes: int, pcm: float, percent: float) -> None:
    found = fission.solve(fission.BENCHMARK, nodes)
    assert 1e5 * abs(found.k_eff - K_EFF) < pcm
    assert set(POWER) == set(fission.POSITIONS)
    assert max(100 * abs(found.power[p] / said - 1) for p, said in POWER.items()) < percent


def test_power_has_the_symmetry_of_the_square_and_a_mean_of_one() -> None:
    found = fission.solve([(2, 1), (6, 0), (5, 5)])
    assert np.allclose(found.power, found.power.T, rtol=1e-9)
    here = [fission.count([p]) for p in fission.POSITIONS]
    assert sum(here) == 177
    mean = sum(n * found.power[p] for n, p in zip(here, fission.POSITIONS, strict=True)) / 177
    assert mean == pytest.approx(1.0, abs=1e-9)
    assert (found.power > 0).sum() == 2 * 29 - 6


def test_rods_take_reactivity_and_push_power_away() -> None:
    bare, rodded = fission.solve([]), fission.solve([(3, 2)])
    assert rodded.k_eff < bare.k_eff - 0.01
    assert rodded.power[3, 2] < 0.6 * bare.power[3, 2]


def test_what_openndm_takes_for_converged_is_not() -> None:
    """The settings matter: with openndm's own the coarse peaking is wrong by more than the fine one is at all."""
    careful = fission.solve(fission.BENCHMARK, 1).peaking
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fission, "SETTINGS", {"kernel": "sanm", "verbosity": 0, "threads": 1})
        careless = fission.solve(fission.BENCHMARK, 1).peaking
    assert abs(careful - 1.4799) < 0.002
    assert abs(careless - 1.4799) > 0.05


def test_the_pool_is_every_pattern_once() -> None:
    pool = fission.spec().pool
    assert pool is not None
    assert [fission.pattern(point) for point in pool.points()] == list(fission.PATTERNS)
    assert len({frozenset(p) for p in fission.PATTERNS}) == math.comb(29, 3) == 3654
    assert sum(fission.count(p) == fission.INVENTORY for p in fission.PATTERNS) == 66
    assert min(fission.count(p) for p in fission.PATTERNS) == fission.count(fission.BENCHMARK) == fission.INVENTORY


def test_the_best_of_all_patterns_that_keep_the_inventory() -> None:
    values = fission.values()
    allowed = sorted((v, p) for v, p in zip(values, fission.PATTERNS, strict=True) if not math.isnan(v))
    assert len(values) == 3654 and len(allowed) == 66
    assert allowed[0][1] == ((0, 0), (4, 0), (3, 3))
    assert allowed[0][0] == pytest.approx(fission.BEST.value, abs=1e-6)
    assert allowed[1][0] > fission.BEST.value + 0.005


def test_more_rods_could_do_better_still() -> None:
    seen = fission.evaluate(fission.named([(1, 0), (3, 3), (5, 0)]))
    assert seen["peaking"] == pytest.approx(1.21493, abs=1e-4)
    assert seen["rodded"] == 12


def test_the_same_point_gives_the_same_numbers_whatever_came_before() -> None:
    point = fission.named(fission.BENCHMARK)
    first = fission.evaluate(point)
    for other in random.Random(1).sample(fission.PATTERNS, 5):
        fission.solve(other, 1)
    assert fission.evaluate(point) == first
    fine = fission.evaluate_at({**point, "nodes": 2})
    assert first == fine


def test_positions_that_are_none_are_invalid_input() -> None:
    point = fission.named(fission.BENCHMARK)
    for wrong in ({"outer_distance": 10.0}, {"outer_distance": 80.0, "outer_angle": 0.0}):
        with pytest.raises(core.Failed, match="not three fuel positions") as failed:
            fission.evaluate({**point, **wrong})
        assert failed.value.cause == "invalid-input"


def test_an_iteration_that_does_not_end_did_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fission, "SETTINGS", {**fission.SETTINGS, "max_outer": 3})
    with pytest.raises(core.Failed) as failed:
        fission.solve(fission.BENCHMARK)
    assert failed.value.cause == "did-not-converge"
    assert failed.value.message


def test_random_patterns_coarse_and_fine() -> None:
    began = time.process_time()
    for pattern in random.Random(7).sample(fission.PATTERNS, 20):
        point = fission.named(pattern)
        coarse, fine = (fission.evaluate_at({**point, "nodes": nodes}) for nodes in (1, 2))
        assert 1.2 < fine["peaking"] < 4.2
        assert 0.99 < fine["k_eff"] < 1.05
        assert 0 < fine["lowest"] < 1
        assert fine["rodded"] == fission.count(pattern)
        assert abs(coarse["peaking"] - fine["peaking"]) < 0.05
        assert 1e5 * abs(coarse["k_eff"] - fine["k_eff"]) < 20
    assert (time.process_time() - began) / 20 < 1.0


def test_only_fine_solutions_are_good() -> None:
    spec = check_spec(fission.TWO_FIDELITIES.spec())
    for nodes, good, cost in ((1, False, 1.0), (2, True, 3.0)):
        point = {**fission.named(fission.BENCHMARK), "nodes": nodes}
        seen = tuple(core.Observation(observable=o, value=v) for o, v in fission.evaluate_at(point).items())
        assert (core.losses_of(spec, core.Row(trial="f.1", point=point, observations=seen)) is not None) is good
        (action,) = core.priced(spec, point, Chain().actions(spec, "f.1", point))
        assert action.cost == cost
    assert spec.pool is not None
    assert len(spec.pool.rows) == 2 * 3654
