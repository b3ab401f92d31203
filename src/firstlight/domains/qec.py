"""Quantum error correction: which code, distance, syndrome rounds and readout keep a qubit best on how many qubits.

A logical qubit idles for a fixed time on a superconducting chip, in a surface code. Rounds of syndrome measurement
interrupt the idling: few, and errors pile up between them; many, and the noise of their gates and readouts piles up
instead. A long readout is a sure one, during which all other qubits decay. Stim samples the circuits, PyMatching
decodes them, and the estimate carries the noise of a finite number of shots.

docs/domains/qec.md says where the noise model comes from, and what it leaves out.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from firstlight.core import (
    Budget,
    CampaignSpec,
    Categorical,
    Continuous,
    Exclude,
    Failed,
    Goal,
    Integer,
    Limits,
    Linear,
    Objective,
    Observable,
    Point,
    ProcedureSpec,
    StepSpec,
)

from ._domain import Domain
from ._later import later

stim = later("stim", "qec")
pymatching = later("pymatching", "qec")
np = later("numpy")
special = later("scipy.special")

STORAGE = 20.0
"""How long the logical qubit is kept, us."""
QUBITS = 170
"""Physical qubits there are for it."""
SHOTS, FAILURES, BATCH = 10_000, 100, 500
"""A trial samples so many lives of the logical qubit, or fewer once so many failed, a batch at a time."""

T1, ECHO = 100.0, 8.0
"""Relaxation of an idle physical qubit, and the decay of its echo under low-frequency noise, us."""
SINGLE, TWO, RESET = 0.0003, 0.003, 0.001
"""Depolarisation by a one-qubit and a two-qubit gate, and the chance that a reset fails."""
GATES, CLEARING = 0.19, 0.11
"""What a round takes besides the readout, us: two layers of one-qubit gates (25 ns each) and four of two-qubit gates
(35 ns each); emptying the resonators and resetting the measured qubits."""
SEPARATION = 0.15
"""A readout of this many us confuses the two states with probability erfc(1) / 2, relaxation aside."""

LAYOUTS = ("rotated", "unrotated")
DISTANCES = (3, 11)
_MARK = 0.5
"""Stands in stim's circuit where data qubits idle, as a depolarisation no gate has."""


class Noise(Struct, frozen=True):
    """Probabilities of each error in a circuit; `idle` are those of X, Y and Z, once a round on every data qubit."""

    idle: tuple[float, float, float]
    single: float
    two: float
    readout: float
    reset: float


def evaluate(point: Point) -> dict[str, float | Mapping[str, float]]:
    """The logical error of one design and what it takes; units as in `spec`.

    The error is sampled: its sigma says how well it is known. The random seed is made from the point, so that the
    same point gives the same number (with the same version of stim, on processors with equally wide registers).
    Raises Failed: "invalid-input" where a round has no time for its gates and readout, or the storage none for a
    round, or stim or PyMatching is not installed.
    """
    layout, distance = str(point["layout"]), int(point["distance"])
    interval, readout, pulses = float(point["interval"]), float(point["readout"]) / 1000, int(point["pulses"])
    if interval < GATES + CLEARING + readout - 1e-9 or interval > STORAGE:
        raise Failed("invalid-input", f"an interval of {interval:g} us has no time for gates, a readout of {readout:g} "
                                      f"us and a reset, or is longer than the {STORAGE:g} us of storage")  # fmt: skip
    rounds = int(STORAGE / interval + 1e-9)
    noise = noise_of(STORAGE / rounds, readout, pulses)
    seed = _seed(layout, distance, interval, readout, pulses)
    circuits = (memory(layout, basis, distance, rounds, noise) for basis in "xz")
    decoders = [decoder(circuit, seed + i) for i, circuit in enumerate(circuits)]
    failures = shots = 0
    while shots < SHOTS and failures < FAILURES:
        failures += int(np.logical_or(*(failed(BATCH) for failed in decoders)).sum())
        shots += BATCH
    error, sigma = log_rate(failures, shots)
    return {
        "log_error": {"value": error, "sigma": sigma},
        "qubits": qubits(layout, distance),
        "rounds": rounds,
        "shots": shots,
        "readout_error": 100 * noise.readout,
        "idle_error": 100 * sum(noise.idle),
    }


def qubits(layout: str, distance: int) -> int:
    """Physical qubits of a patch: data and measured."""
    return 2 * distance**2 - 1 if layout == "rotated" else (2 * distance - 1) ** 2


def noise_of(period: float, readout: float, pulses: int) -> Noise:
    """The noise of circuits whose rounds take `period` (us), of which `readout` (us) is for the measurement.

    Idle: relaxation, twirled into Pauli errors; dephasing by 1/f noise, which `pulses` echoes make that much weaker;
    and depolarisation by those; all as independent X, Y and Z errors. Readout: Gaussian signals whose distance
    grows as the root of the time, and a qubit that relaxes before half of it is over.
    """
    idle = period - GATES
    kept = (1 - 4 / 3 * SINGLE) ** (pulses / 2)
    flip = (1 - kept * math.exp(-idle / (2 * T1))) / 2
    phase = (1 - kept * math.exp(-((idle / ECHO) ** 2) / pulses)) / 2
    confused = math.erfc(math.sqrt(readout / SEPARATION)) / 2
    relaxed = (1 - math.exp(-readout / (2 * T1))) / 2
    return Noise((flip, flip, phase), SINGLE, TWO, confused + relaxed - 2 * confused * relaxed, RESET)


def memory(layout: str, basis: str, distance: int, rounds: int, noise: Noise) -> Any:
    """A stim.Circuit that keeps a logical qubit, prepared and measured in one basis ("x" or "z"), for some rounds."""
    circuit = stim.Circuit.generated(
        f"surface_code:{layout}_memory_{basis}",
        distance=distance,
        rounds=rounds,
        before_round_data_depolarization=_MARK,
        after_clifford_depolarization=noise.two,
        before_measure_flip_probability=noise.readout,
        after_reset_flip_probability=noise.reset,
    )
    return _noisy(circuit, noise)


def _noisy(circuit: Any, noise: Noise) -> Any:
    """The circuit with idling where the marks are, and the noise of one-qubit gates after those."""
    out = stim.Circuit()
    for step in circuit:
        if isinstance(step, stim.CircuitRepeatBlock):
            out.append(stim.CircuitRepeatBlock(step.repeat_count, _noisy(step.body_copy(), noise)))
        elif step.name != "DEPOLARIZE1":
            out.append(step)
        elif step.gate_args_copy() == [_MARK]:
            for error, chance in zip("XYZ", noise.idle, strict=True):
                out.append(f"{error}_ERROR", step.targets_copy(), chance)
        else:
            out.append("DEPOLARIZE1", step.targets_copy(), noise.single)
    return out


def decoder(circuit: Any, seed: int) -> Callable[[int], Any]:
    """A function of a number of shots: an array of bools, one a new shot, true where decoding it fails."""
    sampler = circuit.compile_detector_sampler(seed=seed)
    matching = pymatching.Matching.from_detector_error_model(circuit.detector_error_model(decompose_errors=True))

    def failed(shots: int) -> Any:
        seen, true = sampler.sample(shots, separate_observables=True, bit_packed=True)
        return (matching.decode_batch(seen, bit_packed_shots=True, bit_packed_predictions=True) != true).any(axis=1)

    return failed


def log_rate(failures: int, shots: int) -> tuple[float, float]:
    """The decimal logarithm of a probability, and its sigma, after so many failures in so many shots.

    Mean and standard deviation of the logarithm over Jeffreys' posterior: close to log10(failures / shots) with
    0.434 / sqrt(failures), and finite, with a sigma of almost a decade, where nothing failed.
    """
    hits, all_ = failures + 0.5, shots + 1.0
    mean = special.digamma(hits) - special.digamma(all_)
    variance = special.polygamma(1, hits) - special.polygamma(1, all_)
    return float(mean / math.log(10)), float(math.sqrt(variance) / math.log(10))


def _seed(*what: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:7], "big")


def spec() -> CampaignSpec:
    """40 trials within 170 qubits, 2 at once, seed 0."""
    return spec_for(QUBITS)


def spec_for(budget: int) -> CampaignSpec:
    """The same campaign within another budget of physical qubits. Raises ValueError where none of the codes fits."""
    distances = range(DISTANCES[0], DISTANCES[1] + 1)
    large = {name: tuple(d for d in distances if qubits(name, d) > budget) for name in LAYOUTS}
    if all(len(too_many) == len(distances) for too_many in large.values()):
        raise ValueError(f"the smallest patch takes {qubits(LAYOUTS[0], DISTANCES[0])} qubits, not {budget}")
    return CampaignSpec(
        id="qec",
        title="A logical qubit within a budget of physical qubits",
        description="A surface-code memory under circuit-level noise, sampled by stim and decoded by PyMatching.",
        parameters=(
            Categorical(name="layout", values=LAYOUTS, description="of the surface code"),
            Integer(name="distance", low=DISTANCES[0], high=DISTANCES[1], description="of the code"),
            Continuous(name="interval", low=0.4, high=10.0, unit="us", scale="log",
                       description="between the rounds of syndrome measurement"),
            Continuous(name="readout", low=50.0, high=2000.0, unit="ns", scale="log",
                       description="integration time of every measurement"),
            Integer(name="pulses", low=1, high=64, scale="log", description="echoes of idle qubits in every interval"),
        ),
        constraints=(
            Linear(terms={"interval": 1000.0, "readout": -1.0}, relation=">=", bound=1000 * (GATES + CLEARING)),
            *(Exclude(combination={"layout": (name,), "distance": too_many})
              for name, too_many in large.items() if too_many),
        ),
        goal=Goal(
            objectives=(Objective(observable="log_error", direction="minimize", unit="1"),),
            budget=Budget(trials=40),
        ),
        observables=(
            Observable(name="qubits", unit="1", description="physical qubits, data and measured"),
            Observable(name="rounds", unit="1", description="of syndrome measurement"),
            Observable(name="shots", unit="1", description="sampled"),
            Observable(name="readout_error", unit="%", description="chance that a measurement is wrong"),
            Observable(name="idle_error", unit="%", description="chance of an error on an idle qubit in a round"),
        ),
        procedure=ProcedureSpec(steps=(StepSpec(operation="firstlight.domains.qec:evaluate",
                                                limits=Limits(seconds=300)),)),
        parallel=2,
    )  # fmt: skip


DOMAIN = Domain(
    name="qec",
    title="A logical qubit within a budget of physical qubits",
    area="Quantum information science",
    summary="Surface-code memory on stim, PyMatching: logical error against code, distance, rounds, readout",
    spec=spec,
    modules=("stim", "pymatching"),
)
