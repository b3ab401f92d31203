"""The chemistry against what is known of it, and against itself."""

import random
import time
from pathlib import Path

import pytest

from firstlight import core
from firstlight.domains import critical_materials as cm

pytest.importorskip("phreeqc")

POINT: core.Point = {"pH1": 6.5, "pH2": 7.0, "bicarbonate": 1.5, "temperature": 25.0}


def random_points(count: int, seed: int) -> list[core.Point]:
    rng = random.Random(seed)
    found: list[core.Point] = []
    for _ in range(count):
        point: core.Point = {}
        for p in cm.spec().parameters:
            assert isinstance(p, core.Continuous)
            point[p.name] = rng.uniform(p.low, p.high)
        found.append(point)
    return found


def test_aluminium_and_iron_leave_in_stage_1_and_rare_earths_do_not() -> None:
    seen = cm.evaluate({**POINT, "pH1": 5.5})
    assert seen["aluminium_removed"] == pytest.approx(98.7, abs=0.1)
    assert seen["iron_removed"] > 99
    assert seen["loss"] < 0.1


def test_too_high_a_first_stage_loses_rare_earths() -> None:
    assert cm.evaluate({**POINT, "pH1": 8.0, "pH2": 8.5})["loss"] > 3


@pytest.mark.parametrize(("dose", "recovery"), [(1.2, 82.0), (3.0, 98.3)])
def test_recovery_at_pH_7_depends_on_the_dose(dose: float, recovery: float) -> None:
    seen = cm.evaluate({**POINT, "pH1": 5.5, "bicarbonate": dose})
    assert seen["recovery"] == pytest.approx(recovery, abs=0.3)


def test_no_carbonate_no_recovery_at_pH_7() -> None:
    assert cm.evaluate({**POINT, "bicarbonate": 0.0})["recovery"] == pytest.approx(0.0, abs=0.01)


def test_more_carbonate_buys_recovery_with_purity() -> None:
    lean, rich = (cm.evaluate({**POINT, "bicarbonate": dose}) for dose in (1.2, 4.0))
    assert rich["recovery"] > lean["recovery"] + 5
    assert rich["purity"] < lean["purity"] - 20
    assert rich["reagent"] > lean["reagent"]


@pytest.mark.parametrize("pH1", [4.0, 5.5, 8.0])
def test_mass_and_charge_balance(pH1: float) -> None:
    result = cm.separate(pH1, 8.5, 3.0, 40.0)
    for metal, fed in result.feed.dissolved.items():
        lost, recovered = result.stage1.solid[metal], result.stage2.solid[metal]
        assert lost + recovered + result.stage2.dissolved[metal] == pytest.approx(fed, rel=1e-6), metal
        assert lost + result.stage1.dissolved[metal] == pytest.approx(fed, rel=1e-6), metal
    for stream in (result.feed, result.stage1, result.stage2):
        assert abs(stream.charge_error) < 1e-4


def test_feed_is_the_declared_leachate() -> None:
    feed = cm.separate(6.5, 7.0, 1.5, 25.0).feed
    for metal, amount in {**cm.RARE_EARTHS, **cm.IMPURITIES}.items():
        assert feed.dissolved[metal] == pytest.approx(amount * 1e-3, rel=1e-6)


def test_a_set_point_below_what_bicarbonate_gives_is_out_of_reach() -> None:
    with pytest.raises(core.Failed, match=r"pH2 = 5\.60 is out of reach") as failed:
        cm.evaluate({**POINT, "pH2": 5.6, "bicarbonate": 5.0})
    assert failed.value.cause == "invalid-input"


def test_what_the_solver_cannot_solve_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(core.Failed, match="Al has not converged") as failed:
        cm.separate(4.585288271467827, 8.49788024464606, 3.6202098545498265, 32.27718591749631)
    assert failed.value.cause == "did-not-converge"
    assert list(tmp_path.iterdir()) == []


def test_what_the_solver_cannot_solve_did_not_converge() -> None:
    with pytest.raises(core.Failed) as failed:
        cm.separate(6.5, 7.0, float("nan"), 25.0)
    assert failed.value.cause == "did-not-converge"
    assert failed.value.message


def test_the_same_point_gives_the_same_numbers_whatever_came_before() -> None:
    first = cm.evaluate(POINT)
    for point in random_points(20, seed=3):
        try:
            cm.evaluate(point)
        except core.Failed:
            continue
    assert cm.evaluate(POINT) == first


def test_fifty_random_points() -> None:
    failures = 0
    began = time.process_time()
    for point in random_points(50, seed=7):
        try:
            seen = cm.evaluate(point)
        except core.Failed as failed:
            assert failed.cause in ("invalid-input", "did-not-converge"), failed
            failures += 1
            continue
        assert set(seen) == {"recovery", "purity", "reagent", "loss", "aluminium_removed", "iron_removed"}
        assert all(-1e-6 <= seen[name] <= 100 + 1e-6 for name in seen if name != "reagent")
        assert 20 < seen["reagent"] < 100
    assert 0 < failures < 25
    assert (time.process_time() - began) / 50 < 0.1
