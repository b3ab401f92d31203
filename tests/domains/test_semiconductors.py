"""The transistor against closed forms of the MOS capacitor and of weak inversion, and against itself."""

import math
import random
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import pairwise

import pytest

from firstlight import core
from firstlight.app import check_spec
from firstlight.domains import semiconductors as s

# DEVSIM cannot be imported to see whether it is there before it has been told of a BLAS.
if find_spec("devsim") is None:
    pytest.skip("needs devsim", allow_module_level=True)

SHORT: core.Point = {"gate_length": 25.0, "oxide": 1.2, "doping": 6e18, "junction": 10.0, "workfunction": 4.2}
LONG = s.Transistor(gate_length=300.0, oxide=2.0, doping=1e18, junction=20.0, workfunction=4.5, mesh=2.0)
COARSE = s.Transistor(gate_length=25.0, oxide=1.2, doping=6e18, junction=10.0, workfunction=4.2, mesh=2.0)
FERMI = s.THERMAL * math.log(LONG.doping / s.INTRINSIC)
BODY = math.sqrt(2 * s.CHARGE * s.SILICON * LONG.doping) * LONG.oxide * 1e-7 / s.OXIDE
FLAT_BAND = LONG.workfunction - s.MIDGAP - FERMI
THRESHOLD = FLAT_BAND + 2 * FERMI + BODY * math.sqrt(2 * FERMI)
BOUND = 1e3 * math.log(10) * s.THERMAL


def bending(device: s.Device) -> float:
    """How far the bands bend at the surface, amid the gate, V."""
    middle = (40 + device.transistor.gate_length / 2) * 1e-7
    nodes = zip(*(device.values(name) for name in ("x", "y", "Potential")), strict=True)
    return FERMI + float(min((abs(x - middle), v) for x, y, v in nodes if y == 0)[1])


@pytest.fixture(scope="module")
def long() -> Mapping[str, float]:
    """What a long transistor shows."""
    seen: dict[str, float] = {}
    with s.built(LONG) as device:
        for name, volts in (("accumulated", FLAT_BAND - 0.2), ("flat", FLAT_BAND), ("threshold", THRESHOLD)):
            device.bias("gate", volts)
            seen[name] = bending(device)
        device.bias("drain", 0.05)
        seen["linear"] = device.current("drain")
        seen["sum"] = sum(device.current(contact) for contact in ("source", "drain", "body"))
        currents, bendings = [], []
        for volts in (THRESHOLD - 0.2, THRESHOLD - 0.25):
            device.bias("gate", volts)
            currents.append(device.current("drain"))
            bendings.append(bending(device))
        seen["swing"] = 50 / math.log10(currents[0] / currents[1])
        seen["weak"] = sum(bendings) / 2
    return seen


@pytest.fixture(scope="module")
def short() -> Mapping[str, float]:
    return s.evaluate(SHORT)


def test_the_threshold_is_that_of_the_closed_form(long: Mapping[str, float]) -> None:
    assert long["threshold"] == pytest.approx(2 * FERMI, abs=0.004)
    assert long["flat"] == pytest.approx(0, abs=1e-4)


def test_accumulation_follows_the_relation_of_the_mos_capacitor(long: Mapping[str, float]) -> None:
    psi = long["accumulated"]
    charge = psi + s.THERMAL * math.expm1(-psi / s.THERMAL)
    assert FLAT_BAND + psi - BODY * math.sqrt(charge) == pytest.approx(FLAT_BAND - 0.2, abs=0.02)


def test_the_swing_is_that_of_weak_inversion(long: Mapping[str, float]) -> None:
    psi = long["weak"]
    slope = 1 + BODY / 2 / math.sqrt(psi - s.THERMAL)
    assert long["swing"] == pytest.approx(BOUND * slope / (1 - s.THERMAL / (2 * psi)), rel=0.005)


def test_what_flows_in_flows_out(long: Mapping[str, float]) -> None:
    assert long["linear"] > 1e-4
    assert abs(long["sum"]) < 1e-9 * long["linear"]


@pytest.fixture(scope="module")
def coarse() -> Mapping[str, float]:
    """The same on a coarse mesh."""
    return s.evaluate(SHORT, mesh=2)


def test_a_short_gate_loses_hold_of_the_channel(long: Mapping[str, float], coarse: Mapping[str, float]) -> None:
    shorter, longer = coarse, s.evaluate({**SHORT, "gate_length": 40.0}, mesh=2)
    assert shorter["barrier_lowering"] > 2 * longer["barrier_lowering"] > 0
    assert shorter["swing"] > longer["swing"] + 3
    assert min(shorter["swing"], longer["swing"], long["swing"]) > BOUND
    assert shorter["on_current"] > longer["on_current"]
    # The same point, after others.
    assert s.evaluate(SHORT, mesh=2) == shorter


def test_a_coarse_mesh_errs_little(short: Mapping[str, float], coarse: Mapping[str, float]) -> None:
    assert coarse["on_current"] == pytest.approx(short["on_current"], rel=0.06)
    assert coarse["swing"] == pytest.approx(short["swing"], rel=0.02)
    assert coarse["off_current_log10"] == pytest.approx(short["off_current_log10"], abs=0.05)


def test_what_one_trial_reports(short: Mapping[str, float]) -> None:
    assert set(short) == {
        "on_current", "off_current_log10", "swing", "off_current", "tunnelling", "barrier_lowering",
    }  # fmt: skip
    # 400 to 1000 uA/um at 1 V and 0.01 to 100 nA/um are what such transistors do.
    assert short["on_current"] == pytest.approx(633, rel=0.02)
    assert short["swing"] == pytest.approx(81.4, rel=0.01)
    assert short["barrier_lowering"] == pytest.approx(72.9, rel=0.03)
    assert short["off_current"] == pytest.approx(45.4, rel=0.05)
    assert short["off_current_log10"] == pytest.approx(math.log10(short["off_current"]))
    assert 0 < short["tunnelling"] < short["off_current"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gate_length": 20.0, "junction": 25.0, "doping": 1e18}, "punched through"),
        ({"gate_length": 80.0, "oxide": 2.9, "workfunction": 4.9}, "the gate does not open the channel at 1 V"),
    ],
)
def test_what_is_no_transistor(change: core.Point, message: str) -> None:
    with pytest.raises(core.Failed, match=message) as failed:
        s.evaluate({**SHORT, **change}, mesh=2)
    assert failed.value.cause == "invalid-output"
    assert s.devsim.get_device_list() == s.devsim.get_mesh_list() == ()


def test_too_few_iterations_do_not_converge_and_leave_no_device() -> None:
    with pytest.raises(core.Failed, match="no solution in 1 iterations") as failed, s.built(COARSE) as device:
        device.bias("gate", 0.04, iterations=1)
    assert failed.value.cause == "did-not-converge"
    assert s.devsim.get_device_list() == s.devsim.get_mesh_list() == ()


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with s.built(COARSE) as device:
        device.bias("gate", 0.1)
    assert capfd.readouterr() == ("", "")


def test_mesh_lines_lie_on_every_boundary_and_grow_evenly() -> None:
    rng = random.Random(4)
    for _ in range(200):
        marks = [(0.0, rng.uniform(0.3, 3))]
        for _ in range(4):
            marks.append((marks[-1][0] + rng.uniform(0.5, 50), rng.choice([marks[-1][1], rng.uniform(0.3, 5)])))
        found = s.lines(marks)
        steps = [b - a for a, b in pairwise(found)]
        assert {at for at, _ in marks} <= set(found)
        assert 0 < min(steps) <= max(steps) <= 1.0001 * max(spacing for _, spacing in marks)


def test_tunnelling_is_simmons_formula() -> None:
    electron, planck = 9.1093837e-31, 6.62607015e-34
    # His constants, from those of nature.
    assert s.CHARGE**2 / (2 * math.pi * planck) * 1e16 == pytest.approx(6.2e10, rel=0.01)
    steepness = 4e-10 * math.pi * math.sqrt(2 * electron * s.CHARGE) / planck
    assert steepness == pytest.approx(1.025, rel=0.001)
    assert s.simmons(1.5, 3.0, 0.0) == 0
    backward = (3.0, 4.0)
    one, other = (b * math.exp(-steepness * math.sqrt(0.42) * 15 * math.sqrt(b)) for b in backward)
    assert s.simmons(1.5, 3.0, 1.0) == pytest.approx(6.2e10 / 225 * (one - other), rel=0.02)
    # Decades for a few tenths of a nanometre.
    assert 100 < s.simmons(1.2, 3.0, 1.0) / s.simmons(1.6, 3.0, 1.0) < 1000


def test_the_specification_is_sound() -> None:
    check_spec(s.spec())
