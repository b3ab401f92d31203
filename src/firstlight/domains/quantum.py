"""Quantum information: a DRAG pulse that turns a leaky transmon over, faster than it forgets.

A Gaussian pulse drives a transmon from 0 to 1 and from 1 to 0 (the X gate). The transmon has more levels than two,
hardly detuned from one another: a short pulse has the bandwidth to reach them, and shifts the phase of those it does
not reach. DRAG [1, 2] adds the derivative of the pulse on the other quadrature. A long pulse leaks less, and relaxes
more. QuTiP integrates the Lindblad equation; docs/domains/quantum.md says which choices the model makes and why.

1. F. Motzoi, J. M. Gambetta, P. Rebentrost and F. K. Wilhelm, Phys. Rev. Lett. 103, 110501 (2009).
2. J. M. Gambetta, F. Motzoi, S. T. Merkel and F. K. Wilhelm, Phys. Rev. A 83, 012308 (2011).
"""

import math
from collections.abc import Callable
from typing import Any

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
    Point,
    ProcedureSpec,
    StepSpec,
)

from ._domain import Domain
from ._later import later

np = later("numpy", "quantum")
qutip = later("qutip", "quantum")

MHZ = 2e-3 * math.pi
"""One MHz as an angular frequency in rad/ns. All rates and times inside are in rad/ns, 1/ns and ns."""

DRIVE_LIMIT = 150.0
"""The largest Rabi frequency that the line can bring to the transmon, MHz."""

TOLERANCE = 1e-8
"""Relative tolerance of the integrator; infidelities are then good to 1e-13 (see the tests)."""


class Transmon(Struct, frozen=True):
    """A weakly anharmonic oscillator and what makes it forget.

    `levels` is how many are kept; `anharmonicity` is that of the second transition against the first, rad/ns; `decay`
    is 1/T1 and `dephasing` 1/T_phi, per ns; `thermal` is the mean number of quanta in the bath.
    """

    levels: int = 5
    anharmonicity: float = -250 * MHZ
    decay: float = 1 / 50_000
    dephasing: float = 1 / 100_000
    thermal: float = 1 / math.expm1(4.799243)  # 5 GHz at 50 mK: h f / k T = 4.799243


class Controls(Struct, frozen=True):
    """What is played for `duration` ns: both quadratures and the detuning as functions of time, in rad/ns."""

    duration: float
    x: Callable[[float], float]
    y: Callable[[float], float]
    detuning: Callable[[float], float]


class Gate(Struct, frozen=True):
    """How far a pulse is from X, averaged over all states of the qubit: infidelity, and leakage out of the qubit."""

    infidelity: float
    leakage: float


def evaluate(point: Point) -> dict[str, float]:
    """The error of the gate at one point and what explains it; units as in `spec`. Without noise.

    Raises Failed: "invalid-input" where the pulse is stronger than the line can bring, or QuTiP is not installed.
    """
    amplitude, beta, detuning, width, duration = (
        float(point[name]) for name in ("amplitude", "beta", "detuning", "width", "duration")
    )
    transmon = Transmon()
    controls = drag(amplitude, beta, detuning * MHZ, width, duration, transmon.anharmonicity)
    strongest = peak(controls) / MHZ
    if not strongest <= DRIVE_LIMIT:
        raise Failed("invalid-input", f"the pulse peaks at {strongest:.0f} MHz and the line brings {DRIVE_LIMIT:.0f}")
    gate = judge(channel(controls, transmon))
    return {
        "infidelity_log10": math.log10(gate.infidelity),
        "leakage_log10": math.log10(gate.leakage),
        "infidelity": gate.infidelity,
        "leakage": gate.leakage,
        "forgotten": forgotten(duration, transmon),
        "peak": strongest,
    }


def drag(
    amplitude: float, beta: float, detuning: float, width: float, duration: float, anharmonicity: float
) -> Controls:
    """A Gaussian that starts and ends at zero, and -`beta`/`anharmonicity` times its derivative beside it.

    `amplitude` 1 turns a qubit of two levels by pi; `width` is the Gaussian's sigma over the duration; the detuning is
    that of the transmon from the drive, in rad/ns, and constant.
    """
    sigma, middle = width * duration, duration / 2
    foot = math.exp(-((middle / sigma) ** 2) / 2)
    area = math.sqrt(2 * math.pi) * sigma * math.erf(middle / sigma / math.sqrt(2)) - duration * foot
    scale = amplitude * math.pi / area

    def bell(t: float) -> float:
        return math.exp(-(((t - middle) / sigma) ** 2) / 2)

    return Controls(
        duration=duration,
        x=lambda t: scale * (bell(t) - foot),
        y=lambda t: beta / anharmonicity * scale * bell(t) * (t - middle) / sigma**2,
        detuning=lambda t: detuning,
    )


def peak(controls: Controls) -> float:
    """The largest Rabi frequency of a pulse, rad/ns, of 201 moments."""
    moments = [controls.duration * i / 200 for i in range(201)]
    return max(math.hypot(controls.x(t), controls.y(t)) for t in moments)


def channel(controls: Controls, transmon: Transmon) -> Any:
    """What the pulse does to any state: the superoperator, an array (levels, levels, levels, levels).

    Element [k, l, i, j] is <k| E(|i><j|) |l>. The frame rotates with the drive.
    """
    a = qutip.destroy(transmon.levels)
    n = a.dag() * a
    own = transmon.anharmonicity / 2 * a.dag() * a.dag() * a * a
    quadratures = [[(a + a.dag()) / 2, controls.x], [1j * (a.dag() - a) / 2, controls.y]]
    hamiltonian = qutip.QobjEvo([own, *quadratures, [n, controls.detuning]])
    baths = [
        math.sqrt(transmon.decay * (1 + transmon.thermal)) * a,
        math.sqrt(transmon.decay * transmon.thermal) * a.dag(),
        math.sqrt(2 * transmon.dephasing) * n,
    ]
    options = {"method": "vern9", "rtol": TOLERANCE, "atol": 1e-2 * TOLERANCE, "nsteps": 100_000, "progress_bar": ""}
    # The superoperator also of coherent evolution: an integrator keeps the trace of matrices, not the norm of states.
    generator = qutip.liouvillian(hamiltonian, baths)
    evolved = qutip.propagator(generator, controls.duration, options=options)
    # QuTiP stacks columns: the index of element (k, l) is k + levels * l.
    return evolved.full().reshape([transmon.levels] * 4).transpose(1, 0, 3, 2)


def judge(channel: Any) -> Gate:
    """The average gate infidelity with X, and the leakage, of an array as `channel` returns [3].

    Global phases do not matter. What has left the qubit counts as lost.

    3. C. J. Wood and J. M. Gambetta, Phys. Rev. A 97, 032306 (2018).
    """
    qubit = range(2)
    process = sum(channel[1 - i, 1 - j, i, j].real for i in qubit for j in qubit) / 4
    leakage = 1 - sum(channel[k, k, i, i].real for k in qubit for i in qubit) / 2
    return Gate(infidelity=float(1 - (2 * process + 1 - leakage) / 3), leakage=float(leakage))


def forgotten(duration: float, transmon: Transmon) -> float:
    """The average infidelity of doing nothing for `duration` ns with a transmon of two levels, in closed form.

    A qubit that is driven forgets as much, to first order in duration/T1.
    """
    relaxed = math.exp(-transmon.decay * (1 + 2 * transmon.thermal) * duration)
    coherent = math.sqrt(relaxed) * math.exp(-transmon.dephasing * duration)
    return 1 / 2 - relaxed / 6 - coherent / 3


def spec() -> CampaignSpec:
    """100 trials, 2 at once, seed 0."""
    return CampaignSpec(
        id="quantum",
        title="DRAG pulse for a leaky transmon",
        description="The X gate by a Gaussian pulse and its derivative on a transmon of five levels that relaxes, "
                    "dephases and heats up; the Lindblad equation by QuTiP.",
        parameters=(
            Continuous(name="amplitude", low=0.9, high=1.1, description="of the pulse, over that which turns by pi"),
            Continuous(name="beta", low=0.0, high=2.0, description="DRAG coefficient: derivative times -beta/Delta"),
            Continuous(name="detuning", low=-20.0, high=20.0, unit="MHz", description="of transmon from drive"),
            Continuous(name="width", low=0.15, high=0.5, description="standard deviation of the Gaussian / duration"),
            Continuous(name="duration", low=4.0, high=24.0, unit="ns", description="of the gate"),
        ),
        goal=Goal(
            objectives=(
                Objective(observable="infidelity_log10", direction="minimize", threshold=-2.0),
                Objective(observable="leakage_log10", direction="minimize", threshold=-3.0),
            ),
            budget=Budget(trials=100),
        ),
        observables=(
            Observable(name="infidelity", description="of the gate, averaged over all states"),
            Observable(name="leakage", description="out of the qubit, averaged over all states"),
            Observable(name="forgotten", description="infidelity of a qubit left alone for as long"),
            Observable(name="peak", unit="MHz", description="largest Rabi frequency of the pulse"),
        ),
        procedure=ProcedureSpec(
            steps=(StepSpec(operation="firstlight.domains.quantum:evaluate", limits=Limits(seconds=60.0)),)
        ),
        parallel=2,
    )  # fmt: skip


DOMAIN = Domain(
    name="quantum",
    title="DRAG pulse for a leaky transmon",
    area="Quantum information science",
    summary="X gate on five levels that relax, on QuTiP: infidelity and leakage against the pulse's five numbers",
    spec=spec,
    modules=("qutip",),
)
